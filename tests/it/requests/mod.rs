//! `cancel`, `get` and `ewb` jobs between a real broker and the sandbox: what the ERP is told, and what the portal was
//! asked for it.

mod bodies;
mod cancel;
mod eway_bill;
mod failures;
mod get;
mod operators;
mod standing;

use std::time::Duration;

use anyhow::Result;

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::{invoice, irn};
use crate::support::sandbox::Stats;
use crate::support::stack::Stack;

/// A request of this id, in the name of this GSTIN, about this IRN.
type Make = fn(&str, &str, &str) -> Job;

const SELLER: &str = GSTINS[0];
const SOON: Duration = Duration::from_secs(20);

/// Registers an invoice of [`SELLER`] under this number; its IRN.
async fn registered(stack: &Stack, number: &str) -> Result<String> {
    let job = Job::generate(&format!("g-{number}"), invoice(SELLER, number));
    stack.settle(job).await?.assert_signed(false);
    Ok(irn(SELLER, number))
}

/// Registers so many under `prefix/0` and so on; their IRNs.
async fn all_registered(stack: &Stack, prefix: &str, count: usize) -> Result<Vec<String>> {
    let number = |i| format!("{prefix}/{i}");
    let job = |i| Job::generate(&format!("g-{prefix}-{i}"), invoice(SELLER, &number(i)));
    let jobs: Vec<Job> = (0..count).map(job).collect();
    stack.erp.publish(&jobs).await?;
    for outcome in stack.outcomes(count, SOON).await?.values() {
        outcome.assert_signed(false);
    }
    Ok((0..count).map(|i| irn(SELLER, &number(i))).collect())
}

/// How often each call arrived that these jobs make: look-ups by IRN, cancellations, e-way bills, their look-ups.
fn asked(stats: &Stats) -> [u64; 4] {
    ["get_by_irn", "cancel", "ewb", "get_ewb"].map(|endpoint| stats.requests(endpoint))
}

/// Nothing was sent while the fate of the request before was open.
fn assert_nothing_blind(stats: &Stats) {
    let blind = [
        stats.blind_generates,
        stats.blind_cancels,
        stats.blind_eway_bills,
    ];
    assert_eq!(blind, [0, 0, 0], "{stats:?}");
}
