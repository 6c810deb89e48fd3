//! How many things happened in the last while: a window that moves, in bounded memory.
//!
//! One rule: it forgets late rather than early, by at most one part in 96.

use std::collections::VecDeque;
use std::time::Duration;

/// Parts of a window: a quarter of an hour in one of a day.
const PARTS: u32 = 96;

/// A count over the last `length`. Empty until something is counted; then at most 97 pairs of numbers.
///
/// Times are durations since a start of the caller's choice and never go back.
#[derive(Clone, Debug)]
pub(super) struct Window {
    part: Duration,
    /// Which part, and how many in it; ascending.
    counts: VecDeque<(u64, u32)>,
    total: u32,
}

impl Window {
    /// An empty window of this length.
    pub(super) fn new(length: Duration) -> Self {
        Self {
            part: (length / PARTS).max(Duration::from_nanos(1)),
            counts: VecDeque::new(),
            total: 0,
        }
    }

    /// So many more, now.
    pub(super) fn count(&mut self, now: Duration, more: u32) {
        self.forget(now);
        let part = self.part_of(now);
        match self.counts.back_mut() {
            Some((last, count)) if *last == part => *count = count.saturating_add(more),
            _ => self.counts.push_back((part, more)),
        }
        self.total = self.total.saturating_add(more);
    }

    /// How many in the window that ends now.
    pub(super) fn used(&mut self, now: Duration) -> u32 {
        self.forget(now);
        self.total
    }

    /// How long it is.
    pub(super) fn length(&self) -> Duration {
        self.part * PARTS
    }

    /// How many happened how long ago, the oldest first, each in the middle of its part.
    pub(super) fn ages(&mut self, now: Duration) -> Vec<(Duration, u32)> {
        self.forget(now);
        let counts = self.counts.iter();
        let middle = |part: u64| self.begin_of(part) + self.part / 2;
        counts
            .map(|(part, count)| (now.saturating_sub(middle(*part)), *count))
            .collect()
    }

    /// So many happened so long ago, and nothing else did.
    pub(super) fn become_as(&mut self, now: Duration, ages: &[(Duration, u32)]) {
        self.clear();
        let mut ages = ages.to_vec();
        ages.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
        for (age, count) in ages {
            self.count(now.saturating_sub(age), count);
        }
        self.forget(now);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.counts.clear();
        self.total = 0;
    }

    /// How long until the oldest part is forgotten; `None` if there is nothing to forget.
    pub(super) fn moves_in(&self, now: Duration) -> Option<Duration> {
        let (oldest, _) = self.counts.front()?;
        let end = self.begin_of(oldest.saturating_add(u64::from(PARTS) + 1));
        Some(end.saturating_sub(now))
    }

    fn begin_of(&self, part: u64) -> Duration {
        const SECOND: u128 = 1_000_000_000;
        let nanos = self.part.as_nanos() * u128::from(part);
        let seconds = u64::try_from(nanos / SECOND).unwrap_or(u64::MAX);
        Duration::new(seconds, u32::try_from(nanos % SECOND).unwrap_or_default())
    }

    fn forget(&mut self, now: Duration) {
        let now = self.part_of(now);
        while let Some((oldest, count)) = self.counts.front() {
            if oldest + u64::from(PARTS) >= now {
                return;
            }
            self.total = self.total.saturating_sub(*count);
            self.counts.pop_front();
        }
    }

    fn part_of(&self, now: Duration) -> u64 {
        u64::try_from(now.as_nanos() / self.part.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);

    proptest! {
        #[test]
        fn window_never_forgets_early_and_never_remembers_longer_than_a_part_more(
            gaps in prop::collection::vec(0u64..20_000, 1..300)
        ) {
            let mut window = Window::new(DAY);
            let mut at = Vec::new();
            let mut now = Duration::ZERO;
            for gap in gaps {
                now += Duration::from_secs(gap);
                window.count(now, 1);
                at.push(now);
                let within = |length: Duration| {
                    let counted = at.iter().filter(|then| now - **then < length).count();
                    u32::try_from(counted).unwrap()
                };
                let used = window.used(now);
                prop_assert!(used >= within(DAY), "{used} < {}", within(DAY));
                prop_assert!(used <= within(DAY + DAY / PARTS), "{used}");
                prop_assert!(window.counts.len() <= 97, "{}", window.counts.len());
            }
        }

        #[test]
        fn window_told_from_one_to_the_next_stays_as_it_is(
            gaps in prop::collection::vec(0u64..5_000, 1..100),
            start in 0u64..1_000_000_000,
        ) {
            let mut first = Window::new(DAY);
            let mut now = DAY + Duration::from_secs(start);
            for gap in gaps {
                now += Duration::from_secs(gap);
                first.count(now, 3);
            }
            let mut last = first.clone();
            for _ in 0..5 {
                now += Duration::from_secs(7);
                let told = last.ages(now).into_iter();
                let told: Vec<_> = told.map(|(age, n)| (Duration::from_secs(age.as_secs()), n)).collect();
                // Clocks differ by a few seconds.
                last = Window::new(DAY);
                last.become_as(now + Duration::from_secs(3), &told);
                now += Duration::from_secs(3);
            }
            for later in (0..=DAY.as_secs()).step_by(700).map(Duration::from_secs) {
                prop_assert_eq!(last.used(now + later), first.used(now + later));
            }
        }

        #[test]
        fn window_moves_exactly_when_it_says(first in 0u64..200_000) {
            let mut window = Window::new(DAY);
            let counted = Duration::from_secs(first);
            window.count(counted, 1);
            let wait = window.moves_in(counted).unwrap();
            prop_assert!(wait >= DAY && wait <= DAY + DAY / PARTS, "{wait:?}");
            prop_assert_eq!(window.used(counted + wait - Duration::from_nanos(1)), 1);
            prop_assert_eq!(window.used(counted + wait), 0);
            prop_assert_eq!(window.moves_in(counted + wait), None);
        }
    }
}
