//! Logins cost the taxpayer: one for all who wait, one after a refusal of the token, none after a refusal of the
//! password.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::{self, invoice};
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;

const SELLER: &str = GSTINS[0];
const OTHER: &str = GSTINS[1];
const SOON: Duration = Duration::from_secs(10);

/// `count` invoices of `gstin`, numbered `PREFIX/1` and so on; the number is the job's id too.
fn jobs(gstin: &str, prefix: &str, count: usize) -> Vec<Job> {
    let job = |i| {
        let number = format!("{prefix}/{i}");
        Job::generate(&number, invoice(gstin, &number))
    };
    (1..=count).map(job).collect()
}

fn all_signed<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) {
    for outcome in outcomes {
        outcome.assert_signed(false);
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn thousand_jobs_of_five_gstins_over_two_workers_cost_at_most_ten_logins() -> Result<()> {
    let stack = Stack::start(2).await?;
    let all: Vec<Job> = GSTINS
        .iter()
        .zip(["L1", "L2", "L3", "L4", "L5"])
        .flat_map(|(gstin, prefix)| jobs(gstin, prefix, 200))
        .collect();
    stack.erp.publish(&all).await?;
    let outcomes = stack.outcomes(1_000, Duration::from_secs(60)).await?;
    all_signed(outcomes.values());
    let stats = stack.sandbox.stats().await?;
    let calls = stats.calls();
    assert!((5..=10).contains(&calls.logins), "{calls:?}");
    assert_eq!((calls.registrations, calls.duplicates), (1_000, 0));
    for gstin in GSTINS {
        assert!(
            stats.of(gstin).calls().logins <= 2,
            "{gstin}: one for each worker"
        );
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn first_jobs_of_a_gstin_share_one_login() -> Result<()> {
    let stack = Stack::start(1).await?;
    let slow = json!([{"endpoint": "auth", "kind": "hold", "times": 1}]);
    stack.sandbox.faults(1, slow).await?;
    stack.erp.publish(&jobs(SELLER, "F", 40)).await?;
    stack.sandbox.until_held(1, SOON).await?;
    stack.sandbox.release().await?;
    all_signed(stack.outcomes(40, SOON).await?.values());
    assert_eq!(stack.sandbox.calls().await?.logins, 1);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refused_password_costs_one_login_however_many_jobs_wait() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    change_password(&stack, SELLER).await?;
    stack.erp.publish(&jobs(SELLER, "W", 50)).await?;
    stack.erp.publish(&jobs(OTHER, "O", 5)).await?;
    let outcomes = stack.outcomes(55, SOON).await?;
    for (id, outcome) in outcomes.iter().filter(|(id, _)| id.starts_with('W')) {
        assert_eq!(outcome.status(), "failed", "{id}: {}", outcome.json);
        assert_eq!(
            outcome.errors(),
            ["worker CREDENTIALS_REFUSED", "irp 1019"],
            "{id}"
        );
        assert_eq!(outcome.json["dead_lettered"], true, "{id}");
    }
    all_signed(
        outcomes
            .iter()
            .filter(|(id, _)| id.starts_with('O'))
            .map(|(_, outcome)| outcome),
    );
    let stats = stack.sandbox.stats().await?;
    assert_eq!(
        (
            stats.of(SELLER).calls().logins,
            stats.of(SELLER).authentications_refused
        ),
        (1, 1)
    );
    assert_eq!(stats.of(SELLER).generates, 0);
    assert_eq!(stack.erp.take("irn.dead", 50, SOON).await?.len(), 50);
    let status: Value = serde_json::from_str(&stack.worker()?.admin("/status").await?)?;
    let lanes = status["lanes"].as_array().context("no lanes")?;
    let refused: Vec<&Value> = lanes
        .iter()
        .filter(|lane| lane["credentials"] == "refused")
        .collect();
    assert_eq!(refused.len(), 1, "{status}");
    assert_eq!(refused[0]["gstin"], SELLER);
    Ok(())
}

/// The taxpayer has changed the password at the portal, and nobody has told the worker.
async fn change_password(stack: &Stack, gstin: &str) -> Result<()> {
    let changed =
        json!({"gstin": gstin, "username": format!("API_{gstin}"), "password": "another-1"});
    stack.sandbox.post("password", &changed).await.map(drop)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn account_blocked_in_the_middle_stops_its_jobs_and_no_others() -> Result<()> {
    let stack = Stack::start(1).await?;
    all_signed([&stack.settle(jobs(SELLER, "X", 1).remove(0)).await?]);
    let blocked = json!([{"endpoint": "core", "gstin": SELLER, "kind": "block_gstin"}]);
    stack.sandbox.faults(1, blocked).await?;
    let first = stack
        .settle(Job::generate("Y", invoice(SELLER, "Y")))
        .await?;
    assert_eq!(first.status(), "failed", "{}", first.json);
    let refused = stack.sandbox.stats().await?.of(SELLER);
    stack.erp.publish(&jobs(SELLER, "Z", 20)).await?;
    stack.erp.publish(&jobs(OTHER, "V", 5)).await?;
    let outcomes = stack.outcomes(25, SOON).await?;
    let failed = outcomes
        .values()
        .filter(|outcome| outcome.status() == "failed");
    for outcome in failed.clone() {
        assert_eq!(
            outcome.errors()[0],
            "worker CREDENTIALS_REFUSED",
            "{}",
            outcome.json
        );
    }
    assert_eq!(failed.count(), 20);
    let after = stack.sandbox.stats().await?.of(SELLER);
    assert_eq!(
        (after.calls(), after.errors),
        (refused.calls(), 1),
        "calls after the refusal"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refused_document_costs_one_call_and_one_error() -> Result<()> {
    let stack = Stack::start_with(1, |config| config.set("validate.preflight", "off")).await?;
    let count: u32 = 20;
    let wrong: Vec<Job> = (1..=count)
        .map(|i| {
            Job::generate(
                &format!("j-{i}"),
                invoice::wrong_total(SELLER, &format!("R/{i}")),
            )
        })
        .collect();
    stack.erp.publish(&wrong).await?;
    for outcome in stack.outcomes(wrong.len(), SOON).await?.values() {
        assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    }
    let stats = stack.sandbox.stats().await?;
    let count = u64::from(count);
    assert_eq!(
        (stats.generates, stats.errors, stats.lookups),
        (count, count, 0)
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn token_that_expires_in_the_middle_is_renewed_once() -> Result<()> {
    let stack = Stack::start(1).await?;
    all_signed(stack_of(&stack, "M", 5).await?.values());
    // The worker cannot know that the portal's clock has jumped: its jobs meet the refusal together.
    stack.sandbox.advance("61m").await?;
    all_signed(stack_of(&stack, "N", 30).await?.values());
    let stats = stack.sandbox.stats().await?;
    assert_eq!(stats.calls().logins, 2);
    assert_eq!(stats.calls().registrations, 35);
    assert!(stats.errors <= 8, "{} refusals for 8 slots", stats.errors);
    Ok(())
}

async fn stack_of(
    stack: &Stack,
    prefix: &str,
    count: usize,
) -> Result<std::collections::BTreeMap<String, Outcome>> {
    stack.erp.publish(&jobs(SELLER, prefix, count)).await?;
    stack.outcomes(count, SOON).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn token_revoked_while_jobs_run_costs_one_login_each_time() -> Result<()> {
    let stack = Stack::start(1).await?;
    all_signed(stack_of(&stack, "A", 1).await?.values());
    for (round, logins) in [("B", 2), ("C", 3)] {
        let hold = json!([{"endpoint": "generate", "kind": "hold", "times": 8}]);
        stack.sandbox.faults(1, hold).await?;
        stack.erp.publish(&jobs(SELLER, round, 20)).await?;
        stack.sandbox.until_held(8, SOON).await?;
        stack.sandbox.revoke_tokens().await?;
        stack.sandbox.release().await?;
        all_signed(stack.outcomes(20, SOON).await?.values());
        assert_eq!(stack.sandbox.calls().await?.logins, logins, "round {round}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn token_in_its_last_minutes_is_renewed_by_force_beside_the_work() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    stack
        .sandbox
        .post("settings", &json!({"token_minutes": 7}))
        .await?;
    all_signed(stack_of(&stack, "A", 1).await?.values());
    // From the next call on the worker is within the last minutes, and the portal gives a lasting token again.
    stack
        .sandbox
        .post("settings", &json!({"token_minutes": 60}))
        .await?;
    all_signed(stack_of(&stack, "B", 10).await?.values());
    let worker = stack.worker()?;
    eventually(SOON, "a token for an hour", async || {
        let status: Value = serde_json::from_str(&worker.admin("/status").await?)?;
        let left = status["lanes"][0]["token_expires_in_seconds"].as_u64();
        Ok((left > Some(50 * 60)).then_some(()))
    })
    .await?;
    all_signed(stack_of(&stack, "C", 10).await?.values());
    assert_eq!(stack.sandbox.calls().await?.logins, 2);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn token_whose_renewal_is_refused_serves_on_and_is_not_asked_for_again() -> Result<()> {
    for code in ["9001", "1005", "1019"] {
        let stack = Stack::start(1).await?;
        stack
            .sandbox
            .post("settings", &json!({"token_minutes": 7}))
            .await?;
        all_signed(stack_of(&stack, "A", 1).await?.values());
        let refuse = json!([{"endpoint": "auth", "kind": "error", "code": code}]);
        stack.sandbox.faults(1, refuse).await?;
        all_signed(stack_of(&stack, "B", 1).await?.values());
        eventually(SOON, "the renewal is refused", async || {
            let stats = stack.sandbox.stats().await?;
            Ok((stats.requests("auth") == 2).then_some(()))
        })
        .await?;
        all_signed(stack_of(&stack, "C", 10).await?.values());
        assert_eq!(stack.sandbox.stats().await?.requests("auth"), 2, "{code}");

        // At its end a plain login decides; a password that was refused is not sent again.
        stack.sandbox.faults(1, json!([])).await?;
        stack.sandbox.advance("8m").await?;
        let outcomes = stack_of(&stack, "D", 1).await?;
        let is_password = code == "1019";
        if is_password {
            for outcome in outcomes.values() {
                assert_eq!(outcome.errors(), ["worker CREDENTIALS_REFUSED", "irp 1019"]);
            }
        } else {
            all_signed(outcomes.values());
        }
        let logins = stack.sandbox.stats().await?.requests("auth");
        assert_eq!(logins, if is_password { 2 } else { 3 }, "{code}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn login_that_must_wait_for_its_rate_defers_the_job_and_fails_nothing() -> Result<()> {
    let mut stack =
        Stack::start_with(1, |config| config.set("limits.auth_per_gstin", "10/m")).await?;
    all_signed(stack_of(&stack, "A", 1).await?.values());
    stack.sandbox.revoke_tokens().await?;
    let outcome = stack.settle(jobs(SELLER, "B", 1).remove(0)).await?;
    outcome.assert_signed(false);
    assert_eq!(outcome.json["attempts"], 1, "a wait is no attempt");
    let deferred = stack
        .worker()?
        .metric("irn_worker_deferred_total", "login rate")
        .await?;
    assert!(deferred >= 1.0, "{deferred}");
    assert_eq!(stack.sandbox.calls().await?.logins, 2);
    Ok(())
}
