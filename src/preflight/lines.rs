//! The lines of a document: goods and services, what they cost, and which taxes are due on them.
//!
//! One rule: a line is reckoned in decimals and judged to one rupee, as the portal does it.

use std::collections::HashMap;

use rust_decimal::Decimal;

use super::Around;
use super::findings::{Findings, Severity};
use super::invoice::{Amounts, Invoice, Item, Supply, shown};
use super::rules::{Fit, Rules};
use super::tree::MAX_ELEMENTS;
use crate::irn::DocumentType;

/// More lines than this are refused (NIC, generate-irn page).
const MAX_ITEMS: usize = MAX_ELEMENTS;

/// The chapter of the tariff that holds the services.
const SERVICES: u32 = 99;

/// A line in its document.
struct Line<'a> {
    invoice: &'a Invoice<'a>,
    item: &'a Item<'a>,
    index: usize,
    /// The document has goods whose tax may be reckoned on their retail price: of none of its lines the portal checks the
    /// tax then (NIC, note on tobacco and pan masala, January 2026).
    is_taxed_otherwise: bool,
}

impl Line<'_> {
    fn at(&self, name: &str) -> String {
        format!("/ItemList/{}/{name}", self.index)
    }

    /// `line 4: ` and the sentence.
    fn says(&self, sentence: impl std::fmt::Display) -> String {
        format!("line {}: {sentence}", self.index + 1)
    }
}

/// Notes everything that is wrong with the list and its lines.
pub(super) fn check(invoice: &Invoice<'_>, around: &Around<'_>, findings: &mut Findings<'_>) {
    let Some(items) = &invoice.items else { return };
    check_count(invoice.item_count, findings);
    check_serials(items, findings);
    let is_on_retail_price = |hsn: &str| around.rules.is_taxed_on_retail_price(hsn);
    let is_taxed_otherwise = items
        .iter()
        .any(|item| item.hsn.is_some_and(is_on_retail_price));
    for (index, item) in items.iter().enumerate() {
        let line = Line {
            invoice,
            item,
            index,
            is_taxed_otherwise,
        };
        check_goods(&line, around.rules, findings);
        if let Some(amounts) = &item.amounts {
            check_price(&line, amounts, findings);
            check_taxes(&line, amounts, around.rules, findings);
            check_value(&line, amounts, findings);
        }
    }
}

fn check_count(count: usize, findings: &mut Findings<'_>) {
    if count == 0 {
        findings.error("2228", "/ItemList", "the invoice has no lines");
    }
    if count > MAX_ITEMS {
        let message =
            format!("the invoice has {count} lines; the portal takes {MAX_ITEMS}, so split it");
        findings.error("2173", "/ItemList", message);
    }
}

/// Whether they are numbered upwards, as nearly all lists are: then none is numbered as another.
fn are_numbered_upwards(items: &[Item<'_>]) -> bool {
    let mut last = None;
    items.iter().all(|item| {
        let before = last;
        last = item.serial.and_then(|serial| serial.parse::<u32>().ok());
        last.is_some() && before < last
    })
}

fn check_serials(items: &[Item<'_>], findings: &mut Findings<'_>) {
    if are_numbered_upwards(items) {
        return;
    }
    let mut texts: HashMap<&str, usize> = HashMap::with_capacity(items.len());
    let mut numbers: HashMap<&str, usize> = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Some(serial) = item.serial else { continue };
        let same_text = *texts.entry(serial).or_insert(index);
        let digits = serial.trim_start_matches('0');
        let same_number = *numbers.entry(digits).or_insert(index);
        let (first, severity) = if same_text < index {
            (same_text, Severity::Error)
        } else if same_number < index {
            (same_number, Severity::Warning)
        } else {
            continue;
        };
        let pointer = format!("/ItemList/{index}/SlNo");
        let message = format!(
            "line {}: its number {serial} is that of line {} too",
            index + 1,
            first + 1
        );
        findings.note(severity, "2233", pointer, message);
    }
}

fn check_goods(line: &Line<'_>, rules: &Rules, findings: &mut Findings<'_>) {
    let item = line.item;
    check_hsn(line, findings);
    let Some(is_service) = item.is_service else {
        return;
    };
    if !is_service && !item.has_quantity {
        findings.error("2238", line.at("Qty"), line.says("goods need a quantity"));
    }
    if !is_service && !item.has_unit {
        findings.error(
            "2239",
            line.at("Unit"),
            line.says("goods need a unit, for example NOS"),
        );
    }
    if let Some(unit) = item.unit.filter(|unit| !rules.is_unit(unit)) {
        let message = line.says(format_args!("{unit} is no unit code that the portal lists"));
        if is_service {
            findings.warning("2177", line.at("Unit"), message);
        } else {
            findings.error("2177", line.at("Unit"), message);
        }
    }
}

fn check_hsn(line: &Line<'_>, findings: &mut Findings<'_>) {
    let Some(hsn) = line.item.hsn else { return };
    let Some(chapter) = hsn.get(..2).and_then(|digits| digits.parse::<u32>().ok()) else {
        return;
    };
    if !matches!(chapter, 1..=76 | 78..=99) {
        let message = line.says(format_args!(
            "there is no chapter {chapter:02} in the tariff; check the HSN code"
        ));
        return findings.error("2176", line.at("HsnCd"), message);
    }
    match (chapter == SERVICES, line.item.is_service) {
        (true, Some(false)) => findings.error(
            "2176",
            line.at("HsnCd"),
            line.says(
                "HSN codes that begin with 99 are services: set IsServc to Y, or correct the code",
            ),
        ),
        (false, Some(true)) => findings.error(
            "2176",
            line.at("HsnCd"),
            line.says(
                "the HSN code of a service begins with 99: set IsServc to N, or correct the code",
            ),
        ),
        (true, Some(true)) | (false, Some(false)) | (_, None) => {}
    }
}

/// Whether an amount differs from what is due by more than rounding: one rupee, reckoned from the whole rupees around what is
/// due (NIC's example: of 2345.04 everything from 2344.00 to 2347.00 is taken).
fn differs(amount: Decimal, due: Decimal) -> bool {
    amount < due.floor() - Decimal::ONE || amount > due.ceil() + Decimal::ONE
}

/// Whether two amounts that should be equal differ by more than a rupee.
fn are_unequal(left: Decimal, right: Decimal) -> bool {
    (left - right).abs() > Decimal::ONE
}

/// By how much the product of quantity and price may differ from what was sold, because each was rounded before it was
/// written: prices to two decimals or three, quantities not at all, or to two or three. NIC is said to have given this check up.
fn rounded_away(quantity: Decimal, price: Decimal) -> Option<Decimal> {
    let half = |digits: u32| Decimal::new(5, digits + 1);
    let of_price = half(if price.scale() < 3 { 2 } else { 3 });
    let of_quantity = match quantity.scale() {
        0 | 1 => Decimal::ZERO,
        digits => half(digits.min(3)),
    };
    quantity
        .checked_mul(of_price)?
        .checked_add(price.checked_mul(of_quantity)?)
}

fn check_price(line: &Line<'_>, amounts: &Amounts, findings: &mut Findings<'_>) {
    if let Some(quantity) = amounts.quantity
        && let Some(gross) = quantity.checked_mul(amounts.unit_price)
        && let Some(rounded) = rounded_away(quantity, amounts.unit_price)
        && (amounts.gross - gross).abs() > Decimal::ONE + rounded
    {
        let message = line.says(format_args!(
            "quantity {} at {} is {}, but TotAmt is {}",
            shown(quantity),
            shown(amounts.unit_price),
            shown(gross),
            shown(amounts.gross)
        ));
        // A service has no quantity; some write zero.
        if quantity.is_zero() && line.item.is_service == Some(true) {
            findings.warning("2192", line.at("TotAmt"), message);
        } else {
            findings.error("2192", line.at("TotAmt"), message);
        }
    }
    let taxable = amounts.gross - amounts.discount;
    if differs(amounts.taxable, taxable) {
        let message = line.says(format_args!(
            "TotAmt {} less discount {} is {}, but AssAmt is {}",
            shown(amounts.gross),
            shown(amounts.discount),
            shown(taxable),
            shown(amounts.taxable)
        ));
        findings.error("2193", line.at("AssAmt"), message);
    }
}

fn check_taxes(line: &Line<'_>, amounts: &Amounts, rules: &Rules, findings: &mut Findings<'_>) {
    let rate = shown(amounts.rate);
    match rules.tax_rate(amounts.rate, line.invoice.date) {
        Fit::Good => {}
        Fit::Doubtful => {
            let message = line.says(format_args!(
                "the rate {rate} % was not in force on the date of the document"
            ));
            findings.warning("2240", line.at("GstRt"), message);
        }
        Fit::Wrong => {
            let message = line.says(format_args!("{rate} % is no rate of GST"));
            findings.error("2240", line.at("GstRt"), message);
        }
    }
    let (Some(supply), Some(is_intra)) = (line.invoice.supply, line.invoice.is_intra_state())
    else {
        return;
    };
    let is_of_its_kind = if is_intra {
        check_halves(line, amounts, findings)
    } else {
        check_integrated(line, amounts, supply, findings)
    };
    if is_of_its_kind {
        check_rates(line, amounts, supply, is_intra, findings);
    }
}

/// Within a state: CGST and SGST, equal, and no IGST. Whether the right taxes are there at all.
fn check_halves(line: &Line<'_>, amounts: &Amounts, findings: &mut Findings<'_>) -> bool {
    if !amounts.igst.is_zero() {
        let message = line
            .says("seller and place of supply are in one state: CGST and SGST are due, not IGST");
        findings.error("2172", line.at("IgstAmt"), message);
    }
    if are_unequal(amounts.cgst, amounts.sgst) {
        let message = line.says(format_args!(
            "CGST {} and SGST {} must be equal",
            shown(amounts.cgst),
            shown(amounts.sgst)
        ));
        findings.error("2227", line.at("SgstAmt"), message);
    }
    amounts.igst.is_zero()
}

/// Between states, for SEZ and export: IGST alone.
fn check_integrated(
    line: &Line<'_>,
    amounts: &Amounts,
    supply: Supply,
    findings: &mut Findings<'_>,
) -> bool {
    let name = match (amounts.cgst.is_zero(), amounts.sgst.is_zero()) {
        (true, true) => return true,
        (false, _) => "CgstAmt",
        (true, false) => "SgstAmt",
    };
    let (code, why) = if supply.is_export() {
        ("2180", "an export bears IGST")
    } else if supply.is_sez() {
        ("2237", "a supply to a special economic zone bears IGST")
    } else if line.invoice.igst_on_intra {
        (
            "2174",
            "the document asks for IGST within the state (IgstOnIntra)",
        )
    } else {
        (
            "2174",
            "seller and place of supply are in different states: IGST is due",
        )
    };
    let message = line.says(format_args!("{why}, not CGST and SGST"));
    findings.error(code, line.at(name), message);
    false
}

/// Whether the tax follows from rate and taxable amount.
fn check_rates(
    line: &Line<'_>,
    amounts: &Amounts,
    supply: Supply,
    is_intra: bool,
    findings: &mut Findings<'_>,
) {
    // Notes correct amounts, so their tax need not follow from the rate.
    if line.invoice.kind != Some(DocumentType::Invoice) {
        return;
    }
    if supply.is_untaxed() {
        if !amounts.tax().is_zero() {
            let message = line.says(format_args!(
                "{} is without payment of tax, but tax is written",
                supply.as_str()
            ));
            findings.warning("2235", line.at("IgstAmt"), message);
        }
        return;
    }
    let percent = |rate: Decimal| Some(amounts.taxable.checked_mul(rate)? / Decimal::ONE_HUNDRED);
    let Some(tax) = percent(amounts.rate) else {
        return;
    };
    let wrong = wrong_tax(amounts, tax, is_intra);
    if let Some((code, name, sentence)) = wrong {
        let message = line.says(sentence);
        // The buyer pays it under reverse charge, and not every seller writes it; tobacco is taxed by another value.
        let unwritten = line.invoice.reverse_charge && amounts.tax().is_zero();
        if unwritten || line.is_taxed_otherwise {
            findings.warning(code, line.at(name), message);
        } else {
            findings.error(code, line.at(name), message);
        }
    }
    check_cesses(line, amounts, percent, findings);
}

fn wrong_tax(
    amounts: &Amounts,
    tax: Decimal,
    is_intra: bool,
) -> Option<(&'static str, &'static str, String)> {
    let (rate, taxable) = (shown(amounts.rate), shown(amounts.taxable));
    if !is_intra {
        return differs(amounts.igst, tax).then(|| {
            let sentence = format!(
                "{rate} % of {taxable} is {}, but IGST is {}",
                shown(tax),
                shown(amounts.igst)
            );
            ("2235", "IgstAmt", sentence)
        });
    }
    let half = tax / Decimal::TWO;
    if amounts.cgst.is_zero() && amounts.sgst.is_zero() && half > Decimal::ONE {
        let sentence = format!(
            "CGST and SGST of {} each are due within a state",
            shown(half)
        );
        return Some(("2241", "CgstAmt", sentence));
    }
    let halves = [
        ("CgstAmt", "CGST", amounts.cgst),
        ("SgstAmt", "SGST", amounts.sgst),
    ];
    let (name, title, amount) = halves
        .into_iter()
        .find(|(_, _, amount)| differs(*amount, half))?;
    let sentence = format!(
        "half of {rate} % of {taxable} is {}, but {title} is {}",
        shown(half),
        shown(amount)
    );
    Some(("2234", name, sentence))
}

fn check_cesses(
    line: &Line<'_>,
    amounts: &Amounts,
    percent: impl Fn(Decimal) -> Option<Decimal>,
    findings: &mut Findings<'_>,
) {
    let cesses = [
        ("2266", "CesAmt", "cess", amounts.cess_rate, amounts.cess),
        (
            "2267",
            "StateCesAmt",
            "state cess",
            amounts.state_cess_rate,
            amounts.state_cess,
        ),
    ];
    for (code, name, title, rate, amount) in cesses {
        let Some((rate, due)) = rate.and_then(|rate| Some((rate, percent(rate)?))) else {
            continue;
        };
        if !differs(amount, due) {
            continue;
        }
        let message = line.says(format_args!(
            "{} % of {} is {}, but the {title} is {}",
            shown(rate),
            shown(amounts.taxable),
            shown(due),
            shown(amount)
        ));
        if line.invoice.reverse_charge && amount.is_zero() || line.is_taxed_otherwise {
            findings.warning(code, line.at(name), message);
        } else {
            findings.error(code, line.at(name), message);
        }
    }
}

fn check_value(line: &Line<'_>, amounts: &Amounts, findings: &mut Findings<'_>) {
    let without_tax = amounts.taxable + amounts.other;
    let value = without_tax + amounts.tax() + amounts.cesses();
    let is_taxable_value = line.invoice.may_leave_tax_out() && !differs(amounts.total, without_tax);
    if differs(amounts.total, value) && !is_taxable_value {
        let message = line.says(format_args!(
            "taxable amount, taxes, cesses and other charges make {}, but TotItemVal is {}",
            shown(value),
            shown(amounts.total)
        ));
        if line.is_taxed_otherwise {
            findings.warning("2194", line.at("TotItemVal"), message);
        } else {
            findings.error("2194", line.at("TotItemVal"), message);
        }
    }
}
