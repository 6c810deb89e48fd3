//! What comes to light while a configuration is read, and what is made of it in the end.
//!
//! The rule: nothing is handed out while there is a fault, so that no stand-in for a faulty value is ever seen.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{ConfigFaults, Fault, Source};
use super::files;
use super::need::Need;
#[cfg(test)]
use super::schema::Wanted;

/// What came to light while reading.
#[derive(Default)]
pub(super) struct Findings {
    need: Need,
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    /// Every key that was asked for, and where it was set, or could have been.
    known: BTreeMap<String, Source>,
    unknown: Vec<Unknown>,
    /// Files with a secret written into them.
    with_secrets: BTreeSet<Arc<Path>>,
    /// Files that were opened, or could not be.
    opened: BTreeSet<PathBuf>,
    /// A file was not TOML throughout, so that what seems missing or unknown may only be unreadable.
    is_partial: bool,
    /// What each key that was asked for wants, for the published schema.
    #[cfg(test)]
    wanted: Vec<(String, Wanted)>,
}

/// A key that was set and that no one asked for.
pub(super) struct Unknown {
    pub(super) source: Source,
    pub(super) key: String,
    /// The key without the names of list entries, as known keys are noted.
    pub(super) generic: String,
}

impl Findings {
    /// For a reader that needs only a part: what it does not use is not missed, and not warned of.
    pub(super) fn for_need(need: Need) -> Self {
        Self {
            need,
            ..Self::default()
        }
    }

    /// Whether the reader uses the setting at this dotted key.
    pub(super) fn needs(&self, key: &str) -> bool {
        self.need.covers(key)
    }

    pub(super) fn fault(&self, source: Source, key: &str, problem: &str, remedy: &str) {
        self.notes
            .borrow_mut()
            .faults
            .push(note(source, key, problem, remedy));
    }

    pub(super) fn warn(&self, source: Source, key: &str, problem: &str, remedy: &str) {
        if self.needs(key) {
            self.notes
                .borrow_mut()
                .warnings
                .push(note(source, key, problem, remedy));
        }
    }

    /// Notes that a file is not TOML throughout.
    pub(super) fn syntax(&self, faults: Vec<Fault>) {
        let mut notes = self.notes.borrow_mut();
        notes.is_partial |= !faults.is_empty();
        notes.faults.extend(faults);
    }

    /// Notes what variables could not be laid over the file.
    pub(super) fn extend(&self, faults: Vec<Fault>) {
        self.notes.borrow_mut().faults.extend(faults);
    }

    /// Whether a file was not TOML throughout, so that what seems missing may only be unreadable.
    pub(super) fn is_partial(&self) -> bool {
        self.notes.borrow().is_partial
    }

    /// Notes that a key was asked for, and where it was set, or could have been.
    pub(super) fn know(&self, key: String, source: Source) {
        self.notes.borrow_mut().known.insert(key, source);
    }

    /// Notes what a key wants that was asked for.
    #[cfg(test)]
    pub(super) fn want(&self, key: String, wanted: Wanted) {
        self.notes.borrow_mut().wanted.push((key, wanted));
    }

    /// What was asked for, in the order in which it was.
    #[cfg(test)]
    pub(super) fn wanted(&self) -> Vec<(String, Wanted)> {
        self.notes.borrow().wanted.clone()
    }

    /// Where a key that was asked for was set, or could have been.
    pub(super) fn source_of(&self, key: &str) -> Option<Source> {
        self.notes.borrow().known.get(key).cloned()
    }

    /// Notes keys that no one asked for.
    pub(super) fn unknown(&self, keys: impl Iterator<Item = Unknown>) {
        self.notes.borrow_mut().unknown.extend(keys);
    }

    /// Notes that the secret at `key` is written into a file.
    pub(super) fn secret_in(&self, path: &Arc<Path>, key: &str) {
        if self.needs(key) {
            let mut notes = self.notes.borrow_mut();
            notes.with_secrets.insert(Arc::clone(path));
        }
    }

    /// Notes that what was read depends on this file.
    pub(super) fn open(&self, path: &Path) {
        self.notes.borrow_mut().opened.insert(path.to_owned());
    }

    /// The files that what was read depends on.
    pub(super) fn opened(&self) -> BTreeSet<PathBuf> {
        self.notes.borrow().opened.clone()
    }

    /// Several settings contradict each other: a fault at the first of `keys`, unless one of them is at fault
    /// itself, because then a stand-in would be judged, or is not needed, because then it may be a default.
    pub(super) fn contradiction(&self, keys: &[&str], problem: &str, remedy: &str) {
        if let Some(source) = self.judged(keys) {
            self.fault(source, keys[0], problem, remedy);
        }
    }

    /// As [`Self::contradiction`], but they may have been meant.
    pub(super) fn doubt(&self, keys: &[&str], problem: &str, remedy: &str) {
        if let Some(source) = self.judged(keys) {
            self.warn(source, keys[0], problem, remedy);
        }
    }

    /// Where the first key was set, if all of them are needed and without fault.
    fn judged(&self, keys: &[&str]) -> Option<Source> {
        if !keys.iter().all(|key| self.needs(key)) {
            return None;
        }
        let notes = self.notes.borrow();
        let is_faulty = notes
            .faults
            .iter()
            .any(|fault| keys.iter().any(|key| concerns(fault, key)));
        let source = notes.known.get(*keys.first()?)?;
        (!is_faulty && !notes.is_partial).then(|| source.clone())
    }

    /// The warnings, if there is no fault.
    pub(super) fn finish(self) -> Result<Vec<Fault>, ConfigFaults> {
        let mut notes = self.notes.into_inner();
        notes.forget_guesses();
        notes.judge_unknown_keys();
        notes.warn_of_open_files();
        let Notes {
            mut faults,
            mut warnings,
            ..
        } = notes;
        faults.sort();
        faults.dedup();
        warnings.sort();
        if faults.is_empty() {
            Ok(warnings)
        } else {
            Err(ConfigFaults { faults, warnings })
        }
    }
}

impl Notes {
    /// What was recovered of a line that is not TOML is a guess; only the line itself is told.
    fn forget_guesses(&mut self) {
        let has_no_key = |fault: &&Fault| fault.key.is_empty();
        let broken: BTreeSet<Source> = self
            .faults
            .iter()
            .filter(has_no_key)
            .map(|fault| fault.source.clone())
            .collect();
        self.faults
            .retain(|fault| fault.key.is_empty() || !broken.contains(&fault.source));
    }

    fn judge_unknown_keys(&mut self) {
        if self.is_partial {
            return;
        }
        for unknown in std::mem::take(&mut self.unknown) {
            let remedy = match self.nearest(&unknown.generic) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "remove it; config/worker.toml and config/credentials.example.toml list every key".to_owned(),
            };
            let fault = note(unknown.source, &unknown.key, "is not a known key", &remedy);
            self.faults.push(fault);
        }
    }

    fn nearest(&self, unknown: &str) -> Option<&str> {
        /// Below this the suggestion is more puzzling than helpful.
        const LIKENESS: f64 = 0.6;
        let last = unknown.rsplit('.').next();
        let likeness = |known: &str| {
            let whole = strsim::normalized_damerau_levenshtein(unknown, known);
            // The right key in the wrong section.
            if last == known.rsplit('.').next() {
                whole.max(0.9)
            } else {
                whole
            }
        };
        self.known
            .keys()
            .map(|known| (likeness(known), known))
            .filter(|(likeness, _)| *likeness >= LIKENESS)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known.as_str())
    }

    fn warn_of_open_files(&mut self) {
        for path in std::mem::take(&mut self.with_secrets) {
            if files::is_readable_by_others(&path) {
                self.warnings.push(note(
                    Source::file(&path),
                    "",
                    "holds secrets and can be read by every user of this machine",
                    "chmod o-rwx, or move the secrets to files of their own with the `_file` keys",
                ));
            }
        }
    }
}

/// Whether a fault is of the key itself, of a part of it, of its `_file` twin or of the section it is in.
fn concerns(fault: &Fault, key: &str) -> bool {
    let part = fault.key.strip_prefix(key);
    let of_part =
        part.is_some_and(|rest| matches!(rest, "" | "_file") || rest.starts_with(['[', '.']));
    let section = key.strip_prefix(fault.key.as_str());
    of_part || section.is_some_and(|rest| rest.starts_with('.'))
}

fn note(source: Source, key: &str, problem: &str, remedy: &str) -> Fault {
    Fault {
        source,
        key: key.to_owned(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}
