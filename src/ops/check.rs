//! `irn-worker check`: what is right and what is not, line by line, each fault with its remedy.
//!
//! The rule: a finding is a sentence an operator can act on, and never holds a secret.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::tls::validity;

use crate::config::credentials::{self, Account, Credentials, LONGEST_LOGIN_BYTES};
use crate::config::{
    self, Config, ConfigFaults, Environment, Fault, IrpConfig, Provider, SignaturePolicy,
};
use crate::preflight::Preflight;

/// How a finding bears on the command's success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It could not be looked at from here.
    Skipped,
    /// Allowed, and probably not meant.
    Warning,
    /// Something that was tried did not work.
    Failed,
    /// The broker or the portal cannot be reached.
    Unreachable,
    /// The configuration must be put right first.
    Misconfigured,
}

impl Verdict {
    /// The word before a line, and `verdict` in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skip",
            Self::Warning => "warn",
            Self::Failed | Self::Unreachable | Self::Misconfigured => "fail",
        }
    }

    /// The command's exit code if nothing is worse than this (contract, section 1).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok | Self::Skipped | Self::Warning => 0,
            Self::Failed => 1,
            Self::Misconfigured => 2,
            Self::Unreachable => 3,
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it is right.
    pub verdict: Verdict,
    /// What was looked at, and what was found.
    pub what: String,
    /// What to do about it; absent when it is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Messages would be lost: `run` does not start with it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub loses_messages: bool,
}

impl Finding {
    /// Something that is as it should be.
    pub fn ok(what: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            what: what.into(),
            remedy: None,
            loses_messages: false,
        }
    }

    /// Something that is not.
    pub fn new(verdict: Verdict, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict,
            what: what.into(),
            remedy: Some(remedy.into()),
            loses_messages: false,
        }
    }

    /// The same, and messages are lost by it.
    pub(super) fn losing_messages(self) -> Self {
        Self {
            loses_messages: true,
            ..self
        }
    }

    fn of_fault(verdict: Verdict, fault: Fault) -> Self {
        let Fault {
            source,
            key,
            problem,
            remedy,
        } = fault;
        let what = if key.is_empty() {
            format!("{source}: {problem}")
        } else {
            format!("{source}: {}: {problem}", key.escape_debug())
        };
        Self::new(verdict, what, remedy)
    }
}

/// All that was found, and the exit code that follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// 0 when nothing failed, else what the worst finding calls for: configuration before reachability before the
    /// rest, because the later ones may be the earlier one's doing.
    pub fn exit_code(&self) -> u8 {
        let worst = self.findings.iter().map(|finding| finding.verdict).max();
        worst.unwrap_or(Verdict::Ok).exit_code()
    }

    /// One line per finding, its remedy on the next, then the count.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        for finding in &self.findings {
            writeln!(out, "{:<5} {}", finding.verdict.as_str(), finding.what)?;
            if let Some(remedy) = &finding.remedy {
                writeln!(out, "      -> {remedy}")?;
            }
        }
        let count = |word| {
            self.findings
                .iter()
                .filter(|f| f.verdict.as_str() == word)
                .count()
        };
        write!(
            out,
            "{} ok, {} warnings, {} failed",
            count("ok"),
            count("warn"),
            count("fail")
        )?;
        match count("skip") {
            0 => writeln!(out),
            skipped => writeln!(out, ", {skipped} not checked"),
        }
    }

    /// `{"exit_code": 0, "findings": [{"verdict": "ok", "what": "…", "remedy": "…"}]}` on one line.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let report =
            serde_json::json!({ "exit_code": self.exit_code(), "findings": self.findings });
        writeln!(out, "{report}")
    }
}

/// What can be checked without the network, and what was loaded on the way for the checks that need it.
#[derive(Debug)]
pub struct Offline {
    /// The findings so far.
    pub report: Report,
    /// Absent when it is at fault.
    pub config: Option<Config>,
    /// Absent when they, or the configuration that names them, are at fault.
    pub credentials: Option<Credentials>,
}

/// Checks the configuration file under `environment`, the files it names, and the credentials.
pub fn offline(path: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Offline {
    let mut report = Report::default();
    let config = configuration(path, environment, &mut report.findings);
    let credentials = config
        .as_ref()
        .and_then(|config| account_book(config, &mut report.findings));
    Offline {
        report,
        config,
        credentials,
    }
}

fn configuration(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    findings: &mut Vec<Finding>,
) -> Option<Config> {
    let loaded = config::load(path, environment)
        .map_err(|faults| add_faults(faults, findings))
        .ok()?;
    findings.push(Finding::ok(format!(
        "configuration {}: complete",
        path.display()
    )));
    let routes = loaded.config.irp.each_route();
    findings.extend(routes.iter().map(|route| Finding::ok(portal(route))));
    findings.push(Finding::ok(signing_keys(&loaded.config)));
    findings.push(preflight(&loaded.config));
    findings.extend(named_files(&loaded.config));
    findings.extend(certificates(&loaded.config));
    add_warnings(loaded.warnings, findings);
    Some(loaded.config)
}

fn portal(irp: &IrpConfig) -> String {
    let environment = match irp.environment {
        Environment::Sandbox => "sandbox",
        Environment::Production => "production",
    };
    let address = &irp.route.base_url;
    let contract = match irp.route.provider {
        Provider::Nic => "",
        Provider::MasterGst => ", by the contract of MasterGST",
    };
    match &irp.route_name {
        None => format!("portal: {environment} at {address}{contract}"),
        Some(name) => format!("route {name}: {environment} at {address}{contract}"),
    }
}

fn signing_keys(config: &Config) -> String {
    let policy = match config.irp.signatures {
        SignaturePolicy::Require => "required",
        SignaturePolicy::Warn => "not required",
        SignaturePolicy::Off => "not looked at",
    };
    format!(
        "signatures: {policy}, {} key files",
        config.irp.signing_keys.len()
    )
}

fn preflight(config: &Config) -> Finding {
    let mode = match config.validate.preflight {
        config::Preflight::Strict => "schema and business rules",
        config::Preflight::Schema => "schema only",
        config::Preflight::Off => "off",
    };
    let rules = match &config.validate.rules_file {
        Some(file) => format!("rules of {}", file.display()),
        None => "built-in rules".to_owned(),
    };
    match Preflight::new(&config.validate, config.irp.environment) {
        Ok(_) => Finding::ok(format!("pre-flight: {mode}, {rules}")),
        Err(fault) => {
            let remedy = "correct the file, or start again from a copy of config/rules.toml";
            Finding::new(Verdict::Misconfigured, fault.to_string(), remedy)
        }
    }
}

fn named_files(config: &Config) -> impl Iterator<Item = Finding> {
    let Config { broker, irp, .. } = config;
    let files = [
        ("broker.ca_file", broker.ca_file.as_ref()),
        ("broker.client_cert_file", broker.client_cert_file.as_ref()),
        ("broker.client_key_file", broker.client_key_file.as_ref()),
    ];
    let files = files.map(|(key, file)| (key.to_owned(), file.cloned()));
    let routes = irp.each_route();
    let of_routes = routes.into_iter().flat_map(|route| {
        ["public_key_file", "ca_file"].map(|key| (route.key(key), route_file(&route, key)))
    });
    // What a route has from [irp] is told of once.
    let mut seen = BTreeSet::new();
    let single = files
        .into_iter()
        .chain(of_routes)
        .filter_map(|(key, file)| Some((key, file?)))
        .filter(move |(key, file)| {
            let side = key.split('.').next().map(str::to_owned);
            let kind = key.rsplit('.').next().map(str::to_owned);
            seen.insert((side, kind, file.clone()))
        });
    let keys = irp
        .signing_keys
        .iter()
        .map(|key| ("irp.signing_keys".to_owned(), key.file.clone()));
    single
        .chain(keys)
        .map(|(key, file)| file_finding(&key, &file))
}

fn route_file(irp: &IrpConfig, key: &str) -> Option<PathBuf> {
    if key == "ca_file" {
        irp.route.ca_file.clone()
    } else {
        irp.route.public_key_file.clone()
    }
}

fn certificates(config: &Config) -> Vec<Finding> {
    let Config { broker, irp, .. } = config;
    let named = [
        ("broker.ca_file", broker.ca_file.as_deref()),
        (
            "broker.client_cert_file",
            broker.client_cert_file.as_deref(),
        ),
        ("irp.ca_file", irp.route.ca_file.as_deref()),
    ];
    let named = named
        .into_iter()
        .filter_map(|(key, file)| Some((key.to_owned(), file?)));
    let of_routes = irp.routes.iter().filter_map(|named| {
        let file = named.route.ca_file.as_deref();
        let own = file.filter(|file| Some(*file) != irp.route.ca_file.as_deref())?;
        Some((format!("irp.routes.{}.ca_file", named.name), own))
    });
    let keys = irp
        .signing_keys
        .iter()
        .map(|key| ("irp.signing_keys".to_owned(), &*key.file));
    let now = Timestamp::now();
    named
        .chain(of_routes)
        .chain(keys)
        .flat_map(|(key, file)| validity(&key, file, now))
        .collect()
}

/// A public file must be safe from change, a private key from reading as well.
fn file_finding(key: &str, file: &Path) -> Finding {
    let mode = config::file_mode(file).unwrap_or_default();
    let what = format!("{key}: {} has mode {mode:04o}", file.display());
    let is_private = key == "broker.client_key_file";
    if mode & 0o002 != 0 {
        let what = format!("{what} and can be changed by every user of this machine");
        Finding::new(Verdict::Warning, what, "chmod o-w")
    } else if is_private && mode & 0o004 != 0 {
        let what = format!("{what} and can be read by every user of this machine");
        Finding::new(Verdict::Warning, what, "chmod o-rwx")
    } else {
        Finding::ok(what)
    }
}

fn account_book(config: &Config, findings: &mut Vec<Finding>) -> Option<Credentials> {
    let path = &config.credentials.path;
    let reading = credentials::read(path, &config.irp);
    let loaded = reading
        .result
        .map_err(|faults| add_faults(faults, findings))
        .ok()?;
    let others = reading.files.iter().filter(|file| *file != path);
    findings.extend(others.filter_map(|file| secret_file(file)));
    let mut accounts: Vec<&Account> = loaded
        .credentials
        .accounts
        .values()
        .map(AsRef::as_ref)
        .collect();
    accounts.sort_by_key(|account| account.gstin);
    let mode = config::file_mode(path).unwrap_or_default();
    findings.push(Finding::ok(format!(
        "credentials {}: {} GSTINs, mode {mode:04o}",
        path.display(),
        accounts.len()
    )));
    findings.extend(
        accounts
            .into_iter()
            .map(|account| Finding::ok(login(account))),
    );
    findings.extend(unused_routes(config, &loaded.credentials));
    add_warnings(loaded.warnings, findings);
    Some(loaded.credentials)
}

/// Routes that nobody takes; the one of `[irp]` itself has to be there.
fn unused_routes(config: &Config, credentials: &Credentials) -> Vec<Finding> {
    let routes = config.irp.routes.iter();
    let unused = routes.filter(|named| !credentials.uses(Some(&named.name)));
    let unused = unused.map(|named| {
        let what = format!(
            "route {}: no client of the credentials takes it",
            named.name
        );
        let remedy = "name it in a client of the credentials file (route = \"NAME\"), or remove it";
        Finding::new(Verdict::Warning, what, remedy)
    });
    unused.collect()
}

/// Who may read it is told of where it is named; who may change it can have the worker use another account.
fn secret_file(file: &Path) -> Option<Finding> {
    let mode = config::file_mode(file)?;
    let what = format!("secrets: {} has mode {mode:04o}", file.display());
    if mode & 0o002 != 0 {
        let what = format!("{what} and can be changed by every user of this machine");
        return Some(Finding::new(Verdict::Warning, what, "chmod o-rwx"));
    }
    (mode & 0o004 == 0).then(|| Finding::ok(what))
}

fn login(account: &Account) -> String {
    let (gstin, client) = (account.gstin, account.client.name.escape_debug());
    let route = account.client.route.as_deref();
    let route = route
        .map(|name| format!(" over route {name}"))
        .unwrap_or_default();
    match &account.client.subscriber {
        Some(subscriber) => format!(
            "credentials of {gstin}: client {client}{route}, calling from {}",
            subscriber.ip_address
        ),
        None => format!(
            "credentials of {gstin}: client {client}{route}, user and password take {} of {LONGEST_LOGIN_BYTES} characters",
            account.login_bytes()
        ),
    }
}

fn add_faults(faults: ConfigFaults, findings: &mut Vec<Finding>) {
    let misconfigured = |fault| Finding::of_fault(Verdict::Misconfigured, fault);
    findings.extend(faults.faults.into_iter().map(misconfigured));
    add_warnings(faults.warnings, findings);
}

fn add_warnings(warnings: Vec<Fault>, findings: &mut Vec<Finding>) {
    findings.extend(
        warnings
            .into_iter()
            .map(|fault| Finding::of_fault(Verdict::Warning, fault)),
    );
}
