//! Another system logs in with the same API user and so ends our sessions: told to the operator, and no login more.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::invoice;
use crate::support::stack::Stack;

const SELLER: &str = GSTINS[0];
const OTHER: &str = GSTINS[1];
const SOON: Duration = Duration::from_secs(10);

fn job(gstin: &str, number: &str) -> Job {
    Job::generate(number, invoice(gstin, number))
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn sessions_replaced_again_and_again_are_told_once_with_the_gstin_and_the_remedy()
-> Result<()> {
    let mut stack = Stack::start_with(1, |config| config.set("retry.max_attempts", 3)).await?;
    let others = json!([{"endpoint": "generate", "gstin": SELLER, "kind": "revoke_token"}]);
    stack.sandbox.faults(1, others).await?;
    let outcome = stack.settle(job(SELLER, "K/1")).await?;
    assert_eq!(outcome.errors(), ["worker SESSION_REFUSED"]);
    let message = outcome.json["errors"][0]["message"].as_str();
    let message = message.context("no message")?;
    assert!(message.contains("an API user of its own"), "{message}");
    // Two in each of three attempts: what it costs without a competitor, too.
    assert_eq!(stack.sandbox.calls().await?.logins, 6);

    stack.settle(job(OTHER, "K/2")).await?.assert_signed(false);
    let worker = stack.worker()?;
    let told = worker.log();
    let told: Vec<_> = told
        .iter()
        .filter(|line| line.contains("keeps replacing"))
        .filter(|line| line.contains("ERROR"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(SELLER), "{}", told[0]);
    let metric = "irn_worker_token_contention_total";
    assert_eq!(worker.metric(metric, "").await?, 1.0);
    let status: Value = serde_json::from_str(&worker.admin("/status").await?)?;
    let lanes = status["lanes"].as_array().context("no lanes")?;
    for lane in lanes {
        assert_eq!(lane["token_contention"], lane["gstin"] == SELLER, "{lane}");
    }
    assert_eq!(lanes.len(), 2);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn two_replaced_sessions_are_an_accident_and_the_document_is_signed() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let once = json!([{"endpoint": "generate", "kind": "revoke_token", "times": 2}]);
    stack.sandbox.faults(1, once).await?;
    stack.settle(job(SELLER, "K/3")).await?.assert_signed(false);
    let worker = stack.worker()?;
    let metric = "irn_worker_token_contention_total";
    assert_eq!(worker.metric(metric, "").await?, 0.0);
    worker.until_logged("job signed", SOON).await
}
