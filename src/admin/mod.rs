//! The admin endpoint: alive, ready, metrics, status, and the status as a page. Reads state, changes nothing, and shows no document data.

mod lanes;

mod page;
mod pauses;
mod portal;
mod reloads;
mod scaling;
mod status;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::credentials::Reloads;
use crate::telemetry::{Readiness, State};

use page::page;
use status::Status;

pub use lanes::{Held, LanesView};
pub use portal::{PortalView, RouteView};
pub use work::WorkView;

/// What the endpoint reads.
#[derive(Clone)]
pub struct Admin {
    /// Which process this is.
    pub replica: Arc<str>,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// Whether it takes jobs.
    pub readiness: Readiness,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// What waits, and what has become of the jobs.
    pub work: WorkView,
    /// The GSTINs' sessions, rates and error budgets.
    pub lanes: LanesView,
    /// The portal's breakers and slots.
    pub portal: PortalView,
    /// The same of the portal to turn to, if there is one.
    pub failover: Option<PortalView>,
    /// The routes that have a name.
    pub routes: Vec<RouteView>,
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
            .route("/", get(page))
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
        | State::Paused
        | State::PausesUnread
        | State::Draining) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{waiting}\n")).into_response()
        }
    }
}

async fn metrics(Shared(admin): Shared<Admin>) -> Response {
    // Refreshes the gauge of live sessions before it is read.
    drop(admin.lanes.sessions().await);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        admin.metrics.render(),
    )
        .into_response()
}

async fn status(Shared(admin): Shared<Admin>) -> Response {
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    (no_store, Json(Status::of(&admin).await)).into_response()
}
