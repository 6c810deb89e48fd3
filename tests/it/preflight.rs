//! Pre-flight in the worker: what it refuses costs the taxpayer no call, what it lets pass the portal registers, and
//! nothing that may be registered is refused unseen.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::corpus::{FAULTS, Fault, KINDS, Kind, valid};
use crate::support::amqp::Job;
use crate::support::outcome::Outcome;
use crate::support::sandbox::Calls;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const SOON: Duration = Duration::from_secs(20);
const MANY: Duration = Duration::from_secs(60);

/// Limits that no test of a thousand jobs waits for.
fn quick(config: WorkerConfig) -> Result<WorkerConfig> {
    config
        .set("limits.per_gstin", "500/s")?
        .set("limits.total", "1000/s")
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn thousand_faulty_documents_are_rejected_without_a_call() -> Result<()> {
    let stack = Stack::start_with(1, quick).await?;
    let mut wanted: BTreeMap<String, &Fault> = BTreeMap::new();
    let mut jobs = Vec::new();
    // The sandbox's GSTINs have no check digits.
    for (n, fault) in FAULTS
        .iter()
        .enumerate()
        .filter(|(_, fault)| !fault.production_only)
    {
        for seed in 0..20 {
            let id = format!("bad-{n}-{seed}");
            jobs.push(Job::generate(&id, fault.document(seed).to_string()));
            wanted.insert(id, fault);
        }
    }
    ensure!(jobs.len() >= 1_000, "only {} documents", jobs.len());
    stack.erp.publish(&jobs).await?;
    for (id, outcome) in stack.outcomes(jobs.len(), MANY).await? {
        let fault = wanted.get(&id).context("nobody asked for it")?;
        assert_eq!(
            outcome.status(),
            "rejected",
            "{}: {}",
            fault.name,
            outcome.json
        );
        assert_eq!(outcome.json["dead_lettered"], false);
        let errors = outcome.json["errors"].as_array().context("no errors")?;
        let named = errors.iter().any(|error| {
            error["source"] == "preflight"
                && error["code"] == fault.code
                && error["path"] == fault.pointer
        });
        assert!(named, "{}: {}", fault.name, outcome.json);
    }
    assert_eq!(
        stack.sandbox.calls().await?,
        Calls::default(),
        "the portal was asked"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn two_hundred_valid_documents_of_all_kinds_are_registered() -> Result<()> {
    let stack = Stack::start_with(1, quick).await?;
    let documents = KINDS
        .iter()
        .flat_map(|kind| (0..11).map(|seed| (*kind, seed)));
    let jobs: Vec<Job> = documents
        .map(|(kind, seed)| {
            Job::generate(&format!("{kind:?}-{seed}"), valid(kind, seed).to_string())
        })
        .collect();
    ensure!(jobs.len() >= 200, "only {} documents", jobs.len());
    stack.erp.publish(&jobs).await?;
    for (id, outcome) in stack.outcomes(jobs.len(), MANY).await? {
        ensure!(outcome.status() == "signed", "{id}: {}", outcome.json);
    }
    let calls = stack.sandbox.calls().await?;
    assert_eq!(calls.registrations, u64::try_from(jobs.len())?);
    assert_eq!(
        calls.generates, calls.registrations,
        "some were refused first"
    );
    Ok(())
}

/// Rules that know nothing of the rate of the document in hand.
fn stricter(
    config: WorkerConfig,
    document: &Value,
    folder: &tempfile::TempDir,
) -> Result<WorkerConfig> {
    let rate = document["ItemList"][0]["GstRt"].to_string();
    let entry = format!("  {{ percent = \"{rate}\" }},\n");
    let built_in = include_str!("../../config/rules.toml");
    let rules = built_in.replace(&entry, "");
    ensure!(rules != built_in, "{entry} is no rate of the rules");
    let file = folder.path().join("rules.toml");
    std::fs::write(&file, rules)?;
    config.set("validate.rules_file", file.to_string_lossy().into_owned())
}

fn document_of_a_plain_rate() -> Result<Value> {
    let mut plain = (0..50)
        .map(|seed| valid(Kind::BetweenStates, seed))
        .filter(|document| document["ItemList"][0]["GstRt"] == 18);
    plain.next().context("no document bears 18 %")
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_in_doubt_is_looked_up_although_the_rules_have_changed() -> Result<()> {
    let document = document_of_a_plain_rate()?;
    let folder = tempfile::TempDir::new()?;
    let mut stack = Stack::start(1).await?;
    let job = || Job::generate("j-1", document.to_string());
    stack.settle(job()).await?.assert_signed(false);
    // Killed, it might not have acknowledged yet: its job would be handed out again, too.
    assert!(stack.worker()?.terminate(SOON).await?.success());
    stack.publish_redelivered(job()).await?;
    let config = stricter(stack.config()?, &document, &folder)?;
    let _stricter = config.start("stricter worker").await?;
    stack.outcome().await?.assert_signed(true);
    let calls = stack.sandbox.calls().await?;
    assert_eq!((calls.generates, calls.lookups), (1, 1));

    let fresh = stack
        .settle(Job::generate("j-2", document.to_string()))
        .await?;
    assert_eq!(fresh.errors(), ["preflight 2240"], "{}", fresh.json);
    assert_eq!(
        stack.sandbox.calls().await?,
        calls,
        "a fresh one costs no call"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn document_in_doubt_that_is_nowhere_is_rejected_and_not_sent() -> Result<()> {
    let document = document_of_a_plain_rate()?;
    let folder = tempfile::TempDir::new()?;
    let mut stack = Stack::start(0).await?;
    stack
        .publish_redelivered(Job::generate("j-1", document.to_string()))
        .await?;
    let config = stricter(stack.config()?, &document, &folder)?;
    stack.workers.push(config.start("stricter worker").await?);
    let outcome: Outcome = stack.outcome().await?;
    assert_eq!(outcome.errors(), ["preflight 2240"], "{}", outcome.json);
    let calls = stack.sandbox.calls().await?;
    assert_eq!(calls.generates, 0);
    assert!(calls.lookups >= 1, "{calls:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn every_fault_of_a_document_that_cannot_be_named_is_told_at_once() -> Result<()> {
    let stack = Stack::start(1).await?;
    let mut document = valid(Kind::BetweenStates, 1);
    document["DocDtls"]["Typ"] = "BIL".into();
    document["ValDtls"]["TotInvVal"] = 1.into();
    let outcome = stack
        .settle(Job::generate("j-1", document.to_string()))
        .await?;
    assert_eq!(outcome.status(), "rejected");
    assert_eq!(
        outcome.errors(),
        ["preflight 2161", "preflight 2189"],
        "{}",
        outcome.json
    );
    assert_eq!(stack.sandbox.calls().await?, Calls::default());
    // The reply is its only place: nothing waits for it any more.
    assert_eq!(stack.erp.drain("irn.dead").await?.len(), 0);
    let none = stack
        .erp
        .take("irn.results", 1, Duration::from_millis(200))
        .await;
    assert!(none.is_err());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn batch_of_faulty_or_late_documents_costs_no_call() -> Result<()> {
    let stack = Stack::start_with(1, quick).await?;
    let faults = FAULTS.iter().filter(|fault| !fault.production_only);
    let documents: Vec<String> = faults
        .flat_map(|fault| (0..6).map(|seed| fault.document(seed).to_string()))
        .collect();
    ensure!(documents.len() >= 300, "only {} documents", documents.len());
    let batch = Job::generate("faulty", format!("[{}]", documents.join(",")));
    stack.erp.publish(&[batch]).await?;
    for (id, outcome) in stack.outcomes(documents.len(), MANY).await? {
        ensure!(outcome.status() == "rejected", "{id}: {}", outcome.json);
    }
    let good: Vec<String> = (0..20)
        .map(|seed| valid(Kind::BetweenStates, seed).to_string())
        .collect();
    let late = Job::generate("late", format!("[{}]", good.join(",")))
        .text_header("x-irn-deadline", "2025-09-05T12:00:00Z");
    stack.erp.publish(&[late]).await?;
    for (id, outcome) in stack.outcomes(good.len(), MANY).await? {
        ensure!(outcome.status() == "expired", "{id}: {}", outcome.json);
    }
    assert_eq!(stack.sandbox.calls().await?, Calls::default());
    Ok(())
}
