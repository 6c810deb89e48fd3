//! The part of `check` that needs the network: the signing keys first, then the broker, then the portal.

use crate::config::Config;
use crate::config::credentials::Credentials;
use crate::signature::Keyring;

use super::check::{Finding, Verdict};
use super::{broker, portal};

/// Keys, broker and portal; with `login`, one login per GSTIN.
pub async fn online(
    config: &Config,
    credentials: Option<&Credentials>,
    login: bool,
) -> Vec<Finding> {
    let mut findings = keys(config);
    findings.extend(broker::check(config).await);
    findings.extend(portal::check(config, credentials, login).await);
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
