//! A partial view of an INV-01 document: the few fields the worker itself reads.
//!
//! One rule: the document's bytes are never written again. Everything here borrows or copies single fields; what
//! goes to the portal is the message body as it came.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use memchr::memchr;
use rust_decimal::Decimal;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use simdutf8::compat::from_utf8;

use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn, parse_document_date};

mod lines;
mod parties;

pub use lines::Lines;
pub use parties::gstins;

/// The largest document the portal takes, in bytes.
pub const MAX_BYTES: usize = 2 * 1024 * 1024;

/// The portal's numbers have 16 characters at most; what is longer still has to be recognised by a person.
const LABEL_NUMBER_CHARS: usize = 40;

/// What identifies a document and what a signed answer is compared with.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// `SellerDtls.Gstin`
    pub seller: Gstin,
    /// `BuyerDtls.Gstin`: a GSTIN, `URP`, or absent where the portal is to say so.
    pub buyer: Option<String>,
    /// `DocDtls.Typ`
    pub kind: DocumentType,
    /// `DocDtls.No`, as sent.
    pub number: String,
    /// `DocDtls.Dt`
    pub date: Date,
    /// `ValDtls.TotInvVal`, exact.
    pub total: Option<Decimal>,
}

impl Document {
    /// The IRN the portal will give it.
    pub fn irn(&self) -> Irn {
        Irn::compute(&self.seller, self.date, self.kind, &self.number)
    }

    /// Whether `irn` is this document's, under today's rule or the one before June 2025.
    pub fn has_irn(&self, irn: &Irn) -> bool {
        *irn == self.irn()
            || *irn == Irn::compute_as_sent(&self.seller, self.date, self.kind, &self.number)
    }

    /// `dd/mm/yyyy`, as the portal writes dates.
    pub fn date_text(&self) -> String {
        self.date.strftime("%d/%m/%Y").to_string()
    }

    /// Type, number and date in one line, for the `x-irn-document` header. A number longer than any that the portal
    /// takes is cut.
    pub fn label(&self) -> String {
        let number: String = self.number.chars().take(LABEL_NUMBER_CHARS).collect();
        format!("{} {number} {}", self.kind, self.date_text())
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document(..)")
    }
}

/// Something wrong with a document, found before any call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// JSON Pointer (RFC 6901) to the member at fault.
    pub path: &'static str,
    /// The portal's code for the same fault.
    pub code: &'static str,
    /// A sentence for the person who keeps the books. Never quotes the document.
    pub message: &'static str,
}

/// Why a body could not be viewed as a document, or as a request about one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadDocument {
    /// Not JSON at all (or not UTF-8): nobody can say whose it is. Carries the parser's place, not its text.
    NotJson {
        /// Line of the first error, from 1.
        line: usize,
        /// Column of the first error, from 1.
        column: usize,
    },
    /// JSON, but not a document the portal could register, or not a request; all findings at once.
    Refused(Vec<Finding>),
}

/// Reads the identifying fields of a document. Member names are matched in any case, as the portal does.
pub fn read(body: &[u8]) -> Result<Document, BadDocument> {
    let blocks = members_of_body(body, ["DocDtls", "SellerDtls", "BuyerDtls", "ValDtls"])?;
    if body.len() > MAX_BYTES {
        return Err(BadDocument::Refused(vec![Finding {
            path: "",
            code: "5002",
            message: "the document is larger than the 2 MB the portal takes; split it or shorten its texts",
        }]));
    }
    let Some([details, seller, buyer, values]) = blocks else {
        return Err(BadDocument::Refused(vec![Finding {
            path: "",
            code: "5002",
            message: "the body must be one JSON object, the invoice in form INV-01",
        }]));
    };
    let [kind, number, date] = inner(details, ["Typ", "No", "Dt"]);
    let [seller] = inner(seller, ["Gstin"]);
    let [buyer] = inner(buyer, ["Gstin"]);
    let [total] = inner(values, ["TotInvVal"]);

    let mut findings = Vec::new();
    let seller = checked(
        &mut findings,
        SELLER,
        seller.and_then(string).and_then(|text| text.parse().ok()),
    );
    let kind = checked(
        &mut findings,
        KIND,
        kind.and_then(string).and_then(|text| text.parse().ok()),
    );
    let number = checked(
        &mut findings,
        NUMBER,
        number.and_then(string).filter(|text| !text.is_empty()),
    );
    let date = checked(
        &mut findings,
        DATE,
        date.and_then(string)
            .and_then(|text| parse_document_date(&text)),
    );
    match (seller, kind, number, date) {
        (Some(seller), Some(kind), Some(number), Some(date)) => Ok(Document {
            seller,
            buyer: buyer.and_then(string).map(Cow::into_owned),
            kind,
            number: number.into_owned(),
            date,
            total: total.and_then(|raw| decimal(raw.get())),
        }),
        _ => Err(BadDocument::Refused(findings)),
    }
}

const SELLER: Finding = Finding {
    path: "/SellerDtls/Gstin",
    code: "2155",
    message: "the seller's GSTIN is missing or not a GSTIN: fifteen characters, for example 29AAGCE4783K1Z1",
};
const KIND: Finding = Finding {
    path: "/DocDtls/Typ",
    code: "2161",
    message: "the document type is missing or not one of INV, CRN, DBN",
};
const NUMBER: Finding = Finding {
    path: "/DocDtls/No",
    code: "5002",
    message: "the document number is missing or not a text",
};
const DATE: Finding = Finding {
    path: "/DocDtls/Dt",
    code: "2144",
    message: "the document date is missing or not a date in the form dd/mm/yyyy",
};

fn checked<T>(findings: &mut Vec<Finding>, finding: Finding, value: Option<T>) -> Option<T> {
    if value.is_none() {
        findings.push(finding);
    }
    value
}

fn place_of_bad_utf8(body: &[u8], valid_up_to: usize) -> BadDocument {
    let good = &body[..valid_up_to];
    let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + good.iter().rev().take_while(|byte| **byte != b'\n').count();
    BadDocument::NotJson { line, column }
}

/// A JSON string's text, borrowed where it has no escapes.
pub(crate) fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if memchr(b'\\', inner.as_bytes()).is_some() {
        serde_json::from_str(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// A JSON string's text, or a number's digits.
pub(crate) fn text_or_number(raw: &RawValue) -> Option<Cow<'_, str>> {
    let is_number = raw.get().starts_with(|first: char| first.is_ascii_digit());
    string(raw).or_else(|| is_number.then_some(Cow::Borrowed(raw.get())))
}

/// A JSON number's exact value; a number in a string is read too, as some portals print it so.
pub(crate) fn decimal(text: &str) -> Option<Decimal> {
    let text = text.trim_matches('"');
    Decimal::from_str(text)
        .or_else(|_| Decimal::from_scientific(text))
        .ok()
}

/// The raw values of the named members of a JSON object, names matched in any case. The last of a repeated member
/// counts; anything but an object has none.
pub(crate) fn members<'a, const N: usize>(
    object: &'a RawValue,
    names: [&'static str; N],
) -> [Option<&'a RawValue>; N] {
    members_of(object.get(), names).unwrap_or([None; N])
}

/// [`members`] of a text that is yet to be proven JSON; fails if it is not one object and nothing else.
pub(crate) fn members_of<'a, const N: usize>(
    text: &'a str,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let found = Members { names }.deserialize(&mut json)?;
    json.end()?;
    Ok(found)
}

/// [`members`] of a message's body; none where it is JSON, but no object.
///
/// # Errors
/// It is no JSON in UTF-8.
pub(crate) fn members_of_body<'a, const N: usize>(
    body: &'a [u8],
    names: [&'static str; N],
) -> Result<Option<[Option<&'a RawValue>; N]>, BadDocument> {
    let text = from_utf8(body).map_err(|error| place_of_bad_utf8(body, error.valid_up_to()))?;
    // One pass proves that it is JSON and finds the members; only what fails it is looked at more closely.
    if let Ok(found) = members_of(text, names) {
        return Ok(Some(found));
    }
    let top: &RawValue = serde_json::from_str(text).map_err(|error| BadDocument::NotJson {
        line: error.line(),
        column: error.column(),
    })?;
    Ok(top.get().starts_with('{').then(|| members(top, names)))
}

fn inner<'a, const N: usize>(
    object: Option<&'a RawValue>,
    names: [&'static str; N],
) -> [Option<&'a RawValue>; N] {
    object.map_or([None; N], |object| members(object, names))
}

struct Members<const N: usize> {
    names: [&'static str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Members<N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(position) = map.next_key_seed(NamePosition(&self.names))? {
            match position {
                Some(position) => found[position] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

struct NamePosition<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for NamePosition<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // As bytes: half of a surrogate pair in a name that nobody asked for hides none of the others.
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for NamePosition<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        let is_it = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
        Ok(self.0.iter().position(|known| is_it(known)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(details: &str, seller: &str) -> String {
        format!(
            r#"{{"DocDtls":{details},"SellerDtls":{seller},"BuyerDtls":{{"Gstin":"URP"}},"ValDtls":{{"TotInvVal":21851.00}}}}"#
        )
    }

    const DETAILS: &str = r#"{"Typ":"inv","No":"SI\/25-26\/00417","Dt":"05/09/2025"}"#;
    const SELLER_DETAILS: &str = r#"{"LglNm":"x","Gstin":"29AAGCE4783K1Z1"}"#;

    fn paths(body: &str) -> Vec<&'static str> {
        match read(body.as_bytes()) {
            Err(BadDocument::Refused(findings)) => {
                findings.iter().map(|finding| finding.path).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn identifying_fields_are_read_through_escapes_and_spacing() {
        let document = read(body(DETAILS, SELLER_DETAILS).as_bytes()).unwrap();
        assert_eq!(document.number, "SI/25-26/00417");
        assert_eq!(document.label(), "INV SI/25-26/00417 05/09/2025");
        assert_eq!(
            document.irn().as_str(),
            "fae5ffe886954f6ac49fc7984f5524d7dda619175aa78bf6481966fe65d48908"
        );
        assert_eq!(document.total, Some("21851".parse().unwrap()));
        assert_eq!(document.buyer.as_deref(), Some("URP"));
    }

    #[test]
    fn member_names_are_matched_in_any_case_and_the_last_counts() {
        let text = r#"{"docdtls":{"TYP":"INV","no":"1","DT":"05/09/2025"},"SellerDtls":{"GSTIN":"x","gstin":"29AAGCE4783K1Z1"}}"#;
        let document = read(text.as_bytes()).unwrap();
        assert_eq!(document.seller.as_str(), "29AAGCE4783K1Z1");
        assert_eq!((document.buyer, document.total), (None, None));
    }

    #[test]
    fn name_that_is_no_text_hides_none_of_the_others() {
        let text = body(DETAILS, SELLER_DETAILS).replacen('{', r#"{"\ud800":1,"#, 1);
        assert_eq!(read(text.as_bytes()).unwrap().number, "SI/25-26/00417");
    }

    #[test]
    fn all_findings_come_at_once() {
        assert_eq!(
            paths("{}"),
            [
                "/SellerDtls/Gstin",
                "/DocDtls/Typ",
                "/DocDtls/No",
                "/DocDtls/Dt"
            ]
        );
        assert_eq!(
            paths(&body(r#"{"Typ":7,"No":417,"Dt":"5/9/2025"}"#, "[]")).len(),
            4
        );
        assert_eq!(
            paths(&body(DETAILS, r#"{"LglNm":"no gstin"}"#)),
            ["/SellerDtls/Gstin"]
        );
        assert_eq!(paths("[1]"), [""]);
    }

    #[test]
    fn what_is_not_json_says_where() {
        assert_eq!(
            read(b"{\n  nonsense"),
            Err(BadDocument::NotJson { line: 2, column: 3 })
        );
        assert_eq!(
            read(b"{\"a\":\"\xff\"}"),
            Err(BadDocument::NotJson { line: 1, column: 7 })
        );
        assert!(matches!(read(b""), Err(BadDocument::NotJson { .. })));
    }

    #[test]
    fn deep_nesting_is_only_a_refused_document() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(paths(&deep).len(), 4);
    }

    #[test]
    fn a_document_over_two_megabytes_is_refused() {
        let padded = format!("{}{}", " ".repeat(MAX_BYTES), body(DETAILS, SELLER_DETAILS));
        assert_eq!(paths(&padded), [""]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes));
        }
    }
}
