//! How many messages the worker's queues hold, as they were last counted, for those who watch.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

/// The latest count. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queues(Arc<watch::Sender<Option<QueueCounts>>>);

impl Default for Queues {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

/// How many messages each queue holds that are in nobody's hands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// When some of them were counted last.
    pub at: Timestamp,
    /// The job queues.
    pub jobs: Vec<QueueCount>,
    /// The rungs of the ladder.
    pub rungs: Vec<QueueCount>,
    /// What is kept for a person to look at.
    pub kept: Vec<QueueCount>,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueCount {
    /// Its name.
    pub queue: String,
    /// How many messages.
    pub messages: u64,
}

impl Queues {
    /// The job queues and the rungs have been counted.
    pub fn counted(&self, jobs: Vec<QueueCount>, rungs: Vec<QueueCount>) {
        self.0.send_modify(|latest| {
            let counts = latest.get_or_insert_default();
            (counts.jobs, counts.rungs) = (jobs, rungs);
            counts.at = Timestamp::now();
        });
    }

    /// What is kept for a person has been counted, as far as it may be.
    pub fn kept(&self, kept: Vec<QueueCount>) {
        self.0.send_modify(|latest| {
            let counts = latest.get_or_insert_default();
            (counts.kept, counts.at) = (kept, Timestamp::now());
        });
    }

    /// The latest count, if there was one.
    pub fn latest(&self) -> Option<QueueCounts> {
        self.0.borrow().clone()
    }
}
