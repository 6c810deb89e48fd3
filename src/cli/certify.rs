//! `certify`: the portal's onboarding test cases and the report that it asks for.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{FAILED, Failure, MISUSED, UNREACHABLE, warned};
use crate::config::{self, Rate};
use crate::gstin::Gstin;
use crate::ops::certify::{self, CertifyError, Files, Halt, JournalError, Report, Request};

#[derive(Debug, Args)]
pub(super) struct CertifyArgs {
    #[command(subcommand)]
    command: Option<CertifyCommand>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum CertifyCommand {
    /// Write the reports of a run again, as far as it has come; calls nobody.
    Report {
        /// The run's directory.
        #[arg(long, value_name = "DIR", default_value = DEFAULT_OUT)]
        out: PathBuf,
    },
}

const DEFAULT_OUT: &str = "certify";

#[derive(Debug, Args)]
struct RunArgs {
    /// Whose account: the seller of every document. Not needed where the credentials file has one account.
    #[arg(long, value_name = "GSTIN")]
    gstin: Option<Gstin>,
    /// The buyer of every document (default in a sandbox: a test GSTIN of NIC's).
    #[arg(long, value_name = "GSTIN")]
    buyer: Option<Gstin>,
    /// Where the run's state and its reports are; a run that was interrupted there goes on.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_OUT)]
    out: PathBuf,
    /// No more calls than this; logins beside that no faster than limits.auth_per_gstin.
    #[arg(long, value_name = "RATE", default_value = "1/s")]
    rate: Rate,
    /// So many cases of each kind for each API [default: 50, which is what portals ask for].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    cases: Option<u32>,
    /// So many logins that are to be refused: of users and clients that there are not, never with a wrong password
    /// [default: 50].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=200))]
    failed_logins: Option<u32>,
    /// What the documents' numbers begin with, at most 10 characters (default: made of the time).
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Even in production, where every document is a tax document.
    #[arg(long)]
    yes: bool,
}

impl CertifyArgs {
    /// Carries the cases out, writes the reports and gives the exit code.
    pub(super) async fn run(self, path: &Path, json: bool) -> Result<u8, Failure> {
        match self.command {
            Some(CertifyCommand::Report { out }) => {
                let (report, files) = certify::report(&out).map_err(failure)?;
                tell(&report, &files, json)?;
                Ok(code(&report))
            }
            None => self.run.run(path, json).await,
        }
    }
}

impl RunArgs {
    async fn run(self, path: &Path, json: bool) -> Result<u8, Failure> {
        let config = warned(config::load(path, config::process_environment())?);
        let accounts = config::credentials::load(&config.credentials.path, &config.irp)?;
        for warning in &accounts.warnings {
            eprintln!("irn-worker: warning: {warning}");
        }
        let request = Request {
            gstin: self.gstin,
            buyer: self.buyer,
            out: self.out,
            rate: self.rate,
            cases: self.cases,
            failed_logins: self.failed_logins,
            prefix: self.prefix,
            yes: self.yes,
        };
        let stop = CancellationToken::new();
        let outcome = {
            let run = certify::certify(&config, &accounts.credentials, &request, stop.clone());
            tokio::pin!(run);
            tokio::select! {
                outcome = &mut run => outcome,
                signalled = signalled() => {
                    signalled?;
                    // The call under way is waited for.
                    stop.cancel();
                    run.await
                }
            }
        };
        let outcome = outcome.map_err(failure)?;
        tell(&outcome.report, &outcome.files, json)?;
        let Some(halt) = outcome.halt else {
            return Ok(code(&outcome.report));
        };
        let code = match &halt {
            Halt::Interrupted | Halt::Refused(_) | Halt::ErrorBudget(_) | Halt::Journal(_) => {
                FAILED
            }
            Halt::Unreachable(_) => UNREACHABLE,
        };
        Err(Failure::new(code, halt))
    }
}

/// Waits for SIGINT or SIGTERM.
async fn signalled() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn failure(error: CertifyError) -> Failure {
    let code = match &error {
        CertifyError::Misused(_)
        | CertifyError::Irp(_)
        | CertifyError::Journal(JournalError::NotBegun(_) | JournalError::NotOurs { .. }) => {
            MISUSED
        }
        CertifyError::Journal(JournalError::File { .. } | JournalError::InUse(_))
        | CertifyError::Report { .. } => FAILED,
    };
    Failure::new(code, error)
}

fn code(report: &Report) -> u8 {
    if report.is_good() { 0 } else { FAILED }
}

fn tell(report: &Report, files: &Files, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let mut summary = report.summary();
        summary["files"] = serde_json::json!(files);
        return writeln!(out, "{summary}");
    }
    for line in report.lines() {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "reports: {}", files.html.display())?;
    writeln!(out, "         {}", files.csv.display())?;
    writeln!(out, "         {}", files.json.display())
}
