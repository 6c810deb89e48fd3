//! Carries a settlement out: publish, confirm, and only then acknowledge.
//!
//! One rule: the work is never done again because its bookkeeping failed. A publish is repeated until a queue holds
//! the message, or until the delivery is no longer ours.

mod gave_up;
mod poison;
mod publish;
mod receipt;
mod reply;

use std::time::Duration;

use jiff::Timestamp;

use super::Worker;
use super::case::{self, Case, DUPLICATE, LOGIN_RATE, PORTAL_DOWN, SWEPT, Subject, UNEXPLAINED};
use super::settle::{Ending, Settlement};
use crate::broker::{DEAD_QUEUE, JOBS_EXCHANGE, Publication, retry_exchange};
use crate::config::Rung;
use crate::crash::Point;
use crate::job::{Obituary, Properties, header, short};
use crate::outcome::{ErrorEntry, Reason, Status};
use crate::telemetry::{self, About};

pub(super) use poison::poison;
pub(super) use publish::{Lost, publish, publish_job};
use receipt::receipt;
use reply::{Answer, reply};

/// Publishes what the settlement says, then acknowledges.
pub(super) async fn carry_out(
    worker: &Worker,
    case: Case,
    ending: &Ending,
    settlement: Settlement,
) {
    let done = match &settlement {
        Settlement::Answer(status) => answered(worker, &case, ending, *status).await,
        Settlement::Ladder { rung, counted } => {
            laddered(worker, &case, ending, rung, *counted).await
        }
        Settlement::DeadLetter(reason) => dead_lettered(worker, &case, ending, *reason).await,
        Settlement::HandBack => handed_back(worker, &case).await,
        Settlement::PassOn => passed_on(worker, &case, ending).await,
        Settlement::Leave => Err(Lost),
    };
    match (done, ending) {
        (Ok(()), _) => acknowledge(worker, case).await,
        (Err(Lost), Ending::Abandoned { why }) => telemetry::job_abandoned(case.about(), why),
        (Err(Lost), _) => {
            telemetry::job_abandoned(case.about(), "the delivery was lost before it was settled")
        }
    }
}

async fn acknowledge(worker: &Worker, case: Case) {
    let Case {
        id,
        job,
        gstin,
        acknowledger,
        ..
    } = case;
    let acknowledged = acknowledger.ack().await;
    worker.crash.at(Point::Acknowledged);
    if !acknowledged {
        let about = About {
            job_id: &id,
            gstin: gstin.as_ref(),
            attempt: job.attempt,
            span: None,
        };
        telemetry::job_abandoned(
            about,
            "settled, but not acknowledged: the result may come twice",
        );
    }
}

async fn answered(
    worker: &Worker,
    case: &Case,
    ending: &Ending,
    status: Status,
) -> Result<(), Lost> {
    let answer = Answer {
        status,
        errors: errors_of(ending),
        dead_lettered: false,
        ending,
    };
    reply(worker, case, &answer).await?;
    settled(worker, case);
    worker.crash.at(Point::ResultConfirmed);
    let code = answer.errors.first().map_or("", |error| &error.code);
    receipt(worker, case.job.canary(), status, code).await;
    Ok(())
}

/// What was in doubt when it came is so no more.
fn settled(worker: &Worker, case: &Case) {
    if case.came_in_doubt() {
        worker.unknowns.settled(&case.id);
    }
}

async fn laddered(
    worker: &Worker,
    case: &Case,
    ending: &Ending,
    rung: &Rung,
    counted: bool,
) -> Result<(), Lost> {
    let code = code_of(case, ending);
    worker.recent.waited(&code);
    match ending {
        Ending::Deferred { why, .. } => telemetry::job_deferred(case.about(), &rung.name, why),
        Ending::PortalDown { .. } if !counted => {
            telemetry::job_deferred(case.about(), &rung.name, PORTAL_DOWN);
        }
        _ => telemetry::job_retried(case.about(), &rung.name, &code, case.in_doubt(), counted),
    }
    let attempt = case.job.attempt + u32::from(counted);
    let error = Some(code.as_str()).filter(|code| !code.is_empty());
    let stay = stay(worker, case, ending).filter(|stay| *stay < rung.delay);
    let stays = stay.unwrap_or(rung.delay);
    if case.in_doubt() {
        worker.unknowns.waits(&case.id, case.first_seen(), stays);
    }
    worker.lanes.rung_holds(rung.delay, stays);
    again(worker, case, retry_exchange(rung), attempt, error, stay).await?;
    worker.crash.at(Point::LadderConfirmed);
    Ok(())
}

/// How long a deferred job stays on its rung, where that is known: a message's own expiration lets it leave before the
/// rung's time, once those published before it have left. So a lane's jobs come back one by one, as they were
/// planned, and not all together.
fn stay(worker: &Worker, case: &Case, ending: &Ending) -> Option<Duration> {
    let Ending::Deferred { wait, .. } = ending else {
        return None;
    };
    let young = case.in_doubt().then_some(worker.config.irp.settle_time);
    Some((*wait).max(young.unwrap_or_default()))
}

async fn handed_back(worker: &Worker, case: &Case) -> Result<(), Lost> {
    worker.takes_no_more().await;
    telemetry::job_handed_back(case.about());
    again(
        worker,
        case,
        JOBS_EXCHANGE.to_owned(),
        case.job.attempt,
        // What nobody has judged is judged when it comes back.
        case.is_unjudged().then_some(SWEPT),
        None,
    )
    .await?;
    worker.crash.at(Point::HandBackConfirmed);
    Ok(())
}

/// Back to its queue, which hands it to another replica, or to this one again.
async fn passed_on(worker: &Worker, case: &Case, ending: &Ending) -> Result<(), Lost> {
    let code = code_of(case, ending);
    telemetry::job_passed_on(case.about(), LOGIN_RATE);
    let (jobs, attempt) = (JOBS_EXCHANGE.to_owned(), case.job.attempt);
    again(worker, case, jobs, attempt, Some(&code), None).await?;
    worker.crash.at(Point::HandBackConfirmed);
    Ok(())
}

/// Publishes the job again: the same body under new headers.
async fn again(
    worker: &Worker,
    case: &Case,
    exchange: String,
    attempt: u32,
    error: Option<&str>,
    stay: Option<Duration>,
) -> Result<(), Lost> {
    let mut properties = in_its_trace(case, case.job.again(&case.again(attempt, error)));
    if let Some(priority) = case.job.priority().filter(|_| exchange == JOBS_EXCHANGE) {
        properties = properties.with_priority(priority);
    }
    if let Some(stay) = stay {
        properties = properties.with_expiration(short(&millis_text(stay)));
    }
    let publication = Publication {
        exchange: exchange.into(),
        routing_key: case.job.routing_key.as_str().into(),
        properties,
        body: case.job.body.clone(),
    };
    let in_doubt = || {
        case.doubt();
        in_its_trace(case, case.job.again(&case.again(attempt, error)))
    };
    publish_job(
        worker,
        &publication,
        in_doubt,
        &case.acknowledger,
        case.about(),
    )
    .await
}

/// Where its ERP has begun no trace, the attempts to come belong to the one that this attempt began. The documents of a batch
/// have one each.
fn in_its_trace(case: &Case, properties: Properties) -> Properties {
    let is_untraced = || {
        let is_named = !matches!(case.subject, Subject::Unnamed);
        is_named && case.job.trace_header(header::TRACEPARENT).is_none()
    };
    match &case.span {
        Some(span) if is_untraced() => {
            let mut headers = properties.headers().clone().unwrap_or_default();
            span.write_to(&mut headers);
            properties.with_headers(headers)
        }
        Some(_) | None => properties,
    }
}

/// A message's expiration is a text of milliseconds.
pub(super) fn millis_text(stay: Duration) -> String {
    stay.as_millis().max(1).to_string()
}

async fn dead_lettered(
    worker: &Worker,
    case: &Case,
    ending: &Ending,
    reason: Reason,
) -> Result<(), Lost> {
    let code = code_of(case, ending);
    telemetry::job_dead_lettered(case.about(), reason, &code, case.in_doubt());
    let label = case.subject.label();
    let obituary = Obituary {
        reason: reason.as_str(),
        gstin: case.gstin.as_ref(),
        document: label.as_deref(),
        dead_at: Timestamp::now(),
        replica: &worker.replica,
    };
    let error = Some(code.as_str()).filter(|code| !code.is_empty());
    let properties = case
        .job
        .dead(&case.again(case.job.attempt, error), &obituary);
    let letter = worker.letter(DEAD_QUEUE, properties, &case.job.body);
    publish(worker, &letter, &case.acknowledger, case.about()).await?;
    worker.crash.at(Point::DeadLetterConfirmed);

    let errors = gave_up::errors(worker, case, reason, &code, errors_of(ending));
    let answer = Answer {
        status: Status::Failed,
        errors: &errors,
        dead_lettered: true,
        ending,
    };
    reply(worker, case, &answer).await?;
    settled(worker, case);
    worker.crash.at(Point::ResultConfirmed);
    receipt(worker, case.job.canary(), Status::Failed, reason.as_str()).await;
    Ok(())
}

fn errors_of(ending: &Ending) -> &[ErrorEntry] {
    match ending {
        Ending::Partial { errors, .. }
        | Ending::Conflict { errors, .. }
        | Ending::Rejected { errors, .. }
        | Ending::GaveUp { errors, .. } => errors,
        Ending::Registered { .. }
        | Ending::Cancelled { .. }
        | Ending::Found { .. }
        | Ending::NotFound
        | Ending::EwayBillIssued { .. }
        | Ending::Expired
        | Ending::Transient { .. }
        | Ending::Unknown { .. }
        | Ending::NotFoundYet
        | Ending::Deferred { .. }
        | Ending::PassedOn
        | Ending::PortalDown { .. }
        | Ending::SessionRefused { .. }
        | Ending::HandedBack
        | Ending::Abandoned { .. } => &[],
    }
}

/// The code for `x-irn-error` and the log: never a text of the portal's.
fn code_of(case: &Case, ending: &Ending) -> String {
    // Once the portal has said so, no later trouble may hide it: it keeps the document from being sent again.
    if case.is_known_duplicate() {
        return DUPLICATE.to_owned();
    }
    // Nor that there is an e-way bill, though no look-up finds it: the second time it settles the job.
    let before = case.job.last_error.as_deref();
    let is_issued = before.filter(|_| case.was_said_to_be_issued());
    // What the attempt before has learnt decides about the next one, however long it waits in between.
    let waits = |why: &str| {
        let decides = before.filter(|code| case::decides_later(code));
        decides.unwrap_or(why).to_owned()
    };
    match ending {
        Ending::Deferred { .. }
        | Ending::PassedOn
        | Ending::NotFoundYet
        | Ending::Transient { .. }
        | Ending::PortalDown { .. }
            if is_issued.is_some() =>
        {
            is_issued.unwrap_or_default().to_owned()
        }
        Ending::Transient { code, .. }
        | Ending::Unknown { code }
        | Ending::SessionRefused { code } => code.clone(),
        Ending::NotFoundYet => "not_found_yet".to_owned(),
        // Nor may an outage hide that the portal has refused it without saying why.
        Ending::PortalDown { .. } if before == Some(UNEXPLAINED) => UNEXPLAINED.to_owned(),
        Ending::PortalDown { .. } => PORTAL_DOWN.to_owned(),
        Ending::Deferred { why, .. } => waits(why),
        Ending::PassedOn => waits(LOGIN_RATE),
        _ => case.last_code().unwrap_or_default(),
    }
}
