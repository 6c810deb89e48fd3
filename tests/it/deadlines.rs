//! After its deadline a document is not submitted any more, by no path; one in doubt is looked up first.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::invoice;
use crate::support::proxy::TcpProxy;
use crate::support::sandbox::Calls;
use crate::support::stack::Stack;

const SELLER: &str = GSTINS[0];
/// The buyer of the seller's invoices.
const BUYER: &str = "27AAPFU0939F1ZV";
const SOON: Duration = Duration::from_secs(10);

fn due_in(job: Job, left: Duration) -> Job {
    let deadline = Timestamp::now() + left;
    job.text_header("x-irn-deadline", &deadline.to_string())
}

fn overdue(job: Job) -> Job {
    job.text_header("x-irn-deadline", "2025-09-05T12:00:00Z")
}

fn job(number: &str) -> Job {
    Job::generate(number, invoice(SELLER, number))
}

async fn one_worker() -> Result<Stack> {
    Stack::start_with(1, |config| config.set("validate.preflight", "off")).await
}

async fn calls(stack: &Stack) -> Result<Calls> {
    stack.sandbox.calls().await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn overdue_document_costs_no_call_at_all() -> Result<()> {
    let stack = one_worker().await?;
    let outcome = stack.settle(overdue(job("E/1"))).await?;
    assert_eq!(outcome.status(), "expired", "{}", outcome.json);
    assert_eq!(calls(&stack).await?, Calls::default());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn overdue_document_in_doubt_that_was_registered_is_signed() -> Result<()> {
    let stack = one_worker().await?;
    stack.settle(job("E/2")).await?.assert_signed(false);
    let doubtful = overdue(job("E/2")).text_header("x-irn-outcome", "unknown");
    stack.settle(doubtful).await?.assert_signed(true);
    let calls = calls(&stack).await?;
    assert_eq!((calls.generates, calls.lookups), (1, 1));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn overdue_document_in_doubt_that_is_absent_expires_after_the_settle_time() -> Result<()> {
    let stack = Stack::start(1).await?;
    let doubtful = overdue(job("E/3")).text_header("x-irn-outcome", "unknown");
    let outcome = stack.settle(doubtful).await?;
    assert_eq!(outcome.status(), "expired", "{}", outcome.json);
    let calls = calls(&stack).await?;
    assert_eq!(
        (calls.generates, calls.lookups),
        (0, 2),
        "the first look was too early to prove anything"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn lost_answer_whose_deadline_passes_meanwhile_is_looked_up_and_not_sent_again() -> Result<()>
{
    let stack = one_worker().await?;
    for (number, when, status) in [("E/4", "before", "expired"), ("E/5", "after", "signed")] {
        let lost = json!([{"endpoint": "generate", "kind": "drop", "when": when}]);
        stack.sandbox.faults(1, lost).await?;
        // Longer than the way to the portal, shorter than the rung that the doubt waits on.
        let due = due_in(job(number), Duration::from_millis(300));
        let before = calls(&stack).await?;
        let outcome = stack.settle(due).await?;
        assert_eq!(outcome.status(), status, "{}", outcome.json);
        let after = calls(&stack).await?;
        assert_eq!(after.generates - before.generates, 1, "{number}");
        assert_eq!(after.lookups - before.lookups, 1, "{number}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn immediate_retry_does_not_outlive_the_deadline() -> Result<()> {
    let stack = Stack::start_with(0, Ok).await?;
    let portal = TcpProxy::to(stack.sandbox.url().trim_start_matches("http://")).await?;
    let config = stack
        .config()?
        .set("irp.base_url", format!("http://{}", portal.address()))?
        .set("retry.immediate.max_elapsed", "10s")?;
    let _worker = config.start("worker").await?;
    // A session first: it is the submit that is to be tried again.
    stack.settle(job("E/6")).await?.assert_signed(false);
    drop(portal);
    let due = due_in(job("E/7"), Duration::from_secs(1));
    let outcome = stack.settle(due).await?;
    assert_eq!(outcome.status(), "expired", "{}", outcome.json);
    assert_eq!(outcome.json["attempts"], 1);
    assert_eq!(calls(&stack).await?.generates, 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_whose_deadline_passes_during_the_login_is_not_sent() -> Result<()> {
    let stack = one_worker().await?;
    let hold = json!([{"endpoint": "auth", "kind": "hold"}]);
    stack.sandbox.faults(1, hold).await?;
    let due = due_in(job("E/8"), Duration::from_millis(500));
    stack.erp.publish(&[due]).await?;
    stack.sandbox.until_held(1, SOON).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stack.sandbox.release().await?;
    let outcome = stack.outcome().await?;
    assert_eq!(outcome.status(), "expired", "{}", outcome.json);
    assert_eq!(calls(&stack).await?.generates, 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_is_not_sent_once_more_after_a_synchronisation_that_outlived_its_deadline()
-> Result<()> {
    let stack = one_worker().await?;
    // A session first, so that the job below reaches the portal in time.
    stack.settle(job("E/9")).await?.assert_signed(false);
    let stale = json!({"gstin": BUYER, "status": "INA", "portal_status": "ACT"});
    stack.sandbox.post("taxpayers", &stale).await?;
    let hold = json!([{"endpoint": "sync", "kind": "hold"}]);
    stack.sandbox.faults(1, hold).await?;
    let deadline = Duration::from_secs(2);
    let published = Timestamp::now();
    stack.erp.publish(&[due_in(job("E/10"), deadline)]).await?;
    stack.sandbox.until_held(1, SOON).await?;
    let left = published + deadline - Timestamp::now();
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
    stack.sandbox.release().await?;
    let outcome = stack.outcome().await?;
    assert_eq!(outcome.status(), "expired", "{}", outcome.json);
    assert_eq!(calls(&stack).await?.generates, 2, "one for each document");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn thousands_that_have_only_waited_too_long_do_not_use_up_the_error_budget() -> Result<()> {
    const JOBS: usize = 60;
    let stack = Stack::start_with(1, |config| {
        config
            .set("validate.preflight", "off")?
            .set("limits.error_budget_per_gstin", "100/day")
    })
    .await?;
    let waited = |n: usize| {
        let job = overdue(job(&format!("W/{n}")));
        job.text_header("x-irn-first-seen", "2025-09-05T11:00:00Z")
            .text_header("x-irn-outcome", "not_sent")
            .text_header("x-irn-error", "rate")
    };
    let jobs: Vec<Job> = (0..JOBS).map(waited).collect();
    stack.erp.publish(&jobs).await?;
    for outcome in stack.outcomes(JOBS, SOON).await?.values() {
        assert_eq!(outcome.status(), "expired", "{}", outcome.json);
    }
    // A tenth of the budget, and those that were under way when it was used.
    let stats = stack.sandbox.stats().await?;
    assert!((10..20).contains(&stats.errors), "{} errors", stats.errors);
    assert_eq!(stats.generates, 0);
    Ok(())
}
