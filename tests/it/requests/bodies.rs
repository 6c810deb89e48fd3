//! Bodies and headers that are wrong: a clear error, no call, nothing lost.

use anyhow::Result;
use serde_json::Value;

use super::SELLER;
use crate::support::amqp::Job;
use crate::support::invoice::irn;
use crate::support::stack::Stack;

/// `source code path` of every error.
fn places(outcome: &Value) -> Vec<String> {
    let text = |error: &Value, member: &str| error[member].as_str().unwrap_or("-").to_owned();
    let errors = outcome["errors"].as_array().cloned().unwrap_or_default();
    let shown = |error: &Value| ["source", "code", "path"].map(|m| text(error, m)).join(" ");
    errors.iter().map(shown).collect()
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn request_that_cannot_be_sent_is_rejected_with_a_pointer_and_without_a_call() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = irn(SELLER, "B/1");
    let rows = [
        (
            "cancel",
            r#"{"CnlRsn":"1","CnlRem":"x"}"#.to_owned(),
            vec!["preflight 2145 /Irn"],
        ),
        (
            "cancel",
            format!(r#"{{"Irn":"{irn}","CnlRsn":"9","CnlRem":""}}"#),
            vec!["preflight 5002 /CnlRsn", "preflight 5002 /CnlRem"],
        ),
        (
            "cancel",
            format!(r#"[{{"Irn":"{irn}"}}]"#),
            vec!["preflight 5002 "],
        ),
        ("get", "{}".to_owned(), vec!["preflight 2142 "]),
        (
            "get",
            r#"{"Irn":"fae5"}"#.to_owned(),
            vec!["preflight 2145 /Irn"],
        ),
        (
            "get",
            r#"{"Typ":"INV","No":"B/1","Dt":"2025-09-05"}"#.to_owned(),
            vec!["preflight 2144 /Dt"],
        ),
        (
            "ewb",
            format!(r#"{{"Irn":"{irn}","distance":4001,"TransMode":"1","VehNo":"KA01AB1234"}}"#),
            vec!["preflight 5002 /distance", "preflight 4022 /VehType"],
        ),
        (
            "ewb",
            format!(r#"{{"Irn":"{irn}","Distance":1,"TransMode":"7","TransDocDt":"32/01/2026"}}"#),
            vec![
                "preflight 5002 /TransMode",
                "preflight 4012 /TransDocNo",
                "preflight 4017 /TransDocDt",
            ],
        ),
        (
            "ewb",
            format!(r#"[{{"Irn":"{irn}"}}]"#),
            vec!["preflight 5002 "],
        ),
    ];
    for (number, (operation, body, expected)) in rows.into_iter().enumerate() {
        let id = format!("b-{number}");
        let outcome = stack
            .settle(Job::about(operation, &id, SELLER, body.clone()))
            .await?;
        assert_eq!(outcome.status(), "rejected", "{body}: {}", outcome.json);
        assert_eq!(outcome.text("operation"), operation);
        assert_eq!(places(&outcome.json), expected, "{body}");
        assert_eq!(outcome.json["dead_lettered"], false);
    }
    assert_eq!(stack.sandbox.stats().await?.all_requests(), 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn request_without_its_gstin_is_told_which_header_is_missing() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = irn(SELLER, "B/2");
    for operation in ["cancel", "get", "ewb"] {
        let body = format!(r#"{{"Irn":"{irn}","CnlRsn":"1","CnlRem":"x","Distance":1}}"#);
        let job = Job::new(operation, body).id(operation);
        let outcome = stack.settle(job).await?;
        assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
        assert_eq!(outcome.errors(), ["preflight 1004"]);
        let message = outcome.json["errors"][0]["message"].as_str();
        assert!(message.is_some_and(|text| text.contains("x-irn-gstin")));
    }
    let nonsense = Job::get("n-1", "29AAGCE4783K1Z", &irn);
    let outcome = stack.settle(nonsense).await?;
    assert_eq!(outcome.errors(), ["worker UNREADABLE"]);
    let stranger = Job::get("n-2", "29AABCT9421M1ZU", &irn);
    let outcome = stack.settle(stranger).await?;
    assert_eq!(outcome.errors(), ["worker NO_CREDENTIALS"]);
    assert_eq!(outcome.json["dead_lettered"], true);
    assert_eq!(stack.sandbox.stats().await?.all_requests(), 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_is_not_json_is_poison() -> Result<()> {
    let stack = Stack::start(1).await?;
    for operation in ["cancel", "get", "ewb"] {
        let job = Job::about(operation, operation, SELLER, "{\"Irn\":");
        let outcome = stack.settle(job).await?;
        assert_eq!(outcome.status(), "failed", "{}", outcome.json);
        assert_eq!(outcome.errors(), ["worker UNREADABLE"]);
    }
    assert_eq!(stack.erp.depth("irn.poison").await?, 3);
    Ok(())
}
