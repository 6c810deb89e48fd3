//! The parts of `irn-worker`, a RabbitMQ batch worker that has invoices registered at India's Invoice
//! Registration Portal (IRP) and hands back exactly one signed, verified result for each.
//!
//! Modules are declared bottom first, in groups. A module uses the groups above its own in this file: nothing
//! sideways, nothing down. The broker and the portal do not know each other; they meet in [`worker`] only.
//! `tests/layers.rs` keeps it so.

#![forbid(unsafe_code)]

// What holds bytes.
mod json;
#[cfg(test)]
mod published;
pub mod wiped;

// Identifiers: no I/O, no time.
pub mod gstin;

pub mod irn;

pub mod document;
pub mod outcome;

// What is asked for about something that is registered.
pub mod request;

// A job as it came in, whatever carried it.
pub mod job;

// What an operator tells all replicas.
pub mod control;

// What was configured, and how it is told what happens.
pub mod config;

pub mod telemetry;

// Where a build for tests can be told to die.
pub mod crash;

// The portal's arithmetic: bytes in, bytes out.
pub mod crypto;
pub mod preflight;
pub mod retry;
pub mod signature;

// The two sides, which do not know each other, and the limits between them.
pub mod broker;
pub mod irp;
pub mod limits;

// One live login per GSTIN.
pub mod sessions;

// Where they meet.
pub mod admin;
pub mod ops;
pub mod worker;

// The composition root, and the command line above it.
pub mod app;

pub mod cli;
