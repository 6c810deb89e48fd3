//! Counts what lies in the queues that wait for people: dead letters, poison, and results nobody has fetched.
//!
//! One rule: it only looks. A queue that may not be looked at, or is not there, is left out.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::broker::{DEAD_QUEUE, POISON_QUEUE};
use crate::telemetry::{self, QueueCount};

/// Whoever watches them waits for hours, not for seconds.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// After a look that was refused: each costs the broker a channel and a line in its log.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

impl Worker {
    /// How many messages of a queue are in nobody's hands, told to those who watch as well.
    pub(super) async fn count(&self, queue: &str) -> Option<QueueCount> {
        let messages = self.publisher.messages(queue).await?;
        telemetry::queue_messages(queue, messages);
        Some(QueueCount {
            queue: queue.to_owned(),
            messages,
        })
    }

    /// One look; false if any part of it was refused.
    async fn look_at_letters(&self) -> bool {
        let (dead, poison) = (self.count(DEAD_QUEUE).await, self.count(POISON_QUEUE).await);
        let results = self.count(&self.config.replies.default_queue).await;
        let all = dead.is_some() && poison.is_some() && results.is_some();
        self.queues.kept(dead.into_iter().chain(poison).collect());
        all
    }
}

/// Looks until told to stop.
pub async fn watch_letters(worker: Arc<Worker>, ended: CancellationToken) {
    let looking = async {
        loop {
            worker.publisher.ready().await;
            let pause = if worker.look_at_letters().await {
                LOOK_EVERY
            } else {
                LOOK_AGAIN_AFTER
            };
            tokio::time::sleep(pause).await;
        }
    };
    ended.run_until_cancelled(looking).await;
}
