//! Traces over OTLP: from the ERP's context through the attempt and its calls to the result, and nothing of the document in
//! them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::amqp::Job;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(20);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector: keeps what it is sent; gone when dropped.
struct Collector {
    url: String,
    received: Arc<Mutex<Vec<Bytes>>>,
    _serving: JoinSet<()>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let received: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let keep = async |State(received): State<Arc<Mutex<Vec<Bytes>>>>, body: Bytes| {
            received
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(body);
        };
        let routes = Router::new()
            .route("/v1/traces", post(keep))
            .with_state(Arc::clone(&received));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // It ends with the test.
            drop(axum::serve(listener, routes).await);
        });
        Ok(Self {
            url,
            received,
            _serving: serving,
        })
    }

    /// Everything that came, as it came.
    fn bytes(&self) -> Vec<Bytes> {
        let received = self.received.lock();
        received.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn spans(&self) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        for body in self.bytes() {
            let request = ExportTraceServiceRequest::decode(body)?;
            let scopes = request
                .resource_spans
                .into_iter()
                .flat_map(|r| r.scope_spans);
            spans.extend(scopes.flat_map(|scope| scope.spans));
        }
        Ok(spans)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Attribute::StringValue(text) => text.clone(),
        Attribute::IntValue(number) => number.to_string(),
        Attribute::BoolValue(is_so) => is_so.to_string(),
        other => format!("{other:?}"),
    })
}

/// The one span with this name.
fn one<'s>(spans: &'s [Span], name: &str) -> Result<&'s Span> {
    let mut named = spans.iter().filter(|span| span.name == name);
    let span = named.next().with_context(|| format!("no span {name}"))?;
    ensure!(named.next().is_none(), "two spans {name}");
    Ok(span)
}

/// A worker that sends its spans here.
async fn traced(collector: &Collector) -> Result<Stack> {
    let on = |config: WorkerConfig| config.set("telemetry.otlp_endpoint", collector.url.as_str());
    Stack::start_with(1, on).await
}

fn job(number: &str) -> Job {
    Job::generate(number, invoice(SELLER, number))
}

/// Stops the worker, which sends what it has before it ends, and returns all spans.
async fn spans_at_the_end(stack: &mut Stack, collector: &Collector) -> Result<Vec<Span>> {
    ensure!(stack.worker()?.terminate(SOON).await?.success());
    collector.spans()
}

fn assert_child(child: &Span, parent: &Span, kind: SpanKind) {
    assert_eq!(child.parent_span_id, parent.span_id, "{}", child.name);
    assert_eq!(child.trace_id, parent.trace_id, "{}", child.name);
    assert_eq!(child.kind, kind as i32, "{}", child.name);
    assert!(child.start_time_unix_nano >= parent.start_time_unix_nano);
    assert!(child.end_time_unix_nano <= parent.end_time_unix_nano);
}

fn traceparent_of(outcome: &Outcome) -> Result<[String; 4]> {
    let header = outcome
        .message
        .header("traceparent")
        .context("no traceparent")?;
    let parts: Vec<String> = header.split('-').map(str::to_owned).collect();
    parts
        .try_into()
        .map_err(|parts| anyhow::anyhow!("not four parts: {parts:?}"))
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn trace_of_the_erp_runs_through_attempt_and_calls_to_the_result() -> Result<()> {
    let collector = Collector::start().await?;
    let mut stack = traced(&collector).await?;
    let job = job("T/1")
        .text_header("traceparent", &format!("00-{TRACE}-{PARENT}-01"))
        .text_header("tracestate", "vendor=value");
    let outcome = stack.settle(job).await?;
    outcome.assert_signed(false);
    let spans = spans_at_the_end(&mut stack, &collector).await?;

    let attempt = one(&spans, "process irn.jobs")?;
    assert_eq!(hex(&attempt.trace_id), TRACE);
    assert_eq!(hex(&attempt.parent_span_id), PARENT);
    assert_eq!(attempt.kind, SpanKind::Consumer as i32);
    for (key, value) in [
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "irn.jobs"),
        ("messaging.message.id", "T/1"),
        ("irn.gstin", SELLER),
        ("irn.attempt", "1"),
        ("irn.settlement", "result"),
        ("irn.status", "signed"),
    ] {
        assert_eq!(attribute(attempt, key).as_deref(), Some(value), "{key}");
    }
    for call in ["auth", "generate"] {
        let span = one(&spans, &format!("irp {call}"))?;
        assert_child(span, attempt, SpanKind::Client);
        assert_eq!(attribute(span, "irn.result").as_deref(), Some("ok"));
        let part = |key: &str| attribute(span, key).context("no address");
        let address = format!(
            "http://{}:{}",
            part("server.address")?,
            part("server.port")?
        );
        assert_eq!(address, stack.sandbox.url());
    }
    let result = one(&spans, "send result")?;
    let queue = attribute(result, "messaging.destination.name");
    assert_eq!(queue.as_deref(), Some("irn.results"));
    assert_child(result, attempt, SpanKind::Producer);
    assert_eq!(spans.len(), 4);

    let [_, trace, parent, flags] = traceparent_of(&outcome)?;
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "01"));
    assert_eq!(parent, hex(&result.span_id));
    assert_eq!(
        outcome.message.header("tracestate").as_deref(),
        Some("vendor=value")
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn attempts_at_a_job_without_a_trace_share_the_one_that_the_first_begins() -> Result<()> {
    let collector = Collector::start().await?;
    let mut stack = traced(&collector).await?;
    let lost = json!([{"endpoint": "generate", "kind": "drop", "times": 1}]);
    stack.sandbox.faults(1, lost).await?;
    let outcome = stack.settle(job("T/2")).await?;
    outcome.assert_signed(false);
    let spans = spans_at_the_end(&mut stack, &collector).await?;

    let by_attempt = |number: &str| {
        let mut attempts = spans.iter().filter(|span| span.name == "process irn.jobs");
        attempts
            .find(|span| attribute(span, "irn.attempt").as_deref() == Some(number))
            .with_context(|| format!("no attempt {number}"))
    };
    let (first, second) = (by_attempt("1")?, by_attempt("2")?);
    assert_eq!(first.parent_span_id, Vec::<u8>::new());
    assert_eq!(
        attribute(first, "irn.settlement").as_deref(),
        Some("retried")
    );
    assert_eq!(attribute(first, "irn.unknown").as_deref(), Some("true"));
    assert_eq!(first.status.as_ref().map(|status| status.code), Some(2));
    assert_eq!(second.parent_span_id, first.span_id);
    assert_eq!(second.trace_id, first.trace_id);
    assert_child(one(&spans, "irp get_by_doc")?, second, SpanKind::Client);
    let [_, trace, ..] = traceparent_of(&outcome)?;
    assert_eq!(trace, hex(&first.trace_id));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_the_erp_has_not_sampled_is_not_sent_and_its_trace_goes_on() -> Result<()> {
    let collector = Collector::start().await?;
    let mut stack = traced(&collector).await?;
    let unsampled = job("T/3").text_header("traceparent", &format!("00-{TRACE}-{PARENT}-00"));
    let outcome = stack.settle(unsampled).await?;
    let [_, trace, _, flags] = traceparent_of(&outcome)?;
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "00"));
    stack.settle(job("T/4")).await?;
    let spans = spans_at_the_end(&mut stack, &collector).await?;
    assert!(!spans.is_empty(), "the other job is traced");
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn without_a_collector_a_result_carries_what_the_job_came_with_and_nothing_of_its_own()
-> Result<()> {
    let stack = Stack::start(1).await?;
    let outcome = stack.settle(job("T/5")).await?;
    assert_eq!(outcome.message.header("traceparent"), None);
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let outcome = stack
        .settle(job("T/6").text_header("traceparent", &traceparent))
        .await?;
    assert_eq!(outcome.message.header("traceparent"), Some(traceparent));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn collector_of_opentelemetrys_own_variable_is_used_with_its_headers_and_service_name()
-> Result<()> {
    let collector = Collector::start().await?;
    let on = |config: WorkerConfig| {
        Ok(config
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
            .env("OTEL_SERVICE_NAME", "einvoices"))
    };
    let mut stack = Stack::start_with(1, on).await?;
    stack.settle(job("T/7")).await?;
    let spans = spans_at_the_end(&mut stack, &collector).await?;
    one(&spans, "process irn.jobs")?;
    let body = collector
        .bytes()
        .into_iter()
        .next()
        .context("nothing came")?;
    let request = ExportTraceServiceRequest::decode(body)?;
    let resource = request.resource_spans.into_iter().next();
    let resource = resource
        .and_then(|spans| spans.resource)
        .context("no resource")?;
    let name = resource.attributes.iter().find(|a| a.key == "service.name");
    let name = format!("{name:?}");
    assert!(name.contains("einvoices"), "{name}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn work_goes_on_without_the_collector_and_the_log_says_so_once() -> Result<()> {
    let nobody = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", nobody.local_addr()?);
    drop(nobody);
    let on = |config: WorkerConfig| {
        let config = config.env("OTEL_BSP_SCHEDULE_DELAY", "50");
        config.set("telemetry.otlp_endpoint", url.as_str())
    };
    let mut stack = Stack::start_with(1, on).await?;
    for number in 8..12 {
        stack
            .settle(job(&format!("T/{number}")))
            .await?
            .assert_signed(false);
    }
    const LOST: &str = "spans cannot be sent";
    stack.worker()?.until_logged(LOST, SOON).await?;
    assert!(stack.worker()?.terminate(SOON).await?.success());
    let log = stack.worker()?.log();
    let said = log.iter().filter(|line| line.contains(LOST));
    assert_eq!(said.count(), 1);
    Ok(())
}

const CANARIES: [&str; 2] = ["canary", "27aapfu0939f1zv"];

/// The attributes that docs/metrics.md lists.
fn documented() -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md"))?;
    let (_, table) = text
        .split_once("| span | kind |")
        .context("no table of spans")?;
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    Ok(names
        .filter(|name| name.contains('.'))
        .map(str::to_owned)
        .collect())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn spans_of_every_ending_hold_documented_attributes_only_and_no_canary() -> Result<()> {
    let collector = Collector::start().await?;
    let credentials = Credentials::of(&GSTINS)
        .password(SELLER, "cAnArY-pass")
        .client_secret("cAnArY-secret");
    let on = |config: WorkerConfig| {
        let config = config.set("retry.max_attempts", 2)?;
        config.set("telemetry.otlp_endpoint", collector.url.as_str())
    };
    let mut stack = Stack::of(&credentials, 1, on).await?;
    let marked = |number: &str| {
        invoice(SELLER, number)
            .replace("Sample Traders Private Limited", "cAnArY Traders")
            .replace("Cotton fabric dyed", "cAnArY twill")
    };
    let faults = json!([
        {"endpoint": "generate", "number": "C/2", "kind": "drop", "when": "after", "times": 1},
        {"endpoint": "generate", "number": "C/3", "kind": "html", "times": 1},
        {"endpoint": "generate", "number": "C/4", "kind": "bad_signature"},
        {"endpoint": "generate", "number": "C/5", "kind": "mismatch"},
        {"endpoint": "generate", "number": "C/6", "kind": "wrong_key", "times": 1},
        {"endpoint": "generate", "number": "C/7", "kind": "error", "code": "cAnArY Traders", "message": "cAnArY"},
        {"endpoint": "generate", "number": "C/8", "kind": "drop"},
    ]);
    stack.sandbox.faults(1, faults).await?;
    let mut jobs: Vec<Job> = (1..=8)
        .map(|i| Job::generate(&format!("j-{i}"), marked(&format!("C/{i}"))))
        .collect();
    jobs.push(Job::generate("j-9", "{\"cAnArY\": 1}"));
    jobs.push(Job::generate("j-10", format!("[{}]", marked("C/10"))));
    // What stands in other headers is nobody's business either.
    jobs.push(job("C/11").text_header("x-erp-customer", "cAnArY"));
    stack.erp.publish(&jobs).await?;
    stack.outcomes(11, Duration::from_secs(40)).await?;
    let spans = spans_at_the_end(&mut stack, &collector).await?;

    let settlements: BTreeSet<_> = spans
        .iter()
        .filter_map(|span| attribute(span, "irn.status").or(attribute(span, "irn.settlement")))
        .collect();
    for expected in ["signed", "failed", "rejected", "retried"] {
        assert!(settlements.contains(expected), "{settlements:?}");
    }
    let documented = documented()?;
    for span in &spans {
        for key in span.attributes.iter().map(|attribute| &attribute.key) {
            assert!(
                documented.contains(key),
                "{key} of {} is not documented",
                span.name
            );
        }
        let keys: BTreeSet<_> = span.attributes.iter().map(|a| &a.key).collect();
        assert_eq!(
            keys.len(),
            span.attributes.len(),
            "{} repeats a key",
            span.name
        );
        assert!(span.events.is_empty() && span.links.is_empty());
    }
    for body in collector.bytes() {
        let text = String::from_utf8_lossy(&body).to_lowercase();
        for canary in CANARIES {
            assert!(!text.contains(canary), "{canary} in a span");
        }
    }
    Ok(())
}
