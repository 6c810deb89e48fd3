//! Reads the credentials again when their files change, or when asked to (SIGHUP), and puts them in use.
//!
//! One rule: what is in use is never worse than before. Faulty credentials are refused, and ones that look cut off are
//! not believed until their files have been still for a while.

mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::ConfigFaults;
use crate::config::credentials::{Changes, Credentials, Loaded, Reading, Terms, read};
use crate::ops::replay::Renewed;
use crate::telemetry;
use crate::telemetry::credentials::{self as events, Reloads};
use crate::worker::Worker;
use watch::{Stamps, Watch};

/// Writers and orchestrators change several files in a row: reading begins when nothing has stirred for so long.
const QUIET: Duration = Duration::from_millis(200);

/// Files that never rest are read all the same.
const LONGEST_QUIET: Duration = Duration::from_secs(1);

/// A half-written file is either faulty or, cut at the end of an entry, short of some taxpayers. So neither is
/// believed before the files have been still for this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// File systems that tell of no changes (some network ones) are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What has to be read again, and for whom.
pub(super) struct Reload {
    path: PathBuf,
    terms: Terms,
    worker: Arc<Worker>,
    reloads: Reloads,
    /// SIGHUP came.
    asked: Arc<Notify>,
    /// Who replays dead letters, if that is wanted.
    renewals: Option<UnboundedSender<Renewed>>,
}

/// What is known of the files.
#[derive(Default)]
struct Known {
    files: BTreeSet<PathBuf>,
    /// The files as they were when they were read last, or `None` for "read them".
    stamps: Option<Stamps>,
    /// Since when the files, as they are, are not believed.
    doubted: Option<Instant>,
}

/// What a reading is worth.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Put in use, or tell of the faults.
    Believed,
    /// Look again when the files have been still for longer.
    Doubted,
}

impl Reload {
    /// Of the files that the worker was configured with, whenever they change and whenever it is `asked`. `renewals`
    /// is told of GSTINs with new credentials.
    pub(super) fn new(
        worker: Arc<Worker>,
        reloads: Reloads,
        asked: Arc<Notify>,
        renewals: Option<UnboundedSender<Renewed>>,
    ) -> Self {
        let config = worker.config();
        Self {
            path: config.credentials.path.clone(),
            terms: Terms::from(&config.irp),
            worker,
            reloads,
            asked,
            renewals,
        }
    }

    /// Watches and reads until told to stop.
    pub(super) async fn run(self, ended: CancellationToken) {
        let watch = Watch::new(&self.path);
        ended.run_until_cancelled(self.watch(watch)).await;
    }

    async fn watch(&self, mut watch: Watch) {
        let mut known = Known::default();
        // The first look finds what was changed between the start and now.
        let mut asked = false;
        loop {
            self.look(&mut known, asked).await;
            // What has changed in a folder before it was watched is found by one more look.
            if watch.follow(&known.files) {
                self.look(&mut known, false).await;
            }
            let next = if known.doubted.is_some() {
                PATIENCE
            } else {
                LOOK_EVERY
            };
            asked = tokio::select! {
                () = self.asked.notified() => {
                    events::reload_asked();
                    true
                }
                () = watch.stirred() => {
                    settled(&watch).await;
                    false
                }
                () = tokio::time::sleep(next) => false,
            };
        }
    }

    /// Reads the files if they are not as they were.
    async fn look(&self, known: &mut Known, asked: bool) {
        let stamps = Stamps::of(&self.path, &known.files);
        let is_as_before = known.stamps.as_ref() == Some(&stamps);
        if is_as_before && known.doubted.is_none() && !asked {
            return;
        }
        if !is_as_before {
            known.doubted = None;
        }
        let (path, terms) = (self.path.clone(), self.terms.clone());
        let reading = tokio::task::spawn_blocking(move || read(&path, terms)).await;
        // The panic hook has told of a panic; the files are read again when they change.
        let Ok(Reading { result, files }) = reading else {
            known.stamps = Some(stamps);
            return;
        };
        // As they were before: what has changed while they were read is read again, and so is what nobody had looked at.
        let are_known = files.is_subset(&known.files);
        known.files.extend(files.iter().cloned());
        known.stamps = are_known.then_some(stamps);
        let current = self.worker.credentials();
        let changes = changes(&result, &current);
        let doubted_for = known.doubted.map(|since| since.elapsed());
        match judge(changes.as_ref(), doubted_for, asked) {
            Verdict::Doubted => {
                events::reload_waits();
                known.doubted.get_or_insert_with(Instant::now);
            }
            Verdict::Believed => {
                known.doubted = None;
                if result.is_ok() && known.files != files {
                    known.files = files;
                    known.stamps = None;
                }
                self.believe(result, changes, asked);
            }
        }
    }

    fn believe(&self, result: Result<Loaded, ConfigFaults>, changes: Option<Changes>, asked: bool) {
        let changes = changes.unwrap_or_default();
        match result {
            Err(faults) => self.reloads.refused(faults),
            Ok(_) if changes.is_empty() && !asked && !self.reloads.is_refused() => {}
            Ok(_) if changes.is_empty() => self.reloads.unchanged(),
            Ok(loaded) => {
                loaded.warnings.iter().for_each(telemetry::config_warning);
                self.worker.use_credentials(loaded.credentials, &changes);
                if let Some(renewals) = &self.renewals {
                    // Its receiver goes only when the worker does.
                    drop(renewals.send(Renewed::now(changes.renewed())));
                }
                self.reloads.changed(changes);
            }
        }
    }
}

/// Waits until the files have been still for a moment.
async fn settled(watch: &Watch) {
    let end = Instant::now() + LONGEST_QUIET;
    while Instant::now() < end && timeout(QUIET, watch.stirred()).await.is_ok() {}
}

/// What a reading without fault would change.
fn changes(result: &Result<Loaded, ConfigFaults>, current: &Credentials) -> Option<Changes> {
    let loaded = result.as_ref().ok()?;
    Some(loaded.credentials.changes_since(current))
}

/// Whether to believe a reading: `changes`, `None` if it is faulty, of files that have looked like this for so long.
fn judge(changes: Option<&Changes>, doubted_for: Option<Duration>, asked: bool) -> Verdict {
    let looks_whole = changes.is_some_and(|changes| changes.removed.is_empty());
    let is_still = doubted_for.is_some_and(|doubted| doubted >= PATIENCE);
    if looks_whole || is_still || asked {
        Verdict::Believed
    } else {
        Verdict::Doubted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(removed: &[&str]) -> Changes {
        let removed = removed.iter().map(|gstin| gstin.parse().expect("a GSTIN"));
        Changes {
            removed: removed.collect(),
            ..Changes::default()
        }
    }

    #[test]
    fn what_looks_cut_off_is_believed_when_it_has_been_still() {
        let (faulty, short) = (None, changes(&["29AAGCE4783K1Z1"]));
        for cut_off in [faulty, Some(&short)] {
            assert_eq!(judge(cut_off, None, false), Verdict::Doubted);
            assert_eq!(judge(cut_off, Some(PATIENCE / 2), false), Verdict::Doubted);
            assert_eq!(judge(cut_off, Some(PATIENCE), false), Verdict::Believed);
        }
    }

    #[test]
    fn what_is_asked_for_or_looks_whole_is_believed_at_once() {
        assert_eq!(judge(None, None, true), Verdict::Believed);
        assert_eq!(judge(Some(&changes(&[])), None, false), Verdict::Believed);
    }
}
