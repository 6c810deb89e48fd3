//! The portal's codes, asked of the table that the worker runs on.

use super::{Does, Explanation, Kind, OPERATOR};
use crate::config::UnknownCode;
use crate::irp::codes::{self, Call, Class, Code};
use crate::outcome::Disposition;
use crate::preflight;

/// Every call, the one most asked about first.
const CALLS: [Call; 6] = [
    Call::Generate,
    Call::LookUp,
    Call::Cancel,
    Call::EwayBill,
    Call::Gstin,
    Call::Login,
];

/// Every row of the table, and what is no code of the portal's but stands for one in results.
pub(super) fn all() -> impl Iterator<Item = Explanation> {
    codes::all().iter().map(of_row).chain([lost()])
}

/// The status of a registration that a look-up may find.
fn lost() -> Explanation {
    let class = Class::Conflict;
    Explanation {
        code: "REJ".to_owned(),
        known: true,
        kind: Kind::Irp,
        class: Some(class.as_str()),
        meaning: "the registration that was found is void, because another portal had registered the document before; no code of the portal's, but its `Status`",
        fixed_by: class.fixed_by(),
        remedy: "fetch the valid registration from the other portal, or issue the invoice under a new number in the ERP",
        worker_does: vec![Does {
            calls: vec![Call::LookUp.as_str()],
            does: "delivers `conflict` for a document and for a `cancel` job; of a `get` job it is `found`, with this `irn_status`",
        }],
        preflight: false,
        note: Some(
            "with `irp.failover_url` the other portal is asked as well: `signed` if the document is valid there",
        ),
    }
}

fn of_row(row: &Code) -> Explanation {
    Explanation {
        code: row.code.to_owned(),
        known: true,
        kind: Kind::Irp,
        class: Some(row.class.as_str()),
        meaning: row.meaning,
        fixed_by: row.fixed_by(),
        remedy: row.remedy,
        worker_does: steps(calls_of_row(row), |call| row.disposition(call)),
        preflight: preflight::looks_for(row.code),
        note: row.besides(),
    }
}

/// A code that is not in the table: what becomes of it is `operator`'s word, `irp.unknown_codes`.
pub(super) fn unknown(code: &str, operator: &[(String, UnknownCode)]) -> Explanation {
    let decided = operator
        .iter()
        .any(|(known, _)| known.eq_ignore_ascii_case(code));
    let remedy = if decided {
        "nothing to do if `irp.unknown_codes` is right about it; report the code, so that a later version knows it"
    } else {
        "read the portal's message in the result, decide what the code means in `irp.unknown_codes` (\"retry\", \"reject\" or \"dead_letter\"), then replay the dead letters"
    };
    Explanation {
        code: code.to_owned(),
        known: false,
        kind: Kind::Irp,
        class: None,
        meaning: if codes::is_of_a_provider(code) {
            "no code that this version knows; by its letters it is a service provider's, and may come before the portal acted or after"
        } else {
            "no code that this version knows; nothing is guessed about it"
        },
        fixed_by: OPERATOR,
        remedy,
        worker_does: steps(&CALLS, |call| codes::obliges_to(call, code, operator)),
        preflight: false,
        note: Some(
            "if it came from the portal: a message with GSPGSTDOWN, GSPERR300, \"Connection reset\" or \"No route to host\" is taken for an outage whatever the code",
        ),
    }
}

/// The calls that this code is an answer to.
fn calls_of_row(row: &Code) -> &'static [Call] {
    match (row.class, row.code) {
        (Class::Done, "4002" | "4026") => &[Call::EwayBill],
        (Class::Done, "9999") => &[Call::Cancel],
        (Class::Done, _) => &[Call::Generate],
        (class, _) => calls_of(class),
    }
}

/// The calls that codes of this class are answers to.
pub(super) fn calls_of(class: Class) -> &'static [Call] {
    match class {
        Class::Session | Class::Account | Class::Passing | Class::Uncertain => &CALLS,
        Class::Done => &[Call::Generate, Call::Cancel, Call::EwayBill],
        Class::Document => &[Call::Generate, Call::LookUp, Call::Cancel, Call::EwayBill],
        Class::Conflict => &[Call::Generate, Call::EwayBill],
        Class::StaleGstin => &[Call::Generate, Call::Gstin],
        Class::Absent => &[Call::LookUp, Call::Cancel, Call::EwayBill, Call::Gstin],
        Class::TooOld => &[Call::Generate, Call::LookUp],
    }
}

/// What is done after each call, calls after which the same is done taken together.
pub(super) fn steps(calls: &[Call], obliges_to: impl Fn(Call) -> Disposition) -> Vec<Does> {
    let mut steps: Vec<Does> = Vec::new();
    for call in calls {
        let does = does(*call, obliges_to(*call));
        match steps.iter_mut().find(|step| step.does == does) {
            Some(step) => step.calls.push(call.as_str()),
            None => steps.push(Does {
                calls: vec![call.as_str()],
                does,
            }),
        }
    }
    steps
}

const AGAIN: &str = "tries again, at first at once and then over the delay ladder, `retry.max_attempts` times in all";
const LOOKS: &str = "takes the outcome for unknown, because the portal may have acted: after `irp.settle_time` it looks, and sends again only what is not there";
const KEEPS: &str =
    "raises an alarm and keeps the job in `irn.dead` for a person: `failed`, UNKNOWN_CODE";
const STOPS: &str = "stops every job of this GSTIN, without another login, until its credentials change or an operator resumes it: `failed`, CREDENTIALS_REFUSED, kept in `irn.dead`";
const REFUSES: &str = "delivers `rejected`, with every code of the answer; what was refused for its own bytes is answered the same for a day, without a call";
const INACTIVE: &str = "takes the GSTIN for inactive: `rejected`";

/// What an answer that obliges to this makes of the job.
fn does(call: Call, disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Retry { .. } if call.changes_something() => LOOKS,
        Disposition::Retry { .. } => AGAIN,
        Disposition::Resolve => LOOKS,
        Disposition::Reauth => {
            "drops the session, logs in once and asks once more; refused again, the job waits on the delay ladder, and in the fourth attempt it is given up: `failed`, SESSION_REFUSED"
        }
        Disposition::RefuseAccount => STOPS,
        Disposition::Adopt
        | Disposition::Conflict
        | Disposition::SyncGstin
        | Disposition::Reject
        | Disposition::NotRegistered
        | Disposition::TooOld
        | Disposition::Park => does_with_verdict(call, disposition),
    }
}

/// The same for what is said of the thing that was asked for. A login has nothing of the kind to say: it is refused.
fn does_with_verdict(call: Call, disposition: Disposition) -> &'static str {
    match call {
        Call::Login => STOPS,
        Call::Generate => of_a_document(disposition),
        Call::Cancel | Call::EwayBill => of_a_request(call, disposition),
        Call::LookUp => match disposition {
            Disposition::NotRegistered => {
                "takes it for not registered, once `irp.settle_time` has passed since it may have been sent; of a `cancel` or `get`: `not_found`"
            }
            Disposition::TooOld => {
                "delivers `partial`: the IRN, without signed data; of a `cancel` job `rejected` with 2270, and an `ewb` job in doubt is sent again"
            }
            Disposition::Reject => {
                "delivers `rejected` for a `get`, `cancel` or `ewb` job that has sent nothing yet; of what may have been sent it proves nothing: kept in `irn.dead`, `failed`, UNKNOWN_CODE"
            }
            Disposition::Retry { .. }
            | Disposition::Resolve
            | Disposition::Reauth
            | Disposition::RefuseAccount
            | Disposition::Adopt
            | Disposition::Conflict
            | Disposition::SyncGstin
            | Disposition::Park => KEEPS,
        },
        Call::Gstin => match disposition {
            Disposition::NotRegistered | Disposition::SyncGstin | Disposition::Reject => INACTIVE,
            Disposition::Retry { .. }
            | Disposition::Resolve
            | Disposition::Reauth
            | Disposition::RefuseAccount
            | Disposition::Adopt
            | Disposition::Conflict
            | Disposition::TooOld
            | Disposition::Park => KEEPS,
        },
    }
}

fn of_a_document(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Adopt => {
            "fetches what is registered, verifies and compares it: `signed` with `recovered`, `partial` where the portal no longer hands it out, `conflict` where it differs"
        }
        Disposition::Conflict => {
            "delivers `conflict`, with the IRN that is known; it never sends this document again"
        }
        Disposition::SyncGstin => {
            "has the portal synchronise the GSTIN, twice an hour at most, and submits once more if it is active then; otherwise `rejected`, or for the account's own GSTIN `failed`, CREDENTIALS_REFUSED"
        }
        Disposition::Reject => REFUSES,
        Disposition::Retry { .. }
        | Disposition::Resolve
        | Disposition::Reauth
        | Disposition::RefuseAccount
        | Disposition::NotRegistered
        | Disposition::TooOld
        | Disposition::Park => KEEPS,
    }
}

fn of_a_request(call: Call, disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Adopt if call == Call::EwayBill => {
            "fetches the bill by the IRN: `ewb_issued` with `recovered`; where there is none, it asks again later, and the second time it is `conflict`"
        }
        Disposition::Adopt => {
            "takes the registration for cancelled by somebody else: `cancelled` with `recovered`"
        }
        Disposition::Conflict => "delivers `conflict`",
        Disposition::Reject if call == Call::EwayBill => REFUSES,
        Disposition::Reject | Disposition::SyncGstin | Disposition::TooOld => {
            "delivers `rejected`, with every code of the answer"
        }
        Disposition::NotRegistered => "delivers `not_found`",
        Disposition::Retry { .. }
        | Disposition::Resolve
        | Disposition::Reauth
        | Disposition::RefuseAccount
        | Disposition::Park => KEEPS,
    }
}
