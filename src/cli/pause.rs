//! `pause`: nothing is sent to the portal for a GSTIN, a client or everybody, for a while.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::duration::duration;
use super::whom::{WhomArgs, failure};
use super::{Failure, MISUSED, broker_side, print};
use crate::broker::CONTROL_LOG;
use crate::config::{self, credentials::Credentials};
use crate::control::{Order, Pause, Reason, Whom};
use crate::ops::order::give;

/// Whom to pause, why, and for how long.
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    whom: WhomArgs,
    /// Why, for whoever looks at the status: one line, at most 200 characters.
    #[arg(long, value_name = "TEXT")]
    reason: Reason,
    /// For how long at most, for example 2h, 90m or 3d; at most 30d.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    length: Duration,
}

impl PauseArgs {
    /// Tells the replicas and gives the exit code.
    pub(super) async fn run(self, path: &Path, json: bool) -> Result<u8, Failure> {
        let whom = self.whom.whom()?;
        let misused =
            |error: &dyn std::fmt::Display| Failure::new(MISUSED, format!("--for: {error}"));
        // To the second: nobody pauses by the nanosecond, and it is easier to read.
        let since = Timestamp::from_second(Timestamp::now().as_second())
            .map_err(|error| misused(&error))?;
        let until = since
            .checked_add(self.length)
            .map_err(|error| misused(&error))?;
        let pause = Pause::try_new(self.reason, since, until).map_err(|error| misused(&error))?;
        let accounts = config::load_accounts_if_any(path, config::process_environment());
        if accounts.is_some_and(|accounts| !is_known(&accounts, &whom)) {
            eprintln!(
                "irn-worker: warning: {whom} is not in the credentials file here: a mistyped name pauses nobody"
            );
        }
        let config = broker_side(path)?;
        let name = whom.name().unwrap_or_else(|| whom.kind()).to_owned();
        let told = told(&whom, until);
        let order = Order::Pause(whom, pause.clone());
        give(&config, &order).await.map_err(failure)?;
        if json {
            let reason = pause.reason.as_str();
            print(serde_json::json!({ "paused": name, "until": until, "reason": reason }))
        } else {
            print(told)
        }
    }
}

fn is_known(accounts: &Credentials, whom: &Whom) -> bool {
    match whom {
        Whom::Portal => true,
        Whom::Gstin(gstin) => accounts.accounts.contains_key(gstin),
        Whom::Client(name) => accounts.has_client(name),
    }
}

/// Only what is known: the broker has confirmed the order, and no worker has.
fn told(whom: &Whom, until: Timestamp) -> String {
    format!(
        "pause of {whom} until {until}: the order is kept in {CONTROL_LOG}, for the workers that may read it; a worker's \
         /status shows whether it holds there"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_worker_is_said_to_heed_what_none_has_confirmed() {
        let told = told(&Whom::Client("acme".to_owned()), Timestamp::UNIX_EPOCH);
        assert!(told.contains("client acme") && told.contains("kept in irn.control.log"));
        assert!(!told.contains("every worker"), "{told}");
    }
}
