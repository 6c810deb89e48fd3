//! A receipt: what became of a job that was replayed as a canary, for whoever replays it.
//!
//! One rule: it says how a job ended and nothing of the document. The result itself goes to the ERP as any other.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Properties;
use super::properties::{header, header_text};

/// How the queues for receipts begin. The worker writes into no other, whatever a job asks for.
pub const CANARY_QUEUES: &str = "irn.canary.";

/// The body of a receipt, a JSON object (`type` `irn.receipt.v1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt<'a> {
    /// The result's status.
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    /// The first of the result's codes; empty where there is none.
    #[serde(borrow)]
    pub code: Cow<'a, str>,
}

/// `irn.canary.<queue>#<number>`, if the job is a canary.
pub(super) fn canary(properties: &Properties) -> Option<&str> {
    let named = header_text(properties.headers().as_ref(), header::CANARY)?;
    named.starts_with(CANARY_QUEUES).then_some(named)
}
