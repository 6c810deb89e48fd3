//! `submit`: files become jobs.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::duration::duration;
use super::{FAILED, Failure, MISUSED, broker_failure, broker_side};
use crate::gstin::Gstin;
use crate::job::Operation;
use crate::ops::submit::{Request, SubmitError, Summary, Wait, submit};

/// What to submit, and how.
#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    /// Files, directories, or - for standard input.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    inputs: Vec<PathBuf>,
    /// What to ask for: generate, cancel, get or ewb; for all but generate the inputs are the bodies of such jobs.
    #[arg(long, value_name = "OPERATION", default_value = "generate", value_parser = operation)]
    operation: Operation,
    /// Wait for the results.
    #[arg(long)]
    wait: bool,
    /// Write one result a line to this file (default: standard output).
    #[arg(long, value_name = "FILE", requires = "wait")]
    out: Option<PathBuf>,
    /// Stop waiting after this long, for example 10m.
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
    /// Ahead of the other jobs.
    #[arg(long)]
    urgent: bool,
    /// Use this GSTIN's credentials, not the seller's; needed for all operations but generate.
    #[arg(long, value_name = "GSTIN")]
    gstin: Option<Gstin>,
    /// Do not submit after this moment (RFC 3339).
    #[arg(long, value_name = "TIME")]
    deadline: Option<Timestamp>,
    /// Have results sent to this queue (default: replies.default_queue).
    #[arg(long, value_name = "QUEUE", conflicts_with = "wait")]
    reply_to: Option<String>,
}

impl SubmitArgs {
    /// Publishes, waits if asked to, and gives the exit code.
    pub(super) async fn run(self, path: &Path, json: bool) -> Result<u8, Failure> {
        let config = broker_side(path)?;
        let operation = self.operation;
        if operation != Operation::Generate && self.gstin.is_none() {
            let needs = format!(
                "--operation {} needs --gstin: its jobs do not say in whose name the portal is to be asked",
                operation.as_str()
            );
            return Err(Failure::new(MISUSED, needs));
        }
        let has_results = self.wait && self.out.is_none();
        let request = Request {
            operation,
            inputs: self.inputs,
            urgent: self.urgent,
            gstin: self.gstin,
            deadline: self.deadline,
            reply_to: self.reply_to,
            wait: self.wait.then_some(Wait {
                out: self.out,
                timeout: self.timeout,
            }),
        };
        let summary = submit(&config, &request).await.map_err(failure)?;
        print_summary(&summary, json, has_results)?;
        Ok(if summary.is_good() { 0 } else { FAILED })
    }
}

fn operation(text: &str) -> Result<Operation, String> {
    let mut all = Operation::ALL.into_iter();
    all.find(|operation| operation.as_str() == text)
        .ok_or_else(|| "it is one of generate, cancel, get, ewb".to_owned())
}

fn failure(error: SubmitError) -> Failure {
    let code = match &error {
        SubmitError::Broker(error) => return broker_failure("the broker", error),
        SubmitError::File { .. }
        | SubmitError::NotAllowed(_)
        | SubmitError::Nothing
        | SubmitError::Endpoint(_) => MISUSED,
        SubmitError::Output(_)
        | SubmitError::NotJson { .. }
        | SubmitError::NoTopology
        | SubmitError::Refused(_) => FAILED,
    };
    Failure::new(code, error)
}

/// To standard error, unless it is wanted as JSON and no results are on standard output.
fn print_summary(summary: &Summary, json: bool, has_results: bool) -> io::Result<()> {
    match (json, has_results) {
        (true, false) => writeln!(io::stdout().lock(), "{}", summary.json()),
        (true, true) => writeln!(io::stderr().lock(), "{}", summary.json()),
        (false, _) => summary.write(&mut io::stderr().lock()),
    }
}
