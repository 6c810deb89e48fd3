//! What is told of credentials that are read again: log, metric and `/status` together.
//!
//! One rule: GSTINs, counts, and faults, which name files, lines and keys and never quote a secret.

use std::sync::Arc;

use jiff::Timestamp;
use metrics::{counter, gauge};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::config::credentials::Changes;
use crate::config::{ConfigFaults, Fault};
use crate::gstin::Gstin;

/// More GSTINs than this are counted and not listed.
const LISTED: usize = 50;

/// What came of the latest reading, for those who watch. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloads(Arc<watch::Sender<Option<Arc<Reload>>>>);

impl Default for Reloads {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

/// One reading of the credentials after the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// When.
    pub at: Timestamp,
    /// What came of it.
    pub result: Outcome,
}

/// What came of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new accounts are in use.
    Changed(Changes),
    /// Asked for, or put right after a fault, and everything is as it was.
    Unchanged,
    /// Faulty: the accounts before it stay in use.
    Refused(Vec<Fault>),
}

impl Outcome {
    /// The word in metrics and `/status`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Changed(_) => "changed",
            Self::Unchanged => "unchanged",
            Self::Refused(_) => "refused",
        }
    }
}

impl Reloads {
    /// The latest one, if there was any.
    pub fn last(&self) -> Option<Arc<Reload>> {
        self.0.borrow().clone()
    }

    /// Whether the latest one was refused.
    pub fn is_refused(&self) -> bool {
        let last = self.last();
        last.is_some_and(|last| matches!(last.result, Outcome::Refused(_)))
    }

    fn set(&self, result: Outcome) {
        counter!("irn_worker_credentials_reloads_total", "result" => result.as_str()).increment(1);
        let is_refused = matches!(result, Outcome::Refused(_));
        gauge!("irn_worker_credentials_refused").set(f64::from(u8::from(is_refused)));
        let at = Timestamp::now();
        self.0.send_replace(Some(Arc::new(Reload { at, result })));
    }

    /// New accounts are in use.
    pub fn changed(&self, changes: Changes) {
        let (added, changed, removed) = (
            changes.added.len(),
            changes.changed.len(),
            changes.removed.len(),
        );
        info!(
            added,
            changed,
            removed,
            gstins.added = listed(&changes.added),
            gstins.changed = listed(&changes.changed),
            gstins.removed = listed(&changes.removed),
            "credentials reloaded: {added} GSTINs added, {changed} changed, {removed} removed"
        );
        self.set(Outcome::Changed(changes));
    }

    /// Asked for, or faulty before, and nothing is different from what is in use.
    pub fn unchanged(&self) {
        info!("credentials read again: nothing has changed");
        self.set(Outcome::Unchanged);
    }

    /// Faulty: the accounts before it stay in use.
    pub fn refused(&self, faults: ConfigFaults) {
        let count = faults.faults.len();
        for fault in &faults.faults {
            error!(%fault, "credentials: {fault}");
        }
        error!(
            faults = count,
            "the new credentials are refused ({count} faults above); those loaded before stay in use"
        );
        self.set(Outcome::Refused(faults.faults));
    }
}

fn listed(gstins: &[Gstin]) -> String {
    let shown: Vec<&str> = gstins.iter().take(LISTED).map(Gstin::as_str).collect();
    let more = gstins.len().saturating_sub(LISTED);
    match more {
        0 => shown.join(" "),
        more => format!("{} and {more} more", shown.join(" ")),
    }
}

/// Changes of the files are not told by the system; they are noticed at the next look.
pub fn not_watched(path: &std::path::Path, why: &dyn std::fmt::Display) {
    warn!(
        path = %path.display(),
        error = %why,
        "changes of the credentials are looked for every few seconds only"
    );
}

/// SIGHUP came.
pub fn reload_asked() {
    info!("SIGHUP: reading the credentials again; the configuration itself is read at start only");
}

/// Something has changed, and cannot be read as credentials yet.
pub fn reload_waits() {
    debug!("the credentials are being changed; waiting for them to be complete");
}

/// Dead letters went back to work because their GSTIN has new credentials.
pub fn replayed(seen: usize, replayed: usize, impossible: usize) {
    if replayed > 0 {
        info!(
            seen,
            replayed, "{replayed} dead letters go back to work with new credentials"
        );
    }
    if impossible > 0 {
        warn!(
            letters = impossible,
            "{impossible} dead letters of GSTINs with new credentials cannot be replayed: their documents were not kept, \
             or nothing says what they asked for; publish them again"
        );
    }
}

/// Dead letters could not be looked through; it is tried again.
pub fn replay_failed(why: &dyn std::fmt::Display) {
    warn!(error = %why, "looking through the dead letters failed; trying again");
}
