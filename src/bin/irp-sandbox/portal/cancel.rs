//! Cancellation of a registration (NIC, cancel-irn page): whole documents, by their owner, within 24 hours.

use jiff::SignedDuration;
use serde_json::json;

use super::check_form;
use crate::answer::{Answer, Payload, Refused};
use crate::clock::stamp;
use crate::documents::Status;
use crate::node::Node;
use crate::rules::fields::CANCEL;
use crate::sandbox::Sandbox;

/// After this a registration cannot be taken back.
const WINDOW: SignedDuration = SignedDuration::from_hours(24);

impl Sandbox {
    pub(super) fn cancel(&self, gstin: &str, node: &Node<'_>) -> Answer {
        check_form(node, CANCEL)?;
        let irn = node.text("Irn").unwrap_or_default().to_lowercase();
        let now = self.now();
        let mut documents = self.documents();
        let document = documents
            .find_mut(&irn)
            .ok_or_else(|| Refused::one("2148", "Requested IRN data is not available"))?;
        if !document.belongs_to(gstin) {
            return Err(Refused::one(
                "2143",
                "Invoice does not belongs to the user GSTIN",
            ));
        }
        if document.status != Status::Active {
            return Err(Refused::one("9999", "Invoice is not active"));
        }
        if document.eway_bill.as_ref().is_some_and(|bill| bill.active) {
            return Err(Refused::one(
                "2230",
                "IRN cannot be cancelled because e-way bill has been generated",
            ));
        }
        if now.duration_since(document.registered) > WINDOW {
            return Err(Refused::one(
                "2270",
                "The allowed cancellation time limit is crossed, you cannot cancel the IRN",
            ));
        }
        document.status = Status::Cancelled(now);
        Ok(Payload::Json(json!({"Irn": irn, "CancelDate": stamp(now)})).into())
    }
}
