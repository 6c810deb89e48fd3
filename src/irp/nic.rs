//! The portal's contract as NIC publishes it: login v1.04, core v1.03; paths, headers and bodies exactly so.
//!
//! One rule: what is sent is exact. One GSTIN header, header names in one spelling, secrets marked so that nothing
//! prints them.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, IntoUrl, RequestBuilder, Url};
use zeroize::Zeroizing;

use crate::config::HeaderStyle;
use crate::config::credentials::{Account, Client as ClientPair};
use crate::crypto::{AppKey, SessionKey, sealed_length};
use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn};
use crate::irp::Access;
use crate::irp::error::IrpError;
use crate::irp::http::{IrpConfigFault, address};

const USER_NAME: HeaderName = HeaderName::from_static("user_name");
const AUTH_TOKEN: HeaderName = HeaderName::from_static("authtoken");
const GSTIN: HeaderName = HeaderName::from_static("gstin");
const SUPPLIER: HeaderName = HeaderName::from_static("sup_gstin");

const GENERATE: &str = "/eicore/v1.03/Invoice";

/// Addresses and headers of one portal.
#[derive(Debug)]
pub(super) struct Nic {
    http: Client,
    base_url: String,
    /// Of registrations: parsed once, and not for every document.
    generate: Url,
    client_id: HeaderName,
    client_secret: HeaderName,
}

impl Nic {
    pub(super) fn new(
        http: Client,
        base_url: String,
        style: HeaderStyle,
    ) -> Result<Self, IrpConfigFault> {
        let (id, secret) = match style {
            HeaderStyle::Underscore => ("client_id", "client_secret"),
            HeaderStyle::Hyphen => ("client-id", "client-secret"),
        };
        Ok(Self {
            http,
            generate: address(&format!("{base_url}{GENERATE}"))?,
            base_url,
            client_id: HeaderName::from_static(id),
            client_secret: HeaderName::from_static(secret),
        })
    }

    /// Authentication (NIC, "Authentication" v1.04).
    pub(super) fn login(
        &self,
        account: &Account,
        body: String,
    ) -> Result<RequestBuilder, IrpError> {
        let headers = self.account_headers(account)?;
        Ok(self.post("/eivital/v1.04/auth", headers, body))
    }

    /// What the portal has for asking whether it is alive. Where a provider has no such thing, its answer says so, and
    /// what time it is all the same.
    pub(super) fn ping(&self) -> RequestBuilder {
        self.get("/eivital/v1.04/heartbeat/ping", HeaderMap::new())
    }

    /// Registration (NIC, "Generate IRN"). The document is sealed byte for byte.
    pub(super) fn generate(
        &self,
        access: &Access<'_>,
        document: &[u8],
    ) -> Result<RequestBuilder, IrpError> {
        let headers = self.session_headers(access)?;
        let body = sealed_body(access.key, document);
        Ok(self.post_to(self.generate.clone(), headers, body))
    }

    /// Look-up by document (NIC, "Get IRN by document details").
    pub(super) fn by_document(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        kind: DocumentType,
        number: &str,
        date: &str,
    ) -> Result<RequestBuilder, IrpError> {
        let query = [
            ("doctype", kind.as_str()),
            ("docnum", number),
            ("docdate", date),
        ];
        Ok(self
            .get(
                "/eicore/v1.03/Invoice/irnbydocdetails",
                self.look_up_headers(access, seller)?,
            )
            .query(&query))
    }

    /// Look-up by IRN (NIC, "Get e-invoice by IRN").
    pub(super) fn by_irn(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        irn: &Irn,
    ) -> Result<RequestBuilder, IrpError> {
        Ok(self.get(
            &format!("/eicore/v1.03/Invoice/irn/{irn}"),
            self.look_up_headers(access, seller)?,
        ))
    }

    /// Details of a GSTIN, `gstin`, or having them synchronised first, `syncgstin` (NIC, "Get GSTIN details" and
    /// "Sync GSTIN details from CP").
    pub(super) fn gstin(
        &self,
        access: &Access<'_>,
        which: &'static str,
        gstin: &Gstin,
    ) -> Result<RequestBuilder, IrpError> {
        Ok(self.get(
            &format!("/eivital/v1.04/Master/{which}/{gstin}"),
            self.session_headers(access)?,
        ))
    }

    /// Issue of an e-way bill (NIC, "Generate EWB by IRN"). The payload is sealed byte for byte.
    pub(super) fn eway_bill(
        &self,
        access: &Access<'_>,
        payload: &[u8],
    ) -> Result<RequestBuilder, IrpError> {
        let headers = self.session_headers(access)?;
        let body = sealed_body(access.key, payload);
        Ok(self.post("/eiewb/v1.03/ewaybill", headers, body))
    }

    /// Look-up of an e-way bill (NIC, "Get EWB by IRN").
    pub(super) fn eway_bill_by_irn(
        &self,
        access: &Access<'_>,
        irn: &Irn,
    ) -> Result<RequestBuilder, IrpError> {
        let headers = self.session_headers(access)?;
        Ok(self.get(&format!("/eiewb/v1.03/ewaybill/irn/{irn}"), headers))
    }

    /// Cancellation (NIC, "Cancel IRN").
    pub(super) fn cancel(
        &self,
        access: &Access<'_>,
        payload: &str,
    ) -> Result<RequestBuilder, IrpError> {
        let headers = self.session_headers(access)?;
        Ok(self.post(
            "/eicore/v1.03/Invoice/Cancel",
            headers,
            sealed_body(access.key, payload.as_bytes()),
        ))
    }

    fn post(&self, path: &str, headers: HeaderMap, body: String) -> RequestBuilder {
        self.post_to(format!("{}{path}", self.base_url), headers, body)
    }

    fn post_to(&self, url: impl IntoUrl, mut headers: HeaderMap, body: String) -> RequestBuilder {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.http.post(url).headers(headers).body(body)
    }

    fn get(&self, path: &str, headers: HeaderMap) -> RequestBuilder {
        self.http
            .get(format!("{}{path}", self.base_url))
            .headers(headers)
    }

    fn account_headers(&self, account: &Account) -> Result<HeaderMap, IrpError> {
        let ClientPair { id, secret, .. } = &*account.client;
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(self.client_id.clone(), secret_value(id)?);
        headers.insert(self.client_secret.clone(), secret_value(secret.expose())?);
        // Once: two headers that differ in case only are merged into `X, X` on the way.
        headers.insert(GSTIN, secret_value(account.gstin.as_str())?);
        Ok(headers)
    }

    fn session_headers(&self, access: &Access<'_>) -> Result<HeaderMap, IrpError> {
        let mut headers = self.account_headers(access.account)?;
        headers.insert(USER_NAME, secret_value(&access.account.username)?);
        headers.insert(AUTH_TOKEN, secret_value(access.token.expose())?);
        Ok(headers)
    }

    /// An e-commerce operator names the seller it asks for; without that the portal would look among the operator's
    /// own documents (NIC, "Get e-invoice by IRN", `sup_gstin`).
    fn look_up_headers(&self, access: &Access<'_>, seller: &Gstin) -> Result<HeaderMap, IrpError> {
        let mut headers = self.session_headers(access)?;
        if *seller != access.account.gstin {
            headers.insert(SUPPLIER, secret_value(seller.as_str())?);
        }
        Ok(headers)
    }
}

fn secret_value(text: &str) -> Result<HeaderValue, IrpError> {
    let mut value = HeaderValue::try_from(text).map_err(|_| IrpError::Unsendable {
        why: "client id, client secret or user name hold characters that no header can carry",
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// `{"Data":"…"}` around a sealed payload, in one allocation.
fn sealed_body(key: &SessionKey, payload: &[u8]) -> String {
    let mut body = String::with_capacity(sealed_length(payload.len()) + 11);
    body.push_str("{\"Data\":\"");
    key.seal_into(payload, &mut body);
    body.push_str("\"}");
    body
}

/// The login before encryption: compact, in the order of NIC's page.
pub(super) fn login_json(account: &Account, app_key: &AppKey, force: bool) -> Zeroizing<String> {
    let username = json_string(&account.username);
    let password = json_string(account.password.expose());
    let app_key = app_key.to_base64();
    let parts = [
        "{\"UserName\":",
        &username,
        ",\"Password\":",
        &password,
        ",\"AppKey\":\"",
        &app_key,
        "\",\"ForceRefreshAccessToken\":",
        if force { "true}" } else { "false}" },
    ];
    Zeroizing::new(parts.concat())
}

/// The payload of a cancellation, in the order of NIC's page.
pub(super) fn cancel_json(irn: &Irn, reason: &str, remark: &str) -> Zeroizing<String> {
    let (reason, remark) = (json_string(reason), json_string(remark));
    Zeroizing::new(format!(
        "{{\"Irn\":\"{irn}\",\"CnlRsn\":{},\"CnlRem\":{}}}",
        *reason, *remark
    ))
}

fn json_string(text: &str) -> Zeroizing<String> {
    Zeroizing::new(serde_json::Value::from(text).to_string())
}
