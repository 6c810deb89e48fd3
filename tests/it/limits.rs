//! Limits as the portal sees them: rates, slots, and neighbours.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SLOW: &str = GSTINS[0];
const QUICK: &str = GSTINS[1];
const SOON: Duration = Duration::from_secs(10);

fn jobs(gstin: &str, prefix: &str, count: usize) -> Vec<Job> {
    let job = |i| {
        let number = format!("{prefix}/{i}");
        Job::generate(&number, invoice(gstin, &number))
    };
    (1..=count).map(job).collect()
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn rate_of_a_gstin_holds_as_the_portal_counts_it() -> Result<()> {
    let stack = Stack::start_with(1, |config| config.set("limits.per_gstin", "20/s")).await?;
    stack.erp.publish(&jobs(SLOW, "A", 60)).await?;
    stack.erp.publish(&jobs(QUICK, "B", 60)).await?;
    for outcome in stack.outcomes(120, Duration::from_secs(30)).await?.values() {
        outcome.assert_signed(false);
        assert_eq!(
            outcome.json["attempts"], 1,
            "a wait for the rate is no attempt"
        );
    }
    let stats = stack.sandbox.stats().await?;
    for gstin in [SLOW, QUICK] {
        let most = stats.of(gstin).max_per_second;
        // Two are let through at once after a pause, and requests may bunch by one on the way.
        assert!((10..=23).contains(&most), "{gstin}: {most} in one second");
    }
    assert!(
        stats.max_per_second > 23,
        "the two did not run side by side: {}",
        stats.max_per_second
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn backlog_at_a_slow_rate_makes_way_for_others_and_no_faster_than_that() -> Result<()> {
    let mut stack = Stack::start_with(1, |config| config.set("limits.per_gstin", "10/m")).await?;
    let began = Instant::now();
    stack.erp.publish(&jobs(SLOW, "A", 3000)).await?;
    stack.erp.declare("erp.behind").await?;
    let behind = Job::generate("B", invoice(QUICK, "B/1")).reply_to("erp.behind");
    stack.erp.publish(&[behind]).await?;
    // Three hundred a second make way for it.
    let result = stack
        .erp
        .take("erp.behind", 1, Duration::from_secs(40))
        .await?;
    Outcome::read(result[0].clone())?.assert_signed(false);
    let seconds = began.elapsed().as_secs_f64();
    let deferred = stack
        .worker()?
        .metric("irn_worker_deferred_total", "")
        .await?;
    println!("{deferred} deferrals in {seconds:.1} s");
    // More before the first one has met the limit.
    assert!(
        deferred <= 350.0 * seconds + 1000.0,
        "{deferred} in {seconds} s"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn rate_of_the_total_holds_over_all_gstins() -> Result<()> {
    let limited = |config: crate::support::worker::WorkerConfig| {
        config
            .set("limits.per_gstin", "30/s")?
            .set("limits.total", "30/s")
    };
    let stack = Stack::start_with(1, limited).await?;
    for (gstin, prefix) in GSTINS.iter().zip(["A", "B", "C", "D", "E"]) {
        stack.erp.publish(&jobs(gstin, prefix, 20)).await?;
    }
    for outcome in stack.outcomes(100, Duration::from_secs(30)).await?.values() {
        outcome.assert_signed(false);
    }
    let most = stack.sandbox.stats().await?.max_per_second;
    assert!((15..=35).contains(&most), "{most} in one second");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn slow_gstin_takes_its_slots_and_no_more_and_others_go_on() -> Result<()> {
    let stack = Stack::start_with(1, |config| config.set("irp.concurrency_per_gstin", 3)).await?;
    let hold = json!([{"endpoint": "generate", "gstin": SLOW, "kind": "hold"}]);
    stack.sandbox.faults(1, hold).await?;
    stack.erp.publish(&jobs(SLOW, "S", 30)).await?;
    stack.sandbox.until_held(3, SOON).await?;
    stack.erp.publish(&jobs(QUICK, "Q", 20)).await?;
    // Only the quick one's results can come while the others are held.
    for (id, outcome) in stack.outcomes(20, Duration::from_secs(4)).await? {
        assert!(id.starts_with('Q'), "{id}");
        outcome.assert_signed(false);
    }
    assert_eq!(stack.sandbox.held().await?, 3);
    assert_eq!(stack.sandbox.stats().await?.of(SLOW).generates, 3);
    stack.sandbox.clear_faults().await?;
    stack.sandbox.release().await?;
    let outcomes = stack.outcomes(30, SOON).await?;
    assert!(
        outcomes
            .values()
            .all(|outcome: &Outcome| outcome.status() == "signed")
    );
    assert_eq!(stack.sandbox.calls().await?.duplicates, 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn jobs_that_wait_for_their_rate_take_no_slot_from_others() -> Result<()> {
    // As many slots as GSTINs that wait; of each one's jobs two go at once, and the next after five seconds.
    let few = |config: WorkerConfig| {
        config
            .set("limits.per_gstin", "12/m")?
            .set("irp.concurrency", 4)?
            .set("irp.concurrency_per_gstin", 4)?
            .set("broker.prefetch", 64)
    };
    let stack = Stack::start_with(1, few).await?;
    let [quick, slow @ ..] = GSTINS;
    for gstin in slow {
        let prefix = format!("S{}", &gstin[..2]);
        stack.erp.publish(&jobs(gstin, &prefix, 6)).await?;
    }
    let first = stack.outcomes(2 * slow.len(), SOON).await?;
    first.values().for_each(|of| of.assert_signed(false));
    stack.erp.publish(&jobs(quick, "Q", 1)).await?;
    let outcomes = stack.outcomes(1, SOON).await?;
    assert!(outcomes.contains_key("Q/1"), "{:?}", outcomes.keys());
    let stats = stack.sandbox.stats().await?;
    for gstin in slow {
        assert_eq!(stats.of(gstin).generates, 2, "{gstin}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_may_leave_its_rung_early_and_then_stays_in_its_queue() -> Result<()> {
    let stack = Stack::start(0).await?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    assert!(applied.status.success(), "{applied:?}");
    let job = jobs(SLOW, "X", 1).remove(0).expiration(100);
    let published = Instant::now();
    stack.erp.publish_onto("irn.retry.1s", &job).await?;
    let back = stack.erp.take("irn.jobs", 1, SOON).await?;
    assert!(
        published.elapsed() < Duration::from_millis(900),
        "it stayed for the rung's time"
    );
    let left = back[0].properties.expiration();
    assert!(left.is_none(), "it would expire again: {left:?}");
    Ok(())
}
