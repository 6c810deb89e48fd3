//! A line of two classes: the urgent go first, and not always.
//!
//! One rule: neither class keeps the other waiting for ever, whatever stands in the other's line.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::job::Class;

/// So many urgent ones in a row at most while somebody else waits.
const RUN: u32 = 7;

/// Where urgent ones came within this time, more are expected.
const EXPECTED_FOR: Duration = Duration::from_secs(60);

/// Of so many places one is kept free for an urgent one that is expected.
const ONE_IN: usize = 8;

/// The most that are kept free.
const MOST_KEPT: usize = 4;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    /// Urgent ones that went in a row.
    run: u32,
}

impl Turns {
    /// Whether an urgent one goes now, before those that are not and wait as well.
    pub(super) fn is_urgents(self) -> bool {
        self.run < RUN
    }

    /// One has gone.
    pub(super) fn went(&mut self, class: Class) {
        match class {
            Class::Urgent => self.run = self.run.saturating_add(1),
            Class::Bulk => self.run = 0,
        }
    }
}

/// Those who wait for a place, each class in its order.
#[derive(Debug)]
pub struct Line<T> {
    urgent: VecDeque<T>,
    bulk: VecDeque<T>,
    turns: Turns,
    /// When an urgent one last came.
    urgent_seen: Option<Instant>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            urgent: VecDeque::new(),
            bulk: VecDeque::new(),
            turns: Turns::default(),
            urgent_seen: None,
        }
    }
}

impl<T> Line<T> {
    /// One of this class has come, to stand in line or not.
    pub fn comes(&mut self, class: Class, now: Instant) {
        match class {
            Class::Urgent => self.urgent_seen = Some(now),
            Class::Bulk => {}
        }
    }

    /// One came elsewhere at that time: more are expected here as well.
    pub fn expects(&mut self, seen: Option<Instant>) {
        self.urgent_seen = self.urgent_seen.max(seen);
    }

    /// How many of so many places this class may have. A part of them is kept free where urgent ones are expected, so
    /// that they need not wait until a call has been answered.
    pub fn share(&self, class: Class, places: usize, now: Instant) -> usize {
        let expected = self
            .urgent_seen
            .is_some_and(|seen| now.saturating_duration_since(seen) <= EXPECTED_FOR);
        match class {
            Class::Bulk if expected => places - (places / ONE_IN).min(MOST_KEPT),
            Class::Bulk | Class::Urgent => places,
        }
    }

    /// Stands in line.
    pub fn push(&mut self, class: Class, one: T) {
        match class {
            Class::Urgent => self.urgent.push_back(one),
            Class::Bulk => self.bulk.push_back(one),
        }
    }

    /// Whether nobody stands in it.
    pub fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.bulk.is_empty()
    }

    /// The next one, where `taken` of so many places are taken. Those that `left` the line are passed over.
    pub fn pop(
        &mut self,
        taken: usize,
        places: usize,
        now: Instant,
        left: impl Fn(&T) -> bool,
    ) -> Option<(Class, T)> {
        self.pop_fairly(taken, places, now, left, |_| 0)
    }

    /// The same, and of its class the first of those whose `owner_has` the least.
    pub fn pop_fairly(
        &mut self,
        taken: usize,
        places: usize,
        now: Instant,
        left: impl Fn(&T) -> bool,
        owner_has: impl Fn(&T) -> u32,
    ) -> Option<(Class, T)> {
        for line in [&mut self.urgent, &mut self.bulk] {
            while line.front().is_some_and(&left) {
                line.pop_front();
            }
        }
        let class = self.next_class(taken, places, now)?;
        let line = match class {
            Class::Urgent => &mut self.urgent,
            Class::Bulk => &mut self.bulk,
        };
        let waits = |one: &T| (!left(one)).then(|| owner_has(one));
        let next = line.remove(first_of_the_least(line.iter().map(waits)));
        self.turns.went(class);
        next.map(|next| (class, next))
    }

    fn next_class(&self, taken: usize, places: usize, now: Instant) -> Option<Class> {
        let urgent = !self.urgent.is_empty() && taken < places;
        // In a run that was long enough, the kept places are bulk's as well.
        let share = if self.turns.is_urgents() {
            self.share(Class::Bulk, places, now)
        } else {
            places
        };
        let bulk = !self.bulk.is_empty() && taken < share;
        match (urgent, bulk) {
            (true, true) if !self.turns.is_urgents() => Some(Class::Bulk),
            (true, _) => Some(Class::Urgent),
            (false, true) => Some(Class::Bulk),
            (false, false) => None,
        }
    }
}

/// Where the first of the least is. Nobody has less than nothing, so mostly it need not look far.
fn first_of_the_least(numbers: impl Iterator<Item = Option<u32>>) -> usize {
    let mut least = (0, u32::MAX);
    for (at, number) in numbers.enumerate() {
        match number {
            Some(0) => return at,
            Some(number) if number < least.1 => least = (at, number),
            Some(_) | None => {}
        }
    }
    least.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(line: &mut Line<(Class, bool)>, taken: usize, places: usize) -> Vec<Class> {
        let now = Instant::now();
        std::iter::from_fn(|| line.pop(taken, places, now, |(_, left)| *left))
            .map(|(class, _)| class)
            .collect()
    }

    #[tokio::test]
    async fn urgent_ones_go_first_and_every_eighth_place_is_bulks() {
        let mut line = Line::default();
        for class in [Class::Bulk, Class::Urgent] {
            (0..16).for_each(|_| line.push(class, (class, false)));
        }
        let served = served(&mut line, 0, 8);
        let bulk = |n: usize| served[..n].iter().filter(|c| **c == Class::Bulk).count();
        assert_eq!([bulk(7), bulk(8), bulk(15), bulk(16)], [0, 1, 1, 2]);
        assert_eq!(served.len(), 32);
    }

    #[tokio::test]
    async fn a_long_run_of_urgent_ones_with_nobody_else_costs_the_next_ones_one_place_only() {
        let mut line = Line::default();
        (0..100).for_each(|_| line.push(Class::Urgent, (Class::Urgent, false)));
        assert_eq!(served(&mut line, 0, 8).len(), 100);
        for class in [Class::Bulk, Class::Bulk, Class::Urgent] {
            line.push(class, (class, false));
        }
        assert_eq!(
            served(&mut line, 0, 8),
            [Class::Bulk, Class::Urgent, Class::Bulk]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_kept_free_while_urgent_ones_are_expected_and_none_where_there_are_few() {
        let mut line = Line::<()>::default();
        let bulk = |line: &Line<()>, places| line.share(Class::Bulk, places, Instant::now());
        assert_eq!(bulk(&line, 8), 8);
        line.comes(Class::Urgent, Instant::now());
        let shares = [1, 7, 8, 16, 64].map(|places| bulk(&line, places));
        assert_eq!(shares, [1, 7, 7, 14, 60]);
        assert_eq!(line.share(Class::Urgent, 8, Instant::now()), 8);
        tokio::time::advance(EXPECTED_FOR * 2).await;
        assert_eq!(bulk(&line, 8), 8);
        line.expects(Some(Instant::now()));
        line.expects(None);
        assert_eq!(bulk(&line, 8), 7, "where one came elsewhere");
    }

    #[tokio::test]
    async fn who_has_left_is_passed_over() {
        let mut line = Line::default();
        for left in [true, false, true, false] {
            line.push(Class::Bulk, (Class::Bulk, left));
        }
        assert_eq!(served(&mut line, 0, 1).len(), 2);
        assert!(line.bulk.is_empty());
    }

    #[tokio::test]
    async fn the_first_of_those_whose_owner_has_the_least_is_next() {
        let mut line = Line::default();
        // Who waits, what its owner has, and whether it has left.
        for one in [
            ("a", 3, false),
            ("b", 1, true),
            ("c", 2, false),
            ("d", 1, false),
            ("e", 1, false),
            ("f", 0, true),
        ] {
            line.push(Class::Bulk, one);
        }
        let now = Instant::now();
        let mut next = || line.pop_fairly(0, 8, now, |one| one.2, |one| one.1);
        let served: Vec<_> = std::iter::from_fn(|| next().map(|(_, one)| one.0)).collect();
        assert_eq!(served, ["d", "e", "c", "a"]);
    }

    #[tokio::test]
    async fn bulk_has_its_part_of_the_kept_places_too_under_a_flood() {
        let mut line = Line::default();
        line.comes(Class::Urgent, Instant::now());
        for class in [Class::Urgent, Class::Bulk] {
            (0..100).for_each(|_| line.push(class, (class, false)));
        }
        // All places but the kept one are taken, all the time.
        let now = Instant::now();
        let next = |_| line.pop(7, 8, now, |_| false).map(|(class, _)| class);
        let served: Vec<_> = (0..80).filter_map(next).collect();
        let bulk = served.iter().filter(|class| **class == Class::Bulk);
        assert_eq!((served.len(), bulk.count()), (80, 10));
    }
}
