//! The part of `check` that asks the broker and the portal.

use std::sync::Arc;

use crate::broker::{Endpoint, Topology, timed};
use crate::config::Config;
use crate::config::credentials::Credentials;
use crate::irp::Irp;
use crate::signature::Keyring;

use super::check::{Finding, Verdict};

/// Keys, broker and queues; with `login`, one login per GSTIN.
pub async fn online(
    config: &Config,
    credentials: Option<&Credentials>,
    login: bool,
) -> Vec<Finding> {
    let mut findings = keys(config);
    findings.extend(broker(config).await);
    let irp = match Irp::try_new(&config.irp) {
        Ok(irp) => irp,
        Err(fault) => {
            findings.push(Finding::new(
                Verdict::Misconfigured,
                fault.to_string(),
                fault.remedy,
            ));
            return findings;
        }
    };
    if let Some(credentials) = credentials.filter(|_| login) {
        findings.extend(logins(&irp, credentials).await);
    }
    findings
}

fn keys(config: &Config) -> Vec<Finding> {
    match Keyring::load(&config.irp.signing_keys) {
        Ok(keyring) => keyring
            .fingerprints()
            .into_iter()
            .map(|key| {
                let kids = if key.kids.is_empty() {
                    "the first kid it verifies".to_owned()
                } else {
                    key.kids.join(", ")
                };
                Finding::ok(format!(
                    "signing key {}: SHA-256 {}, answers to {kids}",
                    key.file.display(),
                    key.sha256
                ))
            })
            .collect(),
        Err(faults) => faults
            .into_iter()
            .map(|fault| Finding::new(Verdict::Misconfigured, fault.to_string(), fault.remedy))
            .collect(),
    }
}

async fn broker(config: &Config) -> Vec<Finding> {
    let endpoint = match Endpoint::try_new(&config.broker, "check") {
        Ok(endpoint) => endpoint,
        Err(error) => {
            return vec![Finding::new(
                Verdict::Misconfigured,
                error.to_string(),
                "correct [broker]",
            )];
        }
    };
    let address = endpoint.address();
    let connection = match endpoint.connect("check").await {
        Ok(connection) => connection,
        Err(error) => {
            let remedy = "start the broker, or correct broker.url: host, port, user, password and virtual host";
            return vec![Finding::new(
                Verdict::Unreachable,
                format!("broker {address}: {error}"),
                remedy,
            )];
        }
    };
    let reached = Finding::ok(format!(
        "broker {address}: connected as {}",
        endpoint.user()
    ));
    let expected = Topology::of(&config.replies, &config.retry, &config.dead_letter);
    let topology = match timed(expected.verify(&connection))
        .await
        .and_then(|verified| verified)
    {
        Ok(()) => Finding::ok("queues and exchanges: all there".to_owned()),
        Err(error) if config.topology.declare => Finding::new(
            Verdict::Warning,
            format!("{error}"),
            "`run` will declare what is missing, because topology.declare = true",
        ),
        Err(error) => Finding::new(
            Verdict::Failed,
            error.to_string(),
            "run `irn-worker topology apply`",
        ),
    };
    vec![reached, topology]
}

async fn logins(irp: &Irp, credentials: &Credentials) -> Vec<Finding> {
    let mut accounts: Vec<_> = credentials.accounts.values().map(Arc::clone).collect();
    accounts.sort_by_key(|account| account.gstin);
    let mut findings = Vec::with_capacity(accounts.len());
    // One after another: a check must not look like an attack.
    for account in accounts {
        let gstin = account.gstin;
        findings.push(match irp.login(&account, false).await {
            Ok(login) => {
                let skew = login.clock_skew.map(|skew| format!(", portal clock {}s from ours", skew.as_secs()));
                let minutes = login.expires_in.as_secs() / 60;
                Finding::ok(format!("{gstin}: logged in, token for {minutes} min{}", skew.unwrap_or_default()))
            }
            Err(error) => {
                let verdict = if error.code().is_some() { Verdict::Failed } else { Verdict::Unreachable };
                let remedy = "correct client, user name and password in the credentials file, or irp.base_url";
                Finding::new(verdict, format!("{gstin}: login failed: {error}"), remedy)
            }
        });
    }
    findings
}
