//! What those see who watch: alerts that fire in the state they are about, a dashboard whose queries answer, and documents
//! that name every metric and field there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use irn_worker::telemetry::METRICS;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::prometheus::{Prometheus, shipped};
use crate::support::route::Way;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(45);
/// Longer than the delays before the first three probes of a portal that was down.
const RECOVERED_WITHIN: Duration = Duration::from_secs(90);

/// A worker and a Prometheus that has seen it well, and in which this alert does not fire.
async fn watched(
    alert: &str,
    change: impl Fn(WorkerConfig) -> Result<WorkerConfig>,
) -> Result<(Stack, Prometheus)> {
    // Queues are declared beforehand: one that a test takes away then stays away.
    let mut stack = Stack::start_with(0, Ok).await?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    ensure!(applied.status.success(), "{applied:?}");
    let config = change(stack.config()?)?.set("topology.declare", false)?;
    stack.workers.push(config.start("worker").await?);
    let prometheus = Prometheus::watching(&[stack.worker()?.admin_url().await?]).await?;
    prometheus.until("irn_worker_ready == 1", SOON).await?;
    prometheus
        .until("irn_worker_dead_letters_total == 0", SOON)
        .await?;
    prometheus.until_quiet(alert, SOON).await?;
    Ok((stack, prometheus))
}

fn jobs(prefix: &str, count: usize) -> Vec<Job> {
    let job = |i| {
        let number = format!("{prefix}/{i}");
        Job::generate(&number, invoice(SELLER, &number))
    };
    (1..=count).map(job).collect()
}

#[tokio::test]
#[ignore = "needs RabbitMQ and Prometheus: scripts/test"]
async fn alert_fires_while_the_portal_is_down_and_ends_with_it() -> Result<()> {
    let (stack, prometheus) = watched("IrnPortalDown", Ok).await?;
    let down = json!([{"endpoint": "core", "kind": "status", "status": 503}]);
    stack.sandbox.faults(1, down).await?;
    stack.erp.publish(&jobs("D", 40)).await?;
    let alert = prometheus.until_firing("IrnPortalDown", SOON).await?;
    assert_eq!(alert["labels"]["scope"], "core");
    stack.sandbox.clear_faults().await?;
    prometheus
        .until_quiet("IrnPortalDown", RECOVERED_WITHIN)
        .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ and Prometheus: scripts/test"]
async fn alert_fires_when_credentials_are_refused() -> Result<()> {
    let (stack, prometheus) = watched("IrnCredentialsRefused", Ok).await?;
    let refusing = json!([{"endpoint": "auth", "gstin": SELLER, "kind": "refuse_password"}]);
    stack.sandbox.faults(1, refusing).await?;
    let outcome = stack.settle(jobs("R", 1).remove(0)).await?;
    assert_eq!(outcome.status(), "failed");
    let alert = prometheus
        .until_firing("IrnCredentialsRefused", SOON)
        .await?;
    let summary = alert["annotations"]["summary"].as_str();
    assert_eq!(
        summary,
        Some("The portal refuses the credentials of 1 GSTINs.")
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ and Prometheus: scripts/test"]
async fn alert_fires_at_four_fifths_of_an_error_budget_and_the_next_one_at_its_end() -> Result<()> {
    let small = |config: WorkerConfig| config.set("limits.error_budget_per_gstin", "10/day");
    let (stack, prometheus) = watched("IrnErrorBudgetLow", small).await?;
    let refusing = json!([{"endpoint": "generate", "kind": "error", "code": "2189"}]);
    stack.sandbox.faults(1, refusing).await?;
    stack.erp.publish(&jobs("B", 7)).await?;
    stack.outcomes(7, SOON).await?;
    prometheus
        .until(
            "irn_worker_error_budget_used_ratio{gstin!=\"\"} == 0.7",
            SOON,
        )
        .await?;
    assert_eq!(prometheus.firing("IrnErrorBudgetLow").await?.len(), 0);
    stack.settle(jobs("C", 1).remove(0)).await?;
    let alert = prometheus.until_firing("IrnErrorBudgetLow", SOON).await?;
    assert_eq!(alert["labels"]["gstin"], SELLER);
    assert_eq!(prometheus.firing("IrnErrorBudgetUsedUp").await?.len(), 0);
    stack.erp.publish(&jobs("E", 2)).await?;
    stack.outcomes(2, SOON).await?;
    prometheus
        .until_firing("IrnErrorBudgetUsedUp", SOON)
        .await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ and Prometheus: scripts/test"]
async fn alert_fires_when_an_outcome_stays_unknown_and_ends_when_it_is_known() -> Result<()> {
    let patient = |config: WorkerConfig| config.set("retry.max_attempts", 1000);
    let (stack, prometheus) = watched("IrnUnknownOutcomesAgeing", patient).await?;
    let silent = json!([
        {"endpoint": "get_by_doc", "kind": "drop"},
        {"endpoint": "get_by_irn", "kind": "drop"},
    ]);
    stack.sandbox.faults(1, silent).await?;
    let first_seen = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let job = jobs("U", 1).remove(0);
    let job = job
        .text_header("x-irn-outcome", "unknown")
        .text_header("x-irn-first-seen", &first_seen.to_string())
        .header("x-irn-attempt", lapin::types::AMQPValue::LongLongInt(3));
    stack.erp.publish(&[job]).await?;
    let alert = prometheus
        .until_firing("IrnUnknownOutcomesAgeing", SOON)
        .await?;
    let age: f64 = alert["value"].as_str().context("no value")?.parse()?;
    assert!((3600.0..3700.0).contains(&age), "{age}");
    stack.sandbox.clear_faults().await?;
    stack.outcome().await?.assert_signed(false);
    prometheus
        .until("irn_worker_unknown_outcome_age_seconds == 0", SOON)
        .await
}

#[tokio::test]
#[ignore = "needs RabbitMQ and Prometheus: scripts/test"]
async fn alert_fires_at_the_first_dead_letter_and_names_its_reason() -> Result<()> {
    let (stack, prometheus) = watched("IrnDeadLettersGrowing", Ok).await?;
    let unheard_of = json!([{"endpoint": "generate", "kind": "error", "code": "9876"}]);
    stack.sandbox.faults(1, unheard_of).await?;
    let outcome = stack.settle(jobs("L", 1).remove(0)).await?;
    assert_eq!(outcome.status(), "failed");
    let alert = prometheus
        .until_firing("IrnDeadLettersGrowing", SOON)
        .await?;
    assert_eq!(alert["labels"]["reason"], "UNKNOWN_CODE");
    let alert = prometheus
        .until_firing("IrnDeadLettersWaiting", SOON)
        .await?;
    assert_eq!(alert["labels"]["queue"], "irn.dead");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ and Prometheus: scripts/test"]
async fn alert_fires_when_no_worker_consumes() -> Result<()> {
    let (mut stack, prometheus) = watched("IrnNoConsumer", Ok).await?;
    // It lives, and has nothing to consume.
    stack.broker.delete_queue("irn.jobs").await?;
    prometheus.until_firing("IrnNoConsumer", SOON).await?;
    prometheus.until("up == 1", SOON).await?;
    // It is gone, and tells of nothing any more.
    stack.worker()?.terminate(SOON).await?;
    prometheus.until("up == 0", SOON).await?;
    prometheus.until("absent(irn_worker_ready)", SOON).await?;
    prometheus
        .until_firing("IrnWorkerUnreachable", SOON)
        .await?;
    prometheus.until_firing("IrnNoConsumer", SOON).await?;
    Ok(())
}

/// Makes a worker count, and log, something of everything.
async fn everything_happens(stack: &Stack) -> Result<()> {
    let faults = json!([
        {"endpoint": "generate", "number": "W/2", "kind": "drop", "when": "after", "times": 1},
        {"endpoint": "generate", "number": "W/3", "kind": "error", "code": "2189"},
        {"endpoint": "generate", "number": "W/4", "kind": "error", "code": "9876"},
        {"endpoint": "generate", "number": "W/5", "kind": "delay", "ms": 700},
        {"endpoint": "generate", "number": "W/6", "kind": "bad_signature"},
    ]);
    stack.sandbox.faults(1, faults).await?;
    let mut all = jobs("W", 6);
    // The same document while it is under way: it waits until the first one has ended.
    all.push(Job::generate("twin", invoice(SELLER, "W/5")));
    stack.erp.publish(&all).await?;
    stack.outcomes(7, SOON).await?;
    Ok(())
}

/// Name and type of every metric that a worker shows, where it has a help text as well.
fn exported(text: &str) -> Result<BTreeSet<(String, String)>> {
    let described: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let Some(line) = line.strip_prefix("# TYPE ") else {
            continue;
        };
        let (name, kind) = line.split_once(' ').context("a type")?;
        ensure!(described.contains(name), "{name} has no help text");
        found.insert((name.to_owned(), kind.to_owned()));
    }
    Ok(found)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn worker_shows_exactly_the_metrics_of_the_table_and_logs_exactly_the_fields() -> Result<()> {
    // Some are of routes, where there are several.
    let with_a_route = |config: WorkerConfig| config.route(Way::Nic, "http://127.0.0.1:9");
    let mut stack = Stack::start_with(1, with_a_route).await?;
    everything_happens(&stack).await?;
    let listed: BTreeSet<_> = METRICS
        .iter()
        .map(|metric| (metric.name.to_owned(), metric.kind.as_str().to_owned()))
        .collect();
    let worker = stack.worker()?;
    eventually(SOON, "every metric to be shown", async || {
        let shown = exported(&worker.admin("/metrics").await?)?;
        let missing: Vec<_> = listed.difference(&shown).collect();
        let unlisted: Vec<_> = shown.difference(&listed).collect();
        ensure!(unlisted.is_empty(), "not in the table: {unlisted:?}");
        ensure!(missing.is_empty(), "not shown: {missing:?}");
        Ok(Some(()))
    })
    .await?;
    worker.until_logged("\"job.id\":\"W/1\"", SOON).await?;
    let line = worker
        .log()
        .into_iter()
        .find(|line| line.contains("\"job signed\"") && line.contains("\"W/1\""));
    let line: Value = serde_json::from_str(&line.context("no line for W/1")?)?;
    let frame = ["timestamp", "level", "message", "target"];
    let fields = line.as_object().context("not an object")?.keys();
    let fields: Vec<&str> = fields
        .map(String::as_str)
        .filter(|field| !frame.contains(field))
        .collect();
    let documented = fs::read_to_string(repository("docs/metrics.md"))?;
    let documented = rows(&documented, "| field | says |")?;
    let fields: BTreeSet<String> = fields.into_iter().map(str::to_owned).collect();
    assert_eq!(fields, documented.into_iter().collect());
    assert_eq!(line["irn"].as_str().map(str::len), Some(64));
    assert_eq!(line["gstin"], SELLER);
    Ok(())
}

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What stands between backquotes in the first column of the table with this head.
fn rows(text: &str, head: &str) -> Result<Vec<String>> {
    let (_, table) = text.split_once(head).context("no such table")?;
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let names = rows.map(|row| row.split('`').nth(1).map(str::to_owned));
    names
        .collect::<Option<Vec<_>>>()
        .context("a row without a name")
}

#[tokio::test]
#[ignore = "needs RabbitMQ and Prometheus: scripts/test"]
async fn every_query_of_the_dashboard_answers() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let prometheus = Prometheus::watching(&[stack.worker()?.admin_url().await?]).await?;
    // Rates need a sample from before.
    prometheus.until("irn_worker_ready == 1", SOON).await?;
    everything_happens(&stack).await?;
    // A series of which there was none before has grown only when it does so in sight.
    stack.sandbox.clear_faults().await?;
    prometheus
        .until("irn_worker_irp_errors_total{code=\"2189\"} == 1", SOON)
        .await?;
    let refusing =
        json!([{"endpoint": "generate", "number": "X/1", "kind": "error", "code": "2189"}]);
    stack.sandbox.faults(1, refusing).await?;
    stack.erp.publish(&jobs("X", 3)).await?;
    stack.outcomes(3, SOON).await?;
    prometheus
        .until("irn_worker_irp_errors_total{code=\"2189\"} == 2", SOON)
        .await?;
    let queries = dashboard_queries()?;
    ensure!(queries.len() > 25, "{queries:?}");
    for query in &queries {
        prometheus
            .until(query, SOON)
            .await
            .with_context(|| format!("the dashboard's query {query}"))?;
    }
    Ok(())
}

/// The queries of the dashboard, with its variables as Grafana would fill them in.
fn dashboard_queries() -> Result<Vec<String>> {
    let dashboard = fs::read_to_string(shipped("grafana/dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let queries = targets.map(|target| {
        let query = target["expr"].as_str()?;
        let query = query.replace("$__rate_interval", "1m");
        Some(query.replace("$instance", ".*"))
    });
    queries
        .collect::<Option<Vec<_>>>()
        .context("a target without a query")
}

#[tokio::test]
#[ignore = "needs Prometheus: scripts/test"]
async fn promtool_finds_no_fault_in_rules_and_their_tests() -> Result<()> {
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts.test.yml"],
    ] {
        let mut command = Command::new("promtool");
        command
            .args(arguments)
            .current_dir(shipped("prometheus"))
            .kill_on_drop(true);
        let output = command
            .output()
            .await
            .context("install it with scripts/install prometheus")?;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    Ok(())
}
