//! The small tables: pauses, queues, waits, outcomes, portals, clients.

use std::time::Duration;

use super::html::{Column, Grouped, Html, Span};
use crate::admin::portal::PortalStatus;
use crate::admin::status::Status;
use crate::admin::work::{CountStatus, QueueStatus};

/// A breaker's calls, in words.
pub(super) fn scope_in_words(scope: &str) -> &'static str {
    match scope {
        "login" => "logins",
        "core" => "registrations and look-ups",
        _ => "e-way bills",
    }
}

pub(super) fn pauses(page: &mut Html, status: &Status) {
    if status.pauses.is_empty() {
        // It keeps its place: what comes after it would be taken for another part of the page.
        page.raw("<section id=\"pauses\" class=\"none\"></section>");
        return;
    }
    page.raw("<section id=\"pauses\"><h2>Paused by operators</h2>");
    page.table(
        "Pauses",
        &[
            Column::Text("Who"),
            Column::Text("Why"),
            Column::Text("Until"),
            Column::Spare("Since"),
        ],
    );
    for pause in &status.pauses {
        page.raw("<tr><th scope=\"row\">");
        match (&pause.name, pause.scope) {
            (Some(name), "client") => page.raw("client ").text(name),
            (Some(name), _) => page.text(name),
            (None, _) => page.raw("everybody"),
        };
        page.raw("</th>").cell(&pause.reason).raw("<td>");
        page.until(pause.until, status.at).raw("</td>");
        page.raw("<td class=\"n spare\">")
            .ago(pause.since, status.at);
        page.raw("</td></tr>");
    }
    page.table_ends();
    page.raw("<p class=\"hint\">Lifted with <code>irn-worker resume</code>.</p></section>");
}

pub(super) fn queues(page: &mut Html, status: &Status) {
    page.raw("<section id=\"queues\"><h2>What waits</h2>");
    match &status.queues {
        None => {
            page.raw("<p>The queues have not been counted yet.</p>");
        }
        Some(queues) => {
            let columns = [Column::Text("Queue"), Column::Number("Messages")];
            page.table("Messages by queue", &columns);
            for (meaning, of_kind) in [
                ("to be worked on", &queues.jobs),
                ("to be tried later", &queues.ladder),
                ("kept for a person", &queues.kept),
            ] {
                of_kind
                    .iter()
                    .for_each(|queue| row_of(page, queue, meaning));
            }
            page.table_ends();
            let age = Duration::try_from(status.at.duration_since(queues.counted_at));
            page.raw("<p class=\"hint\">Counted ")
                .text(Span(age.unwrap_or_default()));
            page.raw(" ago.</p>");
        }
    }
    if let Some(scaling) = &status.scaling {
        page.raw("<p class=\"hint\">Of use now: ")
            .text(scaling.useful_replicas);
        page.raw(match scaling.useful_replicas {
            1 => " replica",
            _ => " replicas",
        });
        page.raw(" for a backlog of ")
            .text(Grouped(scaling.backlog));
        page.raw(" jobs.</p>");
    }
    page.raw("</section>");
}

fn row_of(page: &mut Html, queue: &QueueStatus, meaning: &'static str) {
    page.raw("<tr><th scope=\"row\">").text(&queue.queue);
    page.raw(" <small>").raw(meaning).raw("</small></th>");
    page.number(Grouped(queue.messages)).raw("</tr>");
}

pub(super) fn waits(page: &mut Html, status: &Status) {
    page.raw("<section id=\"waits\"><h2>Why jobs were put off</h2>");
    counts(
        page,
        status,
        "Jobs put off, by reason",
        "Reason",
        &status.waits,
        |page, count| {
            page.raw("<tr><th scope=\"row\">").text(&count.code);
            if let Some(meaning) = wait_in_words(&count.code) {
                page.raw(" <small>").raw(meaning).raw("</small>");
            }
            page.raw("</th>");
        },
    );
    page.raw("</section>");
}

/// What the worker's own words for a wait mean; the others are the portal's codes.
fn wait_in_words(code: &str) -> Option<&'static str> {
    Some(match code {
        "paused" => "an operator's pause",
        "lane" | "swept" => "its GSTIN has enough in work",
        "twin" => "the same document is in work",
        "rate" => "the rate of its GSTIN, or of all",
        "login rate" => "the rate of logins",
        "error budget" => "the error budget is nearly used up",
        "retry-after" => "the portal asked to wait",
        "portal_down" => "the portal did not answer anybody",
        "not_found_yet" => "in doubt: it is looked up again",
        "not_sent" => "the portal could not be reached",
        "unconfirmed" => "in doubt: no answer to what was sent",
        "server_error" => "the portal failed",
        "throttled" => "the portal asked to slow down",
        "unexplained" => "in doubt: refused without a reason",
        "unanswered" => "the portal refused to answer, without a reason",
        "undecipherable" | "unintelligible" => "the portal's answer could not be used",
        "route down" => "the portal of its route did not answer anybody",
        "route changed" => "its GSTIN was given another route",
        "failover account" => "not enabled at the second portal",
        _ => return None,
    })
}

pub(super) fn outcomes(page: &mut Html, status: &Status) {
    page.raw("<section id=\"outcomes\"><h2>Last outcomes</h2>");
    counts(
        page,
        status,
        "Results, by status and code",
        "Result",
        &status.outcomes,
        |page, count| {
            page.raw("<tr><th scope=\"row\">");
            page.text(count.status.unwrap_or_default()).raw(" ");
            if !count.code.is_empty() {
                page.raw("<code>").text(&count.code).raw("</code>");
            }
            page.raw("</th>");
        },
    );
    page.raw("</section>");
}

/// Those of the last quarter of an hour first: the others are history.
fn counts(
    page: &mut Html,
    status: &Status,
    caption: &str,
    first: &'static str,
    counts: &[CountStatus],
    name: fn(&mut Html, &CountStatus),
) {
    if counts.is_empty() {
        page.raw("<p>None since it was started.</p>");
        return;
    }
    let columns = [
        Column::Text(first),
        Column::Number("15 min"),
        Column::Spare("Total"),
        Column::Number("Last"),
    ];
    page.table(caption, &columns);
    for count in counts {
        name(page, count);
        page.number(Grouped(count.in_15_minutes));
        page.line(
            "<td class=\"n spare\">",
            Grouped(count.since_start),
            "</td>",
        );
        page.raw("<td class=\"n\">").ago(count.last_at, status.at);
        page.raw("</td></tr>");
    }
    page.table_ends();
    page.raw("<p class=\"hint\">On this replica, since it was started.</p>");
}

pub(super) fn portals(page: &mut Html, status: &Status) {
    page.raw("<section id=\"portal\"><h2>Portal</h2>");
    portal(page, "Portal", &status.portal);
    if let Some(failover) = &status.failover {
        page.raw("<h3>Second portal</h3>");
        portal(page, "Second portal", failover);
    }
    for route in &status.routes {
        page.raw("<h3>Route ").text(&route.name).raw("</h3>");
        portal(page, "Portal of a route", &route.portal);
        if let Some(failover) = &route.failover {
            portal(page, "Second portal of a route", failover);
        }
    }
    page.raw("</section>");
}

fn portal(page: &mut Html, caption: &str, portal: &PortalStatus) {
    page.table(caption, &[Column::Text("Calls"), Column::Text("Now")]);
    for breaker in &portal.breakers {
        page.raw("<tr>")
            .name(scope_in_words(breaker.scope))
            .raw("<td>");
        match (breaker.state, breaker.next_probe_in_seconds, breaker.width) {
            ("closed", ..) => page.raw("✔ calls go"),
            ("open", Some(wait), _) => {
                let wait = Span(Duration::from_secs(wait));
                page.raw("✖ no calls, next try in ").text(wait)
            }
            ("half_open", _, Some(width)) => {
                page.raw("▲ tried: ").text(width).raw(" calls at once")
            }
            (other, ..) => page.text(other),
        };
        page.raw("</td></tr>");
    }
    page.table_ends();
    let concurrency = &portal.concurrency;
    page.raw("<p class=\"hint\">")
        .text(concurrency.used)
        .raw(" of ")
        .text(concurrency.limit);
    page.raw(" places in use; at most ").text(concurrency.cap);
    page.raw(".</p>");
}

pub(super) fn clients(page: &mut Html, status: &Status) {
    if status.clients.is_empty() {
        return;
    }
    page.raw("<section id=\"clients\"><h2>Errors by client</h2>");
    let columns = [
        Column::Text("Client"),
        Column::Text("Budget"),
        Column::Number("Errors today"),
    ];
    page.table("Error budgets of clients", &columns);
    for client in &status.clients {
        let budget = &client.error_budget;
        page.raw("<tr>").name(&client.client).cell(budget.state);
        page.raw("<td class=\"n\">")
            .text(Grouped(budget.used.into()))
            .raw(" of ");
        page.text(Grouped(budget.limit.into())).raw("</td></tr>");
    }
    page.table_ends();
    page.raw("</section>");
}
