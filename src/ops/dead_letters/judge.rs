//! What a replay makes of a letter, decided without broker or clock.
//!
//! One rule: a replayed job is looked up before it is sent, at every portal, whatever its letter says: a replay that was
//! killed may have left a copy of it, and nothing in either of them tells of the other. It waits on a rung of at least the
//! settle time first: what comes sooner proves nothing.

use jiff::Timestamp;

use super::Filter;
use crate::broker::{Letter, Replay};
use crate::job::{DeadLetter, header, long, set};

/// What letters are judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) filter: &'a Filter,
    /// When the command began: what died since is left alone.
    pub(super) began: Timestamp,
    /// Also what died twice of the same cause.
    pub(super) force: bool,
    /// The exchange of the rung on which replayed jobs wait, as all jobs in doubt do.
    pub(super) doubted: &'a str,
}

/// What becomes of a letter.
#[derive(Debug)]
pub(super) enum Judged {
    /// It was not asked for.
    NotMeant,
    /// It died after the command began.
    TooLate,
    /// It died twice of the same cause, and nobody insists.
    DiedTwice,
    /// Its document was not kept.
    NoDocument,
    /// Nothing says what it asked for.
    NoOperation,
    /// It becomes a job, published there as this.
    Replayed(Replay),
}

pub(super) fn judge(letter: &Letter, rules: &Rules<'_>) -> Judged {
    let dead = DeadLetter::new(&letter.properties);
    if !rules.filter.admits(dead, rules.began) {
        return Judged::NotMeant;
    }
    if dead.dead_at().is_some_and(|dead_at| dead_at >= rules.began) {
        return Judged::TooLate;
    }
    if dead.died_again() && !rules.force {
        return Judged::DiedTwice;
    }
    if letter.body.as_it_came().is_empty() {
        return Judged::NoDocument;
    }
    let Some(routing_key) = dead.routing_key(&letter.routing_key) else {
        return Judged::NoOperation;
    };
    let properties = dead.replayed(Some(rules.began), &letter.exchange);
    Judged::Replayed(Replay {
        exchange: rules.doubted.to_owned(),
        routing_key,
        properties: Box::new(properties),
    })
}

/// The same job, and whoever `canary` names is told how it ends.
pub(super) fn as_canary(mut replay: Replay, canary: &str) -> Replay {
    let mut headers = replay.properties.headers().clone().unwrap_or_default();
    set(&mut headers, header::CANARY, long(canary));
    replay.properties = Box::new(replay.properties.with_headers(headers));
    replay
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{AMQPValue, FieldTable};
    use crate::job::{Body, Properties};

    const BEGAN: &str = "2026-01-02T00:00:00Z";

    fn letter(change: impl FnOnce(&mut FieldTable)) -> Letter {
        let mut headers = FieldTable::default();
        for (name, value) in [
            (header::REASON, "RETRIES_EXHAUSTED"),
            (header::DEAD_AT, "2026-01-01T00:00:00Z"),
            (header::ROUTING_KEY, "urgent.generate"),
            (header::OUTCOME, "not_sent"),
        ] {
            set(&mut headers, name, long(value));
        }
        change(&mut headers);
        Letter {
            exchange: String::new(),
            routing_key: "irn.dead".to_owned(),
            properties: Properties::default().with_headers(headers),
            body: Body::copy_of(b"{}"),
            redelivered: false,
        }
    }

    fn judged(letter: &Letter, force: bool) -> Judged {
        let filter = Filter {
            reasons: vec!["RETRIES_EXHAUSTED".to_owned(), "DELIVERY_LIMIT".to_owned()],
            ..Filter::default()
        };
        let rules = Rules {
            filter: &filter,
            began: BEGAN.parse().expect("a time"),
            force,
            doubted: "irn.retry.1m",
        };
        judge(letter, &rules)
    }

    fn replayed(letter: &Letter, force: bool) -> Replay {
        match judged(letter, force) {
            Judged::Replayed(replay) => replay,
            other => panic!("not replayed: {other:?}"),
        }
    }

    fn text(replay: &Replay, name: &str) -> Option<String> {
        let value = replay.properties.headers().as_ref()?.inner().get(name)?;
        value.as_long_string().map(ToString::to_string)
    }

    #[test]
    fn letter_becomes_a_job_in_its_own_lane_that_remembers_what_it_died_of() {
        let replay = replayed(&letter(|_| {}), false);
        assert_eq!(replay.routing_key, "urgent.generate");
        assert_eq!(
            text(&replay, header::DIED_OF).as_deref(),
            Some("RETRIES_EXHAUSTED")
        );
        assert_eq!(text(&replay, header::REASON), None);
        let canary = as_canary(replay, "irn.canary.x#1");
        assert_eq!(
            text(&canary, header::CANARY).as_deref(),
            Some("irn.canary.x#1")
        );
    }

    #[test]
    fn publisher_of_what_the_broker_moved_is_its_user_and_never_what_its_headers_say() {
        let forged = |change: fn(&mut FieldTable), exchange: &str| {
            let mut letter = letter(|headers| {
                set(headers, header::PUBLISHER, long("north"));
                change(headers);
            });
            letter.properties = letter.properties.with_user_id("south".into());
            letter.exchange = exchange.to_owned();
            text(&replayed(&letter, false), header::PUBLISHER)
        };
        let moved = |headers: &mut FieldTable| {
            set(headers, "x-first-death-reason", long("delivery_limit"));
        };
        assert_eq!(forged(moved, "").as_deref(), Some("south"));
        assert_eq!(forged(|_| {}, "irn.jobs").as_deref(), Some("south"));
        assert_eq!(forged(|_| {}, "").as_deref(), Some("north"), "a worker's");
    }

    #[test]
    fn every_replayed_job_waits_on_a_rung_and_is_looked_up_at_every_portal() {
        let mut handed_out = letter(|_| {});
        handed_out.redelivered = true;
        let unknown = letter(|headers| {
            set(headers, header::OUTCOME, long("unknown"));
            set(headers, header::PORTAL, long("one.example"));
        });
        let by_broker = letter(|headers| {
            set(headers, header::REASON, AMQPValue::Void);
            set(headers, "x-first-death-reason", long("delivery_limit"));
        });
        for any in [letter(|_| {}), handed_out, unknown, by_broker] {
            let replay = replayed(&any, false);
            assert_eq!(replay.exchange, "irn.retry.1m");
            assert_eq!(text(&replay, header::OUTCOME).as_deref(), Some("unknown"));
            assert_eq!(text(&replay, header::PORTAL), None);
            assert!(text(&replay, header::FIRST_SEEN).is_some());
        }
    }

    #[test]
    fn doubt_that_the_replay_makes_begins_with_it_and_one_that_was_there_keeps_its_age() {
        let seen = "2025-12-01T00:00:00Z";
        let first_seen = |outcome: &str| {
            let letter = letter(|headers| {
                set(headers, header::OUTCOME, long(outcome));
                set(headers, header::FIRST_SEEN, long(seen));
            });
            text(&replayed(&letter, false), header::FIRST_SEEN)
        };
        assert_eq!(first_seen("not_sent").as_deref(), Some(BEGAN));
        assert_eq!(first_seen("refused").as_deref(), Some(BEGAN));
        assert_eq!(first_seen("unknown").as_deref(), Some(seen));
    }

    #[test]
    fn letter_that_died_twice_of_the_same_cause_needs_force_and_one_that_died_of_two_does_not() {
        let died = |of: Option<&str>| {
            letter(|headers| {
                set(headers, header::REPLAYS, AMQPValue::LongLongInt(1));
                if let Some(of) = of {
                    set(headers, header::DIED_OF, long(of));
                }
            })
        };
        let among_others = Some("RETRIES_EXHAUSTED,SESSION_REFUSED");
        for same in [Some("RETRIES_EXHAUSTED"), among_others, None] {
            assert!(
                matches!(judged(&died(same), false), Judged::DiedTwice),
                "{same:?}"
            );
            replayed(&died(same), true);
        }
        let other = replayed(&died(Some("CREDENTIALS_REFUSED")), false);
        assert_eq!(
            text(&other, header::DIED_OF).as_deref(),
            Some("CREDENTIALS_REFUSED,RETRIES_EXHAUSTED")
        );
    }

    #[test]
    fn letter_that_was_not_asked_for_or_cannot_be_replayed_stays() {
        let other = letter(|headers| set(headers, header::REASON, long("PANICKED")));
        assert!(matches!(judged(&other, true), Judged::NotMeant));
        let late = letter(|headers| set(headers, header::DEAD_AT, long(BEGAN)));
        assert!(matches!(judged(&late, true), Judged::TooLate));
        let mut dropped = letter(|_| {});
        dropped.body = Body::default();
        assert!(matches!(judged(&dropped, true), Judged::NoDocument));
        let nameless = letter(|headers| set(headers, header::ROUTING_KEY, long("irn.dead")));
        assert!(matches!(judged(&nameless, true), Judged::NoOperation));
    }
}
