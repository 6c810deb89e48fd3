//! What can be seen of the sessions without a login: for whoever chooses a portal, and for whoever watches.

use std::sync::Arc;
use std::time::Duration;

use super::Sessions;
use crate::config::credentials::Account;
use crate::gstin::Gstin;

/// One session, for those who watch.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Whose.
    pub gstin: Gstin,
    /// Seconds the token is good for; `None` if there is none.
    pub remaining: Option<Duration>,
    /// The portal refused its credentials.
    pub refused: bool,
    /// Its sessions keep being refused right after the login: another system uses the same API user.
    pub contended: bool,
}

impl Sessions {
    /// Whether this account has a usable session.
    pub async fn has_session(&self, account: &Account) -> bool {
        let lane = self.lanes.get(&account.gstin).map(|lane| Arc::clone(&lane));
        match lane {
            Some(lane) => lane.usable(account).await.is_some(),
            None => false,
        }
    }

    /// Whether the portal has refused these credentials.
    pub fn is_refused(&self, account: &Account) -> bool {
        let lane = self.lanes.get(&account.gstin).map(|lane| Arc::clone(&lane));
        lane.is_some_and(|lane| {
            // A login under way holds the lock; its account is not refused.
            lane.login.try_lock().is_ok_and(|state| {
                let refused = state.refused.as_ref();
                refused.is_some_and(|(refused, _)| **refused == *account)
            })
        })
    }

    /// Whether another system seems to use this GSTIN's API user, too.
    pub fn is_contended(&self, gstin: &Gstin) -> bool {
        let lane = self.lanes.get(gstin).map(|lane| Arc::clone(&lane));
        lane.is_some_and(|lane| lane.contention.is_on())
    }

    /// Every account a session was ever asked for.
    pub async fn statuses(&self) -> Vec<SessionStatus> {
        let lanes: Vec<_> = self
            .lanes
            .iter()
            .map(|entry| (*entry.key(), Arc::clone(entry.value())))
            .collect();
        let mut statuses = Vec::with_capacity(lanes.len());
        for (gstin, lane) in lanes {
            let remaining = lane
                .current
                .read()
                .await
                .as_ref()
                .map(|session| session.remaining());
            // A login under way holds the lock; its account is not refused.
            let refused = lane
                .login
                .try_lock()
                .is_ok_and(|state| state.refused.is_some());
            statuses.push(SessionStatus {
                gstin,
                remaining,
                refused,
                contended: lane.contention.is_on(),
            });
        }
        statuses.sort_by_key(|status| status.gstin);
        statuses
    }

    /// Whether any account has a usable session. One that is just being replaced counts.
    pub fn any_live(&self) -> bool {
        self.lanes.iter().any(|lane| {
            lane.current.try_read().map_or(true, |current| {
                current.as_ref().is_some_and(|session| session.is_usable())
            })
        })
    }
}
