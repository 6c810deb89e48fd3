//! Who may go on now: so many attempts of one GSTIN at once, and one attempt of one document.
//!
//! One rule: nobody waits here for long, and no GSTIN takes the places of others to wait in: a delivery that waits is
//! one that the broker does not hand out to somebody else. Everybody else is the ladder's.

mod course;
mod lane;
mod room;
mod rungs;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::Share;
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::job::Class;
use crate::limits::Slots;
use crate::retry::Ladder;

use lane::{Common, Counts, Held, Lane, Place, Standing};

pub(super) use lane::{AtHead, Closed};
use room::{Look, Others, QUICK, Room};
use rungs::Rungs;

/// How long a job may wait in its lane while it holds its delivery.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may wait while its lane is closed: the login rate has mostly room for another within a minute, and on the
/// ladder it would be in the way of those replicas that have a session.
const CLOSED_PATIENCE: Duration = Duration::from_secs(60);

/// Who was seen within this time may come again.
const LATELY: Duration = Duration::from_secs(60);

/// Looking whether a lane wants for work goes through all of them.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One part in so many of the window is kept for GSTINs that have less of it than an even share, however many others have
/// places.
const KEPT_PART: u32 = 16;

/// So many a second go to the ladder to see who stands behind them, by all replicas together.
const PROBES: u32 = 300;

/// So many a second are passed on to other replicas, by all of them together.
const PASSED_ON: u32 = 500;

/// Those that have asked for a session together are passed on together, as far as they would be within this time.
const TOGETHER_WITHIN: Duration = SECOND;

const SECOND: Duration = Duration::from_secs(1);

/// All lanes of this process.
#[derive(Debug)]
pub(super) struct Lanes {
    common: Arc<Common>,
    /// How many deliveries of one class the broker hands out at once, and how many of them one GSTIN may hold.
    window: u32,
    share: u32,
    rungs: Rungs,
    lanes: DashMap<Gstin, Arc<Lane>>,
    documents: Arc<Documents>,
    watch: Mutex<Watch>,
    started: Instant,
}

/// Documents with a turn (`None`), or whose last turn ended in doubt and that stay taken until then.
type Documents = DashMap<Irn, Option<Instant>>;

/// What was last seen of all lanes.
#[derive(Debug)]
struct Watch {
    /// Whether a lane wants for work, and until when that holds.
    urgent: (bool, Instant),
    bulk: (bool, Instant),
    /// When the next probe goes.
    probe: Instant,
    /// When the next one may be passed on to another replica.
    passes_on: Instant,
}

/// How large a window the lanes share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) prefetch: u16,
    pub(super) share: Share,
}

/// What is known of the world around the lanes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// There is one account.
    pub(super) alone: bool,
    /// Replicas that consume the same queue.
    pub(super) replicas: u32,
    /// The job may be published to its queue again for one of them to take.
    pub(super) passes_on: bool,
    /// How many bulk jobs wait in the queue, if that is known.
    pub(super) queue: Option<u32>,
    /// How many urgent ones wait in theirs.
    pub(super) urgent_queue: Option<u32>,
}

/// A job that cannot go on now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deferred {
    pub(super) class: Class,
    /// It has waited before, and is not put behind all others.
    pub(super) again: bool,
    /// The time between two calls at its GSTIN's rate.
    pub(super) spacing: Duration,
    /// It has to wait for so long in any case.
    pub(super) at_least: Duration,
}

/// The right to work on one document now; ends when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    documents: Arc<Documents>,
    /// None for what changes nothing: it is in nobody's way.
    irn: Option<Irn>,
    place: Option<Place>,
    settled_at: Option<Instant>,
    _held: Option<Held>,
}

impl Turn {
    /// Waits until it is at the head of its lane.
    pub(super) async fn at_head(&self) -> Option<AtHead> {
        Some(self.place.as_ref()?.at_head().await)
    }

    /// It ends in doubt: the portal may still be at work on the document. A twin that looked now would find nothing
    /// and take that for proof, so it gets no turn before the doubt can be settled.
    pub(super) fn ends_in_doubt(&mut self, settle_time: Duration) {
        self.settled_at = Some(Instant::now() + settle_time);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.place.take());
        match (self.irn, self.settled_at) {
            (Some(irn), Some(_)) => drop(self.documents.insert(irn, self.settled_at)),
            (Some(irn), None) => drop(self.documents.remove(&irn)),
            (None, _) => {}
        }
    }
}

/// Why a job does not get its turn now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// The lane is full.
    Full,
    /// The same document is being worked on: a twin message, or the same one handed out again.
    Twin,
    /// It is to be done by another replica.
    PassedOn,
}

/// A job that its lane has let in.
#[derive(Debug)]
pub(super) struct Entry<'l> {
    lanes: &'l Lanes,
    class: Class,
    stand: Stand,
    held: Held,
}

#[derive(Debug)]
enum Stand {
    InPlace(Place),
    InLine(oneshot::Receiver<Place>, Waits),
}

/// How long it stands in line.
#[derive(Clone, Copy, Debug)]
enum Waits {
    Until(Instant),
    /// Then it is decided anew.
    ForNow(Instant),
    /// Then it goes to another replica.
    PassedOn(Instant),
}

impl Lanes {
    /// Lanes of so many attempts at once each, among these slots.
    pub(super) fn new(
        slots: Arc<Slots>,
        concurrency: usize,
        window: Window,
        ladder: &Ladder,
    ) -> Self {
        let now = Instant::now();
        let prefetch = u32::from(window.prefetch);
        let concurrency = number(concurrency).max(1);
        Self {
            common: Arc::new(Common {
                concurrency,
                slots,
                held: Counts::default(),
                holding: Counts::default(),
                urgent_seen: Mutex::new(None),
            }),
            window: prefetch,
            share: window.share.of(prefetch).max(concurrency),
            rungs: Rungs::new(ladder, now),
            lanes: DashMap::new(),
            documents: Arc::new(DashMap::new()),
            watch: Mutex::new(Watch {
                urgent: (false, now),
                bulk: (false, now),
                probe: now,
                passes_on: now,
            }),
            started: now,
        }
    }

    /// Lets a job in, to take its turn or to wait for it, or says that it may not wait. A cheap question: it is asked
    /// before anything else is done for the job.
    pub(super) fn enter(
        &self,
        gstin: &Gstin,
        class: Class,
        around: Around,
    ) -> Result<Entry<'_>, NoTurn> {
        let lane = self.lane(gstin);
        // Whoever has little here may stand behind it: so many a second make way, though their lane has a place.
        if self.is_crowded(&lane, class, around) && self.is_probe(around.replicas) {
            return Err(NoTurn::Full);
        }
        let place = lane.place_now(class);
        // Counted before the look, so that two who come together see each other.
        let held = Held::new(&lane, class);
        let stand = match place {
            Some(place) => Stand::InPlace(place),
            None => {
                let waits = self.waits(&lane, class, around).ok_or(NoTurn::Full)?;
                Stand::InLine(lane.line_up(class), waits)
            }
        };
        Ok(Entry {
            lanes: self,
            class,
            stand,
            held,
        })
    }

    /// Whether one more of this lane, which has as much as each may have, would take of the window what is kept for others.
    /// Where turns are short, no one is kept waiting by that.
    fn is_crowded(&self, lane: &Lane, class: Class, around: Around) -> bool {
        let kept = self.window / KEPT_PART;
        let left = self.window.saturating_sub(self.common.held.get(class));
        let each = (self.window - kept) / self.common.holding.get(class).max(1);
        left <= kept
            && lane.has_held(class) >= each.max(1)
            && !around.alone
            && lane.turn_length() > QUICK
    }

    /// Whether this one may go as a probe at once.
    fn is_probe(&self, replicas: u32) -> bool {
        let now = Instant::now();
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = watch.probe <= now;
        if is_due {
            watch.probe = now + between_probes(replicas);
        }
        is_due
    }

    /// How long one that is held may stand in line, if at all.
    fn waits(&self, lane: &Lane, class: Class, around: Around) -> Option<Waits> {
        let now = Instant::now();
        let standing = lane.standing(class);
        if let Some(until) = standing.closed_until {
            if let Some(at) = self.passed_on_at(lane, class, around, until) {
                return Some(Waits::PassedOn(at));
            }
            return Some(self.waits_outside(&standing, class, around, until));
        }
        let mut look = Look {
            position: standing.waiting,
            held: standing.held,
            pace: standing.pace,
            window: self.window,
            taken: self.common.held.get(class),
            share: self.share,
            others: Others::None,
        };
        let mut decided = room::room(&look);
        if decided != Room::Moment && !around.alone {
            look.others = self.others(class, around, now);
            decided = room::room(&look);
        }
        match decided {
            Room::Wait => Some(Waits::Until(now + PATIENCE)),
            Room::Moment => Some(Waits::ForNow(now + QUICK)),
            Room::Edge => Some(Waits::Until(self.next_probe(around.replicas, now))),
            Room::Full => None,
        }
    }

    /// The lane is closed, which no sweep opens. Those within its share wait; the others go to the ladder one by one, also where
    /// nobody is seen who may stand behind them. But where another replica has logged in of late, only if somebody wants for
    /// work: that one may have a session, and do theirs.
    fn waits_outside(
        &self,
        standing: &Standing,
        class: Class,
        around: Around,
        until: Instant,
    ) -> Waits {
        let now = Instant::now();
        let left = self.window.saturating_sub(self.common.held.get(class));
        let in_share = standing.held < self.share && standing.held < left;
        let probes = match standing.closed_for {
            Closed::LoginElsewhere { .. } => self.is_wanted(class, now),
            Closed::Login | Closed::Rate => true,
        };
        if in_share || around.alone || !probes {
            Waits::ForNow(until)
        } else {
            Waits::Until(self.next_probe(around.replicas, now))
        }
    }

    /// Whether one that cannot go on for want of a login is passed on to a replica that has one, now.
    pub(super) fn is_passed_on(&self, gstin: &Gstin, class: Class, around: Around) -> bool {
        let until = Instant::now() + TOGETHER_WITHIN;
        let at = self.passed_on_at(&self.lane(gstin), class, around, until);
        at.is_some()
    }

    /// When one more that cannot go on for want of a login is passed on to a replica that has one, if it may be by then. It is
    /// put behind all that stand in the queue, so that they are to be few; and it may come back here at once, so that they go
    /// one by one.
    fn passed_on_at(
        &self,
        lane: &Lane,
        class: Class,
        around: Around,
        until: Instant,
    ) -> Option<Instant> {
        let every = lane.passes_on_every()?;
        if !self.may_pass_on(class, around) {
            return None;
        }
        let now = Instant::now();
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let at = watch.passes_on.max(lane.passes_on(class)).max(now);
        if at > until {
            return None;
        }
        watch.passes_on = watch.passes_on.max(now) + SECOND * around.replicas / PASSED_ON;
        lane.next_passes_on(class, at + every * around.replicas);
        Some(at)
    }

    /// Whether one may go back to its queue at all, as long as that is now.
    fn may_pass_on(&self, class: Class, around: Around) -> bool {
        let queue = match class {
            Class::Urgent => around.urgent_queue,
            Class::Bulk => around.queue,
        };
        let is_short = queue.is_some_and(|queue| queue <= self.window);
        around.passes_on && around.replicas > 1 && is_short
    }

    /// Nobody of this GSTIN can go on for so long.
    pub(super) fn close(&self, gstin: &Gstin, wait: Duration, closed_for: Closed) {
        let until = Instant::now() + wait.min(PATIENCE);
        self.lane(gstin).close(until, closed_for);
    }

    /// Whether they have not existed for long: nobody was seen yet who does not come often.
    pub(super) fn are_fresh(&self) -> bool {
        self.started.elapsed() < LATELY
    }

    fn others(&self, class: Class, around: Around, now: Instant) -> Others {
        let wanting = self.is_wanted(class, now);
        Others::judge(around.alone, wanting, self.are_fresh(), around.queue)
    }

    /// Whether a lane that was busy lately could take more at once.
    fn is_wanted(&self, class: Class, now: Instant) -> bool {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = match class {
            Class::Urgent => &mut watch.urgent,
            Class::Bulk => &mut watch.bulk,
        };
        if seen.1 <= now {
            let mut lanes = self.lanes.iter();
            *seen = (
                lanes.any(|lane| lane.is_wanting(class, LATELY)),
                now + LOOK_EVERY,
            );
        }
        seen.0
    }

    /// When one more may go to the ladder as a probe.
    fn next_probe(&self, replicas: u32, now: Instant) -> Instant {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.probe = watch.probe.max(now) + between_probes(replicas);
        watch.probe
    }

    /// In how long a job that cannot go on now, for a full lane, its GSTIN's rate or login, had best come back: one after
    /// the other, a little faster than the lane can take them, and not all together.
    pub(super) fn defer(&self, gstin: &Gstin, deferred: &Deferred, around: Around) -> Duration {
        self.lane(gstin).next_return(deferred, around, &self.rungs)
    }

    /// One goes onto the rung of this delay, for so long.
    pub(super) fn rung_holds(&self, delay: Duration, stay: Duration) {
        self.rungs.holds(delay, stay, Instant::now());
    }

    /// Deliveries that the lanes have, in a place or in line for one.
    pub(super) fn in_hand(&self) -> u32 {
        self.common.held.sum()
    }

    /// How many of this GSTIN's jobs are being worked on, and how many wait for their turn.
    pub(super) fn held(&self, gstin: &Gstin) -> (usize, usize) {
        let Some(lane) = self.lanes.get(gstin).map(|lane| Arc::clone(&lane)) else {
            return (0, 0);
        };
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let (in_flight, waiting) = lane.counts();
        (count(in_flight), count(waiting))
    }

    /// Forgets documents whose doubt is old enough to be settled, and lanes that nobody is in or comes back to. To be
    /// called now and then: most come back to another worker.
    pub(super) fn tidy(&self) {
        self.documents.retain(|_, taken| !is_settled(*taken));
        // Whoever holds the lane got it under the lock that is held here.
        self.lanes
            .retain(|_, lane| Arc::strong_count(lane) > 1 || lane.is_of_use(LATELY));
    }

    fn lane(&self, gstin: &Gstin) -> Arc<Lane> {
        if let Some(lane) = self.lanes.get(gstin) {
            return Arc::clone(&lane);
        }
        let fresh = || Arc::new(Lane::new(Arc::clone(&self.common)));
        Arc::clone(&self.lanes.entry(*gstin).or_insert_with(fresh))
    }

    fn claim(&self, irn: Option<Irn>) -> Result<Turn, NoTurn> {
        match irn.map(|irn| self.documents.entry(irn)) {
            Some(Slot::Occupied(taken)) if !is_settled(*taken.get()) => return Err(NoTurn::Twin),
            Some(slot) => drop(slot.insert(None)),
            None => {}
        }
        // From here on the document is released by the turn's drop, whatever happens.
        Ok(Turn {
            documents: Arc::clone(&self.documents),
            irn,
            place: None,
            settled_at: None,
            _held: None,
        })
    }
}

impl Entry<'_> {
    /// Waits for the turn, alone with this document. `around` says how it looks by now: it may wait for long.
    pub(super) async fn turn(
        self,
        irn: Option<Irn>,
        around: impl Fn() -> Around,
    ) -> Result<Turn, NoTurn> {
        let Self {
            lanes,
            class,
            stand,
            held,
        } = self;
        let entered = Instant::now();
        let mut turn = lanes.claim(irn)?;
        let mut place = match stand {
            Stand::InPlace(place) => place,
            Stand::InLine(mut line, mut waits) => loop {
                let (Waits::Until(until) | Waits::ForNow(until) | Waits::PassedOn(until)) = waits;
                if let Ok(place) = tokio::time::timeout_at(until, &mut line).await {
                    // The lane is held, and it drops nobody who stands in line.
                    break place.map_err(|_| NoTurn::Full)?;
                }
                // Nobody serves a lane that opens again.
                held.lane().serve();
                if let Ok(place) = line.try_recv() {
                    break place;
                }
                let is_patient = Instant::now() < entered + CLOSED_PATIENCE;
                let around = around();
                let next = match waits {
                    Waits::PassedOn(_) if lanes.may_pass_on(class, around) => {
                        return Err(NoTurn::PassedOn);
                    }
                    // More may stand in the queue by now.
                    Waits::ForNow(_) | Waits::PassedOn(_) if is_patient => {
                        lanes.waits(held.lane(), class, around)
                    }
                    Waits::Until(_) | Waits::ForNow(_) | Waits::PassedOn(_) => None,
                };
                waits = next.ok_or(NoTurn::Full)?;
            },
        };
        place.take_up();
        turn.place = Some(place);
        turn._held = Some(held);
        Ok(turn)
    }
}

fn between_probes(replicas: u32) -> Duration {
    SECOND * replicas / PROBES
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn is_settled(taken: Option<Instant>) -> bool {
    taken.is_some_and(|until| until <= Instant::now())
}
