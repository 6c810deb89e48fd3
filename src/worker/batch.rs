//! A JSON array of documents: split into one job per document, all confirmed before the batch is acknowledged.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Worker;
use super::carry;
use crate::broker::{Acknowledger, JOBS_EXCHANGE, Payload, Publication, retry_exchange};
use crate::crash::Point;
use crate::job::{Again, Job, PriorOutcome, Properties};
use crate::telemetry::{self, About};

/// Confirms in flight: publishing one by one would wait for the disk each time.
const IN_FLIGHT: usize = 64;

/// The most documents one message may hold.
const MAX_DOCUMENTS: usize = 10_000;

/// Whether a body is a batch.
pub(super) fn is_batch(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// Publishes each document as a job of its own, then acknowledges the batch.
pub(super) async fn split(worker: &Worker, job: Job, acknowledger: Acknowledger) {
    let documents: Vec<&RawValue> = serde_json::from_slice(job.body.as_bytes()).unwrap_or_default();
    if let Some(problem) = problem_of(&documents) {
        return carry::poison(worker, job.into_unreadable(problem), acknowledger).await;
    }
    let id = job.id(None);
    let started = Instant::now();
    let published = publish_all(worker, &job, &documents, &acknowledger, &id).await;
    if published.is_ok() {
        worker.crash.at(Point::BatchConfirmed);
    }
    let size = documents.len();
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

fn problem_of(documents: &[&RawValue]) -> Option<String> {
    if documents.is_empty() {
        return Some(
            "the body is an empty JSON array; a batch has at least one document".to_owned(),
        );
    }
    if documents.len() > MAX_DOCUMENTS {
        let size = documents.len();
        return Some(format!(
            "the batch has {size} documents; it may have {MAX_DOCUMENTS}"
        ));
    }
    // Split as a batch again and again, arrays in arrays would be a message for every bracket.
    let nested = documents
        .iter()
        .position(|document| document.get().starts_with('['))?;
    Some(format!(
        "document {} of the batch is itself an array",
        nested + 1
    ))
}

async fn publish_all(
    worker: &Worker,
    job: &Job,
    documents: &[&RawValue],
    acknowledger: &Acknowledger,
    id: &str,
) -> Result<(), carry::Lost> {
    let batch_id = job.batch_id().unwrap_or(id);
    for (chunk, first) in documents.chunks(IN_FLIGHT).zip((1..).step_by(IN_FLIGHT)) {
        // Collected unpolled: a closure inside the stream would not be general enough for a spawned task.
        let publishing: Vec<_> = (first..)
            .zip(chunk)
            .map(|(sequence, document)| {
                let place = Place {
                    batch_id,
                    sequence,
                    size: documents.len(),
                };
                publish(worker, job, document, place, acknowledger, id)
            })
            .collect();
        stream::iter(publishing)
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}

/// A document's place in its batch.
#[derive(Clone, Copy)]
struct Place<'a> {
    batch_id: &'a str,
    sequence: usize,
    size: usize,
}

impl Place<'_> {
    fn properties(&self, job: &Job, outcome: PriorOutcome) -> Properties {
        // Nobody has seen a document of a batch that is handed out for the first time: like a job of its own it can
        // be refused without a call.
        let is_fresh = !job.redelivered && outcome == PriorOutcome::NotSent;
        let first_seen = job.first_seen.or_else(|| (!is_fresh).then(Timestamp::now));
        let again = Again {
            portal: None,
            attempt: 1,
            outcome,
            first_seen,
            error: None,
        };
        job.batch_member(self.batch_id, self.sequence, self.size, &again)
    }
}

/// A batch handed out before may have been split before: its documents then begin with a look-up, on a rung that
/// gives their twins time to finish.
async fn publish(
    worker: &Worker,
    job: &Job,
    document: &RawValue,
    place: Place<'_>,
    acknowledger: &Acknowledger,
    id: &str,
) -> Result<(), carry::Lost> {
    let settled = worker.ladder.at_least(worker.config.irp.settle_time);
    let (exchange, outcome) = if job.redelivered {
        (retry_exchange(settled).into(), PriorOutcome::Unknown)
    } else {
        (JOBS_EXCHANGE.into(), job.outcome)
    };
    let publication = Publication {
        exchange,
        routing_key: job.routing_key.as_str().into(),
        properties: place.properties(job, outcome),
        payload: Payload(document.get().as_bytes()),
    };
    let about = About {
        job_id: id,
        gstin: None,
        attempt: job.attempt,
    };
    let in_doubt = || place.properties(job, PriorOutcome::Unknown);
    carry::publish_job(worker, &publication, in_doubt, acknowledger, about).await?;
    worker.crash.at(Point::BatchPartConfirmed);
    Ok(())
}
