//! What a job costs: the worker against a bare pipeline of the same libraries, over everything that could change it.
//!
//! `scripts/bench` builds, starts a broker and runs this; docs/benchmarks.md is what it wrote last. Costs are CPU time
//! a job as the kernel counted it for the process, which other load on the machine moves far less than rates.

mod corpus;
mod floor;
mod load;
mod point;
mod process;
mod stack;
#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::corpus::Corpus;
use crate::floor::FloorArgs;
use crate::point::{Amount, measure};
use crate::stack::{Portal, Setting, Subject, Workplace};
use crate::support::broker::Broker;

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
    /// Only the standard point
    #[arg(long)]
    quick: bool,
    /// How often each point is measured; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// How many jobs are counted at a point
    #[arg(long, default_value_t = 20_000)]
    jobs: usize,
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
        None => on_one_core(run(&options)),
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

async fn run(options: &Options) -> Result<()> {
    let place = Workplace::new()?;
    let corpus = Corpus::make(place.path(), 8_000, 100)?;
    let portal = Portal::start(&place, &corpus, false).await?;
    println!("document: {} bytes, {} sellers", corpus.size(), corpus.sellers);
    let amount = Amount {
        warm_up: 2_000,
        counted: options.jobs,
    };
    for run in 0..options.runs {
        for subject in [
            Subject::Floor,
            Subject::Worker { preflight: false },
            Subject::Worker { preflight: true },
        ] {
            let broker = Broker::new().await?;
            let setting = Setting {
                place: &place,
                broker_url: &broker.url(),
                portal: &portal,
                corpus: &corpus,
                concurrency: 64,
            };
            let measured = measure(&setting, &broker, options.broker_pid, subject, 1, amount).await?;
            println!("{run} {:<20} {measured:.1?}", subject.name());
        }
    }
    Ok(())
}
