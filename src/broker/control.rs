//! Messages to every replica: a fanout exchange, and a queue of each replica's own that goes with it.
//!
//! One rule: control is a convenience. Without it, for want of permission or of the exchange, the work goes on.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer, ExchangeKind};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::connection::timed;
use super::{BrokerError, Endpoint};
use crate::job::{Properties, short};
use crate::retry::Backoffs;

/// Where orders to every replica are published.
pub const CONTROL_EXCHANGE: &str = "irn.control";

const FIRST_RECONNECT: Duration = Duration::from_millis(200);
const SLOWEST_RECONNECT: Duration = Duration::from_secs(5);

/// A channel that ended sooner may have been ended by what was said on it.
const BRIEF: Duration = Duration::from_secs(1);

/// Gives every message that comes to `heed`, whenever the broker is there, for as long as it is waited for. `declare`:
/// whether the exchange is ours to declare.
///
/// Returns when the broker does not permit it, or has no such exchange: then there is no point in asking again.
pub async fn listen(
    endpoint: &Endpoint,
    declare: bool,
    tell: Tell<'_>,
    heed: impl Fn(&[u8]),
) -> BrokerError {
    let mut delays = Backoffs::new(FIRST_RECONNECT, SLOWEST_RECONNECT);
    // Whoever may not write to the exchange loses the channel with the first word, and only listens from then on.
    let mut mute = false;
    loop {
        match endpoint.connect_for_own("control").await {
            Ok(connection) => match attach(&connection, declare).await {
                Ok((channel, mut consumer)) => {
                    delays.reset();
                    let attached = Instant::now();
                    if !mute {
                        say(&channel, tell.greeting).await;
                    }
                    // The end of the stream is the end of the connection, which the worker's own tell of.
                    loop {
                        tokio::select! {
                            delivery = consumer.next() => match delivery {
                                Some(Ok(delivery)) => heed(&delivery.data),
                                Some(Err(_)) | None => break,
                            },
                            Some(word) = tell.words.recv() => if !mute {
                                say(&channel, &word).await;
                            }
                        }
                    }
                    mute |= attached.elapsed() < BRIEF;
                }
                Err(error @ BrokerError::Topology { .. }) => return error,
                Err(BrokerError::Lost(_) | BrokerError::Malformed | BrokerError::Timeout(_)) => {}
            },
            Err(error @ BrokerError::Topology { .. }) => return error,
            Err(BrokerError::Lost(_) | BrokerError::Malformed | BrokerError::Timeout(_)) => {}
        }
        tokio::time::sleep(delays.next_delay()).await;
    }
}

/// What a replica has to tell the others.
#[derive(Debug)]
pub struct Tell<'a> {
    /// Told at the beginning of each connection.
    pub greeting: &'a str,
    /// Told as they come.
    pub words: &'a mut UnboundedReceiver<String>,
}

/// Not confirmed: whoever does not hear it does without.
#[expect(
    clippy::disallowed_methods,
    reason = "no job depends on what replicas tell one another, and a lost word is made up for by each one's share"
)]
async fn say(channel: &Channel, word: &str) {
    let (exchange, options) = (short(CONTROL_EXCHANGE), BasicPublishOptions::default());
    let properties = Properties::default();
    let saying = channel.basic_publish(exchange, short(""), options, word.as_bytes(), properties);
    // An error ends the consumer as well.
    drop(timed(saying).await);
}

/// The channel is to be kept: without it the consumer ends.
async fn attach(
    connection: &Connection,
    declare: bool,
) -> Result<(Channel, Consumer), BrokerError> {
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

/// Makes sure that there is an exchange to publish orders to.
///
/// # Errors
/// [`BrokerError::Topology`] if there is none.
pub async fn takes_orders(connection: &Connection) -> Result<(), BrokerError> {
    let asking = async {
        let channel = connection.create_channel().await?;
        let options = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let (name, kind) = (short(CONTROL_EXCHANGE), ExchangeKind::Fanout);
        channel
            .exchange_declare(name, kind, options, FieldTable::default())
            .await
    };
    timed(asking).await?.map_err(refused)
}

fn refused(error: lapin::Error) -> BrokerError {
    if !error.is_amqp_soft_error() {
        return error.into();
    }
    BrokerError::Topology {
        what: format!("exchange {CONTROL_EXCHANGE} cannot be used ({error})"),
        remedy: "run `irn-worker topology apply`, and let the worker's user configure, write and read `irn.control.*`",
    }
}
