//! A portal that is down, hangs, throttles or flaps: the jobs wait in their queue, nobody pays for it, and the portal is
//! tried with one job first.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::amqp::{Amqp, Job};
use crate::support::broker::Broker;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::ledger::Ledger;
use crate::support::proxy::TcpProxy;
use crate::support::sandbox::Sandbox;
use crate::support::stack::Stack;
use crate::support::worker::{WorkerConfig, WorkerProcess};

const JOBS: usize = 400;
const CONCURRENCY: i64 = 16;
const SOON: Duration = Duration::from_secs(30);
/// Longer than the delays before the first three probes.
const RECOVERED_WITHIN: Duration = Duration::from_secs(90);
const DOWN: &str = "the portal's breaker is open";

/// A worker whose way to the portal can be closed: connections are refused then.
struct ByRoad {
    worker: WorkerProcess,
    erp: Amqp,
    road: Option<TcpProxy>,
    address: SocketAddr,
    sandbox: Sandbox,
    broker: Broker,
}

impl ByRoad {
    async fn start(change: impl Fn(WorkerConfig) -> Result<WorkerConfig>) -> Result<Self> {
        let broker = Broker::new().await?;
        let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
        let road = TcpProxy::to(upstream(&sandbox)).await?;
        let address = road.address();
        let config = WorkerConfig::between(&broker.url(), &sandbox)?
            .set("irp.base_url", format!("http://{address}"))?
            .set("irp.concurrency", CONCURRENCY)?;
        Ok(Self {
            worker: change(config)?.start("worker").await?,
            erp: Amqp::connect(&broker.url()).await?,
            road: Some(road),
            address,
            sandbox,
            broker,
        })
    }

    fn close_the_road(&mut self) {
        self.road = None;
    }

    async fn open_the_road(&mut self) -> Result<()> {
        let (address, upstream) = (self.address.to_string(), upstream(&self.sandbox));
        let road = eventually(SOON, "the proxy's port", async || {
            Ok(Some(TcpProxy::at(&address, upstream).await?))
        });
        self.road = Some(road.await?);
        Ok(())
    }

    async fn collect(&self, ledger: &mut Ledger, answered: usize) -> Result<()> {
        ledger
            .collect(&self.broker.url(), answered, RECOVERED_WITHIN)
            .await
    }

    /// Waits until every job without a result is in `irn.jobs`, but for so many.
    async fn until_the_rest_waits(
        &self,
        ledger: &mut Ledger,
        jobs: usize,
        but: usize,
    ) -> Result<()> {
        eventually(SOON, "the other jobs to be in irn.jobs", async || {
            ledger.collect_rest(&self.erp).await?;
            let (waiting, answered) = (self.erp.depth("irn.jobs").await?, ledger.answered());
            ensure!(
                waiting as usize + answered + but == jobs,
                "{waiting} wait, {answered} are answered"
            );
            Ok(Some(()))
        })
        .await
    }

    /// Waits until the worker has logged this so many times.
    async fn until_logged_times(&self, text: &str, times: usize) -> Result<()> {
        let what = format!("{times} times {text:?}");
        eventually(RECOVERED_WITHIN, &what, async || {
            let lines = self.worker.log();
            let seen = lines.iter().filter(|line| line.contains(text)).count();
            Ok((seen >= times).then_some(()))
        })
        .await
    }
}

fn upstream(sandbox: &Sandbox) -> &str {
    sandbox.url().trim_start_matches("http://")
}

async fn slow_down(sandbox: &Sandbox) -> Result<()> {
    let slow = json!([{"endpoint": "generate", "kind": "delay", "ms": 100}]);
    sandbox.faults(1, slow).await
}

fn jobs(gstin: &str, prefix: &str, count: usize) -> Vec<Job> {
    let job = |i| {
        let number = format!("{prefix}/{i}");
        Job::generate(&number, invoice(gstin, &number))
    };
    (1..=count).map(job).collect()
}

fn ensure_attempts(ledger: &Ledger, most: u64) -> Result<()> {
    for entry in ledger.entries() {
        let attempts = entry.body["attempts"].as_u64().unwrap_or(u64::MAX);
        ensure!(attempts <= most, "{}", entry.body);
    }
    Ok(())
}

async fn breaker(worker: &mut WorkerProcess, scope: &str) -> Result<f64> {
    let label = format!("scope=\"{scope}\"");
    worker.metric("irn_worker_breaker_state", &label).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_down_under_load_leaves_jobs_in_their_queue_uncharged_and_is_tried_with_one()
-> Result<()> {
    let mut it = ByRoad::start(Ok).await?;
    slow_down(&it.sandbox).await?;
    let mut ledger = Ledger::publish(&it.erp, "DOWN", JOBS).await?;
    it.collect(&mut ledger, 50).await?;

    it.close_the_road();
    it.worker.until_not_ready(SOON).await?;
    assert_eq!(it.worker.readiness().await?, (503, DOWN.to_owned()));
    assert_eq!(it.worker.admin("/healthz").await?.trim(), "alive");
    assert!((1.0..=2.0).contains(&breaker(&mut it.worker, "core").await?));
    it.until_logged_times("breaker core open", 2).await?;
    it.until_the_rest_waits(&mut ledger, JOBS, 0).await?;

    let hold = json!([{"endpoint": "core", "kind": "hold"}]);
    it.sandbox.faults(1, hold).await?;
    it.open_the_road().await?;
    it.sandbox.until_held(1, RECOVERED_WITHIN).await?;
    it.until_the_rest_waits(&mut ledger, JOBS, 1).await?;
    assert_eq!(it.worker.metric("irn_worker_in_flight", "").await?, 1.0);
    assert_eq!(it.sandbox.held().await?, 1, "one job tries the portal");

    slow_down(&it.sandbox).await?;
    it.sandbox.release().await?;
    it.collect(&mut ledger, JOBS).await?;
    it.worker.until_ready().await?;
    ledger.collect_rest(&it.erp).await?;
    ledger.ensure_each_signed_once()?;
    // Only those can have paid that were on the way when the portal went, and then once: fewer than ten calls that fail
    // together are no proof yet.
    ensure_attempts(&ledger, 2)?;
    let paid = ledger.entries().filter(|entry| entry.body["attempts"] != 1);
    ensure!(paid.count() < 10, "too many paid for the portal");
    let stats = it.sandbox.stats().await?;
    assert_eq!(
        (stats.registrations, stats.duplicate_generates),
        (JOBS as u64, 0)
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_that_was_never_there_takes_no_job_and_keeps_no_drain() -> Result<()> {
    let mut it = ByRoad::start(Ok).await?;
    it.close_the_road();
    let mut ledger = Ledger::publish(&it.erp, "NONE", 50).await?;
    it.worker.until_not_ready(SOON).await?;
    it.until_the_rest_waits(&mut ledger, 50, 0).await?;
    assert!(breaker(&mut it.worker, "login").await? > 0.0);
    let status = it.worker.terminate(Duration::from_secs(5)).await?;
    assert_eq!(status.code(), Some(0));
    it.until_the_rest_waits(&mut ledger, 50, 0).await?;

    it.open_the_road().await?;
    let next = WorkerConfig::between(&it.broker.url(), &it.sandbox)?;
    it.worker = next.start("worker 2").await?;
    it.collect(&mut ledger, 50).await?;
    ledger.ensure_each_signed_once()?;
    ensure_attempts(&ledger, 1)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_that_hangs_is_left_alone_and_every_job_is_signed_once() -> Result<()> {
    let mut it = ByRoad::start(|config| config.set("irp.request_timeout", "1s")).await?;
    let hang = json!([{"endpoint": "core", "kind": "hold", "when": "after"}]);
    it.sandbox.faults(1, hang).await?;
    let mut ledger = Ledger::publish(&it.erp, "HANG", 100).await?;
    it.worker.until_not_ready(SOON).await?;
    it.until_the_rest_waits(&mut ledger, 100, 0).await?;
    it.sandbox.clear_faults().await?;
    it.sandbox.release().await?;
    it.collect(&mut ledger, 100).await?;
    ledger.collect_rest(&it.erp).await?;
    ledger.ensure_each_signed_once()?;
    // One for the answer that was lost before it could be known why, and one for a probe.
    ensure_attempts(&ledger, 3)?;
    let stats = it.sandbox.stats().await?;
    assert_eq!((stats.registrations, stats.duplicate_generates), (100, 0));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_that_comes_and_goes_loses_nothing() -> Result<()> {
    let mut it = ByRoad::start(Ok).await?;
    slow_down(&it.sandbox).await?;
    let mut ledger = Ledger::publish(&it.erp, "FLAP", JOBS).await?;
    for answered in [40, 120, 200] {
        it.collect(&mut ledger, answered).await?;
        it.close_the_road();
        it.worker.until_not_ready(SOON).await?;
        it.open_the_road().await?;
    }
    it.collect(&mut ledger, JOBS).await?;
    ledger.collect_rest(&it.erp).await?;
    ledger.ensure_each_signed_once()?;
    // A job that was caught under way every time pays for all but the first.
    ensure_attempts(&ledger, 3)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_that_names_a_time_is_not_asked_before() -> Result<()> {
    // Longer than the worker would wait by itself.
    const ASKED: u64 = 10;
    let mut stack =
        Stack::start_with(1, |config| config.set("irp.concurrency", CONCURRENCY)).await?;
    let away = json!([{"endpoint": "core", "kind": "status", "status": 503, "retry_after": ASKED}]);
    stack.sandbox.faults(1, away).await?;
    let mut ledger = Ledger::publish(&stack.erp, "WAIT", 100).await?;
    let asked = Instant::now();
    stack.worker()?.until_not_ready(SOON).await?;
    let status: Value = serde_json::from_str(&stack.worker()?.admin("/status").await?)?;
    let core = &status["portal"]["breakers"][1];
    assert_eq!(
        (&core["scope"], &core["state"]),
        (&json!("core"), &json!("open"))
    );
    assert!(
        core["next_probe_in_seconds"].as_u64() <= Some(ASKED),
        "{status}"
    );
    stack.sandbox.clear_faults().await?;
    let before = stack.sandbox.stats().await?.generates;
    stack.worker()?.until_ready().await?;
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_secs(ASKED) - SECOND, "{waited:?}");
    assert!(
        before <= CONCURRENCY as u64,
        "{before} calls before it was believed"
    );
    ledger
        .collect(&stack.broker.url(), 100, RECOVERED_WITHIN)
        .await?;
    ledger.ensure_each_signed_once()?;
    ensure_attempts(&ledger, 2)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn gstin_that_is_told_to_wait_waits_and_no_other_does() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let (told, other) = (GSTINS[0], GSTINS[1]);
    let rule = json!([{
        "endpoint": "generate", "gstin": told, "kind": "status", "status": 429, "retry_after": 3, "times": 1
    }]);
    stack.sandbox.faults(1, rule).await?;
    let begun = Instant::now();
    stack
        .settle_first(&jobs(told, "TOLD", 1), &jobs(other, "OTHER", 20))
        .await?;
    assert_eq!(breaker(stack.worker()?, "core").await?, 0.0);
    let outcome = stack.outcome().await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.json["attempts"], 2);
    assert!(begun.elapsed() >= 3 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(stack.sandbox.stats().await?.of(told).generates, 2);
    Ok(())
}

impl Stack {
    /// Publishes both, waits until the second ones are signed in their first attempt.
    async fn settle_first(&self, first: &[Job], second: &[Job]) -> Result<()> {
        self.erp.publish(first).await?;
        self.erp.publish(second).await?;
        for outcome in self.outcomes(second.len(), SOON).await?.values() {
            outcome.assert_signed(false);
            assert_eq!(outcome.json["attempts"], 1);
        }
        Ok(())
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_that_throttles_gets_fewer_jobs_at_once() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let cap = limit(stack.worker()?).await?;
    let throttle = json!([{"endpoint": "generate", "kind": "status", "status": 429, "times": 60}]);
    stack.sandbox.faults(1, throttle).await?;
    let mut ledger = Ledger::publish(&stack.erp, "MANY", 300).await?;
    let worker = stack.worker()?;
    eventually(SOON, "the limit to fall", async || {
        Ok((limit(worker).await? < cap).then_some(()))
    })
    .await?;
    let status: Value = serde_json::from_str(&worker.admin("/status").await?)?;
    let concurrency = &status["portal"]["concurrency"];
    assert_eq!(concurrency["cap"].as_f64(), Some(cap), "{status}");
    assert!(concurrency["limit"].as_f64() <= Some(cap), "{status}");
    ledger
        .collect(&stack.broker.url(), 300, RECOVERED_WITHIN)
        .await?;
    ledger.ensure_each_signed_once()
}

async fn limit(worker: &mut WorkerProcess) -> Result<f64> {
    worker.metric("irn_worker_concurrency_limit", "").await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn logins_that_fail_stop_those_who_need_one_and_nobody_else() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let live = GSTINS[0];
    stack.erp.publish(&jobs(live, "LIVE", 1)).await?;
    stack.outcome().await?.assert_signed(false);
    let down = json!([{"endpoint": "auth", "kind": "status", "status": 503}]);
    stack.sandbox.faults(1, down).await?;
    for (gstin, prefix) in GSTINS[1..].iter().zip(["B", "C", "D", "E"]) {
        stack.erp.publish(&jobs(gstin, prefix, 3)).await?;
    }
    let worker = stack.worker()?;
    eventually(SOON, "the login breaker to open", async || {
        Ok((breaker(worker, "login").await? > 0.0).then_some(()))
    })
    .await?;
    stack.erp.publish(&jobs(live, "STILL", 20)).await?;
    for outcome in stack.outcomes(20, SOON).await?.values() {
        outcome.assert_signed(false);
        assert_eq!(outcome.json["attempts"], 1);
    }
    assert_eq!(stack.worker()?.readiness().await?.0, 200);
    stack.sandbox.clear_faults().await?;
    for outcome in stack.outcomes(12, RECOVERED_WITHIN).await?.values() {
        outcome.assert_signed(false);
        let attempts = outcome.json["attempts"].as_u64();
        assert!(attempts <= Some(4), "{}", outcome.json);
    }
    Ok(())
}
