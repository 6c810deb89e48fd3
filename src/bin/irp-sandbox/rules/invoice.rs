//! A typed reading of an INV-01 document whose form has been checked: what the rules and the registry look at.

use jiff::civil::Date;
use rust_decimal::Decimal;

use super::masters::state;
use crate::clock::parse_day;
use crate::node::Node;

/// One party's place and number.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) gstin: String,
    pub(crate) state: u32,
    pub(crate) pin: Option<u32>,
}

/// The kinds of supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supply {
    B2b,
    SezWithPayment,
    SezWithoutPayment,
    ExportWithPayment,
    ExportWithoutPayment,
    DeemedExport,
}

impl Supply {
    fn parse(text: &str) -> Self {
        match text.to_ascii_uppercase().as_str() {
            "SEZWP" => Self::SezWithPayment,
            "SEZWOP" => Self::SezWithoutPayment,
            "EXPWP" => Self::ExportWithPayment,
            "EXPWOP" => Self::ExportWithoutPayment,
            "DEXP" => Self::DeemedExport,
            _ => Self::B2b,
        }
    }

    pub(crate) fn is_sez(self) -> bool {
        matches!(self, Self::SezWithPayment | Self::SezWithoutPayment)
    }

    pub(crate) fn is_export(self) -> bool {
        matches!(self, Self::ExportWithPayment | Self::ExportWithoutPayment)
    }

    /// "Without payment of tax": the rate is named, the tax is not charged.
    pub(crate) fn is_untaxed(self) -> bool {
        matches!(self, Self::SezWithoutPayment | Self::ExportWithoutPayment)
    }
}

/// One line; absent amounts are zero.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) serial: String,
    pub(crate) is_service: bool,
    pub(crate) hsn: String,
    pub(crate) unit: Option<String>,
    pub(crate) quantity: Option<Decimal>,
    pub(crate) unit_price: Decimal,
    pub(crate) gross: Decimal,
    pub(crate) discount: Decimal,
    pub(crate) taxable: Decimal,
    pub(crate) rate: Decimal,
    pub(crate) igst: Decimal,
    pub(crate) cgst: Decimal,
    pub(crate) sgst: Decimal,
    pub(crate) cess_rate: Option<Decimal>,
    pub(crate) cess: Decimal,
    pub(crate) cess_fixed: Decimal,
    pub(crate) state_cess_rate: Option<Decimal>,
    pub(crate) state_cess: Decimal,
    pub(crate) state_cess_fixed: Decimal,
    pub(crate) other: Decimal,
    pub(crate) total: Decimal,
}

/// The document's totals; absent ones are zero.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) taxable: Decimal,
    pub(crate) cgst: Decimal,
    pub(crate) sgst: Decimal,
    pub(crate) igst: Decimal,
    pub(crate) cess: Decimal,
    pub(crate) state_cess: Decimal,
    pub(crate) discount: Decimal,
    pub(crate) other: Decimal,
    pub(crate) round_off: Decimal,
    pub(crate) total: Decimal,
}

/// What a document is called: enough to count it, whatever else is wrong with it.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) seller: String,
    /// Upper case.
    pub(crate) typ: String,
    /// As sent.
    pub(crate) number: String,
    pub(crate) date: Option<Date>,
}

impl Name {
    /// Reads it from any JSON; `None` when there is no number.
    pub(crate) fn read(node: &Node<'_>) -> Option<Self> {
        let document = node.get("DocDtls")?;
        Some(Self {
            seller: node
                .get("SellerDtls")
                .map(|seller| text(seller, "Gstin"))
                .unwrap_or_default(),
            typ: text(document, "Typ").to_ascii_uppercase(),
            number: document
                .text("No")
                .filter(|number| !number.is_empty())?
                .to_owned(),
            date: document.text("Dt").and_then(parse_day),
        })
    }
}

/// What the rules look at.
#[derive(Debug)]
pub(crate) struct Invoice {
    /// Upper case.
    pub(crate) typ: String,
    /// As sent.
    pub(crate) number: String,
    /// As sent, `dd/mm/yyyy`.
    pub(crate) day: String,
    /// The day, unless the calendar has no such day.
    pub(crate) date: Option<Date>,
    pub(crate) supply: Supply,
    pub(crate) reverse_charge: bool,
    pub(crate) igst_on_intra: bool,
    pub(crate) ecommerce: Option<String>,
    pub(crate) seller: Party,
    pub(crate) buyer: Party,
    pub(crate) place_of_supply: u32,
    pub(crate) dispatch: Option<(u32, u32)>,
    pub(crate) ship: Option<(u32, u32)>,
    pub(crate) country: Option<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) totals: Totals,
}

impl Invoice {
    /// Reads a document; members whose form is wrong read as empty, so check the form first.
    pub(crate) fn read(node: &Node<'_>) -> Self {
        let empty = Node::Null;
        let block = |name| node.get(name).unwrap_or(&empty);
        let (transaction, document, values) =
            (block("TranDtls"), block("DocDtls"), block("ValDtls"));
        let day = text(document, "Dt");
        Self {
            typ: text(document, "Typ").to_ascii_uppercase(),
            number: text(document, "No"),
            date: parse_day(&day),
            day,
            supply: Supply::parse(&text(transaction, "SupTyp")),
            reverse_charge: transaction.text("RegRev") == Some("Y"),
            igst_on_intra: transaction.text("IgstOnIntra") == Some("Y"),
            ecommerce: transaction.text("EcmGstin").map(str::to_owned),
            seller: Party::read(block("SellerDtls")),
            buyer: Party::read(block("BuyerDtls")),
            place_of_supply: code(block("BuyerDtls"), "Pos"),
            dispatch: node.get("DispDtls").map(place),
            ship: node.get("ShipDtls").map(place),
            country: block("ExpDtls").text("CntCode").map(str::to_owned),
            items: node.list("ItemList").iter().map(Item::read).collect(),
            totals: Totals::read(values),
        }
    }

    /// Whether the supply stays in the seller's state: then CGST and SGST are due, else IGST.
    pub(crate) fn is_intra_state(&self) -> bool {
        let same_state = self.seller.state == self.place_of_supply;
        same_state && !self.igst_on_intra && !self.supply.is_sez() && !self.supply.is_export()
    }

    /// Whether the values may be written with the tax or without it, which the buyer pays to the state, or nobody.
    pub(crate) fn may_leave_tax_out(&self) -> bool {
        self.reverse_charge || self.supply == Supply::ExportWithPayment
    }

    /// The HSN code of the line with the highest taxable value, as the signed QR code shows it.
    pub(crate) fn main_hsn(&self) -> &str {
        let mut best: Option<&Item> = None;
        for item in &self.items {
            if best.is_none_or(|best| item.taxable > best.taxable) {
                best = Some(item);
            }
        }
        best.map_or("", |item| &item.hsn)
    }
}

impl Party {
    fn read(node: &Node<'_>) -> Self {
        let pin = node.get("Pin").is_some().then(|| whole(node, "Pin"));
        Self {
            gstin: text(node, "Gstin"),
            state: code(node, "Stcd"),
            pin,
        }
    }
}

impl Item {
    fn read(node: &Node<'_>) -> Self {
        let money = |name| node.decimal(name).unwrap_or_default();
        Self {
            serial: text(node, "SlNo"),
            is_service: node.text("IsServc") == Some("Y"),
            hsn: text(node, "HsnCd"),
            unit: node.text("Unit").map(str::to_owned),
            quantity: node.decimal("Qty"),
            unit_price: money("UnitPrice"),
            gross: money("TotAmt"),
            discount: money("Discount"),
            taxable: money("AssAmt"),
            rate: money("GstRt"),
            igst: money("IgstAmt"),
            cgst: money("CgstAmt"),
            sgst: money("SgstAmt"),
            cess_rate: node.decimal("CesRt"),
            cess: money("CesAmt"),
            cess_fixed: money("CesNonAdvlAmt"),
            state_cess_rate: node.decimal("StateCesRt"),
            state_cess: money("StateCesAmt"),
            state_cess_fixed: money("StateCesNonAdvlAmt"),
            other: money("OthChrg"),
            total: money("TotItemVal"),
        }
    }
}

impl Totals {
    fn read(node: &Node<'_>) -> Self {
        let money = |name| node.decimal(name).unwrap_or_default();
        Self {
            taxable: money("AssVal"),
            cgst: money("CgstVal"),
            sgst: money("SgstVal"),
            igst: money("IgstVal"),
            cess: money("CesVal"),
            state_cess: money("StCesVal"),
            discount: money("Discount"),
            other: money("OthChrg"),
            round_off: money("RndOffAmt"),
            total: money("TotInvVal"),
        }
    }
}

fn text(node: &Node<'_>, name: &str) -> String {
    node.text(name).unwrap_or_default().to_owned()
}

fn code(node: &Node<'_>, name: &str) -> u32 {
    node.text(name).and_then(state).unwrap_or_default()
}

fn whole(node: &Node<'_>, name: &str) -> u32 {
    node.decimal(name)
        .and_then(|number| number.try_into().ok())
        .unwrap_or_default()
}

fn place(node: &Node<'_>) -> (u32, u32) {
    (whole(node, "Pin"), code(node, "Stcd"))
}
