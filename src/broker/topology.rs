//! Exchanges, queues and bindings of contract section 4: what there should be, as data, and two ways to get it.
//!
//! Everything is valid on RabbitMQ 3.10 and on 4.x: quorum queues only and one stream, an explicit delivery limit, no
//! priorities, no global prefetch.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};
use serde_json::{Map, Value, json};

use super::survey::{Deviation, How, Survey};
use super::users::{self, User};
use super::{BrokerError, CONTROL_EXCHANGE, CONTROL_LOG};
use crate::config::{DeadLetterConfig, RepliesConfig, RetryConfig, Rung};
use crate::job::{Operation, long, set, short};

/// Where ERPs publish jobs.
pub const JOBS_EXCHANGE: &str = "irn.jobs";
/// Waiting jobs.
pub const JOBS_QUEUE: &str = "irn.jobs";
/// Waiting jobs that go first.
pub const URGENT_QUEUE: &str = "irn.jobs.urgent";
/// Jobs the worker gave up on.
pub const DEAD_QUEUE: &str = "irn.dead";
/// Deliveries it could not read, and the broker's own net.
pub const POISON_QUEUE: &str = "irn.poison";

/// How often the broker hands a job out before it gives it to `irn.poison`. Attempts do not count towards it (each
/// is a message of its own); crashes and lost connections do.
const JOB_DELIVERY_LIMIT: i64 = 20;

/// For queues whose consumers are not ours. Stated, because RabbitMQ 4 has a default of 20 and drops what exceeds it.
const OTHER_DELIVERY_LIMIT: i64 = 1_000_000;

/// How long an order is kept: longer than any pause lasts.
const CONTROL_LOG_AGE: &str = "32D";

/// Half a million orders: whoever gives more of them within a month is no operator.
const CONTROL_LOG_BYTES: i64 = 64 << 20;

/// What is too old goes by whole segments, and the last one always stays.
const CONTROL_LOG_SEGMENT_BYTES: i64 = 1 << 20;

/// The exchange (and queue) of a rung.
pub fn retry_exchange(rung: &Rung) -> String {
    format!("irn.retry.{}", rung.name)
}

/// What there should be on the broker.
#[derive(Clone, Debug)]
pub struct Topology {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) queues: Vec<Queue>,
    pub(super) bindings: Vec<Binding>,
    tolerance: Tolerance,
}

/// Which differences the work may go on with, as they are; nobody has said so at first. One for all clones.
#[derive(Clone, Default)]
struct Tolerance(Arc<OnceLock<Box<MayStay>>>);

type MayStay = dyn Fn(&Deviation) -> bool + Send + Sync;

impl fmt::Debug for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tolerance(..)")
    }
}

#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) name: String,
    pub(super) kind: ExchangeKind,
    pub(super) arguments: Vec<(&'static str, Argument)>,
}

#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) arguments: Vec<(&'static str, Argument)>,
}

impl Queue {
    pub(super) fn argument(&self, wanted: &str) -> Option<&Argument> {
        let mut arguments = self.arguments.iter();
        let (_, argument) = arguments.find(|(name, _)| *name == wanted)?;
        Some(argument)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) exchange: String,
    pub(super) queue: String,
    pub(super) key: String,
}

#[derive(Clone, Debug)]
pub(super) enum Argument {
    Text(String),
    Number(i64),
}

impl Argument {
    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn amqp(&self) -> AMQPValue {
        match self {
            Self::Text(text) => long(text),
            Self::Number(number) => AMQPValue::LongLongInt(*number),
        }
    }

    /// As the management API and the broker's errors print it.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
        }
    }
}

impl Topology {
    /// What these settings need.
    pub fn of(replies: &RepliesConfig, retry: &RetryConfig, dead: &DeadLetterConfig) -> Self {
        let mut topology = Self {
            exchanges: Vec::new(),
            queues: Vec::new(),
            bindings: Vec::new(),
            tolerance: Tolerance::default(),
        };
        topology.add_poison();
        topology.add_jobs();
        topology.add_control();
        for rung in &retry.delays {
            topology.add_rung(rung);
        }
        topology.add_queue(&replies.default_queue, OTHER_DELIVERY_LIMIT, Vec::new());
        let ttl = ("x-message-ttl", Argument::Number(milliseconds(dead.ttl)));
        topology.add_queue(DEAD_QUEUE, OTHER_DELIVERY_LIMIT, vec![ttl]);
        topology
    }

    fn add_poison(&mut self) {
        self.add_exchange(POISON_QUEUE, ExchangeKind::Fanout, Vec::new());
        self.add_queue(POISON_QUEUE, OTHER_DELIVERY_LIMIT, Vec::new());
        self.bind(POISON_QUEUE, POISON_QUEUE, "");
    }

    fn add_control(&mut self) {
        self.add_exchange(CONTROL_EXCHANGE, ExchangeKind::Fanout, Vec::new());
        // An exchange of its own: what replicas tell one another on the other one is not to be kept.
        self.add_exchange(CONTROL_LOG, ExchangeKind::Fanout, Vec::new());
        let arguments = vec![
            ("x-queue-type", Argument::text("stream")),
            ("x-max-age", Argument::text(CONTROL_LOG_AGE)),
            ("x-max-length-bytes", Argument::Number(CONTROL_LOG_BYTES)),
            (
                "x-stream-max-segment-size-bytes",
                Argument::Number(CONTROL_LOG_SEGMENT_BYTES),
            ),
        ];
        self.queues.push(Queue {
            name: CONTROL_LOG.to_owned(),
            arguments,
        });
        self.bind(CONTROL_LOG, CONTROL_LOG, "");
    }

    fn add_jobs(&mut self) {
        // A typing mistake in a routing key must lose nothing, even published without `mandatory`.
        let unrouted = ("alternate-exchange", Argument::text(POISON_QUEUE));
        self.add_exchange(JOBS_EXCHANGE, ExchangeKind::Topic, vec![unrouted]);
        for queue in [JOBS_QUEUE, URGENT_QUEUE] {
            self.add_queue(queue, JOB_DELIVERY_LIMIT, at_least_once(POISON_QUEUE));
        }
        for operation in Operation::ALL {
            self.bind(JOBS_EXCHANGE, JOBS_QUEUE, operation.as_str());
            self.bind(
                JOBS_EXCHANGE,
                URGENT_QUEUE,
                &format!("urgent.{}", operation.as_str()),
            );
        }
    }

    fn add_rung(&mut self, rung: &Rung) {
        let name = retry_exchange(rung);
        let mut arguments = at_least_once(JOBS_EXCHANGE);
        arguments.push(("x-message-ttl", Argument::Number(milliseconds(rung.delay))));
        // A fanout keeps the job's own routing key, under which it returns to its own lane.
        self.add_exchange(&name, ExchangeKind::Fanout, Vec::new());
        self.add_queue(&name, OTHER_DELIVERY_LIMIT, arguments);
        self.bind(&name, &name, "");
    }

    fn add_exchange(
        &mut self,
        name: &str,
        kind: ExchangeKind,
        arguments: Vec<(&'static str, Argument)>,
    ) {
        self.exchanges.push(Exchange {
            name: name.to_owned(),
            kind,
            arguments,
        });
    }

    fn add_queue(
        &mut self,
        name: &str,
        delivery_limit: i64,
        mut arguments: Vec<(&'static str, Argument)>,
    ) {
        arguments.push(("x-queue-type", Argument::text("quorum")));
        arguments.push(("x-delivery-limit", Argument::Number(delivery_limit)));
        self.queues.push(Queue {
            name: name.to_owned(),
            arguments,
        });
    }

    fn bind(&mut self, exchange: &str, queue: &str, key: &str) {
        self.bindings.push(Binding {
            exchange: exchange.to_owned(),
            queue: queue.to_owned(),
            key: key.to_owned(),
        });
    }

    /// Names of all queues.
    pub fn queues(&self) -> impl Iterator<Item = &str> {
        self.queues.iter().map(|queue| queue.name.as_str())
    }

    /// One readable line for each thing that would be declared.
    pub fn lines(&self) -> Vec<String> {
        let arguments = |arguments: &[(&str, Argument)]| {
            arguments
                .iter()
                .map(|(name, value)| format!(" {name}={}", value.json()))
                .collect::<String>()
        };
        let exchanges = self.exchanges.iter().map(|e| {
            format!(
                "exchange {} ({}){}",
                e.name,
                kind_word(&e.kind),
                arguments(&e.arguments)
            )
        });
        let queues = self
            .queues
            .iter()
            .map(|q| format!("queue {}{}", q.name, arguments(&q.arguments)));
        let bindings = self
            .bindings
            .iter()
            .map(|b| format!("binding {} -[{}]-> {}", b.exchange, b.key, b.queue));
        exchanges.chain(queues).chain(bindings).collect()
    }

    /// A RabbitMQ definitions file for one virtual host, importable with `load_definitions` or the management plugin.
    pub fn definitions(&self, vhost: &str) -> Value {
        let arguments = |arguments: &[(&str, Argument)]| {
            arguments
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.json()))
                .collect::<Map<_, _>>()
        };
        json!({
            "vhosts": [{"name": vhost}],
            "exchanges": self.exchanges.iter().map(|e| json!({
                "name": e.name, "vhost": vhost, "type": kind_word(&e.kind), "durable": true, "auto_delete": false,
                "internal": false, "arguments": arguments(&e.arguments)})).collect::<Vec<_>>(),
            "queues": self.queues.iter().map(|q| json!({
                "name": q.name, "vhost": vhost, "durable": true, "auto_delete": false,
                "arguments": arguments(&q.arguments)})).collect::<Vec<_>>(),
            "bindings": self.bindings.iter().map(|b| json!({
                "source": b.exchange, "vhost": vhost, "destination": b.queue, "destination_type": "queue",
                "routing_key": b.key, "arguments": {}})).collect::<Vec<_>>(),
        })
    }

    /// The same with these users and their permissions, who have no password yet.
    pub fn definitions_with_users(&self, vhost: &str, users: &[User]) -> Value {
        let mut definitions = self.definitions(vhost);
        (definitions["users"], definitions["permissions"]) = users::sections(users, vhost);
        definitions
    }

    /// From now on, [`Topology::apply`] leaves what is there otherwise as it is, where `may_stay` says so of each
    /// difference. Who has said so before keeps the word.
    pub fn tolerate(&self, may_stay: impl Fn(&Deviation) -> bool + Send + Sync + 'static) {
        // A second one would be of the same program and say the same.
        drop(self.tolerance.0.set(Box::new(may_stay)));
    }

    /// Declares and binds what is missing, and compares the rest with what should be. What may not be declared is left to
    /// who needs it.
    pub async fn complete(&self, connection: &Connection) -> Result<Survey, BrokerError> {
        let survey = self.survey(connection, true).await?;
        let missing = survey.deviations.iter();
        let missing = missing.filter(|deviation| deviation.how == How::Missing);
        let missing = missing.map(|deviation| deviation.name.as_str());
        // What may not be declared may not be bound either. The log of orders is bound by whoever reads it.
        let left = survey.uncompared.iter().map(String::as_str);
        let left: HashSet<&str> = left.chain(missing).chain([CONTROL_LOG]).collect();
        let channel = connection.create_channel().await?;
        self.bind_wanted(&channel, |binding| {
            !left.contains(binding.queue.as_str()) && !left.contains(binding.exchange.as_str())
        })
        .await?;
        channel.close(200, short("bound")).await?;
        Ok(survey)
    }

    /// Declares everything that the work needs. Declaring what is there already, as it is, changes nothing.
    pub async fn apply(&self, connection: &Connection) -> Result<(), BrokerError> {
        let declared = self.declare(connection, |name| name != CONTROL_LOG).await;
        match (declared, self.tolerance.0.get()) {
            (Err(differs @ BrokerError::Topology { .. }), Some(may_stay)) => {
                let survey = self.complete(connection).await?;
                if survey.deviations.iter().all(may_stay) {
                    Ok(())
                } else {
                    Err(differs)
                }
            }
            (declared, _) => declared,
        }
    }

    /// Declares the log of orders, which a broker may not let everybody have.
    pub async fn apply_control_log(&self, connection: &Connection) -> Result<(), BrokerError> {
        self.declare(connection, |name| name == CONTROL_LOG).await
    }

    async fn declare(
        &self,
        connection: &Connection,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), BrokerError> {
        let channel = connection.create_channel().await?;
        for exchange in self.exchanges.iter().filter(|e| wanted(&e.name)) {
            let options = ExchangeDeclareOptions {
                durable: true,
                ..ExchangeDeclareOptions::default()
            };
            let declared = channel.exchange_declare(
                short(&exchange.name),
                exchange.kind.clone(),
                options,
                table(&exchange.arguments),
            );
            declared
                .await
                .map_err(|error| differs("exchange", &exchange.name, error))?;
        }
        for queue in self.queues.iter().filter(|q| wanted(&q.name)) {
            let options = QueueDeclareOptions {
                durable: true,
                ..QueueDeclareOptions::default()
            };
            let declared =
                channel.queue_declare(short(&queue.name), options, table(&queue.arguments));
            declared
                .await
                .map_err(|error| differs("queue", &queue.name, error))?;
        }
        self.bind_wanted(&channel, |binding| wanted(&binding.queue))
            .await?;
        channel.close(200, short("declared")).await?;
        Ok(())
    }

    /// Binds the wanted queues.
    async fn bind_wanted(
        &self,
        channel: &Channel,
        wanted: impl Fn(&Binding) -> bool,
    ) -> Result<(), BrokerError> {
        for binding in self.bindings.iter().filter(|binding| wanted(binding)) {
            let (queue, exchange, key) = (
                short(&binding.queue),
                short(&binding.exchange),
                short(&binding.key),
            );
            channel
                .queue_bind(
                    queue,
                    exchange,
                    key,
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .map_err(|error| differs("binding of queue", &binding.queue, error))?;
        }
        Ok(())
    }

    /// Makes sure that there is an exchange to publish jobs to: publishing to none costs the channel, and the reason
    /// with it.
    pub async fn takes_jobs(connection: &Connection) -> Result<(), BrokerError> {
        let channel = connection.create_channel().await?;
        let options = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let (name, kind) = (short(JOBS_EXCHANGE), ExchangeKind::Topic);
        let asked = channel.exchange_declare(name, kind, options, FieldTable::default());
        asked
            .await
            .map_err(|error| missing("exchange", JOBS_EXCHANGE, error))?;
        channel.close(200, short("checked")).await?;
        Ok(())
    }

    /// Makes sure that everything is there that the work needs, without permission to declare it.
    pub async fn verify(&self, connection: &Connection) -> Result<(), BrokerError> {
        let channel = connection.create_channel().await?;
        let needed = |name: &str| name != CONTROL_EXCHANGE && name != CONTROL_LOG;
        for exchange in self.exchanges.iter().filter(|e| needed(&e.name)) {
            let options = ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            };
            let asked = channel.exchange_declare(
                short(&exchange.name),
                exchange.kind.clone(),
                options,
                FieldTable::default(),
            );
            asked
                .await
                .map_err(|error| missing("exchange", &exchange.name, error))?;
        }
        for queue in self.queues.iter().filter(|q| needed(&q.name)) {
            let options = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let asked = channel.queue_declare(short(&queue.name), options, FieldTable::default());
            asked
                .await
                .map_err(|error| missing("queue", &queue.name, error))?;
        }
        channel.close(200, short("checked")).await?;
        Ok(())
    }
}

/// Dead-letters to this exchange by the broker's own confirmed publish; that needs `reject-publish` on a quorum queue.
fn at_least_once(exchange: &str) -> Vec<(&'static str, Argument)> {
    vec![
        ("x-dead-letter-exchange", Argument::text(exchange)),
        ("x-dead-letter-strategy", Argument::text("at-least-once")),
        ("x-overflow", Argument::text("reject-publish")),
    ]
}

pub(super) fn kind_word(kind: &ExchangeKind) -> &str {
    match kind {
        ExchangeKind::Custom(name) => name,
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Headers => "headers",
        ExchangeKind::Topic => "topic",
    }
}

pub(super) fn table(arguments: &[(&'static str, Argument)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        set(&mut table, name, value.amqp());
    }
    table
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn differs(kind: &str, name: &str, error: lapin::Error) -> BrokerError {
    if !error.is_amqp_soft_error() {
        return error.into();
    }
    BrokerError::Topology {
        what: format!("{kind} {name} cannot be declared ({error})"),
        remedy: "it exists with other arguments, or this user may not configure it: delete it when it is empty, or set \
                 topology.declare = false and import what `irn-worker topology export` prints",
    }
}

fn missing(kind: &str, name: &str, error: lapin::Error) -> BrokerError {
    if !error.is_amqp_soft_error() {
        return error.into();
    }
    BrokerError::Topology {
        what: format!("{kind} {name} is not there ({error})"),
        remedy: "run `irn-worker topology apply` as a user with configure permission, or set topology.declare = true",
    }
}
