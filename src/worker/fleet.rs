//! Keeps the limits at this replica's share: looks every second how many consume the job queue.
//!
//! One rule: an unknown count changes nothing. Without permission to look, or without a broker, the last one holds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::broker::{JOBS_QUEUE, URGENT_QUEUE};
use crate::limits::Replicas;
use crate::telemetry;

/// How long the fleet may be above a limit after a replica has joined.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After a look that was refused: each costs the broker a channel and a line in its log.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(15);

/// A start does not wait longer than this for the first look.
const FIRST_LOOK_WITHIN: Duration = Duration::from_secs(2);

/// What is known of the other replicas.
#[derive(Debug, Default)]
pub(super) struct Fleet(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    replicas: Replicas,
    consuming_since: Option<Instant>,
    /// Jobs that wait in the queue; none after a look that was refused.
    queue: Option<u32>,
    /// The same of the urgent ones.
    urgent_queue: Option<u32>,
}

impl Fleet {
    /// This replica is among the consumers now, or no longer. Told the same again, it stays one since when it was.
    pub(super) fn consumes(&self, consumes: bool) {
        self.known(|known| {
            let since = known.consuming_since.filter(|_| consumes);
            known.consuming_since = since.or_else(|| consumes.then(Instant::now));
        });
    }

    /// How many jobs wait in the queue, by the last look.
    pub(super) fn queue(&self) -> Option<u32> {
        self.known(|known| known.queue)
    }

    /// How many urgent jobs wait in theirs.
    pub(super) fn urgent_queue(&self) -> Option<u32> {
        self.known(|known| known.urgent_queue)
    }

    fn known<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Worker {
    /// Counts the replicas before this one begins, so that it begins with its share. Gives up soon if the broker does
    /// not answer: consuming needs it as well.
    pub(super) async fn look_around(&self) {
        let looking = async {
            self.publisher.ready().await;
            self.look().await
        };
        drop(tokio::time::timeout(FIRST_LOOK_WITHIN, looking).await);
    }

    /// One look; false if it was refused.
    async fn look(&self) -> bool {
        let seen = self.publisher.consumers_and_messages(JOBS_QUEUE).await;
        let Some((consumers, messages)) = seen else {
            self.fleet
                .known(|known| (known.queue, known.urgent_queue) = (None, None));
            return false;
        };
        telemetry::consumers_seen(consumers);
        let replicas = self.fleet.known(|known| {
            known.queue = Some(messages);
            let held = known.consuming_since.map(|since| since.elapsed());
            known.replicas.seen(consumers, held)
        });
        self.limits.share_among(replicas);
        let urgent = self.publisher.consumers_and_messages(URGENT_QUEUE).await;
        self.fleet
            .known(|known| known.urgent_queue = urgent.map(|(_, messages)| messages));
        true
    }
}

/// Looks until told to stop.
pub async fn watch(worker: Arc<Worker>, ended: CancellationToken) {
    let looking = async {
        loop {
            worker.publisher.ready().await;
            let began = Instant::now();
            let looked = tokio::select! {
                looked = worker.look() => looked,
                // What is asked over a lost connection is answered never, and meanwhile others may join.
                () = worker.publisher.not_ready() => continue,
            };
            // A broker that is slow has refused nothing.
            let is_refused = !looked && began.elapsed() < LOOK_EVERY;
            let pause = if is_refused {
                LOOK_AGAIN_AFTER
            } else {
                LOOK_EVERY
            };
            let resting = tokio::time::sleep(pause);
            tokio::select! {
                () = resting => {}
                () = worker.publisher.not_ready() => {}
            }
        }
    };
    ended.run_until_cancelled(looking).await;
}
