//! The real `irn-worker` binary with a configuration of the test's own.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::route::Way;
use super::sandbox::Sandbox;
use super::{eventually, http, process::Process};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A configuration file in a folder of its own, with waits short enough for tests.
#[derive(Debug)]
pub(crate) struct WorkerConfig {
    dir: TempDir,
    values: toml::Table,
    environment: Vec<(String, String)>,
}

impl WorkerConfig {
    /// A worker between this broker and this portal.
    pub(crate) fn between(broker_url: &str, sandbox: &Sandbox) -> Result<Self> {
        let config = Self {
            dir: TempDir::with_prefix("irn-worker-config-")?,
            values: toml::Table::new(),
            environment: Vec::new(),
        };
        config
            .set("broker.url", broker_url)?
            .set("credentials.path", text(&sandbox.credentials())?)?
            .set("irp.environment", "sandbox")?
            .set("irp.base_url", sandbox.url())?
            .set("irp.public_key_file", text(&sandbox.auth_key())?)?
            .set(
                "irp.signing_keys",
                vec![text(&sandbox.signing_certificate())?],
            )?
            .set("irp.settle_time", "300ms")?
            .set("irp.request_timeout", "5s")?
            .set("retry.immediate.max_elapsed", "1s")?
            .set("retry.delays", vec!["200ms", "500ms", "1s"])?
            .set("limits.per_gstin", "5000/s")?
            .set("limits.total", "5000/s")?
            .set("limits.auth_per_gstin", "100/s")?
            .set("shutdown.drain_timeout", "15s")?
            .set("admin.listen", "127.0.0.1:0")?
            .set("log.format", "json")
    }

    /// Sets a key of the configuration, `irp.settle_time` for example.
    pub(crate) fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Result<Self> {
        let (sections, name) = key.rsplit_once('.').context("a key is in a section")?;
        let mut table = &mut self.values;
        for section in sections.split('.') {
            let entry = table
                .entry(section)
                .or_insert_with(|| toml::Table::new().into());
            table = entry
                .as_table_mut()
                .with_context(|| format!("{key}: {section} is a value"))?;
        }
        table.insert(name.to_owned(), value.into());
        Ok(self)
    }

    /// Goes this way to a sandbox unless a client names another route.
    pub(crate) fn over(mut self, way: Way, sandbox: &Sandbox) -> Result<Self> {
        for (key, value) in way.settings(sandbox.url()) {
            self = self.set(&format!("irp.{key}"), value)?;
        }
        Ok(self)
    }

    /// Adds the route that is named as this way, to a portal at this URL.
    pub(crate) fn route(self, way: Way, url: &str) -> Result<Self> {
        self.set(&format!("irp.routes.{way}"), way.settings(url))
    }

    /// Sets an environment variable of the worker.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts `run` with it and waits until the worker consumes.
    pub(crate) async fn start(self, name: &str) -> Result<WorkerProcess> {
        let mut worker = self.spawn(name)?;
        worker.until_ready().await?;
        Ok(worker)
    }

    /// Starts `run` with it and waits for nothing.
    pub(crate) fn spawn(self, name: &str) -> Result<WorkerProcess> {
        self.spawn_under(name, &[])
    }

    /// The same under another program, given with its arguments, that runs the worker as the very process it was
    /// started as.
    pub(crate) fn spawn_under(self, name: &str, wrapper: &[&str]) -> Result<WorkerProcess> {
        let command = match wrapper {
            [] => self.command("run")?,
            [program, arguments @ ..] => {
                let worker = self.command("run")?;
                let worker = worker.as_std();
                let mut command = Command::new(program);
                command
                    .args(arguments)
                    .arg(worker.get_program())
                    .args(worker.get_args())
                    .envs(self.environment.iter().cloned());
                command
            }
        };
        let process = Process::start(name, command)?;
        Ok(WorkerProcess {
            process,
            admin: None,
            config: self,
        })
    }

    /// `irn-worker SUBCOMMAND --config FILE`, to which arguments may be added.
    pub(crate) fn command(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irn-worker"));
        command.arg(subcommand).arg("--config").arg(self.write()?);
        command.envs(self.environment.iter().cloned());
        Ok(command)
    }

    /// Runs a command to its end and returns exit status and output.
    pub(crate) async fn output(
        &self,
        subcommand: &str,
        arguments: &[&str],
    ) -> Result<std::process::Output> {
        Ok(self
            .command(subcommand)?
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await?)
    }

    fn write(&self) -> Result<PathBuf> {
        let file = self.dir.path().join("worker.toml");
        std::fs::write(&file, toml::to_string(&self.values)?)?;
        Ok(file)
    }
}

/// A running worker; killed when dropped.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    process: Process,
    admin: Option<String>,
    config: WorkerConfig,
}

impl WorkerProcess {
    /// Waits until `/readyz` says that it consumes.
    pub(crate) async fn until_ready(&mut self) -> Result<()> {
        let ready = format!("{}/readyz", self.admin_url().await?);
        let client = http::client()?;
        eventually(READY_WITHIN, "the worker to be ready", async || {
            let answer = client.get(&ready).send().await?;
            let status = answer.status();
            ensure!(status.is_success(), "{status}: {}", answer.text().await?);
            Ok(Some(()))
        })
        .await
    }

    /// Status and text of `/readyz`.
    pub(crate) async fn readiness(&mut self) -> Result<(u16, String)> {
        let url = format!("{}/readyz", self.admin_url().await?);
        let answer = http::client()?.get(&url).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await?.trim().to_owned()))
    }

    /// Waits until it has logged a line with this text.
    pub(crate) async fn until_logged(&self, text: &str, deadline: Duration) -> Result<()> {
        eventually(deadline, &format!("the log to say {text:?}"), async || {
            let said = self.log().iter().any(|line| line.contains(text));
            Ok(said.then_some(()))
        })
        .await
    }

    /// Waits until `/readyz` says that it does not consume.
    pub(crate) async fn until_not_ready(&mut self, deadline: Duration) -> Result<()> {
        let ready = format!("{}/readyz", self.admin_url().await?);
        let client = http::client()?;
        eventually(deadline, "the worker not to be ready", async || {
            Ok((client.get(&ready).send().await?.status() == 503).then_some(()))
        })
        .await
    }

    /// The base URL of the admin endpoint, from the line the worker logs at start.
    pub(crate) async fn admin_url(&mut self) -> Result<String> {
        if self.admin.is_none() {
            let url = self
                .process
                .line(READY_WITHIN, "its admin endpoint", admin_url_in)
                .await?;
            self.admin = Some(url);
        }
        self.admin.clone().context("it was just found")
    }

    /// What a route of the admin endpoint answers, as text.
    pub(crate) async fn admin(&mut self, route: &str) -> Result<String> {
        let url = format!("{}{route}", self.admin_url().await?);
        let answer = http::send(&http::client()?, reqwest::Method::GET, &url, &Value::Null).await?;
        Ok(answer.text().await?)
    }

    /// The value of a metric, summed over the series whose labels hold `label`; 0 if there is none.
    pub(crate) async fn metric(&mut self, name: &str, label: &str) -> Result<f64> {
        let text = self.admin("/metrics").await?;
        let series = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
        let values = series.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
        // The sum of nothing is -0.
        Ok(values.sum::<Result<f64, _>>()? + 0.0)
    }

    /// All that it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.lines()
    }

    pub(crate) fn pid(&self) -> Result<i32> {
        Ok(self.process.pid()?.as_raw_nonzero().get())
    }

    /// SIGTERM, and waits until it has drained and ended.
    pub(crate) async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.ended(deadline).await
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.ended(deadline).await
    }

    /// How it ended, if it has.
    pub(crate) fn try_ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_ended()
    }

    /// SIGKILL, and waits until it is gone; its configuration can start another one.
    pub(crate) async fn kill(mut self) -> Result<WorkerConfig> {
        self.process.kill().await?;
        Ok(self.config)
    }
}

/// The URL in `… admin endpoint on http://127.0.0.1:PORT …`.
fn admin_url_in(line: &str) -> Option<String> {
    let (_, after) = line.split_once("admin endpoint on http://")?;
    let address = after
        .split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit())
        .next()?;
    Some(format!("http://{address}"))
}

fn text(path: &Path) -> Result<String> {
    Ok(path
        .to_str()
        .context("a temporary path is UTF-8")?
        .to_owned())
}
