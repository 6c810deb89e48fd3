//! Judges a document before the portal sees it: its form by a JSON Schema, then the portal's business rules. A bad
//! document costs the taxpayer nothing here, and an error there (the portal blocks those with too many).
//!
//! One rule: never refuse what the portal accepts. Where sources disagree, or a list may be incomplete, the document
//! passes, and the doubt is a warning that `irn-worker validate` shows.

mod dates;
mod eway_bill;
mod findings;
mod invoice;
mod lines;
mod parties;
mod remarks;
mod rules;
mod schema;
mod totals;
mod tree;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::{self, Environment, ValidateConfig};
use crate::document::{self, BadDocument, Document, MAX_BYTES};
use crate::gstin::Gstin;

use findings::Findings;
use invoice::Invoice;
use rules::{CODES, Rules};
use schema::Schema;
use tree::{Fault, Node, Unreadable};

pub use findings::{Finding, Severity};
pub use rules::BadRules;
pub use schema::BadSchema;

/// Codes of the members without which a document has no name, as `document` judges them; none of them can be switched.
const OF_THE_NAME: [&str; 2] = ["2155", "2161"];

/// Whether pre-flight looks for what the portal refuses, or warns of, with this code.
pub fn looks_for(code: &str) -> bool {
    CODES.contains(&code) || OF_THE_NAME.contains(&code)
}

/// As wrong as the clock of a machine may be near midnight.
const CLOCK_MAY_BE_WRONG_BY: SignedDuration = SignedDuration::from_mins(10);

/// India's clocks are five and a half hours ahead of UTC, the whole year.
const INDIA: SignedDuration = SignedDuration::from_mins(330);

/// Pre-flight, ready to judge: schema compiled, rules read. One for the whole process.
#[derive(Debug)]
pub struct Preflight {
    mode: config::Preflight,
    environment: Environment,
    schema: Schema,
    rules: Rules,
}

/// Why there is no pre-flight.
#[derive(Debug, thiserror::Error)]
pub enum PreflightFault {
    /// `validate.rules_file`, or the rules built in.
    #[error("validate.rules_file: {0}")]
    Rules(#[from] BadRules),
    /// The schema built in.
    #[error(transparent)]
    Schema(#[from] BadSchema),
}

/// All that was found in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Errors first, then warnings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// What refuses a request that cannot be read.
    pub fn of(findings: &[document::Finding]) -> Self {
        Self {
            findings: findings.iter().map(Finding::unnamed).collect(),
        }
    }

    /// Whether the document must not be submitted.
    pub fn refuses(&self) -> bool {
        self.errors().next().is_some()
    }

    /// What refuses it.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
    }

    /// What is doubtful about it.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Warning)
    }
}

/// What somebody wants to know of a document.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// All that can be said of it.
    Everything,
    /// What refuses it.
    Refusal,
}

/// What the rules have to know beside the document.
struct Around<'a> {
    rules: &'a Rules,
    environment: Environment,
    today: Today,
    /// Whose session is to register it, where that is known.
    caller: Option<Gstin>,
}

/// Today in India, by a clock that may be a little wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Today {
    earliest: Date,
    latest: Date,
}

impl Today {
    fn at(now: Timestamp) -> Self {
        let date = |error: SignedDuration| {
            let there = now.checked_add(INDIA + error).unwrap_or(now);
            TimeZone::UTC.to_datetime(there).date()
        };
        Self {
            earliest: date(-CLOCK_MAY_BE_WRONG_BY),
            latest: date(CLOCK_MAY_BE_WRONG_BY),
        }
    }
}

impl Preflight {
    /// Compiles the schema and reads the rules, built in or of `validate.rules_file`.
    ///
    /// # Errors
    /// The rules file cannot be read or is none.
    pub fn new(config: &ValidateConfig, environment: Environment) -> Result<Self, PreflightFault> {
        Ok(Self {
            mode: config.preflight,
            environment,
            schema: Schema::compile()?,
            rules: match &config.rules_file {
                Some(path) => Rules::load(path)?,
                None => Rules::built_in()?,
            },
        })
    }

    /// Judges the document `body` at the moment `now`, to be registered by `caller` where that is known.
    ///
    /// Takes microseconds for a common document; does no I/O.
    pub fn check(&self, body: &[u8], now: Timestamp, caller: Option<Gstin>) -> Report {
        self.judged(&[], body, now, caller, Asked::Everything)
    }

    /// As [`Preflight::check`], for a document in which these members, that identify it, have been found wrong.
    pub fn check_after(
        &self,
        found: &[document::Finding],
        body: &[u8],
        now: Timestamp,
        caller: Option<Gstin>,
    ) -> Report {
        self.judged(found, body, now, caller, Asked::Everything)
    }

    /// As [`Preflight::check`], for one who asks only whether the document is refused: what can be no more than a
    /// remark is not looked for.
    pub fn check_refusal(&self, body: &[u8], now: Timestamp, caller: Option<Gstin>) -> Report {
        self.judged(&[], body, now, caller, Asked::Refusal)
    }

    /// Judges the payload that asks for an e-way bill of a registered invoice, as [`Preflight::check`] does a document.
    pub fn check_eway_bill(&self, body: &[u8], now: Timestamp) -> Report {
        let mut findings = Findings::new(&self.rules);
        let text = simdutf8::basic::from_utf8(body).ok();
        let parsed = text.map(|text| Node::parse(text, self.schema.names()));
        let payload = match parsed {
            None => None,
            Some(Ok(payload)) => Some(payload),
            Some(Err(unreadable)) => {
                if self.mode != config::Preflight::Off {
                    note_unreadable(&unreadable, &mut findings);
                }
                None
            }
        };
        if let Some(payload) = payload.as_ref().and_then(Node::object) {
            let mode = self.mode;
            if mode != config::Preflight::Off {
                eway_bill::check_form(payload, &mut findings);
            }
            if mode == config::Preflight::Strict {
                eway_bill::check_request(payload, Today::at(now), &mut findings);
            }
        }
        Report {
            findings: findings.finish(payload.as_ref()),
        }
    }

    fn judged(
        &self,
        found: &[document::Finding],
        body: &[u8],
        now: Timestamp,
        caller: Option<Gstin>,
        asked: Asked,
    ) -> Report {
        let mut findings = Findings::new(&self.rules);
        for finding in found {
            findings.unnamed(finding);
        }
        let judges = match self.mode {
            config::Preflight::Off => false,
            config::Preflight::Schema | config::Preflight::Strict => body.len() <= MAX_BYTES,
        };
        let text = simdutf8::basic::from_utf8(body).ok().filter(|_| judges);
        let parsed = text.map(|text| Node::parse(text, self.schema.names()));
        let findings = match &parsed {
            None => findings.finish(None),
            Some(Ok(document)) => {
                self.judge(document, now, caller, &mut findings);
                if self.wants_remarks(asked) {
                    remarks::check(document, &mut findings);
                }
                findings.finish(Some(document))
            }
            Some(Err(unreadable)) => {
                note_unreadable(unreadable, &mut findings);
                findings.finish(None)
            }
        };
        Report { findings }
    }

    fn judge(
        &self,
        document: &Node<'_>,
        now: Timestamp,
        caller: Option<Gstin>,
        findings: &mut Findings<'_>,
    ) {
        for violation in self.schema.violations(document) {
            if !findings.is_at(&violation.pointer) {
                findings.error("5002", violation.pointer, violation.message);
            }
        }
        if self.mode == config::Preflight::Strict
            && let Some(root) = document.object()
        {
            let around = Around {
                rules: &self.rules,
                environment: self.environment,
                today: Today::at(now),
                caller,
            };
            let invoice = Invoice::read(root);
            dates::check(&invoice, &around, findings);
            parties::check(&invoice, &around, findings);
            lines::check(&invoice, &around, findings);
            totals::check(&invoice, findings);
            eway_bill::check(&invoice, &around, findings);
        }
    }

    /// Remarks refuse nothing, but where an operator has made errors of them.
    fn wants_remarks(&self, asked: Asked) -> bool {
        match asked {
            Asked::Everything => true,
            Asked::Refusal => {
                self.rules.severity(remarks::CODE, Severity::Warning) == Some(Severity::Error)
            }
        }
    }
}

/// What no tree can be made of is refused in one piece: nothing of it is judged.
fn note_unreadable(unreadable: &Unreadable, findings: &mut Findings<'_>) {
    let message = match unreadable.fault() {
        Fault::NotJson => "this is not JSON",
        Fault::TooDeep => {
            "this is nested more than 128 levels deep: no invoice is, and the portal could not read it"
        }
        Fault::HalfPair => {
            "the text has half of a surrogate pair (\\ud800 to \\udfff come in twos), which is no character: whatever wrote \
             it has cut a text in the middle of one, or left one out"
        }
        Fault::HalfPairInName => {
            "the name of a member in here has half of a surrogate pair (\\ud800 to \\udfff come in twos), which is no \
             character"
        }
    };
    findings.error("5002", unreadable.pointer(), message);
}

/// What a document is called, and what pre-flight says of it: what the worker does with a `generate` job, in one call.
///
/// # Errors
/// The body is not JSON: there is no document to judge.
pub fn read_and_check(
    preflight: &Preflight,
    body: &[u8],
    now: Timestamp,
) -> Result<(Option<Document>, Report), BadDocument> {
    match document::read(body) {
        Ok(document) => Ok((Some(document), preflight.check(body, now, None))),
        Err(BadDocument::Refused(found)) => {
            Ok((None, preflight.check_after(&found, body, now, None)))
        }
        Err(not_json @ BadDocument::NotJson { .. }) => Err(not_json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_is_that_of_india_and_leaves_room_for_a_wrong_clock() {
        let at = |moment: &str| {
            let Today { earliest, latest } = Today::at(moment.parse().unwrap());
            (earliest.to_string(), latest.to_string())
        };
        let both = |day: &str| (day.to_owned(), day.to_owned());
        assert_eq!(at("2026-11-22T12:00:00Z"), both("2026-11-22"));
        assert_eq!(at("2026-11-22T18:45:00Z"), both("2026-11-23"));
        let midnight = ("2026-11-22".to_owned(), "2026-11-23".to_owned());
        assert_eq!(at("2026-11-22T18:25:00Z"), midnight);
        assert_eq!(at("2026-11-22T18:35:00Z"), midnight);
    }
}
