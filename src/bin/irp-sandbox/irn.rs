//! The Invoice Reference Number as the portal computes it: SHA-256 over supplier GSTIN, financial year, document type
//! and number, written one after the other (NIC, IRN page). Since June 2025 the number is hashed in upper case.

use aws_lc_rs::digest::{SHA256, digest};

use crate::clock::{financial_year, parse_day};
use crate::jwt::hex;

/// Hashes the four parts as they are given.
pub(crate) fn irn(gstin: &str, year: &str, typ: &str, number: &str) -> String {
    let text = [gstin, year, typ, number].concat();
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

/// The IRN of a document by its printed details, number in upper case; `None` when `day` is no date.
pub(crate) fn irn_of_parts(gstin: &str, day: &str, typ: &str, number: &str) -> Option<String> {
    let year = financial_year(parse_day(day)?);
    Some(irn(
        gstin,
        &year,
        &typ.to_uppercase(),
        &number.to_uppercase(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_is_hashed_as_the_portal_did() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/irn.json")).unwrap();
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() >= 7);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let year = financial_year(parse_day(text("date")).unwrap());
            let made = irn(text("gstin"), &year, text("type"), text("hashed_number"));
            assert_eq!(made, text("irn"), "{}", text("note"));
        }
    }

    #[test]
    fn type_and_number_are_upper_cased() {
        let sent = irn_of_parts("37ARZPT4384Q1MT", "14/07/2025", "inv", "Test-00df1").unwrap();
        assert_eq!(
            sent,
            "d9476807f5496dea9fc65c6a954887db156022ba4b0d17a3687d43576beb8e17"
        );
        assert!(irn_of_parts("37ARZPT4384Q1MT", "31/02/2025", "INV", "1").is_none());
    }
}
