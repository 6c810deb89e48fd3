//! An operator's pause holds on every replica, those included that start later, until it is over or lifted.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::support::amqp::Job;
use crate::support::cluster::{Cluster, NODES};
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::proxy::TcpProxy;
use crate::support::sandbox::Sandbox;
use crate::support::stack::Stack;
use crate::support::worker::{WorkerConfig, WorkerProcess};

const SELLER: &str = GSTINS[0];
const OTHER: &str = GSTINS[1];
const OTHER_PAUSED: &str = GSTINS[4];
const SOON: Duration = Duration::from_secs(20);
/// Three nodes on a busy machine, one of them just killed: the stream gets another leader first.
const ELECTED_WITHIN: Duration = Duration::from_secs(60);
/// From the end of the command until no replica sends anything.
const OBEYED_WITHIN: Duration = Duration::from_secs(1);
const REASON: &str = "GST audit, call 4711";

fn jobs(gstin: &str, prefix: &str, count: usize) -> Vec<Job> {
    (0..count)
        .map(|number| {
            let number = format!("{prefix}/{number}");
            Job::generate(&number, invoice(gstin, &number))
        })
        .collect()
}

async fn status(worker: &mut WorkerProcess) -> Result<Value> {
    Ok(serde_json::from_str(&worker.admin("/status").await?)?)
}

/// Waits until every replica shows so many pauses.
async fn until_paused(
    workers: &mut [WorkerProcess],
    count: usize,
    deadline: Duration,
) -> Result<()> {
    for worker in workers {
        eventually(deadline, "the pauses", async || {
            let status = status(worker).await?;
            let pauses = status["pauses"].as_array().context("no pauses")?;
            ensure!(status["pauses_known"] == true, "not known yet");
            Ok((pauses.len() == count).then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn ordered(stack: &Stack, command: &str, arguments: &[&str]) -> Result<()> {
    let output = stack.config()?.output(command, arguments).await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

async fn pause(stack: &Stack, whom: &[&str], length: &str) -> Result<()> {
    let arguments = [whom, &["--reason", REASON, "--for", length]].concat();
    ordered(stack, "pause", &arguments).await
}

async fn requests_of(stack: &Stack, gstin: &str) -> Result<u64> {
    Ok(stack.sandbox.stats().await?.of(gstin).all_requests())
}

/// Has jobs of another GSTIN settled: whatever else goes on has had its time.
async fn others_do_not_notice(stack: &Stack, prefix: &str) -> Result<()> {
    stack.erp.declare("erp.others").await?;
    let others = jobs(OTHER, prefix, 60);
    let others: Vec<Job> = others
        .into_iter()
        .map(|job| job.reply_to("erp.others"))
        .collect();
    stack.erp.publish(&others).await?;
    for message in stack.erp.take("erp.others", 60, SOON).await? {
        Outcome::read(message)?.assert_signed(false);
    }
    Ok(())
}

/// Nothing of the seller's reaches the portal while another GSTIN's jobs are settled.
async fn nothing_is_sent(stack: &Stack, prefix: &str) -> Result<()> {
    let before = requests_of(stack, SELLER).await?;
    others_do_not_notice(stack, prefix).await?;
    let after = requests_of(stack, SELLER).await?;
    ensure!(before == after, "{} calls in a pause", after - before);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn paused_gstin_stops_on_three_replicas_within_a_second_and_after_a_restart_of_all()
-> Result<()> {
    const JOBS: usize = 300;
    let mut stack = Stack::start_with(3, |config| config.set("limits.per_gstin", "30/s")).await?;
    until_paused(&mut stack.workers, 0, SOON).await?;
    stack.erp.publish(&jobs(SELLER, "P", JOBS)).await?;
    eventually(SOON, "the seller's jobs to be under way", async || {
        Ok((stack.sandbox.stats().await?.of(SELLER).generates > 20).then_some(()))
    })
    .await?;

    pause(&stack, &[SELLER], "2h").await?;
    let ordered_at = Instant::now();
    until_paused(&mut stack.workers, 1, OBEYED_WITHIN).await?;
    println!(
        "obeyed by three replicas {:?} after the command",
        ordered_at.elapsed()
    );
    let status = status(&mut stack.workers[2]).await?;
    assert_eq!(status["pauses"][0]["reason"], REASON);
    assert_eq!(status["pauses"][0]["name"], SELLER);
    // What had left by then has been answered when the others' jobs are done.
    others_do_not_notice(&stack, "Q").await?;
    nothing_is_sent(&stack, "R").await?;
    let deferred = stack.workers[0]
        .metric("irn_worker_deferred_total", "reason=\"paused\"")
        .await?;
    assert!(deferred > 0.0);

    // All of them at once, one of them without a chance to say goodbye.
    let mut workers = std::mem::take(&mut stack.workers);
    let killed = workers.pop().context("three workers")?;
    killed.kill().await?;
    for worker in &mut workers {
        let ended = worker.terminate(SOON).await?;
        ensure!(ended.success(), "{ended}");
    }
    for number in 4..=6 {
        let config = stack.config()?;
        let worker = config.start(&format!("worker {number}")).await?;
        stack.workers.push(worker);
    }
    // No sooner than the pauses are known does a worker take its first job.
    until_paused(&mut stack.workers, 1, Duration::from_millis(200)).await?;
    nothing_is_sent(&stack, "S").await?;
    let registered = stack.sandbox.stats().await?.of(SELLER).registrations;
    assert!(
        registered < 300,
        "the pause came too late to prove anything"
    );

    ordered(&stack, "resume", &[SELLER]).await?;
    until_paused(&mut stack.workers, 0, OBEYED_WITHIN).await?;
    all_signed(&stack, JOBS).await?;
    let registered = stack.sandbox.stats().await?.of(SELLER).registrations;
    assert_eq!(usize::try_from(registered)?, JOBS);
    Ok(())
}

/// Every job is signed, and none of them twice in another way: after a kill a result may come twice.
async fn all_signed(stack: &Stack, jobs: usize) -> Result<()> {
    let mut signed = BTreeSet::new();
    let collecting = stack.erp.take_until("irn.results", |message| {
        let outcome = Outcome::read(message)?;
        ensure!(outcome.status() == "signed", "{}", outcome.json);
        // No pause has cost an attempt; a kill may have.
        let attempts = outcome.json["attempts"].as_u64();
        ensure!(attempts <= Some(2), "{}", outcome.json);
        signed.insert(outcome.text("job_id").to_owned());
        Ok(signed.len() == jobs)
    });
    timeout(Duration::from_secs(60), collecting)
        .await
        .context("not all jobs were signed")?
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn paused_portal_leaves_the_jobs_in_their_queue_and_a_pause_ends_by_itself() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    pause(&stack, &["--portal"], "1h").await?;
    stack.worker()?.until_not_ready(OBEYED_WITHIN).await?;
    let told = (503, "paused by an operator".to_owned());
    assert_eq!(stack.worker()?.readiness().await?, told);
    // One that starts now is not ready either, and takes nothing.
    let mut second = stack.config()?.spawn("worker 2")?;
    eventually(SOON, "the second worker to know", async || {
        Ok((second.readiness().await? == told).then_some(()))
    })
    .await?;
    stack.workers.push(second);
    stack.erp.publish(&jobs(SELLER, "P", 10)).await?;
    assert_eq!(stack.erp.jobs_waiting(&["200ms", "500ms", "1s"]).await?, 10);
    assert_eq!(stack.erp.depth("irn.jobs").await?, 10);
    assert_eq!(stack.sandbox.stats().await?.all_requests(), 0);

    // A pause may be made shorter; nobody has to lift it then.
    let since = Instant::now();
    pause(&stack, &["--portal"], "2s").await?;
    for outcome in stack.outcomes(10, SOON).await?.values() {
        outcome.assert_signed(false);
        assert_eq!(outcome.json["attempts"], 1, "{}", outcome.json);
    }
    let taken = since.elapsed();
    assert!(
        taken > Duration::from_secs(1),
        "only {taken:?} of two seconds"
    );
    for worker in &mut stack.workers {
        worker.until_ready().await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_of_a_paused_client_expires_in_time_without_a_call_and_the_others_wait() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    pause(&stack, &["--client", "it"], "1d 2h").await?;
    until_paused(&mut stack.workers, 1, OBEYED_WITHIN).await?;
    let deadline = Timestamp::now() + Duration::from_millis(700);
    let [late, waiting, faulty]: [Job; 3] =
        jobs(SELLER, "P", 3).try_into().ok().context("three")?;
    let late = late.text_header("x-irn-deadline", &deadline.to_string());
    let faulty = Job::generate(
        "F/1",
        String::from_utf8(faulty.body().to_vec())?
            .replace(r#""TotInvVal":21851"#, r#""TotInvVal":31851"#),
    );
    stack.erp.publish(&[waiting, faulty, late]).await?;
    let expired = stack.outcome().await?;
    assert_eq!(expired.status(), "expired", "{}", expired.json);
    assert!(Timestamp::now() > deadline);
    assert_eq!(stack.sandbox.stats().await?.all_requests(), 0);

    ordered(&stack, "resume", &["--client", "it"]).await?;
    let outcomes = stack.outcomes(2, SOON).await?;
    outcomes["P/1"].assert_signed(false);
    // It only went by before: it is judged now, as one that nobody has sent.
    assert_eq!(outcomes["F/1"].errors(), ["preflight 2189"]);
    let calls = stack.sandbox.calls().await?;
    assert_eq!((calls.logins, calls.generates, calls.lookups), (1, 1, 0));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn pause_that_cannot_be_given_says_why() -> Result<()> {
    let stack = Stack::start(0).await?;
    let config = stack.config()?;
    let long = "x".repeat(201);
    for (whom, reason, length, said) in [
        ("nobody", "a", "1h", "GSTIN"),
        (SELLER, "", "1h", "printable"),
        (SELLER, long.as_str(), "1h", "printable"),
        (SELLER, "a", "0s", "at most 30 days"),
        (SELLER, "a", "31d", "at most 30 days"),
        (SELLER, "a", "soon", "--for"),
    ] {
        let arguments = [whom, "--reason", reason, "--for", length];
        let output = config.output("pause", &arguments).await?;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stderr)?;
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    let arguments = [SELLER, "--reason", "a", "--for", "1h"];
    let output = config.output("pause", &arguments).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8(output.stderr)?.contains("topology apply"));
    ordered(&stack, "topology", &["apply"]).await?;
    for (whom, is_warned) in [(&[SELLER][..], false), (&["--client", "nobody"], true)] {
        let arguments = [whom, &arguments[1..]].concat();
        let output = config.output("pause", &arguments).await?;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stderr)?;
        assert_eq!(text.contains("not in the credentials"), is_warned, "{text}");
    }
    let url = stack.broker.add_user("^$", "^irn.jobs$", ".*").await?;
    let config = config.set("broker.url", url)?;
    let output = config.output("pause", &arguments).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr)?;
    assert!(text.contains("allowed to write"), "{text}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn paused_gstin_without_an_account_is_not_said_to_have_credentials() -> Result<()> {
    let mut stack = Stack::of(&Credentials::of(&GSTINS[..4]), 1, Ok).await?;
    for gstin in &GSTINS[3..] {
        pause(&stack, &[gstin], "1h").await?;
    }
    until_paused(&mut stack.workers, 2, SOON).await?;
    let status = status(stack.worker()?).await?;
    let lanes = status["lanes"].as_array().context("no lanes")?;
    for (gstin, credentials) in [(GSTINS[3], "ok"), (GSTINS[4], "none")] {
        let lane = lanes.iter().find(|lane| lane["gstin"] == gstin);
        assert_eq!(lane.context(gstin)?["credentials"], credentials, "{gstin}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn worker_that_cannot_read_the_log_says_so_once_and_works_on() -> Result<()> {
    let stack = Stack::start(0).await?;
    ordered(&stack, "topology", &["apply"]).await?;
    let works_without = async |worker: &mut WorkerProcess| -> Result<()> {
        let told = "working without the log of orders";
        worker.until_logged(told, SOON).await?;
        let status = status(worker).await?;
        assert_eq!(status["pauses_known"], false);
        assert_eq!(status["state"], "consuming");
        assert!(worker.terminate(SOON).await?.success());
        let log = worker.log();
        let told = log.iter().filter(|line| line.contains(told));
        assert_eq!(told.count(), 1);
        Ok(())
    };
    let url = stack
        .broker
        .add_user(".*", ".*", r"^(?!irn\.control\.log$)")
        .await?;
    let forbidden = stack.config()?.set("broker.url", url)?;
    let mut forbidden = forbidden.start("forbidden").await?;
    stack.settle(jobs(SELLER, "P", 1).remove(0)).await?;
    works_without(&mut forbidden).await?;
    // An older definitions file does not have it.
    stack.broker.delete_queue("irn.control.log").await?;
    let without = stack.config()?.set("topology.declare", false)?;
    let mut without = without.start("without").await?;
    stack.settle(jobs(SELLER, "Q", 1).remove(0)).await?;
    works_without(&mut without).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn pause_holds_and_new_ones_come_whichever_node_of_a_cluster_is_lost() -> Result<()> {
    let cluster = Cluster::start().await?;
    let broker = cluster.virtual_host().await?;
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
    // One worker at each node: with each node that is lost, one of them has to begin anew, at the next node.
    let addresses = cluster.addresses();
    let mut roads = Vec::new();
    let mut workers = Vec::new();
    for number in 0..NODES {
        let mut upstreams = addresses.clone();
        upstreams.rotate_left(number);
        let road = TcpProxy::to_any(&upstreams).await?;
        let url = broker.url_through(road.address());
        let config = WorkerConfig::between(&url, &sandbox)?;
        workers.push(config.start(&format!("worker {number}")).await?);
        roads.push(road);
    }
    until_paused(&mut workers, 0, ELECTED_WITHIN).await?;
    let order = async |command: &str, arguments: &[&str], through: &TcpProxy| -> Result<()> {
        let config = WorkerConfig::between(&broker.url_through(through.address()), &sandbox)?;
        let output = config.output(command, arguments).await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    };
    for node in 0..NODES {
        cluster.until_dispensable(node).await?;
        let next = &roads[(node + 1) % NODES];
        let arguments = [GSTINS[node], "--reason", REASON, "--for", "1h"];
        order("pause", &arguments, next).await?;
        until_paused(&mut workers, node + 1, ELECTED_WITHIN).await?;
        cluster.kill(node).await?;
        // Given while a node is away.
        let arguments = [OTHER_PAUSED, "--reason", "b", "--for", "1h"];
        order("pause", &arguments, next).await?;
        until_paused(&mut workers, node + 2, ELECTED_WITHIN).await?;
        order("resume", &[OTHER_PAUSED], next).await?;
        until_paused(&mut workers, node + 1, ELECTED_WITHIN).await?;
        cluster.start_again(node).await?;
        for worker in &mut workers {
            worker.until_ready().await?;
        }
    }
    Ok(())
}
