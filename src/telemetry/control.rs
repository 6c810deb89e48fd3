//! What is told of an operator's orders to all replicas.
//!
//! One rule: nothing of a message is quoted, because anybody may have published it.

use std::fmt;

use tracing::{info, warn};

use crate::gstin::Gstin;

/// An operator says that the trouble with this GSTIN is over.
pub fn resumed(gstin: &Gstin) {
    info!(
        gstin = gstin.as_str(),
        "resumed by an operator: refusals and errors so far are forgotten"
    );
}

/// A control message is not heeded.
pub fn order_ignored(why: &dyn fmt::Display) {
    warn!(%why, "a control message is ignored: {why}");
}

/// No orders can be received. Told once.
pub fn no_control(why: &dyn fmt::Display) {
    warn!(error = %why, "working without control: `irn-worker resume` does not reach this replica; {why}");
}
