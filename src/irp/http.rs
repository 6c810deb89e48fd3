//! One HTTP exchange with the portal: what may be sent how, and what counts as an answer.
//!
//! One rule: no second try happens here. No redirect is followed, no request repeated, and a connection that fails
//! is told apart from an answer that is lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{ACCEPT_ENCODING, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Proxy, RequestBuilder, Response, Url, redirect};

use crate::config::IrpConfig;
use crate::irp::codes::Call;
use crate::irp::error::{IrpError, Unreadable};
use crate::wiped::Wiped;

/// The largest answer that is read. A signed invoice of the largest document stays well below it.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Below the 20 s after which servers close idle connections, so that a request rarely meets a dying one.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// No `Retry-After` is believed beyond this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A fault of `[irp]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct IrpConfigFault {
    /// The key at fault, `irp.public_key_file`.
    pub key: String,
    /// The file it names, if it names one.
    pub file: Option<PathBuf>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// An HTTP answer, read whole.
pub(super) struct Answer {
    pub(super) status: u16,
    /// `Date`: the portal's clock.
    pub(super) date: Option<Timestamp>,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Wiped<Vec<u8>>,
}

/// Builds the one client, once.
pub(super) fn client(config: &IrpConfig) -> Result<Client, IrpConfigFault> {
    // The first of the process's users of TLS installs the provider; whoever comes second finds it there.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let builder = Client::builder()
        .user_agent(concat!("irn-worker/", env!("CARGO_PKG_VERSION")))
        // A redirect would carry the credentials to another host, and 307 the document too.
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(config.connect_timeout)
        .timeout(config.request_timeout)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(config.concurrency)
        .local_address(config.local_address)
        .default_headers(extra_headers(config)?);
    let builder = with_proxy(builder, config)?;
    with_roots(builder, config)?.build().map_err(|error| IrpConfigFault {
        key: config.key("ca_file"),
        file: config.route.ca_file.clone(),
        problem: format!("TLS cannot be set up: {}", root_cause(&error)),
        remedy: "install the system's CA certificates (Debian: ca-certificates), or name a PEM file of roots",
    })
}

fn with_proxy(builder: ClientBuilder, config: &IrpConfig) -> Result<ClientBuilder, IrpConfigFault> {
    // Without this the environment's HTTP_PROXY would decide which address the portal sees.
    let Some(proxy) = &config.proxy else {
        return Ok(builder.no_proxy());
    };
    let proxy = Proxy::all(proxy.expose()).map_err(|_| IrpConfigFault {
        key: "irp.proxy".to_owned(),
        file: None,
        problem: "not a proxy's URL".to_owned(),
        remedy: "write http://host:port",
    })?;
    Ok(builder.proxy(proxy))
}

fn with_roots(builder: ClientBuilder, config: &IrpConfig) -> Result<ClientBuilder, IrpConfigFault> {
    let Some(file) = &config.route.ca_file else {
        // A sandbox on this machine speaks plain HTTP: no reason to fail where no roots are installed.
        let plain = config.route.base_url.starts_with("http://");
        return Ok(if plain {
            builder.tls_certs_only([])
        } else {
            builder
        });
    };
    let pem = read_file(config.key("ca_file"), file)?;
    let roots = Certificate::from_pem_bundle(pem.as_bytes())
        .ok()
        .filter(|roots| !roots.is_empty());
    let roots = roots.ok_or_else(|| IrpConfigFault {
        key: config.key("ca_file"),
        file: Some(file.clone()),
        problem: "no certificate was found in it".to_owned(),
        remedy: "name a PEM file with one or more CERTIFICATE blocks",
    })?;
    Ok(builder.tls_certs_only(roots))
}

fn extra_headers(config: &IrpConfig) -> Result<HeaderMap, IrpConfigFault> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.route.extra_headers {
        let parsed = HeaderName::try_from(name)
            .ok()
            .zip(HeaderValue::try_from(value.expose()).ok());
        let (name, mut value) = parsed.ok_or_else(|| IrpConfigFault {
            key: config.key("extra_headers"),
            file: None,
            problem: format!("{name:?} and its value cannot be sent as a header"),
            remedy: "use letters, digits, - and _ in the name and printable ASCII in the value",
        })?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    // Without this header any coding may be answered (RFC 9110, section 12.5.3), and none is read here.
    headers
        .entry(ACCEPT_ENCODING)
        .or_insert(HeaderValue::from_static("identity"));
    Ok(headers)
}

/// The base URL, without a trailing slash.
pub(super) fn base_url(config: &IrpConfig) -> Result<String, IrpConfigFault> {
    let url = address(config, &config.route.base_url)?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad_address(config, "not an http or https URL"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad_address(
            config,
            "it has a query or fragment, and paths are appended to it",
        ));
    }
    Ok(config.route.base_url.trim_end_matches('/').to_owned())
}

/// A URL under `base_url`.
pub(super) fn address(config: &IrpConfig, url: &str) -> Result<Url, IrpConfigFault> {
    Url::parse(url).map_err(|_| bad_address(config, "not a URL"))
}

fn bad_address(config: &IrpConfig, problem: &str) -> IrpConfigFault {
    IrpConfigFault {
        key: config.key("base_url"),
        file: None,
        problem: problem.to_owned(),
        remedy: "write the scheme and host the portal gave you, for example https://portal.example",
    }
}

pub(super) fn read_file(key: String, file: &Path) -> Result<String, IrpConfigFault> {
    std::fs::read_to_string(file).map_err(|error| IrpConfigFault {
        key,
        file: Some(file.to_owned()),
        problem: format!("it cannot be read: {error}"),
        remedy: "check the path and the file's mode; relative paths start at the working directory",
    })
}

/// A header's value that nothing prints.
pub(super) fn secret_value(text: &str) -> Result<HeaderValue, IrpError> {
    let mut value = HeaderValue::try_from(text).map_err(|_| IrpError::Unsendable {
        why: "client id, client secret, user name or password hold characters that no header can carry",
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Sends one request and reads its answer whole.
pub(super) async fn exchange(call: Call, request: RequestBuilder) -> Result<Answer, IrpError> {
    let mut response = request.send().await.map_err(|error| {
        // Name resolution, TCP and TLS: nothing of the request has left.
        if error.is_connect() || error.is_builder() {
            return IrpError::NotSent(Box::new(error.without_url()));
        }
        IrpError::lost(call, None, None, Unreadable::from_transport(error))
    })?;
    let status = response.status().as_u16();
    let date = response.headers().get(DATE).and_then(http_date);
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| wait(value, date));
    let body = read_capped(&mut response)
        .await
        .map_err(|why| IrpError::lost(call, Some(status), retry_after, why))?;
    Ok(Answer {
        status,
        date,
        retry_after,
        body,
    })
}

async fn read_capped(response: &mut Response) -> Result<Wiped<Vec<u8>>, Unreadable> {
    let announced = response.content_length().unwrap_or_default();
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > MAX_ANSWER {
        return Err(Unreadable::TooLarge);
    }
    let mut body = Wiped::new(Vec::with_capacity(announced));
    while let Some(piece) = response.chunk().await.map_err(Unreadable::from_transport)? {
        if body.len() + piece.len() > MAX_ANSWER {
            return Err(Unreadable::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_date(value: &HeaderValue) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(value.as_bytes()).ok()
}

/// `Retry-After`: seconds or a date (RFC 9110, section 10.2.3), a date being measured by the sender's clock.
fn wait(value: &HeaderValue, portal_time: Option<Timestamp>) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until =
                http_date(value)?.duration_since(portal_time.unwrap_or_else(Timestamp::now));
            Duration::try_from(until).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
