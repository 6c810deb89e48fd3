//! `config/worker.toml` and the environment, key by key with its default (contract, section 5).

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::credentials::Secret;
use super::fault::{ConfigFaults, Fault, Source};
use super::findings::Findings;
use super::need::Need;
use super::publishers::publishers;
use super::routes::{Inherited, route, routes};
use super::section::Section;
use super::setting::{ReadableFile, Setting as _};
use super::tree::{self, Item, Value};
use super::{
    AdminConfig, BrokerConfig, BrokerSide, Config, CredentialsConfig, DeadLetterConfig,
    DeadLetterPayload, Environment, IrpConfig, LettersSide, LimitsConfig, LogConfig, LogFormat,
    Preflight, Provider, Rate, RepliesConfig, RetryConfig, Rung, ScalingConfig, Share,
    ShutdownConfig, SignaturePolicy, SigningKeyFile, TelemetryConfig, TopologyConfig, UnknownCode,
    ValidateConfig, ValidateSide, addresses, checks, files,
};

/// A configuration, or a part of one, without fault, and what was noticed in it all the same.
#[derive(Clone, Debug)]
pub struct Loaded<T = Config> {
    /// What is to be done.
    pub config: T,
    /// Allowed, and probably not meant.
    pub warnings: Vec<Fault>,
}

/// Reads the file, lays `environment` over it, and checks the whole.
///
/// Relative paths in it start at the working directory. Of `environment`, only names that begin with
/// [`super::VARIABLE_PREFIX`] count; [`super::process_environment`] is the process's own.
///
/// # Errors
/// All faults, not just the first. When the file is not TOML throughout, what only seems missing is left out.
pub fn load(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigFaults> {
    load_part(path, environment, Need::Everything, |config| config)
}

/// As [`load`], for a command that only talks to the broker: what concerns the portal and the worker's own life may
/// be absent, and so may the files it names.
///
/// # Errors
/// As [`load`].
pub fn load_broker_side(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<BrokerSide>, ConfigFaults> {
    load_part(path, environment, Need::BrokerSide, broker_side)
}

fn broker_side(config: Config) -> BrokerSide {
    BrokerSide {
        broker: config.broker,
        replies: config.replies,
        retry: config.retry,
        dead_letter: config.dead_letter,
    }
}

/// As [`load_broker_side`], with what the dead letters' commands need besides; it has defaults.
///
/// # Errors
/// As [`load`].
pub fn load_letters_side(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<LettersSide>, ConfigFaults> {
    load_part(path, environment, Need::LettersSide, |config| LettersSide {
        settle_time: config.irp.settle_time,
        portals: config.irp.most_portals(),
        limits: config.limits,
        broker_side: broker_side(config),
    })
}

/// As [`load`], for a command that only verifies: all but `irp.signing_keys` may be absent.
///
/// # Errors
/// As [`load`].
pub fn load_signing_keys(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<Vec<SigningKeyFile>>, ConfigFaults> {
    load_part(path, environment, Need::SigningKeys, |config| {
        config.irp.signing_keys
    })
}

/// As [`load`], for a command that only judges documents: all but `irp.environment` and `validate` may be absent.
/// Without a path only the environment is read, over the defaults.
///
/// # Errors
/// As [`load`].
pub fn load_validation(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<ValidateSide>, ConfigFaults> {
    let part = |config: Config| ValidateSide {
        environment: config.irp.environment,
        validate: config.validate,
    };
    load_part_or_defaults(path, environment, Need::Validation, part)
}

/// As [`load_validation`], for a command that only says what codes mean: all but `irp.unknown_codes` may be absent.
///
/// # Errors
/// As [`load`].
pub fn load_unknown_codes(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<Vec<(String, UnknownCode)>>, ConfigFaults> {
    load_part_or_defaults(path, environment, Need::UnknownCodes, |config| {
        config.irp.unknown_codes
    })
}

/// Without a path only the environment is read, over the defaults.
fn load_part_or_defaults<T>(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    need: Need,
    part: impl FnOnce(Config) -> T,
) -> Result<Loaded<T>, ConfigFaults> {
    match path {
        Some(path) => load_part(path, environment, need, part),
        None => load_text(Path::new("defaults"), "", environment, need, part),
    }
}

/// As [`load`], for a command that only asks a worker on this machine how it is: all but `admin` may be absent.
///
/// # Errors
/// As [`load`].
pub fn load_admin(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<AdminConfig>, ConfigFaults> {
    load_part(path, environment, Need::Admin, |config| config.admin)
}

/// `part` takes what `need` covers; the rest of the whole may be stand-ins.
pub(super) fn load_part<T>(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    need: Need,
    part: impl FnOnce(Config) -> T,
) -> Result<Loaded<T>, ConfigFaults> {
    match files::read_text(path) {
        Ok(text) => load_text(path, &text, environment, need, part),
        Err(problem) => Err(unreadable(Source::file(&Arc::from(path)), problem)),
    }
}

fn load_text<T>(
    path: &Path,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    need: Need,
    part: impl FnOnce(Config) -> T,
) -> Result<Loaded<T>, ConfigFaults> {
    let path: Arc<Path> = Arc::from(path);
    let source = Source::file(&path);
    let findings = Findings::for_need(need);
    let (mut root, faults) = tree::parse(&path, tree::whole(text));
    findings.syntax(faults);
    findings.extend(tree::overlay(&mut root, environment));
    let config = Section::read_root(&findings, source, Path::new(""), root, worker);
    checks::across_sections(&config, &findings);
    let warnings = findings.finish()?;
    Ok(Loaded {
        config: part(config),
        warnings,
    })
}

/// The process's own environment, for [`load`]. A byte that is not UTF-8 becomes a replacement character.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, text)| (lossy(name), lossy(text)))
}

fn unreadable(source: Source, problem: String) -> ConfigFaults {
    let fault = Fault {
        source,
        key: String::new(),
        problem,
        remedy: "create it, or name another with --config".to_owned(),
    };
    ConfigFaults {
        faults: vec![fault],
        warnings: Vec::new(),
    }
}

/// Takes the whole file.
pub(super) fn worker(root: &mut Section<'_>) -> Config {
    let retry = root.section("retry", retry);
    let irp = root.section("irp", |s| irp(s, &retry));
    let publishers = publishers(root);
    Config {
        broker: root.section("broker", |s| {
            broker(s, irp.concurrency, !publishers.is_empty())
        }),
        publishers,
        topology: root.section("topology", |s| TopologyConfig {
            declare: s.or("declare", true),
        }),
        replies: root.section("replies", replies),
        credentials: root.section("credentials", |s| CredentialsConfig {
            path: s.or("path", PathBuf::from("config/credentials.toml")),
            replay_dead_letters: s.or("replay_dead_letters", false),
        }),
        irp,
        limits: root.section("limits", limits),
        retry,
        validate: root.section("validate", |s| ValidateConfig {
            preflight: s.or("preflight", Preflight::Strict),
            rules_file: s.file("rules_file"),
        }),
        dead_letter: root.section("dead_letter", |s| DeadLetterConfig {
            payload: s.or("payload", DeadLetterPayload::Keep),
            ttl: s.or("ttl", Duration::from_secs(72 * 3600)),
        }),
        scaling: root.section("scaling", |s| ScalingConfig {
            work_off_within: s.or("work_off_within", Duration::from_secs(300)),
        }),
        shutdown: root.section("shutdown", |s| ShutdownConfig {
            drain_timeout: s.or("drain_timeout", Duration::from_secs(25)),
        }),
        admin: root.section("admin", |s| AdminConfig {
            listen: s.or("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 9464))),
        }),
        log: root.section("log", log),
        telemetry: root.section("telemetry", |s| TelemetryConfig {
            otlp_endpoint: addresses::collector(s),
        }),
    }
}

/// RabbitMQ's own default, which it admits from loopback only.
pub(super) const DEFAULT_BROKER_URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

fn broker(s: &mut Section<'_>, concurrency: usize, is_signed: bool) -> BrokerConfig {
    let url = s.secret("url", addresses::has_own_password);
    let url = url.as_ref().map_or(DEFAULT_BROKER_URL, Secret::expose);
    BrokerConfig {
        url: addresses::broker(s, url),
        management_url: addresses::management(s),
        signed_as: is_signed.then(|| addresses::broker_user(s, url)).flatten(),
        ca_file: s.file("ca_file"),
        client_cert_file: s.file("client_cert_file"),
        client_key_file: s.file("client_key_file"),
        prefetch: match s.or("prefetch", 0) {
            0 => u16::try_from(2 * concurrency).unwrap_or(u16::MAX),
            prefetch => prefetch,
        },
        share_per_gstin: s.or("share_per_gstin", Share::HALF),
    }
}

fn replies(s: &mut Section<'_>) -> RepliesConfig {
    // "irn.results" and "erp.*" are globs: no brackets, no doubled stars.
    let default = ["irn.results", "erp.*"].map(|glob| glob::Pattern::new(glob).unwrap_or_default());
    RepliesConfig {
        default_queue: s.or("default_queue", "irn.results".to_owned()),
        allow: s.list(
            "allow",
            "write a list of globs, for example [\"irn.results\", \"erp.*\"]",
            default.to_vec(),
        ),
    }
}

fn irp(s: &mut Section<'_>, retry: &RetryConfig) -> IrpConfig {
    let environment = s.or("environment", Environment::Production);
    let signing_keys = signing_keys(s);
    let request_timeout = s.or("request_timeout", Duration::from_secs(30));
    let mut inherited = Inherited {
        environment,
        provider: Provider::Nic,
        public_key_file: None,
        ca_file: None,
    };
    let route = route(s, inherited);
    inherited.provider = route.provider;
    inherited.ca_file = route.ca_file.as_deref();
    inherited.public_key_file = match route.provider {
        // Missing or unreadable it is one fault, and not one of every route.
        Provider::Nic => Some(route.public_key_file.as_deref().unwrap_or(Path::new(""))),
        Provider::MasterGst => route.public_key_file.as_deref(),
    };
    let routes = routes(s, inherited);
    IrpConfig {
        environment,
        route_name: None,
        route,
        routes,
        signatures: s.or("signatures", default_policy(&signing_keys)),
        signing_keys,
        concurrency: s.or("concurrency", 64),
        concurrency_per_gstin: s.or("concurrency_per_gstin", 8),
        // Whoever shortens the whole should not have to shorten its part as well.
        connect_timeout: s.or(
            "connect_timeout",
            Duration::from_secs(5).min(request_timeout),
        ),
        request_timeout,
        // Nor who shortens the ladder what has to find room on it.
        settle_time: s.or("settle_time", SETTLE_TIME.min(longest_rung(retry))),
        local_address: s.optional("local_address"),
        proxy: addresses::proxy(s),
        unknown_codes: unknown_codes(s),
    }
}

/// Unless it is set, or the ladder is shorter.
const SETTLE_TIME: Duration = Duration::from_secs(30);

fn longest_rung(retry: &RetryConfig) -> Duration {
    retry.delays.last().map_or(SETTLE_TIME, |rung| rung.delay)
}

fn default_policy(signing_keys: &[SigningKeyFile]) -> SignaturePolicy {
    if signing_keys.is_empty() {
        SignaturePolicy::Warn
    } else {
        SignaturePolicy::Require
    }
}

const SIGNING_KEYS_REMEDY: &str =
    "write a list of paths or globs, or of { file = \"path\", kid = \"name\" }";

/// By path, so that overlapping globs name a file once; a `kid` beside the file wins.
fn signing_keys(s: &mut Section<'_>) -> Vec<SigningKeyFile> {
    let mut by_path: BTreeMap<PathBuf, Option<String>> = BTreeMap::new();
    for (key, item) in s
        .items("signing_keys", SIGNING_KEYS_REMEDY)
        .unwrap_or_default()
    {
        if let Value::Table(_) = item.value {
            let named = s.nested("signing_keys", &key, &item, |entry| {
                let file = entry.required_file("file", "name the key's PEM file");
                let kid = entry.required(
                    "kid",
                    "name the `kid` of the tokens it signs, or list the bare path",
                );
                file.zip(kid)
            });
            by_path.extend(named.map(|(path, kid): (_, String)| (path, Some(kid))));
        } else {
            for path in matching_files(s, &key, &item) {
                by_path.entry(path).or_default();
            }
        }
    }
    by_path
        .into_iter()
        .map(|(file, kid)| SigningKeyFile { file, kid })
        .collect()
}

fn matching_files(s: &Section<'_>, key: &str, item: &Item) -> Vec<PathBuf> {
    let pattern = s.one::<glob::Pattern>(key, item);
    let Some(pattern) = pattern.filter(|_| s.is_needed(key)) else {
        return Vec::new();
    };
    let found: Vec<PathBuf> = glob::glob(pattern.as_str())
        .map(|paths| paths.flatten().filter(|path| path.is_file()).collect())
        .unwrap_or_default();
    if found.is_empty() {
        let problem = "names no file that can be found";
        s.fault_at(&item.source, key, problem, &ReadableFile::remedy());
    }
    let readable = |path: &PathBuf| s.file_at(key, &path_item(item, path));
    found.iter().filter_map(readable).collect()
}

/// A path that a glob found, as if it had been written in the glob's place.
fn path_item(glob: &Item, path: &Path) -> Item {
    Item {
        source: glob.source.clone(),
        value: Value::Text(path.to_string_lossy().into_owned().into()),
    }
}

fn unknown_codes(s: &mut Section<'_>) -> Vec<(String, UnknownCode)> {
    let entries = s.entries("unknown_codes", "write { \"4711\" = \"retry\" }");
    entries
        .into_iter()
        .filter_map(|(code, item)| {
            let meaning = s.one(&format!("unknown_codes.{code}"), &item)?;
            Some((code, meaning))
        })
        .collect()
}

fn limits(s: &mut Section<'_>) -> LimitsConfig {
    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);
    LimitsConfig {
        per_gstin: s.or("per_gstin", rate(10, SECOND)),
        total: s.or("total", rate(100, SECOND)),
        auth_per_gstin: s.or("auth_per_gstin", rate(2, MINUTE)),
        error_budget_per_gstin: s.or("error_budget_per_gstin", rate(2_000, DAY)),
        error_budget_total: s.or("error_budget_total", rate(20_000, DAY)),
    }
}

fn rate(count: u32, period: Duration) -> Rate {
    let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    Rate { count, period }
}

fn retry(s: &mut Section<'_>) -> RetryConfig {
    const MINUTE: u64 = 60;
    let default = [
        ("15s", 15),
        ("1m", MINUTE),
        ("5m", 5 * MINUTE),
        ("15m", 15 * MINUTE),
        ("1h", 60 * MINUTE),
    ];
    let default = default.map(|(name, seconds)| Rung {
        name: name.to_owned(),
        delay: Duration::from_secs(seconds),
    });
    RetryConfig {
        immediate_max_elapsed: s.section("immediate", |s| {
            s.or("max_elapsed", Duration::from_secs(10))
        }),
        max_attempts: s.or("max_attempts", NonZeroU32::MIN.saturating_add(11)),
        delays: s.list(
            "delays",
            "write a list of ascending delays, for example [\"15s\", \"1m\"]",
            default.to_vec(),
        ),
    }
}

fn log(s: &mut Section<'_>) -> LogConfig {
    let default = if std::io::stderr().is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    LogConfig {
        format: s.or("format", default),
        level: s.or("level", tracing::Level::INFO),
    }
}
