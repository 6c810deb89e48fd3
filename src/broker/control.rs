//! Messages to every replica: a fanout exchange, and a queue of each replica's own that goes with it. Beside it, on the
//! same connection, the log of orders.
//!
//! One rule: control is a convenience. Without it, for want of permission or of the exchange, the work goes on.

use std::time::Duration;

use futures_util::future::{Fuse, FusedFuture as _};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer, ErrorKind, ExchangeKind};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::connection::timed;
use super::control_log::{Log, LogWatch};
use super::{BrokerError, Endpoint, Topology};
use crate::job::{Properties, short};
use crate::retry::Backoffs;

/// Where orders to every replica are published.
pub const CONTROL_EXCHANGE: &str = "irn.control";

const FIRST_RECONNECT: Duration = Duration::from_millis(200);
const SLOWEST_RECONNECT: Duration = Duration::from_secs(5);

/// A connection that was lost sooner has not been of use.
const BRIEF: Duration = Duration::from_secs(1);

/// Whoever may not speak tries again after this time.
const MUTE_FOR: Duration = Duration::from_secs(300);

/// What a replica hears.
#[derive(Debug)]
pub enum Heard<'a> {
    /// Said just now, to all that listen.
    Word(&'a [u8]),
    /// The connection is lost, and what is said meanwhile.
    Lost,
    /// No words can be heard: the broker does not permit it, or has no such exchange. Told once.
    NoWords(&'a BrokerError),
    /// None of ours can be said: the broker does not permit it. It is tried again now and then.
    Mute(&'a BrokerError),
    /// The log of orders is read from its beginning.
    LogBegins,
    /// The next order of the log.
    Logged(&'a [u8]),
    /// All that the log held when it began has been told. What comes now is new.
    LogRead {
        /// False: it only has been silent for a while, and something may be missing.
        is_sure: bool,
    },
    /// The log cannot be read: the broker does not permit it, or has none. Told once; it is tried again where that is of
    /// use.
    NoLog(&'a BrokerError),
}

/// What a replica has to tell the others.
#[derive(Debug)]
pub struct Tell<'a> {
    /// Told at the beginning of each connection.
    pub greeting: &'a str,
    /// Told as they come.
    pub words: &'a mut Receiver<String>,
}

/// Gives everything that comes to `heed`, whenever the broker is there, for as long as it is waited for. `declared`: what
/// is to be declared first, where that is the worker's to do.
///
/// Returns when the broker permits nothing of it: then there is no point in asking again.
pub async fn listen(
    endpoint: &Endpoint,
    declared: Option<&Topology>,
    tell: Tell<'_>,
    heed: impl FnMut(Heard<'_>),
) {
    let mut delays = Backoffs::new(FIRST_RECONNECT, SLOWEST_RECONNECT);
    let mut listening = Listening {
        declared,
        tell,
        heed,
        mute_until: None,
        deaf: false,
        log: LogWatch::default(),
    };
    while !(listening.deaf && listening.log.is_given_up()) {
        if let Ok(connection) = endpoint.connect_for_own("control").await {
            let since = Instant::now();
            listening.until_lost(&connection).await;
            (listening.heed)(Heard::Lost);
            listening.forget_words();
            if since.elapsed() >= BRIEF {
                delays.reset();
            }
        }
        tokio::time::sleep(delays.next_delay()).await;
    }
}

struct Listening<'a, H> {
    declared: Option<&'a Topology>,
    tell: Tell<'a>,
    heed: H,
    /// Whoever may not write to the exchange loses the channel with the first word, and only listens for a while.
    mute_until: Option<Instant>,
    deaf: bool,
    log: LogWatch,
}

impl<H: FnMut(Heard<'_>)> Listening<'_, H> {
    /// Listens until the connection is lost, or there is nothing left to listen to. The worker's own connections tell of
    /// the loss.
    async fn until_lost(&mut self, connection: &Connection) {
        let mut words = match self.attach(connection).await {
            Ok(words) => words,
            Err(()) => return,
        };
        let attached = Instant::now();
        let mut log: Option<Log> = None;
        // Words are heard meanwhile: a stream without a leader lets one wait.
        let opening = Fuse::terminated();
        let mut opening = std::pin::pin!(opening);
        self.log.connected(attached);
        while words.is_some() || !self.log.is_given_up() {
            let is_wanted = log.is_none() && opening.is_terminated();
            tokio::select! {
                delivery = next_word(&mut words) => match delivery {
                    Some(Ok(delivery)) => (self.heed)(Heard::Word(&delivery.data)),
                    Some(Err(error)) => {
                        if is_forbidden(&error) {
                            self.is_refused(&refused(error));
                        }
                        return;
                    }
                    None => return,
                },
                Some(word) = self.tell.words.recv() => if let Some((channel, _)) = words.as_ref().filter(|_| !self.is_mute()) {
                    say(channel, CONTROL_EXCHANGE, &word, Properties::default()).await;
                },
                () = speaks_again(self.mute_until), if self.mute_until.is_some() => {
                    self.mute_until = None;
                    if let Some((channel, _)) = &words {
                        say(channel, CONTROL_EXCHANGE, self.tell.greeting, Properties::default()).await;
                    }
                }
                () = self.log.is_due(), if is_wanted => {
                    opening.set(Log::open(connection, self.declared).fuse());
                }
                opened = &mut opening => match self.log.opened(opened, &mut self.heed) {
                    Ok(opened) => log = opened,
                    Err(()) => return,
                },
                () = read_on(&mut log, &mut self.heed) => {
                    log = None;
                    self.log.lost();
                }
            }
        }
    }

    /// A channel ends in words of the broker's for what was said on it.
    fn is_refused(&mut self, error: &BrokerError) {
        self.mute_until = Some(Instant::now() + MUTE_FOR);
        (self.heed)(Heard::Mute(error));
    }

    fn is_mute(&self) -> bool {
        self.mute_until.is_some_and(|until| Instant::now() < until)
    }

    /// What was to be said is of the past by now.
    fn forget_words(&mut self) {
        while self.tell.words.try_recv().is_ok() {}
    }

    /// Attaches to the words, unless they are refused. An error: the connection is of no use.
    async fn attach(&mut self, connection: &Connection) -> Result<Option<Words>, ()> {
        if self.deaf {
            return Ok(None);
        }
        match attach(connection, self.declared.is_some()).await {
            Ok((channel, consumer)) => {
                if !self.is_mute() {
                    self.mute_until = None;
                    let greeting = self.tell.greeting;
                    say(&channel, CONTROL_EXCHANGE, greeting, Properties::default()).await;
                }
                Ok(Some((channel, consumer)))
            }
            Err(error @ BrokerError::Topology { .. }) => {
                self.deaf = true;
                (self.heed)(Heard::NoWords(&error));
                Ok(None)
            }
            Err(
                BrokerError::Lost(_)
                | BrokerError::Malformed
                | BrokerError::Timeout(_)
                | BrokerError::Refused { .. }
                | BrokerError::Blocked,
            ) => Err(()),
        }
    }
}

/// Whether a channel ended because the user may not do what was done on it. One that ended because the exchange was not there
/// for a moment may be of use again.
fn is_forbidden(error: &lapin::Error) -> bool {
    const FORBIDDEN: AMQPErrorKind = AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED);
    matches!(error.kind(), ErrorKind::ProtocolError(error) if *error.kind() == FORBIDDEN)
}

async fn speaks_again(mute_until: Option<Instant>) {
    match mute_until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The channel is to be kept: without it the consumer ends.
type Words = (Channel, Consumer);

async fn next_word(words: &mut Option<Words>) -> Option<lapin::Result<lapin::message::Delivery>> {
    match words {
        Some((_, consumer)) => consumer.next().await,
        None => std::future::pending().await,
    }
}

async fn read_on(log: &mut Option<Log>, heed: &mut impl FnMut(Heard<'_>)) {
    match log {
        Some(log) => log.read_on(heed).await,
        None => std::future::pending().await,
    }
}

/// Not confirmed: whoever does not hear it does without.
#[expect(
    clippy::disallowed_methods,
    reason = "no job depends on what replicas tell one another, and a lost word is made up for by each one's share"
)]
async fn say(channel: &Channel, exchange: &str, word: &str, properties: Properties) {
    let (exchange, options) = (short(exchange), BasicPublishOptions::default());
    let saying = channel.basic_publish(exchange, short(""), options, word.as_bytes(), properties);
    // An error ends the consumer as well.
    drop(timed(saying).await);
}

async fn attach(connection: &Connection, declare: bool) -> Result<Words, BrokerError> {
    let attaching = async {
        let channel = connection.create_channel().await?;
        if declare {
            // The same as the topology's, which may be declared a moment later only.
            let options = ExchangeDeclareOptions {
                durable: true,
                ..ExchangeDeclareOptions::default()
            };
            let (name, kind) = (short(CONTROL_EXCHANGE), ExchangeKind::Fanout);
            channel
                .exchange_declare(name, kind, options, FieldTable::default())
                .await?;
        }
        // Under the prefix of all the others, so that one permission covers it; gone with the connection.
        let queue = format!("{CONTROL_EXCHANGE}.{}", uuid::Uuid::new_v4().simple());
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(short(&queue), options, FieldTable::default())
            .await?;
        let (name, exchange) = (short(&queue), short(CONTROL_EXCHANGE));
        let options = QueueBindOptions::default();
        channel
            .queue_bind(name, exchange, short(""), options, FieldTable::default())
            .await?;
        // Nothing is lost with one that is not heeded: the operator sees what has become of it.
        let options = BasicConsumeOptions {
            no_ack: true,
            exclusive: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = channel
            .basic_consume(short(&queue), short(""), options, FieldTable::default())
            .await?;
        Ok((channel, consumer))
    };
    timed(attaching).await?.map_err(refused)
}

/// Makes sure that orders can be received: tries what [`listen`] does, and leaves nothing behind.
///
/// # Errors
/// [`BrokerError::Topology`] if they cannot.
pub async fn is_heard(connection: &Connection, declare: bool) -> Result<(), BrokerError> {
    let (channel, consumer) = attach(connection, declare).await?;
    drop(consumer);
    timed(channel.close(200, short("tried"))).await??;
    Ok(())
}

pub(super) fn refused(error: lapin::Error) -> BrokerError {
    if !error.is_amqp_soft_error() {
        return error.into();
    }
    BrokerError::Topology {
        what: format!("exchange {CONTROL_EXCHANGE} cannot be used ({error})"),
        remedy: "run `irn-worker topology apply`, and let the worker's user configure, write and read `irn.control.*`",
    }
}

impl Topology {
    /// Makes sure that there is an exchange to publish orders to, of this name.
    ///
    /// # Errors
    /// [`BrokerError::Topology`] if there is none.
    pub async fn takes_orders(connection: &Connection, exchange: &str) -> Result<(), BrokerError> {
        let asking = async {
            let channel = connection.create_channel().await?;
            let options = ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            };
            let (name, kind) = (short(exchange), ExchangeKind::Fanout);
            channel
                .exchange_declare(name, kind, options, FieldTable::default())
                .await
        };
        timed(asking).await?.map_err(refused)
    }
}
