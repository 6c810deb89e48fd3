//! The totals of a document against its lines, and against each other.
//!
//! One rule: one source allows a difference of one rupee, another of two; what lies between passes with a warning.

use rust_decimal::Decimal;

use super::findings::{Findings, Severity};
use super::invoice::{Amounts, Invoice, Totals, shown};

/// A total, the sum of the lines it must be, and how to speak of it.
struct Sum {
    code: &'static str,
    name: &'static str,
    title: &'static str,
    total: fn(&Totals) -> Decimal,
    part: fn(&Amounts) -> Decimal,
}

const SUMS: [Sum; 6] = [
    Sum {
        code: "2182",
        name: "AssVal",
        title: "taxable amounts",
        total: |totals| totals.taxable,
        part: |line| line.taxable,
    },
    Sum {
        code: "2183",
        name: "SgstVal",
        title: "SGST amounts",
        total: |totals| totals.sgst,
        part: |line| line.sgst,
    },
    Sum {
        code: "2184",
        name: "CgstVal",
        title: "CGST amounts",
        total: |totals| totals.cgst,
        part: |line| line.cgst,
    },
    Sum {
        code: "2185",
        name: "IgstVal",
        title: "IGST amounts",
        total: |totals| totals.igst,
        part: |line| line.igst,
    },
    Sum {
        code: "2186",
        name: "CesVal",
        title: "cess amounts",
        total: |totals| totals.cess,
        part: |line| line.cess + line.cess_fixed,
    },
    Sum {
        code: "2187",
        name: "StCesVal",
        title: "state cess amounts",
        total: |totals| totals.state_cess,
        part: |line| line.state_cess + line.state_cess_fixed,
    },
];

/// Notes every total that does not add up.
pub(super) fn check(invoice: &Invoice<'_>, findings: &mut Findings<'_>) {
    let Some(totals) = &invoice.totals else {
        return;
    };
    let items = invoice.items.iter().flatten();
    // A sum with a line that cannot be read is no sum.
    let lines: Option<Vec<&Amounts>> = items.map(|item| item.amounts.as_ref()).collect();
    let lines = lines.filter(|lines| !lines.is_empty() && invoice.has_all_items());
    if let Some(lines) = &lines {
        check_sums(totals, lines, findings);
    }
    check_value(invoice, totals, &lines.unwrap_or_default(), findings);
}

fn charges(lines: &[&Amounts]) -> Decimal {
    lines.iter().map(|line| line.other).sum()
}

/// How grave a difference is, if it is one.
fn grade(difference: Decimal) -> Option<Severity> {
    let difference = difference.abs();
    if difference <= Decimal::ONE {
        None
    } else if difference <= Decimal::TWO {
        Some(Severity::Warning)
    } else {
        Some(Severity::Error)
    }
}

fn check_sums(totals: &Totals, lines: &[&Amounts], findings: &mut Findings<'_>) {
    for sum in &SUMS {
        let (total, lines_make) = (
            (sum.total)(totals),
            lines.iter().map(|line| (sum.part)(line)).sum::<Decimal>(),
        );
        let Some(severity) = grade(total - lines_make) else {
            continue;
        };
        let message = format!(
            "the {} of the lines make {}, but {} is {}",
            sum.title,
            shown(lines_make),
            sum.name,
            shown(total)
        );
        findings.note(severity, sum.code, at(sum.name), message);
    }
    let charges = charges(lines);
    // Charges on the whole document alone are allowed.
    if let Some(severity) = grade(totals.other - charges).filter(|_| !charges.is_zero()) {
        // Some write those of the lines nowhere but there, and in the value.
        let severity = if totals.other.is_zero() {
            Severity::Warning
        } else {
            severity
        };
        let message = format!(
            "the other charges of the lines make {}, but OthChrg is {}",
            shown(charges),
            shown(totals.other)
        );
        findings.note(severity, "2264", at("OthChrg"), message);
    }
}

fn check_value(
    invoice: &Invoice<'_>,
    totals: &Totals,
    lines: &[&Amounts],
    findings: &mut Findings<'_>,
) {
    let without_tax = totals.taxable + totals.other - totals.discount + totals.rounding;
    let value = without_tax + totals.taxes();
    // The values of the lines, whose charges the totals do not repeat.
    let with_charges = totals.other.is_zero().then(|| value + charges(lines));
    let values = [
        Some(value),
        invoice.may_leave_tax_out().then_some(without_tax),
        with_charges,
    ];
    let distance = |value: Decimal| (totals.total - value).abs();
    let nearest = values.into_iter().flatten().map(distance).min();
    if let Some(severity) = nearest.and_then(grade) {
        let message = format!(
            "taxable value, taxes, cesses, other charges and rounding less discount make {}, but TotInvVal is {}",
            shown(value),
            shown(totals.total)
        );
        findings.note(severity, "2189", at("TotInvVal"), message);
    }
    if !totals.discount.is_zero() && totals.discount >= totals.total {
        let message = format!(
            "the discount of {} leaves nothing of the invoice value of {}",
            shown(totals.discount),
            shown(totals.total)
        );
        findings.error("2220", at("Discount"), message);
    }
}

fn at(name: &str) -> String {
    format!("/ValDtls/{name}")
}
