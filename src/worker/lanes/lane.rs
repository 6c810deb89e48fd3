//! One GSTIN's lane: its places, who has one, and who stands in line for one.
//!
//! One rule: a place that becomes free goes to whoever is next in line in the same moment, the urgent before the
//! others.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::course::{Course, HANGING_PART, HANGING_SPACING, Return};
use super::rungs::Rungs;
use super::{Around, Deferred};
use crate::job::Class;
use crate::limits::{Line, Slots};

/// A login that is refused because others have used up its rate is mostly refused within this time.
const REOPENS_WITHIN: Duration = Duration::from_secs(3);

/// A number of each class.
#[derive(Debug, Default)]
pub(super) struct Counts([AtomicU32; 2]);

impl Counts {
    fn of(&self, class: Class) -> &AtomicU32 {
        match class {
            Class::Urgent => &self.0[0],
            Class::Bulk => &self.0[1],
        }
    }

    pub(super) fn get(&self, class: Class) -> u32 {
        self.of(class).load(Ordering::Relaxed)
    }

    pub(super) fn sum(&self) -> u32 {
        self.get(Class::Urgent) + self.get(Class::Bulk)
    }
}

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Common {
    /// Attempts of one GSTIN at once.
    pub(super) concurrency: u32,
    pub(super) slots: Arc<Slots>,
    /// Deliveries that the lanes have.
    pub(super) held: Counts,
    /// Lanes that have any.
    pub(super) holding: Counts,
    /// When an urgent job last came, of whichever GSTIN.
    pub(super) urgent_seen: Mutex<Option<Instant>>,
}

impl Common {
    /// A job of this class has come; returns when the last urgent one did.
    fn comes(&self, class: Class, now: Instant) -> Option<Instant> {
        let mut seen = self.urgent_seen();
        match class {
            Class::Urgent => *seen = Some(now),
            Class::Bulk => {}
        }
        *seen
    }

    fn urgent_seen(&self) -> MutexGuard<'_, Option<Instant>> {
        self.urgent_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many places a lane has. While the slots are fewer than configured, one GSTIN gets half of those there are.
    fn places(&self) -> u32 {
        let slots = self.slots.limit();
        if slots < self.slots.cap() {
            let half = u32::try_from(slots / 2).unwrap_or(u32::MAX).max(1);
            self.concurrency.min(half)
        } else {
            self.concurrency
        }
    }
}

/// Why nobody can go on in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Closed {
    /// There is no session, and no login is left: mostly not for long, and another replica may have one.
    Login,
    /// The same, and another replica has one.
    LoginElsewhere {
        /// No more often than this is one of each class passed on, by all of them together.
        every: Duration,
    },
    /// Its rate is that slow, for all replicas and all the time.
    Rate,
}

/// One GSTIN's lane.
#[derive(Debug)]
pub(super) struct Lane {
    common: Arc<Common>,
    /// Deliveries that it has.
    held: Counts,
    head: Head,
    state: Mutex<State>,
}

/// The head of a lane: of those that have a turn, the one that waits for their GSTIN's rate.
type Head = Arc<tokio::sync::Mutex<()>>;

/// Nobody else is at the head of the lane as long as this lives.
pub(in crate::worker) type AtHead = tokio::sync::OwnedMutexGuard<()>;

#[derive(Debug)]
struct State {
    /// Places that are taken.
    urgent: u32,
    bulk: u32,
    line: Line<oneshot::Sender<Place>>,
    course: Course,
    /// Until then nobody could go on in a place.
    closed_until: Option<Instant>,
    closed_for: Closed,
    /// When the next one may be passed on to another replica.
    urgent_passes_on: Instant,
    bulk_passes_on: Instant,
    /// When a job last came.
    urgent_seen: Option<Instant>,
    bulk_seen: Option<Instant>,
}

impl State {
    fn placed(&mut self, class: Class) -> &mut u32 {
        match class {
            Class::Urgent => &mut self.urgent,
            Class::Bulk => &mut self.bulk,
        }
    }

    fn seen(&mut self, class: Class) -> &mut Option<Instant> {
        match class {
            Class::Urgent => &mut self.urgent_seen,
            Class::Bulk => &mut self.bulk_seen,
        }
    }

    fn passes_on(&mut self, class: Class) -> &mut Instant {
        match class {
            Class::Urgent => &mut self.urgent_passes_on,
            Class::Bulk => &mut self.bulk_passes_on,
        }
    }

    fn in_flight(&self) -> u32 {
        self.urgent + self.bulk
    }

    fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.closed_until.filter(|until| *until > now)
    }

    /// The first to go on again show only after a moment whether a login is left now.
    fn closed_or_reopening_until(&self, now: Instant) -> Option<Instant> {
        let opens = self.closed_until?;
        let knows = opens + REOPENS_WITHIN;
        [opens, knows].into_iter().find(|until| *until > now)
    }

    /// Whether one of this class that stands first in its line could go on now.
    fn has_place(&self, class: Class, places: u32, now: Instant) -> bool {
        let share = self.line.share(class, index(places), now);
        index(self.in_flight()) < share
    }
}

/// One of a lane's places; its length counts when it is given back, if a turn was taken in it.
#[derive(Debug)]
pub(super) struct Place {
    lane: Arc<Lane>,
    class: Class,
    began: Option<Instant>,
}

impl Place {
    /// Waits until it is at the head of its lane.
    pub(super) async fn at_head(&self) -> AtHead {
        Arc::clone(&self.lane.head).lock_owned().await
    }

    /// Somebody goes on in it.
    pub(super) fn take_up(&mut self) {
        let now = Instant::now();
        self.began = Some(now);
        self.lane.lock().course.began(now);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.lane.lock();
        *state.placed(self.class) -= 1;
        if let Some(began) = self.began {
            state.course.ended(began, Instant::now());
        }
        drop(state);
        self.lane.serve();
    }
}

/// A delivery that a lane has, in a place or in line for one.
#[derive(Debug)]
pub(super) struct Held {
    lane: Arc<Lane>,
    class: Class,
}

impl Held {
    pub(super) fn new(lane: &Arc<Lane>, class: Class) -> Self {
        lane.common.held.of(class).fetch_add(1, Ordering::Relaxed);
        if lane.held.of(class).fetch_add(1, Ordering::Relaxed) == 0 {
            lane.common
                .holding
                .of(class)
                .fetch_add(1, Ordering::Relaxed);
        }
        let lane = Arc::clone(lane);
        Self { lane, class }
    }

    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (lane, class) = (&self.lane, self.class);
        lane.common.held.of(class).fetch_sub(1, Ordering::Relaxed);
        if lane.held.of(class).fetch_sub(1, Ordering::Relaxed) == 1 {
            lane.common
                .holding
                .of(class)
                .fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How a lane stands for one more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// How many of its class wait.
    pub(super) waiting: u32,
    /// Deliveries of its class that the lane has.
    pub(super) held: u32,
    /// The time between two turns.
    pub(super) pace: Duration,
    /// Until then it is closed, or nobody knows yet whether it still is.
    pub(super) closed_until: Option<Instant>,
    /// What for.
    pub(super) closed_for: Closed,
}

impl Lane {
    pub(super) fn new(common: Arc<Common>) -> Self {
        Self {
            common,
            held: Counts::default(),
            head: Head::default(),
            state: Mutex::new(State {
                urgent: 0,
                bulk: 0,
                line: Line::default(),
                course: Course::new(Instant::now()),
                closed_until: None,
                closed_for: Closed::Login,
                urgent_passes_on: Instant::now(),
                bulk_passes_on: Instant::now(),
                urgent_seen: None,
                bulk_seen: None,
            }),
        }
    }

    /// A place for one that has just come, where one is free and nobody waits for it.
    pub(super) fn place_now(self: &Arc<Self>, class: Class) -> Option<Place> {
        let now = Instant::now();
        let places = self.common.places();
        let urgent_seen = self.common.comes(class, now);
        let mut state = self.lock();
        state.line.expects(urgent_seen);
        *state.seen(class) = Some(now);
        if state.closed_until(now).is_some() {
            return None;
        }
        if self.waiting_in(&mut state, class) > 0 || !state.has_place(class, places, now) {
            if places < self.common.concurrency {
                // Then the limit of the slots is in the way, full or not.
                self.common.slots.found_full();
            }
            return None;
        }
        Some(self.place(&mut state, class, now))
    }

    /// Stands in line.
    pub(super) fn line_up(self: &Arc<Self>, class: Class) -> oneshot::Receiver<Place> {
        let (sender, place) = oneshot::channel();
        self.lock().line.push(class, sender);
        // A place may have become free since it was looked for.
        self.serve();
        place
    }

    /// Lets nobody go on before then.
    pub(super) fn close(&self, until: Instant, closed_for: Closed) {
        let mut state = self.lock();
        state.closed_until = Some(until);
        state.closed_for = closed_for;
    }

    /// How often those may be passed on that cannot go on now; none unless another replica can do them.
    pub(super) fn passes_on_every(&self) -> Option<Duration> {
        let state = self.lock();
        state.closed_until(Instant::now())?;
        match state.closed_for {
            Closed::LoginElsewhere { every } => Some(every),
            Closed::Login | Closed::Rate => None,
        }
    }

    /// When the next one of this class may be passed on.
    pub(super) fn passes_on(&self, class: Class) -> Instant {
        *self.lock().passes_on(class)
    }

    /// The one after it may be passed on then.
    pub(super) fn next_passes_on(&self, class: Class, then: Instant) {
        *self.lock().passes_on(class) = then;
    }

    /// Hands the free places to those in line.
    pub(super) fn serve(self: &Arc<Self>) {
        while let Some((next, place)) = self.next_served() {
            // Left in this very moment: its place comes back by its drop.
            drop(next.send(place));
        }
    }

    fn next_served(self: &Arc<Self>) -> Option<(oneshot::Sender<Place>, Place)> {
        let now = Instant::now();
        let places = index(self.common.places());
        let urgent_seen = *self.common.urgent_seen();
        let mut state = self.lock();
        state.line.expects(urgent_seen);
        if state.closed_until(now).is_some() {
            return None;
        }
        let taken = index(state.in_flight());
        let (class, next) = state
            .line
            .pop(taken, places, now, oneshot::Sender::is_closed)?;
        let place = self.place(&mut state, class, now);
        Some((next, place))
    }

    fn place(self: &Arc<Self>, state: &mut State, class: Class, now: Instant) -> Place {
        *state.placed(class) += 1;
        state.course.began(now);
        Place {
            lane: Arc::clone(self),
            class,
            began: None,
        }
    }

    /// How it stands for one more of this class.
    pub(super) fn standing(&self, class: Class) -> Standing {
        let now = Instant::now();
        let places = self.common.places();
        let mut state = self.lock();
        Standing {
            waiting: self.waiting_in(&mut state, class),
            held: self.held.get(class),
            pace: state.course.pace(places, now),
            closed_until: state.closed_or_reopening_until(now),
            closed_for: state.closed_for,
        }
    }

    /// Deliveries of this class that it has.
    pub(super) fn has_held(&self, class: Class) -> u32 {
        self.held.get(class)
    }

    /// How long a turn takes, waits for the rate and a slot included.
    pub(super) fn turn_length(&self) -> Duration {
        let state = self.lock();
        state.course.pace(1, Instant::now())
    }

    /// Whether a job of this class came within this time and one more could go on at once.
    pub(super) fn is_wanting(&self, class: Class, within: Duration) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let seen = *state.seen(class);
        seen.is_some_and(|seen| now.saturating_duration_since(seen) <= within)
            && state.closed_until(now).is_none()
            && self.waiting_in(&mut state, class) == 0
            && state.has_place(class, self.common.concurrency, now)
    }

    /// In how long one that cannot go on now had best come back.
    pub(super) fn next_return(
        &self,
        deferred: &Deferred,
        around: Around,
        rungs: &Rungs,
    ) -> Duration {
        let Deferred { class, spacing, .. } = *deferred;
        let now = Instant::now();
        let places = self.common.places();
        let mut state = self.lock();
        // Where the lane is slower than its rate, the most between two.
        let hanging = HANGING_SPACING.max(spacing.saturating_mul(HANGING_PART));
        let pace = state.course.pace(places, now);
        let wish = Return {
            class,
            again: deferred.again,
            spacing: spacing.max(pace.min(hanging)),
            waiting: self.waiting_in(&mut state, class),
            queue: match class {
                Class::Bulk => around.queue,
                Class::Urgent => None,
            },
            replicas: around.replicas,
            at_least: deferred.at_least,
        };
        state.course.next_return(&wish, rungs, now)
    }

    /// How many are worked on, and how many wait.
    pub(super) fn counts(&self) -> (u32, u32) {
        let in_flight = self.lock().in_flight();
        (in_flight, self.held.sum().saturating_sub(in_flight))
    }

    /// Whether some that were deferred are still to come back, or one came within this time.
    pub(super) fn is_of_use(&self, within: Duration) -> bool {
        let now = Instant::now();
        let state = self.lock();
        let lately = |seen: &Instant| now.saturating_duration_since(*seen) <= within;
        let seen = [state.urgent_seen, state.bulk_seen];
        state.course.is_awaited(now) || seen.iter().flatten().any(lately)
    }

    /// Those that are held and have no place.
    fn waiting_in(&self, state: &mut State, class: Class) -> u32 {
        self.held.get(class).saturating_sub(*state.placed(class))
    }

    /// Held for a few instructions, never across a wait.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
