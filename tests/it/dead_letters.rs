//! `dead-letters`: looking changes nothing, a replay loses nothing and gives no job two results, and what would die
//! again stops by itself.
//!
//! `IRN_TEST_LETTERS=5000` has the interrupted replay run with so many letters, at 50 a second; `IRN_TEST_LISTED=100000`
//! has as many looked at. Without them both are shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::amqp::{Amqp, Job};
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::private_broker::PrivateBroker;
use crate::support::process::Process;
use crate::support::sandbox::Sandbox;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(20);

/// Before any of these tests.
const PAST: &str = "2026-01-01T00:00:00Z";

const REASONS: [(&str, &str); 4] = [
    ("RETRIES_EXHAUSTED", "timeout"),
    ("CREDENTIALS_REFUSED", "1019"),
    ("ERROR_BUDGET", "budget"),
    ("UNKNOWN_CODE", "4711"),
];

/// A letter as a worker leaves it, of a document that no portal knows.
fn letter(id: &str, gstin: &str, (reason, code): (&str, &str)) -> Job {
    Job::generate(id, invoice(gstin, id))
        .kind("irn.generate.v1")
        .text_header("x-irn-gstin", gstin)
        .text_header("x-irn-reason", reason)
        .text_header("x-irn-error", code)
        .text_header("x-irn-dead-at", PAST)
        .text_header("x-irn-first-seen", PAST)
        .text_header("x-irn-document", &format!("INV {id} 05/09/2025"))
        .text_header("x-irn-routing-key", "generate")
        .text_header("x-irn-outcome", "not_sent")
}

/// Letters of all sellers and reasons, in turn.
fn letters(prefix: &str, count: usize) -> Vec<Job> {
    let letter = |i: usize| {
        let (gstin, reason) = (GSTINS[i % GSTINS.len()], REASONS[i % REASONS.len()]);
        letter(&format!("{prefix}/{i}"), gstin, reason)
    };
    (0..count).map(letter).collect()
}

fn count_from(variable: &str, usual: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}")),
        Err(_) => Ok(usual),
    }
}

fn generous(config: WorkerConfig) -> Result<WorkerConfig> {
    config
        .set("limits.error_budget_per_gstin", "1000000/day")?
        .set("limits.error_budget_total", "1000000/day")
}

/// The queues, and no worker yet.
async fn stack() -> Result<Stack> {
    let stack = Stack::start(0).await?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    ensure!(applied.status.success(), "{applied:?}");
    Ok(stack)
}

async fn start_worker(stack: &mut Stack) -> Result<()> {
    let worker = generous(stack.config()?)?.start("worker").await?;
    stack.workers.push(worker);
    Ok(())
}

async fn dead_letters(config: &WorkerConfig, arguments: &[&str]) -> Result<Output> {
    config.output("dead-letters", arguments).await
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32, says: &str) {
    let text = format!("{}{}", stdout(output), stderr(output));
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{says:?} is not in:\n{text}");
}

/// Runs a command that must end with this code, and reads the JSON that it prints.
async fn told(config: &WorkerConfig, code: i32, arguments: &[&str]) -> Result<Value> {
    let output = dead_letters(config, &[&["--json"], arguments].concat()).await?;
    assert_exit(&output, code, "");
    let text = stdout(&output);
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}{}", stderr(&output)))
}

/// The results in the default reply queue by job id, until `count` jobs have one. A result may come twice, but a job
/// has one.
async fn results(
    stack: &Stack,
    count: usize,
    within: Duration,
) -> Result<(BTreeMap<String, Outcome>, usize)> {
    let mut by_job = BTreeMap::<String, Outcome>::new();
    let mut repeated = 0;
    let taking = stack.erp.take_until("irn.results", |message| {
        let outcome = Outcome::read(message)?;
        let id = outcome.text("job_id").to_owned();
        if let Some(first) = by_job.get(&id) {
            let same = |of: &Outcome| of.message.properties.message_id().clone();
            ensure!(
                same(first) == same(&outcome),
                "{id} has two results: {} {}",
                first.json,
                outcome.json
            );
            repeated += 1;
        } else {
            by_job.insert(id, outcome);
        }
        Ok(by_job.len() == count)
    });
    tokio::time::timeout(within, taking)
        .await
        .with_context(|| format!("{count} jobs with a result within {within:?}"))??;
    Ok((by_job, repeated))
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replay_killed_twice_and_resumed_gives_every_letter_exactly_one_result() -> Result<()> {
    let count = count_from("IRN_TEST_LETTERS", 240)?;
    let rate = if count > 1000 { "50/s" } else { "120/s" };
    let within = Duration::from_secs(60) + Duration::from_millis(40) * u32::try_from(count)?;
    let mut stack = stack().await?;
    stack
        .erp
        .publish_all_into("irn.dead", &letters("K", count))
        .await?;
    let config = generous(stack.config()?)?;

    let listed = told(&config, 0, &["list"]).await?;
    assert_eq!(listed["letters"], count, "{listed}");
    let groups = listed["groups"].as_array().context("groups")?;
    assert_eq!(groups.len(), 20, "four reasons, five sellers: {listed}");
    let shown = dead_letters(&config, &["show", "--limit", "2"]).await?;
    assert_exit(&shown, 0, "x-irn-reason");
    let planned = told(&config, 0, &["replay", "--dry-run"]).await?;
    assert_eq!(planned["replayable"], count, "{planned}");
    assert_eq!(planned["errors_at_most"], 2 * count, "{planned}");
    start_worker(&mut stack).await?;

    let arguments = ["--json", "replay", "--canary", "5", "--rate", rate];
    for part in [5, 2] {
        let mut command = config.command("dead-letters")?;
        command.args(arguments);
        let mut replay = Process::start("replay", command)?;
        let wanted = u32::try_from(count / part)?;
        eventually(within, "some results", async || {
            Ok((stack.erp.depth("irn.results").await? >= wanted).then_some(()))
        })
        .await?;
        assert_eq!(replay.try_ended()?, None, "it is killed in its middle");
        replay.kill().await?;
    }
    let replayed = told(&config, 0, &arguments[1..]).await?;
    assert_eq!(replayed["stopped"], Value::Null, "{replayed}");
    assert_eq!(
        replayed["canary_results"],
        json!({"signed": 5}),
        "{replayed}"
    );

    let (outcomes, repeated) = results(&stack, count, within).await?;
    for outcome in outcomes.values() {
        assert_eq!(outcome.status(), "signed", "{}", outcome.json);
    }
    assert!(repeated <= 2 * 16, "{repeated} results came twice");
    assert_eq!(stack.erp.depth("irn.dead").await?, 0);
    let stats = stack.sandbox.stats().await?;
    assert_eq!(stats.registrations, u64::try_from(count)?);
    assert_eq!(stats.blind_generates, 0);
    println!(
        "{count} letters, {repeated} results repeated, {} duplicate submits",
        stats.duplicate_generates
    );
    assert!(stack.worker()?.terminate(SOON).await?.success());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replay_whose_canaries_die_of_the_same_cause_stops_and_only_force_goes_round() -> Result<()>
{
    const LETTERS: usize = 40;
    let stranger = GSTINS[4];
    let stack = Stack::of(&Credentials::of(&GSTINS[..4]), 1, generous).await?;
    let one = |i| letter(&format!("C/{i}"), stranger, ("NO_CREDENTIALS", ""));
    let dead: Vec<_> = (0..LETTERS).map(one).collect();
    stack.erp.publish_all_into("irn.dead", &dead).await?;
    let config = stack.config()?;

    let stopped = dead_letters(&config, &["replay", "--canary", "3"]).await?;
    assert_exit(
        &stopped,
        1,
        "stopped: 3 canaries died of the same cause again (NO_CREDENTIALS)",
    );
    // Their results went to the ERP, and the others were not touched.
    let (failed, _) = results(&stack, 3, SOON).await?;
    assert!(failed.values().all(|outcome| outcome.status() == "failed"));
    let until_dead = async || {
        let back = async || Ok((stack.erp.depth("irn.dead").await? == 40).then_some(()));
        eventually(SOON, "all letters to be back", back).await
    };
    until_dead().await?;

    let replayed = told(&config, 0, &["replay"]).await?;
    assert_eq!(replayed["replayed"], 37, "{replayed}");
    assert_eq!(replayed["kept"]["died_twice"], 3, "{replayed}");
    results(&stack, 37, SOON).await?;
    until_dead().await?;
    let replayed = told(&config, 0, &["replay"]).await?;
    assert_eq!(replayed["kept"]["died_twice"], LETTERS, "{replayed}");
    let forced = told(&config, 1, &["replay", "--force", "--canary", "2"]).await?;
    assert_eq!(forced["replayed"], 2, "{forced}");
    assert_eq!(forced["why"]["of_the_same"], 2, "{forced}");
    let shown = dead_letters(&config, &["list"]).await?;
    assert_exit(&shown, 0, "NO_CREDENTIALS");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replay_goes_on_after_good_canaries_and_stops_at_silent_ones() -> Result<()> {
    let mut stack = stack().await?;
    stack
        .erp
        .publish_all_into("irn.dead", &letters("G", 12))
        .await?;
    let config = stack.config()?;
    let silent = ["replay", "--canary", "2", "--canary-timeout", "1s"];
    let stopped = dead_letters(&config, &silent).await?;
    assert_exit(&stopped, 1, "stopped: 2 canaries have no result yet");
    assert_eq!(stack.erp.depth("irn.dead").await?, 10);

    start_worker(&mut stack).await?;
    let replayed = told(&config, 0, &["replay", "--canary", "4"]).await?;
    assert_eq!(replayed["replayed"], 10, "{replayed}");
    assert_eq!(
        replayed["canary_results"],
        json!({"signed": 4}),
        "{replayed}"
    );
    let (outcomes, repeated) = results(&stack, 12, SOON).await?;
    assert!(
        outcomes
            .values()
            .all(|outcome| outcome.status() == "signed")
    );
    assert_eq!(repeated, 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn letter_whose_copy_was_replayed_before_is_looked_up_and_its_result_is_the_same()
-> Result<()> {
    let mut stack = stack().await?;
    start_worker(&mut stack).await?;
    let letter = letter("TWIN/1", SELLER, REASONS[0]);
    // As a replay leaves it that was killed between the confirm and the acknowledgement.
    stack.erp.publish(std::slice::from_ref(&letter)).await?;
    stack.erp.publish_into("irn.dead", &letter).await?;
    let first = stack.outcome().await?;
    first.assert_signed(false);
    stack.erp.hand_back_first("irn.dead").await?;

    let replayed = told(&stack.config()?, 0, &["replay"]).await?;
    assert_eq!(replayed["replayed"], 1, "{replayed}");
    let second = stack.outcome().await?;
    second.assert_signed(true);
    let id = |outcome: &Outcome| outcome.message.properties.message_id().clone();
    assert_eq!(id(&first), id(&second), "the ERP knows it for a repetition");
    let calls = stack.sandbox.calls().await?;
    assert_eq!(
        (calls.generates, calls.lookups, calls.registrations),
        (1, 1, 1)
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn looking_shows_what_was_asked_for_and_leaves_every_letter_in_its_place() -> Result<()> {
    let stack = stack().await?;
    let dead = letters("L", 600);
    stack.erp.publish_all_into("irn.dead", &dead).await?;
    let config = stack.config()?;

    let listed = told(
        &config,
        0,
        &["list", "--reason", "unknown_code", "--gstin", SELLER],
    )
    .await?;
    assert_eq!(listed["letters"], 30, "{listed}");
    assert_eq!(listed["others"], 570, "{listed}");
    let group = &listed["groups"][0];
    assert_eq!(
        (&group["code"], &group["gstin"]),
        (&json!("4711"), &json!(SELLER))
    );
    assert_eq!(
        (&group["oldest"], &group["newest"]),
        (&json!(PAST), &json!(PAST))
    );
    let text = dead_letters(&config, &["list", "--code", "1019"]).await?;
    assert_exit(&text, 0, "CREDENTIALS_REFUSED");
    let young = told(&config, 0, &["list", "--older-than", "200000h"]).await?;
    assert_eq!(young["letters"], 0, "{young}");

    let shown = dead_letters(&config, &["show", "--id", "L/7"]).await?;
    assert_exit(&shown, 0, "INV L/7 05/09/2025");
    assert!(
        !stdout(&shown).contains("Sample Traders"),
        "no body unless asked for"
    );
    let shown = dead_letters(&config, &["show", "--id", "L/7", "--body"]).await?;
    assert_exit(&shown, 0, "Sample Traders");

    // Looked at so often, a job would have been given up as poison.
    for _ in 0..20 {
        assert_eq!(told(&config, 0, &["list"]).await?["letters"], 600);
    }
    let dir = TempDir::new()?;
    let file = dir.path().join("letters.ndjson");
    let path = file.to_str().context("UTF-8")?;
    let exported = dead_letters(&config, &["export", "--out", path]).await?;
    assert_exit(&exported, 0, "600 letters of irn.dead exported");
    let text = std::fs::read_to_string(&file)?;
    let exported: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(exported.len(), dead.len());
    for (i, (exported, letter)) in exported.iter().zip(&dead).enumerate() {
        assert_eq!(exported["message_id"], format!("L/{i}"), "in their order");
        let body = exported["body"].as_str().context("a body")?;
        assert_eq!(body.as_bytes(), letter.body(), "byte for byte");
    }
    assert_eq!(stack.erp.depth("irn.dead").await?, 600);
    assert_eq!(stack.erp.depth("irn.poison").await?, 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn looking_at_many_letters_needs_no_more_memory_than_at_few() -> Result<()> {
    let count = count_from("IRN_TEST_LISTED", 2_000)?;
    let stack = stack().await?;
    let body = invoice(SELLER, "M/1");
    for chunk in 0..count.div_ceil(1_000) {
        let one = |i: usize| {
            let (reason, code) = REASONS[i % REASONS.len()];
            Job::generate(&format!("M/{chunk}/{i}"), body.clone())
                .text_header("x-irn-reason", reason)
                .text_header("x-irn-error", code)
                .text_header("x-irn-gstin", GSTINS[i % GSTINS.len()])
                .text_header("x-irn-dead-at", PAST)
        };
        let jobs: Vec<_> = (0..1_000.min(count - chunk * 1_000)).map(one).collect();
        stack.erp.publish_all_into("irn.dead", &jobs).await?;
    }
    let config = stack.config()?;
    let mut command = config.command("dead-letters")?;
    command.args(["--json", "list"]);
    let began = std::time::Instant::now();
    let mut list = Process::start("list", command)?;
    let status = format!("/proc/{}/status", list.pid()?.as_raw_nonzero());
    let mut peak = 0;
    let ended = eventually(Duration::from_secs(300), "the list to end", async || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or_default());
        list.try_ended()
    })
    .await?;
    let taken = began.elapsed();
    assert!(ended.success());
    let line = list
        .lines()
        .into_iter()
        .find(|line| line.contains(r#""groups":"#));
    let listed: Value = serde_json::from_str(&line.context("the list")?)?;
    assert_eq!(listed["letters"], count, "{listed}");
    assert_eq!(usize::try_from(stack.erp.depth("irn.dead").await?)?, count);
    println!("{count} letters listed in {taken:?}, {peak} kB at the most");
    assert!((1..100_000).contains(&peak), "{peak} kB");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replay_that_is_interrupted_or_limited_leaves_the_rest_as_letters() -> Result<()> {
    let stack = stack().await?;
    stack
        .erp
        .publish_all_into("irn.dead", &letters("I", 60))
        .await?;
    let config = stack.config()?;
    let limited = told(&config, 0, &["replay", "--limit", "7"]).await?;
    assert_eq!(limited["replayed"], 7, "{limited}");
    let jobs = stack.erp.jobs_waiting(&["200ms", "500ms", "1s"]).await?;
    assert_eq!(jobs, 7);
    assert_eq!(stack.erp.depth("irn.dead").await?, 53);

    let mut command = config.command("dead-letters")?;
    command.args(["replay", "--rate", "20/s"]);
    let mut replay = Process::start("replay", command)?;
    let waiting = async || {
        let waiting = stack.erp.jobs_waiting(&["200ms", "500ms", "1s"]).await?;
        Ok((waiting > 12).then_some(()))
    };
    eventually(SOON, "some jobs", waiting).await?;
    replay.signal(Signal::INT)?;
    assert_eq!(replay.ended(SOON).await?.code(), Some(1));
    assert!(
        replay
            .lines()
            .iter()
            .any(|line| line.starts_with("stopped as asked"))
    );
    eventually(SOON, "each to be a job or a letter", async || {
        let jobs = stack.erp.jobs_waiting(&["200ms", "500ms", "1s"]).await?;
        Ok((jobs + stack.erp.depth("irn.dead").await? == 60).then_some(()))
    })
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_died_since_and_what_cannot_be_replayed_stays_and_is_told_of() -> Result<()> {
    let stack = stack().await?;
    let later =
        letter("later", SELLER, REASONS[0]).text_header("x-irn-dead-at", "2099-01-01T00:00:00Z");
    let dropped = Job::new("generate", Vec::new())
        .id("dropped")
        .kind("irn.generate.v1")
        .text_header("x-irn-reason", "PANICKED")
        .text_header("x-irn-dead-at", PAST);
    let nameless = Job::new("generate", "{}")
        .id("nameless")
        .text_header("x-irn-reason", "PANICKED");
    let deadline = letter("deadline", SELLER, REASONS[0])
        .text_header("x-irn-deadline", "2026-01-02T00:00:00Z");
    let dead = [later, dropped, nameless, deadline];
    stack.erp.publish_all_into("irn.dead", &dead).await?;
    let config = stack.config()?;
    let planned = told(&config, 0, &["replay", "--dry-run"]).await?;
    assert_eq!(planned["past_deadline"], 1, "{planned}");
    assert_eq!(planned["impossible"], 2, "{planned}");
    assert_eq!(stack.erp.depth("irn.jobs").await?, 0, "a dry run");
    let planned = dead_letters(&config, &["replay", "--dry-run"]).await?;
    assert_exit(&planned, 0, "1 have a deadline that has passed");
    assert_exit(&planned, 0, "error budget: at most 1 errors");

    let replayed = told(&config, 0, &["replay"]).await?;
    let kept = json!({
        "not_asked_for": 0, "died_since": 1, "died_twice": 0, "no_document": 1, "no_operation": 1
    });
    assert_eq!(
        (&replayed["replayed"], &replayed["kept"]),
        (&json!(1), &kept)
    );
    let left = stack.erp.take("irn.dead", 3, SOON).await?;
    let ids = left
        .iter()
        .map(|message| message.properties.message_id().clone());
    let ids: BTreeSet<_> = ids.flatten().map(|id| id.to_string()).collect();
    assert_eq!(
        ids,
        ["dropped", "later", "nameless"].map(str::to_owned).into()
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn drop_wants_a_filter_and_yes_and_deletes_just_what_is_meant() -> Result<()> {
    let stack = stack().await?;
    stack
        .erp
        .publish_all_into("irn.dead", &letters("D", 200))
        .await?;
    let config = stack.config()?;
    let refused = dead_letters(&config, &["drop", "--yes"]).await?;
    assert_exit(&refused, 2, "say which letters");
    let refused = dead_letters(&config, &["drop", "--code", "4711"]).await?;
    assert_exit(&refused, 2, "give --yes");
    assert_eq!(stack.erp.depth("irn.dead").await?, 200);

    let dropped = dead_letters(&config, &["drop", "--code", "4711", "--yes"]).await?;
    assert_exit(&dropped, 0, "50 letters dropped from irn.dead");
    let audit: Vec<Value> = stderr(&dropped)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(audit.len(), 2, "{}", stderr(&dropped));
    assert_eq!(
        (&audit[0]["phase"], &audit[1]["phase"]),
        (&json!("begins"), &json!("ends"))
    );
    assert_eq!(audit[1]["filter"], json!({"codes": ["4711"]}));
    assert_eq!(
        (&audit[1]["did"]["dropped"], &audit[1]["exit"]),
        (&json!(50), &json!(0))
    );
    assert_eq!(audit[0]["run"], audit[1]["run"]);
    let listed = told(&config, 0, &["list"]).await?;
    assert_eq!(listed["letters"], 150, "{listed}");
    let left = told(&config, 0, &["list", "--code", "4711"]).await?;
    assert_eq!(left["letters"], 0, "{left}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_the_broker_gave_up_on_is_looked_at_and_replayed_with_force_alone() -> Result<()> {
    let mut stack = stack().await?;
    let given_up = Job::generate("P/1", invoice(SELLER, "P/1"))
        .kind("irn.generate.v1")
        .text_header("x-first-death-reason", "delivery_limit");
    let unrouted = Job::new("generat", "{}").id("P/2");
    stack.erp.publish_into("irn.poison", &given_up).await?;
    stack.erp.publish(&[unrouted]).await?;
    let config = stack.config()?;
    let listed = dead_letters(&config, &["list", "--queue", "poison"]).await?;
    assert_exit(&listed, 0, "DELIVERY_LIMIT");
    assert_exit(&listed, 0, "NO_REASON");
    let refused = dead_letters(&config, &["replay", "--queue", "poison"]).await?;
    assert_exit(&refused, 2, "give --force");

    start_worker(&mut stack).await?;
    let replayed = told(
        &config,
        0,
        &["replay", "--queue", "poison", "--force", "--canary", "1"],
    )
    .await?;
    assert_eq!(replayed["replayed"], 1, "{replayed}");
    assert_eq!(replayed["kept"]["no_operation"], 1, "{replayed}");
    stack.outcome().await?.assert_signed(false);
    assert_eq!(
        stack.sandbox.calls().await?.lookups,
        1,
        "nobody knows what was done with it"
    );
    let arguments = [
        "drop",
        "--queue",
        "poison",
        "--reason",
        "NO_REASON",
        "--yes",
    ];
    assert_eq!(told(&config, 0, &arguments).await?["dropped"], 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replayer_needs_no_permission_but_to_read_letters_and_publish_jobs() -> Result<()> {
    let mut stack = stack().await?;
    start_worker(&mut stack).await?;
    stack
        .erp
        .publish_all_into("irn.dead", &letters("U", 10))
        .await?;
    let url = stack
        .broker
        .add_user(
            r"^irn\.canary\..*$",
            r"^irn\.(jobs|retry\..*)$",
            r"^irn\.(dead|poison|canary\..*)$",
        )
        .await?;
    let config = stack.config()?.set("broker.url", url.as_str())?;
    assert_eq!(told(&config, 0, &["list"]).await?["letters"], 10);
    let replayed = told(&config, 0, &["replay", "--canary", "2"]).await?;
    assert_eq!(replayed["replayed"], 10, "{replayed}");
    results(&stack, 10, SOON).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn script_for_cron_replays_what_passes_by_itself_and_leaves_alone_while_another_runs()
-> Result<()> {
    let mut stack = stack().await?;
    start_worker(&mut stack).await?;
    stack
        .erp
        .publish_all_into("irn.dead", &letters("S", 8))
        .await?;
    let config = stack.config()?;
    let worker = config.command("dead-letters")?;
    let file = worker.as_std().get_args().last().context("--config FILE")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/replay-dead-letters");
    let replay = || {
        let mut command = tokio::process::Command::new(script);
        command
            .env("IRN_WORKER", env!("CARGO_BIN_EXE_irn-worker"))
            .env("IRN_WORKER_CONFIG", file)
            .kill_on_drop(true);
        command.output()
    };
    // The configuration's own file: another one's replay is nothing to wait for.
    let held = std::fs::File::open(file)?;
    held.lock()?;
    assert_exit(&replay().await?, 0, "another replay runs");
    assert_eq!(stack.erp.depth("irn.dead").await?, 8);
    drop(held);
    assert_exit(&replay().await?, 0, "2 letters are jobs again");
    let (outcomes, _) = results(&stack, 2, SOON).await?;
    assert!(
        outcomes
            .values()
            .all(|outcome| outcome.status() == "signed")
    );
    assert_eq!(stack.erp.depth("irn.dead").await?, 6);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn commands_say_what_is_missing_and_end_with_the_code_for_it() -> Result<()> {
    let stack = Stack::start(0).await?;
    let config = stack.config()?;
    for arguments in [&["list"][..], &["replay"], &["replay", "--dry-run"]] {
        let output = dead_letters(&config, arguments).await?;
        assert_exit(&output, 1, "irn-worker topology apply");
    }
    let nowhere = stack
        .config()?
        .set("broker.url", "amqp://127.0.0.1:1/%2f")?;
    for arguments in [
        &["list"][..],
        &["replay"],
        &["drop", "--code", "1", "--yes"],
    ] {
        let output = dead_letters(&nowhere, arguments).await?;
        assert_exit(&output, 3, "is it running");
    }
    for wrong in [
        &["replay", "--rate", "fast"][..],
        &["replay", "--canary", "0"],
        &["list", "--gstin", "29"],
        &["list", "--older-than", "-1h"],
    ] {
        assert_exit(&dead_letters(&config, wrong).await?, 2, "");
    }
    Ok(())
}

/// A stranger who holds the first letters that are in nobody's hands, until it is dropped.
struct Holder {
    _connection: lapin::Connection,
    channel: lapin::Channel,
}

impl Holder {
    async fn of(stack: &Stack, count: usize) -> Result<Self> {
        let properties = lapin::ConnectionProperties::default();
        let connection = lapin::Connection::connect(&stack.broker.url(), properties).await?;
        let channel = connection.create_channel().await?;
        for _ in 0..count {
            let options = lapin::options::BasicGetOptions { no_ack: false };
            let got = channel.basic_get("irn.dead".into(), options).await?;
            ensure!(got.is_some(), "no letter is left to hold");
        }
        Ok(Self {
            _connection: connection,
            channel,
        })
    }

    async fn lets_go(self, stack: &Stack, then: u32) -> Result<()> {
        self.channel.close(200, "done".into()).await?;
        eventually(SOON, "the letters to be back", async || {
            Ok((stack.erp.depth("irn.dead").await? == then).then_some(()))
        })
        .await
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn command_that_left_letters_in_other_hands_says_so_and_is_not_done() -> Result<()> {
    let stack = stack().await?;
    stack
        .erp
        .publish_all_into("irn.dead", &letters("O", 60))
        .await?;
    let config = stack.config()?;
    // Held before it begins: the broker does not tell how many.
    let holder = Holder::of(&stack, 20).await?;
    for arguments in [&["list"][..], &["replay", "--dry-run"]] {
        let told = told(&config, 0, arguments).await?;
        assert_eq!(told["others_hold_more"], true, "{told}");
        let text = dead_letters(&config, arguments).await?;
        assert_exit(&text, 0, "some letters were in other hands");
    }
    let dropped = dead_letters(&config, &["drop", "--code", "4711", "--yes"]).await?;
    assert_exit(&dropped, 1, "10 letters dropped from irn.dead");
    assert_exit(&dropped, 1, "some letters were in other hands");
    let limited = told(&config, 0, &["replay", "--limit", "2"]).await?;
    assert_eq!(
        limited["stopped"],
        Value::Null,
        "it did all it was asked for"
    );
    let replayed = told(&config, 1, &["replay"]).await?;
    assert_eq!(replayed["replayed"], 28, "{replayed}");
    assert_eq!(replayed["stopped"], "in_other_hands", "{replayed}");
    assert_eq!(replayed["others_hold_more"], true, "{replayed}");
    holder.lets_go(&stack, 20).await?;
    let replayed = told(&config, 0, &["replay"]).await?;
    assert_eq!(
        (&replayed["replayed"], &replayed["in_other_hands"]),
        (&json!(20), &json!(0))
    );

    // Taken while it runs: those it had counted.
    stack
        .erp
        .publish_all_into("irn.dead", &letters("Q", 120))
        .await?;
    let mut command = config.command("dead-letters")?;
    command.args(["--json", "replay", "--rate", "30/s"]);
    let mut replay = Process::start("replay", command)?;
    eventually(SOON, "some jobs", async || {
        let waiting = stack.erp.jobs_waiting(&["200ms", "500ms", "1s"]).await?;
        Ok((waiting > 60).then_some(()))
    })
    .await?;
    let holder = Holder::of(&stack, 40).await?;
    assert_eq!(replay.ended(SOON).await?.code(), Some(1));
    let lines = replay.lines();
    let told = lines.iter().find(|line| line.contains("in_other_hands"));
    let told: Value = serde_json::from_str(told.context("what it came to")?)?;
    assert_eq!(
        (&told["replayed"], &told["in_other_hands"]),
        (&json!(80), &json!(40)),
        "{told}"
    );
    holder.lets_go(&stack, 40).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn letters_go_back_while_the_output_stands_still_and_are_shown_each_once_all_the_same()
-> Result<()> {
    use tokio::io::AsyncReadExt as _;
    const LETTERS: u32 = 400;
    let stack = stack().await?;
    stack
        .erp
        .publish_all_into("irn.dead", &letters("P", 400))
        .await?;
    let config = stack.config()?;
    let mut command = config.command("dead-letters")?;
    command.args(["--json", "export"]);
    command.stdin(std::process::Stdio::null());
    command
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true);
    // A pager that is left open: nobody reads on.
    let mut export = command.spawn()?;
    let mut stdout = export.stdout.take().context("piped")?;
    let mut text = vec![0];
    stdout.read_exact(&mut text).await?;
    assert!(
        stack.erp.depth("irn.dead").await? < LETTERS,
        "it holds some"
    );
    eventually(SOON, "the letters to be back", async || {
        Ok((stack.erp.depth("irn.dead").await? == LETTERS).then_some(()))
    })
    .await?;
    assert_eq!(export.try_wait()?, None, "it is not over");
    stdout.read_to_end(&mut text).await?;
    assert!(export.wait().await?.success());
    let ids: Vec<String> = String::from_utf8(text)?
        .lines()
        .map(|line| {
            let letter: Value = serde_json::from_str(line)?;
            Ok(letter["message_id"].as_str().context("an id")?.to_owned())
        })
        .collect::<Result<_>>()?;
    let all: Vec<String> = (0..LETTERS).map(|i| format!("P/{i}")).collect();
    assert_eq!(ids, all);

    // Whoever takes letters out meanwhile makes a whole export impossible.
    let mut command = config.command("dead-letters")?;
    command.arg("export");
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped());
    command
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut export = command.spawn()?;
    let mut stdout = export.stdout.take().context("piped")?;
    stdout.read_exact(&mut [0]).await?;
    eventually(SOON, "the letters to be back", async || {
        Ok((stack.erp.depth("irn.dead").await? == LETTERS).then_some(()))
    })
    .await?;
    stack.erp.take("irn.dead", 1, SOON).await?;
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).await?;
    let ended = export.wait_with_output().await?;
    assert_exit(&ended, 1, "others took letters out");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn alarm_of_the_broker_is_named_and_does_not_keep_a_replay_or_check() -> Result<()> {
    let node = PrivateBroker::start().await?;
    let broker = node.virtual_host().await?;
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
    let config = WorkerConfig::between(&broker.url(), &sandbox)?;
    let applied = config.output("topology", &["apply"]).await?;
    ensure!(applied.status.success(), "{applied:?}");
    let erp = Amqp::connect(&broker.url()).await?;
    erp.publish_all_into("irn.dead", &letters("A", 40)).await?;
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"])
        .await?;
    // The alarm is there once a stranger is blocked.
    let checked = async || {
        let output = config.output("check", &[]).await?;
        let text = stdout(&output);
        Ok(text.contains("blocks publishers").then_some((output, text)))
    };
    let (output, text) =
        eventually(Duration::from_secs(60), "check to tell of it", checked).await?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("rabbitmq-diagnostics alarms"), "{text}");
    assert!(!text.contains("start the broker"), "{text}");

    let mut command = config.command("dead-letters")?;
    command.args(["--json", "replay"]);
    let mut replay = Process::start("replay", command)?;
    let told = |line: &str| line.contains("the broker blocks publishers").then_some(());
    replay.line(SOON, "what it waits for", told).await?;
    replay.signal(Signal::TERM)?;
    assert_eq!(replay.ended(SOON).await?.code(), Some(1));
    let lines = replay.lines();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("\"stopped\":\"left\"")),
        "{lines:?}"
    );
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"])
        .await?;
    let replayed = async || {
        let output = dead_letters(&config, &["--json", "replay"]).await?;
        Ok(output.status.success().then_some(()))
    };
    eventually(Duration::from_secs(60), "a replay after it", replayed).await?;
    assert_eq!(erp.depth("irn.dead").await?, 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn broker_that_lets_nobody_in_is_told_apart_from_one_that_is_not_there() -> Result<()> {
    let stack = stack().await?;
    let wrong = stack.broker.url_as("guest", "wrong");
    let nowhere = format!("{}-not", stack.broker.url());
    for (url, says) in [
        (wrong, "the broker refuses the login of guest"),
        (nowhere, "into the virtual host"),
    ] {
        let config = stack.config()?.set("broker.url", url)?;
        let commands = [
            ("dead-letters", &["list"][..]),
            ("dead-letters", &["replay"]),
            ("topology", &["apply"]),
            ("resume", &[SELLER]),
            ("check", &[]),
        ];
        for (command, arguments) in commands {
            let output = config.output(command, arguments).await?;
            assert_exit(&output, 1, says);
            let text = format!("{}{}", stdout(&output), stderr(&output));
            assert!(!text.contains("is it running"), "{command}: {text}");
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn command_that_does_not_begin_leaves_its_audit_line_too() -> Result<()> {
    let stack = stack().await?;
    let folder = TempDir::new()?;
    let there = folder.path().join("there");
    std::fs::write(&there, "another's")?;
    let there = there.to_str().context("UTF-8")?;
    let config = stack.config()?;
    for (arguments, exit) in [
        (&["drop", "--yes"][..], 2),
        (&["drop", "--code", "4711"], 2),
        (&["replay", "--queue", "poison"], 2),
        (&["export", "--out", there], 1),
    ] {
        let output = dead_letters(&config, arguments).await?;
        assert_exit(&output, exit, "");
        let lines = stderr(&output);
        let audit = lines
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str::<Value>(line).ok());
        let audit = audit.with_context(|| lines.clone())?;
        assert_eq!(
            (&audit["phase"], &audit["exit"]),
            (&json!("ends"), &json!(exit))
        );
    }
    Ok(())
}
