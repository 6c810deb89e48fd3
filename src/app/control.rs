//! Heeds what operators tell all replicas.

use std::sync::Arc;

use crate::broker::{Endpoint, listen};
use crate::control::Order;
use crate::telemetry::control as events;
use crate::worker::Worker;

/// Heeds orders for as long as it is waited for, or until the broker does not permit it.
pub(super) async fn heed(endpoint: Endpoint, worker: Arc<Worker>) {
    let declare = worker.config().topology.declare;
    let refused = listen(&endpoint, declare, |message| match Order::read(message) {
        Ok(order) => obey(&worker, &order),
        Err(why) => events::order_ignored(&why),
    });
    events::no_control(&refused.await);
}

fn obey(worker: &Worker, order: &Order) {
    let accounts = &worker.credentials().accounts;
    // Made-up names must not fill the memory.
    match order {
        Order::Resume(gstin) if accounts.contains_key(gstin) => {
            worker.resume(gstin);
            events::resumed(gstin);
        }
        Order::Resume(_) => events::order_ignored(&"it names a GSTIN without credentials here"),
        Order::ResumeClient(name) if accounts.values().any(|of| of.client.name == *name) => {
            worker.resume_client(name);
        }
        Order::ResumeClient(_) => {
            events::order_ignored(&"it names a client that is not known here")
        }
    }
}
