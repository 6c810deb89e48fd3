//! A job as the broker carried it: AMQP properties and headers ⇄ types.
//!
//! One rule: whatever an ERP sent travels on unchanged when a job is published again; only the worker's own
//! `x-irn-*` headers change, and what the broker added on the way is left out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use zeroize::Zeroizing;

use crate::gstin::Gstin;
use crate::irn::hex;

/// The longest `message_id` the contract takes, in characters.
const MAX_ID_CHARS: usize = 128;

/// AMQP basic properties, as lapin models them.
pub type Properties = lapin::BasicProperties;

/// The headers of contract sections 2 and 4.
pub mod header {
    #![expect(missing_docs, reason = "the names are the contract's")]
    pub const GSTIN: &str = "x-irn-gstin";
    pub const DEADLINE: &str = "x-irn-deadline";
    pub const BATCH_ID: &str = "x-irn-batch-id";
    pub const BATCH_SEQ: &str = "x-irn-batch-seq";
    pub const BATCH_SIZE: &str = "x-irn-batch-size";
    pub const TRACEPARENT: &str = "traceparent";
    pub const TRACESTATE: &str = "tracestate";
    pub const ATTEMPT: &str = "x-irn-attempt";
    pub const FIRST_SEEN: &str = "x-irn-first-seen";
    pub const OUTCOME: &str = "x-irn-outcome";
    pub const ERROR: &str = "x-irn-error";
    pub const REPLAYS: &str = "x-irn-replays";
    pub const REASON: &str = "x-irn-reason";
    pub const DOCUMENT: &str = "x-irn-document";
    pub const DEAD_AT: &str = "x-irn-dead-at";
    pub const REPLICA: &str = "x-irn-replica";
    pub const STATUS: &str = "x-irn-status";
    pub const UNDELIVERABLE_TO: &str = "x-irn-undeliverable-to";
}

/// Headers of the job that a result repeats unchanged.
const RETURNED: [&str; 5] = [
    header::BATCH_ID,
    header::BATCH_SEQ,
    header::BATCH_SIZE,
    header::TRACEPARENT,
    header::TRACESTATE,
];

/// Headers that only the broker writes. Carried on, they would make its dead-lettering see cycles where there are
/// none (RabbitMQ, "Dead Letter Exchanges", section on cycles).
const BROKERS_OWN: [&str; 8] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-delivery-count",
];

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

    fn from_type(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| text == format!("irn.{}.v1", operation.as_str()))
    }

    fn from_routing_key(key: &str) -> Option<Self> {
        let key = key.strip_prefix("urgent.").unwrap_or(key);
        Self::ALL
            .into_iter()
            .find(|operation| operation.as_str() == key)
    }
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

/// A message body: somebody's document. Cannot be printed, and is overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(Zeroizing<Vec<u8>>);

impl Body {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes as they came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
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
    /// The ERP's own id, if it is readable.
    pub message_id: Option<String>,
    /// Returned unchanged with the result.
    pub correlation_id: Option<String>,
    /// Where a result can go, if that is readable.
    pub reply_to: Option<String>,
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
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    /// `x-irn-attempt`
    pub attempt: u32,
    /// `x-irn-outcome`
    pub outcome: PriorOutcome,
    /// `x-irn-first-seen`
    pub first_seen: Timestamp,
    /// `x-irn-error`: a code, never text that may quote the invoice.
    pub error: Option<&'a str>,
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

/// Reads a delivery's properties and headers.
pub fn decode(
    properties: Properties,
    routing_key: &str,
    redelivered: bool,
    body: Vec<u8>,
) -> Result<Job, Box<Unreadable>> {
    match fields(&properties, routing_key) {
        Ok(fields) => Ok(Job {
            operation: fields.operation,
            routing_key: routing_key.to_owned(),
            message_id: text(properties.message_id()),
            correlation_id: text(properties.correlation_id()),
            reply_to: text(properties.reply_to()),
            published_at: *properties.timestamp(),
            gstin: fields.gstin,
            deadline: fields.deadline,
            attempt: fields.attempt,
            first_seen: fields.first_seen,
            outcome: fields.outcome,
            last_error: header_text(properties.headers().as_ref(), header::ERROR)
                .map(str::to_owned),
            redelivered,
            body: Body::new(body),
            properties,
        }),
        Err(problem) => Err(Box::new(unreadable(
            problem,
            properties,
            routing_key,
            Body::new(body),
        ))),
    }
}

fn unreadable(
    problem: String,
    properties: Properties,
    routing_key: &str,
    body: Body,
) -> Unreadable {
    Unreadable {
        problem,
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        routing_key: routing_key.to_owned(),
        body,
        properties,
    }
}

struct Fields {
    operation: Operation,
    gstin: Option<Gstin>,
    deadline: Option<Timestamp>,
    attempt: u32,
    first_seen: Option<Timestamp>,
    outcome: PriorOutcome,
}

fn fields(properties: &Properties, routing_key: &str) -> Result<Fields, String> {
    if let Some(kind) = properties.content_type() {
        let media_type = kind.as_str().split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err("content_type is neither absent nor application/json".to_owned());
        }
    }
    if properties
        .message_id()
        .as_ref()
        .is_some_and(|id| id.as_str().chars().count() > MAX_ID_CHARS)
    {
        return Err(format!(
            "message_id is longer than {MAX_ID_CHARS} characters"
        ));
    }
    let headers = properties.headers().as_ref();
    Ok(Fields {
        operation: operation(properties, routing_key)?,
        gstin: parsed(headers, header::GSTIN, "a GSTIN")?,
        deadline: parsed(
            headers,
            header::DEADLINE,
            "an RFC 3339 time such as 2026-01-31T18:00:00+05:30",
        )?,
        attempt: integer(headers, header::ATTEMPT)?.unwrap_or(1).max(1),
        first_seen: parsed(headers, header::FIRST_SEEN, "an RFC 3339 time")?,
        outcome: parsed(
            headers,
            header::OUTCOME,
            "one of not_sent, unknown, refused",
        )?
        .unwrap_or(PriorOutcome::NotSent),
    })
}

fn operation(properties: &Properties, routing_key: &str) -> Result<Operation, String> {
    match properties.kind() {
        Some(kind) => Operation::from_type(kind.as_str()).ok_or_else(|| {
            "type is not one this version knows: irn.generate.v1, irn.cancel.v1, irn.get.v1, irn.ewb.v1".to_owned()
        }),
        None => Operation::from_routing_key(routing_key)
            .ok_or_else(|| "no type, and the routing key is none of generate, cancel, get, ewb".to_owned()),
    }
}

fn text(value: &Option<ShortString>) -> Option<String> {
    value
        .as_ref()
        .map(|value| value.as_str().to_owned())
        .filter(|value| !value.is_empty())
}

fn value<'a>(headers: Option<&'a FieldTable>, name: &str) -> Option<&'a AMQPValue> {
    headers
        .and_then(|headers| headers.inner().get(name))
        .filter(|value| !matches!(value, AMQPValue::Void))
}

/// A header's text, whichever of the two string types the client library chose.
pub fn header_text<'a>(headers: Option<&'a FieldTable>, name: &str) -> Option<&'a str> {
    match value(headers, name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn parsed<T: FromStr>(
    headers: Option<&FieldTable>,
    name: &str,
    wanted: &str,
) -> Result<Option<T>, String> {
    match value(headers, name) {
        None => Ok(None),
        Some(_) => header_text(headers, name)
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| format!("header {name} is not {wanted}")),
    }
}

fn integer(headers: Option<&FieldTable>, name: &str) -> Result<Option<u32>, String> {
    let Some(value) = value(headers, name) else {
        return Ok(None);
    };
    let number = match value {
        AMQPValue::ShortShortInt(number) => i128::from(*number),
        AMQPValue::ShortShortUInt(number) => i128::from(*number),
        AMQPValue::ShortInt(number) => i128::from(*number),
        AMQPValue::ShortUInt(number) => i128::from(*number),
        AMQPValue::LongInt(number) => i128::from(*number),
        AMQPValue::LongUInt(number) => i128::from(*number),
        AMQPValue::LongLongInt(number) => i128::from(*number),
        _ => -1,
    };
    u32::try_from(number)
        .map(Some)
        .map_err(|_| format!("header {name} is not a whole number"))
}

impl Job {
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

    /// Properties under which it is published again.
    pub fn again(&self, again: &Again<'_>) -> Properties {
        let mut headers = carried_headers(&self.properties);
        set(
            &mut headers,
            header::ATTEMPT,
            AMQPValue::LongLongInt(i64::from(again.attempt)),
        );
        set(&mut headers, header::OUTCOME, long(again.outcome.as_str()));
        set(
            &mut headers,
            header::FIRST_SEEN,
            long(&again.first_seen.to_string()),
        );
        if let Some(error) = again.error {
            set(&mut headers, header::ERROR, long(error));
        }
        carried(&self.properties, headers)
    }

    /// Properties under which it becomes a dead letter.
    pub fn dead(&self, again: &Again<'_>, obituary: &Obituary<'_>) -> Properties {
        let properties = self.again(again);
        let mut headers = properties.headers().clone().unwrap_or_default();
        write_obituary(&mut headers, obituary);
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
        let mut headers = self.again(again).headers().clone().unwrap_or_default();
        set(&mut headers, header::BATCH_ID, long(batch_id));
        set(
            &mut headers,
            header::BATCH_SEQ,
            AMQPValue::LongLongInt(i64::try_from(sequence).unwrap_or(i64::MAX)),
        );
        set(
            &mut headers,
            header::BATCH_SIZE,
            AMQPValue::LongLongInt(i64::try_from(size).unwrap_or(i64::MAX)),
        );
        let properties = carried(&self.properties, headers);
        match &self.message_id {
            Some(id) => properties.with_message_id(short(&format!("{id}/{sequence}"))),
            None => properties,
        }
    }

    /// The batch's id, if the ERP gave one.
    pub fn batch_id(&self) -> Option<&str> {
        header_text(self.properties.headers().as_ref(), header::BATCH_ID)
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
        returned_headers(&self.properties)
    }

    /// Properties under which it is kept as poison.
    pub fn poison(&self, obituary: &Obituary<'_>) -> Properties {
        let mut headers = carried_headers(&self.properties);
        write_obituary(&mut headers, obituary);
        carried(&self.properties, headers)
    }
}

fn digest_id(body: &Body) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    format!("sha256:{}", hex(digest.as_ref()))
}

fn write_obituary(headers: &mut FieldTable, obituary: &Obituary<'_>) {
    set(headers, header::REASON, long(obituary.reason));
    set(
        headers,
        header::DEAD_AT,
        long(&obituary.dead_at.to_string()),
    );
    set(headers, header::REPLICA, long(obituary.replica));
    if let Some(gstin) = obituary.gstin {
        set(headers, header::GSTIN, long(gstin.as_str()));
    }
    if let Some(document) = obituary.document {
        set(headers, header::DOCUMENT, long(document));
    }
}

fn returned_headers(properties: &Properties) -> FieldTable {
    let mut returned = FieldTable::default();
    for name in RETURNED {
        if let Some(value) = value(properties.headers().as_ref(), name) {
            set(&mut returned, name, value.clone());
        }
    }
    returned
}

fn carried_headers(properties: &Properties) -> FieldTable {
    let mut carried = FieldTable::default();
    for (name, value) in properties
        .headers()
        .as_ref()
        .into_iter()
        .flat_map(|headers| headers.inner())
    {
        if !BROKERS_OWN.contains(&name.as_str()) {
            carried.insert(name.clone(), value.clone());
        }
    }
    carried
}

/// The properties that travel on. Left out: `expiration`, which would end a job on the ladder behind our back, and
/// `user_id`, which the broker checks against the connection that publishes and so would close ours.
fn carried(properties: &Properties, headers: FieldTable) -> Properties {
    let mut carried = Properties::default()
        .with_delivery_mode(2)
        .with_headers(headers);
    if let Some(value) = properties.content_type() {
        carried = carried.with_content_type(value.clone());
    }
    if let Some(value) = properties.content_encoding() {
        carried = carried.with_content_encoding(value.clone());
    }
    if let Some(value) = properties.correlation_id() {
        carried = carried.with_correlation_id(value.clone());
    }
    if let Some(value) = properties.reply_to() {
        carried = carried.with_reply_to(value.clone());
    }
    if let Some(value) = properties.message_id() {
        carried = carried.with_message_id(value.clone());
    }
    if let Some(value) = properties.timestamp() {
        carried = carried.with_timestamp(*value);
    }
    if let Some(value) = properties.kind() {
        carried = carried.with_type(value.clone());
    }
    if let Some(value) = properties.app_id() {
        carried = carried.with_app_id(value.clone());
    }
    carried
}

/// A long-string header value.
pub fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.as_bytes().into())
}

/// A short string; what does not fit its 255 bytes is cut at a character, since lapin panics on more.
pub fn short(text: &str) -> ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::from(&text[..end])
}

/// Sets a header.
pub fn set(headers: &mut FieldTable, name: &str, value: AMQPValue) {
    headers.insert(short(name), value);
}
