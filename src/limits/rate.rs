//! What may be sent now: so many calls and logins in a period, as the fleet and the error budget allow.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::budget::{Allowance, Budget, BudgetState, Stopped, Usage};
use super::logins::{Announce, Logins};
use super::paced::Paced;
use crate::config::credentials::Account;
use crate::config::{LimitsConfig, Rate};
use crate::gstin::Gstin;
use crate::job::Class;
use crate::telemetry;

/// A GSTIN with half of its error budget used is slowed to this part of its rate.
const SLOWED_TO_ONE_IN: u32 = 4;

/// Nobody has counted the replicas yet; there is one.
const NOT_COUNTED: u32 = 0;

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
    logins: Logins,
    budget: Budget,
    replicas: AtomicU32,
    counted_since: OnceLock<Instant>,
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
            logins: Logins::new(config.auth_per_gstin),
            budget: Budget::new(config.error_budget_per_gstin, config.error_budget_total),
            replicas: AtomicU32::new(NOT_COUNTED),
            counted_since: OnceLock::new(),
        }
    }

    /// From now on, so many replicas share every limit.
    pub fn share_among(&self, replicas: NonZeroU32) {
        self.counted_since.get_or_init(Instant::now);
        if self.replicas.swap(replicas.get(), Ordering::Relaxed) != replicas.get() {
            telemetry::replicas_seen(replicas.get());
        }
    }

    /// How many replicas share every limit.
    pub fn replicas(&self) -> NonZeroU32 {
        NonZeroU32::new(self.replicas.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN)
    }

    /// Waits until a call for this account's GSTIN is within its rate and the total, but not past `patience`. A GSTIN
    /// that has used half of its error budget is slowed. An urgent call goes before the others that wait.
    pub async fn admit_call(
        &self,
        account: &Account,
        class: Class,
        patience: Duration,
    ) -> Admission {
        let (own, gstin) = (self.rate_of(account), account.gstin);
        let of_total = AtomicBool::new(false);
        let (mut ahead, mut ahead_of_all) = (None, None);
        // Its own is kept until the GSTIN's next one is due, and then void: those that had theirs and waited for the total
        // would all go together.
        let mut void_from = None;
        let take = || {
            let replicas = self.replicas();
            let now = Instant::now();
            if void_from.is_none_or(|from| from <= now) {
                of_total.store(false, Ordering::Relaxed);
                own.take(gstin, replicas, class)?;
                void_from = Some(now + own.spacing(replicas));
            }
            of_total.store(true, Ordering::Relaxed);
            self.total.take((), replicas, class)
        };
        let waits = || match (class, of_total.load(Ordering::Relaxed)) {
            (Class::Bulk, _) => {}
            (Class::Urgent, false) if ahead.is_none() => ahead = own.wait_ahead(gstin),
            (Class::Urgent, true) if ahead_of_all.is_none() => {
                ahead_of_all = self.total.wait_ahead(());
            }
            (Class::Urgent, _) => {}
        };
        wait_for(patience, take, waits).await
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

    /// From now on, the other replicas are told of this one's logins.
    pub fn announce_logins_as(&self, replica: Arc<str>, announce: Box<Announce>) {
        self.logins.announce_as(replica, announce);
    }

    /// What the other replicas say of their logins is heard from now on, or never.
    pub fn hears_of_logins(&self, others: bool) {
        self.logins.hears(others);
    }

    /// Another replica logs in for this GSTIN.
    pub fn heard_login(&self, replica: &str, gstin: Gstin) {
        self.logins.heard(replica, gstin);
    }

    /// The GSTINs for which this replica has logged in of late, for those that have not heard of it.
    pub fn own_logins_of_late(&self) -> Vec<Gstin> {
        self.logins.own_of_late()
    }

    /// The next login of this GSTIN need not wait for those before it: they were with other credentials.
    pub fn forget_logins(&self, gstin: &Gstin) {
        self.logins.forget(gstin);
    }

    /// The time between two calls of this account's GSTIN at the rate it has now.
    pub fn spacing(&self, account: &Account) -> Duration {
        self.rate_of(account).spacing(self.replicas())
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
        self.logins.forget_the_quiet();
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
