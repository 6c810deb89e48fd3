//! The contracts and routes: gateways that pass the portal's contract on, MasterGST's own, and several of them in one
//! worker. Whichever way a document takes, it is settled as over the portal itself.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::amqp::Job;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::invoice::{invoice, irn, odd_but_valid};
use crate::support::ledger::invoices;
use crate::support::proxy::TcpProxy;
use crate::support::route::Way;
use crate::support::sandbox::{Calls, Sandbox};
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(30);
/// An open breaker lets the portal be tried after some seconds.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// One worker that goes this way to the sandbox.
async fn over(way: Way) -> Result<Stack> {
    let mut stack = Stack::of(&Credentials::of(&GSTINS).over(way), 0, Ok).await?;
    let config = stack.config()?.over(way, &stack.sandbox)?;
    let config = config.set("retry.immediate.max_elapsed", "300ms")?;
    stack.workers.push(config.start("worker").await?);
    Ok(stack)
}

fn job(id: &str, number: &str) -> Job {
    Job::generate(id, invoice(SELLER, number))
}

fn in_doubt(id: &str, number: &str) -> Job {
    job(id, number).text_header("x-irn-outcome", "unknown")
}

/// Registers, finds what was lost, and takes no notice of what is registered already.
async fn serves(way: Way) -> Result<()> {
    let stack = over(way).await?;
    let odd = odd_but_valid(SELLER, "P/1");
    let outcome = stack.settle(Job::generate("j-1", odd.clone())).await?;
    outcome.assert_signed(false);
    let received = stack.sandbox.received(outcome.text("irn")).await?;
    ensure!(received == odd.as_bytes(), "{way} changed the document");
    stack
        .settle(Job::generate("j-2", odd).text_header("x-irn-outcome", "unknown"))
        .await?
        .assert_signed(true);
    let expected = Calls {
        logins: 1,
        generates: 1,
        lookups: 1,
        duplicates: 0,
        registrations: 1,
    };
    assert_eq!(stack.sandbox.calls().await?, expected, "{way}");

    let lost = json!([{"endpoint": "generate", "kind": "drop", "when": "after"}]);
    stack.sandbox.faults(1, lost).await?;
    stack.settle(job("j-3", "P/3")).await?.assert_signed(true);
    stack.sandbox.clear_faults().await?;
    stack.sandbox.revoke_tokens().await?;
    stack.settle(job("j-4", "P/4")).await?.assert_signed(false);
    let calls = stack.sandbox.calls().await?;
    assert_eq!(
        (calls.logins, calls.generates, calls.duplicates),
        (2, 4, 0),
        "{way}"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn taxpro_passes_documents_on_with_its_headers_and_an_empty_pair() -> Result<()> {
    serves(Way::TaxPro).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn vayana_passes_documents_on_with_its_headers_and_its_own_pair() -> Result<()> {
    serves(Way::Vayana).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn protean_passes_documents_on_with_its_header_and_hyphens() -> Result<()> {
    serves(Way::Protean).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn alankit_passes_documents_on_with_its_key() -> Result<()> {
    serves(Way::Alankit).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn cleartax_passes_documents_on_under_paths_of_its_own() -> Result<()> {
    serves(Way::ClearTax).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn mastergst_takes_documents_as_they_came() -> Result<()> {
    serves(Way::MasterGst).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn gateway_without_its_header_refuses_the_login_once() -> Result<()> {
    let mut stack = Stack::of(&Credentials::of(&GSTINS).over(Way::ClearTax), 0, Ok).await?;
    let config = stack.config()?.over(Way::ClearTax, &stack.sandbox)?;
    let config = config.set("irp.extra_headers", toml::Table::new())?;
    stack.workers.push(config.start("worker").await?);
    let outcome = stack.settle(job("j-1", "H/1")).await?;
    assert_eq!(outcome.status(), "failed", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["worker CREDENTIALS_REFUSED", "irp 401"]);
    assert_eq!(stack.sandbox.stats().await?.all_requests(), 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn duplicate_whose_information_was_lost_is_fetched_by_its_document() -> Result<()> {
    let stack = over(Way::MasterGst).await?;
    stack.settle(job("j-1", "D/1")).await?.assert_signed(false);
    stack.settle(job("j-2", "D/1")).await?.assert_signed(true);
    let stats = stack.sandbox.stats().await?;
    assert_eq!(stats.errors_by_code.get("2150"), Some(&1));
    assert_eq!(
        (stats.requests("get_by_doc"), stats.requests("get_by_irn")),
        (1, 0)
    );

    // Too long ago: registered, but its signed data cannot be had.
    stack.sandbox.advance("49h").await?;
    let outcome = stack.settle(job("j-3", "D/1")).await?;
    assert_eq!(outcome.status(), "partial", "{}", outcome.json);
    assert_eq!(outcome.text("irn"), irn(SELLER, "D/1"));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refusals_of_mastergst_are_read_in_every_form() -> Result<()> {
    let stack = over(Way::MasterGst).await?;
    let refused = json!({"endpoint": "generate", "kind": "error", "code": "2233", "message": "Duplicate SI nos"});
    for (number, shapes) in [
        json!({}),
        json!({"error_keys": "camel"}),
        json!({"error_details": "object", "error_keys": "camel"}),
        json!({"error_details": "base64"}),
        json!({"error_details": "plain"}),
        json!({"error_code": "number"}),
    ]
    .iter()
    .enumerate()
    {
        let faults = json!({"rules": [refused], "shapes": shapes});
        stack.sandbox.post("faults", &faults).await?;
        let id = format!("j-{number}");
        let outcome = stack.settle(job(&id, &format!("R/{number}"))).await?;
        assert_eq!(outcome.status(), "rejected", "{shapes}: {}", outcome.json);
        assert_eq!(outcome.errors(), ["irp 2233"], "{shapes}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn empty_data_of_mastergst_means_that_nothing_was_found() -> Result<()> {
    let stack = over(Way::MasterGst).await?;
    stack
        .sandbox
        .shapes(json!({"nothing_found": "empty"}))
        .await?;
    let outcome = stack.settle(in_doubt("j-1", "E/1")).await?;
    outcome.assert_signed(false);
    let calls = stack.sandbox.calls().await?;
    assert_eq!((calls.generates, calls.registrations), (1, 1));
    ensure!(calls.lookups >= 1, "{calls:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn logins_of_mastergst_are_read_in_every_form_and_one_without_a_token_is_refused()
-> Result<()> {
    let stack = over(Way::MasterGst).await?;
    for (number, form) in ["object", "json_string", "top_level"].iter().enumerate() {
        stack.sandbox.shapes(json!({"auth_data": form})).await?;
        stack.sandbox.revoke_tokens().await?;
        let id = format!("j-{number}");
        let outcome = stack.settle(job(&id, &format!("L/{number}"))).await?;
        outcome.assert_signed(false);
    }
    stack.sandbox.shapes(json!({"auth_data": "absent"})).await?;
    stack.sandbox.revoke_tokens().await?;
    let before = stack.sandbox.calls().await?.logins;
    for number in 8..10 {
        let id = format!("j-{number}");
        let outcome = stack.settle(job(&id, &format!("L/{number}"))).await?;
        assert_eq!(
            outcome.errors()[0],
            "worker CREDENTIALS_REFUSED",
            "{}",
            outcome.json
        );
    }
    assert_eq!(stack.sandbox.calls().await?.logins, before + 1);
    Ok(())
}

/// The password at the portal is another one than the worker's.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn password_that_mastergst_refuses_is_sent_once_however_many_jobs_wait() -> Result<()> {
    let stack = over(Way::MasterGst).await?;
    let changed =
        json!({"gstin": SELLER, "username": format!("API_{SELLER}"), "password": "another"});
    stack.sandbox.post("password", &changed).await?;
    let jobs: Vec<Job> = (0..10)
        .map(|number| job(&format!("j-{number}"), &format!("W/{number}")))
        .collect();
    stack.erp.publish(&jobs).await?;
    for outcome in stack.outcomes(10, SOON).await?.values() {
        let errors = outcome.errors();
        assert_eq!(
            errors,
            ["worker CREDENTIALS_REFUSED", "irp 1019"],
            "{}",
            outcome.json
        );
    }
    let stats = stack.sandbox.stats().await?;
    assert_eq!(
        (stats.calls().logins, stats.generates, stats.errors),
        (1, 0, 1)
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn account_that_is_blocked_behind_mastergst_stops_its_gstin() -> Result<()> {
    let stack = over(Way::MasterGst).await?;
    stack.settle(job("j-0", "B/0")).await?.assert_signed(false);
    let blocked = json!({"gstin": SELLER, "status": "ACT", "blocked": true});
    stack.sandbox.post("taxpayers", &blocked).await?;
    for number in 1..4 {
        let outcome = stack
            .settle(job(&format!("j-{number}"), &format!("B/{number}")))
            .await?;
        assert_eq!(outcome.status(), "failed", "{}", outcome.json);
        assert!(
            outcome.errors().contains(&"irp 1014".to_owned()),
            "{}",
            outcome.json
        );
    }
    assert_eq!(
        stack.sandbox.stats().await?.errors,
        1,
        "the others cost no call"
    );
    Ok(())
}

/// What the provider answers in its own name, before the portal or after it.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn outage_and_quota_of_mastergst_leave_no_document_behind_and_none_twice() -> Result<()> {
    let stack = over(Way::MasterGst).await?;
    let mut number = 0;
    for fault in [
        json!({"kind": "status", "status": 401}),
        json!({"kind": "status", "status": 403}),
        json!({"kind": "status", "status": 403, "when": "after"}),
        json!({"kind": "status", "status": 429}),
        json!({"kind": "status", "status": 500, "when": "after"}),
        json!({"kind": "status", "status": 504}),
        json!({"kind": "html", "status": 502, "when": "after"}),
        json!({"kind": "empty", "when": "after"}),
        json!({"kind": "truncated", "when": "after"}),
        json!({"kind": "error", "code": "GSP0051", "message": "upstream"}),
        json!({"kind": "error", "code": "503", "message": "not available"}),
        json!({"kind": "error", "code": "429", "message": "quota"}),
    ] {
        number += 1;
        let mut rule = fault.clone();
        rule["endpoint"] = json!("generate");
        rule["times"] = json!(1);
        stack.sandbox.faults(1, json!([rule])).await?;
        let outcome = stack
            .settle(job(&format!("j-{number}"), &format!("O/{number}")))
            .await?;
        assert_eq!(outcome.status(), "signed", "{fault}: {}", outcome.json);
    }
    let stats = stack.sandbox.stats().await?;
    assert_eq!(
        (stats.registrations, stats.duplicate_generates),
        (number, 0)
    );
    assert_eq!(stats.blind_generates, 0, "{stats:?}");
    Ok(())
}

/// One for the portal itself, one for a gateway, one for MasterGST.
fn three_ways() -> Credentials {
    Credentials::of(&GSTINS)
        .route(GSTINS[1], Way::ClearTax)
        .route(GSTINS[2], Way::ClearTax)
        .route(GSTINS[3], Way::MasterGst)
        .route(GSTINS[4], Way::MasterGst)
}

fn with_routes(config: WorkerConfig, cleartax: &str, mastergst: &str) -> Result<WorkerConfig> {
    config
        .route(Way::ClearTax, cleartax)?
        .route(Way::MasterGst, mastergst)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn one_worker_serves_three_routes_at_once() -> Result<()> {
    // A portal for each, so that it shows what came which way.
    let mut stack = Stack::of(&three_ways(), 0, Ok).await?;
    let (second, third) = (
        Sandbox::start(&three_ways()).await?,
        Sandbox::start(&three_ways()).await?,
    );
    let text = |path: std::path::PathBuf| path.display().to_string();
    let keys = [&stack.sandbox, &second, &third].map(|portal| text(portal.signing_certificate()));
    let key = text(second.auth_key());
    let mut config = with_routes(stack.config()?, second.url(), third.url())?;
    config = config
        .set("irp.routes.cleartax.public_key_file", key)?
        .set("irp.signing_keys", keys.to_vec())?;
    stack.workers.push(config.start("worker").await?);
    let jobs: Vec<Job> = invoices("TRI", 60)
        .into_iter()
        .map(|(_, job)| job)
        .collect();
    stack.erp.publish(&jobs).await?;
    for (id, outcome) in stack.outcomes(60, SOON).await? {
        outcome.assert_signed(false);
        assert_eq!(outcome.json["attempts"], 1, "{id}");
    }
    for (portal, gstins) in [
        (&stack.sandbox, &GSTINS[..1]),
        (&second, &GSTINS[1..3]),
        (&third, &GSTINS[3..]),
    ] {
        let stats = portal.stats().await?;
        assert_eq!(stats.registrations, 12 * gstins.len() as u64);
        for gstin in GSTINS {
            let expected = if gstins.contains(&gstin) { 12 } else { 0 };
            assert_eq!(stats.of(gstin).generates, expected, "{gstin}");
        }
    }
    let status: Value = serde_json::from_str(&stack.worker()?.admin("/status").await?)?;
    let routes = status["routes"].as_array().context("no routes")?;
    let names: Vec<_> = routes
        .iter()
        .filter_map(|route| route["name"].as_str())
        .collect();
    assert_eq!(names, ["cleartax", "mastergst"]);
    assert_eq!(
        status["lanes"].as_array().map(Vec::len),
        Some(5),
        "{status}"
    );
    let page = stack.worker()?.admin("/").await?;
    assert!(page.contains("Route mastergst"));
    let metric = "irn_worker_breaker_state";
    assert_eq!(stack.worker()?.metric(metric, "mastergst_core").await?, 0.0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn route_that_is_down_keeps_only_its_own_jobs_waiting_and_charges_them_nothing() -> Result<()>
{
    let mut stack = Stack::of(&three_ways(), 0, Ok).await?;
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let nowhere = format!("http://{address}");
    let config = with_routes(stack.config()?, stack.sandbox.url(), &nowhere)?;
    let config = config
        .set("irp.concurrency", 16)?
        .set("retry.immediate.max_elapsed", "100ms")?;
    stack.workers.push(config.start("worker").await?);
    let jobs: Vec<Job> = invoices("DWN", 200)
        .into_iter()
        .map(|(_, job)| job)
        .collect();
    stack.erp.publish(&jobs).await?;
    let is_down = |id: &str| {
        let number: usize = id.trim_start_matches("DWN-").parse().unwrap_or_default();
        number % GSTINS.len() >= 3
    };
    for (id, outcome) in stack.outcomes(120, SOON).await? {
        assert!(!is_down(&id), "{id}");
        outcome.assert_signed(false);
    }
    let (status, said) = stack.worker()?.readiness().await?;
    assert_eq!(status, 200, "{said}: it works for the others");
    // And goes on doing so.
    let more = Job::generate("more", invoice(SELLER, "DWN/MORE"));
    stack.settle(more).await?.assert_signed(false);

    let upstream = stack.sandbox.url().trim_start_matches("http://").to_owned();
    let _road = TcpProxy::at(&address.to_string(), &upstream).await?;
    for (id, outcome) in stack.outcomes(80, BACK_WITHIN).await? {
        assert!(is_down(&id), "{id}");
        outcome.assert_signed(false);
        assert_eq!(outcome.json["attempts"], 1, "{id}: an outage is no attempt");
    }
    let stats = stack.sandbox.stats().await?;
    assert_eq!((stats.registrations, stats.duplicate_generates), (201, 0));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn gstin_that_is_given_another_route_goes_there_without_a_restart() -> Result<()> {
    let before = Credentials::of(&GSTINS);
    let after = before.clone().route(SELLER, Way::MasterGst);
    // The portal knows both users, the worker's own file has one of them.
    let mut stack = Stack::of(&after.clone().route(GSTINS[1], Way::ClearTax), 0, Ok).await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("credentials.toml");
    before.write(&file)?;
    let second = Sandbox::start(&before).await?;
    let text = |path: std::path::PathBuf| path.display().to_string();
    let keys = [&stack.sandbox, &second].map(|portal| text(portal.signing_certificate()));
    let config = stack
        .config()?
        .set("credentials.path", text(file.clone()))?
        .set("irp.base_url", second.url())?
        .set("irp.public_key_file", text(second.auth_key()))?
        .set("irp.signing_keys", keys.to_vec())?
        .route(Way::MasterGst, stack.sandbox.url())?;
    let worker = config.start("worker").await?;
    stack.settle(job("j-1", "M/1")).await?.assert_signed(false);
    after.write(&file)?;
    worker.until_logged("credentials", SOON).await?;
    worker.until_logged("changed", SOON).await?;
    stack.workers.push(worker);
    stack.settle(job("j-2", "M/2")).await?.assert_signed(false);
    let (first, other) = (second.calls().await?, stack.sandbox.calls().await?);
    assert_eq!((first.registrations, other.registrations), (1, 1));
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn check_reports_each_route_and_logs_every_account_in_over_its_own() -> Result<()> {
    let stack = Stack::of(&three_ways(), 0, Ok).await?;
    let config = with_routes(stack.config()?, stack.sandbox.url(), stack.sandbox.url())?;
    let config = config.route(Way::Alankit, stack.sandbox.url())?;
    let applied = config.output("topology", &["apply"]).await?;
    ensure!(applied.status.success(), "{applied:?}");
    let output = config.output("check", &["--login"]).await?;
    let said = String::from_utf8(output.stdout)?;
    for line in [
        "ok    portal: sandbox at ".to_owned(),
        "ok    route cleartax: sandbox at ".to_owned(),
        format!(
            "ok    route mastergst: sandbox at {}, by the contract of MasterGST",
            stack.sandbox.url()
        ),
        "warn  route alankit: no client of the credentials takes it".to_owned(),
        format!(
            "ok    portal of route mastergst {}: reached",
            stack.sandbox.url()
        ),
        format!("ok    {}: logged in, token for", GSTINS[0]),
        format!(
            "ok    {}: logged in over route cleartax, token for",
            GSTINS[1]
        ),
        format!(
            "ok    {}: logged in over route mastergst, token for",
            GSTINS[4]
        ),
        format!(
            "ok    credentials of {}: client mastergst over route mastergst, calling from 203.0.113.7",
            GSTINS[4]
        ),
    ] {
        ensure!(said.contains(&line), "nobody says {line:?}:\n{said}");
    }
    ensure!(output.status.success(), "{said}");
    assert_eq!(stack.sandbox.calls().await?.logins, 5);
    Ok(())
}
