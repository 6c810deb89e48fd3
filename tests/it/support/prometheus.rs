//! A real Prometheus that scrapes a test's workers and judges the shipped alerts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Method, Url};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::process::Process;
use super::{eventually, http};

const START_WITHIN: Duration = Duration::from_secs(30);

/// A running Prometheus; killed, and its data deleted, when dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    _process: Process,
    _dir: TempDir,
    client: Client,
    url: String,
}

/// A file of the repository's `config`.
pub(crate) fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name)
}

/// The shipped alerts, each of which waits a second only, and looks back over seconds where it looks over a minute.
fn impatient_alerts() -> Result<String> {
    let text = fs::read_to_string(shipped("prometheus/alerts.yml"))?;
    let mut lines = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("for: ") {
            lines.push(format!("{}for: 1s", &line[..indent]));
        } else {
            lines.push(line.replace("[1m]", "[5s]"));
        }
    }
    Ok(lines.join("\n"))
}

fn config(targets: &[String]) -> String {
    let targets = targets.iter().map(|url| url.trim_start_matches("http://"));
    let targets: Vec<String> = targets.map(|address| format!("{address:?}")).collect();
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}}\n\
         rule_files: [alerts.yml]\n\
         scrape_configs:\n  - job_name: irn-worker\n    static_configs: [{{targets: [{}]}}]\n",
        targets.join(", ")
    )
}

impl Prometheus {
    /// Scrapes these admin endpoints every second.
    pub(crate) async fn watching(targets: &[String]) -> Result<Self> {
        let dir = TempDir::with_prefix("irn-worker-prometheus-")?;
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, config(targets))?;
        fs::write(dir.path().join("alerts.yml"), impatient_alerts()?)?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}/data", dir.path().display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .env("GOMAXPROCS", "1");
        let mut process = Process::start("prometheus", command)
            .context("install it with scripts/install prometheus")?;
        let address = process
            .line(START_WITHIN, "where it listens", |line| {
                let (_, after) = line.split_once("msg=\"Listening on\" address=")?;
                Some(after.trim().to_owned())
            })
            .await?;
        let prometheus = Self {
            _process: process,
            _dir: dir,
            client: http::client()?,
            url: format!("http://{address}"),
        };
        eventually(START_WITHIN, "prometheus to be ready", async || {
            let url = format!("{}/-/ready", prometheus.url);
            let answer = prometheus.client.get(url).send().await?;
            Ok(answer.status().is_success().then_some(()))
        })
        .await?;
        Ok(prometheus)
    }

    /// The series that a query answers with.
    pub(crate) async fn query(&self, query: &str) -> Result<Vec<Value>> {
        let mut url = Url::parse(&format!("{}/api/v1/query", self.url))?;
        url.query_pairs_mut().append_pair("query", query);
        let answer = http::send(&self.client, Method::GET, url.as_str(), &Value::Null).await;
        let answer = answer.with_context(|| query.to_owned())?;
        let answer: Value = serde_json::from_slice(&answer.bytes().await?)?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        let result = answer["data"]["result"].as_array().cloned();
        result.with_context(|| format!("{query}: {answer}"))
    }

    /// Waits until a query has an answer.
    pub(crate) async fn until(&self, query: &str, deadline: Duration) -> Result<()> {
        eventually(deadline, query, async || {
            Ok((!self.query(query).await?.is_empty()).then_some(()))
        })
        .await
    }

    /// The alerts with this name that fire.
    pub(crate) async fn firing(&self, alert: &str) -> Result<Vec<Value>> {
        let url = format!("{}/api/v1/alerts", self.url);
        let answer: Value = http::json(&self.client, &url).await?;
        let alerts = answer["data"]["alerts"].as_array().cloned();
        let is_it =
            |found: &Value| found["labels"]["alertname"] == alert && found["state"] == "firing";
        Ok(alerts
            .unwrap_or_default()
            .into_iter()
            .filter(is_it)
            .collect())
    }

    /// Waits until an alert does not fire. On a busy machine a scrape may fail, and what is not seen may be gone.
    pub(crate) async fn until_quiet(&self, alert: &str, deadline: Duration) -> Result<()> {
        eventually(deadline, &format!("{alert} not to fire"), async || {
            Ok(self.firing(alert).await?.is_empty().then_some(()))
        })
        .await
    }

    /// Waits until an alert fires and returns it.
    pub(crate) async fn until_firing(&self, alert: &str, deadline: Duration) -> Result<Value> {
        eventually(deadline, &format!("{alert} to fire"), async || {
            Ok(self.firing(alert).await?.into_iter().next())
        })
        .await
    }
}
