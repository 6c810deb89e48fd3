//! Sends spans to a collector: OTLP over HTTP, by the HTTP client that the worker has already.
//!
//! One rule: tracing may fail, the worker does not. What cannot be sent is dropped, and told of once.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, Protocol, SpanExporter,
    WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::config::TelemetryConfig;

/// OTLP's own default (OpenTelemetry, "OTLP exporter configuration").
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A collector answers with a few bytes; a longer answer comes from something else.
const MAX_ANSWER: usize = 64 * 1024;

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error(
    "traces cannot be sent: {0}; correct telemetry.otlp_endpoint or the OTEL_EXPORTER_OTLP_* variables, or remove them"
)]
pub struct TracesFault(String);

/// A provider that sends to the collector that is configured, if one is.
pub(super) fn provider(
    config: &TelemetryConfig,
    replica: &str,
) -> Result<Option<SdkTracerProvider>, TracesFault> {
    let fault = |error: &dyn fmt::Display| TracesFault(error.to_string());
    if is_disabled() || !(config.otlp_endpoint.is_some() || is_in_environment()) {
        return Ok(None);
    }
    let client =
        Sender::new(is_plain(config.otlp_endpoint.as_deref())).map_err(|error| fault(&error))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(client);
    let exporter = match &config.otlp_endpoint {
        Some(base) => exporter.with_endpoint(format!("{base}/v1/traces")),
        None => exporter,
    };
    let exporter = exporter.build().map_err(|error| fault(&error))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource(replica))
        .build();
    Ok(Some(provider))
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Whether spans go in the clear, which needs no roots: there may be none installed.
fn is_plain(configured: Option<&str>) -> bool {
    let variables = [
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
        OTEL_EXPORTER_OTLP_ENDPOINT,
    ];
    let named = variables.into_iter().find(|variable| is_set(variable));
    let endpoint = configured
        .map(str::to_owned)
        .or_else(|| std::env::var(named?).ok());
    endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
}

fn is_in_environment() -> bool {
    is_set(OTEL_EXPORTER_OTLP_ENDPOINT) || is_set(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
}

/// OpenTelemetry, "General SDK configuration".
fn is_disabled() -> bool {
    std::env::var_os("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn resource(replica: &str) -> Resource {
    let resource = Resource::builder().with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", replica.to_owned()),
    ]);
    // The builder reads this variable, and what is said in code would win over it.
    if is_set("OTEL_SERVICE_NAME") {
        resource.build()
    } else {
        resource.with_service_name("irn-worker").build()
    }
}

/// The SDK exports on a thread of its own, which is none of the runtime's; the request runs on the runtime all the same.
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
    failing: AtomicBool,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender(..)")
    }
}

impl Sender {
    fn new(plain: bool) -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("irn-worker/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_WITHIN);
        let client = if plain {
            builder.tls_certs_only([]).build()?
        } else {
            builder.build()?
        };
        Ok(Self {
            client,
            runtime: Handle::current(),
            failing: AtomicBool::new(false),
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let exchanging = self.runtime.spawn(exchange(client, request));
        let answer = exchanging.await?;
        match &answer {
            Ok(answer) if answer.status().is_success() => self.told(None),
            Ok(answer) => self.told(Some(&format!("HTTP status {}", answer.status().as_u16()))),
            Err(error) => self.told(Some(error)),
        }
        answer
    }

    /// One line for each change, and not for each failure.
    fn told(&self, failure: Option<&dyn fmt::Display>) {
        let failed_before = self.failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(why) if !failed_before => {
                warn!(error = %why, "spans cannot be sent to the collector and are lost until they can");
            }
            None if failed_before => info!("the collector takes spans again"),
            Some(_) | None => {}
        }
    }
}

/// As the `async_trait` macro would write it.
impl HttpClient for Sender {
    fn send_bytes<'a, 'async_trait>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.send(request))
    }
}

async fn exchange(
    client: reqwest::Client,
    request: reqwest::Request,
) -> Result<Response<Bytes>, HttpError> {
    // An address may hold a password.
    let plain = reqwest::Error::without_url;
    let mut answer = client.execute(request).await.map_err(plain)?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(plain)? {
        if body.len() + piece.len() > MAX_ANSWER {
            return Err("the answer is longer than a collector's".into());
        }
        body.extend_from_slice(&piece);
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}
