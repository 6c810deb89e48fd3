//! A job as the broker carried it: AMQP properties and headers ⇄ types.
//!
//! One rule: whatever an ERP sent travels on unchanged when a job is published again; only the worker's own
//! `x-irn-*` headers change, and what the broker added on the way is left out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable};

use crate::gstin::Gstin;
use crate::irn::hex;
use crate::json::without_mark;
use crate::outcome::Status;
use crate::wiped::Wiped;

mod decode;
mod letter;
mod properties;
mod receipt;
#[cfg(test)]
mod tests;

pub use decode::decode;
use decode::{integer, unreadable};
pub use letter::DeadLetter;
use properties::{
    carried, carried_headers, header_text, headers_fit, headers_where, returned_headers,
    write_obituary,
};
pub use properties::{header, long, set, short, without_foreign_headers};
pub use receipt::{CANARY_QUEUES, Receipt};

/// The longest `message_id` the contract takes, in characters.
const MAX_ID_CHARS: usize = 128;

/// The prefix of the routing keys that lead to the urgent queue.
const URGENT: &str = "urgent.";

/// AMQP basic properties, as lapin models them.
pub type Properties = lapin::BasicProperties;

/// What a job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Register a document.
    Generate,
    /// Cancel a registration.
    Cancel,
    /// Fetch a registration.
    Get,
    /// Make an e-way bill for a registration.
    Ewb,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 4] = [Self::Generate, Self::Cancel, Self::Get, Self::Ewb];

    /// The routing key, and the word in results and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Cancel => "cancel",
            Self::Get => "get",
            Self::Ewb => "ewb",
        }
    }

    /// The routing key of its jobs, in its lane.
    pub fn routing_key(self, class: Class) -> String {
        match class {
            Class::Urgent => format!("{URGENT}{}", self.as_str()),
            Class::Bulk => self.as_str().to_owned(),
        }
    }

    /// The `type` of its jobs.
    pub fn kind(self) -> String {
        format!("irn.{}.v1", self.as_str())
    }

    /// Whether the portal changes something for it, so that it matters what became of a request.
    pub fn changes_something(self) -> bool {
        match self {
            Self::Generate | Self::Cancel | Self::Ewb => true,
            Self::Get => false,
        }
    }

    /// How it ends when all is well.
    pub fn success(self) -> Status {
        match self {
            Self::Generate => Status::Signed,
            Self::Cancel => Status::Cancelled,
            Self::Get => Status::Found,
            Self::Ewb => Status::EwbIssued,
        }
    }

    /// Whether it may end so.
    pub fn ends_as(self, status: Status) -> bool {
        match status {
            Status::Signed | Status::Cancelled | Status::Found | Status::EwbIssued => {
                status == self.success()
            }
            Status::Partial => matches!(self, Self::Generate | Self::Get),
            Status::NotFound => self != Self::Generate,
            Status::Conflict | Status::Rejected | Status::Expired | Status::Failed => true,
        }
    }

    /// What is known where the portal has done nothing for it.
    pub fn undone(self) -> &'static str {
        match self {
            Self::Generate => "the document is not registered",
            Self::Cancel => "nothing was cancelled",
            Self::Get => "nothing was changed",
            Self::Ewb => "no e-way bill was issued",
        }
    }

    /// What is known where a request has left and nobody knows what became of it.
    pub fn unknown(self) -> &'static str {
        match self {
            Self::Generate => "it is not known whether the portal registered the document",
            Self::Cancel => "it is not known whether the portal cancelled the registration",
            Self::Get => self.undone(),
            Self::Ewb => "it is not known whether the portal issued the e-way bill",
        }
    }

    fn from_type(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| text == operation.kind())
    }

    fn from_routing_key(key: &str) -> Option<Self> {
        let key = key.strip_prefix(URGENT).unwrap_or(key);
        Self::ALL
            .into_iter()
            .find(|operation| operation.as_str() == key)
    }
}

/// Who is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Published with the prefix `urgent.`: before the others, but not instead of them.
    Urgent,
    /// All others.
    Bulk,
}

/// What is known of an earlier attempt at this job (`x-irn-outcome`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriorOutcome {
    /// Nothing was sent: a job handed back, or a first delivery.
    NotSent,
    /// A request may have reached the portal: look before sending.
    Unknown,
    /// The portal refused it.
    Refused,
}

impl PriorOutcome {
    /// The header's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        }
    }
}

impl FromStr for PriorOutcome {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::NotSent, Self::Unknown, Self::Refused]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or(())
    }
}

/// A message body: somebody's document. Cannot be printed; shared by its clones, and overwritten when the last is
/// dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Body(Bytes);

impl Body {
    /// Takes the bytes over.
    pub fn new(bytes: impl Into<Wiped<Vec<u8>>>) -> Self {
        Self(Bytes::from_owner(bytes.into()))
    }

    /// A copy of bytes that are somebody else's.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }

    /// The document or request, byte for byte. A byte order mark before it is none of it.
    pub fn as_bytes(&self) -> &[u8] {
        without_mark(&self.0)
    }

    /// The message's bytes as they came, for whoever passes it on.
    pub fn as_it_came(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

/// Who a message is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The broker's user that published it: the broker has checked it.
    pub user_id: Option<String>,
    /// Whose job that user says it is; to be believed of those only who publish the jobs of others.
    pub publisher: Option<String>,
}

/// Everything about a job but its body's meaning.
#[derive(Clone)]
pub struct Job {
    /// What it asks for.
    pub operation: Operation,
    /// The key it was published with; it returns to its own lane under it.
    pub routing_key: String,
    /// The ERP's own id, if it gave one.
    pub message_id: Option<String>,
    /// Returned unchanged with the result.
    pub correlation_id: Option<String>,
    /// The ERP's reply queue.
    pub reply_to: Option<String>,
    /// When the ERP published it, seconds since 1970, as it says.
    pub published_at: Option<u64>,
    /// Whose credentials to use when that is not the seller.
    pub gstin: Option<Gstin>,
    /// After this moment it is not submitted any more.
    pub deadline: Option<Timestamp>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When a worker first saw it.
    pub first_seen: Option<Timestamp>,
    /// What is known of an earlier attempt.
    pub outcome: PriorOutcome,
    /// The code an earlier attempt ended with.
    pub last_error: Option<String>,
    /// The portal that an earlier submit left for.
    pub portal: Option<String>,
    /// Who it is from, as the message says.
    pub sender: Sender,
    /// Whose job it is, once that is proven; it travels on in `x-irn-publisher`.
    pub publisher: Option<String>,
    /// The broker handed it out before and does not know what became of it.
    pub redelivered: bool,
    /// The document or request.
    pub body: Body,
    properties: Properties,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("operation", &self.operation)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// A delivery nobody can read, with what can still be said of it.
#[derive(Clone)]
pub struct Unreadable {
    /// What is wrong, naming the property or header, never quoting the body.
    pub problem: String,
    /// What it asks for, if that is readable.
    pub operation: Option<Operation>,
    /// Whose credentials it names, if that is readable.
    pub gstin: Option<Gstin>,
    /// The ERP's own id, if it is readable.
    pub message_id: Option<String>,
    /// Returned unchanged with the result.
    pub correlation_id: Option<String>,
    /// Where a result can go, if that is readable.
    pub reply_to: Option<String>,
    /// Who it is from, as the message says.
    pub sender: Sender,
    /// The key it was published with.
    pub routing_key: String,
    /// Raw bytes, kept.
    pub body: Body,
    properties: Properties,
}

impl fmt::Debug for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unreadable({})", self.problem)
    }
}

/// What a worker adds when it publishes a job again.
#[derive(Clone, Debug)]
pub struct Again<'a> {
    /// `x-irn-attempt`
    pub attempt: u32,
    /// `x-irn-outcome`
    pub outcome: PriorOutcome,
    /// `x-irn-first-seen`; none for a document of a batch that nobody has had in hand by itself.
    pub first_seen: Option<Timestamp>,
    /// `x-irn-error`: a code, never text that may quote the invoice.
    pub error: Option<&'a str>,
    /// `x-irn-portal`: the one portal that may have registered the document, where it is in doubt and that is known.
    pub portal: Option<Arc<str>>,
}

/// A part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPart {
    /// Which of the batch's documents its first is, from 1.
    pub first: usize,
    /// How many documents the batch has.
    pub of: usize,
}

impl BatchPart {
    /// Whether so many documents from its first on are in the batch.
    pub fn has_room_for(self, documents: usize) -> bool {
        self.first >= 1 && self.first.saturating_add(documents) <= self.of.saturating_add(1)
    }
}

/// What a dead letter or poison delivery carries besides.
#[derive(Clone, Copy, Debug)]
pub struct Obituary<'a> {
    /// `x-irn-reason`
    pub reason: &'a str,
    /// `x-irn-gstin`
    pub gstin: Option<&'a Gstin>,
    /// `x-irn-document`
    pub document: Option<&'a str>,
    /// `x-irn-dead-at`
    pub dead_at: Timestamp,
    /// `x-irn-replica`
    pub replica: &'a str,
}

impl Job {
    /// Whether it goes before others, as its routing key says.
    pub fn class(&self) -> Class {
        if self.routing_key.starts_with(URGENT) {
            Class::Urgent
        } else {
            Class::Bulk
        }
    }

    /// The id results carry: the ERP's, else the IRN, else the digest of the body.
    pub fn id(&self, irn: Option<&str>) -> String {
        self.message_id
            .clone()
            .or_else(|| irn.map(str::to_owned))
            .unwrap_or_else(|| digest_id(&self.body))
    }

    /// Headers a result of this job repeats.
    pub fn returned_headers(&self) -> FieldTable {
        returned_headers(&self.properties)
    }

    /// `traceparent` or `tracestate`, as it came.
    pub fn trace_header(&self, name: &str) -> Option<&str> {
        header_text(self.properties.headers().as_ref(), name)
    }

    /// Who waits for a receipt of it: a canary's queue, and which of its canaries this is.
    pub fn canary(&self) -> Option<&str> {
        receipt::canary(&self.properties)
    }

    /// How long it has waited for this attempt: since the ERP published it or, failing that, since a worker first
    /// saw it.
    pub fn queued(&self, now: Timestamp) -> Duration {
        let published = self
            .published_at
            .and_then(|seconds| i64::try_from(seconds).ok());
        let since = published
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .or(self.first_seen);
        since
            .and_then(|since| Duration::try_from(now.duration_since(since)).ok())
            .unwrap_or_default()
    }

    /// Its priority, if it has one: for the queues of jobs only ([`Job::again`] leaves it out).
    pub fn priority(&self) -> Option<u8> {
        *self.properties.priority()
    }

    /// Properties under which it is published again.
    pub fn again(&self, again: &Again<'_>) -> Properties {
        let mut headers = carried_headers(&self.properties);
        set(
            &mut headers,
            header::ATTEMPT,
            AMQPValue::LongLongInt(i64::from(again.attempt)),
        );
        set(&mut headers, header::OUTCOME, long(again.outcome.as_str()));
        if let Some(first_seen) = again.first_seen {
            set(
                &mut headers,
                header::FIRST_SEEN,
                long(&first_seen.to_string()),
            );
        }
        if let Some(error) = again.error {
            set(&mut headers, header::ERROR, long(error));
        }
        if let Some(portal) = &again.portal {
            set(&mut headers, header::PORTAL, long(portal));
        }
        if let Some(publisher) = &self.publisher {
            set(&mut headers, header::PUBLISHER, long(publisher));
        }
        carried(&self.properties, headers)
    }

    /// Properties under which it becomes a dead letter.
    pub fn dead(&self, again: &Again<'_>, obituary: &Obituary<'_>) -> Properties {
        let properties = self.again(again);
        let mut headers = properties.headers().clone().unwrap_or_default();
        write_obituary(&mut headers, obituary);
        set(&mut headers, header::ROUTING_KEY, long(&self.routing_key));
        properties.with_headers(headers)
    }

    /// Properties of one document of a batch, each a job of its own.
    pub fn batch_member(
        &self,
        batch_id: &str,
        sequence: usize,
        size: usize,
        again: &Again<'_>,
    ) -> Properties {
        let of_job = self.again(again);
        // What became of the batch is not what became of its documents.
        let is_the_batchs = |name: &str| {
            name == header::BATCH_PART || name == header::ERROR && again.error.is_none()
        };
        let mut headers = headers_where(&of_job, |name| !is_the_batchs(name));
        set(&mut headers, header::BATCH_ID, long(batch_id));
        set(&mut headers, header::BATCH_SEQ, count(sequence));
        set(&mut headers, header::BATCH_SIZE, count(size));
        let properties = carried(&self.properties, headers);
        match &self.message_id {
            Some(id) => properties.with_message_id(short(&member_id(id, sequence))),
            None => properties,
        }
    }

    /// Properties of a part of a batch, which is a batch under the same ids: its documents are numbered as in the whole.
    pub fn batch_part(&self, batch_id: &str, part: BatchPart, again: &Again<'_>) -> Properties {
        let properties = self.again(again);
        let mut headers = properties.headers().clone().unwrap_or_default();
        set(&mut headers, header::BATCH_ID, long(batch_id));
        set(&mut headers, header::BATCH_PART, count(part.first));
        set(&mut headers, header::BATCH_SIZE, count(part.of));
        properties.with_headers(headers)
    }

    /// Which part of a batch it is, if a worker has cut it from one.
    pub fn part_of_batch(&self) -> Option<BatchPart> {
        let number = |name| {
            let number = integer(self.properties.headers().as_ref(), name).ok()??;
            usize::try_from(number).ok()
        };
        let first = number(header::BATCH_PART)?;
        let of = number(header::BATCH_SIZE)?;
        Some(BatchPart { first, of })
    }

    /// The batch's id, if the ERP gave one.
    pub fn batch_id(&self) -> Option<&str> {
        let id = header_text(self.properties.headers().as_ref(), header::BATCH_ID);
        id.filter(|id| !id.is_empty())
    }

    /// Gives the delivery up as unreadable after all: its body is not what its type says.
    pub fn into_unreadable(self, problem: String) -> Unreadable {
        unreadable(problem, self.properties, &self.routing_key, self.body)
    }
}

impl Unreadable {
    /// The id a result carries.
    pub fn id(&self) -> String {
        self.message_id
            .clone()
            .unwrap_or_else(|| digest_id(&self.body))
    }

    /// Headers a result repeats.
    pub fn returned_headers(&self) -> FieldTable {
        if headers_fit(&self.properties) {
            returned_headers(&self.properties)
        } else {
            FieldTable::default()
        }
    }

    /// See [`Job::canary`].
    pub fn canary(&self) -> Option<&str> {
        receipt::canary(&self.properties)
    }

    /// Properties under which it is kept as poison; `publisher` is the one that is proven.
    pub fn poison(&self, obituary: &Obituary<'_>, publisher: Option<&str>) -> Properties {
        // Headers that do not fit a frame together with ours cannot be kept.
        let mut headers = if headers_fit(&self.properties) {
            carried_headers(&self.properties)
        } else {
            FieldTable::default()
        };
        write_obituary(&mut headers, obituary);
        set(&mut headers, header::ROUTING_KEY, long(&self.routing_key));
        if let Some(publisher) = publisher {
            set(&mut headers, header::PUBLISHER, long(publisher));
        }
        carried(&self.properties, headers)
    }
}

fn count(number: usize) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX))
}

fn digest_id(body: &Body) -> String {
    format!("sha256:{}", sha256(body.as_it_came()))
}

/// A batch member's id: the batch's and its place in it, or a digest of both where that would be longer than an id
/// may be.
fn member_id(batch: &str, sequence: usize) -> String {
    let id = format!("{batch}/{sequence}");
    let fits = id.chars().count() <= MAX_ID_CHARS && id.len() <= 255;
    if fits {
        id
    } else {
        format!("sha256:{}", sha256(id.as_bytes()))
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}
