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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueCounts {
    /// When they were counted.
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
    /// They have been counted.
    pub fn counted(&self, counts: QueueCounts) {
        self.0.send_replace(Some(counts));
    }

    /// The latest count, if there was one.
    pub fn latest(&self) -> Option<QueueCounts> {
        self.0.borrow().clone()
    }
}
