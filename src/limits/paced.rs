//! One rate for each of many keys, of which a replica takes its share.
//!
//! One rule: a change of the share never hands out a burst. A key that is being paced goes on from its last one, with none
//! saved: a fleet that changes often must not make it begin to wait anew each time.
//!
//! Where a share is so small that it has no burst, replicas that know their places take turns: each has its own moments on
//! the clock, so that all together are spaced as one would be alone.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::num::NonZeroU32;
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
    apart: bool,
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
            apart: false,
            paces: DashMap::new(),
        }
    }

    /// Where there are more replicas than the rate has places in its period, each begins at another time.
    pub(super) fn apart(self) -> Self {
        Self {
            apart: true,
            ..self
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
        if !self.apart || replicas <= self.rate.count {
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(count: u32) -> Rate {
        Rate {
            count: NonZeroU32::new(count).unwrap(),
            period: Duration::from_secs(1),
        }
    }

    /// Takes as soon as it can, `share(elapsed)` saying among how many, and returns when.
    async fn taken(rate: Rate, seconds: u64, share: impl Fn(Duration) -> u32) -> Vec<Duration> {
        taken_of(&Paced::new(rate), seconds, share).await
    }

    async fn taken_of(
        paced: &Paced<()>,
        seconds: u64,
        share: impl Fn(Duration) -> u32,
    ) -> Vec<Duration> {
        let start = Instant::now();
        let mut taken = Vec::new();
        while start.elapsed() < Duration::from_secs(seconds) {
            let replicas = NonZeroU32::new(share(start.elapsed())).unwrap();
            match paced.take((), Share::of(replicas), Class::Bulk) {
                Ok(()) => taken.push(start.elapsed()),
                Err(wait) => tokio::time::sleep(wait.min(Duration::from_millis(20))).await,
            }
        }
        taken
    }

    fn most_in_a_second(taken: &[Duration]) -> usize {
        let within = |from: &Duration| {
            let until = *from + Duration::from_secs(1);
            taken
                .iter()
                .filter(|&&at| *from <= at && at < until)
                .count()
        };
        taken.iter().map(within).max().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn share_of_four_replicas_is_a_quarter_of_the_rate() {
        let taken = taken(rate(20), 10, |_| 4).await;
        assert!((49..=51).contains(&taken.len()), "{}", taken.len());
        assert!(
            most_in_a_second(&taken) <= 6,
            "{}",
            most_in_a_second(&taken)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn replicas_that_are_more_than_the_rate_do_not_go_together() {
        let replicas: Vec<_> = (0..40).map(|_| Paced::new(rate(5)).apart()).collect();
        let start = Instant::now();
        let mut taken = Vec::new();
        while start.elapsed() < Duration::from_secs(120) {
            // One more is there for a while.
            let fleet = if start.elapsed() < Duration::from_secs(40) {
                41
            } else {
                40
            };
            let fleet = Share::of(NonZeroU32::new(fleet).unwrap());
            let goes = |paced: &&Paced<()>| paced.take((), fleet, Class::Bulk).is_ok();
            let at_once = replicas.iter().filter(goes).count();
            taken.extend(std::iter::repeat_n(start.elapsed(), at_once));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!((520..=600).contains(&taken.len()), "{}", taken.len());
        let most = most_in_a_second(&taken);
        assert!(
            most <= 20,
            "{most} of a limit of 5, where all together were 40"
        );
    }

    /// Replicas that all have a place, and find each turn up to six milliseconds late; when each took one.
    async fn in_turn(rate: Rate, replicas: u32, seconds: u64, shift: Duration) -> Vec<Duration> {
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let mut all = tokio::task::JoinSet::new();
        for place in 0..replicas {
            all.spawn(async move {
                let paced = Paced::new(rate).apart();
                let clock = (start, Duration::from_secs(1_700_000_000) + shift);
                let share = Share {
                    replicas: NonZeroU32::new(replicas).unwrap(),
                    seat: Some(Seat { place, clock }),
                };
                let mut taken = Vec::new();
                while Instant::now() < end {
                    let Err(wait) = paced.take("a key", share, Class::Bulk) else {
                        taken.push(start.elapsed());
                        continue;
                    };
                    let late = Duration::from_micros(rand::random_range(0..6_000));
                    tokio::time::sleep(wait + late).await;
                }
                taken
            });
        }
        let mut taken: Vec<_> = all.join_all().await.into_iter().flatten().collect();
        taken.sort();
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn replicas_that_know_their_places_are_together_as_even_as_one() {
        for (count, replicas) in [(10, 3), (10, 4), (20, 3), (20, 7), (5, 4), (7, 12)] {
            for shift in [0, 123_456_789, 999_999_999] {
                let taken = in_turn(rate(count), replicas, 60, Duration::from_nanos(shift)).await;
                let settled: Vec<_> = taken
                    .iter()
                    .copied()
                    .filter(|at| *at > Duration::from_secs(3))
                    .collect();
                let (most, count) = (most_in_a_second(&settled), count as usize);
                assert!(most <= count + 1, "{most} of {count} with {replicas}");
                let least = count * 57 - replicas as usize;
                assert!(settled.len() >= least, "{} of {least}", settled.len());
                let begun = most_in_a_second(&taken);
                assert!(begun <= count + replicas as usize, "{begun} of {count}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn key_that_was_quiet_waits_for_no_turn_and_then_gets_back_to_its_own() {
        let share = Share {
            replicas: NonZeroU32::new(2).unwrap(),
            seat: Some(Seat {
                place: 0,
                clock: (Instant::now(), Duration::ZERO),
            }),
        };
        let paced = Paced::new(rate(1));
        let offset = part_of(Duration::from_secs(2), &"key");
        // In the middle between two turns.
        tokio::time::advance(offset + Duration::from_secs(11)).await;
        assert_eq!(paced.take("key", share, Class::Bulk), Ok(()));
        let wait = Err(Duration::from_secs(3));
        assert_eq!(paced.take("key", share, Class::Bulk), wait);
        // A little late.
        tokio::time::advance(Duration::from_millis(3_100)).await;
        assert_eq!(paced.take("key", share, Class::Bulk), Ok(()));
        let wait = Err(Duration::from_millis(1_900));
        assert_eq!(paced.take("key", share, Class::Bulk), wait);
        assert_eq!(paced.due_in(&"key"), Duration::from_millis(1_900));
        // Nobody knows its place any more.
        let without = Share::of(share.replicas);
        let wait = Err(Duration::from_secs(2));
        assert_eq!(paced.take("key", without, Class::Bulk), wait);
    }

    #[tokio::test(start_paused = true)]
    async fn shares_that_change_each_second_hand_out_no_burst() {
        let taken = taken(rate(100), 20, |elapsed| {
            if elapsed.as_secs() % 2 == 0 { 1 } else { 2 }
        })
        .await;
        assert!(
            most_in_a_second(&taken) <= 110,
            "{}",
            most_in_a_second(&taken)
        );
        assert!((1400..=1520).contains(&taken.len()), "{}", taken.len());
    }

    #[tokio::test(start_paused = true)]
    async fn fleet_that_changes_all_the_time_does_not_keep_a_slow_rate_from_being_used() {
        // The last one begins with a burst of five.
        for (count, period, fewer, least, spacing) in [
            (6, 60, 4, 20, 40),
            (6, 60, 6, 12, 60),
            (1000, 3600, 20, 12, 0),
        ] {
            let slow = Rate {
                count: NonZeroU32::new(count).unwrap(),
                period: Duration::from_secs(period),
            };
            let paced = Paced::new(slow).apart();
            // They are so many or one more, each for twenty seconds.
            let share = |elapsed: Duration| fewer + u32::from(elapsed.as_secs() % 40 < 20);
            let taken = taken_of(&paced, 1000, share).await;
            let many = taken.len();
            assert!((least..=25).contains(&many), "{fewer} of {count}: {many}");
            let gaps = taken.windows(2).map(|two| two[1] - two[0]);
            let apart = gaps.min().unwrap();
            assert!(apart >= Duration::from_secs(spacing), "{apart:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn next_one_is_due_when_it_can_be_taken() {
        let clock = (Instant::now(), Duration::from_secs(1_700_000_000));
        let seat = |place| Some(Seat { place, clock });
        // Calls a second, replicas, and the place among them.
        for (count, replicas, seat) in [
            (2, 1, None),
            (2, 1, seat(0)),
            (50, 1, seat(0)),
            (50, 2, None),
            (2, 3, seat(1)),
        ] {
            let paced = Paced::new(rate(count));
            let replicas = NonZeroU32::new(replicas).unwrap();
            let share = Share { replicas, seat };
            assert_eq!(paced.due_in(&()), Duration::ZERO);
            for number in 0..50 {
                assert_eq!(paced.take((), share, Class::Bulk), Ok(()), "{number}");
                let due = paced.due_in(&());
                if due.is_zero() {
                    assert!(burst(rate(count), replicas).get() > 1);
                    continue;
                }
                let nanosecond = Duration::from_nanos(1);
                tokio::time::advance(due - nanosecond).await;
                assert!(paced.take((), share, Class::Bulk).is_err(), "{number}");
                tokio::time::advance(nanosecond).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn places_that_change_all_the_time_do_not_keep_a_slow_rate_from_being_used() {
        let slow = Rate {
            count: NonZeroU32::new(6).unwrap(),
            period: Duration::from_secs(60),
        };
        let start = Instant::now();
        for every in [5, 20, 60] {
            let (paced, begun) = (Paced::new(slow).apart(), Instant::now());
            let mut taken = Vec::new();
            while begun.elapsed() < Duration::from_secs(2000) {
                // Of four, then of five, and now and then without a place; the clock is read again all the time.
                let number = u32::try_from(begun.elapsed().as_secs() / every).unwrap();
                let now = Instant::now();
                let read = now - start + Duration::from_nanos(rand::random_range(0..2_000));
                let seat = Seat {
                    place: number % 3,
                    clock: (now, Duration::from_secs(1_700_000_000) + read),
                };
                let share = Share {
                    replicas: NonZeroU32::new(4 + number % 2).unwrap(),
                    seat: (number % 5 > 1).then_some(seat),
                };
                match paced.take("a key", share, Class::Bulk) {
                    Ok(()) => taken.push(begun.elapsed()),
                    Err(wait) => tokio::time::sleep(wait.min(Duration::from_millis(500))).await,
                }
            }
            // Forty to fifty would be the best.
            let many = taken.len();
            assert!((28..=52).contains(&many), "every {every} s: {many}");
            let gaps = taken.windows(2).map(|two| two[1] - two[0]);
            let apart = gaps.min().unwrap();
            assert!(
                apart >= Duration::from_secs(30),
                "every {every} s: {apart:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_key_is_forgotten_and_a_busy_one_is_not() {
        let paced = Paced::new(rate(1));
        let alone = Share::of(NonZeroU32::MIN);
        paced.take("quiet", alone, Class::Bulk).unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        paced.forget_the_quiet();
        assert_eq!(paced.asked(Duration::from_secs(61)), 1);
        tokio::time::advance(KNOWN_FOR).await;
        paced.take("busy", alone, Class::Bulk).unwrap();
        paced.forget_the_quiet();
        assert!(!paced.paces.contains_key("quiet"));
        assert!(paced.take("busy", alone, Class::Bulk).is_err());
    }

    proptest! {
        #[test]
        fn bursts_of_all_replicas_together_are_at_most_a_tenth_or_one_each(
            count in 1u32..10_000,
            replicas in 1u32..100,
        ) {
            let of_one = burst(rate(count), NonZeroU32::new(replicas).unwrap()).get();
            prop_assert!((of_one - 1) * replicas <= count.div_ceil(10), "{of_one}");
        }
    }
}
