//! Look-ups: registrations by IRN and by document, rejected IRNs, GSTIN details and their synchronisation.

use serde_json::json;

use crate::answer::{Answer, Payload, Refused};
use crate::call::DocumentQuery;
use crate::clock::{financial_year, ist, parse_day};
use crate::documents::{Document, Status};
use crate::irn::irn;
use crate::rules::masters::{is_gstin, is_irn, is_state, state};
use crate::sandbox::Sandbox;

impl Sandbox {
    /// Get by IRN. Lower or upper case does not matter in hexadecimal.
    pub(super) fn by_irn(&self, gstin: &str, sup_gstin: &str, irn: &str) -> Answer {
        if !is_irn(irn) {
            return Err(Refused::one("2145", "IRN is not valid"));
        }
        let documents = self.documents();
        let document = documents.find(&irn.to_lowercase());
        let document =
            document.ok_or_else(|| Refused::one("2148", "Requested IRN data is not available"))?;
        self.disclose(document, gstin, sup_gstin)
    }

    /// Get by document details: the seller is the caller, or whom an e-commerce operator names.
    pub(super) fn by_document(
        &self,
        gstin: &str,
        sup_gstin: &str,
        query: &DocumentQuery,
    ) -> Answer {
        let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        let (Some(typ), Some(number), Some(day)) = (
            given(&query.doctype),
            given(&query.docnum),
            given(&query.docdate),
        ) else {
            return Err(Refused::one("2142", "Incomplete request parameters"));
        };
        let typ = typ.to_ascii_uppercase();
        if !matches!(typ.as_str(), "INV" | "CRN" | "DBN") {
            return Err(Refused::one("2161", "Invalid Document Type"));
        }
        let date = parse_day(&day)
            .ok_or_else(|| Refused::one("2225", "Incorrect date format in document details"))?;
        let seller = if sup_gstin.is_empty() {
            gstin
        } else {
            sup_gstin
        };
        let irn = irn(
            seller,
            &financial_year(date),
            &typ,
            &self.hashed_number(&number),
        );
        let documents = self.documents();
        let document = documents.find(&irn).filter(|document| document.day == day);
        let document = document.ok_or_else(|| Refused::one("2154", "IRN details are not found"))?;
        self.disclose(document, gstin, sup_gstin)
    }

    /// The registration, to its seller, or to the operator that has registered it and names the seller, within the look-up
    /// window.
    fn disclose(&self, document: &Document, gstin: &str, sup_gstin: &str) -> Answer {
        let operated = document.owner == gstin && document.seller == sup_gstin;
        if document.seller != gstin && !operated {
            return Err(Refused::one(
                "2226",
                "You are not authorised to get IRN data",
            ));
        }
        let window = self.settings().lookup_window();
        if self.now().duration_since(document.registered) > window {
            let days = window.as_hours() / 24;
            let message = format!(
                "IRN details cannot be provided as it is generated more than {days} days prior"
            );
            return Err(Refused::one("2283", message));
        }
        Ok(Payload::Registration(Box::new(document.registration())).into())
    }

    /// The caller's IRNs that were rejected on a day because another portal had been first.
    pub(super) fn rejected(&self, gstin: &str, day: Option<&str>) -> Answer {
        let date = day
            .and_then(parse_day)
            .ok_or_else(|| Refused::one("2225", "Incorrect date format"))?;
        let documents = self.documents();
        let rejected = documents
            .all()
            .into_iter()
            .filter(|document| match document.status {
                Status::Rejected(at) => document.belongs_to(gstin) && ist(at).date() == date,
                Status::Active | Status::Cancelled(_) => false,
            });
        let irns: Vec<&str> = rejected.map(|document| document.irn.as_str()).collect();
        Ok(Payload::Json(json!(irns)).into())
    }

    /// GSTIN details, as the portal believes them.
    pub(super) fn taxpayer(&self, gstin: &str) -> Answer {
        refuse_impossible(gstin)?;
        let registry = self.registry();
        let taxpayer = registry.find(gstin).ok_or_else(unknown)?;
        Ok(Payload::Json(taxpayer.details(gstin)).into())
    }

    /// GSTIN details after they were fetched anew from the common portal.
    pub(super) fn sync_taxpayer(&self, gstin: &str) -> Answer {
        refuse_impossible(gstin)?;
        let mut registry = self.registry();
        let taxpayer = registry.sync(gstin).ok_or_else(unknown)?;
        Ok(Payload::Json(taxpayer.details(gstin)).into())
    }
}

/// No taxpayer is registered in a state that there is not.
fn refuse_impossible(gstin: &str) -> Result<(), Refused> {
    let of_a_state = || gstin.get(..2).and_then(state).is_some_and(is_state);
    if is_gstin(gstin) && of_a_state() {
        Ok(())
    } else {
        Err(Refused::one("3030", "Invalid Gstin"))
    }
}

fn unknown() -> Refused {
    Refused::one("3001", "Requested data is not available")
}
