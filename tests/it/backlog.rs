//! A long queue: drained at the rate of its GSTINs, with flat memory, and no more on the ladder than there are jobs.
//!
//! `BACKLOG_JOBS` in the environment says how many jobs it holds, `BACKLOG_RATE` how many a second each GSTIN may do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;

const RUNGS: [&str; 3] = ["1s", "5s", "30s"];
const BUSY: usize = 3;
const LONG: Duration = Duration::from_secs(60);

/// What a full window, its results and the allocator's habits may add to a worker that has begun.
const GROWTH_KIB: u64 = 16 * 1024;

fn setting(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is no number")),
        Err(_) => Ok(default),
    }
}

/// Resident memory of a process, in KiB (proc(5), VmRSS).
fn memory(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let text = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(text.trim().parse()?)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn long_queue_is_drained_at_its_rate_with_flat_memory_and_each_job_once_on_the_ladder()
-> Result<()> {
    let (jobs, rate) = (
        setting("BACKLOG_JOBS", 3000)?,
        setting("BACKLOG_RATE", 100)?,
    );
    let mut stack = Stack::start_with(1, |config| {
        config
            .set("limits.per_gstin", format!("{rate}/s"))?
            .set("retry.delays", RUNGS.to_vec())
    })
    .await?;
    let job = |i: usize| {
        let number = format!("L/{i}");
        Job::generate(&number, invoice(GSTINS[i % BUSY], &number))
    };
    let began = Instant::now();
    for chunk in (0..jobs).collect::<Vec<_>>().chunks(1000) {
        let jobs: Vec<_> = chunk.iter().map(|i| job(*i)).collect();
        stack.erp.publish(&jobs).await?;
    }
    let pid = stack.worker()?.pid()?;
    let (mut begun, mut most) = (None, 0);
    let mut on_ladder = 0;
    let mut left = jobs;
    while left > 0 {
        // A quorum queue hands out 2,000 unacknowledged messages at the most.
        let some = stack.outcomes(left.min(500), LONG).await?;
        left -= some.len();
        some.values()
            .for_each(|outcome: &Outcome| outcome.assert_signed(false));
        if left <= jobs - jobs / 10 {
            let now = memory(pid)?;
            begun.get_or_insert(now);
            most = most.max(now);
        }
        on_ladder = on_ladder.max(stack.erp.jobs_waiting(&RUNGS).await?);
    }
    let begun = begun.context("no job was published")?;
    let seconds = began.elapsed().as_secs_f64();
    let worker = stack.worker()?;
    let deferred = worker.metric("irn_worker_deferred_total", "").await?;
    println!(
        "{jobs} jobs in {seconds:.1} s with {deferred} deferrals, at most {on_ladder} waiting; memory {begun} KiB after \
         the first tenth, at most {most} KiB"
    );
    assert!(most <= begun + GROWTH_KIB, "{begun} to {most} KiB");
    assert!(usize::try_from(on_ladder)? <= jobs, "{on_ladder} of {jobs}");
    let at_the_limit = f64::from(u32::try_from(jobs)?) / f64::from(u32::try_from(BUSY * rate)?);
    assert!(
        seconds <= at_the_limit * 1.5 + 10.0,
        "{seconds} s, {at_the_limit} s at the limit"
    );
    let calls = stack.sandbox.calls().await?;
    assert_eq!(
        (calls.registrations, calls.duplicates),
        (u64::try_from(jobs)?, 0)
    );
    eventually(LONG, "the ladder to be empty", async || {
        Ok((stack.erp.jobs_waiting(&RUNGS).await? == 0).then_some(()))
    })
    .await
}

const LADDER: [&str; 4] = ["1s", "3s", "30s", "240s"];
const SMALL_EACH: usize = 20;

/// The rungs of the ladder are in order, and the large one's jobs have longer to wait.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn small_backlog_behind_a_large_one_on_the_ladder_is_worked_off_at_its_own_rate() -> Result<()>
{
    const SMALL: usize = 300;
    const RATE: usize = 20;
    let stack = Stack::start_with(1, |config| {
        config
            .set("limits.per_gstin", format!("{RATE}/s"))?
            .set("retry.delays", LADDER.to_vec())
    })
    .await?;
    stack.erp.declare("erp.large").await?;
    stack.erp.declare("erp.small").await?;
    let mut of_small = stack.erp.arrivals("erp.small").await?;
    let jobs = (0..SMALL * SMALL_EACH).map(|i| {
        let number = format!("M/{i}");
        let (gstin, queue) = match i % SMALL_EACH {
            0 => (GSTINS[0], "erp.small"),
            _ => (GSTINS[1], "erp.large"),
        };
        Job::generate(&number, invoice(gstin, &number)).reply_to(queue)
    });
    let began = Instant::now();
    stack.erp.publish(&jobs.collect::<Vec<_>>()).await?;
    for _ in 0..SMALL {
        let (result, _) = of_small.next_since(began, LONG).await?;
        Outcome::read(result)?.assert_signed(false);
    }
    let took = began.elapsed();
    let at_its_rate = Duration::from_secs(1) * u32::try_from(SMALL / RATE)?;
    println!("{SMALL} jobs beside many more in {took:?}, {at_its_rate:?} at their rate");
    assert!(
        took <= at_its_rate * 3 / 2 + Duration::from_secs(5),
        "{took:?}"
    );
    Ok(())
}
