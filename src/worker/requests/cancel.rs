//! Cancelling a registration (NIC, "Cancel IRN"): whole, within 24 hours of its acknowledgement, at the portal that has
//! it.
//!
//! One rule: it is looked up first, always. What that shows to be cancelled, too old, void or not there costs no
//! erroneous call; and a cancellation whose answer was lost is found again by it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Asked, Registered, failed, is_unnamed, look, undecided, unseen};
use crate::config::credentials::Account;
use crate::irp::{IrpError, Registration, Validity};
use crate::outcome::{Disposition, ErrorEntry, ErrorSource};
use crate::request::Cancel;
use crate::worker::Worker;
use crate::worker::accept::no_longer_valid;
use crate::worker::attempt::is_unreadable_success;
use crate::worker::calls::{Calls, LookUp, label, unclassified};
use crate::worker::case::Case;
use crate::worker::doubt::{not_found_yet, unexplained};
use crate::worker::settle::Ending;

/// How long after its acknowledgement a registration can be cancelled (NIC, "Cancel IRN").
const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// The portal rounds the acknowledgement to the minute, and clocks differ: nearer to its end than this, the portal
/// decides.
const LEFT_TO_THE_PORTAL: SignedDuration = SignedDuration::from_mins(2);

/// The portal's code for a registration that is cancelled already.
const NOT_ACTIVE: &str = "9999";

pub(super) async fn run(
    worker: &Worker,
    case: &Case,
    order: &Cancel,
    account: &Arc<Account>,
) -> Result<Ending, Box<Ending>> {
    let asked = Asked::Standing(&order.irn);
    let (mut calls, registration) = match look(worker, case, &asked, account).await? {
        Registered::At(calls, registration) => (calls, registration),
        Registered::TooOld(_) if case.doubt_is_young() => return Ok(not_found_yet(worker, case)),
        Registered::TooOld(_) if case.was_unexplained() => return Ok(unexplained(case)),
        // Whether it was cancelled in time, only 9999 or 2270 can say now.
        Registered::TooOld(mut calls) if case.in_doubt() => {
            return ask_the_portal(case, order, &mut calls).await;
        }
        Registered::TooOld(_) => return Ok(too_late()),
        Registered::Nowhere(calls) | Registered::Refused(calls, _)
            if is_unnamed(account, order.seller) =>
        {
            return submit_unseen(worker, case, order, calls).await;
        }
        Registered::Nowhere(_) if case.doubt_is_young() => return Ok(not_found_yet(worker, case)),
        Registered::Nowhere(_) => return Ok(Ending::NotFound),
        Registered::Refused(_, refusal) => return Ok(unseen(case, refusal)),
    };
    if registration.irn != order.irn {
        let why = "a look-up by IRN was answered with another one";
        return Ok(unclassified(case, &IrpError::Unintelligible { why }));
    }
    match state_of(&registration, calls.portal_now()) {
        State::Cancelled => Ok(cancelled_before(case, Some(registration))),
        State::Void(ending) => Ok(*ending),
        // The portal may still be at work on a request of before: what it does to this one is not to be guessed.
        State::TooOld | State::Active if case.doubt_is_young() => Ok(not_found_yet(worker, case)),
        State::TooOld => Ok(too_late()),
        State::Active if case.was_unexplained() => Ok(unexplained(case)),
        State::Active => {
            case.clear_doubt(false);
            submit(case, order, Some(registration), &mut calls).await
        }
    }
}

/// What a registration is, to one who wants to cancel it.
enum State {
    /// It can be cancelled, or the portal has to say.
    Active,
    Cancelled,
    /// It is not valid for another reason, and ends so.
    Void(Box<Ending>),
    /// The time in which it could be cancelled is over.
    TooOld,
}

fn state_of(registration: &Registration, now: Option<Timestamp>) -> State {
    if registration.status == Validity::Cancelled {
        return State::Cancelled;
    }
    if let Some(ending) = no_longer_valid(registration) {
        return State::Void(Box::new(ending));
    }
    match registration.acknowledged_at().zip(now) {
        Some((acknowledged, now)) if is_over(acknowledged, now) => State::TooOld,
        Some(_) | None => State::Active,
    }
}

/// Whether the window is certainly over.
fn is_over(acknowledged: Timestamp, now: Timestamp) -> bool {
    now.duration_since(acknowledged) > WINDOW + LEFT_TO_THE_PORTAL
}

async fn submit(
    case: &Case,
    order: &Cancel,
    registration: Option<Box<Registration>>,
    calls: &mut Calls<'_>,
) -> Result<Ending, Box<Ending>> {
    let error = match calls.cancel(order).await? {
        Ok(done) if done.irn == order.irn => {
            case.clear_doubt(false);
            return Ok(Ending::Cancelled {
                registration,
                cancel_date: done.cancel_date_rfc3339(),
                info: done.info,
                recovered: false,
            });
        }
        Ok(_) => IrpError::Unintelligible {
            why: "a cancellation was answered with another IRN",
        },
        Err(error) => error,
    };
    match error.disposition() {
        // Somebody else has cancelled it since the look-up. Other codes of this kind speak of other things.
        Disposition::Adopt if error.code() == Some(NOT_ACTIVE) => {
            Ok(cancelled_before(case, registration))
        }
        Disposition::TooOld => Ok(too_late()),
        // Done, in words that we cannot read: with a fresh session it is seen.
        Disposition::Reauth | Disposition::Park if is_unreadable_success(&error) => {
            match calls.ask_for_standing(&order.irn).await? {
                Ok(LookUp::Found(now)) if now.status == Validity::Cancelled => {
                    Ok(cancelled_before(case, Some(now)))
                }
                Ok(LookUp::Found(_) | LookUp::Nothing | LookUp::TooOld) | Err(_) => {
                    Ok(Ending::Unknown {
                        code: label(&error),
                    })
                }
            }
        }
        Disposition::Retry { .. }
        | Disposition::Resolve
        | Disposition::Reauth
        | Disposition::Adopt
        | Disposition::Conflict
        | Disposition::SyncGstin
        | Disposition::Reject
        | Disposition::RefuseAccount
        | Disposition::NotRegistered
        | Disposition::Park => Ok(failed(case, calls, error).await),
    }
}

/// By an operator that names no seller: its cancellation needs none, so that the portal may know the registration where a
/// look-up shows nothing of it. Of these portals one may have it.
async fn submit_unseen(
    worker: &Worker,
    case: &Case,
    order: &Cancel,
    at: Vec<Calls<'_>>,
) -> Result<Ending, Box<Ending>> {
    if case.doubt_is_young() {
        return Ok(not_found_yet(worker, case));
    }
    if case.was_unexplained() {
        return Ok(unexplained(case));
    }
    for mut calls in at {
        let ended = if case.in_doubt() {
            ask_the_portal(case, order, &mut calls).await
        } else {
            submit(case, order, None, &mut calls).await
        };
        match ended {
            Ok(Ending::NotFound) => {}
            ended => return ended,
        }
    }
    Ok(Ending::NotFound)
}

/// In doubt, and not to be looked up: only the portal's own 9999 or 2270 can say what became of the earlier request.
async fn ask_the_portal(
    case: &Case,
    order: &Cancel,
    calls: &mut Calls<'_>,
) -> Result<Ending, Box<Ending>> {
    calls.keep_doubt();
    match submit(case, order, None, calls).await {
        // `expired` would say that nothing was sent.
        Err(ending) if matches!(*ending, Ending::Expired) => Ok(undecided()),
        ended => ended,
    }
}

/// By another request than this one: the portal does not say when.
fn cancelled_before(case: &Case, registration: Option<Box<Registration>>) -> Ending {
    case.clear_doubt(false);
    Ending::Cancelled {
        registration,
        cancel_date: None,
        info: Vec::new(),
        recovered: true,
    }
}

/// What the portal would answer with 2270, said without asking it.
fn too_late() -> Ending {
    Ending::Rejected {
        errors: vec![ErrorEntry {
            source: ErrorSource::Preflight,
            code: "2270".to_owned(),
            message: "the 24 hours in which a registration can be cancelled are over; issue a credit note instead"
                .to_owned(),
            path: Some("/Irn".to_owned()),
        }],
        info: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_is_over_when_no_clock_and_no_rounding_can_say_otherwise() {
        let since: Timestamp = "2025-09-05T12:30:00+05:30".parse().unwrap();
        for (later, over) in [
            (SignedDuration::from_hours(-1), false),
            (SignedDuration::from_hours(23), false),
            (WINDOW, false),
            (WINDOW + LEFT_TO_THE_PORTAL, false),
            (
                WINDOW + LEFT_TO_THE_PORTAL + SignedDuration::from_secs(1),
                true,
            ),
            (SignedDuration::from_hours(48), true),
        ] {
            assert_eq!(is_over(since, since + later), over, "{later}");
        }
    }
}
