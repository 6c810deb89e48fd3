//! What a `cancel`, `get` or `ewb` job asks for: the few fields of its body that the worker reads, checked before any
//! call.
//!
//! One rule: what is wrong is found here, all of it at once and each with its place. A request that has been read can
//! be sent.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use crate::document::{
    BadDocument, Document, Finding, MAX_BYTES, members_of_body, string, text_or_number,
};
use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn, parse_document_date};

/// The longest document number (INV-01, `DocDtls.No`).
const MAX_NUMBER_CHARS: usize = 16;

/// The longest remark of a cancellation, in characters (NIC, "Cancel IRN").
const MAX_REMARK_CHARS: usize = 100;

/// What a job asks for about something that is registered.
#[derive(Debug)]
pub enum Request {
    /// Cancel it.
    Cancel(Cancel),
    /// Fetch it.
    Get(Wanted),
    /// Have an e-way bill issued for it. The payload is the job's body.
    EwayBill(Irn),
}

/// A cancellation.
pub struct Cancel {
    /// `Irn`
    pub irn: Irn,
    /// `CnlRsn`
    pub reason: CancelReason,
    /// `CnlRem`: up to 100 characters.
    pub remark: String,
    /// `SellerGstin`, where an e-commerce operator cancels what it has registered for somebody.
    pub seller: Option<Gstin>,
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", self.irn)
    }
}

/// Why a registration is cancelled (NIC, "Cancel IRN", `CnlRsn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// `1`
    Duplicate,
    /// `2`
    DataEntryMistake,
    /// `3`
    OrderCancelled,
    /// `4`
    Others,
}

impl CancelReason {
    /// The portal's digit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "1",
            Self::DataEntryMistake => "2",
            Self::OrderCancelled => "3",
            Self::Others => "4",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::Duplicate,
            Self::DataEntryMistake,
            Self::OrderCancelled,
            Self::Others,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == text.trim())
    }
}

/// Which registration is to be fetched.
#[derive(Debug)]
pub enum Wanted {
    /// By its IRN.
    Irn {
        /// `Irn`
        irn: Irn,
        /// `SellerGstin`, where an e-commerce operator asks for what it has registered for somebody.
        seller: Option<Gstin>,
    },
    /// By its type, number and date; without `SellerGstin` the seller is whose credentials are used.
    Document(Box<Document>),
}

impl Wanted {
    /// The IRN it has, given or computed.
    pub fn irn(&self) -> Irn {
        match self {
            Self::Irn { irn, .. } => *irn,
            Self::Document(document) => document.irn(),
        }
    }

    /// Whose document it is, where that is known.
    pub fn seller(&self) -> Option<Gstin> {
        match self {
            Self::Irn { seller, .. } => *seller,
            Self::Document(document) => Some(document.seller),
        }
    }

    /// The document, where it is named by its details.
    pub fn document(&self) -> Option<&Document> {
        match self {
            Self::Irn { .. } => None,
            Self::Document(document) => Some(document),
        }
    }
}

impl Request {
    /// The IRN that it is about.
    pub fn irn(&self) -> Irn {
        match self {
            Self::Cancel(cancel) => cancel.irn,
            Self::Get(wanted) => wanted.irn(),
            Self::EwayBill(irn) => *irn,
        }
    }

    /// Whose document it is, where its body says so.
    pub fn seller(&self) -> Option<Gstin> {
        match self {
            Self::Cancel(cancel) => cancel.seller,
            Self::Get(wanted) => wanted.seller(),
            Self::EwayBill(_) => None,
        }
    }

    /// The document that it is about, where its body names one.
    pub fn document(&self) -> Option<&Document> {
        match self {
            Self::Cancel(_) | Self::EwayBill(_) => None,
            Self::Get(wanted) => wanted.document(),
        }
    }
}

/// Reads the body of a `cancel` job. Member names are matched in any case, as the portal does.
pub fn cancel(body: &[u8], gstin: Option<Gstin>) -> Result<Request, BadDocument> {
    let names = ["Irn", "CnlRsn", "CnlRem", "SellerGstin"];
    let (mut findings, [irn, reason, remark, seller]) = opened(body, gstin, names)?;
    let irn = irn_of(&mut findings, irn);
    let reason = reason
        .and_then(text_or_number)
        .and_then(|text| CancelReason::parse(&text));
    let reason = checked(&mut findings, REASON, reason);
    let remark = remark.and_then(string).filter(|text| {
        let length = text.trim().chars().count();
        length > 0 && text.chars().count() <= MAX_REMARK_CHARS
    });
    let remark = checked(&mut findings, REMARK, remark);
    let seller = seller_of(&mut findings, seller);
    match (irn, reason, remark) {
        (Some(irn), Some(reason), Some(remark)) if findings.is_empty() => {
            Ok(Request::Cancel(Cancel {
                irn,
                reason,
                remark: remark.into_owned(),
                seller,
            }))
        }
        _ => Err(BadDocument::Refused(findings)),
    }
}

/// Reads the body of a `get` job: an IRN, or a document's type, number and date. Where it has both, they must be of one
/// document.
pub fn get(body: &[u8], gstin: Option<Gstin>) -> Result<Request, BadDocument> {
    let names = ["Irn", "Typ", "No", "Dt", "SellerGstin"];
    let (mut findings, [irn, kind, number, date, seller]) = opened(body, gstin, names)?;
    let by_document = [kind, number, date].iter().any(is_given);
    if !by_document && !is_given(&irn) {
        findings.push(NOTHING);
        return Err(BadDocument::Refused(findings));
    }
    if by_document && !is_given(&seller) && gstin.is_some_and(|it| it.is_of_a_tax_collector()) {
        findings.push(NO_SELLER);
    }
    let seller = seller_of(&mut findings, seller);
    let document = by_document.then(|| {
        let seller = seller.or(gstin)?;
        document_of(&mut findings, seller, [kind, number, date])
    });
    let irn = is_given(&irn).then(|| irn_of(&mut findings, irn));
    let wanted = match (irn.flatten(), document.flatten()) {
        (Some(irn), Some(document)) if !document.has_irn(&irn) => {
            findings.push(OF_ANOTHER);
            None
        }
        (_, Some(document)) => Some(Wanted::Document(Box::new(document))),
        (Some(irn), None) => Some(Wanted::Irn { irn, seller }),
        (None, None) => None,
    };
    match wanted {
        Some(wanted) if findings.is_empty() => Ok(Request::Get(wanted)),
        Some(_) | None => Err(BadDocument::Refused(findings)),
    }
}

/// Reads the body of an `ewb` job: the IRN. The rest is the portal's payload, which pre-flight judges.
pub fn eway_bill(body: &[u8], gstin: Option<Gstin>) -> Result<Request, BadDocument> {
    let (mut findings, [irn]) = opened(body, gstin, ["Irn"])?;
    match irn_of(&mut findings, irn) {
        Some(irn) if findings.is_empty() => Ok(Request::EwayBill(irn)),
        Some(_) | None => Err(BadDocument::Refused(findings)),
    }
}

/// What all bodies have to be: a JSON object of the portal's size, with a GSTIN beside it.
fn opened<'b, const N: usize>(
    body: &'b [u8],
    gstin: Option<Gstin>,
    names: [&'static str; N],
) -> Result<(Vec<Finding>, [Option<&'b RawValue>; N]), BadDocument> {
    let members = members_of_body(body, names)?;
    if body.len() > MAX_BYTES {
        return Err(BadDocument::Refused(vec![TOO_LARGE]));
    }
    let members = members.ok_or_else(|| BadDocument::Refused(vec![NO_OBJECT]))?;
    let findings = match gstin {
        Some(_) => Vec::new(),
        None => vec![NO_GSTIN],
    };
    Ok((findings, members))
}

fn document_of(
    findings: &mut Vec<Finding>,
    seller: Gstin,
    [kind, number, date]: [Option<&RawValue>; 3],
) -> Option<Document> {
    let kind: Option<Cow<'_, str>> = kind.and_then(string);
    let kind: Option<DocumentType> = kind.and_then(|text| text.trim().parse().ok());
    let kind = checked(findings, KIND, kind);
    let number = number.and_then(string).filter(|text| is_number(text));
    let number = checked(findings, NUMBER, number);
    let date = date
        .and_then(string)
        .and_then(|text| parse_document_date(&text));
    let date = checked(findings, DATE, date);
    Some(Document {
        seller,
        buyer: None,
        kind: kind?,
        number: number?.into_owned(),
        date: date?,
        total: None,
    })
}

/// INV-01, `DocDtls.No`: up to 16 letters, digits, / and -, not beginning with 0, / or -. Nothing else is registered, and
/// nothing else is sent.
fn is_number(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-');
    (1..=MAX_NUMBER_CHARS).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with(['0', '/', '-'])
}

fn is_given(value: &Option<&RawValue>) -> bool {
    value.is_some_and(|raw| raw.get() != "null")
}

/// Whose document it is, where the body says so.
fn seller_of(findings: &mut Vec<Finding>, seller: Option<&RawValue>) -> Option<Gstin> {
    if !is_given(&seller) {
        return None;
    }
    let seller = seller.and_then(string);
    checked(findings, SELLER, seller.and_then(|text| text.parse().ok()))
}

fn irn_of(findings: &mut Vec<Finding>, irn: Option<&RawValue>) -> Option<Irn> {
    let irn = irn.and_then(string);
    checked(findings, IRN, irn.and_then(|text| text.parse().ok()))
}

fn checked<T>(findings: &mut Vec<Finding>, finding: Finding, value: Option<T>) -> Option<T> {
    if value.is_none() {
        findings.push(finding);
    }
    value
}

const TOO_LARGE: Finding = Finding {
    path: "",
    code: "5002",
    message: "the body is larger than the 2 MB the portal takes",
};
const NO_OBJECT: Finding = Finding {
    path: "",
    code: "5002",
    message: "the body must be one JSON object: only documents to register come in batches, everything else in a \
              message each",
};
const NO_GSTIN: Finding = Finding {
    path: "",
    code: "1004",
    message: "the header x-irn-gstin is missing: the body does not say in whose name the portal is to be asked",
};
const IRN: Finding = Finding {
    path: "/Irn",
    code: "2145",
    message: "the IRN is missing or is none: 64 hexadecimal characters",
};
const REASON: Finding = Finding {
    path: "/CnlRsn",
    code: "5002",
    message: "the reason is missing or not one of \"1\" (duplicate), \"2\" (data entry mistake), \"3\" (order \
              cancelled), \"4\" (others)",
};
const REMARK: Finding = Finding {
    path: "/CnlRem",
    code: "5002",
    message: "the remark is missing or not a text of 1 to 100 characters",
};
const NOTHING: Finding = Finding {
    path: "",
    code: "2142",
    message: "nothing says which registration is meant: give Irn, or Typ, No and Dt",
};
const OF_ANOTHER: Finding = Finding {
    path: "/Irn",
    code: "2145",
    message: "the IRN is not the one of the document that Typ, No and Dt name under this GSTIN",
};
const SELLER: Finding = Finding {
    path: "/SellerGstin",
    code: "3030",
    message: "SellerGstin is no GSTIN: two digits, then thirteen capital letters or digits",
};
/// The portal looks among the caller's own, and an e-commerce operator has none under the GSTIN that it collects tax under: what
/// is registered may be called not found.
pub const NO_SELLER: Finding = Finding {
    path: "/SellerGstin",
    code: "2155",
    message: "x-irn-gstin is of an e-commerce operator, so SellerGstin must say whose document is meant: without it the \
              portal would look among the operator's own",
};
const KIND: Finding = Finding {
    path: "/Typ",
    code: "2161",
    message: "the document type is missing or not one of INV, CRN, DBN",
};
const NUMBER: Finding = Finding {
    path: "/No",
    code: "5002",
    message: "the document number is missing or none: up to 16 letters, digits, / and -, not beginning with 0, / or -",
};
const DATE: Finding = Finding {
    path: "/Dt",
    code: "2144",
    message: "the document date is missing or not a date in the form dd/mm/yyyy",
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "fae5ffe886954f6ac49fc7984f5524d7dda619175aa78bf6481966fe65d48908";

    fn gstin() -> Option<Gstin> {
        "29AAGCE4783K1Z1".parse().ok()
    }

    fn findings(read: Result<Request, BadDocument>) -> Vec<(&'static str, &'static str)> {
        match read {
            Err(BadDocument::Refused(findings)) => {
                let shown = |finding: &Finding| (finding.path, finding.code);
                findings.iter().map(shown).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cancellation_is_read_in_any_spelling_of_its_members() {
        for body in [
            format!(r#"{{"Irn":"{HASH}","CnlRsn":"2","CnlRem":"Wrong entry"}}"#),
            format!(
                r#" {{"irn":"{}","Cnlrsn":2,"CNLREM":"Wrong entry","x":[]}}"#,
                HASH.to_uppercase()
            ),
        ] {
            match cancel(body.as_bytes(), gstin()) {
                Ok(Request::Cancel(read)) => {
                    assert_eq!(read.irn.as_str(), HASH);
                    assert_eq!(read.reason, CancelReason::DataEntryMistake);
                    assert_eq!(read.remark, "Wrong entry");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_request_is_said_at_once_and_where() {
        let long = format!(
            r#"{{"Irn":"{HASH}","CnlRsn":"5","CnlRem":"{}"}}"#,
            "x".repeat(101)
        );
        assert_eq!(
            findings(cancel(b"{}", None)),
            [
                ("", "1004"),
                ("/Irn", "2145"),
                ("/CnlRsn", "5002"),
                ("/CnlRem", "5002")
            ]
        );
        assert_eq!(
            findings(cancel(long.as_bytes(), gstin())),
            [("/CnlRsn", "5002"), ("/CnlRem", "5002")]
        );
        assert_eq!(findings(get(b"{}", gstin())), [("", "2142")]);
        assert_eq!(
            findings(get(br#"{"Typ":"BIL","No":7,"Dt":"5.9.2025"}"#, gstin())),
            [("/Typ", "2161"), ("/No", "5002"), ("/Dt", "2144")]
        );
        assert_eq!(
            findings(eway_bill(br#"{"Irn":"abc"}"#, gstin())),
            [("/Irn", "2145")]
        );
    }

    #[test]
    fn number_that_no_document_can_have_is_refused_however_long_it_is() {
        for number in [
            "",
            "0/1",
            "/1",
            "A 1",
            "Ä1",
            "A/234567890123456",
            &"9".repeat(66_000),
        ] {
            let body = format!(r#"{{"Typ":"INV","No":"{number}","Dt":"05/09/2025"}}"#);
            assert_eq!(
                findings(get(body.as_bytes(), gstin())),
                [("/No", "5002")],
                "{} characters",
                number.len()
            );
        }
        let body = br#"{"Typ":"INV","No":"a/23456789012345","Dt":"05/09/2025"}"#;
        assert!(get(body, gstin()).is_ok());
    }

    #[test]
    fn an_array_is_told_that_batches_are_for_documents() {
        for read in [cancel, get, eway_bill] {
            assert_eq!(findings(read(b"[{}]", gstin())), [("", "5002")]);
        }
    }

    #[test]
    fn what_is_not_json_says_where() {
        for read in [cancel, get, eway_bill] {
            assert_eq!(
                read(b"{\n  nonsense", gstin()).unwrap_err(),
                BadDocument::NotJson { line: 2, column: 3 }
            );
        }
    }

    #[test]
    fn document_is_wanted_under_the_irn_of_its_number_in_capitals() {
        let body = br#"{"Typ":"inv","No":"si/25-26/00417","Dt":"05/09/2025"}"#;
        let read = get(body, gstin()).unwrap();
        assert_eq!(read.irn().as_str(), HASH);
        assert_eq!(read.document().unwrap().number, "si/25-26/00417");
    }

    #[test]
    fn irn_beside_a_document_must_be_its_own() {
        let body = |irn: &str| {
            format!(r#"{{"Irn":"{irn}","Typ":"INV","No":"SI/25-26/00417","Dt":"05/09/2025"}}"#)
        };
        assert!(get(body(HASH).as_bytes(), gstin()).is_ok());
        let other = "0".repeat(64);
        assert_eq!(
            findings(get(body(&other).as_bytes(), gstin())),
            [("/Irn", "2145")]
        );
    }

    #[test]
    fn operator_names_the_seller_whose_document_it_means() {
        let operator = "29AAACO1234K1C5".parse().ok();
        let seller = "33AAKFN5208R1ZT";
        let others = format!(r#"{{"Irn":"{HASH}","sellergstin":"{seller}"}}"#);
        let read = get(others.as_bytes(), operator).unwrap();
        assert_eq!(read.seller().unwrap().as_str(), seller);
        let body = br#"{"Typ":"INV","No":"SI/25-26/00417","Dt":"05/09/2025","SellerGstin":"29AAGCE4783K1Z1"}"#;
        let read = get(body, operator).unwrap();
        assert_eq!(read.irn().as_str(), HASH, "of the seller, not the operator");
        let body =
            format!(r#"{{"Irn":"{HASH}","CnlRsn":"1","CnlRem":"x","SellerGstin":"{seller}"}}"#);
        let read = cancel(body.as_bytes(), operator).unwrap();
        assert_eq!(read.seller().unwrap().as_str(), seller);
    }

    #[test]
    fn operator_that_asks_for_a_document_without_its_seller_is_told_so() {
        let operator = "29AAACO1234K1C5".parse().ok();
        let by_irn = format!(r#"{{"Irn":"{HASH}","SellerGstin":null}}"#);
        let by_document = r#"{"Typ":"INV","No":"SI/25-26/00417","Dt":"05/09/2025"}"#.to_owned();
        let found = findings(get(by_document.as_bytes(), operator));
        assert_eq!(found, [("/SellerGstin", "2155")]);
        assert!(get(by_document.as_bytes(), gstin()).is_ok(), "its own");
        // What an IRN names is one document, whoever asks.
        let order = format!(r#"{{"Irn":"{HASH}","CnlRsn":"1","CnlRem":"x"}}"#);
        assert!(get(by_irn.as_bytes(), operator).is_ok());
        assert!(cancel(order.as_bytes(), operator).is_ok());
        let wrong = format!(r#"{{"Irn":"{HASH}","SellerGstin":"33aakfn5208r1zt"}}"#);
        assert_eq!(
            findings(get(wrong.as_bytes(), gstin())),
            [("/SellerGstin", "3030")]
        );
    }

    #[test]
    fn nothing_of_a_request_is_printed() {
        let body = format!(r#"{{"Irn":"{HASH}","CnlRsn":"1","CnlRem":"Secret remark"}}"#);
        let shown = format!("{:?}", cancel(body.as_bytes(), gstin()));
        assert!(!shown.contains("Secret"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for read in [cancel, get, eway_bill] {
                drop(read(&bytes, gstin()));
            }
        }
    }
}
