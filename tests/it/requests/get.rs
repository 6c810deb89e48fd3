//! Fetching: all that a signed result carries, whatever has become of the registration.

use anyhow::Result;
use serde_json::{Value, json};

use super::{SELLER, asked, registered};
use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::{invoice, irn};
use crate::support::stack::Stack;

fn by_document(id: &str, number: &str, date: &str) -> Job {
    let body = format!(r#"{{"Typ":"INV","No":"{number}","Dt":"{date}"}}"#);
    Job::about("get", id, SELLER, body)
}

const SIGNED: [&str; 5] = [
    "irn",
    "ack_no",
    "ack_date",
    "signed_invoice",
    "signed_qr_code",
];

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn registration_is_found_by_its_irn_and_by_its_document() -> Result<()> {
    let stack = Stack::start(1).await?;
    let signed = Job::generate("g-1", invoice(SELLER, "G/1"));
    let signed = stack.settle(signed).await?;
    let jobs = [
        Job::get("f-1", SELLER, &irn(SELLER, "G/1")),
        by_document("f-2", "G/1", "05/09/2025"),
        by_document("f-3", "g/1", "05/09/2025"),
    ];
    for job in jobs {
        let found = stack.settle(job).await?;
        assert_eq!(found.status(), "found", "{}", found.json);
        assert_eq!(found.text("operation"), "get");
        assert_eq!(found.text("signature"), "verified");
        assert_eq!(found.text("irn_status"), "ACT");
        assert_eq!(found.text("gstin"), SELLER);
        for member in SIGNED {
            assert!(found.json[member].is_string(), "{member}");
            assert_eq!(found.json[member], signed.json[member], "{member}");
        }
        assert_eq!(found.json["document"]["date"], "05/09/2025");
        assert_eq!(found.json["document"]["type"], "INV");
    }
    assert_eq!(stack.sandbox.stats().await?.errors, 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn cancelled_registration_is_found_as_cancelled() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "G/2").await?;
    stack.settle(Job::cancel("c-1", SELLER, &irn)).await?;
    let found = stack.settle(Job::get("f-1", SELLER, &irn)).await?;
    assert_eq!(found.status(), "found", "{}", found.json);
    assert_eq!(found.text("irn_status"), "CNL");
    assert_eq!(found.text("signature"), "verified");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_is_not_registered_is_not_found_after_one_look() -> Result<()> {
    let stack = Stack::start(1).await?;
    let unknown = irn(SELLER, "G/3");
    let outcome = stack.settle(Job::get("f-1", SELLER, &unknown)).await?;
    assert_eq!(outcome.status(), "not_found", "{}", outcome.json);
    assert_eq!(outcome.text("irn"), unknown);
    assert_eq!(outcome.json["errors"], json!([]));
    let outcome = stack
        .settle(by_document("f-2", "G/3", "05/09/2025"))
        .await?;
    assert_eq!(outcome.status(), "not_found", "{}", outcome.json);
    assert_eq!(outcome.text("irn"), unknown, "computed");
    assert_eq!(outcome.json["document"]["number"], "G/3");
    assert_eq!(asked(&stack.sandbox.stats().await?), [1, 0, 0, 0]);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_is_too_old_to_be_fetched_is_partial() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "G/4").await?;
    stack.sandbox.advance("72h").await?;
    let outcome = stack.settle(Job::get("f-1", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "partial", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2283"]);
    assert_eq!(outcome.text("irn"), irn);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_belongs_to_somebody_else_is_refused() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "G/5").await?;
    let outcome = stack.settle(Job::get("f-1", GSTINS[1], &irn)).await?;
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2226"]);
    assert_eq!(outcome.json["dead_lettered"], false);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn nothing_whose_signature_fails_is_called_found() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "G/6").await?;
    for (number, (kind, ending)) in [
        ("bad_signature", "worker BAD_SIGNATURE"),
        ("mismatch", "worker SIGNED_DATA_MISMATCH"),
    ]
    .into_iter()
    .enumerate()
    {
        let forged = json!([{"endpoint": "get_by_irn", "kind": kind}]);
        stack.sandbox.faults(1, forged).await?;
        let job = Job::get(&format!("f-{number}"), SELLER, &irn);
        let outcome = stack.settle(job).await?;
        assert_eq!(outcome.status(), "failed", "{}", outcome.json);
        assert_eq!(outcome.errors(), [ending]);
        assert_eq!(outcome.json["signed_invoice"], Value::Null);
        assert_eq!(outcome.json["dead_lettered"], true);
    }
    let foreign = json!([{"endpoint": "get_by_irn", "kind": "wrong_signing_key"}]);
    stack.sandbox.faults(1, foreign).await?;
    let outcome = stack.settle(Job::get("f-9", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "found", "{}", outcome.json);
    assert_eq!(outcome.text("signature"), "unknown_key");
    Ok(())
}

/// Nothing is changed, so nothing is in doubt: a delivery handed out again asks at once.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn redelivered_question_is_asked_again_at_once() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let irn = registered(&stack, "G/7").await?;
    stack.worker()?.terminate(super::SOON).await?;
    stack
        .publish_redelivered(Job::get("f-1", SELLER, &irn))
        .await?;
    let _worker = stack.config()?.start("the next one").await?;
    let outcome = stack.outcome().await?;
    assert_eq!(outcome.status(), "found", "{}", outcome.json);
    assert_eq!(outcome.json["attempts"], 1);
    assert_eq!(asked(&stack.sandbox.stats().await?), [1, 0, 0, 0]);
    Ok(())
}
