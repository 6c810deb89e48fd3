//! The built irp-sandbox over real HTTP, seen by a small client that shares no code with it or with the worker.
//! Every test starts its own sandbox, so all run in parallel.

mod client;
mod corpus;
mod faults;
mod login;
mod process;
mod registration;
mod rules;
