//! One attachment to the job queues: a connection, a channel and two consumers that live and end together.
//!
//! One rule: the end of the stream is a failure, never quiet. A deleted queue, a `basic.cancel` and a closed channel
//! all look like that.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer, Event};
use tokio_util::sync::CancellationToken;

use super::acks::{Acknowledger, Acks};
use super::connection::timed;
use super::{BrokerError, Endpoint, JOBS_QUEUE, Topology, URGENT_QUEUE};
use crate::job::{Properties, short};

type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// So many deliveries of the urgent queue are taken in a row while others wait.
const URGENT_IN_A_ROW: u32 = 7;

/// Attached to the job queues.
pub struct Attached {
    connection: Connection,
    channel: Channel,
    urgent: Option<Consumer>,
    jobs: Option<Consumer>,
    events: Events,
    acks: Acks,
    lost: CancellationToken,
    /// How many of them were taken last, one after the other.
    urgent_in_a_row: u32,
}

/// Which queues to consume, and how many deliveries at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consuming {
    /// Both job queues, with so many unacknowledged deliveries each.
    Both {
        /// How many.
        prefetch: u16,
    },
    /// The normal queue only, one by one.
    JobsOneByOne,
    /// The urgent queue only, one by one.
    UrgentOneByOne,
    /// No queue: all stays where it is.
    Nothing,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attached(..)")
    }
}

/// A message as the broker handed it out.
pub struct Delivery {
    /// The key it was published with.
    pub routing_key: String,
    /// Handed out before, to somebody who did not acknowledge it.
    pub redelivered: bool,
    /// AMQP properties and headers.
    pub properties: Properties,
    /// The message body.
    pub body: Vec<u8>,
    /// The right to acknowledge it, once.
    pub acknowledger: Acknowledger,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Delivery(..)")
    }
}

/// Why an attachment ended.
#[derive(Debug)]
pub enum Loss {
    /// Connection, channel, consumer or queue is gone.
    Broken(BrokerError),
    /// A message that lapin cannot read tore the connection down: attach again to one queue, one delivery at a time, so
    /// that the broker's delivery limit counts against that message and not against its neighbours.
    Malformed,
}

impl From<BrokerError> for Loss {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Malformed => Self::Malformed,
            BrokerError::Lost(_)
            | BrokerError::Timeout(_)
            | BrokerError::Refused { .. }
            | BrokerError::Blocked
            | BrokerError::Topology { .. } => Self::Broken(error),
        }
    }
}

impl Attached {
    /// Connects, sees to the topology and starts consuming; deliveries of the urgent queue come first, but not always.
    pub async fn open(
        endpoint: &Endpoint,
        topology: &Topology,
        declare: bool,
        consuming: Consuming,
    ) -> Result<Self, BrokerError> {
        let connection = endpoint.connect("consume").await?;
        let opening = async {
            if declare {
                topology.apply(&connection).await?
            } else {
                topology.verify(&connection).await?
            }
            let events: Events = Box::pin(connection.events_listener());
            let channel = connection.create_channel().await?;
            let (urgent, jobs) = consume(&channel, consuming).await?;
            Ok::<_, BrokerError>((channel, urgent, jobs, events))
        };
        let (channel, urgent, jobs, events) = timed(opening).await??;
        Ok(Self {
            connection,
            acks: Acks::of(channel.clone()),
            channel,
            urgent,
            jobs,
            events,
            lost: CancellationToken::new(),
            urgent_in_a_row: 0,
        })
    }

    /// The next delivery, or why there will be none.
    pub async fn next(&mut self) -> Result<Delivery, Loss> {
        loop {
            let jobs_first = self.urgent_in_a_row >= URGENT_IN_A_ROW;
            let (first, second) = if jobs_first {
                (&mut self.jobs, &mut self.urgent)
            } else {
                (&mut self.urgent, &mut self.jobs)
            };
            let (delivery, is_urgent) = tokio::select! {
                biased;
                event = self.events.next() => match event {
                    Some(Event::Error(error)) => return Err(BrokerError::from(error).into()),
                    None => return Err(gone("the connection ended")),
                    Some(_) => continue,
                },
                delivery = next_of(first) => (delivery, !jobs_first),
                delivery = next_of(second) => (delivery, jobs_first),
            };
            self.urgent_in_a_row = if is_urgent {
                self.urgent_in_a_row.saturating_add(1)
            } else {
                0
            };
            return self.received(delivery);
        }
    }

    /// Ends only when the attachment does; deliveries stay where they are.
    pub async fn lost(&mut self) -> Loss {
        loop {
            match self.events.next().await {
                Some(Event::Error(error)) => return BrokerError::from(error).into(),
                None => return gone("the connection ended"),
                Some(_) => {}
            }
        }
    }

    fn received(
        &self,
        delivery: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<Delivery, Loss> {
        match delivery {
            Some(Ok(delivery)) => Ok(self.delivery(delivery)),
            Some(Err(error)) => Err(BrokerError::from(error).into()),
            None => Err(gone(
                "the broker cancelled a consumer; was a queue deleted?",
            )),
        }
    }

    fn delivery(&self, delivery: lapin::message::Delivery) -> Delivery {
        Delivery {
            routing_key: delivery.routing_key.into(),
            redelivered: delivery.redelivered,
            properties: delivery.properties,
            body: delivery.data,
            acknowledger: self.acks.acknowledger(
                delivery.delivery_tag,
                delivery.acker,
                self.lost.clone(),
            ),
        }
    }

    /// Tells the broker to hand out no more, and gives back what it had handed out already and nobody has taken up.
    pub async fn stop_consuming(&mut self) -> Result<Vec<Delivery>, BrokerError> {
        let mut untouched = Vec::new();
        for consumer in [&self.urgent, &self.jobs].into_iter().flatten() {
            let cancelling = self
                .channel
                .basic_cancel(consumer.tag(), BasicCancelOptions::default());
            timed(cancelling).await??;
        }
        let consumers = [self.urgent.take(), self.jobs.take()];
        for mut consumer in consumers.into_iter().flatten() {
            while let Some(Ok(delivery)) = timed(consumer.next()).await? {
                untouched.push(self.delivery(delivery));
            }
        }
        Ok(untouched)
    }

    /// Consumes anew, otherwise, on the same channel: what is under way stays acknowledgeable.
    pub async fn change(&mut self, consuming: Consuming) -> Result<Vec<Delivery>, BrokerError> {
        let untouched = self.stop_consuming().await?;
        (self.urgent, self.jobs) = timed(consume(&self.channel, consuming)).await??;
        Ok(untouched)
    }

    /// Closes the connection in an orderly way; what is still unacknowledged is redelivered.
    pub async fn close(self) -> Result<(), BrokerError> {
        timed(self.connection.close(200, short("worker stops"))).await??;
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.lost.cancel();
    }
}

fn gone(why: &str) -> Loss {
    Loss::Broken(BrokerError::Lost(why.to_owned()))
}

type Consumers = (Option<Consumer>, Option<Consumer>);

async fn consume(channel: &Channel, consuming: Consuming) -> Result<Consumers, BrokerError> {
    let (prefetch, urgent, jobs) = match consuming {
        Consuming::Both { prefetch } => (prefetch, true, true),
        Consuming::JobsOneByOne => (1, false, true),
        Consuming::UrgentOneByOne => (1, true, false),
        Consuming::Nothing => (1, false, false),
    };
    // Before consuming, so that it holds for these consumers; per consumer, because quorum queues know no other.
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await?;
    Ok((
        start(channel, URGENT_QUEUE, urgent).await?,
        start(channel, JOBS_QUEUE, jobs).await?,
    ))
}

async fn start(
    channel: &Channel,
    queue: &str,
    wanted: bool,
) -> Result<Option<Consumer>, BrokerError> {
    if !wanted {
        return Ok(None);
    }
    let options = BasicConsumeOptions::default();
    let consumer = channel
        .basic_consume(short(queue), short(""), options, FieldTable::default())
        .await?;
    Ok(Some(consumer))
}

async fn next_of(
    consumer: &mut Option<Consumer>,
) -> Option<lapin::Result<lapin::message::Delivery>> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}
