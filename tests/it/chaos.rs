//! Promises P1 and P2 under everything at once: a portal that loses answers, workers that die, a broker that goes.
//!
//! Each test publishes N jobs and then accounts for N: no job without a result, no two results that contradict each
//! other, and no document submitted that the portal had registered already.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::support::amqp::Amqp;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::ledger::Ledger;
use crate::support::private_broker::PrivateBroker;
use crate::support::sandbox::Sandbox;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const JOBS: usize = 1_000;
const ALL_ANSWERED_WITHIN: Duration = Duration::from_secs(100);
const SOON: Duration = Duration::from_secs(30);

/// Waits short enough for a test. `settle_time` stays longer than the portal may take over a request: it answers
/// at once, or after the delay below, or not at all.
fn patient(config: WorkerConfig) -> Result<WorkerConfig> {
    config
        .set("irp.connect_timeout", "1s")?
        .set("irp.request_timeout", "2s")?
        .set("irp.settle_time", "2500ms")?
        .set("irp.concurrency", 16)?
        .set("retry.delays", RUNGS.to_vec())
}

/// A portal that loses 20 % of its answers after it has registered, spoils 10 % of all answers before or after it has
/// acted, and revokes tokens now and then.
fn unreliable() -> Vec<Value> {
    let mut rules = vec![
        json!({"endpoint": "core", "probability": 0.01, "kind": "revoke_token"}),
        json!({"endpoint": "generate", "probability": 0.2, "kind": "drop", "when": "after"}),
    ];
    for when in ["before", "after"] {
        for kind in ["status", "html", "empty", "truncated"] {
            rules.push(
                json!({"endpoint": "core", "probability": 0.0125, "kind": kind, "when": when}),
            );
        }
    }
    rules
}

/// How often a worker is killed.
const KILLS: u64 = 6;

/// A stop and a kill of the broker, each of which every worker's jobs may be caught in: a few each.
const BROKER_FAULTS: u64 = 8;

/// The same, each registration taking a while, so that there is a middle in which to strike.
fn unreliable_and_slow() -> Value {
    let mut rules = unreliable();
    rules.insert(
        0,
        json!({"endpoint": "generate", "kind": "delay", "ms": 150}),
    );
    json!(rules)
}

/// Every document is registered, and nobody sent one that was: `copies` is how many jobs may have come to stand in two
/// queues at once, which takes a crash between the confirm of the one and the acknowledgement of the other. Such twins
/// look before they send, but may look at the same moment; then one of them is told 2150, and recovers.
async fn ensure_each_registered_once(sandbox: &Sandbox, copies: u64) -> Result<()> {
    let stats = sandbox.stats().await?;
    ensure!(stats.registrations == JOBS as u64, "{stats:?}");
    // The faults did strike: a fifth of the answers was lost, and each of those documents had to be looked up.
    ensure!(stats.lookups > JOBS as u64 / 10, "{stats:?}");
    ensure!(stats.duplicate_generates <= copies, "{stats:?}");
    ensure!(stats.overlapping_generates <= copies, "{stats:?}");
    Ok(())
}

const RUNGS: [&str; 3] = ["250ms", "1s", "3s"];

async fn ensure_nothing_died(erp: &Amqp) -> Result<()> {
    for queue in ["irn.dead", "irn.poison"] {
        let depth = erp.depth(queue).await?;
        ensure!(depth == 0, "{queue} holds {depth}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_that_loses_answers_registers_every_document_once_and_every_job_is_signed()
-> Result<()> {
    let mut stack = Stack::start_with(2, patient).await?;
    stack.sandbox.faults(5, json!(unreliable())).await?;
    let mut ledger = Ledger::publish(&stack.erp, "CH", JOBS).await?;
    ledger
        .collect(&stack.broker.url(), JOBS, ALL_ANSWERED_WITHIN)
        .await?;
    stack.erp.until_no_job_waits(&RUNGS, SOON).await?;
    for worker in &mut stack.workers {
        let status = worker.terminate(SOON).await?;
        ensure!(status.success(), "{status}");
    }
    ledger.collect_rest(&stack.erp).await?;
    ledger.ensure_each_signed_once()?;
    ensure_each_registered_once(&stack.sandbox, 0).await?;
    ensure_nothing_died(&stack.erp).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn worker_killed_six_times_leaves_no_job_without_a_result() -> Result<()> {
    let mut stack = Stack::start_with(2, patient).await?;
    stack.sandbox.faults(6, unreliable_and_slow()).await?;
    let mut ledger = Ledger::publish(&stack.erp, "KL", JOBS).await?;
    for round in 1..=KILLS as usize {
        ledger
            .collect(&stack.broker.url(), round * 100, ALL_ANSWERED_WITHIN)
            .await?;
        let victim = stack.workers.remove(0);
        let config = victim.kill().await?;
        let name = format!("worker 1, life {}", round + 1);
        stack.workers.insert(0, config.start(&name).await?);
    }
    ensure!(ledger.answered() < JOBS, "the kills came too late");
    ledger
        .collect(&stack.broker.url(), JOBS, ALL_ANSWERED_WITHIN)
        .await?;
    stack.erp.until_no_job_waits(&RUNGS, SOON).await?;
    for worker in &mut stack.workers {
        let status = worker.terminate(SOON).await?;
        ensure!(status.success(), "{status}");
    }
    ledger.collect_rest(&stack.erp).await?;
    ledger.ensure_each_signed()?;
    ensure_each_registered_once(&stack.sandbox, KILLS).await?;
    ensure_nothing_died(&stack.erp).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn broker_stopped_once_and_killed_once_leaves_no_job_without_a_result() -> Result<()> {
    let node = PrivateBroker::start().await?;
    let broker = node.virtual_host().await?;
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
    let mut workers = Vec::new();
    for number in 1..=2 {
        let config = patient(WorkerConfig::between(&broker.url(), &sandbox)?)?;
        workers.push(config.start(&format!("worker {number}")).await?);
    }
    sandbox.faults(7, unreliable_and_slow()).await?;
    let mut ledger = Ledger::publish(&Amqp::connect(&broker.url()).await?, "BR", JOBS).await?;

    ledger
        .collect(&broker.url(), 200, ALL_ANSWERED_WITHIN)
        .await?;
    // A clean stop comes first: RabbitMQ 3.10 may lose a quorum queue that is killed within a second of its making.
    node.stop().await?;
    for worker in &mut workers {
        worker.until_not_ready(SOON).await?;
    }
    node.start_again().await?;
    ledger
        .collect(&broker.url(), 500, ALL_ANSWERED_WITHIN)
        .await?;
    node.kill().await?;
    for worker in &mut workers {
        worker.until_not_ready(SOON).await?;
    }
    ensure!(ledger.answered() < JOBS, "the kill came too late");
    node.start_again().await?;

    ledger
        .collect(&broker.url(), JOBS, ALL_ANSWERED_WITHIN)
        .await?;
    let erp = Amqp::connect(&broker.url()).await?;
    erp.until_no_job_waits(&RUNGS, SOON).await?;
    for worker in &mut workers {
        let status = worker.terminate(SOON).await?;
        ensure!(status.success(), "{status}");
    }
    ledger.collect_rest(&erp).await?;
    ledger.ensure_each_signed()?;
    ensure_each_registered_once(&sandbox, BROKER_FAULTS).await?;
    ensure_nothing_died(&erp).await
}
