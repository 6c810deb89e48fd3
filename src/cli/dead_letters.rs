//! `dead-letters`: looking at what the worker gave up on, and replaying, exporting or dropping it.

mod args;
mod new_file;
mod report;

use std::io::{self, BufWriter, Write};
use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{FAILED, Failure, MISUSED, broker_failure, print, unreachable, warned};
use crate::broker::PublishError;
use crate::config::{self, LettersSide};
use crate::ops::dead_letters::audit::Audit;
use crate::ops::dead_letters::{
    self as letters, Canary, Discarded, Ended, LetterQueue, LettersError, Looked, ReplayRequest,
    Replayed, Shown, said_of,
};

use args::{DropArgs, ExportArgs, FilterArgs, ReplayArgs, ShowArgs};
use new_file::NewFile;
use report::{dropped_text, replayed_json, replayed_text};

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
    let (queue, filter) = arguments.read();
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
    let (queue, filter) = arguments.filter.read();
    let options = json!({ "limit": arguments.limit, "body": arguments.body });
    let audit = Audit::of("show", config, queue, &filter, options);
    if arguments.body {
        audit.begins();
    }
    let shown = Shown {
        limit: arguments.limit,
        body: arguments.body,
        json,
    };
    let looked = letters::show(config, queue, &filter, shown, &mut io::stdout()).await;
    if let Ok(Looked {
        matched: 0, seen, ..
    }) = &looked
    {
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
            if let Some(said) = said_of(looked.elsewhere) {
                eprintln!("irn-worker: {said}");
            }
            let did = json!({
                "looked_at": looked.seen, "letters": looked.matched,
                "in_other_hands": looked.elsewhere.counted, "others_hold_more": looked.elsewhere.uncounted,
            });
            (did, Ok(0))
        }
        Err(error) => (Value::Null, Err(failure(error))),
    }
}

async fn export(config: &LettersSide, json: bool, arguments: &ExportArgs) -> Result<u8, Failure> {
    let (queue, filter) = arguments.filter.read();
    let options = json!({ "limit": arguments.limit, "out": arguments.out });
    let audit = Audit::of("export", config, queue, &filter, options);
    audit.begins();
    let new_file = match arguments.out.as_deref().map(NewFile::begin).transpose() {
        Ok(new_file) => new_file,
        Err(failure) => return audited(&audit, (Value::Null, Err(failure))),
    };
    let mut out: Box<dyn Write + Send> = match &new_file {
        Some(new_file) => Box::new(BufWriter::new(new_file.writer())),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let looked = letters::export(config, queue, &filter, arguments.limit, &mut out).await;
    drop(out);
    let (did, ended) = looked_at(looked);
    let ended = ended.and_then(|code| {
        new_file.map_or(Ok(()), NewFile::finish)?;
        if json {
            let told = json!({
                "exported": did["letters"], "queue": queue.name(),
                "in_other_hands": did["in_other_hands"], "others_hold_more": did["others_hold_more"],
            });
            eprintln!("{told}");
        } else {
            let (exported, queue) = (&did["letters"], queue.name());
            eprintln!("{exported} letters of {queue} exported; they are still there");
        }
        Ok(code)
    });
    audited(&audit, (did, ended))
}

async fn plan(config: &LettersSide, json: bool, arguments: &ReplayArgs) -> Result<u8, Failure> {
    let (queue, filter) = arguments.filter.read();
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
    let (queue, filter) = arguments.filter.read();
    let patience = arguments.canary_timeout;
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
    if queue == LetterQueue::Poison && !arguments.force {
        return refused(
            &audit,
            "what is in irn.poison could not be read, or brought workers down, and would again: look at it with `show`, \
             and give --force if it can be read now",
        );
    }
    let mut signals = Signals::install()?;
    audit.begins();
    let stop = CancellationToken::new();
    let mut replayed = Replayed::default();
    let replaying = letters::replay(config, &request, &stop, &mut replayed);
    // What it came to is told however it ended.
    let _: Option<()> = until_stopped(&stop, async || signals.next().await, replaying).await;
    let did = replayed_json(&replayed);
    let printed = if json {
        print(&did)
    } else {
        print(replayed_text(&replayed))
    };
    let ended = match replayed.ended {
        Ended::Done => printed,
        // The sentence is in what was printed.
        Ended::InOtherHands
        | Ended::Interrupted
        | Ended::Left
        | Ended::CanariesDied(_)
        | Ended::CanariesSilent(_) => printed.map(|_| FAILED),
        Ended::Failed(error) => Err(failure(error)),
    };
    audited(&audit, (did, ended))
}

/// Of a command that is not begun, too, somebody may want to know.
fn refused(audit: &Audit, why: &str) -> Result<u8, Failure> {
    audited(audit, (Value::Null, Err(Failure::new(MISUSED, why))))
}

/// SIGINT and SIGTERM.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> Result<Self, Failure> {
        let install = |kind| signal(kind).map_err(|error| Failure::new(FAILED, error));
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Does the work. Told to stop, it ends when everything is in its place; told twice, it is left as it is: none.
async fn until_stopped<T>(
    stop: &CancellationToken,
    mut told: impl AsyncFnMut(),
    work: impl Future<Output = T>,
) -> Option<T> {
    let heed = async {
        told().await;
        eprintln!("irn-worker: stopping; once more to leave what is under way");
        stop.cancel();
        told().await;
    };
    tokio::select! {
        done = work => Some(done),
        () = heed => None,
    }
}

async fn discard(config: &LettersSide, json: bool, arguments: &DropArgs) -> Result<u8, Failure> {
    let (queue, filter) = arguments.filter.read();
    let options = json!({ "limit": arguments.limit, "yes": arguments.yes });
    let audit = Audit::of("drop", config, queue, &filter, options);
    if filter.is_everything() {
        return refused(
            &audit,
            "drop deletes for good: say which letters, by --reason, --code, --gstin, --id or --older-than",
        );
    }
    if !arguments.yes {
        return refused(
            &audit,
            "drop deletes for good: look at what is meant with `dead-letters list` and the same filters, keep a copy \
             with `export`, then give --yes",
        );
    }
    let mut signals = Signals::install()?;
    audit.begins();
    let stop = CancellationToken::new();
    let mut discarded = Discarded::default();
    let limit = arguments.limit;
    let dropping = letters::discard(config, queue, &filter, limit, &stop, &mut discarded);
    let ended = until_stopped(&stop, async || signals.next().await, dropping).await;
    discarded.left = ended.is_none();
    let done = match ended {
        Some(Ok(())) | None => dropped(queue, discarded, json),
        Some(Err(error)) => (json!(discarded), Err(failure(error))),
    };
    audited(&audit, done)
}

fn dropped(queue: LetterQueue, discarded: Discarded, json: bool) -> Done {
    let did = json!(discarded);
    let printed = if json {
        print(&did)
    } else {
        print(dropped_text(queue, discarded))
    };
    let is_whole = !discarded.interrupted && !discarded.left && !discarded.elsewhere.is_any();
    let ended = printed.map(|code| match !is_whole {
        true => FAILED,
        false => code,
    });
    (did, ended)
}

fn failure(error: LettersError) -> Failure {
    match error {
        LettersError::Output(error) => error.into(),
        LettersError::Endpoint(_) => Failure::new(MISUSED, error),
        LettersError::NoRungs => Failure::new(MISUSED, error),
        LettersError::Broker(error) => broker_failure("the broker", &error),
        LettersError::Changed(_)
        | LettersError::TooMany(_)
        | LettersError::Publish(
            PublishError::Nacked
            | PublishError::Refused(_)
            | PublishError::Returned
            | PublishError::Unconfirmed(_),
        ) => Failure::new(FAILED, error),
        LettersError::Publish(PublishError::NotConnected) => unreachable("the broker", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twice, once the work has begun, and then no more.
    async fn told_twice<T>(work: impl AsyncFnOnce(&CancellationToken) -> T) -> Option<T> {
        let (stop, mut left) = (CancellationToken::new(), 2);
        let told = async || match left {
            0 => std::future::pending().await,
            _ => {
                tokio::task::yield_now().await;
                left -= 1;
            }
        };
        until_stopped(&stop, told, work(&stop)).await
    }

    #[tokio::test]
    async fn what_was_done_by_the_second_signal_is_known() {
        let mut discarded = Discarded::default();
        let ended = told_twice(async |_| {
            discarded.dropped = 3;
            std::future::pending::<()>().await;
        })
        .await;
        assert_eq!(ended, None);
        discarded.left = true;
        let (did, ended) = dropped(LetterQueue::Dead, discarded, true);
        assert_eq!((&did["dropped"], &did["left"]), (&json!(3), &json!(true)));
        assert!(matches!(ended, Ok(FAILED)));
        let text = dropped_text(LetterQueue::Dead, discarded);
        assert!(text.starts_with("3 letters dropped") && text.contains("one more may be gone"));
        assert!(!text.contains("still a letter"), "{text}");
    }

    #[test]
    fn replay_that_was_left_says_what_is_under_way() {
        let left = Replayed {
            replayed: 7,
            ..Replayed::default()
        };
        let json = replayed_json(&left);
        assert_eq!(
            (&json["replayed"], &json["stopped"]),
            (&json!(7), &json!("left"))
        );
        assert!(replayed_text(&left).contains("may be a job as well"));
    }
}
