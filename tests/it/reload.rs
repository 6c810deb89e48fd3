//! Credentials change while the worker runs: it takes the new ones up without a restart, and never for the worse.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::amqp::Job;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];
const OTHER: &str = GSTINS[1];
const SOON: Duration = Duration::from_secs(10);
/// From the change of a file to the first job that profits.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(2);

/// The worker's own credentials, apart from the portal's.
struct Accounts(TempDir);

impl Accounts {
    fn new() -> Result<Self> {
        Ok(Self(TempDir::with_prefix("irn-worker-credentials-")?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// One worker with the credentials at `name`, at a portal that knows all five GSTINs.
    async fn stack(&self, name: &str) -> Result<Stack> {
        self.stack_with(name, Ok).await
    }

    async fn stack_with(
        &self,
        name: &str,
        change: impl Fn(WorkerConfig) -> Result<WorkerConfig>,
    ) -> Result<Stack> {
        let path = self.path(name);
        let path = path.to_str().context("a temporary path is UTF-8")?;
        Stack::of(&Credentials::of(&GSTINS), 1, |config| {
            // Nothing is tried again in process: what is signed was signed at the first try.
            let config = config.set("retry.immediate.max_elapsed", "0s")?;
            change(config.set("credentials.path", path)?)
        })
        .await
    }
}

fn wrong(gstin: &str) -> Credentials {
    Credentials::of(&GSTINS).password(gstin, "Wrong-1!")
}

fn job(gstin: &str, number: &str) -> Job {
    Job::generate(number, invoice(gstin, number))
}

/// Sends one job after the other until one is signed, all within two seconds of `since`.
async fn until_signed(stack: &Stack, gstin: &str, prefix: &str, since: Instant) -> Result<()> {
    for number in 1.. {
        let outcome = stack
            .settle(job(gstin, &format!("{prefix}/{number}")))
            .await?;
        let taken = since.elapsed();
        ensure!(
            taken < TAKEN_UP_WITHIN,
            "{} after {taken:?}: {}",
            outcome.status(),
            outcome.json
        );
        if outcome.status() == "signed" {
            println!("signed {taken:?} after the change");
            break;
        }
    }
    Ok(())
}

/// Sends one job after the other until one fails for this reason.
async fn until_failed(stack: &Stack, gstin: &str, prefix: &str, code: &str) -> Result<()> {
    let mut number = 0;
    eventually(SOON, code, async || {
        number += 1;
        let outcome = stack
            .settle(job(gstin, &format!("{prefix}/{number}")))
            .await?;
        let code = format!("worker {code}");
        Ok((outcome.errors().first() == Some(&code)).then_some(()))
    })
    .await
}

async fn settles_as(stack: &Stack, gstin: &str, number: &str, status: &str) -> Result<()> {
    let outcome = stack.settle(job(gstin, number)).await?;
    ensure!(outcome.status() == status, "{number}: {}", outcome.json);
    Ok(())
}

async fn last_reload(stack: &mut Stack) -> Result<Value> {
    let status: Value = serde_json::from_str(&stack.worker()?.admin("/status").await?)?;
    Ok(status["credentials_reload"].clone())
}

async fn until_reloaded(stack: &mut Stack, result: &str) -> Result<Value> {
    let worker = stack.worker()?;
    eventually(
        SOON,
        &format!("a reload with result {result}"),
        async || {
            let status: Value = serde_json::from_str(&worker.admin("/status").await?)?;
            let reload = &status["credentials_reload"];
            Ok((reload["result"] == result).then(|| reload.clone()))
        },
    )
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn one_wrong_password_of_five_costs_one_login_and_its_correction_works_within_two_seconds()
-> Result<()> {
    let accounts = Accounts::new()?;
    wrong(SELLER).write(&accounts.path("c.toml"))?;
    let stack = accounts.stack("c.toml").await?;
    let jobs: Vec<Job> = (0..300)
        .map(|i| job(GSTINS[i % GSTINS.len()], &format!("W/{i}")))
        .collect();
    stack.erp.publish(&jobs).await?;
    let outcomes = stack.outcomes(300, Duration::from_secs(30)).await?;
    let count = |status: &str| outcomes.values().filter(|o| o.status() == status).count();
    assert_eq!((count("failed"), count("signed")), (60, 240));
    let logins = async || -> Result<_> {
        let seller = stack.sandbox.stats().await?.of(SELLER);
        Ok((seller.calls().logins, seller.authentications_refused))
    };
    assert_eq!(logins().await?, (1, 1));

    let since = Instant::now();
    Credentials::of(&GSTINS).write(&accounts.path("c.toml"))?;
    until_signed(&stack, SELLER, "R", since).await?;
    assert_eq!(
        logins().await?,
        (2, 1),
        "the refused password was not sent again"
    );
    let total = stack.sandbox.calls().await?;
    assert_eq!(total.logins, 6, "the other GSTINs kept their sessions");
    Ok(())
}

/// Client and taxpayer as files of a folder of their own.
fn taxpayer(gstin: &str, password: &str) -> String {
    format!(
        "[[taxpayer]]\ngstin = \"{gstin}\"\nclient = \"it\"\nusername = \"API_{gstin}\"\n{password}\n"
    )
}

const CLIENT: &str =
    "[[client]]\nname = \"it\"\nclient_id = \"it-client\"\nclient_secret = \"it-client-secret\"\n";

fn right(gstin: &str) -> String {
    format!("password = \"Pw-{gstin}!\"")
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn folder_is_followed_as_files_come_change_and_go() -> Result<()> {
    let accounts = Accounts::new()?;
    fs::create_dir(accounts.path("d"))?;
    accounts.write("d/client.toml", CLIENT)?;
    accounts.write("d/1.toml", &taxpayer(SELLER, "password = \"Wrong-1!\""))?;
    let mut stack = accounts.stack("d").await?;
    settles_as(&stack, SELLER, "A/1", "failed").await?;
    settles_as(&stack, OTHER, "A/2", "failed").await?;

    let since = Instant::now();
    accounts.write("d/1.toml", &taxpayer(SELLER, &right(SELLER)))?;
    until_signed(&stack, SELLER, "B", since).await?;

    let since = Instant::now();
    accounts.write("d/2.toml", &taxpayer(OTHER, &right(OTHER)))?;
    until_signed(&stack, OTHER, "C", since).await?;
    assert_eq!(last_reload(&mut stack).await?["added"], 1);

    fs::remove_file(accounts.path("d/2.toml"))?;
    until_failed(&stack, OTHER, "D", "NO_CREDENTIALS").await?;
    assert_eq!(last_reload(&mut stack).await?["removed"], 1);
    settles_as(&stack, SELLER, "E/1", "signed").await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn secret_file_is_followed_too() -> Result<()> {
    let accounts = Accounts::new()?;
    fs::create_dir(accounts.path("secrets"))?;
    accounts.write("secrets/password", "Wrong-1!\n")?;
    let text = format!(
        "{CLIENT}{}",
        taxpayer(SELLER, "password_file = \"secrets/password\"")
    );
    accounts.write("c.toml", &text)?;
    let stack = accounts.stack("c.toml").await?;
    settles_as(&stack, SELLER, "A/1", "failed").await?;
    let since = Instant::now();
    accounts.write("secrets/password", &format!("Pw-{SELLER}!\n"))?;
    until_signed(&stack, SELLER, "B", since).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn broken_file_is_refused_loudly_and_the_old_accounts_stay() -> Result<()> {
    let accounts = Accounts::new()?;
    let file = accounts.path("c.toml");
    Credentials::of(&GSTINS).write(&file)?;
    let mut stack = accounts.stack("c.toml").await?;
    let whole = fs::read_to_string(&file)?;
    let broken = whole.replacen("password = \"Pw-", "password = Pw-", 1);
    fs::write(&file, &broken)?;
    let reload = until_reloaded(&mut stack, "refused").await?;
    let fault = reload["faults"][0].as_str().context("no fault is told")?;
    assert!(
        fault.starts_with(&format!("{}:10: ", file.display())),
        "{fault}"
    );
    assert!(!fault.contains("Pw-"), "{fault}");
    let worker = stack.worker()?;
    worker.until_logged("stay in use", SOON).await?;
    assert!(!worker.log().iter().any(|line| line.contains("Pw-")));
    let refused = worker
        .metric("irn_worker_credentials_reloads_total", "refused")
        .await?;
    assert!(refused == 1.0, "{refused}");
    let is_refused = worker.metric("irn_worker_credentials_refused", "").await?;
    assert!(is_refused == 1.0, "{is_refused}");
    for (number, gstin) in GSTINS.iter().enumerate() {
        settles_as(&stack, gstin, &format!("A/{number}"), "signed").await?;
    }
    fs::write(&file, &whole)?;
    until_reloaded(&mut stack, "unchanged").await?;
    let worker = stack.worker()?;
    let is_refused = worker.metric("irn_worker_credentials_refused", "").await?;
    assert!(is_refused == 0.0, "{is_refused}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn file_that_is_still_being_written_is_waited_for_without_a_word() -> Result<()> {
    let accounts = Accounts::new()?;
    let file = accounts.path("c.toml");
    Credentials::of(&[SELLER, OTHER]).write(&file)?;
    let stack = accounts
        .stack_with("c.toml", |config| config.set("log.level", "debug"))
        .await?;
    let text = {
        Credentials::of(&GSTINS).write(&file)?;
        fs::read_to_string(&file)?
    };
    // Cut in the middle of a word, and after the first taxpayer, where nothing but the missing one tells.
    let after_first = text
        .match_indices("\n[[taxpayer]]")
        .nth(1)
        .context("two")?
        .0;
    for end in [text.len() - 20, after_first] {
        fs::write(&file, &text[..end])?;
        let seen = stack.workers[0].log().len();
        eventually(SOON, "the cut file to be noticed", async || {
            let log = stack.workers[0].log();
            let waits = log[seen..]
                .iter()
                .any(|line| line.contains("being changed"));
            Ok(waits.then_some(()))
        })
        .await?;
        fs::write(&file, &text)?;
    }
    let since = Instant::now();
    until_signed(&stack, GSTINS[4], "A", since).await?;
    settles_as(&stack, OTHER, "B/1", "signed").await?;
    let log = stack.workers[0].log().join("\n");
    assert!(!log.contains("refused"), "{log}");
    assert!(!log.contains("\"removed\":1"), "{log}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn removed_gstin_has_no_credentials_and_comes_back_with_them() -> Result<()> {
    let accounts = Accounts::new()?;
    let file = accounts.path("c.toml");
    Credentials::of(&GSTINS).write(&file)?;
    let mut stack = accounts.stack("c.toml").await?;
    settles_as(&stack, SELLER, "A/1", "signed").await?;
    Credentials::of(&GSTINS[1..]).write(&file)?;
    until_failed(&stack, SELLER, "B", "NO_CREDENTIALS").await?;
    settles_as(&stack, OTHER, "C/1", "signed").await?;
    let status = stack.worker()?.admin("/status").await?;
    let status: Value = serde_json::from_str(&status)?;
    let lanes = status["lanes"].as_array().context("no lanes")?;
    let lane = lanes.iter().find(|lane| lane["gstin"] == SELLER);
    assert!(lane.is_none_or(|lane| lane["token_expires_in_seconds"].is_null()));
    let since = Instant::now();
    Credentials::of(&GSTINS).write(&file)?;
    until_signed(&stack, SELLER, "D", since).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn file_replaced_by_renaming_is_noticed() -> Result<()> {
    let accounts = Accounts::new()?;
    wrong(SELLER).write(&accounts.path("c.toml"))?;
    let stack = accounts.stack("c.toml").await?;
    settles_as(&stack, SELLER, "A/1", "failed").await?;
    // Twice: the second file is another one than the one that was watched at the start.
    for (round, credentials) in [wrong(OTHER), Credentials::of(&GSTINS)].iter().enumerate() {
        let temporary = accounts.path(".c.toml.swp");
        credentials.write(&temporary)?;
        let since = Instant::now();
        fs::rename(&temporary, accounts.path("c.toml"))?;
        let gstin = [SELLER, OTHER][round];
        until_signed(&stack, gstin, &format!("B{round}"), since).await?;
    }
    Ok(())
}

/// Makes `..data` lead to a new folder with these credentials, as Kubernetes does for a mounted secret.
fn swap_mount(mount: &Path, version: &str, credentials: &Credentials) -> Result<()> {
    fs::create_dir(mount.join(version))?;
    credentials.write(&mount.join(version).join("c.toml"))?;
    symlink(version, mount.join("..data_tmp"))?;
    Ok(fs::rename(mount.join("..data_tmp"), mount.join("..data"))?)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn mounted_secret_is_followed_through_its_links() -> Result<()> {
    for path in ["mount", "mount/c.toml", "link.toml"] {
        let accounts = Accounts::new()?;
        let mount = accounts.path("mount");
        fs::create_dir(&mount)?;
        swap_mount(&mount, "..v1", &wrong(SELLER))?;
        symlink("..data/c.toml", mount.join("c.toml"))?;
        symlink("mount/c.toml", accounts.path("link.toml"))?;
        let stack = accounts.stack(path).await?;
        settles_as(&stack, SELLER, "A/1", "failed").await?;
        let since = Instant::now();
        swap_mount(&mount, "..v2", &Credentials::of(&GSTINS))?;
        fs::remove_dir_all(mount.join("..v1"))?;
        until_signed(&stack, SELLER, "B", since).await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn hang_up_signal_reads_the_credentials_at_once_and_says_so() -> Result<()> {
    let accounts = Accounts::new()?;
    let file = accounts.path("c.toml");
    Credentials::of(&GSTINS).write(&file)?;
    let mut stack = accounts.stack("c.toml").await?;
    assert_eq!(last_reload(&mut stack).await?, Value::Null);
    stack.worker()?.signal(Signal::HUP)?;
    let reload = until_reloaded(&mut stack, "unchanged").await?;
    assert_eq!(reload["faults"], serde_json::json!([]));
    stack
        .worker()?
        .until_logged("nothing has changed", SOON)
        .await?;
    settles_as(&stack, SELLER, "A/1", "signed").await?;
    assert_eq!(stack.sandbox.calls().await?.logins, 1);
    Ok(())
}
