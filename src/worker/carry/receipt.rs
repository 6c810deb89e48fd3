//! A receipt for whoever replayed a job as a canary and waits to hear how it ended.
//!
//! One rule: nothing depends on it. It is tried once, after the result is proven to be in its queue; whoever waits in
//! vain stops replaying.

use crate::broker::Publication;
use crate::job::{Body, Properties, Receipt, short};
use crate::outcome::Status;
use crate::worker::Worker;

/// Tells the queue that `canary` names, if it does, how its job ended.
pub(super) async fn receipt(worker: &Worker, canary: Option<&str>, status: Status, code: &str) {
    let Some(canary) = canary else { return };
    let queue = canary.split('#').next().unwrap_or(canary);
    let receipt = Receipt {
        status: status.as_str().into(),
        code: code.into(),
    };
    let Ok(body) = serde_json::to_vec(&receipt) else {
        return;
    };
    let publication = Publication {
        exchange: "".into(),
        routing_key: queue.into(),
        properties: Properties::default()
            .with_type(short("irn.receipt.v1"))
            .with_content_type(short("application/json"))
            .with_correlation_id(short(canary)),
        body: Body::new(body),
    };
    // Whoever waited may have left, and the queue with it.
    drop(worker.publisher.publish(&publication).await);
}
