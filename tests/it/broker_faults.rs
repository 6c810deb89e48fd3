//! What a network and an operator do to the broker while jobs run: nothing is lost, nothing is sent twice, and
//! `/readyz` says at any moment whether the worker is attached.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::support::amqp::Amqp;
use crate::support::broker::Broker;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::ledger::{Ledger, invoices};
use crate::support::private_broker::PrivateBroker;
use crate::support::proxy::TcpProxy;
use crate::support::sandbox::Sandbox;
use crate::support::stack::Stack;
use crate::support::worker::{WorkerConfig, WorkerProcess};

const SOON: Duration = Duration::from_secs(30);
const JOBS: usize = 120;

/// A worker that reaches its broker through a network which the test can break.
struct BehindProxy {
    worker: WorkerProcess,
    erp: Amqp,
    proxy: TcpProxy,
    sandbox: Sandbox,
    broker: Broker,
}

impl BehindProxy {
    async fn start(query: &str) -> Result<Self> {
        let broker = Broker::new().await?;
        let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
        let erp = Amqp::connect(&broker.url()).await?;
        let proxy = TcpProxy::to(broker.address()).await?;
        let url = format!("{}{query}", broker.url_through(proxy.address()));
        let worker = WorkerConfig::between(&url, &sandbox)?
            .set("irp.concurrency", 8)?
            .start("worker")
            .await?;
        Ok(Self {
            worker,
            erp,
            proxy,
            sandbox,
            broker,
        })
    }

    async fn collect(&self, ledger: &mut Ledger, answered: usize) -> Result<()> {
        ledger.collect(&self.broker.url(), answered, SOON).await
    }

    async fn ensure_settled(&self, ledger: &Ledger) -> Result<()> {
        ensure_settled(ledger, &self.sandbox).await
    }
}

/// Every job is signed, every document was registered once, and none was sent again after that.
async fn ensure_settled(ledger: &Ledger, sandbox: &Sandbox) -> Result<()> {
    ledger.ensure_each_signed()?;
    let stats = sandbox.stats().await?;
    ensure!(stats.registrations == ledger.answered() as u64, "{stats:?}");
    ensure!(stats.duplicate_generates == 0, "{stats:?}");
    ensure!(stats.overlapping_generates == 0, "{stats:?}");
    Ok(())
}

/// Each registration takes a while, so that a fault finds jobs in the middle of it.
async fn slow_down(sandbox: &Sandbox) -> Result<()> {
    let slow = json!([{"endpoint": "generate", "kind": "delay", "ms": 60}]);
    sandbox.faults(1, slow).await
}

async fn hold_the_first_generate(sandbox: &Sandbox) -> Result<()> {
    let hold = json!([{"endpoint": "generate", "kind": "hold", "times": 1}]);
    sandbox.faults(1, hold).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn connections_cut_while_jobs_run_lose_nothing_and_readiness_says_so() -> Result<()> {
    let mut it = BehindProxy::start("").await?;
    slow_down(&it.sandbox).await?;
    let mut ledger = Ledger::publish(&it.erp, "CUT", JOBS).await?;
    it.collect(&mut ledger, 20).await?;
    assert_eq!(it.worker.readiness().await?, (200, "ready".to_owned()));

    it.proxy.cut();
    it.worker.until_not_ready(SOON).await?;
    // The connection for results may be missed before the other.
    eventually(SOON, "both connections are missed", async || {
        let answer = it.worker.readiness().await?;
        Ok((answer == (503, "no broker connection".to_owned())).then_some(()))
    })
    .await?;

    it.proxy.restore();
    it.worker.until_ready().await?;
    it.collect(&mut ledger, JOBS / 2).await?;
    it.proxy.drop_connections();
    it.collect(&mut ledger, JOBS).await?;
    it.worker.until_ready().await?;
    it.ensure_settled(&ledger).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn half_open_connection_is_noticed_and_its_jobs_are_settled_once() -> Result<()> {
    let mut it = BehindProxy::start("?heartbeat=1").await?;
    slow_down(&it.sandbox).await?;
    let mut ledger = Ledger::publish(&it.erp, "HALF", JOBS).await?;
    it.collect(&mut ledger, 20).await?;
    it.proxy.hold();
    it.worker.until_not_ready(SOON).await?;
    // The connections that were held are given up on both sides: what now comes through them is too late.
    it.proxy.restore();
    it.worker.until_ready().await?;
    it.collect(&mut ledger, JOBS).await?;
    it.ensure_settled(&ledger).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn lost_publishing_connection_costs_no_second_submit() -> Result<()> {
    let mut stack = Stack::start_with(1, |config| config.set("irp.concurrency", 8)).await?;
    slow_down(&stack.sandbox).await?;
    let mut ledger = Ledger::publish(&stack.erp, "PUB", JOBS * 4).await?;
    stack.broker.close_connection(" publish").await?;
    ledger.collect(&stack.broker.url(), JOBS * 4, SOON).await?;
    stack.worker()?.until_ready().await?;
    let stats = stack.sandbox.stats().await?;
    // The delivery stayed ours all the while, so not even a look-up was needed.
    assert_eq!((stats.generates, stats.lookups), (JOBS as u64 * 4, 0));
    ledger.ensure_each_signed()
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn redelivered_job_whose_old_task_still_runs_is_not_submitted_twice() -> Result<()> {
    let stack = Stack::start_with(1, |config| {
        config
            .set("log.level", "debug")?
            .set("irp.request_timeout", "25s")?
            .set("shutdown.drain_timeout", "30s")
    })
    .await?;
    hold_the_first_generate(&stack.sandbox).await?;
    let mut ledger = Ledger::publish(&stack.erp, "TWIN", 1).await?;
    stack.sandbox.until_held(1, SOON).await?;
    stack.broker.close_connection(" consume").await?;
    let worker = stack.workers.first().context("there is one")?;
    worker.until_logged("\"twin\"", SOON).await?;
    stack.sandbox.release().await?;
    // The old task keeps its answer to itself: the delivery is not its own any more. The new one's look-up finds it.
    ledger.collect(&stack.broker.url(), 1, SOON).await?;
    ledger.ensure_each_signed()?;
    let stats = stack.sandbox.stats().await?;
    assert_eq!(stats.generates, 1, "{stats:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn deleted_job_queue_is_made_again_and_consumed() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    for queue in ["irn.jobs", "irn.jobs.urgent"] {
        stack.broker.delete_queue(queue).await?;
        let worker = stack.worker()?;
        worker.until_logged("was a queue deleted?", SOON).await?;
        worker.until_ready().await?;
    }
    // Ready means attached: a job published now is taken.
    let outcome = stack.settle(invoices("DEL", 1).remove(0).1).await?;
    outcome.assert_signed(false);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn deleted_results_queue_is_made_again_for_the_results_that_wait() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    stack.broker.delete_queue("irn.results").await?;
    let mut ledger = Ledger::publish(&stack.erp, "RES", 5).await?;
    stack
        .worker()?
        .until_logged("no queue takes it", SOON)
        .await?;
    ledger.collect(&stack.broker.url(), 5, SOON).await?;
    ledger.ensure_each_signed_once()?;
    let stats = stack.sandbox.stats().await?;
    assert_eq!((stats.generates, stats.lookups), (5, 0), "{stats:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn results_wait_for_a_queue_that_is_not_the_workers_to_make() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    stack.workers.clear();
    let config = stack.config()?.set("topology.declare", false)?;
    let worker = config.start("undeclaring").await?;
    stack.broker.delete_queue("irn.results").await?;
    let mut ledger = Ledger::publish(&stack.erp, "OWN", 5).await?;
    worker.until_logged("no queue takes it", SOON).await?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    ensure!(applied.status.success(), "{applied:?}");
    ledger.collect(&stack.broker.url(), 5, SOON).await?;
    ledger.ensure_each_signed_once()?;
    let stats = stack.sandbox.stats().await?;
    assert_eq!((stats.generates, stats.lookups), (5, 0), "{stats:?}");
    Ok(())
}

/// Puts a queue in the place of one of the worker's.
async fn replace_queue(broker: &Broker, name: &str, durable: bool, with: &Value) -> Result<()> {
    let queues = broker.list("queues").await?;
    let queue = queues.iter().find(|queue| queue["name"] == name);
    let mut queue = queue.context("no such queue")?.clone();
    for (argument, value) in with.as_object().context("no arguments")? {
        queue["arguments"][argument] = value.clone();
    }
    let arguments = if durable {
        queue["arguments"].take()
    } else {
        json!({})
    };
    broker.delete_queue(name).await?;
    let made =
        json!({"name": name, "durable": durable, "auto_delete": false, "arguments": arguments});
    broker.import(&json!({"queues": [made]})).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn queue_that_keeps_letters_for_another_time_is_used_as_it_is_by_a_running_worker()
-> Result<()> {
    let mut it = BehindProxy::start("").await?;
    let month = json!({"x-message-ttl": 30 * 24 * 3_600_000_u64});
    replace_queue(&it.broker, "irn.dead", true, &month).await?;

    let lost = "lost the broker connection";
    it.proxy.drop_connections();
    it.worker.until_logged(lost, SOON).await?;
    it.worker.until_ready().await?;
    let mut ledger = Ledger::publish(&it.erp, "TTL", 5).await?;
    it.collect(&mut ledger, 5).await?;
    ledger.ensure_each_signed_once()?;

    // A reply queue of the ERP's that is gone is none of the worker's to declare again.
    let losses = |worker: &WorkerProcess| {
        let log = worker.log();
        log.iter().filter(|line| line.contains(lost)).count()
    };
    let before = losses(&it.worker);
    for (_, job) in invoices("GONE", 2) {
        it.erp.publish(&[job.reply_to("erp.gone")]).await?;
        let result = &it.erp.take("irn.results", 1, SOON).await?[0];
        let undeliverable = result.header("x-irn-undeliverable-to");
        assert_eq!(undeliverable.as_deref(), Some("erp.gone"));
    }
    assert_eq!(losses(&it.worker), before);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn queue_that_would_lose_results_is_not_used_by_a_running_worker_either() -> Result<()> {
    let mut it = BehindProxy::start("").await?;
    replace_queue(&it.broker, "irn.results", false, &json!({})).await?;
    it.proxy.drop_connections();
    it.worker.until_logged("queue irn.results", SOON).await?;
    it.worker.until_not_ready(SOON).await?;
    it.broker.delete_queue("irn.results").await?;
    it.worker.until_ready().await?;
    let mut ledger = Ledger::publish(&it.erp, "DUR", 5).await?;
    it.collect(&mut ledger, 5).await?;
    it.ensure_settled(&ledger).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn missing_retry_exchange_is_made_again_and_the_job_waits_on_it() -> Result<()> {
    let stack = Stack::start(1).await?;
    for rung in ["200ms", "500ms", "1s"] {
        stack
            .broker
            .delete_exchange(&format!("irn.retry.{rung}"))
            .await?;
    }
    let lost = json!([{"endpoint": "generate", "kind": "drop", "when": "after", "times": 5}]);
    stack.sandbox.faults(1, lost).await?;
    let mut ledger = Ledger::publish(&stack.erp, "RUNG", 5).await?;
    ledger.collect(&stack.broker.url(), 5, SOON).await?;
    ledger.ensure_each_signed_once()?;
    let stats = stack.sandbox.stats().await?;
    assert_eq!(stats.generates, 5, "{stats:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn channel_closed_by_the_consumer_timeout_is_opened_again_and_the_job_settled() -> Result<()>
{
    let node = PrivateBroker::start().await?;
    // Read by each channel when it opens: how often it looks, and how old a delivery may be.
    for (setting, ms) in [("channel_tick_interval", 500), ("consumer_timeout", 1_000)] {
        let set = format!("application:set_env(rabbit, {setting}, {ms}).");
        node.ctl(&["eval", &set]).await?;
    }
    let broker = node.virtual_host().await?;
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
    let config = WorkerConfig::between(&broker.url(), &sandbox)?;
    let mut worker = config.start("worker").await?;
    hold_the_first_generate(&sandbox).await?;
    let erp = Amqp::connect(&broker.url()).await?;
    let mut ledger = Ledger::publish(&erp, "SLOW", 1).await?;
    worker.until_logged("no broker connection", SOON).await?;
    worker.until_ready().await?;
    sandbox.release().await?;
    ledger.collect(&broker.url(), 1, SOON).await?;
    ensure_settled(&ledger, &sandbox).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn blocked_publisher_stops_taking_jobs_and_goes_on_after_the_alarm() -> Result<()> {
    let node = PrivateBroker::start().await?;
    let broker = node.virtual_host().await?;
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
    let config = WorkerConfig::between(&broker.url(), &sandbox)?.set("irp.concurrency", 4)?;
    let mut worker = config.start("worker").await?;
    // So slow that there are jobs left however long the alarm is in coming: without one, nothing would be blocked.
    let slow = json!([{"endpoint": "generate", "kind": "delay", "ms": 1500}]);
    sandbox.faults(1, slow).await?;
    let erp = Amqp::connect(&broker.url()).await?;
    let mut ledger = Ledger::publish(&erp, "BLK", JOBS).await?;
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"])
        .await?;
    worker.until_not_ready(SOON).await?;
    let (status, reason) = worker.readiness().await?;
    assert_eq!(
        (status, reason.as_str()),
        (503, "no broker connection for results")
    );
    let before = sandbox.stats().await?.generates;
    ensure!(before < JOBS as u64, "the alarm came too late");
    slow_down(&sandbox).await?;

    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"])
        .await?;
    worker.until_ready().await?;
    ledger.collect(&broker.url(), JOBS, SOON).await?;
    ensure_settled(&ledger, &sandbox).await
}
