//! Going through the letters of a queue, each once, with every one of them still in the queue's hands.
//!
//! One rule: a letter that is not acknowledged is held until the end and then goes back to its place. Given back sooner
//! it would be handed out next, again and again: a quorum queue serves what has come back before all others.
//!
//! Letters are taken in windows, each through a consumer of its own, because a consumer stalls when it holds as many as
//! its prefetch allows, and because fetching single ones costs the broker a write to its disk for each. What is held
//! is held by the broker; here, a window at most.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{DeliveryTag, FieldTable};
use lapin::{Acker, Channel, Connection, Consumer, Queue};
use serde::Serialize;
use tokio::time::Instant;

use super::{Letter, WalkError};
use crate::broker::connection::timed;
use crate::broker::{BrokerError, Endpoint};
use crate::job::{Body, short};
use crate::wiped::Wiped;

/// The first window: whoever wants a few letters should not touch hundreds.
const FIRST_WINDOW: u16 = 16;

/// What the bodies of a window may take, as far as the letters before it foretell that.
const WINDOW_BYTES: usize = 4 << 20;

/// Without a letter for so long, the queue is asked whether there are any.
const QUIET: Duration = Duration::from_millis(250);

/// So many letters are given back in one word: of more than 32, RabbitMQ forgets the order.
const GIVEN_BACK_TOGETHER: usize = 32;

/// So many words are said at once: of more than 32, RabbitMQ keeps some back for a while, and makes one of them.
const WORDS_AT_ONCE: usize = 16;

/// What was on its way to a consumer that ended is back in the queue only after a moment.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How long those may take to be back. Others may have taken them at once: then they are not waited for.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// Letters that a walk has not seen, because others had them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InOtherHands {
    /// So many of those that lay there at the beginning were not there any more when their turn came.
    #[serde(rename = "in_other_hands")]
    pub counted: u32,
    /// Others held some already when the walk began; how many, the broker does not tell.
    #[serde(rename = "others_hold_more")]
    pub uncounted: bool,
}

impl InOtherHands {
    /// Whether there are any.
    pub fn is_any(self) -> bool {
        self.counted > 0 || self.uncounted
    }
}

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
    /// Others held letters when it began.
    others: bool,
    /// How many windows there have been.
    windows: usize,
    held: Held,
    seen: usize,
    since: Instant,
}

/// The letters that were looked at and not taken out.
#[derive(Clone, Debug, Default)]
struct Held(Arc<Mutex<BTreeSet<DeliveryTag>>>);

impl Held {
    fn with<T>(&self, of: impl FnOnce(&mut BTreeSet<DeliveryTag>) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
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
    tag: DeliveryTag,
    held: Held,
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
                self.held.with(|held| held.remove(&self.tag));
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
        let (ready, others) = in_nobodys_hands(&channel, queue).await?;
        Ok(Self {
            connection,
            channel,
            queue: queue.to_owned(),
            consumer: None,
            ending: false,
            window: Window::new(widest),
            left: at_most.map_or(ready, |most| most.min(ready)),
            others,
            windows: 0,
            held: Held::default(),
            seen: 0,
            since: Instant::now(),
        })
    }

    /// How many letters there are that were there at the beginning: those not looked at, and those that stay.
    pub fn remaining(&self) -> u32 {
        let held = self.held.with(|held| held.len());
        self.left
            .saturating_add(u32::try_from(held).unwrap_or(u32::MAX))
    }

    /// How many letters it has looked at.
    pub fn seen(&self) -> u64 {
        u64::try_from(self.seen).unwrap_or(u64::MAX)
    }

    /// What it will not see any more, once [`Cursor::next`] has come to the end.
    pub fn in_other_hands(&self) -> InOtherHands {
        InOtherHands {
            counted: self.left,
            uncounted: self.others,
        }
    }

    /// How long letters may have been held. The broker takes them back after its consumer time-out, by default half an
    /// hour.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// The next letter; none when all that were there at the beginning have been looked at, or are gone.
    ///
    /// # Errors
    /// When the broker or the queue is lost. What was not taken out is back in its queue then.
    pub async fn next(&mut self) -> Result<Option<(Letter, Hold)>, WalkError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.next_handed_out().await
    }

    /// As [`Cursor::next`], and at the end those that the last window was handed beyond them: the room of a letter that is
    /// taken out is filled with another. Given back untouched, that one would be marked for nothing.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub(super) async fn next_handed_out(&mut self) -> Result<Option<(Letter, Hold)>, WalkError> {
        while self.left > 0 || self.consumer.is_some() {
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
        self.left = self.left.saturating_sub(1);
        self.seen += 1;
        self.window.takes(delivery.data.len());
        if self.window.is_full() || self.left == 0 {
            self.end_window().await?;
        }
        let tag = delivery.delivery_tag;
        self.held.with(|held| held.insert(tag));
        let hold = Hold {
            acker: delivery.acker,
            tag,
            held: self.held.clone(),
        };
        let letter = Letter {
            exchange: delivery.exchange.as_str().to_owned(),
            routing_key: delivery.routing_key.into(),
            properties: delivery.properties,
            body: Body::new(delivery.data),
            redelivered: delivery.redelivered,
        };
        Ok((letter, hold))
    }

    /// Opens the next window; false if nothing is in the queue.
    async fn consume(&mut self) -> Result<bool, BrokerError> {
        let looked_from = Instant::now();
        while ready(&self.channel, &self.queue).await? == 0 {
            if looked_from.elapsed() >= BACK_WITHIN {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
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
        // The broker gives back what consumers hold in the order of their names.
        let name = format!("letters-{:06}", self.windows);
        self.windows += 1;
        let (queue, options) = (short(&self.queue), BasicConsumeOptions::default());
        let consuming =
            self.channel
                .basic_consume(queue, short(&name), options, FieldTable::default());
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
        let mut open = self.held.with(std::mem::take);
        let any_taken_out = open.len() < self.seen;
        open.extend(self.not_looked_at().await?);
        if any_taken_out {
            // The queue answers in order: once it has handed out (or not) one more letter, it has taken in every
            // acknowledgement. Closing at once, some come too late.
            let (queue, options) = (short(&self.queue), BasicGetOptions::default());
            let got = timed(self.channel.basic_get(queue, options)).await??;
            open.extend(got.map(|got| got.delivery.delivery_tag));
        }
        let given_back = self.give_back(open).await;
        // A connection that is lost has given them back already.
        drop(timed(self.connection.close(200, short("walked"))).await);
        given_back
    }

    /// What the last window was handed beyond what was wanted.
    async fn not_looked_at(&mut self) -> Result<Vec<DeliveryTag>, BrokerError> {
        let mut tags = Vec::new();
        if let Some(mut consumer) = self.consumer.take() {
            while let Some(delivery) = timed(consumer.next()).await? {
                let delivery = delivery?;
                tags.push(delivery.delivery_tag);
                drop(Wiped::new(delivery.data));
            }
        }
        Ok(tags)
    }

    async fn give_back(&self, open: BTreeSet<DeliveryTag>) -> Result<(), BrokerError> {
        let open: Vec<_> = open.into_iter().collect();
        let mut back = ready(&self.channel, &self.queue).await?;
        for (number, together) in open.chunks(GIVEN_BACK_TOGETHER).enumerate() {
            if let Some(&last) = together.last() {
                self.nack(last).await?;
            }
            back = back.saturating_add(u32::try_from(together.len()).unwrap_or(u32::MAX));
            if (number + 1).is_multiple_of(WORDS_AT_ONCE) {
                self.until_back(back).await?;
            }
        }
        self.until_back(back).await
    }

    /// Gives back all up to this one.
    async fn nack(&self, tag: DeliveryTag) -> Result<(), BrokerError> {
        let options = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        timed(self.channel.basic_nack(tag, options)).await??;
        Ok(())
    }

    /// What is not back when the channel ends comes back in any order.
    async fn until_back(&self, count: u32) -> Result<(), BrokerError> {
        let waiting = async {
            while ready(&self.channel, &self.queue).await? < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        tokio::time::timeout(BACK_WITHIN, waiting)
            .await
            .unwrap_or(Ok(()))
    }
}

/// How many letters of the queue are in nobody's hands.
async fn ready(channel: &Channel, queue: &str) -> Result<u32, BrokerError> {
    Ok(asked(channel, queue).await??.message_count())
}

/// The same, and whether others hold more of them: a quorum queue counts who holds letters as a consumer, also one that
/// takes no more. Those of a command that has just ended are waited for.
async fn in_nobodys_hands(channel: &Channel, queue: &str) -> Result<(u32, bool), BrokerError> {
    let asked_from = Instant::now();
    loop {
        let asked = asked(channel, queue).await?;
        let asked = asked.map_err(|error| missing(queue, error))?;
        let others = asked.consumer_count() > 0;
        if !others || asked_from.elapsed() >= BACK_WITHIN {
            return Ok((asked.message_count(), others));
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

async fn asked(channel: &Channel, queue: &str) -> Result<lapin::Result<Queue>, BrokerError> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(short(queue), passive, FieldTable::default());
    timed(declared).await
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
