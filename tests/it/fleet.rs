//! The limits hold for all replicas together, whoever joins and whoever is killed.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::support::amqp::{Job, Message};
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::sandbox::Sandbox;
use crate::support::stack::Stack;
use crate::support::worker::{WorkerConfig, WorkerProcess};

const SELLER: &str = GSTINS[0];
const LIMIT: u64 = 20;
const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(10);

/// A tenth above the limit: requests bunch on their way.
const MOST: u64 = LIMIT + LIMIT / 10;

fn limited(config: WorkerConfig) -> Result<WorkerConfig> {
    limited_to(LIMIT, config)
}

fn limited_to(limit: u64, config: WorkerConfig) -> Result<WorkerConfig> {
    config
        .set("limits.per_gstin", format!("{limit}/s"))?
        .set("retry.delays", vec!["1s", "5s", "30s"])
}

/// So many jobs of the one GSTIN.
fn jobs(count: usize) -> Vec<Job> {
    let job = |number| {
        let number = format!("J/{number}");
        Job::generate(&number, invoice(SELLER, &number))
    };
    (1..=count).map(job).collect()
}

async fn replicas(worker: &mut WorkerProcess) -> Result<u64> {
    let status: Value = serde_json::from_str(&worker.admin("/status").await?)?;
    status["replicas"].as_u64().context("no count of replicas")
}

/// Waits until every one of these counts so many.
async fn until_all_see(workers: &mut [WorkerProcess], count: u64) -> Result<()> {
    eventually(SOON, &format!("all to see {count} replicas"), async || {
        for worker in &mut *workers {
            if replicas(worker).await? != count {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}

/// How many calls have arrived at which time, looked at all the while.
struct Watch<'s> {
    sandbox: &'s Sandbox,
    looks: Vec<Look>,
}

/// So many calls had arrived at some time between the two.
#[derive(Clone, Copy)]
struct Look {
    begun: Instant,
    ended: Instant,
    calls: u64,
}

impl<'s> Watch<'s> {
    fn new(sandbox: &'s Sandbox) -> Self {
        let looks = Vec::new();
        Self { sandbox, looks }
    }

    /// Looks on until `over`.
    async fn during<T>(&mut self, over: impl Future<Output = Result<T>>) -> Result<T> {
        let mut over = std::pin::pin!(over);
        let mut ticks = tokio::time::interval(SECOND / 40);
        loop {
            tokio::select! {
                ended = over.as_mut() => return ended,
                _ = ticks.tick() => {
                    let begun = Instant::now();
                    let stats = self.sandbox.stats().await?.of(SELLER);
                    let (calls, ended) = (stats.generates + stats.lookups, Instant::now());
                    self.looks.push(Look { begun, ended, calls });
                }
            }
        }
    }

    async fn for_a(&mut self, time: Duration) -> Result<()> {
        self.during(async {
            tokio::time::sleep(time).await;
            Ok(())
        })
        .await
    }

    /// The busiest second that begins in this time, for certain not longer.
    fn most(&self, from: Instant, until: Instant) -> u64 {
        let begin = self
            .looks
            .iter()
            .filter(|look| (from..until).contains(&look.begun));
        let calls = begin.map(|first| {
            let within = |then: &&Look| then.ended < first.begun + SECOND;
            let within = self.looks.iter().filter(within);
            let after = within.map(|look| look.calls).max();
            after.map(|calls| calls.saturating_sub(first.calls))
        });
        calls.flatten().max().unwrap_or_default()
    }

    /// When, after `from`, so much time has passed in which at least so many calls arrived.
    fn reached(&self, from: Instant, within: Duration, least: u64) -> Option<Duration> {
        let mut later = self.looks.iter().filter(|look| look.begun >= from + within);
        later
            .find(|look| {
                let mut before = self.looks.iter().rev();
                let before = before.find(|then| then.ended + within <= look.begun);
                // Or it says nothing of so much time.
                let before = before.filter(|then| look.begun - then.begun <= within + SECOND);
                before.is_some_and(|before| look.calls - before.calls >= least)
            })
            .map(|look| look.begun - from)
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn limit_of_a_gstin_holds_for_three_replicas_when_a_fourth_joins_and_one_is_killed()
-> Result<()> {
    let mut stack = Stack::start_with(3, limited).await?;
    let fourth = limited(stack.config()?)?;
    until_all_see(&mut stack.workers, 3).await?;
    stack.erp.publish(&jobs(900)).await?;

    let Stack {
        sandbox, workers, ..
    } = &mut stack;
    let mut watch = Watch::new(sandbox);
    let begin = Instant::now();
    watch.for_a(SECOND * 5).await?;
    let alone = sandbox.stats().await?.of(SELLER).max_per_second;
    assert!(alone <= MOST, "{alone} calls in a second of three replicas");

    let joins = Instant::now();
    workers.push(watch.during(fourth.start("the fourth")).await?);
    watch.during(until_all_see(workers, 4)).await?;
    let joined = Instant::now();
    watch.for_a(SECOND * 4).await?;

    let killed_at = Instant::now();
    workers.remove(0).kill().await?;
    watch.during(until_all_see(workers, 3)).await?;
    let noticed = Instant::now();
    watch.for_a(SECOND * 4).await?;

    let end = Instant::now();
    let settled = [
        watch.most(begin, joins - SECOND),
        watch.most(joined, killed_at - SECOND),
        watch.most(noticed, end),
    ];
    let around = watch
        .most(joins - SECOND, joined)
        .max(watch.most(killed_at, noticed));
    let again = watch.reached(noticed, SECOND, LIMIT * 3 / 4);
    println!(
        "limit {LIMIT}/s: settled {settled:?}, around join and kill {around}, joined in {:?}, kill noticed in {:?}, at \
         the limit again in {again:?}",
        joined - joins,
        noticed - killed_at
    );
    assert!(settled.iter().all(|most| *most <= MOST), "{settled:?}");
    assert!(around <= LIMIT * 3 / 2, "{around}");
    assert!(
        noticed - killed_at < SECOND * 3,
        "{:?}",
        noticed - killed_at
    );
    let again = again.context("the throughput never came back")?;
    assert!(again <= SECOND * 3, "{again:?}");
    Ok(())
}

/// Waits until every one of these has a place of its own among them.
async fn until_all_have_places(workers: &mut [WorkerProcess]) -> Result<()> {
    let all: Vec<u64> = (1..).take(workers.len()).collect();
    eventually(SOON * 3, &format!("the places {all:?}"), async || {
        let mut places = Vec::new();
        for worker in &mut *workers {
            let status: Value = serde_json::from_str(&worker.admin("/status").await?)?;
            places.extend(status["place"].as_u64());
        }
        places.sort_unstable();
        Ok((places == all).then_some(()))
    })
    .await
}

/// How even their turns are, the tests of `limits::paced` show; here that they have them.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replicas_take_turns_at_a_limit_and_find_their_places_anew_when_one_is_killed() -> Result<()>
{
    const FEW: u64 = 10;
    let mut stack = Stack::start_with(4, |config| limited_to(FEW, config)).await?;
    until_all_have_places(&mut stack.workers).await?;
    stack.erp.publish(&jobs(600)).await?;
    let Stack {
        sandbox, workers, ..
    } = &mut stack;
    let mut watch = Watch::new(sandbox);
    for _ in 0..2 {
        // Each takes its first two where it is.
        watch.for_a(SECOND * 2).await?;
        let begin = Instant::now();
        watch.for_a(SECOND * 8).await?;
        let within = || watch.looks.iter().filter(|look| look.begun >= begin);
        let calls = |look: &Look| look.calls;
        let calls = within()
            .next_back()
            .map(calls)
            .zip(within().next().map(calls));
        let (last, first) = calls.context("nothing was seen")?;
        let most = watch.most(begin, Instant::now());
        let all = last - first;
        let many = workers.len();
        println!("limit {FEW}/s, {many} replicas: {most} in the busiest second, {all} in eight");
        assert!(all >= FEW * 6, "{all}");
        if many == 4 {
            workers.remove(0).kill().await?;
            // Before that, their places are those of before.
            watch.during(until_all_see(workers, 3)).await?;
            watch.during(until_all_have_places(workers)).await?;
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn error_budget_is_shared_by_the_replicas() -> Result<()> {
    let small = |config: WorkerConfig| config.set("limits.error_budget_per_gstin", "9/day");
    let mut stack = Stack::start_with(3, small).await?;
    until_all_see(&mut stack.workers, 3).await?;
    let rule = serde_json::json!([
        {"endpoint": "generate", "gstin": SELLER, "kind": "error", "code": "2189"}
    ]);
    stack.sandbox.faults(1, rule).await?;
    let jobs: Vec<Job> = (1..=90)
        .map(|i| Job::generate(&format!("E/{i}"), invoice(SELLER, &format!("E/{i}"))))
        .collect();
    stack.erp.publish(&jobs).await?;
    let outcomes = stack.outcomes(90, SOON * 2).await?;
    let refused = outcomes.values().filter(|o| o.status() == "rejected");
    assert_eq!(refused.count(), 9);
    assert_eq!(stack.sandbox.stats().await?.of(SELLER).errors, 9);
    Ok(())
}

/// With two logins an hour the third replica has no session.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replica_that_may_not_log_in_yet_takes_no_part_of_the_limit_from_the_others() -> Result<()>
{
    let few_logins = |config: WorkerConfig| {
        let config = limited(config)?;
        config.set("limits.auth_per_gstin", "2/h")
    };
    let mut stack = Stack::start_with(2, few_logins).await?;
    let mut number = 0;
    eventually(SOON, "both to have logged in", async || {
        number += 1;
        let name = format!("F/{number}");
        let job = Job::generate(&name, invoice(SELLER, &name));
        stack.settle(job).await?.assert_signed(false);
        Ok((stack.sandbox.calls().await?.logins == 2).then_some(()))
    })
    .await?;
    let third = few_logins(stack.config()?)?;
    stack.workers.push(third.start("the third").await?);
    until_all_have_places(&mut stack.workers).await?;
    stack.erp.publish(&jobs(900)).await?;
    let mut watch = Watch::new(&stack.sandbox);
    let begin = Instant::now();
    // What else the machine does is not theirs. After their first calls, which nobody waits for; a third would be missing.
    let (first, span) = (begin + SECOND * 2, SECOND * 5);
    let least = LIMIT * span.as_secs() * 17 / 20;
    while watch.reached(first, span, least).is_none() && begin.elapsed() < SOON * 3 {
        watch.for_a(SECOND).await?;
    }
    let reached = watch.reached(first, span, least);
    let most = watch.most(begin, Instant::now());
    let logins = stack.sandbox.calls().await?.logins;
    println!(
        "limit {LIMIT}/s, {logins} logins: {least} in {span:?} after {reached:?}, {most} in the busiest second"
    );
    assert_eq!(logins, 2);
    assert!(reached.is_some(), "never {least} in {span:?}");
    assert!(most <= MOST, "{most}");
    Ok(())
}

/// A replica that died between confirm and acknowledgement has left a job in two places, and they came to different ones.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn copy_of_a_job_that_another_replica_has_settled_in_doubt_costs_no_error() -> Result<()> {
    let mut stack = Stack::start(2).await?;
    until_all_see(&mut stack.workers, 2).await?;
    stack.erp.declare("heard").await?;
    stack.erp.bind("irn.control", "heard", "").await?;
    let copy = || Job::generate("j-1", invoice(SELLER, "J/1"));
    let in_doubt = copy().text_header("x-irn-outcome", "unknown");
    stack.settle(in_doubt).await?.assert_signed(false);
    let errors = stack.sandbox.stats().await?.of(SELLER).errors;
    // Told to this queue and to the replicas' at once; whatever is told after it, they hear after it.
    let is_done = |message: Message| {
        Ok(String::from_utf8_lossy(&message.body).contains(r#""action":"done""#))
    };
    let told = stack.erp.take_until("heard", is_done);
    timeout(SOON, told)
        .await
        .context("nothing was told of it")??;
    let resumed = stack.config()?.output("resume", &[SELLER]).await?;
    assert!(resumed.status.success(), "{resumed:?}");
    for worker in &stack.workers {
        worker.until_logged("resumed by an operator", SOON).await?;
    }
    // One after the other, they come to both.
    for _ in 0..10 {
        stack.settle(copy()).await?.assert_signed(true);
    }
    let calls = stack.sandbox.calls().await?;
    assert_eq!((calls.registrations, calls.duplicates), (1, 0), "{calls:?}");
    assert_eq!(stack.sandbox.stats().await?.of(SELLER).errors, errors);
    Ok(())
}
