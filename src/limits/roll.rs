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

/// Names that are remembered, whoever makes them up.
const MOST: usize = 10_000;

/// The replicas whose names are heard.
#[derive(Debug, Default)]
pub(super) struct Roll {
    us: Option<Arc<str>>,
    others: HashMap<Box<str>, Instant>,
    /// Our own name was told, and not heard by ourselves yet: more of it would only pile up.
    is_telling: bool,
}

impl Roll {
    /// Our own name.
    pub(super) fn call_us(&mut self, replica: Arc<str>) {
        self.us = Some(replica);
    }

    /// A replica has told its name.
    pub(super) fn heard(&mut self, replica: &str, now: Instant) {
        if self.us.as_deref() == Some(replica) {
            self.is_telling = false;
        } else if let Some(at) = self.others.get_mut(replica) {
            *at = now;
        } else if self.others.len() < MOST {
            self.others.insert(replica.into(), now);
        }
    }

    /// Whether ours is to be told now; from then on it counts as told.
    pub(super) fn tells(&mut self) -> bool {
        !std::mem::replace(&mut self.is_telling, true)
    }

    /// Our place among so many, from 0; none unless all of them are known.
    pub(super) fn seat(&mut self, replicas: NonZeroU32, now: Instant) -> Option<u32> {
        let known_for = told_every(replicas) * 5 / 2;
        self.others
            .retain(|_, at| now.duration_since(*at) <= known_for);
        let us = self.us.as_deref()?;
        let all = u32::try_from(self.others.len()).ok()?.checked_add(1)?;
        if all != replicas.get() {
            return None;
        }
        let before = self.others.keys().filter(|name| &***name < us).count();
        u32::try_from(before).ok()
    }
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
    async fn name_that_nobody_takes_is_told_once() {
        let mut roll = Roll::default();
        roll.call_us("host-a".into());
        assert!(roll.tells());
        assert!(!roll.tells());
        roll.heard("host-a", Instant::now());
        assert!(roll.tells());
    }

    #[tokio::test]
    async fn made_up_names_do_not_fill_the_memory() {
        let mut roll = Roll::default();
        let now = Instant::now();
        for number in 0..2 * MOST {
            roll.heard(&number.to_string(), now);
        }
        assert_eq!(roll.others.len(), MOST);
    }
}
