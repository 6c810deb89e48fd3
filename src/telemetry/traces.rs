//! Traces: a span for each attempt at a job, in the trace of the ERP that published it, with the portal calls and the
//! result beneath it.
//!
//! One rule: as in the module above, typed and allow-listed values only. And where no collector is configured, each of
//! these functions is one branch, and nothing is allocated.

mod export;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lapin::types::FieldTable;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status as SpanStatus, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

use super::{About, bounded_code, millis};
use crate::config::TelemetryConfig;
use crate::job::{Class, Job, header, long, set};
use crate::outcome::{Reason, Status};

pub use export::TracesFault;

/// At the end of the process, what has not been sent by then is given up.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// Where spans go, if anywhere. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Tracing>>);

struct Tracing {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Traces(on)"
        } else {
            "Traces(off)"
        })
    }
}

/// An attempt at a job, from its delivery until it is settled; the span ends when this is dropped.
pub struct JobSpan(Box<InTrace>);

struct InTrace {
    context: Context,
    tracer: SdkTracer,
}

impl fmt::Debug for JobSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobSpan(..)")
    }
}

/// A portal call under way. Dropped without an end it was given up.
pub struct CallSpan(Span);

impl fmt::Debug for CallSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallSpan(..)")
    }
}

/// A result being published; the span ends when this is dropped.
pub struct ResultSpan(Span);

impl fmt::Debug for ResultSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResultSpan(..)")
    }
}

impl Traces {
    /// Sends spans to the collector of `telemetry.otlp_endpoint` or of OpenTelemetry's own variables; to none if neither
    /// names one. To be called on the runtime.
    ///
    /// # Errors
    /// An address that cannot be used.
    pub fn start(config: &TelemetryConfig, replica: &str) -> Result<Self, TracesFault> {
        let Some(provider) = export::provider(config, replica)? else {
            return Ok(Self::default());
        };
        let tracer = provider.tracer("irn-worker");
        Ok(Self(Some(Arc::new(Tracing { tracer, provider }))))
    }

    /// Sends what has ended by now, and no more.
    pub async fn end(&self) {
        let Some(tracing) = self.0.clone() else {
            return;
        };
        // It waits on a thread of its own; the runtime's are needed to send.
        let flushing = tokio::task::spawn_blocking(move || {
            tracing.provider.shutdown_with_timeout(FLUSH_WITHIN)
        });
        // What could not be sent has been told of by whoever sent it.
        drop(flushing.await);
    }

    /// An attempt at this job begins.
    pub fn attempt(
        &self,
        job: &Job,
        about: About<'_>,
        queued: impl FnOnce() -> Duration,
    ) -> Option<JobSpan> {
        let tracing = self.0.as_ref()?;
        Some(tracing.attempt(job, about, queued()))
    }
}

impl Tracing {
    /// OpenTelemetry, "Semantic conventions for messaging spans" and "for RabbitMQ".
    fn attempt(&self, job: &Job, about: About<'_>, queued: Duration) -> JobSpan {
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &OfJob(job));
        let queue = match job.class() {
            Class::Urgent => "irn.jobs.urgent",
            Class::Bulk => "irn.jobs",
        };
        let size = i64::try_from(job.body.as_it_came().len()).unwrap_or(i64::MAX);
        let mut attributes = vec![
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", queue),
            KeyValue::new(
                "messaging.rabbitmq.destination.routing_key",
                job.routing_key.clone(),
            ),
            KeyValue::new("messaging.message.id", about.job_id.to_owned()),
            KeyValue::new("messaging.message.body.size", size),
            KeyValue::new("irn.operation", job.operation.as_str()),
            KeyValue::new("irn.attempt", i64::from(about.attempt)),
            KeyValue::new("irn.redelivered", job.redelivered),
            KeyValue::new("irn.queued_ms", number(millis(queued))),
        ];
        if let Some(gstin) = about.gstin {
            attributes.push(KeyValue::new("irn.gstin", gstin.as_str().to_owned()));
        }
        let span = SpanBuilder::from_name(format!("process {queue}"))
            .with_kind(SpanKind::Consumer)
            .with_attributes(attributes);
        let span = self.tracer.build_with_context(span, &parent);
        JobSpan(Box::new(InTrace {
            context: Context::new().with_span(span),
            tracer: self.tracer.clone(),
        }))
    }
}

impl JobSpan {
    fn child(&self, name: String, kind: SpanKind, attributes: Vec<KeyValue>) -> Span {
        let span = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_attributes(attributes);
        self.0.tracer.build_with_context(span, &self.0.context)
    }

    /// A portal call leaves, to the portal with this name.
    pub fn call(&self, call: &'static str, portal: &str) -> CallSpan {
        let host = portal.split('/').next().unwrap_or_default();
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => (host, port.parse::<u16>().ok()),
            None => (host, None),
        };
        let mut attributes = vec![
            KeyValue::new("server.address", host.to_owned()),
            KeyValue::new("irn.call", call),
        ];
        attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        CallSpan(self.child(format!("irp {call}"), SpanKind::Client, attributes))
    }

    /// The result is published to this queue.
    pub fn send(&self, queue: &str) -> ResultSpan {
        let attributes = vec![
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", queue.to_owned()),
        ];
        // Not by its queue: an ERP may have one for each of its runs.
        ResultSpan(self.child("send result".to_owned(), SpanKind::Producer, attributes))
    }

    /// Writes its context into headers, so that what is done later belongs to the same trace.
    pub fn write_to(&self, headers: &mut FieldTable) {
        inject(&self.0.context, headers);
    }

    fn tell(&self, attributes: impl IntoIterator<Item = KeyValue>) {
        self.0.context.span().set_attributes(attributes);
    }

    fn failed(&self, code: &str) {
        let span = self.0.context.span();
        span.set_attribute(KeyValue::new("error.type", code.to_owned()));
        span.set_status(SpanStatus::error(code.to_owned()));
    }

    pub(super) fn settled(&self, status: Status, code: &str, recovered: bool) {
        self.tell([
            KeyValue::new("irn.settlement", "result"),
            KeyValue::new("irn.status", status.as_str()),
            KeyValue::new("irn.code", code.to_owned()),
            KeyValue::new("irn.recovered", recovered),
        ]);
        match status {
            Status::Failed => self.failed(code),
            Status::Signed
            | Status::Partial
            | Status::Conflict
            | Status::Rejected
            | Status::Cancelled
            | Status::Found
            | Status::NotFound
            | Status::EwbIssued
            | Status::Expired => {}
        }
    }

    pub(super) fn retried(&self, rung: &str, code: &str, unknown: bool) {
        self.tell([
            KeyValue::new("irn.settlement", "retried"),
            KeyValue::new("irn.rung", rung.to_owned()),
            KeyValue::new("irn.code", code.to_owned()),
            KeyValue::new("irn.unknown", unknown),
        ]);
        self.failed(code);
    }

    pub(super) fn deferred(&self, rung: &str, reason: &'static str) {
        self.tell([
            KeyValue::new("irn.settlement", "deferred"),
            KeyValue::new("irn.rung", rung.to_owned()),
            KeyValue::new("irn.code", reason),
        ]);
    }

    pub(super) fn dead_lettered(&self, reason: Reason, unknown: bool) {
        self.tell([
            KeyValue::new("irn.reason", reason.as_str()),
            KeyValue::new("irn.unknown", unknown),
        ]);
    }

    pub(super) fn passed_on(&self, reason: &'static str) {
        self.tell([
            KeyValue::new("irn.settlement", "passed_on"),
            KeyValue::new("irn.code", reason),
        ]);
    }

    pub(super) fn handed_back(&self) {
        self.tell([KeyValue::new("irn.settlement", "handed_back")]);
    }

    pub(super) fn abandoned(&self, why: &'static str) {
        self.tell([KeyValue::new("irn.settlement", "abandoned")]);
        self.failed(why);
    }
}

impl CallSpan {
    /// The call has ended with this.
    pub fn end(mut self, result: &'static str, code: Option<&str>) {
        self.0.set_attribute(KeyValue::new("irn.result", result));
        if let Some(code) = code.map(bounded_code) {
            self.0
                .set_attribute(KeyValue::new("irn.code", code.to_owned()));
        }
        if result != "ok" {
            self.0.set_attribute(KeyValue::new("error.type", result));
            self.0.set_status(SpanStatus::error(result));
        }
    }
}

impl ResultSpan {
    /// Writes its context into the result's headers, in place of the one that the job came with.
    pub fn write_to(&self, headers: &mut FieldTable) {
        let context = Context::new().with_remote_span_context(self.0.span_context().clone());
        inject(&context, headers);
    }
}

fn inject(context: &Context, headers: &mut FieldTable) {
    TraceContextPropagator::new().inject_context(context, &mut ToHeaders(headers));
}

/// OpenTelemetry's integers are signed.
fn number(unsigned: u64) -> i64 {
    i64::try_from(unsigned).unwrap_or(i64::MAX)
}

/// The trace context that a job came with.
struct OfJob<'a>(&'a Job);

impl Extractor for OfJob<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.trace_header(key)
    }

    fn keys(&self) -> Vec<&str> {
        vec![header::TRACEPARENT, header::TRACESTATE]
    }
}

/// Headers into which a trace context goes.
struct ToHeaders<'a>(&'a mut FieldTable);

impl Injector for ToHeaders<'_> {
    fn set(&mut self, key: &str, value: String) {
        // An absent state is written as an empty one.
        if !value.is_empty() {
            set(self.0, key, long(&value));
        }
    }
}
