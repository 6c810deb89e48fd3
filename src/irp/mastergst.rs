//! The contract of MasterGST, now WhiteBooks: the provider seals for its clients, so documents and answers are plain.
//!
//! One rule: what is sent is exact. Header names in the provider's spelling, the document's bytes as they came; of an
//! error's shape, which varies, `wire` reads every form.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Client, RequestBuilder};
use serde_json::value::RawValue;

use crate::config::IrpConfig;
use crate::config::credentials::{Account, Client as Integrator, Subscriber};
use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn};
use crate::irp::Access;
use crate::irp::codes::Call;
use crate::irp::contract::{Contract, LoginRequest};
use crate::irp::error::IrpError;
use crate::irp::http::{self, IrpConfigFault, secret_value};
use crate::wiped::Wiped;

const CLIENT_ID: HeaderName = HeaderName::from_static("client_id");
const CLIENT_SECRET: HeaderName = HeaderName::from_static("client_secret");
const USERNAME: HeaderName = HeaderName::from_static("username");
const PASSWORD: HeaderName = HeaderName::from_static("password");
const IP_ADDRESS: HeaderName = HeaderName::from_static("ip_address");
const GSTIN: HeaderName = HeaderName::from_static("gstin");
const TOKEN: HeaderName = HeaderName::from_static("auth-token");
const NUMBER: HeaderName = HeaderName::from_static("docnum");
const DATE: HeaderName = HeaderName::from_static("docdate");

/// What a call asks for beside the account's own e-mail address.
type Query<'q> = &'q [(&'static str, &'q str)];

/// One address of the provider.
#[derive(Debug)]
pub(super) struct MasterGst {
    http: Client,
    base_url: String,
}

impl MasterGst {
    pub(super) fn new(config: &IrpConfig) -> Result<Self, IrpConfigFault> {
        Ok(Self {
            base_url: http::base_url(config)?,
            http: http::client(config)?,
        })
    }

    /// An operation on invoices: `/einvoice/type/NAME/version/V1_03`.
    fn address(&self, operation: &str) -> String {
        format!("{}/einvoice/type/{operation}/version/V1_03", self.base_url)
    }

    fn get(
        &self,
        access: &Access<'_>,
        operation: &str,
        query: Query<'_>,
    ) -> Result<RequestBuilder, IrpError> {
        let request = self.http.get(self.address(operation));
        let email = subscriber(access.account)?.email.as_str();
        let headers = session_headers(access)?;
        Ok(request
            .query(&[("email", email)])
            .query(query)
            .headers(headers))
    }

    fn post(
        &self,
        access: &Access<'_>,
        operation: &str,
        payload: &[u8],
    ) -> Result<RequestBuilder, IrpError> {
        let email = subscriber(access.account)?.email.as_str();
        let mut headers = session_headers(access)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(self
            .http
            .post(self.address(operation))
            .query(&[("email", email)])
            .headers(headers)
            .body(plain_body(payload)))
    }

    /// A look-up of what `seller` has registered; an e-commerce operator names it.
    fn look_up(
        &self,
        access: &Access<'_>,
        operation: &str,
        seller: &Gstin,
        wanted: &str,
    ) -> Result<RequestBuilder, IrpError> {
        let query = [("param1", wanted), ("supplier_gstn", seller.as_str())];
        let is_own = *seller == access.account.gstin;
        self.get(access, operation, &query[..if is_own { 1 } else { 2 }])
    }
}

impl Contract for MasterGst {
    fn login(&self, account: &Account, _: bool) -> Result<LoginRequest, IrpError> {
        let mut headers = account_headers(account)?;
        headers.insert(PASSWORD, secret_value(account.password.expose())?);
        let request = self
            .http
            .get(format!("{}/einvoice/authenticate", self.base_url))
            .query(&[("email", subscriber(account)?.email.as_str())])
            .headers(headers);
        Ok(LoginRequest {
            request,
            app_key: None,
        })
    }

    /// There is nothing to ask it with: until the token's end the same one comes back.
    fn can_force(&self) -> bool {
        false
    }

    /// There is no call for it; whatever is answered says what time it is.
    fn ping(&self) -> RequestBuilder {
        self.http.get(format!("{}/", self.base_url))
    }

    fn is_alive(&self, _: &http::Answer) -> Option<bool> {
        None
    }

    fn generate(&self, access: &Access<'_>, document: &[u8]) -> Result<RequestBuilder, IrpError> {
        self.post(access, "GENERATE", document)
    }

    fn by_document(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        kind: DocumentType,
        number: &str,
        date: &str,
    ) -> Result<RequestBuilder, IrpError> {
        let request = self.look_up(access, "GETIRNBYDOCDETAILS", seller, kind.as_str())?;
        Ok(request
            .header(NUMBER, in_a_header(number))
            .header(DATE, in_a_header(date)))
    }

    fn by_irn(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        irn: &Irn,
    ) -> Result<RequestBuilder, IrpError> {
        self.look_up(access, "GETIRN", seller, irn.as_str())
    }

    fn gstin(&self, access: &Access<'_>, gstin: &Gstin) -> Result<RequestBuilder, IrpError> {
        self.get(access, "GSTNDETAILS", &[("param1", gstin.as_str())])
    }

    fn sync_gstin(&self, access: &Access<'_>, gstin: &Gstin) -> Result<RequestBuilder, IrpError> {
        self.get(access, "SYNC_GSTIN_FROMCP", &[("param1", gstin.as_str())])
    }

    fn cancel(&self, access: &Access<'_>, payload: &str) -> Result<RequestBuilder, IrpError> {
        self.post(access, "CANCEL", payload.as_bytes())
    }

    fn eway_bill(&self, access: &Access<'_>, payload: &[u8]) -> Result<RequestBuilder, IrpError> {
        self.post(access, "GENERATE_EWAYBILL", payload)
    }

    fn eway_bill_by_irn(&self, access: &Access<'_>, irn: &Irn) -> Result<RequestBuilder, IrpError> {
        // Unlike the look-ups of invoices it names the supplier always (WhiteBooks, "GETEWAYBILLIRN").
        let supplier = access.account.gstin.as_str();
        let query = [("param1", irn.as_str()), ("supplier_gstn", supplier)];
        self.get(access, "GETEWAYBILLIRN", &query)
    }

    /// 403 is the provider's word for a pair or an address that it does not admit: a password must not be sent to it
    /// again and again. Of a call that changes something neither proves anything, because the provider stands before
    /// the portal and behind it; the look-up that follows finds out whether the session is gone.
    fn refusal_of(&self, call: Call, status: u16) -> Option<&'static str> {
        match (status, call) {
            (401, call) if !call.changes_something() => Some("401"),
            (403, Call::Login) => Some("403"),
            _ => None,
        }
    }

    /// As statuses, so as codes.
    fn leaves_open(&self, call: Call, code: &str) -> bool {
        call.changes_something() && matches!(code, "401" | "403")
    }

    /// An empty list, an empty text, or a list of an empty object stands for the portal's "not found".
    fn is_nothing(&self, data: &RawValue) -> bool {
        let text = data.get().trim_matches('"').trim();
        let text = inside(text, '[', ']').unwrap_or(text);
        text.is_empty() || inside(text, '{', '}').is_some_and(str::is_empty)
    }
}

fn inside(text: &str, opens: char, closes: char) -> Option<&str> {
    Some(text.strip_prefix(opens)?.strip_suffix(closes)?.trim())
}

fn subscriber(account: &Account) -> Result<&Subscriber, IrpError> {
    let subscriber = account.client.subscriber.as_ref();
    subscriber.ok_or(IrpError::Unsendable {
        why: "the client has no email and ip_address, which its route wants",
    })
}

fn account_headers(account: &Account) -> Result<HeaderMap, IrpError> {
    let Integrator { id, secret, .. } = &*account.client;
    let ip_address = subscriber(account)?.ip_address.to_string();
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CLIENT_ID, secret_value(id)?);
    headers.insert(CLIENT_SECRET, secret_value(secret.expose())?);
    headers.insert(IP_ADDRESS, secret_value(&ip_address)?);
    headers.insert(USERNAME, secret_value(&account.username)?);
    headers.insert(GSTIN, secret_value(account.gstin.as_str())?);
    Ok(headers)
}

fn session_headers(access: &Access<'_>) -> Result<HeaderMap, IrpError> {
    let mut headers = account_headers(access.account)?;
    headers.insert(TOKEN, secret_value(access.token.expose())?);
    Ok(headers)
}

/// What stands in a document, as a header's value. No number that the portal takes has a character that it could not
/// carry; of one that has, nothing can be registered, and what is asked for in its stead is not found.
fn in_a_header(text: &str) -> HeaderValue {
    let mut value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("-"));
    value.set_sensitive(true);
    value
}

/// The document itself, wiped once it has been sent.
fn plain_body(payload: &[u8]) -> Body {
    Bytes::from_owner(Wiped::new(payload.to_vec())).into()
}
