//! Promise P9: whatever arrives ends in `irn.poison` or as `rejected`, with a code that says why, and the next good
//! job is served.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lapin::types::{AMQPValue, DecimalValue, FieldTable};
use serde_json::json;
use tokio::time::timeout;

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::{invoice, irn};
use crate::support::ledger::Ledger;
use crate::support::outcome::Outcome;
use crate::support::raw_amqp::{HEADERS, MESSAGE_ID, RawPublisher, field, long, short};
use crate::support::stack::Stack;

const SOON: Duration = Duration::from_secs(20);
const REPLIES: &str = "erp.hostile";

/// The smallest frames AMQP allows are half of it; RabbitMQ never splits a message's headers over frames.
const SMALL_FRAMES: usize = 8_192;

/// How a delivery has to end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Kept in `irn.poison`; the result's message holds this text.
    Poison(&'static str),
    /// `rejected` by the worker's own look with this code.
    Rejected(&'static str),
    Signed,
}

/// One thing an ERP may do wrong.
struct Case {
    name: &'static str,
    job: Job,
    end: End,
}

fn case(name: &'static str, job: Job, end: End) -> Case {
    Case { name, job, end }
}

fn with_body(name: &'static str, body: impl Into<Vec<u8>>, end: End) -> Case {
    case(name, Job::generate(name, body), end)
}

/// A good document whose only fault is this.
fn with_header(name: &'static str, header: &str, value: AMQPValue, end: End) -> Case {
    case(name, good(name).header(header, value), end)
}

fn good(id: &str) -> Job {
    Job::generate(id, invoice(GSTINS[0], &number(id)))
}

/// A document number of its own for every job id.
fn number(id: &str) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    format!("H{:012X}", hasher.finish() & 0xFFFF_FFFF_FFFF)
}

fn text(bytes: &[u8]) -> AMQPValue {
    AMQPValue::LongString(bytes.into())
}

/// Sends each case with its own reply queue, looks where it ends, and sends a good job after it.
async fn each_ends_as_it_must(cases: Vec<Case>) -> Result<()> {
    let stack = Stack::start(1).await?;
    stack.erp.declare(REPLIES).await?;
    for case in cases {
        let name = case.name;
        ends_as_it_must(&stack, case).await.context(name)?;
        let served = stack.settle(good(&format!("after {name}"))).await?;
        served.assert_signed(false);
    }
    Ok(())
}

async fn ends_as_it_must(stack: &Stack, case: Case) -> Result<()> {
    let body = case.job.body().to_owned();
    stack.erp.publish(&[case.job.reply_to(REPLIES)]).await?;
    let mut replies = stack.erp.take(REPLIES, 1, SOON).await?;
    let outcome = Outcome::read(replies.remove(0))?;
    let poison = stack.erp.drain("irn.poison").await?;
    match case.end {
        End::Poison(why) => {
            ensure!(outcome.status() == "failed", "{}", outcome.json);
            ensure!(
                outcome.errors() == ["worker UNREADABLE"],
                "{}",
                outcome.json
            );
            let message = outcome.json["errors"][0]["message"].as_str();
            ensure!(
                message.is_some_and(|said| said.contains(why)),
                "{message:?}"
            );
            ensure!(poison.len() == 1, "{} are in irn.poison", poison.len());
            ensure!(poison[0].body == body, "its bytes were changed");
            let reason = poison[0].header("x-irn-reason");
            ensure!(reason.as_deref() == Some("UNREADABLE"), "{reason:?}");
        }
        End::Rejected(code) => {
            ensure!(outcome.status() == "rejected", "{}", outcome.json);
            let wanted = format!("preflight {code}");
            ensure!(outcome.errors().contains(&wanted), "{}", outcome.json);
            ensure!(poison.is_empty());
        }
        End::Signed => {
            outcome.assert_signed(false);
            ensure!(poison.is_empty());
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn bodies_that_are_no_json_are_kept_as_poison() -> Result<()> {
    let cut = invoice(GSTINS[0], "CUT/1");
    let not_json = End::Poison("not JSON");
    each_ends_as_it_must(vec![
        with_body("empty", "", not_json),
        with_body("blank", " \r\n\t", not_json),
        with_body("text", "please register this invoice", not_json),
        with_body("XML", "<Invoice/>", not_json),
        with_body("cut short", &cut.as_bytes()[..cut.len() - 1], not_json),
        with_body("two documents", format!("{cut}{cut}"), not_json),
        with_body(
            "byte order mark, and cut short",
            format!("\u{feff}{}", &cut[..cut.len() - 1]),
            not_json,
        ),
        with_body(
            "two byte order marks",
            format!("\u{feff}\u{feff}{cut}"),
            not_json,
        ),
        with_body("UTF-8 broken in a text", b"{\"a\":\"\xff\xfe\"}", not_json),
        with_body("UTF-16", b"{\x00\"\x00a\x00\"\x00:\x001\x00}\x00", not_json),
        with_body("NUL bytes", vec![0; 4_096], not_json),
        with_body("3 MB of text", vec![b'x'; 3 << 20], not_json),
        with_body("a million open brackets", vec![b'['; 1_000_000], not_json),
        with_body("array that goes on", "[{}] {}", not_json),
        with_body("empty array", "[ ]", End::Poison("empty JSON array")),
        with_body("array of arrays", "[[{}]]", End::Poison("array")),
        with_body(
            "half a million nested arrays",
            format!("{}{}", "[".repeat(500_000), "]".repeat(500_000)),
            End::Poison("array"),
        ),
    ])
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn byte_order_mark_is_gone_past_and_not_sent_to_the_portal() -> Result<()> {
    let stack = Stack::start(1).await?;
    let marked = |body: &str| format!("\u{feff}{body}");
    let document = invoice(GSTINS[0], "BOM/1");
    // Again by way of the ladder: what an ERP has sent travels on as it came.
    let once = json!([{"endpoint": "generate", "kind": "status", "status": 503, "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    let job = Job::generate("marked", marked(&document));
    let outcome = stack.settle(job).await?;
    outcome.assert_signed(false);
    let irn = irn(GSTINS[0], "BOM/1");
    let received = stack.sandbox.received(&irn).await?;
    assert_eq!(received, document.as_bytes());
    let two = [2, 3].map(|number| invoice(GSTINS[0], &format!("BOM/{number}")));
    let array = marked(&format!("[{}]", two.join(",")));
    stack.erp.publish(&[Job::generate("array", array)]).await?;
    for outcome in stack.outcomes(2, SOON).await?.values() {
        outcome.assert_signed(false);
    }
    for (operation, ends) in [
        (Job::get("get", GSTINS[0], &irn), "found"),
        (Job::eway_bill("ewb", GSTINS[0], &irn), "ewb_issued"),
        (Job::cancel("cancel", GSTINS[0], &irn), "cancelled"),
    ] {
        let body = marked(std::str::from_utf8(operation.body())?);
        let outcome = stack.settle(operation.with_body(body)).await?;
        // An active e-way bill is in the way of a cancellation: what counts is that both were read.
        let is_read = outcome.status() == ends || outcome.errors() == ["irp 2230"];
        ensure!(is_read, "{}", outcome.json);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn json_that_is_no_document_is_rejected_without_a_portal_call() -> Result<()> {
    let plain = invoice(GSTINS[0], "WRONG/1");
    let seller = format!(r#""SellerDtls":{{"Gstin":"{}""#, GSTINS[0]);
    let padding = " ".repeat(3 << 20);
    let deep = 150_000;
    let nested = format!("{}0{}", r#"{"a":"#.repeat(deep), "}".repeat(deep));
    each_ends_as_it_must(vec![
        with_body("null", "null", End::Rejected("5002")),
        with_body("number", "42", End::Rejected("5002")),
        with_body("text in quotes", "\"invoice\"", End::Rejected("5002")),
        with_body("empty object", "{}", End::Rejected("2155")),
        with_body(
            "3 MB document",
            format!("{plain}{padding}"),
            End::Rejected("5002"),
        ),
        with_body("deep nesting", nested, End::Rejected("2155")),
        with_body(
            "seller missing",
            plain.replace("SellerDtls", "SupplierDtls"),
            End::Rejected("2155"),
        ),
        with_body(
            "seller is a list",
            plain.replace(&seller, r#""SellerDtls":[],"X":{"Y":1"#),
            End::Rejected("2155"),
        ),
        with_body(
            "seller's GSTIN is a number",
            plain.replace(&seller, r#""SellerDtls":{"Gstin":29"#),
            End::Rejected("2155"),
        ),
        with_body(
            "document details are a text",
            plain.replace(r#""DocDtls":{"#, r#""DocDtls":"x","Y":{"#),
            End::Rejected("2161"),
        ),
        with_body(
            "number is null",
            plain.replace(r#""No":"WRONG/1""#, r#""No":null"#),
            End::Rejected("5002"),
        ),
        with_body(
            "date from another calendar",
            plain.replace("05/09/2025", "2025-09-31"),
            End::Rejected("2144"),
        ),
    ])
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn garbage_properties_are_told_and_odd_ones_are_served() -> Result<()> {
    let long_id: &'static str = String::leak("x".repeat(129));
    let euros: &'static str = String::leak("€".repeat(85));
    let as_json = |content_type| good(content_type).content_type(content_type);
    each_ends_as_it_must(vec![
        case(
            "unknown version",
            good("v2").kind("irn.generate.v2"),
            End::Poison("type"),
        ),
        case(
            "unknown type",
            good("type").kind("generate"),
            End::Poison("type"),
        ),
        case("XML", as_json("text/xml"), End::Poison("content_type")),
        case(
            "not quite JSON",
            as_json("application/jsonx"),
            End::Poison("content_type"),
        ),
        case(
            "JSON with a charset",
            as_json("Application/JSON; charset=utf-8"),
            End::Signed,
        ),
        case(
            "id of 129 characters",
            good(long_id),
            End::Poison("message_id"),
        ),
        case("id of 128 characters", good(&long_id[1..]), End::Signed),
        case("id of 255 bytes", good(euros), End::Signed),
        case(
            "id of control characters",
            good("\u{0}\n\u{202e}"),
            End::Signed,
        ),
    ])
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn garbage_in_the_workers_own_headers_is_told() -> Result<()> {
    use AMQPValue::{LongLongInt, LongUInt, Timestamp};
    let list = || AMQPValue::FieldArray(vec![text(b"1")].into());
    let attempt = "x-irn-attempt";
    each_ends_as_it_must(vec![
        with_header(
            "attempt text",
            attempt,
            text(b"three"),
            End::Poison(attempt),
        ),
        with_header(
            "attempt < 0",
            attempt,
            LongLongInt(-3),
            End::Poison(attempt),
        ),
        with_header(
            "attempt huge",
            attempt,
            LongLongInt(i64::MAX),
            End::Poison(attempt),
        ),
        with_header("attempt list", attempt, list(), End::Poison(attempt)),
        with_header("attempt 0", attempt, LongLongInt(0), End::Signed),
        with_header("attempt 2^32-1", attempt, LongUInt(u32::MAX), End::Signed),
        with_header(
            "deadline text",
            "x-irn-deadline",
            text(b"tomorrow"),
            End::Poison("deadline"),
        ),
        with_header(
            "deadline 1970",
            "x-irn-deadline",
            Timestamp(0),
            End::Poison("deadline"),
        ),
        with_header(
            "deadline bytes",
            "x-irn-deadline",
            text(b"\xff"),
            End::Poison("deadline"),
        ),
        with_header(
            "GSTIN short",
            "x-irn-gstin",
            text(b"29AAGCE"),
            End::Poison("gstin"),
        ),
        with_header(
            "GSTIN number",
            "x-irn-gstin",
            LongLongInt(29),
            End::Poison("gstin"),
        ),
        with_header("GSTIN list", "x-irn-gstin", list(), End::Poison("gstin")),
        with_header(
            "outcome",
            "x-irn-outcome",
            text(b"maybe"),
            End::Poison("outcome"),
        ),
        with_header(
            "first seen",
            "x-irn-first-seen",
            text(b"once"),
            End::Poison("first-seen"),
        ),
        with_header("replays", "x-irn-replays", text(b"many"), End::Signed),
        with_header("batch", "x-irn-batch-seq", text(b"\xff\x00"), End::Signed),
        with_header("trace", "traceparent", text(b"not a trace"), End::Signed),
    ])
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn foreign_headers_of_every_type_travel_with_the_job() -> Result<()> {
    let stack = Stack::start(1).await?;
    // Lost once, so that the job is published again with all it carries.
    let lost = json!([{"endpoint": "generate", "kind": "drop", "when": "after", "times": 1}]);
    stack.sandbox.faults(1, lost).await?;
    let mut table = FieldTable::default();
    for _ in 0..50 {
        let mut outer = FieldTable::default();
        outer.insert("deeper".into(), AMQPValue::FieldTable(table));
        table = outer;
    }
    let decimal = DecimalValue { scale: 2, value: 7 };
    let mut job = good("many headers")
        .header("x-table", AMQPValue::FieldTable(table))
        .header(
            "x-list",
            AMQPValue::FieldArray(vec![AMQPValue::Void].into()),
        )
        .header("x-time", AMQPValue::Timestamp(u64::MAX))
        .header("x-decimal", AMQPValue::DecimalValue(decimal))
        .header("x-double", AMQPValue::Double(-1.5e300))
        .header("x-bytes", AMQPValue::ByteArray(vec![0xff; 300].into()));
    for n in 0..200 {
        job = job.text_header(&format!("x-header-{n}"), "value");
    }
    stack.settle(job).await?.assert_signed(true);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn array_of_things_that_are_no_documents_is_rejected_one_by_one() -> Result<()> {
    let stack = Stack::start(1).await?;
    let array = format!(r#"[1, "x", null, {{}}, {}]"#, invoice(GSTINS[0], "ARR/1"));
    stack.erp.publish(&[Job::generate("array", array)]).await?;
    let outcomes = stack.outcomes(5, SOON).await?;
    for (n, status) in (1..).zip(["rejected", "rejected", "rejected", "rejected", "signed"]) {
        let outcome = outcomes.get(&format!("array/{n}")).context("a member")?;
        assert_eq!(outcome.status(), status, "{}", outcome.json);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn members_of_a_batch_with_the_longest_id_have_ids_of_their_own() -> Result<()> {
    let stack = Stack::start(1).await?;
    for (run, id) in [("LA", "x".repeat(128)), ("LB", "€".repeat(85))] {
        let documents = [1, 2].map(|n| invoice(GSTINS[0], &format!("{run}/{n}")));
        let array = format!("[{}]", documents.join(","));
        stack.erp.publish(&[Job::generate(&id, array)]).await?;
        let outcomes = stack.outcomes(2, SOON).await?;
        for outcome in outcomes.values() {
            outcome.assert_signed(false);
            let batch = outcome.message.header("x-irn-batch-id");
            assert_eq!(batch.as_deref(), Some(id.as_str()));
        }
    }
    Ok(())
}

/// A message that no client library can read, among neighbours that are all good: it ends in `irn.poison` by the
/// broker's own net, they end as `signed`, and so does the next one.
async fn unreadable_among_neighbours(flags: u16, properties: &[u8]) -> Result<()> {
    let mut stack = Stack::start(0).await?;
    let url = format!("{}?frame_max={SMALL_FRAMES}", stack.broker.url());
    let config = stack.config()?.set("broker.url", url)?;
    stack.workers.push(config.start("worker").await?);
    let slow = json!([{"endpoint": "generate", "kind": "delay", "ms": 30}]);
    stack.sandbox.faults(1, slow).await?;
    let mut raw = RawPublisher::connect(&stack.broker.url()).await?;
    let mut before = Ledger::publish(&stack.erp, "BEFORE", 20).await?;
    raw.publish("generate", flags, properties, b"{}").await?;
    let mut after = Ledger::publish(&stack.erp, "AFTER", 20).await?;

    let collecting = stack.erp.take_until("irn.results", |message| {
        let id = message.json()?["job_id"].as_str().map(str::to_owned);
        let of_before = id.is_some_and(|id| id.starts_with("BEFORE"));
        let ledger = if of_before { &mut before } else { &mut after };
        ledger.enter(&message)?;
        Ok(before.answered() + after.answered() == 40)
    });
    timeout(SOON * 2, collecting)
        .await
        .context("some neighbours were not answered")??;
    before.ensure_each_signed()?;
    after.ensure_each_signed()?;
    // Its content cannot be looked at: this client cannot read it either.
    eventually(SOON, "the message to be given up", async || {
        Ok((stack.erp.depth("irn.poison").await? == 1).then_some(()))
    })
    .await?;
    stack.worker()?.until_ready().await?;
    let stats = stack.sandbox.stats().await?;
    ensure!(stats.duplicate_generates == 0, "{stats:?}");
    stack
        .settle(good("the next one"))
        .await?
        .assert_signed(false);
    assert_eq!(stack.erp.depth("irn.poison").await?, 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn message_id_that_is_not_utf8_poisons_no_neighbour() -> Result<()> {
    unreadable_among_neighbours(MESSAGE_ID, &short(b"\xff\xfe\xfd")).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn header_name_that_is_not_utf8_poisons_no_neighbour() -> Result<()> {
    let table = long(&field(b"x-\xff", b'S', &long(b"value")));
    unreadable_among_neighbours(HEADERS, &table).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn headers_larger_than_the_workers_frames_poison_no_neighbour() -> Result<()> {
    let big = vec![b'x'; 2 * SMALL_FRAMES];
    let table = long(&field(b"x-big", b'S', &long(&big)));
    unreadable_among_neighbours(HEADERS, &table).await
}

/// A value's type, and the length of what follows.
fn field_value(kind: u8, length: u32) -> [u8; 5] {
    let [a, b, c, d] = length.to_be_bytes();
    [kind, a, b, c, d]
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn headers_nested_as_deep_as_a_frame_allows_do_not_end_the_worker() -> Result<()> {
    // Lists in lists take five bytes a level: a type and a length.
    let levels = 25_000u32;
    let mut lists = Vec::new();
    for inside in (0..levels).rev() {
        lists.extend(field_value(b'A', 5 * inside));
    }
    let table = field(b"x", b'A', &long(&lists));
    // An image may have set the variable for reasons of its own.
    let stack = Stack::start_with(1, |config| Ok(config.env("RUST_MIN_STACK", "2097152"))).await?;
    let mut raw = RawPublisher::connect(&stack.broker.url()).await?;
    raw.publish("generate", HEADERS, &long(&table), b"{}")
        .await?;
    let outcome = stack.outcome().await?;
    assert_eq!(outcome.errors(), ["worker UNREADABLE"]);
    assert_eq!(
        outcome.json["dead_lettered"], false,
        "a replay would end as this did"
    );
    assert_eq!(stack.erp.depth("irn.poison").await?, 1);
    let served = stack.settle(good("the next one")).await?;
    served.assert_signed(false);
    let started = |line: &&String| line.contains("irn-worker starts");
    assert_eq!(stack.workers[0].log().iter().filter(started).count(), 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn headers_that_fill_a_frame_are_kept_as_poison() -> Result<()> {
    let full = vec![b'x'; 120_000];
    each_ends_as_it_must(vec![with_header(
        "x-big",
        "x-big",
        text(&full),
        End::Poison("headers"),
    )])
    .await
}
