//! Whether a document is registered already, asked of every portal that may have it.
//!
//! One rule: absence counts when each of them has said so, late enough. What is found at one settles the matter.

use std::sync::Arc;

use super::Worker;
use super::accept::accept;
use super::calls::{Calls, LookUp, no_credentials};
use super::case::{Case, DUPLICATE, UNEXPLAINED};
use super::portals::{Portal, Portals};
use super::settle::Ending;
use crate::config::credentials::Account;
use crate::crash::Point;
use crate::document::Document;
use crate::irn::Irn;
use crate::irp::Duplicate;
use crate::limits::Scope;
use crate::outcome::{ErrorEntry, Reason};
use crate::telemetry;

/// Looks a document in doubt up. The attempt's ending, or none: it is registered nowhere and may be submitted.
pub(super) async fn look(
    worker: &Worker,
    case: &Case,
    document: &Document,
    account: &Arc<Account>,
) -> Result<Option<Ending>, Box<Ending>> {
    let irn = document.irn();
    let Some(route) = worker.routes.of(account) else {
        return Ok(Some(no_credentials()));
    };
    let pin = case.portal();
    let portals = route.portals().holding(pin.as_deref(), account).await;
    // Before any call: a look-up that finds nothing at one of them costs the taxpayer an error each time, and settles
    // nothing as long as another cannot be asked.
    let waits_for_one = route.portals().are_two() && !route.portals().gate().is_shut();
    if waits_for_one && !portals.iter().all(|portal| portal.answers(Scope::Core)) {
        return Err(Box::new(one_is_down()));
    }
    let mut lost_elsewhere = None;
    for &portal in &portals {
        let mut calls = Calls::new(worker, case, Arc::clone(account), portal);
        let answer = match look_at(case, document, &irn, &mut calls).await {
            Err(ending) if portals.len() > 1 && never_served(route.portals(), portal, &ending) => {
                continue;
            }
            answer => answer?,
        };
        worker.crash.at(Point::LookedUp);
        match answer {
            LookUp::Found(registration) => {
                let has_lost = registration.has_lost();
                let ending = accept(worker, case, document, registration, true);
                if !has_lost {
                    return Ok(Some(ending));
                }
                lost_elsewhere = Some(ending);
            }
            LookUp::TooOld => return Ok(Some(too_old(irn, None))),
            LookUp::Nothing => {}
        }
    }
    if lost_elsewhere.is_some() {
        return Ok(lost_elsewhere);
    }
    if case.is_known_duplicate() {
        return Ok(Some(duplicate_not_found()));
    }
    if case.doubt_is_young() {
        return Ok(Some(not_found_yet(worker, case)));
    }
    if case.was_unexplained() {
        return Ok(Some(unexplained(case)));
    }
    case.clear_doubt(false);
    Ok(None)
}

/// By its details; a known duplicate by its IRN too, because what is registered may have another date, and then a
/// look-up by this one's details finds nothing.
async fn look_at(
    case: &Case,
    document: &Document,
    irn: &Irn,
    calls: &mut Calls<'_>,
) -> Result<LookUp, Box<Ending>> {
    match calls.look_up(document).await? {
        LookUp::Nothing if case.is_known_duplicate() => calls.fetch(irn).await,
        answer => Ok(answer),
    }
}

/// The portal to turn to does not let this account in: nothing of it can be registered there.
pub(super) fn never_served(portals: &Portals, portal: &Portal, ending: &Ending) -> bool {
    portals.is_failover(portal) && is_refused(ending)
}

/// Whether the account was refused.
pub(super) fn is_refused(ending: &Ending) -> bool {
    matches!(
        ending,
        Ending::GaveUp {
            reason: Reason::CredentialsRefused,
            ..
        }
    )
}

/// Registered, the portal says: whatever happens from here on, it is looked up and never sent again.
pub(super) async fn adopt_duplicate(
    worker: &Worker,
    case: &Case,
    document: &Document,
    calls: &mut Calls<'_>,
    duplicate: Option<Duplicate>,
) -> Result<Ending, Box<Ending>> {
    let named = duplicate.as_ref().and_then(|duplicate| duplicate.irn);
    let registered = named.unwrap_or_else(|| document.irn());
    let answer = match named {
        Some(irn) => calls.fetch(&irn).await?,
        // Some service providers lose what the portal says of it.
        None => look_at(case, document, &registered, calls).await?,
    };
    match answer {
        LookUp::Found(registration) => Ok(accept(worker, case, document, registration, true)),
        LookUp::TooOld => Ok(too_old(registered, duplicate)),
        LookUp::Nothing => Ok(duplicate_not_found()),
    }
}

/// Registered at another portal, the portal of `calls` says: if we have another one, it is fetched there. None if it is
/// not there.
pub(super) async fn adopt_from_elsewhere(
    worker: &Worker,
    case: &Case,
    document: &Document,
    calls: &Calls<'_>,
) -> Result<Option<Ending>, Box<Ending>> {
    let account = calls.account();
    let route = worker.routes.of(&account);
    let Some(other) = route.and_then(|route| route.portals().other_than(calls.portal())) else {
        return Ok(None);
    };
    telemetry::looked_up_elsewhere(case.about());
    // Whatever goes wrong from here on, it is looked up there before it is sent anywhere.
    case.doubt_at(&other.name);
    if !other.answers(Scope::Core) {
        return Err(Box::new(one_is_down()));
    }
    let irn = document.irn();
    let mut calls = Calls::new(worker, case, account, other);
    let answer = match calls.fetch(&irn).await {
        Err(ending) if is_refused(&ending) => LookUp::Nothing,
        answer => answer?,
    };
    match answer {
        LookUp::Found(registration) => Ok(Some(accept(worker, case, document, registration, true))),
        LookUp::TooOld => Ok(Some(too_old(irn, None))),
        LookUp::Nothing => {
            case.clear_doubt(true);
            Ok(None)
        }
    }
}

/// One of two portals does not answer, and it has to be asked. Counted, so that it ends: perhaps it never will.
pub(super) fn one_is_down() -> Ending {
    Ending::Transient {
        code: "portal_down".to_owned(),
        not_before: None,
    }
}

/// In doubt, and too early to prove anything.
pub(super) fn not_found_yet(worker: &Worker, case: &Case) -> Ending {
    if !case.was_unexplained() {
        return Ending::NotFoundYet;
    }
    // The same wait, which does not hide what decides about the next attempt.
    Ending::Deferred {
        wait: worker.config.irp.settle_time,
        why: "not_found_yet",
    }
}

/// Refused without a reason, and not done: sent again as it is, it would be refused again, and each time costs the
/// taxpayer an error.
pub(super) fn unexplained(case: &Case) -> Ending {
    let message = "the portal refused it without saying why, and a look-up found nothing done";
    case.note_code(UNEXPLAINED);
    telemetry::unknown_code(case.about(), UNEXPLAINED);
    Ending::GaveUp {
        reason: Reason::Unintelligible,
        errors: vec![ErrorEntry::worker(Reason::Unintelligible, message)],
    }
}

/// Its twin is still on the way: the portal knows the number, but not the data yet.
fn duplicate_not_found() -> Ending {
    Ending::Unknown {
        code: DUPLICATE.to_owned(),
    }
}

/// Registered, and too long ago.
pub(super) fn too_old(irn: Irn, duplicate: Option<Duplicate>) -> Ending {
    let message = "registered, but the portal no longer gives out its signed data; the taxpayer can fetch it from the \
                   common portal for six months";
    let (ack_no, ack_date) = duplicate
        .map(|known| (known.ack_no.clone(), known.ack_date_rfc3339()))
        .unwrap_or_default();
    Ending::Partial {
        irn,
        ack_no,
        ack_date,
        errors: vec![ErrorEntry::irp("2283", message)],
    }
}
