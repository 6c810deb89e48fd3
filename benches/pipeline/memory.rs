//! Memory of one worker: idle, with many live sessions, and over very many jobs.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::time::sleep;

use crate::corpus::Corpus;
use crate::load::Erp;
use crate::process::Program;
use crate::stack::{Portal, Setting, Subject, Workplace};
use crate::support::broker::Broker;
use crate::sweep::STANDARD;

/// How long a worker without a job is left alone.
const IDLE: Duration = Duration::from_secs(30);
/// How long it is left alone after its last job.
const SETTLED: Duration = Duration::from_secs(5);
/// Jobs between two looks.
const STEP: usize = 10_000;
const SUBJECT: Subject = Subject::Worker { preflight: true };

/// MiB resident, of one worker with pre-flight.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    /// Some time after the start, no job seen.
    pub(crate) idle: f64,
    /// After each further 10,000 jobs, at full load.
    pub(crate) over_jobs: Vec<f64>,
    /// The most it ever was, over all these jobs.
    pub(crate) peak: f64,
    /// Idle again after so many jobs of one GSTIN, and of as many GSTINs.
    pub(crate) sessions: usize,
    pub(crate) after_one_gstin: f64,
    pub(crate) after_many_gstins: f64,
    /// The most it ever was with many GSTINs.
    pub(crate) peak_many_gstins: f64,
}

/// Runs `jobs` jobs through one worker, and one job of each of `sessions` GSTINs through another.
pub(crate) async fn memory(place: &Workplace, jobs: usize, sessions: usize) -> Result<Memory> {
    let (idle, over_jobs, peak) = over_jobs(place, jobs).await?;
    let (after_one_gstin, _) = after_jobs(place, 1, sessions).await?;
    let (after_many_gstins, peak_many_gstins) = after_jobs(place, sessions, sessions).await?;
    Ok(Memory {
        idle,
        over_jobs,
        peak,
        sessions,
        after_one_gstin,
        after_many_gstins,
        peak_many_gstins,
    })
}

/// Idle, after each step, and at the most.
async fn over_jobs(place: &Workplace, jobs: usize) -> Result<(f64, Vec<f64>, f64)> {
    let corpus = Corpus::make(place.path(), STANDARD.size, STANDARD.sellers)?;
    let portal = Portal::start(place, &corpus, false).await?;
    let broker = Broker::new().await?;
    let (mut erp, mut worker) = start(place, &portal, &corpus, &broker).await?;
    sleep(IDLE).await;
    let idle = mib(worker.usage()?.rss);
    let steps = jobs / STEP;
    let mut seen = Vec::with_capacity(steps);
    // One step ahead, so that the queue is never empty and never long.
    erp.jobs.publish(&corpus, 0..STEP).await?;
    for step in 1..=steps {
        if step < steps {
            erp.jobs
                .publish(&corpus, step * STEP..(step + 1) * STEP)
                .await?;
        }
        erp.results.take(STEP).await?;
        let rss = mib(worker.usage()?.rss);
        eprintln!("after {} jobs: {rss:.1} MiB", step * STEP);
        seen.push(rss);
    }
    let peak = mib(worker.usage()?.peak);
    worker.end().await?;
    portal.expect(steps * STEP).await?;
    portal.program.end().await?;
    Ok((idle, seen, peak))
}

/// Idle again after the jobs, and at the most.
async fn after_jobs(place: &Workplace, sellers: usize, jobs: usize) -> Result<(f64, f64)> {
    let corpus = Corpus::make(place.path(), STANDARD.size, sellers)?;
    let portal = Portal::start(place, &corpus, false).await?;
    let broker = Broker::new().await?;
    let (mut erp, mut worker) = start(place, &portal, &corpus, &broker).await?;
    erp.jobs.publish(&corpus, 0..jobs).await?;
    erp.results.take(jobs).await?;
    sleep(SETTLED).await;
    let usage = worker.usage()?;
    worker.end().await?;
    portal.expect(jobs).await?;
    portal.program.end().await?;
    Ok((mib(usage.rss), mib(usage.peak)))
}

async fn start(
    place: &Workplace,
    portal: &Portal,
    corpus: &Corpus,
    broker: &Broker,
) -> Result<(Erp, Program)> {
    let setting = Setting {
        place,
        broker_url: &broker.url(),
        portal,
        corpus,
        concurrency: STANDARD.concurrency,
        delay: Duration::ZERO,
    };
    setting.prepare().await?;
    Ok((
        Erp::connect(&broker.url()).await?,
        setting.start(SUBJECT).await?,
    ))
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
