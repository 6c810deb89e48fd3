//! Who may go on now: so many attempts of one GSTIN at once, and one attempt of one document.
//!
//! One rule: nobody waits here for long. A wait of more than a few seconds is the ladder's, so that the slot is free
//! for another GSTIN.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::gstin::Gstin;
use crate::irn::Irn;

/// How long a job may wait in its lane while it holds its delivery.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// All lanes of this process.
#[derive(Debug)]
pub(super) struct Lanes {
    concurrency: usize,
    lanes: DashMap<Gstin, Arc<Lane>>,
    documents: Arc<Documents>,
}

/// Documents with a turn (`None`), or whose last turn ended in doubt and that stay taken until then.
type Documents = DashMap<Irn, Option<Instant>>;

#[derive(Debug)]
struct Lane {
    permits: Arc<Semaphore>,
    waiting: AtomicU32,
    /// Until when deferred jobs have already filled the lane: the next one comes after them.
    filled_until: Mutex<Option<Instant>>,
}

/// The right to work on one document now; ends when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    documents: Arc<Documents>,
    irn: Irn,
    permit: Option<OwnedSemaphorePermit>,
    settled_at: Option<Instant>,
}

impl Turn {
    /// It ends in doubt: the portal may still be at work on the document. A twin that looked now would find nothing
    /// and take that for proof, so it gets no turn before the doubt can be settled.
    pub(super) fn ends_in_doubt(&mut self, settle_time: Duration) {
        self.settled_at = Some(Instant::now() + settle_time);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        match self.settled_at {
            Some(_) => drop(self.documents.insert(self.irn, self.settled_at)),
            None => drop(self.documents.remove(&self.irn)),
        }
    }
}

/// Why a job does not get its turn now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// The lane is full for this long.
    Full(Duration),
    /// The same document is being worked on: a twin message, or the same one handed out again.
    Twin,
}

impl Lanes {
    /// Lanes of so many attempts at once each.
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            lanes: DashMap::new(),
            documents: Arc::new(DashMap::new()),
        }
    }

    /// Waits for a turn, `spacing` being the time between two calls at the GSTIN's rate.
    pub(super) async fn turn(
        &self,
        gstin: &Gstin,
        irn: Irn,
        spacing: Duration,
    ) -> Result<Turn, NoTurn> {
        match self.documents.entry(irn) {
            Entry::Occupied(mut taken) if is_settled(*taken.get()) => drop(taken.insert(None)),
            Entry::Occupied(_) => return Err(NoTurn::Twin),
            Entry::Vacant(free) => drop(free.insert(None)),
        }
        // From here on the document is released by the turn's drop, whatever happens.
        let mut turn = Turn {
            documents: Arc::clone(&self.documents),
            irn,
            permit: None,
            settled_at: None,
        };
        turn.permit = Some(
            self.lane(gstin)
                .permit(spacing)
                .await
                .map_err(NoTurn::Full)?,
        );
        Ok(turn)
    }

    /// Forgets documents whose doubt is old enough to be settled. To be called now and then: most come back to another
    /// worker.
    pub(super) fn forget_the_settled(&self) {
        self.documents.retain(|_, taken| !is_settled(*taken));
    }

    fn lane(&self, gstin: &Gstin) -> Arc<Lane> {
        let fresh = || {
            Arc::new(Lane {
                permits: Arc::new(Semaphore::new(self.concurrency)),
                waiting: AtomicU32::new(0),
                filled_until: Mutex::new(None),
            })
        };
        Arc::clone(&self.lanes.entry(*gstin).or_insert_with(fresh))
    }
}

fn is_settled(taken: Option<Instant>) -> bool {
    taken.is_some_and(|until| until <= Instant::now())
}

impl Lane {
    async fn permit(&self, spacing: Duration) -> Result<OwnedSemaphorePermit, Duration> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let ahead = Waiting::join(&self.waiting);
        if spacing * ahead.position > PATIENCE {
            return Err(self.expected_wait(spacing).await);
        }
        match tokio::time::timeout(PATIENCE, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(self.expected_wait(spacing).await),
        }
    }

    /// When this job could go, all that were deferred before it having gone: spreads them over the ladder's rungs.
    async fn expected_wait(&self, spacing: Duration) -> Duration {
        let now = Instant::now();
        let mut filled_until = self.filled_until.lock().await;
        let from = filled_until.map_or(now + PATIENCE, |until| until.max(now + PATIENCE));
        *filled_until = Some(from + spacing);
        from - now
    }
}

/// A place in a lane's queue.
struct Waiting<'a> {
    waiting: &'a AtomicU32,
    position: u32,
}

impl<'a> Waiting<'a> {
    fn join(waiting: &'a AtomicU32) -> Self {
        let position = waiting.fetch_add(1, Ordering::Relaxed) + 1;
        Self { waiting, position }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING: Duration = Duration::from_millis(100);

    fn irn(n: u32) -> Irn {
        format!("{n:064x}").parse().unwrap()
    }

    fn gstin() -> Gstin {
        "29AAGCE4783K1Z1".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_has_one_turn_at_a_time() {
        let lanes = Lanes::new(8);
        let first = lanes.turn(&gstin(), irn(1), SPACING).await.unwrap();
        assert_eq!(
            lanes.turn(&gstin(), irn(1), SPACING).await.unwrap_err(),
            NoTurn::Twin
        );
        drop(first);
        assert!(lanes.turn(&gstin(), irn(1), SPACING).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_left_in_doubt_has_no_turn_before_that_can_be_settled() {
        let lanes = Lanes::new(8);
        let settle_time = Duration::from_secs(30);
        let mut first = lanes.turn(&gstin(), irn(1), SPACING).await.unwrap();
        first.ends_in_doubt(settle_time);
        drop(first);
        lanes.forget_the_settled();
        let twin = lanes.turn(&gstin(), irn(1), SPACING).await;
        assert_eq!(twin.unwrap_err(), NoTurn::Twin);
        tokio::time::sleep(settle_time).await;
        assert!(lanes.turn(&gstin(), irn(1), SPACING).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_makes_one_wait_then_defers_and_leaves_other_lanes_alone() {
        let lanes = Lanes::new(1);
        let held = lanes.turn(&gstin(), irn(1), SPACING).await.unwrap();
        let start = Instant::now();
        assert!(matches!(
            lanes.turn(&gstin(), irn(2), SPACING).await,
            Err(NoTurn::Full(_))
        ));
        assert_eq!(start.elapsed(), PATIENCE);
        assert!(
            lanes
                .turn(&"27AABCT9421M1ZY".parse().unwrap(), irn(3), SPACING)
                .await
                .is_ok()
        );
        drop(held);
        assert!(
            lanes.turn(&gstin(), irn(2), SPACING).await.is_ok(),
            "the deferred document is free again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn deferred_jobs_are_spread_by_the_rate() {
        let lanes = Lanes::new(1);
        let _held = lanes.turn(&gstin(), irn(0), SPACING).await.unwrap();
        let waits = (1..=100).map(|n| {
            let lanes = &lanes;
            async move { lanes.turn(&gstin(), irn(n), SPACING).await.unwrap_err() }
        });
        let mut waits: Vec<_> = futures_util::future::join_all(waits).await;
        waits.sort_by_key(|wait| match wait {
            NoTurn::Full(wait) => *wait,
            NoTurn::Twin => Duration::ZERO,
        });
        let NoTurn::Full(longest) = waits[99] else {
            panic!("a twin")
        };
        assert!(longest > PATIENCE + SPACING * 45, "{longest:?}");
    }
}
