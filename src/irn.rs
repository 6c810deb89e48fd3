//! The Invoice Reference Number: the portal's hash of seller, financial year, document type and number.
//!
//! It can be computed before anything is sent, which makes it the idempotency key of a job.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use jiff::civil::Date;
use serde::{Serialize, Serializer};

use crate::gstin::Gstin;

const LENGTH: usize = 64;

/// An IRN: 64 lower-case hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Irn([u8; LENGTH]);

/// A text that is not an IRN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an IRN is 64 hexadecimal characters")]
pub struct BadIrn;

/// The kinds of document the portal registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DocumentType {
    /// `INV`
    Invoice,
    /// `CRN`
    CreditNote,
    /// `DBN`
    DebitNote,
}

impl DocumentType {
    /// The portal's three letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invoice => "INV",
            Self::CreditNote => "CRN",
            Self::DebitNote => "DBN",
        }
    }
}

impl fmt::Display for DocumentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DocumentType {
    type Err = BadDocumentType;

    /// Reads the three letters in any case: the portal accepts `inv` and hashes `INV`.
    fn from_str(text: &str) -> Result<Self, BadDocumentType> {
        [Self::Invoice, Self::CreditNote, Self::DebitNote]
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
            .ok_or(BadDocumentType)
    }
}

/// A text that names no kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a document type is INV, CRN or DBN")]
pub struct BadDocumentType;

/// The Indian financial year of a date, April to March, as the portal writes it: `2025-26`.
pub fn financial_year(date: Date) -> String {
    let first = if date.month() >= 4 {
        date.year()
    } else {
        date.year() - 1
    };
    format!("{first}-{:02}", (first + 1).rem_euclid(100))
}

/// Reads `dd/mm/yyyy`, the form in which every document of the portal carries its dates.
pub fn parse_document_date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, b)| {
            if at == 2 || at == 5 {
                *b == b'/'
            } else {
                b.is_ascii_digit()
            }
        });
    if !shaped {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<i16>().ok();
    let (day, month) = (
        i8::try_from(number(0..2)?).ok()?,
        i8::try_from(number(3..5)?).ok()?,
    );
    Date::new(number(6..10)?, month, day).ok()
}

impl Irn {
    /// The IRN that the portal will give this document: SHA-256 over seller, financial year, type and number
    /// without separators (NIC, "IRN" page). Since 1 June 2025 the number is hashed in upper case.
    pub fn compute(seller: &Gstin, date: Date, kind: DocumentType, number: &str) -> Self {
        Self::hash(seller, date, kind, &number.to_uppercase())
    }

    /// The IRN under the rule before 1 June 2025, which hashed the number as it was sent. A document found by a
    /// look-up may still carry it.
    pub fn compute_as_sent(seller: &Gstin, date: Date, kind: DocumentType, number: &str) -> Self {
        Self::hash(seller, date, kind, number)
    }

    fn hash(seller: &Gstin, date: Date, kind: DocumentType, number: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [
            seller.as_str(),
            &financial_year(date),
            kind.as_str(),
            number,
        ] {
            context.update(part.as_bytes());
        }
        let mut text = [0; LENGTH];
        write_hex(context.finish().as_ref(), &mut text);
        Self(text)
    }

    /// The 64 characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Writes `bytes` as lower-case hexadecimal into `text`, which must be twice as long.
pub(crate) fn write_hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = vec![0; bytes.len() * 2];
    write_hex(bytes, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

impl FromStr for Irn {
    type Err = BadIrn;

    /// Reads an IRN in either case and keeps it in lower case, as the portal prints it.
    fn from_str(text: &str) -> Result<Self, BadIrn> {
        let mut bytes: [u8; LENGTH] = text.as_bytes().try_into().map_err(|_| BadIrn)?;
        bytes.make_ascii_lowercase();
        bytes
            .iter()
            .all(u8::is_ascii_hexdigit)
            .then_some(Self(bytes))
            .ok_or(BadIrn)
    }
}

impl fmt::Display for Irn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Irn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Irn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vector {
        gstin: Gstin,
        date: String,
        r#type: String,
        hashed_number: String,
        irn: String,
    }

    #[test]
    fn irns_of_real_registrations_are_reproduced() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../tests/vectors/irn.json")).unwrap();
        assert!(vectors.len() >= 7);
        for vector in vectors {
            let date = parse_document_date(&vector.date).unwrap();
            let computed = Irn::compute_as_sent(
                &vector.gstin,
                date,
                vector.r#type.parse().unwrap(),
                &vector.hashed_number,
            );
            assert_eq!(computed.as_str(), vector.irn, "{}", vector.hashed_number);
        }
    }

    #[test]
    fn number_is_hashed_in_upper_case_and_type_in_any() {
        let seller: Gstin = "37ARZPT4384Q1MT".parse().unwrap();
        let date = parse_document_date("14/07/2025").unwrap();
        let irn = Irn::compute(&seller, date, "inv".parse().unwrap(), "Test-00df1");
        assert_eq!(
            irn.as_str(),
            "d9476807f5496dea9fc65c6a954887db156022ba4b0d17a3687d43576beb8e17"
        );
    }

    #[test]
    fn financial_year_turns_on_the_first_of_april() {
        let year = |text| financial_year(parse_document_date(text).unwrap());
        assert_eq!(year("31/03/2026"), "2025-26");
        assert_eq!(year("01/04/2026"), "2026-27");
        assert_eq!(year("31/12/2099"), "2099-00");
    }

    #[test]
    fn dates_that_are_no_dates_are_refused() {
        for text in [
            "",
            "1/4/2026",
            "31/02/2026",
            "2026-04-01",
            "00/01/2026",
            "01/13/2026",
            "+1/04/2026",
            "01/04/20é",
        ] {
            assert_eq!(parse_document_date(text), None, "{text}");
        }
    }
}
