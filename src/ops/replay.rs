//! Dead letters go back to work when the credentials they died of are replaced (`credentials.replay_dead_letters`).
//!
//! One rule: only letters that died of the old credentials. One that dies of the new ones as well stays dead until the
//! next ones. An attempt that was under way when they came may die of the old ones a little later, which cannot be told
//! from dying of the new ones: what died within that grace is replayed once, when it is over.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::broker::{
    DEAD_QUEUE, Endpoint, JOBS_EXCHANGE, Letter, Publisher, Replay, Verdict, WalkError, Walked,
    walk,
};
use crate::gstin::Gstin;
use crate::job::DeadLetter;
use crate::outcome::Reason;
use crate::retry::Backoffs;
use crate::telemetry::credentials as events;

/// The other replicas read the same files, a little later perhaps: a letter that comes to one that has not yet would die
/// once more.
const HEAD_START: Duration = Duration::from_secs(2);

/// While one walks through a queue, nobody else sees its letters: after this long what another replica or a person
/// held is back.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// So many walks without a find end it: another may have held what the first one missed.
const FRUITLESS_WALKS: usize = 2;

/// GSTINs with new credentials, and since when.
#[derive(Debug, Default)]
pub struct Renewed(HashMap<Gstin, Timestamp>);

impl Renewed {
    /// These, since now.
    pub fn now<'g>(gstins: impl IntoIterator<Item = &'g Gstin>) -> Self {
        let now = Timestamp::now();
        Self(gstins.into_iter().map(|gstin| (*gstin, now)).collect())
    }

    fn add(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// Whether it died of the old credentials, as far as that is known now. Once the grace is over, a letter that died
    /// within it did so by all appearances; not one replayed before, lest it go round.
    fn died_before(&self, dead: DeadLetter<'_>, grace: Duration, now: Timestamp) -> bool {
        let since = dead.gstin().and_then(|gstin| self.0.get(&gstin));
        since.zip(dead.dead_at()).is_some_and(|(since, dead_at)| {
            let over = since.checked_add(grace).unwrap_or(Timestamp::MAX);
            let is_late = dead_at < over && over <= now && dead.replays() == 0;
            dead_at < *since || is_late
        })
    }

    /// What becomes of a letter. One in doubt goes to another exchange, the others back to their lane.
    fn judge(&self, letter: &Letter, way: &Way<'_>) -> Judged {
        let dead = DeadLetter::new(&letter.properties);
        let curable = [Reason::CredentialsRefused, Reason::NoCredentials];
        let is_curable = curable
            .iter()
            .any(|reason| dead.reason() == Some(reason.as_str()));
        if !is_curable || !self.died_before(dead, way.grace, way.now) {
            return Judged::Not;
        }
        match dead.routing_key(&letter.routing_key) {
            Some(routing_key) if !letter.body.as_it_came().is_empty() => {
                let in_doubt = letter.redelivered || dead.is_unknown();
                let doubted = letter.redelivered.then_some(way.now);
                Judged::Replayed(Verdict::Replay(Replay {
                    exchange: if in_doubt { way.doubted } else { JOBS_EXCHANGE }.to_owned(),
                    routing_key,
                    properties: Box::new(dead.replayed(doubted, &letter.exchange)),
                }))
            }
            Some(_) | None => Judged::Impossible,
        }
    }
}

/// What is done with a letter, and why not.
enum Judged {
    Replayed(Verdict),
    /// It is not one of those meant.
    Not,
    /// Its document was not kept, or nothing says what it asked for.
    Impossible,
}

/// What letters are judged by.
struct Way<'a> {
    /// Where letters in doubt go.
    doubted: &'a str,
    /// How long attempts go on with the old credentials.
    grace: Duration,
    now: Timestamp,
}

/// Replays letters as credentials are renewed, until told to stop by the end of `renewals`. `doubted` is the exchange of
/// a rung of at least the settle time: a letter in doubt waits there first, because a look-up that comes sooner after
/// another copy was sent proves nothing. `grace`: how long an attempt may go on with the old credentials.
pub async fn run(
    endpoint: Endpoint,
    publisher: Publisher,
    doubted: String,
    grace: Duration,
    mut renewals: mpsc::UnboundedReceiver<Renewed>,
) {
    while let Some(mut renewed) = renewals.recv().await {
        tokio::time::sleep(HEAD_START).await;
        let mut is_late = false;
        loop {
            walk_until_fruitless(
                &endpoint,
                &publisher,
                (&doubted, grace),
                &renewed,
                &renewals,
            )
            .await;
            if is_late && renewals.is_empty() {
                break;
            }
            match tokio::time::timeout(grace, renewals.recv()).await {
                Ok(Some(later)) => {
                    renewed.add(later);
                    tokio::time::sleep(HEAD_START).await;
                    is_late = false;
                }
                Ok(None) => return,
                Err(_) => is_late = true,
            }
        }
    }
}

/// Ends early for newer credentials.
async fn walk_until_fruitless(
    endpoint: &Endpoint,
    publisher: &Publisher,
    way: (&str, Duration),
    renewed: &Renewed,
    renewals: &mpsc::UnboundedReceiver<Renewed>,
) {
    let mut delays = Backoffs::new(Duration::from_millis(200), AGAIN_AFTER);
    let mut fruitless = 0;
    while fruitless < FRUITLESS_WALKS && renewals.is_empty() {
        publisher.ready().await;
        let pause = match replay(endpoint, publisher, way, renewed).await {
            Ok(Walked { replayed: 0, .. }) => {
                fruitless += 1;
                AGAIN_AFTER
            }
            Ok(_) => {
                // It was not held by another, then; one more walk.
                fruitless = FRUITLESS_WALKS - 1;
                AGAIN_AFTER
            }
            Err(error) => {
                events::replay_failed(&error);
                delays.next_delay()
            }
        };
        if fruitless < FRUITLESS_WALKS {
            tokio::time::sleep(pause).await;
        }
    }
}

async fn replay(
    endpoint: &Endpoint,
    publisher: &Publisher,
    (doubted, grace): (&str, Duration),
    renewed: &Renewed,
) -> Result<Walked, WalkError> {
    let way = Way {
        doubted,
        grace,
        now: Timestamp::now(),
    };
    let mut impossible = 0;
    let judge = |letter: &Letter| match renewed.judge(letter, &way) {
        Judged::Replayed(verdict) => verdict,
        Judged::Not => Verdict::Keep,
        Judged::Impossible => {
            impossible += 1;
            Verdict::Keep
        }
    };
    let walked = walk(endpoint, DEAD_QUEUE, publisher, judge).await?;
    events::replayed(walked.seen, walked.replayed, impossible);
    Ok(walked)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::broker::{AMQPValue, FieldTable};
    use crate::job::{Body, Properties, header, long, set, short};

    const GSTIN: &str = "29AAGCE4783K1Z1";
    const DOUBTED: &str = "irn.retry.1m";

    /// When the grace of what was renewed at midnight of the second has lasted for so many seconds.
    fn way(seconds: i64) -> Way<'static> {
        let renewed: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        Way {
            doubted: DOUBTED,
            grace: Duration::from_secs(10),
            now: renewed + jiff::SignedDuration::from_secs(seconds),
        }
    }

    fn letter(change: impl FnOnce(&mut FieldTable)) -> Letter {
        let mut headers = FieldTable::default();
        for (name, value) in [
            (header::REASON, "CREDENTIALS_REFUSED"),
            (header::GSTIN, GSTIN),
            (header::DEAD_AT, "2026-01-01T00:00:00Z"),
            (header::ROUTING_KEY, "urgent.generate"),
            (header::ATTEMPT, "3"),
            (header::OUTCOME, "not_sent"),
            (header::DOCUMENT, "INV 1 01/01/2026"),
            (header::REPLICA, "a"),
        ] {
            set(&mut headers, name, long(value));
        }
        change(&mut headers);
        Letter {
            exchange: String::new(),
            routing_key: DEAD_QUEUE.to_owned(),
            properties: Properties::default()
                .with_message_id(short("j-1"))
                .with_headers(headers),
            body: Body::copy_of(b"{}"),
            redelivered: false,
        }
    }

    fn renewed(at: &str) -> Renewed {
        let gstin = GSTIN.parse().expect("a GSTIN");
        Renewed(HashMap::from([(gstin, at.parse().expect("a time"))]))
    }

    fn replayed(letter: &Letter) -> (String, String, Properties) {
        match renewed("2026-01-02T00:00:00Z").judge(letter, &way(10)) {
            Judged::Replayed(Verdict::Replay(replay)) => {
                (replay.exchange, replay.routing_key, *replay.properties)
            }
            _ => panic!("not replayed: {letter:?}"),
        }
    }

    fn text(properties: &Properties, name: &str) -> Option<String> {
        let value = properties.headers().as_ref()?.inner().get(name)?;
        value.as_long_string().map(ToString::to_string)
    }

    #[test]
    fn replay_is_the_job_as_it_was_sent_with_its_outcome_and_no_obituary() {
        let (exchange, key, properties) = replayed(&letter(|_| {}));
        assert_eq!(exchange, JOBS_EXCHANGE);
        assert_eq!(key, "urgent.generate");
        assert_eq!(
            properties.message_id().as_ref().map(|id| id.as_str()),
            Some("j-1")
        );
        assert_eq!(
            text(&properties, header::OUTCOME).as_deref(),
            Some("not_sent")
        );
        let headers = properties.headers().clone().unwrap_or_default();
        for name in [
            header::REASON,
            header::DEAD_AT,
            header::REPLICA,
            header::DOCUMENT,
            header::ROUTING_KEY,
            header::ATTEMPT,
        ] {
            assert!(!headers.contains_key(name), "{name}");
        }
        let replays = headers.inner().get(header::REPLAYS);
        assert_eq!(replays.and_then(|value| value.as_long_long_int()), Some(1));
    }

    fn unknown(letter_headers: &mut FieldTable) {
        set(letter_headers, header::OUTCOME, long("unknown"));
        set(letter_headers, header::PORTAL, long("two.example"));
    }

    #[test]
    fn letter_that_was_handed_out_before_waits_and_looks_everywhere_before_it_sends() {
        let mut handed_out = letter(unknown);
        handed_out.redelivered = true;
        let (exchange, key, properties) = replayed(&handed_out);
        assert_eq!(
            (exchange.as_str(), key.as_str()),
            (DOUBTED, "urgent.generate")
        );
        assert_eq!(
            text(&properties, header::OUTCOME).as_deref(),
            Some("unknown")
        );
        assert_eq!(text(&properties, header::PORTAL), None);
    }

    #[test]
    fn doubt_of_a_letter_that_was_handed_out_before_begins_with_its_replay() {
        let seen = "2025-12-01T00:00:00Z";
        let first_seen = |redelivered, outcome: &str| {
            let mut letter = letter(|headers| {
                set(headers, header::OUTCOME, long(outcome));
                set(headers, header::FIRST_SEEN, long(seen));
            });
            letter.redelivered = redelivered;
            text(&replayed(&letter).2, header::FIRST_SEEN)
        };
        let now = way(10).now.to_string();
        assert_eq!(first_seen(true, "not_sent").as_deref(), Some(now.as_str()));
        for (redelivered, outcome) in [(true, "unknown"), (false, "not_sent")] {
            assert_eq!(first_seen(redelivered, outcome).as_deref(), Some(seen));
        }
    }

    #[test]
    fn letter_in_doubt_waits_and_looks_at_the_portal_it_was_sent_to() {
        let (exchange, key, properties) = replayed(&letter(unknown));
        assert_eq!(
            (exchange.as_str(), key.as_str()),
            (DOUBTED, "urgent.generate")
        );
        assert_eq!(
            text(&properties, header::PORTAL).as_deref(),
            Some("two.example")
        );
        let sent = letter(|headers| set(headers, header::PORTAL, long("two.example")));
        assert_eq!(text(&replayed(&sent).2, header::PORTAL), None);
    }

    #[test]
    fn letters_of_other_causes_gstins_and_times_stay() {
        let later = renewed("2026-01-02T00:00:00Z");
        for (name, value) in [
            (header::REASON, "RETRIES_EXHAUSTED"),
            (header::GSTIN, "27AABCT9421M1ZY"),
            (header::GSTIN, "none"),
            (header::DEAD_AT, "2026-01-02T00:00:10Z"),
            (header::DEAD_AT, "never"),
        ] {
            let other = letter(|headers| set(headers, name, long(value)));
            assert!(
                matches!(later.judge(&other, &way(10)), Judged::Not),
                "{name} {value}"
            );
        }
    }

    #[test]
    fn letter_of_an_attempt_under_way_is_replayed_once_and_when_no_other_can_come() {
        let renewed = renewed("2026-01-02T00:00:00Z");
        let late = letter(|headers| set(headers, header::DEAD_AT, long("2026-01-02T00:00:09Z")));
        assert!(matches!(renewed.judge(&late, &way(9)), Judged::Not));
        let judged = renewed.judge(&late, &way(10));
        assert!(matches!(judged, Judged::Replayed(_)));
        let again = letter(|headers| {
            set(headers, header::DEAD_AT, long("2026-01-02T00:00:09Z"));
            set(headers, header::REPLAYS, AMQPValue::LongLongInt(1));
        });
        assert!(matches!(renewed.judge(&again, &way(10)), Judged::Not));
    }

    #[test]
    fn letter_without_document_or_operation_cannot_be_replayed() {
        let renewed = renewed("2026-01-02T00:00:00Z");
        let mut dropped = letter(|_| {});
        dropped.body = Body::default();
        assert!(matches!(
            renewed.judge(&dropped, &way(10)),
            Judged::Impossible
        ));
        let mut nameless = letter(|headers| set(headers, header::ROUTING_KEY, long("irn.dead")));
        assert!(matches!(
            renewed.judge(&nameless, &way(10)),
            Judged::Impossible
        ));
        nameless.properties = nameless.properties.with_type(short("irn.cancel.v1"));
        assert_eq!(replayed(&nameless).1, "cancel");
    }
}
