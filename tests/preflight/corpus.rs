//! Documents to judge: valid ones of every kind of supply, varied by a seed, and what can be wrong with them.
//!
//! Parties do not exist; their GSTINs have right check digits.

#![expect(
    clippy::unwrap_used,
    reason = "a document without what is to be changed is a fault of the test"
)]

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

/// Sellers, each with a PIN code of its state.
const SELLERS: [(&str, u32); 5] = [
    ("29AAGCE4783K1Z1", 560_058),
    ("27AABCT9421M1ZY", 411_014),
    ("33AAKFN5208R1ZT", 600_001),
    ("07AADCB2230M1ZV", 110_001),
    ("24AAHCS7315P2ZV", 380_001),
];
const BUYERS: [(&str, u32); 2] = [("29AABCT9421M1ZU", 570_001), ("27AAPFU0939F1ZV", 411_004)];

/// What kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BetweenStates,
    WithinState,
    Services,
    SezTaxed,
    SezUntaxed,
    ExportTaxed,
    ExportUntaxed,
    DeemedExport,
    CreditNote,
    DebitNote,
    ReverseCharge,
    ReverseChargeWithoutTax,
    IgstWithinState,
    Cess,
    EwayBill,
    ManyLines,
    Charges,
    OptionalBlocks,
    OddSpelling,
    ExportTaxNotInValue,
    RoundedPrice,
}

pub(crate) const KINDS: [Kind; 21] = [
    Kind::BetweenStates,
    Kind::WithinState,
    Kind::Services,
    Kind::SezTaxed,
    Kind::SezUntaxed,
    Kind::ExportTaxed,
    Kind::ExportUntaxed,
    Kind::DeemedExport,
    Kind::CreditNote,
    Kind::DebitNote,
    Kind::ReverseCharge,
    Kind::ReverseChargeWithoutTax,
    Kind::IgstWithinState,
    Kind::Cess,
    Kind::EwayBill,
    Kind::ManyLines,
    Kind::Charges,
    Kind::OptionalBlocks,
    Kind::OddSpelling,
    Kind::ExportTaxNotInValue,
    Kind::RoundedPrice,
];

impl Kind {
    fn supply(self) -> &'static str {
        match self {
            Self::SezTaxed => "SEZWP",
            Self::SezUntaxed => "SEZWOP",
            Self::ExportTaxed | Self::ExportTaxNotInValue => "EXPWP",
            Self::ExportUntaxed => "EXPWOP",
            Self::DeemedExport => "DEXP",
            _ => "B2B",
        }
    }

    fn document(self) -> &'static str {
        match self {
            Self::CreditNote => "CRN",
            Self::DebitNote => "DBN",
            Self::OddSpelling => "inv",
            _ => "INV",
        }
    }

    fn is_export(self) -> bool {
        matches!(
            self,
            Self::ExportTaxed | Self::ExportUntaxed | Self::ExportTaxNotInValue
        )
    }

    /// Whether the values are written without the tax.
    fn leaves_tax_out(self) -> bool {
        matches!(
            self,
            Self::ReverseChargeWithoutTax | Self::ExportTaxNotInValue
        )
    }

    fn has_reverse_charge(self) -> bool {
        matches!(
            self,
            Self::ReverseCharge | Self::ReverseChargeWithoutTax | Self::IgstWithinState
        )
    }

    /// Whether CGST and SGST are due.
    fn halves(self) -> bool {
        matches!(self, Self::WithinState | Self::CreditNote)
    }

    fn stays_in_state(self) -> bool {
        self.halves() || self == Self::IgstWithinState
    }

    fn is_untaxed(self) -> bool {
        matches!(self, Self::SezUntaxed | Self::ExportUntaxed)
    }
}

/// A valid document, the same for the same arguments; `seed` numbers it.
pub(crate) fn valid(kind: Kind, seed: u64) -> Value {
    let mut random = StdRng::seed_from_u64(seed);
    let (seller, seller_pin) = if kind.stays_in_state() {
        SELLERS[random.random_range(0..2)]
    } else {
        SELLERS[random.random_range(2..5)]
    };
    let count = match kind {
        Kind::ManyLines => random.random_range(60..150),
        _ => random.random_range(1..5),
    };
    let lines: Vec<Line> = (0..count)
        .map(|_| Line::random(kind, &mut random))
        .collect();
    let mut document = json!({
        "Version": "1.1",
        "TranDtls": {
            "TaxSch": "GST", "SupTyp": kind.supply(),
            "RegRev": if kind.has_reverse_charge() { "Y" } else { "N" },
            "IgstOnIntra": if kind == Kind::IgstWithinState { "Y" } else { "N" },
        },
        "DocDtls": {
            "Typ": kind.document(), "No": format!("P{}/{seed}", kind as u8),
            "Dt": format!("{:02}/10/2025", random.random_range(1..=28)),
        },
        "SellerDtls": {
            "Gstin": seller, "LglNm": "Kaveri Test Fabrics Private Limited", "Addr1": "Plot 14, Test Industrial Area",
            "Loc": "TESTVILLE", "Pin": seller_pin, "Stcd": &seller[..2],
        },
        "BuyerDtls": buyer(kind, seller, &mut random),
        "ItemList": lines.iter().zip(1..).map(|(line, number)| line.json(number)).collect::<Vec<_>>(),
        "ValDtls": totals(kind, &lines, &mut random),
    });
    add_blocks(kind, &mut document);
    document
}

fn buyer(kind: Kind, seller: &str, random: &mut StdRng) -> Value {
    if kind.is_export() {
        return json!({
            "Gstin": "URP", "LglNm": "Nordlicht Textil GmbH – München", "Pos": "96", "Addr1": "Beispielstrasse 4",
            "Loc": "MUENCHEN", "Pin": 999_999, "Stcd": "96",
        });
    }
    let here = BUYERS.iter().find(|(gstin, _)| gstin[..2] == seller[..2]);
    let (gstin, pin) = match here {
        Some(neighbour) if kind.stays_in_state() => *neighbour,
        _ => BUYERS[random.random_range(0..BUYERS.len())],
    };
    json!({
        "Gstin": gstin, "LglNm": "Sahyadri Sample Traders Private Limited", "Pos": &gstin[..2],
        "Addr1": "Gala 7, Demo Market", "Loc": "SAMPLETOWN", "Pin": pin, "Stcd": &gstin[..2],
    })
}

/// Goods or services, their price, and the taxes on them.
struct Line {
    service: bool,
    quantity: Decimal,
    price: Decimal,
    gross: Decimal,
    discount: Decimal,
    taxable: Decimal,
    rate: Decimal,
    igst: Decimal,
    half: Decimal,
    cess_rate: Option<Decimal>,
    cess: Decimal,
    cess_fixed: Decimal,
    state_cess: Decimal,
    other: Decimal,
    total: Decimal,
}

fn paise(amount: Decimal) -> Decimal {
    amount.round_dp(2)
}

fn percent(amount: Decimal, rate: Decimal) -> Decimal {
    paise(amount * rate / Decimal::ONE_HUNDRED)
}

impl Line {
    fn random(kind: Kind, random: &mut StdRng) -> Self {
        let service = kind == Kind::Services;
        let rates = ["0.25", "3", "5", "12", "18", "28", "40"];
        let rate = rates[random.random_range(0..rates.len())];
        let rate: Decimal = rate.parse().unwrap();
        let quantity = Decimal::new(random.random_range(20_000..90_000), 3);
        let mut quantity = quantity;
        let mut price = Decimal::new(random.random_range(10_000..500_000), 2);
        if kind == Kind::RoundedPrice {
            // Sold by the thousand, at thirds of a paisa.
            quantity = Decimal::from(random.random_range(5_000..50_000));
            price /= Decimal::from(3_000);
        }
        let gross = if service {
            price
        } else {
            paise(quantity * price)
        };
        let price = price.round_dp(3);
        let discount = percent(gross, Decimal::from(random.random_range(0..10)));
        let taxable = gross - discount;
        let tax = if kind.is_untaxed() {
            Decimal::ZERO
        } else {
            percent(taxable, rate)
        };
        let (igst, half) = if kind.halves() {
            (Decimal::ZERO, paise(tax / Decimal::TWO))
        } else {
            (tax, Decimal::ZERO)
        };
        let has_cess = kind == Kind::Cess;
        let cess_rate = has_cess.then_some(Decimal::from(12));
        let cess = cess_rate
            .map(|rate| percent(taxable, rate))
            .unwrap_or_default();
        let cess_fixed = if has_cess {
            Decimal::new(4_170, 2)
        } else {
            Decimal::ZERO
        };
        let state_cess = if has_cess {
            Decimal::new(1_999, 2)
        } else {
            Decimal::ZERO
        };
        let other = if kind == Kind::Charges {
            Decimal::new(12_550, 2)
        } else {
            Decimal::ZERO
        };
        let taxes = igst + half + half + cess + cess_fixed + state_cess;
        let charged = if kind.leaves_tax_out() {
            Decimal::ZERO
        } else {
            taxes
        };
        Self {
            service,
            quantity,
            price,
            gross,
            discount,
            taxable,
            rate,
            igst,
            half,
            cess_rate,
            cess,
            cess_fixed,
            state_cess,
            other,
            total: taxable + charged + other,
        }
    }

    fn json(&self, number: u32) -> Value {
        let mut line = json!({
            "SlNo": number.to_string(), "IsServc": if self.service { "Y" } else { "N" },
            "PrdDesc": "Cotton fabric dyed", "HsnCd": if self.service { "998391" } else { "520832" },
            "UnitPrice": amount(self.price), "TotAmt": amount(self.gross), "Discount": amount(self.discount),
            "AssAmt": amount(self.taxable), "GstRt": amount(self.rate), "TotItemVal": amount(self.total),
        });
        let members = line.as_object_mut().unwrap();
        let mut add = |name: &str, value: Decimal| {
            if !value.is_zero() {
                members.insert(name.to_owned(), amount(value));
            }
        };
        add("IgstAmt", self.igst);
        add("CgstAmt", self.half);
        add("SgstAmt", self.half);
        add("CesRt", self.cess_rate.unwrap_or_default());
        add("CesAmt", self.cess);
        add("CesNonAdvlAmt", self.cess_fixed);
        add("StateCesNonAdvlAmt", self.state_cess);
        add("OthChrg", self.other);
        if !self.service {
            add("Qty", self.quantity);
            members.insert("Unit".to_owned(), json!("MTR"));
        }
        line
    }
}

/// A JSON number of few digits, which a float prints as they are.
fn amount(value: Decimal) -> Value {
    serde_json::from_str(&value.normalize().to_string()).unwrap()
}

fn totals(kind: Kind, lines: &[Line], random: &mut StdRng) -> Value {
    let sum = |part: fn(&Line) -> Decimal| lines.iter().map(part).sum::<Decimal>();
    let (taxable, igst, half) = (sum(|l| l.taxable), sum(|l| l.igst), sum(|l| l.half));
    let (cess, state_cess, other) = (
        sum(|l| l.cess + l.cess_fixed),
        sum(|l| l.state_cess),
        sum(|l| l.other),
    );
    let discount = if kind == Kind::Charges {
        Decimal::new(2_500, 2)
    } else {
        Decimal::ZERO
    };
    let taxes = igst + half + half + cess + state_cess;
    let charged = if kind.leaves_tax_out() {
        Decimal::ZERO
    } else {
        taxes
    };
    let exact = taxable + charged + other - discount;
    let total = if random.random() {
        exact.round()
    } else {
        exact
    };
    json!({
        "AssVal": amount(taxable), "IgstVal": amount(igst), "CgstVal": amount(half), "SgstVal": amount(half),
        "CesVal": amount(cess), "StCesVal": amount(state_cess), "OthChrg": amount(other),
        "Discount": amount(discount), "RndOffAmt": amount(total - exact), "TotInvVal": amount(total),
    })
}

fn add_blocks(kind: Kind, document: &mut Value) {
    match kind {
        Kind::ExportTaxed | Kind::ExportUntaxed | Kind::ExportTaxNotInValue => {
            document["ExpDtls"] =
                json!({"ShipBNo": "A-248117", "Port": "INMAA1", "ForCur": "EUR", "CntCode": "DE"});
            document["ValDtls"]["TotInvValFc"] = json!(3790.55);
        }
        Kind::CreditNote | Kind::DebitNote => {
            let preceding = json!([{"InvNo": "SI/25-26/00391", "InvDt": "20/08/2025"}]);
            document["RefDtls"] = json!({"InvRm": "Rate correction", "PrecDocDtls": preceding});
        }
        Kind::EwayBill => {
            document["EwbDtls"] =
                json!({"TransMode": "1", "Distance": 840, "VehNo": "KA01AB1234", "VehType": "R"});
        }
        Kind::OptionalBlocks => {
            document["SellerDtls"]["TrdNm"] = Value::Null;
            document["BuyerDtls"]["Em"] = json!("accounts@example.test");
            document["PayDtls"] = json!({"Nm": "Kaveri", "CrDay": 30, "PaidAmt": 0});
            document["DispDtls"] = Value::Null;
            document["ShipDtls"] = json!({
                "LglNm": "Depot", "Addr1": "Road 1", "Loc": "PUNE", "Pin": 411_014, "Stcd": "27",
            });
            document["AddlDocDtls"] = json!([]);
            document["ErpOnly"] = json!({"batch": [1, null]});
        }
        Kind::OddSpelling => {
            let members = document.as_object_mut().unwrap();
            rename(members, "DocDtls", "docdtls");
            rename(members, "BuyerDtls", "BUYERDTLS");
        }
        _ => {}
    }
}

fn rename(members: &mut Map<String, Value>, from: &str, to: &str) {
    let value = members.remove(from).unwrap();
    members.insert(to.to_owned(), value);
}

/// One way to spoil a valid document.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// What it is spoilt from.
    pub(crate) of: Kind,
    /// The finding that must come of it.
    pub(crate) code: &'static str,
    pub(crate) pointer: &'static str,
    /// Only where GSTINs have check digits.
    pub(crate) production_only: bool,
    spoil: fn(&mut Value),
}

impl Fault {
    /// A document with this fault.
    pub(crate) fn document(&self, seed: u64) -> Value {
        let mut document = valid(self.of, seed);
        (self.spoil)(&mut document);
        document
    }
}

fn set(document: &mut Value, pointer: &str, value: Value) {
    let (block, name) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(block).unwrap()[name] = value;
}

fn remove(document: &mut Value, pointer: &str) {
    let (block, name) = pointer.rsplit_once('/').unwrap();
    let members = document
        .pointer_mut(block)
        .unwrap()
        .as_object_mut()
        .unwrap();
    members.remove(name).expect("it was there");
}

fn raise(document: &mut Value, pointer: &str) {
    let raised = document
        .pointer(pointer)
        .map_or(50.0, |value| value.as_f64().unwrap() + 50.0);
    set(document, pointer, json!((raised * 100.0).round() / 100.0));
}

macro_rules! faults {
    ($($name:literal, $of:ident, $code:literal, $pointer:literal, $spoil:expr;)*) => {
        &[$(Fault {
            name: $name,
            of: Kind::$of,
            code: $code,
            pointer: $pointer,
            production_only: matches!($code.as_bytes(), b"3030"),
            spoil: $spoil,
        }),*]
    };
}

/// All of them.
pub(crate) const FAULTS: &[Fault] = faults! {
    "seller without GSTIN", BetweenStates, "2155", "/SellerDtls/Gstin", |d| remove(d, "/SellerDtls/Gstin");
    "seller's GSTIN mistyped", BetweenStates, "3030", "/SellerDtls/Gstin", |d| {
        let gstin = d["SellerDtls"]["Gstin"].as_str().unwrap();
        let typo = if gstin.ends_with('5') { '6' } else { '5' };
        set(d, "/SellerDtls/Gstin", json!(format!("{}{typo}", &gstin[..14])));
    };
    "buyer's GSTIN mistyped", WithinState, "3030", "/BuyerDtls/Gstin", |d| {
        let gstin = d["BuyerDtls"]["Gstin"].as_str().unwrap();
        set(d, "/BuyerDtls/Gstin", json!(format!("{}5", &gstin[..14])));
    };
    "buyer is the seller", WithinState, "2211", "/BuyerDtls/Gstin", |d| {
        set(d, "/BuyerDtls/Gstin", d["SellerDtls"]["Gstin"].clone());
    };
    "seller in another state", BetweenStates, "2258", "/SellerDtls/Stcd", |d| set(d, "/SellerDtls/Stcd", json!("09"));
    "buyer in another state", BetweenStates, "2265", "/BuyerDtls/Stcd", |d| set(d, "/BuyerDtls/Stcd", json!("32"));
    "B2B to nobody", BetweenStates, "2212", "/BuyerDtls/Gstin", |d| set(d, "/BuyerDtls/Gstin", json!("URP"));
    "SEZ supply to nobody", SezTaxed, "2212", "/BuyerDtls/Gstin", |d| set(d, "/BuyerDtls/Gstin", json!("URP"));
    "deemed export to nobody", DeemedExport, "2171", "/BuyerDtls/Gstin", |d| {
        set(d, "/BuyerDtls/Gstin", json!("URP"));
    };
    "export to a GSTIN", ExportTaxed, "2248", "/BuyerDtls/Gstin", |d| {
        set(d, "/BuyerDtls/Gstin", json!("29AABCT9421M1ZU"));
    };
    "export within India", ExportTaxed, "2229", "/BuyerDtls/Pos", |d| set(d, "/BuyerDtls/Pos", json!("29"));
    "export to a buyer in India", ExportUntaxed, "2261", "/BuyerDtls/Stcd", |d| {
        set(d, "/BuyerDtls/Stcd", json!("27"));
    };
    "export to an Indian PIN code", ExportTaxed, "2178", "/BuyerDtls/Pin", |d| {
        set(d, "/BuyerDtls/Pin", json!(560_001));
    };
    "export to no country", ExportTaxed, "2202", "/ExpDtls/CntCode", |d| remove(d, "/ExpDtls/CntCode");
    "export to a country that is none", ExportTaxed, "2202", "/ExpDtls/CntCode", |d| {
        set(d, "/ExpDtls/CntCode", json!("ZZ"));
    };
    "place of supply abroad", BetweenStates, "2242", "/BuyerDtls/Pos", |d| set(d, "/BuyerDtls/Pos", json!("96"));
    "place of supply nowhere", BetweenStates, "2243", "/BuyerDtls/Pos", |d| set(d, "/BuyerDtls/Pos", json!("45"));
    "buyer without PIN code", BetweenStates, "2244", "/BuyerDtls/Pin", |d| remove(d, "/BuyerDtls/Pin");
    "PIN code of another state", BetweenStates, "2178", "/BuyerDtls/Pin", |d| {
        set(d, "/BuyerDtls/Pin", json!(799_001));
    };
    "reverse charge on a deemed export", DeemedExport, "2162", "/TranDtls/RegRev", |d| {
        set(d, "/TranDtls/RegRev", json!("Y"));
    };
    "IGST within the state between two", ReverseCharge, "2262", "/TranDtls/IgstOnIntra", |d| {
        set(d, "/TranDtls/IgstOnIntra", json!("Y"));
    };
    "IGST within the state without reverse charge", IgstWithinState, "2294", "/TranDtls/IgstOnIntra", |d| {
        set(d, "/TranDtls/RegRev", json!("N"));
    };
    "IGST within a state", WithinState, "2172", "/ItemList/0/IgstAmt", |d| raise(d, "/ItemList/0/IgstAmt");
    "CGST between states", BetweenStates, "2174", "/ItemList/0/CgstAmt", |d| raise(d, "/ItemList/0/CgstAmt");
    "CGST on an export", ExportTaxed, "2180", "/ItemList/0/CgstAmt", |d| raise(d, "/ItemList/0/CgstAmt");
    "SGST on a SEZ supply", SezTaxed, "2237", "/ItemList/0/SgstAmt", |d| raise(d, "/ItemList/0/SgstAmt");
    "halves that are none", WithinState, "2227", "/ItemList/0/SgstAmt", |d| raise(d, "/ItemList/0/SgstAmt");
    "no tax within a state", WithinState, "2241", "/ItemList/0/CgstAmt", |d| {
        remove(d, "/ItemList/0/CgstAmt");
        remove(d, "/ItemList/0/SgstAmt");
        set(d, "/ItemList/0/GstRt", json!(18));
    };
    "wrong halves", WithinState, "2234", "/ItemList/0/CgstAmt", |d| {
        raise(d, "/ItemList/0/CgstAmt");
        raise(d, "/ItemList/0/SgstAmt");
    };
    "wrong IGST", BetweenStates, "2235", "/ItemList/0/IgstAmt", |d| raise(d, "/ItemList/0/IgstAmt");
    "wrong IGST on an export", ExportTaxed, "2235", "/ItemList/0/IgstAmt", |d| raise(d, "/ItemList/0/IgstAmt");
    "rate that is none", BetweenStates, "2240", "/ItemList/0/GstRt", |d| set(d, "/ItemList/0/GstRt", json!(17));
    "wrong cess", Cess, "2266", "/ItemList/0/CesAmt", |d| raise(d, "/ItemList/0/CesAmt");
    "gross amount that is not quantity times price", BetweenStates, "2192", "/ItemList/0/TotAmt", |d| {
        raise(d, "/ItemList/0/TotAmt");
    };
    "taxable amount that is not gross less discount", Services, "2193", "/ItemList/0/AssAmt", |d| {
        raise(d, "/ItemList/0/AssAmt");
    };
    "value of a line", CreditNote, "2194", "/ItemList/0/TotItemVal", |d| raise(d, "/ItemList/0/TotItemVal");
    "line number given twice", ManyLines, "2233", "/ItemList/7/SlNo", |d| set(d, "/ItemList/7/SlNo", json!("3"));
    "chapter that is none", BetweenStates, "2176", "/ItemList/0/HsnCd", |d| {
        set(d, "/ItemList/0/HsnCd", json!("770000"));
    };
    "goods called a service", BetweenStates, "2176", "/ItemList/0/HsnCd", |d| {
        set(d, "/ItemList/0/IsServc", json!("Y"));
    };
    "service called goods", Services, "2176", "/ItemList/0/HsnCd", |d| set(d, "/ItemList/0/IsServc", json!("N"));
    "goods without quantity", BetweenStates, "2238", "/ItemList/0/Qty", |d| remove(d, "/ItemList/0/Qty");
    "goods without unit", ManyLines, "2239", "/ItemList/41/Unit", |d| remove(d, "/ItemList/41/Unit");
    "unit that is none", WithinState, "2177", "/ItemList/0/Unit", |d| set(d, "/ItemList/0/Unit", json!("XYZ"));
    "no lines", BetweenStates, "2228", "/ItemList", |d| set(d, "/ItemList", json!([]));
    "1,001 lines", BetweenStates, "2173", "/ItemList", |d| {
        let line = d["ItemList"][0].clone();
        set(d, "/ItemList", Value::Array(vec![line; 1_001]));
    };
    "total taxable value", ManyLines, "2182", "/ValDtls/AssVal", |d| raise(d, "/ValDtls/AssVal");
    "total SGST", WithinState, "2183", "/ValDtls/SgstVal", |d| raise(d, "/ValDtls/SgstVal");
    "total CGST", WithinState, "2184", "/ValDtls/CgstVal", |d| raise(d, "/ValDtls/CgstVal");
    "total IGST", BetweenStates, "2185", "/ValDtls/IgstVal", |d| raise(d, "/ValDtls/IgstVal");
    "total cess", Cess, "2186", "/ValDtls/CesVal", |d| raise(d, "/ValDtls/CesVal");
    "total state cess", Cess, "2187", "/ValDtls/StCesVal", |d| raise(d, "/ValDtls/StCesVal");
    "total of charges", Charges, "2264", "/ValDtls/OthChrg", |d| raise(d, "/ValDtls/OthChrg");
    "invoice value", OptionalBlocks, "2189", "/ValDtls/TotInvVal", |d| raise(d, "/ValDtls/TotInvVal");
    "discount of everything", Charges, "2220", "/ValDtls/Discount", |d| {
        set(d, "/ValDtls/Discount", d["ValDtls"]["TotInvVal"].clone());
    };
    "date in the future", BetweenStates, "2163", "/DocDtls/Dt", |d| set(d, "/DocDtls/Dt", json!("01/01/2099"));
    "date that is none", DebitNote, "2144", "/DocDtls/Dt", |d| set(d, "/DocDtls/Dt", json!("31/02/2025"));
    "document type that is none", BetweenStates, "2161", "/DocDtls/Typ", |d| set(d, "/DocDtls/Typ", json!("BIL"));
    "number that begins with 0", BetweenStates, "5002", "/DocDtls/No", |d| set(d, "/DocDtls/No", json!("0417"));
    "no place of supply", BetweenStates, "5002", "/BuyerDtls/Pos", |d| remove(d, "/BuyerDtls/Pos");
    "no totals", BetweenStates, "5002", "/ValDtls", |d| remove(d, "/ValDtls");
    "name that is too short", BetweenStates, "5002", "/SellerDtls/LglNm", |d| set(d, "/SellerDtls/LglNm", json!("K"));
    "name with a quotation mark", BetweenStates, "5002", "/BuyerDtls/LglNm", |d| {
        set(d, "/BuyerDtls/LglNm", json!("Sahyadri \"Sample\" Traders"));
    };
    "five-digit HSN code", BetweenStates, "5002", "/ItemList/0/HsnCd", |d| set(d, "/ItemList/0/HsnCd", json!("52083"));
    "PIN code in quotation marks", BetweenStates, "5002", "/SellerDtls/Pin", |d| {
        set(d, "/SellerDtls/Pin", json!("560058"));
    };
    "negative amount", CreditNote, "5002", "/ItemList/0/Discount", |d| set(d, "/ItemList/0/Discount", json!(-0.5));
    "old version of the form", BetweenStates, "5002", "/Version", |d| set(d, "/Version", json!("1.0"));
    "optional text left empty", BetweenStates, "5002", "/SellerDtls/Em", |d| set(d, "/SellerDtls/Em", json!(""));
};
