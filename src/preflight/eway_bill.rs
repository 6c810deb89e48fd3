//! The e-way-bill part of a document, and the payload that asks for the e-way bill of a registered one.
//!
//! One rule: in a document, warnings only. The portal registers the invoice whatever becomes of its e-way bill (NIC,
//! generate-irn page: EWBERR beside a good IRN), so nothing here may refuse it. Asked for by itself, it is refused.

use jiff::civil::Date;
use rust_decimal::Decimal;

use super::findings::{Findings, Severity};
use super::invoice::{Invoice, Party, text};
use super::tree::{Node, Object};
use super::{Around, Today};
use crate::irn::{DocumentType, parse_document_date};

const ROAD: &str = "1";
const SHIP: &str = "4";

/// Where the members stand, and how grave it is if something is wrong with them.
struct Notes<'f, 'r> {
    at: &'static str,
    severity: Severity,
    findings: &'f mut Findings<'r>,
}

impl Notes<'_, '_> {
    fn note(&mut self, code: &'static str, name: &str, message: &str) {
        let pointer = if name.is_empty() {
            self.at.to_owned()
        } else {
            format!("{}/{name}", self.at)
        };
        let message = format!("no e-way bill: {message}");
        self.findings.note(self.severity, code, pointer, message);
    }
}

/// Notes why the portal would issue no e-way bill.
pub(super) fn check(invoice: &Invoice<'_>, around: &Around<'_>, findings: &mut Findings<'_>) {
    let Some(details) = invoice.block("EwbDtls") else {
        return;
    };
    let mut notes = Notes {
        at: "/EwbDtls",
        severity: Severity::Warning,
        findings,
    };
    if invoice
        .kind
        .is_some_and(|kind| kind != DocumentType::Invoice)
    {
        let message = "there are e-way bills for invoices only, not for credit and debit notes";
        notes.note("4010", "", message);
    }
    let items = invoice.items.as_deref().unwrap_or_default();
    if !items.is_empty() && items.iter().all(|item| item.is_service == Some(true)) {
        let message = "an e-way bill needs goods, and all lines are services";
        notes.note("4009", "", message);
    }
    check_transport(details, &mut notes);
    check_document(invoice.date, details, around.today.latest, &mut notes);
    check_distance(invoice, details, &mut notes);
}

/// The form of a payload's own members (NIC, "Generate EWB by IRN"). What is in its blocks is left to the portal.
pub(super) fn check_form(payload: &Object<'_>, findings: &mut Findings<'_>) {
    let mut notes = notes_of_payload(findings);
    let distance = payload.get("Distance").and_then(Node::number);
    let far = Decimal::from(MAX_KILOMETRES);
    let fits = |number: Decimal| number.is_integer() && !number.is_sign_negative() && number <= far;
    if !distance.is_some_and(fits) {
        let message =
            "the distance is missing or not a whole number from 0 (the portal computes it) to 4000";
        notes.note("5002", "Distance", message);
    }
    for (name, fits, message) in FORMS {
        if payload.get(name).is_some() && !text(payload, name).is_some_and(fits) {
            notes.note("5002", name, message);
        }
    }
}

/// Whether the portal would issue what a payload asks for, as far as the payload tells.
pub(super) fn check_request(payload: &Object<'_>, today: Today, findings: &mut Findings<'_>) {
    let mut notes = notes_of_payload(findings);
    check_transport(payload, &mut notes);
    check_document(None, payload, today.latest, &mut notes);
}

fn notes_of_payload<'f, 'r>(findings: &'f mut Findings<'r>) -> Notes<'f, 'r> {
    Notes {
        at: "",
        severity: Severity::Error,
        findings,
    }
}

/// The longest journey (NIC, "Generate EWB by IRN").
const MAX_KILOMETRES: u32 = 4_000;

/// A member, what its text has to be, and what is said where it is not.
type Form = (&'static str, fn(&str) -> bool, &'static str);

const FORMS: [Form; 6] = [
    (
        "TransId",
        |text| text.len() == 15 && is_alphanumeric(text),
        "the transporter's id is no GSTIN",
    ),
    (
        "TransMode",
        |text| matches!(text, "1" | "2" | "3" | "4"),
        "the mode of transport is not one of \"1\" (road), \"2\" (rail), \"3\" (air), \"4\" (ship)",
    ),
    (
        "TransName",
        |text| (3..=100).contains(&text.chars().count()),
        "the transporter's name has not 3 to 100 characters",
    ),
    (
        "TransDocNo",
        |text| {
            let odd = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '/' | '-');
            (1..=15).contains(&text.len()) && !text.contains(odd)
        },
        "the transport document's number is not 1 to 15 letters, digits, / and -",
    ),
    (
        "VehNo",
        |text| (4..=20).contains(&text.len()) && is_alphanumeric(text),
        "the vehicle's number is not 4 to 20 letters and digits",
    ),
    (
        "VehType",
        |text| matches!(text, "O" | "R" | "o" | "r"),
        "the type of vehicle is neither \"R\" (regular) nor \"O\" (over-dimensional cargo)",
    ),
];

fn is_alphanumeric(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn check_transport(details: &Object<'_>, notes: &mut Notes<'_, '_>) {
    let has = |name| details.get(name).is_some();
    let vehicle = text(details, "VehType");
    match text(details, "TransMode") {
        Some(ROAD) => {
            if !has("VehNo") {
                notes.note(
                    "4011",
                    "VehNo",
                    "transport by road needs the vehicle's number",
                );
            }
            if !has("VehType") {
                notes.note(
                    "4022",
                    "VehType",
                    "transport by road needs the type of vehicle",
                );
            }
        }
        Some(SHIP) => {
            if !has("VehNo") && !has("TransDocNo") {
                notes.note(
                    "4040",
                    "TransDocNo",
                    "a ship needs the vehicle's or the transport document's number",
                );
            }
            if vehicle == Some("R") {
                notes.note("4039", "VehType", "a ship is no regular vehicle");
            }
        }
        Some(_) => {
            if !has("TransDocNo") {
                notes.note(
                    "4012",
                    "TransDocNo",
                    "rail and air need the transport document's number",
                );
            }
            if !has("TransDocDt") {
                notes.note(
                    "4023",
                    "TransDocDt",
                    "rail and air need the transport document's date",
                );
            }
            if vehicle == Some("O") {
                notes.note(
                    "4024",
                    "VehType",
                    "over-dimensional cargo goes by road or ship only",
                );
            }
        }
        None if has("VehNo") => {
            notes.note(
                "4028",
                "TransMode",
                "a vehicle's number needs the mode of transport",
            );
        }
        None => {
            if !has("TransId") {
                notes.note(
                    "4019",
                    "TransId",
                    "without the mode of transport the transporter's GSTIN is needed",
                );
            }
        }
    }
}

fn check_document(
    invoiced: Option<Date>,
    details: &Object<'_>,
    latest: Date,
    notes: &mut Notes<'_, '_>,
) {
    let Some(day) = text(details, "TransDocDt") else {
        return;
    };
    let Some(date) = parse_document_date(day) else {
        return notes.note(
            "4017",
            "TransDocDt",
            "the transport document's date is not in the calendar",
        );
    };
    if date > latest {
        notes.note(
            "4016",
            "TransDocDt",
            "the transport document is dated in the future",
        );
    }
    if invoiced.is_some_and(|invoiced| date < invoiced) {
        notes.note(
            "4021",
            "TransDocDt",
            "the transport document is older than the invoice",
        );
    }
}

fn check_distance(invoice: &Invoice<'_>, details: &Object<'_>, notes: &mut Notes<'_, '_>) {
    let distance = details.get("Distance").and_then(Node::number);
    let pin = |block| Party::read(invoice.block(block)).pin;
    let from = pin("DispDtls").or(invoice.seller.pin);
    let to = pin("ShipDtls").or(invoice.buyer.pin);
    let stays = from.is_some() && from == to;
    if stays && distance.is_some_and(|distance| distance.is_zero()) {
        notes.note(
            "4029",
            "Distance",
            "between addresses of one PIN code the distance cannot be 0",
        );
    }
}
