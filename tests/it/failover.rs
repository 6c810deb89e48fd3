//! Two portals of one operator: new documents go to the second while the first is down, and none is registered twice.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::amqp::Job;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::invoice::{invoice, irn, sold_through};
use crate::support::proxy::TcpProxy;
use crate::support::sandbox::{Calls, Sandbox};
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(20);
/// An open breaker lets the portal be tried after some seconds.
const BACK_WITHIN: Duration = Duration::from_secs(40);

/// The first portal behind an address that can be taken away, and the second one.
struct Pair {
    stack: Stack,
    second: Sandbox,
    /// Where the worker finds the first portal.
    address: String,
}

impl Pair {
    async fn start() -> Result<Self> {
        Self::with(&Credentials::of(&GSTINS)).await
    }

    /// The second portal knows these users.
    async fn with(credentials: &Credentials) -> Result<Self> {
        Self::of(Stack::start_with(0, Ok).await?, credentials).await
    }

    async fn of(stack: Stack, at_second: &Credentials) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        Ok(Self {
            stack,
            second: Sandbox::start(at_second).await?,
            address: address.to_string(),
        })
    }

    fn config(&self) -> Result<WorkerConfig> {
        let text = |path: std::path::PathBuf| path.display().to_string();
        let keys = [&self.stack.sandbox, &self.second].map(|p| text(p.signing_certificate()));
        self.stack
            .config()?
            .set("irp.base_url", format!("http://{}", self.address))?
            .set("irp.failover_url", self.second.url())?
            .set("irp.failover_public_key_file", text(self.second.auth_key()))?
            .set("irp.signing_keys", keys.to_vec())?
            .set("retry.immediate.max_elapsed", "100ms")
    }

    /// The first portal is there while this lives.
    async fn first_up(&self) -> Result<TcpProxy> {
        let upstream = self.stack.sandbox.url().trim_start_matches("http://");
        TcpProxy::at(&self.address, upstream).await
    }

    /// Registers a document at the second portal, as another worker may have done.
    async fn register_at_second(&self, job: Job) -> Result<()> {
        let config = WorkerConfig::between(&self.stack.broker.url(), &self.second)?;
        let mut worker = config.start("worker of the second portal").await?;
        self.stack.settle(job).await?.assert_signed(false);
        worker.terminate(SOON).await?;
        Ok(())
    }

    async fn calls(&self) -> Result<(Calls, Calls)> {
        Ok((
            self.stack.sandbox.calls().await?,
            self.second.calls().await?,
        ))
    }

    fn second_name(&self) -> &str {
        self.second.url().trim_start_matches("http://")
    }
}

fn job(id: &str, number: &str) -> Job {
    Job::generate(id, invoice(SELLER, number))
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn new_documents_go_to_the_second_portal_while_the_first_is_down_and_back_after() -> Result<()>
{
    let pair = Pair::start().await?;
    let mut worker = pair.config()?.start("worker").await?;
    let jobs: Vec<Job> = (0..20)
        .map(|i| job(&format!("j-{i}"), &format!("F/{i}")))
        .collect();
    pair.stack.erp.publish(&jobs).await?;
    for (id, outcome) in pair.stack.outcomes(20, SOON).await? {
        outcome.assert_signed(false);
        assert_eq!(outcome.json["attempts"], 1, "{id}: an outage is no attempt");
    }
    let (first, second) = pair.calls().await?;
    assert_eq!((first.registrations, second.registrations), (0, 20));
    assert!(worker.metric("irn_worker_failover_total", "").await? >= 20.0);

    let _up = pair.first_up().await?;
    let mut next = 100;
    eventually(BACK_WITHIN, "a document at the first portal", async || {
        next += 1;
        let published = job(&format!("j-{next}"), &format!("F/{next}"));
        pair.stack.settle(published).await?.assert_signed(false);
        let back = pair.stack.sandbox.calls().await?.registrations > 0;
        Ok(back.then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_whose_submit_left_for_the_first_portal_waits_for_it() -> Result<()> {
    let pair = Pair::start().await?;
    let up = pair.first_up().await?;
    let _worker = pair.config()?.start("worker").await?;
    let lost = json!([{"endpoint": "generate", "kind": "hold", "when": "after"}]);
    pair.stack.sandbox.faults(1, lost).await?;
    pair.stack.erp.publish(&[job("held", "W/1")]).await?;
    pair.stack.sandbox.until_held(1, SOON).await?;
    up.end().await;
    // Others find the first portal down and go to the second.
    let jobs: Vec<Job> = (0..20)
        .map(|i| job(&format!("j-{i}"), &format!("W/2{i}")))
        .collect();
    pair.stack.erp.publish(&jobs).await?;
    let outcomes = pair.stack.outcomes(20, BACK_WITHIN).await?;
    assert!(!outcomes.contains_key("held"));
    for outcome in outcomes.values() {
        outcome.assert_signed(false);
    }
    let before = pair.second.calls().await?;
    pair.stack.sandbox.clear_faults().await?;
    pair.stack.sandbox.release().await?;
    let _up = pair.first_up().await?;
    let outcomes = pair.stack.outcomes(1, BACK_WITHIN).await?;
    outcomes["held"].assert_signed(true);
    let (first, second) = pair.calls().await?;
    assert_eq!((first.generates, first.registrations), (1, 1));
    assert_eq!(second, before, "the second one was not even asked for it");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn what_the_first_portal_says_is_elsewhere_is_fetched_from_the_second() -> Result<()> {
    let pair = Pair::start().await?;
    pair.register_at_second(job("before", "X/1")).await?;
    let _up = pair.first_up().await?;
    let _worker = pair.config()?.start("worker").await?;
    let elsewhere = json!({"irn": irn(SELLER, "X/1"), "irp": "NIC102"});
    pair.stack
        .sandbox
        .post("registered-elsewhere", &elsewhere)
        .await?;
    let outcome = pair.stack.settle(job("j-1", "X/1")).await?;
    outcome.assert_signed(true);
    assert_eq!(outcome.text("irn"), irn(SELLER, "X/1"));
    // Registered elsewhere, and not at our other portal either: the ERP has to look into it.
    let unheard_of = json!({"irn": irn(SELLER, "X/2"), "irp": "EY"});
    pair.stack
        .sandbox
        .post("registered-elsewhere", &unheard_of)
        .await?;
    let outcome = pair.stack.settle(job("j-2", "X/2")).await?;
    assert_eq!(outcome.status(), "conflict", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["irp 2295"]);
    let (first, second) = pair.calls().await?;
    assert_eq!((first.generates, first.registrations), (2, 0));
    assert_eq!((second.generates, second.lookups), (1, 2));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_in_doubt_is_looked_up_where_it_may_be_and_only_there() -> Result<()> {
    let pair = Pair::start().await?;
    pair.register_at_second(job("before", "Y/1")).await?;
    let _up = pair.first_up().await?;
    let _worker = pair.config()?.start("worker").await?;
    let in_doubt = |id: &str| job(id, "Y/1").text_header("x-irn-outcome", "unknown");
    // Nobody knows which portal a worker that died had chosen: both are asked.
    pair.stack
        .settle(in_doubt("j-1"))
        .await?
        .assert_signed(true);
    let (first, second) = pair.calls().await?;
    assert_eq!((first.generates, first.lookups, second.lookups), (0, 1, 1));
    let pinned = in_doubt("j-2").text_header("x-irn-portal", pair.second_name());
    pair.stack.settle(pinned).await?.assert_signed(true);
    let (first, second) = pair.calls().await?;
    assert_eq!((first.generates, first.lookups, second.lookups), (0, 1, 2));
    // A portal that is configured no more is as good as none.
    let strange = in_doubt("j-3").text_header("x-irn-portal", "gone.example");
    pair.stack.settle(strange).await?.assert_signed(true);
    let (first, second) = pair.calls().await?;
    assert_eq!((first.generates, first.lookups, second.lookups), (0, 2, 3));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn dead_letter_in_doubt_names_the_portal_that_its_submit_left_for() -> Result<()> {
    let pair = Pair::start().await?;
    let _up = pair.first_up().await?;
    let config = pair.config()?.set("retry.max_attempts", 1)?;
    let _worker = config.start("worker").await?;
    let lost = json!([{"endpoint": "generate", "kind": "drop"}]);
    pair.stack.sandbox.faults(1, lost).await?;
    let outcome = pair.stack.settle(job("j-1", "Z/1")).await?;
    assert_eq!(outcome.errors(), ["worker RETRIES_EXHAUSTED"]);
    let letter = &pair.stack.erp.take("irn.dead", 1, SOON).await?[0];
    assert_eq!(letter.header("x-irn-outcome").as_deref(), Some("unknown"));
    let portal = letter.header("x-irn-portal");
    assert_eq!(portal.as_deref(), Some(pair.address.as_str()));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn account_that_the_second_portal_refuses_waits_for_the_first() -> Result<()> {
    let strangers = Credentials::of(&GSTINS).password(SELLER, "another password");
    let pair = Pair::with(&strangers).await?;
    let worker = pair.config()?.start("worker").await?;
    let jobs: Vec<Job> = (0..5)
        .map(|i| job(&format!("j-{i}"), &format!("A/{i}")))
        .collect();
    pair.stack.erp.publish(&jobs).await?;
    worker
        .until_logged("refused this GSTIN's credentials", SOON)
        .await?;
    let _up = pair.first_up().await?;
    for outcome in pair.stack.outcomes(5, BACK_WITHIN).await?.values() {
        outcome.assert_signed(false);
    }
    let (first, second) = pair.calls().await?;
    assert_eq!((first.registrations, second.registrations), (5, 0));
    assert_eq!(second.logins, 1, "a refused password is tried once");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn operator_that_names_no_seller_cancels_at_the_portal_that_has_the_registration()
-> Result<()> {
    let collector = "29AAACO1234K1C5";
    let credentials = Credentials::of(&[SELLER, collector]);
    let pair = Pair::of(Stack::of(&credentials, 0, Ok).await?, &credentials).await?;
    let document = sold_through(collector, SELLER, "Z/1");
    let job = Job::generate("before", document).text_header("x-irn-gstin", collector);
    pair.register_at_second(job).await?;
    let _up = pair.first_up().await?;
    let _worker = pair.config()?.start("worker").await?;
    let order = Job::cancel("c-1", collector, &irn(SELLER, "Z/1"));
    let cancelled = pair.stack.settle(order).await?;
    assert_eq!(cancelled.status(), "cancelled", "{}", cancelled.json);
    let order = Job::cancel("c-2", collector, &irn(SELLER, "Z/2"));
    let nothing = pair.stack.settle(order).await?;
    assert_eq!(nothing.status(), "not_found", "{}", nothing.json);
    Ok(())
}
