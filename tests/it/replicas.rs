//! Promise P1 for a fleet: one user's session serves all replicas, and a document is submitted once whoever of them
//! starts or ends meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::invoice;
use crate::support::stack::Stack;

const SELLER: &str = GSTINS[0];
const REPLICAS: usize = 4;
const ROUNDS: usize = 3;
const JOBS: usize = 200;
const SOON: Duration = Duration::from_secs(30);

/// A round's jobs, all of one GSTIN, so that all replicas log in as one user at the same moment.
fn jobs(round: usize) -> Vec<Job> {
    let numbers = (1..=JOBS).map(|job| format!("R{round}/{job}"));
    numbers
        .map(|number| Job::generate(&number, invoice(SELLER, &number)))
        .collect()
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn replicas_that_start_together_and_end_in_turn_submit_each_document_once() -> Result<()> {
    let mut stack = Stack::start(0).await?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    ensure!(applied.status.success(), "{applied:?}");
    for round in 1..=ROUNDS {
        let jobs = jobs(round);
        let (first, rest) = jobs.split_at(JOBS / 2);
        stack.erp.publish(first).await?;
        for number in 1..=REPLICAS {
            let worker = stack.config()?.spawn(&format!("worker {round}.{number}"))?;
            stack.workers.push(worker);
        }
        for worker in &mut stack.workers {
            worker.until_ready().await?;
        }
        stack.erp.publish(rest).await?;
        for outcome in stack.outcomes(JOBS, SOON).await?.values() {
            outcome.assert_signed(false);
        }
        // With the last result in hand its job may not be acknowledged yet; what one replica leaves unacknowledged, the
        // broker hands to the next.
        for mut worker in std::mem::take(&mut stack.workers) {
            let status = worker.terminate(SOON).await?;
            ensure!(status.code() == Some(0), "round {round}: {status}");
        }
    }
    let stats = stack.sandbox.stats().await?;
    let once = (ROUNDS * JOBS) as u64;
    assert_eq!(
        (stats.generates, stats.registrations),
        (once, once),
        "{stats:?}"
    );
    assert_eq!(
        (stats.duplicate_generates, stats.blind_generates),
        (0, 0),
        "{stats:?}"
    );
    // Neither was a session of one ended by another's login, nor a job handed out twice and looked up.
    assert_eq!((stats.errors, stats.lookups), (0, 0), "{stats:?}");
    Ok(())
}
