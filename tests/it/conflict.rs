//! What was registered before, and is found again: the same document, or another one under its number. Both ways of
//! finding it, the portal's 2150 and the look-up of a job in doubt, have to tell the same.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::{self, invoice, irn};
use crate::support::outcome::Outcome;
use crate::support::sandbox::Calls;
use crate::support::stack::Stack;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(20);

/// What may differ under one number, as the result names it, and an invoice that differs in nothing else. All are valid.
const DIFFERENCES: [&str; 5] = ["buyer", "date", "total", "item count", "main HSN"];

fn differing_in(field: &str, number: &str) -> String {
    let original = invoice(SELLER, number);
    let other = match field {
        "buyer" => original.replace("27AAPFU0939F1ZV", "27AABCT9421M1ZY"),
        "date" => original.replace("05/09/2025", "06/09/2025"),
        "total" => invoice::with_other_content(SELLER, number),
        "item count" => {
            let line = |serial: u8, quantity: &str, total: u32, discount: u8| {
                format!(
                    r#"{{"SlNo":"{serial}","PrdDesc":"Cotton","IsServc":"N","HsnCd":"520832","Qty":{quantity},"Unit":"MTR","UnitPrice":150,"TotAmt":{total},"Discount":{discount},"AssAmt":9000,"GstRt":5,"IgstAmt":450,"CgstAmt":0,"SgstAmt":0,"TotItemVal":9450}},"#
                )
            };
            let from = original
                .find(r#"{"SlNo":"1""#)
                .expect("it has a first line");
            let to = original
                .find(r#"{"SlNo":"2""#)
                .expect("it has a second line");
            let lines = line(1, "60", 9_000, 0) + &line(3, "60.5", 9_075, 75);
            format!("{}{lines}{}", &original[..from], &original[to..])
        }
        "main HSN" => original.replace("520832", "520942"),
        other => panic!("no invoice differs in {other}"),
    };
    assert_ne!(other, original, "{field}");
    other
}

/// Its outcome is unknown, as a worker that died leaves it: it begins with a look-up.
fn in_doubt(job: Job) -> Job {
    job.text_header("x-irn-outcome", "unknown")
}

async fn one_worker() -> Result<Stack> {
    Stack::start_with(1, |config| config.set("validate.preflight", "off")).await
}

fn assert_conflict(outcome: &Outcome, field: &str, number: &str) {
    assert_eq!(outcome.status(), "conflict", "{field}: {}", outcome.json);
    assert_eq!(outcome.errors(), ["worker SIGNED_DATA_MISMATCH"], "{field}");
    let message = outcome.json["errors"][0]["message"]
        .as_str()
        .unwrap_or_default();
    assert!(message.ends_with(&format!(" in: {field}")), "{message}");
    assert_eq!(outcome.text("irn"), irn(SELLER, number), "{field}");
    for member in ["signed_invoice", "signed_qr_code", "signature"] {
        assert_eq!(outcome.json[member], Value::Null, "{field}: {member}");
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn every_difference_from_what_a_refused_duplicate_names_is_a_conflict() -> Result<()> {
    let stack = one_worker().await?;
    for (i, field) in DIFFERENCES.into_iter().enumerate() {
        let number = format!("D/{i}");
        let first = Job::generate(&format!("a-{i}"), invoice(SELLER, &number));
        stack.settle(first).await?.assert_signed(false);
        let second = Job::generate(&format!("b-{i}"), differing_in(field, &number));
        assert_conflict(&stack.settle(second).await?, field, &number);
    }
    let all = u64::try_from(DIFFERENCES.len())?;
    let expected = Calls {
        logins: 1,
        generates: 2 * all,
        lookups: all,
        duplicates: all,
        registrations: all,
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn every_difference_from_what_a_look_up_finds_is_a_conflict() -> Result<()> {
    let stack = one_worker().await?;
    for (i, field) in DIFFERENCES.into_iter().enumerate() {
        let number = format!("D/{i}");
        let first = Job::generate(&format!("a-{i}"), invoice(SELLER, &number));
        stack.settle(first).await?.assert_signed(false);
        let second = Job::generate(&format!("b-{i}"), differing_in(field, &number));
        assert_conflict(&stack.settle(in_doubt(second)).await?, field, &number);
    }
    // A look-up goes by the date: one that differs there is not found before the portal refuses it.
    let calls = stack.sandbox.calls().await?;
    assert_eq!((calls.registrations, calls.duplicates), (5, 1), "{calls:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn the_same_document_written_another_way_is_no_conflict() -> Result<()> {
    let stack = one_worker().await?;
    let first = Job::generate("a-1", invoice(SELLER, "SAME/1"));
    stack.settle(first).await?.assert_signed(false);
    // The second line's HSN is not the main one, and the total has other zeros.
    let another = invoice(SELLER, "same/1")
        .replace(r#""TotInvVal":21851"#, r#""TotInvVal":21851.00"#)
        .replace(r#""AssAmt":18000,"#, r#""AssAmt":18000.0,"#)
        .replace("940320", "940330");
    let second = Job::generate("b-1", another.clone());
    stack.settle(second).await?.assert_signed(true);
    let third = in_doubt(Job::generate("c-1", another));
    stack.settle(third).await?.assert_signed(true);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn signed_data_of_another_number_found_by_a_look_up_is_a_conflict() -> Result<()> {
    let stack = one_worker().await?;
    let first = Job::generate("a-1", invoice(SELLER, "M/1"));
    stack.settle(first).await?.assert_signed(false);
    let other = json!([{"endpoint": "get_by_doc", "kind": "mismatch"}]);
    stack.sandbox.faults(1, other).await?;
    let second = in_doubt(Job::generate("b-1", invoice(SELLER, "M/1")));
    let outcome = stack.settle(second).await?;
    assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
    let message = outcome.json["errors"][0]["message"].as_str();
    let named = message.context("no message")?;
    assert!(named.ends_with("in: irn, number, total"), "{named}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn found_too_late_by_a_look_up_it_is_partial_and_never_sent() -> Result<()> {
    let stack = one_worker().await?;
    let first = Job::generate("a-1", invoice(SELLER, "P/1"));
    stack.settle(first).await?.assert_signed(false);
    stack.sandbox.advance("72h").await?;
    let second = in_doubt(Job::generate("b-1", invoice(SELLER, "P/1")));
    let outcome = stack.settle(second).await?;
    assert_eq!(outcome.status(), "partial", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2283"]);
    assert_eq!(outcome.text("irn"), irn(SELLER, "P/1"));
    assert_eq!(outcome.json["recovered"], true);
    assert_eq!(outcome.json["signed_qr_code"], Value::Null);
    assert_eq!(stack.sandbox.calls().await?.generates, 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn number_that_the_taxpayer_cancelled_is_a_conflict_both_ways() -> Result<()> {
    let stack = one_worker().await?;
    let number = "C/1";
    let first = Job::generate("a-1", invoice(SELLER, number));
    stack.settle(first).await?.assert_signed(false);
    stack
        .sandbox
        .post("cancel", &json!({"irn": irn(SELLER, number)}))
        .await?;
    let again = Job::generate("b-1", invoice(SELLER, number));
    for job in [again.clone(), in_doubt(again.id("c-1"))] {
        let outcome = stack.settle(job).await?;
        assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
        assert_eq!(outcome.errors(), ["irp 2278"]);
        assert_eq!(outcome.text("irn"), irn(SELLER, number));
        assert_eq!(outcome.json["signed_invoice"], Value::Null);
    }
    assert_eq!(stack.sandbox.calls().await?.registrations, 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn conflict_with_another_portal_names_it() -> Result<()> {
    let stack = one_worker().await?;
    let elsewhere = json!({"irn": irn(SELLER, "X/1"), "irp": "NIC102 <script>"});
    stack
        .sandbox
        .post("registered-elsewhere", &elsewhere)
        .await?;
    let outcome = stack
        .settle(Job::generate("a-1", invoice(SELLER, "X/1")))
        .await?;
    assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2295"]);
    let message = outcome.json["errors"][0]["message"].as_str();
    let named = message.context("no message")?;
    assert!(named.ends_with("(registered at NIC102script)"), "{named}");
    let info = &outcome.json["info"][0];
    assert_eq!(info["code"], "DUPIRNGLP", "{}", outcome.json);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn eway_bill_comes_with_a_recovered_registration_too() -> Result<()> {
    let stack = one_worker().await?;
    let lost = json!([{"endpoint": "generate", "kind": "drop", "when": "after", "times": 1}]);
    stack.sandbox.faults(1, lost).await?;
    let members = r#""TransMode":"1","VehNo":"KA01AB1234","VehType":"R","Distance":120"#;
    let document = invoice::with_eway_bill(SELLER, "E/9", members);
    stack.erp.publish(&[Job::generate("a-1", document)]).await?;
    let outcomes = stack.outcomes(1, SOON).await?;
    let outcome = outcomes.get("a-1").context("no result")?;
    outcome.assert_signed(true);
    assert!(
        outcome.json["eway_bill"]["EwbNo"].is_number(),
        "{}",
        outcome.json
    );
    Ok(())
}
