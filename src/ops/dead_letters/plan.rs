//! `replay --dry-run`: what a replay would do, and what it may cost.
//!
//! One rule: the worst case. A look-up that finds nothing and a document refused again are errors that the portal counts.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::canary::documents_in;
use super::groups::Groups;
use super::judge::{Judged, Rules, judge};
use super::look::look;
use super::{Filter, LetterQueue, LettersError, age, said_of};
use crate::broker::{InOtherHands, Letter};
use crate::config::{LettersSide, LimitsConfig, Rate};
use crate::job::DeadLetter;

/// A deadline this near may pass before a replayed job has its turn.
const SOON: Duration = Duration::from_secs(3600);

/// So many GSTINs are listed for a person: those for which it costs most.
const LISTED: usize = 10;

/// What it may cost a GSTIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Letters.
    pub letters: u64,
    /// Documents in them: a batch has several, each of which is looked up and submitted.
    pub documents: u64,
    /// Answers that the portal may count as errors, at most.
    pub errors: u64,
}

/// What a replay would do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What would be replayed.
    pub groups: Groups,
    /// Of them, those whose deadline has passed: their result will be `expired`, unless they are registered.
    pub past_deadline: u64,
    /// Those whose deadline passes within the hour.
    pub deadline_soon: u64,
    /// Letters that stay, for want of `--force`.
    pub died_twice: u64,
    /// Letters that stay, because their document was not kept or nothing says what they asked for.
    pub impossible: u64,
    /// Letters that were not asked for.
    pub others: u64,
    /// Letters that could not be looked at.
    pub elsewhere: InOtherHands,
    /// By GSTIN.
    pub costs: BTreeMap<String, Cost>,
    /// At how many portals each is looked up.
    portals: u64,
}

impl Plan {
    fn of(portals: u64) -> Self {
        Self {
            portals,
            ..Self::default()
        }
    }

    fn add(&mut self, judged: &Judged, letter: &Letter, now: Timestamp) {
        match judged {
            Judged::NotMeant | Judged::TooLate => self.others += 1,
            Judged::DiedTwice => self.died_twice += 1,
            Judged::NoDocument | Judged::NoOperation => self.impossible += 1,
            Judged::Replayed { .. } => {
                let dead = DeadLetter::new(&letter.properties);
                self.add_replayed(dead, documents_in(letter.body.as_bytes()), now);
            }
        }
    }

    fn add_replayed(&mut self, dead: DeadLetter<'_>, documents: usize, now: Timestamp) {
        self.groups.add(dead);
        let soon = now.checked_add(SOON).unwrap_or(Timestamp::MAX);
        let is_past = dead.deadline().is_some_and(|deadline| deadline < now);
        let is_soon = !is_past && dead.deadline().is_some_and(|deadline| deadline < soon);
        self.past_deadline += u64::from(is_past);
        self.deadline_soon += u64::from(is_soon);
        let gstin = dead.gstin().map(|gstin| gstin.to_string());
        let cost = self.costs.entry(gstin.unwrap_or_default()).or_default();
        let documents = u64::try_from(documents).unwrap_or(u64::MAX);
        cost.letters += 1;
        cost.documents += documents;
        // Each is looked up first, at each portal; then it is submitted, unless its deadline has passed.
        cost.errors += documents * (self.portals + u64::from(!is_past));
    }

    fn errors(&self) -> u64 {
        self.costs.values().map(|cost| cost.errors).sum()
    }

    fn documents(&self) -> u64 {
        self.costs.values().map(|cost| cost.documents).sum()
    }

    fn look_ups(&self) -> u64 {
        self.documents() * self.portals
    }

    /// The costliest GSTINs first.
    fn costliest(&self) -> Vec<(&str, Cost)> {
        let costs = self.costs.iter();
        let mut costs: Vec<_> = costs.map(|(gstin, cost)| (gstin.as_str(), *cost)).collect();
        costs.sort_by_key(|(_, cost)| std::cmp::Reverse(cost.errors));
        costs
    }

    /// For a person.
    pub fn write(&self, limits: &LimitsConfig, out: &mut impl Write) -> io::Result<()> {
        let now = Timestamp::now();
        let count = self.groups.count();
        writeln!(out, "{count} letters would be replayed")?;
        self.groups.write(out, now)?;
        if let Some((oldest, newest)) = self.groups.span() {
            writeln!(out, "ages: {} to {}", age(newest, now), age(oldest, now))?;
        }
        let lines = [
            (
                self.past_deadline,
                "have a deadline that has passed: `expired`, unless they are registered",
            ),
            (self.deadline_soon, "have a deadline within the hour"),
            (
                self.died_twice,
                "more stay: they died twice of the same cause (--force replays them too)",
            ),
            (
                self.impossible,
                "more stay: their document was not kept, or nothing says what they asked for",
            ),
            (self.others, "more were not asked for"),
        ];
        for (count, says) in lines.iter().filter(|(count, _)| *count > 0) {
            writeln!(out, "{count} {says}")?;
        }
        if let Some(said) = said_of(self.elsewhere) {
            writeln!(out, "{said}")?;
        }
        if count == 0 {
            return Ok(());
        }
        let documents = self.documents();
        if documents > count {
            writeln!(
                out,
                "{documents} documents are in them: batches have several"
            )?;
        }
        let (per_gstin, total) = (limits.error_budget_per_gstin, limits.error_budget_total);
        writeln!(
            out,
            "error budget: at most {} errors, if nothing is registered and all is refused again ({} look-ups, because \
             every document is looked up before it is sent{})",
            self.errors(),
            self.look_ups(),
            if self.portals > 1 {
                ", at each portal"
            } else {
                ""
            }
        )?;
        let percent_of_total = percent(self.errors(), total);
        writeln!(
            out,
            "  if they are all of one client: {percent_of_total} % of its {} in {}{}",
            total.count,
            period(total),
            warning(percent_of_total)
        )?;
        for (gstin, cost) in self.costliest().into_iter().take(LISTED) {
            let gstin = if gstin.is_empty() {
                "no GSTIN named"
            } else {
                gstin
            };
            let percent = percent(cost.errors, per_gstin);
            writeln!(
                out,
                "  {gstin:<15} {:>7} letters, at most {:>7} errors: {percent} % of the {} in {}{}",
                cost.letters,
                cost.errors,
                per_gstin.count,
                period(per_gstin),
                warning(percent)
            )?;
        }
        Ok(())
    }

    /// For a script.
    pub fn json(&self, limits: &LimitsConfig) -> Value {
        let (budget, total) = (limits.error_budget_per_gstin, limits.error_budget_total);
        let costs = self.costliest().into_iter().map(|(gstin, cost)| {
            json!({
                "gstin": (!gstin.is_empty()).then_some(gstin), "letters": cost.letters, "documents": cost.documents,
                "errors_at_most": cost.errors, "budget": budget.count,
                "budget_seconds": budget.period.as_secs(),
            })
        });
        let (oldest, newest) = self.groups.span().unzip();
        json!({
            "dry_run": true, "replayable": self.groups.count(), "documents": self.documents(),
            "groups": self.groups.json(),
            "oldest": oldest, "newest": newest,
            "past_deadline": self.past_deadline, "deadline_soon": self.deadline_soon,
            "died_twice": self.died_twice, "impossible": self.impossible, "others": self.others,
            "in_other_hands": self.elsewhere.counted, "others_hold_more": self.elsewhere.uncounted,
            "look_ups": self.look_ups(), "errors_at_most": self.errors(),
            "if_one_client": {
                "errors_at_most": self.errors(), "budget": total.count,
                "budget_seconds": total.period.as_secs(),
            },
            "costs": costs.collect::<Vec<_>>(),
        })
    }
}

fn percent(errors: u64, budget: Rate) -> u64 {
    errors * 100 / u64::from(budget.count.get())
}

fn warning(percent: u64) -> &'static str {
    match percent {
        0..50 => "",
        50..100 => ", and it is slowed from 50 % on: replay in parts (--limit)",
        _ => ", and it stops at 100 %: replay in parts (--limit), a period apart",
    }
}

fn period(rate: Rate) -> String {
    match rate.period.as_secs() {
        86_400 => "a day".to_owned(),
        3_600 => "an hour".to_owned(),
        60 => "a minute".to_owned(),
        seconds => format!("{seconds} s"),
    }
}

/// Looks at what a replay with this filter would do, and does nothing.
///
/// # Errors
/// When the broker or the queue is not there.
pub async fn plan(
    config: &LettersSide,
    queue: LetterQueue,
    filter: &Filter,
    limit: Option<u32>,
    force: bool,
) -> Result<Plan, LettersError> {
    let began = Timestamp::now();
    let rules = Rules {
        filter,
        began,
        force,
        doubted: "",
    };
    let mut plan = Plan::of(config.portals);
    let everything = Filter::default();
    let consider = |letter: &Letter| {
        let mut judged = judge(letter, &rules);
        let is_over = limit.is_some_and(|limit| plan.groups.count() >= u64::from(limit));
        if is_over && matches!(judged, Judged::Replayed { .. }) {
            judged = Judged::NotMeant;
        }
        plan.add(&judged, letter, began);
    };
    plan.elsewhere = look(config, queue, &everything, consider).await?.elsewhere;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::FieldTable;
    use crate::job::{Properties, header, long, set};

    fn letter(deadline: Option<&str>) -> Properties {
        let mut headers = FieldTable::default();
        set(&mut headers, header::REASON, long("PANICKED"));
        set(&mut headers, header::GSTIN, long("29AAGCE4783K1Z1"));
        if let Some(deadline) = deadline {
            set(&mut headers, header::DEADLINE, long(deadline));
        }
        Properties::default().with_headers(headers)
    }

    fn plan_of_four(portals: u64) -> Plan {
        let now = "2026-01-02T00:00:00Z".parse().expect("a time");
        let mut plan = Plan::of(portals);
        for deadline in [
            None,
            Some("2026-01-01T23:59:59Z"),
            Some("2026-01-02T00:59:59Z"),
            Some("2026-01-02T01:00:01Z"),
        ] {
            plan.add_replayed(DeadLetter::new(&letter(deadline)), 1, now);
        }
        plan
    }

    #[test]
    fn deadlines_and_the_worst_cost_are_counted() {
        let plan = plan_of_four(1);
        assert_eq!((plan.past_deadline, plan.deadline_soon), (1, 1));
        let cost = Cost {
            letters: 4,
            documents: 4,
            errors: 7,
        };
        assert_eq!(plan.costs["29AAGCE4783K1Z1"], cost);
        assert_eq!((plan.look_ups(), plan.errors()), (4, 7));
    }

    #[test]
    fn batch_costs_what_its_documents_do() {
        let now = "2026-01-02T00:00:00Z".parse().expect("a time");
        let mut plan = Plan::of(1);
        let late = Some("2026-01-01T00:00:00Z");
        for (deadline, documents) in [(None, 100), (late, 10)] {
            plan.add_replayed(DeadLetter::new(&letter(deadline)), documents, now);
        }
        assert_eq!((plan.look_ups(), plan.errors()), (110, 210));
    }

    #[test]
    fn each_portal_costs_a_look_up() {
        let plan = plan_of_four(2);
        assert_eq!((plan.look_ups(), plan.errors()), (8, 11));
    }

    #[test]
    fn all_together_are_compared_with_the_budget_of_one_client() {
        let rate = |text: &str| text.parse::<Rate>().expect("a rate");
        let limits = LimitsConfig {
            error_budget_per_gstin: rate("100/day"),
            error_budget_total: rate("10/day"),
            per_gstin: rate("10/s"),
            total: rate("100/s"),
            auth_per_gstin: rate("2/m"),
        };
        let mut text = Vec::new();
        plan_of_four(1).write(&limits, &mut text).expect("written");
        let text = String::from_utf8(text).expect("UTF-8");
        let line = "if they are all of one client: 70 % of its 10 in a day, and it is slowed";
        assert!(text.contains(line), "{text}");
        let json = plan_of_four(1).json(&limits);
        let expected = json!({"errors_at_most": 7, "budget": 10, "budget_seconds": 86_400});
        assert_eq!(json["if_one_client"], expected);
    }
}
