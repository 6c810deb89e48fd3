//! The breakers of one portal, shared by all who call it, and how long it asked each GSTIN to wait.
//!
//! One rule: whoever calls asks [`Breakers::ready`] first and tells the end through [`Breakers::begin`]; nobody
//! remembers for himself that the portal is down.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::{Breaker, Epoch, Scope, View, clamped};
use crate::gstin::Gstin;
use crate::outcome::PortalSign;
use crate::telemetry::{self, BreakerState};

/// Longer than this nobody waits to learn from other calls whether the portal is down.
const VERDICT_PATIENCE: Duration = Duration::from_secs(2);

/// The breakers of one portal.
#[derive(Debug)]
pub struct Breakers {
    /// What stands before their names in events and metrics.
    prefix: String,
    login: Guarded,
    core: Guarded,
    eway_bill: Guarded,
    /// GSTINs that were told to wait.
    held: DashMap<Gstin, Instant>,
    /// Changes with every state, and with the end of every call while one of them is not closed.
    changed: watch::Sender<()>,
    /// Changes with the end of every call.
    ended: watch::Sender<()>,
    /// A bit for each that is not closed.
    troubled: AtomicU8,
}

#[derive(Debug)]
struct Guarded(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    breaker: Breaker,
    told: BreakerState,
}

/// A call on the way. Dropped without an end it was given up, and says nothing.
#[derive(Debug)]
pub struct UnderWay<'a> {
    breakers: &'a Breakers,
    scope: Scope,
    gstin: Gstin,
    epoch: Epoch,
    sign: Option<PortalSign>,
}

/// A breaker's place in `troubled`.
fn bit_of(scope: Scope) -> u8 {
    match scope {
        Scope::Login => 1,
        Scope::Core => 2,
        Scope::EwayBill => 4,
    }
}

impl UnderWay<'_> {
    /// The call has ended with this.
    pub fn end(mut self, sign: Option<PortalSign>) {
        self.sign = sign;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.breakers.ended(self);
    }
}

impl Breakers {
    /// Closed ones. A half-open breaker lets up to `concurrency` calls through before it closes.
    pub fn new(concurrency: usize) -> Self {
        Self::named(concurrency, None, false)
    }

    /// The same for a portal of this route, or for the one to turn to there while the first one is down.
    pub fn named(concurrency: usize, route: Option<&str>, is_failover: bool) -> Self {
        let route = route.map(|route| format!("{route}_")).unwrap_or_default();
        let prefix = format!("{route}{}", if is_failover { "failover_" } else { "" });
        let of = |scope: Scope| {
            let name = format!("{prefix}{}", scope.as_str());
            telemetry::breaker_state(&name, BreakerState::Closed);
            Guarded(Mutex::new(Inner {
                breaker: Breaker::new(scope, concurrency),
                told: BreakerState::Closed,
            }))
        };
        Self {
            login: of(Scope::Login),
            core: of(Scope::Core),
            eway_bill: of(Scope::EwayBill),
            held: DashMap::new(),
            changed: watch::Sender::new(()),
            ended: watch::Sender::new(()),
            troubled: AtomicU8::new(0),
            prefix,
        }
    }

    /// What a breaker allows now.
    pub fn view(&self, scope: Scope) -> View {
        let mut inner = self.lock(scope);
        let view = inner.breaker.view(Instant::now());
        self.tell(scope, &mut inner, view);
        view
    }

    /// Whether a call may go now.
    pub fn admits(&self, scope: Scope) -> bool {
        self.lock(scope).breaker.admits(Instant::now())
    }

    /// Waits until a call may go, but not past `patience` nor for an open breaker; then says when to ask again.
    pub async fn ready(&self, scope: Scope, patience: Duration) -> Result<(), Duration> {
        let deadline = Instant::now() + patience;
        let mut changes = self.ended.subscribe();
        loop {
            if let View::Open { until } = self.view(scope) {
                return Err(until.saturating_duration_since(Instant::now()));
            }
            if self.lock(scope).breaker.admits(Instant::now()) {
                return Ok(());
            }
            // The sender lives as long as `self`: only the deadline ends this otherwise.
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                return Err(patience);
            }
        }
    }

    /// A call goes now.
    pub fn begin(&self, scope: Scope, gstin: &Gstin) -> UnderWay<'_> {
        let epoch = self.lock(scope).breaker.begin();
        UnderWay {
            breakers: self,
            scope,
            gstin: *gstin,
            epoch,
            sign: None,
        }
    }

    /// Ends when this breaker is open.
    pub async fn opened(&self, scope: Scope) {
        let mut changes = self.changed.subscribe();
        while !matches!(self.view(scope), View::Open { .. }) {
            if changes.changed().await.is_err() {
                // Never: the sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends at the next change of any breaker; the time at which an open one becomes half-open is no change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether it was the portal that made a call fail and not the job: the breaker has been open since `began`, or
    /// it opens now because the other calls on the way end no better. Waits for them, but not for long.
    pub async fn is_to_blame(&self, scope: Scope, began: Instant) -> bool {
        let failed = Instant::now();
        let deadline = failed + VERDICT_PATIENCE;
        let mut changes = self.ended.subscribe();
        loop {
            {
                let inner = self.lock(scope);
                if inner.breaker.opened_since(began) {
                    return true;
                }
                if !inner.breaker.waits_for_others() || inner.breaker.answered_since(failed) {
                    return false;
                }
            }
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                return false;
            }
        }
    }

    /// Whether the breaker has opened since then.
    pub fn opened_since(&self, scope: Scope, moment: Instant) -> bool {
        self.lock(scope).breaker.opened_since(moment)
    }

    /// Whether the portal has said anything readable since then.
    pub fn answered_since(&self, scope: Scope, moment: Instant) -> bool {
        self.lock(scope).breaker.answered_since(moment)
    }

    /// How long the portal asked this GSTIN to wait from now on.
    pub fn held_for(&self, gstin: &Gstin) -> Option<Duration> {
        let until = *self.held.get(gstin)?;
        let wait = until.saturating_duration_since(Instant::now());
        (!wait.is_zero()).then_some(wait)
    }

    /// Forgets waits that are over. To be called now and then.
    pub fn forget_the_past(&self) {
        let now = Instant::now();
        self.held.retain(|_, until| *until > now);
    }

    fn ended(&self, call: &UnderWay<'_>) {
        if let Some(wait) = call.sign.and_then(PortalSign::retry_after) {
            let until = Instant::now() + clamped(wait);
            let mut held = self.held.entry(call.gstin).or_insert(until);
            *held = until.max(*held);
        }
        let mut inner = self.lock(call.scope);
        let now = Instant::now();
        inner.breaker.end(now, call.epoch, call.sign, &call.gstin);
        let view = inner.breaker.view(now);
        self.tell(call.scope, &mut inner, view);
        drop(inner);
        self.ended.send_replace(());
        // The consume loop listens: with all breakers closed, no call's end concerns it.
        if self.troubled.load(Ordering::Relaxed) != 0 {
            self.changed.send_replace(());
        }
    }

    fn tell(&self, scope: Scope, inner: &mut Inner, view: View) {
        let (state, wait) = match view {
            View::Closed => (BreakerState::Closed, None),
            View::HalfOpen { .. } => (BreakerState::HalfOpen, None),
            View::Open { until } => (
                BreakerState::Open,
                Some(until.saturating_duration_since(Instant::now())),
            ),
        };
        if inner.told != state {
            inner.told = state;
            let bit = bit_of(scope);
            match state {
                BreakerState::Closed => self.troubled.fetch_and(!bit, Ordering::Relaxed),
                BreakerState::HalfOpen | BreakerState::Open => {
                    self.troubled.fetch_or(bit, Ordering::Relaxed)
                }
            };
            let name = format!("{}{}", self.prefix, scope.as_str());
            telemetry::breaker_changed(&name, state, wait);
            self.changed.send_replace(());
            self.ended.send_replace(());
        }
    }

    fn lock(&self, scope: Scope) -> MutexGuard<'_, Inner> {
        let guarded = match scope {
            Scope::Login => &self.login,
            Scope::Core => &self.core,
            Scope::EwayBill => &self.eway_bill,
        };
        // A breaker is never left half-changed: nothing under the lock can panic.
        guarded.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
