//! What the portal decided, before it is dressed as HTTP: a payload or errors, and additional information.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

/// One entry of `ErrorDetails`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortalError {
    /// The portal's code, as text.
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: Cow<'static, str>,
}

impl PortalError {
    pub(crate) fn new(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }
}

/// One entry of `InfoDtls`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Info {
    pub(crate) inf_cd: Cow<'static, str>,
    pub(crate) desc: Value,
}

impl Info {
    pub(crate) fn new(code: &'static str, desc: impl Into<Value>) -> Self {
        Self {
            inf_cd: Cow::Borrowed(code),
            desc: desc.into(),
        }
    }
}

/// A registration as generate and both look-ups return it.
#[derive(Clone)]
pub(crate) struct Registration {
    pub(crate) ack_no: u64,
    pub(crate) ack_dt: String,
    pub(crate) irn: String,
    pub(crate) signed_invoice: Arc<str>,
    pub(crate) signed_qr: Arc<str>,
    /// All of it as JSON in the documented shape, when that was written beforehand.
    pub(crate) text: Option<Arc<str>>,
    pub(crate) status: &'static str,
    pub(crate) eway_bill: Option<EwayBill>,
}

/// An e-way bill as the portal returns it.
#[derive(Clone)]
pub(crate) struct EwayBill {
    pub(crate) number: u64,
    pub(crate) issued: String,
    /// Absent while only Part A is known.
    pub(crate) valid_till: Option<String>,
    pub(crate) remarks: Option<String>,
    pub(crate) active: bool,
}

/// The `Data` of a successful answer.
pub(crate) enum Payload {
    /// A login's, sent as it is (NIC, authentication v1.04).
    Login(Value),
    /// Sent encrypted; kept apart because faults change its tokens.
    Registration(Box<Registration>),
    /// Any other, sent encrypted.
    Json(Value),
}

/// A refusal.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) errors: Vec<PortalError>,
    pub(crate) info: Vec<Info>,
}

impl Refused {
    pub(crate) fn one(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            errors: vec![PortalError::new(code, message)],
            info: Vec::new(),
        }
    }

    pub(crate) fn with_info(mut self, info: Info) -> Self {
        self.info.push(info);
        self
    }
}

impl From<Vec<PortalError>> for Refused {
    fn from(errors: Vec<PortalError>) -> Self {
        Self {
            errors,
            info: Vec::new(),
        }
    }
}

/// A successful answer.
pub(crate) struct Granted {
    pub(crate) payload: Payload,
    pub(crate) info: Vec<Info>,
}

impl From<Payload> for Granted {
    fn from(payload: Payload) -> Self {
        Self {
            payload,
            info: Vec::new(),
        }
    }
}

/// What one request came to.
pub(crate) type Answer = Result<Granted, Refused>;
