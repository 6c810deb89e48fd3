//! The part of `check` that asks the portal: its keys, its clock and, if asked for, the accounts.
//!
//! One rule: without `--login` nothing is sent that names a taxpayer or a client.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::SignedDuration;
use x509_parser::pem::Pem;

use super::check::{Finding, Verdict};
use super::tls::remedy_for;
use crate::config::credentials::{Account, Credentials};
use crate::config::{Config, IrpConfig};
use crate::irn::hex;
use crate::irp::codes::explain;
use crate::irp::{Irp, IrpError, Pinged};

/// Date headers are in whole seconds, and answers take their time.
const UNNOTICED: SignedDuration = SignedDuration::from_secs(10);

/// Dates of documents and the expiry of tokens are off by that much: near midnight, documents are refused.
const TOO_FAR: SignedDuration = SignedDuration::from_secs(60);

/// Asks the portal of each route, and the other one where there is one.
pub(super) async fn check(
    config: &Config,
    credentials: Option<&Credentials>,
    login: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for route in config.irp.each_route() {
        findings.extend(check_one(&route, credentials, login).await);
        if let Some(failover) = route.for_failover() {
            findings.extend(check_one(&failover, credentials, login).await);
        }
    }
    findings
}

async fn check_one(
    config: &IrpConfig,
    credentials: Option<&Credentials>,
    login: bool,
) -> Vec<Finding> {
    let irp = match Irp::try_new(config) {
        Ok(irp) => irp,
        Err(fault) => {
            let what = fault.to_string();
            return vec![Finding::new(Verdict::Misconfigured, what, fault.remedy)];
        }
    };
    let mut findings: Vec<Finding> = fingerprint(config).into_iter().collect();
    match irp.ping().await {
        Ok(pinged) => {
            findings.push(clock(config, pinged.clock));
            findings.extend(stranger(config, pinged).filter(|_| !login));
        }
        Err(error) => {
            findings.push(unreachable(config, &error));
            return findings;
        }
    }
    if let Some(credentials) = credentials.filter(|_| login) {
        findings.extend(logins(config, &irp, credentials).await);
    }
    findings
}

/// For comparing with what the portal publishes, whatever form the key came in.
fn fingerprint(config: &IrpConfig) -> Option<Finding> {
    let file = config.route.public_key_file.as_ref()?;
    let bytes = std::fs::read(file).ok()?;
    let pem = Pem::iter_from_buffer(&bytes).flatten().next()?;
    let sha256 = hex(digest(&SHA256, &pem.contents).as_ref());
    let what = format!(
        "key for logins{} {}: {}, SHA-256 {sha256}",
        of_route(config),
        file.display(),
        pem.label.to_lowercase()
    );
    Some(Finding::ok(what))
}

/// Which route is meant, where it has a name.
fn of_route(config: &IrpConfig) -> String {
    let name = config.route_name.as_deref();
    name.map(|name| format!(" of route {name}"))
        .unwrap_or_default()
}

fn clock(config: &IrpConfig, skew: Option<SignedDuration>) -> Finding {
    let portal = format!("portal{} {}", of_route(config), config.route.base_url);
    let Some(skew) = skew else {
        let remedy = "keep this machine's clock right (NTP)";
        let what = format!("{portal}: reached; it does not say what time it is");
        return Finding::new(Verdict::Skipped, what, remedy);
    };
    let seconds = skew.as_secs();
    if skew.abs() <= UNNOTICED {
        return Finding::ok(format!(
            "{portal}: reached, its clock is {seconds} s from ours"
        ));
    }
    let what = format!("{portal}: its clock is {seconds} s ahead of ours");
    let remedy = "set this machine's clock (NTP), if it is not the portal's that is wrong";
    let verdict = if skew.abs() < TOO_FAR {
        Verdict::Warning
    } else {
        Verdict::Failed
    };
    Finding::new(verdict, what, remedy)
}

/// A login proves it; without one, something else may answer there.
fn stranger(config: &IrpConfig, pinged: Pinged) -> Option<Finding> {
    let portal = format!("portal{} {}", of_route(config), config.route.base_url);
    match pinged.is_portal {
        Some(true) => None,
        Some(false) => {
            let what = format!(
                "{portal}: what answers there does not do so as the portal does (HTTP {} to its heartbeat)",
                pinged.status
            );
            let remedy = "see that irp.base_url (of a route, its base_url) is the portal's, or a provider's that has no heartbeat: `check --login` proves it";
            Some(Finding::new(Verdict::Warning, what, remedy))
        }
        None => {
            let what = format!("{portal}: whether it is the portal, only a login tells");
            let remedy = "run `irn-worker check --login`";
            Some(Finding::new(Verdict::Skipped, what, remedy))
        }
    }
}

fn unreachable(config: &IrpConfig, error: &IrpError) -> Finding {
    let cause = error.cause();
    let what = format!(
        "portal{} {}: {error}: {cause}",
        of_route(config),
        config.route.base_url
    );
    let remedy = remedy_for(&cause, "irp.ca_file").unwrap_or(
        "correct irp.base_url (of a route, its base_url), irp.proxy or irp.local_address, and see that the portal admits this machine's address",
    );
    Finding::new(Verdict::Unreachable, what, remedy)
}

async fn logins(config: &IrpConfig, irp: &Irp, credentials: &Credentials) -> Vec<Finding> {
    let takes_it = |account: &&Arc<Account>| account.client.route == config.route_name;
    let accounts = credentials.accounts.values().filter(takes_it);
    let mut accounts: Vec<_> = accounts.map(Arc::clone).collect();
    accounts.sort_by_key(|account| account.gstin);
    let mut findings = Vec::with_capacity(accounts.len());
    // One after another: a check must not look like an attack.
    for account in accounts {
        findings.push(login(config, irp, &account).await);
    }
    findings
}

async fn login(config: &IrpConfig, irp: &Irp, account: &Account) -> Finding {
    let gstin = account.gstin;
    match irp.login(account, false).await {
        Ok(login) => {
            let minutes = login.expires_in.as_secs() / 60;
            let route = of_route(config);
            Finding::ok(format!(
                "{gstin}: logged in{}, token for {minutes} min",
                route.replace(" of ", " over ")
            ))
        }
        Err(error) => {
            let verdict = match error.code() {
                Some(_) => Verdict::Failed,
                None => Verdict::Unreachable,
            };
            let meaning = error.code().and_then(explain).map(|code| code.meaning);
            let meaning = meaning.map_or_else(|| error.cause(), str::to_owned);
            let what = format!("{gstin}: login failed: {error}: {meaning}");
            Finding::new(verdict, what, login_remedy(config, &error))
        }
    }
}

/// What the table of codes says; of a login, a wrong key shows in more codes than its own.
fn login_remedy(config: &IrpConfig, error: &IrpError) -> String {
    let wrong_key = match error {
        IrpError::Refused(refusal) => matches!(refusal.code(), "1013" | "1016" | "1020"),
        IrpError::Undecipherable => true,
        IrpError::NotSent(_)
        | IrpError::Unsendable { .. }
        | IrpError::Unconfirmed { .. }
        | IrpError::Server { .. }
        | IrpError::Throttled { .. }
        | IrpError::Unexplained { .. }
        | IrpError::Unintelligible { .. } => false,
    };
    if let Some(key) = config.route.public_key_file.as_ref().filter(|_| wrong_key) {
        return format!(
            "name the key of this portal in {} (now {}): sandbox and production have different ones, and they rotate",
            config.key("public_key_file"),
            key.display()
        );
    }
    let told = error.code().and_then(explain).map(|code| code.remedy);
    told.unwrap_or(
        "correct client, user name and password in the credentials file, or irp.base_url",
    )
    .to_owned()
}
