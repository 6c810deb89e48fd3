//! How many jobs may be taken from the queues now, as the portal's breakers and the operators say.
//!
//! One rule: a job that could only fail is not taken. What is in its queue waits there, uncounted, in its order.

use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::Instant;

use super::Worker;
use super::portals::{Portal, Portals};
use crate::limits::{Scope, View};

/// How often it is looked whether a session has come or gone, or a pause has ended, while that matters.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many jobs may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// As many as there are slots.
    Wide,
    /// So many at once, to see whether the portal is back.
    Narrow(usize),
    /// None.
    Shut(Shut),
}

/// Why none may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    /// The portal is down.
    PortalDown,
    /// An operator has paused everybody.
    Paused,
    /// It is not known yet who is paused.
    PausesUnread,
}

impl Gate {
    /// How many slots may be taken, if fewer than there are.
    pub(super) fn width(self) -> Option<usize> {
        match self {
            Self::Wide => None,
            Self::Narrow(width) => Some(width),
            Self::Shut(_) => Some(0),
        }
    }

    /// Whether no job is taken.
    pub(super) fn is_shut(self) -> bool {
        matches!(self, Self::Shut(_))
    }
}

/// What the breakers make of the gate. Logins matter only while there is no session: a job with one needs none.
fn gate(core: View, login: View, live_session: bool) -> Gate {
    let login = if live_session { View::Closed } else { login };
    match (core, login) {
        (View::Open { .. }, _) | (_, View::Open { .. }) => Gate::Shut(Shut::PortalDown),
        (View::HalfOpen { width: core }, View::HalfOpen { width: login }) => {
            Gate::Narrow(core.min(login))
        }
        (View::HalfOpen { width }, View::Closed) | (View::Closed, View::HalfOpen { width }) => {
            Gate::Narrow(width)
        }
        (View::Closed, View::Closed) => Gate::Wide,
    }
}

impl Worker {
    /// How many jobs may be taken now.
    pub(super) fn gate(&self) -> Gate {
        if !self.paused.is_settled() {
            return Gate::Shut(Shut::PausesUnread);
        }
        if self.paused.portal().is_some() {
            return Gate::Shut(Shut::Paused);
        }
        self.routes.gate()
    }

    /// Ends when the gate is another.
    pub(super) async fn gate_changed(&self, from: Gate) {
        let mut changes: Vec<_> = self
            .routes
            .portals()
            .map(|portal| portal.breakers.changes())
            .collect();
        let mut pauses = self.paused.changes();
        while self.gate() == from {
            let any = select_all(changes.iter_mut().map(|change| Box::pin(change.changed())));
            tokio::select! {
                _ = any => {}
                () = pauses.changed() => {}
                () = tokio::time::sleep_until(self.next_look()) => {}
            }
        }
    }

    /// When time alone may change the gate.
    fn next_look(&self) -> Instant {
        let far = Instant::now() + LOOK_EVERY;
        let tries = self.routes.portals().filter_map(Portal::next_try);
        tries.min().map_or(far, |until| until.min(far))
    }
}

impl Portals {
    /// What their breakers leave open. With a portal to turn to, it is enough that one of them is up.
    pub(super) fn gate(&self) -> Gate {
        let gates = self.all().map(|portal| {
            let login = portal.breakers.view(Scope::Login);
            let live = login == View::Closed || portal.sessions.any_live();
            gate(portal.breakers.view(Scope::Core), login, live)
        });
        gates
            .max_by_key(|gate| gate.width().unwrap_or(usize::MAX))
            .unwrap_or(Gate::Shut(Shut::PortalDown))
    }

    /// In how long the first of them is tried again; none: now.
    pub(super) fn tried_in(&self) -> Duration {
        let tries = self.all().filter_map(Portal::next_try);
        tries.min().map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }
}

impl Portal {
    /// When it is tried again, if one of its breakers is open.
    fn next_try(&self) -> Option<Instant> {
        let opens = Scope::ALL
            .into_iter()
            .filter_map(|scope| match self.breakers.view(scope) {
                View::Open { until } => Some(until),
                View::Closed | View::HalfOpen { .. } => None,
            });
        opens.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn logins_matter_only_while_there_is_no_session() {
        let until = Instant::now();
        let (shut, narrow) = (View::Open { until }, |width| View::HalfOpen { width });
        for (core, login, live, expected) in [
            (View::Closed, View::Closed, false, Gate::Wide),
            (View::Closed, shut, true, Gate::Wide),
            (View::Closed, shut, false, Gate::Shut(Shut::PortalDown)),
            (shut, View::Closed, true, Gate::Shut(Shut::PortalDown)),
            (narrow(4), View::Closed, true, Gate::Narrow(4)),
            (narrow(4), narrow(2), false, Gate::Narrow(2)),
            (narrow(4), narrow(2), true, Gate::Narrow(4)),
            (narrow(4), shut, false, Gate::Shut(Shut::PortalDown)),
            (View::Closed, narrow(1), false, Gate::Narrow(1)),
        ] {
            assert_eq!(
                gate(core, login, live),
                expected,
                "{core:?} {login:?} {live}"
            );
        }
    }
}
