//! The members of a document that the rules look at, typed.
//!
//! One rule: what is missing or of the wrong form is `None`, and a rule that needs it says nothing: the schema has
//! said what is wrong with it.

use std::fmt;

use jiff::civil::Date;
use rust_decimal::Decimal;

use super::tree::{Node, Object};
use crate::gstin::Gstin;
use crate::irn::{DocumentType, parse_document_date};

/// Above every limit of the form; larger numbers are no amounts, and their products would not fit.
const LARGEST: i64 = 1_000_000_000_000_000;

/// The kinds of supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Supply {
    B2b,
    SezWithPayment,
    SezWithoutPayment,
    ExportWithPayment,
    ExportWithoutPayment,
    DeemedExport,
}

impl Supply {
    fn parse(text: &str) -> Option<Self> {
        [
            ("B2B", Self::B2b),
            ("SEZWP", Self::SezWithPayment),
            ("SEZWOP", Self::SezWithoutPayment),
            ("EXPWP", Self::ExportWithPayment),
            ("EXPWOP", Self::ExportWithoutPayment),
            ("DEXP", Self::DeemedExport),
        ]
        .into_iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text))
        .map(|(_, supply)| supply)
    }

    /// As the form spells it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::B2b => "B2B",
            Self::SezWithPayment => "SEZWP",
            Self::SezWithoutPayment => "SEZWOP",
            Self::ExportWithPayment => "EXPWP",
            Self::ExportWithoutPayment => "EXPWOP",
            Self::DeemedExport => "DEXP",
        }
    }

    pub(super) fn is_sez(self) -> bool {
        matches!(self, Self::SezWithPayment | Self::SezWithoutPayment)
    }

    pub(super) fn is_export(self) -> bool {
        matches!(self, Self::ExportWithPayment | Self::ExportWithoutPayment)
    }

    /// "Without payment of tax": the rate is named, the tax is not charged.
    pub(super) fn is_untaxed(self) -> bool {
        matches!(self, Self::SezWithoutPayment | Self::ExportWithoutPayment)
    }
}

/// A party, or a place that goods leave or reach.
pub(super) struct Party<'n> {
    /// As written; `URP` for an unregistered party.
    pub(super) gstin: Option<&'n str>,
    pub(super) state: Option<u8>,
    pub(super) pin: Option<u32>,
    pub(super) has_pin: bool,
}

impl Party<'_> {
    pub(super) fn is_unregistered(&self) -> bool {
        self.gstin == Some("URP")
    }

    /// The number, when it is one of the right form.
    pub(super) fn number(&self) -> Option<Gstin> {
        self.gstin?.parse().ok()
    }
}

/// A line; absent amounts are zero.
pub(super) struct Item<'n> {
    pub(super) serial: Option<&'n str>,
    pub(super) is_service: Option<bool>,
    pub(super) hsn: Option<&'n str>,
    pub(super) unit: Option<&'n str>,
    pub(super) has_quantity: bool,
    pub(super) has_unit: bool,
    /// `None` when one of them cannot be read: then nothing can be reckoned.
    pub(super) amounts: Option<Amounts>,
}

/// The numbers of a line.
#[derive(Default)]
pub(super) struct Amounts {
    pub(super) quantity: Option<Decimal>,
    pub(super) unit_price: Decimal,
    pub(super) gross: Decimal,
    pub(super) discount: Decimal,
    pub(super) taxable: Decimal,
    pub(super) rate: Decimal,
    pub(super) igst: Decimal,
    pub(super) cgst: Decimal,
    pub(super) sgst: Decimal,
    pub(super) cess_rate: Option<Decimal>,
    pub(super) cess: Decimal,
    pub(super) cess_fixed: Decimal,
    pub(super) state_cess_rate: Option<Decimal>,
    pub(super) state_cess: Decimal,
    pub(super) state_cess_fixed: Decimal,
    pub(super) other: Decimal,
    pub(super) total: Decimal,
}

/// The totals of the document; absent ones are zero.
pub(super) struct Totals {
    pub(super) taxable: Decimal,
    pub(super) cgst: Decimal,
    pub(super) sgst: Decimal,
    pub(super) igst: Decimal,
    pub(super) cess: Decimal,
    pub(super) state_cess: Decimal,
    pub(super) discount: Decimal,
    pub(super) other: Decimal,
    pub(super) rounding: Decimal,
    pub(super) total: Decimal,
}

/// What the rules look at.
pub(super) struct Invoice<'n> {
    pub(super) root: &'n Object<'n>,
    pub(super) kind: Option<DocumentType>,
    /// As written.
    pub(super) day: Option<&'n str>,
    pub(super) date: Option<Date>,
    pub(super) supply: Option<Supply>,
    pub(super) reverse_charge: bool,
    pub(super) igst_on_intra: bool,
    pub(super) operator: Option<&'n str>,
    pub(super) seller: Party<'n>,
    pub(super) buyer: Party<'n>,
    pub(super) place_of_supply: Option<u8>,
    /// The first of them.
    pub(super) items: Option<Vec<Item<'n>>>,
    /// How many there are.
    pub(super) item_count: usize,
    pub(super) totals: Option<Totals>,
}

impl<'n> Invoice<'n> {
    /// Reads any object.
    pub(super) fn read(root: &'n Object<'n>) -> Self {
        let transaction = block(root, "TranDtls");
        let details = block(root, "DocDtls");
        let buyer = block(root, "BuyerDtls");
        let day = details.and_then(|block| text(block, "Dt"));
        let kind = details.and_then(|block| text(block, "Typ"));
        let flag = |name| transaction.and_then(|block| text(block, name)) == Some("Y");
        let list = root.get("ItemList");
        let items = list.and_then(Node::list);
        Self {
            root,
            kind: kind.and_then(|text| text.parse().ok()),
            day,
            date: day.and_then(parse_document_date),
            supply: transaction
                .and_then(|block| text(block, "SupTyp"))
                .and_then(Supply::parse),
            reverse_charge: flag("RegRev"),
            igst_on_intra: flag("IgstOnIntra"),
            operator: transaction.and_then(|block| text(block, "EcmGstin")),
            seller: Party::read(block(root, "SellerDtls")),
            buyer: Party::read(buyer),
            place_of_supply: buyer.and_then(|block| state(block, "Pos")),
            item_count: list.and_then(Node::count).unwrap_or_default(),
            items: items.map(|items| items.iter().map(Item::read).collect()),
            totals: block(root, "ValDtls").and_then(Totals::read),
        }
    }

    /// Whether all lines have been read: sums of fewer are no sums.
    pub(super) fn has_all_items(&self) -> bool {
        let read = self.items.as_ref().map_or(0, Vec::len);
        read == self.item_count
    }

    /// A block of the document, if it is there and a block.
    pub(super) fn block(&self, name: &str) -> Option<&'n Object<'n>> {
        block(self.root, name)
    }

    /// Whether seller and place of supply are in one state, so that CGST and SGST are due and no IGST. `None` where
    /// that cannot be told.
    pub(super) fn is_intra_state(&self) -> Option<bool> {
        let supply = self.supply?;
        if supply.is_sez() || supply.is_export() {
            return Some(false);
        }
        let same = self.seller.state? == self.place_of_supply?;
        Some(same && !self.igst_on_intra)
    }

    /// Whether the values may be written with the tax or without it: under reverse charge the buyer pays it, and that of an
    /// export with payment is not the buyer's to pay (NIC, generate-irn page, "validations").
    pub(super) fn may_leave_tax_out(&self) -> bool {
        self.reverse_charge || self.supply == Some(Supply::ExportWithPayment)
    }
}

impl<'n> Party<'n> {
    pub(super) fn read(object: Option<&'n Object<'n>>) -> Self {
        let pin = object.and_then(|object| object.get("Pin"));
        Self {
            gstin: object.and_then(|object| text(object, "Gstin")),
            state: object.and_then(|object| state(object, "Stcd")),
            pin: pin
                .and_then(Node::number)
                .and_then(|number| number.try_into().ok()),
            has_pin: pin.is_some(),
        }
    }
}

impl<'n> Item<'n> {
    /// Goes through the members once: a line has a score of them, and an invoice up to a thousand lines.
    fn read(node: &'n Node<'n>) -> Self {
        let mut item = Self {
            serial: None,
            is_service: None,
            hsn: None,
            unit: None,
            has_quantity: false,
            has_unit: false,
            amounts: None,
        };
        let mut amounts = Reading::default();
        for (name, node) in node.object().into_iter().flat_map(Object::iter) {
            match name {
                "SlNo" => item.serial = node.text(),
                "HsnCd" => item.hsn = node.text(),
                "IsServc" => {
                    item.is_service = match node.text() {
                        Some("Y") => Some(true),
                        Some("N") => Some(false),
                        Some(_) | None => None,
                    }
                }
                "Unit" => {
                    item.unit = node.text();
                    item.has_unit = true;
                }
                name => {
                    item.has_quantity |= name == "Qty";
                    amounts.read(name, node);
                }
            }
        }
        item.amounts = amounts.read_all();
        item
    }
}

/// The amounts of a line that is being read.
#[derive(Default)]
struct Reading {
    amounts: Amounts,
    /// Those that every line must have.
    unit_price: Option<Decimal>,
    gross: Option<Decimal>,
    taxable: Option<Decimal>,
    rate: Option<Decimal>,
    total: Option<Decimal>,
    /// One of them is no amount.
    failed: bool,
}

impl Reading {
    fn read(&mut self, name: &str, node: &Node<'_>) {
        let amounts = &mut self.amounts;
        let place = match name {
            "Qty" => amounts.quantity.insert(Decimal::ZERO),
            "UnitPrice" => self.unit_price.insert(Decimal::ZERO),
            "TotAmt" => self.gross.insert(Decimal::ZERO),
            "Discount" => &mut amounts.discount,
            "AssAmt" => self.taxable.insert(Decimal::ZERO),
            "GstRt" => self.rate.insert(Decimal::ZERO),
            "IgstAmt" => &mut amounts.igst,
            "CgstAmt" => &mut amounts.cgst,
            "SgstAmt" => &mut amounts.sgst,
            "CesRt" => amounts.cess_rate.insert(Decimal::ZERO),
            "CesAmt" => &mut amounts.cess,
            "CesNonAdvlAmt" => &mut amounts.cess_fixed,
            "StateCesRt" => amounts.state_cess_rate.insert(Decimal::ZERO),
            "StateCesAmt" => &mut amounts.state_cess,
            "StateCesNonAdvlAmt" => &mut amounts.state_cess_fixed,
            "OthChrg" => &mut amounts.other,
            "TotItemVal" => self.total.insert(Decimal::ZERO),
            _ => return,
        };
        match amount_of(node) {
            Some(amount) => *place = amount,
            None => self.failed = true,
        }
    }

    /// `None` where one is missing, or cannot be read.
    fn read_all(self) -> Option<Amounts> {
        if self.failed {
            return None;
        }
        Some(Amounts {
            unit_price: self.unit_price?,
            gross: self.gross?,
            taxable: self.taxable?,
            rate: self.rate?,
            total: self.total?,
            ..self.amounts
        })
    }
}

impl Amounts {
    /// All taxes that are written, cesses not among them.
    pub(super) fn tax(&self) -> Decimal {
        self.igst + self.cgst + self.sgst
    }

    /// All cesses that are written.
    pub(super) fn cesses(&self) -> Decimal {
        self.cess + self.cess_fixed + self.state_cess + self.state_cess_fixed
    }
}

impl Totals {
    fn read(object: &Object<'_>) -> Option<Self> {
        let must = |name| amount(object, name).flatten();
        let or_zero = |name| amount(object, name).map(Option::unwrap_or_default);
        Some(Self {
            taxable: must("AssVal")?,
            cgst: or_zero("CgstVal")?,
            sgst: or_zero("SgstVal")?,
            igst: or_zero("IgstVal")?,
            cess: or_zero("CesVal")?,
            state_cess: or_zero("StCesVal")?,
            discount: or_zero("Discount")?,
            other: or_zero("OthChrg")?,
            rounding: or_zero("RndOffAmt")?,
            total: must("TotInvVal")?,
        })
    }

    /// All taxes and cesses.
    pub(super) fn taxes(&self) -> Decimal {
        self.cgst + self.sgst + self.igst + self.cess + self.state_cess
    }
}

/// `Some(None)` when absent, `None` when it is there and no amount.
fn amount(object: &Object<'_>, name: &str) -> Option<Option<Decimal>> {
    match object.get(name) {
        Some(node) => amount_of(node).map(Some),
        None => Some(None),
    }
}

fn amount_of(node: &Node<'_>) -> Option<Decimal> {
    let number = node.number()?;
    // Its digits without the point are more than it is: nearly always enough to know, and quicker than to compare.
    let is_amount = number.mantissa().unsigned_abs() <= u128::from(LARGEST.unsigned_abs())
        || number.abs() <= Decimal::from(LARGEST);
    is_amount.then_some(number)
}

/// A block of an object, if it is there and a block.
pub(super) fn block<'n>(object: &'n Object<'n>, name: &str) -> Option<&'n Object<'n>> {
    object.get(name).and_then(Node::object)
}

/// A text of an object; a number's digits where there should be quotation marks.
pub(super) fn text<'n>(object: &'n Object<'n>, name: &str) -> Option<&'n str> {
    object.get(name).and_then(Node::text)
}

fn state(object: &Object<'_>, name: &str) -> Option<u8> {
    let code = text(object, name)?;
    let has_form = matches!(code.len(), 1 | 2) && code.bytes().all(|byte| byte.is_ascii_digit());
    has_form.then(|| code.parse().ok()).flatten()
}

/// An amount to be written without needless zeros.
#[derive(Clone, Copy)]
pub(super) struct Shown(Decimal);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.normalize().fmt(f)
    }
}

/// An amount without needless zeros, for a sentence.
pub(super) fn shown(amount: Decimal) -> Shown {
    Shown(amount)
}
