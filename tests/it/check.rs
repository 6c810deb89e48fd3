//! `check` on a live broker and portal, each made wrong in one way at a time; and `run`, which does not start on a broker
//! that would lose messages.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::process::Process;
use crate::support::stack::Stack;
use crate::support::tls::Ca;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];

/// A misconfiguration, and what `check` has to say of it.
struct Row {
    what: &'static str,
    remedy: &'static str,
    /// `fail` or `warn`
    verdict: &'static str,
    /// Messages would be lost.
    loses: bool,
    exit_code: i32,
}

const fn fails(what: &'static str, remedy: &'static str) -> Row {
    Row {
        what,
        remedy,
        verdict: "fail",
        loses: false,
        exit_code: 1,
    }
}

const fn loses(what: &'static str, remedy: &'static str) -> Row {
    Row {
        loses: true,
        ..fails(what, remedy)
    }
}

impl Row {
    const fn exits(self, exit_code: i32) -> Self {
        Self { exit_code, ..self }
    }

    const fn warns(self) -> Self {
        Self {
            verdict: "warn",
            exit_code: 0,
            ..self
        }
    }

    async fn is_named(&self, config: &WorkerConfig, arguments: &[&str]) -> Result<()> {
        let arguments: Vec<&str> = ["--json"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        let output = config.output("check", &arguments).await?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{}: {output:?}", self.what))?;
        let findings = report["findings"].as_array().context("no findings")?;
        let found = findings.iter().find(|finding| {
            let text = |member: &str| finding[member].as_str().unwrap_or_default();
            text("what").contains(self.what) && text("verdict") == self.verdict
        });
        let found = found.with_context(|| format!("nobody says {:?}: {report:#}", self.what))?;
        let remedy = found["remedy"].as_str().unwrap_or_default();
        ensure!(
            remedy.contains(self.remedy),
            "{:?} is no remedy: {found}",
            self.remedy
        );
        let loses = found["loses_messages"] == true;
        ensure!(loses == self.loses, "loses messages: {found}");
        ensure!(
            output.status.code() == Some(self.exit_code),
            "{:?}: {report:#}",
            output.status
        );
        Ok(())
    }
}

/// Without declaring anything itself, and with all interfaces to look through.
fn looking(stack: &Stack) -> Result<WorkerConfig> {
    stack
        .config()?
        .set("topology.declare", false)?
        .set("broker.management_url", stack.broker.management())
}

async fn apply(stack: &Stack) -> Result<()> {
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    ensure!(applied.status.success(), "{applied:?}");
    Ok(())
}

/// What a sound queue is declared with, and the changes.
fn queue(dead_letter_exchange: &str, changes: Value) -> Value {
    let mut arguments = json!({
        "x-queue-type": "quorum", "x-dead-letter-exchange": dead_letter_exchange,
        "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish", "x-delivery-limit": 20,
    });
    for (name, value) in changes.as_object().into_iter().flatten() {
        arguments[name] = value.clone();
    }
    let arguments: serde_json::Map<String, Value> = arguments
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    json!({"durable": true, "arguments": arguments})
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn check_finds_nothing_wrong_with_what_topology_apply_made() -> Result<()> {
    let stack = Stack::start(0).await?;
    apply(&stack).await?;
    let output = looking(&stack)?.output("check", &["--login"]).await?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    for part in [
        ": RabbitMQ ",
        "connected as guest",
        "queues and exchanges: all there",
        "publishes wherever a worker has to",
        "reads queue irn.jobs",
        "consumer_timeout of the broker's nodes",
        "key for logins",
        "SHA-256",
        "its clock is 0 s from ours",
        "logged in",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains("fail "), "{text}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn each_misconfiguration_of_the_broker_is_named_with_its_remedy() -> Result<()> {
    let stack = Stack::start(0).await?;
    let config = looking(&stack)?;
    let anew = "topology apply";
    let queues = [
        (
            "irn.jobs",
            json!({"durable": true, "arguments": {"x-dead-letter-exchange": "irn.poison"}}),
            loses(
                "queue irn.jobs: x-queue-type is classic, and should be quorum",
                anew,
            ),
        ),
        (
            "irn.jobs.urgent",
            queue("irn.poison", json!({"x-dead-letter-exchange": null})),
            loses(
                "queue irn.jobs.urgent: x-dead-letter-exchange is not set, and should be irn.poison",
                anew,
            ),
        ),
        (
            "irn.retry.500ms",
            queue(
                "irn.jobs",
                json!({"x-delivery-limit": 1_000_000, "x-message-ttl": 5_000}),
            ),
            fails(
                "queue irn.retry.500ms: x-message-ttl is 5000, and should be 500",
                anew,
            ),
        ),
        (
            "irn.jobs",
            queue("irn.poison", json!({"x-consumer-timeout": 60_000})),
            loses("queue irn.jobs: x-consumer-timeout is 60000", anew),
        ),
        (
            "irn.jobs",
            queue("irn.poison", json!({"x-delivery-limit": 2})),
            loses(
                "queue irn.jobs: x-delivery-limit is 2, and should be 20",
                anew,
            ),
        ),
    ];
    for (name, made, row) in queues {
        apply(&stack).await?;
        stack.broker.delete_queue(name).await?;
        stack.broker.put("queues", name, &made).await?;
        row.is_named(&config, &[]).await?;
        stack.broker.delete_queue(name).await?;
    }
    apply(&stack).await?;
    let policy = json!({"pattern": "^irn\\.results$", "apply-to": "queues", "definition": {"max-length": 10}});
    stack.broker.put("policies", "short", &policy).await?;
    // The management API tells of a policy some seconds later.
    let told = async || {
        let queues = stack.broker.list("queues").await?;
        let told = queues.iter().any(|queue| queue["policy"] == "short");
        Ok(told.then_some(()))
    };
    eventually(Duration::from_secs(20), "the policy to be told of", told).await?;
    loses(
        "queue irn.results: x-max-length is 10 by the policy short",
        "the policy short",
    )
    .is_named(&config, &[])
    .await?;
    stack.broker.remove("policies", "short").await?;
    stack.broker.delete_exchange("irn.poison").await?;
    fails("not there: exchange irn.poison", anew)
        .is_named(&config, &[])
        .await?;
    apply(&stack).await?;
    stack.broker.delete_exchange("irn.jobs").await?;
    let exchange = json!({"type": "topic", "durable": true});
    stack.broker.put("exchanges", "irn.jobs", &exchange).await?;
    let unset = loses("exchange irn.jobs: alternate-exchange is not set", anew);
    unset.is_named(&config, &[]).await?;
    // A policy that says nothing of it hides nothing.
    let policy =
        json!({"pattern": "^irn", "apply-to": "all", "definition": {"delivery-limit": 1_000_000}});
    stack.broker.put("policies", "limits", &policy).await?;
    exchange_has_policy(&stack, "limits").await?;
    unset.is_named(&config, &[]).await?;
    stack.broker.remove("policies", "limits").await?;
    let policy = json!({
        "pattern": "^irn\\.jobs$", "apply-to": "exchanges",
        "definition": {"alternate-exchange": "amq.fanout"},
    });
    stack.broker.put("policies", "elsewhere", &policy).await?;
    exchange_has_policy(&stack, "elsewhere").await?;
    loses(
        "exchange irn.jobs: alternate-exchange is amq.fanout by the policy elsewhere",
        "the policy elsewhere",
    )
    .is_named(&config, &[])
    .await?;
    stack.broker.remove("policies", "elsewhere").await?;
    fails(
        "queue irn.jobs: not bound to exchange irn.jobs under the key generate",
        anew,
    )
    .is_named(&config, &[])
    .await
}

/// The management API tells of a policy some seconds later.
async fn exchange_has_policy(stack: &Stack, policy: &str) -> Result<()> {
    let told = async || {
        let exchanges = stack.broker.list("exchanges").await?;
        let is_it = |exchange: &Value| exchange["name"] == "irn.jobs";
        let told = exchanges.iter().find(|exchange| is_it(exchange));
        Ok(told
            .filter(|exchange| exchange["policy"] == policy)
            .map(|_| ()))
    };
    eventually(Duration::from_secs(20), "the policy to be told of", told).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn users_without_a_right_are_told_which_one_is_missing() -> Result<()> {
    let stack = Stack::start(0).await?;
    apply(&stack).await?;
    let rights = "topology export --users";
    let mute = stack
        .broker
        .add_user_named("mute", "", "^irn\\.jobs$", ".*")
        .await?;
    let config = looking(&stack)?.set("broker.url", mute)?;
    fails("cannot publish to exchange amq.default", rights)
        .is_named(&config, &[])
        .await?;
    fails("cannot publish to exchange irn.retry.200ms", rights)
        .is_named(&config, &[])
        .await?;
    let blind = stack
        .broker
        .add_user_named("blind", "", ".*", "^irn\\.control.*$")
        .await?;
    let config = looking(&stack)?.set("broker.url", blind)?;
    fails("may not read queue irn.jobs", rights)
        .is_named(&config, &[])
        .await?;
    let config = looking(&stack)?.set("broker.url", stack.broker.url_as("guest", "wrong"))?;
    fails("ACCESS_REFUSED", "user and password in broker.url")
        .is_named(&config, &[])
        .await?;
    // Who may not configure is told what could not be looked at.
    let config = stack.config()?.set("topology.declare", false)?;
    let config = config.set(
        "broker.url",
        stack
            .broker
            .url_as(&stack.broker.user("mute"), &stack.broker.user("mute")),
    )?;
    fails(
        "AMQP tells of them only to who may configure them",
        "broker.management_url",
    )
    .warns()
    .exits(1)
    .is_named(&config, &[])
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn run_warns_of_queues_that_it_cannot_see_and_refuses_them_once_it_can() -> Result<()> {
    let stack = Stack::start(0).await?;
    // As the manifests have it: least rights, and no declaring. A queue that loses messages, which AMQP does not tell.
    apply(&stack).await?;
    stack.broker.delete_queue("irn.jobs").await?;
    let classic = json!({"durable": true});
    stack.broker.put("queues", "irn.jobs", &classic).await?;
    let url = stack
        .broker
        .add_user(
            r"^irn\.control\.(?!log$).*$",
            r"^(amq\.default|irn\.(jobs|retry\..*|control(\..*)?))$",
            r"^irn\.(jobs(\.urgent)?|dead|control(\..*)?)$",
        )
        .await?;
    let poor = || -> Result<WorkerConfig> {
        let config = stack.config()?.set("broker.url", url.as_str())?;
        config.set("topology.declare", false)
    };
    let unseen = "cannot be seen, and may be such that messages are lost";
    // No management API, one that refuses to tell, and one that does not answer.
    let refusing = stack.broker.management_as("guest", "wrong");
    for (management, remedy) in [
        (None, "set broker.management_url"),
        (
            Some(refusing.as_str()),
            "give the user the tag `monitoring`",
        ),
        (
            Some("http://guest:guest@127.0.0.1:1"),
            "rabbitmq_management",
        ),
    ] {
        let config = match management {
            Some(url) => poor()?.set("broker.management_url", url)?,
            None => poor()?,
        };
        fails(unseen, remedy).warns().is_named(&config, &[]).await?;
        let mut worker = Process::start("worker", config.command("run")?)?;
        let told = |line: &str| (line.contains(unseen) && line.contains(remedy)).then_some(());
        worker
            .line(Duration::from_secs(20), "what it could not see", told)
            .await?;
    }
    // Where it tells, what is wrong is seen.
    let config = poor()?.set("broker.management_url", stack.broker.management())?;
    let output = config.output("run", &[]).await?;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    says(&output, &["queue irn.jobs: x-queue-type is classic"]);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn bindings_that_double_or_divert_jobs_are_named() -> Result<()> {
    let stack = Stack::start(0).await?;
    apply(&stack).await?;
    let config = looking(&stack)?;
    // The workers' own queues for orders are nothing strange.
    let _worker = stack.config()?.start("worker").await?;
    let sound = config.output("check", &[]).await?;
    let text = String::from_utf8(sound.stdout)?;
    assert_eq!(sound.status.code(), Some(0), "{text}");
    assert!(!text.contains("as well"), "{text}");
    let away = "take the binding away";
    for (from, to, key, what) in [
        (
            "irn.retry.500ms",
            "irn.jobs",
            "",
            "queue irn.jobs: bound to exchange irn.retry.500ms as well: what is meant for another",
        ),
        (
            "irn.jobs",
            "irn.jobs.urgent",
            "generate",
            "queue irn.jobs.urgent: bound to exchange irn.jobs under the key generate as well",
        ),
        (
            "irn.jobs",
            "irn.dead",
            "generate",
            "queue irn.dead: bound to exchange irn.jobs under the key generate as well",
        ),
    ] {
        let bound = stack.erp.bind(from, to, key).await;
        bound?;
        fails(what, away).is_named(&config, &[]).await?;
        stack.erp.unbind(from, to, key).await?;
    }
    stack.erp.declare("erp.copies").await?;
    stack.erp.bind("irn.jobs", "erp.copies", "#").await?;
    fails(
        "queue erp.copies: bound to exchange irn.jobs under the key # as well: somebody else",
        away,
    )
    .warns()
    .is_named(&config, &[])
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn web_server_that_is_no_portal_is_not_taken_for_one() -> Result<()> {
    let stack = Stack::start(0).await?;
    apply(&stack).await?;
    let management = stack.broker.management();
    let (_, address) = management.rsplit_once('@').context("user and password")?;
    let config = looking(&stack)?.set("irp.base_url", format!("http://{address}"))?;
    fails(
        "what answers there does not do so as the portal does",
        "check --login",
    )
    .warns()
    .is_named(&config, &[])
    .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn each_misconfiguration_of_portal_and_files_is_named_with_its_remedy() -> Result<()> {
    let stack = Stack::start(0).await?;
    apply(&stack).await?;
    let folder = tempfile::tempdir()?;
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/nic-sandbox-signing.pem");
    let other = other.to_str().context("the path is UTF-8")?;
    let config = looking(&stack)?.set("irp.public_key_file", other)?;
    fails(
        "login failed: the portal refused: 1020",
        "irp.public_key_file",
    )
    .is_named(&config, &["--login"])
    .await?;
    let changed =
        json!({"gstin": SELLER, "username": format!("API_{SELLER}"), "password": "another-1"});
    stack.sandbox.post("password", &changed).await?;
    fails(
        "29AAGCE4783K1Z1: login failed: the portal refused: 1019",
        "password",
    )
    .is_named(&looking(&stack)?, &["--login"])
    .await?;
    let ca = Ca::new()?;
    let (cert, key) = ca
        .issue_expired(&["client"], "client")?
        .write(folder.path(), "client")?;
    let config = looking(&stack)?
        .set("broker.client_cert_file", cert)?
        .set("broker.client_key_file", key)?;
    fails("broker.client_cert_file: the certificate in", "valid")
        .exits(2)
        .is_named(&config, &[])
        .await?;
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(stack.sandbox.credentials(), readable)?;
    fails("holds secrets and can be read by every user", "chmod o-rwx")
        .warns()
        .is_named(&looking(&stack)?, &[])
        .await?;
    stack.sandbox.advance("10m").await?;
    fails("s ahead of ours", "NTP")
        .is_named(&looking(&stack)?, &[])
        .await
}

fn says(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    for part in parts {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn run_refuses_a_broker_that_would_lose_messages_until_told_otherwise() -> Result<()> {
    let stack = Stack::start(0).await?;
    // Over AMQP alone, and although the worker declares what it needs.
    let classic = json!({"durable": true, "arguments": {"x-dead-letter-exchange": "irn.poison"}});
    stack.broker.put("queues", "irn.jobs", &classic).await?;
    let limited = queue("irn.poison", json!({"x-delivery-limit": 1}));
    stack
        .broker
        .put("queues", "irn.jobs.urgent", &limited)
        .await?;
    let config = stack.config()?;
    let output = config.output("run", &[]).await?;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    says(
        &output,
        &[
            "queue irn.jobs: x-queue-type is classic, and should be quorum",
            "queue irn.jobs: x-overflow is not set, and should be reject-publish",
            "queue irn.jobs.urgent: x-delivery-limit is 1, and should be 20",
            "topology apply",
            "--allow-unsafe-broker",
        ],
    );
    let mut command = config.command("run")?;
    command.arg("--allow-unsafe-broker");
    let mut worker = Process::start("worker", command)?;
    let told = |line: &str| line.contains("x-queue-type is classic").then_some(());
    worker
        .line(Duration::from_secs(20), "what it puts up with", told)
        .await?;
    let once = json!([{"endpoint": "generate", "kind": "drop", "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    stack
        .settle(Job::generate("j-1", invoice(SELLER, "U/1")))
        .await?
        .assert_signed(false);
    Ok(())
}
