//! What the worker allows itself towards the portal: rates per GSTIN, in total, and of logins.
//!
//! One rule: time is tokio's. governor only computes; the waiting is done here, so that tests can pause the clock
//! and a stop can end a wait.

mod clock;
mod rate;

pub use rate::{Admission, Limits};
