//! A JSON array of documents: split into one job per document, all confirmed before the batch is acknowledged.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Worker;
use super::carry;
use crate::broker::{Acknowledger, JOBS_EXCHANGE, Payload, Publication, retry_exchange};
use crate::job::{Again, Job, PriorOutcome, Properties};
use crate::telemetry::{self, About};

/// Confirms in flight: publishing one by one would wait for the disk each time.
const IN_FLIGHT: usize = 64;

/// Whether a body is a batch.
pub(super) fn is_batch(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// Publishes each document as a job of its own, then acknowledges the batch.
pub(super) async fn split(worker: &Worker, job: Job, acknowledger: Acknowledger) {
    let documents: Vec<&RawValue> = serde_json::from_slice(job.body.as_bytes()).unwrap_or_default();
    if documents.is_empty() {
        let problem =
            "the body is an empty JSON array; a batch has at least one document".to_owned();
        return carry::poison(worker, job.into_unreadable(problem), acknowledger).await;
    }
    let id = job.id(None);
    let batch_id = job.batch_id().unwrap_or(&id).to_owned();
    let size = documents.len();
    let started = Instant::now();
    // Collected first, unpolled: a closure inside the stream would not be general enough for a spawned task.
    let publishing: Vec<_> = (1..)
        .zip(documents)
        .map(|(sequence, document)| {
            let properties = member(&job, &batch_id, sequence, size);
            publish(worker, &job, document, properties, &acknowledger, &id)
        })
        .collect();
    let published = stream::iter(publishing)
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<()>()
        .await;
    let about = About {
        job_id: &id,
        gstin: None,
        attempt: job.attempt,
    };
    match published {
        Ok(()) if acknowledger.ack().await => telemetry::batch_split(&id, size, started.elapsed()),
        Ok(()) => telemetry::job_abandoned(
            about,
            "batch split, but not acknowledged: its jobs may come twice",
        ),
        Err(carry::Lost) => {
            telemetry::job_abandoned(about, "the delivery was lost before the batch was split")
        }
    }
}

fn member(job: &Job, batch_id: &str, sequence: usize, size: usize) -> Properties {
    let outcome = if job.redelivered {
        PriorOutcome::Unknown
    } else {
        job.outcome
    };
    let again = Again {
        attempt: 1,
        outcome,
        first_seen: job.first_seen.unwrap_or_else(Timestamp::now),
        error: None,
    };
    job.batch_member(batch_id, sequence, size, &again)
}

/// A batch handed out before may have been split before: its documents then begin with a look-up, on a rung that
/// gives their twins time to finish.
async fn publish(
    worker: &Worker,
    job: &Job,
    document: &RawValue,
    properties: Properties,
    acknowledger: &Acknowledger,
    id: &str,
) -> Result<(), carry::Lost> {
    let exchange = if job.redelivered {
        retry_exchange(worker.ladder.at_least(worker.config.irp.settle_time)).into()
    } else {
        JOBS_EXCHANGE.into()
    };
    let publication = Publication {
        exchange,
        routing_key: job.routing_key.as_str().into(),
        properties,
        payload: Payload(document.get().as_bytes()),
    };
    let about = About {
        job_id: id,
        gstin: None,
        attempt: job.attempt,
    };
    carry::publish(worker, &publication, acknowledger, about).await
}
