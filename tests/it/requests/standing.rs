//! What holds for all jobs holds for requests: deadlines, redelivery, replays, the urgent lane, receipts, publishers.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Make, SELLER, SOON, asked, assert_nothing_blind, registered};
use crate::support::amqp::Job;
use crate::support::stack::Stack;

const LONG_AGO: &str = "2026-01-01T00:00:00Z";

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn request_past_its_deadline_expires_without_a_call() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "D/1").await?;
    let before = stack.sandbox.stats().await?.all_requests();
    for (id, job) in [
        ("c", Job::cancel("c", SELLER, &irn)),
        ("f", Job::get("f", SELLER, &irn)),
        ("e", Job::eway_bill("e", SELLER, &irn)),
    ] {
        let job = job.text_header("x-irn-deadline", LONG_AGO);
        let outcome = stack.settle(job).await?;
        assert_eq!(outcome.status(), "expired", "{id}: {}", outcome.json);
        assert_eq!(outcome.text("irn"), irn);
    }
    assert_eq!(stack.sandbox.stats().await?.all_requests(), before);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn request_in_doubt_past_its_deadline_is_answered_by_what_is_there() -> Result<()> {
    let stack = Stack::start(1).await?;
    let done = registered(&stack, "D/2").await?;
    stack.settle(Job::cancel("c-1", SELLER, &done)).await?;
    let open = registered(&stack, "D/3").await?;
    let late = |job: Job| {
        job.text_header("x-irn-deadline", LONG_AGO)
            .text_header("x-irn-outcome", "unknown")
    };
    let outcome = stack
        .settle(late(Job::cancel("c-2", SELLER, &done)))
        .await?;
    assert_eq!(outcome.status(), "cancelled", "{}", outcome.json);
    let outcome = stack
        .settle(late(Job::cancel("c-3", SELLER, &open)))
        .await?;
    assert_eq!(outcome.status(), "expired", "{}", outcome.json);
    assert_eq!(stack.sandbox.stats().await?.requests("cancel"), 1);
    let bill = stack.settle(Job::eway_bill("e-1", SELLER, &open)).await?;
    let outcome = stack
        .settle(late(Job::eway_bill("e-2", SELLER, &open)))
        .await?;
    assert_eq!(outcome.status(), "ewb_issued", "{}", outcome.json);
    assert_eq!(outcome.json["eway_bill"], bill.json["eway_bill"]);
    assert_eq!(stack.sandbox.stats().await?.requests("ewb"), 1);
    Ok(())
}

/// A dead letter that comes back after days: the portal gives nothing out any more, but it still says what was done.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn cancellation_in_doubt_for_days_is_settled_by_the_portals_own_word() -> Result<()> {
    let stack = Stack::start(1).await?;
    let done = registered(&stack, "D/7").await?;
    stack.settle(Job::cancel("c-1", SELLER, &done)).await?;
    let open = registered(&stack, "D/8").await?;
    stack.sandbox.advance("72h").await?;
    let doubted = |id, irn| Job::cancel(id, SELLER, irn).text_header("x-irn-outcome", "unknown");
    let outcome = stack.settle(doubted("c-2", &done)).await?;
    assert_eq!(outcome.status(), "cancelled", "{}", outcome.json);
    assert_eq!(outcome.json["recovered"], true);
    assert_eq!(outcome.text("irn"), done);
    let outcome = stack.settle(doubted("c-3", &open)).await?;
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2270"]);
    // A request that never got there says nothing of the one before.
    let busy = json!([{"endpoint": "cancel", "kind": "status", "status": 429, "times": 1}]);
    stack.sandbox.faults(1, busy).await?;
    let outcome = stack.settle(doubted("c-4", &done)).await?;
    assert_eq!(outcome.status(), "cancelled", "{}", outcome.json);
    // Nor does a deadline that forbids to ask.
    let late = doubted("c-5", &done).text_header("x-irn-deadline", LONG_AGO);
    let outcome = stack.settle(late).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker RETRIES_EXHAUSTED"]);
    let letter = stack.erp.drain("irn.dead").await?.remove(0);
    assert_eq!(letter.header("x-irn-outcome").as_deref(), Some("unknown"));
    assert_nothing_blind(&stack.sandbox.stats().await?);
    Ok(())
}

/// Past its deadline it is not asked for again, and what became of the request before nobody can say.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn eway_bill_in_doubt_for_days_is_never_said_not_to_have_been_asked_for() -> Result<()> {
    let stack = Stack::start(1).await?;
    let open = registered(&stack, "D/9").await?;
    let too_old = json!([{"endpoint": "get_ewb", "kind": "error", "code": "2283"}]);
    stack.sandbox.faults(1, too_old).await?;
    let late = Job::eway_bill("e-1", SELLER, &open)
        .text_header("x-irn-outcome", "unknown")
        .text_header("x-irn-deadline", LONG_AGO);
    let outcome = stack.settle(late).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker RETRIES_EXHAUSTED"]);
    let letter = stack.erp.drain("irn.dead").await?.remove(0);
    assert_eq!(letter.header("x-irn-outcome").as_deref(), Some("unknown"));
    assert_eq!(stack.sandbox.stats().await?.requests("ewb"), 0);
    Ok(())
}

/// Handed out again, nobody knows whether it was sent: looked up at once, and sent only after the settle time.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn redelivered_request_is_looked_up_twice_before_it_is_sent() -> Result<()> {
    for (prefix, job, status, calls) in [
        ("DC", Job::cancel as Make, "cancelled", [2, 1, 0, 0]),
        ("DE", Job::eway_bill, "ewb_issued", [0, 0, 1, 2]),
    ] {
        let mut stack = Stack::start(1).await?;
        let irn = registered(&stack, &format!("{prefix}/1")).await?;
        ensure!(stack.worker()?.terminate(SOON).await?.success());
        stack.publish_redelivered(job("r-1", SELLER, &irn)).await?;
        let _worker = stack.config()?.start("the next one").await?;
        let outcome = stack.outcome().await?;
        assert_eq!(outcome.status(), status, "{}", outcome.json);
        assert_eq!(outcome.json["recovered"], false);
        let stats = stack.sandbox.stats().await?;
        assert_eq!(asked(&stats), calls);
        assert_nothing_blind(&stats);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn dead_requests_are_listed_and_replayed_as_what_they_are() -> Result<()> {
    let stack = Stack::start_with(1, |config| config.set("retry.max_attempts", 1)).await?;
    let irn = registered(&stack, "D/4").await?;
    let down = json!([{"endpoint": "cancel", "kind": "empty"},
        {"endpoint": "get_by_doc", "kind": "empty"}, {"endpoint": "ewb", "kind": "empty"}]);
    stack.sandbox.faults(1, down).await?;
    let by_document = r#"{"Typ":"INV","No":"D/4","Dt":"05/09/2025"}"#;
    let jobs = [
        Job::cancel("c-1", SELLER, &irn),
        Job::about("get", "f-1", SELLER, by_document),
        Job::eway_bill("e-1", SELLER, &irn),
    ];
    for job in jobs {
        let outcome = stack.settle(job).await?;
        assert_eq!(outcome.errors(), ["worker RETRIES_EXHAUSTED"]);
    }
    stack.sandbox.clear_faults().await?;
    let config = stack.config()?;
    let listed = config.output("dead-letters", &["list"]).await?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.contains("RETRIES_EXHAUSTED"), "{listed}");
    let all = ["replay", "--reason", "RETRIES_EXHAUSTED"];
    let replayed = config.output("dead-letters", &all).await?;
    ensure!(replayed.status.success(), "{replayed:?}");
    let outcomes = stack.outcomes(3, SOON).await?;
    assert_eq!(
        outcomes["f-1"].status(),
        "found",
        "{}",
        outcomes["f-1"].json
    );
    // Of one registration: whichever comes first, the other is answered by what the portal has then.
    let both = (outcomes["c-1"].status(), outcomes["e-1"].status());
    ensure!(
        matches!(both, ("cancelled", "rejected") | ("rejected", "ewb_issued")),
        "{both:?}"
    );
    assert_nothing_blind(&stack.sandbox.stats().await?);
    Ok(())
}

/// Letters of an earlier version, which performed no requests, are still listed and replayed.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn letters_of_a_version_that_could_not_do_it_are_replayed_by_one_that_can() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "D/5").await?;
    let letter = Job::get("f-1", SELLER, &irn)
        .text_header("x-irn-reason", "UNSUPPORTED")
        .text_header("x-irn-routing-key", "get")
        .text_header("x-irn-dead-at", LONG_AGO);
    stack.erp.publish_into("irn.dead", &letter).await?;
    let config = stack.config()?;
    let listed = config.output("dead-letters", &["list"]).await?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.contains("UNSUPPORTED"), "{listed}");
    let all = ["replay", "--reason", "UNSUPPORTED"];
    let replayed = config.output("dead-letters", &all).await?;
    ensure!(replayed.status.success(), "{replayed:?}");
    let outcome = stack.outcome().await?;
    assert_eq!(outcome.status(), "found", "{}", outcome.json);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn urgent_requests_are_served_and_counted_by_operation_and_status() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let irn = registered(&stack, "D/6").await?;
    let body = format!(r#"{{"Irn":"{irn}"}}"#);
    let urgent = Job::about("urgent.get", "f-1", SELLER, body);
    let outcome = stack.settle(urgent).await?;
    assert_eq!(outcome.status(), "found", "{}", outcome.json);
    stack.settle(Job::cancel("c-1", SELLER, &irn)).await?;
    let worker = stack.worker()?;
    let text = worker.admin("/metrics").await?;
    for series in [
        r#"irn_worker_jobs_total{operation="get",status="found"} 1"#,
        r#"irn_worker_jobs_total{operation="cancel",status="cancelled"} 1"#,
        r#"irn_worker_jobs_total{operation="ewb",status="ewb_issued"} 0"#,
    ] {
        ensure!(text.contains(series), "no {series}");
    }
    ensure!(
        !text.contains(r#"operation="get",status="signed""#),
        "a get is never signed"
    );
    Ok(())
}
