//! Takes settings out of a table by key and notes every fault on the way.
//!
//! The rule: a fault never ends the reading; a stand-in takes the place of what is wrong. What no one asked for is
//! an unknown key.

use std::path::{Path, PathBuf};

use super::credentials::Secret;
use super::fault::Source;
use super::files;
use super::findings::{Findings, Unknown};
#[cfg(test)]
use super::schema::Wanted;
use super::setting::{ReadableFile, Setting, not};
use super::tree::{Item, Table, Value};

/// A table whose keys are being taken.
pub(super) struct Section<'f> {
    findings: &'f Findings,
    /// The dotted name with a dot after it, as faults name it; empty for the whole file.
    prefix: String,
    /// The same without the names of list entries.
    generic: String,
    /// Where the table is, for what is missing in it.
    source: Source,
    /// Where relative paths of secret files start.
    base: PathBuf,
    table: Table,
}

impl<'f> Section<'f> {
    /// Reads a whole file's table. Relative paths of secret files start at `base`.
    pub(super) fn read_root<T>(
        findings: &'f Findings,
        source: Source,
        base: &Path,
        table: Table,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let root = Self {
            findings,
            prefix: String::new(),
            generic: String::new(),
            source,
            base: base.to_owned(),
            table,
        };
        root.complete(read)
    }

    /// Runs `read`; what it left is unknown.
    fn complete<T>(mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let value = read(&mut self);
        let unknown = std::mem::take(&mut self.table)
            .into_iter()
            .map(|(key, item)| Unknown {
                source: item.source,
                key: format!("{}{key}", self.prefix),
                generic: format!("{}{key}", self.generic),
            });
        self.findings.unknown(unknown);
        value
    }

    /// Where this table is.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The key as faults name it.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Names a list's entry by what it is about, in place of its position.
    pub(super) fn rename(&mut self, name: &str) {
        let list = self.generic.trim_end_matches('.');
        self.prefix = format!("{list}[{name}].");
    }

    /// A fault of a key that was taken, where it was set.
    pub(super) fn fault(&self, key: &str, problem: &str, remedy: &str) {
        self.fault_at(&self.source_of(key), key, problem, remedy);
    }

    /// A warning of a key that was taken, where it was set.
    pub(super) fn warn(&self, key: &str, problem: &str, remedy: &str) {
        self.findings
            .warn(self.source_of(key), &self.key(key), problem, remedy);
    }

    /// Where a key that was taken was set, or could have been.
    pub(super) fn source_of(&self, key: &str) -> Source {
        let set = self.findings.source_of(&format!("{}{key}", self.generic));
        set.unwrap_or_else(|| self.source.clone())
    }

    /// A fault of one entry, where that entry is.
    pub(super) fn fault_at(&self, source: &Source, key: &str, problem: &str, remedy: &str) {
        self.findings
            .fault(source.clone(), &self.key(key), problem, remedy);
    }

    /// The value as it stands.
    fn take(&mut self, key: &str) -> Option<Item> {
        let item = self.table.remove(key);
        let source = item
            .as_ref()
            .map_or(&self.source, |item| &item.source)
            .clone();
        let generic = format!("{}{key}", self.generic);
        self.findings.know(generic, source);
        item
    }

    /// Notes for the published schema what a key wants.
    #[cfg(test)]
    fn want(&self, key: &str, wanted: Wanted) {
        let key = super::schema::noted(key);
        self.findings.want(format!("{}{key}", self.generic), wanted);
    }

    fn read<T: Setting>(&self, key: &str, item: &Item) -> Option<T> {
        T::read(item)
            .map_err(|problem| self.fault_at(&item.source, key, &problem, &T::remedy()))
            .ok()
    }

    /// The key's value, if it has one.
    pub(super) fn optional<T: Setting>(&mut self, key: &str) -> Option<T> {
        #[cfg(test)]
        self.want(key, Wanted::one::<T>());
        let item = self.take(key)?;
        self.read(key, &item)
    }

    /// The key's value, or its default.
    pub(super) fn or<T: Setting>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The key's value; `None` is a fault already noted, unless the key is not needed.
    pub(super) fn required<T: Setting>(&mut self, key: &str, remedy: &str) -> Option<T> {
        #[cfg(test)]
        self.want(key, Wanted::one::<T>().required());
        match self.take(key) {
            Some(item) => self.read(key, &item),
            None => {
                self.missing(key, remedy);
                None
            }
        }
    }

    fn missing(&self, key: &str, remedy: &str) {
        if !self.findings.is_partial() && self.is_needed(key) {
            self.fault(key, "is missing", remedy);
        }
    }

    /// Whether who reads this uses the key; if not, it may be absent, and so may the file it names.
    pub(super) fn is_needed(&self, key: &str) -> bool {
        self.findings.needs(&self.key(key))
    }

    /// The path of a file that is there and can be opened, if one is named.
    pub(super) fn file(&mut self, key: &str) -> Option<PathBuf> {
        #[cfg(test)]
        self.want(key, Wanted::one::<PathBuf>());
        let item = self.take(key)?;
        self.file_at(key, &item)
    }

    /// As [`Self::file`]; `None` is a fault already noted, unless the key is not needed.
    pub(super) fn required_file(&mut self, key: &str, remedy: &str) -> Option<PathBuf> {
        #[cfg(test)]
        self.want(key, Wanted::one::<PathBuf>().required());
        match self.take(key) {
            Some(item) => self.file_at(key, &item),
            None => {
                self.missing(key, remedy);
                None
            }
        }
    }

    /// As [`Self::file`], for one value of a list.
    pub(super) fn file_at(&self, key: &str, item: &Item) -> Option<PathBuf> {
        if self.is_needed(key) {
            self.read(key, item).map(|ReadableFile(path)| path)
        } else {
            self.read(key, item)
        }
    }

    /// A list's entries, each with its key.
    pub(super) fn items(&mut self, key: &str, remedy: &str) -> Option<Vec<(String, Item)>> {
        #[cfg(test)]
        self.want(key, Wanted::List);
        let item = self.take(key)?;
        match item.decoded().map(|item| item.value) {
            Ok(Value::List(items)) => {
                let named = items.into_iter().enumerate();
                return Some(
                    named
                        .map(|(at, item)| (format!("{key}[{at}]"), item))
                        .collect(),
                );
            }
            Ok(other) => self.fault_at(&item.source, key, &not(&other, "a list"), remedy),
            Err(problem) => self.fault_at(&item.source, key, &problem, remedy),
        }
        None
    }

    /// A list of one kind, or its default.
    pub(super) fn list<T: Setting>(&mut self, key: &str, remedy: &str, default: Vec<T>) -> Vec<T> {
        #[cfg(test)]
        self.want(&format!("{key}[]"), Wanted::one::<T>());
        match self.items(key, remedy) {
            None => default,
            Some(items) => items
                .iter()
                .filter_map(|(key, item)| self.read(key, item))
                .collect(),
        }
    }

    /// A table whose keys the user chooses.
    pub(super) fn entries(&mut self, key: &str, remedy: &str) -> Vec<(String, Item)> {
        #[cfg(test)]
        self.want(key, Wanted::Map);
        let Some(item) = self.take(key) else {
            return Vec::new();
        };
        self.table_of(key, &item, remedy).into_iter().collect()
    }

    /// One value of a list or of a table with chosen keys.
    pub(super) fn one<T: Setting>(&self, key: &str, item: &Item) -> Option<T> {
        #[cfg(test)]
        self.want(key, Wanted::one::<T>());
        self.read(key, item)
    }

    fn table_of(&self, key: &str, item: &Item, remedy: &str) -> Table {
        match item.decoded().map(|item| item.value) {
            Ok(Value::Table(table)) => return table,
            Ok(other) => self.fault_at(&item.source, key, &not(&other, "a table"), remedy),
            Err(problem) => self.fault_at(&item.source, key, &problem, remedy),
        }
        Table::new()
    }

    /// The table at `key`, empty if it is not there.
    pub(super) fn section<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'f>) -> T) -> T {
        #[cfg(test)]
        self.want(key, Wanted::Section);
        let item = self.take(key).unwrap_or_else(|| Item {
            source: self.source.clone(),
            value: Value::Table(Table::new()),
        });
        self.nested(key, key, &item, read)
    }

    /// A table in a list: `name` is what faults call it, `key` the list.
    pub(super) fn nested<T>(
        &self,
        key: &str,
        name: &str,
        item: &Item,
        read: impl FnOnce(&mut Section<'f>) -> T,
    ) -> T {
        let nested = Section {
            findings: self.findings,
            prefix: format!("{}{name}.", self.prefix),
            generic: format!("{}{key}.", self.generic),
            source: item.source.clone(),
            base: self.base.clone(),
            table: self.table_of(name, item, "write a table of keys and values"),
        };
        nested.complete(read)
    }

    /// Every table of `[[key]]`; the file has `before` others before them.
    pub(super) fn tables<T>(
        &mut self,
        key: &str,
        before: usize,
        mut read: impl FnMut(&mut Section<'f>) -> T,
    ) -> Vec<T> {
        let items = self
            .items(key, &format!("write [[{key}]] with two brackets"))
            .unwrap_or_default();
        let numbered = items.iter().zip(before..);
        numbered
            .map(|((_, item), number)| {
                self.nested(key, &format!("{key}[{number}]"), item, &mut read)
            })
            .collect()
    }

    /// The secret at `key`, or in the file that its twin `key_file` names. `is_secret` is false for values that
    /// any user of the machine may see.
    pub(super) fn secret(&mut self, key: &str, is_secret: fn(&str) -> bool) -> Option<Secret> {
        #[cfg(test)]
        self.want(key, Wanted::Secret { required: false });
        self.secret_or_file(key, is_secret)
    }

    fn secret_or_file(&mut self, key: &str, is_secret: fn(&str) -> bool) -> Option<Secret> {
        let twin = format!("{key}_file");
        let (inline, file) = (self.take(key), self.take(&twin));
        match (inline, file) {
            (None, None) => None,
            (Some(item), None) => self.inline_secret(key, &item, is_secret),
            (None, Some(item)) => self.secret_of_file(&twin, &item),
            (Some(inline), Some(file)) => {
                // The environment overrides the file whichever of the two names it uses.
                match (is_variable(&inline), is_variable(&file)) {
                    (true, false) => self.inline_secret(key, &inline, is_secret),
                    (false, true) => self.secret_of_file(&twin, &file),
                    (true, true) | (false, false) => {
                        let problem = format!("is set beside `{twin}`");
                        self.fault_at(&inline.source, key, &problem, "keep one of the two");
                        None
                    }
                }
            }
        }
    }

    /// As [`Self::secret`]; `None` is a fault already noted.
    pub(super) fn required_secret(&mut self, key: &str) -> Option<Secret> {
        #[cfg(test)]
        self.want(key, Wanted::Secret { required: true });
        let is_set = [key, &format!("{key}_file")]
            .iter()
            .any(|k| self.table.contains_key(*k));
        let secret = self.secret_or_file(key, |_| true);
        if !is_set {
            self.missing(
                key,
                &format!("set it, or `{key}_file` to the path of a file that holds it"),
            );
        }
        secret
    }

    /// A secret that stands in the configuration itself. Never quoted in a fault.
    pub(super) fn inline_secret(
        &self,
        key: &str,
        item: &Item,
        is_secret: fn(&str) -> bool,
    ) -> Option<Secret> {
        const REMEDY: &str = "write a text in double quotes, or name a file with the `_file` key";
        #[cfg(test)]
        if super::schema::is_entry(key) {
            self.want(key, Wanted::one::<String>());
        }
        let text = match item.value.text() {
            Some("") => Err("is empty".to_owned()),
            Some(text) => Ok(text),
            None => Err(not(&item.value, "text")),
        };
        let text = text
            .map_err(|problem| self.fault_at(&item.source, key, &problem, REMEDY))
            .ok()?;
        if let Source::File { path, .. } = &item.source
            && is_secret(text)
        {
            self.findings.secret_in(path, &self.key(key));
        }
        Some(Secret::new(text.to_owned()))
    }

    fn secret_of_file(&self, key: &str, item: &Item) -> Option<Secret> {
        let path: PathBuf = self.read(key, item)?;
        if !self.is_needed(key) {
            return None;
        }
        let path = self.base.join(path);
        self.findings.open(&path);
        if files::is_readable_by_others(&path) {
            let problem = format!(
                "{} can be read by every user of this machine",
                path.display()
            );
            self.findings
                .warn(item.source.clone(), &self.key(key), &problem, "chmod o-rwx");
        }
        files::read_secret(&path)
            .map(|text| Secret::new(text.as_str().to_owned()))
            .map_err(|problem| {
                let remedy = format!(
                    "write the secret into a file that this user may read; relative paths start at {}",
                    start_of(&self.base)
                );
                self.fault_at(&item.source, key, &problem, &remedy);
            })
            .ok()
    }
}

fn is_variable(item: &Item) -> bool {
    matches!(item.source, Source::Variable(_))
}

fn start_of(base: &Path) -> String {
    if base.as_os_str().is_empty() {
        "the working directory".to_owned()
    } else {
        base.display().to_string()
    }
}
