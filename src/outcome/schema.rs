//! `docs/schema/result.v1.schema.json`: the result message, made of its types.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{ResultMessage, Status};
use crate::published::{NAMESPACE, is_the_schema};

const NAME: &str = "result.v1.schema.json";

/// The members that a result of this status has a value in. Exhaustive, so that no status is published without.
fn carries(status: Status) -> &'static [&'static str] {
    match status {
        Status::Signed => &[
            "gstin",
            "document",
            "irn",
            "ack_no",
            "irn_status",
            "signed_invoice",
            "signed_qr_code",
            "signature",
        ],
        Status::Found => &["gstin", "irn", "irn_status"],
        Status::Cancelled => &["gstin", "irn", "irn_status"],
        Status::EwbIssued => &["gstin", "irn", "eway_bill"],
        Status::Partial | Status::NotFound => &["gstin", "irn"],
        Status::Conflict | Status::Rejected | Status::Expired | Status::Failed => &[],
    }
}

/// Whether a result of this status says what is wrong: always, never, or as it happens.
fn has_errors(status: Status) -> Option<bool> {
    match status {
        Status::Signed
        | Status::Cancelled
        | Status::Found
        | Status::NotFound
        | Status::EwbIssued
        | Status::Expired => Some(false),
        Status::Partial | Status::Conflict | Status::Rejected | Status::Failed => Some(true),
    }
}

/// What holds for a result of this status beyond the types of its members.
fn rule(status: Status) -> Value {
    let mut properties: serde_json::Map<String, Value> = carries(status)
        .iter()
        .map(|member| ((*member).to_owned(), json!({"not": {"type": "null"}})))
        .collect();
    match has_errors(status) {
        Some(true) => properties.insert("errors".to_owned(), json!({"minItems": 1})),
        Some(false) => properties.insert("errors".to_owned(), json!({"maxItems": 0})),
        None => None,
    };
    if status == Status::Failed {
        // What the portal has said comes after it.
        let own = json!([{"properties": {"source": {"const": "worker"}}}]);
        properties.insert(
            "errors".to_owned(),
            json!({"minItems": 1, "prefixItems": own}),
        );
    }
    json!({
        "if": {"properties": {"status": {"const": status.as_str()}}},
        "then": {"properties": properties},
    })
}

fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator();
    let mut schema = generator
        .into_root_schema_for::<ResultMessage<'_>>()
        .to_value();
    schema["$id"] = json!(format!("{NAMESPACE}{NAME}"));
    schema["description"] = json!(
        "Every member is always there, and null where it does not apply; but `cancel_date` only where a job has cancelled. Later workers may add members to version 1: ignore those you do not know."
    );
    schema["title"] = json!("irn.result.v1: what became of a job");
    // Its words are those of the jobs, above this module; "unknown" is what could not be read.
    schema["properties"]["operation"]["enum"] =
        json!(["generate", "cancel", "get", "ewb", "unknown"]);
    schema["allOf"] = Status::ALL.into_iter().map(rule).collect();
    schema["examples"] = examples();
    schema
}

/// Tokens are shortened.
fn examples() -> Value {
    let document = json!({"type": "INV", "number": "SI/25-26/00417", "date": "05/09/2025"});
    let irn = "fae5ffe886954f6ac49fc7984f5524d7dda619175aa78bf6481966fe65d48908";
    let bare = |status: &str| {
        json!({
            "version": 1, "job_id": "erp-4711", "operation": "generate", "status": status,
            "gstin": "29AAGCE4783K1Z1", "document": document, "irn": null, "ack_no": null, "ack_date": null,
            "irn_status": null, "signed_invoice": null, "signed_qr_code": null, "signature": null,
            "recovered": false, "eway_bill": null, "info": [], "errors": [], "attempts": 1,
            "dead_lettered": false, "timing_ms": {"queued": 12, "irp": 310, "total": 340},
        })
    };
    let mut signed = bare("signed");
    for (member, value) in [
        ("irn", json!(irn)),
        ("ack_no", json!("112510000000001")),
        ("ack_date", json!("2025-09-05T12:30:00+05:30")),
        ("irn_status", json!("ACT")),
        (
            "signed_invoice",
            json!("eyJhbGciOiJSUzI1NiJ9.eyJkYXRhIjoie30ifQ.c2lnbmF0dXJl"),
        ),
        (
            "signed_qr_code",
            json!("eyJhbGciOiJSUzI1NiJ9.eyJkYXRhIjoie30ifQ.c2lnbmF0dXJl"),
        ),
        ("signature", json!("verified")),
        (
            "info",
            json!([{"code": "EWBPPD", "detail": "Pin-Pin calc distance: 842KM"}]),
        ),
    ] {
        signed[member] = value;
    }
    let mut rejected = bare("rejected");
    rejected["errors"] = json!([{
        "source": "preflight", "code": "2189", "path": "/ValDtls/TotInvVal",
        "message": "taxable value, taxes, charges, discount and rounding make 21851, but TotInvVal is 31851",
    }]);
    let mut failed = bare("failed");
    failed["attempts"] = json!(12);
    failed["dead_lettered"] = json!(true);
    failed["errors"] = json!([{
        "source": "worker", "code": "RETRIES_EXHAUSTED",
        "message": "gave up after 12 attempts, the last one ended with unconfirmed; it is not known whether the portal \
                    registered the document; a replay looks first",
    }]);
    json!([signed, rejected, failed])
}

#[test]
fn docs_schema_of_results_is_made_of_their_types_and_its_examples_fit() {
    let schema = schema();
    is_the_schema(NAME, &schema);
    let validator = jsonschema::validator_for(&schema).unwrap();
    for example in schema["examples"].as_array().unwrap() {
        assert!(validator.is_valid(example), "{example:#}");
    }
}

#[test]
fn docs_schema_refuses_results_that_lack_what_their_status_carries() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let examples = examples();
    for (member, value) in [
        ("irn", Value::Null),
        ("signed_qr_code", Value::Null),
        ("status", json!("done")),
        ("status", json!("failed")),
        ("ack_no", json!(112_510_000_000_001_u64)),
        ("irn", json!("fae5")),
        (
            "errors",
            json!([{"source": "irp", "code": "2150", "message": ""}]),
        ),
        ("version", json!(2)),
    ] {
        let mut result = examples[0].clone();
        result[member] = value;
        assert!(!validator.is_valid(&result), "{member}: {result:#}");
    }
}
