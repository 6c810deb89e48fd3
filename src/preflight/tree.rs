//! A document as the portal reads it: parsed once, member names known in any case, numbers with the digits that were
//! sent.
//!
//! One rule: a tree borrows from the document and is never printed. What it cannot place (an unknown member) it skips.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use rust_decimal::Decimal;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Longer than every name of the form.
const LONGEST_NAME: usize = 24;

/// As many elements of a list are kept: the portal takes no more lines, and a list of millions must not cost the work of
/// a thousand invoices.
pub(super) const MAX_ELEMENTS: usize = 1_000;

/// Unknown members are remembered up to this many in one object: enough to see the mistake.
const MAX_UNKNOWN: usize = 5;

/// How a name of the form is spelt, and whether its value is a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) canonical: Box<str>,
    pub(super) is_number: bool,
}

/// The names of the form, by their lower-case spelling.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Box<str>, Name>);

impl Names {
    /// Takes a name in; one that is a number anywhere is read as one everywhere.
    pub(super) fn add(&mut self, canonical: &str, is_number: bool) {
        let name = self
            .0
            .entry(canonical.to_ascii_lowercase().into_boxed_str())
            .or_insert_with(|| Name {
                canonical: canonical.into(),
                is_number,
            });
        name.is_number |= is_number;
    }

    fn find(&self, written: &str) -> Option<&Name> {
        let mut lower = [0; LONGEST_NAME];
        let lower = lower.get_mut(..written.len())?;
        lower.copy_from_slice(written.as_bytes());
        lower.make_ascii_lowercase();
        self.0.get(std::str::from_utf8(lower).ok()?)
    }
}

/// One JSON value.
#[derive(Clone)]
pub(super) enum Node<'a> {
    Null,
    Bool,
    Number(Number<'a>),
    Text(Cow<'a, str>),
    /// The first elements, and how many there are.
    List {
        elements: Vec<Node<'a>>,
        count: usize,
    },
    Object(Object<'a>),
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node(..)")
    }
}

/// A number as it was written.
#[derive(Clone)]
pub(super) struct Number<'a> {
    text: Cow<'a, str>,
}

impl Number<'_> {
    /// Its value, rounded to 28 digits; `None` where it is larger than they can say.
    pub(super) fn value(&self) -> Option<Decimal> {
        decimal(&self.text)
    }

    /// Its digits.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// A JSON number's value, rounded to 28 digits: a program that prints its floats in full writes more of them.
fn decimal(text: &str) -> Option<Decimal> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else {
        return text.parse().ok();
    };
    let mantissa: Decimal = mantissa.parse().ok()?;
    let exponent: i64 = exponent.parse().ok()?;
    let shift = |by: i64| {
        let power = 10_i128.checked_pow(u32::try_from(by).ok()?)?;
        Decimal::try_from_i128_with_scale(power, 0).ok()
    };
    match exponent {
        _ if mantissa.is_zero() => Some(Decimal::ZERO),
        29.. => None,
        0..=28 => mantissa.checked_mul(shift(exponent)?),
        -28..0 => mantissa.checked_div(shift(-exponent)?),
        // Nothing of it is left in 28 places, as long as it has no more than as many before its exponent.
        ..-28 => Some(mantissa / shift(28)? / shift((-exponent - 28).min(28))?),
    }
}

/// The members of an object that the form knows, and the names of a few that it does not.
#[derive(Clone, Default)]
pub(super) struct Object<'a> {
    members: Vec<Member<'a>>,
    unknown: Vec<Cow<'a, str>>,
}

#[derive(Clone)]
struct Member<'a> {
    name: &'a str,
    /// Its spelling in the document, where that is another one.
    written: Option<Cow<'a, str>>,
    value: Node<'a>,
}

impl<'a> Object<'a> {
    /// The value under a name of the form. A `null` counts as absent, as it does at the portal.
    pub(super) fn get(&self, name: &str) -> Option<&Node<'a>> {
        let found = self.members.iter().find(|member| member.name == name)?;
        Some(&found.value)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Names of the form and their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &Node<'a>)> {
        self.members
            .iter()
            .map(|member| (member.name, &member.value))
    }

    /// Names that the form does not know, as written.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.unknown.iter().map(AsRef::as_ref)
    }

    /// How the document spells this name of the form.
    fn spelling<'s>(&'s self, name: &'s str) -> &'s str {
        let member = self.members.iter().find(|member| member.name == name);
        member
            .and_then(|member| member.written.as_deref())
            .unwrap_or(name)
    }

    /// The last one of a repeated member counts; a `null` takes it away.
    fn put(&mut self, name: &'a str, written: Cow<'a, str>, value: Node<'a>) {
        self.members.retain(|member| member.name != name);
        if !matches!(value, Node::Null) {
            let written = (written != name).then_some(written);
            self.members.push(Member {
                name,
                written,
                value,
            });
        }
    }

    fn put_unknown(&mut self, written: Cow<'a, str>) {
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.push(written);
        }
    }
}

impl<'a> Node<'a> {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// The parser's: not JSON, or nested deeper than any document.
    pub(super) fn parse(text: &'a str, names: &'a Names) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(text);
        let node = Seed { names }.deserialize(&mut json)?;
        json.end()?;
        Ok(node)
    }

    /// The members, when it is an object.
    pub(super) fn object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            Self::Null | Self::Bool | Self::Number(_) | Self::Text(_) | Self::List { .. } => None,
        }
    }

    /// The elements, when it is a list: of a longer one the first thousand.
    pub(super) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List { elements, .. } => Some(elements),
            Self::Null | Self::Bool | Self::Number(_) | Self::Text(_) | Self::Object(_) => None,
        }
    }

    /// How many elements there are, when it is a list.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::List { count, .. } => Some(*count),
            Self::Null | Self::Bool | Self::Number(_) | Self::Text(_) | Self::Object(_) => None,
        }
    }

    /// The text; of a number, its digits.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(number) => Some(number.text()),
            Self::Null | Self::Bool | Self::List { .. } | Self::Object(_) => None,
        }
    }

    /// The number, also one in quotation marks.
    pub(super) fn number(&self) -> Option<Decimal> {
        self.text().and_then(decimal)
    }

    /// A JSON Pointer (RFC 6901) by the names of the form, in the document's own spelling where it has the member.
    pub(super) fn as_written(&self, pointer: &str) -> String {
        let mut here = Some(self);
        let mut written = String::with_capacity(pointer.len());
        for step in pointer.split('/').skip(1) {
            written.push('/');
            match here {
                Some(Self::List { elements, .. }) => {
                    written.push_str(step);
                    here = step.parse().ok().and_then(|at: usize| elements.get(at));
                }
                Some(Self::Object(object)) => {
                    push_escaped(&mut written, object.spelling(step));
                    here = object.get(step);
                }
                Some(Self::Null | Self::Bool | Self::Number(_) | Self::Text(_)) | None => {
                    written.push_str(step);
                    here = None;
                }
            }
        }
        written
    }
}

/// As RFC 6901 writes a name in a pointer.
pub(super) fn push_escaped(pointer: &mut String, name: &str) {
    for letter in name.chars() {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

#[derive(Clone, Copy)]
struct Seed<'n> {
    names: &'n Names,
}

impl<'a> DeserializeSeed<'a> for Seed<'a> {
    type Value = Node<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Node<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Seed<'a> {
    type Value = Node<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node<'a>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Node<'a>, E> {
        Ok(Node::Bool)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node<'a>, E> {
        Ok(misplaced(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node<'a>, E> {
        Ok(misplaced(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node<'a>, E> {
        Ok(misplaced(value))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'a str) -> Result<Node<'a>, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node<'a>, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<Node<'a>, A::Error> {
        let mut list = Vec::new();
        while list.len() < MAX_ELEMENTS
            && let Some(element) = elements.next_element_seed(self)?
        {
            list.push(element);
        }
        let mut count = list.len();
        while count >= MAX_ELEMENTS
            && let Some(IgnoredAny) = elements.next_element()?
        {
            count += 1;
        }
        Ok(Node::List {
            elements: list,
            count,
        })
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Node<'a>, A::Error> {
        let mut object = Object::default();
        while let Some(Key(written)) = map.next_key()? {
            match self.names.find(&written) {
                Some(name) => {
                    let value = if name.is_number {
                        Node::of_number(map.next_value()?)
                    } else {
                        map.next_value_seed(self)?
                    };
                    object.put(&name.canonical, written, value);
                }
                None => {
                    let IgnoredAny = map.next_value()?;
                    object.put_unknown(written);
                }
            }
        }
        Ok(Node::Object(object))
    }
}

/// A number where the form has none: only that it is one matters, and its digits as a text's.
fn misplaced<'a>(value: impl fmt::Display) -> Node<'a> {
    Node::Number(Number {
        text: Cow::Owned(value.to_string()),
    })
}

impl<'a> Node<'a> {
    /// The value under a name that should hold a number; its inside does not matter if it is none.
    fn of_number(raw: &'a RawValue) -> Self {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'n') | None => Self::Null,
            Some(b't' | b'f') => Self::Bool,
            Some(b'"') => Self::Text(serde_json::from_str(text).map_or_else(
                |_| Cow::Borrowed(text.trim_matches('"')),
                |Key(unescaped)| unescaped,
            )),
            Some(b'[') => Self::List {
                elements: Vec::new(),
                count: 0,
            },
            Some(b'{') => Self::Object(Object::default()),
            Some(_) => Self::Number(Number {
                text: Cow::Borrowed(text),
            }),
        }
    }
}

/// A text, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        for (name, is_number) in [
            ("SellerDtls", false),
            ("Gstin", false),
            ("ItemList", false),
            ("AssAmt", true),
        ] {
            names.add(name, is_number);
        }
        names
    }

    #[test]
    fn names_are_known_in_any_case_and_pointers_keep_their_spelling() {
        let names = names();
        let text =
            r#"{"SELLERDTLS":{"gstin":"a","GSTIN":"b"},"itemlist":[{},{"assamt":10.50}],"x/~y":1}"#;
        let node = Node::parse(text, &names).unwrap();
        let seller = node.object().unwrap().get("SellerDtls").unwrap();
        assert_eq!(
            seller.object().unwrap().get("Gstin").unwrap().text(),
            Some("b")
        );
        for (canonical, written) in [
            ("/ItemList/1/AssAmt", "/itemlist/1/assamt"),
            ("/ItemList/0/AssAmt", "/itemlist/0/AssAmt"),
            ("/SellerDtls/Gstin", "/SELLERDTLS/GSTIN"),
            ("/ValDtls/AssVal", "/ValDtls/AssVal"),
            ("", ""),
        ] {
            assert_eq!(node.as_written(canonical), written);
        }
        let unknown: Vec<_> = node.object().unwrap().unknown().collect();
        assert_eq!(unknown, ["x/~y"]);
        let mut escaped = String::new();
        push_escaped(&mut escaped, unknown[0]);
        assert_eq!(escaped, "x~1~0y");
    }

    #[test]
    fn numbers_keep_their_digits_and_nulls_are_absent() {
        let names = names();
        let text = r#"{"AssAmt":99999999999999.99,"Gstin":null,"SellerDtls":{"AssAmt":"1e2"}}"#;
        let node = Node::parse(text, &names).unwrap();
        let object = node.object().unwrap();
        let number = object.get("AssAmt").unwrap().number().unwrap();
        assert_eq!(number.to_string(), "99999999999999.99");
        assert!(object.get("Gstin").is_none());
        let quoted = object.get("SellerDtls").unwrap().object().unwrap();
        assert_eq!(
            quoted.get("AssAmt").unwrap().number(),
            Some(Decimal::ONE_HUNDRED)
        );
        assert_eq!(decimal("1e400"), None);
        let float_in_full = "900.1000000000000227373675443232059478759765625";
        let rounded = decimal(float_in_full).unwrap();
        assert_eq!(rounded.round_dp(2).to_string(), "900.10");
        assert_eq!(decimal("1.5E+3"), Some(Decimal::from(1_500)));
        assert_eq!(
            decimal("150e-2")
                .map(|value| value.normalize().to_string())
                .as_deref(),
            Some("1.5")
        );
        assert_eq!(decimal("1e-400"), Some(Decimal::ZERO));
    }

    #[test]
    fn a_hostile_document_is_an_error_or_a_tree_and_no_more() {
        let names = names();
        let deep =
            |open: &str, close: &str| format!("{}{}", open.repeat(200_000), close.repeat(200_000));
        assert!(Node::parse(&deep("[", "]"), &names).is_err());
        assert!(Node::parse(&format!("{{\"Gstin\":{}}}", deep("[", "]")), &names).is_err());
        for skipped in [
            format!("{{\"nobody\":{}}}", deep("[", "]")),
            format!("{{\"AssAmt\":{}}}", deep("[", "]")),
            format!("{{{}\"a\":1}}", "\"Gstin\":\"x\",".repeat(100_000)),
        ] {
            assert!(Node::parse(&skipped, &names).is_ok());
        }
    }
}
