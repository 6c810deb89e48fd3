//! Having an e-way bill issued for a registered invoice (NIC, "Generate EWB by IRN"), over the portal's e-way-bill
//! service, which has a breaker of its own.
//!
//! One rule: one bill. A request that may have left is looked up by the IRN before it is sent again, and a bill that is
//! there is the answer, whoever asked for it.

use std::sync::Arc;

use super::{failed, is_asked, portals, portals_of, rejected, undecided, unseen, worth_asking};
use crate::config::credentials::Account;
use crate::crash::Point;
use crate::irn::Irn;
use crate::irp::{EwayBill, IrpError, Refusal};
use crate::limits::Scope;
use crate::outcome::Disposition;
use crate::worker::Worker;
use crate::worker::attempt::{is_unreadable_success, refused_earlier};
use crate::worker::calls::{Calls, LookUp, label};
use crate::worker::case::Case;
use crate::worker::doubt::{never_served, not_found_yet, one_is_down, unexplained};
use crate::worker::portals::Portal;
use crate::worker::settle::Ending;

pub(super) async fn run(
    worker: &Worker,
    case: &Case,
    irn: &Irn,
    account: &Arc<Account>,
    refused: Option<Ending>,
) -> Result<Ending, Box<Ending>> {
    if case.in_doubt() {
        if let Some(settled) = look(worker, case, irn, account).await? {
            return Ok(settled);
        }
        if let Some(earlier) = refused_earlier(worker, case, &account.gstin) {
            return Ok(earlier);
        }
    }
    if let Some(refused) = refused {
        return Ok(refused);
    }
    ask_each(worker, case, irn, account).await
}

/// Whether a bill is there already. The attempt's ending, or none: there is none, and it may be asked for.
async fn look(
    worker: &Worker,
    case: &Case,
    irn: &Irn,
    account: &Arc<Account>,
) -> Result<Option<Ending>, Box<Ending>> {
    let of = portals_of(worker, account)?;
    let portals = portals(of, case, account).await;
    worth_asking(of, case, &portals, Scope::EwayBill)?;
    if !portals
        .iter()
        .all(|portal| is_asked(of, portal, Scope::EwayBill))
    {
        return Err(Box::new(one_is_down()));
    }
    let mut is_too_old = false;
    for &portal in &portals {
        let mut calls = calls(worker, case, account, portal);
        let answer = match calls.ask_for_eway_bill(irn).await {
            Err(ending) if portals.len() > 1 && never_served(of, portal, &ending) => continue,
            answer => answer?,
        };
        worker.crash.at(Point::LookedUp);
        match answer {
            Ok(LookUp::Found(bill)) => return Ok(Some(issued(case, bill, true))),
            Ok(LookUp::Nothing) => {}
            // That says nothing of a bill: if there is one, the portal refuses another (4002).
            Ok(LookUp::TooOld) => is_too_old = true,
            Err(refusal) => return Ok(Some(unseen(case, refusal))),
        }
    }
    if case.doubt_is_young() {
        return Ok(Some(not_found_yet(worker, case)));
    }
    if case.was_unexplained() {
        return Ok(Some(unexplained(case)));
    }
    if !is_too_old {
        case.clear_doubt(false);
    }
    Ok(None)
}

/// Asks for the bill at the portal that has the registration, which shows when it is asked.
async fn ask_each(
    worker: &Worker,
    case: &Case,
    irn: &Irn,
    account: &Arc<Account>,
) -> Result<Ending, Box<Ending>> {
    let of = portals_of(worker, account)?;
    let portals = portals(of, case, account).await;
    worth_asking(of, case, &portals, Scope::EwayBill)?;
    let mut all_asked = true;
    for &portal in &portals {
        if !is_asked(of, portal, Scope::EwayBill) {
            all_asked = false;
            continue;
        }
        let mut calls = calls(worker, case, account, portal);
        if case.in_doubt() {
            calls.keep_doubt();
        }
        match submit(worker, case, irn, &mut calls).await {
            Ok(Ending::NotFound) => {}
            Err(ending) if portals.len() > 1 && never_served(of, portal, &ending) => {}
            // `expired` would say that nothing was done.
            Err(ending) if is_undecided(case) && matches!(*ending, Ending::Expired) => {
                return Ok(undecided());
            }
            ending => return ending,
        }
    }
    if all_asked {
        Ok(Ending::NotFound)
    } else {
        Err(Box::new(one_is_down()))
    }
}

/// A look-up that finds no bill does not outweigh the portal's word that there is one.
fn is_undecided(case: &Case) -> bool {
    case.in_doubt() || case.was_said_to_be_issued()
}

fn calls<'w>(
    worker: &'w Worker,
    case: &'w Case,
    account: &Arc<Account>,
    portal: &'w Portal,
) -> Calls<'w> {
    Calls::new(worker, case, Arc::clone(account), portal).for_eway_bills()
}

async fn submit(
    worker: &Worker,
    case: &Case,
    irn: &Irn,
    calls: &mut Calls<'_>,
) -> Result<Ending, Box<Ending>> {
    let error = match calls.eway_bill(case.job.body.as_bytes()).await? {
        Ok(bill) => return Ok(issued(case, Box::new(bill), false)),
        Err(error) => error,
    };
    match (error.disposition(), error) {
        (Disposition::Adopt, IrpError::Refused(refusal)) => adopt(case, irn, calls, refusal).await,
        // Done, in words that we cannot read: with a fresh session it is seen.
        (Disposition::Reauth | Disposition::Park, error) if is_unreadable_success(&error) => {
            match calls.ask_for_eway_bill(irn).await? {
                Ok(LookUp::Found(bill)) => Ok(issued(case, bill, true)),
                Ok(LookUp::Nothing | LookUp::TooOld) | Err(_) => Ok(Ending::Unknown {
                    code: label(&error),
                }),
            }
        }
        (Disposition::Reject, IrpError::Refused(refusal)) => {
            if refusal.lies_in_the_document() {
                let body = case.job.body.as_bytes();
                let (errors, info) = (refusal.entries(), refusal.info.clone());
                worker.refusals.remember(&calls.gstin(), body, errors, info);
            }
            Ok(rejected(&refusal))
        }
        (
            Disposition::Retry { .. }
            | Disposition::Resolve
            | Disposition::Reauth
            | Disposition::Adopt
            | Disposition::Conflict
            | Disposition::SyncGstin
            | Disposition::Reject
            | Disposition::RefuseAccount
            | Disposition::NotRegistered
            | Disposition::TooOld
            | Disposition::Park,
            error,
        ) => Ok(failed(case, calls, error).await),
    }
}

/// A bill is there already, the portal says (4002, 4026): it is fetched. Where none is found for this IRN, time and
/// again, it is one of the same document number that did not come by the IRN.
async fn adopt(
    case: &Case,
    irn: &Irn,
    calls: &mut Calls<'_>,
    refusal: Box<Refusal>,
) -> Result<Ending, Box<Ending>> {
    case.doubt_at(&calls.portal().name);
    match calls.ask_for_eway_bill(irn).await? {
        Ok(LookUp::Found(bill)) => Ok(issued(case, bill, true)),
        Err(refused) => {
            case.clear_doubt(true);
            Ok(rejected(&refused))
        }
        Ok(looked) if matches!(looked, LookUp::TooOld) || was_said_before(case, &refusal) => {
            case.clear_doubt(true);
            Ok(Ending::Conflict {
                irn: Some(*irn),
                errors: refusal.entries(),
                info: refusal.info,
            })
        }
        Ok(_) => Ok(Ending::Unknown {
            code: label(&IrpError::Refused(refusal)),
        }),
    }
}

/// See `carry`: what waited in between on a limit does not hide it.
fn was_said_before(case: &Case, refusal: &Refusal) -> bool {
    case.job.last_error.as_deref() == Some(refusal.code())
}

fn issued(case: &Case, bill: Box<EwayBill>, recovered: bool) -> Ending {
    case.clear_doubt(false);
    Ending::EwayBillIssued { bill, recovered }
}
