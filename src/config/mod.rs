//! What was configured, validated as a whole: one struct per concern, no program state.
//!
//! A `Config` can only be had from [`load`], which names every fault it finds, not just the first.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// The whole of `config/worker.toml` (contract, section 5).
#[derive(Clone, Debug)]
pub struct Config {
    pub broker: BrokerConfig,
    pub topology: TopologyConfig,
    pub replies: RepliesConfig,
    pub credentials: CredentialsConfig,
    pub irp: IrpConfig,
    pub limits: LimitsConfig,
    pub retry: RetryConfig,
    pub validate: ValidateConfig,
    pub dead_letter: DeadLetterConfig,
    pub shutdown: ShutdownConfig,
    pub admin: AdminConfig,
    pub log: LogConfig,
}

/// `[broker]`
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `amqp://` or `amqps://`, with user and password; printed never.
    pub url: SecretUrl,
    /// PEM file of roots that `amqps` trusts in place of the system's.
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    /// Unacknowledged deliveries the broker may hand us; `broker.prefetch`, 0 there meaning twice `irp.concurrency`.
    pub prefetch: u16,
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
    pub default_queue: String,
    /// Globs a job's `reply_to` must match one of.
    pub allow: Vec<glob::Pattern>,
}

/// `[credentials]`
#[derive(Clone, Debug)]
pub struct CredentialsConfig {
    pub path: PathBuf,
}

/// `irp.environment`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// GSTINs need not have a valid check digit.
    Sandbox,
    Production,
}

/// `irp.provider`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The portal's own contract.
    Nic,
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
    pub environment: Environment,
    pub provider: Provider,
    /// Scheme and host, perhaps a path prefix; no trailing slash.
    pub base_url: String,
    /// PEM file of the RSA key that encrypts logins.
    pub public_key_file: PathBuf,
    /// PEM files of signing keys or certificates, globs expanded. With an optional `kid` named beside the file:
    /// an entry is `"path"` or `{ file = "path", kid = "…" }`.
    pub signing_keys: Vec<SigningKeyFile>,
    pub signatures: SignaturePolicy,
    /// Attempts under way at once.
    pub concurrency: usize,
    pub concurrency_per_gstin: usize,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub settle_time: Duration,
    pub local_address: Option<IpAddr>,
    pub proxy: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub extra_headers: Vec<(String, String)>,
    pub header_style: HeaderStyle,
    /// Codes of the portal that this build does not know, and what the operator decided they mean:
    /// `irp.unknown_codes = { "4711" = "retry" }` with `retry`, `reject` or `dead_letter` (the default for all others).
    pub unknown_codes: Vec<(String, UnknownCode)>,
}

/// What the operator decided an unclassified code of the portal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCode {
    Retry,
    Reject,
    DeadLetter,
}

/// One of `irp.signing_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyFile {
    pub file: PathBuf,
    pub kid: Option<String>,
}

/// So many in a period: `10/s`, `2/m`, `2000/day`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: NonZeroU32,
    pub period: Duration,
}

/// `[limits]`
#[derive(Clone, Copy, Debug)]
pub struct LimitsConfig {
    pub per_gstin: Rate,
    pub total: Rate,
    pub auth_per_gstin: Rate,
    pub error_budget_per_gstin: Rate,
    pub error_budget_total: Rate,
}

/// `[retry]`
#[derive(Clone, Debug)]
pub struct RetryConfig {
    /// `retry.immediate.max_elapsed`: how long one attempt goes on trying in process.
    pub immediate_max_elapsed: Duration,
    pub max_attempts: NonZeroU32,
    /// The ladder's rungs, ascending.
    pub delays: Vec<Rung>,
}

/// One rung of the delay ladder: its delay, and the text it was configured with, which names its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// `15s`: the queue is `irn.retry.15s`.
    pub name: String,
    pub delay: Duration,
}

/// `[validate]`
#[derive(Clone, Copy, Debug)]
pub struct ValidateConfig {
    pub preflight: Preflight,
}

/// `validate.preflight`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    Strict,
    Schema,
    Off,
}

/// `[dead_letter]`
#[derive(Clone, Copy, Debug)]
pub struct DeadLetterConfig {
    pub payload: DeadLetterPayload,
    pub ttl: Duration,
}

/// `dead_letter.payload`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterPayload {
    Keep,
    /// For service providers who may not store the taxpayer's document.
    Drop,
}

/// `[shutdown]`
#[derive(Clone, Copy, Debug)]
pub struct ShutdownConfig {
    pub drain_timeout: Duration,
}

/// `[admin]`
#[derive(Clone, Copy, Debug)]
pub struct AdminConfig {
    pub listen: SocketAddr,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub format: LogFormat,
    /// `error`, `warn`, `info` (default), `debug` or `trace`: for the worker's own events. Libraries beneath it are
    /// never let below `info`, because at `trace` they print what passes through them.
    pub level: tracing::Level,
}

/// A URL with a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
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
