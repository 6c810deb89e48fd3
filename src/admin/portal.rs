//! The portal's part of `/status`: its breakers, and how many jobs are worked on at once.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::limits::{Breakers, Scope, Slots, View};

/// What is known of the portal.
#[derive(Clone, Debug)]
pub struct PortalView {
    /// Whether it is there.
    pub breakers: Arc<Breakers>,
    /// How much it can take.
    pub slots: Arc<Slots>,
}

/// What is known of one route.
#[derive(Clone, Debug)]
pub struct RouteView {
    /// As clients call it; none for the one that has no name.
    pub name: Option<Arc<str>>,
    /// Its portal.
    pub portal: PortalView,
    /// The portal to turn to there, if there is one.
    pub failover: Option<PortalView>,
}

#[derive(Debug, Serialize)]
pub(super) struct RouteStatus {
    pub(super) name: String,
    pub(super) portal: PortalStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failover: Option<PortalStatus>,
}

impl RouteView {
    pub(super) fn status(&self) -> RouteStatus {
        RouteStatus {
            name: self.name.as_deref().unwrap_or_default().to_owned(),
            portal: self.portal.status(),
            failover: self.failover.as_ref().map(PortalView::status),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct PortalStatus {
    pub(super) breakers: Vec<BreakerStatus>,
    pub(super) concurrency: Concurrency,
}

#[derive(Debug, Serialize)]
pub(super) struct BreakerStatus {
    pub(super) scope: &'static str,
    pub(super) state: &'static str,
    /// How many calls a half-open one lets through at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) width: Option<usize>,
    /// When an open one lets the portal be tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_probe_in_seconds: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Concurrency {
    pub(super) limit: usize,
    pub(super) cap: usize,
    pub(super) used: usize,
}

impl PortalView {
    pub(super) fn status(&self) -> PortalStatus {
        PortalStatus {
            breakers: Scope::ALL.map(|scope| self.breaker(scope)).into(),
            concurrency: Concurrency {
                limit: self.slots.limit(),
                cap: self.slots.cap(),
                used: self.slots.used(),
            },
        }
    }

    fn breaker(&self, scope: Scope) -> BreakerStatus {
        let (state, width, wait) = match self.breakers.view(scope) {
            View::Closed => ("closed", None, None),
            View::HalfOpen { width } => ("half_open", Some(width), None),
            View::Open { until } => (
                "open",
                None,
                Some(until.saturating_duration_since(Instant::now())),
            ),
        };
        BreakerStatus {
            scope: scope.as_str(),
            state,
            width,
            next_probe_in_seconds: wait.as_ref().map(Duration::as_secs),
        }
    }
}
