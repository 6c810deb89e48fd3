//! E-way bills of registered invoices: those that are issued, and those that the portal has to refuse.

use jiff::ToSpan as _;
use serde_json::{Value, json};

use super::documents::{Document, Documents, irn, is_intra_state, number};
use super::invoices::set;
use super::{Action, Draft, Terms, enough, written};
use crate::irn::{DocumentType, Irn};

/// Of a refusal of the payload's form.
const FORM: &[&str] = &["5002"];

/// No such registration, or no such bill (NIC, list of error codes, e-way bills and look-ups).
const NOTHING_THERE: &[&str] = &[
    "4003",
    "4005",
    "4007",
    "2148",
    "2154",
    "2226",
    "3001",
    super::questions::NOT_FOUND,
];

const ALREADY_ISSUED: &[&str] = &["4002", "4026"];
const NOT_ACTIVE: &[&str] = &["4000", "9999"];
const NOT_FOR_THESE: &[&str] = &["4009", "4010"];

pub(super) fn issues(terms: &Terms, documents: &Documents) -> Vec<Draft> {
    let ways = [
        (
            "by road",
            json!({"TransMode": "1", "VehNo": "KA01AB1234", "VehType": "R"}),
        ),
        (
            "by road, oversized",
            json!({"TransMode": "1", "VehNo": "KA01AB4321", "VehType": "O"}),
        ),
        ("by rail", with_paper(terms, "2")),
        ("by air", with_paper(terms, "3")),
        ("by ship", with_paper(terms, "4")),
    ];
    let drafts = documents.carried.iter().zip(ways.iter().cycle());
    drafts
        .map(|(document, (how, details))| {
            let mut payload = base(terms, document.irn);
            if let (Some(payload), Some(details)) = (payload.as_object_mut(), details.as_object()) {
                payload.extend(details.clone());
            }
            let title = format!("goods {how}, of {}", document.number);
            Draft::success(title, ewb(document.irn, &payload, true))
        })
        .collect()
}

fn with_paper(terms: &Terms, mode: &str) -> Value {
    json!({"TransMode": mode, "TransDocNo": "CERT/1", "TransDocDt": written(terms.date)})
}

/// Between states the portal computes the distance; within one, both parties have the same PIN code.
fn base(terms: &Terms, irn: Irn) -> Value {
    let distance = if is_intra_state(terms) { 10 } else { 0 };
    json!({"Irn": irn, "Distance": distance})
}

fn by_road(terms: &Terms, irn: Irn) -> Value {
    let mut payload = base(terms, irn);
    for (name, value) in [
        ("TransMode", "1"),
        ("VehNo", "KA01AB1234"),
        ("VehType", "R"),
    ] {
        payload[name] = json!(value);
    }
    payload
}

fn ewb(irn: Irn, payload: &Value, may_issue: bool) -> Action {
    Action::EwayBill {
        irn,
        payload: payload.to_string(),
        may_issue,
    }
}

/// A payload changed in one place, if need be on top of another way of transport.
struct Row {
    title: &'static str,
    expected: &'static [&'static str],
    /// Where the change needs another mode, paper or vehicle to be a single one.
    way: &'static [(&'static str, Option<&'static str>)],
    change: (&'static str, Option<Value>),
}

const ROAD: &[(&str, Option<&str>)] = &[];
const RAIL: &[(&str, Option<&str>)] = &[
    ("TransMode", Some("2")),
    ("VehNo", None),
    ("VehType", None),
    ("TransDocNo", Some("CERT/1")),
    ("TransDocDt", Some("today")),
];
const SHIP: &[(&str, Option<&str>)] = &[("TransMode", Some("4")), ("VehType", Some("O"))];
const PART_A: &[(&str, Option<&str>)] = &[
    ("TransMode", None),
    ("VehNo", None),
    ("VehType", None),
    ("TransId", Some("buyer")),
];

fn row(
    title: &'static str,
    expected: &'static [&'static str],
    way: &'static [(&'static str, Option<&'static str>)],
    member: &'static str,
    value: impl Into<Option<Value>>,
) -> Row {
    Row {
        title,
        expected,
        way,
        change: (member, value.into()),
    }
}

fn rows(terms: &Terms) -> Vec<Row> {
    let rows = [vehicles(), modes(), papers(terms), rest()];
    rows.into_iter().flatten().collect()
}

/// Vehicles by road.
fn vehicles() -> Vec<Row> {
    vec![
        row("no vehicle by road", &["4011"], ROAD, "VehNo", None),
        row("no vehicle type by road", &["4022"], ROAD, "VehType", None),
        row(
            "a vehicle number without digits",
            &["4014", "5002"],
            ROAD,
            "VehNo",
            json!("KAABCDEF"),
        ),
        row(
            "a vehicle number that is too short",
            &["5002", "4014"],
            ROAD,
            "VehNo",
            json!("KA"),
        ),
        row(
            "a vehicle number with a hyphen",
            &["5002", "4014"],
            ROAD,
            "VehNo",
            json!("KA-01-1234"),
        ),
        row(
            "a vehicle type that there is not",
            &["5002", "4020"],
            ROAD,
            "VehType",
            json!("X"),
        ),
    ]
}

/// Modes of transport, and what ships need.
fn modes() -> Vec<Row> {
    vec![
        row(
            "a vehicle but no mode",
            &["4028", "4027", "4019"],
            ROAD,
            "TransMode",
            None,
        ),
        row(
            "a mode that there is not: 5",
            FORM,
            ROAD,
            "TransMode",
            json!("5"),
        ),
        row(
            "a mode that there is not: 0",
            FORM,
            ROAD,
            "TransMode",
            json!("0"),
        ),
        row("a mode that is a number", FORM, ROAD, "TransMode", json!(1)),
        row(
            "a regular vehicle by ship",
            &["4039"],
            SHIP,
            "VehType",
            json!("R"),
        ),
        row(
            "neither vehicle nor paper by ship",
            &["4040"],
            SHIP,
            "VehNo",
            None,
        ),
    ]
}

/// Transport documents.
fn papers(terms: &Terms) -> Vec<Row> {
    let future = written(terms.date.saturating_add(10.days()));
    let past = written(terms.date.saturating_sub(10.days()));
    vec![
        row(
            "a paper's number of 16 characters",
            FORM,
            ROAD,
            "TransDocNo",
            json!("A234567890123456"),
        ),
        row(
            "a paper's number with a space",
            FORM,
            ROAD,
            "TransDocNo",
            json!("A 1"),
        ),
        row(
            "a paper's date of another form",
            &["5002", "4017"],
            ROAD,
            "TransDocDt",
            json!(terms.date.to_string()),
        ),
        row("no paper by rail", &["4012"], RAIL, "TransDocNo", None),
        row(
            "no date of the paper by rail",
            &["4023"],
            RAIL,
            "TransDocDt",
            None,
        ),
        row(
            "a paper of the future",
            &["4016"],
            RAIL,
            "TransDocDt",
            json!(future),
        ),
        row(
            "a paper older than the invoice",
            &["4021"],
            RAIL,
            "TransDocDt",
            json!(past),
        ),
        row(
            "oversized goods by rail",
            &["4024"],
            RAIL,
            "VehType",
            json!("O"),
        ),
    ]
}

/// Distances and transporters.
fn rest() -> Vec<Row> {
    vec![
        row("no distance", FORM, ROAD, "Distance", None),
        row(
            "a negative distance",
            &["5002", "4013"],
            ROAD,
            "Distance",
            json!(-1),
        ),
        row(
            "a distance above 4000 km",
            &["5002", "4013", "4038"],
            ROAD,
            "Distance",
            json!(4_001),
        ),
        row(
            "a distance that is a text",
            FORM,
            ROAD,
            "Distance",
            json!("ten"),
        ),
        row(
            "a transporter's number that is too short",
            &["5002", "4018"],
            ROAD,
            "TransId",
            json!("29AAGCE4783K1Z"),
        ),
        row(
            "a transporter's number in small letters",
            &["5002", "4018"],
            ROAD,
            "TransId",
            json!("29aagce4783k1z1"),
        ),
        row(
            "a transporter's name that is too short",
            FORM,
            ROAD,
            "TransName",
            json!("AB"),
        ),
        row(
            "neither mode nor transporter",
            &["4019", "4027", "4028"],
            PART_A,
            "TransId",
            None,
        ),
    ]
}

/// How many are refused for what they say.
pub(super) fn misformed(terms: &Terms) -> usize {
    rows(terms).len().min(terms.cases as usize)
}

pub(super) fn refusals(terms: &Terms, documents: &Documents) -> Vec<Draft> {
    let rows = rows(terms);
    let rows: Vec<_> = rows.iter().zip(&documents.not_billed).collect();
    let others = refused_irns(terms, documents);
    let different = rows.len() + others.len();
    (0..enough(terms.cases, different))
        .map(|at| match rows.get(at % different) {
            Some((row, document)) => {
                let payload = changed(terms, document.irn, row);
                let action = ewb(document.irn, &payload, true);
                Draft::failure(row.title, row.expected, action)
            }
            None => {
                let (title, expected, irn) = &others[at % different - rows.len()];
                Draft::failure(
                    title.clone(),
                    expected,
                    ewb(*irn, &by_road(terms, *irn), false),
                )
            }
        })
        .collect()
}

fn changed(terms: &Terms, irn: Irn, row: &Row) -> Value {
    let mut payload = by_road(terms, irn);
    for (member, value) in row.way {
        let value = value.map(|value| match value {
            "today" => json!(written(terms.date)),
            "buyer" => json!(terms.buyer),
            value => json!(value),
        });
        set(&mut payload, &format!("/{member}"), value);
    }
    let (member, value) = &row.change;
    set(&mut payload, &format!("/{member}"), value.clone());
    payload
}

/// Good payloads for what no bill can be issued for.
fn refused_irns(
    terms: &Terms,
    documents: &Documents,
) -> Vec<(String, &'static [&'static str], Irn)> {
    let of = |what: &str, expected, document: &Document| {
        (
            format!("{what} {}", document.number),
            expected,
            document.irn,
        )
    };
    let mut refused: Vec<_> = documents
        .not_carried
        .iter()
        .map(|document| of(&format!("a {}", document.title), NOT_FOR_THESE, document))
        .collect();
    let carried = documents.carried.iter().take(8);
    refused.extend(carried.map(|document| of("a second bill of", ALREADY_ISSUED, document)));
    let invoices = documents
        .cancelled
        .iter()
        .filter(|of| of.kind == DocumentType::Invoice);
    let cancelled = invoices.take(8);
    refused.extend(cancelled.map(|document| of("a bill of the cancelled", NOT_ACTIVE, document)));
    refused.extend((1..=8).map(|at| {
        let number = number(terms, 'E', at);
        let title = format!("an IRN that nobody has: of {number}");
        (
            title,
            NOTHING_THERE,
            irn(terms, DocumentType::Invoice, &number),
        )
    }));
    refused
}

pub(super) fn look_ups(documents: &Documents) -> Vec<Draft> {
    let drafts = documents.carried.iter().map(|document| {
        let title = format!("the bill of {}", document.number);
        Draft::success(title, Action::EwayBillByIrn(document.irn))
    });
    drafts.collect()
}

pub(super) fn unknown(terms: &Terms, documents: &Documents) -> Vec<Draft> {
    let without = documents.cancelled.iter().map(|document| {
        let title = format!("{} has no bill", document.number);
        (title, document.irn)
    });
    let nobody = (1..=terms.cases.max(1)).map(|at| {
        let number = number(terms, 'B', at);
        let title = format!("an IRN that nobody has: of {number}");
        (title, irn(terms, DocumentType::Invoice, &number))
    });
    // One and the other by turns.
    let both = without
        .zip(nobody)
        .flat_map(|(without, nobody)| [without, nobody]);
    both.take(terms.cases as usize)
        .map(|(title, irn)| Draft::failure(title, NOTHING_THERE, Action::EwayBillByIrn(irn)))
        .collect()
}
