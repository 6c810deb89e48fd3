//! What a difference on the broker means for the messages that it holds.
//!
//! One rule: no broker is asked here. What would lose messages is told apart from what is merely odd.

use std::time::Duration;

use crate::broker::{
    CONTROL_EXCHANGE, CONTROL_LOG, DEAD_QUEUE, Deviation, How, JOBS_QUEUE, Kind, POISON_QUEUE,
    URGENT_QUEUE,
};
use crate::config::Config;
use crate::ops::check::{Finding, Verdict};

/// Crashes and lost connections that a job should survive before it counts as poison.
const DELIVERIES: i64 = 5;

/// Letters are looked at by people and by commands, each time handed out once more.
const LETTERS_DELIVERIES: i64 = 1_000;

/// From this release on, a quorum queue has a delivery limit of 20 where it states none (RabbitMQ, "Quorum Queues").
const LIMITS_DELIVERIES: (u32, u32) = (4, 0);

/// The broker looks after time-outs about once a minute.
const SHORTEST_CONSUMER_TIMEOUT: Duration = Duration::from_secs(300);

/// What the worker needs of the broker, beyond what the topology says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// How long it may keep a delivery.
    pub(super) consumer_timeout: Duration,
    /// `run` declares what is missing.
    pub(super) declare: bool,
    /// A quorum queue that states no delivery limit has one of 20: RabbitMQ 4 and later.
    pub(super) limits_deliveries: bool,
}

impl Needs {
    /// What these settings need. An attempt makes up to four calls (login, look-up, submit, fetch), each with its
    /// immediate tries, and a drain may come on top.
    pub(super) fn of(config: &Config, release: Option<(u32, u32)>) -> Self {
        let call = config.irp.request_timeout + config.retry.immediate_max_elapsed;
        let longest = call * 4 + config.shutdown.drain_timeout;
        Self {
            consumer_timeout: longest.max(SHORTEST_CONSUMER_TIMEOUT),
            declare: config.topology.declare,
            limits_deliveries: release.is_some_and(|release| release >= LIMITS_DELIVERIES),
        }
    }
}

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Jobs,
    Rung,
    Dead,
    Poison,
    Results,
    Control,
}

impl Role {
    fn of(queue: &str) -> Self {
        match queue {
            JOBS_QUEUE | URGENT_QUEUE => Self::Jobs,
            DEAD_QUEUE => Self::Dead,
            POISON_QUEUE => Self::Poison,
            CONTROL_LOG => Self::Control,
            rung if rung.starts_with("irn.retry.") => Self::Rung,
            _ => Self::Results,
        }
    }

    /// Whether the broker itself moves its messages on.
    fn moves_on(self) -> bool {
        matches!(self, Self::Jobs | Self::Rung)
    }
}

/// What comes of a difference.
enum Harm {
    /// Messages are lost.
    Loses(&'static str),
    /// The work goes otherwise than it should.
    Disturbs(&'static str),
    /// It can be lived with.
    Odd(&'static str),
    /// It is as safe as what was expected.
    Nothing,
}

impl Harm {
    /// What it is to this exchange or queue: the log of orders holds no job and no result.
    fn to(self, name: &str) -> Self {
        match self {
            Self::Loses(_) if Role::of(name) == Role::Control => {
                Self::Disturbs("a worker that starts later may not know what was ordered")
            }
            harm @ (Self::Loses(_) | Self::Disturbs(_) | Self::Odd(_) | Self::Nothing) => harm,
        }
    }
}

/// Whether messages can be lost by what an exchange or a queue of this name is like.
pub(super) fn can_lose(name: &str) -> bool {
    ![CONTROL_EXCHANGE, CONTROL_LOG].contains(&name)
}

/// All that is missing in one finding: on a new broker, that is everything. What workers do without is told of where it
/// is tried.
pub(super) fn missing(deviations: &[Deviation], needs: Needs) -> Option<Finding> {
    let names: Vec<String> = deviations
        .iter()
        .filter(|deviation| deviation.how == How::Missing)
        .filter(|deviation| ![CONTROL_EXCHANGE, CONTROL_LOG].contains(&deviation.name.as_str()))
        .map(|deviation| format!("{} {}", deviation.kind.as_str(), deviation.name))
        .collect();
    if names.is_empty() {
        return None;
    }
    let what = format!("not there: {}", names.join(", "));
    Some(if needs.declare {
        let remedy = "`run` will declare what is missing, because topology.declare = true";
        Finding::new(Verdict::Warning, what, remedy)
    } else {
        let remedy = "run `irn-worker topology apply` as a user with configure permission, or import what `irn-worker topology export` prints";
        Finding::new(Verdict::Failed, what, remedy)
    })
}

/// The finding that a deviation makes, unless it is one of [`missing`] or does no harm.
pub(super) fn judge(deviation: &Deviation, needs: Needs) -> Option<Finding> {
    let Deviation { kind, name, how } = deviation;
    let thing = format!("{} {}", kind.as_str(), name.escape_debug());
    match how {
        How::Missing => None,
        How::NotDurable => {
            let harm =
                Harm::Loses("it is gone, with what it holds, when the broker restarts").to(name);
            found(format!("{thing}: not durable"), harm, anew(*kind))
        }
        How::Bound {
            exchange,
            key,
            among_own,
        } => {
            let by = bound_by(exchange, key);
            let (harm, remedy) = match among_own {
                true => (
                    Harm::Disturbs(
                        "what is meant for another queue comes here too, or instead: jobs are done twice, or lie where nobody does them",
                    ),
                    format!(
                        "take the binding away: on the management page of {}, under Bindings",
                        kind.as_str()
                    ),
                ),
                false => (
                    Harm::Odd(
                        "somebody else has bound it: what is published there comes here, documents of jobs included",
                    ),
                    "take the binding away, if nobody knows of it".to_owned(),
                ),
            };
            found(format!("{thing}: bound to {by} as well"), harm, remedy)
        }
        How::Unbound { exchange, key } => {
            let by = bound_by(exchange, key);
            let harm = if needs.declare {
                Harm::Odd("what should come to it does not, until `run` binds it")
            } else if name == POISON_QUEUE {
                Harm::Loses("what cannot be read or routed is dropped")
            } else {
                Harm::Disturbs("what should come to it does not")
            };
            let remedy = "run `irn-worker topology apply`".to_owned();
            found(format!("{thing}: not bound to {by}"), harm, remedy)
        }
        How::Argument {
            name: argument,
            expected,
            seen,
            policy,
        } => {
            let word =
                |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
            let by = policy
                .as_ref()
                .map(|policy| format!(" by the policy {policy}"));
            let what = format!(
                "{thing}: {argument} is {}{}, and should be {}",
                word(seen),
                by.unwrap_or_default(),
                word(expected)
            );
            let harm = match kind {
                Kind::Exchange => harm_of_exchange(argument, expected),
                Kind::Queue => harm_of_queue(Role::of(name), argument, expected, seen, needs),
            }
            .to(name);
            let remedy = match policy {
                Some(policy) => {
                    format!(
                        "take it out of the policy {policy}, or let that not match this {}",
                        kind.as_str()
                    )
                }
                None => anew(*kind),
            };
            found(what, harm, remedy)
        }
    }
}

fn bound_by(exchange: &str, key: &str) -> String {
    let exchange = exchange.escape_debug();
    match key {
        "" => format!("exchange {exchange}"),
        key => format!("exchange {exchange} under the key {}", key.escape_debug()),
    }
}

fn anew(kind: Kind) -> String {
    match kind {
        Kind::Exchange => "delete it and run `irn-worker topology apply`; publishers are refused in between".to_owned(),
        Kind::Queue => "stop the workers, move away what it holds, delete it, and run `irn-worker topology apply`".to_owned(),
    }
}

fn found(what: String, harm: Harm, remedy: String) -> Option<Finding> {
    Some(match harm {
        Harm::Loses(why) => {
            Finding::new(Verdict::Failed, format!("{what}: {why}"), remedy).losing_messages()
        }
        Harm::Disturbs(why) => Finding::new(Verdict::Failed, format!("{what}: {why}"), remedy),
        Harm::Odd(why) => Finding::new(Verdict::Warning, format!("{what}: {why}"), remedy),
        Harm::Nothing => return None,
    })
}

fn harm_of_exchange(argument: &str, expected: &Option<String>) -> Harm {
    match argument {
        "type" => Harm::Loses("what is published to it goes elsewhere, or nowhere"),
        "alternate-exchange" if expected.is_some() => Harm::Loses(
            "a job with a mistyped routing key is dropped, where `mandatory` is not set",
        ),
        _ => Harm::Odd("it was declared by somebody else"),
    }
}

fn harm_of_queue(
    role: Role,
    argument: &str,
    expected: &Option<String>,
    seen: &Option<String>,
    needs: Needs,
) -> Harm {
    // Signed: a delivery limit may be -1, which is none (RabbitMQ, "Quorum Queues", "Disabling the Limit").
    let number = |value: &Option<String>| value.as_ref().and_then(|text| text.parse::<i64>().ok());
    let is_set = seen.is_some();
    let (expected, seen) = (number(expected), number(seen));
    let below = |least: i64| seen.is_some_and(|seen| seen < least);
    let has_no_limit = argument == "x-delivery-limit" && below(0);
    match (argument, role) {
        (_, Role::Control) => {
            Harm::Disturbs("orders to all workers may not be kept for those that start later")
        }
        ("x-queue-type", _) => {
            Harm::Loses("what it holds is on one node only, and dead-lettering is not confirmed")
        }
        ("x-dead-letter-exchange", Role::Jobs) => {
            Harm::Loses("a job that is handed out too often is dropped")
        }
        ("x-dead-letter-exchange", Role::Rung) => {
            Harm::Loses("jobs that have waited are dropped, or go elsewhere")
        }
        ("x-dead-letter-strategy" | "x-overflow", role) if role.moves_on() => {
            Harm::Loses("the broker moves its messages on without making sure that they arrive")
        }
        ("x-dead-letter-routing-key", Role::Rung) => Harm::Loses(
            "jobs that have waited come back under that key: to another lane, or to irn.poison",
        ),
        ("x-single-active-consumer", Role::Jobs) => {
            Harm::Disturbs("one worker at a time is given jobs, however many there are")
        }
        ("x-message-ttl", Role::Rung) => Harm::Disturbs(
            "jobs wait too long or not long enough; one of unknown outcome may be looked up too early",
        ),
        ("x-message-ttl", Role::Jobs) => Harm::Disturbs("jobs that wait longer go to irn.poison"),
        ("x-message-ttl", Role::Dead) if seen.is_some() && seen < expected => {
            Harm::Loses("dead letters are dropped sooner than dead_letter.ttl says")
        }
        ("x-message-ttl", Role::Poison) => {
            Harm::Loses("what could not be read is dropped after that")
        }
        ("x-message-ttl", Role::Results) => {
            Harm::Loses("results that nobody has read by then are dropped")
        }
        (_, Role::Jobs) if has_no_limit => {
            Harm::Odd("a job that takes its worker down with it comes back without end")
        }
        (_, _) if has_no_limit => Harm::Nothing,
        ("x-delivery-limit", Role::Jobs) if below(DELIVERIES) => {
            Harm::Loses("so many crashes and lost connections, and a sound job is taken for poison")
        }
        ("x-delivery-limit", Role::Dead | Role::Poison | Role::Results)
            if below(LETTERS_DELIVERIES) || !is_set && needs.limits_deliveries =>
        {
            Harm::Loses(
                "what is looked at so often, or handed out and not acknowledged, is dropped",
            )
        }
        ("x-consumer-timeout", Role::Jobs)
            if below(i64::try_from(needs.consumer_timeout.as_millis()).unwrap_or(i64::MAX)) =>
        {
            Harm::Loses(
                "the broker takes jobs back that are being worked on, and their results with them",
            )
        }
        ("x-max-length" | "x-max-length-bytes", Role::Dead | Role::Poison | Role::Results) => {
            Harm::Loses("it drops its oldest messages when it is full")
        }
        ("x-max-length" | "x-max-length-bytes", Role::Jobs | Role::Rung) => {
            Harm::Odd("it refuses messages when it is full")
        }
        ("x-expires", _) => {
            Harm::Loses("the broker deletes it when nobody has used it for that long")
        }
        _ => Harm::Odd("it was declared by somebody else"),
    }
}

#[cfg(test)]
mod tests;
