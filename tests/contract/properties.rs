//! docs/schema/job.properties.v1.schema.json: what it lets through can be read, and what it names is what is read.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use irn_worker::job::{Operation, Properties, decode, header, long, set, short};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::{schema, validator};

/// The same properties as a client library would send them.
fn properties(described: &Value) -> Result<Properties> {
    let mut headers = FieldTable::default();
    for (name, value) in described["headers"].as_object().into_iter().flatten() {
        set(&mut headers, name, header_value(value));
    }
    let mut properties = Properties::default().with_headers(headers);
    for (name, value) in described.as_object().context("no properties")? {
        let text = short(value.as_str().unwrap_or_default());
        properties = match name.as_str() {
            "content_type" => properties.with_content_type(text),
            "type" => properties.with_type(text),
            "message_id" => properties.with_message_id(text),
            "correlation_id" => properties.with_correlation_id(text),
            "reply_to" => properties.with_reply_to(text),
            "user_id" => properties.with_user_id(text),
            "timestamp" => properties.with_timestamp(value.as_u64().unwrap_or_default()),
            "delivery_mode" => properties.with_delivery_mode(2),
            "headers" => properties,
            other => anyhow::bail!("{other} is no property"),
        };
    }
    Ok(properties)
}

fn header_value(value: &Value) -> AMQPValue {
    match value {
        Value::String(text) => long(text),
        Value::Number(number) => AMQPValue::LongLongInt(number.as_i64().unwrap_or_default()),
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Null | Value::Array(_) | Value::Object(_) => AMQPValue::Void,
    }
}

fn is_read(described: &Value) -> Result<bool> {
    let properties = properties(described)?;
    Ok(decode(properties, "generate", false, b"{}".to_vec()).is_ok())
}

#[test]
fn what_the_schema_lets_through_can_be_read() -> Result<()> {
    let schema = schema("job.properties.v1")?;
    let validator = validator(&schema)?;
    let texts = [
        "",
        "text",
        "29AAGCE4783K1Z1",
        "29aagce4783k1z1",
        "2025-09-05T18:00:00+05:30",
        "2025-09-05T12:30:00Z",
        "2025-09-05",
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "irn.generate.v1",
        "irn.generate.v2",
        "irn.ewb.v1",
    ];
    let long_id = "x".repeat(129);
    let mut values: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    values.extend([json!(long_id), json!(7), json!(true)]);
    let (mut fit, mut unfit) = (0, 0);
    let of_headers = schema["$defs"]["headers"]["properties"].as_object();
    let of_headers = of_headers.context("no headers")?.keys();
    let of_properties = [
        "content_type",
        "type",
        "message_id",
        "correlation_id",
        "reply_to",
    ]
    .map(str::to_owned);
    for (name, is_header) in of_headers
        .map(|name| (name.clone(), true))
        .chain(of_properties.map(|name| (name, false)))
    {
        for value in &values {
            if !is_header && !value.is_string() {
                continue;
            }
            let described = if is_header {
                json!({"headers": {&name: value}})
            } else if value == "" {
                continue;
            } else {
                json!({&name: value})
            };
            if validator.is_valid(&described) {
                ensure!(is_read(&described)?, "{described} fits, and cannot be read");
                fit += 1;
            } else {
                unfit += 1;
            }
        }
    }
    ensure!(fit > 50 && unfit > 50, "{fit} {unfit}");
    Ok(())
}

#[test]
fn what_cannot_be_read_does_not_fit() -> Result<()> {
    let validator = validator(&schema("job.properties.v1")?)?;
    for described in [
        json!({"content_type": "text/plain"}),
        json!({"type": "irn.generate.v2"}),
        json!({"message_id": "x".repeat(129)}),
        json!({"headers": {"x-irn-gstin": "29aagce4783k1z1"}}),
        json!({"headers": {"x-irn-gstin": 29}}),
        json!({"headers": {"x-irn-deadline": "tomorrow"}}),
    ] {
        ensure!(!is_read(&described)?, "{described}");
        ensure!(!validator.is_valid(&described), "{described}");
    }
    Ok(())
}

#[test]
fn types_and_headers_are_those_of_the_code() -> Result<()> {
    let schema = schema("job.properties.v1")?;
    let types: BTreeSet<_> = Operation::ALL
        .iter()
        .map(|operation| format!("irn.{}.v1", operation.as_str()))
        .collect();
    let stated = schema["properties"]["type"]["enum"]
        .as_array()
        .context("no types")?;
    let stated: BTreeSet<_> = stated
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    assert_eq!(stated, types);
    let headers = schema["$defs"]["headers"]["properties"]
        .as_object()
        .context("no headers")?;
    let headers: BTreeSet<_> = headers.keys().map(String::as_str).collect();
    let of_jobs = BTreeSet::from([
        header::GSTIN,
        header::DEADLINE,
        header::BATCH_ID,
        header::BATCH_SEQ,
        header::BATCH_SIZE,
        header::TRACEPARENT,
        header::TRACESTATE,
    ]);
    assert_eq!(headers, of_jobs);
    Ok(())
}
