//! The portals of one route: the primary one, and perhaps another to turn to while that is down. They have one contract,
//! one set of credentials and one central register of duplicates, but sessions, breakers and documents of their own.
//!
//! One rule: a document whose submit has left for a portal is looked up there before it is submitted anywhere else. The
//! central register catches a second registration as a rule, not always; then one of the two is rejected later.

use std::sync::Arc;
use std::time::Duration;

use crate::config::credentials::Account;
use crate::irp::Irp;
use crate::limits::{Breakers, Scope, Slots, View};
use crate::sessions::Sessions;

/// One portal, and what is known of it.
#[derive(Clone, Debug)]
pub struct Portal {
    /// Its address without the scheme. Goes into `x-irn-portal`, so it is the same in all replicas and after a change of
    /// which portal comes first.
    pub name: Arc<str>,
    /// The calls.
    pub irp: Arc<Irp>,
    /// The logins.
    pub sessions: Arc<Sessions>,
    /// Whether it is there.
    pub breakers: Arc<Breakers>,
    /// How much it can take.
    pub slots: Arc<Slots>,
}

/// All portals of one route.
#[derive(Debug)]
pub struct Portals {
    primary: Portal,
    failover: Option<Portal>,
}

impl Portal {
    /// A portal at this base URL.
    pub fn new(
        base_url: &str,
        irp: Arc<Irp>,
        sessions: Arc<Sessions>,
        breakers: Arc<Breakers>,
        slots: Arc<Slots>,
    ) -> Self {
        let name = base_url
            .split_once("://")
            .map_or(base_url, |(_, name)| name);
        Self {
            name: name.into(),
            irp,
            sessions,
            breakers,
            slots,
        }
    }

    /// Whether a look-up could be made there now.
    pub(super) fn answers(&self, scope: Scope) -> bool {
        !matches!(self.breakers.view(scope), View::Open { .. })
    }

    /// Whether a submit may go there now: the portal is up, or is to be tried. Logins matter to whom has no session.
    async fn takes_submits(&self, account: &Account) -> bool {
        let ready = async |scope| self.breakers.ready(scope, Duration::ZERO).await.is_ok();
        ready(Scope::Core).await
            && (ready(Scope::Login).await || self.sessions.has_session(account).await)
    }
}

impl Portals {
    /// The primary portal, and the one to turn to.
    pub fn new(primary: Portal, failover: Option<Portal>) -> Self {
        Self { primary, failover }
    }

    /// Both.
    pub fn all(&self) -> impl Iterator<Item = &Portal> {
        std::iter::once(&self.primary).chain(&self.failover)
    }

    /// Whether it is the one to turn to only while the other is down.
    pub(super) fn is_failover(&self, portal: &Portal) -> bool {
        portal.name != self.primary.name
    }

    /// Whether a call may go to one of them now.
    pub(super) fn admits(&self) -> bool {
        self.all().any(|portal| portal.breakers.admits(Scope::Core))
    }

    /// The other one, if there is another.
    pub(super) fn other_than(&self, portal: &Portal) -> Option<&Portal> {
        self.all().find(|other| other.name != portal.name)
    }

    /// Whether there is one to turn to.
    pub(super) fn are_two(&self) -> bool {
        self.failover.is_some()
    }

    /// Where a document goes that is registered nowhere: to the primary portal while that is up.
    pub(super) async fn for_submit(&self, account: &Account) -> &Portal {
        let Some(failover) = &self.failover else {
            return &self.primary;
        };
        let stays = self.primary.takes_submits(account).await
            || !failover.takes_submits(account).await
            || failover.sessions.is_refused(account);
        if stays { &self.primary } else { failover }
    }

    /// Where a document in doubt may be registered: at the portal that its submit left for, if that is known, else at
    /// each of them. Those that answer come first.
    pub(super) async fn holding(&self, pin: Option<&str>, account: &Account) -> Vec<&Portal> {
        let pinned = pin.and_then(|name| self.all().find(|portal| *portal.name == *name));
        if let Some(portal) = pinned {
            return vec![portal];
        }
        let mut portals: Vec<&Portal> = self.all().collect();
        if self.failover.is_some() && !self.primary.takes_submits(account).await {
            portals.reverse();
        }
        portals
    }
}
