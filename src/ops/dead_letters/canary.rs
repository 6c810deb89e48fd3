//! Canaries: letters replayed before the others, to see what becomes of them.
//!
//! One rule: their results are the ERP's, and go to the ERP. The worker tells a queue of ours, gone with this
//! connection, how each of them ended (`x-irn-canary`); no word means no more than that, and nothing is replayed on it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::{Channel, Connection, Consumer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{BrokerError, Endpoint, FieldTable, timed};
use crate::job::{CANARY_QUEUES, Receipt, short};
use crate::outcome::Status;

/// After the first death, the others are given this long to be heard of as well.
const OTHERS_WITHIN: Duration = Duration::from_secs(2);

/// How many letters go first, and how long their results are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Canary {
    /// How many.
    pub count: u32,
    /// How long.
    pub patience: Duration,
}

/// Canaries that died again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deaths {
    /// Of what they had died of before.
    pub of_the_same: u32,
    /// Of something else.
    pub of_another: u32,
    /// What they died of now.
    pub causes: Vec<String>,
}

/// What the canaries say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Omen {
    /// All have a result, and none died.
    Good,
    /// Some died.
    Died(Deaths),
    /// From so many nothing was heard in time.
    Silent(u32),
    /// Whoever waited was told to stop.
    Interrupted,
}

/// The canaries that are out.
pub(super) struct Canaries {
    /// Kept: the queue goes with it.
    _connection: Connection,
    _channel: Channel,
    receipts: Consumer,
    queue: String,
    sent: HashMap<String, Sent>,
    heard: HashMap<String, HeardOf>,
}

/// A canary that is out.
#[derive(Clone, Debug)]
struct Sent {
    died_of: String,
    /// It is a batch of so many, each of which has a result; otherwise one.
    documents: usize,
}

/// What is known of a canary.
#[derive(Clone, Debug, Default)]
struct HeardOf {
    results: usize,
    status: String,
    code: String,
}

impl HeardOf {
    fn is_dead(&self) -> bool {
        self.status == Status::Failed.as_str()
    }
}

/// How many results a job with this body has: one for each document, if it is a batch.
pub(super) fn documents_in(body: &[u8]) -> usize {
    let documents = serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(body);
    documents.map_or(1, |documents| documents.len().max(1))
}

impl Canaries {
    pub(super) async fn open(endpoint: &Endpoint) -> Result<Self, BrokerError> {
        let connection = endpoint.connect_for_own("canaries").await?;
        let channel = timed(connection.create_channel()).await??;
        let queue = format!("{CANARY_QUEUES}{}", uuid::Uuid::new_v4().simple());
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare(short(&queue), options, FieldTable::default());
        timed(declared).await?.map_err(refused)?;
        // A receipt that is lost costs a replay that stops, and no letter.
        let options = BasicConsumeOptions {
            no_ack: true,
            exclusive: true,
            ..BasicConsumeOptions::default()
        };
        let consuming =
            channel.basic_consume(short(&queue), short(""), options, FieldTable::default());
        let receipts = timed(consuming).await?.map_err(refused)?;
        Ok(Self {
            _connection: connection,
            _channel: channel,
            receipts,
            queue,
            sent: HashMap::new(),
            heard: HashMap::new(),
        })
    }

    /// The name of one more, which died of this before and has so many results.
    pub(super) fn name(&mut self, died_of: &str, documents: usize) -> String {
        let name = format!("{}#{}", self.queue, self.sent.len() + 1);
        let died_of = died_of.to_owned();
        self.sent.insert(name.clone(), Sent { died_of, documents });
        name
    }

    pub(super) fn sent(&self) -> u32 {
        u32::try_from(self.sent.len()).unwrap_or(u32::MAX)
    }

    /// How many results there are of each status.
    pub(super) fn statuses(&self) -> BTreeMap<String, u32> {
        let mut statuses = BTreeMap::new();
        for heard in self.heard.values() {
            *statuses.entry(heard.status.clone()).or_default() += 1;
        }
        statuses
    }

    /// Waits until each of them has a result.
    pub(super) async fn wait(&mut self, patience: Duration, stop: &CancellationToken) -> Omen {
        let mut until = Instant::now() + patience;
        let mut has_died = false;
        while silent(&self.sent, &self.heard) > 0 {
            let receipt = tokio::select! {
                biased;
                () = stop.cancelled() => return Omen::Interrupted,
                () = tokio::time::sleep_until(until) => break,
                receipt = self.receipts.next() => receipt,
            };
            // The end of the stream is the end of the connection: nothing will be heard any more.
            let Some(Ok(receipt)) = receipt else { break };
            self.hear(receipt.properties.correlation_id(), &receipt.data);
            if !has_died && self.heard.values().any(HeardOf::is_dead) {
                has_died = true;
                until = until.min(Instant::now() + OTHERS_WITHIN);
            }
        }
        omen(&self.sent, &self.heard)
    }

    fn hear(&mut self, name: &Option<lapin::types::ShortString>, body: &[u8]) {
        let name = name.as_ref().map(|name| name.as_str()).unwrap_or_default();
        let receipt = serde_json::from_slice::<Receipt<'_>>(body);
        if let (true, Ok(receipt)) = (self.sent.contains_key(name), receipt) {
            note(&mut self.heard, name, &receipt);
        }
    }
}

/// A canary that was a batch has a result for each of its documents: it died if one of them did.
fn note(heard: &mut HashMap<String, HeardOf>, name: &str, said: &Receipt<'_>) {
    let heard = heard.entry(name.to_owned()).or_default();
    heard.results += 1;
    if !heard.is_dead() {
        heard.status = said.status.to_string();
        heard.code = said.code.to_string();
    }
}

/// How many have neither died nor all their results.
fn silent(sent: &HashMap<String, Sent>, heard: &HashMap<String, HeardOf>) -> usize {
    let is_silent = |(name, sent): &(&String, &Sent)| {
        let heard = heard.get(*name);
        heard.is_none_or(|heard| !heard.is_dead() && heard.results < sent.documents)
    };
    sent.iter().filter(is_silent).count()
}

fn omen(sent: &HashMap<String, Sent>, heard: &HashMap<String, HeardOf>) -> Omen {
    let mut deaths = Deaths {
        of_the_same: 0,
        of_another: 0,
        causes: Vec::new(),
    };
    for (name, heard) in heard.iter().filter(|(_, heard)| heard.is_dead()) {
        let is_same = sent
            .get(name)
            .is_some_and(|sent| sent.died_of == heard.code);
        if is_same {
            deaths.of_the_same += 1;
        } else {
            deaths.of_another += 1;
        }
        deaths.causes.push(heard.code.clone());
    }
    deaths.causes.sort_unstable();
    deaths.causes.dedup();
    if !deaths.causes.is_empty() {
        return Omen::Died(deaths);
    }
    match silent(sent, heard) {
        0 => Omen::Good,
        silent => Omen::Silent(u32::try_from(silent).unwrap_or(u32::MAX)),
    }
}

fn refused(error: lapin::Error) -> BrokerError {
    if !error.is_amqp_soft_error() {
        return error.into();
    }
    BrokerError::Topology {
        what: format!("no queue {CANARY_QUEUES}* can be made for the canaries ({error})"),
        remedy: "let this user configure and read `irn\\.canary\\..*`, or replay without --canary",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(status: &str, code: &str) -> Receipt<'static> {
        Receipt {
            status: status.to_owned().into(),
            code: code.to_owned().into(),
        }
    }

    fn sent(documents: usize) -> Sent {
        Sent {
            died_of: "RETRIES_EXHAUSTED".to_owned(),
            documents,
        }
    }

    fn told(said: &[(&str, &str)]) -> Omen {
        let (mut out, mut heard) = (HashMap::new(), HashMap::new());
        for (number, (status, code)) in said.iter().enumerate() {
            out.insert(number.to_string(), sent(1));
            if *status != "-" {
                note(&mut heard, &number.to_string(), &receipt(status, code));
            }
        }
        omen(&out, &heard)
    }

    #[test]
    fn batch_is_heard_of_when_all_its_documents_are_or_one_died() {
        let out = HashMap::from([("a#1".to_owned(), sent(3))]);
        let told = |statuses: &[&str]| {
            let mut heard = HashMap::new();
            for status in statuses {
                note(&mut heard, "a#1", &receipt(status, "X"));
            }
            omen(&out, &heard)
        };
        assert_eq!(told(&["signed"]), Omen::Silent(1));
        assert_eq!(told(&["signed", "signed"]), Omen::Silent(1));
        assert_eq!(told(&["signed", "rejected", "signed"]), Omen::Good);
        for died in [&["failed"][..], &["signed", "failed", "signed"]] {
            assert!(matches!(told(died), Omen::Died(_)), "{died:?}");
        }
        assert_eq!(documents_in(b" [{}, {}, {}]"), 3);
        for one in [&b"{}"[..], b"[]", b"not JSON", b""] {
            assert_eq!(documents_in(one), 1);
        }
    }

    #[test]
    fn canaries_speak_for_the_others_only_if_each_has_a_result_and_none_died() {
        assert_eq!(told(&[("signed", ""), ("rejected", "2189")]), Omen::Good);
        assert_eq!(told(&[("signed", ""), ("-", "")]), Omen::Silent(1));
        let deaths = Deaths {
            of_the_same: 2,
            of_another: 1,
            causes: vec!["NO_CREDENTIALS".to_owned(), "RETRIES_EXHAUSTED".to_owned()],
        };
        let died = [
            ("failed", "RETRIES_EXHAUSTED"),
            ("failed", "NO_CREDENTIALS"),
            ("failed", "RETRIES_EXHAUSTED"),
            ("-", ""),
        ];
        assert_eq!(told(&died), Omen::Died(deaths));
    }
}
