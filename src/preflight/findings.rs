//! What was found: how grave, where, and in which words.
//!
//! One rule: a finding may quote the document, so it goes to the one who sent it and is never printed by `Debug`.

use std::fmt;

use serde::Serialize;

use super::rules::{CODES, Rules};
use super::tree::Node;
use crate::document;

/// A hostile document must not make its result larger than itself.
pub(super) const MAX_ERRORS: usize = 200;

/// Counted by themselves: no number of warnings leaves an error untold.
const MAX_WARNINGS: usize = 100;

/// Whether a finding refuses the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The portal would refuse it.
    Error,
    /// The portal may take it: sources disagree, or it is no more than odd.
    Warning,
}

/// One thing found in a document.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it refuses the document.
    pub severity: Severity,
    /// The portal's code for it; 5002 where the portal speaks of the form of a member only.
    pub code: &'static str,
    /// JSON Pointer (RFC 6901) to the member, in the document's own spelling.
    pub path: String,
    /// A sentence for the person who keeps the books. May quote amounts.
    pub message: String,
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Finding({:?} {})", self.severity, self.code)
    }
}

impl Finding {
    /// An error that no switch makes less of.
    pub(super) fn unnamed(finding: &document::Finding) -> Self {
        Self {
            severity: Severity::Error,
            code: finding.code,
            path: finding.path.to_owned(),
            message: finding.message.to_owned(),
        }
    }
}

/// Collects findings under the switches of the rules.
pub(super) struct Findings<'r> {
    rules: &'r Rules,
    found: Vec<Finding>,
}

impl<'r> Findings<'r> {
    pub(super) fn new(rules: &'r Rules) -> Self {
        Self {
            rules,
            found: Vec::new(),
        }
    }

    /// The portal would refuse it. `pointer` goes by the names of the form.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        pointer: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.note(Severity::Error, code, pointer.into(), message.into());
    }

    /// Without this member the document has no name, so that nothing can be done with it: no switch makes less of it.
    pub(super) fn unnamed(&mut self, finding: &document::Finding) {
        self.found.push(Finding::unnamed(finding));
    }

    /// The portal may take it.
    pub(super) fn warning(
        &mut self,
        code: &'static str,
        pointer: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.note(Severity::Warning, code, pointer.into(), message.into());
    }

    pub(super) fn note(
        &mut self,
        by_rule: Severity,
        code: &'static str,
        path: String,
        message: String,
    ) {
        debug_assert!(CODES.contains(&code), "{code} is not among the codes");
        let Some(severity) = self.rules.severity(code, by_rule) else {
            return;
        };
        let same = self.found.iter().filter(|known| known.severity == severity);
        let most = match severity {
            Severity::Error => MAX_ERRORS,
            Severity::Warning => MAX_WARNINGS,
        };
        if same.count() < most {
            self.found.push(Finding {
                severity,
                code,
                path,
                message,
            });
        }
    }

    /// Whether there is a finding at this place, by the names of the form.
    pub(super) fn is_at(&self, pointer: &str) -> bool {
        self.found.iter().any(|finding| finding.path == pointer)
    }

    /// All of them, errors first, their pointers in the document's own spelling.
    pub(super) fn finish(mut self, document: Option<&Node<'_>>) -> Vec<Finding> {
        self.found
            .sort_by_key(|finding| finding.severity != Severity::Error);
        if let Some(document) = document {
            for finding in &mut self.found {
                finding.path = document.as_written(&finding.path);
            }
        }
        self.found
    }
}
