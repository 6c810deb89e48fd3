//! E-way bills of registered invoices: one each, however often they are asked for.

use anyhow::Result;
use serde_json::{Value, json};

use super::{SELLER, asked, registered};
use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::{invoice, irn};
use crate::support::stack::Stack;

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn bill_is_issued_with_one_call_and_its_distance_passed_on() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "E/1").await?;
    let outcome = stack.settle(Job::eway_bill("e-1", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "ewb_issued", "{}", outcome.json);
    assert_eq!(outcome.text("operation"), "ewb");
    assert_eq!(outcome.text("irn"), irn);
    assert_eq!(outcome.json["recovered"], false);
    let bill = &outcome.json["eway_bill"];
    assert_eq!(bill["EwbNo"].to_string().len(), 12, "{bill}");
    for member in ["EwbDt", "EwbValidTill"] {
        assert!(bill[member].is_string(), "{bill}");
    }
    let info = &outcome.json["info"][0];
    assert_eq!(info["code"], "EWBPPD", "{}", outcome.json);
    let detail = info["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("Pin-Pin calc distance"), "{detail}");
    let stats = stack.sandbox.stats().await?;
    assert_eq!((asked(&stats), stats.errors), ([0, 0, 1, 0], 0));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn bill_that_is_there_already_is_adopted() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "E/2").await?;
    let first = stack.settle(Job::eway_bill("e-1", SELLER, &irn)).await?;
    let second = stack.settle(Job::eway_bill("e-2", SELLER, &irn)).await?;
    assert_eq!(second.status(), "ewb_issued", "{}", second.json);
    assert_eq!(second.json["recovered"], true);
    assert_eq!(second.json["eway_bill"], first.json["eway_bill"]);
    assert_eq!(asked(&stack.sandbox.stats().await?), [0, 0, 2, 1]);
    Ok(())
}

/// 4026: the e-way-bill system has one for this document number that did not come by its IRN.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn bill_that_exists_and_cannot_be_found_by_the_irn_is_a_conflict() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "E/3").await?;
    let elsewhere = json!([{"endpoint": "ewb", "kind": "error", "code": "4026",
        "message": "Duplicate EwayBill for the document number, EwbNo - (110000000009)"}]);
    stack.sandbox.faults(1, elsewhere).await?;
    let outcome = stack.settle(Job::eway_bill("e-1", SELLER, &irn)).await?;
    assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 4026"]);
    assert_eq!(outcome.text("irn"), irn);
    let stats = stack.sandbox.stats().await?;
    assert_eq!(stats.requests("ewb"), 2, "asked once more after a look");
    assert_eq!(stats.blind_eway_bills, 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refused_payload_is_rejected_with_the_portals_code_and_not_sent_again() -> Result<()> {
    let stack = Stack::start_with(1, |config| config.set("validate.preflight", "off")).await?;
    let irn = registered(&stack, "E/4").await?;
    let body = format!(r#"{{"Irn":"{irn}","Distance":10,"TransMode":"1","VehType":"R"}}"#);
    for id in ["e-1", "e-2"] {
        let job = Job::about("ewb", id, SELLER, body.clone());
        let outcome = stack.settle(job).await?;
        assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
        assert_eq!(outcome.errors(), ["irp 4011"]);
        assert_eq!(outcome.json["dead_lettered"], false);
    }
    assert_eq!(asked(&stack.sandbox.stats().await?), [0, 0, 1, 0]);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn bill_of_nothing_is_not_found_and_of_somebody_elses_refused() -> Result<()> {
    let stack = Stack::start(1).await?;
    let unknown = irn(SELLER, "E/5");
    let outcome = stack
        .settle(Job::eway_bill("e-1", SELLER, &unknown))
        .await?;
    assert_eq!(outcome.status(), "not_found", "{}", outcome.json);
    let ours = registered(&stack, "E/6").await?;
    let outcome = stack
        .settle(Job::eway_bill("e-2", GSTINS[1], &ours))
        .await?;
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 4037"]);
    let cancelled = registered(&stack, "E/7").await?;
    stack.settle(Job::cancel("c-1", SELLER, &cancelled)).await?;
    let outcome = stack
        .settle(Job::eway_bill("e-3", SELLER, &cancelled))
        .await?;
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 4000"]);
    Ok(())
}

/// Part A alone has no validity, and its members are passed on as they came.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn payload_arrives_byte_for_byte_and_part_a_has_no_end() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "E/8").await?;
    let body = format!(
        "{{ \"Distance\" : 120,\n \"TransId\":\"27AABCT9421M1ZY\", \"Irn\":\"{irn}\", \"xErpOnly\":[1.0] }}"
    );
    let outcome = stack.settle(Job::about("ewb", "e-1", SELLER, body)).await?;
    assert_eq!(outcome.status(), "ewb_issued", "{}", outcome.json);
    assert_eq!(outcome.json["eway_bill"]["EwbValidTill"], Value::Null);
    assert_eq!(outcome.json["info"], json!([]));
    Ok(())
}

/// Its service may be down by itself: registrations go on, and the bill is issued when it is back.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn eway_bills_that_are_down_hold_up_no_registration_and_lose_nothing() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let irns = super::all_registered(&stack, "E/9", 12).await?;
    let down = json!([{"endpoint": "ewb", "kind": "status", "status": 503},
        {"endpoint": "get_ewb", "kind": "status", "status": 503}]);
    stack.sandbox.faults(1, down).await?;
    let bills: Vec<Job> = irns
        .iter()
        .enumerate()
        .map(|(i, irn)| Job::eway_bill(&format!("e-{i}"), SELLER, irn))
        .collect();
    stack.erp.publish(&bills).await?;
    let worker = stack.worker()?;
    crate::support::eventually(super::SOON, "the breaker to open", async || {
        let state = worker
            .metric("irn_worker_breaker_state", r#"scope="eway_bill""#)
            .await?;
        Ok((state != 0.0).then_some(()))
    })
    .await?;
    let meanwhile = Job::generate("g-1", invoice(SELLER, "E/10"));
    stack.settle(meanwhile).await?.assert_signed(false);
    stack.sandbox.clear_faults().await?;
    for outcome in stack.outcomes(12, super::SOON).await?.values() {
        assert_eq!(outcome.status(), "ewb_issued", "{}", outcome.json);
    }
    assert_eq!(stack.sandbox.stats().await?.blind_eway_bills, 0);
    Ok(())
}
