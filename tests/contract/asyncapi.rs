//! docs/asyncapi.yaml: every reference leads somewhere, every example fits, and its queues and keys are those that are
//! declared.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use irn_worker::broker::Topology;
use irn_worker::config;
use irn_worker::job::{Operation, header};
use serde_json::{Map, Value};

use crate::{ensure_valid, read_json, repository, validator};

fn document() -> Result<Value> {
    let text = fs::read_to_string(repository("docs/asyncapi.yaml"))?;
    Ok(serde_norway::from_str(&text)?)
}

/// What a reference leads to: within the document, or in a file beside it.
fn referred(document: &Value, reference: &str) -> Result<Value> {
    let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
    let root = if file.is_empty() {
        document.clone()
    } else {
        read_json(&format!("docs/{file}"))?
    };
    let found = root.pointer(pointer);
    found
        .cloned()
        .with_context(|| format!("{reference} leads nowhere"))
}

/// The value, or what it refers to.
fn resolved(document: &Value, value: &Value) -> Result<Value> {
    if let Some(reference) = value["$ref"].as_str() {
        return resolved(document, &referred(document, reference)?);
    }
    let mut value = value.clone();
    for part in value
        .get_mut("allOf")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        *part = resolved(document, part)?;
    }
    Ok(value)
}

fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(entries) => entries.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn members<'v>(value: &'v Value, pointer: &str) -> Result<&'v Map<String, Value>> {
    let found = value.pointer(pointer).and_then(Value::as_object);
    found.with_context(|| format!("no object at {pointer}"))
}

#[test]
fn every_reference_leads_somewhere() -> Result<()> {
    let document = document()?;
    assert_eq!(document["asyncapi"], "3.0.0");
    let mut found = Vec::new();
    references(&document, &mut found);
    ensure!(found.len() > 40, "{}", found.len());
    for reference in found {
        referred(&document, reference)?;
    }
    Ok(())
}

#[test]
fn only_a_job_whose_body_names_its_seller_may_do_without_the_header() -> Result<()> {
    let document = document()?;
    let headers = &document["components"]["messages"]["cancel"]["headers"];
    let headers = validator(&resolved(&document, headers)?)?;
    assert!(headers.is_valid(&serde_json::json!({"x-irn-gstin": "29AAGCE4783K1Z1"})));
    assert!(!headers.is_valid(&serde_json::json!({"x-irn-gstin": "29"})));
    assert!(!headers.is_valid(&serde_json::json!({})));
    Ok(())
}

#[test]
fn every_example_of_a_message_fits_its_schemas() -> Result<()> {
    let document = document()?;
    let mut examples = 0;
    for (name, message) in members(&document, "/components/messages")? {
        let mut headers = message.get("headers").cloned();
        for message_trait in message["traits"].as_array().into_iter().flatten() {
            let message_trait = resolved(&document, message_trait)?;
            headers = headers.or_else(|| message_trait.get("headers").cloned());
        }
        for example in message["examples"].as_array().into_iter().flatten() {
            let headers = headers
                .as_ref()
                .with_context(|| format!("{name} has no headers"))?;
            let of_headers = validator(&resolved(&document, headers)?)?;
            ensure_valid(&of_headers, &example["headers"], name)?;
            if let Some(payload) = message.get("payload") {
                let of_payload = validator(&resolved(&document, payload)?)?;
                ensure_valid(&of_payload, &example["payload"], name)?;
            }
            examples += 1;
        }
    }
    ensure!(examples >= 8, "{examples}");
    Ok(())
}

fn topology() -> Result<Value> {
    let path = repository("config/worker.toml");
    let config = config::load_broker_side(&path, [])?.config;
    Ok(Topology::of(&config.replies, &config.retry, &config.dead_letter).definitions("/"))
}

fn texts(entries: &Value, member: &str) -> BTreeSet<String> {
    let entries = entries.as_array().map_or(&[][..], Vec::as_slice);
    let texts = entries.iter().filter_map(|entry| entry[member].as_str());
    texts.map(str::to_owned).collect()
}

#[test]
fn channels_are_the_keys_and_queues_that_the_worker_declares() -> Result<()> {
    let (document, topology) = (document()?, topology()?);
    let lanes = document.pointer("/components/parameters/lane/enum");
    let lanes: Vec<_> = lanes
        .and_then(Value::as_array)
        .context("no lanes")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(lanes, ["", "urgent."]);
    let queues = texts(&topology["queues"], "name");
    let (mut keys, mut seen_queues) = (BTreeSet::new(), BTreeSet::new());
    for (name, channel) in members(&document, "/channels")? {
        let Some(address) = channel["address"].as_str() else {
            assert_eq!(name, "replies");
            continue;
        };
        let bindings = resolved(&document, &channel["bindings"])?;
        let binding = &bindings["amqp"];
        if binding["is"] == "routingKey" {
            let exchange = &binding["exchange"];
            let declared = topology["exchanges"].as_array().context("no exchanges")?;
            let declared = declared
                .iter()
                .find(|declared| declared["name"] == exchange["name"]);
            let declared = declared.context("no such exchange")?;
            assert_eq!(declared["type"], exchange["type"]);
            assert_eq!(declared["durable"], exchange["durable"]);
            keys.extend(lanes.iter().map(|lane| address.replace("{lane}", lane)));
        } else {
            assert_eq!(binding["queue"]["name"], address);
            ensure!(queues.contains(address), "{address} is not declared");
            seen_queues.insert(address.to_owned());
        }
    }
    let bindings = topology["bindings"].as_array().context("no bindings")?;
    let of_jobs = bindings
        .iter()
        .filter(|binding| binding["source"] == "irn.jobs");
    let of_jobs: BTreeSet<_> = of_jobs
        .filter_map(|binding| binding["routing_key"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(keys, of_jobs);
    assert_eq!(
        seen_queues,
        ["irn.dead", "irn.poison", "irn.results"]
            .map(str::to_owned)
            .into()
    );
    Ok(())
}

#[test]
fn messages_and_headers_have_the_names_of_the_code() -> Result<()> {
    let document = document()?;
    let messages = members(&document, "/components/messages")?;
    for operation in Operation::ALL {
        let message = &messages[operation.as_str()];
        assert_eq!(message["name"], format!("irn.{}.v1", operation.as_str()));
        let schema = format!("schema/job.{}.v1.schema.json", operation.as_str());
        assert_eq!(message["payload"]["$ref"], schema);
    }
    let headers = members(
        &document,
        "/components/schemas/deadLetterHeaders/properties",
    )?;
    let headers: BTreeSet<_> = headers.keys().map(String::as_str).collect();
    let of_letters = [
        header::REASON,
        header::ERROR,
        header::GSTIN,
        header::DOCUMENT,
        header::DEAD_AT,
        header::REPLICA,
        header::ROUTING_KEY,
        header::ATTEMPT,
        header::FIRST_SEEN,
        header::OUTCOME,
        header::PORTAL,
        header::PUBLISHER,
        header::REPLAYS,
        header::DIED_OF,
    ];
    assert_eq!(headers, of_letters.into());
    Ok(())
}
