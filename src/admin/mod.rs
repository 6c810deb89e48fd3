//! The admin endpoint: alive, ready, metrics, status. Reads state, changes nothing, and shows no document data.

mod portal;

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

use crate::sessions::{SessionStatus, Sessions};
use crate::telemetry::{Readiness, State};

use portal::PortalStatus;

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
    /// Logins per GSTIN.
    pub sessions: Arc<Sessions>,
    /// The portal's breakers and slots.
    pub portal: PortalView,
    /// The same of the portal to turn to, if there is one.
    pub failover: Option<PortalView>,
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
    drop(admin.sessions.statuses().await);
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
    portal: PortalStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    failover: Option<PortalStatus>,
    lanes: Vec<Lane>,
}

#[derive(Serialize)]
struct Lane {
    gstin: String,
    token_expires_in_seconds: Option<u64>,
    credentials: &'static str,
    /// Another system keeps replacing its sessions.
    token_contention: bool,
}

async fn status(Shared(admin): Shared<Admin>) -> Json<Status> {
    let state = admin.readiness.state();
    let lanes = admin.sessions.statuses().await.iter().map(lane).collect();
    Json(Status {
        replica: admin.replica.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        state: state.to_string(),
        ready: state == State::Consuming,
        portal: admin.portal.status(),
        failover: admin.failover.as_ref().map(PortalView::status),
        lanes,
    })
}

fn lane(status: &SessionStatus) -> Lane {
    Lane {
        gstin: status.gstin.to_string(),
        token_expires_in_seconds: status.remaining.map(|left| left.as_secs()),
        credentials: if status.refused { "refused" } else { "ok" },
        token_contention: status.contended,
    }
}
