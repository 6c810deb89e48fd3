//! On what a run was taken: machine, versions, commit.

use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::support::http;

/// All that a reader needs to place the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Of the first core.
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) rabbitmq: String,
    pub(crate) erlang: String,
    /// The file system of the broker's files; nothing when the broker is another's.
    pub(crate) broker_files: Option<String>,
    pub(crate) rustc: String,
    /// Short, with a plus sign when the working tree was not clean.
    pub(crate) commit: String,
    /// UTC, to the minute.
    pub(crate) date: String,
}

#[derive(Deserialize)]
struct Overview {
    rabbitmq_version: String,
    erlang_version: String,
}

impl Machine {
    /// Asks the kernel, the broker's management API, rustc and git.
    ///
    /// # Errors
    /// When the kernel or the broker does not answer.
    pub(crate) async fn of_this_run(broker_files: Option<String>) -> Result<Self> {
        let management = std::env::var("RABBITMQ_MANAGEMENT_URL")
            .context("RABBITMQ_MANAGEMENT_URL is not set: run scripts/bench")?;
        let url = format!("{}/api/overview", management.trim_end_matches('/'));
        let overview: Overview = http::json(&http::client()?, &url).await?;
        let now = jiff::Timestamp::now();
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name")?,
            cores: thread::available_parallelism()?.get(),
            memory_gib: memory()?,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            rabbitmq: overview.rabbitmq_version,
            erlang: overview.erlang_version,
            broker_files,
            rustc: said("rustc", &["--version"]),
            commit: commit(),
            date: now.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        })
    }
}

/// What all processors have done since the machine started, in the kernel's ticks. Time that a hypervisor gave to others
/// is left out.
pub(crate) struct Processors {
    all: u64,
    idle: u64,
}

impl Processors {
    /// # Errors
    /// When the kernel does not say (proc_stat(5)).
    pub(crate) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        // user, nice, system, idle, iowait, irq, softirq, steal; the guests' that follow are in user and nice.
        let [user, nice, system, idle, iowait, irq, softirq, ..] = ticks[..] else {
            bail!("/proc/stat begins with {line:?}");
        };
        let idle = idle + iowait;
        let all = user + nice + system + idle + irq + softirq;
        Ok(Self { all, idle })
    }

    /// The share of time that was not idle.
    pub(crate) fn busy_since(&self, before: &Self) -> f64 {
        // iowait may decrease (proc_stat(5)).
        let all = self.all.saturating_sub(before.all).max(1);
        1.0 - self.idle.saturating_sub(before.idle) as f64 / all as f64
    }
}

fn field(file: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    Ok(value
        .map_or("unknown", |(_, value)| value.trim())
        .to_owned())
}

fn memory() -> Result<f64> {
    let total = field("/proc/meminfo", "MemTotal")?;
    let kib: f64 = total.trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0 / 1024.0)
}

fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    let clean = said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    if clean { commit } else { format!("{commit}+") }
}

/// What a program prints, or nothing where there is no such program.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
