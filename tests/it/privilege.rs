//! The four users of `topology export --users`: each can do its work, and nothing else.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::amqp::{Amqp, Job};
use crate::support::credentials::GSTINS;
use crate::support::http;
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;

const SELLER: &str = GSTINS[0];
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
const RUNG: &str = "irn.retry.200ms";

/// The exported definitions in a virtual host of their own. Users are everybody's: their names get the host's before them.
struct Broker(Stack);

impl Broker {
    async fn start() -> Result<Self> {
        let stack = Stack::start(0).await?;
        let exported = stack
            .config()?
            .output("topology", &["export", "--users"])
            .await?;
        ensure!(exported.status.success(), "{exported:?}");
        let text = String::from_utf8(exported.stdout)?;
        assert!(!text.contains("password\""), "{text}");
        let mut definitions: Value = serde_json::from_str(&text)?;
        for (section, member) in [("users", "name"), ("permissions", "user")] {
            for entry in definitions[section].as_array_mut().context("a list")? {
                let name = entry[member].as_str().context("a name")?;
                entry[member] = stack.broker.user(name).into();
            }
        }
        stack.broker.import_all(&definitions).await?;
        for user in definitions["users"].as_array().context("a list")? {
            let name = user["name"].as_str().context("a name")?;
            let url = stack.broker.url_as(name, "");
            let without = Connection::connect(&url, ConnectionProperties::default());
            ensure!(without.await.is_err(), "{name} needs no password");
        }
        for name in ["publisher", "worker", "replayer"] {
            stack
                .broker
                .set_password(&format!("irn-{name}"), "")
                .await?;
        }
        stack
            .broker
            .set_password("irn-monitor", "monitoring")
            .await?;
        Ok(Self(stack))
    }

    fn url(&self, name: &str) -> String {
        let user = self.0.broker.user(&format!("irn-{name}"));
        self.0.broker.url_as(&user, &user)
    }

    async fn connection(&self, name: &str) -> Result<Connection> {
        let url = self.url(name);
        Ok(Connection::connect(&url, ConnectionProperties::default()).await?)
    }
}

async fn channel(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tests' own publisher: it looks at the confirm"
)]
async fn publishes(connection: &Connection, exchange: &str, key: &str) -> Result<()> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let channel = channel(connection).await?;
    let properties = BasicProperties::default().with_delivery_mode(2);
    let publishing = channel.basic_publish(exchange.into(), key.into(), options, b"x", properties);
    match publishing.await?.await? {
        Confirmation::Ack(_) => Ok(()),
        other => bail!("{other:?}"),
    }
}

async fn reads(connection: &Connection, queue: &str) -> Result<()> {
    let channel = channel(connection).await?;
    channel
        .basic_get(queue.into(), BasicGetOptions { no_ack: false })
        .await?;
    // What it took goes back with the channel.
    Ok(())
}

async fn declares_queue(connection: &Connection, queue: &str) -> Result<()> {
    let options = QueueDeclareOptions::durable();
    let channel = channel(connection).await?;
    channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await?;
    Ok(())
}

async fn declares_exchange(connection: &Connection, exchange: &str) -> Result<()> {
    let (options, kind) = (ExchangeDeclareOptions::default(), ExchangeKind::Fanout);
    let channel = channel(connection).await?;
    channel
        .exchange_declare(exchange.into(), kind, options, FieldTable::default())
        .await?;
    Ok(())
}

async fn deletes_queue(connection: &Connection, queue: &str) -> Result<()> {
    let channel = channel(connection).await?;
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await?;
    Ok(())
}

/// That it is for want of permission.
fn refused(what: &str, tried: Result<()>) {
    match tried {
        Ok(()) => panic!("{what} was permitted"),
        Err(error) => assert!(
            format!("{error:#}").contains("ACCESS_REFUSED"),
            "{what}: {error:#}"
        ),
    }
}

async fn writes_to_none_of(connection: &Connection, exchanges: &[&str]) {
    for exchange in exchanges {
        let what = format!("publishing to {exchange:?}");
        refused(&what, publishes(connection, exchange, "irn.dead").await);
    }
}

async fn reads_none_of(connection: &Connection, queues: &[&str]) {
    for queue in queues {
        refused(&format!("reading {queue}"), reads(connection, queue).await);
    }
}

async fn configures_none_of(connection: &Connection, names: &[&str]) {
    for name in names {
        refused(
            &format!("declaring {name}"),
            declares_queue(connection, name).await,
        );
        refused(
            &format!("declaring exchange {name}"),
            declares_exchange(connection, name).await,
        );
    }
    refused(
        "deleting irn.jobs",
        deletes_queue(connection, "irn.jobs").await,
    );
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn publisher_publishes_jobs_and_reads_replies_and_nothing_else() -> Result<()> {
    let broker = Broker::start().await?;
    let erp = Amqp::connect(&broker.url("publisher")).await?;
    erp.declare("erp.books").await?;
    erp.publish(&[
        Job::generate("j-1", "{}"),
        Job::new("urgent.generate", "{}"),
    ])
    .await?;
    let connection = broker.connection("publisher").await?;
    reads(&connection, "erp.books").await?;
    reads(&connection, "irn.results").await?;
    writes_to_none_of(&connection, &["", RUNG, "irn.poison", "irn.control"]).await;
    let own = [
        "irn.jobs",
        "irn.jobs.urgent",
        RUNG,
        "irn.dead",
        "irn.poison",
    ];
    reads_none_of(&connection, &own).await;
    configures_none_of(&connection, &["irn.other", "irn.control.other", "other"]).await;
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn worker_works_with_its_own_rights_and_has_no_others() -> Result<()> {
    let broker = Broker::start().await?;
    let stack = &broker.0;
    let monitor = stack.broker.user("irn-monitor");
    let config = || {
        let config = stack.config()?.set("broker.url", broker.url("worker"))?;
        let management = stack.broker.management_as(&monitor, &monitor);
        config
            .set("topology.declare", false)?
            .set("broker.management_url", management)
    };
    let checked = config()?.output("check", &[]).await?;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let worker = config()?.start("worker").await?;
    stack.erp.declare("erp.books").await?;
    // Over the ladder, and to a reply queue.
    let once = json!([{"endpoint": "generate", "kind": "drop", "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    let job = Job::generate("j-1", invoice(SELLER, "L/1")).reply_to("erp.books");
    // To the dead letters, and to the poison.
    let unknown = Job::generate("j-2", invoice(SELLER, "L/2")).reply_to("irn.jobs");
    stack
        .erp
        .publish(&[job, unknown, Job::generate("j-3", "{")])
        .await?;
    let mut replies = stack.erp.take("erp.books", 1, SETTLED_WITHIN).await?;
    Outcome::read(replies.pop().context("one was taken")?)?.assert_signed(false);
    stack.outcomes(2, SETTLED_WITHIN).await?;
    assert_eq!(
        stack.erp.take("irn.dead", 1, SETTLED_WITHIN).await?.len(),
        1
    );
    assert_eq!(
        stack.erp.take("irn.poison", 1, SETTLED_WITHIN).await?.len(),
        1
    );
    // And it is told what an operator orders.
    let replayer = stack.config()?.set("broker.url", broker.url("replayer"))?;
    let resumed = replayer.output("resume", &[SELLER]).await?;
    assert!(resumed.status.success(), "{resumed:?}");
    worker.until_logged(SELLER, SETTLED_WITHIN).await?;
    let log = worker.log().join("\n");
    assert!(!log.contains("cannot be used"), "{log}");

    let connection = broker.connection("worker").await?;
    writes_to_none_of(&connection, &["irn.poison", "amq.topic"]).await;
    reads_none_of(
        &connection,
        &["irn.results", "erp.books", "irn.poison", RUNG],
    )
    .await;
    configures_none_of(&connection, &["irn.other", "erp.other"]).await;
    refused(
        "deleting the log of orders",
        deletes_queue(&connection, "irn.control.log").await,
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replayer_moves_dead_letters_and_nothing_else() -> Result<()> {
    let broker = Broker::start().await?;
    broker.0.erp.declare("erp.books").await?;
    let connection = broker.connection("replayer").await?;
    for queue in ["irn.dead", "irn.poison"] {
        reads(&connection, queue).await?;
    }
    for exchange in ["irn.jobs", RUNG, "irn.control"] {
        publishes(&connection, exchange, "generate").await?;
    }
    writes_to_none_of(&connection, &["", "amq.topic", "irn.poison"]).await;
    let others = [
        "irn.jobs",
        "irn.jobs.urgent",
        RUNG,
        "irn.results",
        "erp.books",
    ];
    reads_none_of(&connection, &others).await;
    configures_none_of(
        &connection,
        &["irn.other", "irn.control.other", "erp.other"],
    )
    .await;
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replayer_sends_canaries_first_and_hears_how_they_end() -> Result<()> {
    let broker = Broker::start().await?;
    let stack = &broker.0;
    let letter = |number: usize| {
        Job::generate(
            &format!("c-{number}"),
            invoice(SELLER, &format!("C/{number}")),
        )
        .kind("irn.generate.v1")
        .text_header("x-irn-gstin", SELLER)
        .text_header("x-irn-reason", "RETRIES_EXHAUSTED")
        .text_header("x-irn-error", "timeout")
        .text_header("x-irn-dead-at", "2026-01-01T00:00:00Z")
        .text_header("x-irn-routing-key", "generate")
        .text_header("x-irn-outcome", "not_sent")
    };
    let letters: Vec<Job> = (0..6).map(letter).collect();
    stack.erp.publish_all_into("irn.dead", &letters).await?;
    let monitor = stack.broker.user("irn-monitor");
    let worker = stack.config()?.set("broker.url", broker.url("worker"))?;
    let _worker = worker
        .set("topology.declare", false)?
        .set(
            "broker.management_url",
            stack.broker.management_as(&monitor, &monitor),
        )?
        .start("worker")
        .await?;
    let replayer = stack.config()?.set("broker.url", broker.url("replayer"))?;
    let arguments = ["--json", "replay", "--canary", "2"];
    let replayed = replayer.output("dead-letters", &arguments).await?;
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    let report: Value = serde_json::from_slice(&replayed.stdout)?;
    assert_eq!(report["replayed"], 6, "{report}");
    assert_eq!(report["canary_results"], json!({"signed": 2}), "{report}");
    stack.outcomes(6, SETTLED_WITHIN).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn monitor_sees_the_queues_and_touches_no_message() -> Result<()> {
    let broker = Broker::start().await?;
    let vhost = broker.0.broker.url();
    let vhost = vhost
        .rsplit('/')
        .next()
        .context("the URL has a virtual host")?;
    let client = http::client()?;
    let monitor = broker.0.broker.user("irn-monitor");
    let api = broker.0.broker.management_as(&monitor, &monitor);
    let queues: Vec<Value> = http::json(&client, &format!("{api}/api/queues/{vhost}")).await?;
    assert!(queues.len() >= 8, "{queues:?}");
    let overview: Value = http::json(&client, &format!("{api}/api/overview")).await?;
    assert!(overview["rabbitmq_version"].is_string());
    let put = |url: String| {
        let client = &client;
        async move {
            http::send(client, Method::PUT, &url, &json!({"durable": true}))
                .await
                .is_err()
        }
    };
    assert!(put(format!("{api}/api/queues/{vhost}/irn.other")).await);
    assert!(put(format!("{api}/api/vhosts/{vhost}-other")).await);
    let get = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let taking = format!("{api}/api/queues/{vhost}/irn.dead/get");
    assert!(
        http::send(&client, Method::POST, &taking, &get)
            .await
            .is_err()
    );
    // The others do not see the management API at all.
    for name in ["publisher", "worker", "replayer"] {
        let user = broker.0.broker.user(&format!("irn-{name}"));
        let api = broker.0.broker.management_as(&user, &user);
        let seen: Result<Value> = http::json(&client, &format!("{api}/api/overview")).await;
        assert!(seen.is_err(), "{name} sees the management API");
    }
    let connection = broker.connection("monitor").await?;
    writes_to_none_of(&connection, &["", "irn.jobs", RUNG, "irn.control"]).await;
    reads_none_of(&connection, &["irn.jobs", "irn.dead", "irn.results"]).await;
    configures_none_of(&connection, &["irn.other", "erp.other"]).await;
    Ok(())
}
