//! The plain contract of MasterGST, now WhiteBooks: the provider encrypts and decrypts, and its client sends and gets
//! plain JSON. Header names are looked at exactly here; what is behind them is the portal's.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, Granted, Info, Payload, PortalError, Refused};
use crate::call::{Call, Contract, DocumentQuery, Headers, Request};
use crate::envelope::{ErrorShape, LoginShape, NothingShape, Shapes, error_details, number};
use crate::envelope::{info_list, registration_json};
use crate::http::App;

/// What an answer that was cut in half shows of itself.
pub(crate) const HALF_AN_ANSWER: &str =
    r#"{"status_cd":"1","status_desc":"GSTR request succeeds","irp":"NIC","data":{"AckNo":1125100"#;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/einvoice/authenticate", get(authenticate))
        .route(
            "/einvoice/type/{operation}/version/V1_03",
            get(asked).post(told),
        )
}

#[derive(Default, Deserialize)]
struct Asking {
    email: Option<String>,
    param1: Option<String>,
    supplier_gstn: Option<String>,
}

async fn authenticate(
    State(app): State<App>,
    Query(asking): Query<Asking>,
    headers: HeaderMap,
) -> Response {
    take(&app, Call::Auth, &asking, &headers, Bytes::new()).await
}

async fn asked(
    State(app): State<App>,
    Path(operation): Path<String>,
    Query(asking): Query<Asking>,
    headers: HeaderMap,
) -> Response {
    let wanted = asking.param1.clone().unwrap_or_default();
    let call = match operation.as_str() {
        "GETIRN" => Call::GetByIrn(wanted),
        "GETIRNBYDOCDETAILS" => Call::GetByDoc(DocumentQuery {
            doctype: asking.param1.clone(),
            docnum: exact(&headers, "docnum"),
            docdate: exact(&headers, "docdate"),
        }),
        "GSTNDETAILS" => Call::Gstin(wanted),
        "SYNC_GSTIN_FROMCP" => Call::Sync(wanted),
        "GETEWAYBILLIRN" if asking.supplier_gstn.is_none() => {
            return StatusCode::BAD_REQUEST.into_response();
        }
        "GETEWAYBILLIRN" => Call::EwbGet(wanted),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    take(&app, call, &asking, &headers, Bytes::new()).await
}

async fn told(
    State(app): State<App>,
    Path(operation): Path<String>,
    Query(asking): Query<Asking>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = match operation.as_str() {
        "GENERATE" => Call::Generate,
        "CANCEL" => Call::Cancel,
        "GENERATE_EWAYBILL" => Call::EwbGenerate,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    take(&app, call, &asking, &headers, body).await
}

/// A header by exactly this name, apart from case.
fn exact(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().collect();
    let texts = values
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    (!values.is_empty()).then(|| texts.collect::<Vec<_>>().join(", "))
}

async fn take(
    app: &App,
    call: Call,
    asking: &Asking,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let given = |name: &str| exact(headers, name).unwrap_or_default();
    let read = Headers {
        client_id: given("client_id"),
        client_secret: given("client_secret"),
        gstin: given("gstin"),
        user_name: given("username"),
        token: given("auth-token"),
        sup_gstin: asking.supplier_gstn.clone().unwrap_or_default(),
        password: given("password"),
    };
    if let Some(problem) = not_admitted(app, &call, asking, headers, &read) {
        let errors = [PortalError::new("403", problem)];
        let body = refusal(&errors, &Shapes::default());
        let json = [(header::CONTENT_TYPE, "application/json")];
        return (StatusCode::FORBIDDEN, json, body).into_response();
    }
    let request = Request {
        contract: Contract::MasterGst,
        call,
        headers: read,
        body,
    };
    app.take_request(request).await
}

/// The provider's own gate: its subscriber, calling from the address that it registered.
fn not_admitted(
    app: &App,
    call: &Call,
    asking: &Asking,
    headers: &HeaderMap,
    read: &Headers,
) -> Option<&'static str> {
    let email = asking.email.as_deref().unwrap_or_default();
    let ip_address = exact(headers, "ip_address").unwrap_or_default();
    if email.is_empty() || ip_address.is_empty() {
        return Some("email and ip_address are mandatory");
    }
    let accounts = app.sandbox.accounts();
    if !accounts.is_subscriber(&read.client_id, email, &ip_address) {
        return Some("this client is not registered with this email and ip_address");
    }
    (*call != Call::Auth && !read.password.is_empty())
        .then_some("a password goes with authenticate only")
}

/// The body of an answer.
pub(crate) fn render(answer: &Answer, shapes: &Shapes) -> String {
    match answer {
        Ok(Granted { payload, info }) => success(payload, info, shapes),
        Err(Refused { errors, .. }) if is_nothing(errors, shapes) => told_success("[]", shapes),
        // What the portal adds to a refusal does not come through.
        Err(Refused { errors, .. }) => refusal(errors, shapes),
    }
}

fn is_nothing(errors: &[PortalError], shapes: &Shapes) -> bool {
    let absent = |error: &PortalError| matches!(error.code.as_ref(), "2148" | "2154" | "3001");
    let is_told_so = shapes.nothing_found == NothingShape::Empty && !errors.is_empty();
    is_told_so && errors.iter().all(absent)
}

fn success(payload: &Payload, info: &[Info], shapes: &Shapes) -> String {
    let data = match payload {
        Payload::Login(login) => return logged_in(login, shapes),
        Payload::Registration(registration) => registration_json(registration, shapes),
        Payload::Json(value) => value.to_string(),
    };
    let data = match (data.strip_suffix('}'), info) {
        (Some(open), [_, ..]) => format!("{open},\"InfoDtls\":{}}}", info_list(info, shapes)),
        _ => data,
    };
    told_success(&data, shapes)
}

fn told_success(data: &str, shapes: &Shapes) -> String {
    let status = match number(1, shapes.status) {
        Value::Number(one) => one.to_string(),
        _ => "\"1\"".to_owned(),
    };
    format!(
        r#"{{"status_cd":{status},"status_desc":"GSTR request succeeds","irp":"NIC","data":{data}}}"#
    )
}

/// The word is misspelt so by the provider.
fn logged_in(login: &Value, shapes: &Shapes) -> String {
    let mut login = login.clone();
    if let Some(members) = login.as_object_mut() {
        members.remove("Sek");
    }
    let described = |mut answer: Value| {
        answer["status_cd"] = json!("Sucess");
        answer["status_desc"] = json!("GSTR request succeeds");
        answer.to_string()
    };
    described(match shapes.auth_data {
        LoginShape::Object => json!({ "data": login }),
        LoginShape::JsonString => json!({ "data": login.to_string() }),
        LoginShape::TopLevel => login,
        LoginShape::Absent => json!({ "data": {} }),
    })
}

fn refusal(errors: &[PortalError], shapes: &Shapes) -> String {
    let details = error_details(errors, shapes);
    let text = match shapes.error_details {
        _ if errors.is_empty() => String::new(),
        ErrorShape::Array | ErrorShape::Object => details.to_string(),
        ErrorShape::JsonString | ErrorShape::Base64 | ErrorShape::Plain => {
            details.as_str().unwrap_or_default().to_owned()
        }
        ErrorShape::Null => String::new(),
    };
    json!({ "status_cd": "0", "status_desc": text, "irp": "NIC" }).to_string()
}
