//! What a job costs: the worker against a bare pipeline of the same libraries, over everything that could change it.
//!
//! `scripts/bench` builds, starts a broker and runs this; docs/benchmarks.md is what it wrote last. Costs are CPU time
//! a job as the kernel counted it for the process, which other load on the machine moves far less than rates.

mod chart;
mod corpus;
mod floor;
mod latency;
mod load;
mod machine;
mod memory;
mod point;
mod process;
mod report;
mod stack;
#[path = "../../tests/it/support/mod.rs"]
mod support;
mod sweep;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::corpus::Corpus;
use crate::floor::FloorArgs;
use crate::latency::{Added, Under, added};
use crate::machine::Machine;
use crate::point::{Amount, measure};
use crate::report::Report;
use crate::stack::{Portal, Setting, Subject, Workplace};
use crate::support::broker::Broker;
use crate::sweep::{Axis, Plan, Point, Row, STANDARD, sweep};

/// Where latency is measured. With a portal that answers at once the processors are all that holds full load back, and half of
/// its jobs, which share fewer wake-ups, keep them nearly as busy.
const UNDER: [Under; 4] = [
    Under {
        delay: Duration::ZERO,
        load_percent: 25,
        replicas: 1,
    },
    Under {
        delay: Duration::ZERO,
        load_percent: 50,
        replicas: 1,
    },
    Under {
        delay: Duration::from_millis(50),
        load_percent: 50,
        replicas: 1,
    },
    Under {
        delay: Duration::from_millis(50),
        load_percent: 50,
        replicas: 4,
    },
];
/// GSTINs with a live session each, where memory is measured.
const MANY_SESSIONS: usize = 10_000;

/// What a job costs the worker and the bare pipeline.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    /// Process id of the broker, whose CPU time is then counted
    #[arg(long)]
    broker_pid: Option<u32>,
    /// File system of the broker's files, for the report
    #[arg(long)]
    broker_files: Option<String>,
    /// Where the report, its figures and its chart are written
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Only the standard point: a minute instead of twenty
    #[arg(long)]
    quick: bool,
    /// What is measured, of all that
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Costs, Part::Latency, Part::Memory])]
    parts: Vec<Part>,
    /// Which axes costs are measured along
    #[arg(long, conflicts_with = "quick", value_enum, value_delimiter = ',', default_values_t = Axis::ALL)]
    axes: Vec<Axis>,
    /// How often each point is measured; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// How many jobs are counted at a point
    #[arg(long, default_value_t = 12_000)]
    jobs: usize,
    /// It gives up after so many minutes
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Over how many jobs the worker's memory is watched
    #[arg(long, default_value_t = 200_000)]
    memory_jobs: usize,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// CPU time of a job, over the sweep
    Costs,
    /// Added latency below full load
    Latency,
    /// Memory: idle, with many sessions, over many jobs
    Memory,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The bare pipeline itself, as a process of its own
    #[command(hide = true)]
    Floor(FloorArgs),
}

fn main() -> ExitCode {
    let options = Options::parse();
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let ran = match &options.command {
        Some(Command::Floor(arguments)) => on_all_cores(floor::run(arguments)),
        None => on_one_core(unless_stopped(&options)),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// As the worker runs.
fn on_all_cores(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// The driver shares the machine with what it measures.
fn on_one_core(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Runs until done, told to stop, or out of time. Whatever was started ends with it.
async fn unless_stopped(options: &Options) -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let within = Duration::from_secs(60 * options.minutes);
    tokio::select! {
        ran = run(options) => ran,
        () = tokio::time::sleep(within) => bail!("not done within {within:?}"),
        _ = terminated.recv() => bail!("stopped"),
        _ = interrupted.recv() => bail!("stopped"),
    }
}

async fn run(options: &Options) -> Result<()> {
    let machine = Machine::of_this_run(options.broker_files.clone()).await?;
    let place = Workplace::new()?;
    let plan = Plan {
        runs: options.runs,
        jobs: options.jobs,
        broker_pid: options.broker_pid,
    };
    let measured = |part| options.parts.contains(&part) && (!options.quick || part == Part::Costs);
    let points: Vec<Point> = match (measured(Part::Costs), options.quick) {
        (false, _) => Vec::new(),
        (true, true) => vec![STANDARD],
        (true, false) => options
            .axes
            .iter()
            .copied()
            .flat_map(Axis::points)
            .collect(),
    };
    let told = |row: &Row| {
        if let Some(run) = row.runs.last() {
            eprintln!(
                "{:?} {}, run {} of {}: {:.1} µs/job, {:.0} jobs/s",
                row.point,
                row.subject,
                row.runs.len(),
                plan.runs,
                run.subject_us,
                run.rate
            );
        }
    };
    let rows = sweep(&place, plan, points, told).await?;
    let latency = match measured(Part::Latency) {
        true => latencies(&place, plan).await?,
        false => Vec::new(),
    };
    let memory = match measured(Part::Memory) {
        true => Some(memory::memory(&place, options.memory_jobs, MANY_SESSIONS).await?),
        false => None,
    };
    let report = Report {
        machine,
        runs: plan.runs,
        jobs: plan.jobs,
        rows,
        latency,
        memory,
    };
    report.write(&options.out)?;
    println!("{}", report.markdown()?);
    Ok(())
}

/// Below full load, for portals that answer at once and that take their time: of each the run in the middle.
async fn latencies(place: &Workplace, plan: Plan) -> Result<Vec<Added>> {
    let corpus = Corpus::make(place.path(), STANDARD.size, STANDARD.sellers)?;
    let portal = Portal::start(place, &corpus, false).await?;
    let amount = Amount {
        warm_up: plan.jobs / 8,
        counted: plan.jobs / 2,
    };
    let subjects = [Subject::Floor, Subject::Worker { preflight: true }];
    let mut kinds: Vec<_> = UNDER
        .into_iter()
        .flat_map(|under| subjects.map(|subject| (under, subject, Vec::new())))
        .collect();
    // Each kind once before the next run, as in the sweep.
    for _ in 0..plan.runs {
        for (under, subject, runs) in &mut kinds {
            let (broker, another) = (Broker::new().await?, Broker::new().await?);
            let setting = Setting {
                place,
                broker_url: &broker.url(),
                portal: &portal,
                corpus: &corpus,
                concurrency: STANDARD.concurrency,
                delay: under.delay,
            };
            let full = measure(&setting, plan.broker_pid, *subject, 1, amount).await?;
            let setting = Setting {
                broker_url: &another.url(),
                ..setting
            };
            write_back().await?;
            let seen = added(&setting, *subject, full.rate, *under).await?;
            eprintln!("{seen:?}");
            runs.push(seen);
        }
    }
    portal.program.end().await?;
    let middle = |(_, _, runs)| Added::median(runs);
    Ok(kinds.into_iter().filter_map(middle).collect())
}

/// What the broker wrote in earlier runs, the kernel writes to the disk half a minute later: in the midst of this one,
/// where it keeps the broker waiting for a tenth of a second.
async fn write_back() -> Result<()> {
    let status = tokio::process::Command::new("sync").status().await?;
    ensure!(status.success(), "sync ended with {status}");
    Ok(())
}
