//! `resume`: the trouble with a GSTIN is over.

use std::path::Path;

use super::{FAILED, Failure, MISUSED, UNREACHABLE, broker_side, print};
use crate::broker::BrokerError;
use crate::gstin::Gstin;
use crate::ops::resume::{ResumeError, resume};

/// Tells the replicas and gives the exit code.
pub(super) async fn run(config: &Path, json: bool, gstin: Gstin) -> Result<u8, Failure> {
    let config = broker_side(config)?;
    resume(&config, gstin).await.map_err(failure)?;
    if json {
        print(serde_json::json!({ "resumed": gstin.as_str() }))
    } else {
        print(format_args!("told every worker to go on with {gstin}"))
    }
}

fn failure(error: ResumeError) -> Failure {
    let code = match &error {
        ResumeError::Endpoint(_) => MISUSED,
        ResumeError::Broker(BrokerError::Topology { .. })
        | ResumeError::NobodyListens
        | ResumeError::Publish(_) => FAILED,
        ResumeError::Broker(
            BrokerError::Lost(_) | BrokerError::Malformed | BrokerError::Timeout(_),
        ) => UNREACHABLE,
    };
    Failure::new(code, error)
}
