//! The figure that autoscalers follow.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::stack::Stack;
use crate::support::worker::{WorkerConfig, WorkerProcess};

/// Several looks at the backlog, which are five seconds apart.
const LOOKS: Duration = Duration::from_secs(40);

/// Eight places, four of them for one GSTIN, and answers after a second: one replica does 8 jobs a second, 4 of one
/// GSTIN, and one GSTIN may do 40.
fn slow(config: WorkerConfig) -> Result<WorkerConfig> {
    config
        .set("irp.concurrency", 8)?
        .set("irp.concurrency_per_gstin", 4)?
        .set("limits.per_gstin", "40/s")?
        .set("retry.delays", vec!["1s", "5s", "30s"])?
        .set("scaling.work_off_within", "5s")
}

fn jobs(gstin: &str, prefix: &str, count: usize) -> Vec<Job> {
    let job = |i| {
        let number = format!("{prefix}/{i}");
        Job::generate(&number, invoice(gstin, &number))
    };
    (1..=count).map(job).collect()
}

async fn scaling(worker: &mut WorkerProcess) -> Result<Value> {
    let status: Value = serde_json::from_str(&worker.admin("/status").await?)?;
    Ok(status["scaling"].clone())
}

/// Waits until so many replicas are of use, and says what else is told of it.
async fn until_useful(worker: &mut WorkerProcess, least: u64, most: u64) -> Result<Value> {
    eventually(
        LOOKS,
        &format!("{least} to {most} to be of use"),
        async || {
            let scaling = scaling(worker).await?;
            let useful = scaling["useful_replicas"].as_u64().unwrap_or_default();
            anyhow::ensure!((least..=most).contains(&useful), "{scaling}");
            let told = worker.metric("irn_worker_useful_replicas", "").await?;
            // Both may be of different looks.
            Ok((told == f64::from(u32::try_from(useful)?)).then_some(scaling))
        },
    )
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn useful_replicas_are_what_the_backlog_needs_up_to_what_the_limits_allow() -> Result<()> {
    let mut stack = Stack::start_with(1, slow).await?;
    let late = json!([{"endpoint": "generate", "kind": "delay", "ms": 1000, "when": "before"}]);
    stack.sandbox.faults(1, late).await?;
    until_useful(stack.worker()?, 1, 1).await?;

    // Two hundred a second would be needed, but one GSTIN may do no more than 40: ten replicas, or a few more where the
    // machine is busy.
    stack.erp.publish(&jobs(GSTINS[0], "A", 1_000)).await?;
    let scaling = until_useful(stack.worker()?, 9, 16).await?;
    println!("one GSTIN: {scaling}");
    assert_eq!(scaling["demand"]["allowed"], 40.0);

    for (gstin, prefix) in GSTINS.iter().zip(["A", "B", "C", "D", "E"]).skip(1) {
        stack.erp.publish(&jobs(gstin, prefix, 300)).await?;
    }
    let scaling = until_useful(stack.worker()?, 20, 40).await?;
    println!("five GSTINs: {scaling}");
    assert!(scaling["demand"]["allowed"].as_f64() > Some(40.0));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn jobs_on_the_ladder_are_backlog() -> Result<()> {
    let mut stack =
        Stack::start_with(1, |config| config.set("retry.delays", vec!["1s", "2m"])).await?;
    for job in jobs(GSTINS[0], "L", 50) {
        stack.erp.publish_onto("irn.retry.2m", &job).await?;
    }
    eventually(LOOKS, "the ladder to be counted", async || {
        let scaling = scaling(stack.worker()?).await?;
        Ok((scaling["backlog"] == 50).then_some(()))
    })
    .await
}
