//! A delivery's properties and headers, read into types.
//!
//! One rule: a value that is there and makes no sense is an error that names it. What was asked for is never guessed.

use std::str::FromStr;

use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::properties::{header, header_text, headers_fit, text, value};
use super::{Body, Job, MAX_ID_CHARS, Operation, PriorOutcome, Properties, Sender, Unreadable};
use crate::gstin::Gstin;

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
            routing_key: lane(fields.operation, routing_key),
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
            portal: header_text(properties.headers().as_ref(), header::PORTAL).map(str::to_owned),
            sender: sender(&properties),
            publisher: None,
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

/// The key under which it returns to its own lane. A job that came by another way (moved by hand, published to the
/// queue itself) has a key that leads nowhere.
fn lane(operation: Operation, routing_key: &str) -> String {
    match Operation::from_routing_key(routing_key) {
        Some(_) => routing_key.to_owned(),
        None => operation.as_str().to_owned(),
    }
}

pub(super) fn unreadable(
    problem: String,
    properties: Properties,
    routing_key: &str,
    body: Body,
) -> Unreadable {
    let headers = properties.headers().as_ref();
    Unreadable {
        problem,
        operation: operation(&properties, routing_key).ok(),
        gstin: parsed(headers, header::GSTIN, "").ok().flatten(),
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        sender: sender(&properties),
        routing_key: routing_key.to_owned(),
        body,
        properties,
    }
}

fn sender(properties: &Properties) -> Sender {
    let headers = properties.headers().as_ref();
    Sender {
        user_id: text(properties.user_id()),
        publisher: header_text(headers, header::PUBLISHER).map(str::to_owned),
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
    if let Some(kind) = given(properties.content_type()) {
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
    if !headers_fit(properties) {
        return Err("the headers take more than 16 KiB".to_owned());
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

/// Some clients fill what is not set with an empty text.
fn given(text: &Option<ShortString>) -> Option<&ShortString> {
    text.as_ref().filter(|text| !text.as_str().is_empty())
}

fn operation(properties: &Properties, routing_key: &str) -> Result<Operation, String> {
    match given(properties.kind()) {
        Some(kind) => Operation::from_type(kind.as_str()).ok_or_else(|| {
            "type is not one this version knows: irn.generate.v1, irn.cancel.v1, irn.get.v1, irn.ewb.v1".to_owned()
        }),
        None => Operation::from_routing_key(routing_key)
            .ok_or_else(|| "no type, and the routing key is none of generate, cancel, get, ewb".to_owned()),
    }
}

pub(super) fn parsed<T: FromStr>(
    headers: Option<&FieldTable>,
    name: &str,
    wanted: &str,
) -> Result<Option<T>, String> {
    match value(headers, name) {
        None => Ok(None),
        Some(_) if header_text(headers, name) == Some("") => Ok(None),
        Some(_) => header_text(headers, name)
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| format!("header {name} is not {wanted}")),
    }
}

pub(super) fn integer(headers: Option<&FieldTable>, name: &str) -> Result<Option<u32>, String> {
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
