//! E-way bills of registered invoices: issue, look-up, cancellation (NIC, generate EWB by IRN page).

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::ToSpan;
use serde_json::json;

use super::check_form;
use crate::answer::{Answer, EwayBill, Granted, Info, Payload, Refused};
use crate::clock::{ist, stamp};
use crate::documents::Status;
use crate::envelope::eway_bill_json;
use crate::node::Node;
use crate::rules::eway_bill::{Journey, plan};
use crate::rules::fields::EWAY_BILL_BY_IRN;
use crate::sandbox::Sandbox;

/// One day of validity for each of these kilometres begun.
const KILOMETRES_PER_DAY: u32 = 200;

impl Sandbox {
    /// Generate e-way bill by IRN.
    pub(super) fn eway_bill_by_irn(&self, gstin: &str, node: &Node<'_>) -> Answer {
        check_form(node, EWAY_BILL_BY_IRN)?;
        let irn = node.text("Irn").unwrap_or_default().to_lowercase();
        {
            let documents = self.documents();
            let document = documents
                .find(&irn)
                .ok_or_else(|| Refused::one("4003", "Requested IRN data is not available"))?;
            if !document.belongs_to(gstin) {
                return Err(Refused::one(
                    "4037",
                    "You are not authorised to generate the e-way bill",
                ));
            }
        }
        let (bill, info) = self.issue_bill(&irn, node)?;
        Ok(Granted {
            payload: Payload::Json(eway_bill_json(&bill)),
            info,
        })
    }

    /// Issues a bill for a registered document.
    ///
    /// # Errors
    /// Every finding, with the codes of the e-way-bill system.
    pub(super) fn issue_bill(
        &self,
        irn: &str,
        details: &Node<'_>,
    ) -> Result<(EwayBill, Vec<Info>), Refused> {
        let now = self.now();
        let today = self.today();
        let mut documents = self.documents();
        let number = documents.next_eway_bill();
        let document = documents
            .find_mut(irn)
            .ok_or_else(|| Refused::one("4003", "Requested IRN data is not available"))?;
        if document.status != Status::Active {
            return Err(Refused::one("4000", "Status of the IRN is not active"));
        }
        if let Some(bill) = document.eway_bill.as_ref().filter(|bill| bill.active) {
            let message = format!(
                "EwayBill is already generated for this IRN, EwbNo - ({})",
                bill.number
            );
            return Err(Refused::one("4002", message));
        }
        let journey =
            plan(details, &document.goods, today).map_err(|findings| findings.into_errors())?;
        let bill = EwayBill {
            number,
            issued: stamp(now),
            valid_till: (!journey.is_part_a).then(|| valid_till(now, journey)),
            remarks: None,
            active: true,
        };
        document.eway_bill = Some(bill.clone());
        let distance = format!("Pin-Pin calc distance: {}KM", journey.distance);
        let info = if journey.computed {
            vec![Info::new("EWBPPD", distance)]
        } else {
            Vec::new()
        };
        Ok((bill, info))
    }

    /// Get e-way bill by IRN.
    pub(super) fn eway_bill_of(&self, gstin: &str, irn: &str) -> Answer {
        let documents = self.documents();
        let document = documents
            .find(&irn.to_lowercase())
            .ok_or_else(|| Refused::one("4003", "Requested IRN data is not available"))?;
        if !document.belongs_to(gstin) {
            return Err(Refused::one(
                "4037",
                "You are not authorised to get the e-way bill",
            ));
        }
        let bill = document.eway_bill.as_ref();
        let bill = bill.ok_or_else(|| Refused::one("4005", "Eway Bill details are not found"))?;
        Ok(Payload::Json(eway_bill_json(bill)).into())
    }

    /// Cancel e-way bill: the e-way-bill system's own wire form, `{"ewbNo":…,"cancelRsnCode":…}`.
    pub(super) fn cancel_eway_bill(&self, gstin: &str, node: &Node<'_>) -> Answer {
        let number = node
            .decimal("ewbNo")
            .and_then(|number| u64::try_from(number).ok());
        let number = number.or_else(|| node.text("ewbNo").and_then(|text| text.parse().ok()));
        let number =
            number.ok_or_else(|| Refused::one("4008", "Please enter a valid E-way bill number"))?;
        let now = self.now();
        let mut documents = self.documents();
        let document = documents
            .of_eway_bill(number)
            .filter(|document| document.belongs_to(gstin))
            .ok_or_else(|| Refused::one("4007", "E-way bill is not available"))?;
        if let Some(bill) = document.eway_bill.as_mut() {
            bill.active = false;
        }
        Ok(
            Payload::Json(json!({"ewayBillNo": number.to_string(), "cancelDate": stamp(now)}))
                .into(),
        )
    }
}

/// Midnight, almost, of the last day of validity.
fn valid_till(now: jiff::Timestamp, journey: Journey) -> String {
    let days = journey.distance.div_ceil(KILOMETRES_PER_DAY).max(1);
    let last = ist(now).date().saturating_add(i64::from(days).days());
    format!("{last} 23:59:00")
}

/// The e-way-bill system's clients encode their JSON in base64 before they encrypt it; the invoice system's do not.
pub(crate) fn without_inner_base64(plain: Vec<u8>) -> Vec<u8> {
    match BASE64_STANDARD.decode(&plain) {
        Ok(inner) if !inner.is_empty() => inner,
        Ok(_) | Err(_) => plain,
    }
}
