//! Promises P1, P2, P3 and P8 under operations in any order: jobs of every kind, a portal that fails before and after
//! it has acted, sessions that end, a broker that goes, workers that are stopped, killed, or die at a named point.
//!
//! A run is drawn from a seed and played against the real worker, RabbitMQ and portal. What must hold at any moment
//! is checked after every operation, and everything is accounted for in the end. A failure prints its seed and its
//! operations: keep it as a test of its own, below.
//!
//! `IRN_SIMULATION_SEED` chooses the first seed, `IRN_SIMULATION_RUNS` how many follow one another, and
//! `IRN_SIMULATION_AT_ONCE` how many run beside each other.

mod model;
mod plan;
#[path = "../it/support/mod.rs"]
mod support;
mod world;

use std::env;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, stream};

use world::World;

const FIRST_SEED: u64 = 1;
const RUNS: u64 = 6;
const AT_ONCE: u64 = 3;

/// Plays the run of a seed; a failure names the operations up to it.
async fn play(seed: u64) -> Result<String> {
    let operations = plan::operations(seed);
    let mut world = World::new(seed).await?;
    for (number, operation) in operations.iter().enumerate() {
        world.perform(operation).await.with_context(|| {
            format!(
                "seed {seed}, the last of these: {:#?}",
                &operations[..=number]
            )
        })?;
    }
    world
        .finish()
        .await
        .with_context(|| format!("seed {seed}, after all of these: {operations:#?}"))?;
    world.figures().await
}

fn number(name: &str, default: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn any_order_of_operations_leaves_every_job_with_one_result_and_the_portal_spared()
-> Result<()> {
    let first = number("IRN_SIMULATION_SEED", FIRST_SEED)?;
    let runs = number("IRN_SIMULATION_RUNS", RUNS)?;
    let at_once = usize::try_from(number("IRN_SIMULATION_AT_ONCE", AT_ONCE)?)?;
    let playing = (first..first + runs).map(async |seed| (seed, play(seed).await));
    let mut played = stream::iter(playing).buffer_unordered(at_once);
    let mut failed = Vec::new();
    while let Some((seed, outcome)) = played.next().await {
        match outcome {
            Ok(figures) => println!("seed {seed}: {figures}"),
            Err(error) => {
                println!("seed {seed} FAILED: {error:?}");
                failed.push(seed);
            }
        }
    }
    ensure!(failed.is_empty(), "seeds that failed: {failed:?}");
    Ok(())
}
