//! What is shipped for those who watch fits together: alerts and runbook, dashboard and metrics, metrics and their table.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use irn_worker::telemetry::METRICS;

use crate::support::{Folder, shipped};

fn documented(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    fs::read_to_string(path).with_context(|| name.to_owned())
}

fn alerts() -> Result<String> {
    Ok(fs::read_to_string(shipped("prometheus/alerts.yml"))?)
}

/// What follows this word at the beginning of a line.
fn after<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    text.lines()
        .filter_map(|line| {
            line.trim_start()
                .trim_start_matches("- ")
                .strip_prefix(word)
        })
        .collect()
}

#[test]
fn each_alert_has_a_paragraph_in_the_runbook_and_each_paragraph_an_alert() -> Result<()> {
    let (alerts, runbook) = (alerts()?, documented("runbook.md")?);
    let names = after(&alerts, "alert: ");
    assert!(names.len() >= 13, "{names:?}");
    assert_eq!(names, after(&runbook, "### "));
    let anchors: Vec<String> = names
        .iter()
        .map(|name| format!("docs/runbook.md#{}", name.to_lowercase()))
        .collect();
    assert_eq!(after(&alerts, "runbook_url: "), anchors);
    Ok(())
}

#[test]
fn each_alert_has_a_unit_test() -> Result<()> {
    let tests = fs::read_to_string(shipped("prometheus/alerts.test.yml"))?;
    let fires = after(&tests, "alertname: ");
    for name in after(&alerts()?, "alert: ") {
        assert!(fires.contains(&name), "{name} fires in no test");
    }
    Ok(())
}

/// The worker's metrics that a text names, histograms by their own name.
fn named_in(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c| !is_part(c));
    words
        .filter(|word| word.starts_with("irn_worker_"))
        .map(|word| word.trim_end_matches("_bucket"))
        .collect()
}

#[test]
fn alerts_and_dashboard_name_only_metrics_that_there_are() -> Result<()> {
    let dashboard = fs::read_to_string(shipped("grafana/dashboard.json"))?;
    for text in [alerts()?, dashboard, documented("runbook.md")?] {
        let named = named_in(&text);
        assert!(named.len() >= 5, "{named:?}");
        for name in named {
            let is_listed = METRICS.iter().any(|metric| metric.name == name);
            assert!(is_listed, "there is no metric {name}");
        }
    }
    Ok(())
}

#[test]
fn table_of_metrics_says_what_the_worker_says() -> Result<()> {
    let text = documented("metrics.md")?;
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `irn_worker_"))
        .collect();
    let expected: Vec<String> = METRICS
        .iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            let labels = match labels.as_slice() {
                [] => "–".to_owned(),
                labels => labels.join(", "),
            };
            let kind = metric.kind.as_str();
            format!(
                "| `{}` | {kind} | {labels} | {} |",
                metric.name, metric.help
            )
        })
        .collect();
    assert_eq!(rows, expected);
    Ok(())
}

#[test]
fn dashboard_can_be_imported_anywhere() -> Result<()> {
    let text = fs::read_to_string(shipped("grafana/dashboard.json"))?;
    let dashboard: serde_json::Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "{}", panel["title"]);
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(
            panel["datasource"]["uid"], "${datasource}",
            "{}",
            panel["title"]
        );
        assert!(panel["description"].as_str().is_some_and(|d| !d.is_empty()));
    }
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    Ok(())
}

#[test]
fn collector_address_that_cannot_be_used_is_refused_with_a_remedy() -> Result<()> {
    let folder = Folder::new()?;
    for (address, problem) in [
        ("collector:4318", "is not an http or https URL"),
        (
            "http://user:s3cret@127.0.0.1:4318",
            "holds a user or password",
        ),
        ("http://127.0.0.1:4318/v1/traces", "the worker appends it"),
        ("http://127.0.0.1:4318?token=x", "has a query or fragment"),
    ] {
        let text = format!("telemetry.otlp_endpoint = {address:?}");
        let faults = folder.load(&text)?.unwrap_err().faults;
        let fault = faults.first().context("no fault")?;
        assert_eq!(fault.key, "telemetry.otlp_endpoint");
        assert!(fault.problem.contains(problem), "{fault}");
        assert!(fault.remedy.contains("http://127.0.0.1:4318"), "{fault}");
        assert!(!fault.problem.contains("s3cret"), "{fault}");
    }
    let loaded = folder.load("telemetry.otlp_endpoint = \"http://127.0.0.1:4318/\"")?;
    let endpoint = loaded.unwrap().config.telemetry.otlp_endpoint;
    assert_eq!(endpoint.as_deref(), Some("http://127.0.0.1:4318"));
    Ok(())
}
