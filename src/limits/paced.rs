//! One rate for each of many keys, of which a replica takes its share.
//!
//! One rule: a change of the share never hands out a burst. A key that is being paced goes on from its last one, with none
//! saved: a fleet that changes often must not make it begin to wait anew each time.
//!
//! Where a share is so small that it has no burst, replicas that know their places take turns: each has its own moments on
//! the clock, so that all together are spaced as one would be alone.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::clock::{Moment, TokioClock};
use super::line::Turns;
use super::share::{Seat, Share};
use crate::config::Rate;
use crate::job::Class;

/// So long it is known that a key was asked for, however soon it would count as new.
const KNOWN_FOR: Duration = Duration::from_secs(120);

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>;

/// Limiters of one rate.
#[derive(Debug)]
pub(super) struct Paced<K: Eq + Hash> {
    rate: Rate,
    /// Whether replicas that take turns begin at different times.
    apart: AtomicBool,
    paces: DashMap<K, Pace>,
}

#[derive(Debug)]
struct Pace {
    /// The share that the limiter holds.
    share: Share,
    limiter: Limiter,
    /// None is taken before. Replicas that take turns of more than a period each would all go together, and go on so; and
    /// where they have places, each waits for its own.
    begins: Instant,
    /// It began, or went on, at a time of its own.
    is_apart: bool,
    /// When the next one is taken stays as it is: a share that changes often must not move it on and on.
    is_fixed: bool,
    /// When the last one was taken.
    taken: Option<Instant>,
    /// What the limiter has let go is paid for until then: its theoretical arrival time, which it does not tell.
    paid_until: Instant,
    asked: Instant,
    turns: Turns,
    /// Urgent ones that wait for the next.
    urgent: u32,
}

impl Pace {
    /// From now on it is shared among so many. Replicas that took turns at the same moments and are now too many for that
    /// get apart by this delay, once.
    fn share_anew(&mut self, rate: Rate, share: Share, delay: Duration) {
        let replicas = share.replicas;
        let (spacing, now) = (spacing(rate, replicas), Instant::now());
        self.share = share;
        self.is_fixed = true;
        self.limiter = without_burst(limiter(rate, replicas), burst(rate, replicas));
        self.paid_until = now + spacing * (burst(rate, replicas).get() - 1);
        let next = self.taken.map_or(now, |taken| taken + spacing);
        // One that was to begin later has not begun yet.
        self.begins = next.max(self.begins.min(now + spacing));
        if !self.is_apart && !delay.is_zero() {
            self.is_apart = true;
            self.begins = self.begins.max(now) + delay;
        }
    }

    /// In how long one may be taken, as far as the limiter has no say. Whoever has to wait waits for its turn: only as long
    /// as nobody does, one goes when it comes.
    fn begins_in(&mut self, turns: Option<Places>) -> Duration {
        let now = Instant::now();
        if let Some(turns) = turns.filter(|_| self.begins > now && !self.is_fixed) {
            self.begins = turns.first_from(self.begins);
            self.is_fixed = true;
        }
        self.begins.saturating_duration_since(now)
    }
}

/// An urgent one waits: the next of its key is not for others, as long as this lives.
#[derive(Debug)]
pub(super) struct Ahead<'p, K: Eq + Hash> {
    paced: &'p Paced<K>,
    key: K,
}

impl<K: Eq + Hash> Drop for Ahead<'_, K> {
    fn drop(&mut self) {
        if let Some(mut pace) = self.paced.paces.get_mut(&self.key) {
            pace.urgent = pace.urgent.saturating_sub(1);
        }
    }
}

impl<K: Eq + Hash> Paced<K> {
    /// Everybody may begin.
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            apart: AtomicBool::new(false),
            paces: DashMap::new(),
        }
    }

    /// Where there are more replicas than the rate has places in its period, each begins at another time.
    pub(super) fn apart(self) -> Self {
        self.begin_apart(true);
        self
    }

    /// From now on that is so, or no longer: then nobody waits any more for what it was to begin with.
    pub(super) fn begin_apart(&self, apart: bool) {
        if self.apart.swap(apart, Ordering::Relaxed) && !apart {
            self.paces.retain(|_, pace| pace.taken.is_some());
        }
    }

    /// Takes one of this key now, or says how long there will be none.
    pub(super) fn take(&self, key: K, share: Share, class: Class) -> Result<(), Duration> {
        let replicas = share.replicas;
        let turns = Places::of(self.rate, share, &key);
        let delay = self.delay(replicas, turns);
        let fresh = || Pace {
            share,
            limiter: limiter(self.rate, replicas),
            begins: Instant::now() + delay,
            is_apart: !delay.is_zero(),
            is_fixed: false,
            taken: None,
            paid_until: Instant::now(),
            asked: Instant::now(),
            turns: Turns::default(),
            urgent: 0,
        };
        let mut pace = self.paces.entry(key).or_insert_with(fresh);
        if !pace.share.is_as(&share) {
            // Those that have turns need not get apart.
            let delay = if turns.is_some() {
                Duration::ZERO
            } else {
                delay
            };
            pace.share_anew(self.rate, share, delay);
        }
        // The clock may have been set.
        pace.share = share;
        pace.asked = Instant::now();
        let delay = pace.begins_in(turns);
        if !delay.is_zero() {
            return Err(delay);
        }
        if class == Class::Bulk && pace.urgent > 0 && pace.turns.is_urgents() {
            return Err(spacing(self.rate, replicas));
        }
        match turns {
            Some(turns) => {
                pace.begins = turns.next_after(pace.asked);
                pace.is_fixed = false;
            }
            None => {
                let taken = pace.limiter.check();
                taken.map_err(|until| until.wait_time_from(TokioClock.now()))?;
                pace.paid_until = pace.paid_until.max(pace.asked) + spacing(self.rate, replicas);
            }
        }
        pace.taken = Some(pace.asked);
        pace.turns.went(class);
        Ok(())
    }

    /// How long until the first of a key, where not all may begin at once: until it is our turn, or for a part of the time
    /// between two, by chance.
    fn delay(&self, replicas: NonZeroU32, turns: Option<Places>) -> Duration {
        if !self.apart.load(Ordering::Relaxed) || replicas <= self.rate.count {
            return Duration::ZERO;
        }
        let now = Instant::now();
        match turns {
            Some(turns) => turns.first_from(now) - now,
            None => spacing(self.rate, replicas).mul_f64(rand::random()),
        }
    }

    /// An urgent one that found none begins to wait.
    pub(super) fn wait_ahead(&self, key: K) -> Option<Ahead<'_, K>>
    where
        K: Clone,
    {
        let mut pace = self.paces.get_mut(&key)?;
        pace.urgent += 1;
        let key = key.clone();
        Some(Ahead { paced: self, key })
    }

    /// In how long one of this key can be taken, for somebody who waits for it.
    pub(super) fn due_in(&self, key: &K) -> Duration {
        let Some(mut pace) = self.paces.get_mut(key) else {
            return Duration::ZERO;
        };
        let (share, now) = (pace.share, Instant::now());
        let turns = Places::of(self.rate, share, key);
        let begins_in = pace.begins_in(turns);
        if turns.is_some() {
            return begins_in;
        }
        let saved =
            spacing(self.rate, share.replicas) * (burst(self.rate, share.replicas).get() - 1);
        let paid_for = pace.paid_until.saturating_duration_since(now);
        begins_in.max(paid_for.saturating_sub(saved))
    }

    /// The time between two of one key.
    pub(super) fn spacing(&self, replicas: NonZeroU32) -> Duration {
        spacing(self.rate, replicas)
    }

    /// How many keys were asked for within this time.
    pub(super) fn asked(&self, within: Duration) -> usize {
        let lately = |pace: &Pace| pace.asked.elapsed() <= within;
        self.paces.iter().filter(|pace| lately(pace)).count()
    }

    /// What all replicas together may take of so many keys in a second.
    pub(super) fn per_second(&self, keys: usize) -> f64 {
        let keys = f64::from(u32::try_from(keys).unwrap_or(u32::MAX));
        keys * f64::from(self.rate.count.get()) / self.rate.period.as_secs_f64()
    }

    /// Lets this key begin anew.
    pub(super) fn forget(&self, key: &K) {
        self.paces.remove(key);
    }

    /// Forgets keys that have been quiet for long enough to count as new.
    pub(super) fn forget_the_quiet(&self) {
        self.paces.retain(|_, pace| {
            let refilled = spacing(self.rate, pace.share.replicas)
                * burst(self.rate, pace.share.replicas).get();
            pace.asked.elapsed() <= refilled.max(KNOWN_FOR)
        });
        self.paces.shrink_to_fit();
    }
}

fn spacing(rate: Rate, replicas: NonZeroU32) -> Duration {
    (rate.period / rate.count.get() * replicas.get()).max(Duration::from_nanos(1))
}

/// The moments at which a replica that has a place takes one of a key.
#[derive(Clone, Copy, Debug)]
struct Places {
    seat: Seat,
    /// The time between two of them.
    spacing: Duration,
    /// How late they are, seen from the epoch.
    offset: Duration,
}

impl Places {
    /// None where replicas have no places, or take several at once.
    fn of(rate: Rate, share: Share, key: &impl Hash) -> Option<Self> {
        let seat = share.seat?;
        if share.replicas.get() == 1 || burst(rate, share.replicas).get() > 1 {
            return None;
        }
        let spacing = spacing(rate, share.replicas);
        let offset = spacing / share.replicas.get() * seat.place + part_of(spacing, key);
        Some(Self {
            seat,
            spacing,
            offset,
        })
    }

    /// The first of them that is not before `from`, or that itself, if it is hardly later than one.
    fn first_from(&self, from: Instant) -> Instant {
        let late = self.late(from);
        if self.is_in_time(late) {
            from
        } else {
            from + (self.spacing - late)
        }
    }

    /// When the next one may be taken: at the next of these moments or, after one that was taken between two of them because
    /// nobody had waited, after the usual time.
    fn next_after(&self, taken: Instant) -> Instant {
        let late = self.late(taken);
        if self.is_in_time(late) {
            taken + (self.spacing - late)
        } else {
            taken + self.spacing
        }
    }

    fn is_in_time(&self, late: Duration) -> bool {
        late <= self.spacing / LATE_BY
    }

    fn late(&self, at: Instant) -> Duration {
        self.seat.since_turn(at, self.spacing, self.offset)
    }
}

/// Timers wake late, and a processor may have others to serve first: by one part in so many of the time between two, one is
/// still taken at its moment.
const LATE_BY: u32 = 4;

/// A part of a time that is the same for a key in every replica, so that not all keys have their turns at once.
fn part_of(time: Duration, key: &impl Hash) -> Duration {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let share = (u128::from(hasher.finish()) * time.as_nanos()) >> u64::BITS;
    Duration::from_nanos(u64::try_from(share).unwrap_or_default())
}

/// A tenth of the share at most: a full bucket lets a fresh key send twice the rate in its first period, which a hard
/// limit of the portal would not forgive.
fn burst(rate: Rate, replicas: NonZeroU32) -> NonZeroU32 {
    let tenth = rate.count.get().div_ceil(replicas.get().saturating_mul(10));
    NonZeroU32::new(tenth).unwrap_or(NonZeroU32::MIN)
}

/// Evenly spaced, but for the burst.
fn limiter(rate: Rate, replicas: NonZeroU32) -> Limiter {
    let quota = Quota::with_period(spacing(rate, replicas))
        .unwrap_or_else(|| Quota::per_second(rate.count))
        .allow_burst(burst(rate, replicas));
    RateLimiter::direct_with_clock(quota, TokioClock)
}

/// With one left of its burst.
fn without_burst(limiter: Limiter, burst: NonZeroU32) -> Limiter {
    if let Some(rest) = NonZeroU32::new(burst.get() - 1) {
        // It is new, so all of the burst is there to be taken.
        drop(limiter.check_n(rest));
    }
    limiter
}

#[cfg(test)]
mod tests;
