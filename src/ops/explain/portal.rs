//! The portal's codes, asked of the table that the worker runs on.

use super::{Does, Explanation, Kind, OPERATOR};
use crate::config::UnknownCode;
use crate::irp::codes::{self, Call, Class, Code};
use crate::outcome::Disposition;
use crate::preflight;

/// Every call, the one most asked about first.
const CALLS: [Call; 5] = [
    Call::Generate,
    Call::LookUp,
    Call::Cancel,
    Call::Gstin,
    Call::Login,
];

/// Every row of the table.
pub(super) fn all() -> impl Iterator<Item = Explanation> {
    codes::all().iter().map(of_row)
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
        worker_does: steps(calls_of(row.class), |call| row.disposition(call)),
        preflight: preflight::looks_for(row.code),
        note: row.besides(),
    }
}

/// A code that is not in the table: what becomes of it is `operator`'s word, `irp.unknown_codes`.
pub(super) fn unknown(code: &str, operator: &[(String, UnknownCode)]) -> Explanation {
    let decided = operator.iter().any(|(known, _)| known == code);
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
        meaning: "no code that this version knows; nothing is guessed about it",
        fixed_by: OPERATOR,
        remedy,
        worker_does: steps(&CALLS, |call| codes::obliges_to(call, code, operator)),
        preflight: false,
        note: Some(
            "if it came from the portal: a message with GSPGSTDOWN, GSPERR300, \"Connection reset\" or \"No route to host\" is taken for an outage whatever the code",
        ),
    }
}

/// The calls that a code of this class is an answer to.
pub(super) fn calls_of(class: Class) -> &'static [Call] {
    match class {
        Class::Session | Class::Account | Class::Passing | Class::Uncertain => &CALLS,
        Class::Done | Class::Document => &[Call::Generate, Call::Cancel, Call::EwayBill],
        Class::Conflict => &[Call::Generate],
        Class::StaleGstin => &[Call::Generate, Call::Gstin],
        Class::Absent => &[Call::LookUp, Call::Gstin],
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
const REJECTS: &str = "delivers `rejected`, with every code of the answer";
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
        Disposition::Adopt => adopts(call),
        Disposition::Conflict => match call {
            Call::Generate => {
                "delivers `conflict`, with the IRN that is known; it never sends this document again"
            }
            Call::Login => STOPS,
            Call::Cancel | Call::EwayBill => {
                "delivers `conflict`, with the IRN, and sends nothing again"
            }
            Call::LookUp | Call::Gstin => KEEPS,
        },
        Disposition::SyncGstin => match call {
            Call::Generate => {
                "has the portal synchronise the GSTIN, once an hour at most, and submits once more if it is active then; otherwise `rejected`, or for the account's own GSTIN `failed`, CREDENTIALS_REFUSED"
            }
            Call::Gstin => INACTIVE,
            Call::Login => STOPS,
            Call::Cancel | Call::EwayBill => REJECTS,
            Call::LookUp => KEEPS,
        },
        Disposition::Reject => match call {
            Call::Cancel => REJECTS,
            Call::Generate | Call::EwayBill => {
                "delivers `rejected`, with every code of the answer; what was refused for its own bytes is answered the same for a day, without a call"
            }
            Call::Gstin => INACTIVE,
            Call::Login => STOPS,
            Call::LookUp => KEEPS,
        },
        Disposition::NotRegistered => match call {
            Call::Gstin => INACTIVE,
            Call::Login => STOPS,
            Call::Cancel | Call::EwayBill => {
                "delivers `not_found`: nothing is registered under this IRN"
            }
            Call::Generate | Call::LookUp => {
                "takes the document for not registered, once `irp.settle_time` has passed since it may have been sent"
            }
        },
        Disposition::TooOld => match call {
            Call::Login => STOPS,
            Call::Cancel => "delivers `rejected`: it can no longer be cancelled",
            Call::Generate | Call::LookUp | Call::Gstin | Call::EwayBill => {
                "delivers `partial`: the IRN, without signed data"
            }
        },
        Disposition::Park => match call {
            Call::Login => STOPS,
            Call::Generate | Call::LookUp | Call::Gstin | Call::Cancel | Call::EwayBill => KEEPS,
        },
    }
}

fn adopts(call: Call) -> &'static str {
    match call {
        Call::Generate => {
            "fetches what is registered, verifies and compares it: `signed` with `recovered`, `partial` where the portal no longer hands it out, `conflict` where it differs"
        }
        Call::Cancel => "takes the registration for cancelled",
        Call::EwayBill => {
            "fetches the e-way bill that is there and delivers it: `ewb_issued`; where none is found for this IRN, time and again, `conflict`"
        }
        Call::Login => STOPS,
        Call::LookUp | Call::Gstin => KEEPS,
    }
}
