//! The log of orders: a stream, which every replica reads from its beginning and which keeps what it has told.
//!
//! One rule: whoever reads it knows when he has read all there was. A stream does not tell where it ends, so the reader
//! writes a mark of its own to the end and reads up to that; only whoever may not write waits until nothing more comes,
//! and cannot be sure.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, Connection, Consumer};
use tokio::time::Instant;

use super::connection::timed;
use super::control::Heard;
use super::{BrokerError, Topology};
use crate::job::{Properties, long, set, short};
use crate::retry::Backoffs;

/// Where orders are published that replicas have to know that start later, and the stream that keeps them.
pub const CONTROL_LOG: &str = "irn.control.log";

/// The type of a mark; an order's is another.
const MARK: &str = "irn.control.mark.v1";

/// A stream hands out no more than this unacknowledged.
const PREFETCH: u16 = 256;

/// A reader that may not write takes so long a silence for the end: a stream that is there answers within a few
/// milliseconds.
const SILENCE: Duration = Duration::from_secs(1);

/// A log that is not there or forbidden for so long is done without. A broker that has just started refuses it for a moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same for a log that is there and cannot be read now, as that of a stream without a leader: pauses may be in it.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// Each look for a log that is not there costs the broker a channel and a line in its log.
const FIRST_LOOK_AGAIN: Duration = Duration::from_millis(200);
const SLOWEST_LOOK_AGAIN: Duration = Duration::from_secs(30);

/// A reading that held this long starts the delays anew.
const HELD: Duration = Duration::from_secs(10);

/// What is known of the log between two readings.
#[derive(Debug)]
pub(super) struct LogWatch {
    again: Backoffs,
    due: Instant,
    opened: Instant,
    /// Since when it is looked for in vain.
    missed_since: Option<Instant>,
    told: bool,
    given_up: bool,
}

impl Default for LogWatch {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            again: Backoffs::new(FIRST_LOOK_AGAIN, SLOWEST_LOOK_AGAIN),
            due: now,
            opened: now,
            missed_since: None,
            told: false,
            given_up: false,
        }
    }
}

impl LogWatch {
    /// Whether it is not to be looked for any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// There is a connection to read it over.
    pub(super) fn connected(&mut self, now: Instant) {
        self.due = now;
        self.missed_since.get_or_insert(now);
    }

    /// Ends when it is to be opened.
    pub(super) async fn is_due(&self) {
        if self.given_up {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(self.due).await;
    }

    /// The reading was cut off. It begins anew, because nothing tells what a stream that was restored still holds.
    pub(super) fn lost(&mut self) {
        if self.opened.elapsed() >= HELD {
            self.again.reset();
        }
        self.due = Instant::now() + self.again.next_delay();
    }

    /// Its reading has begun, or could not. An error: the connection is of no use.
    pub(super) fn opened(
        &mut self,
        opened: Result<Log, BrokerError>,
        heed: &mut impl FnMut(Heard<'_>),
    ) -> Result<Option<Log>, ()> {
        match opened {
            Ok(log) => {
                self.missed_since = None;
                self.opened = Instant::now();
                heed(Heard::LogBegins);
                Ok(Some(log))
            }
            // A stream that does not answer says nothing of the connection, which has heartbeats.
            Err(error @ (BrokerError::Topology { .. } | BrokerError::Timeout(_))) => {
                self.missed(&error, heed);
                Ok(None)
            }
            Err(error) => {
                self.missed(&error, heed);
                Err(())
            }
        }
    }

    fn missed(&mut self, error: &BrokerError, heed: &mut impl FnMut(Heard<'_>)) {
        let now = Instant::now();
        self.due = now + self.again.next_delay();
        let since = *self.missed_since.get_or_insert(now);
        // What is forbidden stays so; what is not there may come, with the broker's node or with `topology apply`.
        self.given_up = is_forbidden(error);
        if (self.given_up || now - since >= patience(error)) && !self.told {
            self.told = true;
            heed(Heard::NoLog(error));
        }
    }
}

/// A reading of the log.
pub(super) struct Log {
    /// To be kept: without it the consumer ends.
    _channel: Channel,
    consumer: Consumer,
    /// What it has to come to. Gone when it has been read.
    unread: Option<Unread>,
}

struct Unread {
    mark: String,
    /// The end, if nothing comes before and the mark could not be written.
    silent_at: Option<Instant>,
}

impl Log {
    /// Begins to read it, if that is possible.
    pub(super) async fn open(
        connection: &Connection,
        declared: Option<&Topology>,
    ) -> Result<Self, BrokerError> {
        timed(Self::attach(connection, declared)).await?
    }

    async fn attach(
        connection: &Connection,
        declared: Option<&Topology>,
    ) -> Result<Self, BrokerError> {
        // Whoever may not declare it may read it all the same.
        let declared = match declared {
            Some(topology) => topology.apply_control_log(connection).await,
            None => Ok(()),
        };
        let channel = connection.create_channel().await?;
        let consuming = consume(&channel).await.map_err(unreadable);
        let consumer = consuming.or_else(|error| declared.and(Err(error)))?;
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let is_written = write_mark(connection, &mark).await?;
        Ok(Self {
            _channel: channel,
            consumer,
            unread: Some(Unread {
                mark,
                silent_at: (!is_written).then(|| Instant::now() + SILENCE),
            }),
        })
    }

    /// Tells what comes until it ends. Dropped in between, it goes on where it was.
    pub(super) async fn read_on(&mut self, heed: &mut impl FnMut(Heard<'_>)) {
        loop {
            let silent_at = self.unread.as_ref().and_then(|unread| unread.silent_at);
            let delivery = tokio::select! {
                delivery = self.consumer.next() => delivery,
                () = at(silent_at) => {
                    self.has_read_all(false, heed);
                    continue;
                }
            };
            let Some(Ok(delivery)) = delivery else {
                return;
            };
            self.read(&delivery, heed);
            // Or it would hand out no more. One that is not sent is made up for by the next.
            let options = BasicAckOptions { multiple: true };
            drop(delivery.acker.ack(options).await);
        }
    }

    fn read(&mut self, delivery: &lapin::message::Delivery, heed: &mut impl FnMut(Heard<'_>)) {
        let kind = delivery.properties.kind().as_ref();
        if kind.is_none_or(|kind| kind.as_str() != MARK) {
            heed(Heard::Logged(&delivery.data));
        }
        let Some(unread) = &mut self.unread else {
            return;
        };
        if unread.mark.as_bytes() == delivery.data {
            self.has_read_all(true, heed);
        } else if let Some(silent_at) = &mut unread.silent_at {
            *silent_at = Instant::now() + SILENCE;
        }
    }

    fn has_read_all(&mut self, is_sure: bool, heed: &mut impl FnMut(Heard<'_>)) {
        self.unread = None;
        heed(Heard::LogRead { is_sure });
    }
}

/// Writes the mark. False if that is refused, or leads nowhere.
#[expect(
    clippy::disallowed_methods,
    reason = "no job: a mark, whose confirmation is waited for here"
)]
async fn write_mark(connection: &Connection, mark: &str) -> Result<bool, BrokerError> {
    // Of its own, because whoever may not write loses it.
    let speaker = connection.create_channel().await?;
    let properties = Properties::default().with_type(short(MARK));
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let writing = async {
        speaker
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let (exchange, key) = (short(CONTROL_LOG), short(""));
        let written = speaker.basic_publish(exchange, key, options, mark.as_bytes(), properties);
        written.await?.await
    };
    match timed(writing).await? {
        Ok(Confirmation::Ack(returned)) => Ok(returned.is_none()),
        Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => Err(BrokerError::Topology {
            what: format!("stream {CONTROL_LOG} does not take what is written to it"),
            remedy: "see the broker's log; it is tried again",
        }),
        Err(error) if error.is_amqp_soft_error() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn consume(channel: &Channel) -> lapin::Result<Consumer> {
    // A stream is not consumed without.
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let mut from = FieldTable::default();
    set(&mut from, "x-stream-offset", long("first"));
    let options = BasicConsumeOptions::default();
    channel
        .basic_consume(short(CONTROL_LOG), short(""), options, from)
        .await
}

async fn at(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

fn unreadable(error: lapin::Error) -> BrokerError {
    if !error.is_amqp_soft_error() {
        return error.into();
    }
    BrokerError::Topology {
        what: format!("stream {CONTROL_LOG} cannot be read ({error})"),
        remedy: "run `irn-worker topology apply`, and let the worker's user read `irn.control.*`",
    }
}

fn patience(error: &BrokerError) -> Duration {
    let is_missing = match error {
        BrokerError::Topology { what, .. } => what.contains("NOT_FOUND"),
        BrokerError::Lost(_)
        | BrokerError::Malformed
        | BrokerError::Timeout(_)
        | BrokerError::Refused { .. }
        | BrokerError::Blocked => false,
    };
    match is_missing || is_forbidden(error) {
        true => PATIENCE,
        false => LONG_PATIENCE,
    }
}

/// Whether the broker has refused it for want of permission.
fn is_forbidden(error: &BrokerError) -> bool {
    match error {
        BrokerError::Topology { what, .. } => what.contains("ACCESS_REFUSED"),
        BrokerError::Lost(_)
        | BrokerError::Malformed
        | BrokerError::Timeout(_)
        | BrokerError::Refused { .. }
        | BrokerError::Blocked => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_that_is_there_is_waited_for_much_longer_than_one_that_is_not() {
        let error = |why: &str| BrokerError::Topology {
            what: format!("stream {CONTROL_LOG} cannot be read ({why})"),
            remedy: "none",
        };
        for why in ["NOT_FOUND - no queue", "ACCESS_REFUSED - read access"] {
            assert_eq!(patience(&error(why)), PATIENCE, "{why}");
        }
        assert_eq!(patience(&error("PRECONDITION_FAILED")), LONG_PATIENCE);
    }
}
