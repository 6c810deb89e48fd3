//! The summary test report: what was asked, when, and what the portal answered, with a summary for each API.
//!
//! One rule: it is made of the journal alone. There is no password, token, address of a machine or document in it, only
//! names of cases, codes, and the portal's own sentences about made-up documents.

mod csv;
mod html;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::cases::{Api, Kind, WANTED, plan};
use super::journal::{Begun, History, Record, Verdict};
use super::{CertifyError, india};

/// How the cases of one kind for one API went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// In the plan.
    pub planned: usize,
    /// Done.
    pub done: usize,
    /// Of them, those that went as they were meant to.
    pub as_expected: usize,
    /// Refused as they were meant to be, with another code than those expected.
    pub other_code: usize,
    /// The rest.
    pub unexpected: usize,
}

/// One API.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Line {
    pub(super) api: Api,
    pub(super) success: Tally,
    pub(super) failure: Tally,
}

impl Line {
    fn of(&self, kind: Kind) -> &Tally {
        match kind {
            Kind::Success => &self.success,
            Kind::Failure => &self.failure,
        }
    }

    /// Whether this is as much as the portal asks for. Refused is refused, with whichever code.
    pub(super) fn is_enough(&self) -> bool {
        let refused = self.failure.as_expected + self.failure.other_code;
        self.success.as_expected >= WANTED as usize && refused >= WANTED as usize
    }
}

/// All that is known of a run.
#[derive(Debug)]
pub struct Report {
    begun: Begun,
    lines: Vec<Line>,
    notes: Vec<String>,
    /// In the order of the APIs.
    records: Vec<Record>,
}

/// Where a report was written to.
#[derive(Clone, Debug, Serialize)]
pub struct Files {
    /// To print, or to make a PDF of.
    pub html: PathBuf,
    /// For a spreadsheet.
    pub csv: PathBuf,
    /// For programs.
    pub json: PathBuf,
}

impl Report {
    pub(super) fn of(history: &History) -> Self {
        let begun = history.begun.clone();
        let mut records = history.records.clone();
        records.sort_by(|a, b| (a.api, &a.case).cmp(&(b.api, &b.case)));
        let planned = plan(&begun.terms);
        let lines = Api::ALL.map(|api| {
            let tally = |kind| {
                let of = planned
                    .iter()
                    .filter(|case| case.api == api && case.kind == kind);
                tally(
                    of.count(),
                    records.iter().filter(|of| of.api == api && of.kind == kind),
                )
            };
            Line {
                api,
                success: tally(Kind::Success),
                failure: tally(Kind::Failure),
            }
        });
        Self {
            notes: notes(&begun, &records),
            begun,
            lines: lines.into(),
            records,
        }
    }

    /// Whether every case is done.
    pub fn is_complete(&self) -> bool {
        self.tallies().all(|tally| tally.done == tally.planned)
    }

    /// Whether every case is done and went as it was meant to.
    pub fn is_good(&self) -> bool {
        self.tallies()
            .all(|tally| tally.as_expected == tally.planned)
    }

    fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.lines
            .iter()
            .flat_map(|line| [&line.success, &line.failure])
    }

    /// From the first request to the last one.
    fn span(&self) -> (Timestamp, Timestamp) {
        let times = self.records.iter().map(|record| record.requested_at);
        let first = times.clone().min().unwrap_or(self.begun.at);
        (first, times.max().unwrap_or(first))
    }

    /// Writes `report.html`, `report.csv` and `report.json`, each whole or not at all.
    pub(super) fn write(&self, dir: &Path) -> Result<Files, CertifyError> {
        let json = serde_json::to_string_pretty(&self.json()).unwrap_or_default();
        Ok(Files {
            html: replace(dir.join("report.html"), &html::page(self))?,
            csv: replace(dir.join("report.csv"), &csv::table(&self.records))?,
            json: replace(dir.join("report.json"), &format!("{json}\n"))?,
        })
    }

    /// Whose, where and when, and how it went.
    pub fn summary(&self) -> Value {
        let (first, last) = self.span();
        let Begun { terms, .. } = &self.begun;
        json!({
            "version": 1,
            "tool": format!("irn-worker {}", self.begun.version),
            "portal": self.begun.portal, "route": self.begun.route, "environment": self.begun.environment,
            "gstin": terms.gstin, "buyer": terms.buyer, "prefix": terms.prefix,
            "begun": first, "ended": last, "complete": self.is_complete(), "good": self.is_good(),
            "wanted": WANTED,
            "apis": self.lines.iter().map(line_json).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    fn json(&self) -> Value {
        let mut json = self.summary();
        let cases = self.records.iter().map(|record| {
            let mut case = json!(record);
            case["requested_at_ist"] = json!(in_india(record.requested_at));
            case
        });
        json["cases"] = cases.collect();
        json
    }

    /// A line for each API, for a terminal.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let head = format!("{:<30} {:>16} {:>16}", "", "success", "failure");
        let lines = self.lines.iter().map(|line| {
            let [success, failure] = [Kind::Success, Kind::Failure].map(|kind| {
                let tally = line.of(kind);
                format!("{}/{}", tally.as_expected, tally.planned)
            });
            let note = if line.is_enough() {
                ""
            } else {
                "  (fewer than 50 of each)"
            };
            format!("{:<30} {success:>16} {failure:>16}{note}", line.api.title())
        });
        std::iter::once(head).chain(lines)
    }
}

fn tally<'a>(planned: usize, records: impl Iterator<Item = &'a Record>) -> Tally {
    let mut tally = Tally {
        planned,
        ..Tally::default()
    };
    for record in records {
        tally.done += 1;
        match record.verdict {
            Verdict::AsExpected => tally.as_expected += 1,
            Verdict::OtherCode => tally.other_code += 1,
            Verdict::Unexpected => tally.unexpected += 1,
        }
    }
    tally
}

fn line_json(line: &Line) -> Value {
    let mut json = json!(line);
    json["title"] = json!(line.api.title());
    json["enough"] = json!(line.is_enough());
    json
}

/// What has to be said beside the numbers.
fn notes(begun: &Begun, records: &[Record]) -> Vec<String> {
    let mut notes = vec![
        "No login was tried with the account's user and another password, because a portal may lock the user: the logins that were to be refused name users and clients that do not exist.".to_owned(),
        "Rejected IRNs is left out: this client does not use that API.".to_owned(),
    ];
    let failed = begun.terms.failed_logins;
    if failed < WANTED {
        notes.push(format!(
            "At the operator's request {failed} logins were to be refused, not {WANTED}."
        ));
    }
    let looked_up = records.iter().filter(|record| record.looked_up).count();
    if looked_up > 0 {
        notes.push(format!(
            "Of {looked_up} cases the answer was lost; what had become of them was looked up, and nothing was sent a second time."
        ));
    }
    notes
}

/// `28-11-2026 12:03:01`, India's time.
fn in_india(time: Timestamp) -> String {
    india()
        .to_datetime(time)
        .strftime("%d-%m-%Y %H:%M:%S")
        .to_string()
}

/// Whoever reads it meanwhile sees the old one or the new one.
fn replace(file: PathBuf, text: &str) -> Result<PathBuf, CertifyError> {
    let write = || {
        let new = file.with_extension("new");
        let mut out = std::fs::File::create(&new)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&new, &file)
    };
    match write() {
        Ok(()) => Ok(file),
        Err(error) => Err(CertifyError::Report { file, error }),
    }
}
