//! Registrations, and the documents that the portal has to refuse: a valid one changed in one place each.

use serde_json::{Value, json};

use super::changes::{Change, Row, rows};
use super::documents::{Documents, irn, number, sample};
use super::{Action, Draft, Terms, enough};
use crate::irn::DocumentType;

/// How many documents are sent a second time.
const DUPLICATES: usize = 6;

pub(super) fn registrations(documents: &Documents) -> Vec<Draft> {
    let all = documents.all();
    all.map(|document| {
        let title = format!("{} {}", document.title, document.number);
        let action = Action::Generate {
            irn: document.irn,
            document: document.json.to_string(),
            is_new: true,
        };
        Draft::success(title, action)
    })
    .collect()
}

pub(super) fn refusals(terms: &Terms, documents: &Documents) -> Vec<Draft> {
    let rows = rows(terms);
    let duplicates: Vec<_> = documents.all().take(DUPLICATES).collect();
    let different = rows.len() + duplicates.len();
    let count = enough(terms.cases, different);
    let drafts = (0..count).map(|at| match duplicates.get(at % different) {
        Some(document) => {
            let title = format!("a document that is registered: {}", document.number);
            let action = Action::Generate {
                irn: document.irn,
                document: document.json.to_string(),
                is_new: false,
            };
            Draft::failure(title, &["2150"], action)
        }
        None => {
            let row = &rows[at % different - duplicates.len()];
            refusal(terms, row, at)
        }
    });
    drafts.collect()
}

fn refusal(terms: &Terms, Row(title, expected, change): &Row, at: usize) -> Draft {
    let at = u32::try_from(at + 1).unwrap_or(u32::MAX);
    let mut number = number(terms, 'F', at);
    let mut document = sample(terms, &number);
    match change {
        Change::Set(pointer, value) => set(&mut document, pointer, Some(value.clone())),
        Change::Remove(pointer) => set(&mut document, pointer, None),
        Change::Number(change) => {
            number = change(&number);
            set(&mut document, "/DocDtls/No", Some(json!(number)));
        }
    }
    let action = Action::Generate {
        irn: irn(terms, DocumentType::Invoice, &number),
        document: document.to_string(),
        is_new: true,
    };
    Draft::failure(*title, expected, action)
}

/// Sets a member at a JSON Pointer, or removes it.
pub(super) fn set(document: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    let Some(parent) = document.pointer_mut(parent).and_then(Value::as_object_mut) else {
        return;
    };
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    };
}
