//! What operators have paused, as `/status` shows it.

use jiff::Timestamp;
use serde::Serialize;

use crate::control::{Pause, Whom};

/// One pause.
#[derive(Debug, Serialize)]
pub(super) struct PauseStatus {
    /// `gstin`, `client` or `portal`.
    pub(super) scope: &'static str,
    pub(super) name: Option<String>,
    /// An operator's words.
    pub(super) reason: String,
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
}

/// What keeps one GSTIN's jobs waiting.
#[derive(Debug, Serialize)]
pub(super) struct PausedBy {
    /// Whose pause it is: its own (`gstin`) or its client's.
    pub(super) scope: &'static str,
    pub(super) until: Timestamp,
}

impl From<(Whom, Pause)> for PauseStatus {
    fn from((whom, pause): (Whom, Pause)) -> Self {
        Self {
            scope: whom.kind(),
            name: whom.name().map(str::to_owned),
            reason: pause.reason.as_str().to_owned(),
            since: pause.since,
            until: pause.until,
        }
    }
}

impl From<(Whom, Pause)> for PausedBy {
    fn from((whom, pause): (Whom, Pause)) -> Self {
        Self {
            scope: whom.kind(),
            until: pause.until,
        }
    }
}
