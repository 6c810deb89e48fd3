//! Dates of a document: in the calendar, not in the future, not too late.
//!
//! One rule: today is today in India, and a clock that is a few minutes wrong refuses nothing.

use jiff::ToSpan as _;
use jiff::civil::Date;

use super::Around;
use super::findings::Findings;
use super::invoice::{Invoice, block, text};
use super::tree::Node;
use crate::irn::parse_document_date;

const POINTER: &str = "/DocDtls/Dt";

/// Notes what is wrong with the dates.
pub(super) fn check(invoice: &Invoice<'_>, around: &Around<'_>, findings: &mut Findings<'_>) {
    match (invoice.date, invoice.day) {
        (Some(date), _) => check_document(invoice, date, around, findings),
        (None, Some(day)) if has_form(day) => {
            let message = format!("there is no {day} in the calendar");
            findings.error("2144", POINTER, message);
        }
        (None, _) => {}
    }
    check_period(invoice, findings);
    check_preceding(invoice, around, findings);
}

/// What has not even the form of a date, the schema has told of.
fn has_form(day: &str) -> bool {
    let digits = |range: std::ops::Range<usize>| {
        let part = day.as_bytes().get(range);
        part.is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    day.len() == 10 && digits(0..2) && digits(3..5) && digits(6..10)
}

fn check_document(
    invoice: &Invoice<'_>,
    date: Date,
    around: &Around<'_>,
    findings: &mut Findings<'_>,
) {
    if date > around.today.latest {
        findings.error("2163", POINTER, "the document date is in the future");
    }
    let window = &around.rules.reporting_window;
    let seller = invoice.seller.number();
    if !seller.is_some_and(|seller| window.applies_to(&seller)) {
        return;
    }
    let oldest = around
        .today
        .earliest
        .checked_sub(i64::from(window.days).days());
    if oldest.is_ok_and(|oldest| date < oldest) {
        let message = format!(
            "the document is older than the {} days in which sellers above {} may register it",
            window.days, window.turnover
        );
        findings.error("2305", POINTER, message);
    }
}

fn check_period(invoice: &Invoice<'_>, findings: &mut Findings<'_>) {
    let period = invoice
        .block("RefDtls")
        .and_then(|references| block(references, "DocPerdDtls"));
    let Some(period) = period else { return };
    let day = |name| text(period, name).and_then(parse_document_date);
    if let (Some(first), Some(last)) = (day("InvStDt"), day("InvEndDt"))
        && first > last
    {
        let message = "the period of the document ends before it begins";
        findings.warning("2219", "/RefDtls/DocPerdDtls/InvEndDt", message);
    }
}

fn check_preceding(invoice: &Invoice<'_>, around: &Around<'_>, findings: &mut Findings<'_>) {
    let references = invoice.block("RefDtls");
    let list = references
        .and_then(|block| block.get("PrecDocDtls"))
        .and_then(Node::list);
    for (index, preceding) in list.unwrap_or_default().iter().enumerate() {
        let date = preceding
            .object()
            .and_then(|object| text(object, "InvDt"))
            .and_then(parse_document_date);
        if date.is_some_and(|date| date > around.today.latest) {
            let pointer = format!("/RefDtls/PrecDocDtls/{index}/InvDt");
            findings.warning(
                "2218",
                pointer,
                "the preceding document is dated in the future",
            );
        }
    }
}
