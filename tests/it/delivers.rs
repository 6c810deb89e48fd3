//! What an ERP may rely on: bytes arrive as they were sent, results come back where they were asked for, in the
//! shape of the contract.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use lapin::types::AMQPValue;
use serde_json::{Value, json};

use crate::support::amqp::{Job, Message};
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::{self, hex, invoice, irn, odd_but_valid};
use crate::support::outcome::Outcome;
use crate::support::sandbox::Calls;
use crate::support::stack::Stack;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(10);

/// `message_id` of a result (contract: repeated results are recognisable by it).
fn result_id(job_id: &str, status: &str, irn: &str) -> String {
    let text = format!("{job_id}|{status}|{irn}");
    hex(digest(&SHA256, text.as_bytes()).as_ref())[..32].to_owned()
}

async fn outcome_on(stack: &Stack, queue: &str) -> Result<Outcome> {
    let message = stack.erp.take(queue, 1, SOON).await?.pop();
    Outcome::read(message.context("one was taken")?)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_receives_the_very_bytes_of_the_message() -> Result<()> {
    let stack = Stack::start(1).await?;
    let plain = invoice(SELLER, "B/1");
    let variants = [
        ("B/1", plain),
        ("B/2", odd_but_valid(SELLER, "B/2")),
        ("B/3", format!("\r\n\t {}\n\n", invoice(SELLER, "B/3"))),
        ("B/4", invoice(SELLER, "B/4").replace('\n', "\r\n")),
        (
            "B/5",
            invoice(SELLER, "B/5").replace(r#""Qty":2,"#, r#""Qty":2.000,"#),
        ),
        (
            "B/6",
            invoice(SELLER, "B/6")
                .replace("Demo Market", r"D\u00e9mo \/ M\u0061rket \ud83d\ude9a é 🚚"),
        ),
        (
            "B/7",
            invoice(SELLER, "B/7").replace(r#""UnitPrice":150,"#, r#""UnitPrice":1.5e2,"#),
        ),
    ];
    for (number, document) in &variants {
        let outcome = stack
            .settle(Job::generate(number, document.as_str()))
            .await?;
        outcome.assert_signed(false);
        let received = stack.sandbox.received(outcome.text("irn")).await?;
        assert_eq!(String::from_utf8_lossy(&received), *document, "{number}");
    }
    let (_, odd) = &variants[1];
    for needle in ["21851.00 ", "20500.50,\r\n", "xErpOnly", "₹", r"\u0905"] {
        assert!(odd.contains(needle), "the odd document lacks {needle:?}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_after_a_lost_answer_is_sent_in_the_same_bytes_again() -> Result<()> {
    let stack = Stack::start(1).await?;
    let once = json!([{"endpoint": "generate", "kind": "drop", "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    let document = odd_but_valid(SELLER, "B/8");
    let outcome = stack
        .settle(Job::generate("j-1", document.as_str()))
        .await?;
    outcome.assert_signed(false);
    assert_eq!(
        stack.sandbox.received(outcome.text("irn")).await?,
        document.as_bytes()
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn result_has_every_member_and_property_of_the_contract() -> Result<()> {
    let stack = Stack::start(1).await?;
    let published = Timestamp::now().as_second();
    let job = Job::generate("job-7", invoice(SELLER, "R/1"))
        .correlation_id("corr-7")
        .content_type("application/json; charset=utf-8")
        .kind("irn.generate.v1")
        .timestamp(u64::try_from(published)? - 60);
    let outcome = stack.settle(job).await?;
    let irn = irn(SELLER, "R/1");
    let expected = json!({
        "version": 1, "job_id": "job-7", "operation": "generate", "status": "signed", "gstin": SELLER,
        "document": {"type": "INV", "number": "R/1", "date": "05/09/2025"},
        "irn": irn, "irn_status": "ACT", "signature": "verified", "recovered": false, "eway_bill": null,
        "info": [], "errors": [], "attempts": 1, "dead_lettered": false,
    });
    let mut rest = outcome.json.clone();
    let members = rest.as_object_mut().context("a result is an object")?;
    for (name, value) in expected.as_object().context("it was just written")? {
        assert_eq!(members.remove(name).as_ref(), Some(value), "{name}");
    }
    let ack_no = members.remove("ack_no").unwrap_or_default();
    let digits = ack_no.as_str().context("ack_no is text")?;
    assert!(
        digits.len() == 15 && digits.bytes().all(|b| b.is_ascii_digit()),
        "{digits}"
    );
    let ack_date = members.remove("ack_date").unwrap_or_default();
    let ack_date = ack_date.as_str().context("ack_date is text")?;
    assert!(
        ack_date.ends_with("+05:30") && ack_date.parse::<Timestamp>().is_ok(),
        "{ack_date}"
    );
    for name in ["signed_invoice", "signed_qr_code"] {
        let token = members.remove(name).unwrap_or_default();
        assert_eq!(
            token.as_str().map(|token| token.split('.').count()),
            Some(3),
            "{name}"
        );
    }
    let timing = members.remove("timing_ms").unwrap_or_default();
    assert!(timing["queued"].as_u64() >= Some(59_000), "{timing}");
    for name in ["irp", "total"] {
        assert!(timing[name].is_u64(), "{timing}");
    }
    assert!(
        members.is_empty(),
        "members the contract does not name: {members:?}"
    );

    let properties = &outcome.message.properties;
    let shown = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    assert_eq!(shown(properties.kind()).as_deref(), Some("irn.result.v1"));
    assert_eq!(
        shown(properties.content_type()).as_deref(),
        Some("application/json")
    );
    assert_eq!(shown(properties.app_id()).as_deref(), Some("irn-worker"));
    assert_eq!(
        shown(properties.correlation_id()).as_deref(),
        Some("corr-7")
    );
    assert_eq!(
        shown(properties.message_id()),
        Some(result_id("job-7", "signed", &irn))
    );
    assert_eq!(
        *properties.delivery_mode(),
        Some(2),
        "a result is persistent"
    );
    assert_eq!(
        outcome.message.header("x-irn-status").as_deref(),
        Some("signed")
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn result_goes_to_the_reply_queue_with_correlation_batch_and_trace() -> Result<()> {
    let stack = Stack::start(1).await?;
    stack.erp.declare("erp.mine").await?;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let job = Job::generate("j-1", invoice(SELLER, "R/2"))
        .reply_to("erp.mine")
        .correlation_id("order 42 / नमस्ते")
        .text_header("x-irn-batch-id", "batch-9")
        .header("x-irn-batch-seq", AMQPValue::LongInt(3))
        .header("x-irn-batch-size", AMQPValue::LongLongInt(12))
        .text_header("traceparent", traceparent)
        .text_header("tracestate", "erp=1");
    stack.erp.publish(&[job]).await?;
    let outcome = outcome_on(&stack, "erp.mine").await?;
    outcome.assert_signed(false);
    let message: &Message = &outcome.message;
    assert_eq!(message.correlation_id(), "order 42 / नमस्ते");
    for (name, value) in [
        ("x-irn-batch-id", "batch-9"),
        ("x-irn-batch-seq", "3"),
        ("x-irn-batch-size", "12"),
        ("traceparent", traceparent),
        ("tracestate", "erp=1"),
    ] {
        assert_eq!(message.header(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(message.header("x-irn-undeliverable-to"), None);
    assert_eq!(stack.erp.depth("irn.results").await?, 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn result_of_a_reply_queue_deleted_meanwhile_is_kept_and_marked() -> Result<()> {
    let stack = Stack::start(1).await?;
    stack.erp.declare("erp.gone").await?;
    let hold = json!([{"endpoint": "generate", "kind": "hold", "times": 1}]);
    stack.sandbox.faults(1, hold).await?;
    let job = Job::generate("j-1", invoice(SELLER, "R/3"))
        .reply_to("erp.gone")
        .correlation_id("c-3");
    stack.erp.publish(&[job]).await?;
    stack.sandbox.until_held(1, SOON).await?;
    stack.broker.delete_queue("erp.gone").await?;
    stack.sandbox.release().await?;
    let outcome = stack.outcome().await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.message.correlation_id(), "c-3");
    assert_eq!(
        outcome.message.header("x-irn-undeliverable-to").as_deref(),
        Some("erp.gone")
    );
    assert_eq!(stack.sandbox.calls().await?.generates, 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn results_that_come_back_are_told_from_those_published_with_them() -> Result<()> {
    const EACH: usize = 600;
    let stack = Stack::start_with(1, |config| config.set("irp.concurrency", 64)).await?;
    stack.erp.declare("erp.here").await?;
    let jobs: Vec<Job> = (0..EACH)
        .flat_map(|number| {
            let job = |kind: &str| {
                let id = format!("{kind}/{number}");
                Job::generate(&id, invoice(GSTINS[number % GSTINS.len()], &id))
            };
            [
                job("GONE").reply_to("erp.gone"),
                job("HERE").reply_to("erp.here"),
                job("OWN"),
            ]
        })
        .collect();
    stack.erp.publish(&jobs).await?;
    let mut came = BTreeMap::new();
    for (queue, count) in [("irn.results", 2 * EACH), ("erp.here", EACH)] {
        for message in stack.erp.take(queue, count, 6 * SOON).await? {
            let id = Outcome::read(message.clone())?.text("job_id").to_owned();
            let undeliverable = message.header("x-irn-undeliverable-to");
            let again = came.insert(id.clone(), (queue, undeliverable));
            assert_eq!(again, None, "{id} has two results");
        }
    }
    for (id, (queue, undeliverable)) in came {
        let wanted = match id.split('/').next() {
            Some("GONE") => ("irn.results", Some("erp.gone")),
            Some("HERE") => ("erp.here", None),
            _ => ("irn.results", None),
        };
        assert_eq!((queue, undeliverable.as_deref()), wanted, "{id}");
    }
    assert_eq!(stack.erp.depth("irn.results").await?, 0);
    assert_eq!(stack.erp.depth("erp.here").await?, 0);
    assert_eq!(stack.sandbox.calls().await?.generates, 3 * EACH as u64);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn reply_queue_that_is_not_allowed_is_never_written_to() -> Result<()> {
    let stack = Stack::start(1).await?;
    stack.erp.declare("payroll").await?;
    for (id, queue) in [("j-1", "payroll"), ("j-2", "irn.jobs")] {
        let job = Job::generate(id, invoice(SELLER, "R/4"))
            .reply_to(queue)
            .correlation_id("c-4");
        let outcome = stack.settle(job).await?;
        assert_eq!(outcome.status(), "failed", "{}", outcome.json);
        assert_eq!(outcome.errors(), ["worker NOT_PERMITTED"]);
        assert_eq!(outcome.message.correlation_id(), "c-4");
        let letter = &stack.erp.take("irn.dead", 1, SOON).await?[0];
        assert_eq!(
            letter.header("x-irn-reason").as_deref(),
            Some("NOT_PERMITTED")
        );
    }
    assert_eq!(stack.erp.depth("payroll").await?, 0);
    assert_eq!(stack.sandbox.calls().await?, Calls::default());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn direct_reply_to_is_refused_whatever_is_allowed_and_the_result_is_kept() -> Result<()> {
    let stack = Stack::start_with(1, |config| {
        config.set("replies.allow", vec!["irn.results", "amq.*"])
    })
    .await?;
    let job = Job::generate("j-1", invoice(SELLER, "R/5")).reply_to("amq.rabbitmq.reply-to.g1h2");
    let outcome = stack.settle(job).await?;
    assert_eq!(outcome.errors(), ["worker NOT_PERMITTED"]);
    let said = outcome.json["errors"][0]["message"].as_str();
    assert!(
        said.is_some_and(|said| said.contains("direct reply-to")),
        "{said:?}"
    );
    assert_eq!(outcome.message.header("x-irn-undeliverable-to"), None);
    assert_eq!(stack.sandbox.calls().await?, Calls::default());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_without_an_id_goes_by_its_irn() -> Result<()> {
    let stack = Stack::start(1).await?;
    let outcome = stack
        .settle(Job::new("generate", invoice(SELLER, "R/5")))
        .await?;
    let irn = irn(SELLER, "R/5");
    assert_eq!(outcome.text("job_id"), irn);
    assert_eq!(outcome.message.correlation_id(), irn);
    let id = outcome
        .message
        .properties
        .message_id()
        .as_ref()
        .map(ToString::to_string);
    assert_eq!(id, Some(result_id(&irn, "signed", &irn)));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn batch_is_answered_document_by_document() -> Result<()> {
    let stack = Stack::start(1).await?;
    let documents = [
        odd_but_valid(SELLER, "BA/1"),
        invoice::wrong_total(GSTINS[1], "BA/2"),
        invoice(GSTINS[2], "BA/3"),
    ];
    let body = format!(
        "[ {}\n,{},\r\n{}]",
        documents[0].trim(),
        documents[1],
        documents[2]
    );
    let batch = Job::generate("batch-1", body)
        .correlation_id("c-b")
        .text_header("traceparent", "00-b");
    stack.erp.publish(&[batch]).await?;
    let outcomes = stack.outcomes(3, SOON).await?;
    let statuses: Vec<&str> = outcomes.values().map(Outcome::status).collect();
    assert_eq!(statuses, ["signed", "rejected", "signed"]);
    for ((id, outcome), sequence) in outcomes.iter().zip(1..) {
        assert_eq!(*id, format!("batch-1/{sequence}"));
        assert_eq!(outcome.text("job_id"), *id);
        let message = &outcome.message;
        assert_eq!(message.correlation_id(), "c-b");
        for (name, value) in [
            ("x-irn-batch-id", "batch-1".to_owned()),
            ("x-irn-batch-seq", sequence.to_string()),
            ("x-irn-batch-size", "3".to_owned()),
            ("traceparent", "00-b".to_owned()),
        ] {
            assert_eq!(message.header(name), Some(value), "{name} of {id}");
        }
    }
    let first = outcomes["batch-1/1"].text("irn").to_owned();
    let received = stack.sandbox.received(&first).await?;
    assert_eq!(String::from_utf8_lossy(&received), documents[0].trim());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn urgent_job_overtakes_those_that_wait() -> Result<()> {
    let stack = Stack::start_with(0, Ok).await?;
    let config = stack
        .config()?
        .set("irp.concurrency", 1)?
        .set("broker.prefetch", 1)?;
    let applied = config.output("topology", &["apply"]).await?;
    assert!(applied.status.success(), "{applied:?}");
    let mut jobs: Vec<Job> = (1..=8)
        .map(|i| Job::generate(&format!("plain-{i}"), invoice(SELLER, &format!("U/{i}"))))
        .collect();
    jobs.push(Job::new("urgent.generate", invoice(SELLER, "U/9")).id("urgent"));
    stack.erp.publish(&jobs).await?;
    let _worker = config.start("worker").await?;
    let order: Vec<String> = stack
        .results(9, SOON)
        .await?
        .into_iter()
        .map(|message| Outcome::read(message).map(|outcome| outcome.text("job_id").to_owned()))
        .collect::<Result<_>>()?;
    let place = order.iter().position(|id| id == "urgent");
    assert!(place <= Some(1), "{order:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn urgent_job_that_had_to_wait_returns_to_the_urgent_lane() -> Result<()> {
    let mut stack = Stack::start_with(1, |config| config.set("retry.delays", vec!["1s"])).await?;
    let once = json!([{"endpoint": "generate", "kind": "drop", "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    stack
        .erp
        .publish(&[Job::new("urgent.generate", invoice(SELLER, "U/10")).id("j-1")])
        .await?;
    eventually(SOON, "the job on the ladder", async || {
        Ok((stack.erp.depth("irn.retry.1s").await? == 1).then_some(()))
    })
    .await?;
    stack.worker()?.terminate(SOON).await?;
    let again = stack.erp.take("irn.jobs.urgent", 1, SOON).await?;
    assert_eq!(again[0].body, invoice(SELLER, "U/10").as_bytes());
    assert_eq!(again[0].header("x-irn-outcome").as_deref(), Some("unknown"));
    assert_eq!(again[0].header("x-irn-attempt").as_deref(), Some("2"));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_past_its_deadline_expires_without_a_submit() -> Result<()> {
    let stack = Stack::start(1).await?;
    let past = (Timestamp::now() - SignedDuration::from_mins(1)).to_string();
    let late = Job::generate("late", invoice(SELLER, "D/1")).text_header("x-irn-deadline", &past);
    let outcome = stack.settle(late).await?;
    assert_eq!(outcome.status(), "expired", "{}", outcome.json);
    assert_eq!(
        outcome.message.header("x-irn-status").as_deref(),
        Some("expired")
    );
    assert_eq!(stack.sandbox.calls().await?.generates, 0);

    let future = (Timestamp::now() + SignedDuration::from_mins(5)).to_string();
    let timely =
        Job::generate("timely", invoice(SELLER, "D/2")).text_header("x-irn-deadline", &future);
    stack.settle(timely).await?.assert_signed(false);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_in_doubt_past_its_deadline_is_looked_up_before_it_expires() -> Result<()> {
    let stack = Stack::start(1).await?;
    stack
        .settle(Job::generate("first", invoice(SELLER, "D/3")))
        .await?
        .assert_signed(false);
    let past = (Timestamp::now() - SignedDuration::from_mins(1)).to_string();
    let doubtful = |id: &str, number: &str| {
        Job::generate(id, invoice(SELLER, number))
            .text_header("x-irn-deadline", &past)
            .text_header("x-irn-outcome", "unknown")
    };
    stack
        .settle(doubtful("registered", "D/3"))
        .await?
        .assert_signed(true);
    assert_eq!(
        stack.settle(doubtful("not", "D/4")).await?.status(),
        "expired"
    );
    assert_eq!(stack.sandbox.calls().await?.generates, 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn eway_bill_comes_with_the_result_and_its_refusal_as_information() -> Result<()> {
    let stack = Stack::start(1).await?;
    let road = r#""TransMode":"1","VehNo":"KA01AB1234","VehType":"R","#;
    let issued = invoice::with_eway_bill(SELLER, "E/1", &format!(r#"{road}"Distance":120"#));
    let outcome = stack.settle(Job::generate("j-1", issued)).await?;
    outcome.assert_signed(false);
    let bill = &outcome.json["eway_bill"];
    assert!(bill["EwbNo"].is_number(), "as the portal sent it: {bill}");
    assert!(
        bill["EwbDt"].is_string() && bill["EwbValidTill"].is_string(),
        "{bill}"
    );
    assert_eq!(outcome.json["info"], json!([]));

    let measured = invoice::with_eway_bill(SELLER, "E/2", &format!(r#"{road}"Distance":0"#));
    let outcome = stack.settle(Job::generate("j-2", measured)).await?;
    outcome.assert_signed(false);
    assert_eq!(
        outcome.json["info"][0]["code"], "EWBPPD",
        "{}",
        outcome.json
    );

    let refused = invoice::with_eway_bill(SELLER, "E/3", r#""TransMode":"1","Distance":120"#);
    let outcome = stack.settle(Job::generate("j-3", refused)).await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.json["eway_bill"], Value::Null);
    assert_eq!(outcome.json["info"][0]["code"], "EWBERR");
    let detail = outcome.json["info"][0]["detail"]
        .as_str()
        .unwrap_or_default();
    assert!(detail.contains("4011"), "{detail}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn mistyped_routing_key_loses_nothing() -> Result<()> {
    let stack = Stack::start(1).await?;
    let document = odd_but_valid(SELLER, "P/1");
    stack
        .erp
        .publish(&[Job::new("genrate", document.as_str()).id("j-1")])
        .await?;
    let kept = &stack.erp.take("irn.poison", 1, SOON).await?[0];
    assert_eq!(kept.body, document.as_bytes());
    assert_eq!(stack.sandbox.calls().await?, Calls::default());
    Ok(())
}
