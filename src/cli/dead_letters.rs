//! `dead-letters`: looking at what the worker gave up on, and replaying, exporting or dropping it.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{FAILED, Failure, MISUSED, UNREACHABLE, print, warned};
use crate::broker::BrokerError;
use crate::config::{self, LettersSide, Rate};
use crate::gstin::Gstin;
use crate::ops::dead_letters::audit::Audit;
use crate::ops::dead_letters::{
    self as letters, Canary, Discarded, Ended, Filter, LetterQueue, LettersError, Looked,
    ReplayRequest, Replayed, Shown,
};

/// Looking marks letters: a letter that was looked at is looked up at the portal before it is sent again.
#[derive(Debug, Subcommand)]
pub(super) enum DeadLettersCommand {
    /// Count letters by reason, code and GSTIN.
    List(FilterArgs),
    /// Print letters: properties and headers, the body only with --body.
    Show(ShowArgs),
    /// Make jobs of letters again. Interrupt it at any time: nothing is lost, nothing is registered twice.
    Replay(ReplayArgs),
    /// Write letters whole, one JSON object a line; they stay where they are.
    Export(ExportArgs),
    /// Delete letters for good. Needs a filter and --yes.
    Drop(DropArgs),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum QueueArg {
    /// irn.dead: jobs that the worker gave up on.
    Dead,
    /// irn.poison: what it could not read, and what the broker moved there.
    Poison,
}

/// Which letters.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// In which queue.
    #[arg(long, value_enum, default_value = "dead")]
    queue: QueueArg,
    /// That died of this, RETRIES_EXHAUSTED for example; may be repeated.
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,
    /// Whose last attempt ended with this code, 1019 for example; may be repeated.
    #[arg(long = "code", value_name = "CODE")]
    codes: Vec<String>,
    /// Of this GSTIN; may be repeated.
    #[arg(long = "gstin", value_name = "GSTIN")]
    gstins: Vec<Gstin>,
    /// With this job id; may be repeated.
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Dead for at least this long, for example 15m.
    #[arg(long, value_name = "DURATION")]
    older_than: Option<SignedDuration>,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// Also print the documents.
    #[arg(long)]
    body: bool,
}

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// No faster than this, for example 50/s.
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Say what would be done and what it may cost, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Replay so many first, wait for their results, and go on only if none of them died.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    canary: Option<u32>,
    /// How long to wait for the results of the canaries.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10m",
        requires = "canary"
    )]
    canary_timeout: SignedDuration,
    /// Also replay what died twice of the same cause, and what is in irn.poison.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Into this file, which only you may read (default: standard output). There are documents in it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Really.
    #[arg(long)]
    yes: bool,
}

impl FilterArgs {
    fn read(&self) -> Result<(LetterQueue, Filter), Failure> {
        let queue = match self.queue {
            QueueArg::Dead => LetterQueue::Dead,
            QueueArg::Poison => LetterQueue::Poison,
        };
        let filter = Filter {
            reasons: self.reasons.clone(),
            codes: self.codes.clone(),
            gstins: self.gstins.clone(),
            ids: self.ids.clone(),
            older_than: self
                .older_than
                .map(|age| positive("--older-than", age))
                .transpose()?,
        };
        Ok((queue, filter))
    }
}

fn positive(name: &str, duration: SignedDuration) -> Result<Duration, Failure> {
    Duration::try_from(duration)
        .map_err(|_| Failure::new(MISUSED, format!("{name} must not be negative")))
}

/// What a command did, for the audit line, and how it ended.
type Done = (Value, Result<u8, Failure>);

impl DeadLettersCommand {
    /// Does it and gives the exit code.
    pub(super) async fn run(self, path: &Path, json: bool) -> Result<u8, Failure> {
        let loaded = config::load_letters_side(path, config::process_environment())?;
        let config = warned(loaded);
        match self {
            Self::List(arguments) => list(&config, json, &arguments).await,
            Self::Show(arguments) => show(&config, json, &arguments).await,
            Self::Export(arguments) => export(&config, json, &arguments).await,
            Self::Replay(arguments) if arguments.dry_run => plan(&config, json, &arguments).await,
            Self::Replay(arguments) => replay(&config, json, &arguments).await,
            Self::Drop(arguments) => discard(&config, json, &arguments).await,
        }
    }
}

/// Tells how it ended, and hands the ending on.
fn audited(audit: &Audit, (did, ended): Done) -> Result<u8, Failure> {
    let exit = match &ended {
        Ok(code) => *code,
        Err(failure) => failure.code,
    };
    audit.ends(&did, exit);
    ended
}

async fn list(config: &LettersSide, json: bool, arguments: &FilterArgs) -> Result<u8, Failure> {
    let (queue, filter) = arguments.read()?;
    let audit = Audit::of("list", config, queue, &filter, Value::Null);
    let done = match letters::list(config, queue, &filter).await {
        Ok(listing) => {
            let printed = if json {
                print(listing.json())
            } else {
                listing
                    .write(&mut io::stdout().lock())
                    .map_err(Failure::from)
                    .map(|()| 0)
            };
            (json!({ "letters": listing.groups.count() }), printed)
        }
        Err(error) => (Value::Null, Err(failure(error))),
    };
    audited(&audit, done)
}

async fn show(config: &LettersSide, json: bool, arguments: &ShowArgs) -> Result<u8, Failure> {
    let (queue, filter) = arguments.filter.read()?;
    let options = json!({ "limit": arguments.limit, "body": arguments.body });
    let audit = Audit::of("show", config, queue, &filter, options);
    let shown = Shown {
        limit: arguments.limit,
        body: arguments.body,
        json,
    };
    let looked = letters::show(config, queue, &filter, shown, &mut io::stdout()).await;
    if let Ok(Looked { matched: 0, seen }) = &looked {
        eprintln!(
            "irn-worker: none of the {seen} letters in {} is meant",
            queue.name()
        );
    }
    audited(&audit, looked_at(looked))
}

fn looked_at(looked: Result<Looked, LettersError>) -> Done {
    match looked {
        Ok(looked) => {
            let did = json!({ "looked_at": looked.seen, "letters": looked.matched });
            (did, Ok(0))
        }
        Err(error) => (Value::Null, Err(failure(error))),
    }
}

async fn export(config: &LettersSide, json: bool, arguments: &ExportArgs) -> Result<u8, Failure> {
    let (queue, filter) = arguments.filter.read()?;
    let options = json!({ "limit": arguments.limit, "out": arguments.out });
    let audit = Audit::of("export", config, queue, &filter, options);
    let mut out: Box<dyn Write + Send> = match &arguments.out {
        Some(path) => Box::new(BufWriter::new(private_file(path)?)),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let looked = letters::export(config, queue, &filter, arguments.limit, &mut out).await;
    if let Ok(looked) = &looked {
        let (exported, queue) = (looked.matched, queue.name());
        if json {
            eprintln!("{}", json!({ "exported": exported, "queue": queue }));
        } else {
            eprintln!("{exported} letters of {queue} exported; they are still there");
        }
    }
    audited(&audit, looked_at(looked))
}

/// A new file: what is there is not written over, and its mode would not change.
fn private_file(path: &Path) -> Result<std::fs::File, Failure> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| Failure::new(FAILED, format!("{}: {error}", path.display())))
}

async fn plan(config: &LettersSide, json: bool, arguments: &ReplayArgs) -> Result<u8, Failure> {
    let (queue, filter) = arguments.filter.read()?;
    let options = json!({ "dry_run": true, "limit": arguments.limit, "force": arguments.force });
    let audit = Audit::of("replay", config, queue, &filter, options);
    let planned = letters::plan(config, queue, &filter, arguments.limit, arguments.force).await;
    let done = match planned {
        Ok(plan) => {
            let printed = if json {
                print(plan.json(&config.limits))
            } else {
                plan.write(&config.limits, &mut io::stdout().lock())
                    .map_err(Failure::from)
                    .map(|()| 0)
            };
            (json!({ "replayable": plan.groups.count() }), printed)
        }
        Err(error) => (Value::Null, Err(failure(error))),
    };
    audited(&audit, done)
}

async fn replay(config: &LettersSide, json: bool, arguments: &ReplayArgs) -> Result<u8, Failure> {
    let (queue, filter) = arguments.filter.read()?;
    if queue == LetterQueue::Poison && !arguments.force {
        return Err(Failure::new(
            MISUSED,
            "what is in irn.poison could not be read, or brought workers down, and would again: look at it with `show`, \
             and give --force if it can be read now",
        ));
    }
    let patience = positive("--canary-timeout", arguments.canary_timeout)?;
    let request = ReplayRequest {
        queue,
        filter,
        limit: arguments.limit,
        rate: arguments.rate,
        canary: arguments.canary.map(|count| Canary { count, patience }),
        force: arguments.force,
    };
    let rate = arguments
        .rate
        .map(|rate| f64::from(rate.count.get()) / rate.period.as_secs_f64());
    let options = json!({
        "limit": arguments.limit, "per_second": rate, "canary": arguments.canary, "force": arguments.force,
    });
    let audit = Audit::of("replay", config, queue, &request.filter, options);
    audit.begins();
    let stop = CancellationToken::new();
    let replayed = until_stopped(&stop, letters::replay(config, &request, &stop)).await?;
    let did = replayed_json(&replayed);
    let printed = if json {
        print(&did)
    } else {
        print(replayed_text(&replayed))
    };
    let ended = match replayed.ended {
        Ended::Done => printed,
        // The sentence is in what was printed.
        Ended::Interrupted | Ended::CanariesDied(_) | Ended::CanariesSilent(_) => {
            printed.map(|_| FAILED)
        }
        Ended::Failed(error) => Err(failure(error)),
    };
    audited(&audit, (did, ended))
}

/// Does the work; SIGINT and SIGTERM ask it to end, and it ends when everything is in its place.
async fn until_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let install = |kind| signal(kind).map_err(|error| Failure::new(FAILED, error));
    let mut terminate = install(SignalKind::terminate())?;
    let mut interrupt = install(SignalKind::interrupt())?;
    let heed = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        eprintln!("irn-worker: stopping");
        stop.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        done = work => Ok(done),
        () = heed => Err(Failure::new(FAILED, "stopped")),
    }
}

fn replayed_json(replayed: &Replayed) -> Value {
    let (stopped, why) = match &replayed.ended {
        Ended::Done => (Value::Null, Value::Null),
        Ended::Interrupted => ("interrupted".into(), Value::Null),
        Ended::CanariesDied(deaths) => (
            "canaries_died".into(),
            json!({ "of_the_same": deaths.of_the_same, "of_another": deaths.of_another, "reasons": deaths.causes }),
        ),
        Ended::CanariesSilent(count) => ("canaries_silent".into(), json!({ "silent": count })),
        Ended::Failed(error) => ("failed".into(), error.to_string().into()),
    };
    json!({
        "replayed": replayed.replayed, "in_doubt": replayed.in_doubt, "kept": replayed.kept,
        "canaries": replayed.canaries, "canary_results": replayed.canary_statuses,
        "stopped": stopped, "why": why,
    })
}

fn replayed_text(replayed: &Replayed) -> String {
    let kept = replayed.kept;
    let mut lines = vec![format!(
        "{} letters are jobs again, {} of them to be looked up before they are sent",
        replayed.replayed, replayed.in_doubt
    )];
    if replayed.canaries > 0 {
        let results = replayed.canary_statuses.iter();
        let results: Vec<_> = results
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        lines.push(format!(
            "{} of them went first: {}",
            replayed.canaries,
            if results.is_empty() {
                "no result yet".to_owned()
            } else {
                results.join(", ")
            }
        ));
    }
    for (count, why) in [
        (kept.not_asked_for, "were not asked for"),
        (kept.died_since, "died after this began"),
        (
            kept.died_twice,
            "died twice of the same cause; --force replays them too",
        ),
        (
            kept.no_document,
            "cannot be replayed: their document was not kept",
        ),
        (
            kept.no_operation,
            "cannot be replayed: nothing says what they asked for",
        ),
    ] {
        if count > 0 {
            lines.push(format!("{count} stay: they {why}"));
        }
    }
    lines.extend(stopped_text(&replayed.ended));
    lines.join("\n")
}

fn stopped_text(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Done | Ended::Failed(_) => None,
        Ended::Interrupted => Some("stopped as asked; replay again to go on".to_owned()),
        Ended::CanariesDied(deaths) => {
            let same = match (deaths.of_the_same, deaths.of_another) {
                (same, 0) => format!("{same} canaries died of the same cause again"),
                (0, other) => format!("{other} canaries died of another cause"),
                (same, other) => {
                    format!("{same} canaries died of the same cause again, and {other} of another")
                }
            };
            Some(format!(
                "stopped: {same} ({}); remove the cause and replay again",
                deaths.causes.join(", ")
            ))
        }
        Ended::CanariesSilent(count) => Some(format!(
            "stopped: {count} canaries have no result yet; look at the workers, or give --canary-timeout more time"
        )),
    }
}

async fn discard(config: &LettersSide, json: bool, arguments: &DropArgs) -> Result<u8, Failure> {
    let (queue, filter) = arguments.filter.read()?;
    if filter.is_everything() {
        return Err(Failure::new(
            MISUSED,
            "drop deletes for good: say which letters, by --reason, --code, --gstin, --id or --older-than",
        ));
    }
    if !arguments.yes {
        return Err(Failure::new(
            MISUSED,
            "drop deletes for good: look at what is meant with `dead-letters list` and the same filters, keep a copy \
             with `export`, then give --yes",
        ));
    }
    let audit = Audit::of(
        "drop",
        config,
        queue,
        &filter,
        json!({ "limit": arguments.limit }),
    );
    audit.begins();
    let stop = CancellationToken::new();
    let dropping = letters::discard(config, queue, &filter, arguments.limit, &stop);
    let done = match until_stopped(&stop, dropping).await? {
        Ok(discarded) => dropped(queue, discarded, json),
        Err(error) => (Value::Null, Err(failure(error))),
    };
    audited(&audit, done)
}

fn dropped(queue: LetterQueue, discarded: Discarded, json: bool) -> Done {
    let did = json!(discarded);
    let printed = if json {
        print(&did)
    } else {
        let in_doubt = match discarded.in_doubt {
            0 => String::new(),
            count => format!(
                "; the documents of {count} of them may be registered: ask the portal, or keep what `export` wrote"
            ),
        };
        print(format_args!(
            "{} letters dropped from {}{in_doubt}",
            discarded.dropped,
            queue.name()
        ))
    };
    let ended = printed.map(|code| if discarded.interrupted { FAILED } else { code });
    (did, ended)
}

fn failure(error: LettersError) -> Failure {
    match error {
        LettersError::Output(error) => error.into(),
        LettersError::Endpoint(_) => Failure::new(MISUSED, error),
        LettersError::NoRungs => Failure::new(MISUSED, error),
        LettersError::Broker(BrokerError::Topology { .. } | BrokerError::Malformed)
        | LettersError::Publish(_) => Failure::new(FAILED, error),
        LettersError::Broker(BrokerError::Lost(_) | BrokerError::Timeout(_)) => Failure::new(
            UNREACHABLE,
            format!("the broker: {error}; is it running, and is broker.url right?"),
        ),
    }
}
