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

pub(super) use reader::{Fault, Unreadable};

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
    pub(super) id: NameId,
}

/// A name's place among the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameId(u8);

impl NameId {
    /// As an index into a table with a place for each name.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Longer than every name of the form.
const LONGEST_NAME: usize = 24;

const SHELVES: usize = (LONGEST_NAME + 1) * 32;

/// The names of the form, known in any case: on shelves by length and last letter, so that a look at one or two of
/// them finds a name, which no hash of it would do as quickly.
#[derive(Debug)]
pub(super) struct Names {
    all: Vec<Name>,
    shelves: Vec<Vec<NameId>>,
}

/// Where a name stands, whatever case it is written in: letters of both cases have the same lowest five bits.
fn shelf_of(name: &str) -> usize {
    let last = name.bytes().last().unwrap_or_default();
    name.len() * 32 + usize::from(last & 31)
}

impl Default for Names {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            shelves: vec![Vec::new(); SHELVES],
        }
    }
}

impl Names {
    /// Takes a name in; one that is a number anywhere is read as one everywhere.
    pub(super) fn add(&mut self, canonical: &str, is_number: bool) -> NameId {
        if let Some(known) = self.find(canonical).map(|name| name.id) {
            self.all[known.index()].is_number |= is_number;
            return known;
        }
        let id = u8::try_from(self.all.len());
        let id = NameId(id.expect("a test sees to it that the form has no more names than this"));
        self.shelves[shelf_of(canonical)].push(id);
        self.all.push(Name {
            canonical: canonical.into(),
            is_number,
            id,
        });
        id
    }

    fn find(&self, written: &str) -> Option<&Name> {
        let shelf = self.shelves.get(shelf_of(written))?;
        let mut names = shelf.iter().filter_map(|id| self.all.get(id.index()));
        // Nearly everybody writes it as the form does.
        let as_written = names.clone().find(|name| *name.canonical == *written);
        as_written.or_else(|| names.find(|name| name.canonical.eq_ignore_ascii_case(written)))
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
    few: Option<FewDigits>,
}

impl<'a> Number<'a> {
    /// Its value, rounded to 28 digits; `None` where it is larger than they can say.
    pub(super) fn value(&self) -> Option<Decimal> {
        match self.few {
            Some(few) => Some(few.value()),
            None => decimal(self.text),
        }
    }

    /// Its digits.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The nearest float; `None` beyond every float.
    pub(super) fn float(&self) -> Option<f64> {
        let exact = self.few.and_then(FewDigits::float);
        exact.or_else(|| self.text.parse().ok())
    }

    /// Whether it has no fraction.
    pub(super) fn is_integer(&self) -> bool {
        match self.few {
            Some(few) if few.scale == 0 => true,
            Some(_) | None => self.value().is_some_and(|value| value.is_integer()),
        }
    }
}

/// As many digits as fit a machine's whole number.
const FEW_DIGITS: usize = 18;

/// A JSON number's value, rounded to 28 digits: a program that prints its floats in full writes more of them.
fn decimal(text: &str) -> Option<Decimal> {
    if let Some(few) = FewDigits::read(text) {
        return Some(few.value());
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

/// Nearly every amount: digits that fit a machine's whole number, without the generality that costs a parser its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FewDigits {
    mantissa: i64,
    scale: u8,
}

/// Powers of ten that are floats without rounding, as many as there can be decimal places.
const POWERS: [f64; FEW_DIGITS + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18,
];

impl FewDigits {
    /// `None` says nothing of the text.
    fn read(text: &str) -> Option<Self> {
        let (few, length) = Self::at_start(text.as_bytes());
        few.filter(|_| length == text.len())
    }

    /// Reads as far as there are digits, and says how far that is.
    fn at_start(bytes: &[u8]) -> (Option<Self>, usize) {
        let sign = usize::from(bytes.first() == Some(&b'-'));
        let mut at = sign;
        let mut mantissa = 0_i64;
        let mut digits_from = |from: usize| {
            let mut at = from;
            while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
                mantissa = mantissa
                    .wrapping_mul(10)
                    .wrapping_add(i64::from(digit - b'0'));
                at += 1;
            }
            at - from
        };
        let whole = digits_from(at);
        at += whole;
        let mut scale = 0;
        let mut is_one = whole > 0;
        if bytes.get(at) == Some(&b'.') {
            scale = digits_from(at + 1);
            at += 1 + scale;
            is_one &= scale > 0;
        }
        let few = (is_one && whole + scale <= FEW_DIGITS).then(|| Self {
            mantissa: if sign == 1 { -mantissa } else { mantissa },
            scale: u8::try_from(scale).unwrap_or(u8::MAX),
        });
        (few, at)
    }

    fn value(self) -> Decimal {
        Decimal::new(self.mantissa, u32::from(self.scale))
    }

    /// The nearest float, where one division of two exact floats gives it.
    fn float(self) -> Option<f64> {
        let mantissa = i32::try_from(self.mantissa).map(f64::from).or_else(|_| {
            /// Whole numbers up to here are floats without rounding.
            const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
            let exact = self.mantissa.unsigned_abs() <= EXACT;
            #[expect(clippy::cast_precision_loss, reason = "it is within the exact ones")]
            exact.then_some(self.mantissa as f64).ok_or(())
        });
        let power = POWERS.get(usize::from(self.scale))?;
        Some(mantissa.ok()? / power)
    }
}

/// The members of an object that the form knows, and the names of a few that it does not.
#[derive(Clone, Default)]
pub(super) struct Object<'a> {
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
        Some(&self.member(name)?.value)
    }

    fn member(&self, name: &str) -> Option<&Member<'a>> {
        self.members
            .iter()
            .find(|member| *member.name.canonical == *name)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The members, by name.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'a Name, &Node<'a>)> {
        self.members
            .iter()
            .map(|member| (member.name, &member.value))
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
        self.member(name)
            .and_then(|member| member.written.as_deref())
            .unwrap_or(name)
    }

    /// Puts a member in whose name is not there yet. A `null` is none.
    fn put(&mut self, name: &'a Name, written: Option<Box<str>>, value: Node<'a>) {
        if !matches!(value, Node::Null) {
            self.members.push(Member {
                name,
                written,
                value,
            });
        }
    }

    /// The last one of a repeated member counts.
    fn take_out(&mut self, name: &Name) {
        self.members.retain(|member| member.name.id != name.id);
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
    /// Not JSON, nested deeper than any document, or a text that is none. Some texts that are not quite JSON are read as if
    /// they were.
    pub(super) fn parse(text: &'a str, names: &'a Names) -> Result<Self, Unreadable> {
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
