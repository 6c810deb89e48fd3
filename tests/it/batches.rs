//! Batches: many documents in one message, split whole or not at all.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use irn_worker::crash::Point;
use tokio::time::timeout;

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::sandbox::Calls;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const MOST: usize = 10_000;
const SOON: Duration = Duration::from_secs(30);
const MANY: Duration = Duration::from_secs(120);

/// An array of documents that pre-flight refuses, each of about a kilobyte.
fn faulty(count: usize) -> String {
    let filler = "x".repeat(1_000);
    let mut body = "[".to_owned();
    for number in 1..=count {
        let comma = if number > 1 { "," } else { "" };
        write!(body, r#"{comma}{{"Number":{number},"Filler":"{filler}"}}"#)
            .expect("a text takes whatever is written");
    }
    body + "]"
}

/// A member of `/proc/PID/status`, in KiB.
fn memory(pid: i32, member: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with(member))
        .with_context(|| format!("no {member}"))?;
    let number = line.split_whitespace().nth(1).context("no number")?;
    Ok(number.parse()?)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn ten_thousand_documents_of_one_message_are_answered_once_each_and_others_go_on()
-> Result<()> {
    let stack = Stack::start(1).await?;
    let pid = stack.workers[0].pid()?;
    stack
        .settle(Job::generate("warm", invoice(GSTINS[0], "W/1")))
        .await?
        .assert_signed(false);
    let before = memory(pid, "VmHWM")?;
    let body = faulty(MOST);
    let length = u64::try_from(body.len())? / 1024;
    let single = Job::generate("single", invoice(GSTINS[0], "S/1"));
    stack
        .erp
        .publish(&[Job::generate("large", body), single])
        .await?;

    let mut numbers = BTreeSet::new();
    let mut single_came = None;
    let taking = stack.erp.take_until("irn.results", |message| {
        let outcome = message.json()?;
        if outcome["job_id"] == "single" {
            assert_eq!(outcome["status"], "signed");
            single_came = Some(numbers.len());
            return Ok(numbers.len() == MOST);
        }
        assert_eq!(outcome["status"], "rejected");
        assert_eq!(message.header("x-irn-batch-id").as_deref(), Some("large"));
        assert_eq!(message.header("x-irn-batch-size").as_deref(), Some("10000"));
        let number: usize = message
            .header("x-irn-batch-seq")
            .context("no number")?
            .parse()?;
        assert_eq!(outcome["job_id"], format!("large/{number}"));
        assert!(numbers.insert(number), "{number} has two results");
        Ok(numbers.len() == MOST && single_came.is_some())
    });
    timeout(MANY, taking).await??;
    assert!(numbers.into_iter().eq(1..=MOST));
    let single_came = single_came.context("the single job has no result")?;
    let peak = memory(pid, "VmHWM")?;
    println!(
        "a body of {length} KiB: peak {before} KiB before, {peak} KiB after; the single job came as result {single_came}"
    );
    assert!(
        single_came < MOST / 2,
        "it waited for {single_came} results"
    );
    // The body itself, grown as it came in, and what is under way beside it.
    assert!(
        peak - before <= 2 * length + 24 * 1024,
        "{before} KiB grew to {peak} KiB"
    );
    Ok(())
}

/// Each look-up that finds nothing is an error at the portal, and a GSTIN may have 2,000 of them in a day.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn few_documents_of_a_long_array_cost_an_error_when_its_worker_dies() -> Result<()> {
    const LONG: usize = 3000;
    let mut stack = Stack::start(0).await?;
    let documents: Vec<String> = (1..=LONG)
        .map(|number| invoice(GSTINS[0], &format!("D/{number}")))
        .collect();
    let change = |config: WorkerConfig| config.set("limits.per_gstin", "5000/s");
    // Thirty parts, and then documents of the first ones.
    let crash = format!("{}:1000", Point::BatchPartConfirmed.name());
    let armed = change(stack.config()?)?.env("IRN_WORKER_CRASH_AT", &crash);
    let mut victim = armed.start("the one that dies").await?;
    let array = format!("[{}]", documents.join(","));
    stack.erp.publish(&[Job::generate("long", array)]).await?;
    victim.ended(SOON).await?;
    let survivor = change(stack.config()?)?.start("the one that lives").await?;
    stack.workers.push(survivor);

    let mut answered = BTreeSet::new();
    let taking = stack.erp.take_until("irn.results", |message| {
        let outcome = message.json()?;
        assert_eq!(outcome["status"], "signed", "{outcome}");
        let size = message.header("x-irn-batch-size");
        assert_eq!(size.as_deref(), Some("3000"));
        let number = message.header("x-irn-batch-seq").context("no number")?;
        assert_eq!(outcome["job_id"], format!("long/{number}"));
        answered.insert(number);
        Ok(answered.len() == LONG)
    });
    timeout(MANY, taking).await??;
    let calls = stack.sandbox.calls().await?;
    assert_eq!(
        (calls.registrations, calls.duplicates),
        (3000, 0),
        "{calls:?}"
    );
    // Those of the parts in hand, and jobs that were handed out: far from all.
    let errors = stack.sandbox.stats().await?.of(GSTINS[0]).errors;
    println!("{calls:?}, {errors} errors");
    assert!(errors < 1500, "{errors} look-ups found nothing");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn array_that_is_broken_at_its_end_is_refused_before_anything_is_published() -> Result<()> {
    let stack = Stack::start(1).await?;
    let good: Vec<String> = (1..=500)
        .map(|number| invoice(GSTINS[0], &format!("B/{number}")))
        .collect();
    let broken = format!("[{},{{\"Version\":\"1.1\"]", good.join(","));
    let outcome = stack.settle(Job::generate("broken", broken)).await?;
    assert_eq!(outcome.status(), "failed");
    assert_eq!(outcome.json["errors"][0]["code"], "UNREADABLE");
    let poison = stack.erp.take("irn.poison", 1, SOON).await?;
    assert!(poison[0].body.ends_with(br#"{"Version":"1.1"]"#));
    stack
        .erp
        .until_no_job_waits(&["200ms", "500ms", "1s"], SOON)
        .await?;
    assert_eq!(stack.sandbox.calls().await?, Calls::default());
    assert_eq!(stack.erp.depth("irn.results").await?, 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn documents_of_an_urgent_batch_stay_urgent() -> Result<()> {
    const RUNG: &str = "3s";
    let once = |config: WorkerConfig| {
        config
            .set("limits.per_gstin", "1/h")?
            .set("retry.delays", vec![RUNG])
    };
    let mut stack = Stack::start_with(1, once).await?;
    let members: Vec<String> = (1..=5)
        .map(|number| invoice(GSTINS[0], &format!("U/{number}")))
        .collect();
    let batch = Job::new("urgent.generate", format!("[{}]", members.join(","))).id("urgent");
    stack.erp.publish(&[batch]).await?;
    stack.outcome().await?.assert_signed(false);
    eventually(SOON, "four to wait for the limit", async || {
        let deferred = stack.erp.depth(&format!("irn.retry.{RUNG}")).await?;
        Ok((deferred == 4).then_some(()))
    })
    .await?;
    stack.workers.remove(0).kill().await?;
    eventually(SOON, "four to be back among the urgent ones", async || {
        // One that the worker had in hand again when it was killed may be there twice.
        Ok((stack.erp.depth("irn.jobs.urgent").await? >= 4).then_some(()))
    })
    .await?;
    assert_eq!(stack.erp.depth("irn.jobs").await?, 0);
    Ok(())
}
