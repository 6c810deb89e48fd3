//! RabbitMQ's management API (`broker.management_url`): what AMQP does not tell. A user with the tag `monitoring` will do.
//!
//! One rule: it is only read, and nothing of the work depends on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Method, StatusCode, Url, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::CONTROL_EXCHANGE;
use super::survey::{Deviation, How, Kind};
use super::topology::{Argument, Queue, Topology, kind_word};
use crate::config::BrokerConfig;
use crate::config::credentials::Secret;

/// It answers within milliseconds, or is as good as gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The management API of one broker, for one virtual host.
#[derive(Debug)]
pub struct Management {
    client: Client,
    /// Without user and password.
    base: Url,
    user: String,
    password: Secret,
    vhost: String,
}

/// Why the management API says nothing.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// It cannot be asked at all.
    #[error("{0}")]
    Unreachable(String),
    /// It does not let this user in.
    #[error("it refuses the user of the URL (HTTP {0})")]
    Refused(u16),
    /// It says something else than RabbitMQ does.
    #[error("it does not answer as RabbitMQ does ({0})")]
    Unreadable(String),
}

/// The exchanges, queues and bindings of one virtual host, as they are.
#[derive(Debug)]
pub struct Seen {
    exchanges: BTreeMap<String, SeenExchange>,
    queues: BTreeMap<String, SeenQueue>,
    bindings: Vec<SeenBinding>,
    /// What each policy says.
    policies: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct SeenPolicy {
    name: String,
    definition: Value,
}

#[derive(Debug, Deserialize)]
struct SeenExchange {
    name: String,
    r#type: String,
    durable: bool,
    #[serde(default)]
    arguments: Map<String, Value>,
    #[serde(default)]
    policy: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SeenQueue {
    name: String,
    #[serde(default)]
    r#type: Option<String>,
    durable: bool,
    #[serde(default)]
    arguments: Map<String, Value>,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    operator_policy: Option<String>,
    /// A list where no policy applies.
    #[serde(default)]
    effective_policy_definition: Value,
}

#[derive(Debug, Deserialize)]
struct SeenBinding {
    source: String,
    destination: String,
    destination_type: Destination,
    routing_key: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Destination {
    Exchange,
    Queue,
}

impl Destination {
    fn kind(self) -> Kind {
        match self {
            Self::Exchange => Kind::Exchange,
            Self::Queue => Kind::Queue,
        }
    }
}

impl Management {
    /// Where `broker.management_url` points, if it is set.
    ///
    /// # Errors
    /// What is wrong with `broker.ca_file`.
    pub fn try_new(config: &BrokerConfig, vhost: &str) -> Result<Option<Self>, ManagementError> {
        let Some(url) = &config.management_url else {
            return Ok(None);
        };
        let unreachable = |problem: &str| ManagementError::Unreachable(problem.to_owned());
        let mut base = Url::parse(url.expose()).map_err(|_| unreachable("it is not a URL"))?;
        let (user, password) = (
            decoded(base.username()),
            decoded(base.password().unwrap_or_default()),
        );
        // A URL that was parsed as http has a host, and takes both.
        if base.set_username("").is_err() || base.set_password(None).is_err() {
            return Err(unreachable("it is not an http URL"));
        }
        Ok(Some(Self {
            client: client(config.ca_file.as_deref(), base.scheme() == "http")?,
            base,
            user,
            password: Secret::new(password),
            vhost: vhost.to_owned(),
        }))
    }

    /// Reads what the virtual host has.
    ///
    /// # Errors
    /// When it cannot be reached or read.
    pub async fn see(&self) -> Result<Seen, ManagementError> {
        let exchanges: Vec<SeenExchange> = self.get("exchanges").await?;
        let queues: Vec<SeenQueue> = self.get("queues").await?;
        let exchanges = exchanges.into_iter().map(|e| (e.name.clone(), e));
        let queues = queues.into_iter().map(|q| (q.name.clone(), q));
        // The list: a single one is shown to whoever may change it.
        let policies: Vec<SeenPolicy> = self.get("policies").await?;
        let policies = policies.into_iter().map(|p| (p.name, p.definition));
        Ok(Seen {
            exchanges: exchanges.collect(),
            queues: queues.collect(),
            bindings: self.get("bindings").await?,
            policies: policies.collect(),
        })
    }

    async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T, ManagementError> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", what, &self.vhost]);
        }
        let request = self
            .client
            .request(Method::GET, url)
            .basic_auth(&self.user, Some(self.password.expose()));
        let answer = request.send().await.map_err(unreachable)?;
        match answer.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(ManagementError::Refused(status.as_u16()));
            }
            status => return Err(ManagementError::Unreadable(format!("HTTP {status}"))),
        }
        let bytes = answer.bytes().await.map_err(unreachable)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ManagementError::Unreadable(error.to_string()))
    }
}

fn client(ca_file: Option<&Path>, plain: bool) -> Result<Client, ManagementError> {
    // The first of the process's users of TLS installs the provider; whoever comes second finds it there.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE);
    let builder = match ca_file {
        Some(file) => {
            let pem = std::fs::read(file);
            let roots = pem
                .ok()
                .and_then(|pem| Certificate::from_pem_bundle(&pem).ok());
            builder.tls_certs_only(roots.unwrap_or_default())
        }
        None if plain => builder.tls_certs_only([]),
        None => builder,
    };
    builder.build().map_err(unreachable)
}

/// The cause at the bottom, without the URL.
fn unreachable(error: reqwest::Error) -> ManagementError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    ManagementError::Unreachable(cause.to_string())
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = match (first, after) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = rest
            .get(if code.is_some() { 3 } else { 1 }..)
            .unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Arguments of queues that bear on whether messages stay in them: those that are expected, and those that must not be
/// there.
const ARGUMENTS: [&str; 11] = [
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-overflow",
    "x-message-ttl",
    "x-delivery-limit",
    "x-consumer-timeout",
    "x-max-length",
    "x-max-length-bytes",
    "x-expires",
    "x-single-active-consumer",
];

/// Arguments that a policy can only lower.
const LOWERED: [&str; 6] = [
    "x-message-ttl",
    "x-delivery-limit",
    "x-consumer-timeout",
    "x-max-length",
    "x-max-length-bytes",
    "x-expires",
];

/// The argument that counts for nothing on a quorum queue once there is a policy on it.
const OVERRULED: &str = "x-overflow";

impl Topology {
    /// Everything that is not as it should be, policies included.
    pub fn compare(&self, seen: &Seen) -> Vec<Deviation> {
        let mut deviations = Vec::new();
        for exchange in &self.exchanges {
            let mut note = |how| deviations.push(deviation(Kind::Exchange, &exchange.name, how));
            let Some(there) = seen.exchanges.get(&exchange.name) else {
                note(How::Missing);
                continue;
            };
            if !there.durable {
                note(How::NotDurable);
            }
            let kind = kind_word(&exchange.kind);
            if there.r#type != kind {
                note(argument("type", Some(kind), Some(&there.r#type), None));
            }
            let alternate = exchange.arguments.iter().map(|(_, value)| value.plain());
            let alternate = alternate.into_iter().next();
            let (set, policy) = seen.alternate_of(there);
            if alternate != set {
                let name = "alternate-exchange";
                note(argument(name, alternate.as_deref(), set.as_deref(), policy));
            }
        }
        for queue in &self.queues {
            match seen.queues.get(&queue.name) {
                None => deviations.push(deviation(Kind::Queue, &queue.name, How::Missing)),
                Some(there) => deviations.extend(differences(queue, there)),
            }
        }
        let unbound = self.bindings.iter().filter(|binding| {
            let both_there = seen.queues.contains_key(&binding.queue)
                && seen.exchanges.contains_key(&binding.exchange);
            both_there
                && !seen.bindings.iter().any(|there| {
                    there.source == binding.exchange
                        && there.destination == binding.queue
                        && there.routing_key == binding.key
                })
        });
        deviations.extend(self.strange_bindings(seen));
        deviations.extend(unbound.map(|binding| {
            let how = How::Unbound {
                exchange: binding.exchange.clone(),
                key: binding.key.clone(),
            };
            deviation(Kind::Queue, &binding.queue, how)
        }));
        deviations
    }
}

impl Topology {
    /// Bindings of the worker's exchanges and queues that nobody expects.
    fn strange_bindings(&self, seen: &Seen) -> Vec<Deviation> {
        let exchange = |name: &str| self.exchanges.iter().any(|exchange| exchange.name == name);
        let queue = |name: &str| self.queues.iter().any(|queue| queue.name == name);
        let mut strange = Vec::new();
        for there in &seen.bindings {
            let (from, to) = (there.source.as_str(), there.destination.as_str());
            let kind = there.destination_type.kind();
            let from_own = exchange(from);
            let to_own = match kind {
                Kind::Exchange => exchange(to),
                Kind::Queue => queue(to),
            };
            let is_expected = kind == Kind::Queue
                && self.bindings.iter().any(|binding| {
                    (binding.exchange.as_str(), binding.queue.as_str()) == (from, to)
                        && binding.key == there.routing_key
                });
            // Each queue is bound to the default exchange, and each replica listens to orders with a queue of its own.
            let is_usual = from.is_empty() || from == CONTROL_EXCHANGE && !to_own;
            if !(from_own || to_own) || is_expected || is_usual {
                continue;
            }
            let how = How::Bound {
                exchange: from.to_owned(),
                key: there.routing_key.clone(),
                among_own: from_own && to_own,
            };
            strange.push(deviation(kind, to, how));
        }
        strange
    }
}

impl Seen {
    /// The alternate exchange of this one, and the policy that sets it, if one does: what the exchange says itself
    /// prevails. Operator policies set none.
    fn alternate_of<'a>(&self, exchange: &'a SeenExchange) -> (Option<String>, Option<&'a str>) {
        const NAME: &str = "alternate-exchange";
        if let Some(set) = exchange.arguments.get(NAME) {
            return (Some(plain(set)), None);
        }
        let policy = exchange.policy.as_deref();
        let of_policy = policy.and_then(|policy| self.policies.get(policy)?.get(NAME));
        (of_policy.map(plain), policy.filter(|_| of_policy.is_some()))
    }
}

fn deviation(kind: Kind, name: &str, how: How) -> Deviation {
    Deviation {
        kind,
        name: name.to_owned(),
        how,
    }
}

fn argument(name: &str, expected: Option<&str>, seen: Option<&str>, policy: Option<&str>) -> How {
    How::Argument {
        name: name.to_owned(),
        expected: expected.map(str::to_owned),
        seen: seen.map(str::to_owned),
        policy: policy.map(str::to_owned),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn differences(queue: &Queue, there: &SeenQueue) -> Vec<Deviation> {
    let mut found = Vec::new();
    if !there.durable {
        found.push(How::NotDurable);
    }
    let kind = there.r#type.as_deref().unwrap_or("classic");
    let expected = queue.argument("x-queue-type").map(Argument::plain);
    if expected.as_deref() != Some(kind) {
        let name = "x-queue-type";
        found.push(argument(name, expected.as_deref(), Some(kind), None));
    }
    for name in ARGUMENTS {
        let expected = queue.argument(name).map(Argument::plain);
        let (seen, by_policy) = there.effective(name);
        if seen != expected {
            let policies = [&there.operator_policy, &there.policy];
            let policy = policies
                .into_iter()
                .flatten()
                .find(|policy| !policy.is_empty());
            let policy = policy.filter(|_| by_policy).map(String::as_str);
            found.push(argument(name, expected.as_deref(), seen.as_deref(), policy));
        }
    }
    let found = found.into_iter();
    found
        .map(|how| deviation(Kind::Queue, &queue.name, how))
        .collect()
}

impl SeenQueue {
    /// What holds of an argument and the policy's word on it, and whether the policy decided.
    fn effective(&self, argument: &str) -> (Option<String>, bool) {
        let set = self.arguments.get(argument);
        let key = argument.strip_prefix("x-").unwrap_or(argument);
        let policy = self.effective_policy_definition.get(key);
        let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
        match (set, policy) {
            // The one argument over which a policy prevails at a quorum queue.
            (Some(_), Some(policy)) if argument == "x-overflow" => (Some(plain(policy)), true),
            (Some(set), Some(policy)) => {
                let lowers = LOWERED.contains(&argument) && number(policy) < number(set);
                let decides = lowers || argument == OVERRULED;
                (Some(plain(if decides { policy } else { set })), decides)
            }
            (set, policy) => (set.or(policy).map(plain), set.is_none() && policy.is_some()),
        }
    }
}

#[cfg(test)]
mod tests;
