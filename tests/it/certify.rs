//! `certify`: the portal's onboarding cases against the sandbox over real HTTP, on every kind of route, interrupted and
//! gone on with, and the report in a real browser.
//!
//! With `SCREENSHOTS` naming a folder, the report is photographed there, to be looked at.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::chromium::{Chromium, DESKTOP, TELEPHONE};
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::route::Way;
use crate::support::sandbox::{Sandbox, Stats};
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[2];

/// Twice fifty documents, and four with which nothing succeeds later.
const REGISTERED: u64 = 141;

/// The cases that send a registered document once more.
const SENT_AGAIN: u64 = 6;

const HELD_WITHIN: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// A portal and a directory for a run.
struct Bench {
    sandbox: Sandbox,
    config: WorkerConfig,
    dir: TempDir,
}

impl Bench {
    async fn new() -> Result<Self> {
        let sandbox = Sandbox::start(&Credentials::of(&[SELLER])).await?;
        // Nobody listens there: nothing here has to do with the broker.
        let config = WorkerConfig::between("amqp://guest:guest@127.0.0.1:1/%2f", &sandbox)?;
        Ok(Self {
            sandbox,
            config,
            dir: TempDir::with_prefix("irn-worker-certify-")?,
        })
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn file(&self, name: &str) -> Result<String> {
        let file = self.out().join(name);
        std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))
    }

    fn report(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.file("report.json")?)?)
    }

    async fn certify(&self, arguments: &[&str]) -> Result<Output> {
        let out = self.out();
        let out = out.to_str().context("UTF-8")?;
        let all = [&["--json", "--rate", "1000/s", "--out", out], arguments].concat();
        self.config.output("certify", &all).await
    }

    /// The same, not waited for.
    fn begin(&self) -> Result<Process> {
        let mut command = self.config.command("certify")?;
        command
            .args(["--json", "--rate", "1000/s", "--out"])
            .arg(self.out());
        Process::start("certify", command)
    }
}

#[track_caller]
fn assert_exit(output: &Output, code: i32, says: &str) {
    let text = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    let text = text.concat();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{says:?} is not in:\n{text}");
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Every planned case is in the report once, and went as expected.
fn ensure_whole(report: &Value, each: u64) -> Result<()> {
    ensure!(
        report["complete"] == true && report["good"] == true,
        "{:#}",
        report["apis"]
    );
    let mut seen = HashSet::new();
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for case in list(&report["cases"]) {
        let text = |member: &str| case[member].as_str().unwrap_or_default();
        ensure!(seen.insert(text("case")), "{} is there twice", text("case"));
        *counts.entry((text("api"), text("kind"))).or_default() += 1;
    }
    ensure!(counts.len() == 18, "{counts:?}");
    ensure!(counts.values().all(|count| *count >= each), "{counts:?}");
    Ok(())
}

/// Nothing was sent twice without a look-up in between, but for the documents that a case sends once more.
fn ensure_looked_first(stats: &Stats) -> Result<()> {
    let again = |name: &str| (1..=SENT_AGAIN).any(|at| name.contains(&format!("-D{at:03}/")));
    for (name, document) in &stats.documents {
        ensure!(document.blind == 0 || again(name), "{name}: {document:?}");
        ensure!(
            document.duplicates == 0 || again(name),
            "{name}: {document:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn report_of_the_whole_suite_has_fifty_cases_of_each_kind_for_each_api_and_all_are_as_expected()
-> Result<()> {
    let bench = Bench::new().await?;
    let output = bench.certify(&[]).await?;
    assert_exit(&output, 0, "");
    let summary: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        list(&summary["apis"])
            .iter()
            .all(|api| api["enough"] == true),
        "{summary:#}"
    );
    let report = bench.report()?;
    ensure_whole(&report, 50)?;
    assert_eq!(report["gstin"], SELLER);
    assert_eq!(report["environment"], "sandbox");

    let stats = bench.sandbox.stats().await?;
    assert_eq!(stats.registrations, REGISTERED);
    assert_eq!(stats.duplicate_generates, SENT_AGAIN);
    assert_eq!(stats.overlapping_generates, 0);
    // Exactly those that were meant to be.
    let is_refused = |case: &&Value| case["answer"] == "refused";
    let refused = list(&report["cases"]).iter().filter(is_refused).count() as u64;
    let logins = stats.authentications_refused;
    assert_eq!(refused, stats.errors, "{logins} of them logins");
    assert_eq!(
        stats.errors_by_code.get("1019"),
        None,
        "a wrong password was sent"
    );

    let csv = bench.file("report.csv")?;
    assert_eq!(csv.lines().count(), list(&report["cases"]).len() + 1);
    for name in ["report.html", "report.csv", "report.json", "state.ndjson"] {
        let text = bench.file(name)?;
        for secret in [format!("Pw-{SELLER}!"), "it-client-secret".to_owned()] {
            assert!(!text.contains(&secret), "{name} tells {secret}");
        }
    }
    // A second time there is nothing to do.
    let again = bench.certify(&[]).await?;
    assert_exit(&again, 0, "");
    assert_eq!(
        bench.sandbox.stats().await?.all_requests(),
        stats.all_requests()
    );
    Ok(())
}

#[tokio::test]
async fn run_that_is_killed_goes_on_where_it_was_and_registers_nothing_twice() -> Result<()> {
    let bench = Bench::new().await?;
    // Each is killed while the portal has done it and has not answered.
    for (endpoint, after) in [("generate", 40), ("ewb", 20), ("cancel", 7)] {
        let rule = json!({"id": endpoint, "endpoint": endpoint, "kind": "hold", "when": "after",
            "after": after, "times": 1});
        bench.sandbox.faults(1, json!([rule])).await?;
        let mut run = bench.begin()?;
        bench.sandbox.until_held(1, HELD_WITHIN).await?;
        run.kill().await?;
        bench.sandbox.clear_faults().await?;
        bench.sandbox.release().await?;
        bench.sandbox.until_held(0, HELD_WITHIN).await?;
    }
    let output = bench.certify(&[]).await?;
    assert_exit(&output, 0, "");
    let report = bench.report()?;
    ensure_whole(&report, 50)?;
    let looked_up = list(&report["cases"])
        .iter()
        .filter(|case| case["looked_up"] == true);
    let apis: Vec<&str> = looked_up.filter_map(|case| case["api"].as_str()).collect();
    assert_eq!(apis, ["generate", "eway_bill", "cancel"]);
    let stats = bench.sandbox.stats().await?;
    assert_eq!(stats.registrations, REGISTERED);
    assert_eq!(stats.duplicate_generates, SENT_AGAIN);
    ensure_looked_first(&stats)
}

#[tokio::test]
async fn interrupted_run_reports_what_it_has_and_goes_on_when_asked_again() -> Result<()> {
    let bench = Bench::new().await?;
    let rule =
        json!({"endpoint": "generate", "kind": "hold", "when": "before", "after": 5, "times": 1});
    bench.sandbox.faults(1, json!([rule])).await?;
    let mut run = bench.begin()?;
    bench.sandbox.until_held(1, HELD_WITHIN).await?;
    run.signal(Signal::INT)?;
    let other = bench.certify(&[]).await?;
    assert_exit(&other, 1, "another `certify` is at work");
    bench.sandbox.release().await?;
    assert_eq!(run.ended(ENDS_WITHIN).await?.code(), Some(1));
    // Its last line may be read after its end.
    eventually(HELD_WITHIN, "it to say why it stopped", async || {
        let said = run.lines().iter().any(|line| line.contains("interrupted"));
        Ok(said.then_some(()))
    })
    .await?;

    let out = bench.out();
    let out = out.to_str().context("UTF-8")?;
    let report = bench
        .config
        .output("certify", &["report", "--out", out])
        .await?;
    assert_exit(&report, 1, "report.html");
    assert_eq!(bench.report()?["complete"], false);
    assert!(bench.file("report.html")?.contains("Not complete"));
    let otherwise = bench.certify(&["--buyer", GSTINS[3]]).await?;
    assert_exit(&otherwise, 2, "was begun with --buyer 29AWGPV7107B1Z1");

    bench.sandbox.clear_faults().await?;
    assert_exit(&bench.certify(&[]).await?, 0, "");
    ensure_whole(&bench.report()?, 50)
}

#[tokio::test]
async fn lost_answers_and_outages_leave_a_report_that_is_as_good() -> Result<()> {
    let bench = Bench::new().await?;
    let lost = |endpoint: &str| json!({"endpoint": endpoint, "kind": "drop", "when": "after", "probability": 0.3, "times": 2});
    let rules = json!([
        lost("generate"), lost("ewb"), lost("cancel"),
        {"endpoint": "core", "kind": "status", "status": 503, "retry_after": 1, "probability": 0.1, "times": 3},
        {"endpoint": "core", "kind": "revoke_token", "probability": 0.1, "times": 2},
        {"endpoint": "auth", "kind": "html", "status": 200, "probability": 0.2, "times": 2},
    ]);
    bench.sandbox.faults(7, rules).await?;
    let output = bench
        .certify(&["--cases", "12", "--failed-logins", "4"])
        .await?;
    assert_exit(&output, 0, "");
    ensure_whole(&bench.report()?, 4)?;
    let stats = bench.sandbox.stats().await?;
    assert_eq!(stats.duplicate_generates, SENT_AGAIN);
    ensure_looked_first(&stats)
}

#[tokio::test]
async fn every_kind_of_route_gets_a_report_where_all_is_as_expected() -> Result<()> {
    for way in [Way::MasterGst, Way::ClearTax, Way::TaxPro] {
        let sandbox = Sandbox::start(&Credentials::of(&[SELLER]).over(way)).await?;
        let config = WorkerConfig::between("amqp://guest:guest@127.0.0.1:1/%2f", &sandbox)?;
        let bench = Bench {
            config: config.over(way, &sandbox)?,
            sandbox,
            dir: TempDir::with_prefix("irn-worker-certify-")?,
        };
        // The sellers of both states: within one, CGST and SGST are due.
        let output = bench
            .certify(&["--buyer", "33AABCT9421M1ZX", "--cases", "50"])
            .await?;
        assert_exit(&output, 0, "");
        ensure_whole(&bench.report()?, 50).with_context(|| format!("over {way}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn what_must_not_be_begun_is_refused_with_the_reason_and_calls_nobody() -> Result<()> {
    let bench = Bench::new().await?;
    assert_exit(
        &bench.certify(&["--gstin", GSTINS[0]]).await?,
        2,
        "has no account",
    );
    assert_exit(
        &bench.certify(&["--buyer", SELLER]).await?,
        2,
        "the account's own GSTIN",
    );
    assert_exit(&bench.certify(&["--prefix", "0a"]).await?, 2, "--prefix");
    assert_exit(&bench.certify(&["report"]).await?, 2, "");
    let bench = Bench {
        config: bench.config.set("irp.environment", "production")?,
        ..bench
    };
    assert_exit(&bench.certify(&[]).await?, 2, "--yes");
    assert_exit(&bench.certify(&["--yes"]).await?, 2, "--buyer");
    let bench = Bench {
        config: bench
            .config
            .set("irp.environment", "sandbox")?
            .set("limits.error_budget_per_gstin", "100/day")?,
        ..bench
    };
    assert_exit(&bench.certify(&[]).await?, 2, "error_budget_per_gstin");
    assert_eq!(bench.sandbox.stats().await?.all_requests(), 0);
    Ok(())
}

#[tokio::test]
async fn wrong_password_is_sent_once_and_an_absent_portal_is_code_3() -> Result<()> {
    let bench = Bench::new().await?;
    let refuse = json!([{"endpoint": "auth", "kind": "refuse_password"}]);
    bench.sandbox.faults(1, refuse).await?;
    assert_exit(&bench.certify(&[]).await?, 1, "does not accept the account");
    assert_eq!(bench.sandbox.stats().await?.requests("auth"), 1);
    let nowhere = Bench {
        config: bench.config.set("irp.base_url", "http://127.0.0.1:1")?,
        dir: TempDir::new()?,
        ..bench
    };
    assert_exit(
        &nowhere.certify(&[]).await?,
        3,
        "the portal cannot be worked with",
    );
    Ok(())
}

#[tokio::test]
async fn report_is_a_page_of_its_own_that_fits_screen_and_paper() -> Result<()> {
    let bench = Bench::new().await?;
    assert_exit(&bench.certify(&[]).await?, 0, "");
    let url = format!("file://{}", bench.out().join("report.html").display());
    let mut browser = Chromium::start().await?;
    browser.open(&url).await?;
    let shown = "document.querySelectorAll('.cases tbody tr').length";
    assert_eq!(
        browser.evaluate(shown).await?,
        list(&bench.report()?["cases"]).len()
    );
    let folder = std::env::var_os("SCREENSHOTS").map(PathBuf::from);
    for screen in [DESKTOP, TELEPHONE] {
        browser.on(screen).await?;
        browser.open(&url).await?;
        let wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.evaluate(wider).await?, 0, "on a {}", screen.name);
        // Nothing is squeezed into a column of letters.
        let tallest =
            "Math.max(...[...document.querySelectorAll('tr')].map(row => row.offsetHeight))";
        let tallest = browser.evaluate(tallest).await?;
        assert!(
            tallest.as_f64().is_some_and(|pixels| pixels < 130.0),
            "{tallest} on a {}",
            screen.name
        );
        if let Some(folder) = &folder {
            photograph(&mut browser, folder, screen.name).await?;
        }
    }
    let complaints = browser.complaints(&url).await?;
    assert!(complaints.is_empty(), "{complaints:#?}");
    Ok(())
}

async fn photograph(browser: &mut Chromium, folder: &Path, name: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    // A page of a thousand rows is larger than any picture.
    let shorten =
        "document.querySelectorAll('.cases tbody tr:nth-child(n+9)').forEach(row => row.remove())";
    browser.evaluate(shorten).await?;
    browser
        .photograph(&folder.join(format!("certify-{name}.png")))
        .await
}
