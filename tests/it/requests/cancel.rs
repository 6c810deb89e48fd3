//! Cancelling: once, in time, by whom it belongs to.

use anyhow::Result;
use serde_json::{Value, json};

use super::{SELLER, asked, assert_nothing_blind, registered};
use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::{invoice, irn, with_eway_bill};
use crate::support::stack::Stack;

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn registration_is_cancelled_after_one_look_and_the_result_says_when() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "C/1").await?;
    let outcome = stack.settle(Job::cancel("c-1", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "cancelled", "{}", outcome.json);
    assert_eq!(outcome.text("operation"), "cancel");
    assert_eq!(outcome.text("irn"), irn);
    assert_eq!(outcome.text("irn_status"), "CNL");
    assert_eq!(outcome.json["recovered"], false);
    let date = outcome.text("cancel_date");
    assert!(date.ends_with("+05:30"), "{date}");
    assert!(date.parse::<jiff::Timestamp>().is_ok(), "{date}");
    assert!(!outcome.text("ack_no").is_empty(), "{}", outcome.json);
    let stats = stack.sandbox.stats().await?;
    assert_eq!(asked(&stats), [1, 1, 0, 0]);
    assert_eq!(stats.errors, 0);
    let remark = stack.settle(Job::get("c-2", SELLER, &irn)).await?;
    assert_eq!(remark.text("irn_status"), "CNL");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn cancelled_twice_is_cancelled_and_costs_no_error() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "C/2").await?;
    stack.settle(Job::cancel("c-1", SELLER, &irn)).await?;
    let again = stack.settle(Job::cancel("c-2", SELLER, &irn)).await?;
    assert_eq!(again.status(), "cancelled", "{}", again.json);
    assert_eq!(again.json["recovered"], true);
    assert_eq!(again.json["cancel_date"], Value::Null, "nobody knows when");
    let stats = stack.sandbox.stats().await?;
    assert_eq!((asked(&stats), stats.errors), ([2, 1, 0, 0], 0));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn code_9999_says_that_it_was_cancelled_meanwhile() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "C/3").await?;
    let meanwhile = json!([{"endpoint": "cancel", "kind": "error", "code": "9999",
        "message": "Invoice is not active"}]);
    stack.sandbox.faults(1, meanwhile).await?;
    let outcome = stack.settle(Job::cancel("c-1", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "cancelled", "{}", outcome.json);
    assert_eq!(outcome.json["recovered"], true);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_is_out_of_the_window_is_rejected_without_an_erroneous_call() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "C/4").await?;
    stack.sandbox.advance("23h").await?;
    let other = registered(&stack, "C/5").await?;
    stack.sandbox.advance("2h").await?;
    // The token has expired on the way, which costs one 1005; what counts comes after it.
    stack.settle(Job::cancel("c-1", SELLER, &other)).await?;
    let before = stack.sandbox.stats().await?;
    let outcome = stack.settle(Job::cancel("c-2", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["preflight 2270"]);
    assert_eq!(outcome.json["errors"][0]["path"], "/Irn");
    assert_eq!(outcome.text("irn"), irn);
    let after = stack.sandbox.stats().await?;
    assert_eq!(after.errors, before.errors, "{after:?}");
    assert_eq!(after.requests("cancel"), before.requests("cancel"));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_is_too_old_to_be_looked_up_is_too_old_to_be_cancelled() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "C/6").await?;
    stack.sandbox.advance("72h").await?;
    let outcome = stack.settle(Job::cancel("c-1", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["preflight 2270"]);
    assert_eq!(stack.sandbox.stats().await?.requests("cancel"), 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn active_eway_bill_is_to_be_cancelled_first() -> Result<()> {
    let stack = Stack::start(1).await?;
    let road = r#""TransMode":"1","Distance":840,"VehNo":"KA01AB1234","VehType":"R""#;
    let job = Job::generate("g-1", with_eway_bill(SELLER, "C/7", road));
    stack.settle(job).await?.assert_signed(false);
    let irn = irn(SELLER, "C/7");
    let outcome = stack.settle(Job::cancel("c-1", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2230"]);
    assert_eq!(outcome.json["dead_lettered"], false);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_is_not_registered_is_not_found_and_what_is_not_ours_is_refused() -> Result<()> {
    let stack = Stack::start(1).await?;
    let unknown = irn(SELLER, "C/8");
    let outcome = stack.settle(Job::cancel("c-1", SELLER, &unknown)).await?;
    assert_eq!(outcome.status(), "not_found", "{}", outcome.json);
    assert_eq!(outcome.text("irn"), unknown);
    let ours = registered(&stack, "C/9").await?;
    let outcome = stack.settle(Job::cancel("c-2", GSTINS[1], &ours)).await?;
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2226"]);
    assert_eq!(stack.sandbox.stats().await?.requests("cancel"), 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn registration_that_lost_to_another_portal_is_a_conflict() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "C/10").await?;
    stack.sandbox.post("reject", &json!({"irn": irn})).await?;
    let outcome = stack.settle(Job::cancel("c-1", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
    assert_eq!(stack.sandbox.stats().await?.requests("cancel"), 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn number_of_what_was_cancelled_cannot_be_used_again() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "C/11").await?;
    stack.settle(Job::cancel("c-1", SELLER, &irn)).await?;
    let again = Job::generate("g-2", invoice(SELLER, "C/11"));
    let outcome = stack.settle(again).await?;
    assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2278"]);
    Ok(())
}

/// What a cancellation does not deliver, it does not need.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn registration_that_comes_without_its_signed_data_is_cancelled_all_the_same() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "C/20").await?;
    stack
        .sandbox
        .shapes(json!({"signed_data": "absent", "irn_status": "word"}))
        .await?;
    let outcome = stack.settle(Job::cancel("c-1", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "cancelled", "{}", outcome.json);
    assert_eq!(outcome.json["recovered"], false);
    let again = stack.settle(Job::cancel("c-2", SELLER, &irn)).await?;
    assert_eq!(again.json["recovered"], true, "{}", again.json);
    assert_eq!(stack.sandbox.stats().await?.requests("cancel"), 1);
    Ok(())
}

/// A cancellation that overtakes the registration of its own document in the same process waits for its end.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn cancellation_of_a_document_under_way_waits_until_it_is_registered() -> Result<()> {
    let stack = Stack::start(1).await?;
    let hold = json!([{"endpoint": "generate", "kind": "hold", "times": 1}]);
    stack.sandbox.faults(1, hold).await?;
    let registering = Job::generate("g-1", invoice(SELLER, "C/12"));
    stack.erp.publish(&[registering]).await?;
    stack.sandbox.until_held(1, super::SOON).await?;
    let cancelling = Job::cancel("c-1", SELLER, &irn(SELLER, "C/12"));
    stack.erp.publish(&[cancelling]).await?;
    stack.erp.until_no_job_waits(&[], super::SOON).await?;
    stack.sandbox.release().await?;
    let outcomes = stack.outcomes(2, super::SOON).await?;
    assert_eq!(outcomes["g-1"].status(), "signed");
    assert_eq!(
        outcomes["c-1"].status(),
        "cancelled",
        "{}",
        outcomes["c-1"].json
    );
    assert_nothing_blind(&stack.sandbox.stats().await?);
    Ok(())
}
