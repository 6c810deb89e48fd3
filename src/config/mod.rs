//! What was configured, validated as a whole: one struct per concern, no program state.
//!
//! The rule: a `Config` comes from [`load()`] only, which names every fault it finds, not just the first. Commands
//! that need less load less: [`load_broker_side`], [`load_letters_side`], [`load_signing_keys`],
//! [`load_validation`], [`load_admin`], [`load_unknown_codes`].

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use accounts::load_accounts_if_any;
pub use fault::{ConfigFaults, Fault, Source};
pub use files::mode as file_mode;
pub use load::{
    Loaded, load, load_admin, load_broker_side, load_letters_side, load_signing_keys,
    load_unknown_codes, load_validation, process_environment,
};
pub use publishers::{PublisherConfig, PublishersConfig};
pub use routes::{ClientPair, HEADERS, NamedRoute, PathsConfig, Provider, RouteConfig};
pub use tree::VARIABLE_PREFIX;

mod accounts;
mod addresses;
mod checks;
pub mod credentials;
mod fault;
mod files;
mod findings;
mod load;
mod need;
mod publishers;
mod routes;
#[cfg(test)]
mod schema;
mod section;
mod setting;
mod tree;

/// The whole of `config/worker.toml` (contract, section 5).
#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach RabbitMQ.
    pub broker: BrokerConfig,
    /// Who declares the queues.
    pub topology: TopologyConfig,
    /// Where results may go.
    pub replies: RepliesConfig,
    /// Who may have jobs done, for which GSTINs.
    pub publishers: PublishersConfig,
    /// Where the accounts are listed.
    pub credentials: CredentialsConfig,
    /// How to reach the portal and what to believe of it.
    pub irp: IrpConfig,
    /// How often it may be called.
    pub limits: LimitsConfig,
    /// When to try again.
    pub retry: RetryConfig,
    /// What is judged before it is called.
    pub validate: ValidateConfig,
    /// What is kept of jobs that were given up.
    pub dead_letter: DeadLetterConfig,
    /// How large a fleet should be.
    pub scaling: ScalingConfig,
    /// How to stop.
    pub shutdown: ShutdownConfig,
    /// Where to ask how it is.
    pub admin: AdminConfig,
    /// How it tells what happens.
    pub log: LogConfig,
    /// Where it sends its spans.
    pub telemetry: TelemetryConfig,
}

/// The part of [`Config`] that concerns the broker alone: all that a machine needs which publishes jobs or declares
/// queues, and has no business with the portal.
#[derive(Clone, Debug)]
pub struct BrokerSide {
    /// How to reach RabbitMQ.
    pub broker: BrokerConfig,
    /// Where results may go.
    pub replies: RepliesConfig,
    /// The ladder's rungs, each a queue.
    pub retry: RetryConfig,
    /// How long dead letters are kept.
    pub dead_letter: DeadLetterConfig,
}

/// The part of [`Config`] that `dead-letters` uses.
#[derive(Clone, Debug)]
pub struct LettersSide {
    /// Where the letters are.
    pub broker_side: BrokerSide,
    /// `irp.settle_time`: how long what is in doubt waits before it is looked up.
    pub settle_time: Duration,
    /// At how many portals what is in doubt is looked up, at most: two, where a route has a `failover_url`.
    pub portals: u64,
    /// What replays may cost.
    pub limits: LimitsConfig,
}

/// The part of [`Config`] by which documents are judged, offline.
#[derive(Clone, Debug)]
pub struct ValidateSide {
    /// Whether GSTINs have a check digit.
    pub environment: Environment,
    /// What is judged, by which rules.
    pub validate: ValidateConfig,
}

/// `[broker]`
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `amqp://` or `amqps://`, with user and password; printed never.
    pub url: SecretUrl,
    /// PEM file of roots that `amqps` trusts in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM certificate that `amqps` shows the broker; only with `client_key_file`.
    pub client_cert_file: Option<PathBuf>,
    /// The private key of `client_cert_file`, PEM.
    pub client_key_file: Option<PathBuf>,
    /// RabbitMQ's management API, with user and password: tells `check` and `run` what AMQP does not.
    pub management_url: Option<SecretUrl>,
    /// The user of `url`, where messages have to say who published them: with `publishers`.
    pub signed_as: Option<String>,
    /// Unacknowledged deliveries the broker may hand us; `broker.prefetch`, 0 there meaning twice `irp.concurrency`.
    pub prefetch: u16,
    /// How much of the prefetch one GSTIN's deliveries may take up while they wait for their turn.
    pub share_per_gstin: Share,
}

/// A part of a whole, in percent: from 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u8);

impl Share {
    /// One half.
    pub const HALF: Self = Self(50);

    /// So many percent, if that is from 1 to 100.
    pub fn try_new(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self(percent))
    }

    /// Its part of this, at least one.
    pub fn of(self, whole: u32) -> u32 {
        (whole.saturating_mul(u32::from(self.0)) / 100).max(1)
    }
}

/// `[topology]`
#[derive(Clone, Copy, Debug)]
pub struct TopologyConfig {
    /// Whether `run` declares queues and exchanges at start; otherwise it only checks that they are there.
    pub declare: bool,
}

/// `[replies]`
#[derive(Clone, Debug)]
pub struct RepliesConfig {
    /// For jobs that name no reply queue, or one that is gone.
    pub default_queue: String,
    /// Globs a job's `reply_to` must match one of.
    pub allow: Vec<glob::Pattern>,
}

/// `[credentials]`
#[derive(Clone, Debug)]
pub struct CredentialsConfig {
    /// A file, or a folder of such files; see [`credentials::load()`].
    pub path: PathBuf,
    /// Whether dead letters of a GSTIN whose credentials were refused, or missing, go back to work when it gets new
    /// ones.
    pub replay_dead_letters: bool,
}

/// `irp.environment`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// GSTINs need not have a valid check digit.
    Sandbox,
    /// Every registration is a tax document.
    Production,
}

/// `irp.header_style`: how the client pair's headers are spelt; both are in the portal's own material.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderStyle {
    /// `client_id`, `client_secret`, `user_name`
    Underscore,
    /// `client-id`, `client-secret`, `user_name`: for routes that drop headers with underscores
    Hyphen,
}

/// `irp.signatures`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignaturePolicy {
    /// A registration is `signed` only if its signatures do not fail against a configured key.
    Require,
    /// As `require`, but keys need not be configured.
    Warn,
    /// Signatures are not looked at.
    Off,
}

/// `[irp]`
#[derive(Clone, Debug)]
pub struct IrpConfig {
    /// Which of the two worlds the address, keys and credentials are of.
    pub environment: Environment,
    /// The name of the route that this is; none for `[irp]` itself, which clients use that name no other.
    pub route_name: Option<Arc<str>>,
    /// How its portal is reached and spoken to.
    pub route: RouteConfig,
    /// The routes that have a name.
    pub routes: Vec<NamedRoute>,
    /// PEM files of signing keys or certificates, globs expanded. With an optional `kid` named beside the file:
    /// an entry is `"path"` or `{ file = "path", kid = "…" }`.
    pub signing_keys: Vec<SigningKeyFile>,
    /// What becomes of signatures that cannot be checked.
    pub signatures: SignaturePolicy,
    /// Attempts under way at once.
    pub concurrency: usize,
    /// Of them, those of one GSTIN.
    pub concurrency_per_gstin: usize,
    /// For the connection alone; a part of `request_timeout`.
    pub connect_timeout: Duration,
    /// From the first byte sent to the last one read.
    pub request_timeout: Duration,
    /// How long the portal may still be at work on a request whose answer was lost.
    pub settle_time: Duration,
    /// The address of this machine to call from: the portal admits only registered ones.
    pub local_address: Option<IpAddr>,
    /// May hold a password.
    pub proxy: Option<SecretUrl>,
    /// Codes of the portal that this build does not know, and what the operator decided they mean:
    /// `irp.unknown_codes = { "4711" = "retry" }` with `retry`, `reject` or `dead_letter` (the default for all others).
    pub unknown_codes: Vec<(String, UnknownCode)>,
}

/// A second portal of the same operator: another address, and perhaps another key for logins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverConfig {
    /// `irp.failover_url`: scheme and host, perhaps a path prefix; no trailing slash.
    pub base_url: String,
    /// `irp.failover_public_key_file`; by default the one of the first portal.
    pub public_key_file: Option<PathBuf>,
}

impl IrpConfig {
    /// The same settings for the portal to turn to, if there is one.
    pub fn for_failover(&self) -> Option<Self> {
        let FailoverConfig {
            base_url,
            public_key_file,
        } = self.route.failover.clone()?;
        let route = RouteConfig {
            base_url,
            public_key_file,
            failover: None,
            ..self.route.clone()
        };
        Some(Self {
            route,
            ..self.clone()
        })
    }
}

/// What the operator decided an unclassified code of the portal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCode {
    /// It will pass.
    Retry,
    /// The document is at fault.
    Reject,
    /// A person must look.
    DeadLetter,
}

/// One of `irp.signing_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyFile {
    /// A PEM key or certificate.
    pub file: PathBuf,
    /// The `kid` of the tokens it signs, where the file itself does not tell.
    pub kid: Option<String>,
}

/// So many in a period: `10/s`, `2/m`, `2000/day`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In how long.
    pub period: Duration,
}

/// `[limits]`
#[derive(Clone, Copy, Debug)]
pub struct LimitsConfig {
    /// Calls for one GSTIN.
    pub per_gstin: Rate,
    /// Calls in all.
    pub total: Rate,
    /// Logins for one GSTIN.
    pub auth_per_gstin: Rate,
    /// Answers for one GSTIN that the portal counts as errors.
    pub error_budget_per_gstin: Rate,
    /// The same for all GSTINs of one client (`[[client]]` of the credentials).
    pub error_budget_total: Rate,
}

/// `[retry]`
#[derive(Clone, Debug)]
pub struct RetryConfig {
    /// `retry.immediate.max_elapsed`: how long one attempt goes on trying in process.
    pub immediate_max_elapsed: Duration,
    /// Over the ladder; at least one.
    pub max_attempts: NonZeroU32,
    /// The ladder's rungs, ascending.
    pub delays: Vec<Rung>,
}

/// One rung of the delay ladder: its delay, and the text it was configured with, which names its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// `15s`: the queue is `irn.retry.15s`.
    pub name: String,
    /// How long a job waits on it.
    pub delay: Duration,
}

/// `[validate]`
#[derive(Clone, Debug)]
pub struct ValidateConfig {
    /// How much of a document is judged before the portal sees it.
    pub preflight: Preflight,
    /// Rules that take the place of those built in; see `config/rules.toml`.
    pub rules_file: Option<PathBuf>,
}

/// `validate.preflight`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// Schema and business rules.
    Strict,
    /// The schema only.
    Schema,
    /// Neither.
    Off,
}

/// `[dead_letter]`
#[derive(Clone, Copy, Debug)]
pub struct DeadLetterConfig {
    /// Whether the document stays with the dead letter.
    pub payload: DeadLetterPayload,
    /// How long a dead letter can be replayed.
    pub ttl: Duration,
}

/// `dead_letter.payload`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterPayload {
    /// It can be replayed.
    Keep,
    /// For service providers who may not store the taxpayer's document.
    Drop,
}

/// `[scaling]`
#[derive(Clone, Copy, Debug)]
pub struct ScalingConfig {
    /// How soon a backlog should be gone.
    pub work_off_within: Duration,
}

/// `[shutdown]`
#[derive(Clone, Copy, Debug)]
pub struct ShutdownConfig {
    /// How long running attempts may take to finish.
    pub drain_timeout: Duration,
}

/// `[admin]`
#[derive(Clone, Copy, Debug)]
pub struct AdminConfig {
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// `error`, `warn`, `info` (default), `debug` or `trace`: for the worker's own events. Libraries beneath it are
    /// never let below `info`, because at `trace` they print what passes through them.
    pub level: tracing::Level,
}

/// `[telemetry]`
#[derive(Clone, Debug, Default)]
pub struct TelemetryConfig {
    /// `telemetry.otlp_endpoint`: the collector's base URL, to which `/v1/traces` is appended; no trailing slash. Without
    /// it OpenTelemetry's own variables decide, and without those no span is made.
    pub otlp_endpoint: Option<String>,
}

/// A URL with a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Takes it over.
    pub fn new(url: String) -> Self {
        Self(url)
    }

    /// The URL as it is, for the one who connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretUrl(..)")
    }
}
