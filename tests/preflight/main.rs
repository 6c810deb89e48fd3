//! Pre-flight by itself, without broker or portal: what it refuses and where, what it lets pass, and that it never
//! refuses what the sandbox's own rules accept.
#![expect(
    dead_code,
    unused_imports,
    reason = "of the sandbox's modules only the rules are asked"
)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a document without what they change is a fault of the test"
)]

mod agreement;
mod command;
mod corpus;
mod hostile;
mod verdicts;

// The portal's side, written separately: this binary is where both are asked about the same document.
#[path = "../../src/bin/irp-sandbox/answer.rs"]
mod answer;
#[path = "../../src/bin/irp-sandbox/clock.rs"]
mod clock;
#[path = "../../src/bin/irp-sandbox/node.rs"]
mod node;
#[path = "../../src/bin/irp-sandbox/rules/mod.rs"]
mod rules;
#[path = "../../src/bin/irp-sandbox/taxpayers.rs"]
mod taxpayers;

use irn_worker::config::{self, Environment, ValidateConfig};
use irn_worker::preflight::{self, Preflight, Report};
use jiff::Timestamp;
use serde_json::Value;

/// When the documents are judged.
fn now() -> Timestamp {
    "2026-01-15T06:30:00Z".parse().unwrap()
}

fn preflight(mode: config::Preflight, environment: Environment) -> Preflight {
    let config = ValidateConfig {
        preflight: mode,
        rules_file: None,
    };
    Preflight::new(&config, environment).unwrap()
}

fn strict() -> Preflight {
    preflight(config::Preflight::Strict, Environment::Production)
}

fn report(preflight: &Preflight, document: &Value) -> Report {
    let body = document.to_string();
    let (_, report) = preflight::read_and_check(preflight, body.as_bytes(), now()).unwrap();
    report
}

/// `error 2189 /ValDtls/TotInvVal: …`, one a line.
fn told(report: &Report) -> String {
    let lines = report.findings.iter().map(|finding| {
        let preflight::Finding {
            severity,
            code,
            path,
            message,
        } = finding;
        format!("{severity:?} {code} {path}: {message}\n")
    });
    lines.collect()
}
