//! Message properties and headers: reading single ones, and carrying a job's over when it is published again.
//!
//! One rule: what the broker added on the way is left out, and so is what would act behind the worker's back.

use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::{Obituary, Properties};

/// The headers of contract sections 2 and 4.
pub mod header {
    #![expect(missing_docs, reason = "the names are the contract's")]
    pub const GSTIN: &str = "x-irn-gstin";
    pub const DEADLINE: &str = "x-irn-deadline";
    pub const BATCH_ID: &str = "x-irn-batch-id";
    pub const BATCH_SEQ: &str = "x-irn-batch-seq";
    pub const BATCH_SIZE: &str = "x-irn-batch-size";
    /// In an array that a worker has cut from a longer one: which of that one's documents its first is, from 1.
    pub const BATCH_PART: &str = "x-irn-batch-part";
    pub const TRACEPARENT: &str = "traceparent";
    pub const TRACESTATE: &str = "tracestate";
    pub const ATTEMPT: &str = "x-irn-attempt";
    pub const FIRST_SEEN: &str = "x-irn-first-seen";
    pub const OUTCOME: &str = "x-irn-outcome";
    pub const ERROR: &str = "x-irn-error";
    pub const PORTAL: &str = "x-irn-portal";
    /// Whose job it is, in a message that another user published for it.
    pub const PUBLISHER: &str = "x-irn-publisher";
    pub const REPLAYS: &str = "x-irn-replays";
    /// What a job died of before it was replayed.
    pub const DIED_OF: &str = "x-irn-died-of";
    /// The queue that is told what became of a job that is replayed before others.
    pub const CANARY: &str = "x-irn-canary";
    pub const REASON: &str = "x-irn-reason";
    pub const DOCUMENT: &str = "x-irn-document";
    pub const DEAD_AT: &str = "x-irn-dead-at";
    pub const REPLICA: &str = "x-irn-replica";
    /// The key a dead letter was published with as a job: its own leads to `irn.dead`.
    pub const ROUTING_KEY: &str = "x-irn-routing-key";
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

/// The most a job's headers may take, in bytes. They travel in one frame, to which the worker adds its own: what fills
/// a frame by itself could be read, but never published again.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Headers that tell of a death. In a job they are of an earlier one, from which it was brought back by hand.
pub(super) const OBITUARY: [&str; 5] = [
    header::REASON,
    header::DOCUMENT,
    header::DEAD_AT,
    header::REPLICA,
    header::ROUTING_KEY,
];

/// Headers by which a publisher names further routing keys. Carried on, they would multiply a job on every return
/// from the ladder, and have the worker write into any queue it may write to.
const SENDERS_OWN: [&str; 2] = ["CC", "BCC"];

/// Headers the worker writes when it publishes a job again; all of them are short. A batch's are given it by the worker.
const WORKERS_OWN: [&str; 18] = [
    header::ATTEMPT,
    header::FIRST_SEEN,
    header::OUTCOME,
    header::ERROR,
    header::PORTAL,
    header::PUBLISHER,
    header::REPLAYS,
    header::DIED_OF,
    header::CANARY,
    header::REASON,
    header::DOCUMENT,
    header::DEAD_AT,
    header::REPLICA,
    header::ROUTING_KEY,
    header::BATCH_ID,
    header::BATCH_SEQ,
    header::BATCH_SIZE,
    header::BATCH_PART,
];

/// The longest of those, a batch's id, in bytes; a longer one is not the worker's.
const WORKERS_LONGEST: usize = 512;

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

pub(super) fn text(value: &Option<ShortString>) -> Option<String> {
    value
        .as_ref()
        .map(|value| value.as_str().to_owned())
        .filter(|value| !value.is_empty())
}

pub(super) fn value<'a>(headers: Option<&'a FieldTable>, name: &str) -> Option<&'a AMQPValue> {
    headers
        .and_then(|headers| headers.inner().get(name))
        .filter(|value| !matches!(value, AMQPValue::Void))
}

/// A header's text, whichever of the two string types the client library chose.
pub(super) fn header_text<'a>(headers: Option<&'a FieldTable>, name: &str) -> Option<&'a str> {
    match value(headers, name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        // As some clients write what their language has as bytes.
        AMQPValue::ByteArray(bytes) => std::str::from_utf8(bytes.as_slice()).ok(),
        _ => None,
    }
}

pub(super) fn write_obituary(headers: &mut FieldTable, obituary: &Obituary<'_>) {
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

pub(super) fn returned_headers(properties: &Properties) -> FieldTable {
    let mut returned = FieldTable::default();
    for name in RETURNED {
        if let Some(value) = value(properties.headers().as_ref(), name) {
            set(&mut returned, name, value.clone());
        }
    }
    returned
}

/// Those of the headers whose names are to be kept.
pub(super) fn headers_where(properties: &Properties, is_kept: impl Fn(&str) -> bool) -> FieldTable {
    let mut kept = FieldTable::default();
    for (name, value) in properties
        .headers()
        .as_ref()
        .into_iter()
        .flat_map(|headers| headers.inner())
    {
        if is_kept(name.as_str()) {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept
}

pub(super) fn carried_headers(properties: &Properties) -> FieldTable {
    headers_where(properties, |name| {
        // The portal of an earlier doubt binds nobody once that is settled; a publisher is named anew once it is proven.
        let is_left = BROKERS_OWN.contains(&name)
            || SENDERS_OWN.contains(&name)
            || OBITUARY.contains(&name)
            || name == header::PORTAL
            || name == header::PUBLISHER;
        !is_left
    })
}

/// The properties with no other headers than those of a job's attempts and its death: whatever an ERP put there may tell
/// of the document.
pub fn without_foreign_headers(properties: Properties) -> Properties {
    const OF_A_BATCH: [&str; 4] = [
        header::BATCH_ID,
        header::BATCH_SEQ,
        header::BATCH_SIZE,
        header::BATCH_PART,
    ];
    let kept = headers_where(&properties, |name| {
        let is_of_attempts = WORKERS_OWN.contains(&name) && !OF_A_BATCH.contains(&name);
        is_of_attempts || name == header::GSTIN
    });
    properties.with_headers(kept)
}

/// The properties that travel on. Left out: `expiration`, which would end a job on the ladder behind our back;
/// `user_id`, which the broker checks against the connection that publishes and so would close ours; and `priority`, because
/// what has waited for long enough leaves a rung in order, which RabbitMQ 4 gives up for a message of a high one.
pub(super) fn carried(properties: &Properties, headers: FieldTable) -> Properties {
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

/// Whether the ERP's headers leave room for the worker's own in one frame. What broker and worker added since does not
/// count, or a job that was read once might not be read again.
pub(super) fn headers_fit(properties: &Properties) -> bool {
    let added = |name: &str, value: &AMQPValue| {
        BROKERS_OWN.contains(&name)
            || SENDERS_OWN.contains(&name)
            || WORKERS_OWN.contains(&name) && value_bytes(value) <= WORKERS_LONGEST
    };
    let headers = properties.headers().as_ref();
    let entries = headers.into_iter().flat_map(|headers| headers.inner());
    let bytes: usize = entries
        .filter(|(name, value)| !added(name.as_str(), value))
        .map(|(name, value)| entry_bytes(name.as_str(), value))
        .sum();
    bytes <= MAX_HEADER_BYTES
}

fn entry_bytes(name: &str, value: &AMQPValue) -> usize {
    2 + name.len() + value_bytes(value)
}

fn table_bytes(table: &FieldTable) -> usize {
    let entries = table.inner().iter();
    entries
        .map(|(name, value)| entry_bytes(name.as_str(), value))
        .sum()
}

/// About what a value takes on the wire (AMQP 0-9-1, section 4.2.1), eight bytes where it is fixed.
fn value_bytes(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldArray(values) => {
            4 + values.as_slice().iter().map(value_bytes).sum::<usize>()
        }
        AMQPValue::FieldTable(table) => 4 + table_bytes(table),
        _ => 8,
    }
}
