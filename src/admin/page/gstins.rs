//! One row for each GSTIN: those in trouble first, then those at work, and the others folded away.

use std::time::Duration;

use super::html::{Clock, Column, Grouped, Html, Span};
use crate::admin::lanes::Lane;
use crate::admin::status::Status;

/// So many rows are shown unfolded; a filter finds the others.
const UNFOLDED: usize = 40;

const COLUMNS: [Column; 7] = [
    Column::Text("GSTIN"),
    Column::Text("State"),
    Column::Number("In work"),
    Column::Number("Waiting"),
    Column::Spare("Session"),
    Column::Spare("Rate/s"),
    Column::Spare("Errors"),
];

/// How a GSTIN is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Refused,
    Stopped,
    Contended,
    Paused,
    Slowed,
    Busy,
    Idle,
}

impl Standing {
    fn of(lane: &Lane) -> Self {
        let is_busy = lane.in_flight > 0 || lane.waiting > 0;
        match lane.error_budget.state {
            _ if lane.credentials == "refused" => Self::Refused,
            "stopped" => Self::Stopped,
            _ if lane.stopped.is_some() => Self::Stopped,
            _ if lane.token_contention => Self::Contended,
            _ if lane.paused.is_some() => Self::Paused,
            "slow" | "warned" => Self::Slowed,
            _ if is_busy => Self::Busy,
            _ => Self::Idle,
        }
    }

    fn markup(self) -> &'static str {
        match self {
            Self::Refused => "<span class=\"bad\">✖ refused</span>",
            Self::Stopped => "<span class=\"bad\">✖ stopped</span>",
            Self::Contended => "<span class=\"bad\">✖ contended</span>",
            Self::Paused => "<span class=\"waits\">◷ paused</span>",
            Self::Slowed => "<span class=\"warns\">▲ slowed</span>",
            Self::Busy => "<span class=\"good\">● at work</span>",
            Self::Idle => "<span class=\"idle\">○ idle</span>",
        }
    }
}

pub(super) fn section(page: &mut Html, status: &Status) {
    page.raw("<section id=\"gstins\"><h2>GSTINs</h2>");
    let mut lanes: Vec<_> = status
        .lanes
        .iter()
        .map(|lane| (Standing::of(lane), lane))
        .collect();
    lanes.sort_by_key(|(standing, lane)| {
        let busiest = lane.in_flight + lane.waiting;
        (*standing, std::cmp::Reverse(busiest), lane.gstin)
    });
    summary(page, status, lanes.len());
    let troubled = lanes.partition_point(|(standing, _)| *standing < Standing::Busy);
    let active = lanes.partition_point(|(standing, _)| *standing < Standing::Idle);
    group(page, "In trouble or paused", &lanes[..troubled]);
    group(page, "At work", &lanes[troubled..active]);
    group(page, "Idle", &lanes[active..]);
    page.raw("</section>");
}

fn summary(page: &mut Html, status: &Status, seen: usize) {
    let count = |n: usize| Grouped(u64::try_from(n).unwrap_or(u64::MAX));
    page.raw("<p>").text(count(status.accounts));
    page.raw(" configured, ")
        .text(count(seen))
        .raw(" used or paused since the start.</p>");
    // Shown by the script, which makes it work.
    page.raw("<p id=\"find\" hidden><label>Find a GSTIN <input type=\"search\" id=\"filter\" autocomplete=\"off\" ")
        .raw("spellcheck=\"false\" maxlength=\"15\"></label> <span id=\"found\" role=\"status\"></span></p>");
}

/// The idle ones, and what would make the page too long, are folded.
fn group(page: &mut Html, name: &'static str, lanes: &[(Standing, &Lane)]) {
    let Some((first, _)) = lanes.first() else {
        return;
    };
    let unfolded = match first {
        Standing::Idle => 0,
        _ => lanes.len().min(UNFOLDED),
    };
    let (shown, folded) = lanes.split_at(unfolded);
    if !shown.is_empty() {
        page.raw("<h3>")
            .raw(name)
            .raw(" (")
            .text(lanes.len())
            .raw(")</h3>");
        table(page, name, shown);
    }
    if !folded.is_empty() {
        page.raw("<details id=\"")
            .raw(anchor(*first))
            .raw("\"><summary>");
        page.raw(if shown.is_empty() {
            name
        } else {
            "More of them"
        });
        page.raw(" (").text(folded.len()).raw(")</summary>");
        table(page, name, folded);
        page.raw("</details>");
    }
}

fn anchor(standing: Standing) -> &'static str {
    match standing {
        Standing::Idle => "idle",
        Standing::Busy => "busy",
        Standing::Refused
        | Standing::Stopped
        | Standing::Contended
        | Standing::Paused
        | Standing::Slowed => "troubled",
    }
}

fn table(page: &mut Html, name: &str, lanes: &[(Standing, &Lane)]) {
    page.table(name, &COLUMNS);
    for (standing, lane) in lanes {
        row(page, *standing, lane);
    }
    page.table_ends();
}

fn row(page: &mut Html, standing: Standing, lane: &Lane) {
    page.raw("<tr data-gstin=\"").text(lane.gstin).raw("\">");
    page.name(lane.gstin).raw("<td>").raw(standing.markup());
    why(page, standing, lane);
    page.raw("</td>")
        .number(lane.in_flight)
        .number(lane.waiting);
    page.raw("<td class=\"n spare\">");
    match lane.token_expires_in_seconds {
        Some(left) => page.text(Span(Duration::from_secs(left))),
        None => page.raw("none"),
    };
    page.raw("</td><td class=\"n spare\">");
    if let Some(rate) = lane.rate_per_second {
        page.text(rate);
    }
    let budget = &lane.error_budget;
    page.raw("</td><td class=\"n spare\">")
        .text(Grouped(budget.used.into()));
    page.raw(" of ").text(Grouped(budget.limit.into()));
    page.raw("</td></tr>");
}

/// Why it stands still, in words.
fn why(page: &mut Html, standing: Standing, lane: &Lane) {
    match (standing, &lane.stopped, &lane.paused) {
        (Standing::Refused | Standing::Stopped, Some(why), _) => {
            page.raw(" <small>").text(why).raw("</small>");
        }
        (Standing::Contended, ..) => {
            page.raw(" <small>another system keeps replacing its session</small>");
        }
        (Standing::Paused, _, Some(pause)) => {
            page.raw(" <small>until ").text(Clock(pause.until));
            page.raw(match pause.scope {
                "client" => ", with its client</small>",
                _ => "</small>",
            });
        }
        (Standing::Slowed, ..) => {
            page.raw(" <small>more than half of its error budget is used</small>");
        }
        (
            Standing::Refused
            | Standing::Stopped
            | Standing::Paused
            | Standing::Busy
            | Standing::Idle,
            ..,
        ) => {}
    }
}
