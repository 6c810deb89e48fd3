//! What the portal's codes mean and oblige the worker to do.
//!
//! One rule: a code that is not in the table is not guessed at. It keeps the job for a person, unless the operator
//! said otherwise (`irp.unknown_codes`).

mod table;

use std::time::Duration;

use crate::config::UnknownCode;
use crate::irp::error::Fault;
use crate::outcome::Disposition;

/// The call an answer belongs to: the same code obliges to different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Authentication.
    Login,
    /// Registering a document.
    Generate,
    /// By document or by IRN.
    LookUp,
    /// Details of a GSTIN, or having the portal synchronise them.
    Gstin,
    /// Cancelling an IRN.
    Cancel,
    /// Having an e-way bill issued.
    EwayBill,
}

impl Call {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Generate => "generate",
            Self::LookUp => "look_up",
            Self::Gstin => "gstin",
            Self::Cancel => "cancel",
            Self::EwayBill => "ewb",
        }
    }

    /// Whether it asks for something that may not be there.
    pub fn asks(self) -> bool {
        match self {
            Self::LookUp | Self::Gstin => true,
            Self::Login | Self::Generate | Self::Cancel | Self::EwayBill => false,
        }
    }

    /// Whether the portal may have changed something when its answer was lost.
    pub fn changes_something(self) -> bool {
        match self {
            Self::Generate | Self::Cancel | Self::EwayBill => true,
            Self::Login | Self::LookUp | Self::Gstin => false,
        }
    }
}

/// What a code is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The token or the session key.
    Session,
    /// The credentials, the client or the account.
    Account,
    /// What was asked for stands already.
    Done,
    /// The number is cancelled, or registered elsewhere.
    Conflict,
    /// The portal's copy of a GSTIN.
    StaleGstin,
    /// A look-up found nothing.
    Absent,
    /// A look-up found something too old to be handed out.
    TooOld,
    /// The document.
    Document,
    /// A fault that passes, with nothing done.
    Passing,
    /// A fault that passes; the portal may have acted before it.
    Uncertain,
}

impl Class {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 10] = [
        Self::Session,
        Self::Account,
        Self::Done,
        Self::Conflict,
        Self::StaleGstin,
        Self::Absent,
        Self::TooOld,
        Self::Passing,
        Self::Uncertain,
        Self::Document,
    ];

    /// Who has to act on a code of this class.
    pub fn fixed_by(self) -> &'static str {
        match self {
            Self::Document | Self::Conflict => "the ERP's user",
            Self::Account => "the taxpayer or the operator",
            Self::TooOld => "the taxpayer",
            Self::StaleGstin => "the worker, then the ERP's user",
            Self::Session | Self::Done | Self::Absent | Self::Passing | Self::Uncertain => {
                "nobody: the worker goes on by itself"
            }
        }
    }

    /// The word for scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Account => "account",
            Self::Done => "done",
            Self::Conflict => "conflict",
            Self::StaleGstin => "stale_gstin",
            Self::Absent => "absent",
            Self::TooOld => "too_old",
            Self::Document => "document",
            Self::Passing => "passing",
            Self::Uncertain => "uncertain",
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Code {
    /// As the portal writes it.
    pub code: &'static str,
    /// What it says, in our words.
    pub meaning: &'static str,
    /// What it is about.
    pub class: Class,
    /// Who does what about it.
    pub remedy: &'static str,
}

impl Code {
    /// Who has to act: as for its class, with few exceptions.
    pub fn fixed_by(&self) -> &'static str {
        match self.code {
            "1020" | "401" | "429" => "the operator",
            "2231" | "2300" | "2305" | "3092" | "3093" | "4015" | "4025" => "the taxpayer",
            "2140" => "the ERP's user",
            _ => self.class.fixed_by(),
        }
    }

    /// What is special about this code, beside what holds for its class.
    pub fn besides(&self) -> Option<&'static str> {
        match self.code {
            "5002" => Some(
                "a text that begins \"Application error\" says that the portal itself failed: then it is handled like 5001",
            ),
            "2140" => Some(
                "the second time it is answered to the same document, that counts as refused: `rejected`",
            ),
            "2295" => Some(
                "with `irp.failover_url` the document is first fetched from that portal: `signed` if it is there",
            ),
            "401" => Some(
                "an HTTP status, not a code of the portal: service providers answer so to a key that they refuse as well; over MasterGST's contract a submit that got it is in doubt, and is looked up",
            ),
            "301" | "302" => Some("a code of a service provider, not an HTTP status"),
            "403" | "429" | "500" | "502" | "503" | "504" => Some(
                "a service provider's error code; of the same HTTP status without a readable answer see `HTTP 4xx` and `HTTP 5xx`",
            ),
            _ if self.is_of_the_eway_bill() => Some(
                "beside a registration it comes in the result's `info` as `EWBERR`: the IRN stands, `signed`",
            ),
            _ => None,
        }
    }

    /// The portal's range for e-way bills.
    fn is_of_the_eway_bill(&self) -> bool {
        self.code.len() == 4 && self.code.starts_with('4')
    }

    /// Whether it refuses to act for a GSTIN for what that is: no longer in business, not enabled, not registered here. It
    /// may be the account's own, or the one asked about.
    pub fn is_of_a_gstin(&self) -> bool {
        const ALL: [&str; 13] = [
            "3013", "3014", "3015", "3016", "3017", "3026", "3032", "3034", "3035", "3036", "3037",
            "3045", "3064",
        ];
        ALL.contains(&self.code)
    }

    /// Whether it is about the document's bytes alone, so that they would be refused on any day.
    pub fn lies_in_the_document(&self) -> bool {
        self.class == Class::Document && !BEYOND_THE_DOCUMENT.contains(&self.code)
    }

    /// What this code obliges us to do after `call`.
    pub fn disposition(&self, call: Call) -> Disposition {
        match (self.class, call) {
            // No token was used: what is refused is the login itself.
            (Class::Session, Call::Login) | (Class::Account, _) => Disposition::RefuseAccount,
            (Class::Session, _) => Disposition::Reauth,
            (Class::Done, _) | (Class::TooOld, Call::Generate) => Disposition::Adopt,
            (Class::Conflict, _) => Disposition::Conflict,
            (Class::StaleGstin, _) => Disposition::SyncGstin,
            // A registration cannot be answered with "not found".
            (Class::Absent, Call::Login | Call::Generate) => Disposition::Park,
            (Class::Absent, _) => Disposition::NotRegistered,
            (Class::TooOld, _) => Disposition::TooOld,
            (Class::Document, _) => Disposition::Reject,
            (Class::Uncertain, Call::Generate | Call::Cancel | Call::EwayBill) => {
                Disposition::Resolve
            }
            (Class::Uncertain | Class::Passing, _) => Disposition::Retry { not_before: None },
        }
    }
}

/// Refusals of a document that may pass without a change of it: they depend on the day, on the portal's registers of
/// taxpayers, PIN codes and distances, or on what a taxpayer declares there.
const BEYOND_THE_DOCUMENT: [&str; 45] = [
    "2143", "2163", "2169", "2190", "2195", "2218", "2226", "2230", "2231", "2237", "2246", "2247",
    "2248", "2256", "2257", "2270", "2300", "2305", "2324", "2325", "3030", "3039", "3042", "3052",
    "3066", "3074", "3075", "3076", "3077", "3078", "3079", "3092", "3093", "4000", "4013", "4014",
    "4015", "4016", "4018", "4025", "4029", "4030", "4037", "4038", "4074",
];

/// The row of a code, written in any case.
pub fn explain(code: &str) -> Option<&'static Code> {
    table::TABLE
        .iter()
        .find(|row| row.code.eq_ignore_ascii_case(code))
}

/// All rows, in the order of what they oblige us to do.
pub fn all() -> &'static [Code] {
    table::TABLE
}

/// What a code alone obliges us to do after `call`, its text unseen; `operator` is `irp.unknown_codes`.
pub fn obliges_to(call: Call, code: &str, operator: &[(String, UnknownCode)]) -> Disposition {
    let fault = Fault {
        code: code.to_owned(),
        message: String::new(),
    };
    dispose(call, &fault, operator)
}

/// What an answer with these faults obliges us to do, and which of them decides: the most severe, whatever the
/// portal's order. `None` for an answer without faults.
pub(super) fn decide(
    call: Call,
    faults: &[Fault],
    operator: &[(String, UnknownCode)],
    retry_after: Option<Duration>,
) -> Option<(usize, Disposition)> {
    let mut decisive: Option<(u8, usize, Disposition)> = None;
    for (position, fault) in faults.iter().enumerate() {
        let disposition = dispose(call, fault, operator);
        let severity = severity(disposition);
        if decisive.is_none_or(|(worst, ..)| severity > worst) {
            decisive = Some((severity, position, disposition));
        }
    }
    decisive.map(|(_, position, disposition)| (position, with_wait(disposition, retry_after)))
}

fn with_wait(disposition: Disposition, retry_after: Option<Duration>) -> Disposition {
    if matches!(disposition, Disposition::Retry { .. }) {
        return Disposition::Retry {
            not_before: retry_after,
        };
    }
    disposition
}

/// Token before credentials before what is registered before the document before what passes. An unknown code
/// beside a refused document changes nothing, beside anything milder it decides.
fn severity(disposition: Disposition) -> u8 {
    match disposition {
        Disposition::Reauth => 10,
        Disposition::RefuseAccount => 9,
        Disposition::Conflict => 8,
        Disposition::Adopt => 7,
        Disposition::TooOld => 6,
        Disposition::NotRegistered => 5,
        Disposition::Reject => 4,
        Disposition::Park => 3,
        Disposition::SyncGstin => 2,
        Disposition::Resolve => 1,
        Disposition::Retry { .. } => 0,
    }
}

fn dispose(call: Call, fault: &Fault, operator: &[(String, UnknownCode)]) -> Disposition {
    if fault.code == "5002" && is_application_error(&fault.message) || is_outage(&fault.message) {
        return uncertain(call);
    }
    if let Some(row) = explain(&fault.code) {
        return row.disposition(call);
    }
    if call == Call::Login && is_of_the_account(&fault.code) {
        return Disposition::RefuseAccount;
    }
    let decided = decided(&fault.code, operator);
    // A login is not guessed about: a key that is refused must not be sent again and again.
    if decided.is_none() && call != Call::Login && is_of_a_provider(&fault.code) {
        return uncertain(call);
    }
    match decided {
        Some(UnknownCode::Retry) => Disposition::Retry { not_before: None },
        Some(UnknownCode::Reject) => Disposition::Reject,
        Some(UnknownCode::DeadLetter) | None => Disposition::Park,
    }
}

/// What the operator says of a code (`irp.unknown_codes`), written in any case.
fn decided(code: &str, operator: &[(String, UnknownCode)]) -> Option<UnknownCode> {
    operator
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(code))
        .map(|(_, meaning)| *meaning)
}

/// Whether our table or the operator says what a code means.
pub(super) fn is_known(code: &str, operator: &[(String, UnknownCode)]) -> bool {
    explain(code).is_some() || decided(code, operator).is_some()
}

fn uncertain(call: Call) -> Disposition {
    if call.changes_something() {
        Disposition::Resolve
    } else {
        Disposition::Retry { not_before: None }
    }
}

/// 5002 is both "a field is wrong" and "the portal failed"; only the text tells (NIC error list).
fn is_application_error(message: &str) -> bool {
    message
        .trim_start()
        .get(..17)
        .is_some_and(|start| start.eq_ignore_ascii_case("application error"))
}

/// How service providers word an outage between themselves and the portal, under codes of their own or of the portal's.
pub(super) fn is_outage(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "gspgstdown",
        "gsperr300",
        "connection reset",
        "no route to host",
    ]
    .iter()
    .any(|marker| message.contains(marker))
}

/// Service providers put letters before codes of their own, which tell of themselves or of the way to the portal, not
/// of the document, and may come before the portal acted or after.
pub fn is_of_a_provider(code: &str) -> bool {
    const PREFIXES: [&str; 4] = ["GSP", "GEN", "SYS", "ASP"];
    PREFIXES.iter().any(|prefix| {
        let start = code.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    })
}

/// Whether a code tells of the way to the portal, and not of what was asked of it: then it is down, or as good as down.
/// Of a provider's codes that are in no table this is not known.
pub(super) fn is_of_the_way(code: &str) -> bool {
    explain(code).is_some_and(|row| {
        let is_status = matches!(row.code, "301" | "302" | "500" | "502" | "503" | "504");
        is_status || row.class == Class::Uncertain && is_of_a_provider(row.code)
    })
}

/// A service provider's quota that is used up, as an error code.
pub(super) const QUOTA: &str = "429";

/// 1xxx and 30xx are the portal's ranges for clients, users and accounts. The codes of a blocked account are not
/// published, so on a login an unknown one of these ranges stops the GSTIN rather than being tried again.
fn is_of_the_account(code: &str) -> bool {
    code.len() == 4
        && code.bytes().all(|byte| byte.is_ascii_digit())
        && (code.starts_with('1') || code.starts_with("30"))
}

#[cfg(test)]
mod tests;
