//! A JSON array of documents: split into one job per document, all confirmed before the batch is acknowledged.
//!
//! One rule: nothing is published before the whole array has been read, and beside the body no more is held than what
//! is being published just now.

mod documents;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Worker;
use super::carry;
use crate::broker::{Acknowledger, JOBS_EXCHANGE, Publication, retry_exchange};
use crate::crash::Point;
use crate::document::{self, BadDocument};
use crate::job::{Again, Body, Job, PriorOutcome, Properties};
use crate::telemetry::{self, About};
use documents::{Broken, Documents};

/// Confirms in flight: publishing one by one would wait for the disk each time.
const IN_FLIGHT: usize = 64;

/// The same in bytes, of which the broker's client holds copies; one document may be longer.
const BYTES_IN_FLIGHT: usize = 1024 * 1024;

/// The most documents one message may hold.
const MAX_DOCUMENTS: usize = 10_000;

/// Other tasks get their turn after so many bytes: a millisecond or so of reading.
const READ_AT_ONCE: usize = 512 * 1024;

/// Whether a body is a batch.
pub(super) fn is_batch(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// Publishes each document as a job of its own, then acknowledges the batch.
pub(super) async fn split(worker: &Worker, job: Job, acknowledger: Acknowledger) {
    let size = match count(job.body.as_bytes()).await {
        Ok(size) => size,
        Err(problem) => {
            return carry::poison(worker, job.into_unreadable(problem), acknowledger).await;
        }
    };
    let id = job.id(None);
    let started = Instant::now();
    let published = publish_all(worker, &job, size, &acknowledger, &id).await;
    if published.is_ok() {
        worker.crash.at(Point::BatchConfirmed);
    }
    let about = About {
        job_id: &id,
        gstin: None,
        attempt: job.attempt,
        span: None,
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

/// Reads the whole array: how many documents it has, or why it is no batch.
async fn count(body: &[u8]) -> Result<usize, String> {
    let mut documents = Documents::of(body);
    let (mut size, mut nested) = (0, None);
    let mut read_until = documents.left().saturating_sub(READ_AT_ONCE);
    while let Some(document) = documents.next() {
        let document = document.map_err(|Broken| not_json(body))?;
        size += 1;
        if nested.is_none() && document.get().starts_with('[') {
            nested = Some(size);
        }
        if documents.left() < read_until {
            tokio::task::yield_now().await;
            read_until = documents.left().saturating_sub(READ_AT_ONCE);
        }
    }
    if size == 0 {
        return Err(
            "the body is an empty JSON array; a batch has at least one document".to_owned(),
        );
    }
    if size > MAX_DOCUMENTS {
        return Err(format!(
            "the batch has {size} documents; it may have {MAX_DOCUMENTS}"
        ));
    }
    // Split as a batch again and again, arrays in arrays would be a message for every bracket.
    match nested {
        Some(nested) => Err(format!("document {nested} of the batch is itself an array")),
        None => Ok(size),
    }
}

/// Where the parser of whole bodies finds the fault, for the ERP.
fn not_json(body: &[u8]) -> String {
    match document::read(body) {
        Err(BadDocument::NotJson { line, column }) => {
            format!("the body is not JSON in UTF-8 (line {line}, column {column})")
        }
        Ok(_) | Err(BadDocument::Refused(_)) => "the body is not one JSON array".to_owned(),
    }
}

async fn publish_all(
    worker: &Worker,
    job: &Job,
    size: usize,
    acknowledger: &Acknowledger,
    id: &str,
) -> Result<(), carry::Lost> {
    let batch_id = job.batch_id().unwrap_or(id);
    // It has been read to the end before: there is no fault in it.
    let mut documents = (1..).zip(Documents::of(job.body.as_bytes()).map_while(Result::ok));
    loop {
        // Collected unpolled: a closure inside the stream would not be general enough for a spawned task.
        let publishing: Vec<_> = together(&mut documents)
            .into_iter()
            .map(|(sequence, document)| {
                let place = Place {
                    batch_id,
                    sequence,
                    size,
                };
                publish(worker, job, document, place, acknowledger, id)
            })
            .collect();
        if publishing.is_empty() {
            return Ok(());
        }
        stream::iter(publishing)
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<()>()
            .await?;
    }
}

/// As many of the next documents as may be in flight together; at least one, unless there is none.
fn together<'a>(
    documents: &mut impl Iterator<Item = (usize, &'a RawValue)>,
) -> Vec<(usize, &'a RawValue)> {
    let mut bytes = 0;
    let mut taken = Vec::new();
    while taken.len() < IN_FLIGHT && bytes < BYTES_IN_FLIGHT {
        let Some((sequence, document)) = documents.next() else {
            break;
        };
        bytes += document.get().len();
        taken.push((sequence, document));
    }
    taken
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
        body: Body::copy_of(document.get().as_bytes()),
    };
    let about = About {
        job_id: id,
        gstin: None,
        attempt: job.attempt,
        span: None,
    };
    let in_doubt = || place.properties(job, PriorOutcome::Unknown);
    carry::publish_job(worker, &publication, in_doubt, acknowledger, about).await?;
    worker.crash.at(Point::BatchPartConfirmed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn array_is_refused_whole_for_whatever_is_wrong_with_it() {
        let many = format!("[{}{{}}]", "{},".repeat(MAX_DOCUMENTS));
        let last = format!("[{}{{]", "{},".repeat(MAX_DOCUMENTS - 1));
        for (body, problem) in [
            ("[]", "empty"),
            ("[{},[]]", "document 2"),
            (many.as_str(), "10001 documents"),
            (last.as_str(), "line 1, column 30000"),
            ("[{}", "line 1, column 3"),
        ] {
            let refused = count(body.as_bytes()).await.unwrap_err();
            assert!(refused.contains(problem), "{refused}");
        }
        let most = format!("[{}{{}}]", "{},".repeat(MAX_DOCUMENTS - 1));
        assert_eq!(count(most.as_bytes()).await, Ok(MAX_DOCUMENTS));
    }

    #[test]
    fn documents_in_flight_are_bounded_in_number_and_in_bytes() {
        let sizes = |length: usize, count: usize| {
            let document = format!("\"{}\"", "a".repeat(length));
            let body = format!("[{}]", vec![document; count].join(","));
            let mut documents = (1..).zip(Documents::of(body.as_bytes()).map_while(Result::ok));
            let mut sizes = Vec::new();
            loop {
                match together(&mut documents).len() {
                    0 => return sizes,
                    size => sizes.push(size),
                }
            }
        };
        assert_eq!(sizes(10, 130), [64, 64, 2]);
        assert_eq!(sizes(400_000, 4), [3, 1]);
        assert_eq!(sizes(2_000_000, 2), [1, 1]);
    }
}
