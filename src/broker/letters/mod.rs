//! Walking through the letters of a queue: some are published elsewhere, the others stay as they are.
//!
//! One rule: publish, confirm, then acknowledge. Every letter is in a queue at any moment, whenever the walk is cut
//! off; at the worst one is in two.

mod cursor;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::{BrokerError, Endpoint, Publication, PublishError, Publisher};
use crate::job::{Body, Properties};

pub use cursor::{Cursor, Hold, InOtherHands};

/// Letters published and not confirmed yet: as many bodies are in memory at once. Few enough for their acknowledgements
/// to be passed on at once: of more than 32, RabbitMQ keeps some back, and would lose them with the channel.
const IN_FLIGHT: usize = 16;

/// Letters taken at once where some of them are published.
const WINDOW: u16 = 64;

/// A message as it lies in a queue.
pub struct Letter {
    /// The key it came into the queue with: for what the worker put there, the queue's own name.
    pub routing_key: String,
    /// The exchange it was published to: the default one, for what the worker put there.
    pub exchange: String,
    /// AMQP properties and headers.
    pub properties: Properties,
    /// The body; empty where it may not be stored.
    pub body: Body,
    /// Handed out before: whoever had it may have published it and been cut off then.
    pub redelivered: bool,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Letter({} bytes)", self.body.as_it_came().len())
    }
}

/// What becomes of a letter.
#[derive(Debug)]
pub enum Verdict {
    /// It stays where it is.
    Keep,
    /// Its body is published, and the letter is gone from its queue.
    Replay(Replay),
}

/// Where a letter's body is published.
#[derive(Debug)]
pub struct Replay {
    /// Where to.
    pub exchange: String,
    /// Under which key.
    pub routing_key: String,
    /// With which properties and headers.
    pub properties: Box<Properties>,
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
/// Memory does not grow with the queue. Letters that stay are held until the end and then return to their places;
/// meanwhile nobody else sees them.
///
/// # Errors
/// When the broker is lost, or takes a letter nowhere. Walking again is safe.
pub async fn walk(
    endpoint: &Endpoint,
    queue: &str,
    publisher: &Publisher,
    judge: impl FnMut(&Letter) -> Verdict,
) -> Result<Walked, WalkError> {
    let mut cursor = Cursor::open(endpoint, queue, WINDOW, None).await?;
    let walked = walk_through(&mut cursor, publisher, judge).await;
    let closed = cursor.close().await;
    let walked = walked?;
    closed?;
    Ok(walked)
}

async fn walk_through(
    cursor: &mut Cursor,
    publisher: &Publisher,
    mut judge: impl FnMut(&Letter) -> Verdict,
) -> Result<Walked, WalkError> {
    let mut walked = Walked::default();
    let mut sending = FuturesUnordered::new();
    let mut ended = Ok(());
    while ended.is_ok() {
        let (letter, hold) = match cursor.next_handed_out().await {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) => {
                ended = Err(error);
                break;
            }
        };
        walked.seen += 1;
        if let Verdict::Replay(replay) = judge(&letter) {
            walked.replayed += 1;
            sending.push(send(publisher, replay, letter, hold));
        }
        if sending.len() == IN_FLIGHT
            && let Some(sent) = sending.next().await
        {
            ended = sent;
        }
    }
    while let Some(sent) = sending.next().await {
        ended = ended.and(sent);
    }
    ended.map(|()| walked)
}

/// Publishes a letter's body and, once a queue is proven to hold it, takes the letter out of its own.
///
/// # Errors
/// When it is not proven. Then the letter comes back, marked as handed out before: a copy of it may be on its way.
pub async fn send(
    publisher: &Publisher,
    replay: Replay,
    letter: Letter,
    hold: Hold,
) -> Result<(), WalkError> {
    let publication = Publication {
        exchange: replay.exchange.into(),
        routing_key: replay.routing_key.into(),
        properties: *replay.properties,
        body: letter.body.clone(),
    };
    loop {
        match publisher.publish(&publication).await {
            // Nothing has left: it goes when the alarm is over.
            Err(PublishError::NotConnected) if publisher.is_blocked() => publisher.ready().await,
            published => break published?,
        }
    }
    hold.take_out().await?;
    Ok(())
}
