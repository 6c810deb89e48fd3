//! The run itself: case after case, each written down before the next one.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::{SignedDuration, Timestamp};

use super::answers::Received;
use super::cases::{Case, Kind, plan};
use super::journal::{Answer, History, Journal, Record, Verdict};
use super::portal::Portal;
use super::{CertifyError, Halt, TOO_OLD};
use crate::config::{Config, Rate};

/// Carries out what is left. Returns all that is known then, and why it stopped if it did.
pub(super) async fn run(
    config: &Config,
    mut portal: Portal,
    mut journal: Journal,
    mut history: History,
) -> Result<(History, Option<Halt>), CertifyError> {
    let left = left(&history);
    let budget = config.limits.error_budget_per_gstin;
    refuse_too_old(&history, &left)?;
    refuse_too_costly(&history, &left, budget)?;
    let progress = Progress::start(history.records.len(), left.len());
    for case in &left {
        let errors = errors_within(&history, budget);
        if errors >= budget.count.get() as usize {
            return Ok((history, Some(Halt::ErrorBudget(errors))));
        }
        let in_doubt = history.in_doubt.get(&case.id).copied();
        let received = match portal.carry_out(case, in_doubt, &mut journal).await {
            Ok(received) => received,
            Err(halt) => return Ok((history, Some(halt))),
        };
        let record = record(case, received);
        journal.done(&record)?;
        progress.one(&record);
        history.records.push(record);
    }
    progress.ends();
    Ok((history, None))
}

/// The cases that are not done.
fn left(history: &History) -> Vec<Case> {
    let done: HashSet<&str> = history
        .records
        .iter()
        .map(|record| record.case.as_str())
        .collect();
    let mut left = plan(&history.begun.terms);
    left.retain(|case| !done.contains(case.id.as_str()));
    left
}

fn refuse_too_old(history: &History, left: &[Case]) -> Result<(), CertifyError> {
    let age = Timestamp::now().duration_since(history.begun.at);
    if left.is_empty() || age < TOO_OLD {
        return Ok(());
    }
    Err(CertifyError::Misused(format!(
        "this run was begun {} hours ago, and its documents cannot be cancelled for much longer: begin another one with another --out; `certify report` still writes what this one has found",
        age.as_hours()
    )))
}

/// The taxpayer is not to be blocked for a test.
fn refuse_too_costly(history: &History, left: &[Case], budget: Rate) -> Result<(), CertifyError> {
    let planned = left
        .iter()
        .filter(|case| case.kind == Kind::Failure)
        .count();
    let allowed = budget.count.get() as usize;
    let spent = errors_within(history, budget);
    if planned + spent <= allowed {
        return Ok(());
    }
    Err(CertifyError::Misused(format!(
        "{planned} cases are to be refused, {spent} have been, and limits.error_budget_per_gstin allows {allowed}: give fewer --cases, or raise it"
    )))
}

/// How many errors the portal has counted, of those that still count.
fn errors_within(history: &History, budget: Rate) -> usize {
    let period = SignedDuration::try_from(budget.period).unwrap_or(SignedDuration::MAX);
    let now = Timestamp::now();
    let refused = history.records.iter().filter(|record| {
        record.answer == Answer::Refused && now.duration_since(record.requested_at) < period
    });
    refused.count()
}

fn record(case: &Case, received: Received) -> Record {
    Record {
        case: case.id.clone(),
        api: case.api,
        kind: case.kind,
        title: case.title.clone(),
        expected: case
            .expected
            .iter()
            .map(|code| (*code).to_owned())
            .collect(),
        verdict: verdict(case, &received),
        requested_at: received.at,
        milliseconds: u64::try_from(received.took.as_millis()).unwrap_or(u64::MAX),
        answer: received.answer,
        code: received.code,
        codes: received.codes,
        message: received.message,
        irn: received.irn,
        looked_up: received.looked_up,
    }
}

fn verdict(case: &Case, received: &Received) -> Verdict {
    match (case.kind, received.answer) {
        (Kind::Success, Answer::Accepted) => Verdict::AsExpected,
        (Kind::Failure, Answer::Refused) => {
            let is_expected = |code: &String| case.expected.contains(&code.as_str());
            if received.codes.iter().any(is_expected) {
                Verdict::AsExpected
            } else {
                Verdict::OtherCode
            }
        }
        (Kind::Success, Answer::Refused | Answer::Unreadable)
        | (Kind::Failure, Answer::Accepted | Answer::Unreadable) => Verdict::Unexpected,
    }
}

/// A bar on a terminal, a line now and then elsewhere; and a line for what was not expected.
struct Progress {
    bar: ProgressBar,
    total: usize,
}

impl Progress {
    fn start(done: usize, left: usize) -> Self {
        let total = done + left;
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style = ProgressStyle::with_template(
            "{bar:40} {pos}/{len} cases, {elapsed}, {eta} left  {msg}",
        );
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_position(done as u64);
        bar.reset_eta();
        Self { bar, total }
    }

    fn one(&self, record: &Record) {
        self.bar.inc(1);
        self.bar.set_message(record.api.title());
        let done = self.bar.position();
        if record.verdict != Verdict::AsExpected {
            let code = record.code.as_deref().unwrap_or("accepted");
            let line = format!("{}: {}: {code}", record.case, record.title);
            self.bar.suspend(|| eprintln!("{line}"));
        }
        if self.bar.is_hidden() && done.is_multiple_of(self.total.div_ceil(10).max(1) as u64) {
            eprintln!("{done}/{} cases", self.total);
        }
    }

    fn ends(&self) {
        self.bar.finish_and_clear();
    }
}
