//! Deliveries nobody can read: kept raw for a person, and told to the ERP where it says how to reach it.

use std::time::Duration;

use jiff::Timestamp;

use super::publish::{Lost, publish};
use super::receipt::receipt;
use super::reply::{ReplyTo, allowed_reply_queue, publish_result};
use crate::broker::{Acknowledger, POISON_QUEUE};
use crate::crash::Point;
use crate::job::{Obituary, Operation, Unreadable};
use crate::outcome::{ErrorEntry, Reason, ResultMessage, Status, Timing};
use crate::telemetry::{self, About, Settled};
use crate::worker::Worker;

/// Keeps a delivery nobody can read, raw, and tells the ERP if that is possible.
pub(in crate::worker) async fn poison(
    worker: &Worker,
    unreadable: Unreadable,
    acknowledger: Acknowledger,
) {
    let id = unreadable.id();
    let about = About {
        job_id: &id,
        gstin: None,
        attempt: 1,
        span: None,
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
        gstin: unreadable.gstin.as_ref(),
        document: None,
        dead_at: Timestamp::now(),
        replica: &worker.replica,
    };
    let about = About {
        job_id: id,
        gstin: None,
        attempt: 1,
        span: None,
    };
    let publisher = worker.publisher_of(&unreadable.sender);
    let properties = unreadable.poison(&obituary, publisher.as_deref());
    let letter = worker.letter(POISON_QUEUE, properties, &unreadable.body);
    publish(worker, &letter, acknowledger, about).await?;
    worker.crash.at(Point::PoisonConfirmed);
    let errors = [ErrorEntry::worker(
        Reason::Unreadable,
        unreadable.problem.clone(),
    )];
    let operation = unreadable.operation.map_or("unknown", Operation::as_str);
    let message = ResultMessage {
        gstin: unreadable.gstin,
        errors: &errors,
        ..ResultMessage::bare(id, operation, Status::Failed)
    };
    let reply_to = unreadable.reply_to.as_deref();
    let to = ReplyTo {
        queue: allowed_reply_queue(worker, publisher.as_deref(), reply_to),
        correlation_id: unreadable.correlation_id.as_deref().unwrap_or(id),
        headers: unreadable.returned_headers(),
        about,
        acknowledger,
    };
    publish_result(worker, &message, to).await?;
    worker.crash.at(Point::ResultConfirmed);
    let code = Reason::Unreadable.as_str();
    receipt(worker, unreadable.canary(), Status::Failed, code).await;
    worker.recent.settled(Status::Failed, code);
    let settled = Settled {
        operation,
        status: Status::Failed,
        code,
        recovered: false,
        irn: None,
        dead_lettered: true,
        timing: Timing::default(),
    };
    telemetry::job_settled(about, settled, Duration::ZERO);
    Ok(())
}
