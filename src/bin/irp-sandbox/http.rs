//! The portal's addresses (NIC, API pages), each turned into a `Call`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use crate::call::{Call, Contract, DocumentQuery, Headers, Request};
use crate::clock::{http_date, ist};
use crate::control;
use crate::gateways::{GATEWAYS, behind};
use crate::mastergst;
use crate::sandbox::Sandbox;

/// Bodies beyond this are cut off by HTTP (413); the portal's own limit, on the document, answers 5002.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// What every handler needs.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) sandbox: Arc<Sandbox>,
    tasks: TaskTracker,
}

/// All routes of the portal and of the control API.
pub(crate) fn router(sandbox: Arc<Sandbox>) -> Router {
    let app = App {
        sandbox,
        tasks: TaskTracker::new(),
    };
    let mut calls = Router::new()
        .nest("/eivital", vital())
        .nest("/eicore", core())
        .nest("/eiewb", eway_bills())
        .merge(eway_bill_system())
        .merge(mastergst::routes());
    for gateway in &GATEWAYS {
        let [vital_path, core_path, eway_bill_path] = gateway.paths;
        calls = calls
            .nest(vital_path, behind(gateway, &app, vital()))
            .nest(core_path, behind(gateway, &app, core()))
            .nest(eway_bill_path, behind(gateway, &app, eway_bills()));
    }
    calls
        .nest("/_sandbox", control::routes())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

fn vital() -> Router<App> {
    let details = || {
        get(async |State(app): State<App>, Path(gstin), headers, body| {
            app.take(Call::Gstin(gstin), &headers, body).await
        })
    };
    let sync = || {
        get(async |State(app): State<App>, Path(gstin), headers, body| {
            app.take(Call::Sync(gstin), &headers, body).await
        })
    };
    Router::new()
        .route(
            "/v1.04/auth",
            post(async |State(app): State<App>, headers, body| {
                app.take(Call::Auth, &headers, body).await
            }),
        )
        .route("/v1.04/Master/gstin/{gstin}", details())
        .route("/v1.03/Master/gstin/{gstin}", details())
        .route("/v1.04/Master/syncgstin/{gstin}", sync())
        .route("/v1.03/Master/syncgstin/{gstin}", sync())
        .route(
            "/v1.04/heartbeat/ping",
            get(async |State(app): State<App>| app.heartbeat("Vital")),
        )
}

fn core() -> Router<App> {
    let cancel = || {
        post(async |State(app): State<App>, headers, body| {
            app.take(Call::Cancel, &headers, body).await
        })
    };
    Router::new()
        .route(
            "/v1.03/Invoice",
            post(async |State(app): State<App>, headers, body| {
                app.take(Call::Generate, &headers, body).await
            }),
        )
        // Both are documented somewhere; the first is the one that clients were seen to use.
        .route("/v1.03/Invoice/Cancel", cancel())
        .route("/v1.03/Cancel", cancel())
        .route(
            "/v1.03/Invoice/irn/{irn}",
            get(async |State(app): State<App>, Path(irn), headers, body| {
                app.take(Call::GetByIrn(irn), &headers, body).await
            }),
        )
        .route("/v1.03/Invoice/irnbydocdetails", get(by_document))
        .route("/v1.03/Invoice/rejectedirns", get(rejected))
        .route(
            "/v1.03/heartbeat/ping",
            get(async |State(app): State<App>| app.heartbeat("Core")),
        )
}

fn eway_bills() -> Router<App> {
    Router::new()
        .route(
            "/v1.03/ewaybill",
            post(async |State(app): State<App>, headers, body| {
                app.take(Call::EwbGenerate, &headers, body).await
            }),
        )
        .route(
            "/v1.03/ewaybill/irn/{irn}",
            get(async |State(app): State<App>, Path(irn), headers, body| {
                app.take(Call::EwbGet(irn), &headers, body).await
            }),
        )
        .route(
            "/v1.03/heartbeat/ping",
            get(async |State(app): State<App>| app.heartbeat("EWB")),
        )
}

/// Cancellation belongs to another system, with a path of its own.
fn eway_bill_system() -> Router<App> {
    Router::new().route(
        "/ewaybillapi/v1.03/ewayapi",
        post(async |State(app): State<App>, headers, body| {
            app.take(Call::EwbCancel, &headers, body).await
        }),
    )
}

async fn by_document(
    State(app): State<App>,
    Query(query): Query<DocumentQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    app.take(Call::GetByDoc(query), &headers, body).await
}

#[derive(Deserialize)]
struct DayQuery {
    date: Option<String>,
}

async fn rejected(
    State(app): State<App>,
    Query(query): Query<DayQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    app.take(Call::Rejected(query.date), &headers, body).await
}

impl App {
    async fn take(&self, call: Call, headers: &HeaderMap, body: Bytes) -> Response {
        let request = Request {
            contract: Contract::Nic,
            call,
            headers: Headers::read(headers),
            body,
        };
        self.take_request(request).await
    }

    /// Answers at once, or, when a rule makes the request wait, in a task of its own: a client that gives up does not
    /// stop the portal. (Without a wait there is no point at which it could.)
    pub(crate) async fn take_request(&self, request: Request) -> Response {
        let mut exchange = Box::pin(Arc::clone(&self.sandbox).exchange(request));
        if let Some(response) = (&mut exchange).now_or_never() {
            return response;
        }
        let answered = self.tasks.spawn(exchange).await;
        answered.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }

    /// The liveness text of one of the portal's systems, as it was seen in production.
    fn heartbeat(&self, system: &str) -> Response {
        let now = self.sandbox.now();
        let text = format!(
            "e-Invoice {system}:-{}",
            ist(now).strftime("%d-%m-%Y %H:%M:%S")
        );
        ([(header::DATE, http_date(now))], text).into_response()
    }
}
