//! The documents of a run: made-up goods and services between the account's own GSTIN and a buyer, which the portal
//! registers.
//!
//! One rule: amounts are whole paise, and every one follows from price, quantity, discount and rate, so that a document
//! is right to the paisa.

use serde_json::{Value, json};

use super::places::in_state;
use super::{Terms, eway_bills, questions, written};
use crate::gstin::Gstin;
use crate::irn::{DocumentType, Irn};

/// A document that is registered in the course of a run.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) title: String,
    pub(super) kind: DocumentType,
    pub(super) number: String,
    pub(super) irn: Irn,
    pub(super) json: Value,
}

/// All documents of a run, by what is done with them later.
#[derive(Clone, Debug)]
pub(super) struct Documents {
    /// Each is cancelled.
    pub(super) cancelled: Vec<Document>,
    /// Invoices of goods: for each an e-way bill is issued.
    pub(super) carried: Vec<Document>,
    /// Invoices of goods, each for one e-way bill that is refused for what it says: a portal that issues it all the same
    /// answers the other cases no differently.
    pub(super) not_billed: Vec<Document>,
    /// The same for cancellations.
    pub(super) not_cancelled: Vec<Document>,
    /// A service and two notes, for which no e-way bill can be issued.
    pub(super) not_carried: Vec<Document>,
}

impl Documents {
    pub(super) fn of(terms: &Terms) -> Self {
        let not_billed = eway_bills::misformed(terms);
        let not_cancelled = questions::misformed(terms);
        let mut numbers = 1_u32..;
        let mut make = |shape: Shape| document(terms, shape, numbers.next().unwrap_or_default());
        let cancelled = SHAPES.into_iter().cycle().take(terms.cases as usize);
        let cancelled = cancelled.map(&mut make).collect();
        let carried = CARRIED.into_iter().cycle().take(terms.cases as usize);
        let carried = carried.map(&mut make).collect();
        Self {
            cancelled,
            carried,
            not_billed: (0..not_billed).map(|_| make(GOODS)).collect(),
            not_cancelled: (0..not_cancelled).map(|_| make(GOODS)).collect(),
            not_carried: [SERVICE, CREDIT_NOTE, DEBIT_NOTE].map(make).into(),
        }
    }

    /// In the order of their numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = &Document> {
        self.cancelled
            .iter()
            .chain(&self.carried)
            .chain(&self.not_billed)
            .chain(&self.not_cancelled)
            .chain(&self.not_carried)
    }
}

/// What a document is about.
#[derive(Clone, Copy, Debug)]
struct Shape {
    title: &'static str,
    kind: DocumentType,
    supply: Supply,
    lines: u32,
    /// In percent.
    rate: i64,
    is_service: bool,
    has_discount: bool,
    has_other_places: bool,
    has_payment: bool,
    /// In paise.
    round_off: i64,
}

/// `SupTyp`, with `RegRev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supply {
    B2b,
    ReverseCharge,
    DeemedExport,
    ExportWithPayment,
    ExportWithoutPayment,
}

const GOODS: Shape = Shape {
    title: "B2B invoice of goods",
    kind: DocumentType::Invoice,
    supply: Supply::B2b,
    lines: 1,
    rate: 18,
    is_service: false,
    has_discount: false,
    has_other_places: false,
    has_payment: false,
    round_off: 0,
};
const SERVICE: Shape = Shape {
    title: "B2B invoice of a service",
    is_service: true,
    ..GOODS
};
const TWO_LINES: Shape = Shape {
    title: "B2B invoice with two lines",
    lines: 2,
    ..GOODS
};
const CREDIT_NOTE: Shape = Shape {
    title: "B2B credit note",
    kind: DocumentType::CreditNote,
    ..GOODS
};
const DEBIT_NOTE: Shape = Shape {
    title: "B2B debit note",
    kind: DocumentType::DebitNote,
    ..GOODS
};
const DISCOUNT: Shape = Shape {
    title: "B2B invoice with a discount",
    has_discount: true,
    ..GOODS
};
const LOWER_RATE: Shape = Shape {
    title: "B2B invoice at 5 %",
    rate: 5,
    ..GOODS
};
const PAYMENT: Shape = Shape {
    title: "B2B invoice with payment details and a remark",
    has_payment: true,
    ..GOODS
};

/// One after the other, for as many documents as there are.
const SHAPES: [Shape; 16] = [
    GOODS,
    SERVICE,
    TWO_LINES,
    CREDIT_NOTE,
    DEBIT_NOTE,
    DISCOUNT,
    Shape {
        title: "B2B invoice under reverse charge",
        supply: Supply::ReverseCharge,
        ..GOODS
    },
    Shape {
        title: "export with payment of tax",
        supply: Supply::ExportWithPayment,
        ..GOODS
    },
    Shape {
        title: "export without payment of tax",
        supply: Supply::ExportWithoutPayment,
        ..GOODS
    },
    Shape {
        title: "deemed export",
        supply: Supply::DeemedExport,
        ..GOODS
    },
    LOWER_RATE,
    Shape {
        title: "B2B invoice at 0 %",
        rate: 0,
        ..GOODS
    },
    Shape {
        title: "B2B invoice with ten lines",
        lines: 10,
        ..GOODS
    },
    Shape {
        title: "B2B invoice with dispatch and ship-to places",
        has_other_places: true,
        ..GOODS
    },
    PAYMENT,
    Shape {
        title: "B2B invoice that is rounded off",
        round_off: 50,
        ..GOODS
    },
];

/// Invoices of goods inside the country.
const CARRIED: [Shape; 5] = [GOODS, TWO_LINES, DISCOUNT, LOWER_RATE, PAYMENT];

impl Supply {
    /// `SupTyp`
    fn code(self) -> &'static str {
        match self {
            Self::B2b | Self::ReverseCharge => "B2B",
            Self::DeemedExport => "DEXP",
            Self::ExportWithPayment => "EXPWP",
            Self::ExportWithoutPayment => "EXPWOP",
        }
    }

    fn is_export(self) -> bool {
        matches!(self, Self::ExportWithPayment | Self::ExportWithoutPayment)
    }

    fn tax(self, terms: &Terms) -> Tax {
        match self {
            Self::ExportWithPayment => Tax::Integrated,
            Self::ExportWithoutPayment => Tax::None,
            Self::B2b | Self::ReverseCharge | Self::DeemedExport => {
                if is_intra_state(terms) {
                    Tax::Halves
                } else {
                    Tax::Integrated
                }
            }
        }
    }
}

/// Which taxes are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tax {
    /// IGST
    Integrated,
    /// CGST and SGST
    Halves,
    None,
}

/// Whether seller and buyer are of the same state: then CGST and SGST are due.
pub(super) fn is_intra_state(terms: &Terms) -> bool {
    terms.gstin.state_code() == terms.buyer.state_code()
}

/// The number of a document.
pub(super) fn number(terms: &Terms, letter: char, at: u32) -> String {
    format!("{}-{letter}{at:03}", terms.prefix)
}

/// What its IRN is or would be.
pub(super) fn irn(terms: &Terms, kind: DocumentType, number: &str) -> Irn {
    Irn::compute(&terms.gstin, terms.date, kind, number)
}

/// An invoice of goods with two lines, to be changed in one place.
pub(super) fn sample(terms: &Terms, number: &str) -> Value {
    json(terms, TWO_LINES, number, 1)
}

fn document(terms: &Terms, shape: Shape, at: u32) -> Document {
    let number = number(terms, 'D', at);
    Document {
        title: shape.title.to_owned(),
        kind: shape.kind,
        irn: irn(terms, shape.kind, &number),
        json: json(terms, shape, &number, i64::from(at)),
        number,
    }
}

fn json(terms: &Terms, shape: Shape, number: &str, at: i64) -> Value {
    let lines: Vec<Line> = (0..i64::from(shape.lines))
        .map(|line| Line::of(shape, shape.supply.tax(terms), at, line))
        .collect();
    let items: Vec<Value> = lines
        .iter()
        .zip(1..)
        .map(|(line, n)| line.json(shape, n))
        .collect();
    let reverse = if shape.supply == Supply::ReverseCharge {
        "Y"
    } else {
        "N"
    };
    let mut document = json!({
        "Version": "1.1",
        "TranDtls": {"TaxSch": "GST", "SupTyp": shape.supply.code(), "RegRev": reverse, "IgstOnIntra": "N"},
        "DocDtls": {"Typ": shape.kind.as_str(), "No": number, "Dt": written(terms.date)},
        "SellerDtls": seller(&terms.gstin),
        "BuyerDtls": if shape.supply.is_export() { buyer_abroad() } else { buyer(&terms.buyer) },
        "ItemList": items,
        "ValDtls": values(shape, &lines),
    });
    add_details(&mut document, terms, shape);
    document
}

fn seller(gstin: &Gstin) -> Value {
    let (town, pin) = in_state(gstin.state_code());
    json!({
        "Gstin": gstin, "LglNm": "Certification Test Seller", "Addr1": "1 Test Road", "Loc": town,
        "Pin": pin, "Stcd": gstin.state_code(), "Ph": "9000000001", "Em": "seller@example.test",
    })
}

fn buyer(gstin: &Gstin) -> Value {
    let (town, pin) = in_state(gstin.state_code());
    let state = gstin.state_code();
    json!({
        "Gstin": gstin, "LglNm": "Certification Test Buyer", "Pos": state, "Addr1": "2 Test Road",
        "Loc": town, "Pin": pin, "Stcd": state,
    })
}

fn buyer_abroad() -> Value {
    json!({
        "Gstin": "URP", "LglNm": "Certification Test Buyer Abroad", "Pos": "96", "Addr1": "3 Test Road",
        "Loc": "DUBAI", "Pin": 999_999, "Stcd": "96",
    })
}

fn add_details(document: &mut Value, terms: &Terms, shape: Shape) {
    if shape.supply.is_export() {
        document["ExpDtls"] = json!({"RefClm": "N", "ForCur": "AED", "CntCode": "AE"});
    }
    if shape.has_other_places {
        document["DispDtls"] = place("Nm", &terms.gstin);
        document["ShipDtls"] = place("LglNm", &terms.buyer);
    }
    if shape.has_payment {
        document["PayDtls"] =
            json!({"Nm": "Certification Test Seller", "Mode": "Credit", "CrDay": 30});
        document["RefDtls"] = json!({"InvRm": "Certification test"});
    }
}

fn place(name: &str, of: &Gstin) -> Value {
    let (town, pin) = in_state(of.state_code());
    json!({
        name: "Certification Test Depot", "Addr1": "4 Test Road", "Loc": town, "Pin": pin,
        "Stcd": of.state_code(),
    })
}

/// Amounts in paise.
#[derive(Clone, Copy, Debug)]
struct Line {
    quantity: i64,
    price: i64,
    gross: i64,
    discount: i64,
    taxable: i64,
    rate: i64,
    igst: i64,
    half: i64,
}

impl Line {
    fn of(shape: Shape, tax: Tax, at: i64, line: i64) -> Self {
        let quantity = 1 + (at + line) % 5;
        // Whole hundreds of rupees: half the tax at any rate is whole paise.
        let price = 10_000 * (10 + (7 * at + line) % 40);
        let gross = quantity * price;
        let discount = if shape.has_discount { price / 10 } else { 0 };
        let taxable = gross - discount;
        let due = taxable * shape.rate / 100;
        Self {
            quantity,
            price,
            gross,
            discount,
            taxable,
            rate: shape.rate,
            igst: if tax == Tax::Integrated { due } else { 0 },
            half: if tax == Tax::Halves { due / 2 } else { 0 },
        }
    }

    fn total(&self) -> i64 {
        self.taxable + self.igst + 2 * self.half
    }

    fn json(&self, shape: Shape, number: u32) -> Value {
        let mut json = json!({
            "SlNo": number.to_string(), "IsServc": "N", "HsnCd": "847130", "PrdDesc": "Portable computer",
            "Qty": self.quantity, "Unit": "NOS", "UnitPrice": rupees(self.price),
            "TotAmt": rupees(self.gross), "Discount": rupees(self.discount), "AssAmt": rupees(self.taxable),
            "GstRt": self.rate, "IgstAmt": rupees(self.igst), "CgstAmt": rupees(self.half),
            "SgstAmt": rupees(self.half), "TotItemVal": rupees(self.total()),
        });
        if shape.is_service {
            json["IsServc"] = json!("Y");
            json["HsnCd"] = json!("998313");
            json["PrdDesc"] = json!("Consultancy");
            json["Unit"] = json!("OTH");
        }
        json
    }
}

fn values(shape: Shape, lines: &[Line]) -> Value {
    let sum = |part: fn(&Line) -> i64| lines.iter().map(part).sum::<i64>();
    let half = sum(|line| line.half);
    json!({
        "AssVal": rupees(sum(|line| line.taxable)), "IgstVal": rupees(sum(|line| line.igst)),
        "CgstVal": rupees(half), "SgstVal": rupees(half), "CesVal": 0, "StCesVal": 0, "Discount": 0,
        "OthChrg": 0, "RndOffAmt": rupees(shape.round_off), "TotInvVal": rupees(sum(Line::total) + shape.round_off),
    })
}

/// Paise as a JSON number of rupees, without decimals where there are none.
fn rupees(paise: i64) -> Value {
    if paise % 100 == 0 {
        json!(paise / 100)
    } else {
        // Far below 2^53: the shortest form of the nearest double has these two decimals.
        json!(paise as f64 / 100.0)
    }
}
