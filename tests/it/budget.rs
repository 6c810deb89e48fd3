//! Errors that the portal counts against a taxpayer: counted here as well, and stopped in time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;
use crate::support::worker::{WorkerConfig, WorkerProcess};

const FAULTY: &str = GSTINS[0];
const GOOD: &str = GSTINS[1];
const SOON: Duration = Duration::from_secs(20);

fn jobs(gstin: &str, prefix: &str, count: usize) -> Vec<Job> {
    let job = |i| {
        let number = format!("{prefix}/{i}");
        Job::generate(&number, invoice(gstin, &number))
    };
    (1..=count).map(job).collect()
}

/// The portal refuses every document of one GSTIN, for a reason that lies in the document.
async fn refuse_documents_of(stack: &Stack, gstin: &str) -> Result<()> {
    let rule = json!([{"endpoint": "generate", "gstin": gstin, "kind": "error", "code": "2189"}]);
    stack.sandbox.faults(1, rule).await
}

/// How often each status came, with the errors named.
fn tally<'o>(outcomes: impl IntoIterator<Item = &'o Outcome>) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for outcome in outcomes {
        let errors = outcome.errors().join(", ");
        *tally
            .entry(format!("{} {errors}", outcome.status()))
            .or_default() += 1;
    }
    tally
}

fn counted(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    let pairs = pairs.iter();
    pairs.map(|(what, n)| ((*what).to_owned(), *n)).collect()
}

/// What `/status` says of a GSTIN.
async fn lane(worker: &mut WorkerProcess, gstin: &str) -> Result<Value> {
    let status: Value = serde_json::from_str(&worker.admin("/status").await?)?;
    let lanes = status["lanes"].as_array().cloned().unwrap_or_default();
    let lane = lanes.into_iter().find(|lane| lane["gstin"] == gstin);
    Ok(lane.unwrap_or_default())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn gstin_at_its_error_budget_stops_and_the_others_do_not_notice() -> Result<()> {
    let small = |config: WorkerConfig| config.set("limits.error_budget_per_gstin", "6/day");
    let mut stack = Stack::start_with(1, small).await?;
    refuse_documents_of(&stack, FAULTY).await?;
    stack.erp.publish(&jobs(FAULTY, "F", 40)).await?;
    stack.erp.publish(&jobs(GOOD, "G", 40)).await?;
    let outcomes = stack.outcomes(80, SOON).await?;
    let (faulty, good): (Vec<_>, Vec<_>) = outcomes
        .values()
        .partition(|outcome| outcome.text("job_id").starts_with('F'));
    good.iter().for_each(|outcome| outcome.assert_signed(false));
    assert_eq!(
        tally(faulty),
        counted(&[("failed worker ERROR_BUDGET", 34), ("rejected irp 2189", 6)])
    );
    let stats = stack.sandbox.stats().await?;
    assert_eq!(
        (stats.of(FAULTY).errors, stats.of(FAULTY).generates),
        (6, 6)
    );
    assert_eq!(stats.of(GOOD).errors, 0);

    let stopped = lane(stack.worker()?, FAULTY).await?;
    let budget = &stopped["error_budget"];
    assert_eq!(
        (&budget["used"], &budget["limit"], &budget["state"]),
        (&json!(6), &json!(6), &json!("stopped"))
    );
    let why = stopped["stopped"].as_str().unwrap_or_default();
    assert!(why.contains("error budget"), "{stopped}");
    let open = lane(stack.worker()?, GOOD).await?;
    assert_eq!(open["error_budget"]["state"], "open", "{open}");
    assert_eq!(open["stopped"], Value::Null, "{open}");

    let ratio = "irn_worker_error_budget_used_ratio";
    let worker = stack.worker()?;
    assert!((worker.metric(ratio, FAULTY).await? - 1.0).abs() < 1e-9);
    for said in ["runs low: 5 of 6", "is used up"] {
        let lines = worker.log();
        let lines = lines
            .iter()
            .filter(|line| line.contains(FAULTY) && line.contains(said));
        assert_eq!(lines.count(), 1, "{said}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replica_that_takes_the_place_of_another_knows_of_its_errors() -> Result<()> {
    let small = |config: WorkerConfig| {
        config
            .set("limits.error_budget_per_gstin", "6/day")?
            .set("limits.error_budget_total", "50/day")
    };
    let mut stack = Stack::start_with(1, small).await?;
    refuse_documents_of(&stack, FAULTY).await?;
    stack.erp.publish(&jobs(FAULTY, "F", 10)).await?;
    stack.outcomes(10, SOON).await?;

    let second = small(stack.config()?)?.start("the second").await?;
    stack.workers.push(second);
    eventually(SOON, "the second to know of the errors", async || {
        let lane = lane(&mut stack.workers[1], FAULTY).await?;
        Ok((lane["error_budget"]["state"] == "slow").then_some(()))
    })
    .await?;
    stack.workers.remove(0).kill().await?;
    stack.erp.publish(&jobs(FAULTY, "H", 10)).await?;
    let outcomes = stack.outcomes(10, SOON).await?;
    // What others know leaves room to see for oneself: for one error, or two once this is the only replica.
    let stats = stack.sandbox.stats().await?;
    let errors = stats.of(FAULTY).errors;
    assert!((7..=8).contains(&errors), "{errors}");
    let refused = usize::try_from(errors - 6)?;
    assert_eq!(
        tally(outcomes.values()),
        counted(&[
            ("failed worker ERROR_BUDGET", 10 - refused),
            ("rejected irp 2189", refused)
        ])
    );
    let status: Value = serde_json::from_str(&stack.worker()?.admin("/status").await?)?;
    let client = &status["clients"][0]["error_budget"];
    let used = client["used"].as_u64().unwrap_or_default();
    assert!((7..=8).contains(&used), "{client}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn client_at_its_error_budget_stops_all_its_gstins() -> Result<()> {
    let small = |config: WorkerConfig| config.set("limits.error_budget_total", "4/day");
    let mut stack = Stack::start_with(1, small).await?;
    refuse_documents_of(&stack, FAULTY).await?;
    stack.erp.publish(&jobs(FAULTY, "F", 10)).await?;
    let outcomes = stack.outcomes(10, SOON).await?;
    assert_eq!(
        tally(outcomes.values()),
        counted(&[("failed worker ERROR_BUDGET", 6), ("rejected irp 2189", 4)])
    );
    stack.erp.publish(&jobs(GOOD, "G", 5)).await?;
    let outcomes = stack.outcomes(5, SOON).await?;
    assert_eq!(
        tally(outcomes.values()),
        counted(&[("failed worker ERROR_BUDGET", 5)])
    );
    assert_eq!(stack.sandbox.stats().await?.of(GOOD).all_requests(), 0);
    let status: Value = serde_json::from_str(&stack.worker()?.admin("/status").await?)?;
    let client = &status["clients"][0];
    assert_eq!(client["client"], "it", "{status}");
    assert_eq!(client["error_budget"]["state"], "stopped", "{status}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_in_doubt_at_a_stopped_gstin_is_kept_as_unknown() -> Result<()> {
    let small = |config: WorkerConfig| config.set("limits.error_budget_per_gstin", "2/day");
    let stack = Stack::start_with(1, small).await?;
    refuse_documents_of(&stack, FAULTY).await?;
    stack.erp.publish(&jobs(FAULTY, "F", 2)).await?;
    stack.outcomes(2, SOON).await?;
    let calls = stack.sandbox.calls().await?;
    let doubtful =
        Job::generate("D/1", invoice(FAULTY, "D/1")).text_header("x-irn-outcome", "unknown");
    let outcome = stack.settle(doubtful).await?;
    assert_eq!(outcome.errors(), ["worker ERROR_BUDGET"]);
    assert_eq!(outcome.json["dead_lettered"], true);
    let letter = &stack.erp.take("irn.dead", 1, SOON).await?[0];
    assert_eq!(
        letter.header("x-irn-reason").as_deref(),
        Some("ERROR_BUDGET")
    );
    assert_eq!(letter.header("x-irn-outcome").as_deref(), Some("unknown"));
    assert_eq!(stack.sandbox.calls().await?, calls, "no call was made");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refused_document_is_not_sent_again_unchanged() -> Result<()> {
    let stack = Stack::start(1).await?;
    refuse_documents_of(&stack, FAULTY).await?;
    let job = |id: &str| Job::generate(id, invoice(FAULTY, "S/1"));
    let first = stack.settle(job("first")).await?;
    let again = stack.settle(job("again")).await?;
    for outcome in [&first, &again] {
        assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
        assert_eq!(outcome.errors(), ["irp 2189"]);
    }
    assert_eq!(first.json["errors"], again.json["errors"]);
    assert_eq!(stack.sandbox.calls().await?.generates, 1);

    // One byte more is another document, and one in doubt is looked up all the same.
    let changed = format!("{} ", invoice(FAULTY, "S/1"));
    stack.settle(Job::generate("changed", changed)).await?;
    assert_eq!(stack.sandbox.calls().await?.generates, 2);
    let doubtful = job("doubtful").text_header("x-irn-outcome", "unknown");
    let outcome = stack.settle(doubtful).await?;
    assert_eq!(outcome.errors(), ["irp 2189"]);
    let calls = stack.sandbox.calls().await?;
    assert_eq!((calls.generates, calls.lookups > 0), (2, true));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refusal_that_may_pass_by_itself_is_not_remembered() -> Result<()> {
    let stack = Stack::start(1).await?;
    let rule = json!([{"endpoint": "generate", "kind": "error", "code": "2163", "times": 1}]);
    stack.sandbox.faults(1, rule).await?;
    let job = |id: &str| Job::generate(id, invoice(FAULTY, "S/1"));
    assert_eq!(stack.settle(job("today")).await?.errors(), ["irp 2163"]);
    stack.settle(job("tomorrow")).await?.assert_signed(false);
    Ok(())
}
