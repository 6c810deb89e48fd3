//! What `/status` says of the latest reading of the credentials.

use serde::Serialize;

use crate::config::credentials::Changes;
use crate::telemetry::credentials::{Outcome, Reload};

/// The latest reading after the one at start.
#[derive(Debug, Serialize)]
pub(super) struct LastReload {
    at: String,
    result: &'static str,
    added: usize,
    changed: usize,
    removed: usize,
    /// Why it was refused, in words that quote no secret.
    faults: Vec<String>,
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
