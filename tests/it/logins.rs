//! Logins of a whole fleet: each replica logs in for itself, and all together keep within the rate.

use std::time::Duration;

use anyhow::Result;

use crate::support::amqp::Job;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const REPLICAS: usize = 4;
const PER_MINUTE: u64 = 2;
const JOBS: usize = 20;
const BACKLOG: usize = 2_000;
/// Shorter than the minute in which the logins are counted.
const SOON: Duration = Duration::from_secs(50);

fn rationed(config: WorkerConfig) -> Result<WorkerConfig> {
    config.set("limits.auth_per_gstin", format!("{PER_MINUTE}/m"))
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replicas_that_start_together_keep_within_the_login_rate_and_answer_every_job() -> Result<()>
{
    let mut stack = Stack::start(0).await?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    assert!(applied.status.success(), "{applied:?}");
    for gstin in GSTINS {
        let jobs: Vec<Job> = (1..=JOBS)
            .map(|i| Job::generate(&format!("{gstin}/{i}"), invoice(gstin, &format!("F/{i}"))))
            .collect();
        stack.erp.publish(&jobs).await?;
    }
    for number in 1..=REPLICAS {
        let worker = rationed(stack.config()?)?.spawn(&format!("worker {number}"))?;
        stack.workers.push(worker);
    }
    for outcome in stack.outcomes(GSTINS.len() * JOBS, SOON).await?.values() {
        outcome.assert_signed(false);
    }
    let stats = stack.sandbox.stats().await?;
    let logins = GSTINS.map(|gstin| stats.of(gstin).authentications);
    println!("logins of {REPLICAS} replicas, by GSTIN: {logins:?}");
    // What one replica says may reach the others too late, on a busy machine: once, of these GSTINs.
    let over = logins.iter().map(|count| count.saturating_sub(PER_MINUTE));
    assert!(over.sum::<u64>() <= 1, "{logins:?}");
    assert!(!logins.contains(&0), "{logins:?}");
    Ok(())
}

/// Each of these comes to any of them. On the ladder it would wait for seconds, in its lane for the next login.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_that_comes_to_a_replica_without_a_session_is_passed_on_to_one_that_has() -> Result<()>
{
    const EACH: usize = 12;
    let mut stack = Stack::start_with(REPLICAS, rationed).await?;
    for number in 1..=EACH {
        for gstin in GSTINS {
            let (id, class) = (format!("{gstin}/{number}"), number % 3);
            let document = invoice(gstin, &format!("P/{number}"));
            let job = match class {
                0 => Job::new("urgent.generate", document).id(&id),
                _ => Job::generate(&id, document),
            };
            stack.settle(job).await?.assert_signed(false);
        }
    }
    let (mut passed_on, mut deferred) = (0.0, 0.0);
    for worker in &mut stack.workers {
        passed_on += worker.metric("irn_worker_passed_on_total", "").await?;
        deferred += worker.metric("irn_worker_deferred_total", "").await?;
    }
    let calls = stack.sandbox.calls().await?;
    println!(
        "{passed_on} passed on, {deferred} deferred, {} logins",
        calls.logins
    );
    assert!(passed_on > 0.0);
    // Those that stood back may have.
    assert!(deferred < 10.0, "{deferred}");
    Ok(())
}

/// Two of them may log in, and do the work: the others must not have it wait on the ladder instead.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replicas_that_may_not_log_in_yet_leave_the_queue_to_those_that_have() -> Result<()> {
    // With other GSTINs about, a worker that has just started would sweep the queue to see them.
    let mut stack = Stack::of(&Credentials::of(&GSTINS[..1]), 0, Ok).await?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    assert!(applied.status.success(), "{applied:?}");
    let jobs: Vec<Job> = (1..=BACKLOG)
        .map(|i| Job::generate(&format!("B/{i}"), invoice(GSTINS[0], &format!("B/{i}"))))
        .collect();
    stack.erp.publish(&jobs).await?;
    for number in 1..=REPLICAS {
        let config = rationed(stack.config()?)?
            .set("limits.per_gstin", "40/s")?
            .set("retry.delays", vec!["15s", "1m", "5m"])?;
        stack
            .workers
            .push(config.spawn(&format!("worker {number}"))?);
    }
    let mut answered = 0;
    eventually(SOON, "a part of them to be answered", async || {
        answered = stack.sandbox.stats().await?.calls().generates;
        Ok((answered >= BACKLOG as u64 / 4).then_some(()))
    })
    .await?;
    let mut without = 0.0;
    let mut deferred = 0.0;
    for worker in &mut stack.workers {
        let of_worker = worker.metric("irn_worker_deferred_total", "").await?;
        let limited = "reason=\"login rate\"";
        if worker.metric("irn_worker_deferred_total", limited).await? > 0.0 {
            without += 1.0;
            deferred += of_worker;
        }
    }
    println!("{deferred} deferrals by {without} without a session, while {answered} were answered");
    // No more than those that had a place and tried.
    assert!(without > 0.0);
    assert!(deferred / without < 200.0, "{deferred} by {without}");
    Ok(())
}

/// Nobody has missed the one that died yet: its login is told of with those of the living.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replica_that_replaces_one_just_killed_is_told_of_the_login_of_that_one() -> Result<()> {
    let seller = GSTINS[0];
    let mut stack = Stack::start_with(2, rationed).await?;
    let mut published = 0;
    let mut settle_some = async |stack: &mut Stack| -> Result<()> {
        published += JOBS;
        let numbers = published - JOBS..published;
        let job = |i| Job::generate(&format!("R/{i}"), invoice(seller, &format!("R/{i}")));
        stack
            .erp
            .publish(&numbers.map(job).collect::<Vec<_>>())
            .await?;
        for outcome in stack.outcomes(JOBS, SOON).await?.values() {
            assert_eq!(outcome.status(), "signed", "{}", outcome.json);
        }
        Ok(())
    };
    eventually(SOON, "both to have a session", async || {
        settle_some(&mut stack).await?;
        let logins = stack.sandbox.stats().await?.of(seller).authentications;
        Ok((logins == PER_MINUTE).then_some(()))
    })
    .await?;
    stack.workers.remove(0).kill().await?;
    let newcomer = rationed(stack.config()?)?.start("the newcomer").await?;
    stack.workers.push(newcomer);
    settle_some(&mut stack).await?;
    let logins = stack.sandbox.stats().await?.of(seller).authentications;
    assert_eq!(logins, PER_MINUTE);
    Ok(())
}
