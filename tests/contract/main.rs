//! The contract as files: what `docs/` promises to other programs is what the worker does.

mod asyncapi;
mod explain;
mod properties;
mod requests;
mod schemas;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use jsonschema::Validator;
use serde_json::Value;

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read_json(path: &str) -> Result<Value> {
    let text = fs::read_to_string(repository(path)).with_context(|| path.to_owned())?;
    serde_json::from_str(&text).with_context(|| path.to_owned())
}

/// A schema of docs/schema/.
fn schema(name: &str) -> Result<Value> {
    read_json(&format!("docs/schema/{name}.schema.json"))
}

/// A validator that looks at formats too, as those of integrators do.
fn validator(schema: &Value) -> Result<Validator> {
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .map_err(|error| anyhow::anyhow!("not a schema: {error}"))
}

/// Fails with what is wrong, and where.
fn ensure_valid(validator: &Validator, value: &Value, what: &str) -> Result<()> {
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path().as_str()))
        .collect();
    ensure!(errors.is_empty(), "{what}: {errors:#?}");
    Ok(())
}
