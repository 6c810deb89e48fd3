//! Whom an order is about, and how it may fail.

use clap::Args;

use super::{FAILED, Failure, MISUSED, UNREACHABLE};
use crate::broker::{BrokerError, PublishError};
use crate::control::Whom;
use crate::gstin::Gstin;
use crate::ops::order::OrderError;

/// One of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct WhomArgs {
    /// One GSTIN.
    gstin: Option<Gstin>,
    /// All GSTINs of this client together.
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Everybody: the portal as a whole.
    #[arg(long)]
    portal: bool,
}

impl WhomArgs {
    pub(super) fn whom(self) -> Result<Whom, Failure> {
        match (self.gstin, self.client, self.portal) {
            (Some(gstin), _, _) => Ok(Whom::Gstin(gstin)),
            (None, Some(client), _) => Ok(Whom::Client(client)),
            (None, None, true) => Ok(Whom::Portal),
            // The command line has asked for one of them.
            (None, None, false) => Err(Failure::new(
                MISUSED,
                "give a GSTIN, --client NAME or --portal",
            )),
        }
    }
}

/// The exit code and the words.
pub(super) fn failure(error: OrderError) -> Failure {
    let code = match &error {
        OrderError::Endpoint(_) => MISUSED,
        OrderError::Broker(
            BrokerError::Topology { .. }
            | BrokerError::Refused { .. }
            | BrokerError::Blocked
            | BrokerError::Malformed,
        )
        | OrderError::NobodyListens
        | OrderError::NotKept
        | OrderError::Publish(
            PublishError::Nacked
            | PublishError::Refused(_)
            | PublishError::Returned
            | PublishError::Unconfirmed(_),
        ) => FAILED,
        OrderError::Broker(BrokerError::Lost(_) | BrokerError::Timeout(_))
        | OrderError::Publish(PublishError::NotConnected) => UNREACHABLE,
    };
    Failure::new(code, error)
}
