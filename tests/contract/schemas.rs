//! docs/schema/: its examples fit, what is really sent fits, and the form of documents is the one pre-flight judges by.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use irn_worker::config::{self, Environment, ValidateConfig};
use irn_worker::preflight::Preflight;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{ensure_valid, read_json, repository, schema, validator};

fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(repository("docs/schema"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let name = name.strip_suffix(".schema.json");
        names.push(name.context("not a schema's name")?.to_owned());
    }
    names.sort();
    Ok(names)
}

#[test]
fn every_schema_is_one_and_its_examples_fit() -> Result<()> {
    let names = names()?;
    let expected = [
        "credentials",
        "job.cancel.v1",
        "job.ewb.v1",
        "job.generate.v1",
        "job.get.v1",
        "job.properties.v1",
        "result.properties.v1",
        "result.v1",
        "worker",
    ];
    assert_eq!(names, expected);
    for name in &names {
        let schema = schema(name)?;
        let meta = jsonschema::meta::validate(&schema);
        ensure!(meta.is_ok(), "{name}: {meta:?}");
        let id = format!("https://irn-worker.invalid/schema/{name}.schema.json");
        assert_eq!(schema["$id"], id);
        let validator = validator(&schema)?;
        let examples = schema["examples"].as_array().map_or(&[][..], Vec::as_slice);
        let is_a_sample = name == "worker" || name == "credentials";
        ensure!(is_a_sample == examples.is_empty(), "{name} has no example");
        for example in examples {
            ensure_valid(&validator, example, name)?;
        }
    }
    Ok(())
}

fn samples() -> Result<Vec<(String, Value)>> {
    let mut samples = Vec::new();
    for entry in fs::read_dir(repository("tests/vectors/invoices"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let document = read_json(&format!("tests/vectors/invoices/{name}"))?;
        samples.push((name, document));
    }
    ensure!(samples.len() >= 4, "{samples:?}");
    Ok(samples)
}

#[test]
fn every_sample_document_fits_and_so_does_a_batch_of_them() -> Result<()> {
    let validator = validator(&schema("job.generate.v1")?)?;
    let samples = samples()?;
    for (name, document) in &samples {
        ensure_valid(&validator, document, name)?;
    }
    let batch: Vec<_> = samples.into_iter().map(|(_, document)| document).collect();
    ensure_valid(&validator, &json!(batch), "a batch")?;
    ensure!(
        !validator.is_valid(&json!([])),
        "a batch has at least one document"
    );
    Ok(())
}

#[test]
fn result_that_the_readme_shows_fits() -> Result<()> {
    let readme = fs::read_to_string(repository("README.md"))?;
    let blocks = readme.split("```json\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split_once("```"));
    let results: Vec<Value> = blocks
        .filter_map(|(block, _)| serde_json::from_str(block).ok())
        .filter(|block: &Value| block["job_id"].is_string())
        .collect();
    ensure!(!results.is_empty(), "the README shows no result");
    let validator = validator(&schema("result.v1")?)?;
    for result in &results {
        ensure_valid(&validator, result, "README.md")?;
    }
    Ok(())
}

/// Pointers to every member of a document; of a list, only those of the first entry.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (format!("{at}/{name}"), value))
            .collect(),
        Value::Array(entries) => entries
            .first()
            .map(|first| (format!("{at}/0"), first))
            .into_iter()
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (pointer, value) in below {
        pointers(value, &pointer, found);
        found.push(pointer);
    }
}

fn without(document: &Value, pointer: &str) -> Option<Value> {
    let mut document = document.clone();
    let (parent, name) = pointer.rsplit_once('/')?;
    document
        .pointer_mut(parent)?
        .as_object_mut()?
        .remove(name)?;
    Some(document)
}

#[test]
fn schema_of_documents_refuses_what_preflight_refuses_for_its_form_and_nothing_else() -> Result<()>
{
    let validator = validator(&schema("job.generate.v1")?)?;
    let settings = ValidateConfig {
        preflight: config::Preflight::Schema,
        rules_file: None,
    };
    let preflight = Preflight::new(&settings, Environment::Sandbox)?;
    let (mut judged, mut refused) = (0, 0);
    for (name, document) in samples()? {
        let mut members = Vec::new();
        pointers(&document, "", &mut members);
        for pointer in members {
            let mut changed: Vec<Value> = without(&document, &pointer).into_iter().collect();
            for value in [
                json!(null),
                json!(true),
                json!(7),
                json!(-1.5),
                json!(1e20),
                json!(""),
                json!("x"),
                json!(
                    "a text that is longer than anything but an address may be, and that not by much, but enough for it to be refused"
                ),
                json!([]),
                json!({}),
            ] {
                let mut document = document.clone();
                *document.pointer_mut(&pointer).context("no member")? = value;
                changed.push(document);
            }
            for document in changed {
                let body = document.to_string();
                let report = preflight.check(body.as_bytes(), Timestamp::now(), None);
                let value = document.pointer(&pointer);
                assert_eq!(
                    !validator.is_valid(&document),
                    report.refuses(),
                    "{name}{pointer} = {value:?}: {:?}",
                    report.findings
                );
                judged += 1;
                refused += usize::from(report.refuses());
            }
        }
    }
    ensure!(
        judged > 1000 && refused > 500 && refused < judged,
        "{refused} of {judged}"
    );
    Ok(())
}
