//! Before the first job is taken: does this broker keep what it is given?
//!
//! One rule: a worker does not start on a broker that would lose messages, unless it was told to. A broker that is not
//! there yet is waited for. What cannot be seen is no fault that was found: it is warned of.

use std::time::Duration;

use super::StartError;
use crate::broker::{Endpoint, Topology};
use crate::config::Config;
use crate::ops::broker::before_run;
use crate::ops::check::{Finding, Verdict};
use crate::retry::Backoffs;
use crate::telemetry::{self, Readiness, State};

const FIRST_RECONNECT: Duration = Duration::from_millis(100);
const SLOWEST_RECONNECT: Duration = Duration::from_secs(3);

/// Ends once the broker has been looked at and may be used.
///
/// # Errors
/// [`StartError::UnsafeBroker`] if it may not.
pub(super) async fn pass(
    config: &Config,
    endpoint: &Endpoint,
    topology: &Topology,
    readiness: &Readiness,
    allow_unsafe: bool,
) -> Result<(), StartError> {
    let mut delays = Backoffs::new(FIRST_RECONNECT, SLOWEST_RECONNECT);
    let findings = loop {
        match before_run(config, endpoint, topology, allow_unsafe).await {
            Ok(findings) => break findings,
            Err(error) => {
                readiness.set(State::BrokerLost);
                telemetry::broker_lost("check", &error);
            }
        }
        tokio::time::sleep(delays.next_delay()).await;
    };
    let (losing, others): (Vec<_>, Vec<_>) = findings
        .into_iter()
        .partition(|finding| finding.loses_messages);
    if !losing.is_empty() && !allow_unsafe {
        return Err(StartError::UnsafeBroker(losing));
    }
    for finding in losing.iter().chain(&others) {
        match finding.verdict {
            Verdict::Ok => {}
            Verdict::Skipped => telemetry::broker_not_seen(&Told(finding)),
            Verdict::Warning | Verdict::Failed | Verdict::Unreachable | Verdict::Misconfigured => {
                telemetry::broker_differs(&Told(finding));
            }
        }
    }
    Ok(())
}

/// A finding on one line.
pub(super) struct Told<'a>(pub(super) &'a Finding);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.what)?;
        match &self.0.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}
