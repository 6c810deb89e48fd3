//! The first look: whether it works, and what a person has to see to.

use std::time::Duration;

use super::html::{Clock, Grouped, Html, Span};
use crate::admin::lanes::Lane;
use crate::admin::portal::PortalStatus;
use crate::admin::status::Status;
use crate::telemetry::State;

/// How it is, in a few words.
#[derive(Debug)]
pub(super) struct Verdict {
    mood: Mood,
    pub(super) title: &'static str,
    /// What that means for the jobs.
    means: String,
    troubles: Vec<Trouble>,
}

/// Never told by colour alone: each has a sign and a word of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Good,
    Waits,
    Warns,
    Bad,
}

/// Something to see to.
#[derive(Debug)]
struct Trouble {
    mood: Mood,
    what: String,
    remedy: String,
}

impl Mood {
    fn open(self) -> &'static str {
        match self {
            Self::Good => "<p class=\"verdict good\"><span aria-hidden=\"true\">✔</span> ",
            Self::Waits => "<p class=\"verdict waits\"><span aria-hidden=\"true\">◷</span> ",
            Self::Warns => "<p class=\"verdict warns\"><span aria-hidden=\"true\">▲</span> ",
            Self::Bad => "<p class=\"verdict bad\"><span aria-hidden=\"true\">✖</span> ",
        }
    }

    fn item(self) -> &'static str {
        match self {
            Self::Good | Self::Waits => "<li class=\"waits\"><b>Note:</b> ",
            Self::Warns => "<li class=\"warns\"><b>Warning:</b> ",
            Self::Bad => "<li class=\"bad\"><b>Trouble:</b> ",
        }
    }
}

impl Verdict {
    pub(super) fn of(status: &Status) -> Self {
        let troubles = troubles(status);
        let (mood, title) = match status.now {
            State::Consuming if troubles.iter().any(|t| t.mood == Mood::Bad) => {
                (Mood::Warns, "Working, with trouble")
            }
            State::Consuming => (Mood::Good, "Working"),
            State::Starting => (Mood::Waits, "Starting"),
            State::BrokerLost => (Mood::Bad, "No connection to the broker"),
            State::PublisherLost => (Mood::Bad, "No connection for results"),
            State::PortalDown => (Mood::Bad, "The portal is down"),
            State::Paused => (Mood::Waits, "Paused by an operator"),
            State::PausesUnread => (Mood::Waits, "Starting"),
            State::Draining => (Mood::Waits, "Stopping"),
        };
        Self {
            mood,
            title,
            means: means(status),
            troubles,
        }
    }
}

fn means(status: &Status) -> String {
    match status.now {
        State::Consuming => work(status),
        State::Starting => "It takes no jobs yet: it attaches to its queues.".to_owned(),
        State::BrokerLost => {
            "Jobs wait in their queues. It tries to come back by itself, every few seconds.".to_owned()
        }
        State::PublisherLost => {
            "Results cannot be published, so no job is taken: they wait in their queues.".to_owned()
        }
        State::PortalDown => {
            "Jobs wait in their queue, uncharged. It tries the portal by itself, and goes on when it answers.".to_owned()
        }
        State::Paused => {
            "Jobs wait in their queue, uncharged, until the pause is over or lifted.".to_owned()
        }
        State::PausesUnread => {
            "It takes no jobs until it has read from irn.control.log what operators have paused.".to_owned()
        }
        State::Draining => "It finishes what it has begun and takes nothing new.".to_owned(),
    }
}

fn work(status: &Status) -> String {
    let in_work: usize = status.lanes.iter().map(|lane| lane.in_flight).sum();
    let in_work = Grouped(u64::try_from(in_work).unwrap_or(u64::MAX));
    let Some(queues) = &status.queues else {
        return format!("{in_work} jobs in work here.");
    };
    let waiting: u64 = queues.jobs.iter().map(|queue| queue.messages).sum();
    let later: u64 = queues.ladder.iter().map(|queue| queue.messages).sum();
    let (waiting, later) = (Grouped(waiting), Grouped(later));
    format!("{in_work} jobs in work here; {waiting} wait in the queues, {later} to be tried later.")
}

fn troubles(status: &Status) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    portal_troubles(&mut troubles, "The portal", &status.portal);
    if let Some(failover) = &status.failover {
        portal_troubles(&mut troubles, "The second portal", failover);
    }
    for route in &status.routes {
        let name = format!("The portal of route {}", route.name);
        portal_troubles(&mut troubles, &name, &route.portal);
        if let Some(failover) = &route.failover {
            let name = format!("The second portal of route {}", route.name);
            portal_troubles(&mut troubles, &name, failover);
        }
    }
    credential_troubles(&mut troubles, status);
    gstin_troubles(&mut troubles, &status.lanes);
    for client in status
        .clients
        .iter()
        .filter(|c| c.error_budget.state == "stopped")
    {
        troubles.push(Trouble {
            mood: Mood::Bad,
            what: format!("client {} has used up its error budget", client.client),
            remedy: format!(
                "mend the cause, then: irn-worker resume --client {}",
                client.client
            ),
        });
    }
    kept(&mut troubles, status);
    if !status.pauses_known && status.now != State::Starting {
        troubles.push(Trouble {
            mood: Mood::Warns,
            what: "pauses are not known to this replica".to_owned(),
            remedy: "see its log; it has to be allowed to read irn.control.log".to_owned(),
        });
    }
    troubles
}

fn portal_troubles(troubles: &mut Vec<Trouble>, which: &str, portal: &PortalStatus) {
    for breaker in portal.breakers.iter().filter(|b| b.state != "closed") {
        let of = super::tables::scope_in_words(breaker.scope);
        let remedy = match breaker.next_probe_in_seconds {
            Some(wait) => format!("next try in {}", Span(Duration::from_secs(wait))),
            None => "it is tried with the next job".to_owned(),
        };
        // Without traffic it stays half-open after it has recovered.
        let (mood, what) = match breaker.state {
            "half_open" => (Mood::Waits, format!("{which} did not answer {of}")),
            _ => (Mood::Bad, format!("{which} does not answer {of}")),
        };
        troubles.push(Trouble { mood, what, remedy });
    }
    let concurrency = &portal.concurrency;
    if concurrency.limit < concurrency.cap {
        troubles.push(Trouble {
            mood: Mood::Warns,
            what: format!("{which} is slow or overloaded"),
            remedy: format!(
                "{} jobs at once instead of {}, and more again when it answers in time",
                concurrency.limit, concurrency.cap
            ),
        });
    }
}

fn credential_troubles(troubles: &mut Vec<Trouble>, status: &Status) {
    let Some(reload) = &status.credentials_reload else {
        return;
    };
    if reload.result == "refused" {
        troubles.push(Trouble {
            mood: Mood::Bad,
            what: format!(
                "the new credentials are faulty: {}",
                reload.faults.join("; ")
            ),
            remedy: "those loaded before stay in use".to_owned(),
        });
    }
}

fn gstin_troubles(troubles: &mut Vec<Trouble>, lanes: &[Lane]) {
    let count = |is: fn(&Lane) -> bool| lanes.iter().filter(|lane| is(lane)).count();
    let budget = |lane: &Lane| lane.error_budget.state;
    let of = |count: usize| match count {
        1 => "1 GSTIN".to_owned(),
        count => format!(
            "{} GSTINs",
            Grouped(u64::try_from(count).unwrap_or(u64::MAX))
        ),
    };
    let kinds: [(usize, Mood, &str, &str); 4] = [
        (
            count(|lane| lane.credentials == "refused"),
            Mood::Bad,
            "refused by the portal: password or account",
            "correct the credentials; or, mended at the portal's side: irn-worker resume GSTIN",
        ),
        (
            lanes
                .iter()
                .filter(|lane| budget(lane) == "stopped")
                .count(),
            Mood::Bad,
            "stopped: the error budget is used up",
            "mend the cause, then: irn-worker resume GSTIN",
        ),
        (
            count(|lane| lane.token_contention),
            Mood::Bad,
            "whose sessions another system keeps replacing",
            "give each system an API user of its own",
        ),
        (
            lanes
                .iter()
                .filter(|lane| matches!(budget(lane), "slow" | "warned"))
                .count(),
            Mood::Warns,
            "slowed: more than half of the error budget is used",
            "look at the last outcomes",
        ),
    ];
    for (count, mood, what, remedy) in kinds.into_iter().filter(|(count, ..)| *count > 0) {
        troubles.push(Trouble {
            mood,
            what: format!("{} {what}", of(count)),
            remedy: remedy.to_owned(),
        });
    }
}

fn kept(troubles: &mut Vec<Trouble>, status: &Status) {
    let kept = status.queues.iter().flat_map(|queues| &queues.kept);
    for queue in kept.filter(|queue| queue.messages > 0) {
        let messages = Grouped(queue.messages);
        let (what, remedy) = match queue.queue.as_str() {
            "irn.poison" => (
                format!("{messages} in irn.poison: they could not be read, routed or kept"),
                "see what they are with irn-worker dead-letters list --queue poison",
            ),
            name => (
                format!("{messages} in {name}: jobs that were given up and are kept"),
                "see why with irn-worker dead-letters list, and replay them once the cause is gone",
            ),
        };
        troubles.push(Trouble {
            mood: Mood::Warns,
            what,
            remedy: remedy.to_owned(),
        });
    }
}

/// The verdict is read out when it changes, the rest when it is looked for.
pub(super) fn section(page: &mut Html, status: &Status, verdict: &Verdict) {
    page.raw("<section id=\"verdict\" aria-label=\"State\"><div role=\"status\">");
    page.raw(verdict.mood.open())
        .text(verdict.title)
        .raw("</p></div><p>");
    page.text(&verdict.means).raw("</p>");
    if let Some(pause) = status.pauses.iter().find(|pause| pause.scope == "portal") {
        page.raw("<p>Everybody is paused until ")
            .text(Clock(pause.until));
        page.raw(": ").text(&pause.reason).raw("</p>");
    }
    page.raw("</section><section id=\"troubles\"><h2>To see to</h2>");
    if verdict.troubles.is_empty() {
        page.raw("<p>Nothing.</p>");
    } else {
        page.raw("<ul>");
        for trouble in &verdict.troubles {
            page.raw(trouble.mood.item())
                .raw("<span>")
                .text(&trouble.what);
            page.raw("</span> <span class=\"remedy\">")
                .text(&trouble.remedy);
            page.raw("</span></li>");
        }
        page.raw("</ul>");
    }
    page.raw("</section>");
}
