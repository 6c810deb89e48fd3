//! What goes wrong on purpose: rules that say which requests fail and how, drawn from a seeded generator so that a
//! run repeats. Nothing here acts; `plan` only says what is to happen to one request.

use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::Info;
use crate::call::Endpoint;
use crate::envelope::Shapes;

/// Which calls a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Aim {
    Auth,
    Generate,
    GetByIrn,
    GetByDoc,
    Cancel,
    Gstin,
    Sync,
    Ewb,
    GetEwb,
    Rejected,
    /// Everything but the login.
    Core,
    Any,
}

impl Aim {
    fn covers(self, endpoint: Endpoint) -> bool {
        match self {
            Self::Any => true,
            Self::Core => endpoint != Endpoint::Auth,
            Self::Auth => endpoint == Endpoint::Auth,
            Self::Generate => endpoint == Endpoint::Generate,
            Self::GetByIrn => endpoint == Endpoint::GetByIrn,
            Self::GetByDoc => endpoint == Endpoint::GetByDoc,
            Self::Cancel => endpoint == Endpoint::Cancel,
            Self::Gstin => endpoint == Endpoint::Gstin,
            Self::Sync => endpoint == Endpoint::Sync,
            Self::Ewb => endpoint == Endpoint::Ewb,
            Self::GetEwb => endpoint == Endpoint::GetEwb,
            Self::Rejected => endpoint == Endpoint::Rejected,
        }
    }
}

/// Before or after the portal has acted on the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    #[default]
    Before,
    After,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Delay,
    Hold,
    Drop,
    Status,
    Html,
    Empty,
    Truncated,
    WrongKey,
    BadSignature,
    WrongSigningKey,
    Mismatch,
    RevokeToken,
    RefusePassword,
    BlockGstin,
    Error,
    NoReason,
}

/// One rule as the control API takes and shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    id: Option<String>,
    #[serde(default = "any")]
    endpoint: Aim,
    gstin: Option<String>,
    number: Option<String>,
    #[serde(default = "always")]
    probability: f64,
    times: Option<u64>,
    #[serde(default)]
    after: u64,
    #[serde(default)]
    when: When,
    kind: Kind,
    ms: Option<u64>,
    status: Option<u16>,
    retry_after: Option<u64>,
    code: Option<String>,
    message: Option<String>,
    #[serde(default)]
    info: Vec<InfoEntry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct InfoEntry {
    inf_cd: String,
    desc: Value,
}

fn any() -> Aim {
    Aim::Any
}

fn always() -> f64 {
    1.0
}

/// What `POST /_sandbox/faults` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FaultSet {
    seed: u64,
    rules: Vec<Rule>,
    shapes: Shapes,
}

impl Default for FaultSet {
    fn default() -> Self {
        Self {
            seed: 1,
            rules: Vec::new(),
            shapes: Shapes::default(),
        }
    }
}

/// A wait on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Milliseconds.
    Delay(u64),
    /// Until released; the rule's id.
    Hold(Option<String>),
}

/// How a request fails in the end.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The connection is closed without an answer.
    Drop,
    /// An HTTP status without a portal's body.
    Status {
        status: u16,
        retry_after: Option<u64>,
    },
    Html {
        status: u16,
    },
    Empty {
        status: u16,
    },
    /// Half a body.
    Truncated,
    /// A portal error.
    Error {
        code: String,
        message: String,
        info: Vec<Info>,
    },
    /// A refusal whose errors were lost on the way.
    NoReason,
}

/// How an otherwise good answer is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    WrongKey,
    BadSignature,
    WrongSigningKey,
    Mismatch,
}

/// The last thing that happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// It is answered as it deserves.
    Normal,
    /// Its token is revoked first, then it is answered as it deserves.
    Revoked,
    Spoilt(Spoil),
    Failed(When, Failure),
}

/// All that is to happen to one request.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) before: Vec<Pause>,
    pub(crate) after: Vec<Pause>,
    pub(crate) ending: Ending,
    pub(crate) shapes: Shapes,
}

/// What a rule can match.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) gstin: &'a str,
    pub(crate) number: Option<&'a str>,
}

struct State {
    rng: StdRng,
    rules: Vec<Armed>,
    shapes: Shapes,
}

struct Armed {
    rule: Rule,
    seen: u64,
    fired: u64,
}

/// The rules in force.
pub(crate) struct Faults(Mutex<State>);

impl Default for Faults {
    fn default() -> Self {
        Self(Mutex::new(State::new(FaultSet::default())))
    }
}

impl Faults {
    /// Replaces all rules and shapes.
    pub(crate) fn replace(&self, set: FaultSet) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::new(set);
    }

    /// The rules with how often each matched and fired, and the shapes.
    pub(crate) fn show(&self) -> Value {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = state.rules.iter().map(|armed| {
            let mut rule = json!(armed.rule);
            rule["seen"] = json!(armed.seen);
            rule["fired"] = json!(armed.fired);
            if let Some(members) = rule.as_object_mut() {
                members.retain(|_, value| !value.is_null());
            }
            rule
        });
        json!({ "rules": rules.collect::<Vec<_>>(), "shapes": state.shapes })
    }

    /// Decides about one request. Delays and holds add up; the first other rule that fires ends the search.
    pub(crate) fn plan(&self, incoming: &Incoming<'_>) -> Plan {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { rng, rules, shapes } = &mut *state;
        let mut plan = Plan {
            before: Vec::new(),
            after: Vec::new(),
            ending: Ending::Normal,
            shapes: shapes.clone(),
        };
        for armed in rules {
            if !armed.fires(incoming, rng) {
                continue;
            }
            let pauses = if armed.rule.when == When::Before {
                &mut plan.before
            } else {
                &mut plan.after
            };
            match armed.rule.effect() {
                Effect::Pause(pause) => pauses.push(pause),
                Effect::End(ending) => {
                    plan.ending = ending;
                    break;
                }
            }
        }
        plan
    }
}

impl State {
    fn new(set: FaultSet) -> Self {
        let rules = set
            .rules
            .into_iter()
            .map(|rule| Armed {
                rule,
                seen: 0,
                fired: 0,
            })
            .collect();
        Self {
            rng: StdRng::seed_from_u64(set.seed),
            rules,
            shapes: set.shapes,
        }
    }
}

impl Armed {
    fn fires(&mut self, incoming: &Incoming<'_>, rng: &mut StdRng) -> bool {
        let rule = &self.rule;
        let matches = rule.endpoint.covers(incoming.endpoint)
            && rule
                .gstin
                .as_deref()
                .is_none_or(|gstin| gstin == incoming.gstin)
            && rule.number.as_deref().is_none_or(|number| {
                incoming
                    .number
                    .is_some_and(|incoming| incoming.eq_ignore_ascii_case(number))
            });
        if !matches {
            return false;
        }
        self.seen += 1;
        let spent = rule.times.is_some_and(|times| self.fired >= times);
        if self.seen <= rule.after || spent || rng.random::<f64>() >= rule.probability {
            return false;
        }
        self.fired += 1;
        true
    }
}

enum Effect {
    Pause(Pause),
    End(Ending),
}

impl Rule {
    fn effect(&self) -> Effect {
        let failed = |failure| Effect::End(Ending::Failed(self.when, failure));
        match self.kind {
            Kind::Delay => Effect::Pause(Pause::Delay(self.ms.unwrap_or(1_000))),
            Kind::Hold => Effect::Pause(Pause::Hold(self.id.clone())),
            Kind::Drop => failed(Failure::Drop),
            Kind::Status => {
                let status = self.status.unwrap_or(503);
                failed(Failure::Status {
                    status,
                    retry_after: self.retry_after,
                })
            }
            Kind::Html => failed(Failure::Html {
                status: self.status.unwrap_or(200),
            }),
            Kind::Empty => failed(Failure::Empty {
                status: self.status.unwrap_or(200),
            }),
            Kind::Truncated => failed(Failure::Truncated),
            Kind::RefusePassword => failed(self.error("1019", "Incorrect Password")),
            Kind::BlockGstin => failed(self.error("1014", "Inactive User")),
            Kind::Error => {
                failed(self.error("3020", "Internal Server Error pls try after sometime"))
            }
            Kind::NoReason => failed(Failure::NoReason),
            Kind::RevokeToken => Effect::End(Ending::Revoked),
            Kind::WrongKey => Effect::End(Ending::Spoilt(Spoil::WrongKey)),
            Kind::BadSignature => Effect::End(Ending::Spoilt(Spoil::BadSignature)),
            Kind::WrongSigningKey => Effect::End(Ending::Spoilt(Spoil::WrongSigningKey)),
            Kind::Mismatch => Effect::End(Ending::Spoilt(Spoil::Mismatch)),
        }
    }

    fn error(&self, code: &str, message: &str) -> Failure {
        let info = self.info.iter().map(|entry| Info {
            inf_cd: entry.inf_cd.clone().into(),
            desc: entry.desc.clone(),
        });
        Failure::Error {
            code: self.code.clone().unwrap_or_else(|| code.to_owned()),
            message: self.message.clone().unwrap_or_else(|| message.to_owned()),
            info: info.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Faults {
        let faults = Faults::default();
        faults.replace(serde_json::from_str(text).unwrap());
        faults
    }

    fn generate<'a>(number: Option<&'a str>) -> Incoming<'a> {
        Incoming {
            endpoint: Endpoint::Generate,
            gstin: "29AAGCE4783K1Z1",
            number,
        }
    }

    fn fails(plan: &Plan) -> bool {
        matches!(plan.ending, Ending::Failed(..))
    }

    #[test]
    fn rules_fire_only_where_they_aim() {
        let faults = faults(
            r#"{"rules":[{"endpoint":"core","number":"SI/1","kind":"drop","when":"after"}]}"#,
        );
        assert!(fails(&faults.plan(&generate(Some("si/1")))));
        assert!(!fails(&faults.plan(&generate(Some("SI/2")))));
        assert!(!fails(&faults.plan(&generate(None))));
        let login = Incoming {
            endpoint: Endpoint::Auth,
            ..generate(Some("SI/1"))
        };
        assert!(!fails(&faults.plan(&login)));
    }

    #[test]
    fn times_and_after_bound_the_firing() {
        let faults = faults(r#"{"rules":[{"kind":"status","status":503,"after":2,"times":3}]}"#);
        let fired: Vec<bool> = (0..8)
            .map(|_| fails(&faults.plan(&generate(None))))
            .collect();
        assert_eq!(fired, [false, false, true, true, true, false, false, false]);
        let shown = faults.show();
        assert_eq!(
            (&shown["rules"][0]["fired"], &shown["rules"][0]["seen"]),
            (&json!(3), &json!(8))
        );
    }

    #[test]
    fn the_same_seed_repeats_the_same_run() {
        let text = r#"{"seed":7,"rules":[{"kind":"empty","probability":0.3}]}"#;
        let run = || {
            let faults = faults(text);
            (0..200)
                .map(|_| fails(&faults.plan(&generate(None))))
                .collect::<Vec<_>>()
        };
        let first = run();
        assert_eq!(first, run());
        let fired = first.iter().filter(|fired| **fired).count();
        assert!((30..90).contains(&fired), "{fired}");
    }

    #[test]
    fn waits_combine_with_the_first_rule_that_ends_it() {
        let faults = faults(
            r#"{"rules":[{"kind":"delay","ms":5},{"id":"h","kind":"hold","when":"after"},
                {"kind":"html","status":502},{"kind":"drop"}]}"#,
        );
        let plan = faults.plan(&generate(None));
        assert_eq!(plan.before, [Pause::Delay(5)]);
        assert_eq!(plan.after, [Pause::Hold(Some("h".to_owned()))]);
        assert!(matches!(
            plan.ending,
            Ending::Failed(When::Before, Failure::Html { status: 502 })
        ));
    }

    #[test]
    fn misspelt_rules_are_refused() {
        for text in [
            r#"{"rules":[{"kind":"explode"}]}"#,
            r#"{"rules":[{"kind":"drop","tmes":1}]}"#,
            r#"{"rule":[]}"#,
        ] {
            assert!(serde_json::from_str::<FaultSet>(text).is_err(), "{text}");
        }
    }
}
