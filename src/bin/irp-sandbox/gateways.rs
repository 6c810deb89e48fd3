//! Service providers that pass the portal's contract on: the same calls under paths of their own, let through only with
//! the provider's headers, and with the provider's client pair put in on the way (providers' pages on their
//! e-invoice pass-through).

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;

use crate::http::App;

/// What becomes of the client pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pair {
    /// The provider's own is put in, and one that is sent is refused.
    Own,
    /// The provider's own is put in where none is sent.
    Either,
}

/// One provider.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// What stands in the place of `/eivital`, `/eicore` and `/eiewb`.
    pub(crate) paths: [&'static str; 3],
    /// Headers without which nothing passes.
    requires: &'static [&'static str],
    pair: Pair,
}

/// The shapes that are known. TaxPro's paths are the portal's own, on a host of its own: here they have a prefix.
pub(crate) const GATEWAYS: [Gateway; 6] = [
    // TaxPro
    Gateway {
        paths: ["/taxpro/eivital", "/taxpro/eicore", "/taxpro/eiewb"],
        requires: &["aspid", "password"],
        pair: Pair::Own,
    },
    // Vayana, to either of NIC's portals
    Gateway {
        paths: [
            "/gus/irp/ni1/eivital",
            "/gus/irp/ni1/eicore",
            "/gus/irp/ni1/eiewb",
        ],
        requires: &["x-flynn-n-org-id", "x-flynn-n-user-token"],
        pair: Pair::Either,
    },
    Gateway {
        paths: [
            "/gus/irp/ni2/eivital",
            "/gus/irp/ni2/eicore",
            "/gus/irp/ni2/eiewb",
        ],
        requires: &["x-flynn-n-org-id", "x-flynn-n-user-token"],
        pair: Pair::Either,
    },
    // Protean
    Gateway {
        paths: [
            "/gus/irp/nic/eivital",
            "/gus/irp/nic/eicore",
            "/gus/irp/nic/eiewb",
        ],
        requires: &["aspid"],
        pair: Pair::Either,
    },
    // Alankit
    Gateway {
        paths: [
            "/eInvoiceGateway/eivital",
            "/eInvoiceGateway/eicore",
            "/eInvoiceGateway/eiewb",
        ],
        requires: &["ocp-apim-subscription-key"],
        pair: Pair::Either,
    },
    // ClearTax
    Gateway {
        paths: ["/einv-gsp/vital", "/einv-gsp/core", "/einv-gsp/eiewb"],
        requires: &["x-ct-auth-token"],
        pair: Pair::Own,
    },
];

/// The portal's calls behind this provider.
pub(crate) fn behind(gateway: &'static Gateway, app: &App, calls: Router<App>) -> Router<App> {
    let pass = move |State(app): State<App>, mut request: Request, next: Next| async move {
        match gateway.admit(&app, request.headers_mut()) {
            Ok(()) => next.run(request).await,
            Err(problem) => refused(&problem),
        }
    };
    calls.layer(from_fn_with_state(app.clone(), pass))
}

const IDS: [&str; 2] = ["client_id", "client-id"];
const SECRETS: [&str; 2] = ["client_secret", "client-secret"];

impl Gateway {
    fn admit(&self, app: &App, headers: &mut HeaderMap) -> Result<(), String> {
        let is_given =
            |name: &&'static str| headers.get(*name).is_some_and(|value| !value.is_empty());
        if let Some(missing) = self.requires.iter().find(|name| !is_given(name)) {
            return Err(format!("{missing} is missing"));
        }
        if IDS.iter().chain(&SECRETS).any(is_given) {
            return match self.pair {
                Pair::Own => Err("the client pair is ours to send".to_owned()),
                Pair::Either => Ok(()),
            };
        }
        for name in IDS.iter().chain(&SECRETS) {
            headers.remove(*name);
        }
        let gstin = headers.get("gstin").and_then(|gstin| gstin.to_str().ok());
        let pair = gstin.and_then(|gstin| app.sandbox.accounts().pair_for(gstin));
        for (name, text) in pair.into_iter().flatten() {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        Ok(())
    }
}

fn refused(message: &str) -> Response {
    let body = Json(json!({ "message": message }));
    (StatusCode::UNAUTHORIZED, body).into_response()
}
