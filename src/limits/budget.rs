//! The error budget: how many answers the portal has counted as errors in the last day, per GSTIN and per client.
//!
//! The portal warns a GSTIN after 20,000 erroneous calls and a client after 100,000, then blocks them (NIC, "Blocking
//! of GSTIN for generation of e-invoice"). One rule: a call that might use the budget up is not made unless there is
//! room for its answer, so that calls under way at once cannot overrun it.
//!
//! A replica sees its own errors only. It takes each for as many as there are replicas when it happens, because the others
//! meet as many: so the fleet shares the budget, and what is used of it does not change when the fleet does.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use tokio::time::Instant;

use super::window::Window;
use crate::config::Rate;
use crate::gstin::Gstin;
use crate::telemetry::{self, BudgetOf};

/// How far a budget is used up. Ordered: a later one is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BudgetState {
    /// Less than half.
    #[default]
    Open,
    /// Half: calls are slowed.
    Slow,
    /// Four fifths: somebody should look.
    Warned,
    /// All of it: no call until the window moves.
    Stopped,
}

impl BudgetState {
    /// Of a budget in which one more error counts for so many.
    fn of(used: u32, limit: NonZeroU32, each: NonZeroU32) -> Self {
        if is_used_up(used, limit, each) {
            return Self::Stopped;
        }
        let percent = u64::from(used) * 100 / u64::from(limit.get());
        match percent {
            0..50 => Self::Open,
            50..80 => Self::Slow,
            _ => Self::Warned,
        }
    }

    /// The word in status and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Slow => "slow",
            Self::Warned => "warned",
            Self::Stopped => "stopped",
        }
    }
}

/// Whether there is no room for one more error, which counts for so many. The first one always has: a fleet larger than its
/// budget stops at the first error each.
fn is_used_up(used: u32, limit: NonZeroU32, each: NonZeroU32) -> bool {
    used > 0 && used.saturating_add(each.get()) > limit.get()
}

/// Less than this part of a budget is not worth telling others.
const TOLD_FROM: u32 = 10;

/// What is only heard uses up so much of a budget at most: calls are slowed, and somebody should look.
const HEARD_PERCENT: u64 = 80;

/// The errors of a budget's window, by their age.
pub type Errors = Vec<(Duration, u32)>;

/// Whose budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The GSTIN's own.
    Gstin,
    /// That of the client, and so of all its GSTINs.
    Client,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gstin => {
                "this GSTIN has used up its error budget (limits.error_budget_per_gstin; `irn-worker resume GSTIN`)"
            }
            Self::Client => {
                "the client of this GSTIN has used up its error budget (limits.error_budget_total; `irn-worker resume \
                 --client NAME`)"
            }
        })
    }
}

/// Whether there is room for one more error.
#[derive(Debug)]
pub enum Allowance {
    /// There is; keep this until the answer has been counted.
    Granted(Reservation),
    /// Calls under way may use up the rest: not before they are answered.
    Busy,
    /// There is none.
    Stopped(Stopped),
}

/// A budget as it stands, for those who watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Errors in the window, of the whole fleet as far as this replica can tell from its own.
    pub used: u32,
    /// How many the fleet may have.
    pub limit: u32,
    /// What that means.
    pub state: BudgetState,
    /// How long until the first of them is forgotten.
    pub moves_in: Option<Duration>,
}

/// The budgets of one process, per GSTIN and per client.
#[derive(Debug)]
pub(super) struct Budget {
    gstins: Purses<Gstin>,
    clients: Purses<Arc<str>>,
}

impl Budget {
    /// Nothing used yet.
    pub(super) fn new(per_gstin: Rate, per_client: Rate) -> Self {
        Self {
            gstins: Purses::new(per_gstin),
            clients: Purses::new(per_client),
        }
    }

    /// Room for the answer of one call, among so many replicas.
    pub(super) fn reserve(&self, gstin: &Gstin, client: &str, replicas: NonZeroU32) -> Allowance {
        let gstin = self.gstins.purse(gstin, || *gstin);
        let client = self.clients.purse(client, || client.into());
        // Both at once, always in this order: between a look and its entry nobody else may enter.
        let (mut of_gstin, mut of_client) = (gstin.ledger(), client.ledger());
        let rooms = (
            of_gstin.room(self.gstins.limit(), replicas),
            of_client.room(self.clients.limit(), replicas),
        );
        match rooms {
            (Room::None, _) => return Allowance::Stopped(Stopped::Gstin),
            (_, Room::None) => return Allowance::Stopped(Stopped::Client),
            (Room::Taken, _) | (_, Room::Taken) => return Allowance::Busy,
            (Room::Free, Room::Free) => {}
        }
        let each = replicas.get();
        for ledger in [&mut of_gstin, &mut of_client] {
            ledger.under_way = ledger.under_way.saturating_add(each);
        }
        drop((of_gstin, of_client));
        let purses = [gstin, client];
        Allowance::Granted(Reservation { purses, each })
    }

    /// The portal has answered with an error.
    pub(super) fn count(&self, gstin: &Gstin, client: &str, replicas: NonZeroU32) {
        let limit = self.gstins.limit();
        let purse = self.gstins.purse(gstin, || *gstin);
        let of = BudgetOf::Gstin(gstin);
        purse.ledger().count(of, limit, replicas);
        let limit = self.clients.limit();
        let purse = self.clients.purse(client, || client.into());
        let of = BudgetOf::Client(client);
        purse.ledger().count(of, limit, replicas);
    }

    /// Which of the two stops a call, if one does.
    pub(super) fn stopped(
        &self,
        gstin: &Gstin,
        client: &str,
        replicas: NonZeroU32,
    ) -> Option<Stopped> {
        let is_stopped = |usage: Usage| usage.state == BudgetState::Stopped;
        if is_stopped(self.of_gstin(gstin, replicas)) {
            return Some(Stopped::Gstin);
        }
        is_stopped(self.of_client(client, replicas)).then_some(Stopped::Client)
    }

    /// The worse of the two states.
    pub(super) fn state(&self, gstin: &Gstin, client: &str, replicas: NonZeroU32) -> BudgetState {
        let of_gstin = self.of_gstin(gstin, replicas).state;
        of_gstin.max(self.of_client(client, replicas).state)
    }

    /// A GSTIN's budget as it stands.
    pub(super) fn of_gstin(&self, gstin: &Gstin, replicas: NonZeroU32) -> Usage {
        self.gstins.usage(gstin, replicas)
    }

    /// A client's budget as it stands.
    pub(super) fn of_client(&self, client: &str, replicas: NonZeroU32) -> Usage {
        self.clients.usage(client, replicas)
    }

    /// The GSTINs that have errors in their window.
    pub(super) fn gstins(&self) -> Vec<Gstin> {
        self.gstins.keys()
    }

    /// The clients that have errors in their window.
    pub(super) fn clients(&self) -> Vec<Arc<str>> {
        self.clients.keys()
    }

    /// The errors of the GSTINs that have used a tenth of their budget or more.
    pub(super) fn told_of_gstins(&self) -> Vec<(Gstin, Errors)> {
        self.gstins.told()
    }

    /// The same of clients.
    pub(super) fn told_of_clients(&self) -> Vec<(Arc<str>, Errors)> {
        self.clients.told()
    }

    /// Another replica knows of these errors of a GSTIN. They count, if they are more than those that are known here and
    /// nothing has been forgiven meanwhile, but not to the end of the budget: that, errors of our own have to confirm.
    pub(super) fn heard_of_gstin(
        &self,
        gstin: &Gstin,
        errors: &[(Duration, u32)],
        replicas: NonZeroU32,
    ) {
        let purse = self.gstins.purse(gstin, || *gstin);
        purse.ledger().heard(errors, self.gstins.limit(), replicas);
    }

    /// The same of a client.
    pub(super) fn heard_of_client(
        &self,
        client: &str,
        errors: &[(Duration, u32)],
        replicas: NonZeroU32,
    ) {
        let purse = self.clients.purse(client, || client.into());
        purse.ledger().heard(errors, self.clients.limit(), replicas);
    }

    /// An operator has seen to the cause: this GSTIN's errors so far are forgiven. The client's are not.
    pub(super) fn resume(&self, gstin: &Gstin) {
        self.gstins.clear(gstin, || *gstin);
        telemetry::budget_resumed(BudgetOf::Gstin(gstin));
    }

    /// The same for all of a client's GSTINs together.
    pub(super) fn resume_client(&self, client: &str) {
        self.clients.clear(client, || client.into());
        telemetry::budget_resumed(BudgetOf::Client(client));
    }

    /// Drops what holds no errors any more and tells how the others stand. To be called now and then: a window moves
    /// by itself.
    pub(super) fn tidy(&self, replicas: NonZeroU32) {
        let limit = self.gstins.limit();
        self.gstins
            .tidy(|gstin, ledger| ledger.tell(BudgetOf::Gstin(gstin), limit, replicas));
        let limit = self.clients.limit();
        self.clients
            .tidy(|client, ledger| ledger.tell(BudgetOf::Client(client), limit, replicas));
    }
}

/// Room for one call's answer; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    purses: [Arc<Purse>; 2],
    /// How many errors its answer may count for.
    each: u32,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for purse in &self.purses {
            let mut ledger = purse.ledger();
            ledger.under_way = ledger.under_way.saturating_sub(self.each);
        }
    }
}

/// When this process began to count, by a clock that all replicas have: the parts of their windows begin together, so that
/// errors told from one to the next do not become younger.
#[derive(Clone, Copy, Debug)]
struct Started {
    at: Instant,
    since_epoch: Duration,
}

impl Started {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            since_epoch: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
        }
    }

    /// The time since the Unix epoch now, as it has been counted since then.
    fn now_since_epoch(&self) -> Duration {
        self.since_epoch + self.at.elapsed()
    }
}

/// Budgets of one size, by whose they are.
#[derive(Debug)]
struct Purses<K: Eq + Hash> {
    allowance: Rate,
    started: Started,
    purses: DashMap<K, Arc<Purse>>,
}

impl<K: Clone + Eq + Hash> Purses<K> {
    fn new(allowance: Rate) -> Self {
        Self {
            allowance,
            started: Started::now(),
            purses: DashMap::new(),
        }
    }

    fn limit(&self) -> NonZeroU32 {
        self.allowance.count
    }

    fn purse<Q: Eq + Hash + ?Sized>(&self, key: &Q, owned: impl FnOnce() -> K) -> Arc<Purse>
    where
        K: Borrow<Q>,
    {
        if let Some(purse) = self.purses.get(key) {
            return Arc::clone(&purse);
        }
        let fresh = || Arc::new(Purse::new(self.started, self.allowance.period));
        Arc::clone(&self.purses.entry(owned()).or_insert_with(fresh))
    }

    fn usage<Q: Eq + Hash + ?Sized>(&self, key: &Q, replicas: NonZeroU32) -> Usage
    where
        K: Borrow<Q>,
    {
        let limit = self.limit();
        let purse = self.purses.get(key).map(|purse| Arc::clone(&purse));
        purse.map_or_else(
            || Usage::none(limit),
            |purse| purse.ledger().usage(limit, replicas),
        )
    }

    fn clear<Q: Eq + Hash + ?Sized>(&self, key: &Q, owned: impl FnOnce() -> K)
    where
        K: Borrow<Q>,
    {
        let purse = self.purse(key, owned);
        let mut ledger = purse.ledger();
        ledger.window.clear();
        ledger.is_forgiven = true;
    }

    fn keys(&self) -> Vec<K> {
        let used = |purse: &Purse| !purse.ledger().is_empty();
        let purses = self.purses.iter().filter(|entry| used(entry.value()));
        purses.map(|entry| entry.key().clone()).collect()
    }

    fn told(&self) -> Vec<(K, Errors)> {
        let enough = self.limit().get() / TOLD_FROM;
        let told = |purse: &Purse| {
            let mut ledger = purse.ledger();
            let used = ledger.used();
            (used > 0 && used >= enough).then(|| ledger.ages())
        };
        let purses = self.purses.iter();
        let told = purses.filter_map(|entry| Some((entry.key().clone(), told(entry.value())?)));
        told.collect()
    }

    fn tidy(&self, tell: impl Fn(&K, &mut Ledger)) {
        self.purses.retain(|key, purse| {
            let mut ledger = purse.ledger();
            tell(key, &mut ledger);
            // Whoever holds the purse got it under the lock that is held here.
            !ledger.is_empty() || Arc::strong_count(purse) > 1
        });
    }
}

impl Usage {
    fn none(limit: NonZeroU32) -> Self {
        Self {
            used: 0,
            limit: limit.get(),
            state: BudgetState::Open,
            moves_in: None,
        }
    }
}

/// One budget.
#[derive(Debug)]
struct Purse(Mutex<Ledger>);

#[derive(Debug)]
struct Ledger {
    started: Started,
    window: Window,
    /// The errors that the calls under way may count for.
    under_way: u32,
    /// An operator has said so: what others knew before is of no use.
    is_forgiven: bool,
    /// What the last event said.
    told: BudgetState,
}

enum Room {
    Free,
    Taken,
    None,
}

impl Purse {
    fn new(started: Started, period: Duration) -> Self {
        Self(Mutex::new(Ledger {
            started,
            window: Window::new(period),
            under_way: 0,
            is_forgiven: false,
            told: BudgetState::Open,
        }))
    }

    /// Held for a few instructions, never across a wait. Numbers cannot be left half changed by a panic.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn now(&self) -> Duration {
        self.started.now_since_epoch()
    }

    fn used(&mut self) -> u32 {
        let now = self.now();
        self.window.used(now)
    }

    fn ages(&mut self) -> Errors {
        let now = self.now();
        self.window.ages(now)
    }

    fn heard(&mut self, errors: &[(Duration, u32)], limit: NonZeroU32, each: NonZeroU32) {
        if self.is_forgiven {
            return;
        }
        // Less than what stops, with some more replicas as well.
        let most = u64::from(limit.get()) * HEARD_PERCENT / 100;
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let mut room = most.min(limit.get().saturating_sub(each.get()));
        let mut heard = errors.to_vec();
        heard.retain(|(age, _)| *age <= self.window.length());
        heard.sort_unstable_by_key(|(age, _)| *age);
        for (_, count) in &mut heard {
            *count = (*count).min(room);
            room -= *count;
        }
        let told = heard.iter().map(|(_, count)| count).sum::<u32>();
        if told > self.used() {
            let now = self.now();
            self.window.become_as(now, &heard);
        }
    }

    fn is_empty(&mut self) -> bool {
        self.used() == 0
    }

    fn room(&mut self, limit: NonZeroU32, each: NonZeroU32) -> Room {
        let used = self.used();
        if is_used_up(used, limit, each) {
            Room::None
        } else if is_used_up(used.saturating_add(self.under_way), limit, each) {
            Room::Taken
        } else {
            Room::Free
        }
    }

    fn count(&mut self, of: BudgetOf<'_>, limit: NonZeroU32, each: NonZeroU32) {
        let now = self.now();
        self.window.count(now, each.get());
        self.tell(of, limit, each);
    }

    fn usage(&mut self, limit: NonZeroU32, each: NonZeroU32) -> Usage {
        let used = self.used();
        Usage {
            used,
            limit: limit.get(),
            state: BudgetState::of(used, limit, each),
            moves_in: self.window.moves_in(self.now()),
        }
    }

    /// One event for each crossing, and the share that is used at any time.
    fn tell(&mut self, of: BudgetOf<'_>, limit: NonZeroU32, each: NonZeroU32) {
        let usage = self.usage(limit, each);
        // Without room for one more it is used up, though the fleet's share may not come out even.
        let used = match usage.state {
            BudgetState::Stopped => usage.limit,
            BudgetState::Open | BudgetState::Slow | BudgetState::Warned => usage.used,
        };
        telemetry::budget_used(of, used, usage.limit);
        if usage.state != self.told {
            let eased = usage.state < self.told;
            self.told = usage.state;
            telemetry::budget_crossed(of, usage.state.as_str(), eased, usage.used, usage.limit);
        }
    }
}

#[cfg(test)]
mod tests;
