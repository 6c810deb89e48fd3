//! What may be sent now: so many calls and logins in a period, as the fleet and the error budget allow.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::budget::{Allowance, Budget, BudgetState, Errors, Stopped, Usage};
use super::fairness::Fairness;
use super::idle::Idle;
use super::logins::{Announce, Logins};
use super::paced::Paced;
use super::roll::{Roll, answered_within, told_every};
use super::share::{Seat, Share};
use crate::config::credentials::Account;
use crate::config::{LimitsConfig, Rate};
use crate::control::{LoggedIn, Word};
use crate::gstin::Gstin;
use crate::job::Class;
use crate::telemetry;

/// A GSTIN with half of its error budget used is slowed to this part of its rate.
const SLOWED_TO_ONE_IN: u32 = 4;

/// So long after it has begun to listen, a replica believes what the others know of errors.
const NEW: Duration = Duration::from_secs(30);

/// Whether a call may be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go ahead: the call is counted.
    Granted,
    /// Not for this long yet: nothing is counted.
    Wait(Duration),
}

/// What all replicas together may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// How many GSTINs are at work.
    pub gstins: usize,
    /// Calls a second.
    pub per_second: f64,
}

/// The rates and error budgets of one process, each its share of the fleet's.
#[derive(Debug)]
pub struct Limits {
    calls: Paced<Gstin>,
    slowed: Paced<Gstin>,
    total: Paced<()>,
    of_total: Fairness,
    logins: Logins,
    budget: Budget,
    /// None: nobody has counted the replicas yet; there is one.
    share: ArcSwapOption<Share>,
    roll: Mutex<Roll>,
    names_wanted: Notify,
    idle: Idle,
    counted_since: OnceLock<Instant>,
    hears_since: OnceLock<Instant>,
    hears_now: AtomicBool,
}

impl Limits {
    /// Limits as configured, for one replica until [`Limits::share_among`] says otherwise.
    pub fn new(config: &LimitsConfig) -> Self {
        let slowed = Rate {
            period: config.per_gstin.period * SLOWED_TO_ONE_IN,
            ..config.per_gstin
        };
        Self {
            calls: Paced::new(config.per_gstin).apart(),
            slowed: Paced::new(slowed).apart(),
            total: Paced::new(config.total).apart(),
            of_total: Fairness::default(),
            logins: Logins::new(config.auth_per_gstin),
            budget: Budget::new(config.error_budget_per_gstin, config.error_budget_total),
            share: ArcSwapOption::empty(),
            roll: Mutex::default(),
            names_wanted: Notify::new(),
            idle: Idle::default(),
            counted_since: OnceLock::new(),
            hears_since: OnceLock::new(),
            hears_now: AtomicBool::new(false),
        }
    }

    /// From now on, so many replicas share every limit. To be told again and again: replicas whose names are known take
    /// turns by the clock, which may be set.
    pub fn share_among(&self, replicas: NonZeroU32) {
        self.counted_since.get_or_init(Instant::now);
        let now = Instant::now();
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        if self.replicas() > replicas {
            self.roll().calls_names(now);
            self.names_wanted.notify_one();
        }
        let place = self.roll().seat(replicas, now);
        let seat = place.map(|place| Seat {
            place,
            clock: (now, since_epoch),
        });
        let before = self.share.swap(Some(Arc::new(Share { replicas, seat })));
        if before.is_none_or(|before| before.replicas != replicas) {
            telemetry::replicas_seen(replicas.get());
        }
    }

    /// How many replicas share every limit.
    pub fn replicas(&self) -> NonZeroU32 {
        self.share().replicas
    }

    /// Waits until one of the replicas is gone, and it is not known which: they have to be asked for their names.
    pub async fn wants_names(&self) {
        self.names_wanted.notified().await;
    }

    /// Which of them this one is, from 1; none while not all of them are known by name.
    pub fn place(&self) -> Option<u32> {
        self.share().seat.map(|seat| seat.place.saturating_add(1))
    }

    fn share(&self) -> Share {
        let share = self.share.load();
        share
            .as_deref()
            .copied()
            .unwrap_or(Share::of(NonZeroU32::MIN))
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A replica, this one included, has told its name.
    pub fn heard_name(&self, replica: &str) {
        self.roll().heard(replica, Instant::now());
    }

    /// One whose name is known has asked what the others know.
    pub fn heard_asking(&self, replica: &str) {
        self.roll().heard_asking(replica, Instant::now());
    }

    /// Whether this replica is to tell its name, now that it is time.
    pub fn tells_name(&self) -> bool {
        self.roll().tells(Instant::now())
    }

    /// Whether its name is one of the first so many.
    pub fn is_one_of_first(&self, many: usize) -> bool {
        self.roll().is_one_of_first(many)
    }

    /// Whether its name is one of the first so many of those that know something.
    pub fn is_one_of_first_that_know(&self, many: usize) -> bool {
        self.roll().is_one_of_first_that_know(many, Instant::now())
    }

    /// How soon it tells its name when it is asked.
    pub fn answered_within(&self) -> Duration {
        answered_within(self.replicas())
    }

    /// How often this replica tells its name.
    pub fn told_every(&self) -> Duration {
        told_every(self.replicas())
    }

    /// Waits until a call for this account's GSTIN is within its rate and the total, but not past `patience`. A GSTIN
    /// that has used half of its error budget is slowed. An urgent call goes before the others that wait; of those that
    /// wait for the total, one of the GSTIN that has had none for the longest.
    pub async fn admit_call(
        &self,
        account: &Account,
        class: Class,
        patience: Duration,
    ) -> Admission {
        let (own, gstin) = (self.rate_of(account), account.gstin);
        let waits_for_total = AtomicBool::new(false);
        let (mut ahead, mut ahead_of_all, mut among_all) = (None, None, None);
        // Its own is kept until the GSTIN's next one is due, and then void: those that had theirs and waited for the total
        // would all go together.
        let mut void_from = None;
        let take = || {
            let now = Instant::now();
            if let Err(not_yet) = self.returns_to(gstin, now) {
                void_from = None;
                waits_for_total.store(false, Ordering::Relaxed);
                return Err(not_yet);
            }
            if void_from.is_none_or(|from| from <= now) {
                waits_for_total.store(false, Ordering::Relaxed);
                let share = self.share_of(&gstin);
                own.take(gstin, share, class)?;
                void_from = Some(now + own.spacing(share.replicas));
            }
            waits_for_total.store(true, Ordering::Relaxed);
            self.take_of_total(gstin, self.share(), class)
        };
        let waits = || match (class, waits_for_total.load(Ordering::Relaxed)) {
            // It is in nobody's way meanwhile.
            (Class::Bulk, false) => among_all = None,
            (Class::Bulk, true) if among_all.is_none() => {
                among_all = Some(self.of_total.waits(gstin));
            }
            (Class::Urgent, false) => {
                ahead_of_all = None;
                if ahead.is_none() {
                    ahead = own.wait_ahead(gstin);
                }
            }
            (Class::Urgent, true) if ahead_of_all.is_none() => {
                ahead_of_all = self.total.wait_ahead(());
            }
            (Class::Bulk | Class::Urgent, true) => {}
        };
        wait_for(patience, take, waits).await
    }

    /// This replica may not log in for this GSTIN: the others have its rate until it calls again.
    pub fn leave_to_others(&self, gstin: Gstin) {
        let are_there = self.replicas().get() > 1 && self.hears_now.load(Ordering::Relaxed);
        if are_there && self.idle.rests(gstin, Instant::now()) {
            self.logins.announce(gstin, Word::Idle);
        }
    }

    /// Another one leaves this GSTIN to us.
    pub fn heard_idle(&self, replica: &str, gstin: Gstin) {
        let now = Instant::now();
        let is_known = self.roll().knew(replica, now);
        if is_known && self.hears_now.load(Ordering::Relaxed) {
            self.idle.heard_idle(replica, gstin, now);
        }
    }

    /// Another one calls for this GSTIN again.
    pub fn heard_return(&self, replica: &str, gstin: Gstin) {
        self.idle.heard_return(replica, gstin);
    }

    /// What this replica has told of itself has come back.
    pub fn heard_own_return(&self, gstin: Gstin) {
        self.idle.heard_own_return(gstin, Instant::now());
    }

    /// Before a call for a GSTIN that was left to the others, they hear of it. Else: when to ask again.
    fn returns_to(&self, gstin: Gstin, now: Instant) -> Result<(), Duration> {
        self.idle.returns(gstin, now).map_err(|not_yet| {
            if not_yet.tells {
                self.logins.announce(gstin, Word::Returns);
            }
            not_yet.wait
        })
    }

    /// This replica's share of a GSTIN's rate: those that leave it to the others have none. Believed only as long as all
    /// replicas are known by name, because one that has died is not counted any more.
    fn share_of(&self, gstin: &Gstin) -> Share {
        let share = self.share();
        let Some(seat) = share.seat else {
            return share;
        };
        let idle = self.idle.others(gstin, Instant::now());
        if idle.is_empty() {
            return share;
        }
        let (counted, _) = seat.clock;
        let (idle, before_us) = self.roll().count_of(&idle, counted);
        let few = share.replicas.get().saturating_sub(idle);
        Share {
            replicas: NonZeroU32::new(few).unwrap_or(NonZeroU32::MIN),
            seat: Some(Seat {
                place: seat.place.saturating_sub(before_us),
                ..seat
            }),
        }
    }

    fn take_of_total(&self, gstin: Gstin, share: Share, class: Class) -> Result<(), Duration> {
        if class == Class::Bulk && !self.of_total.is_next(&gstin) {
            return Err(self.total.spacing(share.replicas));
        }
        self.total.take((), share, class)?;
        // Urgent ones are not among those that wait for their turn.
        if class == Class::Bulk {
            self.of_total.served(gstin);
        }
        Ok(())
    }

    /// Waits until a login for this GSTIN is within its rate, but not past `patience`. With more replicas than logins
    /// in a period, a second or so longer: they may all have started just now.
    pub async fn admit_login(&self, gstin: &Gstin, patience: Duration) -> Admission {
        let take = || self.logins.take(*gstin, self.replicas());
        let since = self.counted_since.get().map(Instant::elapsed);
        if !self.logins.is_crowded(self.replicas(), since) {
            return wait_for(patience, take, || ()).await;
        }
        match self.logins.take_among_others(*gstin, since, take).await {
            Ok(()) => Admission::Granted,
            Err(wait) => Admission::Wait(wait),
        }
    }

    /// From now on this replica has a name, and the others are told what it does for which GSTIN.
    pub fn announce_as(&self, replica: Arc<str>, announce: Box<Announce>) {
        self.roll().call_us(Arc::clone(&replica));
        self.logins.announce_as(replica, announce);
    }

    /// What the other replicas tell is heard from now on, or never.
    pub fn hears_others(&self, others: bool) {
        if others {
            self.hears_since.get_or_init(Instant::now);
        }
        self.hears_now.store(others, Ordering::Relaxed);
        self.logins.hears(others);
    }

    /// What they tell is not heard for now: who has left a GSTIN to us may be back.
    pub fn lost_others(&self) {
        self.hears_now.store(false, Ordering::Relaxed);
        self.logins.lost_others();
        self.idle.forget_others();
    }

    /// Another replica logs in for this GSTIN, or did so of late.
    pub fn heard_login(&self, replica: &str, gstin: Gstin, login: LoggedIn) {
        self.logins.heard(replica, gstin, login);
    }

    /// What was told of a login of this replica's has come back.
    pub fn heard_own_login(&self, gstin: Gstin, login: LoggedIn) {
        self.logins.heard_own(gstin, login);
    }

    /// Another replica has told of a login that it did not send.
    pub fn heard_withdrawn(&self, replica: &str, gstin: Gstin, number: u32) {
        self.logins.heard_withdrawn(replica, gstin, number);
    }

    /// This replica's logins of late, for those that have not heard of them.
    pub fn own_logins_of_late(&self) -> Vec<(Gstin, LoggedIn)> {
        let of_late = self.logins.of_late().into_iter();
        let own = of_late.filter(|(other, ..)| other.is_none());
        own.map(|(_, gstin, login)| (gstin, login)).collect()
    }

    /// The others' logins of late, first those of whom nothing was heard for the longest time: they may be gone.
    pub fn logins_of_others(&self) -> Vec<(Arc<str>, Gstin, LoggedIn)> {
        let of_late = self.logins.of_late().into_iter();
        let others = of_late.filter_map(|(other, gstin, login)| Some((other?, gstin, login)));
        let mut others: Vec<_> = others.collect();
        let roll = self.roll();
        others.sort_by_cached_key(|(other, ..)| roll.heard_at(other));
        others
    }

    /// Whether a replica that is still there has logged in for this GSTIN of late, and can do its jobs: who has lost its
    /// session says that it is idle.
    pub fn is_logged_in_elsewhere(&self, gstin: &Gstin) -> bool {
        // It cannot say so where it is not heard.
        if !self.hears_now.load(Ordering::Relaxed) {
            return false;
        }
        let now = Instant::now();
        let idle = self.idle.others(gstin, now);
        let is_idle = |replica: &str| idle.iter().any(|name| **name == *replica);
        let others = self.logins.others_of_late(gstin);
        let roll = self.roll();
        let mut others = others.iter();
        others.any(|replica| roll.knew(replica, now) && !is_idle(replica))
    }

    /// The next login of this GSTIN need not wait for those before it: an operator has seen to it, at all replicas.
    pub fn forget_logins(&self, gstin: &Gstin) {
        self.logins.forget(gstin);
    }

    /// The next login of this GSTIN need not wait for those of this replica, which were with other credentials; those of the
    /// others may have been with the new ones.
    pub fn forget_own_logins(&self, gstin: &Gstin) {
        self.logins.forget_own(gstin);
    }

    /// The login that was admitted last for this GSTIN is not sent: the others are told.
    pub fn give_login_back(&self, gstin: &Gstin) {
        self.logins.give_back(gstin);
    }

    /// The time between two calls of this account's GSTIN at the rate it has now.
    pub fn spacing(&self, account: &Account) -> Duration {
        let share = self.share_of(&account.gstin);
        self.rate_of(account).spacing(share.replicas)
    }

    /// The same of all replicas together.
    pub fn spacing_of_all(&self, account: &Account) -> Duration {
        self.rate_of(account).spacing(NonZeroU32::MIN)
    }

    /// In how long this account's GSTIN may call again at its own rate, if nobody else of it does before.
    pub fn due_in(&self, account: &Account) -> Duration {
        self.rate_of(account).due_in(&account.gstin)
    }

    /// What the fleet may do now, for the GSTINs that asked within this time; for all of them where none did.
    pub fn pace(&self, within: Duration) -> Pace {
        let (quick, slow) = (self.calls.asked(within), self.slowed.asked(within));
        let of_gstins = self.calls.per_second(quick) + self.slowed.per_second(slow);
        let total = self.total.per_second(1);
        let gstins = quick + slow;
        Pace {
            gstins,
            per_second: if gstins == 0 {
                total
            } else {
                total.min(of_gstins)
            },
        }
    }

    /// Room in the error budgets for the answer of one call or login; to be kept until that has been counted.
    pub fn reserve_error(&self, account: &Account) -> Allowance {
        let Account { gstin, client, .. } = account;
        self.budget.reserve(gstin, &client.name, self.replicas())
    }

    /// Counts an answer that the portal counts as an error.
    pub fn count_error(&self, account: &Account) {
        let Account { gstin, client, .. } = account;
        self.budget.count(gstin, &client.name, self.replicas());
    }

    /// What a replica that has just begun should know of: the errors of the GSTINs that have used a tenth of their budget.
    pub fn told_errors_of_gstins(&self) -> Vec<(Gstin, Errors)> {
        self.budget.told_of_gstins()
    }

    /// The same of clients.
    pub fn told_errors_of_clients(&self) -> Vec<(Arc<str>, Errors)> {
        self.budget.told_of_clients()
    }

    /// Another replica knows of these errors of a GSTIN. Heeded by one that has just begun to listen: what happened later
    /// it has seen itself. They leave a fifth of the budget in any case.
    pub fn heard_errors_of_gstin(&self, gstin: &Gstin, errors: &[(Duration, u32)]) {
        if self.is_new() {
            self.budget.heard_of_gstin(gstin, errors, self.replicas());
        }
    }

    /// The same of a client.
    pub fn heard_errors_of_client(&self, client: &str, errors: &[(Duration, u32)]) {
        if self.is_new() {
            self.budget.heard_of_client(client, errors, self.replicas());
        }
    }

    fn is_new(&self) -> bool {
        self.hears_since
            .get()
            .is_some_and(|since| since.elapsed() < NEW)
    }

    /// Whose error budget keeps this account from calling, if one does.
    pub fn stopped(&self, account: &Account) -> Option<Stopped> {
        let Account { gstin, client, .. } = account;
        self.budget.stopped(gstin, &client.name, self.replicas())
    }

    /// An operator has seen to the cause: this GSTIN's errors so far are forgiven. The client's are not.
    pub fn resume(&self, gstin: &Gstin) {
        self.budget.resume(gstin);
    }

    /// The same for all of a client's GSTINs together.
    pub fn resume_client(&self, client: &str) {
        self.budget.resume_client(client);
    }

    /// How much of a GSTIN's error budget is used.
    pub fn budget_of(&self, gstin: &Gstin) -> Usage {
        self.budget.of_gstin(gstin, self.replicas())
    }

    /// Whether less than one part in so many is used of this account's error budgets, its client's included.
    pub fn has_spent_less(&self, account: &Account, part: u32) -> bool {
        let of_gstin = self.budget_of(&account.gstin);
        let of_client = self.budget.of_client(&account.client.name, self.replicas());
        [of_gstin, of_client]
            .iter()
            .all(|usage| usage.used < usage.limit / part)
    }

    /// The GSTINs with errors in their window.
    pub fn gstins_with_errors(&self) -> Vec<Gstin> {
        self.budget.gstins()
    }

    /// The clients with errors in their window, and how much of their budget is used.
    pub fn budgets_of_clients(&self) -> Vec<(String, Usage)> {
        let clients = self.budget.clients().into_iter();
        let usage = |name: &str| self.budget.of_client(name, self.replicas());
        clients
            .map(|name| (name.to_string(), usage(&name)))
            .collect()
    }

    /// Forgets what has been quiet for long enough to count as new, and tells how the error budgets stand. To be
    /// called now and then.
    pub fn tidy(&self) {
        self.calls.forget_the_quiet();
        self.slowed.forget_the_quiet();
        self.of_total.forget_the_old();
        self.logins.forget_the_quiet();
        self.idle.tidy(Instant::now());
        self.budget.tidy(self.replicas());
    }

    fn rate_of(&self, account: &Account) -> &Paced<Gstin> {
        let Account { gstin, client, .. } = account;
        match self.budget.state(gstin, &client.name, self.replicas()) {
            BudgetState::Open => &self.calls,
            BudgetState::Slow | BudgetState::Warned | BudgetState::Stopped => &self.slowed,
        }
    }
}

/// Takes as soon as it can; `waits` is called before each wait.
async fn wait_for(
    patience: Duration,
    mut take: impl FnMut() -> Result<(), Duration>,
    mut waits: impl FnMut(),
) -> Admission {
    let deadline = Instant::now() + patience;
    loop {
        let Err(delay) = take() else {
            return Admission::Granted;
        };
        if Instant::now() + delay > deadline {
            return Admission::Wait(delay);
        }
        waits();
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests;
