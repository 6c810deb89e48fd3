//! What many accounts cost: the worker holds what it needs of them, and gives back what it took to read them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::credentials::Credentials;
use crate::support::stack::Stack;
use crate::support::worker::WorkerProcess;

const ACCOUNTS: usize = 10_000;
const SOON: Duration = Duration::from_secs(60);

/// Reading them twice leaves 18 MiB behind: the accounts, a few bytes for each in what watches over them, and what the
/// allocator keeps of two generations. Read as one tree, they left more than 50.
const MOST_KIB: u64 = 24 * 1024;

/// So many GSTINs of a state of their own; the sandbox's rules ask for no check digit.
fn many() -> Vec<String> {
    (0..ACCOUNTS)
        .map(|number| format!("29AAAAA{number:04}A1Z1"))
        .collect()
}

/// Memory of the worker's own, without the pages of its program, after it has read its accounts twice.
async fn own_memory(worker: &mut WorkerProcess) -> Result<u64> {
    worker.until_ready().await?;
    worker.signal(Signal::HUP)?;
    worker.until_logged("nothing has changed", SOON).await?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid()?))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("/proc says no RssAnon")?.parse()?)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn ten_thousand_accounts_cost_what_is_kept_of_them() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let few = own_memory(stack.worker()?).await?;
    let folder = TempDir::new()?;
    let file = folder.path().join("credentials.toml");
    let gstins = many();
    let gstins: Vec<&str> = gstins.iter().map(String::as_str).collect();
    Credentials::of(&gstins).write(&file)?;
    let path = file.to_str().context("a temporary path is UTF-8")?;
    let config = stack.config()?.set("credentials.path", path)?;
    let mut worker = config.start("worker with many accounts").await?;
    let many = own_memory(&mut worker).await?;
    println!("memory of its own: {few} KiB; with {ACCOUNTS} accounts {many} KiB");
    ensure!(many <= few + MOST_KIB, "{few} KiB grew to {many} KiB");
    Ok(())
}
