//! What a run has done so far: a file of lines in its directory, from which an interrupted run goes on and every report is
//! made.
//!
//! One rule: a line is on the disk before the next call is made. A call that changes something is announced before it is
//! made, so that a run that was killed knows what it has to look up.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cases::{Api, Kind, Terms};

/// The file's name in the directory.
const FILE: &str = "state.ndjson";

/// What a run was begun with: the first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Begun {
    /// The version of this program, on which the cases depend.
    pub(super) version: String,
    /// The portal's base URL.
    pub(super) portal: String,
    /// `sandbox` or `production`.
    pub(super) environment: String,
    /// The name of the route to it, where it has one.
    pub(super) route: Option<String>,
    /// When.
    pub(super) at: Timestamp,
    /// What the cases are made of.
    pub(super) terms: Terms,
}

/// Whether a case went as it was meant to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A success, or a refusal with a code that was expected.
    AsExpected,
    /// A refusal that was expected, with another code.
    OtherCode,
    /// A success instead of a refusal, or the other way round.
    Unexpected,
}

/// What the portal did with a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What it was asked to.
    Accepted,
    /// It refused.
    Refused,
    /// Something of which nobody can say what it means.
    Unreadable,
}

/// What a case came to: one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The case's name.
    pub case: String,
    /// The API.
    pub api: Api,
    /// What was meant to become of it.
    pub kind: Kind,
    /// What it was about.
    pub title: String,
    /// The codes that were expected; none of a success.
    pub expected: Vec<String>,
    /// When the request that was answered so was sent.
    pub requested_at: Timestamp,
    /// How long it took.
    pub milliseconds: u64,
    /// What the portal did.
    pub answer: Answer,
    /// The code that decides, of a refusal.
    pub code: Option<String>,
    /// All codes of a refusal.
    pub codes: Vec<String>,
    /// The text of the code that decides.
    pub message: Option<String>,
    /// The registration it is about.
    pub irn: Option<String>,
    /// Its answer was lost, and was settled by a look-up.
    pub looked_up: bool,
    /// Whether it went as it was meant to.
    pub verdict: Verdict,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begun(Begun),
    Sent { case: String, at: Timestamp },
    Done(Box<Record>),
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system.
    #[error("{}: {error}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Another process writes to it.
    #[error("{}: another `certify` is at work in this directory", .0.display())]
    InUse(PathBuf),
    /// There is none.
    #[error("{}: no run has been begun in this directory", .0.display())]
    NotBegun(PathBuf),
    /// It is not one of ours.
    #[error("{}, line {line}: not a line of `certify`: {why}; take another --out", .file.display())]
    NotOurs {
        /// Which.
        file: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// What the file says.
#[derive(Debug)]
pub(super) struct History {
    /// What the run was begun with.
    pub(super) begun: Begun,
    /// What is done, in order.
    pub(super) records: Vec<Record>,
    /// What was sent, and is not done.
    pub(super) in_doubt: HashMap<String, Timestamp>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the directory's file, or makes both; nobody else can open it meanwhile. With it comes what it says, if it
    /// says anything.
    pub(super) fn open(dir: &Path) -> Result<(Self, Option<History>), JournalError> {
        let path = dir.join(FILE);
        let fault = |error| JournalError::File {
            file: path.clone(),
            error,
        };
        std::fs::create_dir_all(dir).map_err(fault)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(fault)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(path)),
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(fault)?;
        // Killed while it wrote: such a line was never relied on.
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let history = read(&path, &text[..whole])?;
        file.set_len(whole as u64).map_err(fault)?;
        file.seek(SeekFrom::End(0)).map_err(fault)?;
        Ok((Self { path, file }, history))
    }

    /// A run begins.
    pub(super) fn begin(&mut self, begun: &Begun) -> Result<(), JournalError> {
        self.write(&Line::Begun(begun.clone()))
    }

    /// This case is about to be sent.
    pub(super) fn sent(&mut self, case: &str, at: Timestamp) -> Result<(), JournalError> {
        self.write(&Line::Sent {
            case: case.to_owned(),
            at,
        })
    }

    /// This case is done.
    pub(super) fn done(&mut self, record: &Record) -> Result<(), JournalError> {
        self.write(&Line::Done(Box::new(record.clone())))
    }

    fn write(&mut self, line: &Line) -> Result<(), JournalError> {
        let written = serde_json::to_string(line)
            .map_err(io::Error::from)
            .and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()))
            .and_then(|()| self.file.sync_data());
        written.map_err(|error| JournalError::File {
            file: self.path.clone(),
            error,
        })
    }
}

/// Whether there is a file in the directory.
pub(super) fn is_begun(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// What the directory's file says; nobody need be at work there, and somebody may.
pub(super) fn history(dir: &Path) -> Result<History, JournalError> {
    let path = dir.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(JournalError::NotBegun(path));
        }
        Err(error) => return Err(JournalError::File { file: path, error }),
    };
    let whole = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    read(&path, &text[..whole])?.ok_or(JournalError::NotBegun(path))
}

fn read(path: &Path, text: &[u8]) -> Result<Option<History>, JournalError> {
    let mut history: Option<History> = None;
    let mut done = HashSet::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let not_ours = |why: String| JournalError::NotOurs {
            file: path.to_owned(),
            line: at + 1,
            why,
        };
        let line = serde_json::from_slice(line).map_err(|error| not_ours(error.to_string()))?;
        match (line, &mut history) {
            (Line::Begun(begun), None) => {
                history = Some(History {
                    begun,
                    records: Vec::new(),
                    in_doubt: HashMap::new(),
                });
            }
            (Line::Sent { case, at }, Some(history)) => {
                history.in_doubt.insert(case, at);
            }
            (Line::Done(record), Some(history)) => {
                history.in_doubt.remove(&record.case);
                if !done.insert(record.case.clone()) {
                    return Err(not_ours(format!("{} is there twice", record.case)));
                }
                history.records.push(*record);
            }
            (Line::Begun(_), Some(_)) => return Err(not_ours("a second beginning".to_owned())),
            (Line::Sent { .. } | Line::Done(_), None) => {
                return Err(not_ours("there is no beginning".to_owned()));
            }
        }
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Begun {
        Begun {
            version: "1".to_owned(),
            portal: "http://127.0.0.1".to_owned(),
            environment: "sandbox".to_owned(),
            route: None,
            at: Timestamp::UNIX_EPOCH,
            terms: Terms {
                gstin: "29AAGCE4783K1Z1".parse().unwrap(),
                buyer: "29AWGPV7107B1Z1".parse().unwrap(),
                date: jiff::civil::date(2026, 11, 28),
                prefix: "A".to_owned(),
                cases: 1,
                failed_logins: 1,
                sends_client_pair: true,
            },
        }
    }

    fn record(case: &str) -> Record {
        Record {
            case: case.to_owned(),
            api: Api::Generate,
            kind: Kind::Success,
            title: String::new(),
            expected: Vec::new(),
            requested_at: Timestamp::UNIX_EPOCH,
            milliseconds: 1,
            answer: Answer::Accepted,
            code: None,
            codes: Vec::new(),
            message: None,
            irn: None,
            looked_up: false,
            verdict: Verdict::AsExpected,
        }
    }

    #[test]
    fn half_a_line_is_dropped_and_what_was_sent_before_it_is_in_doubt() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, none) = Journal::open(dir.path()).unwrap();
        assert!(none.is_none());
        journal.begin(&begun()).unwrap();
        for case in ["GEN-S-001", "GEN-S-002"] {
            journal.sent(case, Timestamp::UNIX_EPOCH).unwrap();
        }
        journal.done(&record("GEN-S-001")).unwrap();
        journal
            .file
            .write_all(b"{\"done\":{\"case\":\"GEN-S-002\"")
            .unwrap();
        drop(journal);

        let (mut journal, history) = Journal::open(dir.path()).unwrap();
        let history = history.unwrap();
        assert_eq!(history.records.len(), 1);
        assert_eq!(history.in_doubt.keys().collect::<Vec<_>>(), ["GEN-S-002"]);
        journal.done(&record("GEN-S-002")).unwrap();
        let history = super::history(dir.path()).unwrap();
        assert_eq!((history.records.len(), history.in_doubt.len()), (2, 0));
    }

    #[test]
    fn file_of_somebody_else_is_left_alone_and_so_is_one_that_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "notes\n").unwrap();
        let error = Journal::open(dir.path()).unwrap_err();
        assert!(
            matches!(error, JournalError::NotOurs { line: 1, .. }),
            "{error}"
        );
        assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), b"notes\n");

        let dir = tempfile::tempdir().unwrap();
        let (_held, _) = Journal::open(dir.path()).unwrap();
        assert!(matches!(
            Journal::open(dir.path()),
            Err(JournalError::InUse(_))
        ));
    }

    #[test]
    fn case_that_is_done_twice_makes_no_report() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.begin(&begun()).unwrap();
        journal.done(&record("GEN-S-001")).unwrap();
        journal.done(&record("GEN-S-001")).unwrap();
        let error = super::history(dir.path()).unwrap_err();
        assert!(
            matches!(error, JournalError::NotOurs { line: 3, .. }),
            "{error}"
        );
    }
}
