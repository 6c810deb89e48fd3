//! `--rate`: when each letter may go.

use std::time::Duration;

use tokio::time::Instant;

use super::HELD_FOR;
use crate::config::Rate;

/// What was late is made up for, but only so much of it.
const CATCHES_UP: Duration = Duration::from_millis(100);

/// When the next one may go.
pub(super) struct Pace {
    gap: Duration,
    next: Instant,
}

impl Pace {
    pub(super) fn of(rate: Option<Rate>) -> Self {
        Self {
            gap: rate.map_or(Duration::ZERO, |rate| rate.period / rate.count.get()),
            next: Instant::now(),
        }
    }

    /// When the next one may go.
    pub(super) fn turn(&self) -> Instant {
        self.next
    }

    /// Whether the next one may only go when letters that have been held for so long have been held for too long: the
    /// broker would take them back, and close the channel.
    pub(super) fn is_far(&self, held: Duration) -> bool {
        let wait = self.next.saturating_duration_since(Instant::now());
        wait > HELD_FOR.saturating_sub(held)
    }

    /// When this one may go: from now on the next one is asked for.
    pub(super) fn next(&mut self) -> Instant {
        let now = Instant::now();
        let at = self.next.max(now.checked_sub(CATCHES_UP).unwrap_or(now));
        self.next = at + self.gap;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn letter_is_not_held_until_a_turn_that_is_far() {
        let mut pace = Pace::of(Some("20/day".parse().expect("a rate")));
        assert!(!pace.is_far(HELD_FOR), "the first one may go at once");
        pace.next();
        assert!(pace.is_far(Duration::ZERO), "the next in 72 minutes");
        tokio::time::sleep_until(pace.next - Duration::from_secs(60)).await;
        assert!(!pace.is_far(Duration::from_secs(1)));
        assert!(pace.is_far(HELD_FOR - Duration::from_secs(59)));
        let mut fast = Pace::of(Some("50/s".parse().expect("a rate")));
        fast.next();
        assert!(!fast.is_far(Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn pace_keeps_the_rate_and_makes_up_for_a_moment_at_most() {
        let rate = "50/s".parse().expect("a rate");
        let mut pace = Pace::of(Some(rate));
        let began = Instant::now();
        let mut go = async |count: u32| {
            for _ in 0..count {
                tokio::time::sleep_until(pace.next()).await;
            }
            began.elapsed()
        };
        assert_eq!(go(51).await, Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(9)).await;
        // Nine seconds late, and five of them at once.
        assert_eq!(go(6).await, Duration::from_secs(10));
        let then = go(50).await;
        assert!(then >= Duration::from_millis(10_980), "{then:?}");
    }
}
