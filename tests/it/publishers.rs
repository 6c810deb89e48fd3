//! `publishers`: the broker's users may have jobs done for their own GSTINs only.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::support::amqp::{Amqp, Job};
use crate::support::credentials::GSTINS;
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;

const SOUTHERN: &str = GSTINS[0];
const NORTHERN: &str = GSTINS[3];
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// The southern ERP, the northern one, and somebody who moves jobs; each publishes as himself.
struct Users {
    stack: Stack,
    south: Amqp,
    north: Amqp,
    mover: Amqp,
}

impl Users {
    async fn start() -> Result<Self> {
        let stack = Stack::start(0).await?;
        let mut urls = Vec::new();
        for name in ["south", "north", "mover", "worker"] {
            let url = stack.broker.add_user_named(name, ".*", ".*", ".*").await?;
            urls.push(url);
        }
        let [south, north, mover, worker] = &urls[..] else {
            anyhow::bail!("there are four users");
        };
        let named = |name: &str, key: &str| format!("publishers.{}.{key}", stack.broker.user(name));
        let config = stack
            .config()?
            .set("broker.url", worker.as_str())?
            .set(&named("south", "gstins"), vec!["29*", "33*"])?
            .set(&named("south", "replies"), vec!["erp.south"])?
            .set(&named("north", "gstins"), vec![NORTHERN])?
            .set(&named("mover", "forwards"), true)?;
        let mut users = Self {
            south: Amqp::connect(south).await?,
            north: Amqp::connect(north).await?,
            mover: Amqp::connect(mover).await?,
            stack,
        };
        users.stack.workers.push(config.start("worker").await?);
        for queue in ["erp.south", "erp.north"] {
            users.stack.erp.declare(queue).await?;
        }
        Ok(users)
    }

    fn by(&self, name: &str, job: Job) -> Job {
        job.user_id(&self.stack.broker.user(name))
    }

    async fn reply(&self, queue: &str) -> Result<Outcome> {
        let mut taken = self.stack.erp.take(queue, 1, SETTLED_WITHIN).await?;
        Outcome::read(taken.pop().context("one was taken")?)
    }

    async fn refused(&self, queue: &str, says: &str) -> Result<()> {
        let outcome = self.reply(queue).await?;
        assert_eq!(outcome.status(), "failed", "{}", outcome.json);
        assert_eq!(
            outcome.errors(),
            ["worker NOT_PERMITTED"],
            "{}",
            outcome.json
        );
        assert_eq!(outcome.json["dead_lettered"], true);
        assert!(
            outcome.json.to_string().contains(says),
            "{says}: {}",
            outcome.json
        );
        let letters = self.stack.erp.take("irn.dead", 1, SETTLED_WITHIN).await?;
        let reason = letters
            .first()
            .and_then(|letter| letter.header("x-irn-reason"));
        assert_eq!(reason.as_deref(), Some("NOT_PERMITTED"));
        Ok(())
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn jobs_of_their_own_gstins_are_done_on_whatever_way_they_come_back() -> Result<()> {
    let users = Users::start().await?;
    let job =
        |id: &str, number: &str| Job::generate(id, invoice(SOUTHERN, number)).reply_to("erp.south");
    users
        .south
        .publish(&[users.by("south", job("j-1", "P/1"))])
        .await?;
    users.reply("erp.south").await?.assert_signed(false);
    // Over the ladder, published by the worker.
    let once = json!([{"endpoint": "generate", "kind": "drop", "times": 1}]);
    users.stack.sandbox.faults(1, once).await?;
    users
        .south
        .publish(&[users.by("south", job("j-2", "P/2"))])
        .await?;
    let outcome = users.reply("erp.south").await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.json["attempts"], 2, "{}", outcome.json);
    // Document by document of a batch.
    let batch = format!(
        "[{},{}]",
        invoice(SOUTHERN, "P/3"),
        invoice(SOUTHERN, "P/4")
    );
    let batch = Job::generate("j-3", batch).reply_to("erp.south");
    users.south.publish(&[users.by("south", batch)]).await?;
    for _ in 0..2 {
        users.reply("erp.south").await?.assert_signed(false);
    }
    // By one who moves the jobs of others.
    let south = users.stack.broker.user("south");
    let moved = job("j-5", "P/5").text_header("x-irn-publisher", &south);
    users.mover.publish(&[users.by("mover", moved)]).await?;
    users.reply("erp.south").await?.assert_signed(false);
    // A result says who published it.
    let north = Job::generate("j-6", invoice(NORTHERN, "P/6")).reply_to("erp.north");
    users.north.publish(&[users.by("north", north)]).await?;
    let outcome = users.reply("erp.north").await?;
    outcome.assert_signed(false);
    let signed_as = outcome
        .message
        .properties
        .user_id()
        .as_ref()
        .map(|user| user.as_str());
    assert_eq!(signed_as, Some(users.stack.broker.user("worker").as_str()));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn jobs_of_others_end_in_the_dead_letters_without_a_call() -> Result<()> {
    let users = Users::start().await?;
    let foreign = |id: &str| Job::generate(id, invoice(NORTHERN, "N/1")).reply_to("erp.south");
    users
        .south
        .publish(&[users.by("south", foreign("j-1"))])
        .await?;
    users.refused("erp.south", NORTHERN).await?;
    // By the credentials that it names, whoever the seller is.
    let borrowed =
        Job::generate("j-2", invoice(SOUTHERN, "N/2")).text_header("x-irn-gstin", NORTHERN);
    users.south.publish(&[users.by("south", borrowed)]).await?;
    users.refused("irn.results", NORTHERN).await?;
    // Whoever it says it is from.
    let north = users.stack.broker.user("north");
    let forged = foreign("j-3").text_header("x-irn-publisher", &north);
    users.south.publish(&[users.by("south", forged)]).await?;
    users.refused("erp.south", NORTHERN).await?;
    // Nobody's, a stranger's, and one moved for a stranger: no reply queue is theirs.
    let own = |id: &str| Job::generate(id, invoice(SOUTHERN, "N/4")).reply_to("erp.south");
    users.south.publish(&[own("j-4")]).await?;
    users.refused("irn.results", "user_id").await?;
    users
        .stack
        .erp
        .publish(&[own("j-5").user_id("guest")])
        .await?;
    users.refused("irn.results", "guest").await?;
    let moved = own("j-6").text_header("x-irn-publisher", "stranger");
    users.mover.publish(&[users.by("mover", moved)]).await?;
    users.refused("irn.results", "stranger").await?;
    // A reply queue of another publisher.
    let astray = Job::generate("j-7", invoice(SOUTHERN, "N/7")).reply_to("erp.north");
    users.south.publish(&[users.by("south", astray)]).await?;
    users.refused("irn.results", "erp.north").await?;
    // What pre-flight would refuse is not judged either.
    let faulty = invoice(NORTHERN, "N/8").replace("\"Typ\":\"INV\"", "\"Typ\":\"XXX\"");
    let faulty = Job::generate("j-8", faulty).text_header("x-irn-gstin", NORTHERN);
    users.south.publish(&[users.by("south", faulty)]).await?;
    users.refused("irn.results", NORTHERN).await?;
    assert_eq!(users.stack.sandbox.stats().await?.all_requests(), 0);
    // The broker itself does not let anybody speak for another.
    let lie = users.by("north", own("j-9"));
    assert!(users.south.publish(&[lie]).await.is_err());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn unreadable_deliveries_answer_to_their_publishers_own_queue_only() -> Result<()> {
    let users = Users::start().await?;
    let broken = |id: &str| Job::generate(id, "{").reply_to("erp.north");
    users
        .south
        .publish(&[users.by("south", broken("j-1"))])
        .await?;
    assert_eq!(
        users.reply("irn.results").await?.errors(),
        ["worker UNREADABLE"]
    );
    users
        .north
        .publish(&[users.by("north", broken("j-2"))])
        .await?;
    assert_eq!(
        users.reply("erp.north").await?.errors(),
        ["worker UNREADABLE"]
    );
    Ok(())
}
