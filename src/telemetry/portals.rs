//! What is told of the portals: what they hold that we did not expect, and what stands between them and us.
//!
//! One rule: as in the module above, typed values only. Fields are named, their contents never.

use metrics::counter;
use tracing::{error, info, warn};

use super::About;
use crate::gstin::Gstin;

/// What an earlier message registered under this number has another content.
pub fn registered_otherwise(about: About<'_>, fields: &[&'static str]) {
    let (job, gstin) = (about.job_id, about.gstin());
    warn!(
        job.id = job,
        gstin,
        ?fields,
        "registered before with another content"
    );
}

/// A document was refused for the portal's copy of a GSTIN, which has been refreshed. Not whose: it may be the buyer's.
pub fn gstin_synchronised(about: About<'_>, status: &'static str) {
    let (job, gstin) = (about.job_id, about.gstin());
    info!(
        job.id = job,
        gstin, status, "the portal's copy of a GSTIN of the document was refreshed"
    );
}

/// The sessions of a GSTIN keep being refused right after their login.
pub fn token_contention(gstin: &Gstin) {
    counter!("irn_worker_token_contention_total").increment(1);
    error!(
        gstin = gstin.as_str(),
        "another system keeps replacing this GSTIN's session; give each system an API user of its own"
    );
}

/// The primary portal is down: a document goes to the other one.
pub fn turned_to_failover(about: About<'_>) {
    counter!("irn_worker_failover_total").increment(1);
    let (job, gstin) = (about.job_id, about.gstin());
    info!(
        job.id = job,
        gstin, "the primary portal is down; turning to the other one"
    );
}

/// A portal said that another one has the document: it is looked up at ours.
pub fn looked_up_elsewhere(about: About<'_>) {
    let (job, gstin) = (about.job_id, about.gstin());
    info!(
        job.id = job,
        gstin, "registered elsewhere, the portal says; looked up at our other portal"
    );
}
