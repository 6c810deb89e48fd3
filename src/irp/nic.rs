//! The portal's contract as NIC publishes it: login v1.04, core v1.03; paths, headers and bodies exactly so.
//!
//! One rule: what is sent is exact. One GSTIN header, header names in one spelling, secrets marked so that nothing
//! prints them.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, IntoUrl, RequestBuilder, Url};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::config::credentials::{Account, Client as Integrator};
use crate::config::{ClientPair, HeaderStyle, IrpConfig};
use crate::crypto::{AppKey, LoginKey, SessionKey, sealed_length};
use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn};
use crate::irp::Access;
use crate::irp::codes::Call;
use crate::irp::contract::{Contract, LoginRequest};
use crate::irp::error::IrpError;
use crate::irp::http::{self, IrpConfigFault, secret_value};

/// Addresses and headers of one portal, or of the gateway that passes its contract on.
#[derive(Debug)]
pub(super) struct Nic {
    http: Client,
    login_key: LoginKey,
    /// Of registrations: parsed once, and not for every document.
    generate: Url,
    /// Where the paths of logins and masters begin, those of invoices, and those of e-way bills.
    vital: String,
    core: String,
    eway_bills: String,
    headers: Headers,
    client_pair: ClientPair,
}

/// The contract's headers by the names they are sent under.
#[derive(Debug)]
struct Headers {
    client_id: HeaderName,
    client_secret: HeaderName,
    gstin: HeaderName,
    user_name: HeaderName,
    token: HeaderName,
    supplier: HeaderName,
}

impl Headers {
    fn new(config: &IrpConfig) -> Result<Self, IrpConfigFault> {
        let (id, secret) = match config.route.header_style {
            HeaderStyle::Underscore => ("client_id", "client_secret"),
            HeaderStyle::Hyphen => ("client-id", "client-secret"),
        };
        let named = |header: &str, usual: &str| {
            let renamed = config
                .route
                .header_names
                .iter()
                .find(|(of, _)| of == header);
            let name = renamed.map_or(usual, |(_, name)| name);
            HeaderName::try_from(name).map_err(|_| IrpConfigFault {
                key: config.key("header_names"),
                file: None,
                problem: format!("{name:?} is not a header's name"),
                remedy: "use letters, digits, - and _",
            })
        };
        Ok(Self {
            client_id: named("client_id", id)?,
            client_secret: named("client_secret", secret)?,
            gstin: named("gstin", "gstin")?,
            user_name: named("user_name", "user_name")?,
            token: named("authtoken", "authtoken")?,
            supplier: named("sup_gstin", "sup_gstin")?,
        })
    }
}

impl Nic {
    pub(super) fn new(config: &IrpConfig) -> Result<Self, IrpConfigFault> {
        let base_url = http::base_url(config)?;
        let key_file = config.route.public_key_file.as_deref();
        let missing = || IrpConfigFault {
            key: config.key("public_key_file"),
            file: None,
            problem: "it is missing".to_owned(),
            remedy: "name the key for API logins that the portal gave you for this environment",
        };
        let key_file = key_file.ok_or_else(missing)?;
        let pem = http::read_file(config.key("public_key_file"), key_file)?;
        let login_key = LoginKey::from_pem(&pem).map_err(|error| IrpConfigFault {
            key: config.key("public_key_file"),
            file: Some(key_file.to_owned()),
            problem: error.to_string(),
            remedy: "use the key for API logins that the portal gave you for this environment",
        })?;
        let core = format!("{base_url}{}", config.route.paths.eicore);
        Ok(Self {
            http: http::client(config)?,
            login_key,
            generate: http::address(config, &format!("{core}/v1.03/Invoice"))?,
            vital: format!("{base_url}{}", config.route.paths.eivital),
            eway_bills: format!("{base_url}{}", config.route.paths.eiewb),
            core,
            headers: Headers::new(config)?,
            client_pair: config.route.client_pair,
        })
    }

    /// Details of a GSTIN, `gstin`, or having them synchronised first, `syncgstin` (NIC, "Get GSTIN details" and
    /// "Sync GSTIN details from CP").
    fn master(
        &self,
        access: &Access<'_>,
        which: &'static str,
        gstin: &Gstin,
    ) -> Result<RequestBuilder, IrpError> {
        let address = format!("{}/v1.04/Master/{which}/{gstin}", self.vital);
        Ok(self.get(address, self.session_headers(access)?))
    }

    fn post(&self, url: impl IntoUrl, mut headers: HeaderMap, body: String) -> RequestBuilder {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.http.post(url).headers(headers).body(body)
    }

    fn get(&self, address: String, headers: HeaderMap) -> RequestBuilder {
        self.http.get(address).headers(headers)
    }

    fn account_headers(&self, account: &Account) -> Result<HeaderMap, IrpError> {
        let Integrator { id, secret, .. } = &*account.client;
        let mut headers = HeaderMap::with_capacity(8);
        let names = &self.headers;
        match self.client_pair {
            ClientPair::Send => {
                headers.insert(names.client_id.clone(), secret_value(id)?);
                headers.insert(names.client_secret.clone(), secret_value(secret.expose())?);
            }
            ClientPair::Omit => {}
            ClientPair::Empty => {
                for name in [&names.client_id, &names.client_secret] {
                    headers.insert(name.clone(), HeaderValue::from_static(""));
                }
            }
        }
        // Once: two headers that differ in case only are merged into `X, X` on the way.
        headers.insert(names.gstin.clone(), secret_value(account.gstin.as_str())?);
        Ok(headers)
    }

    fn session_headers(&self, access: &Access<'_>) -> Result<HeaderMap, IrpError> {
        let mut headers = self.account_headers(access.account)?;
        let names = &self.headers;
        headers.insert(
            names.user_name.clone(),
            secret_value(&access.account.username)?,
        );
        headers.insert(names.token.clone(), secret_value(access.token.expose())?);
        Ok(headers)
    }

    /// An e-commerce operator names the seller it asks for; without that the portal would look among the operator's
    /// own documents (NIC, "Get e-invoice by IRN", `sup_gstin`).
    fn look_up_headers(&self, access: &Access<'_>, seller: &Gstin) -> Result<HeaderMap, IrpError> {
        let mut headers = self.session_headers(access)?;
        if *seller != access.account.gstin {
            headers.insert(
                self.headers.supplier.clone(),
                secret_value(seller.as_str())?,
            );
        }
        Ok(headers)
    }
}

impl Contract for Nic {
    /// Authentication (NIC, "Authentication" v1.04).
    fn login(&self, account: &Account, force: bool) -> Result<LoginRequest, IrpError> {
        let app_key = AppKey::generate();
        let json = login_json(account, &app_key, force);
        let sealed =
            self.login_key
                .seal_login(json.as_bytes())
                .map_err(|_| IrpError::Unsendable {
                    why: "user name and password are too long for the portal's login",
                })?;
        let headers = self.account_headers(account)?;
        let body = format!("{{\"Data\":\"{sealed}\"}}");
        Ok(LoginRequest {
            request: self.post(format!("{}/v1.04/auth", self.vital), headers, body),
            app_key: Some(app_key),
        })
    }

    /// In the last ten minutes of a token (NIC, "Authentication", `ForceRefreshAccessToken`).
    fn can_force(&self) -> bool {
        true
    }

    /// What the portal has for asking whether it is alive. Where a provider has no such thing, its answer says so, and
    /// what time it is all the same.
    fn ping(&self) -> RequestBuilder {
        self.get(
            format!("{}/v1.04/heartbeat/ping", self.vital),
            HeaderMap::new(),
        )
    }

    /// `e-Invoice Vital:-22-08-2026 14:58:30` (seen at the portal).
    fn is_alive(&self, answer: &http::Answer) -> Option<bool> {
        let says = answer.body.trim_ascii_start();
        let is_text = says.get(..100.min(says.len())).unwrap_or_default();
        let is_alive = is_text
            .windows(5)
            .any(|word| word.eq_ignore_ascii_case(b"vital"));
        Some(answer.status == 200 && is_alive && !says.starts_with(b"<"))
    }

    /// Registration (NIC, "Generate IRN"). The document is sealed byte for byte.
    fn generate(&self, access: &Access<'_>, document: &[u8]) -> Result<RequestBuilder, IrpError> {
        let headers = self.session_headers(access)?;
        let body = sealed_body(key_of(access)?, document);
        Ok(self.post(self.generate.clone(), headers, body))
    }

    /// Look-up by document (NIC, "Get IRN by document details").
    fn by_document(
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
        let address = format!("{}/v1.03/Invoice/irnbydocdetails", self.core);
        let headers = self.look_up_headers(access, seller)?;
        Ok(self.get(address, headers).query(&query))
    }

    /// Look-up by IRN (NIC, "Get e-invoice by IRN").
    fn by_irn(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        irn: &Irn,
    ) -> Result<RequestBuilder, IrpError> {
        let address = format!("{}/v1.03/Invoice/irn/{irn}", self.core);
        Ok(self.get(address, self.look_up_headers(access, seller)?))
    }

    fn gstin(&self, access: &Access<'_>, gstin: &Gstin) -> Result<RequestBuilder, IrpError> {
        self.master(access, "gstin", gstin)
    }

    fn sync_gstin(&self, access: &Access<'_>, gstin: &Gstin) -> Result<RequestBuilder, IrpError> {
        self.master(access, "syncgstin", gstin)
    }

    /// Cancellation (NIC, "Cancel IRN").
    fn cancel(&self, access: &Access<'_>, payload: &str) -> Result<RequestBuilder, IrpError> {
        let headers = self.session_headers(access)?;
        let body = sealed_body(key_of(access)?, payload.as_bytes());
        let address = format!("{}/v1.03/Invoice/Cancel", self.core);
        Ok(self.post(address, headers, body))
    }

    /// Issue of an e-way bill (NIC, "Generate EWB by IRN"). The payload is sealed byte for byte.
    fn eway_bill(&self, access: &Access<'_>, payload: &[u8]) -> Result<RequestBuilder, IrpError> {
        let headers = self.session_headers(access)?;
        let body = sealed_body(key_of(access)?, payload);
        Ok(self.post(format!("{}/v1.03/ewaybill", self.eway_bills), headers, body))
    }

    /// Look-up of an e-way bill (NIC, "Get EWB by IRN").
    fn eway_bill_by_irn(&self, access: &Access<'_>, irn: &Irn) -> Result<RequestBuilder, IrpError> {
        let address = format!("{}/v1.03/ewaybill/irn/{irn}", self.eway_bills);
        Ok(self.get(address, self.session_headers(access)?))
    }

    fn refusal_of(&self, _: Call, status: u16) -> Option<&'static str> {
        (status == 401).then_some("401")
    }

    fn leaves_open(&self, _: Call, _: &str) -> bool {
        false
    }

    fn is_nothing(&self, _: &RawValue) -> bool {
        false
    }
}

/// Every login of this contract brings a key. A session without one is of no use, and a new login has one.
fn key_of<'a>(access: &Access<'a>) -> Result<&'a SessionKey, IrpError> {
    access.key.ok_or(IrpError::Undecipherable)
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
