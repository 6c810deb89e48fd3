//! How many documents the sandbox registers a second on one core: `cargo bench --bench irp_sandbox`.
//!
//! The sandbox runs pinned to the first core and this load generator to the second, with `taskset` where there is
//! one. Beside the rate it prints the sandbox's CPU time per document, which other load on the machine hardly moves.

#[path = "../tests/sandbox/client.rs"]
#[expect(
    dead_code,
    reason = "the load generator needs only a part of the tests' client"
)]
mod client;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::client::{SAMPLE, SELLER, Sandbox, Session, seal};

const DOCUMENTS: usize = 4_000;
const CONNECTIONS: usize = 16;
/// Lines enough for a document of about 3 KB.
const LINES: u32 = 10;
/// The kernel counts CPU time in hundredths of a second (USER_HZ on Linux).
const TICKS_PER_SECOND: u64 = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let pid = sandbox.child.id();
    let pinned = pin(pid, "0") && pin(std::process::id(), "1");
    let session = sandbox.client().login().await?;
    let bodies = Arc::new(sealed_documents(&session)?);
    let size = document("B/0")?.len();

    let (before, started) = (cpu_time(pid)?, Instant::now());
    let next = AtomicUsize::new(0);
    try_join_all((0..CONNECTIONS).map(|_| submit(&sandbox, &session, &bodies, &next))).await?;
    let (elapsed, cpu) = (started.elapsed(), cpu_time(pid)? - before);

    let registered = sandbox.stats().await?["registrations"].clone();
    ensure!(registered == DOCUMENTS, "{registered} registered");
    let count = u32::try_from(DOCUMENTS)?;
    println!(
        "{DOCUMENTS} documents of {size} bytes over {CONNECTIONS} connections, pinned: {pinned}"
    );
    println!(
        "rate: {:.0}/s in {elapsed:.2?}",
        f64::from(count) / elapsed.as_secs_f64()
    );
    println!(
        "sandbox: {:.0?} of CPU per document, {:.0}/s per core",
        cpu / count,
        f64::from(count) / cpu.as_secs_f64()
    );
    Ok(())
}

/// One connection's share of the work.
async fn submit(
    sandbox: &Sandbox,
    session: &Session,
    bodies: &[String],
    next: &AtomicUsize,
) -> Result<()> {
    let url = format!("{}/eicore/v1.03/Invoice", sandbox.url);
    while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
        let request = sandbox.http.post(&url).body(body.clone());
        let request = request
            .header("client_id", "ACME")
            .header("client_secret", "acme-secret");
        let request = request
            .header("gstin", SELLER)
            .header("user_name", "API_ka");
        let response = request.header("AuthToken", &session.token).send().await?;
        let text = response.text().await?;
        ensure!(text.starts_with(r#"{"Status":1"#), "{text}");
    }
    Ok(())
}

fn sealed_documents(session: &Session) -> Result<Vec<String>> {
    let seal = |number| {
        let document = document(&format!("B/{number}"))?;
        Ok(json!({ "Data": seal(&session.key, document.as_bytes()) }).to_string())
    };
    (1..=DOCUMENTS).map(seal).collect()
}

/// The sample invoice with its first line repeated.
fn document(number: &str) -> Result<String> {
    let mut document: Value = serde_json::from_str(SAMPLE)?;
    let line = document["ItemList"][0].clone();
    let lines = (1..=LINES).map(|serial| {
        let mut line = line.clone();
        line["SlNo"] = json!(serial.to_string());
        line
    });
    document["ItemList"] = lines.collect();
    document["DocDtls"]["No"] = json!(number);
    document["ValDtls"] =
        json!({"AssVal": 18_000 * LINES, "IgstVal": 900 * LINES, "TotInvVal": 18_900 * LINES});
    Ok(document.to_string())
}

/// Ties all threads of a process to one core; false where that is not possible.
fn pin(pid: u32, core: &str) -> bool {
    let pinned = Command::new("taskset")
        .args(["-a", "-c", "-p", core, &pid.to_string()])
        .output();
    pinned.is_ok_and(|output| output.status.success())
}

/// User and system time a process has used.
fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat
        .rsplit_once(')')
        .context("the name ends with a bracket")?;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}
