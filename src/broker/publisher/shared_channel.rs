//! The channel that publications share while all goes well: RabbitMQ acknowledges many with one frame there, and every
//! frame costs it and the worker alike.
//!
//! One task publishes on it and reads what is answered. Once something came back, or an answer went missing, the
//! publications that follow have a channel each for a while (see `channels`): nothing is left to tell apart there, and
//! what the broker closes a channel over closes none but its own.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Connection, ErrorKind};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::window::{Outcome, Stamp, Window};
use super::{PublishError, failure, not_confirming};
use crate::broker::BrokerError;
use crate::broker::connection::timed;
use crate::job::{Body, Properties};

/// How long publications have a channel each after one came back or was refused: what is missing is seldom missing once.
const APART: Duration = Duration::from_secs(10);

/// A message as it goes to the broker.
pub(super) struct Message {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: Properties,
    pub(super) body: Body,
}

impl Message {
    fn stamp(&self) -> Stamp {
        Stamp::new(
            self.exchange.clone(),
            self.routing_key.clone(),
            &self.properties,
            self.body.clone(),
        )
    }
}

/// Publishes a message: mandatory, so that no message vanishes unseen.
///
/// # Errors
/// When the channel is gone, or goes before the broker has answered.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that publishes: mandatory, persistent and confirmed"
)]
pub(super) async fn publish(channel: &Channel, message: Message) -> lapin::Result<Confirmation> {
    let Message {
        exchange,
        routing_key,
        properties,
        body,
    } = message;
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    channel
        .basic_publish(
            exchange,
            routing_key,
            options,
            body.as_it_came(),
            properties,
        )
        .await?
        .await
}

/// A channel in confirm mode.
pub(super) async fn confirming(connection: &Connection) -> Result<Channel, BrokerError> {
    let channel = timed(connection.create_channel()).await??;
    timed(channel.confirm_select(ConfirmSelectOptions::default())).await??;
    Ok(channel)
}

/// A handle to the task, which ends with the last of them.
pub(super) struct SharedChannel {
    requests: mpsc::UnboundedSender<Request>,
    signs: Arc<Signs>,
    _task: AbortOnDropHandle<()>,
}

/// What the task and those who publish tell each other beside requests.
#[derive(Default)]
struct Signs {
    is_open: AtomicBool,
    /// Somebody has waited for an answer in vain.
    missed: Notify,
    /// The broker has closed a channel over a message, which would have closed this one.
    refused: Notify,
}

struct Request {
    message: Message,
    answer: oneshot::Sender<Shared>,
}

/// What a publication on the shared channel comes to.
pub(super) enum Shared {
    /// It left: `Ok` means that a queue holds it.
    Published(Outcome),
    /// It did not leave: the channel is closed.
    Closed(Box<Message>),
}

impl SharedChannel {
    /// Opens the channel. A connection on which that fails is none.
    pub(super) async fn open(
        connection: &Arc<Connection>,
        broken: &CancellationToken,
    ) -> Result<Self, BrokerError> {
        let channel = confirming(connection).await?;
        let signs = Arc::new(Signs::default());
        let (requests, received) = mpsc::unbounded_channel();
        let carrier = Carrier {
            connection: Arc::clone(connection),
            requests: received,
            signs: Arc::clone(&signs),
            broken: broken.clone(),
        };
        signs.is_open.store(true, Ordering::Relaxed);
        #[expect(clippy::disallowed_methods, reason = "ends with its handle")]
        let task = tokio::spawn(carrier.run(channel));
        Ok(Self {
            requests,
            signs,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Publishes a message, unless the channel is closed.
    pub(super) async fn publish(&self, message: Message) -> Shared {
        if !self.signs.is_open.load(Ordering::Relaxed) {
            return Shared::Closed(Box::new(message));
        }
        let (answer, answered) = oneshot::channel();
        if let Err(mpsc::error::SendError(request)) =
            self.requests.send(Request { message, answer })
        {
            return Shared::Closed(Box::new(request.message));
        }
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Shared::Published(Err(PublishError::Unconfirmed(
                "the publishing connection ended".to_owned(),
            ))),
        }
    }

    /// An answer was waited for in vain.
    pub(super) fn missed(&self) {
        self.signs.missed.notify_one();
    }

    /// The broker has closed a channel over a message.
    pub(super) fn refused(&self) {
        self.signs.refused.notify_one();
    }
}

struct Carrier {
    connection: Arc<Connection>,
    requests: mpsc::UnboundedReceiver<Request>,
    signs: Arc<Signs>,
    broken: CancellationToken,
}

/// What happens on the channel.
#[expect(
    clippy::large_enum_variant,
    reason = "a barrier stands for many answers"
)]
enum Event {
    /// A publication is answered.
    Answered(u64, lapin::Result<Confirmation>),
    /// All has been read that was answered before the barrier was laid.
    BarrierPassed,
}

impl Carrier {
    /// Carries until the connection ends.
    async fn run(mut self, mut channel: Channel) {
        loop {
            self.carry(channel).await;
            channel = loop {
                self.stay_apart().await;
                if !self.connection.status().connected() {
                    self.broken.cancel();
                    // Nothing of them has left.
                    self.requests.close();
                    while let Some(request) = self.requests.recv().await {
                        refuse(request);
                    }
                    return;
                }
                // Blocked, for example, it opens no channel.
                if let Ok(channel) = confirming(&self.connection).await {
                    break channel;
                }
            };
            self.signs.is_open.store(true, Ordering::Relaxed);
        }
    }

    /// Publishes on the channel until something comes back or goes missing, and all is decided.
    async fn carry(&mut self, channel: Channel) {
        let channel = Arc::new(channel);
        let mut window = Window::default();
        let mut events = FuturesUnordered::new();
        loop {
            if window.is_troubled() || !channel.status().connected() {
                self.signs.is_open.store(false, Ordering::Relaxed);
                if window.is_empty() {
                    return;
                }
            }
            let decided = tokio::select! {
                biased;
                Some(event) = events.next(), if !events.is_empty() => self.take(&mut window, event),
                () = self.signs.missed.notified() => window.give_up(oneshot::Sender::is_closed),
                Some(request) = self.requests.recv() => {
                    let is_open = !window.is_troubled() && channel.status().connected();
                    match request {
                        request if !is_open => refuse(request),
                        Request { answer, .. } if answer.is_closed() => {}
                        Request { message, answer } => {
                            let number = window.depart(message.stamp(), answer);
                            let channel = Arc::clone(&channel);
                            events.push(Either::Left(answered(channel, number, message)));
                        }
                    }
                    Vec::new()
                }
            };
            for (waiter, outcome) in decided {
                tell(waiter, Shared::Published(outcome));
            }
            if window.wants_barrier() {
                events.push(Either::Right(barrier()));
            }
        }
    }

    fn take<W>(&self, window: &mut Window<W>, event: Event) -> Vec<(W, Outcome)> {
        let stamp = |returned: Option<_>| returned.map(Stamp::from);
        match event {
            Event::BarrierPassed => window.barrier_passed(),
            Event::Answered(number, Ok(Confirmation::Ack(returned))) => {
                window.acked(number, stamp(returned))
            }
            Event::Answered(number, Ok(Confirmation::Nack(returned))) => {
                window.nacked(number, stamp(returned))
            }
            Event::Answered(number, Ok(Confirmation::NotRequested)) => {
                window.failed(number, not_confirming())
            }
            Event::Answered(number, Err(error)) => {
                // The broker closes a channel over one publication, and does not say which.
                let is_alone = window.has_one_left();
                if is_of_the_connection(&error) {
                    self.broken.cancel();
                }
                window.failed(number, failure(error, is_alone))
            }
        }
    }

    /// Takes nothing until for a while nothing was refused, or the connection is lost.
    async fn stay_apart(&mut self) {
        let mut until = Instant::now() + APART;
        while self.connection.status().connected() {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.signs.refused.notified() => until = Instant::now() + APART,
                Some(request) = self.requests.recv() => refuse(request),
            }
        }
    }
}

/// Whether more is lost than a channel: one that is closed for its publications' sake is replaced.
fn is_of_the_connection(error: &lapin::Error) -> bool {
    let is_of_the_channel =
        error.is_amqp_soft_error() || matches!(error.kind(), ErrorKind::InvalidChannelState(..));
    !is_of_the_channel
}

/// Waits for the broker's answer to one publication.
async fn answered(channel: Arc<Channel>, number: u64, message: Message) -> Event {
    Event::Answered(number, publish(&channel, message).await)
}

/// Ready at once, and so read after all that is ready already: those that are woken are polled in that order.
fn barrier() -> Ready<Event> {
    ready(Event::BarrierPassed)
}

fn refuse(request: Request) {
    tell(request.answer, Shared::Closed(Box::new(request.message)));
}

fn tell(waiter: oneshot::Sender<Shared>, answer: Shared) {
    // Who does not wait any more takes it for unconfirmed.
    drop(waiter.send(answer));
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    /// What the barrier depends on, and futures-util does not promise.
    #[tokio::test]
    async fn futures_are_read_in_the_order_in_which_they_are_woken() {
        let mut futures = FuturesUnordered::new();
        let mut wake = Vec::new();
        for number in 0..100 {
            let (sender, woken) = oneshot::channel::<()>();
            futures.push(Either::Left(async move {
                drop(woken.await);
                number
            }));
            wake.push(Some(sender));
        }
        assert!(futures_util::poll!(pin!(futures.next())).is_pending());

        let order: Vec<usize> = (0..100).map(|number| number * 37 % 100).collect();
        let (before, after) = order.split_at(60);
        for &number in before {
            drop(wake[number].take());
        }
        futures.push(Either::Right(ready(1000)));
        for &number in after {
            drop(wake[number].take());
        }

        let expected: Vec<usize> = before
            .iter()
            .copied()
            .chain([1000])
            .chain(after.iter().copied())
            .collect();
        let read: Vec<usize> = futures.collect().await;
        assert_eq!(read, expected);
    }
}
