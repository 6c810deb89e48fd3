//! What is odd about a document without being wrong: members that the form does not know, and more decimal places than
//! it has.
//!
//! One rule: warnings only. What the portal ignores or rounds is no reason to refuse a document.

use super::findings::Findings;
use super::tree::{Node, push_escaped};

/// Under which they are told: the portal speaks of the form with it.
pub(super) const CODE: &str = "5002";

/// Members with three decimal places; all other amounts have two.
const THREE_PLACES: [&str; 6] = [
    "Qty",
    "FreeQty",
    "UnitPrice",
    "GstRt",
    "CesRt",
    "StateCesRt",
];

/// Notes the oddities of a document.
pub(super) fn check(document: &Node<'_>, findings: &mut Findings<'_>) {
    walk(document, "", "", findings);
}

fn walk(node: &Node<'_>, name: &str, pointer: &str, findings: &mut Findings<'_>) {
    match node {
        Node::Object(object) => {
            for (name, member) in object.iter() {
                walk(member, name, &format!("{pointer}/{name}"), findings);
            }
            for name in object.unknown() {
                let mut place = format!("{pointer}/");
                push_escaped(&mut place, name);
                let message =
                    "the form has no such member: the portal ignores it, so check its spelling";
                findings.warning(CODE, place, message);
            }
        }
        Node::List { elements, .. } => {
            for (index, element) in elements.iter().enumerate() {
                walk(element, name, &format!("{pointer}/{index}"), findings);
            }
        }
        Node::Number(_) | Node::Misplaced(_) => {
            let value = node.number();
            let places = if THREE_PLACES.contains(&name) { 3 } else { 2 };
            if value.is_some_and(|value| value.normalize().scale() > places) {
                let message = format!(
                    "has more than the {places} decimal places of the form; the portal may round it"
                );
                findings.warning(CODE, pointer, message);
            }
        }
        Node::Null | Node::Bool | Node::Text(_) => {}
    }
}
