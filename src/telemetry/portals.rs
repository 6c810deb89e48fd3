//! What is told of the portals: what they hold that we did not expect, and what stands between them and us.
//!
//! One rule: as in the module above, typed values only. Fields are named, their contents never.

use tracing::warn;

use super::About;

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
