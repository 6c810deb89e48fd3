//! The commands as a person or a script meets them: what they print, what they leave behind, and their exit codes
//! (0 done, 1 the work failed, 2 wrong usage or configuration, 3 broker or portal unreachable).

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::amqp::Job;
use crate::support::broker::Broker;
use crate::support::credentials::GSTINS;
use crate::support::invoice::{self, invoice, irn, odd_but_valid};
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];

/// No command of these tests has so much to do.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

fn vectors(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name)
}

fn vector_json(name: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(vectors(name))?)?)
}

/// Runs `irn-worker` in an empty folder, `input` on its standard input.
async fn irn_worker(arguments: &[&str], input: &str) -> Result<Output> {
    let dir = TempDir::new()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_irn-worker"));
    command.args(arguments).current_dir(dir.path());
    fed(command, input).await
}

async fn fed(mut command: Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("standard input is piped")?;
    // Written beside the reading: neither pipe may fill up while nobody reads the other.
    let writing = async move {
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        anyhow::Ok(())
    };
    let ended = timeout(ENDS_WITHIN, child.wait_with_output());
    let (written, output) = tokio::join!(writing, ended);
    // A command that refuses its arguments does not read its input.
    written.or_else(|error| match error.downcast_ref::<std::io::Error>() {
        Some(broken) if broken.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })?;
    Ok(output.context("the command does not end")??)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32, says: &str) {
    let text = format!("{}{}", stdout(output), stderr(output));
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{says:?} is not in:\n{text}");
}

/// A port at which nobody listens.
async fn closed_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

#[tokio::test]
async fn irn_command_computes_every_vector_of_todays_rule() -> Result<()> {
    let all = vector_json("irn.json")?;
    let mut computed = 0;
    for vector in all.as_array().context("a list")? {
        let text = |member: &str| vector[member].as_str().unwrap_or_default().to_owned();
        let number = text("hashed_number");
        // The one from before June 2025 was hashed in lower case.
        if number != number.to_uppercase() {
            continue;
        }
        for number in [number.clone(), number.to_lowercase()] {
            let output = irn_worker(
                &["irn", &text("gstin"), &text("date"), &text("type"), &number],
                "",
            )
            .await?;
            assert_exit(&output, 0, "");
            assert_eq!(stdout(&output).trim(), text("irn"), "{vector}");
            computed += 1;
        }
    }
    assert!(computed >= 12, "{computed}");
    let output = irn_worker(
        &[
            "--json",
            "irn",
            SELLER,
            "05/09/2025",
            "INV",
            "SI/25-26/00417",
        ],
        "",
    )
    .await?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(
        json["irn"],
        "fae5ffe886954f6ac49fc7984f5524d7dda619175aa78bf6481966fe65d48908"
    );
    Ok(())
}

#[tokio::test]
async fn wrong_usage_ends_with_2_and_says_what_is_wrong() -> Result<()> {
    let rows: [(&[&str], &str); 9] = [
        (&["irn", SELLER, "2025-09-05", "INV", "1"], "dd/mm/yyyy"),
        (&["irn", "29AAGCE", "05/09/2025", "INV", "1"], "29AAGCE"),
        (&["irn", SELLER, "05/09/2025", "BILL", "1"], "BILL"),
        (&["frobnicate"], "frobnicate"),
        (&["run", "--config", "nowhere.toml"], "nowhere.toml"),
        (&["verify", "-"], "config/worker.toml"),
        (&["submit"], "FILE|DIR|-"),
        (&["validate", "nowhere.json"], "nowhere.json"),
        (&["validate", "."], ".: is a directory"),
    ];
    for (arguments, says) in rows {
        assert_exit(&irn_worker(arguments, "").await?, 2, says);
    }
    assert_exit(&irn_worker(&["--help"], "").await?, 0, "submit");
    Ok(())
}

#[tokio::test]
async fn nics_own_tokens_verify_and_none_with_a_changed_byte_does() -> Result<()> {
    let key = vectors("nic-sandbox-signing.pem");
    let key = key.to_str().context("the path is UTF-8")?;
    let all = vector_json("nic-signed-qr.json")?;
    let tokens: Vec<&str> = all["tokens"]
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(tokens.len(), 2);
    let output = irn_worker(&["verify", "--key", key, "-"], &tokens.join("\n")).await?;
    assert_exit(&output, 0, "signature verified");
    for field in ["09AAJCM7191E1Z5", "35d7df8d-fce7-49", "SAM/011"] {
        assert!(stdout(&output).contains(field), "{field}");
    }
    // One process for all changes, each a line of its own. A genuine token comes first, and tells the worker which
    // name the key goes by.
    let changed: Vec<String> = tokens
        .iter()
        .flat_map(|token| (0..token.len()).map(|at| with_another_byte(token, at)))
        .collect();
    let input = format!("{}\n{}", tokens[0], changed.join("\n"));
    let output = irn_worker(&["verify", "--json", "--key", key, "-"], &input).await?;
    assert_exit(&output, 1, "forged");
    let verdicts: Vec<Value> = stdout(&output)
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(verdicts.len(), 1 + changed.len());
    let believed: Vec<usize> = (0..verdicts.len())
        .filter(|line| verdicts[*line]["verdict"] == "genuine")
        .collect();
    assert_eq!(believed, [0], "lines with a changed byte were believed");
    for at in [0, 200, changed.len() - 1] {
        let output = irn_worker(&["verify", "--key", key, "-"], &changed[at]).await?;
        assert_exit(&output, 1, "");
    }
    Ok(())
}

fn with_another_byte(token: &str, at: usize) -> String {
    let mut bytes = token.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn verify_fails_on_what_holds_no_token_and_on_a_key_that_is_none() -> Result<()> {
    let key = vectors("nic-sandbox-signing.pem");
    let key = key.to_str().context("the path is UTF-8")?;
    assert_exit(
        &irn_worker(&["verify", "--key", key, "-"], "{}").await?,
        1,
        "no signed token",
    );
    assert_exit(
        &irn_worker(&["verify", "--key", key, "nowhere.jwt"], "").await?,
        2,
        "nowhere.jwt",
    );
    let json = vectors("irn.json");
    let json = json.to_str().context("the path is UTF-8")?;
    assert_exit(
        &irn_worker(&["verify", "--key", json, "-"], "a.b.c").await?,
        2,
        "irn.json",
    );
    Ok(())
}

/// Queues or exchanges as they were declared, by name; the broker's own are left out.
async fn declared(broker: &Broker, kind: &str) -> Result<Vec<Value>> {
    let mut all: Vec<Value> = broker
        .list(kind)
        .await?
        .into_iter()
        .filter(|one| {
            !["", "amq."]
                .iter()
                .any(|own| *own == one["name"] || starts(&one["name"], "amq."))
        })
        .map(|one| json!([one["name"], one["type"], one["durable"], one["arguments"]]))
        .collect();
    all.sort_by_key(ToString::to_string);
    Ok(all)
}

fn starts(name: &Value, prefix: &str) -> bool {
    name.as_str().is_some_and(|name| name.starts_with(prefix))
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn topology_is_planned_applied_once_and_the_second_time_changes_nothing() -> Result<()> {
    let stack = Stack::start(0).await?;
    let config = stack.config()?;
    let plan = config.output("topology", &["plan"]).await?;
    assert_exit(&plan, 0, "x-dead-letter-strategy");
    assert!(
        declared(&stack.broker, "queues").await?.is_empty(),
        "a plan declares nothing"
    );
    assert_exit(
        &config.output("topology", &["apply"]).await?,
        0,
        "irn.jobs.urgent",
    );
    let queues = declared(&stack.broker, "queues").await?;
    let exchanges = declared(&stack.broker, "exchanges").await?;
    let bindings = stack.broker.list("bindings").await?.len();
    assert_exit(
        &config.output("topology", &["apply"]).await?,
        0,
        "irn.jobs.urgent",
    );
    assert_eq!(declared(&stack.broker, "queues").await?, queues);
    assert_eq!(declared(&stack.broker, "exchanges").await?, exchanges);
    assert_eq!(stack.broker.list("bindings").await?.len(), bindings);
    let plan = stdout(&plan);
    for queue in &queues {
        let name = queue[0].as_str().context("a queue has a name")?;
        assert!(
            plan.contains(&format!("queue {name} ")),
            "{name} is not in the plan"
        );
        let kind = if name == "irn.control.log" {
            "stream"
        } else {
            "quorum"
        };
        assert_eq!(queue[1], kind, "{name}");
    }
    for name in [
        "irn.jobs",
        "irn.jobs.urgent",
        "irn.results",
        "irn.dead",
        "irn.poison",
        "irn.retry.200ms",
    ] {
        assert!(
            queues.iter().any(|queue| queue[0] == name),
            "{name} is missing"
        );
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn exported_definitions_make_an_empty_virtual_host_ready() -> Result<()> {
    let stack = Stack::start(0).await?;
    let config = stack.config()?.set("topology.declare", false)?;
    let export = config.output("topology", &["export"]).await?;
    assert_exit(&export, 0, "irn.jobs");
    stack
        .broker
        .import(&serde_json::from_slice(&export.stdout)?)
        .await?;
    let queues = declared(&stack.broker, "queues").await?;
    let exchanges = declared(&stack.broker, "exchanges").await?;
    assert!(queues.len() >= 8, "{queues:?}");
    assert_exit(&config.output("topology", &["apply"]).await?, 0, "irn.jobs");
    assert_eq!(declared(&stack.broker, "queues").await?, queues);
    assert_eq!(declared(&stack.broker, "exchanges").await?, exchanges);
    let _worker = config.start("worker").await?;
    stack
        .settle(Job::generate("j-1", invoice(SELLER, "X/1")))
        .await?
        .assert_signed(false);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn worker_runs_as_a_user_who_may_configure_nothing() -> Result<()> {
    let stack = Stack::start(0).await?;
    let poor = stack.broker.add_user("", ".*", ".*").await?;
    let config = stack.config()?.set("broker.url", poor.as_str())?;
    assert_exit(
        &config.output("topology", &["apply"]).await?,
        1,
        "may not configure",
    );
    let config = config
        .set("topology.declare", false)?
        .set("broker.management_url", stack.broker.management())?;
    let missing = config.output("check", &[]).await?;
    assert_exit(&missing, 1, "irn-worker topology apply");
    assert_exit(
        &stack.config()?.output("topology", &["apply"]).await?,
        0,
        "",
    );
    assert_exit(&config.output("check", &[]).await?, 0, "all there");
    let _worker = config.start("worker").await?;
    let once = json!([{"endpoint": "generate", "kind": "drop", "times": 1}]);
    stack.sandbox.faults(1, once).await?;
    stack
        .settle(Job::generate("j-1", invoice(SELLER, "X/2")))
        .await?
        .assert_signed(false);
    Ok(())
}

/// Runs `submit` with this configuration.
async fn submit(config: &WorkerConfig, arguments: &[&str], input: &str) -> Result<Output> {
    let mut command = config.command("submit")?;
    command.args(arguments);
    fed(command, input).await
}

/// Results of `--out`, each a JSON object on its line.
fn results_in(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)?;
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn submit_takes_files_folders_arrays_and_lines_and_writes_a_result_for_each() -> Result<()> {
    let stack = Stack::start(1).await?;
    let config = stack.config()?;
    let dir = TempDir::new()?;
    let path = |name: &str| dir.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let odd = odd_but_valid(SELLER, "F/1");
    std::fs::write(path("one.json"), &odd)?;
    std::fs::create_dir(path("many"))?;
    let line = |number: &str| invoice(SELLER, number).replace('\n', " ");
    std::fs::write(
        path("many/a.ndjson"),
        format!("{}\n{}\n", line("F/2"), line("F/3")),
    )?;
    std::fs::write(
        path("many/b.json"),
        format!("[{},\n{}]", line("F/4"), line("F/5")),
    )?;
    std::fs::write(path("many/c.txt"), "not an invoice")?;
    let (one, many, out) = (text("one.json"), text("many"), text("out.ndjson"));

    let output = submit(&config, &["--wait", "--out", &out, &one], "").await?;
    assert_exit(&output, 0, "signed");
    let results = results_in(&path("out.ndjson"))?;
    assert_eq!(
        (results.len(), &results[0]["irn"]),
        (1, &json!(irn(SELLER, "F/1")))
    );
    assert_eq!(
        stack.sandbox.received(&irn(SELLER, "F/1")).await?,
        odd.trim().as_bytes()
    );

    let output = submit(&config, &["--json", "--wait", "--out", &out, &many], "").await?;
    assert_exit(&output, 0, "");
    assert_eq!(results_in(&path("out.ndjson"))?.len(), 4);
    let summary: Value = serde_json::from_str(&stdout(&output))?;
    assert_eq!(
        (&summary["published"], &summary["statuses"]["signed"]),
        (&json!(4), &json!(4))
    );

    let both = format!("[{}]\n{}", line("F/6"), line("F/7"));
    let output = submit(&config, &["--json", "--wait", "--urgent", "-"], &both).await?;
    assert_exit(&output, 0, "");
    let summary = stderr(&output);
    let summary: Value = serde_json::from_str(summary.lines().last().context("no summary")?)?;
    assert_eq!(summary["published"], 2);
    let numbers: Vec<Value> = stdout(&output)
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(
        numbers.len(),
        2,
        "without --out the results are on standard output"
    );
    let queues = stack.broker.list("queues").await?;
    assert!(
        !queues.iter().any(|queue| starts(&queue["name"], "erp.")),
        "a reply queue was left behind"
    );

    let output = submit(&config, &["--gstin", SELLER, "-"], &line("F/8")).await?;
    assert_exit(&output, 0, "1 published");
    stack.outcome().await?.assert_signed(false);
    let output = submit(&config, &["--json", "-"], &line("F/9")).await?;
    assert_exit(&output, 0, "");
    let summary: Value = serde_json::from_str(&stdout(&output))?;
    assert_eq!(summary["published"], 1);
    stack.outcome().await?.assert_signed(false);
    Ok(())
}

/// The bodies of other jobs are submitted as invoices are, each a job of its own, in the name of a GSTIN.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn submit_takes_the_other_operations_and_knows_how_they_have_to_end() -> Result<()> {
    let stack = Stack::start(1).await?;
    let config = stack.config()?;
    let register = submit(&config, &["--wait", "-"], &invoice(SELLER, "F/9")).await?;
    assert_exit(&register, 0, "signed");
    let irn = irn(SELLER, "F/9");
    let asked = format!(r#"[{{"Irn":"{irn}"}},{{"Typ":"INV","No":"F/9","Dt":"05/09/2025"}}]"#);
    let get = ["--operation", "get", "--gstin", SELLER, "--wait", "-"];
    let output = submit(&config, &get, &asked).await?;
    assert_exit(&output, 0, "found");
    assert_eq!(stdout(&output).lines().count(), 2);
    let order = format!(r#"{{"Irn":"{irn}","CnlRsn":"1","CnlRem":"Twice"}}"#);
    let cancel = ["--operation", "cancel", "--gstin", SELLER, "--wait", "-"];
    assert_exit(&submit(&config, &cancel, &order).await?, 0, "cancelled");
    let unknown = format!(r#"{{"Irn":"{}"}}"#, "0".repeat(64));
    assert_exit(&submit(&config, &get, &unknown).await?, 1, "not_found");
    let nameless = submit(&config, &["--operation", "ewb", "-"], &order).await?;
    assert_exit(&nameless, 2, "--gstin");
    assert_exit(
        &submit(&config, &["--operation", "print", "-"], "{}").await?,
        2,
        "cancel",
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn submit_ends_with_1_when_an_invoice_is_not_signed_or_not_json() -> Result<()> {
    let stack = Stack::start(1).await?;
    let config = stack.config()?;
    let mixed = format!(
        "{}\n{}",
        invoice(SELLER, "G/1"),
        invoice::wrong_total(SELLER, "G/2")
    );
    let output = submit(&config, &["--wait", "-"], &mixed).await?;
    assert_exit(&output, 1, "2189");
    for word in ["signed", "rejected"] {
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
    let before = stack.sandbox.calls().await?;
    let broken = format!("{}\n{{\"half\":", invoice(SELLER, "G/3"));
    assert_exit(
        &submit(&config, &["--wait", "-"], &broken).await?,
        1,
        "nothing was published",
    );
    assert_exit(
        &submit(&config, &["nowhere.json"], "").await?,
        2,
        "nowhere.json",
    );
    assert_eq!(stack.sandbox.calls().await?, before);
    let marked = format!("\u{feff}{}", invoice(SELLER, "G/4"));
    let output = submit(&config, &["--wait", "-"], &marked).await?;
    assert_exit(&output, 0, "signed");
    let sent = stack.sandbox.received(&irn(SELLER, "G/4")).await?;
    assert!(sent.starts_with(b"{"));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn submit_tells_what_is_missing_around_it() -> Result<()> {
    let stack = Stack::start(0).await?;
    let one = invoice(SELLER, "H/1");
    let config = stack.config()?;
    for arguments in [["--urgent", "-"], ["--wait", "-"]] {
        assert_exit(
            &submit(&config, &arguments, &one).await?,
            1,
            "topology apply",
        );
    }
    assert_exit(&config.output("topology", &["apply"]).await?, 0, "");
    let output = submit(&config, &["--wait", "--timeout", "300ms", "-"], &one).await?;
    assert_exit(&output, 1, "no result");
    assert_exit(&submit(&config, &["-"], "").await?, 2, "no invoices found");
    let strict = stack.config()?.set("replies.allow", vec!["irn.results"])?;
    assert_exit(
        &submit(&strict, &["--wait", "-"], &one).await?,
        2,
        "replies.allow",
    );
    let gone = stack.config()?.set(
        "broker.url",
        format!("amqp://guest:guest@127.0.0.1:{}", closed_port().await?),
    )?;
    assert_exit(&submit(&gone, &["-"], &one).await?, 3, "broker");
    assert_exit(&gone.output("topology", &["apply"]).await?, 3, "broker");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn check_names_every_fault_with_key_and_remedy() -> Result<()> {
    let stack = Stack::start(0).await?;
    let faulty = stack
        .config()?
        .set("irp.settle_time", "2h")?
        .set("irp.concurency", 3)?
        .set("limits.per_gstin", "fast")?;
    let output = faulty.output("check", &[]).await?;
    assert_exit(&output, 2, "worker.toml");
    for part in [
        "irp.settle_time",
        "irp.concurency",
        "did you mean `irp.concurrency`?",
        "limits.per_gstin",
        "->",
    ] {
        assert!(
            stdout(&output).contains(part),
            "{part} is not in:\n{}",
            stdout(&output)
        );
    }
    let output = faulty.output("check", &["--json"]).await?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["exit_code"], 2);
    let findings = report["findings"].as_array().context("no findings")?;
    let failed: Vec<&Value> = findings
        .iter()
        .filter(|finding| finding["verdict"] == "fail")
        .collect();
    assert!(failed.len() >= 3, "{report}");
    for finding in failed {
        ensure!(finding["remedy"].is_string(), "no remedy: {finding}");
    }
    // What `run` says of the same file is the same, and it does not start.
    let run = faulty.output("run", &[]).await?;
    assert_exit(&run, 2, "irp.concurency");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn check_logs_in_once_for_each_gstin_and_tells_who_is_refused() -> Result<()> {
    let stack = Stack::start(0).await?;
    let config = stack.config()?;
    assert_exit(&config.output("check", &[]).await?, 0, "connected as");
    assert_eq!(
        stack.sandbox.calls().await?.logins,
        0,
        "without --login nobody logs in"
    );
    let output = config.output("check", &["--login"]).await?;
    assert_exit(&output, 0, "logged in");
    assert_eq!(stack.sandbox.calls().await?.logins, 5);
    let changed =
        json!({"gstin": SELLER, "username": format!("API_{SELLER}"), "password": "another-1"});
    stack.sandbox.post("password", &changed).await?;
    let output = config.output("check", &["--login"]).await?;
    assert_exit(&output, 1, &format!("{SELLER}: login failed"));
    assert_eq!(stdout(&output).matches("logged in").count(), 4);
    let gone = stack.config()?.set(
        "broker.url",
        format!("amqp://guest:guest@127.0.0.1:{}", closed_port().await?),
    )?;
    assert_exit(&gone.output("check", &[]).await?, 3, "start the broker");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn result_that_submit_wrote_verifies_with_the_portals_key() -> Result<()> {
    let stack = Stack::start(1).await?;
    let config = stack.config()?;
    let submitted = submit(&config, &["--wait", "-"], &invoice(SELLER, "K/1")).await?;
    assert_exit(&submitted, 0, "");
    let mut command = config.command("verify")?;
    command.args(["--json", "-"]);
    let verified = fed(command, &stdout(&submitted)).await?;
    assert_exit(&verified, 0, "genuine");
    let tokens: Vec<Value> = stdout(&verified)
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(tokens.len(), 2, "the invoice and its QR code");
    assert!(
        tokens.iter().any(|token| token["data"]["DocNo"] == "K/1"),
        "{tokens:?}"
    );
    let mut command = config.command("verify")?;
    command.args(["--qr", "-"]);
    let drawn = fed(command, &stdout(&submitted)).await?;
    assert_exit(&drawn, 0, "█");
    // NIC's key did not sign what the sandbox signed.
    let nic = vectors("nic-sandbox-signing.pem");
    let nic = nic.to_str().context("the path is UTF-8")?;
    assert_exit(
        &irn_worker(&["verify", "--key", nic, "-"], &stdout(&submitted)).await?,
        1,
        "",
    );
    Ok(())
}
