//! Quantities, taxes and totals: every amount the portal recomputes, in decimal arithmetic, to one rupee
//! (NIC, generate-irn page, "validations").

use std::collections::HashSet;

use rust_decimal::Decimal;

use super::invoice::{Invoice, Item};
use super::{Findings, differs, masters};

/// More lines than this are refused.
const MAX_ITEMS: usize = 1_000;

/// Notes everything that does not add up.
pub(crate) fn check(invoice: &Invoice, findings: &mut Findings) {
    check_list(invoice, findings);
    for item in &invoice.items {
        check_item(invoice, item, findings);
    }
    check_totals(invoice, findings);
}

fn check_list(invoice: &Invoice, findings: &mut Findings) {
    findings.note(invoice.items.is_empty(), "2228", || {
        "Item list cannot be empty".to_owned()
    });
    findings.note(invoice.items.len() > MAX_ITEMS, "2173", || {
        format!("The document has exceeded the limit of {MAX_ITEMS} items")
    });
    let mut seen = HashSet::new();
    let repeated = invoice
        .items
        .iter()
        .find(|item| !seen.insert(item.serial.as_str()));
    findings.note(repeated.is_some(), "2233", || {
        "Duplicate SI nos are not allowed in items".to_owned()
    });
}

fn check_item(invoice: &Invoice, item: &Item, findings: &mut Findings) {
    let line = &item.serial;
    check_goods(item, findings);
    if let Some(quantity) = item.quantity {
        // Saturation beyond 28 digits is a difference all the same.
        let gross = quantity.saturating_mul(item.unit_price);
        let room = Decimal::ONE + rounded_away(quantity, item.unit_price);
        findings.note((item.gross - gross).abs() > room, "2192", || {
            format!("Item {line}: TotAmt should be equal to Qty * UnitPrice")
        });
    }
    findings.note(
        differs(item.taxable, item.gross - item.discount),
        "2193",
        || format!("Item {line}: AssAmt should be equal to TotAmt - Discount"),
    );
    check_tax(invoice, item, findings);
    let taxes = item.igst + item.cgst + item.sgst;
    let cesses = item.cess + item.cess_fixed + item.state_cess + item.state_cess_fixed;
    let total = item.taxable + taxes + cesses + item.other;
    let without_tax =
        invoice.may_leave_tax_out() && !differs(item.total, item.taxable + item.other);
    findings.note(differs(item.total, total) && !without_tax, "2194", || {
        format!(
            "Item {line}: Invalid total item value for HSN - {}",
            item.hsn
        )
    });
}

/// What rounding takes from the product of a quantity and a price, each of which was rounded before it was written.
fn rounded_away(quantity: Decimal, price: Decimal) -> Decimal {
    let half = |digits: u32| Decimal::new(5, digits.min(3) + 1);
    let of_quantity = if quantity.scale() < 2 {
        Decimal::ZERO
    } else {
        half(quantity.scale())
    };
    let of_price = half(price.scale().max(2));
    let room = quantity.saturating_mul(of_price);
    room.saturating_add(price.saturating_mul(of_quantity))
}

fn check_goods(item: &Item, findings: &mut Findings) {
    let (line, hsn) = (&item.serial, &item.hsn);
    let agrees = masters::is_chapter(hsn) && hsn.starts_with("99") == item.is_service;
    findings.note(!agrees, "2176", || {
        format!("Item {line}: Invalid HSN code(s) - {hsn}")
    });
    let unit = item.unit.as_deref();
    findings.note(!item.is_service && item.quantity.is_none(), "2238", || {
        format!("Item {line}: Quantity is required for HSN {hsn}")
    });
    findings.note(!item.is_service && unit.is_none(), "2239", || {
        format!("Item {line}: Unit is required for HSN {hsn}")
    });
    let unknown = unit.is_some_and(|unit| !masters::is_unit(unit));
    findings.note(unknown, "2177", || {
        format!(
            "Item {line}: Invalid item unit code(s) - {}",
            unit.unwrap_or_default()
        )
    });
    findings.note(!masters::is_rate(item.rate), "2240", || {
        format!("Item {line}: Invalid GST rate {} for HSN {hsn}", item.rate)
    });
}

fn check_tax(invoice: &Invoice, item: &Item, findings: &mut Findings) {
    let (line, hsn) = (&item.serial, &item.hsn);
    let has_halves = !(item.cgst.is_zero() && item.sgst.is_zero());
    if invoice.is_intra_state() {
        findings.note(!item.igst.is_zero(), "2172", || {
            format!("Item {line}: for intra-state transaction IGST amounts are not applicable, only CGST and SGST")
        });
        let unequal = (item.cgst - item.sgst).abs() > Decimal::ONE;
        findings.note(unequal, "2227", || {
            format!("Item {line}: SGST and CGST amounts should be equal for HSN {hsn}")
        });
    } else {
        let code = match () {
            () if invoice.supply.is_export() => "2180",
            () if invoice.supply.is_sez() => "2237",
            () => "2174",
        };
        findings.note(has_halves, code, || {
            format!("Item {line}: CGST and SGST amounts are not applicable for this transaction, only IGST")
        });
    }
    // Notes correct amounts, so their tax need not follow from the rate; without payment there is none.
    if invoice.typ == "INV" && !invoice.supply.is_untaxed() {
        check_rates(invoice, item, has_halves, findings);
    }
}

fn check_rates(invoice: &Invoice, item: &Item, has_halves: bool, findings: &mut Findings) {
    let (line, hsn) = (&item.serial, &item.hsn);
    let percent = |rate: Decimal| item.taxable.saturating_mul(rate) / Decimal::ONE_HUNDRED;
    let tax = percent(item.rate);
    if invoice.is_intra_state() {
        let half = tax / Decimal::TWO;
        let missing = !has_halves && half > Decimal::ONE;
        findings.note(missing, "2241", || {
            format!("Item {line}: CGST and SGST amounts are required for intra-state transaction")
        });
        let wrong = !missing && (differs(item.cgst, half) || differs(item.sgst, half));
        findings.note(wrong, "2234", || {
            format!("Item {line}: Invalid CGST and SGST amounts for HSN {hsn}")
        });
    } else {
        findings.note(differs(item.igst, tax), "2235", || {
            format!("Item {line}: Invalid IGST amount for HSN {hsn}")
        });
    }
    let cess = item
        .cess_rate
        .is_some_and(|rate| differs(item.cess, percent(rate)));
    findings.note(cess, "2266", || {
        format!("Item {line}: Cess amount is invalid for HSN {hsn}")
    });
    let state = item
        .state_cess_rate
        .is_some_and(|rate| differs(item.state_cess, percent(rate)));
    findings.note(state, "2267", || {
        format!("Item {line}: State cess amount is invalid for HSN {hsn}")
    });
}

fn check_totals(invoice: &Invoice, findings: &mut Findings) {
    let totals = &invoice.totals;
    let sum = |part: fn(&Item) -> Decimal| invoice.items.iter().map(part).sum::<Decimal>();
    let sums = [
        (
            totals.taxable,
            sum(|item| item.taxable),
            "2182",
            "taxable value",
        ),
        (totals.sgst, sum(|item| item.sgst), "2183", "SGST value"),
        (totals.cgst, sum(|item| item.cgst), "2184", "CGST value"),
        (totals.igst, sum(|item| item.igst), "2185", "IGST value"),
        (
            totals.cess,
            sum(|item| item.cess + item.cess_fixed),
            "2186",
            "cess value",
        ),
        (
            totals.state_cess,
            sum(|item| item.state_cess + item.state_cess_fixed),
            "2187",
            "state cess value",
        ),
    ];
    for (total, sum, code, what) in sums {
        findings.note(differs(total, sum), code, || {
            format!("The {what} of all items should be equal to the total {what}")
        });
    }
    let charges = sum(|item| item.other);
    // Some write the charges of the lines there alone.
    let is_theirs_alone = totals.other.is_zero();
    let wrong = !charges.is_zero() && !is_theirs_alone && differs(charges, totals.other);
    findings.note(wrong, "2264", || {
        "The sum of other charges of all items should be equal to the other charges of the document".to_owned()
    });
    let fixed = totals.other - totals.discount + totals.round_off;
    let taxes = totals.cgst + totals.sgst + totals.igst + totals.cess + totals.state_cess;
    let value = totals.taxable + taxes + fixed;
    let without_tax = invoice.may_leave_tax_out() && !differs(totals.total, totals.taxable + fixed);
    let with_charges = is_theirs_alone && !differs(totals.total, value + charges);
    findings.note(
        differs(totals.total, value) && !without_tax && !with_charges,
        "2189",
        || "Invalid total Invoice Value".to_owned(),
    );
    let all_discounted = !totals.discount.is_zero() && totals.discount >= totals.total;
    findings.note(all_discounted, "2220", || {
        "Total discount cannot be equal to or greater than the total invoice value".to_owned()
    });
}
