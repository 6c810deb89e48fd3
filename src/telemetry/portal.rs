//! Events about the portal as a whole: whether it is there, and how much it can take.

use std::time::Duration;

use jiff::SignedDuration;
use metrics::gauge;
use tracing::{error, info};

use super::millis;

/// What a breaker allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// A few calls, to see whether the portal is back.
    HalfOpen,
    /// Nothing.
    Open,
}

/// Sets the gauge of a breaker.
pub fn breaker_state(scope: &str, state: BreakerState) {
    let value = match state {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen => 1.0,
        BreakerState::Open => 2.0,
    };
    gauge!("irn_worker_breaker_state", "scope" => scope.to_owned()).set(value);
}

/// A breaker has opened, for this long, or let the portal be tried again, or closed.
pub fn breaker_changed(scope: &str, state: BreakerState, wait: Option<Duration>) {
    breaker_state(scope, state);
    let wait_ms = wait.map(millis);
    match state {
        BreakerState::Open => error!(scope, wait_ms, "breaker {scope} open: the portal is down"),
        BreakerState::HalfOpen => info!(scope, "breaker {scope} half-open: the portal is tried"),
        BreakerState::Closed => info!(scope, "breaker {scope} closed: the portal is back"),
    }
}

/// How far the portal's clock is ahead of ours, where a login showed it.
pub fn clock_skew(ahead: Option<SignedDuration>) {
    if let Some(ahead) = ahead {
        gauge!("irn_worker_clock_skew_seconds").set(ahead.as_secs_f64());
    }
}

/// How many jobs may be worked on at once, in all or of one route.
pub fn concurrency_limit(route: Option<&str>, limit: usize) {
    let gauge = match route {
        None => gauge!("irn_worker_concurrency_limit"),
        Some(route) => {
            gauge!("irn_worker_route_concurrency_limit", "route" => route.to_owned())
        }
    };
    gauge.set(f64::from(u32::try_from(limit).unwrap_or(u32::MAX)));
}
