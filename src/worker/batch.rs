//! A JSON array of documents: split into one job per document, or a long one into parts that are, all confirmed before it is
//! acknowledged.
//!
//! Two rules: nothing is published before the whole array has been read, and beside the body no more is held than what
//! is being published just now. And of what has been handed out, little at a time: split by a replica that died, every
//! document comes back in doubt, and each that the portal does not have counts as an error. So a long array is cut into
//! parts first, which is done in no time, and a few parts are in hand at once.

mod documents;
mod turns;

use std::iter;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Worker;
use super::carry;
use super::case::SWEPT;
use crate::broker::{Acknowledger, JOBS_EXCHANGE, Publication, retry_exchange};
use crate::crash::Point;
use crate::document::{self, BadDocument};
use crate::job::{Again, BatchPart, Body, Class, Job, PriorOutcome, Properties, short};
use crate::telemetry::{self, About};
use documents::{Broken, Documents};

pub(super) use turns::Turns;

/// Confirms in flight: publishing one by one would wait for the disk each time.
const IN_FLIGHT: usize = 64;

/// The same in bytes, of which the broker's client holds copies; one document may be longer.
const BYTES_IN_FLIGHT: usize = 1024 * 1024;

/// The most documents one message may hold.
const MAX_DOCUMENTS: usize = 10_000;

/// What is longer than this, in documents or in bytes, is cut into parts of this length.
const PART_DOCUMENTS: usize = 100;
const PART_BYTES: usize = 256 * 1024;

/// So many parts come at once; the others wait on the ladder, where they are in nobody's hands.
const PARTS_AHEAD: usize = 4;

/// Other tasks get their turn after so many bytes: a millisecond or so of reading.
const READ_AT_ONCE: usize = 512 * 1024;

/// Whether a body is a batch.
pub(super) fn is_batch(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// Whether its documents may have been handed out before.
pub(super) fn is_in_doubt(job: &Job) -> bool {
    job.redelivered || job.outcome == PriorOutcome::Unknown
}

/// Publishes each document as a job of its own, then acknowledges the batch; a long one in parts first.
pub(super) async fn split(worker: &Worker, job: Job, acknowledger: Acknowledger) {
    let size = match count(job.body.as_bytes()).await {
        Ok(size) => size,
        Err(problem) => {
            return carry::poison(worker, job.into_unreadable(problem), acknowledger).await;
        }
    };
    let id = job.id(None);
    // It is not in doubt any more, its documents are.
    worker.unknowns.settled(&id);
    let batch = Batch {
        job: &job,
        id: &id,
        acknowledger: &acknowledger,
        part: job.part_of_batch().filter(|part| part.has_room_for(size)),
        size,
    };
    let started = Instant::now();
    let published = if batch.is_long() {
        publish_parts(worker, &batch).await.map(Some)
    } else {
        publish_all(worker, &batch).await.map(|()| None)
    };
    if published.is_ok() {
        worker.crash.at(Point::BatchConfirmed);
    }
    let about = about(&job, &id);
    match published {
        Ok(parts) if acknowledger.ack().await => {
            telemetry::batch_split(&id, size, parts, started.elapsed());
        }
        Ok(_) => telemetry::job_abandoned(
            about,
            "batch split, but not acknowledged: its jobs may come twice",
        ),
        Err(carry::Lost) => {
            telemetry::job_abandoned(about, "the delivery was lost before the batch was split")
        }
    }
}

fn about<'a>(job: &Job, id: &'a str) -> About<'a> {
    About {
        job_id: id,
        gstin: None,
        attempt: job.attempt,
        span: None,
    }
}

/// An array that has been read to its end.
struct Batch<'a> {
    job: &'a Job,
    id: &'a str,
    acknowledger: &'a Acknowledger,
    part: Option<BatchPart>,
    /// How many documents it has.
    size: usize,
}

impl<'a> Batch<'a> {
    /// Whether it is cut before it is split.
    fn is_long(&self) -> bool {
        let bytes = self.job.body.as_bytes().len();
        let is_long = self.size > PART_DOCUMENTS || bytes > PART_BYTES;
        is_long && self.size > 1 && self.part.is_none()
    }

    /// Whether its parts may be put behind others for a while. What is in doubt waits in any case, urgent ones not behind bulk,
    /// and a priority does not outlive the ladder. Where the time is over, what nobody had in hand costs no look-up.
    fn may_wait(&self) -> bool {
        let job = self.job;
        let is_certain = !job.redelivered && !is_in_doubt(job);
        let is_over = job
            .deadline
            .is_some_and(|deadline| deadline < Timestamp::now());
        is_certain && !is_over && job.class() == Class::Bulk && job.priority().is_none()
    }

    fn batch_id(&self) -> &'a str {
        self.job.batch_id().unwrap_or(self.id)
    }

    /// Its documents, as they are numbered in the batch.
    fn documents(&self) -> impl Iterator<Item = (usize, &'a RawValue)> + use<'a> {
        let first = self.part.map_or(1, |part| part.first);
        // It has been read to the end before: there is no fault in it.
        (first..).zip(Documents::of(self.job.body.as_bytes()).map_while(Result::ok))
    }

    /// How many documents the batch has.
    fn of(&self) -> usize {
        self.part.map_or(self.size, |part| part.of)
    }

    /// What its documents carry on.
    fn again(&self, outcome: PriorOutcome) -> Again<'a> {
        let job = self.job;
        // Nobody has seen a document of a batch that is handed out for the first time, or that had to wait for its turn: like
        // a job of its own it can be refused without a call.
        let is_fresh = !job.redelivered && outcome == PriorOutcome::NotSent;
        let waited = job.last_error.as_deref();
        Again {
            portal: None,
            attempt: 1,
            outcome,
            first_seen: job.first_seen.or_else(|| (!is_fresh).then(Timestamp::now)),
            error: waited.filter(|error| is_fresh && *error == SWEPT),
        }
    }

    /// Publishes what it is made of, to come at once or after a wait. A batch handed out before may have been split before:
    /// its documents then begin with a look-up, on a rung that gives their twins time to finish.
    async fn publish(
        &self,
        worker: &Worker,
        body: Body,
        wait: Option<Duration>,
        properties: impl Fn(&Again<'_>) -> Properties,
    ) -> Result<(), carry::Lost> {
        let job = self.job;
        // Of what no worker has published, the doubt has waited on no rung.
        let is_young = job.redelivered || is_in_doubt(job) && job.first_seen.is_none();
        let (exchange, properties_now) = if is_young {
            let settled = worker.ladder.at_least(worker.config.irp.settle_time);
            let unknown = properties(&self.again(PriorOutcome::Unknown));
            (retry_exchange(settled), unknown)
        } else if let Some(wait) = wait {
            let rung = worker.ladder.at_least(wait);
            let wait = wait.min(rung.delay);
            worker.lanes.rung_holds(rung.delay, wait);
            let swept = Again {
                first_seen: job.first_seen.or_else(|| Some(Timestamp::now())),
                error: Some(SWEPT),
                ..self.again(job.outcome)
            };
            let expiration = short(&carry::millis_text(wait));
            (
                retry_exchange(rung),
                properties(&swept).with_expiration(expiration),
            )
        } else {
            let mut now = properties(&self.again(job.outcome));
            if let Some(priority) = job.priority() {
                now = now.with_priority(priority);
            }
            (JOBS_EXCHANGE.to_owned(), now)
        };
        let publication = Publication {
            exchange: exchange.into(),
            routing_key: job.routing_key.as_str().into(),
            properties: properties_now,
            body,
        };
        let in_doubt = || properties(&self.again(PriorOutcome::Unknown));
        let about = about(job, self.id);
        carry::publish_job(worker, &publication, in_doubt, self.acknowledger, about).await?;
        worker.crash.at(Point::BatchPartConfirmed);
        Ok(())
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

/// Publishes each document as a job of its own.
async fn publish_all(worker: &Worker, batch: &Batch<'_>) -> Result<(), carry::Lost> {
    let mut documents = batch.documents();
    loop {
        // Collected unpolled: a closure inside the stream would not be general enough for a spawned task.
        let publishing: Vec<_> = together(&mut documents, IN_FLIGHT, BYTES_IN_FLIGHT)
            .into_iter()
            .map(|(sequence, document)| publish(worker, batch, document, sequence))
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

/// Publishes it in parts, each a batch; returns how many.
async fn publish_parts(worker: &Worker, batch: &Batch<'_>) -> Result<usize, carry::Lost> {
    let mut documents = batch.documents();
    let turns = worker.turns_of(batch.job.class());
    let may_wait = batch.may_wait();
    let mut parts = 0;
    loop {
        let publishing: Vec<_> = iter::from_fn(|| {
            let part = together(&mut documents, PART_DOCUMENTS, PART_BYTES);
            (!part.is_empty()).then_some(part)
        })
        .take(BYTES_IN_FLIGHT / PART_BYTES)
        .zip(parts + 1..)
        .map(|(part, nth)| {
            // The others would be sent away by whom they come to.
            let wait = (nth > PARTS_AHEAD && may_wait).then(|| turns.next_return(length(&part)));
            publish_part(worker, batch, part, wait)
        })
        .collect();
        if publishing.is_empty() {
            return Ok(parts);
        }
        parts += publishing.len();
        stream::iter(publishing)
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<()>()
            .await?;
    }
}

/// The next documents, so many or so many bytes of them; at least one, unless there is none.
fn together<'a>(
    documents: &mut impl Iterator<Item = (usize, &'a RawValue)>,
    most: usize,
    most_bytes: usize,
) -> Vec<(usize, &'a RawValue)> {
    let mut bytes = 0;
    let mut taken = Vec::new();
    while taken.len() < most && bytes < most_bytes {
        let Some((sequence, document)) = documents.next() else {
            break;
        };
        bytes += document.get().len();
        taken.push((sequence, document));
    }
    taken
}

async fn publish(
    worker: &Worker,
    batch: &Batch<'_>,
    document: &RawValue,
    sequence: usize,
) -> Result<(), carry::Lost> {
    let (id, of) = (batch.batch_id(), batch.of());
    let body = Body::copy_of(document.get().as_bytes());
    let properties = |again: &Again<'_>| batch.job.batch_member(id, sequence, of, again);
    batch.publish(worker, body, None, properties).await
}

fn length(documents: &[(usize, &RawValue)]) -> usize {
    documents.iter().map(|(_, text)| text.get().len() + 1).sum()
}

async fn publish_part(
    worker: &Worker,
    batch: &Batch<'_>,
    documents: Vec<(usize, &RawValue)>,
    wait: Option<Duration>,
) -> Result<(), carry::Lost> {
    let first = documents.first().map_or(1, |(sequence, _)| *sequence);
    let part = BatchPart {
        first,
        of: batch.of(),
    };
    let id = batch.batch_id();
    let properties = |again: &Again<'_>| batch.job.batch_part(id, part, again);
    batch
        .publish(worker, array(&documents), wait, properties)
        .await
}

/// An array of these documents, byte for byte as they are.
fn array(documents: &[(usize, &RawValue)]) -> Body {
    let mut body = Vec::with_capacity(length(documents) + 1);
    for (_, document) in documents {
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.extend_from_slice(document.get().as_bytes());
    }
    body.push(b']');
    Body::new(body)
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
    fn parts_are_arrays_of_the_same_documents_byte_for_byte() {
        let body = b"[ {\"a\" : [1, 2.50] } ,\t3,\"x\" ]";
        let mut documents = (1..).zip(Documents::of(body).map_while(Result::ok));
        let mut part = || array(&together(&mut documents, 2, 100));
        assert_eq!(part().as_bytes(), b"[{\"a\" : [1, 2.50] },3]");
        assert_eq!(part().as_bytes(), b"[\"x\"]");
    }

    #[test]
    fn documents_in_flight_are_bounded_in_number_and_in_bytes() {
        let sizes = |length: usize, count: usize| {
            let document = format!("\"{}\"", "a".repeat(length));
            let body = format!("[{}]", vec![document; count].join(","));
            let mut documents = (1..).zip(Documents::of(body.as_bytes()).map_while(Result::ok));
            let mut sizes = Vec::new();
            loop {
                match together(&mut documents, IN_FLIGHT, BYTES_IN_FLIGHT).len() {
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
