//! The same as a page, docs/errors.md: `irn-worker explain --markdown` prints it.

use std::fmt::Write as _;

use super::portal::{calls_of, steps};
use super::{Does, Explanation, Kind, all};
use crate::irp::codes::{self, Class};

const HEAD: &str = "\
# What the codes mean

Every status, reason and code that a result, a dead letter or the log may carry: what it says, who fixes it, and what the
worker does. `irn-worker explain CODE` prints the same for one of them, and for a code that is not here what the worker would
do with it by your `irp.unknown_codes`.

This page is printed by `irn-worker explain --markdown` from the table that the worker runs on; a test keeps it so.
";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    let all = all();
    for kind in Kind::ALL {
        let (title, about) = heading(kind);
        add(&mut page, format_args!("\n## {title}\n\n{about}\n"));
        let of_kind: Vec<_> = all.iter().filter(|known| known.kind == kind).collect();
        if kind == Kind::Irp {
            by_class(&mut page, &of_kind);
        } else {
            table(&mut page, &of_kind);
        }
    }
    page
}

fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    page.write_fmt(text).ok();
}

fn heading(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Status => (
            "Statuses",
            "`status` of a result, and its header `x-irn-status`.",
        ),
        Kind::Worker => (
            "Reasons of the worker",
            "`errors[].code` with source `worker`, and `x-irn-reason` of a dead letter.",
        ),
        Kind::Irp => (
            "Codes of the portal",
            "`errors[].code` with source `irp`; with source `preflight` the same code says that the portal would have answered so.",
        ),
        Kind::Info => (
            "Additional information",
            "`info[].code`: what the portal sends in `InfoDtls` beside its answer.",
        ),
        Kind::Transport => (
            "Calls without a readable answer",
            "`x-irn-error` of a job that waits or was given up, and the label `result` of `irn_worker_irp_requests_total`.",
        ),
        Kind::Wait => (
            "Waiting",
            "`x-irn-error` of a job that has not been tried, on the delay ladder or back in its queue, and the label `reason` of `irn_worker_deferred_total`.",
        ),
        Kind::Broker => (
            "Moved by the broker",
            "What `dead-letters list` says of a message that no worker gave up on.",
        ),
    }
}

fn table(page: &mut String, rows: &[&Explanation]) {
    page.push_str("\n| code | means | fixed by | what to do | the worker |\n| --- | --- | --- | --- | --- |\n");
    for row in rows {
        let does: Vec<_> = row.worker_does.iter().map(Does::sentence).collect();
        let Explanation {
            code,
            meaning,
            fixed_by,
            remedy,
            ..
        } = row;
        let does = does.join("; ");
        add(
            page,
            format_args!("| `{code}` | {meaning} | {fixed_by} | {remedy} | {does} |\n"),
        );
    }
}

/// What holds for a whole class stands above its table once.
fn by_class(page: &mut String, rows: &[&Explanation]) {
    for class in Class::ALL {
        add(page, format_args!("\n### {}\n\n", title(class)));
        let of_class: Vec<_> = codes::all()
            .iter()
            .filter(|row| row.class == class)
            .collect();
        let Some(first) = of_class.first() else {
            continue;
        };
        add(
            page,
            format_args!("Fixed by {}. The worker:\n\n", class.fixed_by()),
        );
        for step in steps(calls_of(class), |call| first.disposition(call)) {
            add(page, format_args!("* {}\n", step.sentence()));
        }
        page.push_str("\n| code | means | what to do |\n| --- | --- | --- |\n");
        let words = class.as_str();
        for row in rows.iter().filter(|row| row.class == Some(words)) {
            let looks = if row.preflight {
                " (pre-flight looks for it)"
            } else {
                ""
            };
            let note = row.note.map(|note| format!("; {note}")).unwrap_or_default();
            let is_named = row.remedy.contains(row.fixed_by);
            let others = if is_named || row.fixed_by == class.fixed_by() {
                String::new()
            } else {
                format!("fixed by {}: ", row.fixed_by)
            };
            let Explanation {
                code,
                meaning,
                remedy,
                ..
            } = row;
            add(
                page,
                format_args!("| `{code}` | {meaning}{looks} | {others}{remedy}{note} |\n"),
            );
        }
    }
}

fn title(class: Class) -> &'static str {
    match class {
        Class::Session => "The session",
        Class::Account => "Credentials, client or account",
        Class::Done => "Done before",
        Class::Conflict => "The number is taken",
        Class::StaleGstin => "The portal's copy of a GSTIN",
        Class::Absent => "Nothing found",
        Class::TooOld => "Too old to be handed out",
        Class::Passing => "It will pass",
        Class::Uncertain => "It will pass, but the portal may have acted",
        Class::Document => "The document is refused",
    }
}
