//! What waits, and what has become of the jobs, as `/status` shows it.

use jiff::Timestamp;
use serde::Serialize;

use crate::telemetry::{Count, QueueCount, QueueCounts, Queues, Recent};

/// Where that is read.
#[derive(Clone, Debug)]
pub struct WorkView {
    /// Results and waits by code.
    pub recent: Recent,
    /// How many messages wait in which queue.
    pub queues: Queues,
}

/// Messages that are in nobody's hands, by queue.
#[derive(Debug, Serialize)]
pub(super) struct QueuesStatus {
    pub(super) counted_at: Timestamp,
    pub(super) jobs: Vec<QueueStatus>,
    pub(super) ladder: Vec<QueueStatus>,
    pub(super) kept: Vec<QueueStatus>,
}

#[derive(Debug, Serialize)]
pub(super) struct QueueStatus {
    pub(super) queue: String,
    pub(super) messages: u64,
}

/// How often something has happened on this replica.
#[derive(Debug, Serialize)]
pub(super) struct CountStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<&'static str>,
    pub(super) code: String,
    pub(super) in_15_minutes: u64,
    pub(super) since_start: u64,
    pub(super) last_at: Timestamp,
}

impl WorkView {
    pub(super) fn queues(&self) -> Option<QueuesStatus> {
        self.queues.latest().map(QueuesStatus::from)
    }

    pub(super) fn outcomes(&self) -> Vec<CountStatus> {
        let counts = self.recent.outcomes().into_iter();
        counts.map(CountStatus::from).collect()
    }

    pub(super) fn waits(&self) -> Vec<CountStatus> {
        let counts = self.recent.waits().into_iter();
        counts.map(CountStatus::from).collect()
    }
}

impl From<QueueCounts> for QueuesStatus {
    fn from(counts: QueueCounts) -> Self {
        let statuses = |counts: Vec<QueueCount>| {
            let statuses = counts.into_iter().map(|count| QueueStatus {
                queue: count.queue,
                messages: count.messages,
            });
            statuses.collect()
        };
        Self {
            counted_at: counts.at,
            jobs: statuses(counts.jobs),
            ladder: statuses(counts.rungs),
            kept: statuses(counts.kept),
        }
    }
}

impl From<Count> for CountStatus {
    fn from(count: Count) -> Self {
        Self {
            status: count.status,
            code: count.code,
            in_15_minutes: count.lately,
            since_start: count.total,
            last_at: count.last,
        }
    }
}
