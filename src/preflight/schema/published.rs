//! `docs/schema/job.generate.v1.schema.json`: the form as others may use it, with any validator of JSON Schema.
//!
//! One rule: it is the form that pre-flight judges by, in the canonical spelling. A `null` counts as absent there, which
//! a schema can only say member by member.

use serde_json::{Map, Value, json};

use super::INV_01;
use crate::published::{NAMESPACE, is_the_schema};

const NAME: &str = "job.generate.v1.schema.json";

/// The most documents of a batch.
const MAX_BATCH: usize = 10_000;

/// Lets every member be `null` that may be absent.
fn with_nulls(schema: &mut Value) {
    if let Some(members) = schema.as_object_mut() {
        members.values_mut().for_each(with_nulls);
    }
    let required = schema["required"].clone();
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, member) in properties {
        let is_required = required
            .as_array()
            .is_some_and(|required| required.iter().any(|known| known == name));
        if !is_required {
            *member = json!({"anyOf": [member.take(), {"type": "null"}]});
        }
    }
}

fn schema() -> Value {
    let mut invoice: Map<String, Value> = serde_json::from_str(INV_01).unwrap();
    let dialect = invoice.remove("$schema").unwrap();
    invoice.remove("$id");
    invoice.remove("$comment");
    let definitions = invoice.remove("$defs").unwrap();
    let mut invoice = Value::Object(invoice);
    with_nulls(&mut invoice);
    let mut definitions = definitions;
    definitions["invoice"] = invoice;
    json!({
        "$schema": dialect,
        "$id": format!("{NAMESPACE}{NAME}"),
        "title": "irn.generate.v1: the body of a job that registers a document, or of a batch of them",
        "description": "INV-01, version 1.1, exactly as the portal is to receive it; at most 2 MB. The portal takes the names of members in any case, and so does the worker; here they stand in the canonical one. What lies beyond the form (sums, dates, codes that exist) is in docs/preflight.md.",
        "anyOf": [
            {"$ref": "#/$defs/invoice"},
            {"type": "array", "minItems": 1, "maxItems": MAX_BATCH, "items": {"$ref": "#/$defs/invoice"}},
        ],
        "$defs": definitions,
        "examples": [example()],
    })
}

fn example() -> Value {
    let sample = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/invoices/b2b-interstate.json"
    );
    serde_json::from_str(&std::fs::read_to_string(sample).unwrap()).unwrap()
}

#[test]
fn docs_schema_of_documents_is_the_form_that_preflight_judges_by() {
    is_the_schema(NAME, &schema());
}
