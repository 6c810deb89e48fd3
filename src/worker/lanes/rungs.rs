//! When those that stand on the rungs of the delay ladder may go, as far as this process has put them there.
//!
//! One rule: nobody is put behind one that is known to have much longer to wait, as long as there is a shorter rung. A rung
//! lets a message go only once all before it have gone, so a GSTIN's job that is due in a minute would share the hour of
//! another's. What other replicas have put there is not known; theirs is much the same.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::course::Return;
use crate::job::Class;
use crate::retry::Ladder;

/// Behind those that go so much later than it is due, one in four of its wait, it would be late: lanes plan half as many
/// again as they can take.
const LATE: u32 = 4;

/// So many bulk jobs a second may take a shorter rung, by all replicas together: each comes back once more for it.
const SHORTENED: u32 = 1000;

/// And so many seconds' worth at once, when a backlog is swept.
const BURST: Duration = Duration::from_secs(10);

/// The ladder's rungs.
#[derive(Debug)]
pub(super) struct Rungs {
    began: Instant,
    /// Shortest first.
    rungs: Vec<OnRung>,
    /// When all that took a shorter one have been made up for.
    shortened: Mutex<Instant>,
}

#[derive(Debug)]
struct OnRung {
    delay: Duration,
    /// When the last of those on it may go, in milliseconds since they began.
    until: AtomicU64,
}

impl Rungs {
    /// Rungs that nobody stands on.
    pub(super) fn new(ladder: &Ladder, now: Instant) -> Self {
        let rung = |delay| OnRung {
            delay,
            until: AtomicU64::new(0),
        };
        let delays = ladder.rungs().iter().map(|rung| rung.delay);
        Self {
            began: now,
            rungs: delays.map(rung).collect(),
            shortened: Mutex::new(now),
        }
    }

    /// The longest wait.
    pub(super) fn longest(&self) -> Duration {
        self.rungs.last().map_or(Duration::ZERO, |rung| rung.delay)
    }

    /// One goes onto the rung of this delay, for so long.
    pub(super) fn holds(&self, delay: Duration, stay: Duration, now: Instant) {
        if let Some(rung) = self.rungs.iter().find(|rung| rung.delay == delay) {
            let until = self.millis(now + stay.min(delay));
            rung.until.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// The wait on the rung below, where one that has so long to wait would be late on its own.
    pub(super) fn shorter(&self, wait: Duration, of: &Return, now: Instant) -> Option<Duration> {
        let own = self.rungs.iter().position(|rung| rung.delay >= wait);
        let own = own.unwrap_or(self.rungs.len().saturating_sub(1));
        let below = self.rungs.get(own.checked_sub(1)?)?.delay;
        let in_time = self.millis(now + wait + wait / LATE);
        let is_late = self.rungs.get(own)?.until.load(Ordering::Relaxed) > in_time;
        let may = below >= of.at_least && is_late && self.may_shorten(of, now);
        may.then_some(below)
    }

    fn may_shorten(&self, of: &Return, now: Instant) -> bool {
        match of.class {
            Class::Bulk => {}
            // They are few, and a flood of bulk must not take this from them.
            Class::Urgent => return true,
        }
        let mut shortened = self
            .shortened
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let may = *shortened <= now + BURST;
        if may {
            *shortened = shortened.max(now) + Duration::from_secs(1) * of.replicas / SHORTENED;
        }
        may
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.began).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rung;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rungs(now: Instant) -> Rungs {
        let rung = |seconds: u64| Rung {
            name: format!("{seconds}s"),
            delay: secs(seconds),
        };
        let delays = [15, 60, 300].map(rung).to_vec();
        Rungs::new(&Ladder::try_new(delays).unwrap(), now)
    }

    const BULK: Return = Return {
        class: Class::Bulk,
        again: false,
        spacing: secs(1),
        waiting: 0,
        queue: None,
        replicas: 1,
        at_least: Duration::ZERO,
    };

    #[tokio::test]
    async fn who_is_due_much_before_the_last_on_its_rung_takes_the_one_below() {
        let now = Instant::now();
        let rungs = rungs(now);
        assert_eq!(rungs.longest(), secs(300));
        let shorter = |wait, now| rungs.shorter(wait, &BULK, now);
        assert_eq!(shorter(secs(61), now), None, "nobody is before it");
        rungs.holds(secs(300), secs(250), now);
        rungs.holds(secs(300), secs(100), now);
        for (wait, expected) in [
            (secs(61), Some(secs(60))),
            (secs(199), Some(secs(60))),
            (secs(201), None),
            (secs(300), None),
            (secs(900), None),
            (secs(60), None),
            (secs(10), None),
        ] {
            assert_eq!(shorter(wait, now), expected, "{wait:?}");
        }
        let later = now + secs(170);
        assert_eq!(shorter(secs(70), later), None, "they go in 80 s");
        rungs.holds(secs(15), secs(15), now);
        assert_eq!(shorter(secs(1), now), None, "there is none below");
        let in_doubt = |at_least| Return { at_least, ..BULK };
        assert!(rungs.shorter(secs(61), &in_doubt(secs(60)), now).is_some());
        assert!(rungs.shorter(secs(61), &in_doubt(secs(61)), now).is_none());
    }

    #[tokio::test]
    async fn no_more_take_a_shorter_rung_than_the_fleet_can_carry_and_every_urgent_one_that_would_be_late()
     {
        let start = Instant::now();
        let rungs = rungs(start);
        rungs.holds(secs(300), secs(300), start);
        let of_four = |class| Return {
            class,
            replicas: 4,
            ..BULK
        };
        let shortened = |class, now| {
            let may = |_: &u32| rungs.shorter(secs(100), &of_four(class), now).is_some();
            (0..10_000).filter(may).count()
        };
        assert_eq!(shortened(Class::Bulk, start), 2501, "the burst");
        assert_eq!(shortened(Class::Bulk, start + secs(2)), 500);
        assert_eq!(shortened(Class::Urgent, start), 10_000);
    }
}
