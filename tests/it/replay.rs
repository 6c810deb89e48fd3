//! Dead letters go back to work when their GSTIN gets new credentials, and no others do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::support::amqp::{Job, Message};
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];
const STRANGER: &str = GSTINS[4];
const SOON: Duration = Duration::from_secs(20);

/// The workers' credentials, apart from the portal's.
struct Accounts(TempDir);

impl Accounts {
    /// All but one GSTIN, one of them with a wrong password.
    fn new() -> Result<Self> {
        let accounts = Self(TempDir::with_prefix("irn-worker-credentials-")?);
        Credentials::of(&GSTINS[..4])
            .password(SELLER, "Wrong-1!")
            .write(&accounts.path())?;
        Ok(accounts)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("c.toml")
    }

    fn correct(&self) -> Result<()> {
        Credentials::of(&GSTINS).write(&self.path())
    }

    fn config(&self, config: WorkerConfig) -> Result<WorkerConfig> {
        let path = self.path();
        config
            .set("credentials.replay_dead_letters", true)?
            .set("credentials.path", path.to_str().context("UTF-8")?)
    }

    async fn stack(&self, workers: usize) -> Result<Stack> {
        Stack::of(&Credentials::of(&GSTINS), workers, |config| {
            self.config(config)
        })
        .await
    }
}

fn jobs(gstin: &str, prefix: &str, count: usize) -> Vec<Job> {
    let job = |i| {
        let number = format!("{prefix}/{i}");
        Job::generate(&number, invoice(gstin, &number))
    };
    (1..=count).map(job).collect()
}

/// A letter as some worker may have left it.
fn letter(id: &str, gstin: &str, reason: &str, dead_at: &str) -> Job {
    Job::generate(id, invoice(gstin, id))
        .kind("irn.generate.v1")
        .text_header("x-irn-gstin", gstin)
        .text_header("x-irn-reason", reason)
        .text_header("x-irn-dead-at", dead_at)
        .text_header("x-irn-first-seen", dead_at)
}

fn ids(messages: &[Message]) -> BTreeSet<String> {
    let id = |message: &Message| message.properties.message_id().clone();
    messages
        .iter()
        .filter_map(id)
        .map(|id| id.to_string())
        .collect()
}

/// Publishes jobs that fail, and drops their results.
async fn fail(stack: &Stack, jobs: &[Job]) -> Result<()> {
    stack.erp.publish(jobs).await?;
    for outcome in stack.outcomes(jobs.len(), SOON).await?.values() {
        assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn two_workers_replay_each_letter_of_the_new_credentials_once_and_no_other() -> Result<()> {
    let accounts = Accounts::new()?;
    let mut stack = accounts.stack(2).await?;
    fail(&stack, &jobs(SELLER, "R", 60)).await?;
    fail(&stack, &jobs(STRANGER, "N", 20)).await?;
    let past = "2026-01-01T00:00:00Z";
    let others = [
        letter("exhausted", SELLER, "RETRIES_EXHAUSTED", past),
        letter("unchanged", GSTINS[1], "CREDENTIALS_REFUSED", past),
        letter(
            "later",
            SELLER,
            "CREDENTIALS_REFUSED",
            "2099-01-01T00:00:00Z",
        ),
    ];
    for other in &others {
        stack.erp.publish_into("irn.dead", other).await?;
    }
    let unknown = letter("UNKNOWN", SELLER, "CREDENTIALS_REFUSED", past)
        .text_header("x-irn-outcome", "unknown")
        .text_header("x-irn-attempt-note", "an ERP's own header");
    stack.erp.publish_into("irn.dead", &unknown).await?;

    accounts.correct()?;
    let outcomes = stack.outcomes(81, SOON).await?;
    for outcome in outcomes.values() {
        outcome.assert_signed(false);
        assert_eq!(outcome.json["attempts"], 1, "attempts are counted anew");
    }
    let stats = stack.sandbox.stats().await?;
    assert_eq!(stats.calls().registrations, 81);
    assert_eq!(stats.calls().generates, 81, "nothing was sent twice");
    // The one in doubt, and those that one worker was handed in its first window of 16 and gave back: the broker marks
    // them.
    let lookups = stats.lookups;
    assert!((1..=17).contains(&lookups), "{lookups} were looked up");
    for worker in &stack.workers {
        worker.until_logged("credentials reloaded", SOON).await?;
    }
    let left = stack.erp.take("irn.dead", others.len(), SOON).await?;
    assert_eq!(
        ids(&left),
        ["exhausted", "later", "unchanged"]
            .map(str::to_owned)
            .into()
    );
    for letter in &left {
        assert_eq!(letter.header("x-irn-replays"), None);
    }
    assert!(stack.worker()?.terminate(SOON).await?.success());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn letter_returns_to_its_own_lane_with_its_replays_counted() -> Result<()> {
    let accounts = Accounts::new()?;
    let mut stack = accounts.stack(1).await?;
    let urgent = Job::new("urgent.generate", invoice(SELLER, "U/1")).id("U/1");
    fail(&stack, std::slice::from_ref(&urgent)).await?;
    // New credentials, and wrong again: it dies again, with its key.
    Credentials::of(&GSTINS)
        .password(SELLER, "Wrong-2!")
        .write(&accounts.path())?;
    let again = stack.outcome().await?;
    assert_eq!(again.errors(), ["worker CREDENTIALS_REFUSED", "irp 1019"]);
    assert!(stack.worker()?.terminate(SOON).await?.success());
    let letters = stack.erp.take("irn.dead", 1, SOON).await?;
    assert_eq!(letters[0].header("x-irn-replays").as_deref(), Some("1"));
    let key = letters[0].header("x-irn-routing-key");
    assert_eq!(key.as_deref(), Some("urgent.generate"));
    assert_eq!(letters[0].body, urgent.body());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn letter_whose_document_was_not_kept_stays_and_is_told_of() -> Result<()> {
    let accounts = Accounts::new()?;
    let stack = Stack::of(&Credentials::of(&GSTINS), 1, |config| {
        accounts.config(config)?.set("dead_letter.payload", "drop")
    })
    .await?;
    fail(&stack, &jobs(SELLER, "D", 3)).await?;
    accounts.correct()?;
    stack.workers[0]
        .until_logged("3 dead letters of GSTINs", SOON)
        .await?;
    assert_eq!(stack.erp.take("irn.dead", 3, SOON).await?.len(), 3);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn nothing_is_replayed_unless_it_is_configured() -> Result<()> {
    let accounts = Accounts::new()?;
    let mut stack = Stack::of(&Credentials::of(&GSTINS), 1, |config| {
        accounts
            .config(config)?
            .set("credentials.replay_dead_letters", false)
    })
    .await?;
    fail(&stack, &jobs(SELLER, "C", 5)).await?;
    accounts.correct()?;
    stack.workers[0]
        .until_logged("credentials reloaded", SOON)
        .await?;
    stack
        .settle(jobs(SELLER, "S", 1).remove(0))
        .await?
        .assert_signed(false);
    // A walk would have begun before that job.
    assert!(stack.worker()?.terminate(SOON).await?.success());
    assert_eq!(stack.erp.take("irn.dead", 5, SOON).await?.len(), 5);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn worker_killed_in_the_middle_of_a_replay_loses_no_letter() -> Result<()> {
    const LETTERS: usize = 400;
    let accounts = Accounts::new()?;
    let mut stack = accounts.stack(1).await?;
    fail(&stack, &jobs(SELLER, "K", LETTERS)).await?;
    accounts.correct()?;
    let mut signed = ids_of(&stack, 1).await?;
    let config = stack.workers.remove(0).kill().await?;
    // What was replayed before the kill is worked on, the rest is replayed by the next change of credentials.
    let worker = config.start("second worker").await?;
    Credentials::of(&GSTINS)
        .password(SELLER, "Wrong-2!")
        .write(&accounts.path())?;
    worker.until_logged("credentials reloaded", SOON).await?;
    accounts.correct()?;
    eventually(
        Duration::from_secs(60),
        "every job to be signed",
        async || {
            signed.extend(ids_of(&stack, 0).await?);
            Ok((signed.len() == LETTERS).then_some(()))
        },
    )
    .await?;
    let calls = stack.sandbox.calls().await?;
    assert_eq!(calls.registrations, u64::try_from(LETTERS)?);
    Ok(())
}

/// The jobs of the results that are there, at least `count`, if they are signed.
async fn ids_of(stack: &Stack, count: usize) -> Result<BTreeSet<String>> {
    let mut messages = stack.erp.take("irn.results", count, SOON).await?;
    messages.extend(stack.erp.drain("irn.results").await?);
    messages.retain(|message| message.header("x-irn-status").as_deref() == Some("signed"));
    let id = |message: &Message| Some(message.json().ok()?["job_id"].as_str()?.to_owned());
    Ok(messages.iter().filter_map(id).collect())
}
