//! Carries a settlement out: publish, confirm, and only then acknowledge.
//!
//! One rule: the work is never done again because its bookkeeping failed. A publish is repeated until a queue holds
//! the message, or until the delivery is no longer ours.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::Worker;
use super::case::{Case, millis};
use super::settle::{Ending, Settlement};
use crate::broker::{
    AMQPValue, Acknowledger, DEAD_QUEUE, FieldTable, JOBS_EXCHANGE, POISON_QUEUE, Payload,
    Publication, PublishError, retry_exchange,
};
use crate::config::DeadLetterPayload;
use crate::irn::Irn;
use crate::irp::Registration;
use crate::job::{Obituary, Properties, Unreadable, header, long, set, short};
use crate::outcome::{
    ErrorEntry, Info, Reason, ResultDocument, ResultMessage, Status, Timing, result_message_id,
};
use crate::retry::Backoffs;
use crate::telemetry::{self, About};

/// The delivery is no longer ours: what was being published for it is left to the next one to see it.
#[derive(Debug)]
pub(super) struct Lost;

/// What a result says beyond the job itself.
struct Answer<'a> {
    status: Status,
    errors: &'a [ErrorEntry],
    dead_lettered: bool,
    ending: Option<&'a Ending>,
}

/// Where a result goes and under which ids.
struct ReplyTo<'a> {
    queue: &'a str,
    correlation_id: &'a str,
    headers: FieldTable,
    about: About<'a>,
    acknowledger: &'a Acknowledger,
}

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
        Settlement::Leave => Err(Lost),
    };
    match (done, ending) {
        (Ok(()), _) => acknowledge(case).await,
        (Err(Lost), Ending::Abandoned { why }) => telemetry::job_abandoned(case.about(), why),
        (Err(Lost), _) => {
            telemetry::job_abandoned(case.about(), "the delivery was lost before it was settled")
        }
    }
}

async fn acknowledge(case: Case) {
    let Case {
        id,
        job,
        gstin,
        acknowledger,
        ..
    } = case;
    if !acknowledger.ack().await {
        let about = About {
            job_id: &id,
            gstin: gstin.as_ref(),
            attempt: job.attempt,
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
        ending: Some(ending),
    };
    reply(worker, case, &answer).await
}

async fn laddered(
    worker: &Worker,
    case: &Case,
    ending: &Ending,
    rung: &crate::config::Rung,
    counted: bool,
) -> Result<(), Lost> {
    let code = code_of(case, ending);
    match ending {
        Ending::Deferred { why, .. } => telemetry::job_deferred(case.about(), &rung.name, why),
        _ => telemetry::job_retried(case.about(), &rung.name, &code, case.in_doubt(), counted),
    }
    let attempt = case.job.attempt + u32::from(counted);
    let error = Some(code.as_str()).filter(|code| !code.is_empty());
    let properties = case.job.again(&case.again(attempt, error));
    let exchange = retry_exchange(rung);
    publish_job(
        worker,
        case,
        exchange.into(),
        case.job.routing_key.as_str().into(),
        properties,
    )
    .await
}

async fn handed_back(worker: &Worker, case: &Case) -> Result<(), Lost> {
    telemetry::job_handed_back(case.about());
    let properties = case.job.again(&case.again(case.job.attempt, None));
    publish_job(
        worker,
        case,
        JOBS_EXCHANGE.into(),
        case.job.routing_key.as_str().into(),
        properties,
    )
    .await
}

async fn dead_lettered(
    worker: &Worker,
    case: &Case,
    ending: &Ending,
    reason: Reason,
) -> Result<(), Lost> {
    let code = code_of(case, ending);
    telemetry::job_dead_lettered(case.about(), reason, &code, case.in_doubt());
    let label = case.document.as_ref().map(crate::document::Document::label);
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
    let body = match worker.config.dead_letter.payload {
        DeadLetterPayload::Keep => case.job.body.as_bytes(),
        DeadLetterPayload::Drop => &[],
    };
    let letter = Publication {
        exchange: "".into(),
        routing_key: DEAD_QUEUE.into(),
        properties,
        payload: Payload(body),
    };
    publish(worker, &letter, &case.acknowledger, case.about()).await?;

    let exhausted;
    let errors = match errors_of(ending) {
        [] => {
            exhausted = [ErrorEntry::worker(
                reason,
                gave_up_message(case, reason, &code),
            )];
            &exhausted[..]
        }
        errors => errors,
    };
    let answer = Answer {
        status: Status::Failed,
        errors,
        dead_lettered: true,
        ending: Some(ending),
    };
    reply(worker, case, &answer).await
}

fn gave_up_message(case: &Case, reason: Reason, code: &str) -> String {
    let attempts = case.job.attempt;
    let known = if case.in_doubt() {
        "it is not known whether the portal registered the document; a replay looks first"
    } else {
        "the document is not registered"
    };
    match reason {
        Reason::SessionRefused => {
            format!("the portal refused every session in {attempts} attempts ({code}); {known}")
        }
        _ => format!("gave up after {attempts} attempts, the last one ended with {code}; {known}"),
    }
}

/// A job published again: the same body under new headers.
async fn publish_job(
    worker: &Worker,
    case: &Case,
    exchange: Cow<'_, str>,
    routing_key: Cow<'_, str>,
    properties: Properties,
) -> Result<(), Lost> {
    let publication = Publication {
        exchange,
        routing_key,
        properties,
        payload: Payload(case.job.body.as_bytes()),
    };
    publish(worker, &publication, &case.acknowledger, case.about()).await
}

async fn reply(worker: &Worker, case: &Case, answer: &Answer<'_>) -> Result<(), Lost> {
    let registration = registration_of(answer.ending);
    let known_irn = answer
        .ending
        .and_then(irn_of)
        .or(case.irn.as_ref())
        .map(Irn::as_str);
    let date = case
        .document
        .as_ref()
        .map(crate::document::Document::date_text);
    let document = case
        .document
        .as_ref()
        .zip(date.as_deref())
        .map(|(document, date)| ResultDocument {
            r#type: document.kind.as_str(),
            number: &document.number,
            date,
        });
    let total = case.received.elapsed();
    let (partial_no, partial_date) = partial_acknowledgement(answer.ending);
    let ack_date = registration
        .and_then(Registration::ack_date_rfc3339)
        .or(partial_date);
    let recovered = matches!(
        answer.ending,
        Some(
            Ending::Registered {
                recovered: true,
                ..
            } | Ending::Partial { .. }
        )
    );
    let message = ResultMessage {
        version: 1,
        job_id: &case.id,
        operation: case.job.operation.as_str(),
        status: answer.status,
        gstin: case.gstin,
        document,
        irn: known_irn,
        ack_no: registration
            .map(|known| known.ack_no.as_str())
            .or(partial_no),
        ack_date: ack_date.as_deref(),
        irn_status: registration.map(|known| known.status.as_str()),
        signed_invoice: registration.map(|known| known.signed_invoice.as_str()),
        signed_qr_code: registration.map(|known| known.signed_qr_code.as_str()),
        signature: match answer.ending {
            Some(Ending::Registered { signature, .. }) => Some(*signature),
            _ => None,
        },
        recovered,
        eway_bill: registration.and_then(|known| known.eway_bill.as_deref()),
        info: info_of(answer.ending),
        errors: answer.errors,
        attempts: case.job.attempt,
        dead_lettered: answer.dead_lettered,
        timing_ms: Timing {
            queued: millis(case.job.queued(case.received_at)),
            irp: case.irp_ms(),
            total: millis(total),
        },
    };
    let to = ReplyTo {
        queue: allowed_reply_queue(worker, case.job.reply_to.as_deref()),
        correlation_id: case.job.correlation_id.as_deref().unwrap_or(&case.id),
        headers: case.job.returned_headers(),
        about: case.about(),
        acknowledger: &case.acknowledger,
    };
    publish_result(worker, &message, to).await?;
    let code = answer
        .errors
        .first()
        .map(|error| error.code.as_str())
        .unwrap_or_default();
    telemetry::job_settled(
        case.about(),
        case.job.operation.as_str(),
        answer.status,
        code,
        recovered,
        total,
    );
    Ok(())
}

/// The queue a result may go to: the ERP's own where that is allowed, else the default one.
fn allowed_reply_queue<'a>(worker: &'a Worker, reply_to: Option<&'a str>) -> &'a str {
    let default = worker.config.replies.default_queue.as_str();
    reply_to
        .filter(|queue| worker.allows_reply_to(queue))
        .unwrap_or(default)
}

/// Keeps a delivery nobody can read, raw, and tells the ERP if that is possible.
pub(super) async fn poison(worker: &Worker, unreadable: Unreadable, acknowledger: Acknowledger) {
    let id = unreadable.id();
    let about = About {
        job_id: &id,
        gstin: None,
        attempt: 1,
    };
    telemetry::job_dead_lettered(about, Reason::Unreadable, "", false);
    if poisoned(worker, &unreadable, &id, &acknowledger)
        .await
        .is_err()
    {
        telemetry::job_abandoned(about, "the delivery was lost before it was settled");
    } else if !acknowledger.ack().await {
        telemetry::job_abandoned(about, "settled, but not acknowledged");
    }
}

async fn poisoned(
    worker: &Worker,
    unreadable: &Unreadable,
    id: &str,
    acknowledger: &Acknowledger,
) -> Result<(), Lost> {
    let obituary = Obituary {
        reason: Reason::Unreadable.as_str(),
        gstin: None,
        document: None,
        dead_at: Timestamp::now(),
        replica: &worker.replica,
    };
    let about = About {
        job_id: id,
        gstin: None,
        attempt: 1,
    };
    let kept = Publication {
        exchange: "".into(),
        routing_key: POISON_QUEUE.into(),
        properties: unreadable.poison(&obituary),
        payload: Payload(unreadable.body.as_bytes()),
    };
    publish(worker, &kept, acknowledger, about).await?;
    let errors = [ErrorEntry::worker(
        Reason::Unreadable,
        unreadable.problem.clone(),
    )];
    let message = ResultMessage {
        version: 1,
        job_id: id,
        operation: "unknown",
        status: Status::Failed,
        gstin: None,
        document: None,
        irn: None,
        ack_no: None,
        ack_date: None,
        irn_status: None,
        signed_invoice: None,
        signed_qr_code: None,
        signature: None,
        recovered: false,
        eway_bill: None,
        info: &[],
        errors: &errors,
        attempts: 1,
        dead_lettered: false,
        timing_ms: Timing::default(),
    };
    let to = ReplyTo {
        queue: allowed_reply_queue(worker, unreadable.reply_to.as_deref()),
        correlation_id: unreadable.correlation_id.as_deref().unwrap_or(id),
        headers: unreadable.returned_headers(),
        about,
        acknowledger,
    };
    publish_result(worker, &message, to).await?;
    telemetry::job_settled(
        about,
        "unknown",
        Status::Failed,
        Reason::Unreadable.as_str(),
        false,
        Duration::ZERO,
    );
    Ok(())
}

async fn publish_result(
    worker: &Worker,
    message: &ResultMessage<'_>,
    to: ReplyTo<'_>,
) -> Result<(), Lost> {
    // Serialising into memory cannot fail for these types; an empty body would be noticed by every reader.
    let body = Zeroizing::new(serde_json::to_vec(message).unwrap_or_default());
    let mut headers = to.headers;
    set(
        &mut headers,
        header::STATUS,
        AMQPValue::LongString(message.status.as_str().into()),
    );
    let properties = Properties::default()
        .with_type(short("irn.result.v1"))
        .with_content_type(short("application/json"))
        .with_app_id(short("irn-worker"))
        .with_correlation_id(short(to.correlation_id))
        .with_message_id(short(&result_message_id(
            message.job_id,
            message.status,
            message.irn,
        )))
        .with_timestamp(u64::try_from(Timestamp::now().as_second()).unwrap_or_default())
        .with_headers(headers.clone());
    let result = Publication {
        exchange: "".into(),
        routing_key: to.queue.into(),
        properties: properties.clone(),
        payload: Payload(&body),
    };
    let default = worker.config.replies.default_queue.as_str();
    if to.queue == default {
        return publish(worker, &result, to.acknowledger, to.about).await;
    }
    match publish_unless_returned(worker, &result, to.acknowledger, to.about).await? {
        Routed::Queue => Ok(()),
        Routed::Nowhere => {
            telemetry::result_undeliverable(to.about, to.queue);
            set(&mut headers, header::UNDELIVERABLE_TO, long(to.queue));
            let properties = properties.with_headers(headers);
            let marked = Publication {
                routing_key: default.into(),
                properties,
                ..result
            };
            publish(worker, &marked, to.acknowledger, to.about).await
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Routed {
    Queue,
    Nowhere,
}

/// Publishes until a queue holds the message.
pub(super) async fn publish(
    worker: &Worker,
    publication: &Publication<'_>,
    acknowledger: &Acknowledger,
    about: About<'_>,
) -> Result<(), Lost> {
    let mut delays = publish_delays();
    loop {
        match publish_unless_returned(worker, publication, acknowledger, about).await? {
            Routed::Queue => return Ok(()),
            // One of the worker's own queues is gone: it comes back, or a person brings it back.
            Routed::Nowhere => {
                pause(
                    worker,
                    acknowledger,
                    about,
                    &mut delays,
                    &PublishError::Returned,
                )
                .await?
            }
        }
    }
}

async fn publish_unless_returned(
    worker: &Worker,
    publication: &Publication<'_>,
    acknowledger: &Acknowledger,
    about: About<'_>,
) -> Result<Routed, Lost> {
    let mut delays = publish_delays();
    loop {
        // What is settled for a delivery that is no longer ours would be settled twice.
        if !acknowledger.is_live() {
            return Err(Lost);
        }
        match worker.publisher.publish(publication).await {
            Ok(()) => return Ok(Routed::Queue),
            Err(PublishError::Returned) => return Ok(Routed::Nowhere),
            Err(
                error @ (PublishError::NotConnected
                | PublishError::Nacked
                | PublishError::Unconfirmed(_)),
            ) => {
                pause(worker, acknowledger, about, &mut delays, &error).await?;
            }
        }
    }
}

fn publish_delays() -> Backoffs {
    Backoffs::new(Duration::from_millis(50), Duration::from_secs(2))
}

async fn pause(
    worker: &Worker,
    acknowledger: &Acknowledger,
    about: About<'_>,
    delays: &mut Backoffs,
    error: &PublishError,
) -> Result<(), Lost> {
    telemetry::publish_retried(about, error);
    let ready = async {
        tokio::time::sleep(delays.next_delay()).await;
        worker.publisher.ready().await;
    };
    tokio::select! {
        () = acknowledger.lost() => Err(Lost),
        () = ready => Ok(()),
    }
}

fn errors_of(ending: &Ending) -> &[ErrorEntry] {
    match ending {
        Ending::Partial { errors, .. }
        | Ending::Conflict { errors, .. }
        | Ending::Rejected { errors, .. }
        | Ending::GaveUp { errors, .. } => errors,
        Ending::Registered { .. }
        | Ending::Expired
        | Ending::Transient { .. }
        | Ending::Unknown { .. }
        | Ending::NotFoundYet
        | Ending::Deferred { .. }
        | Ending::SessionRefused { .. }
        | Ending::HandedBack
        | Ending::Abandoned { .. } => &[],
    }
}

fn info_of(ending: Option<&Ending>) -> &[Info] {
    match ending {
        Some(Ending::Registered { registration, .. }) => &registration.info,
        Some(Ending::Conflict { info, .. } | Ending::Rejected { info, .. }) => info,
        _ => &[],
    }
}

fn registration_of(ending: Option<&Ending>) -> Option<&Registration> {
    match ending {
        Some(Ending::Registered { registration, .. }) => Some(registration),
        _ => None,
    }
}

fn irn_of(ending: &Ending) -> Option<&Irn> {
    match ending {
        Ending::Registered { registration, .. } => Some(&registration.irn),
        Ending::Partial { irn, .. } => Some(irn),
        Ending::Conflict { irn, .. } => irn.as_ref(),
        _ => None,
    }
}

fn partial_acknowledgement(ending: Option<&Ending>) -> (Option<&str>, Option<String>) {
    match ending {
        Some(Ending::Partial {
            ack_no, ack_date, ..
        }) => (ack_no.as_deref(), ack_date.clone()),
        _ => (None, None),
    }
}

/// The code for `x-irn-error` and the log: never a text of the portal's.
fn code_of(case: &Case, ending: &Ending) -> String {
    match ending {
        Ending::Transient { code, .. }
        | Ending::Unknown { code }
        | Ending::SessionRefused { code } => code.clone(),
        Ending::NotFoundYet => "not_found_yet".to_owned(),
        Ending::Deferred { why, .. } => (*why).to_owned(),
        _ => case.last_code().unwrap_or_default(),
    }
}
