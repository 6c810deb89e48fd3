//! Promise P2 in two phases: publish N invoices, account for N, while workers are killed, the broker goes and comes
//! back, connections are cut and the portal loses answers.
//!
//! Without options in the environment these are short forms. `scripts/chaos` runs the long form, in a release build.

mod brokers;
mod follow_ups;
mod options;
mod run;
#[path = "../it/support/mod.rs"]
mod support;

use anyhow::Result;
use support::route::Way;

use options::Options;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn no_job_is_lost_to_kills_restarts_and_partitions() -> Result<()> {
    let options = Options::from_environment()?;
    run::run(options.unwrap_or_else(Options::short)).await
}

/// Each invoice is followed by another operation on what was registered: a cancellation, a question, an e-way bill.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn no_operation_is_lost_or_done_twice_in_the_same_chaos() -> Result<()> {
    run::run(Options::short_mixed()).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn killing_any_one_node_of_a_three_node_cluster_loses_nothing() -> Result<()> {
    run::run(Options::short_cluster()).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn three_hundred_jobs_end_alike_over_the_portal_itself() -> Result<()> {
    run::run(Options::short_over(Way::Nic)).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn three_hundred_jobs_end_alike_over_a_gateway_that_passes_the_contract_on() -> Result<()> {
    run::run(Options::short_over(Way::ClearTax)).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn three_hundred_jobs_end_alike_over_the_contract_of_mastergst() -> Result<()> {
    run::run(Options::short_over(Way::MasterGst)).await
}
