//! Who may go on now: so many attempts of one GSTIN at once, and one attempt of one document.
//!
//! One rule: nobody waits here for long, and few of a GSTIN wait at all: a slot that waits is one that another GSTIN
//! does not have. Everybody else is the ladder's.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::limits::Slots;
use crate::retry::Ladder;

/// How long a job may wait in its lane while it holds its delivery.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long any number of a GSTIN's jobs may wait: in a lane that moves so quickly, a slot is soon another GSTIN's.
const QUICK: Duration = Duration::from_millis(200);

/// A lane that hangs may be quick again at any moment: its jobs come back at no less than this part of its rate, or
/// so often if that is more rarely.
const HANGING_PART: u32 = 4;
const HANGING_SPACING: Duration = Duration::from_millis(50);

/// The newest turn's part in the usual length of one.
const WEIGHT: u32 = 4;

/// All lanes of this process.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Attempts of one GSTIN at once.
    concurrency: u32,
    slots: Arc<Slots>,
    /// The ladder's last rung.
    longest: Duration,
    lanes: DashMap<Gstin, Arc<Lane>>,
    documents: Arc<Documents>,
}

/// Documents with a turn (`None`), or whose last turn ended in doubt and that stay taken until then.
type Documents = DashMap<Irn, Option<Instant>>;

#[derive(Debug)]
struct Lane {
    permits: Arc<Semaphore>,
    waiting: AtomicU32,
    course: Mutex<Course>,
}

/// How a lane gets on.
#[derive(Debug)]
struct Course {
    /// How long a turn takes: a moving average.
    turn: Duration,
    /// When one last began or ended.
    moved: Instant,
    /// When the last of those that were deferred for the first time is due. They come half as fast again as the lane
    /// takes them: its share may grow while they are away, and a lane without work is worse than a job that is put
    /// back once more.
    filled_until: Instant,
    /// The same of those that came back and found the lane full.
    filled_again: Instant,
}

/// The right to work on one document now; ends when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    documents: Arc<Documents>,
    irn: Irn,
    place: Option<Place>,
    settled_at: Option<Instant>,
}

/// One of a lane's places; its length counts when it is given back.
#[derive(Debug)]
struct Place {
    lane: Arc<Lane>,
    began: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    /// It ends in doubt: the portal may still be at work on the document. A twin that looked now would find nothing
    /// and take that for proof, so it gets no turn before the doubt can be settled.
    pub(super) fn ends_in_doubt(&mut self, settle_time: Duration) {
        self.settled_at = Some(Instant::now() + settle_time);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.place.take());
        match self.settled_at {
            Some(_) => drop(self.documents.insert(self.irn, self.settled_at)),
            None => drop(self.documents.remove(&self.irn)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.course().ended(self.began);
    }
}

/// Why a job does not get its turn now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// The lane is full.
    Full,
    /// The same document is being worked on: a twin message, or the same one handed out again.
    Twin,
}

impl Lanes {
    /// Lanes of so many attempts at once each, among these slots.
    pub(super) fn new(slots: Arc<Slots>, concurrency: usize, ladder: &Ladder) -> Self {
        Self {
            concurrency: number(concurrency).max(1),
            slots,
            longest: ladder.at_least(Duration::MAX).delay,
            lanes: DashMap::new(),
            documents: Arc::new(DashMap::new()),
        }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self, gstin: &Gstin, irn: Irn) -> Result<Turn, NoTurn> {
        match self.documents.entry(irn) {
            Entry::Occupied(mut taken) if is_settled(*taken.get()) => drop(taken.insert(None)),
            Entry::Occupied(_) => return Err(NoTurn::Twin),
            Entry::Vacant(free) => drop(free.insert(None)),
        }
        // From here on the document is released by the turn's drop, whatever happens.
        let mut turn = Turn {
            documents: Arc::clone(&self.documents),
            irn,
            place: None,
            settled_at: None,
        };
        let lane = self.lane(gstin);
        let permit = self.permit(&lane).await.ok_or(NoTurn::Full)?;
        let began = Instant::now();
        lane.course().moved = began;
        turn.place = Some(Place {
            lane,
            began,
            _permit: permit,
        });
        Ok(turn)
    }

    /// In how long a job that cannot go on now, for a full lane, its GSTIN's rate or login, had best come back: one after
    /// the other, a little faster than the lane can take them, and not all together. `spacing` is the time between two
    /// calls at the GSTIN's rate. One that comes `again` has waited and is not put behind all others.
    pub(super) fn defer(&self, gstin: &Gstin, spacing: Duration, again: bool) -> Duration {
        let lane = self.lane(gstin);
        let mut course = lane.course();
        let hanging = HANGING_SPACING.max(spacing.saturating_mul(HANGING_PART));
        let spacing = spacing.max(course.pace(self.concurrency).min(hanging));
        // Those that wait go first.
        let soonest = spacing.saturating_mul(self.waiters() + 1).min(PATIENCE);
        if again {
            next_return(&mut course.filled_again, soonest, spacing, self.longest)
        } else {
            let spacing = spacing * 2 / 3;
            next_return(&mut course.filled_until, soonest, spacing, self.longest)
        }
    }

    /// How many of this GSTIN's jobs are being worked on, and how many wait for their turn, each in a slot.
    pub(super) fn held(&self, gstin: &Gstin) -> (usize, usize) {
        let Some(lane) = self.lanes.get(gstin).map(|lane| Arc::clone(&lane)) else {
            return (0, 0);
        };
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let (in_flight, waiting) = self.held_in(&lane);
        (count(in_flight), count(waiting))
    }

    /// Forgets documents whose doubt is old enough to be settled, and lanes that nobody is in or comes back to. To be
    /// called now and then: most come back to another worker.
    pub(super) fn tidy(&self) {
        self.documents.retain(|_, taken| !is_settled(*taken));
        // Whoever holds the lane got it under the lock that is held here.
        self.lanes
            .retain(|_, lane| Arc::strong_count(lane) > 1 || lane.course().is_awaited());
    }

    fn lane(&self, gstin: &Gstin) -> Arc<Lane> {
        if let Some(lane) = self.lanes.get(gstin) {
            return Arc::clone(&lane);
        }
        let fresh = || {
            Arc::new(Lane {
                permits: Arc::new(Semaphore::new(
                    usize::try_from(self.concurrency).unwrap_or(usize::MAX),
                )),
                waiting: AtomicU32::new(0),
                course: Mutex::new(Course::new(Instant::now())),
            })
        };
        Arc::clone(&self.lanes.entry(*gstin).or_insert_with(fresh))
    }

    /// How many of a lane's jobs are being worked on, and how many wait.
    fn held_in(&self, lane: &Lane) -> (u32, u32) {
        let free = number(lane.permits.available_permits());
        let in_flight = self.concurrency.saturating_sub(free);
        (in_flight, lane.waiting.load(Ordering::Relaxed))
    }

    /// How many of a GSTIN's jobs may wait for long, each in a slot.
    fn waiters(&self) -> u32 {
        waiters(number(self.slots.limit()), self.concurrency)
    }

    /// Whether a lane has its share already, while the slots are fewer than configured: then one GSTIN gets half of
    /// those there are, and nobody waits a moment in a slot beyond that.
    fn has_its_share(&self, lane: &Lane) -> bool {
        let slots = self.slots.limit();
        let (in_flight, waiting) = self.held_in(lane);
        slots < self.slots.cap() && in_flight + waiting > number(slots / 2).max(1)
    }

    async fn permit(&self, lane: &Lane) -> Option<OwnedSemaphorePermit> {
        // Counted before the look, so that two who come together see each other.
        let ahead = Waiting::join(&lane.waiting);
        if self.has_its_share(lane) {
            self.slots.found_full();
            return None;
        }
        if let Ok(permit) = Arc::clone(&lane.permits).try_acquire_owned() {
            return Some(permit);
        }
        let pace = lane.course().pace(self.concurrency);
        let patience = if ahead.position <= self.waiters() {
            PATIENCE
        } else {
            QUICK
        };
        if pace.saturating_mul(ahead.position) > patience {
            return None;
        }
        let waited = tokio::time::timeout(patience, Arc::clone(&lane.permits).acquire_owned());
        // The semaphore is never closed.
        waited.await.ok()?.ok()
    }
}

/// As many may wait as are worked on, but with those together no more than half of the slots where that is possible:
/// a GSTIN's jobs that wait must not keep the others' out.
fn waiters(slots: u32, concurrency: u32) -> u32 {
    (slots / 2)
        .saturating_sub(concurrency)
        .clamp(1, concurrency)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn is_settled(taken: Option<Instant>) -> bool {
    taken.is_some_and(|until| until <= Instant::now())
}

impl Lane {
    /// Held for a few instructions, never across a wait.
    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Course {
    fn new(now: Instant) -> Self {
        Self {
            turn: Duration::ZERO,
            moved: now,
            filled_until: now,
            filled_again: now,
        }
    }

    fn ended(&mut self, began: Instant) {
        let length = began.elapsed();
        self.turn = (self.turn * (WEIGHT - 1) + length) / WEIGHT;
        self.moved = Instant::now();
    }

    /// The time between two turns of a full lane, by what they took, waits for the rate included. Those that run now
    /// have lasted since the last one began or ended, at least.
    fn pace(&self, concurrency: u32) -> Duration {
        self.turn.max(self.moved.elapsed()) / concurrency
    }

    /// Whether some that were deferred are still to come back.
    fn is_awaited(&self) -> bool {
        self.filled_until.max(self.filled_again) > Instant::now()
    }
}

/// In how long one more job is due, after all that were deferred before it.
fn next_return(
    filled_until: &mut Instant,
    soonest: Duration,
    spacing: Duration,
    longest: Duration,
) -> Duration {
    let now = Instant::now();
    let due = (*filled_until).max(now + soonest).min(now + longest);
    *filled_until = due + spacing;
    due - now
}

/// A place among those that wait.
struct Waiting<'a> {
    waiting: &'a AtomicU32,
    position: u32,
}

impl<'a> Waiting<'a> {
    fn join(waiting: &'a AtomicU32) -> Self {
        let position = waiting.fetch_add(1, Ordering::Relaxed) + 1;
        Self { waiting, position }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rung;
    use crate::outcome::PortalSign;

    const SPACING: Duration = Duration::from_millis(100);

    fn irn(n: u32) -> Irn {
        format!("{n:064x}").parse().unwrap()
    }

    fn lanes(slots: usize, concurrency: usize) -> Lanes {
        lanes_among(Slots::new(slots, PATIENCE), concurrency)
    }

    fn lanes_among(slots: Arc<Slots>, concurrency: usize) -> Lanes {
        let rung = |seconds: u64| Rung {
            name: format!("{seconds}s"),
            delay: Duration::from_secs(seconds),
        };
        let rungs = [15, 60, 300].map(rung).to_vec();
        Lanes::new(slots, concurrency, &Ladder::try_new(rungs).unwrap())
    }

    fn gstin() -> Gstin {
        "29AAGCE4783K1Z1".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_has_one_turn_at_a_time() {
        let lanes = lanes(64, 8);
        let first = lanes.turn(&gstin(), irn(1)).await.unwrap();
        assert_eq!(
            lanes.turn(&gstin(), irn(1)).await.unwrap_err(),
            NoTurn::Twin
        );
        drop(first);
        assert!(lanes.turn(&gstin(), irn(1)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_left_in_doubt_has_no_turn_before_that_can_be_settled() {
        let lanes = lanes(64, 8);
        let settle_time = Duration::from_secs(30);
        let mut first = lanes.turn(&gstin(), irn(1)).await.unwrap();
        first.ends_in_doubt(settle_time);
        drop(first);
        lanes.tidy();
        let twin = lanes.turn(&gstin(), irn(1)).await;
        assert_eq!(twin.unwrap_err(), NoTurn::Twin);
        tokio::time::sleep(settle_time).await;
        assert!(lanes.turn(&gstin(), irn(1)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_makes_one_wait_then_defers_and_leaves_other_lanes_alone() {
        let lanes = lanes(64, 1);
        let held = lanes.turn(&gstin(), irn(1)).await.unwrap();
        let start = Instant::now();
        assert!(matches!(
            lanes.turn(&gstin(), irn(2)).await,
            Err(NoTurn::Full)
        ));
        assert_eq!(start.elapsed(), PATIENCE);
        assert!(
            lanes
                .turn(&"27AABCT9421M1ZY".parse().unwrap(), irn(3))
                .await
                .is_ok()
        );
        drop(held);
        assert!(
            lanes.turn(&gstin(), irn(2)).await.is_ok(),
            "the deferred document is free again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn few_jobs_wait_in_slots_and_the_others_are_deferred_in_a_moment() {
        let lanes = lanes(64, 8);
        let start = Instant::now();
        let (lanes, gstin) = (&lanes, gstin());
        let turns = (0..64).map(|n| lanes.turn(&gstin, irn(n)));
        let mut turns = futures_util::future::join_all(turns);
        let ended = tokio::time::timeout(PATIENCE / 2, &mut turns).await;
        assert!(ended.is_err(), "eight of them wait");
        assert_eq!(lanes.held(&gstin), (8, 8));
        let granted = turns.await.iter().filter(|turn| turn.is_ok()).count();
        assert_eq!((granted, start.elapsed()), (8, PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn gstin_holds_no_more_than_half_of_the_slots_that_are_left() {
        let slots = Slots::new(64, PATIENCE);
        let lanes = lanes_among(Arc::clone(&slots), 8);
        let throttled = PortalSign::Throttled { retry_after: None };
        let mut held = Vec::new();
        for expected in [8, 4, 1] {
            while slots.limit() / 2 > expected {
                tokio::time::advance(Duration::from_secs(1)).await;
                slots.observe(Duration::ZERO, throttled, &gstin());
            }
            for n in 0..9 {
                let turn = tokio::time::timeout(QUICK, lanes.turn(&gstin(), irn(n))).await;
                held.extend(turn.ok().and_then(Result::ok));
            }
            let share = (slots.limit() / 2).clamp(1, 8);
            assert_eq!(held.len(), share, "of {}", slots.limit());
            held.clear();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn quick_lane_makes_any_number_wait_a_moment_and_defers_nobody() {
        let lanes = lanes(64, 8);
        let lanes = &lanes;
        let jobs = (0..1000).map(|n| async move {
            let turn = lanes.turn(&gstin(), irn(n)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            turn.map(drop)
        });
        let ended = futures_util::future::join_all(jobs).await;
        assert!(ended.iter().all(Result::is_ok));
    }

    #[tokio::test(start_paused = true)]
    async fn deferred_jobs_come_back_one_by_one_at_the_rate_and_none_after_the_last_rung() {
        let lanes = lanes(64, 1);
        let waits: Vec<_> = (0..4000)
            .map(|_| lanes.defer(&gstin(), SPACING, true))
            .collect();
        assert_eq!(waits[0], SPACING * 2);
        let apart = |pair: &[Duration]| pair[1] == pair[0] + SPACING;
        assert!(waits[..2999].windows(2).all(apart), "{waits:?}");
        assert_eq!(waits.last(), Some(&Duration::from_secs(300)));
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert!(
            lanes.defer(&gstin(), SPACING, true) <= PATIENCE,
            "all of them are back"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_of_a_lane_that_hangs_come_back_by_its_latency_but_never_give_it_up() {
        let lanes = lanes(64, 2);
        let apart = |spacing: Duration| {
            let first = lanes.defer(&gstin(), spacing, true);
            lanes.defer(&gstin(), spacing, true) - first
        };
        for n in 0..20 {
            let turn = lanes.turn(&gstin(), irn(n)).await.unwrap();
            tokio::time::advance(Duration::from_millis(500)).await;
            drop(turn);
        }
        let quarter = |exact: Duration| (exact * 99 / 100..=exact).contains(&apart(SPACING));
        assert!(quarter(Duration::from_millis(250)), "{:?}", apart(SPACING));
        let turn = lanes.turn(&gstin(), irn(0)).await.unwrap();
        tokio::time::advance(Duration::from_secs(30)).await;
        drop(turn);
        assert_eq!(apart(SPACING), SPACING * HANGING_PART);
        assert_eq!(apart(Duration::ZERO), HANGING_SPACING);
    }

    #[tokio::test(start_paused = true)]
    async fn lane_that_hangs_for_the_first_time_is_noticed_while_it_does() {
        let lanes = lanes(64, 1);
        let _hanging = lanes.turn(&gstin(), irn(0)).await.unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        let start = Instant::now();
        let next = lanes.turn(&gstin(), irn(1)).await;
        assert!(matches!(next, Err(NoTurn::Full)));
        assert_eq!(start.elapsed(), Duration::ZERO, "nobody waits behind it");
    }

    #[tokio::test(start_paused = true)]
    async fn lane_is_forgotten_when_nobody_is_in_it_and_nobody_comes_back() {
        let lanes = lanes(64, 1);
        let turn = lanes.turn(&gstin(), irn(0)).await.unwrap();
        lanes.tidy();
        assert_eq!(lanes.lanes.len(), 1);
        lanes.defer(&gstin(), SPACING, true);
        drop(turn);
        lanes.tidy();
        assert_eq!(lanes.lanes.len(), 1);
        tokio::time::advance(Duration::from_secs(20)).await;
        lanes.tidy();
        assert_eq!(lanes.lanes.len(), 0);
    }

    #[test]
    fn one_gstin_waits_in_at_most_half_of_the_slots_with_what_it_works_on() {
        for (slots, concurrency, expected) in
            [(64, 8, 8), (64, 24, 8), (64, 64, 1), (16, 4, 4), (1, 1, 1)]
        {
            assert_eq!(
                waiters(slots, concurrency),
                expected,
                "{slots} {concurrency}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn first_returns_come_half_as_fast_again_and_who_comes_again_is_not_put_behind_them() {
        let lanes = lanes(64, 1);
        let first: Vec<_> = (0..301)
            .map(|_| lanes.defer(&gstin(), SPACING, false))
            .collect();
        let taken = (first[300] - first[0]).as_millis();
        assert!((19_990..=20_000).contains(&taken), "{taken} ms");
        assert_eq!(lanes.defer(&gstin(), SPACING, true), SPACING * 2);
    }
}
