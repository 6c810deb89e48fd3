//! `resume`: the trouble with a GSTIN or a client is over, or a pause.

use std::path::Path;

use clap::Args;

use super::whom::{WhomArgs, failure};
use super::{Failure, broker_side, print};
use crate::control::Order;
use crate::ops::order::give;

/// Whose trouble is over.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    whom: WhomArgs,
}

impl ResumeArgs {
    /// Tells the replicas and gives the exit code.
    pub(super) async fn run(self, config: &Path, json: bool) -> Result<u8, Failure> {
        let whom = self.whom.whom()?;
        let config = broker_side(config)?;
        let name = whom.name().unwrap_or_else(|| whom.kind()).to_owned();
        let told = format!("told every worker to go on with {whom}");
        give(&config, &Order::Resume(whom)).await.map_err(failure)?;
        if json {
            print(serde_json::json!({ "resumed": name }))
        } else {
            print(told)
        }
    }
}
