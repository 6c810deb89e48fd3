//! The whole product against a real broker and the sandbox: `scripts/test` runs these.
//!
//! Each test owns a virtual host, a sandbox and its workers, so all run in parallel.

mod batches;
mod budget;
mod certify;
mod check;
mod clients;
mod commands;
mod conflict;
mod contention;
mod control;
mod dead_letters;
mod deadlines;
mod delivers;
mod failover;
mod fleet;
mod health;
mod limits;
mod logins;
mod memory;
mod neighbour;
mod page;
mod pause;
mod providers;
mod reload;
mod replay;
mod replicas;
mod requests;
mod resync;
mod scaling;
mod scheduling;
mod secrecy;
mod sessions;
mod settlement;
mod support;
mod traces;
mod urgent;
mod watching;

mod backlog;
mod breaker;
mod broker_faults;
mod chaos;
#[path = "../preflight/corpus.rs"]
mod corpus;
#[cfg(feature = "crash-points")]
mod crash_points;
mod hostile;
mod preflight;
mod privilege;
mod publishers;
mod publishing;
mod shutdown;
mod test_kit;
mod tls;
