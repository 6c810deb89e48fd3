//! What the worker allows itself towards the portal: rates per GSTIN, in total, and of logins; error budgets; how much
//! at once; no document twice that was refused; and nothing at all while the portal is down.
//!
//! One rule: time is tokio's. governor only computes; the waiting is done here, so that tests can pause the clock
//! and a stop can end a wait.

mod breaker;
mod breakers;
mod budget;
mod clock;
mod concurrency;
mod fairness;
mod heard;
mod idle;
mod line;
mod logins;
mod paced;
mod rate;
mod refusals;
mod roll;
mod scaling;
mod share;
mod window;

pub use breaker::{Scope, View, clamped};
pub use breakers::{Breakers, UnderWay};
pub use budget::{Allowance, BudgetState, Errors, Reservation, Stopped, Usage};
pub use concurrency::{Slot, Slots};
pub use line::Line;
pub use logins::Announce;
pub use rate::{Admission, Limits, Pace};
pub use refusals::{Earlier, Refusals};
pub use scaling::{Demand, Found, Scaling, Useful};
pub use share::Replicas;
