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
    /// What each died of before.
    sent: HashMap<String, String>,
    /// Status and code of each that has a result.
    settled: HashMap<String, (String, String)>,
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
            settled: HashMap::new(),
        })
    }

    /// The name of one more, which died of this before.
    pub(super) fn name(&mut self, died_of: &str) -> String {
        let name = format!("{}#{}", self.queue, self.sent.len() + 1);
        self.sent.insert(name.clone(), died_of.to_owned());
        name
    }

    pub(super) fn sent(&self) -> u32 {
        u32::try_from(self.sent.len()).unwrap_or(u32::MAX)
    }

    /// How many results there are of each status.
    pub(super) fn statuses(&self) -> BTreeMap<String, u32> {
        let mut statuses = BTreeMap::new();
        for (status, _) in self.settled.values() {
            *statuses.entry(status.clone()).or_default() += 1;
        }
        statuses
    }

    /// Waits until each of them has a result.
    pub(super) async fn wait(&mut self, patience: Duration, stop: &CancellationToken) -> Omen {
        let mut until = Instant::now() + patience;
        let mut has_died = false;
        while self.settled.len() < self.sent.len() {
            let receipt = tokio::select! {
                biased;
                () = stop.cancelled() => return Omen::Interrupted,
                () = tokio::time::sleep_until(until) => break,
                receipt = self.receipts.next() => receipt,
            };
            // The end of the stream is the end of the connection: nothing will be heard any more.
            let Some(Ok(receipt)) = receipt else { break };
            self.hear(receipt.properties.correlation_id(), &receipt.data);
            if !has_died && matches!(omen(&self.sent, &self.settled), Omen::Died(_)) {
                has_died = true;
                until = until.min(Instant::now() + OTHERS_WITHIN);
            }
        }
        omen(&self.sent, &self.settled)
    }

    /// A result may be published twice, and so may its receipt.
    fn hear(&mut self, name: &Option<lapin::types::ShortString>, body: &[u8]) {
        let name = name.as_ref().map(|name| name.as_str()).unwrap_or_default();
        let receipt = serde_json::from_slice::<Receipt<'_>>(body);
        if let (true, Ok(receipt)) = (self.sent.contains_key(name), receipt) {
            let said = (receipt.status.into_owned(), receipt.code.into_owned());
            note(&mut self.settled, name, said);
        }
    }
}

/// A canary that was a batch has a result for each of its documents: it died if one of them did.
fn note(settled: &mut HashMap<String, (String, String)>, name: &str, said: (String, String)) {
    let died = Status::Failed.as_str();
    let is_dead = settled.get(name).is_some_and(|(status, _)| status == died);
    if !is_dead {
        settled.insert(name.to_owned(), said);
    }
}

fn omen(sent: &HashMap<String, String>, settled: &HashMap<String, (String, String)>) -> Omen {
    let failed = settled
        .iter()
        .filter(|(_, (status, _))| status == Status::Failed.as_str());
    let mut deaths = Deaths {
        of_the_same: 0,
        of_another: 0,
        causes: Vec::new(),
    };
    for (name, (_, code)) in failed {
        if sent.get(name) == Some(code) {
            deaths.of_the_same += 1;
        } else {
            deaths.of_another += 1;
        }
        deaths.causes.push(code.clone());
    }
    deaths.causes.sort_unstable();
    deaths.causes.dedup();
    if !deaths.causes.is_empty() {
        return Omen::Died(deaths);
    }
    match sent.len().saturating_sub(settled.len()) {
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

    fn told(settled: &[(&str, &str)]) -> Omen {
        let died_of = |(index, _): (usize, &(&str, &str))| {
            (index.to_string(), "RETRIES_EXHAUSTED".to_owned())
        };
        let mut sent: HashMap<_, _> = settled.iter().enumerate().map(died_of).collect();
        let said = |(index, (status, code)): (usize, &(&str, &str))| {
            (
                index.to_string(),
                ((*status).to_owned(), (*code).to_owned()),
            )
        };
        let heard = settled.iter().enumerate().filter(|(_, said)| said.0 != "-");
        let settled = heard.map(said).collect();
        sent.shrink_to_fit();
        omen(&sent, &settled)
    }

    #[test]
    fn batch_of_which_one_document_died_has_died_whatever_comes_after() {
        let mut settled = HashMap::new();
        for status in ["signed", "failed", "signed"] {
            note(&mut settled, "a#1", (status.to_owned(), String::new()));
        }
        assert_eq!(settled["a#1"].0, "failed");
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
