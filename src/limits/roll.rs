//! Which of the replicas this one is: its place among the names of those that share the limits.
//!
//! Replicas that take the same share each at a moment of their own can all take one more in some second: 2.5 a second are
//! two or three. In turn, one after the other, they are as even as one alone. One rule: a place counts only as long as
//! exactly as many names are heard as the broker counts replicas; without one, each takes its share at its own time.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Each tells its name so often, or so often that a fleet hears five in a second.
const SOONEST: Duration = Duration::from_secs(5);
const EACH: Duration = Duration::from_millis(200);

/// Names that are remembered, whoever makes them up, and how long one may be.
const MOST: usize = 10_000;
const LONGEST: usize = 256;

/// Our own name is told again after this time, though we have not heard it ourselves.
const UNHEARD_FOR: Duration = Duration::from_secs(60);

/// What is told is heard within this time.
const HEARD_WITHIN: Duration = Duration::from_millis(300);

/// One that asked what the others know knows it by then.
const LEARNS_FOR: Duration = Duration::from_secs(30);

/// The replicas whose names are heard.
#[derive(Debug, Default)]
pub(super) struct Roll {
    us: Option<Arc<str>>,
    others: HashMap<Box<str>, Other>,
    /// When our own name was told that we have not heard ourselves yet: more of it would only pile up.
    told: Option<Instant>,
    /// When all were asked for their names, because one is gone.
    called: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Other {
    since: Instant,
    heard: Instant,
    /// When it asked what the others know.
    asked: Option<Instant>,
}

impl Roll {
    /// Our own name.
    pub(super) fn call_us(&mut self, replica: Arc<str>) {
        self.us = Some(replica);
    }

    /// A replica has told its name.
    pub(super) fn heard(&mut self, replica: &str, now: Instant) {
        if self.us.as_deref() == Some(replica) {
            self.told = None;
        } else if let Some(other) = self.others.get_mut(replica) {
            other.heard = now;
        } else if self.others.len() < MOST && replica.len() <= LONGEST {
            let other = Other {
                since: now,
                heard: now,
                asked: None,
            };
            self.others.insert(replica.into(), other);
        }
    }

    /// One whose name is known has asked what the others know.
    pub(super) fn heard_asking(&mut self, replica: &str, now: Instant) {
        if let Some(other) = self.others.get_mut(replica) {
            other.asked = Some(now);
        }
    }

    /// Whether this is another's name, known then and still.
    pub(super) fn knew(&self, replica: &str, then: Instant) -> bool {
        let other = self.others.get(replica);
        other.is_some_and(|other| other.since <= then)
    }

    /// Whether our own name is to be told now; from then on it counts as told.
    pub(super) fn tells(&mut self, now: Instant) -> bool {
        let is_unheard = |told: Instant| now.duration_since(told) < UNHEARD_FOR;
        if self.told.is_some_and(is_unheard) {
            return false;
        }
        self.told = Some(now);
        true
    }

    /// How many of these were known then and still are, and how many of those are before us.
    pub(super) fn count_of(&self, names: &[Box<str>], then: Instant) -> (u32, u32) {
        let known = names.iter().map(|name| &**name);
        let known = known.filter(|name| self.knew(name, then));
        let before = known
            .clone()
            .filter(|name| Some(*name) < self.us.as_deref());
        let many = |count| u32::try_from(count).unwrap_or(u32::MAX);
        (many(known.count()), many(before.count()))
    }

    /// All are asked for their names now: there are fewer.
    pub(super) fn calls_names(&mut self, now: Instant) {
        self.called = Some(now);
    }

    /// When this replica was heard last; none if its name is not known, or no longer.
    pub(super) fn heard_at(&self, replica: &str) -> Option<Instant> {
        self.others.get(replica).map(|other| other.heard)
    }

    /// Whether ours is one of the first so many names.
    pub(super) fn is_one_of_first(&self, many: usize) -> bool {
        self.before_us().count() < many
    }

    /// The same, but for those of replicas that have just asked.
    pub(super) fn is_one_of_first_that_know(&self, many: usize, now: Instant) -> bool {
        let knows = |other: &&Other| {
            let asked = other.asked;
            asked.is_none_or(|asked| now.duration_since(asked) >= LEARNS_FOR)
        };
        self.before_us().filter(knows).count() < many
    }

    fn before_us(&self) -> impl Iterator<Item = &Other> {
        let us = self.us.as_deref();
        let before = self
            .others
            .iter()
            .filter(move |(name, _)| Some(&***name) < us);
        before.map(|(_, other)| other)
    }

    /// Our place among so many, from 0; none unless all of them are known.
    pub(super) fn seat(&mut self, replicas: NonZeroU32, now: Instant) -> Option<u32> {
        let known_for = told_every(replicas) * 5 / 2;
        let called = self.called.take_if(|called| {
            now.duration_since(*called) >= answered_within(replicas) + HEARD_WITHIN
        });
        self.others.retain(|_, other| {
            let has_answered = called.is_none_or(|called| other.heard >= called);
            has_answered && now.duration_since(other.heard) <= known_for
        });
        if self.called.is_some() {
            return None;
        }
        let us = self.us.as_deref()?;
        let all = u32::try_from(self.others.len()).ok()?.checked_add(1)?;
        if all != replicas.get() {
            return None;
        }
        let before = self.others.keys().filter(|name| &***name < us).count();
        u32::try_from(before).ok()
    }
}

/// How soon each of so many tells its name when it is asked.
pub(super) fn answered_within(replicas: NonZeroU32) -> Duration {
    (told_every(replicas) / 5).max(Duration::from_secs(1))
}

/// How often each of so many tells its name.
pub(super) fn told_every(replicas: NonZeroU32) -> Duration {
    SOONEST.max(EACH * replicas.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(replicas: u32) -> NonZeroU32 {
        NonZeroU32::new(replicas).unwrap()
    }

    #[tokio::test]
    async fn place_is_known_while_as_many_names_are_heard_as_there_are_replicas() {
        let start = Instant::now();
        let mut roll = Roll::default();
        assert_eq!(roll.seat(many(1), start), None, "nobody has named us");
        roll.call_us("host-b".into());
        assert_eq!(roll.seat(many(1), start), Some(0));
        assert_eq!(roll.seat(many(3), start), None);
        for name in ["host-c", "host-a", "host-b", "host-a"] {
            roll.heard(name, start);
        }
        assert_eq!(roll.seat(many(3), start), Some(1));
        assert_eq!(roll.seat(many(2), start), None, "one may have gone");
        let later = start + Duration::from_secs(12);
        roll.heard("host-c", later);
        assert_eq!(roll.seat(many(3), later), Some(1));
        let gone = later + Duration::from_secs(1);
        assert_eq!(roll.seat(many(2), gone), Some(0), "host-a has");
    }

    #[tokio::test]
    async fn who_does_not_answer_when_names_are_called_is_forgotten() {
        let start = Instant::now();
        let mut roll = Roll::default();
        roll.call_us("host-b".into());
        for name in ["host-a", "host-c"] {
            roll.heard(name, start);
        }
        let called = start + Duration::from_secs(3);
        roll.calls_names(called);
        assert_eq!(roll.seat(many(2), called), None);
        let answered = called + answered_within(many(2)) + HEARD_WITHIN;
        let soon = called + HEARD_WITHIN;
        roll.heard("host-c", soon);
        assert_eq!(roll.seat(many(2), soon), None);
        assert_eq!(
            roll.seat(many(3), soon),
            None,
            "nobody knows yet who is gone"
        );
        assert_eq!(roll.seat(many(2), answered), Some(0), "host-a is");
        roll.heard("host-a", answered);
        assert_eq!(roll.seat(many(3), answered), Some(1), "it was slow");
    }

    #[tokio::test]
    async fn name_that_nobody_takes_is_told_once_in_a_minute() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut roll = Roll::default();
        roll.call_us("host-a".into());
        assert!(roll.tells(start));
        assert!(!roll.tells(start + second * 59));
        assert!(roll.tells(start + second * 60));
        roll.heard("host-a", start + second * 61);
        assert!(roll.tells(start + second * 61));
    }

    #[tokio::test]
    async fn first_names_are_those_of_replicas_that_know_something() {
        let now = Instant::now();
        let mut roll = Roll::default();
        roll.call_us("host-d".into());
        for name in ["host-a", "host-b", "host-c", "host-e"] {
            roll.heard(name, now);
        }
        assert!(!roll.is_one_of_first_that_know(3, now));
        roll.heard_asking("host-b", now);
        roll.heard_asking("nobody", now);
        assert!(roll.is_one_of_first_that_know(3, now));
        assert!(!roll.is_one_of_first_that_know(3, now + LEARNS_FOR));
    }

    #[tokio::test]
    async fn made_up_names_do_not_fill_the_memory() {
        let mut roll = Roll::default();
        let now = Instant::now();
        for number in 0..2 * MOST {
            roll.heard(&number.to_string(), now);
        }
        assert_eq!(roll.others.len(), MOST);
        let mut roll = Roll::default();
        roll.heard(&"x".repeat(LONGEST + 1), now);
        assert!(roll.others.is_empty());
    }
}
