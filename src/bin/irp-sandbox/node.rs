//! JSON as the portal reads it: members in the order they came, found whatever their case, numbers with the digits
//! that were sent. `serde_json` does the reading; its own `Value` keeps neither order nor digits.

use std::fmt;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deeper nesting than this no portal document has; it also bounds the recursion below.
const MAX_DEPTH: usize = 16;

/// One JSON value; numbers borrow their digits from the text.
#[derive(Clone, PartialEq)]
pub(crate) enum Node<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(String),
    List(Vec<Node<'a>>),
    Object(Vec<(String, Node<'a>)>),
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node(..)")
    }
}

impl<'a> Node<'a> {
    /// Reads one JSON text; `None` when it is not JSON, not UTF-8, or nested beyond reason.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let raw: &RawValue = serde_json::from_slice(bytes).ok()?;
        Self::from_raw(raw, MAX_DEPTH)
    }

    fn from_raw(raw: &'a RawValue, depth: usize) -> Option<Self> {
        let text = raw.get();
        Some(match text.as_bytes().first()? {
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            b'[' => {
                let depth = depth.checked_sub(1)?;
                let items: Vec<&'a RawValue> = serde_json::from_str(text).ok()?;
                Self::List(
                    items
                        .into_iter()
                        .map(|item| Self::from_raw(item, depth))
                        .collect::<Option<_>>()?,
                )
            }
            b'{' => {
                let depth = depth.checked_sub(1)?;
                let Members(members) = serde_json::from_str(text).ok()?;
                let read = |(name, value)| Some((name, Self::from_raw(value, depth)?));
                Self::Object(members.into_iter().map(read).collect::<Option<_>>()?)
            }
            _ => Self::Number(text),
        })
    }

    /// The member of that name in any case; the last one when it is given twice; never a null.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else {
            return None;
        };
        let found = members
            .iter()
            .rev()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        (found.1 != Self::Null).then_some(&found.1)
    }

    /// The text of that member, when it is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The number of that member, exactly as written, when it is a number.
    pub(crate) fn decimal(&self, name: &str) -> Option<Decimal> {
        match self.get(name)? {
            Self::Number(digits) => decimal(digits),
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The elements of that member, none when it is no list.
    pub(crate) fn list(&self, name: &str) -> &[Self] {
        match self.get(name) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }
}

/// Reads a JSON number without rounding; `None` beyond 28 digits.
pub(crate) fn decimal(digits: &str) -> Option<Decimal> {
    if digits.contains(['e', 'E']) {
        return Decimal::from_scientific(digits).ok();
    }
    Decimal::from_str_exact(digits).ok()
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_numbers_their_digits() {
        let node = Node::parse(br#" {"b":21851.00,"a":[1e2,"x\u0041"],"n":null} "#).unwrap();
        let Node::Object(members) = &node else {
            panic!("an object was read")
        };
        assert_eq!(members[0], ("b".to_owned(), Node::Number("21851.00")));
        assert_eq!(
            node.list("A"),
            [Node::Number("1e2"), Node::Text("xA".to_owned())]
        );
        assert!(node.get("n").is_none());
        assert_eq!(node.decimal("B").unwrap().to_string(), "21851.00");
        assert_eq!(decimal("1e2"), Some(Decimal::from(100)));
    }

    #[test]
    fn names_are_found_in_any_case_and_the_last_one_counts() {
        let node = Node::parse(br#"{"GSTIN":"a","Gstin":"b"}"#).unwrap();
        assert_eq!(node.text("gstin"), Some("b"));
    }

    #[test]
    fn hostile_texts_are_refused() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for bytes in [
            b"".as_slice(),
            b"{",
            b"{}x",
            b"\xff",
            b"{\"a\":\"\xff\"}",
            deep.as_bytes(),
        ] {
            assert!(Node::parse(bytes).is_none());
        }
    }
}
