//! How long and how rough a run is: from the environment, which `scripts/chaos` fills.

use std::env;

use anyhow::{Context as _, Result};

use crate::support::route::Way;

/// What one run does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Invoices published.
    pub(crate) jobs: usize,
    /// Workers killed with SIGKILL.
    pub(crate) kills: usize,
    /// Stops and kills of the broker, in turn; in a cluster, of its nodes.
    pub(crate) restarts: usize,
    /// Workers cut off from their broker, or held half-open, in turn.
    pub(crate) partitions: usize,
    /// Workers at a time.
    pub(crate) replicas: usize,
    /// Three broker nodes.
    pub(crate) cluster: bool,
    /// Each invoice is followed by another operation, once it is signed.
    pub(crate) mixed: bool,
    /// How the workers reach the portal.
    pub(crate) way: Way,
    /// Chooses the order of events.
    pub(crate) seed: u64,
}

impl Options {
    /// A run short enough for every test run.
    pub(crate) fn short() -> Self {
        Self {
            jobs: 1_000,
            kills: 4,
            restarts: 2,
            partitions: 2,
            replicas: 2,
            cluster: false,
            mixed: false,
            way: Way::Nic,
            seed: 1,
        }
    }

    /// The same of invoices and of other operations.
    pub(crate) fn short_mixed() -> Self {
        Self {
            jobs: 400,
            mixed: true,
            seed: 2,
            ..Self::short()
        }
    }

    /// The same three hundred invoices, each with another operation after it, and the same faults, over this way to the
    /// portal.
    pub(crate) fn short_over(way: Way) -> Self {
        Self {
            jobs: 300,
            kills: 2,
            restarts: 1,
            partitions: 1,
            mixed: true,
            way,
            ..Self::short()
        }
    }

    /// How many jobs are published in all.
    pub(crate) fn all_jobs(self) -> usize {
        if self.mixed { 2 * self.jobs } else { self.jobs }
    }

    /// Each node of a cluster lost once.
    pub(crate) fn short_cluster() -> Self {
        Self {
            kills: 0,
            restarts: 3,
            partitions: 0,
            cluster: true,
            ..Self::short()
        }
    }

    /// What the environment asks for; nothing if it asks for nothing.
    pub(crate) fn from_environment() -> Result<Option<Self>> {
        let Some(jobs) = number("IRN_CHAOS_JOBS")? else {
            return Ok(None);
        };
        let count = |name| Ok::<_, anyhow::Error>(number(name)?.unwrap_or_default());
        Ok(Some(Self {
            jobs,
            kills: count("IRN_CHAOS_KILLS")?,
            restarts: count("IRN_CHAOS_RESTARTS")?,
            partitions: count("IRN_CHAOS_PARTITIONS")?,
            replicas: number("IRN_CHAOS_REPLICAS")?.unwrap_or(2),
            cluster: env::var_os("IRN_CHAOS_CLUSTER").is_some(),
            mixed: env::var_os("IRN_CHAOS_MIXED").is_some(),
            way: way()?,
            seed: u64::try_from(number("IRN_CHAOS_SEED")?.unwrap_or(1))?,
        }))
    }
}

fn way() -> Result<Way> {
    let Ok(name) = env::var("IRN_CHAOS_CONTRACT") else {
        return Ok(Way::Nic);
    };
    Way::named(&name).with_context(|| format!("IRN_CHAOS_CONTRACT={name} is no way to the portal"))
}

fn number(name: &str) -> Result<Option<usize>> {
    env::var(name)
        .ok()
        .map(|text| {
            text.parse()
                .with_context(|| format!("{name}={text} is no number"))
        })
        .transpose()
}
