//! Registration of a document (NIC, generate-irn page): form, rules, duplicates, number, signatures, e-way bill.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Opened, check_form};
use crate::answer::{Answer, Granted, Info, Payload, Refused};
use crate::clock::{financial_year, nearest_minute, stamp};
use crate::documents::{Document, Documents, Status};
use crate::irn::irn;
use crate::node::Node;
use crate::rules::eway_bill::Goods;
use crate::rules::fields::{EWAY_BILL, INVOICE};
use crate::rules::invoice::Invoice;
use crate::rules::parties::{self, Circumstances};
use crate::rules::{Findings, arithmetic, form};
use crate::sandbox::Sandbox;
use crate::sessions::Session;
use crate::settings::Environment;

impl Sandbox {
    pub(super) fn generate(&self, session: &Session, opened: &Opened<'_>) -> Answer {
        if let Some(presigned) = opened.presigned {
            return self.repeat(presigned);
        }
        let node = opened.checked()?;
        check_form(node, INVOICE)?;
        let invoice = Invoice::read(node);
        self.check_rules(&invoice, &session.holder.gstin)?;
        let irn = self.irn_of(&invoice);
        refuse_taken(&self.documents(), &irn)?;

        let owner = &session.holder.gstin;
        let plain = opened.plain.unwrap_or_default();
        let document = self.sign(owner, plain, node, &invoice, irn.clone());
        // A twin may have been quicker while this one was being signed.
        if self.documents().insert(document).is_err() {
            refuse_taken(&self.documents(), &irn)?;
        }
        self.stats
            .registered(&session.holder.gstin, opened.document.unwrap_or_default());
        let info = match node.get("EwbDtls") {
            Some(details) => self.bill_in_passing(&irn, details),
            None => Vec::new(),
        };
        let documents = self.documents();
        let registered = documents
            .find(&irn)
            .ok_or_else(|| Refused::one("2146", "Unable to create IRN"))?;
        Ok(Granted {
            payload: Payload::Registration(Box::new(registered.registration())),
            info,
        })
    }

    pub(super) fn check_rules(&self, invoice: &Invoice, caller: &str) -> Result<(), Refused> {
        let (reporting_window_days, environment) = {
            let settings = self.settings();
            (settings.reporting_window_days, settings.environment)
        };
        let mut findings = Findings::default();
        let around = Circumstances {
            caller,
            registry: &self.registry(),
            today: self.today(),
            reporting_window_days,
            check_digits: environment == Environment::Production,
        };
        parties::check(invoice, &around, &mut findings);
        arithmetic::check(invoice, &mut findings);
        let errors = findings.into_errors();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors.into())
        }
    }

    /// The IRN by the portal's rule: the number in upper case since June 2025.
    pub(super) fn irn_of(&self, invoice: &Invoice) -> String {
        let year = invoice.date.map(financial_year).unwrap_or_default();
        let number = self.hashed_number(&invoice.number);
        irn(&invoice.seller.gstin, &year, &invoice.typ, &number)
    }

    /// A document number as it goes into the hash.
    pub(crate) fn hashed_number(&self, number: &str) -> String {
        if self.settings().legacy_irn {
            number.to_owned()
        } else {
            number.to_uppercase()
        }
    }

    /// The register's entry of a document that `owner` may register.
    pub(super) fn sign(
        &self,
        owner: &str,
        plain: &[u8],
        node: &Node<'_>,
        invoice: &Invoice,
        irn: String,
    ) -> Document {
        let now = self.now();
        let ack_no = self.documents().next_ack_no(now);
        let rounded = if self.settings().ack_seconds {
            now
        } else {
            nearest_minute(now)
        };
        let data = invoice_data(node, ack_no, now, &irn);
        let qr = qr_data(node, invoice, &irn, now);
        Document {
            signed_invoice: self.keys.signer.sign(&data).into(),
            signed_qr: self.keys.signer.sign(&qr).into(),
            owner: owner.to_owned(),
            seller: invoice.seller.gstin.clone(),
            typ: invoice.typ.clone(),
            number: invoice.number.clone(),
            day: invoice.day.clone(),
            raw: plain.into(),
            ack_dt: stamp(rounded),
            registered: now,
            status: Status::Active,
            goods: Goods::of(invoice),
            eway_bill: None,
            irn,
            ack_no,
        }
    }

    /// The e-way-bill part of a registration: whatever comes of it, the IRN stays good.
    fn bill_in_passing(&self, irn: &str, details: &Node<'_>) -> Vec<Info> {
        let refusal = match check_form(details, EWAY_BILL) {
            Ok(()) => match self.issue_bill(irn, details) {
                Ok((_, info)) => return info,
                Err(refused) => refused,
            },
            Err(refused) => refused,
        };
        let errors = refusal
            .errors
            .iter()
            .map(|error| json!({"ErrorCode": error.code, "ErrorMessage": error.message}));
        vec![Info::new("EWBERR", errors.collect::<Vec<Value>>())]
    }
}

/// 2278 when the IRN is cancelled here, 2295 when another portal has it, 2150 when it is registered here.
pub(super) fn refuse_taken(documents: &Documents, irn: &str) -> Result<(), Refused> {
    if let Some(portal) = documents.registrar_elsewhere(irn) {
        let desc = json!({"AckNo": null, "AckDt": null, "Irn": irn, "IrnDtl": {"RegIrp": portal}});
        let message =
            "IRN is already generated and registered with GSTN Lookup Portal by other IRP";
        return Err(Refused::one("2295", message).with_info(Info::new("DUPIRNGLP", desc)));
    }
    let Some(document) = documents.find(irn) else {
        return Ok(());
    };
    match document.status {
        Status::Cancelled(_) => Err(Refused::one(
            "2278",
            "IRN is already generated and is cancelled for this Document number; cannot be generated again",
        )),
        Status::Active | Status::Rejected(_) => {
            let desc = json!({"AckNo": document.ack_no, "AckDt": document.ack_dt, "Irn": irn});
            Err(Refused::one("2150", "Duplicate IRN").with_info(Info::new("DUPIRN", desc)))
        }
    }
}

/// The `data` claim of a signed invoice: the document with three members put first.
fn invoice_data(node: &Node<'_>, ack_no: u64, now: Timestamp, irn: &str) -> String {
    let head = format!(r#""AckNo":{ack_no},"AckDt":"{}","Irn":"{irn}""#, stamp(now));
    form::write(node, INVOICE, &head)
}

/// The `data` claim of a signed QR code, members in the order of real ones.
fn qr_data(node: &Node<'_>, invoice: &Invoice, irn: &str, now: Timestamp) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string is always JSON");
    let total = node
        .get("ValDtls")
        .and_then(|values| values.decimal("TotInvVal"))
        .unwrap_or_default();
    format!(
        concat!(
            r#"{{"SellerGstin":{},"BuyerGstin":{},"DocNo":{},"DocTyp":{},"DocDt":{},"TotInvVal":{},"#,
            r#""ItemCnt":{},"MainHsnCode":{},"Irn":{},"IrnDt":"{}"}}"#
        ),
        quoted(&invoice.seller.gstin),
        quoted(&invoice.buyer.gstin),
        quoted(&invoice.number),
        quoted(&invoice.typ),
        quoted(&invoice.day),
        form::amount(total),
        invoice.items.len(),
        quoted(invoice.main_hsn()),
        quoted(irn),
        stamp(now),
    )
}
