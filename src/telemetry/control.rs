//! What is told of an operator's orders to all replicas.
//!
//! One rule: nothing of a message is quoted, because anybody may have published it.

use std::fmt;

use jiff::Timestamp;
use tracing::{info, warn};

use crate::control::Whom;
use crate::gstin::Gstin;

/// An operator says that the trouble with this GSTIN is over.
pub fn resumed(gstin: &Gstin) {
    info!(
        gstin = gstin.as_str(),
        "resumed by an operator: refusals and errors so far are forgotten"
    );
}

/// An operator has paused somebody, who is named if known here.
pub fn paused(whom: Option<&Whom>, until: Timestamp) {
    let (scope, name) = named(whom);
    warn!(
        scope,
        name,
        %until,
        "paused by an operator until {until}: nothing is sent to the portal; see /status for the reason"
    );
}

/// An operator has lifted a pause.
pub fn pause_lifted(whom: Option<&Whom>) {
    let (scope, name) = named(whom);
    info!(scope, name, "pause lifted by an operator");
}

fn named(whom: Option<&Whom>) -> (&'static str, &str) {
    let scope = whom.map_or("not known here", Whom::kind);
    (scope, whom.and_then(Whom::name).unwrap_or_default())
}

/// The log of orders has been read to its end.
pub fn pauses_known(count: usize) {
    info!(pauses = count, "{count} pauses are in force");
}

/// Pauses cannot be known. Told once.
pub fn no_log(why: &dyn fmt::Display) {
    warn!(error = %why, "working without the log of orders: `irn-worker pause` does not reach this replica; {why}");
}

/// A control message is not heeded.
pub fn order_ignored(why: &dyn fmt::Display) {
    warn!(%why, "a control message is ignored: {why}");
}

/// What this replica says to the others is refused. Told once.
pub fn no_words(why: &dyn fmt::Display) {
    warn!(error = %why, "other replicas do not hear this one: each keeps to its own share; {why}");
}

/// No orders can be received. Told once.
pub fn no_control(why: &dyn fmt::Display) {
    warn!(error = %why, "working without control: `irn-worker resume` does not reach this replica; {why}");
}
