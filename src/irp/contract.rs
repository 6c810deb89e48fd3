//! What a contract is: how each call is put, and what in an answer means what. There are two, NIC's and MasterGST's.
//!
//! One rule: a contract builds requests and reads shapes. It sends nothing and decides nothing: what an answer obliges
//! the worker to do is the same for all of them (`codes`).

use std::fmt;

use reqwest::RequestBuilder;
use serde_json::value::RawValue;

use crate::config::credentials::Account;
use crate::crypto::AppKey;
use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn};
use crate::irp::Access;
use crate::irp::codes::Call;
use crate::irp::error::IrpError;
use crate::irp::http;

/// A login as it is sent.
pub(super) struct LoginRequest {
    pub(super) request: RequestBuilder,
    /// What the answer's session key is wrapped with, where the contract has one.
    pub(super) app_key: Option<AppKey>,
}

/// How the calls of one portal are put.
pub(super) trait Contract: fmt::Debug + Send + Sync {
    /// Logs in; `force` asks for a new token.
    fn login(&self, account: &Account, force: bool) -> Result<LoginRequest, IrpError>;

    /// Whether a login can ask for a new token while the old one lives.
    fn can_force(&self) -> bool;

    /// Something that is answered whoever asks, and names nobody.
    fn ping(&self) -> RequestBuilder;

    /// Whether this is what the portal says to [`Contract::ping`]; none where there is no telling.
    fn is_alive(&self, answer: &http::Answer) -> Option<bool>;

    /// Registers a document, its bytes as they came.
    fn generate(&self, access: &Access<'_>, document: &[u8]) -> Result<RequestBuilder, IrpError>;

    /// Looks a document of `seller` up by its details; `date` is `dd/mm/yyyy`.
    fn by_document(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        kind: DocumentType,
        number: &str,
        date: &str,
    ) -> Result<RequestBuilder, IrpError>;

    /// Looks a registration of `seller` up by its IRN.
    fn by_irn(
        &self,
        access: &Access<'_>,
        seller: &Gstin,
        irn: &Irn,
    ) -> Result<RequestBuilder, IrpError>;

    /// Details of a GSTIN.
    fn gstin(&self, access: &Access<'_>, gstin: &Gstin) -> Result<RequestBuilder, IrpError>;

    /// The same, synchronised with the common portal first.
    fn sync_gstin(&self, access: &Access<'_>, gstin: &Gstin) -> Result<RequestBuilder, IrpError>;

    /// Cancels a registration.
    fn cancel(&self, access: &Access<'_>, payload: &str) -> Result<RequestBuilder, IrpError>;

    /// Has an e-way bill issued, as `payload` asks for it, its bytes as they came.
    fn eway_bill(&self, access: &Access<'_>, payload: &[u8]) -> Result<RequestBuilder, IrpError>;

    /// Looks the e-way bill of a registration up.
    fn eway_bill_by_irn(&self, access: &Access<'_>, irn: &Irn) -> Result<RequestBuilder, IrpError>;

    /// An HTTP status without a readable answer that is a refusal in itself: its code in our table.
    fn refusal_of(&self, call: Call, status: u16) -> Option<&'static str>;

    /// Whether a refusal with this code leaves open what became of the call: whoever says it stands before the portal
    /// and behind it.
    fn leaves_open(&self, call: Call, code: &str) -> bool;

    /// Whether the `data` of a success says that nothing was found.
    fn is_nothing(&self, data: &RawValue) -> bool;
}
