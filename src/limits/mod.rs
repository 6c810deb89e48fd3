//! What the worker allows itself towards the portal: rates per GSTIN, in total, and of logins; error budgets; and no
//! document twice that was refused.
//!
//! One rule: time is tokio's. governor only computes; the waiting is done here, so that tests can pause the clock
//! and a stop can end a wait.

mod budget;
mod clock;
mod paced;
mod rate;
mod refusals;
mod window;

pub use budget::{Allowance, BudgetState, Reservation, Stopped, Usage};
pub use rate::{Admission, Limits};
pub use refusals::{Earlier, Refusals};
