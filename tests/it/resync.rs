//! The portal refuses a document for its own stale copy of a GSTIN: one synchronisation, one more submit, never a loop.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;

const SELLER: &str = GSTINS[0];
/// The buyer of the seller's invoices.
const BUYER: &str = "27AAPFU0939F1ZV";
const SOON: Duration = Duration::from_secs(20);

fn job(id: &str, number: &str) -> Job {
    Job::generate(id, invoice(SELLER, number))
}

async fn one_worker() -> Result<Stack> {
    Stack::start_with(1, |config| config.set("validate.preflight", "off")).await
}

/// The portal's copy of a GSTIN, and what the common portal knows of it.
async fn set(stack: &Stack, gstin: &str, copy: &str, truth: &str) -> Result<Value> {
    let states = json!({"gstin": gstin, "status": copy, "portal_status": truth});
    stack.sandbox.post("taxpayers", &states).await
}

/// Submits, synchronisations and errors so far.
async fn cost(stack: &Stack) -> Result<(u64, u64, u64)> {
    let stats = stack.sandbox.stats().await?;
    Ok((stats.generates, stats.requests("sync"), stats.errors))
}

fn assert_rejected(outcome: &Outcome, code: &str) {
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    assert_eq!(outcome.errors(), [format!("irp {code}")]);
    assert_eq!(outcome.json["dead_lettered"], false);
}

/// It is submitted twice in its first attempt, with one synchronisation and one error in between.
async fn signed_after_one_synchronisation(stack: &Stack, job: Job) -> Result<()> {
    let before = cost(stack).await?;
    let outcome = stack.settle(job).await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.json["attempts"], 1, "{}", outcome.json);
    let after = cost(stack).await?;
    let spent = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
    assert_eq!(spent, (2, 1, 1), "{}", outcome.json);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn stale_buyer_is_synchronised_and_the_document_signed_in_the_same_attempt() -> Result<()> {
    let stack = one_worker().await?;
    for (number, copy, truth) in [
        ("G/1", "INA", "ACT"),
        ("G/2", "CNL", "SUS"),
        ("G/3", "NONE", "ACT"),
    ] {
        // Another buyer each time, because what was said of one holds for an hour.
        let buyer = format!("27AAPFU0939F{}", number.replace("G/", "1Z"));
        set(&stack, &buyer, copy, truth).await?;
        let document = invoice(SELLER, number).replace(BUYER, &buyer);
        signed_after_one_synchronisation(&stack, Job::generate(number, document)).await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn fifty_documents_of_one_bad_buyer_cost_one_synchronisation_and_are_rejected() -> Result<()>
{
    let stack = one_worker().await?;
    set(&stack, BUYER, "ACT", "CNL").await?;
    set(&stack, BUYER, "INA", "CNL").await?;
    let jobs: Vec<Job> = (0..50)
        .map(|i| job(&format!("j-{i}"), &format!("B/{i}")))
        .collect();
    stack.erp.publish(&jobs).await?;
    for outcome in stack.outcomes(50, SOON).await?.values() {
        assert_rejected(outcome, "3029");
        assert_eq!(outcome.json["attempts"], 1);
    }
    assert_eq!(cost(&stack).await?, (50, 1, 50));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn fifty_documents_of_one_stale_buyer_cost_one_synchronisation_and_are_signed() -> Result<()>
{
    let stack = one_worker().await?;
    set(&stack, BUYER, "INA", "ACT").await?;
    let jobs: Vec<Job> = (0..50)
        .map(|i| job(&format!("j-{i}"), &format!("A/{i}")))
        .collect();
    stack.erp.publish(&jobs).await?;
    for outcome in stack.outcomes(50, SOON).await?.values() {
        outcome.assert_signed(false);
    }
    let (_, syncs, errors) = cost(&stack).await?;
    assert_eq!(syncs, 1);
    assert!(errors <= 8, "only the lane's width was refused: {errors}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn the_gstin_that_the_portal_names_is_synchronised_and_not_always_the_buyers() -> Result<()> {
    let stack = one_worker().await?;
    let consignee = "27AABCT9421M1ZY";
    set(&stack, consignee, "INA", "CNL").await?;
    let refusal = json!([{"endpoint": "generate", "kind": "error", "code": "3028",
        "message": format!("GSTIN - {} is invalid", consignee.to_lowercase())}]);
    stack.sandbox.faults(1, refusal).await?;
    let ship_to = format!(
        r#""ShipDtls":{{"Gstin":"{consignee}","LglNm":"Consignee","Addr1":"Gala 8","Loc":"SAMPLETOWN","Pin":411014,"Stcd":"27"}},"ItemList":"#
    );
    let document = invoice(SELLER, "N/1").replace(r#""ItemList":"#, &ship_to);
    // Were the buyer asked for, who is active, the document would have been sent once more.
    let outcome = stack.settle(Job::generate("j-1", document)).await?;
    assert_rejected(&outcome, "3028");
    assert_eq!(cost(&stack).await?, (1, 1, 1));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refused_again_after_the_synchronisation_it_is_rejected_and_does_not_loop() -> Result<()> {
    let stack = one_worker().await?;
    let always = json!([{"endpoint": "generate", "kind": "error", "code": "3029",
        "message": "GSTIN is inactive"}]);
    stack.sandbox.faults(1, always).await?;
    assert_rejected(&stack.settle(job("j-1", "L/1")).await?, "3029");
    assert_eq!(cost(&stack).await?, (2, 1, 2));
    // What is known did not help the second one: it is asked again, and sent once more in the same attempt.
    let second = stack.settle(job("j-2", "L/2")).await?;
    assert_rejected(&second, "3029");
    assert_eq!(second.json["attempts"], 1);
    assert_eq!(cost(&stack).await?, (4, 2, 4));
    // That did not help either: from now on a refusal is believed, and costs one error.
    for number in 3..6 {
        let outcome = stack.settle(job(&format!("j-{number}"), &format!("L/{number}")));
        let outcome = outcome.await?;
        assert_rejected(&outcome, "3029");
        assert_eq!(outcome.json["attempts"], 1);
    }
    assert_eq!(cost(&stack).await?, (7, 2, 7));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn buyer_that_is_stale_again_within_the_hour_is_synchronised_again() -> Result<()> {
    let stack = one_worker().await?;
    for (round, number) in ["S/1", "S/2"].into_iter().enumerate() {
        set(&stack, BUYER, "INA", "ACT").await?;
        signed_after_one_synchronisation(&stack, job(&format!("j-{round}"), number)).await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn fifty_documents_that_no_synchronisation_helps_cost_little_more_than_an_error_each()
-> Result<()> {
    let stack = one_worker().await?;
    let always = json!([{"endpoint": "generate", "kind": "error", "code": "3029",
        "message": "GSTIN is inactive"}]);
    stack.sandbox.faults(1, always).await?;
    let jobs: Vec<Job> = (0..50)
        .map(|i| job(&format!("j-{i}"), &format!("W/{i}")))
        .collect();
    stack.erp.publish(&jobs).await?;
    for outcome in stack.outcomes(50, SOON).await?.values() {
        assert_rejected(outcome, "3029");
        assert_eq!(outcome.json["attempts"], 1);
    }
    let (submits, syncs, errors) = cost(&stack).await?;
    assert_eq!((submits, syncs), (errors, 2));
    // Those of a full lane were submitted before the answer, and so once more; the same at the second time.
    assert!(errors <= 50 + 2 * 8, "{errors}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn synchronisation_that_fails_in_passing_is_no_verdict() -> Result<()> {
    let stack = one_worker().await?;
    set(&stack, BUYER, "INA", "ACT").await?;
    let outage = json!([{"endpoint": "sync", "kind": "status", "status": 503, "retry_after": 1, "times": 1}]);
    stack.sandbox.faults(1, outage).await?;
    let outcome = stack.settle(job("j-1", "T/1")).await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.json["attempts"], 2);
    let stats = stack.sandbox.stats().await?;
    assert_eq!((stats.generates, stats.requests("sync")), (3, 2));
    assert_eq!(
        stats.lookups, 0,
        "a readable refusal leaves nothing in doubt"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn own_gstin_that_may_not_sell_stops_the_account_and_not_only_the_document() -> Result<()> {
    let stack = one_worker().await?;
    set(&stack, SELLER, "INA", "SUS").await?;
    let outcome = stack.settle(job("j-1", "O/1")).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker CREDENTIALS_REFUSED", "irp 3029"]);
    let letter = &stack.erp.take("irn.dead", 1, SOON).await?[0];
    assert_eq!(
        letter.header("x-irn-reason").as_deref(),
        Some("CREDENTIALS_REFUSED")
    );
    // The next one costs no call.
    let next = stack.settle(job("j-2", "O/2")).await?;
    assert_eq!(next.errors(), ["worker CREDENTIALS_REFUSED", "irp 3029"]);
    assert_eq!(cost(&stack).await?, (1, 1, 1));
    Ok(())
}
