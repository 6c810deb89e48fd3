//! The latest reading of the credentials, as `/status` shows it.

use serde::Serialize;

use crate::config::credentials::Changes;
use crate::telemetry::credentials::{Outcome, Reload};

/// What came of a reading of the credentials after the one at start.
#[derive(Debug, Serialize)]
pub(super) struct LastReload {
    pub(super) at: String,
    pub(super) result: &'static str,
    pub(super) added: usize,
    pub(super) changed: usize,
    pub(super) removed: usize,
    /// Why it was refused, in words that quote no secret.
    pub(super) faults: Vec<String>,
}

impl From<&Reload> for LastReload {
    fn from(reload: &Reload) -> Self {
        let (changes, faults) = match &reload.result {
            Outcome::Changed(changes) => (changes.clone(), Vec::new()),
            Outcome::Unchanged => (Changes::default(), Vec::new()),
            Outcome::Refused(faults) => {
                let told = faults.iter().map(ToString::to_string).collect();
                (Changes::default(), told)
            }
        };
        Self {
            at: reload.at.to_string(),
            result: reload.result.as_str(),
            added: changes.added.len(),
            changed: changes.changed.len(),
            removed: changes.removed.len(),
            faults,
        }
    }
}
