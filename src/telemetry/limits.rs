//! Events of the limits: error budgets, and the share of a fleet.

use metrics::gauge;
use tracing::{error, info, warn};

use crate::gstin::Gstin;

/// Whose error budget an event is about.
#[derive(Clone, Copy, Debug)]
pub enum BudgetOf<'a> {
    /// A GSTIN's.
    Gstin(&'a Gstin),
    /// That of a client, by its name in the credentials file.
    Client(&'a str),
}

impl<'a> BudgetOf<'a> {
    /// What it is, and its name.
    fn named(self) -> (&'static str, &'a str) {
        match self {
            Self::Gstin(gstin) => ("gstin", gstin.as_str()),
            Self::Client(name) => ("client", name),
        }
    }
}

/// How much of an error budget is used.
pub fn budget_used(of: BudgetOf<'_>, used: u32, limit: u32) {
    let (scope, name) = of.named();
    let ratio = f64::from(used) / f64::from(limit);
    gauge!("irn_worker_error_budget_used_ratio", scope => name.to_owned()).set(ratio);
}

/// An error budget is used up further than the last event said, or, `eased`, less far.
pub fn budget_crossed(of: BudgetOf<'_>, state: &'static str, eased: bool, used: u32, limit: u32) {
    let (scope, name) = of.named();
    match state {
        "stopped" => error!(
            scope,
            name,
            state,
            used,
            limit,
            "error budget of {scope} {name} is used up: no more calls until its errors are a day old, or it is resumed"
        ),
        _ if eased => info!(
            scope,
            name, state, used, limit, "error budget of {scope} {name} eases: {state}"
        ),
        _ => warn!(
            scope,
            name, state, used, limit, "error budget of {scope} {name} runs low: {used} of {limit}"
        ),
    }
}

/// An operator has forgiven the errors so far.
pub fn budget_resumed(of: BudgetOf<'_>) {
    let (scope, name) = of.named();
    warn!(
        scope,
        name, "error budget of {scope} {name} resumed by an operator"
    );
}

/// How many replicas would be of use.
pub fn useful_replicas(count: u32) {
    gauge!("irn_worker_useful_replicas").set(f64::from(count));
}

/// How many replicas share the limits.
pub fn replicas_seen(count: u32) {
    gauge!("irn_worker_replicas").set(f64::from(count));
    info!(
        replicas = count,
        "the limits are shared by {count} replicas"
    );
}
