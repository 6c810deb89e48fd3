//! Invoices, or requests about registered ones, from files, each as the text it is there.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use super::SubmitError;
use crate::document;
use crate::job::{Body, Operation};
use crate::json::without_mark;

/// One invoice to publish.
pub(super) struct Invoice {
    pub(super) id: String,
    pub(super) correlation_id: String,
    pub(super) body: Body,
}

/// All invoices of all inputs, in order.
pub(super) fn read_inputs(
    inputs: &[PathBuf],
    run: &str,
    operation: Operation,
) -> Result<Vec<Invoice>, SubmitError> {
    let mut invoices = Vec::new();
    for input in inputs {
        for path in files_of(input)? {
            let bytes = read(&path)?;
            let mut add = |body: &RawValue| add_invoice(&mut invoices, body, run, operation);
            add_invoices(&mut add, &path, without_mark(&bytes))?;
        }
    }
    if invoices.is_empty() {
        Err(SubmitError::Nothing)
    } else {
        Ok(invoices)
    }
}

pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> SubmitError {
    let path = path.display().to_string();
    move |error| SubmitError::File { path, error }
}

/// The file itself, or a directory's `.json` and `.ndjson` files by name.
fn files_of(input: &Path) -> Result<Vec<PathBuf>, SubmitError> {
    if !input.is_dir() {
        return Ok(vec![input.to_owned()]);
    }
    let entries = std::fs::read_dir(input).map_err(file_error(input))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(file_error(input))?.path();
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        if path.is_file() && ["json", "ndjson", "jsonl"].contains(&extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, SubmitError> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin()
            .read_to_end(&mut bytes)
            .map_err(file_error(path))?;
    } else {
        bytes = std::fs::read(path).map_err(file_error(path))?;
    }
    Ok(bytes)
}

/// One JSON value after another; an array stands for its elements.
fn add_invoices(
    add: &mut impl FnMut(&RawValue),
    path: &Path,
    text: &[u8],
) -> Result<(), SubmitError> {
    let not_json = |error: serde_json::Error| SubmitError::NotJson {
        path: path.display().to_string(),
        line: error.line(),
        column: error.column(),
    };
    for value in serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>() {
        let value = value.map_err(not_json)?;
        if value.get().starts_with('[') {
            let elements: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(not_json)?;
            elements.into_iter().for_each(&mut *add);
        } else {
            add(value);
        }
    }
    Ok(())
}

fn add_invoice(invoices: &mut Vec<Invoice>, document: &RawValue, run: &str, operation: Operation) {
    let correlation_id = format!("{run}-{}", invoices.len() + 1);
    let id = match (operation, document::read(document.get().as_bytes())) {
        (Operation::Generate, Ok(view)) => view.irn().to_string(),
        // The worker will say what is wrong with it.
        (Operation::Generate, Err(_)) => correlation_id.clone(),
        // There may be many about one registration.
        (Operation::Cancel | Operation::Get | Operation::Ewb, _) => correlation_id.clone(),
    };
    invoices.push(Invoice {
        id,
        correlation_id,
        body: Body::copy_of(document.get().as_bytes()),
    });
}
