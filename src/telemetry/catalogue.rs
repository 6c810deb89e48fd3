//! Every metric there is, with its help text: what `/metrics` says of each, and what docs/metrics.md lists.
//!
//! One rule: a series that somebody alarms on is there before the first event. A counter that begins at one has not grown.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::job::Operation;
use crate::outcome::{Reason, SignatureState, Status};

/// What a metric's value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows, and begins anew with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Kind {
    /// The word in `# TYPE` lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric of this worker.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What its value does.
    pub kind: Kind,
    /// Its labels, in the order of the table.
    pub labels: &'static [&'static str],
    /// What it says, units included.
    pub help: &'static str,
}

const fn counts(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        labels,
        help,
    }
}

const fn shows(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

const fn spreads(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        labels,
        help,
    }
}

/// All of them: those of jobs first, then of the portal, the limits, the broker, and the process.
pub const METRICS: [Metric; 35] = [
    counts(
        "irn_worker_jobs_total",
        &["operation", "status"],
        "Jobs that ended in a result, by what they asked for and how they ended.",
    ),
    spreads(
        "irn_worker_job_seconds",
        &[],
        "Seconds from the last delivery of a job to its result.",
    ),
    shows(
        "irn_worker_in_flight",
        &[],
        "Deliveries in this worker's hands, those that wait for their turn included.",
    ),
    counts(
        "irn_worker_retries_total",
        &["rung"],
        "Jobs that went to a rung of the ladder after an attempt that failed.",
    ),
    counts(
        "irn_worker_deferred_total",
        &["reason"],
        "Jobs that went to the ladder without an attempt, by what they wait for.",
    ),
    counts(
        "irn_worker_passed_on_total",
        &[],
        "Jobs that went back to their queue for another replica, which has a session where this one may not log in.",
    ),
    counts(
        "irn_worker_unknown_outcomes",
        &[],
        "Attempts that left open whether the portal has done what was asked for; each is looked up before anything is sent.",
    ),
    shows(
        "irn_worker_unknown_outcome_age_seconds",
        &[],
        "Seconds since the oldest job was first seen whose outcome this worker left open and nobody has settled since, as far as it knows; 0 if there is none.",
    ),
    counts(
        "irn_worker_dead_letters_total",
        &["reason"],
        "Jobs given up and kept in irn.dead, and deliveries nobody can read, kept in irn.poison.",
    ),
    counts(
        "irn_worker_refusals_repeated_total",
        &[],
        "Documents that came again unchanged after their refusal and were answered without a call.",
    ),
    counts(
        "irn_worker_results_undeliverable_total",
        &[],
        "Results that went to the default queue because the queue named in reply_to is gone or takes none.",
    ),
    counts(
        "irn_worker_signature_total",
        &["result"],
        "Registrations by what their signatures proved: verified, unverified (no key is configured), unknown_key, bad.",
    ),
    counts(
        "irn_worker_irp_requests_total",
        &["call", "result"],
        "Calls to the portal, by what came of them.",
    ),
    spreads(
        "irn_worker_irp_request_seconds",
        &["call"],
        "Seconds from a call to the portal to its answer.",
    ),
    counts(
        "irn_worker_irp_errors_total",
        &["code"],
        "Answers of the portal that were errors, by its code.",
    ),
    counts(
        "irn_worker_auth_total",
        &["result"],
        "Logins: ok, refused (not tried again until the credentials change), failed (tried again).",
    ),
    shows(
        "irn_worker_tokens_valid",
        &[],
        "GSTINs with a live session.",
    ),
    shows(
        "irn_worker_accounts_refused",
        &[],
        "GSTINs whose credentials or account the portal has refused; their jobs fail until that changes.",
    ),
    counts(
        "irn_worker_token_contention_total",
        &[],
        "Times that another system was seen to replace a GSTIN's sessions.",
    ),
    counts(
        "irn_worker_credentials_reloads_total",
        &["result"],
        "Readings of the credentials after the first: changed, unchanged, refused (those before stay in use).",
    ),
    shows(
        "irn_worker_credentials_refused",
        &[],
        "1 while the credentials as they are now are faulty, and those before them in use.",
    ),
    shows(
        "irn_worker_clock_skew_seconds",
        &[],
        "Seconds that the portal's clock is ahead of this machine's, as the last login showed, to about a second.",
    ),
    shows(
        "irn_worker_breaker_state",
        &["scope"],
        "Whether the portal is called: 0 closed (it is), 1 half-open (it is tried), 2 open (it is down).",
    ),
    shows(
        "irn_worker_concurrency_limit",
        &[],
        "Jobs that may be worked on at once; below irp.concurrency while the portal is overloaded.",
    ),
    shows(
        "irn_worker_route_concurrency_limit",
        &["route"],
        "The same of one route; only where there are several.",
    ),
    counts(
        "irn_worker_failover_total",
        &[],
        "Documents that went to the second portal because the first was down.",
    ),
    shows(
        "irn_worker_error_budget_used_ratio",
        &["gstin", "client"],
        "Part of the error budget that a GSTIN, or all GSTINs of a client together, have used, of the whole fleet as far as this worker can tell from its own errors: 0 to 1.",
    ),
    shows(
        "irn_worker_useful_replicas",
        &[],
        "Replicas that would be of use for the backlog there is, as far as the limits and the portal let them work.",
    ),
    shows(
        "irn_worker_replicas",
        &[],
        "Replicas that share the limits, as this one counts them; at least itself.",
    ),
    shows(
        "irn_worker_consumers",
        &[],
        "Consumers of irn.jobs, as the broker counts them.",
    ),
    shows(
        "irn_worker_queue_messages",
        &["queue"],
        "Messages of a queue that are in nobody's hands, as the broker counts them; every replica shows the same.",
    ),
    shows(
        "irn_worker_broker_blocked",
        &[],
        "1 while the broker blocks publishers, as it does when it is short of memory or disk.",
    ),
    shows(
        "irn_worker_ready",
        &[],
        "1 while this worker takes jobs; otherwise /readyz says why not.",
    ),
    shows(
        "irn_worker_paused",
        &[],
        "1 while this worker takes no jobs because an operator has paused the portal.",
    ),
    shows(
        "irn_worker_build_info",
        &["version"],
        "Always 1; the label has the version.",
    ),
];

/// Gives every metric its help text, and starts those that are watched.
pub(super) fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, Unit::Count, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, Unit::Seconds, metric.help),
        }
    }
    begin();
}

/// Starts at zero what an alert compares, and what cannot be told from an absent worker otherwise.
fn begin() {
    for operation in Operation::ALL {
        for status in Status::ALL
            .into_iter()
            .filter(|status| operation.ends_as(*status))
        {
            counter!("irn_worker_jobs_total", "operation" => operation.as_str(), "status" => status.as_str())
                .absolute(0);
        }
    }
    for reason in Reason::ALL {
        counter!("irn_worker_dead_letters_total", "reason" => reason.as_str()).absolute(0);
    }
    for result in ["ok", "refused", "failed"] {
        counter!("irn_worker_auth_total", "result" => result).absolute(0);
    }
    for result in ["changed", "unchanged", "refused"] {
        counter!("irn_worker_credentials_reloads_total", "result" => result).absolute(0);
    }
    for state in SignatureState::ALL {
        counter!("irn_worker_signature_total", "result" => state.as_str()).absolute(0);
    }
    counter!("irn_worker_signature_total", "result" => "bad").absolute(0);
    counter!("irn_worker_unknown_outcomes").absolute(0);
    counter!("irn_worker_passed_on_total").absolute(0);
    counter!("irn_worker_refusals_repeated_total").absolute(0);
    counter!("irn_worker_results_undeliverable_total").absolute(0);
    counter!("irn_worker_token_contention_total").absolute(0);
    counter!("irn_worker_failover_total").absolute(0);
    gauge!("irn_worker_ready").set(0.0);
    gauge!("irn_worker_paused").set(0.0);
    gauge!("irn_worker_in_flight").set(0.0);
    gauge!("irn_worker_accounts_refused").set(0.0);
    gauge!("irn_worker_credentials_refused").set(0.0);
    gauge!("irn_worker_broker_blocked").set(0.0);
    gauge!("irn_worker_unknown_outcome_age_seconds").set(0.0);
    gauge!("irn_worker_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_help_follow_the_rules_of_the_exposition_format() {
        for metric in METRICS {
            assert!(metric.name.starts_with("irn_worker_"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert!(!metric.help.contains('\n'), "{}", metric.name);
        }
    }

    #[test]
    fn each_metric_is_listed_once() {
        let mut names = METRICS.map(|metric| metric.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
