//! How many replicas would be of use, and why, as `/status` shows it.

use serde::Serialize;

use crate::limits::{Demand, Useful};

/// The fleet's size as it should be. Rates are in jobs a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ScalingStatus {
    pub(super) useful_replicas: u32,
    /// All jobs: waiting, handed out, on the ladder.
    pub(super) backlog: u64,
    /// Unknown before some jobs have been settled here.
    pub(super) demand: Option<DemandStatus>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct DemandStatus {
    pub(super) arriving: f64,
    pub(super) to_work_off: f64,
    pub(super) allowed: f64,
    pub(super) capacity_of_one: f64,
}

impl From<Useful> for ScalingStatus {
    fn from(useful: Useful) -> Self {
        Self {
            useful_replicas: useful.replicas,
            backlog: useful.backlog,
            demand: useful.demand.map(DemandStatus::from),
        }
    }
}

impl From<Demand> for DemandStatus {
    fn from(demand: Demand) -> Self {
        Self {
            arriving: tenths(demand.arriving),
            to_work_off: tenths(demand.backlog),
            allowed: tenths(demand.allowed),
            capacity_of_one: tenths(demand.capacity),
        }
    }
}

fn tenths(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}
