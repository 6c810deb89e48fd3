//! What the integration tests stand on: a broker, a portal, workers, and ways to break what is between them.
//!
//! Nothing is shared: each test owns its virtual host, its sandbox and its workers, and takes them along when it
//! ends. Nothing sleeps: tests wait for a state, with a deadline ([`eventually`]).

#![expect(
    dead_code,
    reason = "the tests of the worker, which use the rest, come with the worker"
)]

pub(crate) mod amqp;
pub(crate) mod broker;
pub(crate) mod chromium;
pub(crate) mod cluster;
pub(crate) mod credentials;
pub(crate) mod http;
pub(crate) mod invoice;
pub(crate) mod ledger;
pub(crate) mod outcome;
pub(crate) mod private_broker;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod published;
pub(crate) mod raw_amqp;
pub(crate) mod route;
pub(crate) mod sandbox;
pub(crate) mod stack;
pub(crate) mod tls;
pub(crate) mod worker;

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// How often [`eventually`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Waits until `look` finds a value and returns it; an error of `look` is "not yet".
///
/// # Errors
/// When `deadline` has passed: `what` was waited for, and the last error of `look`.
pub(crate) async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_error = None;
    while Instant::now() < end {
        ticks.tick().await;
        match timeout_at(end, look()).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => last_error = None,
            Ok(Err(error)) => last_error = Some(error),
            Err(_elapsed) => break,
        }
    }
    let error = last_error.unwrap_or_else(|| anyhow!("it did not happen"));
    Err(error.context(format!("waited {deadline:?} for {what}")))
}
