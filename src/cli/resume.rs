//! `resume`: the trouble with a GSTIN or a client is over.

use std::path::Path;

use clap::Args;

use super::{FAILED, Failure, MISUSED, UNREACHABLE, broker_side, print};
use crate::broker::BrokerError;
use crate::control::Order;
use crate::gstin::Gstin;
use crate::ops::resume::{ResumeError, resume};

/// Whose trouble is over.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct ResumeArgs {
    /// Whose jobs.
    gstin: Option<Gstin>,
    /// All GSTINs of this client: their errors together are forgotten, not those of each.
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
}

impl ResumeArgs {
    /// Tells the replicas and gives the exit code.
    pub(super) async fn run(self, config: &Path, json: bool) -> Result<u8, Failure> {
        let (whose, order) = match (self.gstin, self.client) {
            (Some(gstin), _) => (gstin.to_string(), Order::Resume(gstin)),
            (None, Some(client)) => (client.clone(), Order::ResumeClient(client)),
            // The command line has asked for one of them.
            (None, None) => return Err(Failure::new(MISUSED, "give a GSTIN or --client NAME")),
        };
        let config = broker_side(config)?;
        resume(&config, &order).await.map_err(failure)?;
        if json {
            print(serde_json::json!({ "resumed": whose }))
        } else {
            print(format_args!("told every worker to go on with {whose}"))
        }
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
