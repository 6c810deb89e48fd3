//! How a lane gets on, and when those that it cannot take come back.
//!
//! One rule: those that leave for the first time come back in the order in which they left. A rung lets a message go only
//! when all before it have gone, so what overtook there would not overtake but pile up.

use std::time::Duration;

use tokio::time::Instant;

use super::PATIENCE;
use super::rungs::Rungs;
use crate::job::Class;

/// A lane that hangs may be quick again at any moment: its jobs come back at no less than this part of its rate, or
/// so often if that is more rarely.
pub(super) const HANGING_PART: u32 = 4;
pub(super) const HANGING_SPACING: Duration = Duration::from_millis(50);

/// The newest turn's part in the usual length of one.
const WEIGHT: u32 = 4;

/// One that comes back and finds the lane full is put before the others, as long as those before it need no longer.
const AGAIN_WITHIN: Duration = Duration::from_secs(30);

/// What does not fit onto the ladder at the lane's pace comes back more densely, up to so many a second at the
/// beginning of the ladder and more towards its end.
const DENSER: u32 = 10;

/// The first part of the ladder, in which nothing comes more densely than the lane takes it.
const LOOSE_PART: u32 = 8;

/// So densely at most: each that comes back too early costs the broker a message.
const DENSEST: Duration = Duration::from_millis(4);

/// Where it is known how many are still to come, they decide, however short the ladder is; and so densely at most.
const DENSEST_KNOWN: Duration = Duration::from_millis(1);

/// One that takes a shorter rung than was planned for it leaves its time to others. But it comes back, and may have to be
/// put behind them then: this part of the time that it would have taken stays free for that.
const KEPT_PART: u32 = 12;

/// How a lane gets on.
#[derive(Debug)]
pub(super) struct Course {
    /// How long a turn takes: a moving average.
    turn: Duration,
    /// When one last began or ended.
    moved: Instant,
    urgent: Returns,
    bulk: Returns,
}

impl Course {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            turn: Duration::ZERO,
            moved: now,
            urgent: Returns::new(now),
            bulk: Returns::new(now),
        }
    }

    /// A turn begins.
    pub(super) fn began(&mut self, now: Instant) {
        self.moved = now;
    }

    /// A turn that began then has ended.
    pub(super) fn ended(&mut self, began: Instant, now: Instant) {
        let length = now.saturating_duration_since(began);
        self.turn = (self.turn * (WEIGHT - 1) + length) / WEIGHT;
        self.moved = now;
    }

    /// The time between two turns of a full lane, by what they took, waits for the rate included. Those that run now
    /// have lasted since the last one began or ended, at least.
    pub(super) fn pace(&self, places: u32, now: Instant) -> Duration {
        self.turn.max(now.saturating_duration_since(self.moved)) / places.max(1)
    }

    /// In how long one more that cannot go on now had best come back.
    pub(super) fn next_return(&mut self, wish: &Return, rungs: &Rungs, now: Instant) -> Duration {
        let returns = match wish.class {
            Class::Urgent => &mut self.urgent,
            Class::Bulk => &mut self.bulk,
        };
        let before = returns.until.max(now);
        let wait = returns.next(wish, rungs.longest(), now);
        let Some(shorter) = rungs.shorter(wait, wish, now) else {
            return wait;
        };
        let taken = returns.until.saturating_duration_since(before);
        returns.until = before + taken / KEPT_PART;
        shorter
    }

    /// Whether some that were deferred are still to come back.
    pub(super) fn is_awaited(&self, now: Instant) -> bool {
        [&self.urgent, &self.bulk]
            .iter()
            .any(|returns| returns.until.max(returns.again) > now)
    }
}

/// One that has to come back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Return {
    pub(super) class: Class,
    /// It has come back before.
    pub(super) again: bool,
    /// The time between two that the lane takes.
    pub(super) spacing: Duration,
    /// How many wait in the lane and go first.
    pub(super) waiting: u32,
    /// How many are still in the queue, if that is known, of this lane or of others.
    pub(super) queue: Option<u32>,
    /// Among how many replicas they will be shared.
    pub(super) replicas: u32,
    /// It has to wait for so long in any case.
    pub(super) at_least: Duration,
}

/// When the last ones are due.
#[derive(Debug)]
struct Returns {
    /// They come half as fast again as the lane takes them: its share may grow while they are away, and a lane without
    /// work is worse than a job that is put back once more.
    until: Instant,
    /// Of those that came back and found the lane full.
    again: Instant,
}

impl Returns {
    fn new(now: Instant) -> Self {
        Self {
            until: now,
            again: now,
        }
    }

    fn next(&mut self, wish: &Return, longest: Duration, now: Instant) -> Duration {
        let Return { again, spacing, .. } = *wish;
        let soonest = now + spacing.saturating_mul(wish.waiting + 1).min(PATIENCE);
        let due = self.again.max(soonest);
        if again && due <= now + AGAIN_WITHIN.min(longest) {
            self.again = due + spacing;
            return due - now;
        }
        let due = self.until.max(soonest).min(now + longest);
        self.until = due + densely(spacing * 2 / 3, due - now, longest, wish);
        due - now
    }
}

/// The time between two that come back so far `ahead`. The nearer the end of the ladder, the less, and so little that all
/// that are still to come have room on it: so it takes any number, and those that come back too early go to its end once
/// more, few at any moment.
fn densely(spacing: Duration, ahead: Duration, longest: Duration, wish: &Return) -> Duration {
    if ahead < longest / LOOSE_PART {
        return spacing;
    }
    let left = longest.saturating_sub(ahead);
    let part_left = left.as_secs_f64() / longest.as_secs_f64();
    let dense = Duration::from_secs(1).mul_f64(part_left) / DENSER;
    let by_length = spacing.min(dense.max(DENSEST));
    match wish.queue {
        Some(queue) if queue > 0 => {
            let room = left * wish.replicas / queue;
            by_length.min(room.max(DENSEST_KNOWN))
        }
        Some(_) | None => by_length,
    }
}

#[cfg(test)]
mod tests;
