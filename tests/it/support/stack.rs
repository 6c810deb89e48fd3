//! All of it together: a virtual host, a portal, some workers, an ERP.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::amqp::{Amqp, Job, Message};
use super::broker::Broker;
use super::credentials::{Credentials, GSTINS};
use super::outcome::Outcome;
use super::sandbox::Sandbox;
use super::worker::{WorkerConfig, WorkerProcess};

/// Longer than all waits of [`WorkerConfig::between`] together.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// A running system, with the fields in the order in which they have to go.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) workers: Vec<WorkerProcess>,
    pub(crate) erp: Amqp,
    pub(crate) sandbox: Sandbox,
    pub(crate) broker: Broker,
}

impl Stack {
    /// `workers` workers for the five sellers of [`GSTINS`], ready.
    pub(crate) async fn start(workers: usize) -> Result<Self> {
        Self::start_with(workers, Ok).await
    }

    /// The same with a changed configuration.
    pub(crate) async fn start_with(
        workers: usize,
        change: impl Fn(WorkerConfig) -> Result<WorkerConfig>,
    ) -> Result<Self> {
        Self::of(&Credentials::of(&GSTINS), workers, change).await
    }

    /// The same with these credentials, at the portal and in the workers.
    pub(crate) async fn of(
        credentials: &Credentials,
        workers: usize,
        change: impl Fn(WorkerConfig) -> Result<WorkerConfig>,
    ) -> Result<Self> {
        let broker = Broker::new().await?;
        let sandbox = Sandbox::start(credentials).await?;
        let erp = Amqp::connect(&broker.url()).await?;
        let mut stack = Self {
            workers: Vec::new(),
            erp,
            sandbox,
            broker,
        };
        for number in 1..=workers {
            let config = change(stack.config()?)?;
            stack
                .workers
                .push(config.start(&format!("worker {number}")).await?);
        }
        Ok(stack)
    }

    /// A configuration for one more worker.
    pub(crate) fn config(&self) -> Result<WorkerConfig> {
        WorkerConfig::between(&self.broker.url(), &self.sandbox)
    }

    /// The first worker.
    pub(crate) fn worker(&mut self) -> Result<&mut WorkerProcess> {
        self.workers.first_mut().context("the stack has no worker")
    }

    /// Publishes one job and takes its result off the default reply queue.
    pub(crate) async fn settle(&self, job: Job) -> Result<Outcome> {
        self.erp.publish(&[job]).await?;
        self.outcome().await
    }

    /// Takes the next result off the default reply queue.
    pub(crate) async fn outcome(&self) -> Result<Outcome> {
        let mut taken = self.results(1, SETTLED_WITHIN).await?;
        Outcome::read(taken.pop().context("one was taken")?)
    }

    /// Takes `count` results off the default reply queue, by job id.
    pub(crate) async fn outcomes(
        &self,
        count: usize,
        deadline: Duration,
    ) -> Result<BTreeMap<String, Outcome>> {
        let mut outcomes = BTreeMap::new();
        for message in self.results(count, deadline).await? {
            let outcome = Outcome::read(message)?;
            let id = outcome.text("job_id").to_owned();
            ensure!(
                outcomes.insert(id.clone(), outcome).is_none(),
                "{id} has two results"
            );
        }
        Ok(outcomes)
    }

    /// Publishes jobs while nobody consumes and marks the first of them as redelivered.
    pub(crate) async fn publish_redelivered(&self, job: Job) -> Result<()> {
        let applied = self.config()?.output("topology", &["apply"]).await?;
        ensure!(applied.status.success(), "{applied:?}");
        self.erp.publish(&[job]).await?;
        self.erp.hand_back_first("irn.jobs").await
    }

    /// Takes `count` results off the default reply queue.
    pub(crate) async fn results(&self, count: usize, deadline: Duration) -> Result<Vec<Message>> {
        self.erp.take("irn.results", count, deadline).await
    }
}
