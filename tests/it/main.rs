//! The whole product against a real broker and the sandbox: `scripts/test` runs these.
//!
//! Each test owns a virtual host, a sandbox and its workers, so all run in parallel.

mod budget;
mod commands;
mod conflict;
mod contention;
mod deadlines;
mod delivers;
mod limits;
mod reload;
mod resync;
mod secrecy;
mod sessions;
mod settlement;
mod support;

mod breaker;
mod broker_faults;
mod chaos;
#[cfg(feature = "crash-points")]
mod crash_points;
mod hostile;
mod shutdown;
mod test_kit;
