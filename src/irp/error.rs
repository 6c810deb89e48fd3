//! What can go wrong with a call, told apart by what it obliges the worker to do.
//!
//! One rule: whether the portal may have acted is decided here, where the call was made, and not by the caller.

use std::fmt;
use std::time::Duration;

use crate::config::UnknownCode;
use crate::irn::Irn;
use crate::irp::codes::{self, Call};
use crate::outcome::{Disposition, ErrorEntry, Info, PortalSign};

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum IrpError {
    /// No connection: the request never left.
    #[error("the portal could not be reached")]
    NotSent(#[source] Box<reqwest::Error>),
    /// The credentials cannot be put into a request: nothing was sent, and nothing could be.
    #[error("the credentials cannot be sent: {why}")]
    Unsendable {
        /// What is wrong with them.
        why: &'static str,
    },
    /// A request that changes something left, and no readable answer came: it may have been carried out.
    #[error("the request left, but its answer is lost")]
    Unconfirmed {
        /// What came instead of an answer.
        #[source]
        why: Unreadable,
        /// `Retry-After`
        retry_after: Option<Duration>,
    },
    /// A login or look-up without a readable answer: nothing was changed.
    #[error("the portal gave no readable answer")]
    Server {
        /// The HTTP status, if one came.
        status: Option<u16>,
        /// What came instead of an answer.
        #[source]
        why: Unreadable,
        /// `Retry-After`
        retry_after: Option<Duration>,
    },
    /// HTTP 429: refused before it was looked at.
    #[error("the portal asks to slow down")]
    Throttled {
        /// `Retry-After`
        retry_after: Option<Duration>,
    },
    /// A readable refusal.
    #[error("the portal refused: {}", .0.code())]
    Refused(Box<Refusal>),
    /// A readable refusal that names no error: what it means, nobody can say, but it is an answer, and costs as one.
    #[error("the portal refused without saying why")]
    Unexplained {
        /// What was refused so.
        call: Call,
        /// `Retry-After`
        retry_after: Option<Duration>,
    },
    /// A success that our session key does not open: the session is not the portal's. What was asked for *was*
    /// done.
    #[error("the answer was sealed with another session key")]
    Undecipherable,
    /// A success that does not say what a success must.
    #[error("the answer makes no sense: {why}")]
    Unintelligible {
        /// What it lacks.
        why: &'static str,
    },
}

/// What came instead of an answer.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Nothing within `irp.request_timeout`.
    #[error("no answer in time")]
    TimedOut,
    /// The connection ended first.
    #[error("the connection broke before the answer was complete")]
    Broken(#[source] Box<reqwest::Error>),
    /// A status other than 2xx and nothing readable in the body.
    #[error("HTTP status {0}")]
    Status(u16),
    /// No body.
    #[error("an empty answer")]
    Empty,
    /// More than the cap.
    #[error("an answer larger than 16 MiB")]
    TooLarge,
    /// HTML, truncated JSON, or other text.
    #[error("an answer that is not JSON")]
    NotJson,
    /// JSON that is neither a success nor says what was refused.
    #[error("an answer that is neither a success nor a refusal")]
    NoVerdict,
    /// A success that says nothing, or a refusal by somebody on the way who cannot know what the portal did.
    #[error("an answer that leaves open what was done")]
    Inconclusive,
}

impl Unreadable {
    /// What a failed send or read was, once the request may have left.
    pub(super) fn from_transport(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        // The URL of a look-up names the document.
        Self::Broken(Box::new(error.without_url()))
    }
}

impl IrpError {
    /// A call whose answer could not be read.
    pub(super) fn lost(
        call: Call,
        status: Option<u16>,
        retry_after: Option<Duration>,
        why: Unreadable,
    ) -> Self {
        if call.changes_something() {
            Self::Unconfirmed { why, retry_after }
        } else {
            Self::Server {
                status,
                why,
                retry_after,
            }
        }
    }

    /// What it obliges the worker to do.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::NotSent(_) => Disposition::Retry { not_before: None },
            Self::Server { retry_after, .. } | Self::Throttled { retry_after } => {
                Disposition::Retry {
                    not_before: *retry_after,
                }
            }
            Self::Unconfirmed { .. } => Disposition::Resolve,
            Self::Unexplained { call, .. } if call.changes_something() => Disposition::Resolve,
            Self::Unexplained { retry_after, .. } => Disposition::Retry {
                not_before: *retry_after,
            },
            Self::Refused(refusal) => refusal.disposition,
            Self::Unsendable { .. } => Disposition::RefuseAccount,
            Self::Undecipherable => Disposition::Reauth,
            Self::Unintelligible { .. } => Disposition::Park,
        }
    }

    /// What it says of the portal itself; `None` where nothing was asked of it.
    pub fn sign(&self) -> Option<PortalSign> {
        match self {
            Self::Unsendable { .. } => None,
            Self::NotSent(_) => Some(PortalSign::Unreached),
            Self::Unconfirmed {
                why: Unreadable::Inconclusive,
                ..
            }
            | Self::Server {
                why: Unreadable::Inconclusive,
                ..
            } => Some(PortalSign::Answered),
            Self::Unconfirmed { retry_after, .. } | Self::Server { retry_after, .. } => {
                Some(PortalSign::Silent {
                    retry_after: *retry_after,
                })
            }
            Self::Throttled { retry_after } => Some(PortalSign::Throttled {
                retry_after: *retry_after,
            }),
            Self::Refused(refusal) => Some(refusal.sign()),
            Self::Unexplained { .. } | Self::Undecipherable | Self::Unintelligible { .. } => {
                Some(PortalSign::Answered)
            }
        }
    }

    /// What lies at the bottom of it, for the operator: words of the operating system or the TLS library, never the
    /// portal's.
    pub fn cause(&self) -> String {
        match self {
            Self::NotSent(error) => super::http::root_cause(&**error),
            Self::Unconfirmed { why, .. } | Self::Server { why, .. } => {
                super::http::root_cause(why)
            }
            Self::Unsendable { .. }
            | Self::Throttled { .. }
            | Self::Refused(_)
            | Self::Unexplained { .. }
            | Self::Undecipherable
            | Self::Unintelligible { .. } => self.to_string(),
        }
    }

    /// The portal's code that decides, if it sent one.
    pub fn code(&self) -> Option<&str> {
        let code = self.refusal().map(Refusal::code);
        code.filter(|code| !code.is_empty())
    }

    /// The readable refusal that it is.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::NotSent(_)
            | Self::Unsendable { .. }
            | Self::Unconfirmed { .. }
            | Self::Server { .. }
            | Self::Throttled { .. }
            | Self::Unexplained { .. }
            | Self::Undecipherable
            | Self::Unintelligible { .. } => None,
        }
    }

    /// The HTTP status of an answer that said nothing besides.
    pub fn bare_status(&self) -> Option<u16> {
        match self {
            Self::Unconfirmed {
                why: Unreadable::Status(status),
                ..
            }
            | Self::Server {
                why: Unreadable::Status(status),
                ..
            } => Some(*status),
            Self::NotSent(_)
            | Self::Unsendable { .. }
            | Self::Unconfirmed { .. }
            | Self::Server { .. }
            | Self::Throttled { .. }
            | Self::Refused(_)
            | Self::Unexplained { .. }
            | Self::Undecipherable
            | Self::Unintelligible { .. } => None,
        }
    }

    /// Whether the portal counts it against the taxpayer: it answered, and the answer was an error, a look-up that
    /// found nothing included. Not a failure of its own (5xx), nor 429, which comes from service providers only.
    pub fn is_counted(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.sign() == PortalSign::Answered,
            Self::Unexplained { .. } => true,
            Self::Server { status, .. } => matches!(status, Some(400..500)),
            Self::Unconfirmed { why, .. } => matches!(why, Unreadable::Status(400..500)),
            Self::NotSent(_)
            | Self::Unsendable { .. }
            | Self::Throttled { .. }
            | Self::Undecipherable
            | Self::Unintelligible { .. } => false,
        }
    }

    /// The `result` label of `irp_requests_total`.
    pub fn call_result_label(&self) -> &'static str {
        match self {
            Self::NotSent(_) | Self::Unsendable { .. } => "not_sent",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::Server { .. } => "server_error",
            Self::Throttled { .. } => "throttled",
            Self::Refused(refusal) => refusal.label(),
            Self::Unexplained { call, .. } if call.changes_something() => "unexplained",
            Self::Unexplained { .. } => "unanswered",
            Self::Undecipherable => "undecipherable",
            Self::Unintelligible { .. } => "unintelligible",
        }
    }
}

/// One error of a refusal.
#[derive(Clone, PartialEq, Eq)]
pub struct Fault {
    /// The portal's code; empty where it sent a bare text.
    pub code: String,
    /// Its text, which may quote the document.
    pub message: String,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({})", self.code)
    }
}

impl Fault {
    /// Whether it has one.
    pub(super) fn has_code(&self) -> bool {
        !self.code.is_empty()
    }
}

/// Where a duplicate is registered, by its `InfCd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DuplicateKind {
    /// `DUPIRN`: at the portal that says so.
    #[default]
    Here,
    /// `DUPIRNGLP`: at another one.
    Elsewhere,
}

impl DuplicateKind {
    pub(super) fn of(code: &str) -> Option<Self> {
        [("DUPIRN", Self::Here), ("DUPIRNGLP", Self::Elsewhere)]
            .into_iter()
            .find_map(|(known, kind)| known.eq_ignore_ascii_case(code).then_some(kind))
    }
}

/// What is registered already, as the refusal of a duplicate tells it (`DUPIRN`, `DUPIRNGLP`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duplicate {
    /// `InfCd`
    pub kind: DuplicateKind,
    /// `Irn`
    pub irn: Option<Irn>,
    /// `AckNo`, its digits as sent.
    pub ack_no: Option<String>,
    /// `AckDt` as sent, IST without saying so.
    pub ack_date: Option<String>,
    /// `IrnDtl.RegIrp`: the portal that registered it, where that was another one.
    pub registered_at: Option<String>,
}

/// Longer than any portal's name.
const PORTAL_NAME_CHARS: usize = 32;

impl Duplicate {
    /// `RegIrp` as it may be shown to a person: a name of some letters, digits and `-_.`, or nothing.
    pub fn portal(&self) -> Option<String> {
        let name: String = self
            .registered_at
            .as_deref()?
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            .take(PORTAL_NAME_CHARS)
            .collect();
        (!name.is_empty()).then_some(name)
    }

    /// The acknowledgement date as RFC 3339, with India's offset.
    pub fn ack_date_rfc3339(&self) -> Option<String> {
        super::ist::rfc3339(self.ack_date.as_deref()?)
    }
}

/// A readable refusal.
pub struct Refusal {
    /// All errors, in the portal's order; at least one.
    pub faults: Vec<Fault>,
    /// Additional information.
    pub info: Vec<Info>,
    /// What is registered already.
    pub duplicate: Option<Duplicate>,
    /// What the most severe error obliges us to do.
    pub disposition: Disposition,
    decisive: usize,
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({:?}, {:?})", self.faults, self.disposition)
    }
}

impl Refusal {
    /// Judges an answer's errors; `None` if there are none.
    pub fn judge(
        call: Call,
        operator: &[(String, UnknownCode)],
        retry_after: Option<Duration>,
        faults: Vec<Fault>,
        info: Vec<Info>,
        duplicate: Option<Duplicate>,
    ) -> Option<Box<Self>> {
        let (decisive, disposition) = codes::decide(call, &faults, operator, retry_after)?;
        Some(Box::new(Self {
            faults,
            info,
            duplicate,
            disposition,
            decisive,
        }))
    }

    /// An answer to a question that says nothing at all, which stands for the portal's "not found".
    pub(super) fn nothing_found() -> Box<Self> {
        Box::new(Self {
            faults: vec![Fault {
                code: String::new(),
                message: "nothing was found".to_owned(),
            }],
            info: Vec::new(),
            duplicate: None,
            disposition: Disposition::NotRegistered,
            decisive: 0,
        })
    }

    /// The code that decides; empty where the portal sent a bare text.
    pub fn code(&self) -> &str {
        self.faults
            .get(self.decisive)
            .map_or("", |fault| &fault.code)
    }

    /// Whether the same bytes would be refused again whatever the day, and whatever becomes of the taxpayers they
    /// name: every error is about the document, and none about what surrounds it.
    pub fn lies_in_the_document(&self) -> bool {
        self.disposition == Disposition::Reject
            && self.faults.iter().all(|fault| {
                codes::explain(&fault.code).is_some_and(codes::Code::lies_in_the_document)
            })
    }

    /// The errors as they go into a result.
    pub fn entries(&self) -> Vec<ErrorEntry> {
        self.faults
            .iter()
            .map(|fault| ErrorEntry::irp(fault.code.as_str(), fault.message.as_str()))
            .collect()
    }

    /// What it says of the portal: a service provider may answer in its stead.
    fn sign(&self) -> PortalSign {
        let retry_after = self.disposition.not_before();
        let tells_an_outage = || {
            let fault = self.faults.get(self.decisive);
            fault.is_some_and(|fault| codes::is_outage(&fault.message))
        };
        match self.code() {
            codes::QUOTA => PortalSign::Throttled { retry_after },
            code if codes::is_of_the_way(code) || tells_an_outage() => {
                PortalSign::Silent { retry_after }
            }
            _ => PortalSign::Answered,
        }
    }

    fn label(&self) -> &'static str {
        match self.disposition {
            Disposition::Retry { .. } | Disposition::Resolve => "refused_for_now",
            Disposition::Reauth => "session_refused",
            Disposition::Adopt => "duplicate",
            Disposition::Conflict => "conflict",
            Disposition::SyncGstin => "stale_gstin",
            Disposition::Reject => "rejected",
            Disposition::RefuseAccount => "account_refused",
            Disposition::NotRegistered => "not_registered",
            Disposition::TooOld => "too_old",
            Disposition::Park => "unknown_code",
        }
    }
}
