//! The portal: the real `irp-sandbox` binary, scripted over its control API.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::credentials::Credentials;
use super::eventually;
use super::http;
use super::process::Process;

const START_WITHIN: Duration = Duration::from_secs(30);

/// A running portal; killed, and its keys deleted, when dropped.
#[derive(Debug)]
pub(crate) struct Sandbox {
    _process: Process,
    dir: TempDir,
    client: Client,
    url: String,
}

/// What reached the portal, as it counted. Look-ups are by IRN and by document; a duplicate generate is one of a
/// document that was registered already.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Stats {
    pub(crate) authentications: u64,
    pub(crate) authentications_refused: u64,
    pub(crate) generates: u64,
    pub(crate) registrations: u64,
    pub(crate) lookups: u64,
    pub(crate) duplicate_generates: u64,
    pub(crate) overlapping_generates: u64,
    /// Generates of a document whose fate was open, without a look-up since the generate before.
    pub(crate) blind_generates: u64,
    /// The same of cancellations and of e-way bills.
    pub(crate) blind_cancels: u64,
    pub(crate) blind_eway_bills: u64,
    pub(crate) errors: u64,
    pub(crate) errors_by_code: BTreeMap<String, u64>,
    pub(crate) max_per_second: u64,
    /// Every request by endpoint, those included that were refused before anything else was counted.
    requests: BTreeMap<String, u64>,
    gstins: BTreeMap<String, Self>,
    /// By `GSTIN/type/number/year`.
    pub(crate) documents: BTreeMap<String, DocumentStats>,
}

/// What the portal saw of one document.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct DocumentStats {
    pub(crate) submits: u64,
    pub(crate) lookups: u64,
    /// Submits after it was registered.
    pub(crate) duplicates: u64,
    /// Submits while its fate was open, without a look-up since the one before.
    pub(crate) blind: u64,
    pub(crate) registered: bool,
}

/// What the portal was asked, in the words of the promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) logins: u64,
    pub(crate) generates: u64,
    pub(crate) lookups: u64,
    /// Generates of a document that was registered already.
    pub(crate) duplicates: u64,
    pub(crate) registrations: u64,
}

impl Stats {
    /// The calls that tell how a document was settled.
    pub(crate) fn calls(&self) -> Calls {
        Calls {
            logins: self.requests.get("auth").copied().unwrap_or_default(),
            generates: self.generates,
            lookups: self.lookups,
            duplicates: self.duplicate_generates,
            registrations: self.registrations,
        }
    }

    /// Everything that arrived, of whatever kind.
    pub(crate) fn all_requests(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Requests that arrived at one endpoint, named as in the sandbox's faults.
    pub(crate) fn requests(&self, endpoint: &str) -> u64 {
        self.requests.get(endpoint).copied().unwrap_or_default()
    }

    /// The counters of one GSTIN.
    pub(crate) fn of(&self, gstin: &str) -> Self {
        self.gstins.get(gstin).cloned().unwrap_or_default()
    }
}

impl Sandbox {
    /// A portal that knows these taxpayers.
    pub(crate) async fn start(credentials: &Credentials) -> Result<Self> {
        Self::start_with(credentials, &[]).await
    }

    /// The same with more command-line arguments.
    pub(crate) async fn start_with(credentials: &Credentials, arguments: &[&str]) -> Result<Self> {
        Self::start_trusting(credentials, arguments, None).await
    }

    /// The same over TLS, as the arguments say, with a certificate of this CA (PEM).
    pub(crate) async fn start_trusting(
        credentials: &Credentials,
        arguments: &[&str],
        ca: Option<&str>,
    ) -> Result<Self> {
        let dir = TempDir::with_prefix("irn-worker-sandbox-")?;
        let file = dir.path().join("credentials.toml");
        credentials.write(&file)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_irp-sandbox"));
        command
            .args(["--listen", "127.0.0.1:0", "--state-dir"])
            .arg(dir.path());
        command.arg("--credentials").arg(file).args(arguments);
        let mut process = Process::start("sandbox", command)?;
        let url = process
            .line(START_WITHIN, "where it listens", |line| {
                line.strip_prefix("listening on ")
                    .map(|url| url.trim().to_owned())
            })
            .await?;
        Ok(Self {
            _process: process,
            dir,
            client: http::client_trusting(ca)?,
            url,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The RSA key that logins are encrypted under.
    pub(crate) fn auth_key(&self) -> PathBuf {
        self.dir.path().join("auth_public.pem")
    }

    /// The certificate of the key that signs invoices; tokens name it by its thumbprint.
    pub(crate) fn signing_certificate(&self) -> PathBuf {
        self.dir.path().join("signing_certificate.pem")
    }

    /// The credentials file it was started with.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.path("credentials.toml")
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) async fn stats(&self) -> Result<Stats> {
        // A missing counter would read as 0 and let any test pass.
        let all: Value = http::json(&self.client, &self.control("stats")).await?;
        for name in [
            "authentications",
            "generates",
            "registrations",
            "duplicate_generates",
            "blind_generates",
            "blind_cancels",
            "blind_eway_bills",
            "documents",
            "errors",
            "lookups",
            "max_per_second",
            "requests",
            "gstins",
        ] {
            all.get(name)
                .with_context(|| format!("the sandbox counts no {name}"))?;
        }
        Ok(serde_json::from_value(all)?)
    }

    /// Replaces all faults by these rules, chosen from with this seed.
    pub(crate) async fn faults(&self, seed: u64, rules: Value) -> Result<()> {
        self.post("faults", &json!({"seed": seed, "rules": rules}))
            .await
            .map(drop)
    }

    /// Answers in another of the portal's shapes from now on.
    pub(crate) async fn shapes(&self, shapes: Value) -> Result<()> {
        self.post("faults", &json!({"rules": [], "shapes": shapes}))
            .await
            .map(drop)
    }

    pub(crate) async fn clear_faults(&self) -> Result<()> {
        let url = self.control("faults");
        http::send(&self.client, Method::DELETE, &url, &Value::Null)
            .await
            .map(drop)
    }

    /// Moves the portal's clock, by `49h` for example.
    pub(crate) async fn advance(&self, by: &str) -> Result<()> {
        self.post("clock", &json!({"advance": by})).await.map(drop)
    }

    /// What the portal was asked so far.
    pub(crate) async fn calls(&self) -> Result<Calls> {
        Ok(self.stats().await?.calls())
    }

    /// Ends every running token, as the portal does now and then.
    pub(crate) async fn revoke_tokens(&self) -> Result<()> {
        self.post("revoke", &json!({})).await.map(drop)
    }

    /// Waits until a `hold` fault keeps so many requests.
    pub(crate) async fn until_held(&self, count: usize, deadline: Duration) -> Result<()> {
        eventually(deadline, &format!("{count} held requests"), async || {
            Ok((self.held().await? == count).then_some(()))
        })
        .await
    }

    /// How many requests a `hold` fault keeps.
    pub(crate) async fn held(&self) -> Result<usize> {
        let held: Value = http::json(&self.client, &self.control("held")).await?;
        let list = held.as_array().or_else(|| held.get("held")?.as_array());
        Ok(list.context("the held requests are not a list")?.len())
    }

    /// Lets all held requests go on.
    pub(crate) async fn release(&self) -> Result<()> {
        self.post("release", &json!({})).await.map(drop)
    }

    /// The document as the portal decrypted it, byte for byte.
    pub(crate) async fn received(&self, irn: &str) -> Result<Vec<u8>> {
        let url = self.control(&format!("documents/{irn}/body"));
        let answer = http::send(&self.client, Method::GET, &url, &Value::Null).await?;
        Ok(answer.bytes().await?.to_vec())
    }

    /// Any other route of the control API.
    pub(crate) async fn post(&self, route: &str, body: &Value) -> Result<Value> {
        let answer = http::send(&self.client, Method::POST, &self.control(route), body).await?;
        let bytes = answer.bytes().await?;
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    fn control(&self, route: &str) -> String {
        format!("{}/_sandbox/{route}", self.url)
    }
}
