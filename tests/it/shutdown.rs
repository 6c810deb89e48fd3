//! Promise P6: a drain ends in its time, loses nothing, charges no attempt.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::amqp::Job;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::invoice::invoice;
use crate::support::ledger::{Ledger, invoices};
use crate::support::sandbox::Sandbox;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SOON: Duration = Duration::from_secs(30);

/// The grace of [`WorkerConfig::between`](crate::support::worker::WorkerConfig::between); none of these drains comes
/// near it.
const DRAINED_WITHIN: Duration = Duration::from_secs(8);

const CONCURRENCY: usize = 8;

/// Stops a busy worker so many times, starting another each time, until all jobs are answered.
async fn stop_under_load(signal: Signal, times: usize, jobs: usize, run: &str) -> Result<()> {
    let mut stack = Stack::start_with(1, |config| {
        config.set("irp.concurrency", CONCURRENCY as i64)
    })
    .await?;
    let slow = json!([{"endpoint": "generate", "kind": "delay", "ms": 50}]);
    stack.sandbox.faults(1, slow).await?;
    let mut ledger = Ledger::publish(&stack.erp, run, jobs).await?;
    let step = jobs / (times + 2);
    for stop in 1..=times {
        ledger
            .collect(&stack.broker.url(), stop * step, SOON)
            .await?;
        let mut worker = stack.workers.remove(0);
        worker.signal(signal)?;
        let status = worker.ended(DRAINED_WITHIN).await?;
        ensure!(status.code() == Some(0), "stop {stop}: {status}");
        let next = stack.config()?.set("irp.concurrency", CONCURRENCY as i64)?;
        stack.workers.push(next.start("worker").await?);
    }
    ensure!(ledger.answered() < jobs, "the stops came too late");
    ledger.collect(&stack.broker.url(), jobs, SOON).await?;
    ledger.collect_rest(&stack.erp).await?;
    ledger.ensure_each_signed_once()?;
    for entry in ledger.entries() {
        ensure!(entry.body["attempts"] == 1, "{}", entry.body);
        ensure!(entry.body["recovered"] == false, "{}", entry.body);
    }
    // What the broker had on the way to the worker at the moment of the stop it takes back, as redelivered: those few
    // are looked up, and all the others are known not to have been sent.
    let stats = stack.sandbox.stats().await?;
    assert_eq!(stats.generates, jobs as u64, "{stats:?}");
    let on_the_way = (times * CONCURRENCY) as u64;
    ensure!(stats.lookups <= 2 * on_the_way, "{stats:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn sigterm_under_load_ends_cleanly_ten_times_and_charges_nobody() -> Result<()> {
    stop_under_load(Signal::TERM, 10, 600, "TERM").await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn sigint_drains_as_sigterm_does() -> Result<()> {
    stop_under_load(Signal::INT, 1, 120, "INT").await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn jobs_not_begun_go_back_to_their_queue_as_not_sent_and_uncounted() -> Result<()> {
    let mut stack = Stack::start_with(1, |config| {
        config.set("irp.concurrency", 2)?.set("broker.prefetch", 6)
    })
    .await?;
    let hold = json!([{"endpoint": "generate", "kind": "hold"}]);
    stack.sandbox.faults(1, hold).await?;
    let mut ledger = Ledger::publish(&stack.erp, "BACK", 20).await?;
    stack.sandbox.until_held(2, SOON).await?;
    let worker = stack.worker()?;
    worker.signal(Signal::TERM)?;
    worker.until_not_ready(SOON).await?;
    assert_eq!(worker.readiness().await?, (503, "draining".to_owned()));
    stack.sandbox.release().await?;
    let status = stack.worker()?.ended(DRAINED_WITHIN).await?;
    assert_eq!(status.code(), Some(0));

    let waiting = stack.erp.drain("irn.jobs").await?;
    assert_eq!(waiting.len(), 18);
    let handed_back: Vec<_> = waiting
        .iter()
        .filter(|job| job.header("x-irn-outcome").is_some())
        .collect();
    assert_eq!(
        handed_back.len(),
        4,
        "what had been prefetched and not begun"
    );
    for job in handed_back {
        assert_eq!(job.header("x-irn-outcome").as_deref(), Some("not_sent"));
        assert_eq!(job.header("x-irn-attempt").as_deref(), Some("1"));
        // Nobody has judged it yet: whoever gets it next may refuse it without a call.
        assert_eq!(job.header("x-irn-error").as_deref(), Some("swept"));
    }
    ledger.collect_rest(&stack.erp).await?;
    assert_eq!(
        ledger.answered(),
        2,
        "the two that had been sent were finished"
    );
    assert_eq!(stack.sandbox.stats().await?.generates, 2);
    Ok(())
}

/// A job that the portal keeps longer than the grace, and what the next worker makes of it.
async fn grace_runs_out(when: &str, generates: u64, recovered: bool) -> Result<()> {
    let mut stack =
        Stack::start_with(1, |config| config.set("shutdown.drain_timeout", "500ms")).await?;
    let hold = json!([{"endpoint": "generate", "kind": "hold", "when": when, "times": 1}]);
    stack.sandbox.faults(1, hold).await?;
    let (_, job) = invoices("GRACE", 1).remove(0);
    stack.erp.publish(&[job]).await?;
    stack.sandbox.until_held(1, SOON).await?;
    let mut worker = stack.workers.remove(0);
    let status = worker.terminate(Duration::from_secs(4)).await?;
    assert_eq!(status.code(), Some(1), "the work was not finished");
    worker.until_logged("\"abandoned\":1", SOON).await?;
    drop(worker);

    stack.workers.push(stack.config()?.start("worker 2").await?);
    let outcome = stack.outcome().await?;
    outcome.assert_signed(recovered);
    assert_eq!(outcome.json["attempts"], 1, "a redelivery is not charged");
    let stats = stack.sandbox.stats().await?;
    assert_eq!(stats.generates, generates, "{stats:?}");
    assert_eq!(stats.duplicate_generates, 0, "{stats:?}");
    ensure!(stats.lookups > 0, "{stats:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_cut_off_by_the_grace_after_it_was_registered_is_recovered_by_a_look_up() -> Result<()>
{
    grace_runs_out("after", 1, true).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_cut_off_by_the_grace_before_it_was_registered_is_looked_up_and_then_sent() -> Result<()>
{
    grace_runs_out("before", 2, false).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn urgent_jobs_handed_back_return_to_their_own_lane() -> Result<()> {
    let mut stack = Stack::start_with(1, |config| {
        config.set("irp.concurrency", 1)?.set("broker.prefetch", 4)
    })
    .await?;
    let hold = json!([{"endpoint": "generate", "kind": "hold"}]);
    stack.sandbox.faults(1, hold).await?;
    let jobs: Vec<_> = (0..3)
        .map(|n| Job::new("urgent.generate", invoice(GSTINS[0], &format!("UB/{n}"))))
        .collect();
    stack.erp.publish(&jobs).await?;
    stack.sandbox.until_held(1, SOON).await?;
    let worker = stack.worker()?;
    worker.signal(Signal::TERM)?;
    worker.until_not_ready(SOON).await?;
    stack.sandbox.release().await?;
    let status = stack.worker()?.ended(DRAINED_WITHIN).await?;
    assert_eq!(status.code(), Some(0));
    assert_eq!(stack.erp.drain("irn.jobs.urgent").await?.len(), 2);
    assert_eq!(stack.erp.depth("irn.jobs").await?, 0);
    Ok(())
}

#[tokio::test]
async fn stop_without_a_broker_panics_nowhere_and_ends_at_once() -> Result<()> {
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS[..1])).await?;
    // Nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let url = format!("amqp://guest:guest@{address}/%2f");
    for stop in 0..8 {
        let mut worker = WorkerConfig::between(&url, &sandbox)?.spawn("worker")?;
        worker.until_logged("lost the broker", SOON).await?;
        worker.signal(Signal::TERM)?;
        let status = worker.ended(DRAINED_WITHIN).await?;
        ensure!(status.code() == Some(0), "stop {stop}: {status}");
        let log = worker.log();
        let panicked = log.iter().find(|line| line.contains("panicked"));
        ensure!(panicked.is_none(), "stop {stop}: {panicked:?}");
    }
    Ok(())
}
