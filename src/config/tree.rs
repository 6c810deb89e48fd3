//! Settings before they have a type: what stands in a TOML file, overlaid with environment variables.
//!
//! The rule: every value remembers where it was set. Text is wiped when dropped, because any of it may be a secret.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::fault::{Fault, Source};

/// What the name of an overriding variable begins with; `__` then stands for the dot of a key.
pub const VARIABLE_PREFIX: &str = "IRN_WORKER__";

pub(super) type Table = BTreeMap<String, Item>;

/// A value and where it was set.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) source: Source,
    pub(super) value: Value,
}

#[derive(Clone)]
pub(super) enum Value {
    Text(Zeroizing<String>),
    /// Of an environment variable: plain text for a key that wants text, else TOML.
    Variable(Zeroizing<String>),
    Integer(i64),
    Boolean(bool),
    List(Vec<Item>),
    Table(Table),
    /// A float or a date, or an integer beyond 64 bits: no key wants one.
    Other(&'static str),
}

impl Value {
    /// What it is, to complete "is …".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Variable(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Variable(text) => Some(text),
            Self::Integer(_)
            | Self::Boolean(_)
            | Self::List(_)
            | Self::Table(_)
            | Self::Other(_) => None,
        }
    }
}

impl Item {
    /// The same with a variable's text read as TOML, for a key that wants something else than text.
    ///
    /// # Errors
    /// What is wrong with the text, without quoting it.
    pub(super) fn decoded(&self) -> Result<Self, String> {
        let Value::Variable(text) = &self.value else {
            return Ok(self.clone());
        };
        let value = DeValue::parse(text.trim())
            .map_err(|e| format!("cannot be read as a TOML value: {}", e.message()))?;
        Ok(item(value, &|_| self.source.clone()))
    }
}

/// Reads a TOML text. With faults, the table holds what could be read all the same.
pub(super) fn parse(path: &Arc<Path>, text: &str) -> (Table, Vec<Fault>) {
    let line_starts: Vec<usize> = std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect();
    let locate = |span: Range<usize>| Source::File {
        path: Arc::clone(path),
        line: Some(line_starts.partition_point(|&start| start <= span.start)),
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    let faults = errors
        .iter()
        .map(|error| Fault {
            source: locate(error.span().unwrap_or_default()),
            key: String::new(),
            problem: format!("is not TOML: {}", error.message()),
            remedy: "correct the line; texts stand in double quotes".to_owned(),
        })
        .collect();
    (table(document.into_inner(), &locate), faults)
}

fn table(table: DeTable<'_>, locate: &dyn Fn(Range<usize>) -> Source) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            // The key's line, not the value's: that of a `[section]` has no other, and a list may be long.
            let source = locate(key.span());
            let value = item(value, locate).value;
            (key.into_inner().into_owned(), Item { source, value })
        })
        .collect()
}

fn item(value: Spanned<DeValue<'_>>, locate: &dyn Fn(Range<usize>) -> Source) -> Item {
    let source = locate(value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(Zeroizing::new(text.into_owned())),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or(Value::Other("a number beyond 64 bits"), Value::Integer),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(items) => Value::List(items.into_iter().map(|i| item(i, locate)).collect()),
        DeValue::Table(entries) => Value::Table(table(entries, locate)),
    };
    Item { source, value }
}

/// Lays the variables that begin with [`VARIABLE_PREFIX`] over what the file says, shorter names first, so that
/// `IRN_WORKER__RETRY__IMMEDIATE__MAX_ELAPSED` refines `IRN_WORKER__RETRY__IMMEDIATE`.
pub(super) fn overlay(
    root: &mut Table,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<Fault> {
    let mut ours: Vec<(String, Zeroizing<String>)> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
        .map(|(name, text)| (name, Zeroizing::new(text)))
        .collect();
    ours.sort_by(|a, b| a.0.cmp(&b.0));
    ours.into_iter()
        .filter_map(|(name, text)| set(root, name, text).err())
        .collect()
}

fn set(root: &mut Table, name: String, text: Zeroizing<String>) -> Result<(), Fault> {
    let path = name[VARIABLE_PREFIX.len()..].to_lowercase();
    let fault = |problem: &str| Fault {
        source: Source::Variable(name.clone()),
        key: path.replace("__", "."),
        problem: problem.to_owned(),
        remedy: format!(
            "write {VARIABLE_PREFIX}SECTION__KEY, for example {VARIABLE_PREFIX}BROKER__URL"
        ),
    };
    let mut parents: Vec<&str> = path.split("__").collect();
    if parents.iter().any(|part| part.is_empty()) {
        return Err(fault("names no key"));
    }
    let last = parents.pop().unwrap_or_default().to_owned();
    let source = Source::Variable(name.clone());
    let mut table = root;
    for parent in parents {
        table = descend(table, parent, &source).ok_or_else(|| {
            fault("is set beside a variable for its whole section that is no table")
        })?;
    }
    let value = Value::Variable(text);
    table.insert(last, Item { source, value });
    Ok(())
}

/// The table at `key`, made if the file has none; `None` if a shorter variable put something else there.
fn descend<'t>(table: &'t mut Table, key: &str, source: &Source) -> Option<&'t mut Table> {
    let item = table.entry(key.to_owned()).or_insert_with(|| Item {
        source: source.clone(),
        value: Value::Table(Table::new()),
    });
    if matches!(item.value, Value::Variable(_)) {
        *item = item.decoded().ok()?;
    }
    match &mut item.value {
        Value::Table(table) => Some(table),
        Value::Text(_)
        | Value::Variable(_)
        | Value::Integer(_)
        | Value::Boolean(_)
        | Value::List(_)
        | Value::Other(_) => None,
    }
}
