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

/// A part of a TOML text that means the same by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'t> {
    text: &'t str,
    /// How many lines of the file come before it.
    after_line: usize,
}

/// The whole of a text.
pub(super) fn whole(text: &str) -> Part<'_> {
    Part {
        text,
        after_line: 0,
    }
}

/// Cuts a text before each `[[name]]` of these lists, so that a long list need never be held whole. Where a part would
/// mean something else by itself, or is not TOML, there are none: the text must be read whole, and its faults told.
pub(super) fn parts<'t>(
    path: &Arc<Path>,
    text: &'t str,
    lists: &[&str],
) -> Option<impl Iterator<Item = Part<'t>> + use<'t>> {
    // One that was cut within a text or a list is not TOML.
    let stands_alone = |part, is_allowed: &dyn Fn(&str, &Value) -> bool| {
        let (table, faults) = parse(path, part);
        let mut keys = table.iter();
        faults.is_empty() && keys.all(|(key, item)| is_allowed(key, &item.value))
    };
    let is_entry =
        |key: &str, value: &Value| lists.contains(&key) && matches!(value, Value::List(_));
    let mut parts = cut(text, lists);
    let is_sound = parts
        .next()
        .is_none_or(|head| stands_alone(head, &|key, _| !lists.contains(&key)))
        && parts.all(|entry| stands_alone(entry, &is_entry));
    is_sound.then(|| cut(text, lists))
}

/// What stands before the first entry, perhaps nothing, then the entries.
fn cut<'t>(text: &'t str, lists: &[&str]) -> impl Iterator<Item = Part<'t>> + use<'t> {
    let names: Vec<String> = lists.iter().map(|list| format!("[[{list}]]")).collect();
    let (mut rest, mut own_lines) = (Some(whole(text)), 0);
    std::iter::from_fn(move || {
        let part = rest.take()?;
        let begins = |line: &str| names.iter().any(|name| line.trim_start().starts_with(name));
        let (mut bytes, mut lines) = (0, 0);
        for line in part.text.split_inclusive('\n') {
            if lines >= own_lines && begins(line) {
                rest = Some(Part {
                    text: &part.text[bytes..],
                    after_line: part.after_line + lines,
                });
                break;
            }
            (bytes, lines) = (bytes + line.len(), lines + 1);
        }
        // The line that names an entry is its own.
        own_lines = 1;
        Some(Part {
            text: &part.text[..bytes],
            ..part
        })
    })
}

/// Reads a TOML text. With faults, the table holds what could be read all the same.
pub(super) fn parse(path: &Arc<Path>, part: Part<'_>) -> (Table, Vec<Fault>) {
    let Part { text, after_line } = part;
    let line_starts: Vec<usize> = std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect();
    let locate = |span: Range<usize>| Source::File {
        path: Arc::clone(path),
        line: Some(after_line + line_starts.partition_point(|&start| start <= span.start)),
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
        // An empty variable counts as not set, because that is what composed environments set.
        .filter(|(name, text)| name.starts_with(VARIABLE_PREFIX) && !text.is_empty())
        .map(|(name, text)| (name, Zeroizing::new(text)))
        .collect();
    ours.sort_by(|a, b| a.0.cmp(&b.0));
    ours.into_iter()
        .filter_map(|(name, text)| set(root, name, text).err())
        .collect()
}

fn set(root: &mut Table, name: String, text: Zeroizing<String>) -> Result<(), Fault> {
    let path = keys(&name[VARIABLE_PREFIX.len()..]);
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
    table.insert(spelt(table, &last), Item { source, value });
    Ok(())
}

/// The keys that a variable's name names. Written large throughout, as is usual, they are meant small; in mixed letters, as
/// users of the broker and codes may be, they are meant as they stand.
fn keys(name: &str) -> String {
    let key = |key: &str| match key.bytes().any(|byte| byte.is_ascii_lowercase()) {
        true => key.to_owned(),
        false => key.to_lowercase(),
    };
    let keys: Vec<String> = name.split("__").map(key).collect();
    keys.join("__")
}

/// As the table spells the key, if it has it in other letters.
fn spelt(table: &Table, key: &str) -> String {
    let other = || table.keys().find(|known| known.eq_ignore_ascii_case(key));
    match table.contains_key(key) {
        true => key.to_owned(),
        false => other().map_or(key, String::as_str).to_owned(),
    }
}

/// The table at `key`, made if the file has none; `None` if a shorter variable put something else there.
fn descend<'t>(table: &'t mut Table, key: &str, source: &Source) -> Option<&'t mut Table> {
    let item = table.entry(spelt(table, key)).or_insert_with(|| Item {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LISTS: [&str; 2] = ["client", "taxpayer"];

    /// What a table says, each value with its path and its line.
    fn said(table: &Table, path: &str, counts: &mut BTreeMap<String, usize>) -> Vec<String> {
        let mut all = Vec::new();
        for (key, item) in table {
            let path = format!("{path}/{key}");
            match &item.value {
                Value::Table(table) => all.extend(said(table, &path, counts)),
                Value::List(items) => {
                    for item in items {
                        let count = counts.entry(path.clone()).or_default();
                        *count += 1;
                        let path = format!("{path}/{count}");
                        match &item.value {
                            Value::Table(table) => all.extend(said(table, &path, counts)),
                            other => all.push(format!("{path} {}", other.kind())),
                        }
                    }
                }
                other => {
                    let text = other.text().unwrap_or(other.kind());
                    all.push(format!("{path} {text} {}", item.source));
                }
            }
        }
        all
    }

    fn file() -> Arc<Path> {
        Arc::from(Path::new("f"))
    }

    fn read<'t>(parts: impl Iterator<Item = Part<'t>>) -> Vec<String> {
        let mut counts = BTreeMap::new();
        let mut all = Vec::new();
        for part in parts {
            let (table, faults) = parse(&file(), part);
            assert!(faults.is_empty(), "{faults:?}");
            all.extend(said(&table, "", &mut counts));
        }
        all.sort();
        all
    }

    #[test]
    fn long_list_is_read_entry_by_entry() {
        let text =
            "# two\n[[client]]\nname = \"a\"\n\n  [[taxpayer]] # one\ngstin = 1\n[[taxpayer]]\n";
        let parts: Vec<Part<'_>> = parts(&file(), text, &LISTS).expect("it is sound").collect();
        let after: Vec<usize> = parts.iter().map(|part| part.after_line).collect();
        assert_eq!(after, [0, 1, 4, 6]);
        assert_eq!(parts[3].text, "[[taxpayer]]\n");
    }

    #[test]
    fn what_means_something_else_in_parts_is_not_cut() {
        for text in [
            "a = \"\"\"\n[[client]]\n\"\"\"\n",
            "a = [\n[[client]],\n]\n",
            "client = [{}]\n[[client]]\n",
            "[client]\n[[client]]\n",
            "[[client]]\n[client]\n",
            "[[client]]\nname = \n[[client]]\n",
            "[[client]]\n[other]\n",
        ] {
            assert!(parts(&file(), text, &LISTS).is_none(), "{text}");
        }
    }

    proptest! {
        /// Lines in any order: either they are not cut, or the parts say what the whole does, at the same places.
        #[test]
        fn parts_say_what_the_whole_says(lines in proptest::collection::vec(prop::sample::select(vec![
            "[[client]]", "[[taxpayer]]", " [[taxpayer]] # x", "[[ client ]]", "[client]", "[taxpayer.sub]",
            "[[taxpayer.list]]", "[other]", "client = []", "a = 1", "b = \"x\"", "c.d = true", "e = \"\"\"", "\"\"\"",
            "f = [", "]", "[[\"client\"]]", "# [[client]]", "", "[[clients]]",
        ]), 0..9)) {
            let text = lines.join("\n");
            if let Some(parts) = parts(&file(), &text, &LISTS) {
                prop_assert_eq!(read(parts), read(std::iter::once(whole(&text))));
            }
        }
    }
}
