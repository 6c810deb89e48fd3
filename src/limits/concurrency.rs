//! How many jobs are worked on at once: at most as many as configured, fewer while the portal is overloaded, one
//! after another while it recovers.
//!
//! Two rules: the limit falls by what is measured and rises only when it was in the way, so that it never claims more
//! than has been tried. And a slot that becomes free goes, of its class, to the GSTIN that has the fewest: those that
//! wait for their rate in theirs, or for a slow answer, keep nobody else waiting behind them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::heard::Heard;
use super::line::Line;
use crate::gstin::Gstin;
use crate::job::Class;
use crate::outcome::PortalSign;
use crate::telemetry;

/// The limit changes at most once in this time.
const ROUND: Duration = Duration::from_secs(1);

/// A round needs so many answers to mean something, or as many as the limit lets through at once.
const SAMPLE: usize = 10;

/// What is left of the limit after a bad round.
const SHRINK: f64 = 0.7;

/// A good round adds this part of the cap, one at least: back at the cap ten rounds after the lowest point.
const GROWTH: f64 = 0.1;

/// A GSTIN is the only one at work when nobody else was answered for so long.
const ALONE_AFTER: Duration = Duration::from_secs(10);

/// Additive increase, multiplicative decrease. It keeps no clock: whoever tells says what time it is.
#[derive(Debug)]
struct Aimd {
    cap: f64,
    limit: f64,
    /// An answer slower than this is as bad as none.
    slow: Duration,
    round: Round,
    shrunk: Option<Instant>,
    answered: Heard,
    throttled: Heard,
}

#[derive(Debug)]
struct Round {
    began: Instant,
    calls: usize,
    bad: usize,
    /// Somebody found all slots taken.
    reached: bool,
}

impl Round {
    fn new(began: Instant) -> Self {
        Self {
            began,
            calls: 0,
            bad: 0,
            reached: false,
        }
    }

    /// Lost and slow answers mean overload only when they are many: a portal that loses a fifth of its answers at any
    /// load would otherwise be brought down to one call at a time.
    fn is_bad(&self) -> bool {
        self.bad * 3 > self.calls
    }
}

impl Aimd {
    fn new(cap: usize, slow: Duration, now: Instant) -> Self {
        let cap = f64::from(u32::try_from(cap.max(1)).unwrap_or(u32::MAX));
        Self {
            cap,
            limit: cap,
            slow,
            round: Round::new(now),
            shrunk: None,
            answered: Heard::default(),
            throttled: Heard::default(),
        }
    }

    /// The limit, from 1 to the cap.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1 to a cap that was made from an integer"
    )]
    fn limit(&self) -> usize {
        self.limit as usize
    }

    /// The cap.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "made from an integer"
    )]
    fn most(&self) -> usize {
        self.cap as usize
    }

    fn found_full(&mut self) {
        self.round.reached = true;
    }

    /// A call of this GSTIN has ended.
    fn ended(&mut self, now: Instant, taken: Duration, sign: PortalSign, gstin: &Gstin) {
        match sign {
            PortalSign::Throttled { .. } => return self.told_to_slow_down(now, gstin),
            PortalSign::Answered => {
                self.answered.note(gstin, now);
                self.round.bad += usize::from(taken > self.slow);
            }
            PortalSign::Unreached | PortalSign::Silent { .. } => self.round.bad += 1,
        }
        self.round.calls += 1;
        let long = now.saturating_duration_since(self.round.began) >= ROUND;
        if !long || self.round.calls < SAMPLE.min(self.limit()) {
            return;
        }
        if self.round.is_bad() {
            return self.shrink(now);
        }
        if self.round.reached {
            self.limit = (self.limit + (self.cap * GROWTH).max(1.0)).min(self.cap);
        }
        self.round = Round::new(now);
    }

    /// Overload in the portal's own words, if it is said to two GSTINs or to the only one at work. Said to one of
    /// several it is about that one's pace, and none of the others' business.
    fn told_to_slow_down(&mut self, now: Instant, gstin: &Gstin) {
        self.throttled.note(gstin, now);
        let several = self.throttled.anybody_but(gstin, now, ROUND);
        if several || !self.answered.anybody_but(gstin, now, ALONE_AFTER) {
            self.shrink(now);
        }
    }

    /// Once in a round: the calls on the way were sent under the old limit.
    fn shrink(&mut self, now: Instant) {
        let since = |at| now.saturating_duration_since(at);
        if self.shrunk.is_some_and(|shrunk| since(shrunk) < ROUND) {
            return;
        }
        self.limit = (self.limit * SHRINK).max(1.0);
        self.shrunk = Some(now);
        self.round = Round::new(now);
    }
}

/// The slots that jobs are worked on in.
#[derive(Debug)]
pub struct Slots {
    cap: usize,
    /// Whose share of the places they are, if they are a route's.
    route: Option<Arc<str>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    aimd: Aimd,
    used: usize,
    used_by: HashMap<(Class, Gstin), u32>,
    waiting: Line<Waiting>,
    /// While the portal recovers: how many may be taken, not counting those taken before.
    width: Option<usize>,
    /// How many were taken since then.
    used_in_width: usize,
    /// Raised when `width` begins anew: what was taken before does not count.
    epoch: u64,
}

/// One that stands in line.
#[derive(Debug)]
struct Waiting {
    owner: (Class, Gstin),
    place: oneshot::Sender<Slot>,
}

impl State {
    /// How many of how many places are taken.
    fn room(&self) -> (usize, usize) {
        match self.width {
            // Slots still held from before may be many, and say nothing of the portal as it is now.
            Some(width) => {
                let before = self.used - self.used_in_width;
                (
                    self.used_in_width,
                    width.min(self.aimd.most().saturating_sub(before)),
                )
            }
            None => (self.used, self.aimd.limit()),
        }
    }

    /// The next in line that may have a slot now.
    fn next_in_line(&mut self) -> Option<Waiting> {
        let (used, places) = self.room();
        let used_by = &self.used_by;
        let next = self.waiting.pop_fairly(
            used,
            places,
            Instant::now(),
            |waiting| waiting.place.is_closed(),
            |waiting| used_by.get(&waiting.owner).copied().unwrap_or_default(),
        );
        next.map(|(_, waiting)| waiting)
    }

    fn gives_back(&mut self, owner: (Class, Gstin)) {
        if let Entry::Occupied(mut used) = self.used_by.entry(owner) {
            *used.get_mut() -= 1;
            if *used.get() == 0 {
                used.remove();
            }
        }
    }
}

/// One slot, free again when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    owner: (Class, Gstin),
    epoch: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.used -= 1;
        state.gives_back(self.owner);
        if state.epoch == self.epoch {
            state.used_in_width = state.used_in_width.saturating_sub(1);
        }
        drop(state);
        self.slots.serve();
    }
}

impl Slots {
    /// So many at most. An answer of the portal that takes longer than `slow` is a sign of overload.
    pub fn new(cap: usize, slow: Duration) -> Arc<Self> {
        Self::shared(cap, slow, None)
    }

    /// A route's share of the places: beside one of these a job takes one of all.
    pub fn of_route(cap: usize, slow: Duration, route: Arc<str>) -> Arc<Self> {
        Self::shared(cap, slow, Some(route))
    }

    fn shared(cap: usize, slow: Duration, route: Option<Arc<str>>) -> Arc<Self> {
        telemetry::concurrency_limit(route.as_deref(), cap);
        Arc::new(Self {
            cap: cap.max(1),
            route,
            state: Mutex::new(State {
                aimd: Aimd::new(cap, slow, Instant::now()),
                used: 0,
                used_by: HashMap::new(),
                waiting: Line::default(),
                width: None,
                used_in_width: 0,
                epoch: 0,
            }),
        })
    }

    /// Waits for a slot for this GSTIN, in line with those of its class.
    pub async fn acquire(self: &Arc<Self>, class: Class, gstin: Gstin) -> Slot {
        loop {
            let (place, granted) = oneshot::channel();
            {
                let mut state = self.lock();
                state.waiting.comes(class, Instant::now());
                let owner = (class, gstin);
                state.waiting.push(class, Waiting { owner, place });
            }
            self.serve();
            // Whoever stands in line is served, but for one that had left; and this one has not.
            if let Ok(slot) = granted.await {
                return slot;
            }
        }
    }

    /// Hands the free slots to those in line.
    fn serve(self: &Arc<Self>) {
        while let Some((place, slot)) = self.next_served() {
            // Left in this very moment: its slot comes back by its drop.
            drop(place.send(slot));
        }
    }

    fn next_served(self: &Arc<Self>) -> Option<(oneshot::Sender<Slot>, Slot)> {
        let mut state = self.lock();
        let Some(Waiting { owner, place }) = state.next_in_line() else {
            if state.width.is_none() && !state.waiting.is_empty() {
                state.aimd.found_full();
            }
            return None;
        };
        state.used += 1;
        state.used_in_width += 1;
        *state.used_by.entry(owner).or_default() += 1;
        let slot = Slot {
            slots: Arc::clone(self),
            owner,
            epoch: state.epoch,
        };
        Some((place, slot))
    }

    /// Lets only so many be taken beside those taken before the narrowing began; `None` ends it.
    pub fn narrow(self: &Arc<Self>, width: Option<usize>) {
        let mut state = self.lock();
        if state.width.is_none() && width.is_some() || width == Some(0) {
            state.epoch += 1;
            state.used_in_width = 0;
        }
        state.width = width;
        drop(state);
        self.serve();
    }

    /// A call of this GSTIN to the portal has ended.
    pub fn observe(self: &Arc<Self>, taken: Duration, sign: PortalSign, gstin: &Gstin) {
        let mut state = self.lock();
        let before = state.aimd.limit();
        state.aimd.ended(Instant::now(), taken, sign, gstin);
        let now = state.aimd.limit();
        drop(state);
        if before != now {
            telemetry::concurrency_limit(self.route.as_deref(), now);
            self.serve();
        }
    }

    /// A job went back because the limit leaves its GSTIN no more: then the limit was in the way, full or not.
    pub fn found_full(&self) {
        self.lock().aimd.found_full();
    }

    /// How many may be taken now.
    pub fn limit(&self) -> usize {
        self.lock().aimd.limit()
    }

    /// How many could ever be taken.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// How many are taken.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Never left half-changed: nothing under the lock can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
