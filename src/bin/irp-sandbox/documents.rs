//! Every registered document, by IRN, in memory only.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answer::{EwayBill, Registration};
use crate::clock::{ist, stamp};
use crate::rules::eway_bill::Goods;

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Active,
    Cancelled(Timestamp),
    /// Another portal had registered the document first (NIC, rejected IRNs page).
    Rejected(Timestamp),
}

impl Status {
    /// As the portal writes it.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Active => "ACT",
            Self::Cancelled(_) => "CNL",
            Self::Rejected(_) => "REJ",
        }
    }
}

/// One registered document.
#[derive(Clone)]
pub(crate) struct Document {
    pub(crate) irn: String,
    /// Whose token registered it.
    pub(crate) owner: String,
    pub(crate) seller: String,
    pub(crate) typ: String,
    /// As sent.
    pub(crate) number: String,
    /// As sent, `dd/mm/yyyy`.
    pub(crate) day: String,
    /// The decrypted bytes as they came.
    pub(crate) raw: Arc<[u8]>,
    pub(crate) ack_no: u64,
    pub(crate) ack_dt: String,
    pub(crate) registered: Timestamp,
    pub(crate) signed_invoice: Arc<str>,
    pub(crate) signed_qr: Arc<str>,
    pub(crate) status: Status,
    pub(crate) goods: Goods,
    pub(crate) eway_bill: Option<EwayBill>,
}

impl Document {
    /// As generate and the look-ups return it.
    pub(crate) fn registration(&self) -> Registration {
        Registration {
            ack_no: self.ack_no,
            ack_dt: self.ack_dt.clone(),
            irn: self.irn.clone(),
            signed_invoice: Arc::clone(&self.signed_invoice),
            signed_qr: Arc::clone(&self.signed_qr),
            text: None,
            status: self.status.code(),
            eway_bill: self.eway_bill.clone().filter(|bill| bill.active),
        }
    }

    /// Whether `gstin` may see and change it.
    pub(crate) fn belongs_to(&self, gstin: &str) -> bool {
        self.owner == gstin || self.seller == gstin
    }

    /// As `GET /_sandbox/documents` lists it.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "irn": self.irn, "gstin": self.seller, "owner": self.owner, "type": self.typ, "number": self.number,
            "date": self.day, "status": self.status.code(), "ack_no": self.ack_no.to_string(),
            "registered": stamp(self.registered), "bytes": self.raw.len(),
            "eway_bill": self.eway_bill.as_ref().map(|bill| bill.number.to_string()),
        })
    }
}

/// The register.
#[derive(Default)]
pub(crate) struct Documents {
    by_irn: HashMap<String, Document>,
    /// IRNs that other portals registered, with the portal's name.
    elsewhere: HashMap<String, String>,
    acknowledgements: u64,
    eway_bills: u64,
}

impl Documents {
    pub(crate) fn find(&self, irn: &str) -> Option<&Document> {
        self.by_irn.get(irn)
    }

    pub(crate) fn find_mut(&mut self, irn: &str) -> Option<&mut Document> {
        self.by_irn.get_mut(irn)
    }

    /// The document of an e-way bill.
    pub(crate) fn of_eway_bill(&mut self, number: u64) -> Option<&mut Document> {
        self.by_irn.values_mut().find(|document| {
            document
                .eway_bill
                .as_ref()
                .is_some_and(|bill| bill.number == number)
        })
    }

    /// The portal that registered this IRN instead of us.
    pub(crate) fn registrar_elsewhere(&self, irn: &str) -> Option<&str> {
        self.elsewhere.get(irn).map(String::as_str)
    }

    /// Says that another portal has registered this IRN.
    pub(crate) fn set_elsewhere(&mut self, irn: String, portal: String) {
        self.elsewhere.insert(irn, portal);
    }

    /// The next acknowledgement number: 15 digits with the year at the third and fourth, as in real ones.
    pub(crate) fn next_ack_no(&mut self, now: Timestamp) -> u64 {
        self.acknowledgements += 1;
        110_010_000_000_000 + year_of(now) * 100_000_000_000 + self.acknowledgements
    }

    /// The next e-way-bill number: 12 digits.
    pub(crate) fn next_eway_bill(&mut self) -> u64 {
        self.eway_bills += 1;
        110_000_000_000 + self.eway_bills
    }

    /// Registers a document, unless the IRN is taken.
    ///
    /// # Errors
    /// Gives the document back.
    pub(crate) fn insert(&mut self, document: Document) -> Result<(), Box<Document>> {
        if self.by_irn.contains_key(&document.irn) {
            return Err(Box::new(document));
        }
        self.by_irn.insert(document.irn.clone(), document);
        Ok(())
    }

    /// Registers `document` as of `now`, or registers it anew.
    pub(crate) fn put(&mut self, document: &Document, now: Timestamp) {
        match self.by_irn.get_mut(&document.irn) {
            Some(there) if there.status == Status::Active => there.registered = now,
            _ => {
                let mut document = document.clone();
                document.registered = now;
                self.by_irn.insert(document.irn.clone(), document);
            }
        }
    }

    /// All documents, oldest first.
    pub(crate) fn all(&self) -> Vec<&Document> {
        let mut all: Vec<_> = self.by_irn.values().collect();
        all.sort_by_key(|document| document.ack_no);
        all
    }
}

fn year_of(now: Timestamp) -> u64 {
    u64::try_from(ist(now).year() % 100).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgement_numbers_have_fifteen_digits_and_the_year() {
        let mut documents = Documents::default();
        let now: Timestamp = "2025-12-31T20:00:00Z".parse().unwrap();
        assert_eq!(documents.next_ack_no(now), 112_610_000_000_001);
        assert_eq!(documents.next_ack_no(now), 112_610_000_000_002);
        assert_eq!(documents.next_eway_bill().to_string().len(), 12);
    }
}
