//! Publishing with proof: persistent, mandatory, confirmed, many at a time on a connection of its own.
//!
//! A connection that publishes can be blocked by the broker, and a blocked connection in lapin sends nothing at all,
//! not even acknowledgements: hence its own.

mod channels;
mod shared_channel;
mod window;

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation, Connection, Event, Queue};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::channels::Channels;
use self::shared_channel::{Message, Shared, SharedChannel};
use self::window::Outcome;
use super::connection::timed;
use super::{BrokerError, Endpoint, Topology};
use crate::job::{Body, Properties, short};
use crate::retry::Backoffs;
use crate::telemetry;

/// A confirm that takes longer is as good as none. The message may still arrive: a timeout is "unknown".
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(20);

const FIRST_RECONNECT: Duration = Duration::from_millis(100);
/// A broker that restarts should not wait for its workers: a try costs it next to nothing.
const SLOWEST_RECONNECT: Duration = Duration::from_secs(3);

/// A connection that held this long starts the delays anew.
const HELD: Duration = Duration::from_secs(10);

/// One message to publish.
#[derive(Clone, Debug)]
pub struct Publication<'a> {
    /// The exchange; empty for the default one, whose routing key is a queue's name.
    pub exchange: Cow<'a, str>,
    /// The routing key.
    pub routing_key: Cow<'a, str>,
    /// Properties and headers; published persistent whatever they say.
    pub properties: Properties,
    /// The body.
    pub body: Body,
}

/// Why a message is not proven to be in a queue.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no connection now, or the broker blocks it.
    #[error("not connected")]
    NotConnected,
    /// No queue took it.
    #[error("returned: no queue takes it")]
    Returned,
    /// The broker refused it, for example because a queue is full.
    #[error("refused by the broker")]
    Nacked,
    /// The broker closed the channel over it: an exchange is missing, or a right.
    #[error("refused by the broker: {0}")]
    Refused(String),
    /// No answer; it may or may not have arrived.
    #[error("not confirmed: {0}")]
    Unconfirmed(String),
}

/// A handle to the publishing connection, cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher(Arc<watch::Sender<Option<Live>>>);

#[derive(Clone)]
struct Live {
    shared: Arc<SharedChannel>,
    channels: Arc<Channels>,
    blocked: bool,
    broken: CancellationToken,
    /// One of the worker's own queues is missing.
    missing: Arc<Notify>,
    /// For questions: a refused one closes its channel, and publishing must not suffer from it.
    asking: Arc<Channel>,
    /// That channel is gone.
    silenced: Arc<Notify>,
    /// The user who signs what is published: the broker checks it.
    signed_as: Option<ShortString>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live(blocked: {})", self.blocked)
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Publisher {
    /// Whether messages can be published now.
    pub fn is_ready(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(|live| !live.blocked)
    }

    /// Waits until messages can be published.
    pub async fn ready(&self) {
        let mut live = self.0.subscribe();
        // The sender lives as long as this handle, so the wait cannot fail.
        drop(
            live.wait_for(|live| live.as_ref().is_some_and(|live| !live.blocked))
                .await,
        );
    }

    /// Waits until messages cannot be published.
    pub async fn not_ready(&self) {
        let mut live = self.0.subscribe();
        // As above: the sender lives as long as this handle.
        drop(
            live.wait_for(|live| live.as_ref().is_none_or(|live| live.blocked))
                .await,
        );
    }

    /// One of the worker's own queues took no message: has it declared again, where that is the worker's to do.
    pub fn report_missing_queue(&self) {
        if let Some(live) = &*self.0.borrow() {
            live.missing.notify_one();
        }
    }

    /// How many consumers a queue has, and how many of its messages are in nobody's hands; `None` if that cannot be
    /// learnt now.
    pub async fn consumers_and_messages(&self, queue: &str) -> Option<(u32, u32)> {
        let queue = self.look_at(queue).await?;
        Some((queue.consumer_count(), queue.message_count()))
    }

    /// How many messages of a queue are in nobody's hands; `None` if that cannot be learnt now.
    pub async fn messages(&self, queue: &str) -> Option<u64> {
        self.look_at(queue)
            .await
            .map(|queue| queue.message_count().into())
    }

    async fn look_at(&self, queue: &str) -> Option<Queue> {
        // A blocked connection holds questions back as well.
        let live = self.0.borrow().clone().filter(|live| !live.blocked)?;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let asked = live
            .asking
            .queue_declare(short(queue), options, FieldTable::default());
        match timed(asked).await {
            Ok(Ok(queue)) => Some(queue),
            Ok(Err(_)) => {
                live.silenced.notify_one();
                None
            }
            Err(_) => None,
        }
    }

    /// Waits until the broker blocks what is published.
    pub async fn blocked(&self) {
        let mut live = self.0.subscribe();
        // As above: the sender lives as long as this handle.
        drop(
            live.wait_for(|live| live.as_ref().is_some_and(|live| live.blocked))
                .await,
        );
    }

    /// Whether there is a connection, and the broker blocks what is published on it.
    pub fn is_blocked(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(|live| live.blocked)
    }

    /// Publishes one message. `Ok` means that a queue holds it on disk.
    pub async fn publish(&self, publication: &Publication<'_>) -> Result<(), PublishError> {
        // lapin would hold a blocked connection's message and send it later, when we had long given up on it.
        let live = self.0.borrow().clone().filter(|live| !live.blocked);
        let Some(live) = live else {
            return Err(PublishError::NotConnected);
        };
        match self
            .in_time(live.shared.publish(live.message(publication)))
            .await
        {
            Ok(Shared::Published(outcome)) => outcome,
            Ok(Shared::Closed(message)) => self.publish_apart(&live, *message).await,
            Err(late) => {
                live.shared.missed();
                Err(late)
            }
        }
    }

    /// Publishes one message on a channel of its own.
    async fn publish_apart(&self, live: &Live, message: Message) -> Outcome {
        // Nothing has left before a channel is there.
        let Ok(lent) = live.channels.lend().await else {
            if !live.channels.are_connected() {
                live.broken.cancel();
            }
            return Err(PublishError::NotConnected);
        };
        let confirmation = self
            .in_time(shared_channel::publish(&lent.channel, message))
            .await?;
        match &confirmation {
            Ok(_) => live.channels.take_back(lent),
            // The channel is gone, with nothing else on it.
            Err(error) if error.is_amqp_soft_error() => live.shared.refused(),
            Err(_) => live.broken.cancel(),
        }
        match confirmation {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(_))) => Err(PublishError::Returned),
            Ok(Confirmation::Nack(_)) => Err(PublishError::Nacked),
            Ok(Confirmation::NotRequested) => Err(not_confirming()),
            Err(error) => Err(failure(error, true)),
        }
    }

    /// What the broker answers, if it does in time.
    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, PublishError> {
        let mut answer = pin!(answer);
        loop {
            match tokio::time::timeout(CONFIRM_TIMEOUT, answer.as_mut()).await {
                Ok(answer) => return Ok(answer),
                // What a blocked connection holds back is sent when it may go on: publishing it again would double it.
                Err(_) if self.is_blocked() => {}
                Err(_) => {
                    return Err(PublishError::Unconfirmed(format!(
                        "no answer within {CONFIRM_TIMEOUT:?}"
                    )));
                }
            }
        }
    }

    /// Keeps the connection up until told to stop.
    pub async fn run(
        &self,
        endpoint: &Endpoint,
        topology: &Topology,
        declare: bool,
        stop: &CancellationToken,
    ) {
        let mut delays = Backoffs::new(FIRST_RECONNECT, SLOWEST_RECONNECT);
        loop {
            let started = tokio::time::Instant::now();
            let Some(lost) = stop
                .run_until_cancelled(self.hold(endpoint, topology, declare))
                .await
            else {
                break;
            };
            self.0.send_replace(None);
            telemetry::broker_lost("publish", &lost);
            if started.elapsed() > HELD {
                delays.reset();
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(delays.next_delay()))
                .await
                .is_none()
            {
                break;
            }
        }
        self.0.send_replace(None);
    }

    /// Opens a connection and serves it until it is lost.
    async fn hold(&self, endpoint: &Endpoint, topology: &Topology, declare: bool) -> BrokerError {
        let declared = declare.then_some(topology);
        match self.open(endpoint, declared).await {
            Ok((connection, live)) => self.serve(&connection, &live, declared).await,
            Err(error) => error,
        }
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        declared: Option<&Topology>,
    ) -> Result<(Arc<Connection>, Live), BrokerError> {
        let connection = Arc::new(endpoint.connect_for_own("publish").await?);
        if let Some(topology) = declared {
            timed(topology.apply(&connection)).await??;
        }
        let broken = CancellationToken::new();
        let live = Live {
            shared: Arc::new(SharedChannel::open(&connection, &broken).await?),
            channels: Arc::new(Channels::new(Arc::clone(&connection))),
            blocked: false,
            broken,
            missing: Arc::new(Notify::new()),
            asking: Arc::new(timed(connection.create_channel()).await??),
            silenced: Arc::new(Notify::new()),
            signed_as: endpoint.signed_as().map(short),
        };
        self.0.send_replace(Some(live.clone()));
        telemetry::broker_connected("publish");
        Ok((connection, live))
    }

    async fn serve(
        &self,
        connection: &Connection,
        live: &Live,
        declared: Option<&Topology>,
    ) -> BrokerError {
        let mut events = Box::pin(connection.events_listener());
        loop {
            tokio::select! {
                () = live.broken.cancelled() => {
                    return BrokerError::Lost("a publish failed with the channel".to_owned());
                }
                () = live.missing.notified() => if let Err(error) = restore(connection, declared).await {
                    return error;
                },
                () = live.silenced.notified() => if let Err(error) = self.ask_anew(connection).await {
                    return error;
                },
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(_)) => self.set_blocked(true),
                    Some(Event::ConnectionUnblocked) => self.set_blocked(false),
                    // A channel's, which the broker closed over what was published on it.
                    Some(Event::Error(error))
                        if error.is_amqp_soft_error() && connection.status().connected() => {}
                    Some(Event::Error(error)) => return error.into(),
                    Some(_) => {}
                    None => return BrokerError::Lost("the connection ended".to_owned()),
                },
            }
        }
    }

    async fn ask_anew(&self, connection: &Connection) -> Result<(), BrokerError> {
        let asking = Arc::new(timed(connection.create_channel()).await??);
        self.0.send_modify(|live| {
            if let Some(live) = live {
                live.asking = asking;
            }
        });
        Ok(())
    }

    fn set_blocked(&self, blocked: bool) {
        self.0.send_if_modified(|live| match live {
            Some(live) if live.blocked != blocked => {
                live.blocked = blocked;
                true
            }
            _ => false,
        });
        telemetry::broker_blocked(blocked);
    }
}

impl Live {
    /// A publication as it leaves: persistent, and signed where the broker's user is to sign.
    fn message(&self, publication: &Publication<'_>) -> Message {
        let mut properties = publication.properties.clone().with_delivery_mode(2);
        if let Some(user) = &self.signed_as {
            properties = properties.with_user_id(user.clone());
        }
        Message {
            exchange: short(&publication.exchange),
            routing_key: short(&publication.routing_key),
            properties,
            body: publication.body.clone(),
        }
    }
}

/// What an error of its channel says of a publication that was not answered: if it was alone there, it is what the
/// broker closed the channel over.
fn failure(error: lapin::Error, is_alone: bool) -> PublishError {
    let is_refused = is_alone && error.is_amqp_soft_error();
    let why = BrokerError::from(error).to_string();
    if is_refused {
        PublishError::Refused(why)
    } else {
        PublishError::Unconfirmed(why)
    }
}

fn not_confirming() -> PublishError {
    PublishError::Unconfirmed("confirms are off".to_owned())
}

/// Declares the topology again, where that is the worker's to do.
async fn restore(connection: &Connection, declared: Option<&Topology>) -> Result<(), BrokerError> {
    match declared {
        Some(topology) => timed(topology.apply(connection)).await?,
        None => Ok(()),
    }
}
