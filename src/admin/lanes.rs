//! What `/status` says of each GSTIN: its session, its pace, its error budget, and why it stands still if it does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;

use super::pauses::{PauseStatus, PausedBy};
use crate::config::credentials::Credentials;
use crate::control::{Paused, Whom};
use crate::gstin::Gstin;
use crate::limits::{BudgetState, Limits, Scaling, Stopped, Usage};
use crate::sessions::{SessionStatus, Sessions};
use crate::telemetry;

/// How many of a GSTIN's jobs are worked on, and how many wait for their turn.
pub type Held = dyn Fn(&Gstin) -> (usize, usize) + Send + Sync;

/// Where the lanes' state is read.
#[derive(Clone)]
pub struct LanesView {
    /// Logins per GSTIN, of each route.
    pub sessions: Arc<[Arc<Sessions>]>,
    /// Rates and error budgets.
    pub limits: Arc<Limits>,
    /// How many replicas would be of use.
    pub scaling: Arc<Scaling>,
    /// Which client a GSTIN belongs to.
    pub credentials: Arc<ArcSwap<Credentials>>,
    /// What operators have paused.
    pub paused: Paused,
    /// Jobs in the lanes.
    pub held: Arc<Held>,
}

impl std::fmt::Debug for LanesView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LanesView(..)")
    }
}

/// One GSTIN.
#[derive(Debug, Serialize)]
pub(super) struct Lane {
    pub(super) gstin: Gstin,
    pub(super) token_expires_in_seconds: Option<u64>,
    pub(super) credentials: &'static str,
    /// Another system keeps replacing its sessions.
    pub(super) token_contention: bool,
    pub(super) in_flight: usize,
    pub(super) waiting: usize,
    pub(super) rate_per_second: Option<f64>,
    pub(super) error_budget: ErrorBudget,
    /// Why its jobs end without a call.
    pub(super) stopped: Option<String>,
    /// Why its jobs wait, though nothing is wrong.
    pub(super) paused: Option<PausedBy>,
}

/// An error budget, as this replica has it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ErrorBudget {
    pub(super) used: u32,
    pub(super) limit: u32,
    pub(super) state: &'static str,
    /// When the first errors are forgotten.
    pub(super) moves_in_seconds: Option<u64>,
}

/// One client of the credentials file that has had errors.
#[derive(Debug, Serialize)]
pub(super) struct Client {
    pub(super) client: String,
    pub(super) error_budget: ErrorBudget,
}

impl LanesView {
    /// Every GSTIN that has asked for a session, has errors in its window, or is paused.
    pub(super) async fn lanes(&self) -> Vec<Lane> {
        let sessions = self.sessions().await.into_iter();
        let mut known: BTreeMap<Gstin, Option<SessionStatus>> = sessions
            .map(|(gstin, status)| (gstin, Some(status)))
            .collect();
        let paused = self.paused.all().into_iter();
        let paused = paused.filter_map(|(whom, _)| match whom {
            Whom::Gstin(gstin) => Some(gstin),
            Whom::Client(_) | Whom::Portal => None,
        });
        for gstin in self.limits.gstins_with_errors().into_iter().chain(paused) {
            known.entry(gstin).or_insert(None);
        }
        let known = known.into_iter();
        known
            .map(|(gstin, session)| self.lane(gstin, session))
            .collect()
    }

    /// Every account a session was ever asked for: of one that has changed its route, what its new one says.
    pub(super) async fn sessions(&self) -> BTreeMap<Gstin, SessionStatus> {
        let mut all = BTreeMap::new();
        for sessions in self.sessions.iter() {
            for status in sessions.statuses().await {
                let says_nothing = status.remaining.is_none() && !status.refused;
                if !(says_nothing && all.contains_key(&status.gstin)) {
                    all.insert(status.gstin, status);
                }
            }
        }
        let live = all.values().filter(|status| status.remaining.is_some());
        let refused = all.values().filter(|status| status.refused);
        telemetry::sessions_live(live.count(), refused.count());
        all
    }

    /// What operators have paused.
    pub(super) fn pauses(&self) -> Vec<PauseStatus> {
        let pauses = self.paused.all().into_iter();
        pauses.map(PauseStatus::from).collect()
    }

    /// The clients that have had errors.
    pub(super) fn clients(&self) -> Vec<Client> {
        let budgets = self.limits.budgets_of_clients().into_iter();
        let mut clients: Vec<_> = budgets
            .map(|(client, usage)| Client {
                client,
                error_budget: usage.into(),
            })
            .collect();
        clients.sort_unstable_by(|a, b| a.client.cmp(&b.client));
        clients
    }

    /// How many replicas share the limits.
    pub(super) fn replicas(&self) -> u32 {
        self.limits.replicas().get()
    }

    /// Which of them this one is, where they take turns.
    pub(super) fn place(&self) -> Option<u32> {
        self.limits.place()
    }

    fn lane(&self, gstin: Gstin, session: Option<SessionStatus>) -> Lane {
        let account = self.credentials.load().accounts.get(&gstin).cloned();
        let usage = self.limits.budget_of(&gstin);
        let refused = session.as_ref().is_some_and(|session| session.refused);
        let of_client = account.as_ref().and_then(|a| self.limits.stopped(a));
        let stopped = match (usage.state, of_client) {
            _ if refused => Some("the portal refused its credentials or account".to_owned()),
            (BudgetState::Stopped, _) => Some(Stopped::Gstin.to_string()),
            (_, whose) => whose.map(|whose| whose.to_string()),
        };
        let client = account.as_ref().map(|account| account.client.name.as_str());
        let paused = self.paused.of(&gstin, client).map(PausedBy::from);
        let (in_flight, waiting) = (self.held)(&gstin);
        let token_contention = session.as_ref().is_some_and(|session| session.contended);
        Lane {
            gstin,
            token_expires_in_seconds: session
                .and_then(|session| session.remaining)
                .map(|left| left.as_secs()),
            credentials: match (refused, &account) {
                (true, _) => "refused",
                (false, Some(_)) => "ok",
                (false, None) => "none",
            },
            token_contention,
            in_flight,
            waiting,
            rate_per_second: account.map(|a| per_second(self.limits.spacing(&a))),
            error_budget: usage.into(),
            stopped,
            paused,
        }
    }
}

impl From<Usage> for ErrorBudget {
    fn from(usage: Usage) -> Self {
        Self {
            used: usage.used,
            limit: usage.limit,
            state: usage.state.as_str(),
            moves_in_seconds: usage.moves_in.map(|wait| wait.as_secs()),
        }
    }
}

/// To three places: a share of a rate need not be a whole number.
fn per_second(spacing: Duration) -> f64 {
    (1_000.0 / spacing.as_secs_f64()).round() / 1_000.0
}
