//! A document as the portal reads it: parsed once, member names known in any case, numbers with the digits that were
//! sent.
//!
//! One rule: a tree borrows from the document and is never printed. What it cannot place (an unknown member) it skips.

use std::borrow::Cow;
use std::fmt;

use rust_decimal::Decimal;

mod reader;
#[cfg(test)]
mod tests;

/// Longer than every name of the form.
const LONGEST_NAME: usize = 24;

/// As many elements of a list are kept: the portal takes no more lines, and a list of millions must not cost the work of
/// a thousand invoices.
pub(super) const MAX_ELEMENTS: usize = 1_000;

/// Room for so many members is made at once: most blocks have fewer.
const USUAL_MEMBERS: usize = 16;

/// Unknown members are remembered up to this many in one object: enough to see the mistake.
const MAX_UNKNOWN: usize = 5;

/// How a name of the form is spelt, and whether its value is a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) canonical: Box<str>,
    pub(super) is_number: bool,
    shelf: Shelf,
}

/// Where a name stands among the names: it says its length and its last letter.
pub(super) type Shelf = u16;

/// The names of the form, known in any case: on shelves by length and last letter, so that a look at one or two of
/// them finds a name, which no hash of it would do as quickly.
#[derive(Debug)]
pub(super) struct Names(Vec<Vec<Name>>);

const SHELVES: usize = (LONGEST_NAME + 1) * 32;

/// Where a name stands, whatever case it is written in: letters of both cases have the same lowest five bits.
pub(super) fn shelf_of(name: &str) -> Shelf {
    let last = name.bytes().last().unwrap_or_default();
    let length = Shelf::try_from(name.len().min(LONGEST_NAME + 1)).unwrap_or(Shelf::MAX);
    length * 32 + Shelf::from(last & 31)
}

impl Default for Names {
    fn default() -> Self {
        Self(vec![Vec::new(); SHELVES])
    }
}

impl Names {
    /// Takes a name in; one that is a number anywhere is read as one everywhere.
    pub(super) fn add(&mut self, canonical: &str, is_number: bool) {
        let at = shelf_of(canonical);
        let shelf = self
            .0
            .get_mut(usize::from(at))
            .expect("a test sees to it that no name of the form is longer than the longest");
        let same = |name: &&mut Name| name.canonical.eq_ignore_ascii_case(canonical);
        match shelf.iter_mut().find(same) {
            Some(name) => name.is_number |= is_number,
            None => shelf.push(Name {
                canonical: canonical.into(),
                is_number,
                shelf: at,
            }),
        }
    }

    fn find(&self, written: &str) -> Option<&Name> {
        let shelf = self.0.get(usize::from(shelf_of(written)))?;
        // Nearly everybody writes it as the form does.
        let as_written = shelf.iter().find(|name| *name.canonical == *written);
        as_written.or_else(|| {
            let same = |name: &&Name| name.canonical.eq_ignore_ascii_case(written);
            shelf.iter().find(same)
        })
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
#[derive(Clone, Copy)]
pub(super) struct Number<'a> {
    text: &'a str,
    value: Option<Decimal>,
}

impl<'a> Number<'a> {
    fn new(text: &'a str) -> Self {
        let value = decimal(text);
        Self { text, value }
    }

    /// Its value, rounded to 28 digits; `None` where it is larger than they can say.
    pub(super) fn value(&self) -> Option<Decimal> {
        self.value
    }

    /// Its digits.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }
}

/// As many digits as fit a machine's whole number with room for one more.
const FEW_DIGITS: usize = 18;

/// A JSON number's value, rounded to 28 digits: a program that prints its floats in full writes more of them.
fn decimal(text: &str) -> Option<Decimal> {
    if let Some(value) = of_few_digits(text) {
        return Some(value);
    }
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

/// Nearly every amount, without the generality that costs the parser its time; `None` says nothing of the text.
fn of_few_digits(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (digits, ""),
    };
    if whole.is_empty() || digits.len() > FEW_DIGITS {
        return None;
    }
    let mut mantissa = 0_i64;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        mantissa = mantissa * 10 + i64::from(byte - b'0');
    }
    let sign = if digits.len() < text.len() { -1 } else { 1 };
    let scale = u32::try_from(fraction.len()).ok()?;
    Some(Decimal::new(mantissa * sign, scale))
}

/// The members of an object that the form knows, and the names of a few that it does not.
#[derive(Clone, Default)]
pub(super) struct Object<'a> {
    /// Of each member the shelf its name is from: side by side they are looked through at a glance.
    shelves: Vec<Shelf>,
    members: Vec<Member<'a>>,
    /// Hardly ever any.
    unknown: Option<Box<Unknown<'a>>>,
}

/// Names that the form does not know, as written.
#[derive(Clone, Default)]
struct Unknown<'a>(Vec<Cow<'a, str>>);

#[derive(Clone)]
struct Member<'a> {
    name: &'a Name,
    /// Its spelling in the document, where that is another one.
    written: Option<Box<str>>,
    value: Node<'a>,
}

impl<'a> Object<'a> {
    /// The value under a name of the form. A `null` counts as absent, as it does at the portal.
    pub(super) fn get(&self, name: &str) -> Option<&Node<'a>> {
        self.on_shelf(shelf_of(name), name)
    }

    /// As [`Object::get`], for a name whose shelf is known.
    pub(super) fn on_shelf(&self, shelf: Shelf, name: &str) -> Option<&Node<'a>> {
        Some(&self.member(shelf, name)?.value)
    }

    fn member(&self, shelf: Shelf, name: &str) -> Option<&Member<'a>> {
        self.members
            .get(self.find(shelf, |member| *member.canonical == *name)?)
    }

    fn find(&self, shelf: Shelf, is_it: impl Fn(&Name) -> bool) -> Option<usize> {
        let mut from = 0;
        loop {
            let ahead = self.shelves.get(from..)?;
            let at = from + ahead.iter().position(|known| *known == shelf)?;
            if is_it(self.members.get(at)?.name) {
                return Some(at);
            }
            from = at + 1;
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Names of the form and their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &Node<'a>)> {
        self.members
            .iter()
            .map(|member| (&*member.name.canonical, &member.value))
    }

    /// Names that the form does not know, as written.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.unknown
            .iter()
            .flat_map(|unknown| unknown.0.iter().map(AsRef::as_ref))
    }

    /// How the document spells this name of the form.
    fn spelling<'s>(&'s self, name: &'s str) -> &'s str {
        self.member(shelf_of(name), name)
            .and_then(|member| member.written.as_deref())
            .unwrap_or(name)
    }

    /// The last one of a repeated member counts; a `null` takes it away.
    fn put(&mut self, name: &'a Name, written: &str, value: Node<'a>) {
        if let Some(at) = self.find(name.shelf, |known| std::ptr::eq(known, name)) {
            self.shelves.remove(at);
            self.members.remove(at);
        }
        if !matches!(value, Node::Null) {
            let written = (*written != *name.canonical).then(|| written.into());
            if self.members.is_empty() {
                self.shelves.reserve(USUAL_MEMBERS);
                self.members.reserve(USUAL_MEMBERS);
            }
            self.shelves.push(name.shelf);
            self.members.push(Member {
                name,
                written,
                value,
            });
        }
    }

    fn put_unknown(&mut self, written: Cow<'a, str>) {
        let Unknown(unknown) = self.unknown.get_or_insert_default().as_mut();
        if unknown.len() < MAX_UNKNOWN {
            unknown.push(written);
        }
    }
}

impl<'a> Node<'a> {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// Not JSON, or nested deeper than any document. Some texts that are not quite JSON are read as if they were.
    pub(super) fn parse(text: &'a str, names: &'a Names) -> Result<Self, reader::Unreadable> {
        reader::read(text, names)
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

    /// The number, when it is one without quotation marks.
    pub(super) fn bare_number(&self) -> Option<Number<'_>> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Null | Self::Bool | Self::Text(_) | Self::List { .. } | Self::Object(_) => None,
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
        match self {
            Self::Number(number) => number.value(),
            Self::Text(text) => decimal(text),
            Self::Null | Self::Bool | Self::List { .. } | Self::Object(_) => None,
        }
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
