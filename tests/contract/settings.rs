//! docs/schema/worker.schema.json and credentials.schema.json: what an editor may say of a file is what the worker says.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use irn_worker::config::{self, Environment, Fault, credentials};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ensure_valid, repository, schema, validator};

fn toml_file(path: &str) -> Result<Value> {
    let text = fs::read_to_string(repository(path))?;
    toml::from_str(&text).with_context(|| path.to_owned())
}

#[test]
fn every_shipped_file_fits() -> Result<()> {
    let mut seen = 0;
    for (schema_name, prefix) in [("worker", "worker"), ("credentials", "credentials")] {
        let validator = validator(&schema(schema_name)?)?;
        for folder in ["config", "config/kubernetes"] {
            for entry in fs::read_dir(repository(folder))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name.starts_with(prefix) && name.ends_with(".toml") {
                    let path = format!("{folder}/{name}");
                    ensure_valid(&validator, &toml_file(&path)?, &path)?;
                    seen += 1;
                }
            }
        }
    }
    ensure!(seen >= 5, "{seen}");
    Ok(())
}

/// A key by its path, and the table that has it alone.
fn settings(schema: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
    let Some(properties) = schema["properties"].as_object() else {
        return found.push(path.to_vec());
    };
    for (key, below) in properties {
        let path: Vec<String> = path.iter().chain([key]).cloned().collect();
        settings(below, &path, found);
    }
}

fn nested(path: &[String], value: &Value) -> Value {
    path.iter()
        .rev()
        .fold(value.clone(), |value, key| json!({key: value}))
}

fn values() -> Vec<Value> {
    vec![
        json!(true),
        json!(0),
        json!(1),
        json!(7),
        json!(-1),
        json!(101),
        json!(70_000),
        json!(1.5),
        json!(""),
        json!("text"),
        json!("15s"),
        json!("015s"),
        json!("15"),
        json!("10/s"),
        json!("0/s"),
        json!("10/day"),
        json!("10/week"),
        json!("keep"),
        json!("strict"),
        json!([]),
        json!(["text"]),
        json!(["15s"]),
        json!([7]),
        json!([true]),
        json!({}),
        json!({"a": "text"}),
        json!({"a": 7}),
        json!({"a": "retry"}),
        json!({"a": {}}),
        json!({"a": {"gstins": ["29*"]}}),
        json!({"max_elapsed": 7}),
        json!([{"file": "key.pem", "kid": "A"}]),
        json!([{"file": "key.pem"}]),
        json!({"a": {"value_file": "key"}}),
        json!({"a": {"value": "key", "value_file": "key"}}),
    ]
}

/// What is said of the form of a value, and not of what it names.
fn is_of_the_form(fault: &Fault) -> bool {
    let problem = &fault.problem;
    let is_kind = problem.starts_with("is ") && problem.contains(", not ");
    is_kind
        || ["is empty", "is out of range", "is not a known key"].contains(&problem.as_str())
        || ["choice", "duration", "rate"]
            .iter()
            .any(|what| problem.ends_with(&format!("is not a {what}")))
        || problem.starts_with("is set beside")
}

fn concerns(fault: &Fault, key: &str) -> bool {
    fault
        .key
        .strip_prefix(key)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[test]
fn schema_of_the_configuration_and_the_worker_agree_on_every_key() -> Result<()> {
    let schema = schema("worker")?;
    let validator = validator(&schema)?;
    let mut keys = Vec::new();
    settings(&schema, &[], &mut keys);
    ensure!(keys.len() > 50, "{}", keys.len());
    let folder = TempDir::new()?;
    let path = folder.path().join("worker.toml");
    let (mut taken, mut refused) = (0, 0);
    for key in keys {
        let name = key.join(".");
        for value in values() {
            let table = nested(&key, &value);
            fs::write(&path, toml::to_string(&table)?)?;
            let faults =
                config::load(&path, []).map_or_else(|faults| faults.faults, |_| Vec::new());
            let at_key: Vec<_> = faults
                .iter()
                .filter(|fault| concerns(fault, &name))
                .collect();
            if validator.is_valid(&table) {
                let of_form: Vec<_> = at_key
                    .iter()
                    .filter(|fault| is_of_the_form(fault))
                    .collect();
                ensure!(
                    of_form.is_empty(),
                    "{name} = {value} fits, but: {of_form:?}"
                );
                taken += 1;
            } else {
                ensure!(
                    !at_key.is_empty(),
                    "{name} = {value} is taken, but does not fit"
                );
                refused += 1;
            }
        }
    }
    ensure!(
        taken > 200 && refused > 1000,
        "{taken} taken, {refused} refused"
    );
    Ok(())
}

#[test]
fn schema_and_worker_know_the_same_keys() -> Result<()> {
    let validator = validator(&schema("worker")?)?;
    for table in [
        json!({"broker": {"uri": "amqp://localhost"}}),
        json!({"brokers": {}}),
        json!({"retry": {"immediate": {"min": "1s"}}}),
    ] {
        ensure!(!validator.is_valid(&table), "{table}");
    }
    Ok(())
}

#[test]
fn schema_of_the_credentials_and_the_worker_agree_on_what_an_entry_needs() -> Result<()> {
    let validator = validator(&schema("credentials")?)?;
    let good = json!({
        "client": [{"name": "acme", "client_id": "AAA", "client_secret": "secret"}],
        "taxpayer": [{"gstin": "29AAGCE4783K1Z1", "client": "acme", "username": "API_acme", "password": "pass"}],
    });
    let folder = TempDir::new()?;
    let path = folder.path().join("credentials.toml");
    let is_taken = |table: &Value| -> Result<bool> {
        fs::write(&path, toml::to_string(table)?)?;
        Ok(credentials::load(&path, Environment::Sandbox).is_ok())
    };
    ensure!(is_taken(&good)?);
    ensure_valid(&validator, &good, "good")?;
    for (list, key) in [
        ("client", "name"),
        ("client", "client_id"),
        ("client", "client_secret"),
        ("taxpayer", "gstin"),
        ("taxpayer", "client"),
        ("taxpayer", "username"),
        ("taxpayer", "password"),
    ] {
        // Whether a client needs a pair depends on its route, which another file describes.
        let depends = key.starts_with("client_");
        let absent = (!depends).then_some(None);
        let wrong = [json!(7), json!(""), json!(["a"])].map(Some);
        for value in absent.into_iter().chain(wrong) {
            let mut table = good.clone();
            let entry = table[list][0].as_object_mut().context("no entry")?;
            match value {
                Some(value) => entry.insert(key.to_owned(), value),
                None => entry.remove(key),
            };
            ensure!(!validator.is_valid(&table), "{table}");
            ensure!(!is_taken(&table)?, "{table}");
        }
    }
    for (list, key) in [
        ("client", "secret"),
        ("taxpayer", "client_secret"),
        ("taxpayer", "password_file"),
    ] {
        let mut table = good.clone();
        table[list][0][key] = json!("text");
        ensure!(!validator.is_valid(&table), "{table}");
        ensure!(!is_taken(&table)?, "{table}");
    }
    Ok(())
}
