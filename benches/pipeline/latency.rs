//! Jobs that come at a steady rate: how long each is under way beyond the portal's own time, and what it costs.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use crate::corpus::Corpus;
use crate::load::{Erp, Jobs, Results, accepted};
use crate::machine::Processors;
use crate::process::cpu_of_all;
use crate::stack::{Setting, Subject};

/// Jobs before those that are counted: logins and connections of one replica.
const WARM_UP: usize = 2_000;
/// How long jobs are published.
const FOR: Duration = Duration::from_secs(10);
/// How many publishes may be unconfirmed.
const WINDOW: usize = 1_000;

/// What was seen at one rate.
#[derive(Debug, Serialize)]
pub(crate) struct Added {
    pub(crate) subject: Subject,
    pub(crate) replicas: usize,
    /// How long the portal takes, as it was told.
    pub(crate) portal_ms: u64,
    /// Of what one replica carried at full load.
    pub(crate) load_percent: u32,
    /// Jobs a second.
    pub(crate) rate: f64,
    /// How much of their time the machine's processors were busy, with everything.
    pub(crate) busy: f64,
    pub(crate) jobs: usize,
    /// CPU time of a job, in microseconds, all replicas together.
    pub(crate) subject_us: f64,
    /// Milliseconds from the moment the schedule names to the result, without the portal's.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Added {
    /// The run whose p99 is in the middle, with the CPU time that is.
    pub(crate) fn median(mut runs: Vec<Self>) -> Option<Self> {
        let middle = runs.len() / 2;
        runs.sort_by(|one, other| one.subject_us.total_cmp(&other.subject_us));
        let subject_us = runs.get(middle)?.subject_us;
        runs.sort_by(|one, other| one.p99_ms.total_cmp(&other.p99_ms));
        let seen = runs.swap_remove(middle);
        Some(Self { subject_us, ..seen })
    }
}

/// What is tried: how long the portal takes, how many per cent of full load come, and for how many replicas.
#[derive(Clone, Copy)]
pub(crate) struct Under {
    pub(crate) delay: Duration,
    pub(crate) load_percent: u32,
    pub(crate) replicas: usize,
}

/// Publishes at so many per cent of `full_load` jobs a second, whether or not results come, and times each.
pub(crate) async fn added(
    setting: &Setting<'_>,
    subject: Subject,
    full_load: f64,
    under: Under,
) -> Result<Added> {
    let Under {
        load_percent,
        replicas,
        ..
    } = under;
    setting.prepare().await?;
    let mut erp = Erp::connect(setting.broker_url).await?;
    let mut programs = Vec::with_capacity(replicas);
    for _ in 0..replicas {
        programs.push(setting.start(subject).await?);
    }
    // Every GSTIN has logged in by then, at every replica.
    let warm_up = WARM_UP * replicas * replicas;
    erp.jobs.publish(setting.corpus, 0..warm_up).await?;
    erp.results.take(warm_up).await?;

    let rate = full_load * f64::from(load_percent) / 100.0;
    let schedule = Schedule {
        start: Instant::now() + Duration::from_millis(100),
        between: Duration::from_secs_f64(1.0 / rate),
        jobs: (rate * FOR.as_secs_f64()) as usize,
    };
    let before = (Processors::now()?, cpu_of_all(&mut programs)?);
    let (published, took) = tokio::join!(
        schedule.publish(&erp.jobs, setting.corpus),
        schedule.time(&mut erp.results)
    );
    published?;
    let mut took = took?;
    let busy = Processors::now()?.busy_since(&before.0);
    let cpu = cpu_of_all(&mut programs)? - before.1;
    for program in programs {
        program.end().await?;
    }

    took.sort_unstable();
    let at = |share: f64| {
        let index = (took.len() as f64 * share) as usize;
        let took = took.get(index.min(took.len() - 1));
        let own = took
            .copied()
            .unwrap_or_default()
            .saturating_sub(setting.delay);
        own.as_secs_f64() * 1e3
    };
    Ok(Added {
        subject,
        replicas,
        portal_ms: u64::try_from(setting.delay.as_millis())?,
        load_percent,
        rate,
        busy,
        jobs: schedule.jobs,
        subject_us: cpu.as_secs_f64() * 1e6 / schedule.jobs as f64,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
    })
}

/// When each job is due.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    between: Duration,
    jobs: usize,
}

impl Schedule {
    fn due(&self, number: usize) -> Instant {
        self.start + self.between.mul_f64(number as f64)
    }

    /// Tells of each job when it is due. A thread of its own: a runtime's timer goes by whole milliseconds, which
    /// would count as added latency.
    fn keep(&self) -> UnboundedReceiver<usize> {
        let (told, due) = unbounded_channel();
        let schedule = *self;
        std::thread::spawn(move || {
            for number in 0..schedule.jobs {
                let wait = schedule
                    .due(number)
                    .saturating_duration_since(Instant::now());
                std::thread::sleep(wait);
                if told.send(number).is_err() {
                    return;
                }
            }
        });
        due
    }

    async fn publish(&self, jobs: &Jobs, corpus: &Corpus) -> Result<()> {
        let mut confirms = VecDeque::with_capacity(WINDOW);
        let mut due = self.keep();
        // Late ones go out at once: the schedule does not wait for whoever is slow.
        while let Some(number) = due.recv().await {
            confirms.push_back(jobs.send(number, corpus.document(number)).await?);
            if confirms.len() == WINDOW
                && let Some(oldest) = confirms.pop_front()
            {
                accepted(oldest).await?;
            }
        }
        for confirm in confirms {
            accepted(confirm).await?;
        }
        Ok(())
    }

    /// How long after it was due each job's result came.
    async fn time(&self, results: &mut Results) -> Result<Vec<Duration>> {
        let mut took = Vec::with_capacity(self.jobs);
        for _ in 0..self.jobs {
            let number = results.next().await?;
            took.push(self.due(number).elapsed());
        }
        Ok(took)
    }
}
