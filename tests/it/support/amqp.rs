//! What an ERP does on the broker: publish jobs, take results, look into queues.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
    ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    Acker, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{eventually, published};

const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A job to publish to the exchange `irn.jobs`.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    key: String,
    body: Vec<u8>,
    properties: BasicProperties,
    headers: FieldTable,
}

impl Job {
    /// A job with this routing key and body, and no property but persistence.
    pub(crate) fn new(key: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.to_owned(),
            body: body.into(),
            properties: BasicProperties::default().with_delivery_mode(2),
            headers: FieldTable::default(),
        }
    }

    /// A `generate` job with a job id.
    pub(crate) fn generate(id: &str, document: impl Into<Vec<u8>>) -> Self {
        Self::new("generate", document).id(id)
    }

    /// A `cancel`, `get` or `ewb` job in the name of a GSTIN.
    pub(crate) fn about(operation: &str, id: &str, gstin: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(operation, body)
            .id(id)
            .text_header("x-irn-gstin", gstin)
    }

    /// A `cancel` job.
    pub(crate) fn cancel(id: &str, gstin: &str, irn: &str) -> Self {
        let body = format!(r#"{{"Irn":"{irn}","CnlRsn":"2","CnlRem":"Wrong entry"}}"#);
        Self::about("cancel", id, gstin, body)
    }

    /// A `get` job by IRN.
    pub(crate) fn get(id: &str, gstin: &str, irn: &str) -> Self {
        Self::about("get", id, gstin, format!(r#"{{"Irn":"{irn}"}}"#))
    }

    /// An `ewb` job: by road, over a distance that the portal computes.
    pub(crate) fn eway_bill(id: &str, gstin: &str, irn: &str) -> Self {
        let body = format!(
            r#"{{"Irn":"{irn}","Distance":0,"TransMode":"1","VehNo":"KA01AB1234","VehType":"R"}}"#
        );
        Self::about("ewb", id, gstin, body)
    }

    pub(crate) fn id(self, id: &str) -> Self {
        self.with(|p| p.with_message_id(id.into()))
    }

    /// Whom it says it is from; the broker takes it from that user only.
    pub(crate) fn user_id(self, user: &str) -> Self {
        self.with(|p| p.with_user_id(user.into()))
    }

    pub(crate) fn correlation_id(self, id: &str) -> Self {
        self.with(|p| p.with_correlation_id(id.into()))
    }

    pub(crate) fn reply_to(self, queue: &str) -> Self {
        self.with(|p| p.with_reply_to(queue.into()))
    }

    /// When the ERP published it, seconds since 1970.
    pub(crate) fn timestamp(self, seconds: u64) -> Self {
        self.with(|p| p.with_timestamp(seconds))
    }

    /// How many milliseconds it stays in a queue at most.
    pub(crate) fn expiration(self, millis: u64) -> Self {
        self.with(|p| p.with_expiration(millis.to_string().into()))
    }

    /// The `type` property.
    pub(crate) fn kind(self, kind: &str) -> Self {
        self.with(|p| p.with_type(kind.into()))
    }

    pub(crate) fn content_type(self, content_type: &str) -> Self {
        self.with(|p| p.with_content_type(content_type.into()))
    }

    pub(crate) fn header(mut self, name: &str, value: AMQPValue) -> Self {
        self.headers.insert(name.into(), value);
        self
    }

    pub(crate) fn text_header(self, name: &str, value: &str) -> Self {
        self.header(name, AMQPValue::LongString(value.into()))
    }

    /// The message body.
    pub(crate) fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { body, ..self }
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    fn with(mut self, change: impl FnOnce(BasicProperties) -> BasicProperties) -> Self {
        self.properties = change(self.properties);
        self
    }
}

/// A message taken from a queue.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
    /// Handed out before, to somebody who did not acknowledge it.
    pub(crate) redelivered: bool,
}

impl Message {
    /// # Errors
    /// It is a result, and not such a one as docs/schema/ describes.
    fn new(delivery: Delivery) -> Result<Self> {
        published::ensure_as_described(&delivery.properties, &delivery.data)?;
        Ok(Self {
            properties: delivery.properties,
            body: delivery.data,
            redelivered: delivery.redelivered,
        })
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("a result that is not JSON")
    }

    pub(crate) fn correlation_id(&self) -> &str {
        self.properties
            .correlation_id()
            .as_ref()
            .map_or("", |id| id.as_str())
    }

    /// A header as text, whatever its AMQP type.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value = self.properties.headers().as_ref()?.inner().get(name)?;
        Some(match value {
            AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
            AMQPValue::ShortString(text) => text.as_str().to_owned(),
            AMQPValue::LongLongInt(n) => n.to_string(),
            AMQPValue::LongInt(n) => n.to_string(),
            AMQPValue::LongUInt(n) => n.to_string(),
            AMQPValue::ShortInt(n) => n.to_string(),
            AMQPValue::ShortUInt(n) => n.to_string(),
            AMQPValue::Boolean(b) => b.to_string(),
            other => format!("{other:?}"),
        })
    }
}

/// A connection of the ERP's own.
#[derive(Debug)]
pub(crate) struct Amqp {
    connection: Connection,
    channel: Channel,
}

impl Amqp {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .context("connecting to the broker")?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            connection,
            channel,
        })
    }

    /// Publishes jobs to `irn.jobs`, mandatory, and waits until the broker has confirmed every one.
    pub(crate) async fn publish(&self, jobs: &[Job]) -> Result<()> {
        let mut confirms = Vec::with_capacity(jobs.len());
        for job in jobs {
            confirms.push(self.send("irn.jobs", &job.key, job).await?);
        }
        for confirm in confirms {
            match confirm.await? {
                Confirmation::Ack(None) => {}
                unwelcome => bail!("a job was not taken: {unwelcome:?}"),
            }
        }
        Ok(())
    }

    /// Publishes to a rung, as a worker does that lets a job wait.
    pub(crate) async fn publish_onto(&self, rung: &str, job: &Job) -> Result<()> {
        match self.send(rung, &job.key, job).await?.await? {
            Confirmation::Ack(None) => Ok(()),
            unwelcome => bail!("rung {rung} did not take a message: {unwelcome:?}"),
        }
    }

    /// Publishes straight into a queue, past the exchange.
    pub(crate) async fn publish_into(&self, queue: &str, job: &Job) -> Result<()> {
        match self.send("", queue, job).await?.await? {
            Confirmation::Ack(None) => Ok(()),
            unwelcome => bail!("queue {queue} did not take a message: {unwelcome:?}"),
        }
    }

    /// Publishes many straight into a queue and waits until the broker has confirmed every one.
    pub(crate) async fn publish_all_into(&self, queue: &str, jobs: &[Job]) -> Result<()> {
        for jobs in jobs.chunks(500) {
            let mut confirms = Vec::with_capacity(jobs.len());
            for job in jobs {
                confirms.push(self.send("", queue, job).await?);
            }
            for confirm in confirms {
                match confirm.await? {
                    Confirmation::Ack(None) => {}
                    unwelcome => bail!("queue {queue} did not take a message: {unwelcome:?}"),
                }
            }
        }
        Ok(())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the tests' own publisher: all callers look at the confirm"
    )]
    async fn send(
        &self,
        exchange: &str,
        key: &str,
        job: &Job,
    ) -> Result<impl Future<Output = lapin::Result<Confirmation>> + use<>> {
        let properties = job.properties.clone().with_headers(job.headers.clone());
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        Ok(self
            .channel
            .basic_publish(exchange.into(), key.into(), options, &job.body, properties)
            .await?)
    }

    /// Binds a queue to an exchange.
    pub(crate) async fn bind(&self, exchange: &str, queue: &str, key: &str) -> Result<()> {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let binding = self.channel.queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            options,
            arguments,
        );
        answered(binding).await
    }

    /// Takes the binding away again.
    pub(crate) async fn unbind(&self, exchange: &str, queue: &str, key: &str) -> Result<()> {
        let unbinding = self.channel.queue_unbind(
            queue.into(),
            exchange.into(),
            key.into(),
            FieldTable::default(),
        );
        answered(unbinding).await
    }

    /// Declares a durable reply queue, as an ERP does for its `reply_to`.
    pub(crate) async fn declare(&self, queue: &str) -> Result<()> {
        let options = QueueDeclareOptions::durable();
        self.channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await?;
        Ok(())
    }

    /// Takes exactly `count` messages off a queue.
    ///
    /// # Errors
    /// When fewer have come by the deadline; the error says how many.
    pub(crate) async fn take(
        &self,
        queue: &str,
        count: usize,
        deadline: Duration,
    ) -> Result<Vec<Message>> {
        let mut taken = Vec::with_capacity(count);
        match timeout(deadline, self.take_into(&mut taken, queue, count)).await {
            Ok(ended) => ended?,
            Err(_elapsed) => {
                bail!(
                    "{} of {count} messages were in {queue} after {deadline:?}",
                    taken.len()
                )
            }
        }
        Ok(taken)
    }

    async fn take_into(&self, taken: &mut Vec<Message>, queue: &str, count: usize) -> Result<()> {
        // A channel of its own: closing it gives back what was prefetched beyond `count`.
        let channel = self.connection.create_channel().await?;
        let options = BasicConsumeOptions::default();
        let mut consumer = channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await?;
        while taken.len() < count {
            let delivery = consumer
                .next()
                .await
                .context("the consumer was cancelled")??;
            if taken.len() + 1 == count {
                // All at once: of many single ones the broker may still hold some back when the channel closes.
                let options = BasicAckOptions { multiple: true };
                ensure!(delivery.acker.ack(options).await?, "an ack was not sent");
            }
            taken.push(Message::new(delivery)?);
        }
        channel.close(200, "done".into()).await?;
        Ok(())
    }

    /// Takes messages off a queue until `enough` says so.
    ///
    /// # Errors
    /// When the consumer or the connection is lost, or `enough` fails.
    pub(crate) async fn take_until(
        &self,
        queue: &str,
        mut enough: impl FnMut(Message) -> Result<bool>,
    ) -> Result<()> {
        let mut arrivals = self.arrivals(queue).await?;
        loop {
            let (message, acker) = arrivals.receive().await?;
            let done = enough(message)?;
            acknowledge(&acker).await?;
            if done {
                answered(arrivals.channel.close(200, "done".into())).await?;
                return Ok(());
            }
        }
    }

    /// A queue's messages as they come.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn arrivals(&self, queue: &str) -> Result<Arrivals> {
        let channel = answered(self.connection.create_channel()).await?;
        let consuming = channel.basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = answered(consuming).await?;
        Ok(Arrivals {
            queue: queue.to_owned(),
            channel,
            consumer,
        })
    }

    /// Takes all that a queue holds now.
    pub(crate) async fn drain(&self, queue: &str) -> Result<Vec<Message>> {
        let mut taken = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(got) = self.channel.basic_get(queue.into(), options).await? {
            taken.push(Message::new(got.delivery)?);
        }
        Ok(taken)
    }

    /// Waits until no job is left in any of the worker's job queues and these rungs; what is being worked on is not
    /// seen here.
    pub(crate) async fn until_no_job_waits(
        &self,
        rungs: &[&str],
        deadline: Duration,
    ) -> Result<()> {
        eventually(deadline, "all job queues to be empty", async || {
            for queue in job_queues(rungs) {
                let depth = self.depth(&queue).await?;
                ensure!(depth == 0, "{queue} holds {depth}");
            }
            Ok(Some(()))
        })
        .await
    }

    /// How many jobs the worker's job queues and these rungs hold together.
    pub(crate) async fn jobs_waiting(&self, rungs: &[&str]) -> Result<u32> {
        let mut waiting = 0;
        for queue in job_queues(rungs) {
            waiting += self.depth(&queue).await?;
        }
        Ok(waiting)
    }

    /// Takes the first message of a queue and gives it back, as a consumer that died would: the next one to see it
    /// is told that it is redelivered.
    pub(crate) async fn hand_back_first(&self, queue: &str) -> Result<()> {
        let options = BasicGetOptions { no_ack: false };
        let got = self.channel.basic_get(queue.into(), options).await?;
        let got = got.with_context(|| format!("queue {queue} is empty"))?;
        let options = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        ensure!(
            got.delivery.acker.nack(options).await?,
            "a nack was not sent"
        );
        Ok(())
    }

    /// How many messages of a queue are ready for a consumer; those delivered and not acknowledged do not count.
    ///
    /// # Errors
    /// When the queue does not exist.
    pub(crate) async fn depth(&self, queue: &str) -> Result<u32> {
        // A channel of its own: asking for a queue that does not exist closes the channel.
        let channel = answered(self.connection.create_channel()).await?;
        let options = QueueDeclareOptions::durable().passive();
        let declared =
            answered(channel.queue_declare(queue.into(), options, FieldTable::default())).await?;
        answered(channel.close(200, "done".into())).await?;
        Ok(declared.message_count())
    }
}

/// A queue's messages, one after the other: see [`Amqp::arrivals`]. [`Amqp::take`] opens a channel and a consumer each
/// time, which a time that is measured would include. What has come and was not taken goes back with the channel.
#[derive(Debug)]
pub(crate) struct Arrivals {
    queue: String,
    channel: Channel,
    consumer: Consumer,
}

impl Arrivals {
    /// The next message, and how long it took to come since `published`; it is acknowledged.
    ///
    /// # Errors
    /// When none comes within `deadline`, or the consumer or the connection is lost.
    pub(crate) async fn next_since(
        &mut self,
        published: Instant,
        deadline: Duration,
    ) -> Result<(Message, Duration)> {
        let received = timeout(deadline, self.receive()).await;
        let (message, acker) = received
            .with_context(|| format!("nothing was in {} after {deadline:?}", self.queue))??;
        let took = published.elapsed();
        acknowledge(&acker).await?;
        Ok((message, took))
    }

    async fn receive(&mut self) -> Result<(Message, Acker)> {
        let next = self.consumer.next().await;
        let delivery = next.context("the consumer was cancelled")??;
        let acker = delivery.acker.clone();
        Ok((Message::new(delivery)?, acker))
    }
}

async fn acknowledge(acker: &Acker) -> Result<()> {
    let acked = answered(acker.ack(BasicAckOptions::default())).await?;
    ensure!(acked, "an ack was not sent");
    Ok(())
}

fn job_queues(rungs: &[&str]) -> Vec<String> {
    let rungs = rungs.iter().map(|rung| format!("irn.retry.{rung}"));
    let queues = ["irn.jobs", "irn.jobs.urgent"].map(str::to_owned);
    queues.into_iter().chain(rungs).collect()
}

/// Waits for an answer of the broker, but not for ever: lapin 4.12 never ends a call that is under way when the
/// connection is lost.
async fn answered<T>(call: impl Future<Output = lapin::Result<T>>) -> Result<T> {
    Ok(timeout(ANSWER_WITHIN, call)
        .await
        .context("the broker did not answer")??)
}
