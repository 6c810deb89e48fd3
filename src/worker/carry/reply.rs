//! The result message (contract, section 3): what it says, and where it goes.

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::publish::{Lost, publish, publish_if_taken};
use crate::broker::{AMQPValue, Acknowledger, FieldTable, Publication};
use crate::document::Document;
use crate::irn::Irn;
use crate::irp::{Registration, Validity};
use crate::job::{Body, Properties, header, long, set, short};
use crate::outcome::{
    ErrorEntry, Info, ResultDocument, ResultMessage, SignatureState, Status, Timing,
    result_message_id,
};
use crate::telemetry::{self, About, Settled};
use crate::wiped::Wiped;
use crate::worker::Worker;
use crate::worker::case::{Case, Subject, millis};
use crate::worker::settle::Ending;

/// What a result says beyond the job itself.
pub(super) struct Answer<'a> {
    pub(super) status: Status,
    pub(super) errors: &'a [ErrorEntry],
    /// Whether it is in `irn.dead`, with its document or without.
    pub(super) dead_lettered: bool,
    pub(super) ending: &'a Ending,
}

/// Where a result goes and under which ids.
pub(super) struct ReplyTo<'a> {
    pub(super) queue: &'a str,
    pub(super) correlation_id: &'a str,
    pub(super) headers: FieldTable,
    pub(super) about: About<'a>,
    pub(super) acknowledger: &'a Acknowledger,
}

pub(super) async fn reply(worker: &Worker, case: &Case, answer: &Answer<'_>) -> Result<(), Lost> {
    let said = Said::by(answer.ending);
    let document = case.document().or(said.document);
    let date = document.map(Document::date_text);
    let document = document.zip(date.as_deref());
    let total = case.received.elapsed();
    let timing = Timing {
        queued: millis(case.job.queued(case.received_at)),
        irp: case.irp_ms(),
        total: millis(total),
    };
    let registration = said.registration;
    let asked_for = match &case.subject {
        Subject::Request(request) => Some(request.irn()),
        // Computed, and not the portal's word for a document that it may never have seen.
        Subject::Document(_) | Subject::Unnamed => None,
    };
    let irn = said.irn.or(asked_for.as_ref());
    let message = ResultMessage {
        gstin: case.gstin,
        document: document.map(|(document, date)| ResultDocument {
            r#type: document.kind.as_str(),
            number: &document.number,
            date,
        }),
        irn: irn.map(Irn::as_str),
        ack_no: said.ack_no,
        ack_date: said.ack_date.as_deref(),
        irn_status: said.irn_status,
        signed_invoice: registration.and_then(|known| known.signed_invoice.as_json()),
        signed_qr_code: registration.and_then(|known| known.signed_qr_code.as_json()),
        signature: said.signature,
        recovered: said.recovered,
        eway_bill: said.eway_bill,
        cancel_date: said.cancel_date,
        info: said.info,
        errors: answer.errors,
        attempts: case.job.attempt,
        dead_lettered: answer.dead_lettered && worker.keeps_letters(),
        timing_ms: timing,
        ..ResultMessage::bare(&case.id, case.job.operation.as_str(), answer.status)
    };
    let to = ReplyTo {
        queue: allowed_reply_queue(
            worker,
            case.job.publisher.as_deref(),
            case.job.reply_to.as_deref(),
        ),
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
    worker.recent.settled(answer.status, code);
    // Computed only where the ending has none to name.
    let of_document = case.document().filter(|_| irn.is_none());
    let of_document = of_document.map(Document::irn);
    let settled = Settled {
        operation: case.job.operation.as_str(),
        status: answer.status,
        code,
        recovered: said.recovered,
        irn: irn.or(of_document.as_ref()),
        dead_lettered: answer.dead_lettered,
        timing,
    };
    telemetry::job_settled(case.about(), settled, total);
    Ok(())
}

/// The queue a result may go to: the ERP's own where that is allowed, else the default one.
pub(super) fn allowed_reply_queue<'a>(
    worker: &'a Worker,
    publisher: Option<&str>,
    reply_to: Option<&'a str>,
) -> &'a str {
    let default = worker.config.replies.default_queue.as_str();
    reply_to
        .filter(|queue| worker.allows_reply_to(publisher, queue))
        .unwrap_or(default)
}

pub(super) async fn publish_result(
    worker: &Worker,
    message: &ResultMessage<'_>,
    to: ReplyTo<'_>,
) -> Result<(), Lost> {
    let body = body_of(message);
    let mut headers = to.headers;
    set(
        &mut headers,
        header::STATUS,
        AMQPValue::LongString(message.status.as_str().into()),
    );
    let sending = to.about.span.map(|span| span.send(to.queue));
    if let Some(sending) = &sending {
        sending.write_to(&mut headers);
    }
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
        body,
    };
    let default = worker.config.replies.default_queue.as_str();
    if to.queue == default {
        return publish(worker, &result, to.acknowledger, to.about).await;
    }
    if publish_if_taken(worker, &result, to.acknowledger, to.about).await? {
        return Ok(());
    }
    telemetry::result_undeliverable(to.about, to.queue);
    set(&mut headers, header::UNDELIVERABLE_TO, long(to.queue));
    let marked = Publication {
        routing_key: default.into(),
        properties: properties.with_headers(headers),
        ..result
    };
    publish(worker, &marked, to.acknowledger, to.about).await
}

/// Room for the rest of a result beside the signed texts.
const USUAL_REST: usize = 2 * 1024;

fn body_of(message: &ResultMessage<'_>) -> Body {
    let signed = [message.signed_invoice, message.signed_qr_code];
    let signed: usize = signed.iter().flatten().map(|text| text.get().len()).sum();
    // A buffer that grows leaves copies of what it held behind it.
    let mut body = Wiped::new(Vec::with_capacity(signed + USUAL_REST));
    if serde_json::to_writer(&mut *body, message).is_err() {
        // Cannot be, for these types; an empty body would be noticed by every reader.
        body.clear();
    }
    Body::new(body)
}

/// What an ending has to say of the registration.
#[derive(Default)]
struct Said<'a> {
    registration: Option<&'a Registration>,
    /// What the registration is of, where the job does not say.
    document: Option<&'a Document>,
    irn: Option<&'a Irn>,
    ack_no: Option<&'a str>,
    ack_date: Option<String>,
    irn_status: Option<&'a str>,
    signature: Option<SignatureState>,
    eway_bill: Option<&'a RawValue>,
    cancel_date: Option<&'a str>,
    recovered: bool,
    info: &'a [Info],
}

impl<'a> Said<'a> {
    fn of(registration: &'a Registration) -> Self {
        Self {
            registration: Some(registration),
            irn: Some(&registration.irn),
            ack_no: registration.ack_no.as_deref(),
            ack_date: registration.ack_date_rfc3339(),
            irn_status: Some(registration.status.as_str()),
            eway_bill: registration.eway_bill.as_deref(),
            info: &registration.info,
            ..Self::default()
        }
    }

    fn by(ending: &'a Ending) -> Self {
        match ending {
            Ending::Registered {
                registration,
                signature,
                recovered,
            } => Self {
                signature: Some(*signature),
                recovered: *recovered,
                ..Self::of(registration)
            },
            Ending::Found {
                registration,
                signature,
                document,
            } => Self {
                signature: *signature,
                document: document.as_deref(),
                ..Self::of(registration)
            },
            Ending::Cancelled {
                registration,
                cancel_date,
                info,
                recovered,
            } => Self {
                ack_no: registration
                    .as_ref()
                    .and_then(|known| known.ack_no.as_deref()),
                ack_date: registration
                    .as_ref()
                    .and_then(|known| known.ack_date_rfc3339()),
                irn_status: Some(Validity::Cancelled.as_str()),
                cancel_date: cancel_date.as_deref(),
                info,
                recovered: *recovered,
                ..Self::default()
            },
            Ending::EwayBillIssued { bill, recovered } => Self {
                eway_bill: Some(&bill.members),
                recovered: *recovered,
                info: &bill.info,
                ..Self::default()
            },
            Ending::Partial {
                irn,
                ack_no,
                ack_date,
                ..
            } => Self {
                irn: Some(irn),
                ack_no: ack_no.as_deref(),
                ack_date: ack_date.clone(),
                recovered: true,
                ..Self::default()
            },
            Ending::Conflict { irn, info, .. } => Self {
                irn: irn.as_ref(),
                info,
                ..Self::default()
            },
            Ending::Rejected { info, .. } => Self {
                info,
                ..Self::default()
            },
            Ending::NotFound
            | Ending::Expired
            | Ending::Transient { .. }
            | Ending::Unknown { .. }
            | Ending::NotFoundYet
            | Ending::Deferred { .. }
            | Ending::PassedOn
            | Ending::PortalDown { .. }
            | Ending::SessionRefused { .. }
            | Ending::GaveUp { .. }
            | Ending::HandedBack
            | Ending::Abandoned { .. } => Self::default(),
        }
    }
}
