//! The settlement table, row by row, between a real broker and the sandbox: what the ERP is told, and what the
//! portal was asked for it. The second half is the point: a right answer that cost a second submit is wrong.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::{self, invoice, irn};
use crate::support::proxy::TcpProxy;
use crate::support::sandbox::Calls;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(10);

/// One login, one submit, one registration: what a document costs that meets no trouble.
const PLAIN: Calls = Calls {
    logins: 1,
    generates: 1,
    lookups: 0,
    duplicates: 0,
    registrations: 1,
};

fn job(id: &str, number: &str) -> Job {
    Job::generate(id, invoice(SELLER, number))
}

/// One worker that leaves every verdict on a document to the portal.
async fn one_worker() -> Result<Stack> {
    Stack::start_with(1, without_preflight).await
}

fn without_preflight(config: WorkerConfig) -> Result<WorkerConfig> {
    config.set("validate.preflight", "off")
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_without_trouble_costs_one_login_and_one_submit() -> Result<()> {
    let stack = one_worker().await?;
    let outcome = stack.settle(job("j-1", "S/1")).await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.text("irn"), irn(SELLER, "S/1"));
    assert_eq!(stack.sandbox.calls().await?, PLAIN);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn number_registered_with_the_same_content_is_fetched_and_signed() -> Result<()> {
    let stack = one_worker().await?;
    let first = stack.settle(job("j-1", "S/2")).await?;
    let second = stack.settle(job("j-2", "S/2")).await?;
    second.assert_signed(true);
    for member in [
        "irn",
        "ack_no",
        "ack_date",
        "signed_invoice",
        "signed_qr_code",
    ] {
        assert_eq!(second.json[member], first.json[member], "{member}");
    }
    let expected = Calls {
        generates: 2,
        lookups: 1,
        duplicates: 1,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

/// A worker that died between confirm and acknowledgement has left the job in two places.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn copy_that_knows_of_no_doubt_costs_no_error_once_the_other_is_settled() -> Result<()> {
    let stack = one_worker().await?;
    let in_doubt = job("j-1", "S/9").text_header("x-irn-outcome", "unknown");
    stack.settle(in_doubt).await?.assert_signed(false);
    let before = stack.sandbox.calls().await?;
    stack.settle(job("j-1", "S/9")).await?.assert_signed(true);
    let expected = Calls {
        lookups: before.lookups + 1,
        ..before
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    assert_eq!((before.registrations, before.duplicates), (1, 0));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn number_registered_with_other_content_is_a_conflict() -> Result<()> {
    let stack = one_worker().await?;
    stack.settle(job("j-1", "S/3")).await?.assert_signed(false);
    let other = invoice::with_other_content(SELLER, "S/3");
    let outcome = stack.settle(Job::generate("j-2", other)).await?;
    assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker SIGNED_DATA_MISMATCH"]);
    assert_eq!(outcome.text("irn"), irn(SELLER, "S/3"));
    assert_eq!(outcome.json["signed_invoice"], Value::Null);
    assert_eq!(stack.sandbox.calls().await?.registrations, 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn registration_too_old_to_be_fetched_is_partial_with_its_acknowledgement() -> Result<()> {
    let stack = one_worker().await?;
    let first = stack.settle(job("j-1", "S/4")).await?;
    stack.sandbox.advance("72h").await?;
    let outcome = stack.settle(job("j-2", "S/4")).await?;
    assert_eq!(outcome.status(), "partial", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2283"]);
    for member in ["irn", "ack_no", "ack_date"] {
        assert!(outcome.json[member].is_string(), "{member}");
        assert_eq!(outcome.json[member], first.json[member], "{member}");
    }
    assert_eq!(outcome.json["signed_qr_code"], Value::Null);
    // The token had expired too: one renewal, and one submit that the gate refused.
    let expected = Calls {
        logins: 2,
        generates: 3,
        lookups: 1,
        duplicates: 1,
        registrations: 1,
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn number_of_a_cancelled_document_is_a_conflict() -> Result<()> {
    let stack = one_worker().await?;
    let cancelled = json!([{"endpoint": "generate", "kind": "error", "code": "2278",
        "message": "IRN is already generated and is cancelled"}]);
    stack.sandbox.faults(1, cancelled).await?;
    let outcome = stack.settle(job("j-1", "S/5")).await?;
    assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2278"]);
    assert_eq!(stack.sandbox.calls().await?.generates, 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn registration_that_lost_to_another_portal_is_never_signed() -> Result<()> {
    let stack = one_worker().await?;
    stack.settle(job("j-1", "S/6")).await?.assert_signed(false);
    let lost = json!({"irn": irn(SELLER, "S/6")});
    stack.sandbox.post("reject", &lost).await?;
    let outcome = stack.settle(job("j-2", "S/6")).await?;
    assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
    assert_eq!(outcome.json["signed_invoice"], Value::Null);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn number_registered_at_another_portal_is_a_conflict_with_its_irn() -> Result<()> {
    let stack = one_worker().await?;
    let elsewhere = json!({"irn": irn(SELLER, "S/7"), "irp": "IRP3"});
    stack
        .sandbox
        .post("registered-elsewhere", &elsewhere)
        .await?;
    let outcome = stack.settle(job("j-1", "S/7")).await?;
    assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2295"]);
    assert_eq!(outcome.text("irn"), irn(SELLER, "S/7"));
    let expected = Calls {
        registrations: 0,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refused_document_is_rejected_with_every_code_after_one_call() -> Result<()> {
    let stack = one_worker().await?;
    let doubly_wrong =
        invoice::wrong_total(SELLER, "S/8").replace(r#""Pin":411014"#, r#""Pin":560001"#);
    let outcome = stack.settle(Job::generate("j-1", doubly_wrong)).await?;
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    let errors = outcome.errors();
    assert!(errors.contains(&"irp 2189".to_owned()), "{errors:?}");
    assert!(errors.len() >= 2, "{errors:?}");
    assert_eq!(outcome.json["dead_lettered"], false);
    let expected = Calls {
        registrations: 0,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    assert_eq!(stack.sandbox.stats().await?.errors, 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refused_token_is_renewed_once_and_the_document_signed() -> Result<()> {
    let stack = one_worker().await?;
    stack.settle(job("j-1", "S/9")).await?.assert_signed(false);
    stack.sandbox.revoke_tokens().await?;
    let outcome = stack.settle(job("j-2", "S/10")).await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.json["attempts"], 1);
    let expected = Calls {
        logins: 2,
        generates: 3,
        registrations: 2,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn token_refused_for_ever_ends_in_a_dead_letter_and_not_in_a_login_storm() -> Result<()> {
    let stack = Stack::start_with(1, |config| config.set("retry.max_attempts", 2)).await?;
    let always = json!([{"endpoint": "generate", "kind": "revoke_token"}]);
    stack.sandbox.faults(1, always).await?;
    let outcome = stack.settle(job("j-1", "S/11")).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker SESSION_REFUSED"]);
    assert_eq!(outcome.json["dead_lettered"], true);
    let calls = stack.sandbox.calls().await?;
    assert_eq!(
        (calls.generates, calls.logins),
        (4, 4),
        "two of each an attempt"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn answer_under_a_wrong_key_is_looked_up_with_a_new_session() -> Result<()> {
    let stack = one_worker().await?;
    let once = json!([{"endpoint": "generate", "kind": "wrong_key", "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    stack.settle(job("j-1", "S/12")).await?.assert_signed(true);
    let expected = Calls {
        logins: 2,
        lookups: 1,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn answer_lost_before_registering_is_looked_up_and_only_then_sent_again() -> Result<()> {
    let stack = one_worker().await?;
    let once = json!([{"endpoint": "generate", "kind": "status", "status": 503, "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    let outcome = stack.settle(job("j-1", "S/13")).await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.json["attempts"], 2);
    let expected = Calls {
        generates: 2,
        lookups: 1,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn answer_lost_after_registering_is_recovered_without_a_second_submit() -> Result<()> {
    let stack = one_worker().await?;
    let losses = [
        json!({"kind": "drop"}),
        json!({"kind": "status", "status": 502}),
        json!({"kind": "status", "status": 504}),
        json!({"kind": "html"}),
        json!({"kind": "empty"}),
        json!({"kind": "truncated"}),
        json!({"kind": "error", "code": "5001", "message": "Application error"}),
    ];
    let number = |i: usize| format!("S/14/{i}");
    let rules: Vec<Value> = losses
        .iter()
        .enumerate()
        .map(|(i, loss)| {
            let mut rule = loss.clone();
            rule["endpoint"] = json!("generate");
            rule["when"] = json!("after");
            rule["number"] = json!(number(i));
            rule
        })
        .collect();
    stack.sandbox.faults(1, json!(rules)).await?;
    let count = losses.len();
    let jobs: Vec<Job> = (0..count)
        .map(|i| job(&format!("j-{i}"), &number(i)))
        .collect();
    stack.erp.publish(&jobs).await?;
    for (id, outcome) in stack.outcomes(count, SOON).await? {
        outcome.assert_signed(true);
        assert_eq!(outcome.json["attempts"], 2, "{id}");
    }
    let all = u64::try_from(count)?;
    let expected = Calls {
        logins: 1,
        generates: all,
        lookups: all,
        duplicates: 0,
        registrations: all,
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_that_is_not_there_yet_is_waited_for() -> Result<()> {
    let stack = Stack::start_with(0, Ok).await?;
    let address = closed_port().await?;
    let config = stack
        .config()?
        .set("irp.base_url", format!("http://{address}"))?
        .set("retry.immediate.max_elapsed", "100ms")?;
    let mut worker = config.start("worker").await?;
    stack.erp.publish(&[job("j-1", "S/15")]).await?;
    worker.until_not_ready(SOON).await?;
    let upstream = stack.sandbox.url().trim_start_matches("http://");
    let _portal = TcpProxy::at(&address, upstream).await?;
    let outcome = stack.outcome().await?;
    outcome.assert_signed(false);
    assert_eq!(stack.sandbox.calls().await?, PLAIN, "nothing was in doubt");
    Ok(())
}

/// An address of this machine at which connections are refused.
async fn closed_port() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?.to_string())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn request_to_slow_down_is_heeded_and_costs_no_look_up() -> Result<()> {
    let stack = one_worker().await?;
    let once = json!([{"endpoint": "generate", "kind": "status", "status": 429, "retry_after": 1, "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    stack.erp.publish(&[job("j-1", "S/16")]).await?;
    eventually(SOON, "the job on the rung of a second", async || {
        Ok((stack.erp.depth("irn.retry.1s").await? == 1).then_some(()))
    })
    .await?;
    let outcome = stack.outcome().await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.json["attempts"], 2);
    let expected = Calls {
        generates: 2,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn broken_signature_is_never_signed_and_keeps_the_job() -> Result<()> {
    let stack = one_worker().await?;
    let once = json!([{"endpoint": "generate", "kind": "bad_signature", "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    let outcome = stack.settle(job("j-1", "S/17")).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker BAD_SIGNATURE"]);
    assert_eq!(outcome.json["dead_lettered"], true);
    for member in ["signed_invoice", "signed_qr_code", "signature"] {
        assert_eq!(outcome.json[member], Value::Null, "{member}");
    }
    let letter = &stack.erp.take("irn.dead", 1, SOON).await?[0];
    assert_eq!(
        letter.header("x-irn-reason").as_deref(),
        Some("BAD_SIGNATURE")
    );
    assert_eq!(letter.body, invoice(SELLER, "S/17").as_bytes());
    // It is registered, so a replay has to look before it sends.
    assert_eq!(letter.header("x-irn-outcome").as_deref(), Some("unknown"));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn signature_under_a_key_nobody_knows_is_delivered_and_said_so() -> Result<()> {
    let mut stack = one_worker().await?;
    let once = json!([{"endpoint": "generate", "kind": "wrong_signing_key", "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    let outcome = stack.settle(job("j-1", "S/18")).await?;
    assert_eq!(outcome.status(), "signed", "{}", outcome.json);
    assert_eq!(outcome.text("signature"), "unknown_key");
    assert!(!outcome.text("signed_qr_code").is_empty());
    let worker = stack.worker()?;
    assert_eq!(
        worker
            .metric("irn_worker_signature_total", "unknown_key")
            .await?,
        1.0
    );
    assert!(
        worker
            .log()
            .iter()
            .any(|line| line.contains("irp.signing_keys")),
        "no alarm"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn signed_data_of_another_document_is_never_signed() -> Result<()> {
    let stack = one_worker().await?;
    let once = json!([{"endpoint": "generate", "kind": "mismatch", "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    let outcome = stack.settle(job("j-1", "S/19")).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker SIGNED_DATA_MISMATCH"]);
    assert_eq!(outcome.json["signed_invoice"], Value::Null);
    assert_eq!(stack.erp.take("irn.dead", 1, SOON).await?.len(), 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn used_up_retries_leave_a_dead_letter_that_says_what_is_known() -> Result<()> {
    let stack = Stack::start_with(1, |config| config.set("retry.max_attempts", 3)).await?;
    let always = json!([{"endpoint": "generate", "kind": "drop"}]);
    stack.sandbox.faults(1, always).await?;
    let published = job("j-1", "S/20")
        .correlation_id("c-1")
        .text_header("traceparent", "00-1-2-01");
    let outcome = stack.settle(published).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker RETRIES_EXHAUSTED"]);
    assert_eq!(
        (&outcome.json["dead_lettered"], &outcome.json["attempts"]),
        (&json!(true), &json!(3))
    );
    let letter = &stack.erp.take("irn.dead", 1, SOON).await?[0];
    let header = |name: &str| letter.header(name).unwrap_or_default();
    assert_eq!(header("x-irn-reason"), "RETRIES_EXHAUSTED");
    assert_eq!(header("x-irn-outcome"), "unknown");
    assert_eq!(header("x-irn-attempt"), "3");
    assert_eq!(header("x-irn-gstin"), SELLER);
    assert_eq!(header("x-irn-document"), "INV S/20 05/09/2025");
    assert_eq!(header("traceparent"), "00-1-2-01");
    for name in ["x-irn-first-seen", "x-irn-dead-at"] {
        assert!(
            header(name).parse::<jiff::Timestamp>().is_ok(),
            "{name}: {}",
            header(name)
        );
    }
    for name in ["x-irn-replica", "x-irn-error"] {
        assert!(!header(name).is_empty(), "{name}");
    }
    assert_eq!(
        (letter.correlation_id(), letter.body.as_slice()),
        ("c-1", invoice(SELLER, "S/20").as_bytes())
    );
    // Each submit after the first had a look before it.
    let expected = Calls {
        generates: 3,
        lookups: 2,
        registrations: 0,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn dead_letter_of_a_login_that_failed_says_that_nothing_was_sent() -> Result<()> {
    let stack = Stack::start_with(1, |config| {
        config
            .set("retry.max_attempts", 1)?
            .set("dead_letter.payload", "drop")
    })
    .await?;
    let once = json!([{"endpoint": "auth", "kind": "status", "status": 503, "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    let named = job("j-1", "S/21").text_header("x-customer", "Sample");
    let outcome = stack.settle(named).await?;
    assert_eq!(outcome.errors(), ["worker RETRIES_EXHAUSTED"]);
    assert_eq!(outcome.json["dead_lettered"], false, "nobody can replay it");
    let said = outcome.json["errors"][0]["message"].as_str();
    assert!(
        said.is_some_and(|said| said.ends_with("publish the job again")),
        "{said:?}"
    );
    let letter = &stack.erp.take("irn.dead", 1, SOON).await?[0];
    assert_eq!(
        letter.header("x-customer"),
        None,
        "it may tell of the document"
    );
    assert_eq!(letter.header("x-irn-outcome").as_deref(), Some("not_sent"));
    assert_eq!(
        letter.header("x-irn-document").as_deref(),
        Some("INV S/21 05/09/2025")
    );
    assert!(letter.body.is_empty(), "the payload was to be dropped");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn code_nobody_has_classified_is_kept_for_a_person() -> Result<()> {
    let stack = one_worker().await?;
    stack.sandbox.faults(1, unheard_of()).await?;
    let outcome = stack.settle(job("j-1", "S/22")).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker UNKNOWN_CODE", "irp 4711"]);
    let said = outcome.json["errors"][0]["message"].as_str();
    let said = said.context("an error without a message")?;
    assert!(
        said.ends_with(
            "it is not known whether the portal registered the document; a replay looks first"
        ),
        "{said}"
    );
    assert_eq!(outcome.json["dead_lettered"], true);
    let letter = &stack.erp.take("irn.dead", 1, SOON).await?[0];
    assert_eq!(
        letter.header("x-irn-reason").as_deref(),
        Some("UNKNOWN_CODE")
    );
    assert_eq!(letter.header("x-irn-error").as_deref(), Some("4711"));
    assert_eq!(stack.sandbox.calls().await?.generates, 1);
    Ok(())
}

/// Answered so: the errors have been lost on the way.
fn no_reason(endpoint: &str, when: &str) -> Value {
    json!([{"endpoint": endpoint, "kind": "no_reason", "when": when}])
}

fn soon_settled(config: WorkerConfig) -> Result<WorkerConfig> {
    config
        .set("irp.settle_time", "1s")?
        .set("retry.max_attempts", 3)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_refused_without_a_reason_is_looked_up_once_and_never_sent_again() -> Result<()> {
    let mut stack = Stack::start_with(1, soon_settled).await?;
    stack
        .sandbox
        .faults(1, no_reason("generate", "before"))
        .await?;
    let outcome = stack.settle(job("j-1", "S/40")).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker UNINTELLIGIBLE"]);
    let stats = stack.sandbox.stats().await?;
    let expected = Calls {
        lookups: 1,
        registrations: 0,
        ..PLAIN
    };
    assert_eq!(stats.calls(), expected);
    let letter = &stack.erp.take("irn.dead", 1, SOON).await?[0];
    for (header, value) in [
        ("x-irn-reason", "UNINTELLIGIBLE"),
        ("x-irn-error", "unexplained"),
        ("x-irn-outcome", "unknown"),
    ] {
        assert_eq!(letter.header(header).as_deref(), Some(value), "{header}");
    }
    let worker = stack.worker()?;
    let used = worker
        .metric("irn_worker_error_budget_used_ratio", SELLER)
        .await?;
    assert!(used > 0.0, "refused twice at the taxpayer's cost: {used}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_that_was_registered_in_spite_of_such_a_refusal_is_recovered() -> Result<()> {
    let stack = Stack::start_with(1, soon_settled).await?;
    stack
        .sandbox
        .faults(1, no_reason("generate", "after"))
        .await?;
    let outcome = stack.settle(job("j-1", "S/41")).await?;
    outcome.assert_signed(true);
    let expected = Calls {
        lookups: 1,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn questions_refused_without_a_reason_hold_up_no_other_gstin() -> Result<()> {
    let mut stack = Stack::start_with(1, soon_settled).await?;
    let of_one = json!([{"endpoint": "get_by_irn", "gstin": SELLER, "kind": "no_reason"}]);
    stack.sandbox.faults(1, of_one).await?;
    let questions: Vec<Job> = (0..6)
        .map(|i| {
            let irn = irn(SELLER, &format!("S/42/{i}"));
            Job::get(&format!("f-{i}"), SELLER, &irn)
        })
        .collect();
    stack.erp.publish(&questions).await?;
    for outcome in stack.outcomes(6, SOON).await?.values() {
        assert_eq!(outcome.errors(), ["worker RETRIES_EXHAUSTED"]);
    }
    let asked = stack.sandbox.stats().await?.requests("get_by_irn");
    assert_eq!(asked, 18, "once in each of three attempts");
    let worker = stack.worker()?;
    let state = worker
        .metric("irn_worker_breaker_state", r#"scope="core""#)
        .await?;
    assert_eq!(state, 0.0);
    let other = Job::generate("g-1", invoice(GSTINS[1], "S/42"));
    stack.settle(other).await?.assert_signed(false);
    Ok(())
}

/// `rules` and `shapes` at once.
async fn duplicate_told(stack: &Stack, status: &str) -> Result<()> {
    let rules = json!([{"endpoint": "generate", "kind": "error", "code": "2150",
        "message": "Duplicate IRN"}]);
    let shapes = json!({"irn_status": status});
    let faults = json!({"rules": rules, "shapes": shapes});
    stack.sandbox.post("faults", &faults).await.map(drop)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn qr_code_of_a_cancelled_invoice_is_not_handed_out_in_whatever_word_it_is_told() -> Result<()>
{
    let stack = one_worker().await?;
    for (i, status) in ["code", "small", "word"].into_iter().enumerate() {
        let number = format!("S/43/{i}");
        let first = stack.settle(job(&format!("a-{i}"), &number)).await?;
        first.assert_signed(false);
        duplicate_told(&stack, status).await?;
        let again = stack.settle(job(&format!("b-{i}"), &number)).await?;
        again.assert_signed(true);
        assert_eq!(again.text("irn_status"), "ACT", "{status}");
        let cancelled = json!({"irn": irn(SELLER, &number)});
        stack.sandbox.post("cancel", &cancelled).await?;
        let outcome = stack.settle(job(&format!("c-{i}"), &number)).await?;
        assert_eq!(outcome.status(), "conflict", "{status}: {}", outcome.json);
        assert_eq!(outcome.errors(), ["irp 2278"], "{status}");
        assert_eq!(outcome.json["signed_qr_code"], Value::Null, "{status}");
        stack.sandbox.clear_faults().await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn registration_of_before_whose_status_nobody_knows_is_kept_for_a_person() -> Result<()> {
    let stack = one_worker().await?;
    stack.settle(job("a", "S/44")).await?.assert_signed(false);
    duplicate_told(&stack, "unknown").await?;
    let outcome = stack.settle(job("b", "S/44")).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker UNINTELLIGIBLE"]);
    assert_eq!(outcome.json["signed_qr_code"], Value::Null);
    assert_eq!(outcome.json["dead_lettered"], true);
    // Who asks what has become of it is told.
    let found = stack
        .settle(Job::get("f", SELLER, &irn(SELLER, "S/44")))
        .await?;
    assert_eq!(found.status(), "found", "{}", found.json);
    assert_eq!(found.text("irn_status"), "XYZ");
    Ok(())
}

fn unheard_of() -> Value {
    json!([{"endpoint": "generate", "kind": "error", "code": "4711", "message": "News", "times": 1}])
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn operators_meaning_of_an_unknown_code_decides() -> Result<()> {
    for (meaning, status, generates) in [("reject", "rejected", 1), ("retry", "signed", 2)] {
        let codes: toml::Table = toml::from_str(&format!("4711 = \"{meaning}\""))?;
        let stack =
            Stack::start_with(1, |config| config.set("irp.unknown_codes", codes.clone())).await?;
        stack.sandbox.faults(1, unheard_of()).await?;
        let outcome = stack.settle(job("j-1", "S/23")).await?;
        assert_eq!(outcome.status(), status, "{meaning}: {}", outcome.json);
        assert_eq!(
            stack.sandbox.calls().await?.generates,
            generates,
            "{meaning}"
        );
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn redelivered_job_is_not_submitted_before_the_settle_time() -> Result<()> {
    const SETTLE: Duration = Duration::from_secs(1);
    let stack = Stack::start_with(0, Ok).await?;
    stack.publish_redelivered(job("j-1", "S/24")).await?;
    let look_up = json!([{"endpoint": "get_by_doc", "kind": "hold", "times": 1}]);
    stack.sandbox.faults(1, look_up).await?;
    let _worker = stack
        .config()?
        .set("irp.settle_time", "1s")?
        .start("worker")
        .await?;
    stack.sandbox.until_held(1, SOON).await?;
    assert_eq!(
        stack.sandbox.calls().await?.generates,
        0,
        "submitted without a look"
    );
    stack.sandbox.release().await?;
    // The rung's time began before the release was answered; a tenth is left for that.
    let released = Instant::now();
    loop {
        let calls = stack.sandbox.calls().await?;
        if released.elapsed() >= SETTLE * 9 / 10 {
            break;
        }
        assert_eq!(
            calls.generates,
            0,
            "submitted {:?} after the look",
            released.elapsed()
        );
    }
    let outcome = stack.outcome().await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.json["attempts"], 1, "a redelivery is no attempt");
    let expected = Calls {
        lookups: 2,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn redelivered_job_that_was_registered_is_found_and_not_sent() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    stack.settle(job("j-1", "S/25")).await?.assert_signed(false);
    let before = stack.sandbox.calls().await?;
    stack.worker()?.terminate(SOON).await?;
    stack.publish_redelivered(job("j-1", "S/25")).await?;
    let _worker = stack.config()?.start("worker 2").await?;
    stack.outcome().await?.assert_signed(true);
    let after = stack.sandbox.calls().await?;
    assert_eq!(
        (after.generates, after.lookups),
        (before.generates, before.lookups + 1)
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_that_is_still_at_work_on_a_timed_out_request_is_not_asked_twice() -> Result<()> {
    let patient = |config: WorkerConfig| {
        config
            .set("irp.connect_timeout", "200ms")?
            .set("irp.request_timeout", "400ms")?
            .set("irp.settle_time", "1s")
    };
    let stack = Stack::start_with(1, patient).await?;
    let hold = json!([{"endpoint": "generate", "kind": "hold", "times": 1}]);
    stack.sandbox.faults(1, hold).await?;
    stack.erp.publish(&[job("j-1", "S/26")]).await?;
    stack.sandbox.until_held(1, SOON).await?;
    eventually(SOON, "the job on the rung of the settle time", async || {
        Ok((stack.erp.depth("irn.retry.1s").await? == 1).then_some(()))
    })
    .await?;
    assert_eq!(
        stack.sandbox.calls().await?.lookups,
        0,
        "looked too early to prove anything"
    );
    stack.sandbox.release().await?;
    stack.outcome().await?.assert_signed(true);
    let expected = Calls {
        lookups: 1,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn twins_under_way_at_once_are_registered_once_and_both_answered() -> Result<()> {
    let stack = one_worker().await?;
    let hold = json!([{"endpoint": "generate", "kind": "hold", "times": 1}]);
    stack.sandbox.faults(1, hold).await?;
    stack
        .erp
        .publish(&[job("j-1", "S/27"), job("j-2", "S/27")])
        .await?;
    stack.sandbox.until_held(1, SOON).await?;
    eventually(SOON, "the twin on a rung", async || {
        Ok((stack.erp.depth("irn.retry.500ms").await? == 1).then_some(()))
    })
    .await?;
    stack.sandbox.release().await?;
    let outcomes = stack.outcomes(2, SOON).await?;
    for outcome in outcomes.values() {
        assert_eq!(outcome.status(), "signed", "{}", outcome.json);
        assert_eq!(
            outcome.json["attempts"], 1,
            "waiting for a twin is no attempt"
        );
    }
    let expected = Calls {
        lookups: 1,
        ..PLAIN
    };
    assert_eq!(stack.sandbox.calls().await?, expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_registered_for_the_seller_by_an_operator_is_recovered_too() -> Result<()> {
    let stack = one_worker().await?;
    let operator = GSTINS[1];
    let lost = json!([{"endpoint": "generate", "kind": "drop", "when": "after", "times": 1}]);
    stack.sandbox.faults(1, lost).await?;
    let document = invoice::sold_through(operator, SELLER, "S/28");
    let published = Job::generate("j-1", document).text_header("x-irn-gstin", operator);
    let outcome = stack.settle(published).await?;
    outcome.assert_signed(true);
    assert_eq!(outcome.text("gstin"), operator);
    let stats = stack.sandbox.stats().await?;
    assert_eq!(
        (
            stats.of(operator).authentications,
            stats.of(SELLER).authentications
        ),
        (1, 0)
    );
    let expected = Calls {
        lookups: 1,
        ..PLAIN
    };
    assert_eq!(stats.calls(), expected);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn every_shape_the_portal_answers_in_is_understood() -> Result<()> {
    let stack = one_worker().await?;
    let shapes = [
        json!({}),
        json!({"status": "string"}),
        json!({"ack_no": "string"}),
        json!({"extra_members": true}),
        json!({"error_details": "object"}),
        json!({"error_details": "json_string"}),
        json!({"error_details": "base64"}),
        json!({"error_details": "plain"}),
        json!({"error_details": "null"}),
        json!({"error_code": "number"}),
        json!({"info_dtls": "object"}),
        json!({"info_dtls": "string"}),
        json!({"info_dtls": "null"}),
        json!({"info_dtls": "absent"}),
        json!({"info_desc": "json_string"}),
        json!({"info_other_first": true}),
        json!({"auth_data": "json_string"}),
        json!({"status": "string", "ack_no": "string", "error_details": "base64", "error_code": "number",
            "info_dtls": "string", "info_desc": "json_string", "info_other_first": true, "extra_members": true}),
    ];
    for (i, shape) in shapes.iter().enumerate() {
        stack.sandbox.shapes(shape.clone()).await?;
        if shape.get("auth_data").is_some() {
            stack.sandbox.revoke_tokens().await?;
        }
        let number = format!("S/29/{i}");
        // Success in this shape, then the refusal of a duplicate.
        let fresh = stack.settle(job(&format!("a-{i}"), &number)).await?;
        let again = stack.settle(job(&format!("b-{i}"), &number)).await?;
        for (outcome, recovered) in [(&fresh, false), (&again, true)] {
            assert_eq!(outcome.status(), "signed", "{shape}: {}", outcome.json);
            assert_eq!(outcome.json["recovered"], recovered, "{shape}");
        }
        assert_eq!(again.json["ack_no"], fresh.json["ack_no"], "{shape}");
        assert!(
            fresh.json["ack_no"].is_string(),
            "{shape}: {}",
            fresh.json["ack_no"]
        );
    }
    let calls = stack.sandbox.calls().await?;
    assert_eq!(calls.registrations, u64::try_from(shapes.len())?);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_of_a_gstin_without_credentials_costs_no_call() -> Result<()> {
    let stack = one_worker().await?;
    let stranger = "29AAGCB7383J1Z4";
    let outcome = stack
        .settle(Job::generate("j-1", invoice(stranger, "S/30")))
        .await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker NO_CREDENTIALS"]);
    assert_eq!(stack.sandbox.calls().await?, Calls::default());
    Ok(())
}
