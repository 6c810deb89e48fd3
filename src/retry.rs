//! When to try again: delays inside one attempt, and rungs of the delay ladder between attempts.
//!
//! The only file that names `backoff`, and only as a calculator of delays: its own retry loops read the real clock
//! and treat any error as passing. Leaving the crate is a change of this file.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use tokio::time::Instant;

use crate::config::Rung;

/// Growing, jittered delays; never the same twice in a row across replicas.
pub struct Backoffs(ExponentialBackoff);

impl std::fmt::Debug for Backoffs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backoffs({:?})", self.0.current_interval)
    }
}

impl Backoffs {
    /// Delays from about `first`, doubling to about `ceiling`, each up to half more or less.
    pub fn new(first: Duration, ceiling: Duration) -> Self {
        Self(ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            randomization_factor: 0.5,
            multiplier: 2.0,
            max_interval: ceiling,
            // The crate would measure this by the real clock; callers count for themselves.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// The same delays, each up to a tenth more or less.
    pub fn nearly_exact(mut self) -> Self {
        self.0.randomization_factor = 0.1;
        self
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// Starts again from the first delay, once something has worked.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

/// Tries inside one attempt: for what failed before the portal could act.
#[derive(Debug)]
pub struct ImmediateTries {
    delays: Backoffs,
    until: Instant,
}

impl ImmediateTries {
    /// Tries that begin within `max_elapsed` from now, the time of the tries themselves included.
    pub fn new(max_elapsed: Duration) -> Self {
        let first = Duration::from_millis(200)
            .min(max_elapsed / 4)
            .max(Duration::from_millis(1));
        Self {
            delays: Backoffs::new(first, first * 16),
            until: Instant::now() + max_elapsed,
        }
    }

    /// How long to wait before the next try, or `None` when the time is used up.
    pub fn next_delay(&mut self) -> Option<Duration> {
        let delay = self.delays.next_delay();
        (Instant::now() + delay <= self.until).then_some(delay)
    }
}

/// The delay ladder's rungs, ascending and never empty.
#[derive(Clone, Debug)]
pub struct Ladder(Vec<Rung>);

impl Ladder {
    /// A ladder of these rungs, or `None` if there are none.
    pub fn try_new(mut rungs: Vec<Rung>) -> Option<Self> {
        rungs.sort_by_key(|rung| rung.delay);
        (!rungs.is_empty()).then_some(Self(rungs))
    }

    /// All rungs, shortest first.
    pub fn rungs(&self) -> &[Rung] {
        &self.0
    }

    /// The rung after this attempt (from 1): one step further each time, but no sooner than `not_before`.
    pub fn after_attempt(&self, attempt: u32, not_before: Duration) -> &Rung {
        let step = usize::try_from(attempt.saturating_sub(1))
            .unwrap_or(usize::MAX)
            .min(self.0.len() - 1);
        let stepped = &self.0[step];
        if stepped.delay >= not_before {
            stepped
        } else {
            self.at_least(not_before)
        }
    }

    /// The shortest rung of at least this delay; the longest of all where none is: a portal cannot park a job for
    /// longer than the ladder is high.
    pub fn at_least(&self, delay: Duration) -> &Rung {
        self.0
            .iter()
            .find(|rung| rung.delay >= delay)
            .unwrap_or(&self.0[self.0.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ladder(seconds: &[u64]) -> Ladder {
        let rung = |&s: &u64| Rung {
            name: format!("{s}s"),
            delay: Duration::from_secs(s),
        };
        Ladder::try_new(seconds.iter().map(rung).collect()).unwrap()
    }

    #[test]
    fn each_attempt_climbs_a_rung_and_stays_on_the_last() {
        let ladder = ladder(&[15, 60, 300]);
        let names: Vec<_> = (1..=5)
            .map(|n| ladder.after_attempt(n, Duration::ZERO).name.clone())
            .collect();
        assert_eq!(names, ["15s", "60s", "300s", "300s", "300s"]);
    }

    #[test]
    fn a_wait_the_portal_asked_for_is_kept_but_clamped() {
        let ladder = ladder(&[15, 60, 300]);
        assert_eq!(ladder.after_attempt(1, Duration::from_secs(30)).name, "60s");
        assert_eq!(
            ladder.after_attempt(3, Duration::from_secs(30)).name,
            "300s"
        );
        assert_eq!(
            ladder.after_attempt(1, Duration::from_secs(86_400)).name,
            "300s"
        );
    }

    #[test]
    fn no_rungs_is_no_ladder() {
        assert!(Ladder::try_new(Vec::new()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn immediate_tries_end_with_their_time_however_it_was_spent() {
        let mut tries = ImmediateTries::new(Duration::from_secs(10));
        let start = Instant::now();
        let mut count = 0;
        while let Some(delay) = tries.next_delay() {
            tokio::time::sleep(delay + Duration::from_secs(2)).await;
            count += 1;
        }
        assert!((2..=6).contains(&count), "{count} tries");
        assert!(start.elapsed() <= Duration::from_secs(12));
    }

    proptest! {
        #[test]
        fn delays_stay_within_their_bounds(first in 1u64..1_000, steps in 1usize..40) {
            let (first, ceiling) = (Duration::from_millis(first), Duration::from_millis(first * 20));
            let mut delays = Backoffs::new(first, ceiling);
            for _ in 0..steps {
                let delay = delays.next_delay();
                prop_assert!(delay >= first / 2 && delay <= ceiling * 3 / 2);
            }
        }
    }
}
