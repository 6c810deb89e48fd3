//! Addresses of the broker, the portal and a proxy, and the headers sent along.
//!
//! The rule: an address is judged by the parser that will use it, and never quoted, because it may hold a password.

use std::net::IpAddr;

use lapin::uri::AMQPUri;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::credentials::Secret;
use super::fault::Source;
use super::section::Section;
use super::{Environment, SecretUrl};

/// Whether there is a password in it that is not RabbitMQ's well-known one.
pub(super) fn has_own_password(url: &str) -> bool {
    let url = Url::parse(url).ok();
    url.is_some_and(|url| url.password().is_some_and(|password| password != "guest"))
}

/// `broker.url`, already read.
pub(super) fn broker(s: &Section<'_>, text: &str) -> SecretUrl {
    const REMEDY: &str = "write \"amqp://user:password@host:5672/vhost\" or \"amqps://…\", with %2f for the vhost `/` and special characters percent-encoded";
    match broker_problem(text) {
        Some(problem) => s.fault("url", problem, REMEDY),
        None if text.starts_with("amqp:") && !is_on_loopback(text) => s.warn(
            "url",
            "sends the password and every document unencrypted",
            "use amqps://, unless the network between is trusted",
        ),
        None => {}
    }
    SecretUrl::new(text.to_owned())
}

fn broker_problem(text: &str) -> Option<&'static str> {
    let Ok(url) = Url::parse(text) else {
        return Some("is not a URL");
    };
    if !matches!(url.scheme(), "amqp" | "amqps") {
        return Some("is not an amqp or amqps URL");
    }
    let host = url.host_str().unwrap_or_default();
    if host.is_empty() {
        return Some("names no host");
    }
    // The client's parser takes an IPv6 literal for an absent host and connects to localhost.
    if host.starts_with('[') {
        return Some("names its host by an IPv6 address, which the AMQP client cannot use");
    }
    if url.path() == "/" {
        return Some("names the vhost with the empty name");
    }
    text.parse::<AMQPUri>()
        .is_err()
        .then_some("has a parameter that the AMQP client cannot use")
}

/// The user that `broker.url` names, who signs what is published.
pub(super) fn broker_user(s: &Section<'_>, text: &str) -> Option<String> {
    let is_named = Url::parse(text).is_ok_and(|url| !url.username().is_empty());
    if !is_named {
        let problem =
            "names no user, and with `publishers` every message has to say who published it";
        let remedy = "write the user's name into it, also where a certificate takes the place of the password: \"amqps://user@host/vhost?auth_mechanism=external\"";
        s.fault("url", problem, remedy);
        return None;
    }
    let uri: AMQPUri = text.parse().ok()?;
    Some(uri.authority.userinfo.username)
}

/// `broker.management_url`
pub(super) fn management(s: &mut Section<'_>) -> Option<SecretUrl> {
    const REMEDY: &str =
        "write \"https://user:password@host:15671\", a user with the tag `monitoring`";
    let text = s.secret("management_url", has_own_password)?;
    let text = text.expose();
    match Url::parse(text) {
        Ok(url) if !is_http(&url) => {
            s.fault("management_url", "is not an http or https URL", REMEDY)
        }
        Ok(url) if !has_userinfo(&url) => s.fault("management_url", "names no user", REMEDY),
        Ok(url) if url.scheme() == "http" && !is_loopback(&url) => {
            let remedy = "use https://, unless the network between is trusted";
            s.warn("management_url", "sends its password unencrypted", remedy);
        }
        Ok(_) => {}
        Err(_) => s.fault("management_url", "is not a URL", REMEDY),
    }
    Some(SecretUrl::new(text.to_owned()))
}

/// `irp.base_url`, without a slash at its end.
pub(super) fn portal(s: &mut Section<'_>, environment: Environment) -> String {
    let text = s.required::<String>("base_url", PORTAL_REMEDY);
    text.map_or_else(String::new, |text| {
        judge_portal(s, "base_url", &text, environment)
    })
}

/// `irp.failover_url`, without a slash at its end.
pub(super) fn failover(s: &mut Section<'_>, environment: Environment) -> Option<String> {
    let text = s.optional::<String>("failover_url")?;
    Some(judge_portal(s, "failover_url", &text, environment))
}

const PORTAL_REMEDY: &str = "set it to the scheme and host that came with your credentials, for example \"https://irp.example.in\"";

fn judge_portal(s: &Section<'_>, key: &str, text: &str, environment: Environment) -> String {
    match Url::parse(text) {
        Ok(url) => {
            for problem in portal_problems(&url, text) {
                s.fault(key, problem, PORTAL_REMEDY);
            }
            judge_transport(s, key, &url, environment);
            judge_host(s, key, &url, environment);
        }
        Err(_) => s.fault(key, "is not a URL", PORTAL_REMEDY),
    }
    text.trim_end_matches('/').to_owned()
}

/// The first segments of the portal's own paths (NIC, API list), which the worker appends.
const ENDPOINTS: [&str; 3] = ["/eivital", "/eicore", "/eiewb"];

fn portal_problems(url: &Url, text: &str) -> impl Iterator<Item = &'static str> {
    let path = url.path().trim_end_matches('/');
    let found = [
        (!is_http(url), "is not an http or https URL"),
        (has_userinfo(url), "holds a user or password"),
        (
            url.query().is_some() || url.fragment().is_some(),
            "has a query or fragment",
        ),
        (text.contains(char::is_whitespace), "has a space in it"),
        (
            path.contains("//") || text.ends_with("//"),
            "has a doubled slash in its path",
        ),
        (
            ENDPOINTS.iter().any(|endpoint| path.contains(endpoint)),
            "ends in the path of one call; the worker appends it",
        ),
    ];
    found
        .into_iter()
        .filter_map(|(is_so, problem)| is_so.then_some(problem))
}

/// `telemetry.otlp_endpoint`, without a slash at its end.
pub(super) fn collector(s: &mut Section<'_>) -> Option<String> {
    const REMEDY: &str = "write the collector's scheme, host and port for OTLP over HTTP, for example \"http://127.0.0.1:4318\"; \
        secrets for it go into the variable OTEL_EXPORTER_OTLP_HEADERS";
    let text = s.optional::<String>("otlp_endpoint")?;
    match Url::parse(&text) {
        Ok(url) => {
            let found = [
                (!is_http(&url), "is not an http or https URL"),
                (has_userinfo(&url), "holds a user or password"),
                (
                    url.query().is_some() || url.fragment().is_some(),
                    "has a query or fragment",
                ),
                (
                    url.path().ends_with("/v1/traces"),
                    "ends in the path for traces; the worker appends it",
                ),
            ];
            for (_, problem) in found.iter().filter(|(is_so, _)| *is_so) {
                s.fault("otlp_endpoint", problem, REMEDY);
            }
        }
        Err(_) => s.fault("otlp_endpoint", "is not a URL", REMEDY),
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn judge_transport(s: &Section<'_>, key: &str, url: &Url, environment: Environment) {
    const PROBLEM: &str = "sends client secrets and tokens unencrypted to another machine";
    const REMEDY: &str = "use https://";
    if url.scheme() != "http" || is_loopback(url) {
        return;
    }
    match environment {
        Environment::Production => s.fault(key, PROBLEM, REMEDY),
        Environment::Sandbox => s.warn(key, PROBLEM, REMEDY),
    }
}

/// Hosts of the portal's sandbox (NIC, sandbox portal).
const SANDBOX_HOSTS: [&str; 2] = ["gstsandbox.nic.in", "einv-apisandbox.nic.in"];
/// Hosts of the portal's production, pages included.
const PRODUCTION_HOSTS: [&str; 2] = ["einvoice1.gst.gov.in", "einvoice2.gst.gov.in"];

/// A test document registered in production is a tax document, so the two must not be mixed up.
fn judge_host(s: &Section<'_>, key: &str, url: &Url, environment: Environment) {
    let host = url.host_str().unwrap_or_default();
    let is_in = |hosts: &[&str]| {
        hosts.iter().any(|known| {
            host.strip_suffix(known)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    };
    match environment {
        Environment::Production if is_in(&SANDBOX_HOSTS) => s.fault(
            key,
            "is the portal's sandbox, but `irp.environment` is `production`",
            "set irp.environment = \"sandbox\", or use the production host",
        ),
        Environment::Sandbox if is_in(&PRODUCTION_HOSTS) => s.fault(
            key,
            "is the portal's production, but `irp.environment` is `sandbox`",
            "set irp.environment = \"production\", or use the sandbox host",
        ),
        Environment::Production | Environment::Sandbox => {}
    }
    if PRODUCTION_HOSTS.contains(&host) {
        let problem = "is the portal's web site, which does not serve its API";
        s.fault(key, problem, &format!("use https://api.{host}"));
    }
}

/// `irp.proxy`
pub(super) fn proxy(s: &mut Section<'_>) -> Option<SecretUrl> {
    let text = s.secret("proxy", has_own_password)?;
    let is_usable =
        Url::parse(text.expose()).is_ok_and(|url| is_http(&url) && url.host().is_some());
    if !is_usable {
        let remedy =
            "write \"http://host:3128\", with user:password@ before the host if it wants them";
        s.fault("proxy", "is not an http or https URL", remedy);
    }
    Some(SecretUrl::new(text.expose().to_owned()))
}

/// What the worker or its HTTP client sets. A second GSTIN header would be merged with the first and refused.
const OWN_HEADERS: [&str; 15] = [
    "authtoken",
    "client-id",
    "client-secret",
    "client_id",
    "client_secret",
    "connection",
    "content-length",
    "content-type",
    "gstin",
    "host",
    "sup-gstin",
    "sup_gstin",
    "transfer-encoding",
    "user-name",
    "user_name",
];

/// Whether `extra_headers` may hold this; if not, the fault is noted. `own` are further ones that the worker sets.
pub(super) fn header(
    s: &Section<'_>,
    source: &Source,
    key: &str,
    (name, value): (&str, &Secret),
    own: &[&str],
) -> bool {
    let is_own = |name: &str| {
        let mut all = OWN_HEADERS.iter().chain(own);
        all.any(|own| own.eq_ignore_ascii_case(name))
    };
    let problem = if name.parse::<HeaderName>().is_err() {
        "is not a header's name"
    } else if is_own(name) {
        "is a header that the worker sets itself"
    } else if HeaderValue::from_str(value.expose()).is_err() {
        "has a value that no header can carry"
    } else {
        return true;
    };
    s.fault_at(
        source,
        key,
        problem,
        "write { \"name\" = \"value\" } with a header of your gateway, in plain ASCII",
    );
    false
}

fn is_on_loopback(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
