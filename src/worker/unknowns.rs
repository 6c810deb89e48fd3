//! Jobs whose outcome is unknown: since when the oldest of them has been about, for those who watch.
//!
//! One rule: it only watches. It knows what this replica put on the ladder; what another one has settled meanwhile is
//! forgotten some time after it should have come back.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Worker;
use crate::telemetry;

/// More are not remembered: those that came first are the oldest, and the oldest is what counts.
const MOST: usize = 10_000;

/// Jobs come back from the ladder one after the other, and then wait for their turn.
const OVERDUE: Duration = Duration::from_secs(120);

/// The jobs in doubt that wait on the ladder.
#[derive(Debug, Default)]
pub(super) struct Unknowns {
    waiting: Mutex<HashMap<u64, Waiting>>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    first_seen: Timestamp,
    due: Instant,
}

impl Unknowns {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<u64, Waiting>) -> T) -> T {
        work(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A job in doubt waits on the ladder for so long.
    pub(super) fn waits(&self, job_id: &str, first_seen: Timestamp, stay: Duration) {
        let key = self.hasher.hash_one(job_id);
        let due = Instant::now() + stay;
        self.with(|waiting| {
            if waiting.len() < MOST || waiting.contains_key(&key) {
                waiting.insert(key, Waiting { first_seen, due });
            }
        });
    }

    /// A job that was in doubt has been settled.
    pub(super) fn settled(&self, job_id: &str) {
        let key = self.hasher.hash_one(job_id);
        self.with(|waiting| waiting.remove(&key));
    }

    /// How long ago the oldest was first seen. While no job is taken, none of them can have been settled.
    fn oldest(&self, now: Timestamp, taking: bool) -> Option<Duration> {
        let since = self.with(|waiting| {
            if taking {
                waiting.retain(|_, job| job.due.elapsed() < OVERDUE);
            }
            waiting.values().map(|job| job.first_seen).min()
        })?;
        Some(Duration::try_from(now.duration_since(since)).unwrap_or_default())
    }
}

impl Worker {
    /// Tells how old the oldest unknown outcome is. To be called every second or so.
    pub fn tell_of_unknowns(&self) {
        let taking = *self.taking.borrow();
        telemetry::unknown_outcome_age(self.unknowns.oldest(Timestamp::now(), taking));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAY: Duration = Duration::from_secs(60);

    fn ago(seconds: i64) -> Timestamp {
        Timestamp::now() - jiff::SignedDuration::from_secs(seconds)
    }

    fn age(unknowns: &Unknowns, taking: bool) -> Option<u64> {
        let age = unknowns.oldest(Timestamp::now(), taking);
        age.map(|age| age.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_counts_until_it_is_settled() {
        let unknowns = Unknowns::default();
        unknowns.waits("old", ago(900), STAY);
        unknowns.waits("young", ago(30), STAY);
        assert_eq!(age(&unknowns, true), Some(900));
        unknowns.settled("old");
        assert_eq!(age(&unknowns, true), Some(30));
        unknowns.settled("young");
        assert_eq!(age(&unknowns, true), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_come_back_is_forgotten_only_while_jobs_are_taken() {
        let unknowns = Unknowns::default();
        unknowns.waits("elsewhere", ago(900), STAY);
        tokio::time::advance(STAY + OVERDUE - Duration::from_secs(1)).await;
        assert_eq!(age(&unknowns, true), Some(900));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(age(&unknowns, false), Some(900));
        assert_eq!(age(&unknowns, true), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_remembered_than_there_is_room_for_and_the_first_ones_stay() {
        let unknowns = Unknowns::default();
        unknowns.waits("first", ago(900), STAY);
        for number in 0..MOST {
            unknowns.waits(&number.to_string(), ago(10), STAY);
        }
        assert_eq!(unknowns.with(|waiting| waiting.len()), MOST);
        unknowns.waits("first", ago(901), STAY);
        assert_eq!(age(&unknowns, true), Some(901));
    }
}
