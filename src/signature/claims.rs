//! What signed data says, and whether that is the document in hand.

use std::fmt;

use rust_decimal::Decimal;
use serde_json::value::RawValue;

use crate::document::{Document, Lines, decimal, members, members_of, string};
use crate::irn::{Irn, parse_document_date};

/// What both tokens say of the document; each member as signed, amounts as printed.
#[derive(Clone, Default, PartialEq, Eq)]
struct Claims {
    irn: Option<String>,
    seller: Option<String>,
    buyer: Option<String>,
    number: Option<String>,
    kind: Option<String>,
    date: Option<String>,
    total: Option<String>,
}

/// The data of a signed QR code (NIC, "QR code").
#[derive(Clone, PartialEq, Eq)]
pub struct QrData {
    claims: Claims,
    item_count: Option<String>,
    main_hsn: Option<String>,
    irn_date: Option<String>,
}

/// The data of a signed invoice, as far as it is compared.
#[derive(Clone, PartialEq, Eq)]
pub struct InvoiceData {
    claims: Claims,
    ack_no: Option<String>,
    ack_date: Option<String>,
}

impl fmt::Debug for QrData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QrData(..)")
    }
}

impl fmt::Debug for InvoiceData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvoiceData(..)")
    }
}

impl QrData {
    pub(super) fn read(json: &str) -> Option<Self> {
        let [
            seller,
            buyer,
            number,
            kind,
            date,
            total,
            irn,
            items,
            hsn,
            irn_date,
        ] = members_of(
            json,
            [
                "SellerGstin",
                "BuyerGstin",
                "DocNo",
                "DocTyp",
                "DocDt",
                "TotInvVal",
                "Irn",
                "ItemCnt",
                "MainHsnCode",
                "IrnDt",
            ],
        )
        .ok()?;
        let [seller, buyer, number, kind, date, total, irn] =
            [seller, buyer, number, kind, date, total, irn].map(text);
        Some(Self {
            claims: Claims {
                irn,
                seller,
                buyer,
                number,
                kind,
                date,
                total,
            },
            item_count: text(items),
            main_hsn: text(hsn),
            irn_date: text(irn_date),
        })
    }

    /// `Irn` as signed.
    pub fn irn(&self) -> Option<&str> {
        self.claims.irn.as_deref()
    }

    /// The document it speaks of; none where it does not name one.
    pub fn document(&self) -> Option<Document> {
        let claims = &self.claims;
        Some(Document {
            seller: claims.seller.as_deref()?.parse().ok()?,
            buyer: claims.buyer.clone(),
            kind: claims.kind.as_deref()?.parse().ok()?,
            number: claims.number.clone()?,
            date: parse_document_date(claims.date.as_deref()?)?,
            total: claims.total.as_deref().and_then(decimal),
        })
    }

    /// The members in the order in which the portal prints them, with their names there.
    pub fn fields(&self) -> [(&'static str, Option<&str>); 10] {
        let Claims {
            irn,
            seller,
            buyer,
            number,
            kind,
            date,
            total,
        } = &self.claims;
        [
            ("SellerGstin", seller.as_deref()),
            ("BuyerGstin", buyer.as_deref()),
            ("DocNo", number.as_deref()),
            ("DocTyp", kind.as_deref()),
            ("DocDt", date.as_deref()),
            ("TotInvVal", total.as_deref()),
            ("ItemCnt", self.item_count.as_deref()),
            ("MainHsnCode", self.main_hsn.as_deref()),
            ("Irn", irn.as_deref()),
            ("IrnDt", self.irn_date.as_deref()),
        ]
    }
}

impl InvoiceData {
    pub(super) fn read(json: &str) -> Option<Self> {
        let [irn, ack_no, ack_date, seller, buyer, details, values] = members_of(
            json,
            [
                "Irn",
                "AckNo",
                "AckDt",
                "SellerDtls",
                "BuyerDtls",
                "DocDtls",
                "ValDtls",
            ],
        )
        .ok()?;
        let [seller] = inner(seller, ["Gstin"]);
        let [buyer] = inner(buyer, ["Gstin"]);
        let [number, kind, date] = inner(details, ["No", "Typ", "Dt"]);
        let [total] = inner(values, ["TotInvVal"]);
        let [irn, seller, buyer, number, kind, date, total] =
            [irn, seller, buyer, number, kind, date, total].map(text);
        Some(Self {
            claims: Claims {
                irn,
                seller,
                buyer,
                number,
                kind,
                date,
                total,
            },
            ack_no: text(ack_no),
            ack_date: text(ack_date),
        })
    }

    /// `AckNo`, its digits as signed.
    pub fn ack_no(&self) -> Option<&str> {
        self.ack_no.as_deref()
    }

    /// `AckDt` as signed. It may differ by a minute from the date beside the token: never compare the two.
    pub fn ack_date(&self) -> Option<&str> {
        self.ack_date.as_deref()
    }

    /// `Irn` as signed.
    pub fn irn(&self) -> Option<&str> {
        self.claims.irn.as_deref()
    }
}

fn inner<'a, const N: usize>(
    object: Option<&'a RawValue>,
    names: [&'static str; N],
) -> [Option<&'a RawValue>; N] {
    object.map_or([None; N], |object| members(object, names))
}

/// A string's content or a number as printed.
fn text(raw: Option<&RawValue>) -> Option<String> {
    let raw = raw?;
    match raw.get().as_bytes().first()? {
        b'"' => string(raw).map(std::borrow::Cow::into_owned),
        b'0'..=b'9' | b'-' => Some(raw.get().to_owned()),
        _ => None,
    }
}

/// Signed data that speaks of another document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signed data differs from the document in: {}", fields.join(", "))]
pub struct Mismatch {
    /// Which of `irn`, `seller`, `buyer`, `number`, `type`, `date`, `total`, `item count`, `main HSN`, each once.
    pub fields: Vec<&'static str>,
}

/// Whether both tokens speak of `document`, registered as `irn`. Numbers are compared in upper case, because the
/// portal registers them so; totals by value, because it prints amounts anew. Of what the document does not say,
/// nothing is compared.
pub fn compare(
    document: &Document,
    irn: &Irn,
    qr: &QrData,
    invoice: &InvoiceData,
) -> Result<(), Mismatch> {
    let mut fields = Vec::new();
    let mut check = |field, holds: fn(&Document, &Irn, &Claims) -> bool| {
        if ![&qr.claims, &invoice.claims]
            .into_iter()
            .all(|claims| holds(document, irn, claims))
        {
            fields.push(field);
        }
    };
    check("irn", |document, irn, claims| {
        document.has_irn(irn)
            && claims
                .irn
                .as_ref()
                .is_some_and(|signed| signed.parse() == Ok(*irn))
    });
    check("seller", |document, _, claims| {
        same(&claims.seller, document.seller.as_str())
    });
    check("buyer", |document, _, claims| {
        document
            .buyer
            .as_ref()
            .is_none_or(|buyer| same(&claims.buyer, buyer))
    });
    check("number", |document, _, claims| {
        same(&claims.number, &document.number)
    });
    check("type", |document, _, claims| {
        same(&claims.kind, document.kind.as_str())
    });
    check("date", |document, _, claims| {
        claims.date.as_deref().and_then(parse_document_date) == Some(document.date)
    });
    check("total", |document, _, claims| {
        let signed = || claims.total.as_deref().and_then(decimal);
        document
            .total
            .is_none_or(|total| signed().is_some_and(|signed| is_same_amount(signed, total)))
    });
    if fields.is_empty() {
        Ok(())
    } else {
        Err(Mismatch { fields })
    }
}

/// Which of `item count` and `main HSN` both tokens do not bear out. For what was registered by an earlier message: its
/// identity and its total may be the same and its content another. What a token does not say is no difference.
pub fn compare_lines(document: &Lines, qr: &QrData, invoice: Option<&Lines>) -> Vec<&'static str> {
    let signed_count = qr.item_count.as_deref().and_then(decimal);
    let is_counted = signed_count.is_none_or(|count| count == document.count().into())
        && invoice.is_none_or(|signed| signed.count() == document.count());
    let named = qr.main_hsn.as_deref().filter(|hsn| !hsn.trim().is_empty());
    let is_main = named.is_none_or(|hsn| document.may_have_main_hsn(hsn))
        && invoice.is_none_or(|signed| document.has_main_hsn_of(signed));
    [("item count", is_counted), ("main HSN", is_main)]
        .into_iter()
        .filter_map(|(field, holds)| (!holds).then_some(field))
        .collect()
}

/// The form has amounts of two decimal places (INV-01), and the portal may round what an ERP's arithmetic has left behind them.
fn is_same_amount(signed: Decimal, ours: Decimal) -> bool {
    const PAISA: Decimal = Decimal::from_parts(1, 0, 0, false, 2);
    signed
        .checked_sub(ours)
        .is_some_and(|difference| difference.abs() < PAISA)
}

fn same(signed: &Option<String>, ours: &str) -> bool {
    signed
        .as_ref()
        .is_some_and(|signed| signed.trim().to_uppercase() == ours.trim().to_uppercase())
}
