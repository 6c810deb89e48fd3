//! What is told of the queues, of who consumes them, and of how long an outcome has been unknown.

use std::time::Duration;

use metrics::gauge;

/// A count as a gauge shows it.
fn exact(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// How many messages of a queue are in nobody's hands.
pub fn queue_messages(queue: &str, messages: u64) {
    gauge!("irn_worker_queue_messages", "queue" => queue.to_owned()).set(exact(messages));
}

/// How many consume `irn.jobs`.
pub fn consumers_seen(count: u32) {
    gauge!("irn_worker_consumers").set(f64::from(count));
}

/// How long ago the oldest job was first seen whose outcome is unknown.
pub fn unknown_outcome_age(age: Option<Duration>) {
    let seconds = age.unwrap_or_default().as_secs_f64();
    gauge!("irn_worker_unknown_outcome_age_seconds").set(seconds);
}
