//! What the portal's breakers mean to one attempt: whether it may call now, and whether a failure was its own.
//!
//! One rule: a job pays for its own failures only. What fails because the portal is down is no attempt.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::case::Case;
use super::lanes::PATIENCE;
use super::portals::Portal;
use super::settle::Ending;
use crate::gstin::Gstin;
use crate::irp::IrpError;
use crate::limits::{Scope, View};
use crate::outcome::PortalSign;

/// Nothing was sent, because nothing would be answered.
pub(super) const NOT_ASKED: Ending = Ending::PortalDown { sent: false };

/// Which breaker a call belongs to. Masters are served beside the logins.
pub(super) fn scope_of(call: &str) -> Scope {
    match call {
        "auth" | "gstin_details" | "sync_gstin" => Scope::Login,
        "ewb" | "get_ewb" => Scope::EwayBill,
        _ => Scope::Core,
    }
}

/// An attempt that ended because the portal was down.
pub(super) fn down(error: &IrpError) -> Ending {
    Ending::PortalDown {
        sent: !matches!(error, IrpError::NotSent(_)),
    }
}

impl Portal {
    /// An error while this part of the portal is known to be down: not worth a login.
    pub(super) fn unless_down(&self, scope: Scope) -> Result<(), Box<Ending>> {
        match self.breakers.view(scope) {
            View::Open { .. } => Err(Box::new(NOT_ASKED)),
            View::Closed | View::HalfOpen { .. } => Ok(()),
        }
    }

    /// Waits until a call of this GSTIN may go, as far as the portal has said when, and for a portal that is being tried
    /// no longer than `patience`.
    pub(super) async fn ready(
        &self,
        scope: Scope,
        gstin: &Gstin,
        patience: Duration,
        stop: &CancellationToken,
    ) -> Result<(), Box<Ending>> {
        if let Some(wait) = self.breakers.held_for(gstin) {
            if wait > PATIENCE {
                let why = "retry-after";
                return Err(Box::new(Ending::Deferred { wait, why }));
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return Err(Box::new(Ending::HandedBack)),
            }
        }
        tokio::select! {
            ready = self.breakers.ready(scope, patience) => {
                ready.map_err(|_| Box::new(NOT_ASKED))
            }
            () = stop.cancelled() => Err(Box::new(Ending::HandedBack)),
        }
    }

    /// The same after another wait: a GSTIN that was told to wait meanwhile does, but not with its turn in hand.
    pub(super) async fn is_ready_still(
        &self,
        scope: Scope,
        gstin: &Gstin,
        patience: Duration,
        stop: &CancellationToken,
    ) -> Result<(), Box<Ending>> {
        if let Some(wait) = self.breakers.held_for(gstin) {
            let why = "retry-after";
            return Err(Box::new(Ending::Deferred { wait, why }));
        }
        self.ready(scope, gstin, patience, stop).await
    }

    /// Whether a call of this job failed because the portal is down for everybody.
    pub(super) async fn is_down(&self, scope: Scope, case: &Case, error: &IrpError) -> bool {
        let since = case.received;
        match error.sign() {
            None | Some(PortalSign::Answered) => false,
            Some(PortalSign::Unreached) => {
                self.nobody_answered(scope, since) || self.breakers.is_to_blame(scope, since).await
            }
            Some(PortalSign::Silent { .. }) => self.breakers.is_to_blame(scope, since).await,
            // Whoever else is throttled says nothing of this GSTIN's pace.
            Some(PortalSign::Throttled { .. }) => self.breakers.opened_since(scope, since),
        }
    }

    /// A connection refused all the time, and to everybody, is no fault of a job's.
    fn nobody_answered(&self, scope: Scope, since: Instant) -> bool {
        !self.breakers.answered_since(scope, since)
    }

    /// Whether a login failed because the portal answers none.
    pub(super) async fn logins_are_down(&self, case: &Case) -> bool {
        self.breakers.is_to_blame(Scope::Login, case.received).await
    }
}
