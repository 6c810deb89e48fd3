//! The admin endpoint: alive, ready, metrics, status. Reads state, changes nothing, and shows no document data.

mod lanes;
mod portal;
mod reloads;
mod scaling;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::credentials::Reloads;
use crate::telemetry::{Readiness, State};

use lanes::{Client, Lane};

pub use lanes::{Held, LanesView};
use portal::PortalStatus;
use reloads::LastReload;
use scaling::ScalingStatus;

pub use portal::PortalView;

/// What the endpoint reads.
#[derive(Clone)]
pub struct Admin {
    /// Which process this is.
    pub replica: Arc<str>,
    /// Whether it takes jobs.
    pub readiness: Readiness,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// The GSTINs' sessions, rates and error budgets.
    pub lanes: LanesView,
    /// The portal's breakers and slots.
    pub portal: PortalView,
    /// The same of the portal to turn to, if there is one.
    pub failover: Option<PortalView>,
    /// What came of the latest reading of the credentials.
    pub reloads: Reloads,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admin({})", self.replica)
    }
}

/// A bound endpoint, not served yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    /// Where it listens, the port chosen.
    pub address: SocketAddr,
}

impl Listener {
    /// Binds; port 0 picks a free one.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Serves until told to stop.
    pub async fn serve(self, admin: Admin, stop: CancellationToken) -> std::io::Result<()> {
        let routes = Router::new()
            .route("/healthz", get(async || "alive\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .with_state(admin);
        axum::serve(self.listener, routes)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }
}

async fn ready(Shared(admin): Shared<Admin>) -> Response {
    match admin.readiness.state() {
        State::Consuming => "ready\n".into_response(),
        waiting @ (State::Starting
        | State::BrokerLost
        | State::PublisherLost
        | State::PortalDown
        | State::Draining) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{waiting}\n")).into_response()
        }
    }
}

async fn metrics(Shared(admin): Shared<Admin>) -> Response {
    // Refreshes the gauge of live sessions before it is read.
    drop(admin.lanes.sessions.statuses().await);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        admin.metrics.render(),
    )
        .into_response()
}

#[derive(Serialize)]
struct Status {
    replica: String,
    version: &'static str,
    state: String,
    ready: bool,
    replicas: u32,
    /// The fleet's size as it should be; not before the backlog has been looked at.
    scaling: Option<ScalingStatus>,
    portal: PortalStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    failover: Option<PortalStatus>,
    /// The latest reading of the credentials after the one at start.
    credentials_reload: Option<LastReload>,
    lanes: Vec<Lane>,
    clients: Vec<Client>,
}

async fn status(Shared(admin): Shared<Admin>) -> Json<Status> {
    let state = admin.readiness.state();
    Json(Status {
        replica: admin.replica.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        state: state.to_string(),
        ready: state == State::Consuming,

        replicas: admin.lanes.replicas(),
        scaling: admin.lanes.scaling.latest().map(ScalingStatus::from),
        portal: admin.portal.status(),
        failover: admin.failover.as_ref().map(PortalView::status),
        credentials_reload: admin.reloads.last().as_deref().map(LastReload::from),
        lanes: admin.lanes.lanes().await,
        clients: admin.lanes.clients(),
    })
}
