//! An operator's orders reach every replica, and nobody's nonsense does harm.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::{invoice, irn};
use crate::support::proxy::TcpProxy;
use crate::support::stack::Stack;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(15);

fn job(number: &str) -> Job {
    Job::generate(number, invoice(SELLER, number))
}

async fn set_password(stack: &Stack, password: &str) -> Result<()> {
    let changed =
        json!({"gstin": SELLER, "username": format!("API_{SELLER}"), "password": password});
    stack.sandbox.post("password", &changed).await.map(drop)
}

/// Every replica's own control queue, once all listen: they take jobs without waiting for that.
async fn control_queues(stack: &Stack) -> Result<Vec<String>> {
    eventually(SOON, "every replica to listen", async || {
        let queues = stack.broker.list("queues").await?;
        let names = queues.iter().filter_map(|queue| queue["name"].as_str());
        let own = |name: &&str| name.starts_with("irn.control.") && *name != "irn.control.log";
        let names = names.filter(own);
        let names: Vec<String> = names.map(str::to_owned).collect();
        Ok((names.len() == stack.workers.len()).then_some(names))
    })
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn resume_reaches_every_replica_and_a_refused_account_is_tried_again() -> Result<()> {
    let stack = Stack::start(2).await?;
    set_password(&stack, "another-1").await?;
    let failing: Vec<Job> = (0..20).map(|i| job(&format!("F/{i}"))).collect();
    stack.erp.publish(&failing).await?;
    for outcome in stack.outcomes(20, SOON).await?.values() {
        assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    }
    // Mended at the portal's side: the worker's password is right again, and the worker cannot know.
    set_password(&stack, &format!("Pw-{SELLER}!")).await?;
    assert_eq!(stack.settle(job("A/1")).await?.status(), "failed");
    control_queues(&stack).await?;
    let resumed = stack
        .config()?
        .output("resume", &[SELLER, "--json"])
        .await?;
    assert!(resumed.status.success(), "{resumed:?}");
    assert_eq!(
        String::from_utf8(resumed.stdout)?.trim(),
        format!(r#"{{"resumed":"{SELLER}"}}"#)
    );
    for worker in &stack.workers {
        worker.until_logged("resumed by an operator", SOON).await?;
    }
    let again: Vec<Job> = (0..20).map(|i| job(&format!("B/{i}"))).collect();
    stack.erp.publish(&again).await?;
    for outcome in stack.outcomes(20, SOON).await?.values() {
        outcome.assert_signed(false);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn client_at_its_error_budget_goes_on_when_an_operator_resumes_it() -> Result<()> {
    let stack = Stack::start_with(1, |config| config.set("limits.error_budget_total", "4/day"));
    let stack = stack.await?;
    let rule = json!([{"endpoint": "generate", "kind": "error", "code": "2189", "times": 4}]);
    stack.sandbox.faults(1, rule).await?;
    for number in ["R/1", "R/2", "R/3", "R/4"] {
        assert_eq!(stack.settle(job(number)).await?.errors(), ["irp 2189"]);
    }
    let stopped = stack.settle(job("S/1")).await?;
    assert_eq!(stopped.errors(), ["worker ERROR_BUDGET"]);
    let text = stopped.json.to_string();
    assert!(text.contains("resume --client NAME"), "{text}");
    control_queues(&stack).await?;
    let resumed = stack
        .config()?
        .output("resume", &["--client", "it"])
        .await?;
    assert!(resumed.status.success(), "{resumed:?}");
    stack.workers[0]
        .until_logged("client it resumed by an operator", SOON)
        .await?;
    stack.settle(job("G/1")).await?.assert_signed(false);
    Ok(())
}

/// What another replica tells when it is about to send a document that came in doubt.
fn begun(number: &str) -> Job {
    let deed = json!(["generate", irn(SELLER, number), 0]);
    let notice = json!({"version": 1, "action": "begun", "replica": "another", "deeds": [deed]});
    Job::new("x", notice.to_string())
}

/// The worker heeds in order what comes into its queue, and says so of this.
async fn until_all_is_heard(stack: &Stack, queue: &str) -> Result<()> {
    let order = json!({"version": 1, "action": "resume", "gstin": SELLER});
    stack
        .erp
        .publish_into(queue, &Job::new("x", order.to_string()))
        .await?;
    stack.workers[0]
        .until_logged("resumed by an operator", SOON)
        .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_that_another_replica_is_just_sending_is_looked_up_later() -> Result<()> {
    let stack = Stack::start(1).await?;
    let queue = control_queues(&stack).await?.pop().context("no queue")?;
    stack.erp.publish_into(&queue, &begun("B/1")).await?;
    until_all_is_heard(&stack, &queue).await?;
    stack.settle(job("B/1")).await?.assert_signed(false);
    stack.settle(job("B/2")).await?.assert_signed(false);
    let calls = stack.sandbox.calls().await?;
    assert_eq!((calls.lookups, calls.generates), (1, 2), "{calls:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_that_another_replica_began_to_send_during_a_login_is_looked_up_later()
-> Result<()> {
    let mut stack = Stack::start(0).await?;
    let portal = TcpProxy::to(stack.sandbox.url().trim_start_matches("http://")).await?;
    let config = stack.config()?;
    let config = config.set("irp.base_url", format!("http://{}", portal.address()))?;
    stack.workers.push(config.start("behind a proxy").await?);
    let queue = control_queues(&stack).await?.pop().context("no queue")?;
    portal.hold();
    stack.erp.publish(&[job("B/1")]).await?;
    let worker = stack.worker()?;
    eventually(SOON, "the job to have its turn", async || {
        let turns = worker.metric("irn_worker_in_flight", "").await?;
        Ok((turns == 1.0).then_some(()))
    })
    .await?;
    stack.erp.publish_into(&queue, &begun("B/1")).await?;
    until_all_is_heard(&stack, &queue).await?;
    portal.restore();
    let outcomes = stack.outcomes(1, SOON).await?;
    outcomes["B/1"].assert_signed(false);
    let calls = stack.sandbox.calls().await?;
    assert_eq!((calls.lookups, calls.generates), (1, 1), "{calls:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn control_messages_that_are_not_understood_are_ignored() -> Result<()> {
    let stack = Stack::start(1).await?;
    let queue = control_queues(&stack).await?.pop().context("no queue")?;
    for (body, said) in [
        (&b"\xff{"[..], "not a control message"),
        (br#"{"version":9,"action":"resume"}"#, "another version"),
        (
            br#"{"version":1,"action":"self-destruct"}"#,
            "an action that",
        ),
        (br#"{"version":1,"action":"resume"}"#, "names no GSTIN"),
        (
            br#"{"version":1,"action":"resume","gstin":"29AABCT9421M1ZU"}"#,
            "without credentials",
        ),
        (
            br#"{"version":1,"action":"resume","client":"nobody"}"#,
            "a client that is not known",
        ),
    ] {
        stack.erp.publish_into(&queue, &Job::new("x", body)).await?;
        stack.workers[0].until_logged(said, SOON).await?;
    }
    let log = stack.workers[0].log().join("\n");
    assert!(!log.contains("self-destruct"), "{log}");
    stack.settle(job("C/1")).await?.assert_signed(false);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn worker_that_may_not_listen_works_on_and_says_so_once() -> Result<()> {
    let mut stack = Stack::start(0).await?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    assert!(applied.status.success(), "{applied:?}");
    // The exchange may be missing too: an older definitions file does not have it.
    stack.broker.delete_exchange("irn.control").await?;
    let url = stack.broker.add_user("^$", ".*", ".*").await?;
    let config = stack.config()?;
    let config = config
        .set("broker.url", url)?
        .set("broker.management_url", stack.broker.management())?
        .set("topology.declare", false)?;
    stack.workers.push(config.start("worker 1").await?);
    stack.workers[0]
        .until_logged("working without control", SOON)
        .await?;
    stack.settle(job("D/1")).await?.assert_signed(false);
    assert!(stack.worker()?.terminate(SOON).await?.success());
    let log = stack.workers[0].log();
    let told = log.iter().filter(|line| line.contains("without control"));
    assert_eq!(told.count(), 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn worker_that_may_not_speak_to_the_others_works_on_and_hears_them() -> Result<()> {
    let mut stack = Stack::start(0).await?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    assert!(applied.status.success(), "{applied:?}");
    let url = stack
        .broker
        .add_user(".*", r"^(?!irn\.control$).*$", ".*")
        .await?;
    let config = stack.config()?;
    let config = config
        .set("broker.url", url)?
        .set("topology.declare", false)?;
    stack.workers.push(config.start("worker 1").await?);
    stack.workers[0]
        .until_logged("other replicas do not hear this one", SOON)
        .await?;
    stack.settle(job("E/1")).await?.assert_signed(false);
    control_queues(&stack).await?;
    let resumed = stack.config()?.output("resume", &[SELLER]).await?;
    assert!(resumed.status.success(), "{resumed:?}");
    stack.workers[0]
        .until_logged("resumed by an operator", SOON)
        .await?;
    assert!(stack.worker()?.terminate(SOON).await?.success());
    let log = stack.workers[0].log();
    let told = log
        .iter()
        .filter(|line| line.contains("do not hear this one"));
    assert_eq!(told.count(), 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn resume_that_nobody_hears_fails_and_says_why() -> Result<()> {
    let stack = Stack::start(0).await?;
    let config = stack.config()?;
    let untold = config.output("resume", &[SELLER]).await?;
    assert_eq!(untold.status.code(), Some(1), "{untold:?}");
    assert!(String::from_utf8(untold.stderr)?.contains("topology apply"));
    assert!(
        config
            .output("topology", &["apply"])
            .await?
            .status
            .success()
    );
    let untold = config.output("resume", &[SELLER]).await?;
    assert_eq!(untold.status.code(), Some(1), "{untold:?}");
    assert!(String::from_utf8(untold.stderr)?.contains("no worker listens"));
    let misused = config.output("resume", &["nobody"]).await?;
    assert_eq!(misused.status.code(), Some(2), "{misused:?}");
    Ok(())
}
