//! Dead letters go back to work when the credentials they died of are replaced (`credentials.replay_dead_letters`).
//!
//! One rule: only letters that died before the new credentials were there. One that dies of these as well stays dead
//! until the next ones.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::broker::{
    DEAD_QUEUE, Endpoint, JOBS_EXCHANGE, Letter, Publisher, Verdict, WalkError, Walked, walk,
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

    /// What becomes of a letter. One in doubt goes to the exchange `doubted`, the others back to their lane.
    fn judge(&self, letter: &Letter, doubted: &str) -> Judged {
        let dead = DeadLetter::new(&letter.properties);
        let curable = [Reason::CredentialsRefused, Reason::NoCredentials];
        let is_curable = curable
            .iter()
            .any(|reason| dead.reason() == Some(reason.as_str()));
        let since = dead.gstin().and_then(|gstin| self.0.get(&gstin));
        let died_before = since
            .zip(dead.dead_at())
            .is_some_and(|(since, dead_at)| dead_at < *since);
        if !is_curable || !died_before {
            return Judged::Not;
        }
        match dead.routing_key() {
            Some(routing_key) if !letter.body.is_empty() => {
                let in_doubt = letter.redelivered || dead.is_unknown();
                Judged::Replayed(Verdict::Replay {
                    exchange: if in_doubt { doubted } else { JOBS_EXCHANGE }.to_owned(),
                    routing_key,
                    properties: Box::new(dead.replayed(letter.redelivered)),
                })
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

/// Replays letters as credentials are renewed, until told to stop by the end of `renewals`. `doubted` is the exchange of
/// a rung of at least the settle time: a letter in doubt waits there first, because a look-up that comes sooner after
/// another copy was sent proves nothing.
pub async fn run(
    endpoint: Endpoint,
    publisher: Publisher,
    doubted: String,
    mut renewals: mpsc::UnboundedReceiver<Renewed>,
) {
    while let Some(mut renewed) = renewals.recv().await {
        let mut delays = Backoffs::new(Duration::from_millis(200), AGAIN_AFTER);
        let mut fruitless = 0;
        tokio::time::sleep(HEAD_START).await;
        while fruitless < FRUITLESS_WALKS {
            publisher.ready().await;
            let pause = match replay(&endpoint, &publisher, &doubted, &renewed).await {
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
            while let Ok(later) = renewals.try_recv() {
                renewed.add(later);
                fruitless = 0;
            }
        }
    }
}

async fn replay(
    endpoint: &Endpoint,
    publisher: &Publisher,
    doubted: &str,
    renewed: &Renewed,
) -> Result<Walked, WalkError> {
    let mut impossible = 0;
    let judge = |letter: &Letter| match renewed.judge(letter, doubted) {
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
    use crate::broker::FieldTable;
    use crate::job::{Properties, header, long, set, short};

    const GSTIN: &str = "29AAGCE4783K1Z1";
    const DOUBTED: &str = "irn.retry.1m";

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
            properties: Properties::default()
                .with_message_id(short("j-1"))
                .with_headers(headers),
            body: b"{}".to_vec().into(),
            redelivered: false,
        }
    }

    fn renewed(at: &str) -> Renewed {
        let gstin = GSTIN.parse().expect("a GSTIN");
        Renewed(HashMap::from([(gstin, at.parse().expect("a time"))]))
    }

    fn replayed(letter: &Letter) -> (String, String, Properties) {
        match renewed("2026-01-02T00:00:00Z").judge(letter, DOUBTED) {
            Judged::Replayed(Verdict::Replay {
                exchange,
                routing_key,
                properties,
            }) => (exchange, routing_key, *properties),
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
            (header::DEAD_AT, "2026-01-02T00:00:00Z"),
            (header::DEAD_AT, "never"),
        ] {
            let other = letter(|headers| set(headers, name, long(value)));
            assert!(
                matches!(later.judge(&other, DOUBTED), Judged::Not),
                "{name} {value}"
            );
        }
    }

    #[test]
    fn letter_without_document_or_operation_cannot_be_replayed() {
        let renewed = renewed("2026-01-02T00:00:00Z");
        let mut dropped = letter(|_| {});
        dropped.body.clear();
        assert!(matches!(
            renewed.judge(&dropped, DOUBTED),
            Judged::Impossible
        ));
        let mut nameless = letter(|headers| set(headers, header::ROUTING_KEY, long("irn.dead")));
        assert!(matches!(
            renewed.judge(&nameless, DOUBTED),
            Judged::Impossible
        ));
        nameless.properties = nameless.properties.with_type(short("irn.cancel.v1"));
        assert_eq!(replayed(&nameless).1, "cancel");
    }
}
