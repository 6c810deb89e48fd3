//! What becomes of a job: stable codes, what an error obliges the worker to do, and the result message.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::gstin::Gstin;
use crate::irn::hex;

#[cfg(test)]
mod schema;

/// What an error obliges the worker to do, whatever the layer it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing was done and the fault will pass: again, no sooner than the portal asked.
    Retry {
        /// The wait the portal asked for, if it did.
        not_before: Option<Duration>,
    },
    /// The portal may have acted: look the document up before anything is sent again.
    Resolve,
    /// The session is stale: drop it, log in, once more. Once per attempt.
    Reauth,
    /// The document is registered already (2150): fetch what is there and compare.
    Adopt,
    /// Its number is burnt: cancelled (2278), or registered at another portal (2295).
    Conflict,
    /// The portal's copy of a GSTIN is stale (3028, 3029).
    SyncGstin,
    /// The document is at fault and would be refused every time.
    Reject,
    /// The credentials or the account are refused: every job of this GSTIN is.
    RefuseAccount,
    /// A look-up's answer: nothing of the kind is registered here.
    NotRegistered,
    /// A look-up's answer: registered, but its signed data can no longer be fetched (2283).
    TooOld,
    /// Nobody has said what this answer means: keep the job for a person and raise an alarm.
    Park,
}

impl Disposition {
    /// The wait the portal asked for, if it did.
    pub fn not_before(self) -> Option<Duration> {
        match self {
            Self::Retry { not_before } => not_before,
            Self::Resolve
            | Self::Reauth
            | Self::Adopt
            | Self::Conflict
            | Self::SyncGstin
            | Self::Reject
            | Self::RefuseAccount
            | Self::NotRegistered
            | Self::TooOld
            | Self::Park => None,
        }
    }
}

/// What a call's end says of the portal itself, whatever it says of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortalSign {
    /// Something readable came, a refusal included.
    Answered,
    /// No connection: the request never left.
    Unreached,
    /// The request left, and nothing readable came: time-out, 5xx, HTML, an empty answer.
    Silent {
        /// `Retry-After`, if there was one.
        retry_after: Option<Duration>,
    },
    /// HTTP 429.
    Throttled {
        /// `Retry-After`, if there was one.
        retry_after: Option<Duration>,
    },
}

impl PortalSign {
    /// The wait the portal asked for.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Answered | Self::Unreached => None,
            Self::Silent { retry_after } | Self::Throttled { retry_after } => retry_after,
        }
    }
}

/// Stable codes of section 3 of the contract, for `errors` with source `worker` and for `x-irn-reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Every attempt failed for a passing reason.
    RetriesExhausted,
    /// The portal refused the GSTIN's credentials or account.
    CredentialsRefused,
    /// No credentials are configured for this GSTIN.
    NoCredentials,
    /// The session was refused again right after a fresh login.
    SessionRefused,
    /// The GSTIN, or its client, has used up its error budget.
    ErrorBudget,
    /// The delivery could not be read.
    Unreadable,
    /// This publisher may not use this GSTIN, or this reply queue is not allowed.
    NotPermitted,
    /// A signature failed against the key it names.
    BadSignature,
    /// Genuine signed data, but of another document.
    SignedDataMismatch,
    /// The portal's answer has a code that nobody has classified.
    UnknownCode,
    /// A readable answer that makes no sense, for example success without an IRN.
    Unintelligible,
    /// The attempt panicked: a bug of the worker.
    Panicked,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::RetriesExhausted,
        Self::CredentialsRefused,
        Self::NoCredentials,
        Self::SessionRefused,
        Self::ErrorBudget,
        Self::Unreadable,
        Self::NotPermitted,
        Self::BadSignature,
        Self::SignedDataMismatch,
        Self::UnknownCode,
        Self::Unintelligible,
        Self::Panicked,
    ];

    /// The code as it appears in messages, metrics and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "RETRIES_EXHAUSTED",
            Self::CredentialsRefused => "CREDENTIALS_REFUSED",
            Self::NoCredentials => "NO_CREDENTIALS",
            Self::SessionRefused => "SESSION_REFUSED",
            Self::ErrorBudget => "ERROR_BUDGET",
            Self::Unreadable => "UNREADABLE",
            Self::NotPermitted => "NOT_PERMITTED",
            Self::BadSignature => "BAD_SIGNATURE",
            Self::SignedDataMismatch => "SIGNED_DATA_MISMATCH",
            Self::UnknownCode => "UNKNOWN_CODE",
            Self::Unintelligible => "UNINTELLIGIBLE",
            Self::Panicked => "PANICKED",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The terminal statuses of section 3 of the contract.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Registered, now or before, with signed data that passed the checks.
    Signed,
    /// Registered, but the signed data can no longer be fetched.
    Partial,
    /// The number is taken by other content, cancelled, or at another portal.
    Conflict,
    /// The document, or the request, was refused.
    Rejected,
    /// The registration is cancelled, now or before.
    Cancelled,
    /// The registration that was asked for, with signed data that passed the checks.
    Found,
    /// Nothing of the kind is registered.
    NotFound,
    /// The e-way bill is issued, now or before.
    EwbIssued,
    /// Its deadline passed before it could be submitted.
    Expired,
    /// The worker gave up.
    Failed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Signed,
        Self::Partial,
        Self::Conflict,
        Self::Rejected,
        Self::Cancelled,
        Self::Found,
        Self::NotFound,
        Self::EwbIssued,
        Self::Expired,
        Self::Failed,
    ];

    /// The word in messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Partial => "partial",
            Self::Conflict => "conflict",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::EwbIssued => "ewb_issued",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

/// How far the signatures of a registration are proven.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureState {
    /// Both tokens verified against a known key.
    Verified,
    /// No key is configured, or checking is off.
    Unverified,
    /// The tokens name a key nobody has configured.
    UnknownKey,
}

impl SignatureState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Verified, Self::Unverified, Self::UnknownKey];

    /// The word in messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::UnknownKey => "unknown_key",
        }
    }
}

/// Who found an error.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorSource {
    /// The worker's own look at the document or request, before any call that would be refused.
    Preflight,
    /// The portal.
    Irp,
    /// The worker, giving up.
    Worker,
}

/// One error of a result.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ErrorEntry {
    /// Who found it.
    pub source: ErrorSource,
    /// The portal's code, or a [`Reason`].
    pub code: String,
    /// What is wrong, for a person. May quote the portal, so it goes to the reply and nowhere else.
    pub message: String,
    /// JSON Pointer to the member at fault, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl fmt::Debug for ErrorEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorEntry({})", self.code)
    }
}

impl ErrorEntry {
    /// An error the worker itself reports.
    pub fn worker(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            source: ErrorSource::Worker,
            code: reason.as_str().to_owned(),
            message: message.into(),
            path: None,
        }
    }

    /// An error the portal reported.
    pub fn irp(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            source: ErrorSource::Irp,
            code: code.into(),
            message: message.into(),
            path: None,
        }
    }
}

/// Additional information the portal sent beside its answer (`InfoDtls`).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Info {
    /// `InfCd`
    pub code: String,
    /// `Desc`: a text as it is, anything else as JSON text.
    pub detail: String,
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Info({})", self.code)
    }
}

/// The document a result speaks of.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct ResultDocument<'a> {
    /// `INV`, `CRN` or `DBN`
    pub r#type: &'a str,
    /// The number as sent.
    pub number: &'a str,
    /// `dd/mm/yyyy`
    pub date: &'a str,
}

/// Where the time went, in milliseconds.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Timing {
    /// From the ERP's `timestamp` (or the first delivery) to this delivery.
    pub queued: u64,
    /// Waiting for the portal's answers.
    pub irp: u64,
    /// From this delivery to the result.
    pub total: u64,
}

/// The result message (contract, section 3). Borrowed, because the signed data is large and passed on as it came.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Serialize)]
pub struct ResultMessage<'a> {
    /// Of this form: 1.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    pub version: u8,
    /// The job's `message_id`, that of a document of an array followed by `/` and its number (in its place a digest,
    /// `sha256:…`, where the whole would be too long); without one the IRN, or a digest of what could not be read.
    pub job_id: &'a str,
    /// What the job asked for.
    pub operation: &'a str,
    /// How it ended.
    pub status: Status,
    /// Whose credentials were used.
    #[cfg_attr(
        test,
        schemars(with = "Option<String>", regex(pattern = "^[0-9]{2}[0-9A-Z]{13}$"))
    )]
    pub gstin: Option<Gstin>,
    /// What it speaks of, as far as that could be read.
    pub document: Option<ResultDocument<'a>>,
    /// The invoice reference number: 64 hexadecimal digits.
    #[cfg_attr(test, schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    pub irn: Option<&'a str>,
    /// The portal's acknowledgement number, its digits as sent: text, because it has more of them than a number keeps.
    pub ack_no: Option<&'a str>,
    /// When the portal acknowledged it: RFC 3339, with India's offset.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    pub ack_date: Option<&'a str>,
    /// As the portal has it: `ACT`, `CNL` (cancelled) or `REJ` (registered elsewhere first).
    pub irn_status: Option<&'a str>,
    /// The invoice, signed by the portal: a JWT, as it came.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub signed_invoice: Option<&'a RawValue>,
    /// What the QR code on the invoice has to hold, signed by the portal: a JWT, as it came.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub signed_qr_code: Option<&'a RawValue>,
    /// How far the signatures are proven. A signature that fails is never `signed`.
    pub signature: Option<SignatureState>,
    /// Whether it was registered by an earlier attempt or message.
    pub recovered: bool,
    /// The e-way bill, as the portal sent it.
    #[cfg_attr(
        test,
        schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")
    )]
    pub eway_bill: Option<&'a RawValue>,
    /// When it was cancelled: RFC 3339, with India's offset. Only where a job has cancelled it.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_date: Option<&'a str>,
    /// What the portal sent beside its answer.
    pub info: &'a [Info],
    /// What is wrong.
    pub errors: &'a [ErrorEntry],
    /// How many attempts were made, this one included; a wait for a limit is none.
    pub attempts: u32,
    /// Whether the job is kept with its document in `irn.dead`, so that an operator can replay it.
    pub dead_lettered: bool,
    /// Where the time went, in milliseconds.
    pub timing_ms: Timing,
}

impl<'a> ResultMessage<'a> {
    /// A result that says nothing yet but whose it is and how it ended.
    pub fn bare(job_id: &'a str, operation: &'a str, status: Status) -> Self {
        Self {
            version: 1,
            job_id,
            operation,
            status,
            gstin: None,
            document: None,
            irn: None,
            ack_no: None,
            ack_date: None,
            irn_status: None,
            signed_invoice: None,
            signed_qr_code: None,
            signature: None,
            recovered: false,
            eway_bill: None,
            cancel_date: None,
            info: &[],
            errors: &[],
            attempts: 1,
            dead_lettered: false,
            timing_ms: Timing::default(),
        }
    }
}

/// The `message_id` of a result: the same for a repeated result, so that the receiver can drop the second.
pub fn result_message_id(job_id: &str, status: Status, irn: Option<&str>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [job_id, "|", status.as_str(), "|", irn.unwrap_or("")] {
        context.update(part.as_bytes());
    }
    let mut id = hex(context.finish().as_ref());
    id.truncate(32);
    id
}
