//! Nothing of a document, password or secret leaves the worker but to the broker and the portal.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::amqp::Job;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::invoice::{self, invoice};
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(10);

const PASSWORD: &str = "cAnArY-pass-0417";
const CLIENT_SECRET: &str = "cAnArY-client-secret-0417";
const NAME: &str = "cAnArY Traders";
const ITEM: &str = "cAnArY twill weave";

/// What must be seen nowhere; in lower case, as it is looked for.
const CANARIES: [&str; 2] = ["canary", "27aapfu0939f1zv"];

fn marked(number: &str) -> String {
    invoice(SELLER, number)
        .replace("Sample Traders Private Limited", NAME)
        .replace("Cotton fabric dyed", ITEM)
}

async fn stack(
    change: impl Fn(WorkerConfig) -> Result<WorkerConfig>,
    workers: usize,
) -> Result<Stack> {
    let credentials = Credentials::of(&GSTINS)
        .password(SELLER, PASSWORD)
        .client_secret(CLIENT_SECRET);
    Stack::of(&credentials, workers, change).await
}

fn talkative(config: WorkerConfig) -> Result<WorkerConfig> {
    Ok(config
        .set("log.level", "trace")?
        .set("retry.max_attempts", 2)?
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "full"))
}

/// Every kind of ending, each with a canary in it.
async fn through_everything(stack: &Stack) -> Result<Vec<String>> {
    let faults = json!([
        {"endpoint": "generate", "number": "C/2", "kind": "drop", "when": "after", "times": 1},
        {"endpoint": "generate", "number": "C/3", "kind": "html", "times": 1},
        {"endpoint": "generate", "number": "C/4", "kind": "bad_signature"},
        {"endpoint": "generate", "number": "C/5", "kind": "mismatch"},
        {"endpoint": "generate", "number": "C/6", "kind": "wrong_key", "times": 1},
        {"endpoint": "generate", "number": "C/7", "kind": "error", "code": NAME, "message": ITEM},
        {"endpoint": "generate", "number": "C/8", "kind": "drop"},
        {"endpoint": "generate", "number": "C/9", "kind": "truncated", "when": "after", "times": 1},
    ]);
    stack.sandbox.faults(1, faults).await?;
    let mut jobs: Vec<Job> = (1..=9)
        .map(|i| Job::generate(&format!("j-{i}"), marked(&format!("C/{i}"))))
        .collect();
    let wrong = invoice::wrong_total(SELLER, "C/10").replace("Cotton fabric dyed", ITEM);
    jobs.push(Job::generate("j-10", wrong));
    jobs.push(Job::generate("j-11", format!("{{\"canary\": {NAME}")));
    jobs.push(Job::generate(
        "j-12",
        format!("[{},{}]", marked("C/12"), marked("C/13")),
    ));
    jobs.push(Job::generate(
        "j-13",
        format!("{{\"SellerDtls\":{{\"Gstin\":\"{NAME}\"}}}}"),
    ));
    stack.erp.publish(&jobs).await?;
    let outcomes = stack.outcomes(14, Duration::from_secs(30)).await?;
    let statuses = outcomes
        .values()
        .map(|outcome| outcome.status().to_owned())
        .collect();
    let leaked = outcomes
        .values()
        .any(|outcome| outcome.text("signed_invoice").contains("ey"));
    ensure!(
        leaked,
        "no result carried signed data: nothing could have leaked"
    );
    Ok(statuses)
}

fn assert_no_canary(text: &str, place: &str) {
    let lower = text.to_lowercase();
    for canary in CANARIES {
        if let Some(at) = lower.find(canary) {
            let around: String = lower
                .chars()
                .skip(lower[..at].chars().count().saturating_sub(80))
                .take(200)
                .collect();
            panic!("{canary} in {place}: …{around}…");
        }
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn log_at_trace_metrics_and_status_hold_no_canary() -> Result<()> {
    let mut stack = stack(talkative, 1).await?;
    let statuses = through_everything(&stack).await?;
    for status in ["signed", "failed", "rejected"] {
        assert!(statuses.iter().any(|seen| seen == status), "{statuses:?}");
    }
    let tokens = tokens_and_signatures(&stack).await?;
    let worker = stack.worker()?;
    let mut seen = vec![
        ("/metrics", worker.admin("/metrics").await?),
        ("/status", worker.admin("/status").await?),
        ("/", worker.admin("/").await?),
    ];
    assert!(worker.terminate(SOON).await?.success());
    let log = worker.log();
    assert!(
        log.len() > 20,
        "a log at trace is longer than {} lines",
        log.len()
    );
    seen.push(("the log", log.join("\n")));
    for (place, text) in &seen {
        assert_no_canary(text, place);
        for token in &tokens {
            assert!(!text.contains(token.as_str()), "signed data in {place}");
        }
    }
    Ok(())
}

/// Stretches of what the portal signed, which must not be logged either.
async fn tokens_and_signatures(stack: &Stack) -> Result<Vec<String>> {
    let outcome = stack.settle(Job::generate("last", marked("C/99"))).await?;
    outcome.assert_signed(false);
    let piece = |member: &str| {
        let token = outcome.text(member);
        token
            .get(token.len() - 40..)
            .map(str::to_owned)
            .context("a token is long")
    };
    Ok(vec![piece("signed_invoice")?, piece("signed_qr_code")?])
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refused_password_is_not_in_the_log_either() -> Result<()> {
    let mut stack = stack(talkative, 1).await?;
    let changed =
        json!({"gstin": SELLER, "username": format!("API_{SELLER}"), "password": "another-1"});
    stack.sandbox.post("password", &changed).await?;
    let outcome = stack.settle(Job::generate("j-1", marked("C/1"))).await?;
    assert_eq!(outcome.status(), "failed");
    let worker = stack.worker()?;
    let status: Value = serde_json::from_str(&worker.admin("/status").await?)?;
    assert_no_canary(&status.to_string(), "/status");
    worker.terminate(SOON).await?;
    assert_no_canary(&worker.log().join("\n"), "the log");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn other_ways_to_end_tell_nothing_of_the_document() -> Result<()> {
    let mut stack = stack(talkative, 1).await?;
    let settled = async |job: Job, status: &str| -> Result<()> {
        let outcome = stack.settle(job).await?;
        ensure!(outcome.status() == status, "{status}: {}", outcome.json);
        Ok(())
    };
    let job = |number: &str| Job::generate(number, marked(number));
    settled(job("E/1"), "signed").await?;
    let other = invoice::with_other_content(SELLER, "E/1").replace("Cotton fabric dyed", ITEM);
    settled(Job::generate("E/1b", other), "conflict").await?;
    let late = job("E/2").text_header("x-irn-deadline", "2020-01-01T00:00:00Z");
    settled(late, "expired").await?;
    settled(job("E/4").reply_to("canary.queue"), "failed").await?;
    stack.sandbox.advance("49h").await?;
    settled(Job::generate("E/1c", marked("E/1")), "partial").await?;
    let worker = stack.worker()?;
    assert_no_canary(&worker.admin("/metrics").await?, "/metrics");
    assert_no_canary(&worker.admin("/status").await?, "/status");
    assert!(worker.terminate(SOON).await?.success());
    assert_no_canary(&worker.log().join("\n"), "the log");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn broken_credentials_that_are_loaded_while_it_runs_tell_no_secret() -> Result<()> {
    let dir = TempDir::with_prefix("irn-worker-credentials-")?;
    let file = dir.path().join("c.toml");
    let credentials = Credentials::of(&GSTINS)
        .password(SELLER, PASSWORD)
        .client_secret(CLIENT_SECRET);
    credentials.write(&file)?;
    let path = file.to_str().context("a temporary path is UTF-8")?;
    let mut stack = stack(|config| talkative(config)?.set("credentials.path", path), 1).await?;
    let whole = std::fs::read_to_string(&file)?;
    let quoted = format!("\"{PASSWORD}\"");
    let broken = [
        whole.replace(&quoted, &format!("\"{PASSWORD}")),
        whole.replace(&quoted, PASSWORD),
        whole.replace(&quoted, &format!("[{quoted}]")),
        whole.replace(&quoted, &format!("{quoted}\npassword = {quoted}")),
        whole.replace(&quoted, &format!("{quoted}\npasswort = {quoted}")),
        whole.replace(
            &quoted,
            &format!("\"{PASSWORD}{PASSWORD}{PASSWORD}{PASSWORD}{PASSWORD}\""),
        ),
        whole.replace(
            &format!("\"{CLIENT_SECRET}\""),
            &format!("\"{CLIENT_SECRET}\\u0007\""),
        ),
    ];
    let worker = stack.worker()?;
    for (refused, text) in broken.iter().enumerate() {
        std::fs::write(&file, text)?;
        worker.signal(rustix::process::Signal::HUP)?;
        let enough = u32::try_from(refused)? + 1;
        eventually(SOON, "the file to be refused", async || {
            let name = "irn_worker_credentials_reloads_total";
            let times = worker.metric(name, "refused").await?;
            Ok((times >= f64::from(enough)).then_some(()))
        })
        .await?;
        assert_no_canary(&worker.admin("/status").await?, "/status");
    }
    assert_no_canary(&worker.log().join("\n"), "the log");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn commands_print_no_secret() -> Result<()> {
    let stack = stack(Ok, 0).await?;
    let config = talkative(stack.config()?)?;
    for arguments in [
        ["check", "--login"],
        ["check", "--json"],
        ["topology", "plan"],
        ["topology", "export"],
    ] {
        let output = config.output(arguments[0], &arguments[1..]).await?;
        let text = [output.stdout, output.stderr].concat();
        assert!(!text.is_empty(), "{arguments:?}");
        assert_no_canary(&String::from_utf8_lossy(&text), arguments[0]);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn no_file_is_opened_for_writing() -> Result<()> {
    let stack = stack(Ok, 0).await?;
    let dir = TempDir::with_prefix("irn-worker-strace-")?;
    let trace = dir.path().join("trace");
    let trace_text = trace.to_str().context("a temporary path is UTF-8")?;
    // -D: strace is the grandchild, so that the process that was started is the worker itself.
    let strace = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-e",
        "trace=open,openat,openat2,creat",
        "-o",
        trace_text,
    ];
    let mut worker = talkative(stack.config()?)?.spawn_under("traced worker", &strace)?;
    worker.until_ready().await?;
    through_everything(&stack).await?;
    assert!(worker.terminate(SOON).await?.success());
    let opened = opened_in(&trace)?;
    assert!(
        opened.iter().any(|call| call.contains("worker.toml")),
        "the trace misses what was read"
    );
    let written: Vec<&String> = opened.iter().filter(|call| writes_a_file(call)).collect();
    assert!(written.is_empty(), "{written:#?}");
    Ok(())
}

/// The calls that opened something.
fn opened_in(trace: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(trace)?;
    let failed = |line: &&str| line.contains(") = -1 ");
    Ok(text
        .lines()
        .filter(|line| !failed(line))
        .map(str::to_owned)
        .collect())
}

fn writes_a_file(call: &str) -> bool {
    let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TMPFILE", "creat("];
    writes.iter().any(|flag| call.contains(flag)) && !call.contains("\"/dev/null\"")
}

#[test]
fn opening_for_writing_is_told_from_reading() {
    for call in [
        r#"12 openat(AT_FDCWD, "/tmp/x", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 5"#,
        r#"12 openat(AT_FDCWD, "/tmp", O_RDWR|O_TMPFILE, 0600) = 5"#,
        r#"12 creat("x", 0600) = 3"#,
    ] {
        assert!(writes_a_file(call), "{call}");
    }
    for call in [
        r#"12 openat(AT_FDCWD, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 5"#,
        r#"12 openat(AT_FDCWD, "/dev/null", O_RDWR) = 5"#,
    ] {
        assert!(!writes_a_file(call), "{call}");
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn process_cannot_leave_a_core_file() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let pid = stack.worker()?.pid()?;
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let values: Vec<&str> = core.context("no core limit")?.split_whitespace().collect();
    assert_eq!(values[4..6], ["0", "0"], "{core:?}");
    Ok(())
}
