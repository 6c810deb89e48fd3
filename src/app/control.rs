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
        // Made-up GSTINs must not fill the memory.
        Ok(Order::Resume(gstin)) if worker.credentials().accounts.contains_key(&gstin) => {
            worker.resume(&gstin);
            events::resumed(&gstin);
        }
        Ok(Order::Resume(_)) => events::order_ignored(&"it names a GSTIN without credentials here"),
        Err(why) => events::order_ignored(&why),
    });
    events::no_control(&refused.await);
}
