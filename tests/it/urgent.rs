//! Urgent jobs: served before all others, and not instead of them.
//!
//! `URGENT_BULK` in the environment says how many jobs stand before the urgent ones.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::time::Instant;

use crate::support::amqp::{Amqp, Job};
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;

const LATENCY: Duration = Duration::from_millis(400);
const SOON: Duration = Duration::from_secs(10);

/// What the broker, the worker and this machine add to two round trips.
const BESIDES: Duration = Duration::from_millis(250);

fn job(key: &str, gstin: &str, number: &str) -> Job {
    Job::new(key, invoice(gstin, number)).id(number)
}

/// A portal that takes this long, and so many jobs before anybody else's, of all GSTINs in turn, of which some are at
/// the portal.
async fn behind_bulk(latency: Duration, gstins: &[&str], bulk: usize) -> Result<Stack> {
    let stack = Stack::start(1).await?;
    let slow = json!([{"endpoint": "core", "kind": "delay", "ms": latency.as_millis()}]);
    stack.sandbox.faults(1, slow).await?;
    let of = |i: usize| job("generate", gstins[i % gstins.len()], &format!("B/{i}"));
    for chunk in (0..bulk).collect::<Vec<_>>().chunks(1000) {
        let jobs: Vec<_> = chunk.iter().map(|i| of(*i)).collect();
        stack.erp.publish(&jobs).await?;
    }
    eventually(SOON, "the bulk to be worked on", async || {
        let registered = stack.sandbox.stats().await?.registrations;
        Ok((registered >= 16).then_some(()))
    })
    .await?;
    Ok(stack)
}

/// How long urgent jobs of this GSTIN take one after the other.
async fn urgent(stack: &Stack, gstin: &str, count: usize) -> Result<Vec<Duration>> {
    let erp = Amqp::connect(&stack.broker.url()).await?;
    let queue = format!("erp.{gstin}");
    erp.declare(&queue).await?;
    let mut results = erp.arrivals(&queue).await?;
    let mut times = Vec::with_capacity(count);
    for i in 0..count {
        let urgent = job("urgent.generate", gstin, &format!("U/{i}")).reply_to(&queue);
        let published = Instant::now();
        erp.publish(&[urgent]).await?;
        let (result, took) = results.next_since(published, SOON).await?;
        times.push(took);
        Outcome::read(result)?.assert_signed(false);
    }
    times.sort_unstable();
    Ok(times)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn urgent_jobs_behind_bulk_are_answered_within_two_round_trips_and_the_bulk_goes_on()
-> Result<()> {
    let bulk = match std::env::var("URGENT_BULK") {
        Ok(text) => text.parse().context("URGENT_BULK is no number")?,
        Err(_) => 3000,
    };
    // One GSTIN has no bulk of its own.
    let stack = behind_bulk(LATENCY, &GSTINS[..4], bulk).await?;
    let before = stack.sandbox.stats().await?.registrations;
    let began = Instant::now();
    for gstin in [GSTINS[0], GSTINS[1], GSTINS[4]] {
        let times = urgent(&stack, gstin, 5).await?;
        println!("{gstin} behind {bulk}: {times:?} at {LATENCY:?} a round trip");
        let slowest = *times.last().context("five were published")?;
        assert!(slowest <= LATENCY * 2 + BESIDES, "{slowest:?}");
    }
    let registered = stack.sandbox.stats().await?.registrations - before;
    // Four lanes of eight, of which one place may be kept for urgent jobs.
    let rounds = began.elapsed().as_secs_f64() / LATENCY.as_secs_f64();
    println!("the bulk went on with {registered} in {rounds:.1} round trips");
    let least = rounds * 28.0 / 2.0;
    assert!(
        f64::from(u32::try_from(registered)?) >= least,
        "{registered} of {least}"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn bulk_has_its_part_under_a_flood_of_urgent_jobs() -> Result<()> {
    let gstin = GSTINS[0];
    let stack = behind_bulk(Duration::from_millis(100), &[gstin], 400).await?;
    let number = |i: usize| format!("U/{i}");
    let flood = (0..400).map(|i| job("urgent.generate", gstin, &number(i)));
    stack.erp.publish(&flood.collect::<Vec<_>>()).await?;
    let done = async || -> Result<(usize, usize)> {
        let documents = stack.sandbox.stats().await?.documents;
        let of = |kind: &str| {
            let part = format!("INV/{kind}/");
            let all = documents.iter().filter(|(name, _)| name.contains(&part));
            all.filter(|(_, document)| document.registered).count()
        };
        Ok((of("U"), of("B")))
    };
    let registered = async |urgent: usize| {
        eventually(
            SOON * 3,
            "so many of the flood to be registered",
            async || {
                let done = done().await?;
                Ok((done.0 >= urgent).then_some(done))
            },
        )
        .await
    };
    // Those bulk jobs that were taken up before the flood came are done first.
    let (urgent_before, bulk_before) = registered(80).await?;
    let (urgent, bulk) = registered(320).await?;
    let (urgent, bulk) = (urgent - urgent_before, bulk - bulk_before);
    println!("{urgent} urgent and {bulk} bulk jobs were registered side by side");
    // One in eight.
    assert!(
        bulk * 14 >= urgent,
        "{bulk} beside {urgent}: bulk stands still"
    );
    assert!(
        bulk * 4 <= urgent,
        "{bulk} beside {urgent}: the urgent ones do not go first"
    );
    Ok(())
}
