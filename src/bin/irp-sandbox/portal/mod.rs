//! What the portal does with a request once it has arrived: gates, login, registration, look-ups, cancellation,
//! e-way bills. Everything here answers at once; waiting and failing are `exchange`'s business.

mod cancel;
mod eway_bill;
mod gate;
mod generate;
mod login;
mod lookup;
mod presign;

pub(crate) use eway_bill::without_inner_base64;

use crate::answer::{Answer, Refused};
use crate::call::{Call, Request};
use crate::corpus::Presigned;
use crate::crypto::Key;
use crate::node::Node;
use crate::rules::{Findings, fields::Field, form};
use crate::sandbox::Sandbox;
use crate::sessions::Session;

/// Longer documents are refused (5002, "Request body too large").
const MAX_DOCUMENT_BYTES: usize = 2 * 1024 * 1024;

/// A request with what could be read of it beforehand.
pub(crate) struct Opened<'a> {
    pub(crate) request: &'a Request,
    /// The decrypted `Data`.
    pub(crate) plain: Option<&'a [u8]>,
    /// The same, when it is JSON.
    pub(crate) node: Option<&'a Node<'a>>,
    /// The same, when it is a document of the corpus: then it was not read.
    pub(crate) presigned: Option<&'a Presigned>,
    /// The name under which a document is counted.
    pub(crate) document: Option<&'a str>,
}

impl Sandbox {
    /// Answers a request; the key, when there is one, is what the answer is to be sealed under.
    pub(crate) fn answer(&self, opened: &Opened<'_>) -> (Answer, Option<Key>) {
        let request = opened.request;
        if request.call == Call::Auth {
            let answer = self.log_in(request);
            self.stats.logged_in(&request.headers.gstin, answer.is_ok());
            return (answer, None);
        }
        match self.admit(&request.headers) {
            Ok(session) => (self.serve(&session, opened), Some(session.key)),
            Err(refused) => (Err(refused), None),
        }
    }

    fn serve(&self, session: &Session, opened: &Opened<'_>) -> Answer {
        let gstin = &session.holder.gstin;
        let sup_gstin = &opened.request.headers.sup_gstin;
        match &opened.request.call {
            Call::Auth => self.log_in(opened.request),
            Call::Generate => self.generate(session, opened),
            Call::GetByIrn(irn) => self.by_irn(gstin, sup_gstin, irn),
            Call::GetByDoc(query) => self.by_document(gstin, sup_gstin, query),
            Call::Cancel => self.cancel(gstin, opened.checked()?),
            Call::Rejected(day) => self.rejected(gstin, day.as_deref()),
            Call::Gstin(asked) => self.taxpayer(asked),
            Call::Sync(asked) => self.sync_taxpayer(asked),
            Call::EwbGenerate => self.eway_bill_by_irn(gstin, opened.checked()?),
            Call::EwbGet(irn) => self.eway_bill_of(gstin, irn),
            Call::EwbCancel => self.cancel_eway_bill(gstin, opened.checked()?),
        }
    }
}

impl<'a> Opened<'a> {
    /// The JSON of the body, or why there is none.
    fn checked(&self) -> Result<&'a Node<'a>, Refused> {
        if !self.request.has_payload() {
            return Err(Refused::one("5003", "Data cannot be null or empty"));
        }
        let Some(plain) = self.plain else {
            return Err(Refused::one("1020", "Decryption failed"));
        };
        if plain.len() > MAX_DOCUMENT_BYTES {
            return Err(Refused::one("5002", "Request body too large"));
        }
        if plain.is_empty() {
            return Err(Refused::one("2255", "Payload cannot be empty"));
        }
        self.node
            .ok_or_else(|| Refused::one("5002", "The payload is not valid JSON"))
    }
}

/// Refuses a payload whose form is wrong, with all findings.
fn check_form(node: &Node<'_>, fields: &[Field]) -> Result<(), Refused> {
    let mut findings = Findings::default();
    form::check(node, fields, &mut findings);
    let errors = findings.into_errors();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.into())
    }
}
