//! The command line of contract section 1: what can be typed, and with which code it ends.

mod certify;
mod dead_letters;
mod duration;
mod explain;
mod health;
mod pause;
mod resume;
mod submit;
mod topology;
mod verify;
mod whom;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::app;
use crate::broker::{BrokerError, Endpoint};
use crate::config::{self, BrokerConfig, BrokerSide, ConfigFaults, Loaded};
use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn, parse_document_date};
use crate::ops::validate::Output;
use crate::ops::{check, online, validate};
use crate::preflight::Preflight;
use crate::telemetry;

use certify::CertifyArgs;
use dead_letters::DeadLettersCommand;
use explain::ExplainArgs;
use health::HealthArgs;
use pause::PauseArgs;
use resume::ResumeArgs;
use submit::SubmitArgs;
use topology::TopologyCommand;
use verify::VerifyArgs;

/// The work failed.
const FAILED: u8 = 1;
/// Wrong usage or configuration.
const MISUSED: u8 = 2;
/// Broker or portal cannot be reached.
const UNREACHABLE: u8 = 3;

/// Where the configuration is looked for.
const DEFAULT_CONFIG: &str = "config/worker.toml";

/// Has invoices from RabbitMQ registered at India's Invoice Registration Portal and hands back signed results.
#[derive(Debug, Parser)]
#[command(name = "irn-worker", version, about)]
pub struct Cli {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "IRN_WORKER_CONFIG",
        default_value = DEFAULT_CONFIG
    )]
    config: PathBuf,
    /// Print results for a script.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Consume jobs until told to stop (SIGTERM or SIGINT), then drain.
    Run {
        /// Start even on a broker that would lose messages, as `check` tells.
        #[arg(long)]
        allow_unsafe_broker: bool,
    },
    /// Say, line by line, what is right with the configuration, the broker and the portal, and what is not.
    #[command(alias = "doctor")]
    Check {
        /// Also log in once for every GSTIN.
        #[arg(long)]
        login: bool,
        /// Look at the files only; ask neither broker nor portal.
        #[arg(long, conflicts_with = "login")]
        offline: bool,
    },
    /// Ask the worker on this machine, at admin.listen, whether it is alive; exit 1 if not. For a container's health
    /// check, which then needs neither a shell nor curl.
    Health(HealthArgs),
    /// Exchanges, queues and bindings on the broker.
    #[command(subcommand)]
    Topology(TopologyCommand),
    /// Publish invoices, or requests about registered ones (JSON, JSON arrays or NDJSON), as jobs.
    Submit(SubmitArgs),
    /// Judge documents as the worker would before it submits them, offline; exit 1 if any is refused.
    Validate {
        /// A file with one document, a JSON array or one document a line (NDJSON); - for standard input.
        #[arg(value_name = "FILE|-")]
        input: PathBuf,
    },
    /// Verify signed invoices or signed QR codes and print what they say; exit 1 if any is not genuine.
    Verify(VerifyArgs),
    /// What the worker gave up on: count, look, replay, export, drop.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Send nothing to the portal for a GSTIN, for a client's GSTINs or for anybody, on any replica, until the time is over
    /// or `resume` lifts the pause; their jobs wait.
    Pause(PauseArgs),
    /// Tell every replica that the trouble with a GSTIN or a client is over: a pause is lifted, what its account was refused
    /// for and its errors so far are forgotten, and its jobs go on.
    Resume(ResumeArgs),
    /// Say what a code or a status means, who fixes it and what the worker does; exit 1 if it is not known.
    Explain(ExplainArgs),
    /// Carry the portal's onboarding test cases out, at a sandbox, and write the summary test report that it asks for; exit
    /// 1 if a case did not go as expected.
    Certify(CertifyArgs),
    /// Compute an IRN.
    Irn {
        /// The seller.
        gstin: Gstin,
        /// The document's date, dd/mm/yyyy.
        date: String,
        /// INV, CRN or DBN.
        r#type: DocumentType,
        /// The document's number.
        number: String,
    },
}

/// A command that failed: what to say, and the exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(code: u8, error: impl std::fmt::Display) -> Self {
        Self {
            code,
            message: error.to_string(),
        }
    }
}

impl From<ConfigFaults> for Failure {
    fn from(faults: ConfigFaults) -> Self {
        Self::new(MISUSED, faults)
    }
}

impl From<io::Error> for Failure {
    /// Nothing is said of a closed pipe: whoever reads the output, `head` for example, has seen enough.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(FAILED, ""),
            _ => Self::new(FAILED, error),
        }
    }
}

/// Runs the command and gives the process's exit code.
pub fn run(cli: Cli) -> ExitCode {
    let runtime = match runtime_for(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("irn-worker: cannot start its threads: {error}");
            return ExitCode::from(FAILED);
        }
    };
    if let Err(error) = app::forbid_core_files() {
        eprintln!("irn-worker: {error}");
        return ExitCode::from(FAILED);
    }
    // On a thread like the others, whose stack is as deep as theirs: see main.rs.
    let command = std::thread::spawn(move || {
        let ended = runtime.block_on(dispatch(cli));
        // A look-up of a name that hangs is nobody's any more.
        runtime.shutdown_timeout(Duration::from_millis(500));
        ended
    });
    match command.join() {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(failure)) => {
            for line in failure.message.lines() {
                eprintln!("irn-worker: {line}");
            }
            ExitCode::from(failure.code)
        }
        // The panic hook has told of it.
        Err(_) => ExitCode::from(FAILED),
    }
}

/// A worker works on one thread, beside those that the AMQP library has for its connections: handing a job from one
/// thread to the next costs it a sixth of its CPU time, and one thread carries thousands of jobs a second, which no
/// portal takes. More is what replicas are for.
fn runtime_for(command: &Command) -> io::Result<tokio::runtime::Runtime> {
    let mut threads = if matches!(command, Command::Run { .. }) {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    threads.enable_all().build()
}

async fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let Cli {
        config,
        json,
        command,
    } = cli;
    match command {
        Command::Run {
            allow_unsafe_broker,
        } => run_worker(&config, allow_unsafe_broker).await,
        Command::Check { login, offline } => run_check(&config, json, login, offline).await,
        Command::Health(arguments) => arguments.run(&config, json).await,
        Command::Topology(command) => command.run(&config, json).await,
        Command::DeadLetters(command) => command.run(&config, json).await,
        Command::Pause(arguments) => arguments.run(&config, json).await,
        Command::Resume(arguments) => arguments.run(&config, json).await,
        Command::Submit(arguments) => arguments.run(&config, json).await,
        Command::Validate { input } => run_validate(&config, json, &input),
        Command::Verify(arguments) => arguments.run(&config, json),
        Command::Explain(arguments) => arguments.run(&config, json),
        Command::Certify(arguments) => arguments.run(&config, json).await,
        Command::Irn {
            gstin,
            date,
            r#type,
            number,
        } => print_irn(json, &gstin, &date, r#type, &number),
    }
}

/// What the commands need that talk to the broker alone.
fn broker_side(path: &Path) -> Result<BrokerSide, Failure> {
    let loaded = config::load_broker_side(path, config::process_environment())?;
    Ok(warned(loaded))
}

fn warned<T>(loaded: Loaded<T>) -> T {
    for warning in &loaded.warnings {
        eprintln!("irn-worker: warning: {warning}");
    }
    loaded.config
}

async fn run_worker(path: &Path, allow_unsafe_broker: bool) -> Result<u8, Failure> {
    // Before any other thread is started, that of the log among them.
    let scheduled = app::use_sched_batch();
    let loaded = config::load(path, config::process_environment())?;
    let _flush =
        telemetry::init_logging(&loaded.config.log).map_err(|error| Failure::new(FAILED, error))?;
    if let Err(error) = scheduled {
        telemetry::sched_batch_refused(&error);
    }
    let accounts = config::credentials::load(&loaded.config.credentials.path, &loaded.config.irp)?;
    loaded
        .warnings
        .iter()
        .chain(&accounts.warnings)
        .for_each(telemetry::config_warning);
    match app::run(loaded.config, accounts.credentials, allow_unsafe_broker).await {
        Ok(crate::worker::Stopped::Drained) => Ok(0),
        Ok(crate::worker::Stopped::GraceOver { .. }) => Ok(FAILED),
        Err(error) if error.may_heal() => Err(Failure::new(FAILED, error)),
        Err(error) => Err(Failure::new(MISUSED, error)),
    }
}

async fn run_check(path: &Path, json: bool, login: bool, offline: bool) -> Result<u8, Failure> {
    let found = check::offline(path, config::process_environment());
    let mut report = found.report;
    if let Some(config) = found.config.as_ref().filter(|_| !offline) {
        report
            .findings
            .extend(online::online(config, found.credentials.as_ref(), login).await);
    }
    let mut out = io::stdout().lock();
    if json {
        report.write_json(&mut out)?
    } else {
        report.write_text(&mut out)?
    }
    Ok(report.exit_code())
}

fn print(line: impl std::fmt::Display) -> Result<u8, Failure> {
    writeln!(io::stdout(), "{line}")?;
    Ok(0)
}

fn endpoint(config: &BrokerConfig, name: &str) -> Result<Endpoint, Failure> {
    Endpoint::try_new(config, name).map_err(|error| Failure::new(MISUSED, error))
}

/// One that cannot be reached is told apart from one that is there and refuses.
fn broker_failure(whose: &str, error: &BrokerError) -> Failure {
    match error {
        BrokerError::Lost(_) | BrokerError::Timeout(_) => unreachable(whose, error),
        BrokerError::Refused { .. }
        | BrokerError::Blocked
        | BrokerError::Topology { .. }
        | BrokerError::Malformed => Failure::new(FAILED, error),
    }
}

fn unreachable(whose: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        UNREACHABLE,
        format!("{whose}: {error}; is it running, and is broker.url right?"),
    )
}

fn run_validate(path: &Path, json: bool, input: &Path) -> Result<u8, Failure> {
    // Judging needs no configuration: without a file in the usual place, the defaults do.
    let is_there = path != Path::new(DEFAULT_CONFIG) || path.exists();
    let side = warned(config::load_validation(
        is_there.then_some(path),
        config::process_environment(),
    )?);
    if !is_there {
        eprintln!("irn-worker: no {DEFAULT_CONFIG} here: judging by the defaults");
    }
    let preflight = Preflight::new(&side.validate, side.environment)
        .map_err(|fault| Failure::new(MISUSED, fault))?;
    let document = validate::open(input)
        .map_err(|error| Failure::new(MISUSED, format!("{}: {error}", input.display())))?;
    let output = if json { Output::Json } else { Output::Text };
    let summary = validate::validate(&preflight, document, io::stdout().lock(), output)?;
    if summary.documents == 0 && summary.is_good() {
        return Err(Failure::new(MISUSED, "no documents found in the input"));
    }
    Ok(if summary.is_good() { 0 } else { FAILED })
}

fn print_irn(
    json: bool,
    gstin: &Gstin,
    date: &str,
    kind: DocumentType,
    number: &str,
) -> Result<u8, Failure> {
    let date = parse_document_date(date).ok_or_else(|| {
        Failure::new(
            MISUSED,
            "the date must be dd/mm/yyyy, for example 05/09/2025",
        )
    })?;
    let irn = Irn::compute(gstin, date, kind, number);
    if json {
        print(serde_json::json!({ "irn": irn }))
    } else {
        print(irn)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
