//! Walking through the letters of a queue: some are published elsewhere, the others stay as they are.
//!
//! One rule: publish, confirm, then acknowledge. Every letter is in a queue at any moment, whenever the walk is cut
//! off; at the worst one is in two.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Channel, Connection};

use super::connection::timed;
use super::{BrokerError, Endpoint, Payload, Publication, PublishError, Publisher};
use crate::job::{Properties, short};
use crate::wiped::Wiped;

/// Letters published and not confirmed yet: as many bodies are in memory at once. Few enough for their acknowledgements
/// to be passed on at once: of more than 32, RabbitMQ keeps some back, and would lose them with the channel.
const IN_FLIGHT: usize = 16;

/// A message as it lies in a queue.
pub struct Letter {
    /// AMQP properties and headers.
    pub properties: Properties,
    /// The body; empty where it may not be stored.
    pub body: Wiped<Vec<u8>>,
    /// Handed out before: whoever had it may have published it and been cut off then.
    pub redelivered: bool,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Letter({} bytes)", self.body.len())
    }
}

/// What becomes of a letter.
#[derive(Debug)]
pub enum Verdict {
    /// It stays where it is.
    Keep,
    /// Its body is published with these properties, and the letter is gone from its queue.
    Replay {
        /// Where to.
        exchange: String,
        /// Under which key.
        routing_key: String,
        /// With which properties and headers.
        properties: Box<Properties>,
    },
}

/// What came of a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Letters looked at.
    pub seen: usize,
    /// Of them, those published elsewhere.
    pub replayed: usize,
}

/// Why a walk ended early. What was replayed is replayed, the rest lies where it lay.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The queue cannot be read.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A letter cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<lapin::Error> for WalkError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error.into())
    }
}

/// Looks at every letter that lies in `queue` now, once, and does with it what `judge` says.
///
/// Letters are fetched one by one, so memory does not grow with the queue. Those that stay are held until the end and
/// then return to their places; meanwhile nobody else sees them.
///
/// # Errors
/// When the broker is lost, or takes a letter nowhere. Walking again is safe.
pub async fn walk(
    endpoint: &Endpoint,
    queue: &str,
    publisher: &Publisher,
    judge: impl FnMut(&Letter) -> Verdict,
) -> Result<Walked, WalkError> {
    let connection = endpoint.connect("letters").await?;
    let walked = walk_on(&connection, queue, publisher, judge).await;
    // The broker puts back what has not been acknowledged; a connection that is lost has done so already.
    drop(timed(connection.close(200, short("walked"))).await);
    walked
}

async fn walk_on(
    connection: &Connection,
    queue: &str,
    publisher: &Publisher,
    mut judge: impl FnMut(&Letter) -> Verdict,
) -> Result<Walked, WalkError> {
    let channel = timed(connection.create_channel()).await??;
    let mut walked = Walked::default();
    let mut sending = FuturesUnordered::new();
    let mut ended = Ok(());
    // What comes in meanwhile is not looked at: a letter that died again would be met again.
    for _ in 0..waiting(&channel, queue).await? {
        let (letter, acker) = match next(&channel, queue).await {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) => {
                ended = Err(error);
                break;
            }
        };
        walked.seen += 1;
        if let Verdict::Replay {
            exchange,
            routing_key,
            properties,
        } = judge(&letter)
        {
            walked.replayed += 1;
            sending.push(send(
                publisher,
                exchange,
                routing_key,
                properties,
                letter,
                acker,
            ));
        }
        if sending.len() == IN_FLIGHT
            && let Some(Err(error)) = sending.next().await
        {
            ended = Err(error);
            break;
        }
    }
    while let Some(sent) = sending.next().await {
        ended = ended.and(sent);
    }
    // The queue answers in order: once it has handed out (or not) one more letter, which goes back at the end, it has
    // taken in every acknowledgement. Closing at once, some come too late.
    drop(next(&channel, queue).await?);
    ended.map(|()| walked)
}

async fn waiting(channel: &Channel, queue: &str) -> Result<u32, WalkError> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(short(queue), passive, FieldTable::default());
    Ok(timed(declared).await??.message_count())
}

async fn next(channel: &Channel, queue: &str) -> Result<Option<(Letter, Acker)>, WalkError> {
    let got = timed(channel.basic_get(short(queue), BasicGetOptions::default())).await??;
    Ok(got.map(|got| {
        let delivery = got.delivery;
        let letter = Letter {
            properties: delivery.properties,
            body: Wiped::new(delivery.data),
            redelivered: delivery.redelivered,
        };
        (letter, delivery.acker)
    }))
}

async fn send(
    publisher: &Publisher,
    exchange: String,
    routing_key: String,
    properties: Box<Properties>,
    letter: Letter,
    acker: Acker,
) -> Result<(), WalkError> {
    let publication = Publication {
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        properties: *properties,
        payload: Payload(&letter.body),
    };
    publisher.publish(&publication).await?;
    // Not acknowledged, it comes back marked as handed out before.
    match timed(acker.ack(BasicAckOptions::default())).await?? {
        true => Ok(()),
        false => Err(BrokerError::Lost("the channel ended".to_owned()).into()),
    }
}
