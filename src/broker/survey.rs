//! How the exchanges and queues that are there differ from those that there should be, as far as AMQP tells.
//!
//! One rule: a survey takes and leaves no message. The broker compares some arguments only, and knows of no policy when
//! it does: [`super::Management`] tells all.

use futures_util::StreamExt as _;
use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ExchangeDeclareOptions,
    QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, Event, ExchangeKind};

use super::connection::timed;
use super::topology::{Exchange, JOBS_EXCHANGE, Queue, Topology, table};
use super::{BrokerError, Endpoint};
use crate::job::{Properties, long, set, short};

/// What kind of thing a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
        }
    }
}

/// One exchange or queue that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Which of the two.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// In which way.
    pub how: How,
}

/// In which way something is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It is not there.
    Missing,
    /// It does not survive a restart of the broker.
    NotDurable,
    /// One of its arguments; the type counts as one, and so does what a policy sets.
    Argument {
        /// `x-message-ttl`, or `type` of an exchange.
        name: String,
        /// What it should be; none: it should not be set.
        expected: Option<String>,
        /// What it is.
        seen: Option<String>,
        /// The policy that has set it, if it was one.
        policy: Option<String>,
    },
    /// It is bound to an exchange in a way that nobody expects.
    Bound {
        /// The exchange.
        exchange: String,
        /// The routing key, or a pattern; empty for a fanout.
        key: String,
        /// Both are the worker's own: what goes there goes to the wrong place, or to two.
        among_own: bool,
    },
    /// Nothing comes to the queue from this exchange under this key.
    Unbound {
        /// The exchange.
        exchange: String,
        /// The routing key; empty for a fanout.
        key: String,
    },
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// What is not as it should be.
    pub deviations: Vec<Deviation>,
    /// What is there, but could not be compared, because this user may not declare it.
    pub uncompared: Vec<String>,
}

/// What came of one declaration.
enum Declared {
    AsExpected,
    Missing,
    Differs(Vec<How>),
    Forbidden,
}

impl Topology {
    /// Compares what is there with what should be. With `declare`, what is missing is declared and bound.
    ///
    /// # Errors
    /// When the broker is lost; never for what is found.
    pub async fn survey(
        &self,
        connection: &Connection,
        declare: bool,
    ) -> Result<Survey, BrokerError> {
        let mut survey = Survey::default();
        for exchange in &self.exchanges {
            let found = look_at_exchange(connection, exchange, declare).await?;
            survey.note(Kind::Exchange, &exchange.name, found);
        }
        for queue in &self.queues {
            let found = look_at_queue(connection, queue, declare).await?;
            survey.note(Kind::Queue, &queue.name, found);
        }
        Ok(survey)
    }

    /// The exchanges that a worker publishes to and this user may not, each with the broker's reason. Tried in a
    /// transaction that is rolled back.
    ///
    /// # Errors
    /// When the broker is lost, or [`BrokerError::Blocked`]: then it answers nothing more on this connection.
    pub async fn unwritable(
        &self,
        connection: &Connection,
        endpoint: &Endpoint,
    ) -> Result<Vec<(String, String)>, BrokerError> {
        tokio::select! {
            biased;
            () = is_blocked(connection) => Err(BrokerError::Blocked),
            unwritable = self.refused_to_publish(connection, endpoint) => unwritable,
        }
    }

    async fn refused_to_publish(
        &self,
        connection: &Connection,
        endpoint: &Endpoint,
    ) -> Result<Vec<(String, String)>, BrokerError> {
        let rungs = self.queues.iter().map(|queue| queue.name.as_str());
        let rungs = rungs.filter(|name| name.starts_with("irn.retry."));
        let mut unwritable = Vec::new();
        for exchange in ["", JOBS_EXCHANGE].into_iter().chain(rungs) {
            // Told of where it is missed. Asked first: a publish to none costs the channel, and often the reason with it.
            if !exchange.is_empty() && !has_exchange(connection, exchange).await? {
                continue;
            }
            match publishing(connection, exchange, endpoint.signed_as()).await? {
                Ok(()) => {}
                // Deleted in between.
                Err(error) if is_not_found(&error) => {}
                Err(error) if error.is_amqp_soft_error() => {
                    let name = if exchange.is_empty() {
                        "amq.default"
                    } else {
                        exchange
                    };
                    unwritable.push((name.to_owned(), error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(unwritable)
    }
}

impl Survey {
    fn note(&mut self, kind: Kind, name: &str, found: Declared) {
        let ways = match found {
            Declared::AsExpected => return,
            Declared::Forbidden => return self.uncompared.push(name.to_owned()),
            Declared::Missing => vec![How::Missing],
            Declared::Differs(ways) => ways,
        };
        let deviation = |how| Deviation {
            kind,
            name: name.to_owned(),
            how,
        };
        self.deviations.extend(ways.into_iter().map(deviation));
    }
}

/// Ends when the broker says that it takes nothing that is published: it says so to the first who tries.
async fn is_blocked(connection: &Connection) {
    let mut events = Box::pin(connection.events_listener());
    while let Some(event) = events.next().await {
        if matches!(event, Event::ConnectionBlocked(_)) {
            return;
        }
    }
    std::future::pending().await
}

/// Whether a queue may be read; none where asking could take a job: one waits, or consumers
/// have jobs under way, and would see one again out of turn. A job that comes in between goes back.
///
/// # Errors
/// When the broker is lost.
pub async fn is_readable(
    connection: &Connection,
    queue: &str,
) -> Result<Option<bool>, BrokerError> {
    let channel = timed(connection.create_channel()).await??;
    let asked = channel.queue_declare(short(queue), passive_queue(), FieldTable::default());
    match timed(asked).await? {
        Ok(queue) if queue.message_count() == 0 && queue.consumer_count() == 0 => {}
        Ok(_) => return Ok(None),
        Err(error) if error.is_amqp_soft_error() => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    match timed(channel.basic_get(short(queue), BasicGetOptions::default())).await? {
        Ok(None) => Ok(Some(true)),
        Ok(Some(taken)) => {
            let back = BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            };
            timed(taken.delivery.acker.nack(back)).await??;
            Ok(Some(true))
        }
        Err(error) if error.is_amqp_soft_error() => Ok(Some(false)),
        Err(error) => Err(error.into()),
    }
}

async fn look_at_exchange(
    connection: &Connection,
    exchange: &Exchange,
    declare: bool,
) -> Result<Declared, BrokerError> {
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let ask = async |channel: Channel, options, arguments| {
        let (name, kind) = (short(&exchange.name), exchange.kind.clone());
        channel
            .exchange_declare(name, kind, options, arguments)
            .await
    };
    let there = timed(async {
        let channel = connection.create_channel().await?;
        ask(channel, passive, FieldTable::default()).await
    });
    let is_there = is_there(there.await?)?;
    if !is_there && !declare {
        return Ok(Declared::Missing);
    }
    let compared = timed(async {
        let channel = connection.create_channel().await?;
        ask(channel, durable, table(&exchange.arguments)).await
    });
    compared_as(is_there, compared.await?)
}

async fn look_at_queue(
    connection: &Connection,
    queue: &Queue,
    declare: bool,
) -> Result<Declared, BrokerError> {
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let ask = async |channel: Channel, options, arguments| {
        let asked = channel.queue_declare(short(&queue.name), options, arguments);
        asked.await.map(drop)
    };
    let there = timed(async {
        let channel = connection.create_channel().await?;
        ask(channel, passive_queue(), FieldTable::default()).await
    });
    let is_there = is_there(there.await?)?;
    if !is_there && !declare {
        return Ok(Declared::Missing);
    }
    // The broker names one difference at a time: asked with what it has named, it names the next.
    let mut arguments = table(&queue.arguments);
    let mut ways = Vec::new();
    loop {
        let compared = timed(async {
            let channel = connection.create_channel().await?;
            ask(channel, durable, arguments.clone()).await
        });
        match compared_as(is_there, compared.await?)? {
            Declared::Differs(more) => {
                let goes_on = more.iter().all(|how| adopt(how, &mut arguments));
                let known = more.iter().any(|how| {
                    argument_of(how).is_some_and(|name| {
                        ways.iter().any(|known| argument_of(known) == Some(name))
                    })
                });
                if !known {
                    ways.extend(more);
                }
                if known || !goes_on {
                    return Ok(Declared::Differs(ways));
                }
            }
            found if ways.is_empty() => return Ok(found),
            Declared::AsExpected | Declared::Missing | Declared::Forbidden => {
                return Ok(Declared::Differs(ways));
            }
        }
    }
}

fn argument_of(how: &How) -> Option<&str> {
    match how {
        How::Argument { name, .. } => Some(name),
        How::Missing | How::NotDurable | How::Bound { .. } | How::Unbound { .. } => None,
    }
}

/// Takes what there is in place of what should be; false if that cannot be, or changes nothing.
fn adopt(how: &How, arguments: &mut FieldTable) -> bool {
    let How::Argument { name, seen, .. } = how else {
        return false;
    };
    let mut adopted = FieldTable::default();
    for (key, value) in arguments.inner() {
        if key.as_str() != name {
            adopted.insert(key.clone(), value.clone());
        }
    }
    // The default is not what a queue says of itself.
    if let Some(seen) = seen
        .as_ref()
        .filter(|seen| default_of(name).as_ref() != Some(*seen))
    {
        let number = seen.parse().map(AMQPValue::LongLongInt);
        set(&mut adopted, name, number.unwrap_or_else(|_| long(seen)));
    }
    let changes = adopted != *arguments;
    *arguments = adopted;
    changes
}

/// Whether there is an exchange of this name. Needs no permission.
async fn has_exchange(connection: &Connection, name: &str) -> Result<bool, BrokerError> {
    let asked = timed(async {
        let channel = connection.create_channel().await?;
        let options = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        // The kind is not compared.
        let kind = ExchangeKind::Fanout;
        channel
            .exchange_declare(short(name), kind, options, FieldTable::default())
            .await?;
        channel.close(200, short("asked")).await
    });
    is_there(asked.await?)
}

fn passive_queue() -> QueueDeclareOptions {
    QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    }
}

fn is_there(asked: lapin::Result<()>) -> Result<bool, BrokerError> {
    match asked {
        Ok(()) => Ok(true),
        Err(error) if error.is_amqp_soft_error() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_not_found(error: &lapin::Error) -> bool {
    const NOT_FOUND: AMQPErrorKind = AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND);
    matches!(error.kind(), ErrorKind::ProtocolError(amqp) if *amqp.kind() == NOT_FOUND)
}

fn compared_as(is_there: bool, declared: lapin::Result<()>) -> Result<Declared, BrokerError> {
    match declared {
        Ok(()) => Ok(Declared::AsExpected),
        Err(error) if error.is_amqp_soft_error() => {
            let text = error.to_string();
            let forbidden = if is_there {
                Declared::Forbidden
            } else {
                Declared::Missing
            };
            Ok(difference(&text).map_or(forbidden, |how| Declared::Differs(vec![how])))
        }
        Err(error) => Err(error.into()),
    }
}

/// What the broker says is different: `inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '1' but
/// current is '2'`, or `received the value '1' of type 'signedint' but current is none`.
fn difference(text: &str) -> Option<How> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (name, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("received ")?;
    let (received, current) = rest.split_once(" but current is ")?;
    if name == "durable" {
        return Some(How::NotDurable);
    }
    Some(How::Argument {
        name: name.to_owned(),
        expected: first_quoted(received),
        seen: first_quoted(current).or_else(|| default_of(name)),
        policy: None,
    })
}

/// What a queue is that does not say.
fn default_of(argument: &str) -> Option<String> {
    (argument == "x-queue-type").then(|| "classic".to_owned())
}

fn first_quoted(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('\'')?;
    let (value, _) = rest.split_once('\'')?;
    Some(value.to_owned())
}

/// Where the channel is closing already when the rollback is asked for, the reason is lost with it: asked again.
async fn publishing(
    connection: &Connection,
    exchange: &str,
    signed_as: Option<&str>,
) -> Result<lapin::Result<()>, BrokerError> {
    const TRIES: usize = 20;
    let mut tried = Ok(());
    for _ in 0..TRIES {
        tried = timed(try_to_publish(connection, exchange, signed_as)).await?;
        let is_lost = |error: &lapin::Error| {
            matches!(error.kind(), ErrorKind::InvalidChannelState(..))
                && connection.status().connected()
        };
        if !tried.as_ref().is_err_and(is_lost) {
            break;
        }
    }
    Ok(tried)
}

/// The broker judges a publish in a transaction at once, and does nothing else with it before the commit.
#[expect(
    clippy::disallowed_methods,
    reason = "rolled back: it asks whether it would be permitted, and nothing is published"
)]
async fn try_to_publish(
    connection: &Connection,
    exchange: &str,
    signed_as: Option<&str>,
) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    channel.tx_select().await?;
    let mut properties = Properties::default();
    if let Some(user) = signed_as {
        properties = properties.with_user_id(short(user));
    }
    let options = BasicPublishOptions::default();
    let trying = channel.basic_publish(short(exchange), short(""), options, b"", properties);
    drop(trying.await?);
    channel.tx_rollback().await?;
    channel.close(200, short("tried")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_read_from_what_the_broker_says() {
        let argument = |name: &str, expected: Option<&str>, seen: Option<&str>| How::Argument {
            name: name.to_owned(),
            expected: expected.map(str::to_owned),
            seen: seen.map(str::to_owned),
            policy: None,
        };
        for (text, how) in [
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'irn.retry.15s' in vhost '/': received '15000' but current is '20000'",
                Some(argument("x-message-ttl", Some("15000"), Some("20000"))),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'irn.jobs' in vhost 'v': received the value 'irn.poison' of type 'longstr' but current is none",
                Some(argument("x-dead-letter-exchange", Some("irn.poison"), None)),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue 'irn.jobs' in vhost 'v': received none but current is the value '60000' of type 'signedint'",
                Some(argument("x-expires", None, Some("60000"))),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'irn.jobs' in vhost 'v': received 'true' but current is 'false'",
                Some(How::NotDurable),
            ),
            (
                "ACCESS_REFUSED - access to queue 'irn.jobs' in vhost 'v' refused for user 'u'",
                None,
            ),
        ] {
            assert_eq!(difference(text), how, "{text}");
        }
    }
}
