//! `pause`: nothing is sent to the portal for a GSTIN, a client or everybody, for a while.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::duration::duration;
use super::whom::{WhomArgs, failure};
use super::{Failure, MISUSED, broker_side, print};
use crate::control::{Order, Pause, Reason};
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
    pub(super) async fn run(self, config: &Path, json: bool) -> Result<u8, Failure> {
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
        let config = broker_side(config)?;
        let name = whom.name().unwrap_or_else(|| whom.kind()).to_owned();
        let told = format!(
            "paused {whom} until {until}: every worker that runs heeds it at once, and so do those that start later"
        );
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
