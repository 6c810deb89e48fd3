//! The control API under `/_sandbox`: what tests read and set. docs/sandbox.md is its page.

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::accounts::Secret;
use crate::clock::{ist, stamp};
use crate::documents::Status;
use crate::faults::FaultSet;
use crate::http::App;
use crate::taxpayers::Taxpayer;

type Reply = Result<Json<Value>, BadRequest>;

/// A control request that cannot be carried out, with the reason.
struct BadRequest(String);

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({ "error": self.0 }))).into_response()
    }
}

/// All routes, relative to `/_sandbox`.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/stats", get(stats))
        .route("/documents", get(documents))
        .route("/documents/{irn}/body", get(document_body))
        .route("/faults", get(faults).post(set_faults).delete(clear_faults))
        .route("/held", get(held))
        .route("/release", post(release))
        .route("/clock", get(clock).post(set_clock))
        .route("/settings", get(settings).post(set_settings))
        .route("/taxpayers", post(set_taxpayer))
        .route("/registered-elsewhere", post(set_elsewhere))
        .route("/reject", post(reject))
        .route("/cancel", post(cancel))
        .route("/revoke", post(revoke))
        .route("/password", post(set_password))
        .route("/reset", post(reset))
}

/// Reads a body whatever its content type, so that `curl -d` is enough; an empty one counts as `{}`.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, BadRequest> {
    let bytes: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(bytes).map_err(|error| BadRequest(error.to_string()))
}

async fn stats(State(app): State<App>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        app.sandbox.stats.show(),
    )
}

async fn documents(State(app): State<App>) -> Json<Value> {
    let documents = app.sandbox.documents();
    let all: Vec<Value> = documents
        .all()
        .into_iter()
        .map(|document| document.summary())
        .collect();
    Json(json!(all))
}

async fn document_body(State(app): State<App>, Path(irn): Path<String>) -> Response {
    match app.sandbox.documents().find(&irn) {
        Some(document) => document.raw.to_vec().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn faults(State(app): State<App>) -> Json<Value> {
    Json(app.sandbox.faults.show())
}

async fn set_faults(State(app): State<App>, body: Bytes) -> Reply {
    app.sandbox.faults.replace(read(&body)?);
    Ok(Json(app.sandbox.faults.show()))
}

async fn clear_faults(State(app): State<App>) -> Json<Value> {
    app.sandbox.faults.replace(FaultSet::default());
    Json(app.sandbox.faults.show())
}

async fn held(State(app): State<App>) -> Json<Value> {
    Json(json!(app.sandbox.held.list()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    #[serde(default)]
    id: Value,
}

async fn release(State(app): State<App>, body: Bytes) -> Reply {
    let released = match read::<Release>(&body)?.id {
        Value::Null => app.sandbox.held.release_all(),
        Value::String(id) => app.sandbox.held.release(&id),
        id => app.sandbox.held.release(&id.to_string()),
    };
    Ok(Json(json!({ "released": released })))
}

async fn clock(State(app): State<App>) -> Json<Value> {
    let now = app.sandbox.now();
    Json(json!({ "now": format!("{}+05:30", ist(now)), "ist": stamp(now), "utc": now.to_string() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetClock {
    now: Option<Timestamp>,
    advance: Option<SignedDuration>,
}

async fn set_clock(State(app): State<App>, body: Bytes) -> Reply {
    match read(&body)? {
        SetClock {
            now: Some(now),
            advance: None,
        } => app.sandbox.clock.set(now),
        SetClock {
            now: None,
            advance: Some(step),
        } => app.sandbox.clock.advance(step),
        SetClock { .. } => return Err(BadRequest("give either `now` or `advance`".to_owned())),
    }
    Ok(clock(State(app)).await)
}

async fn settings(State(app): State<App>) -> Json<Value> {
    Json(json!(*app.sandbox.settings()))
}

/// Changes the members that are named and leaves the others.
async fn set_settings(State(app): State<App>, body: Bytes) -> Reply {
    let changes: serde_json::Map<String, Value> = read(&body)?;
    let mut settings = app.sandbox.settings();
    let mut merged = json!(*settings);
    for (name, value) in changes {
        merged[name] = value;
    }
    *settings =
        serde_json::from_value(merged.clone()).map_err(|error| BadRequest(error.to_string()))?;
    Ok(Json(merged))
}

async fn set_taxpayer(State(app): State<App>, body: Bytes) -> Reply {
    let mut entry: serde_json::Map<String, Value> = read(&body)?;
    let Some(Value::String(gstin)) = entry.remove("gstin") else {
        return Err(BadRequest("`gstin` is missing".to_owned()));
    };
    let taxpayer: Taxpayer = serde_json::from_value(Value::Object(entry))
        .map_err(|error| BadRequest(error.to_string()))?;
    let shown = json!(taxpayer);
    app.sandbox.registry().set(gstin, taxpayer);
    Ok(Json(shown))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Elsewhere {
    irn: String,
    irp: String,
}

async fn set_elsewhere(State(app): State<App>, body: Bytes) -> Reply {
    let Elsewhere { irn, irp } = read(&body)?;
    app.sandbox
        .documents()
        .set_elsewhere(irn.to_lowercase(), irp);
    Ok(Json(json!({ "set": 1 })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registered {
    irn: String,
}

async fn reject(State(app): State<App>, body: Bytes) -> Reply {
    set_status(&app, &body, Status::Rejected)?;
    Ok(Json(json!({ "rejected": 1 })))
}

/// As the taxpayer may do by hand at the portal; the time limit and e-way bills are not looked at.
async fn cancel(State(app): State<App>, body: Bytes) -> Reply {
    set_status(&app, &body, Status::Cancelled)?;
    Ok(Json(json!({ "cancelled": 1 })))
}

fn set_status(
    app: &App,
    body: &Bytes,
    status: impl FnOnce(Timestamp) -> Status,
) -> Result<(), BadRequest> {
    let Registered { irn } = read(body)?;
    let now = app.sandbox.now();
    let mut documents = app.sandbox.documents();
    let document = documents.find_mut(&irn.to_lowercase());
    let document = document.ok_or_else(|| BadRequest(format!("no document with IRN {irn}")))?;
    document.status = status(now);
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    gstin: Option<String>,
}

/// Without a GSTIN every token is revoked.
async fn revoke(State(app): State<App>, body: Bytes) -> Reply {
    let Revoke { gstin } = read(&body)?;
    let named = |holder: &str| gstin.as_deref().is_none_or(|gstin| gstin == holder);
    let revoked = app
        .sandbox
        .sessions()
        .revoke(|session| named(&session.holder.gstin));
    Ok(Json(json!({ "revoked": revoked })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPassword {
    gstin: String,
    username: String,
    password: Secret,
}

async fn set_password(State(app): State<App>, body: Bytes) -> Reply {
    let SetPassword {
        gstin,
        username,
        password,
    } = read(&body)?;
    if !app
        .sandbox
        .accounts()
        .set_password(&gstin, &username, &password)
    {
        return Err(BadRequest(format!("{gstin} has no user {username}")));
    }
    Ok(Json(json!({ "set": 1 })))
}

async fn reset(State(app): State<App>) -> Json<Value> {
    app.sandbox.reset();
    Json(json!({ "reset": true }))
}
