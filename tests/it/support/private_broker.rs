//! A broker node of the test's own, for tests that stop or kill it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use super::broker::Broker;

/// A RabbitMQ node that `scripts/broker` started; killed when dropped.
///
/// A quorum queue that was declared less than about a second before a SIGKILL may be lost with RabbitMQ 3.10: make
/// sure that it has carried messages before.
#[derive(Debug)]
pub(crate) struct PrivateBroker {
    dir: TempDir,
    amqp_url: String,
    management_url: String,
}

impl PrivateBroker {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with("", "").await
    }

    /// With more lines in `rabbitmq.conf`, and more plugins.
    pub(crate) async fn start_with(conf: &str, plugins: &str) -> Result<Self> {
        let dir = TempDir::with_prefix("irn-worker-broker-")?;
        let mut broker = Self {
            dir,
            amqp_url: String::new(),
            management_url: String::new(),
        };
        let arguments = [OsStr::new("start"), broker.dir.path().as_os_str()];
        let extra = [
            ("RABBITMQ_CONF_EXTRA", conf),
            ("RABBITMQ_PLUGINS_EXTRA", plugins),
        ];
        run_with(arguments, &extra).await?;
        let env = std::fs::read_to_string(broker.dir.path().join("env"))?;
        broker.amqp_url = value_of(&env, "AMQP_URL")?;
        broker.management_url = value_of(&env, "RABBITMQ_MANAGEMENT_URL")?;
        Ok(broker)
    }

    /// A virtual host on it.
    pub(crate) async fn virtual_host(&self) -> Result<Broker> {
        Broker::at(&self.amqp_url, &self.management_url).await
    }

    /// Its AMQP URL, without TLS.
    pub(crate) fn url(&self) -> &str {
        &self.amqp_url
    }

    /// Clean stop.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.run("stop").await
    }

    /// SIGKILL.
    pub(crate) async fn kill(&self) -> Result<()> {
        self.run("kill").await
    }

    /// Starts it again after [`PrivateBroker::stop`] or [`PrivateBroker::kill`], with its ports and its data.
    pub(crate) async fn start_again(&self) -> Result<()> {
        self.run("start").await
    }

    /// `rabbitmqctl`
    pub(crate) async fn ctl(&self, arguments: &[&str]) -> Result<()> {
        let script = [OsStr::new("ctl"), self.dir.path().as_os_str()];
        run(script.into_iter().chain(arguments.iter().map(OsStr::new))).await
    }

    async fn run(&self, command: &str) -> Result<()> {
        run([OsStr::new(command), self.dir.path().as_os_str()]).await
    }
}

impl Drop for PrivateBroker {
    fn drop(&mut self) {
        let killed = std::process::Command::new(script())
            .arg("kill")
            .arg(self.dir.path())
            .status();
        if !killed.as_ref().is_ok_and(std::process::ExitStatus::success) {
            println!(
                "the node in {} was not killed: {killed:?}",
                self.dir.path().display()
            );
        }
    }
}

pub(super) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/broker")
}

pub(super) async fn run(arguments: impl IntoIterator<Item = &OsStr>) -> Result<()> {
    run_with(arguments, &[]).await
}

async fn run_with(
    arguments: impl IntoIterator<Item = &OsStr>,
    environment: &[(&str, &str)],
) -> Result<()> {
    let status = Command::new(script())
        .envs(environment.iter().copied())
        .args(arguments)
        // The broker that the other tests share must not be taken for this one.
        .env_remove("AMQP_URL")
        .env_remove("RABBITMQ_MANAGEMENT_URL")
        .stdout(Stdio::null())
        .status()
        .await?;
    ensure!(status.success(), "scripts/broker ended with {status}");
    Ok(())
}

/// The value of one `export NAME=value` line; the URLs hold nothing that the shell would quote.
pub(super) fn value_of(env: &str, name: &str) -> Result<String> {
    let prefix = format!("export {name}=");
    let line = env.lines().find_map(|line| line.strip_prefix(&prefix));
    Ok(line
        .with_context(|| format!("scripts/broker wrote no {name}"))?
        .to_owned())
}
