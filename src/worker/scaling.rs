//! Looks how much work there is, for the figure that autoscalers follow.
//!
//! One rule: it only looks. A count that cannot be had now changes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;
use super::gate::Gate;
use crate::broker::{JOBS_QUEUE, URGENT_QUEUE, retry_exchange};
use crate::limits::{Found, Pace, Scaling};

/// Autoscalers look every quarter of a minute or so, and each of our looks asks the broker for every rung.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// After a look that was refused: each costs the broker a channel and a line in its log.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A GSTIN that has called within this time is at work.
const AT_WORK: Duration = Duration::from_secs(60);

impl Worker {
    /// How many replicas would be of use.
    pub fn scaling(&self) -> Arc<Scaling> {
        Arc::clone(&self.scaling)
    }

    /// One look; false if it was refused.
    async fn look_at_backlog(&self) -> bool {
        let Some(found) = self.find().await else {
            return false;
        };
        self.scaling.look(&found);
        true
    }

    async fn find(&self) -> Option<Found> {
        let (bulk, urgent) = (
            self.count(JOBS_QUEUE).await?,
            self.count(URGENT_QUEUE).await?,
        );
        let mut on_ladder = Vec::with_capacity(self.ladder.rungs().len());
        let mut rungs = Vec::with_capacity(self.ladder.rungs().len());
        for rung in self.ladder.rungs() {
            let counted = self.count(&retry_exchange(rung)).await?;
            on_ladder.push((counted.messages, rung.delay));
            rungs.push(counted);
        }
        let waiting = bulk.messages + urgent.messages;
        self.queues.counted(vec![urgent, bulk], rungs);
        let replicas = self.limits.replicas().get();
        let Pace { gstins, per_second } = self.limits.pace(AT_WORK);
        let of_gstins = gstins.saturating_mul(self.config.irp.concurrency_per_gstin);
        let width = match gstins {
            0 => self.slots.cap(),
            _ => self.slots.cap().min(of_gstins),
        }
        .min(self.config.broker.prefetch.into());
        Some(Found {
            due: waiting + self.handed_out(waiting) * u64::from(replicas),
            on_ladder,
            replicas,
            portal_is_full: self.gate() != Gate::Wide || self.slots.limit() < self.slots.cap(),
            allowed: per_second,
            width,
        })
    }

    /// How many jobs one replica has in hand. The broker does not tell; where some wait, the window is full.
    fn handed_out(&self, waiting: u64) -> u64 {
        if waiting > 0 {
            u64::from(self.config.broker.prefetch)
        } else {
            self.lanes.in_hand().into()
        }
    }
}

/// Looks until told to stop.
pub async fn watch_backlog(worker: Arc<Worker>, ended: CancellationToken) {
    let looking = async {
        loop {
            worker.publisher.ready().await;
            let pause = if worker.look_at_backlog().await {
                LOOK_EVERY
            } else {
                LOOK_AGAIN_AFTER
            };
            tokio::time::sleep(pause).await;
        }
    };
    ended.run_until_cancelled(looking).await;
}
