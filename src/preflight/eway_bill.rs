//! The e-way-bill part of a document.
//!
//! One rule: warnings only. The portal registers the invoice whatever becomes of its e-way bill (NIC, generate-irn
//! page: EWBERR beside a good IRN), so nothing here may refuse it.

use jiff::civil::Date;

use super::Around;
use super::findings::Findings;
use super::invoice::{Invoice, Party, text};
use super::tree::{Node, Object};
use crate::irn::{DocumentType, parse_document_date};

const ROAD: &str = "1";
const SHIP: &str = "4";

/// Notes why the portal would issue no e-way bill.
pub(super) fn check(invoice: &Invoice<'_>, around: &Around<'_>, findings: &mut Findings<'_>) {
    let Some(details) = invoice.block("EwbDtls") else {
        return;
    };
    if invoice
        .kind
        .is_some_and(|kind| kind != DocumentType::Invoice)
    {
        warn(
            "4010",
            "",
            "there are e-way bills for invoices only, not for credit and debit notes",
            findings,
        );
    }
    let items = invoice.items.as_deref().unwrap_or_default();
    if !items.is_empty() && items.iter().all(|item| item.is_service == Some(true)) {
        warn(
            "4009",
            "",
            "an e-way bill needs goods, and all lines are services",
            findings,
        );
    }
    check_transport(details, findings);
    check_document(invoice, details, around.today.latest, findings);
    check_distance(invoice, details, findings);
}

fn warn(code: &'static str, name: &str, message: &str, findings: &mut Findings<'_>) {
    let pointer = if name.is_empty() {
        "/EwbDtls".to_owned()
    } else {
        format!("/EwbDtls/{name}")
    };
    findings.warning(code, pointer, format!("no e-way bill: {message}"));
}

fn check_transport(details: &Object<'_>, findings: &mut Findings<'_>) {
    let has = |name| details.get(name).is_some();
    let vehicle = text(details, "VehType");
    match text(details, "TransMode") {
        Some(ROAD) => {
            if !has("VehNo") {
                warn(
                    "4011",
                    "VehNo",
                    "transport by road needs the vehicle's number",
                    findings,
                );
            }
            if !has("VehType") {
                warn(
                    "4022",
                    "VehType",
                    "transport by road needs the type of vehicle",
                    findings,
                );
            }
        }
        Some(SHIP) => {
            if !has("VehNo") && !has("TransDocNo") {
                warn(
                    "4040",
                    "TransDocNo",
                    "a ship needs the vehicle's or the transport document's number",
                    findings,
                );
            }
            if vehicle == Some("R") {
                warn("4039", "VehType", "a ship is no regular vehicle", findings);
            }
        }
        Some(_) => {
            if !has("TransDocNo") {
                warn(
                    "4012",
                    "TransDocNo",
                    "rail and air need the transport document's number",
                    findings,
                );
            }
            if !has("TransDocDt") {
                warn(
                    "4023",
                    "TransDocDt",
                    "rail and air need the transport document's date",
                    findings,
                );
            }
            if vehicle == Some("O") {
                warn(
                    "4024",
                    "VehType",
                    "over-dimensional cargo goes by road or ship only",
                    findings,
                );
            }
        }
        None if has("VehNo") => {
            warn(
                "4028",
                "TransMode",
                "a vehicle's number needs the mode of transport",
                findings,
            );
        }
        None => {
            if !has("TransId") {
                warn(
                    "4019",
                    "TransId",
                    "without the mode of transport the transporter's GSTIN is needed",
                    findings,
                );
            }
        }
    }
}

fn check_document(
    invoice: &Invoice<'_>,
    details: &Object<'_>,
    latest: Date,
    findings: &mut Findings<'_>,
) {
    let Some(day) = text(details, "TransDocDt") else {
        return;
    };
    let Some(date) = parse_document_date(day) else {
        return warn(
            "4017",
            "TransDocDt",
            "the transport document's date is not in the calendar",
            findings,
        );
    };
    if date > latest {
        warn(
            "4016",
            "TransDocDt",
            "the transport document is dated in the future",
            findings,
        );
    }
    if invoice.date.is_some_and(|invoiced| date < invoiced) {
        warn(
            "4021",
            "TransDocDt",
            "the transport document is older than the invoice",
            findings,
        );
    }
}

fn check_distance(invoice: &Invoice<'_>, details: &Object<'_>, findings: &mut Findings<'_>) {
    let distance = details.get("Distance").and_then(Node::number);
    let pin = |block| Party::read(invoice.block(block)).pin;
    let from = pin("DispDtls").or(invoice.seller.pin);
    let to = pin("ShipDtls").or(invoice.buyer.pin);
    let stays = from.is_some() && from == to;
    if stays && distance.is_some_and(|distance| distance.is_zero()) {
        warn(
            "4029",
            "Distance",
            "between addresses of one PIN code the distance cannot be 0",
            findings,
        );
    }
}
