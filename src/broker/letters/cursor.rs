//! Going through the letters of a queue, each once, with every one of them still in the queue's hands.
//!
//! One rule: a letter that is not acknowledged is held until the end and then goes back to its place. Given back sooner
//! it would be handed out next, again and again: a quorum queue serves what has come back before all others.
//!
//! Letters are taken in windows, each through a consumer of its own, because a consumer stalls when it holds as many as
//! its prefetch allows, and because fetching single ones costs the broker a write to its disk for each. What is held
//! is held by the broker; here, a window at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Acker, Channel, Connection, Consumer};
use tokio::time::Instant;

use super::{Letter, WalkError};
use crate::broker::connection::timed;
use crate::broker::{BrokerError, Endpoint};
use crate::job::short;
use crate::wiped::Wiped;

/// The first window: whoever wants a few letters should not touch hundreds.
const FIRST_WINDOW: u16 = 16;

/// What the bodies of a window may take, as far as the letters before it foretell that.
const WINDOW_BYTES: usize = 4 << 20;

/// Without a letter for so long, the queue is asked whether there are any.
const QUIET: Duration = Duration::from_millis(250);

/// How long what was held may take to be back in the queue. Then closing the connection puts it back, in any order.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// On its way through a queue.
pub struct Cursor {
    connection: Connection,
    channel: Channel,
    queue: String,
    consumer: Option<Consumer>,
    /// The consumer was told to end; what it had been handed comes before its end.
    ending: bool,
    window: Window,
    /// How many of those that lay in the queue at the beginning have not been looked at.
    left: u32,
    seen: u32,
    acknowledged: Arc<AtomicU32>,
    since: Instant,
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cursor({}, {} left)", self.queue, self.left)
    }
}

/// How many letters are taken at once.
#[derive(Clone, Copy, Debug)]
struct Window {
    widest: u16,
    size: u16,
    taken: u16,
    bytes: usize,
}

impl Window {
    fn new(widest: u16) -> Self {
        Self {
            widest,
            size: FIRST_WINDOW.min(widest),
            taken: 0,
            bytes: 0,
        }
    }

    fn takes(&mut self, bytes: usize) {
        self.taken += 1;
        self.bytes += bytes;
    }

    fn is_full(self) -> bool {
        self.taken >= self.size
    }

    /// The next one: twice as wide, if the bodies are small enough.
    fn next(self) -> Self {
        let each = self.bytes / usize::from(self.taken.max(1));
        let fit = u16::try_from(WINDOW_BYTES / each.max(1)).unwrap_or(u16::MAX);
        Self {
            size: self.size.saturating_mul(2).min(self.widest).min(fit).max(1),
            taken: 0,
            bytes: 0,
            ..self
        }
    }
}

/// The right to take a letter out of its queue, once. Let go of, it stays there.
pub struct Hold {
    acker: Acker,
    acknowledged: Arc<AtomicU32>,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold(..)")
    }
}

impl Hold {
    /// Takes the letter out of its queue.
    ///
    /// # Errors
    /// When the channel has ended: then the letter is back in its queue, marked as handed out before.
    pub async fn take_out(self) -> Result<(), BrokerError> {
        match timed(self.acker.ack(BasicAckOptions::default())).await?? {
            true => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            false => Err(BrokerError::Lost("the channel ended".to_owned())),
        }
    }
}

impl Cursor {
    /// At the beginning of a queue. What comes into it from now on is not looked at, and no more than `at_most` letters
    /// are; at most `widest` are taken at once.
    ///
    /// # Errors
    /// When the broker or the queue is not there.
    pub async fn open(
        endpoint: &Endpoint,
        queue: &str,
        widest: u16,
        at_most: Option<u32>,
    ) -> Result<Self, BrokerError> {
        let connection = endpoint.connect("letters").await?;
        let channel = timed(connection.create_channel()).await??;
        let ready = ready(&channel, queue)
            .await?
            .map_err(|error| missing(queue, error))?;
        Ok(Self {
            connection,
            channel,
            queue: queue.to_owned(),
            consumer: None,
            ending: false,
            window: Window::new(widest),
            left: at_most.map_or(ready, |most| most.min(ready)),
            seen: 0,
            acknowledged: Arc::default(),
            since: Instant::now(),
        })
    }

    /// How many letters there are that were there at the beginning: those not looked at, and those that stay.
    pub fn remaining(&self) -> u32 {
        self.left + self.held()
    }

    /// How long letters may have been held. The broker takes them back after its consumer time-out, by default half an
    /// hour.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    fn held(&self) -> u32 {
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        self.seen.saturating_sub(acknowledged)
    }

    /// The next letter; none when all that were there at the beginning have been looked at, or are gone.
    ///
    /// # Errors
    /// When the broker or the queue is lost. What was not taken out is back in its queue then.
    pub async fn next(&mut self) -> Result<Option<(Letter, Hold)>, WalkError> {
        while self.left > 0 {
            let Some(consumer) = &mut self.consumer else {
                if !self.consume().await? {
                    return Ok(None);
                }
                continue;
            };
            match tokio::time::timeout(QUIET, consumer.next()).await {
                Ok(Some(delivery)) => return self.took(delivery?).await.map(Some),
                Ok(None) if self.ending => self.consumer = None,
                Ok(None) => {
                    let gone = format!("queue {} is gone", self.queue);
                    return Err(BrokerError::Lost(gone).into());
                }
                // Others may have taken them, or their time was over.
                Err(_) => self.end_window().await?,
            }
        }
        Ok(None)
    }

    async fn took(&mut self, delivery: Delivery) -> Result<(Letter, Hold), WalkError> {
        self.left -= 1;
        self.seen += 1;
        self.window.takes(delivery.data.len());
        if self.window.is_full() || self.left == 0 {
            self.end_window().await?;
        }
        let hold = Hold {
            acker: delivery.acker,
            acknowledged: Arc::clone(&self.acknowledged),
        };
        let letter = Letter {
            routing_key: delivery.routing_key.into(),
            properties: delivery.properties,
            body: Wiped::new(delivery.data),
            redelivered: delivery.redelivered,
        };
        Ok((letter, hold))
    }

    /// Opens the next window; false if nothing is in the queue.
    async fn consume(&mut self) -> Result<bool, BrokerError> {
        let ready = ready(&self.channel, &self.queue).await??;
        if ready == 0 {
            return Ok(false);
        }
        if self.seen > 0 {
            self.window = self.window.next();
        }
        // No more than are wanted: each one that was handed out is marked.
        let size = u32::from(self.window.size).min(self.left);
        self.window.size = u16::try_from(size).unwrap_or(self.window.size);
        let qos = self
            .channel
            .basic_qos(self.window.size, BasicQosOptions::default());
        timed(qos).await??;
        let (queue, options) = (short(&self.queue), BasicConsumeOptions::default());
        let consuming =
            self.channel
                .basic_consume(queue, short(""), options, FieldTable::default());
        self.consumer = Some(timed(consuming).await??);
        self.ending = false;
        Ok(true)
    }

    async fn end_window(&mut self) -> Result<(), BrokerError> {
        if let Some(consumer) = self.consumer.as_ref().filter(|_| !self.ending) {
            let tag = consumer.tag();
            let cancelling = self
                .channel
                .basic_cancel(tag, BasicCancelOptions::default());
            timed(cancelling).await??;
            self.ending = true;
        }
        Ok(())
    }

    /// Gives back what is held, in its order, and ends.
    ///
    /// # Errors
    /// When the broker is lost before it is known to have taken everything in. Nothing is lost with it.
    pub async fn close(mut self) -> Result<(), BrokerError> {
        self.end_window().await?;
        if self.acknowledged.load(Ordering::Relaxed) > 0 {
            // The queue answers in order: once it has handed out (or not) one more letter, it has taken in every
            // acknowledgement. Closing at once, some come too late.
            let asking = self
                .channel
                .basic_get(short(&self.queue), BasicGetOptions::default());
            drop(timed(asking).await??);
        }
        let all = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        // Zero names every delivery that is open (AMQP 0-9-1, basic.nack).
        timed(self.channel.basic_nack(0, all)).await??;
        let back = tokio::time::timeout(BACK_WITHIN, self.until_back()).await;
        // A connection that is lost has given them back already.
        drop(timed(self.connection.close(200, short("walked"))).await);
        back.unwrap_or(Ok(()))
    }

    /// The broker gives them back over some time; what is left when the channel ends comes back in any order.
    async fn until_back(&self) -> Result<(), BrokerError> {
        let held = self.held();
        while ready(&self.channel, &self.queue).await?? < held {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// How many letters of the queue are in nobody's hands.
async fn ready(channel: &Channel, queue: &str) -> Result<lapin::Result<u32>, BrokerError> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(short(queue), passive, FieldTable::default());
    let declared = timed(declared).await?;
    Ok(declared.map(|queue| queue.message_count()))
}

fn missing(queue: &str, error: lapin::Error) -> BrokerError {
    if !error.is_amqp_soft_error() {
        return error.into();
    }
    BrokerError::Topology {
        what: format!("queue {queue} cannot be read ({error})"),
        remedy: "if it is missing, run `irn-worker topology apply`; if it is refused, let this user read it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_widen_while_bodies_are_small_and_never_beyond_what_fits() {
        let mut window = Window::new(256);
        let mut sizes = Vec::new();
        for bytes in [8_000, 8_000, 8_000, 8_000, 2_000_000, 100_000_000] {
            sizes.push(window.size);
            for _ in 0..window.size {
                window.takes(bytes);
            }
            assert!(window.is_full());
            window = window.next();
        }
        sizes.push(window.size);
        assert_eq!(sizes, [16, 32, 64, 128, 256, 2, 1]);
    }
}
