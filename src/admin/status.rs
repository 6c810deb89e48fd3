//! `/status`: everything that is told of this replica, once for machines and once, by the page, for people.
//!
//! One rule: what the page shows, this has. There is one place that reads the worker's state.

use jiff::Timestamp;
use serde::Serialize;

use super::Admin;
use super::lanes::{Client, Lane};
use super::pauses::PauseStatus;
use super::portal::{PortalStatus, PortalView, RouteStatus, RouteView};
use super::reloads::LastReload;
use super::scaling::ScalingStatus;
use super::work::{CountStatus, QueuesStatus};
use crate::telemetry::State;

/// This replica, and what it knows of the others.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) replica: String,
    pub(super) version: &'static str,
    pub(super) started_at: Timestamp,
    pub(super) at: Timestamp,
    #[serde(skip)]
    pub(super) now: State,
    pub(super) state: String,
    pub(super) ready: bool,
    /// Why it is not ready, as `/readyz` says it.
    pub(super) reason: Option<String>,
    pub(super) replicas: u32,
    /// Which of them this one is, from 1; unknown while not all of them are.
    pub(super) place: Option<u32>,
    /// The fleet's size as it should be; not before the backlog has been looked at.
    pub(super) scaling: Option<ScalingStatus>,
    /// Unknown before they have been counted.
    pub(super) queues: Option<QueuesStatus>,
    pub(super) portal: PortalStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failover: Option<PortalStatus>,
    /// The routes that have a name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) routes: Vec<RouteStatus>,
    /// The pauses are known: before that, no job is taken.
    pub(super) pauses_known: bool,
    pub(super) pauses: Vec<PauseStatus>,
    /// The latest reading of the credentials after the one at start.
    pub(super) credentials_reload: Option<LastReload>,
    /// How many GSTINs have credentials here.
    pub(super) accounts: usize,
    pub(super) lanes: Vec<Lane>,
    pub(super) clients: Vec<Client>,
    /// Results by status and code, the latest first.
    pub(super) outcomes: Vec<CountStatus>,
    /// What jobs went to the ladder for, the latest first.
    pub(super) waits: Vec<CountStatus>,
}

impl Status {
    /// All of it, now.
    pub(super) async fn of(admin: &Admin) -> Self {
        let now = admin.readiness.state();
        let ready = now == State::Consuming;
        Self {
            replica: admin.replica.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            started_at: admin.started_at,
            at: Timestamp::now(),
            now,
            state: now.to_string(),
            ready,
            reason: (!ready).then(|| now.to_string()),
            replicas: admin.lanes.replicas(),
            place: admin.lanes.place(),
            scaling: admin.lanes.scaling.latest().map(ScalingStatus::from),
            queues: admin.work.queues(),
            portal: admin.portal.status(),
            failover: admin.failover.as_ref().map(PortalView::status),
            routes: admin.routes.iter().map(RouteView::status).collect(),
            pauses_known: admin.lanes.paused.is_known(),
            pauses: admin.lanes.pauses(),
            credentials_reload: admin.reloads.last().as_deref().map(LastReload::from),
            accounts: admin.lanes.credentials.load().accounts.len(),
            lanes: admin.lanes.lanes().await,
            clients: admin.lanes.clients(),
            outcomes: admin.work.outcomes(),
            waits: admin.work.waits(),
        }
    }
}
