//! One point: a number of jobs waits in the queue, a subject carries them, and the kernel is asked what that cost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::load::Erp;
use crate::process::{Program, Usage};
use crate::stack::{Setting, Subject};

/// What one run of a point gave.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Measured {
    /// Jobs a second.
    pub(crate) rate: f64,
    /// CPU time of the subject for each job, in microseconds; of all replicas together.
    pub(crate) subject_us: f64,
    /// The broker's.
    pub(crate) broker_us: f64,
    /// The portal's.
    pub(crate) portal_us: f64,
    /// Largest resident memory of a replica, in MiB.
    pub(crate) peak_mib: f64,
}

impl Measured {
    /// The middle one of each figure.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let middle = |figure: fn(&Self) -> f64| {
            let mut figures: Vec<f64> = runs.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures.get(figures.len() / 2).copied().unwrap_or_default()
        };
        Self {
            rate: middle(|run| run.rate),
            subject_us: middle(|run| run.subject_us),
            broker_us: middle(|run| run.broker_us),
            portal_us: middle(|run| run.portal_us),
            peak_mib: middle(|run| run.peak_mib),
        }
    }
}

/// How much is done at a point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// Jobs whose results are only waited for: logins, connections, caches.
    pub(crate) warm_up: usize,
    /// Jobs that are counted.
    pub(crate) counted: usize,
}

/// Measures `subject` once, in a virtual host that nobody has used.
pub(crate) async fn measure(
    setting: &Setting<'_>,
    broker_pid: Option<u32>,
    subject: Subject,
    replicas: usize,
    amount: Amount,
) -> Result<Measured> {
    setting.prepare().await?;
    let mut erp = Erp::connect(setting.broker_url).await?;
    let jobs = amount.warm_up + amount.counted;
    erp.jobs.publish(setting.corpus, 0..jobs).await?;

    let mut programs = Vec::with_capacity(replicas);
    for _ in 0..replicas {
        programs.push(setting.start(subject).await?);
    }
    erp.results.take(amount.warm_up).await?;
    let before = Bill::read(&mut programs, broker_pid, setting)?;
    erp.results.take(amount.counted).await?;
    let after = Bill::read(&mut programs, broker_pid, setting)?;
    for program in programs {
        program.end().await?;
    }
    let whose = || format!("{replicas} x {subject}");
    setting.portal.expect(jobs).await.with_context(whose)?;
    Ok(after.since(&before, amount.counted))
}

/// What everybody has used up at one moment.
struct Bill {
    at: Instant,
    subject: Duration,
    broker: Duration,
    portal: Duration,
    /// KiB, of the largest replica.
    peak: u64,
}

impl Bill {
    fn read(
        programs: &mut [Program],
        broker_pid: Option<u32>,
        setting: &Setting<'_>,
    ) -> Result<Self> {
        let usages = programs
            .iter_mut()
            .map(Program::usage)
            .collect::<Result<Vec<Usage>>>()?;
        Ok(Self {
            at: Instant::now(),
            subject: usages.iter().map(|usage| usage.cpu).sum(),
            broker: broker_pid.map_or(Ok(Usage::default()), Usage::of)?.cpu,
            portal: Usage::of(setting.portal.program.pid()?)?.cpu,
            peak: usages.iter().map(|usage| usage.peak).max().unwrap_or(0),
        })
    }

    fn since(&self, before: &Self, jobs: usize) -> Measured {
        let jobs = jobs as f64;
        let each = |after: Duration, before: Duration| (after - before).as_secs_f64() * 1e6 / jobs;
        Measured {
            rate: jobs / (self.at - before.at).as_secs_f64(),
            subject_us: each(self.subject, before.subject),
            broker_us: each(self.broker, before.broker),
            portal_us: each(self.portal, before.portal),
            peak_mib: self.peak as f64 / 1024.0,
        }
    }
}
