//! One attempt at a `cancel`, `get` or `ewb` job, once it has its turn.
//!
//! One rule: as for documents. A request that may have left is looked up before it is sent again, and what a look-up
//! cannot prove yet is waited for.

mod cancel;
mod eway_bill;
mod get;

use std::sync::Arc;

use super::Worker;
use super::calls::{Calls, LookUp, entries, label, no_credentials, unclassified};
use super::case::Case;
use super::doubt::{never_served, one_is_down};
use super::portal;
use super::portals::{Portal, Portals};
use super::routes::Route;
use super::settle::Ending;
use crate::config::credentials::Account;
use crate::crash::Point;
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::irp::{IrpError, Refusal, Registration};
use crate::limits::Scope;
use crate::outcome::{Disposition, ErrorEntry, Info, Reason};
use crate::request::{Request, Wanted};

/// Does what is asked for. `refused` is what pre-flight has against a request that has to be looked up first.
pub(super) async fn run(
    worker: &Worker,
    case: &Case,
    request: &Request,
    account: &Arc<Account>,
    refused: Option<Ending>,
) -> Result<Ending, Box<Ending>> {
    match request {
        Request::Cancel(order) => cancel::run(worker, case, order, account).await,
        Request::Get(wanted) => get::run(worker, case, wanted, account).await,
        Request::EwayBill(irn) => eway_bill::run(worker, case, irn, account, refused).await,
    }
}

/// What the portals say of a registration.
enum Registered<'w> {
    /// With the calls that have found it.
    At(Box<Calls<'w>>, Box<Registration>),
    /// Registered, but too long ago to be fetched.
    TooOld(Box<Calls<'w>>),
    /// With the calls of each portal that was asked.
    Nowhere(Vec<Calls<'w>>),
    /// It is not for this account to ask, one of them says.
    Refused(Vec<Calls<'w>>, Box<Refusal>),
}

/// Whether an e-commerce operator asks under the GSTIN that it collects tax under, without saying for whom: the portal looks
/// among the caller's own, and there are none.
fn is_unnamed(account: &Account, seller: Option<Gstin>) -> bool {
    seller.is_none() && account.gstin.is_of_a_tax_collector()
}

/// Its deadline forbids to ask the one question that is left: a person has to.
fn undecided() -> Ending {
    let message = "its deadline has passed, and whether it was done cannot be looked up";
    Ending::GaveUp {
        reason: Reason::RetriesExhausted,
        errors: vec![ErrorEntry::worker(Reason::RetriesExhausted, message)],
    }
}

/// What is asked for of a registration.
enum Asked<'a> {
    /// All that a result carries.
    Whole(&'a Wanted),
    /// What has become of it.
    Standing(&'a Irn),
}

/// Asks each portal that may have it, until one has. One that lost against another portal's counts only if nobody has
/// another.
async fn look<'w>(
    worker: &'w Worker,
    case: &'w Case,
    asked: &Asked<'_>,
    account: &Arc<Account>,
) -> Result<Registered<'w>, Box<Ending>> {
    let (mut lost, mut refused, mut in_vain) = (None, None, Vec::new());
    let mut all_asked = true;
    let of = portals_of(worker, account)?;
    let portals = portals(of, case, account).await;
    worth_asking(of, case, &portals, Scope::Core)?;
    for &portal in &portals {
        if !is_asked(of, portal, Scope::Core) {
            all_asked = false;
            continue;
        }
        let mut calls = Calls::new(worker, case, Arc::clone(account), portal);
        let answer = match asked {
            Asked::Standing(irn) => calls.ask_for_standing(irn).await,
            Asked::Whole(Wanted::Irn { irn, .. }) => calls.ask_for_irn(irn).await,
            Asked::Whole(Wanted::Document(document)) => calls.ask_for_document(document).await,
        };
        let answer = match answer {
            Err(ending) if portals.len() > 1 && never_served(of, portal, &ending) => continue,
            answer => answer?,
        };
        worker.crash.at(Point::LookedUp);
        match answer {
            Ok(LookUp::Found(registration)) => {
                let has_lost = registration.has_lost();
                let at = Registered::At(Box::new(calls), registration);
                if !has_lost {
                    return Ok(at);
                }
                lost = Some(at);
            }
            Ok(LookUp::TooOld) => return Ok(Registered::TooOld(Box::new(calls))),
            Ok(LookUp::Nothing) => in_vain.push(calls),
            Err(refusal) => {
                in_vain.push(calls);
                refused = Some(refusal);
            }
        }
    }
    if !all_asked {
        return Err(Box::new(one_is_down()));
    }
    Ok(match (lost, refused) {
        (Some(lost), _) => lost,
        (None, Some(refusal)) => Registered::Refused(in_vain, refusal),
        (None, None) => Registered::Nowhere(in_vain),
    })
}

/// Where the registration may be: at the one portal that a request in doubt has left for, else at each.
async fn portals<'w>(of: &'w Portals, case: &Case, account: &Account) -> Vec<&'w Portal> {
    let left_for = case.portal();
    of.holding(left_for.as_deref(), account).await
}

/// Those of the account's route.
fn portals_of<'w>(worker: &'w Worker, account: &Account) -> Result<&'w Portals, Box<Ending>> {
    let route = worker.routes.of(account);
    let portals = route.map(Route::portals);
    portals.ok_or_else(|| Box::new(no_credentials()))
}

/// Whether a portal is asked: of two, one that is down is not waited for while the other may have the answer.
fn is_asked(of: &Portals, portal: &Portal, scope: Scope) -> bool {
    !of.are_two() || portal.answers(scope)
}

/// Before any call: where none answers, none is asked, and nobody pays for it. Where one was asked in vain while the other
/// was down, it is not asked again before that one is back: each time costs the taxpayer an error.
fn worth_asking(
    of: &Portals,
    case: &Case,
    portals: &[&Portal],
    scope: Scope,
) -> Result<(), Box<Ending>> {
    let asked = portals.iter().filter(|portal| is_asked(of, portal, scope));
    match asked.count() {
        0 if !portals.is_empty() => Err(Box::new(portal::NOT_ASKED)),
        count if count < portals.len() && case.portal_was_down_before() => {
            Err(Box::new(one_is_down()))
        }
        _ => Ok(()),
    }
}

/// The portal has refused to look for what a request in doubt may have done: that is no answer to the request itself.
fn unseen(case: &Case, refusal: Box<Refusal>) -> Ending {
    if case.in_doubt() {
        unclassified(case, &IrpError::Refused(refusal))
    } else {
        rejected(&refusal)
    }
}

/// The portal's readable refusal of a request.
fn rejected(refusal: &Refusal) -> Ending {
    Ending::Rejected {
        errors: refusal.entries(),
        info: refusal.info.clone(),
    }
}

/// What a submit's error obliges us to do, where that is the same for all requests.
async fn failed(case: &Case, calls: &Calls<'_>, error: IrpError) -> Ending {
    match error.disposition() {
        Disposition::Retry { .. } | Disposition::Resolve if case.in_doubt() => Ending::Unknown {
            code: label(&error),
        },
        Disposition::Retry { not_before } => Ending::Transient {
            code: label(&error),
            not_before,
        },
        Disposition::Resolve => Ending::Unknown {
            code: label(&error),
        },
        Disposition::Reauth => Ending::SessionRefused {
            code: label(&error),
        },
        Disposition::RefuseAccount => calls.account_refused(error).await,
        Disposition::NotRegistered => Ending::NotFound,
        Disposition::Reject | Disposition::SyncGstin | Disposition::TooOld => Ending::Rejected {
            errors: entries(&error),
            info: info_of(&error),
        },
        Disposition::Conflict => Ending::Conflict {
            irn: case.subject.irn(),
            errors: entries(&error),
            info: info_of(&error),
        },
        Disposition::Adopt | Disposition::Park => unclassified(case, &error),
    }
}

fn info_of(error: &IrpError) -> Vec<Info> {
    error
        .refusal()
        .map_or_else(Vec::new, |refusal| refusal.info.clone())
}
