//! Walks a document along its field table: once to find what is wrong with its form, once to write it back as the
//! portal does, known members in the table's order and spelling, empty ones left out, numbers as decimals.

use std::fmt;

use rust_decimal::Decimal;

use super::Findings;
use super::fields::{Field, Kind};
use super::patterns::Pattern;
use crate::node::{Node, decimal};

/// Where a field stands, written out only when something is wrong with it.
#[derive(Clone, Copy)]
enum Path<'a> {
    Top,
    Member(&'a Path<'a>, &'static str),
    Element(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Member(Self::Top, name) => f.write_str(name),
            Self::Member(parent, name) => write!(f, "{parent}.{name}"),
            Self::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Notes every field of `node` that breaks its rule, as code 5002 with the field's path.
pub(crate) fn check(node: &Node<'_>, fields: &[Field], findings: &mut Findings) {
    check_block(node, fields, &Path::Top, findings);
}

fn check_block(node: &Node<'_>, fields: &[Field], parent: &Path<'_>, findings: &mut Findings) {
    for field in fields {
        let path = Path::Member(parent, field.name);
        match node.get(field.name) {
            Some(value) => check_value(value, &field.kind, &path, findings),
            None => findings.note(field.required, "5002", || {
                format!("The field {path} is required")
            }),
        }
    }
}

fn check_value(value: &Node<'_>, kind: &Kind, path: &Path<'_>, findings: &mut Findings) {
    match (kind, value) {
        (Kind::Text { min, max, pattern }, Node::Text(text)) => {
            check_text(text, *min, *max, pattern, path, findings);
        }
        (Kind::Integer { min, max }, Node::Number(digits)) => {
            check_number(digits, 0, *min, *max, path, findings);
        }
        (Kind::Decimal { places, min, max }, Node::Number(digits)) => {
            check_number(digits, *places, *min, *max, path, findings);
        }
        (Kind::Block(fields), Node::Object(_)) => check_block(value, fields, path, findings),
        (Kind::List(fields), Node::List(items)) => {
            for (index, item) in items.iter().enumerate() {
                check_value(
                    item,
                    &Kind::Block(fields),
                    &Path::Element(path, index),
                    findings,
                );
            }
        }
        (kind, _) => findings.note(true, "5002", || {
            format!("The field {path} must be {}", kind.article())
        }),
    }
}

fn check_text(
    text: &str,
    min: usize,
    max: usize,
    pattern: &Pattern,
    path: &Path<'_>,
    findings: &mut Findings,
) {
    let length = text.chars().count();
    if length < min || length > max {
        findings.note(true, "5002", || {
            format!("The field {path} must be a string with a minimum length of {min} and a maximum length of {max}")
        });
        return;
    }
    findings.note(!(pattern.holds)(text), "5002", || {
        format!(
            "The field {path} must match the regular expression '{}'",
            pattern.source
        )
    });
}

fn check_number(
    digits: &str,
    places: u32,
    min: i64,
    max: i64,
    path: &Path<'_>,
    findings: &mut Findings,
) {
    let (min, max) = (Decimal::new(min, places), Decimal::new(max, places));
    let good = decimal(digits).is_some_and(|number| {
        number.normalize().scale() <= places && number >= min && number <= max
    });
    findings.note(!good, "5002", || {
        format!("The field {path} must be a number between {min} and {max} with at most {places} decimal places")
    });
}

impl Kind {
    fn article(&self) -> &'static str {
        match self {
            Self::Text { .. } => "a string",
            Self::Integer { .. } | Self::Decimal { .. } => "a number",
            Self::Block(_) => "an object",
            Self::List(_) => "an array",
        }
    }
}

/// Writes `node` as the portal does; `head` holds members to put first, without braces.
pub(crate) fn write(node: &Node<'_>, fields: &[Field], head: &str) -> String {
    let mut out = String::with_capacity(4096);
    write_block(&mut out, node, fields, head);
    out
}

fn write_block(out: &mut String, node: &Node<'_>, fields: &[Field], head: &str) {
    out.push('{');
    out.push_str(head);
    let mut first = head.is_empty();
    for field in fields {
        let Some(value) = node.get(field.name) else {
            continue;
        };
        if !first {
            out.push(',');
        }
        first = false;
        out.push('"');
        out.push_str(field.name);
        out.push_str("\":");
        write_value(out, value, field);
    }
    out.push('}');
}

fn write_value(out: &mut String, value: &Node<'_>, field: &Field) {
    match (&field.kind, value) {
        (Kind::Text { .. }, Node::Text(text)) => write_text(out, text),
        (Kind::Integer { .. }, Node::Number(digits)) => {
            out.push_str(&decimal(digits).unwrap_or_default().normalize().to_string());
        }
        (Kind::Decimal { .. }, Node::Number(digits)) => {
            out.push_str(&amount(decimal(digits).unwrap_or_default()))
        }
        (Kind::Block(fields), Node::Object(_)) => write_block(out, value, fields, ""),
        (Kind::List(fields), Node::List(items)) => {
            // The portal numbers nothing: every line carries a constant ItemNo (seen in every real signed invoice).
            let head = if field.name == "ItemList" {
                r#""ItemNo":0"#
            } else {
                ""
            };
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_block(out, item, fields, head);
            }
            out.push(']');
        }
        // `check` has refused such a document.
        (_, _) => out.push_str("null"),
    }
}

fn write_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a string is always JSON"));
}

/// A decimal as the portal prints it: never without a decimal place (`100` becomes `100.0`).
pub(crate) fn amount(number: Decimal) -> String {
    if number.scale() == 0 {
        format!("{number}.0")
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::INVOICE;
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        check(
            &Node::parse(text.as_bytes()).unwrap(),
            INVOICE,
            &mut findings,
        );
        let errors = findings.into_errors();
        assert!(errors.iter().all(|error| error.code == "5002"));
        errors
            .into_iter()
            .map(|error| error.message.into_owned())
            .collect()
    }

    const SAMPLE: &str = include_str!("../../../../tests/vectors/invoices/b2b-interstate.json");

    #[test]
    fn every_sample_has_the_right_form() {
        for sample in [
            SAMPLE,
            include_str!("../../../../tests/vectors/invoices/b2b-120-items-with-eway-bill.json"),
            include_str!("../../../../tests/vectors/invoices/credit-note-intrastate.json"),
            include_str!("../../../../tests/vectors/invoices/export-with-payment.json"),
        ] {
            assert_eq!(findings(sample), [""; 0]);
        }
    }

    #[test]
    fn all_faults_of_a_document_are_named_at_once() {
        let faulty = SAMPLE
            .replace("\"SI/25-26/00417\"", "\"0 bad\"")
            .replace("560058", "\"560058\"")
            .replace("\"LglNm\": \"Kaveri", "\"Nix\": \"Kaveri")
            .replace("18075", "18075.005")
            .replace("\"Stcd\": \"27\"", "\"Stcd\": \"127\"");
        let found = findings(&faulty).join("\n");
        for path in [
            "DocDtls.No",
            "SellerDtls.Pin",
            "SellerDtls.LglNm",
            "ItemList[0].TotAmt",
            "BuyerDtls.Stcd",
        ] {
            assert!(found.contains(path), "{path} in {found}");
        }
        assert_eq!(findings(&faulty).len(), 5);
        assert!(findings("{}").len() >= 6);
        assert_eq!(findings("[]").len(), findings("{}").len());
    }

    #[test]
    fn documents_are_written_back_in_the_portals_form() {
        let text = r#"{"extra":1,"ItemList":[{"HsnCd":"1001","slno":"1","Qty":100,"AssAmt":10.50,"Unit":null}],
            "VERSION":"1.1","RefDtls":{},"SellerDtls":{"Pin":560058,"Loc":"Müñ \/ x"}}"#;
        let node = Node::parse(text.as_bytes()).unwrap();
        assert_eq!(
            write(&node, INVOICE, r#""AckNo":1"#),
            concat!(
                r#"{"AckNo":1,"Version":"1.1","SellerDtls":{"Loc":"Müñ / x","Pin":560058},"#,
                r#""ItemList":[{"ItemNo":0,"SlNo":"1","HsnCd":"1001","Qty":100.0,"AssAmt":10.50}],"RefDtls":{}}"#
            )
        );
    }
}
