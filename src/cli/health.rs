//! `health`: whether the worker on this machine is alive, or takes jobs.

use std::path::Path;

use clap::Args;

use super::{FAILED, Failure, MISUSED, print};
use crate::config;
use crate::ops::health::{HealthError, Probe, ask};

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Ask whether it takes jobs, not only whether it is alive.
    #[arg(long)]
    ready: bool,
}

impl HealthArgs {
    /// Asks and gives the exit code.
    pub(super) async fn run(self, config: &Path, json: bool) -> Result<u8, Failure> {
        // Warnings are for `check` and `run`: this is asked twice a minute.
        let admin = config::load_admin(config, config::process_environment())?.config;
        let probe = if self.ready {
            Probe::Ready
        } else {
            Probe::Alive
        };
        let answer = ask(admin.listen, probe).await.map_err(failure)?;
        if json {
            print(serde_json::json!({ "healthy": answer.is_good, "state": answer.state }))?;
        } else {
            print(&answer.state)?;
        }
        Ok(if answer.is_good { 0 } else { FAILED })
    }
}

fn failure(error: HealthError) -> Failure {
    let code = match &error {
        HealthError::AnyPort => MISUSED,
        // Not the code for an unreachable broker or portal: nobody was asked about those.
        HealthError::NoAnswer { .. } => FAILED,
    };
    Failure::new(code, error)
}
