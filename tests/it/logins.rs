//! Logins of a whole fleet: each replica logs in for itself, and all together keep within the rate.

use std::time::Duration;

use anyhow::Result;

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::invoice;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const REPLICAS: usize = 4;
const PER_MINUTE: u64 = 2;
const JOBS: usize = 20;
/// Shorter than the minute in which the logins are counted.
const SOON: Duration = Duration::from_secs(50);

fn rationed(config: WorkerConfig) -> Result<WorkerConfig> {
    config.set("limits.auth_per_gstin", format!("{PER_MINUTE}/m"))
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replicas_that_start_together_keep_within_the_login_rate_and_answer_every_job() -> Result<()>
{
    let mut stack = Stack::start(0).await?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    assert!(applied.status.success(), "{applied:?}");
    for gstin in GSTINS {
        let jobs: Vec<Job> = (1..=JOBS)
            .map(|i| Job::generate(&format!("{gstin}/{i}"), invoice(gstin, &format!("F/{i}"))))
            .collect();
        stack.erp.publish(&jobs).await?;
    }
    for number in 1..=REPLICAS {
        let worker = rationed(stack.config()?)?.spawn(&format!("worker {number}"))?;
        stack.workers.push(worker);
    }
    for outcome in stack.outcomes(GSTINS.len() * JOBS, SOON).await?.values() {
        outcome.assert_signed(false);
    }
    let stats = stack.sandbox.stats().await?;
    let logins = GSTINS.map(|gstin| stats.of(gstin).authentications);
    println!("logins of {REPLICAS} replicas, by GSTIN: {logins:?}");
    // What one replica says may reach the others too late, on a busy machine: once, of these GSTINs.
    let over = logins.iter().map(|count| count.saturating_sub(PER_MINUTE));
    assert!(over.sum::<u64>() <= 1, "{logins:?}");
    assert!(!logins.contains(&0), "{logins:?}");
    Ok(())
}
