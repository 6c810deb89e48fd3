//! One attempt at a job: its turn, its slot, and then what it asks for. To register a document: look first when in doubt,
//! submit, and believe nothing that is not proven.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::Worker;
use super::accept::accept;
use super::calls::{Calls, LookUp, budget_stopped, entries, label, no_credentials, unclassified};
use super::case::{Case, DOES_NOT_FIT, SWEPT, Subject};
use super::copies;
use super::doubt::{self, adopt_duplicate, adopt_from_elsewhere, is_refused, too_old};
use super::lanes::{AtHead, Deferred, Entry, NoTurn, PATIENCE, Turn};
use super::paused;
use super::portal;
use super::requests;
use super::resync::{self, Advice};
use super::routes::Route;
use super::settle::Ending;
use crate::config::credentials::Account;
use crate::crash::Point;
use crate::document::Document;
use crate::gstin::Gstin;
use crate::irp::{Duplicate, IrpError, Refusal, Registration};
use crate::job::{Class, Operation};
use crate::outcome::{Disposition, ErrorEntry, Reason};
use crate::telemetry;

/// How long a job that has its turn waits for a slot.
const SLOT_WITHIN: Duration = Duration::from_secs(60);

/// Where the rate lets them go more quickly than this, a lane's jobs wait for it in their slots: not for long.
const ONE_BY_ONE_FROM: Duration = Duration::from_millis(10);

/// The portal's code for a document that another portal has registered.
const ELSEWHERE: &str = "2295";

/// Does what the job asks for and says how it ended.
pub(super) async fn attempt(worker: &Worker, case: &Case) -> Ending {
    match case.gstin {
        Some(gstin) => {
            let ending = in_turn(worker, case, gstin).await;
            case.leaves_head();
            ending
        }
        None => unnamed(),
    }
}

/// Nothing says whose job it is, or what it is about.
fn unnamed() -> Ending {
    let message = "the body does not say what it is about";
    Ending::GaveUp {
        reason: Reason::Unreadable,
        errors: vec![ErrorEntry::worker(Reason::Unreadable, message)],
    }
}

async fn in_turn(worker: &Worker, case: &Case, gstin: Gstin) -> Ending {
    let account_now = || worker.credentials.load().accounts.get(&gstin).cloned();
    let account = account_now();
    if let Some(ending) = paused::before(worker, case, &gstin, account.as_deref()) {
        return planned(worker, case, account.as_deref(), ending);
    }
    // Before all that costs more: of a GSTIN with many jobs, most come too early.
    let entry = match account {
        Some(account) => match worker
            .lanes
            .enter(&gstin, case.job.class(), worker.around_one(case))
        {
            Ok(entry) => Some(entry),
            Err(NoTurn::Full | NoTurn::Twin | NoTurn::PassedOn) => {
                return swept(worker, case, &account);
            }
        },
        None => None,
    };
    let has_only_waited = case.has_only_waited();
    let refused = match judged_before(worker, case, account_now().as_deref()) {
        Ok(refused) => refused,
        Err(ending) => return *ending,
    };
    let (Some(account), Some(entry)) = (account_now(), entry) else {
        return no_credentials();
    };
    let Some(route) = worker.routes.of(&account) else {
        return no_credentials();
    };
    if let Some(ending) = not_worth_a_turn(worker, case, &account) {
        return ending;
    }
    if worker.routes.goes_on_without(route) {
        return planned(worker, case, Some(&account), route_down(route));
    }
    let asked = Instant::now();
    let turn = turn_and_slot(worker, case, &account, route, entry).await;
    case.add_wait(asked.elapsed());
    let mut turn = match turn {
        Ok(turn) => turn,
        Err(ending) => return *ending,
    };
    // Again: they may have been reloaded while it waited, and a password that was refused must not be sent again.
    let Some(account) = account_now() else {
        return no_credentials();
    };
    // Those before it may have been the last whose copies were looked for.
    if has_only_waited && case.is_past_deadline() && !copies::are_looked_for(worker, Some(&account))
    {
        case.clear_doubt(false);
        return Ending::Expired;
    }
    if let Some(ending) = copies::heed(worker, case, &account) {
        return ending;
    }
    worker.crash.at(Point::TurnTaken);
    let ended = match &case.subject {
        Subject::Document(document) => run(worker, case, document, &account, refused).await,
        Subject::Request(request) => requests::run(worker, case, request, &account, refused).await,
        Subject::Unnamed => Ok(unnamed()),
    };
    let ending = match ended {
        Ok(ending) => ending,
        Err(ending) => *ending,
    };
    worker.copies.note(case, &ending);
    if case.doubt_is_young() {
        turn.ends_in_doubt(worker.config.irp.settle_time);
    }
    planned(worker, case, Some(&account), ending)
}

/// What its GSTIN waits for, many of its jobs wait for: they come back one after the other.
fn planned(worker: &Worker, case: &Case, account: Option<&Account>, ending: Ending) -> Ending {
    match (ending, account) {
        (Ending::Deferred { wait, why }, Some(account)) => Ending::Deferred {
            wait: wait.max(planned_return(worker, case, account)),
            why,
        },
        (ending, _) => ending,
    }
}

/// Its portal is down, and those of others are not: it waits where it is in nobody's way until that is tried again.
fn route_down(route: &Route) -> Ending {
    Ending::Deferred {
        wait: route.portals().tried_in(),
        why: "route down",
    }
}

/// Waits for its turn in the lane, then for a slot: one of its route's, where that shares them with others, before one
/// of all. Ends at once when jobs are no longer taken.
async fn turn_and_slot(
    worker: &Worker,
    case: &Case,
    account: &Account,
    route: &Route,
    entry: Entry<'_>,
) -> Result<Turn, Box<Ending>> {
    let (class, gstin) = (case.job.class(), account.gstin);
    let waiting = async {
        let around = || worker.around_one(case);
        let turn = entry.turn(case.has_to_itself(), around).await?;
        case.comes_to_head(at_head(worker, class, account, &turn).await?);
        let of_route = match route.slots() {
            // A route that is slow must not keep deliveries of others waiting behind its own.
            Some(slots) => {
                let slot = timeout(PATIENCE, slots.acquire(class, gstin));
                match case.briefly_at_head(slot).await {
                    Ok(slot) => Some(slot),
                    Err(_elapsed) => return Err(NoTurn::Full),
                }
            }
            None => None,
        };
        // Long, because those who wait for a slot have their turn soon; not for ever, because the broker takes back
        // what is held for half an hour.
        let slot = timeout(SLOT_WITHIN, worker.slots.acquire(class, gstin));
        match case.briefly_at_head(slot).await {
            Ok(slot) => Ok((turn, of_route, slot)),
            Err(_elapsed) => Err(NoTurn::Full),
        }
    };
    let waited = tokio::select! {
        biased;
        waited = waiting => waited,
        () = worker.stop.cancelled() => return Err(Box::new(Ending::HandedBack)),
        () = worker.takes_none() => return Err(Box::new(portal::NOT_ASKED)),
    };
    let (turn, of_route, slot) =
        waited.map_err(|no_turn| deferred(worker, case, account, no_turn))?;
    case.takes(slot, of_route);
    Ok(turn)
}

/// Waits at the head of its lane, where the GSTIN's rate lets its jobs go one by one, until that would let it go: before the
/// slot, because a job that only waits in one keeps somebody else's from work. Urgent ones go ahead of those that wait so.
async fn at_head(
    worker: &Worker,
    class: Class,
    account: &Account,
    turn: &Turn,
) -> Result<Option<AtHead>, NoTurn> {
    let is_quick = worker.limits.spacing(account) < ONE_BY_ONE_FROM;
    if is_quick || class == Class::Urgent {
        return Ok(None);
    }
    let waiting = async {
        let head = turn.at_head().await;
        let due = worker.limits.due_in(account);
        // Of one that would wait for longer, the limits have their say.
        if due <= PATIENCE {
            tokio::time::sleep(due).await;
        }
        head
    };
    timeout(PATIENCE, waiting).await.map_err(|_| NoTurn::Full)
}

/// A full lane takes no notice of the job but for its deadline: it is judged when it comes back.
fn swept(worker: &Worker, case: &Case, account: &Account) -> Ending {
    if case.is_past_deadline() && expires_unasked(worker, case, Some(account)) {
        return Ending::Expired;
    }
    let why = if case.is_unjudged() { SWEPT } else { "lane" };
    Ending::Deferred {
        wait: planned_return(worker, case, account),
        why,
    }
}

/// What pre-flight and the deadline say before anything is done: the ending of a job that nobody has seen before, or what
/// pre-flight has against one that has to be looked up first.
fn judged_before(
    worker: &Worker,
    case: &Case,
    account: Option<&Account>,
) -> Result<Option<Ending>, Box<Ending>> {
    let refused = refused_by_preflight(worker, case);
    let late = case.is_past_deadline();
    match refused {
        // A copy that a crash has left was judged by the same rules.
        Some(refused) if case.is_unjudged() => return Err(Box::new(refused)),
        None if late && expires_unasked(worker, case, account) => {
            return Err(Box::new(Ending::Expired));
        }
        // It passed before, or was in time; what it or a copy of it that overtook it asks for may be done.
        Some(_) => case.doubt_again(),
        None if late && !case.in_doubt() => case.doubt_again(),
        None => {}
    }
    Ok(refused)
}

/// Whether a job that is too late is over without a look-up. One that came back from the ladder may be the copy of one that a
/// crash has handed out again, and that was sent; but thousands that have only waited for their GSTIN's rate cannot each cost
/// the taxpayer an error.
fn expires_unasked(worker: &Worker, case: &Case, account: Option<&Account>) -> bool {
    case.is_unseen()
        || !case.job.operation.changes_something()
        || case.has_only_waited() && !copies::are_looked_for(worker, account)
}

/// Before the lane: what cannot be done does not wait for its turn.
fn not_worth_a_turn(worker: &Worker, case: &Case, account: &Account) -> Option<Ending> {
    refused_earlier(worker, case, &account.gstin).or_else(|| {
        let whose = worker.limits.stopped(account)?;
        Some(budget_stopped(whose))
    })
}

fn deferred(worker: &Worker, case: &Case, account: &Account, no_turn: NoTurn) -> Box<Ending> {
    Box::new(match no_turn {
        NoTurn::Full => Ending::Deferred {
            wait: planned_return(worker, case, account),
            why: "lane",
        },
        NoTurn::Twin => copies::twin(worker, case),
        NoTurn::PassedOn => Ending::PassedOn,
    })
}

/// In how long a job that its lane cannot take now had best come back.
fn planned_return(worker: &Worker, case: &Case, account: &Account) -> Duration {
    let at_least = if case.in_doubt() {
        worker.config.irp.settle_time
    } else {
        Duration::ZERO
    };
    let deferred = Deferred {
        class: case.job.class(),
        again: case.job.first_seen.is_some(),
        spacing: worker.limits.spacing(account),
        at_least,
    };
    worker
        .lanes
        .defer(&account.gstin, &deferred, worker.around())
}

/// What pre-flight refuses of a document or of an e-way bill's payload, judged before a submit only: one in doubt may be
/// registered already.
fn refused_by_preflight(worker: &Worker, case: &Case) -> Option<Ending> {
    let (body, now) = (case.job.body.as_bytes(), Timestamp::now());
    let preflight = &worker.preflight;
    let report = match case.job.operation {
        Operation::Generate => preflight.check_refusal(body, now, case.gstin),
        Operation::Ewb => preflight.check_eway_bill(body, now),
        // Nothing of them is left to judge.
        Operation::Cancel | Operation::Get => return None,
    };
    report
        .refuses()
        .then(|| super::refused_by_preflight(&report))
}

async fn run(
    worker: &Worker,
    case: &Case,
    document: &Document,
    account: &Arc<Account>,
    refused_by_preflight: Option<Ending>,
) -> Result<Ending, Box<Ending>> {
    if case.in_doubt() {
        if let Some(settled) = doubt::look(worker, case, document, account).await? {
            return Ok(settled);
        }
        if let Some(earlier) = refused_earlier(worker, case, &account.gstin) {
            return Ok(earlier);
        }
    }
    if let Some(refused) = refused_by_preflight {
        return Ok(refused);
    }
    let Some(route) = worker.routes.of(account) else {
        return Ok(no_credentials());
    };
    let portals = route.portals();
    let portal = portals.for_submit(account).await;
    let mut calls = Calls::new(worker, case, Arc::clone(account), portal);
    if !portals.is_failover(portal) {
        return submit_and_judge(worker, case, document, &mut calls).await;
    }
    telemetry::turned_to_failover(case.about());
    match submit_and_judge(worker, case, document, &mut calls).await {
        // It may not have been enabled there. That is no reason to give a document up which the primary portal takes.
        Err(ending) if is_refused(&ending) => Err(Box::new(Ending::Deferred {
            wait: worker.config.irp.settle_time,
            why: "failover account",
        })),
        ending => ending,
    }
}

async fn submit_and_judge(
    worker: &Worker,
    case: &Case,
    document: &Document,
    calls: &mut Calls<'_>,
) -> Result<Ending, Box<Ending>> {
    match submit(worker, case, calls).await? {
        Ok(registration) => Ok(accept(
            worker,
            case,
            document,
            Box::new(registration),
            false,
        )),
        Err(error) => refused(worker, case, document, calls, error).await,
    }
}

/// Submits the document, and once more where the portal's copy of a GSTIN was stale and has been put right.
async fn submit(
    worker: &Worker,
    case: &Case,
    calls: &mut Calls<'_>,
) -> Result<Result<Registration, IrpError>, Box<Ending>> {
    let asked = Instant::now();
    let body = case.job.body.as_bytes();
    let error = match calls.generate(body).await? {
        Err(error) if error.disposition() == Disposition::SyncGstin => error,
        answer => return Ok(answer),
    };
    let submitted = case.sent_at().unwrap_or(asked);
    let advice = worker.resyncs.advise(case, calls, &error, submitted);
    match advice.await? {
        Advice::OnceMore => calls.generate(body).await,
        Advice::Later => Err(Box::new(resync::later(&error))),
        Advice::Refused => Ok(Err(error)),
        Advice::AccountRefused => Err(Box::new(calls.account_refused(error).await)),
    }
}

/// What the portal said of these very bytes within a day. One in doubt is looked up all the same: an earlier copy may
/// have been registered before the refusal.
pub(super) fn refused_earlier(worker: &Worker, case: &Case, gstin: &Gstin) -> Option<Ending> {
    // What changes nothing is not remembered, and may have the same bytes as what does.
    if case.in_doubt() || !case.job.operation.changes_something() {
        return None;
    }
    let earlier = worker.refusals.earlier(gstin, case.job.body.as_bytes())?;
    telemetry::refusal_repeated(case.about());
    Some(Ending::Rejected {
        errors: earlier.errors.clone(),
        info: earlier.info.clone(),
    })
}

/// What a submit's error obliges us to do.
async fn refused(
    worker: &Worker,
    case: &Case,
    document: &Document,
    calls: &mut Calls<'_>,
    error: IrpError,
) -> Result<Ending, Box<Ending>> {
    match error.disposition() {
        Disposition::Retry { .. } if refused_for_the_second_time(case, &error) => {
            case.clear_doubt(true);
            Ok(Ending::Rejected {
                errors: entries(&error),
                info: Vec::new(),
            })
        }
        Disposition::Retry { .. } if case.in_doubt() => Ok(Ending::Unknown {
            code: label(&error),
        }),
        Disposition::Retry { not_before } => Ok(Ending::Transient {
            code: label(&error),
            not_before,
        }),
        Disposition::Resolve => Ok(Ending::Unknown {
            code: label(&error),
        }),
        // A success that we cannot read: registered, and with a fresh session its signed data can be fetched.
        Disposition::Reauth | Disposition::Park if is_unreadable_success(&error) => {
            match calls.look_up(document).await? {
                LookUp::Found(registration) => {
                    Ok(accept(worker, case, document, registration, true))
                }
                LookUp::TooOld => Ok(too_old(document.irn(), None)),
                LookUp::Nothing => Ok(Ending::Unknown {
                    code: label(&error),
                }),
            }
        }
        Disposition::Reauth => Ok(Ending::SessionRefused {
            code: label(&error),
        }),
        Disposition::RefuseAccount => Ok(calls.account_refused(error).await),
        Disposition::NotRegistered | Disposition::TooOld | Disposition::Park => {
            Ok(unclassified(case, &error))
        }
        Disposition::Adopt
        | Disposition::Conflict
        | Disposition::SyncGstin
        | Disposition::Reject => match error {
            IrpError::Refused(refusal) => {
                refusal_settled(worker, case, document, calls, refusal).await
            }
            other => Ok(unclassified(case, &other)),
        },
    }
}

pub(super) fn is_unreadable_success(error: &IrpError) -> bool {
    matches!(
        error,
        IrpError::Undecipherable | IrpError::Unintelligible { .. }
    )
}

/// 2140 reads like a passing fault, but NIC says of it that the document does not fit the current schema: it is tried
/// once more, then believed.
fn refused_for_the_second_time(case: &Case, error: &IrpError) -> bool {
    error.code() == Some(DOES_NOT_FIT) && case.job.last_error.as_deref() == Some(DOES_NOT_FIT)
}

/// The portal's readable verdict on the document.
async fn refusal_settled(
    worker: &Worker,
    case: &Case,
    document: &Document,
    calls: &mut Calls<'_>,
    refusal: Box<Refusal>,
) -> Result<Ending, Box<Ending>> {
    if refusal.disposition == Disposition::Adopt {
        case.note_duplicate(&calls.portal().name);
        return adopt_duplicate(worker, case, document, calls, refusal.duplicate).await;
    }
    let mut errors = refusal.entries();
    if refusal.disposition == Disposition::Conflict {
        if refusal.code() == ELSEWHERE
            && let Some(ending) = adopt_from_elsewhere(worker, case, document, calls).await?
        {
            return Ok(ending);
        }
        if let Some(portal) = refusal.duplicate.as_ref().and_then(Duplicate::portal) {
            name_the_portal(&mut errors, &portal);
        }
        let known = refusal
            .duplicate
            .and_then(|duplicate| duplicate.irn)
            .or(Some(document.irn()));
        return Ok(Ending::Conflict {
            irn: known,
            errors,
            info: refusal.info,
        });
    }
    if refusal.lies_in_the_document() {
        let body = case.job.body.as_bytes();
        let (errors, info) = (errors.clone(), refusal.info.clone());
        worker.refusals.remember(&calls.gstin(), body, errors, info);
    }
    Ok(Ending::Rejected {
        errors,
        info: refusal.info,
    })
}

/// Says in plain words which portal has the document: whoever reads the result has to turn there.
fn name_the_portal(errors: &mut [ErrorEntry], portal: &str) {
    for error in errors.iter_mut().filter(|error| error.code == ELSEWHERE) {
        error.message = format!("{} (registered at {portal})", error.message);
    }
}
