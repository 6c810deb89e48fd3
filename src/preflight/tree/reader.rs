//! Reads the tree of a document that has been proven to be JSON.
//!
//! One rule: no value is copied that is not asked for, and no name looked up that can be foreseen: the elements of a
//! list have the same members in the same order, nearly always. It takes a fraction of the time of a visitor of the
//! general parser, and keeps every number's digits; a test holds it against that parser. Where a fault is, is put together
//! on the way back from it: a document without one pays nothing for it.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use super::{
    FewDigits, MAX_ELEMENTS, Member, Name, NameId, Names, Node, Number, Object, push_escaped,
};
use crate::json::plain_bytes;

/// As deep as the general parser goes.
const DEEPEST: usize = 128;

/// Of the way to what is nested too deep, so many steps are told: an invoice has no more than four.
const STEPS_TOLD: usize = 4;

/// And of any way no more bytes than these: names may be as long as a body.
const LONGEST_TOLD: usize = 1_000;

/// Room for so many members is made at once where nothing is foreseen: most blocks have fewer.
const USUAL_MEMBERS: usize = 12;

/// What is wrong with a text that cannot be read as a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::preflight) enum Fault {
    /// It is no JSON.
    NotJson,
    /// Lists and objects in one another, more of them than any parser of a portal goes through.
    TooDeep,
    /// `\ud800` to `\udfff` come in pairs, and here is half of one: no character, so UTF-8 has no bytes for it.
    HalfPair,
    /// The same in a member's name.
    HalfPairInName,
}

/// Why a text cannot be read, and where.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::preflight) struct Unreadable(Box<Place>);

#[derive(Clone, PartialEq, Eq)]
struct Place {
    fault: Fault,
    /// The innermost first, each as it is written in the document.
    steps: Vec<String>,
}

impl fmt::Debug for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unreadable({:?})", self.0.fault)
    }
}

impl From<Fault> for Unreadable {
    fn from(fault: Fault) -> Self {
        let steps = Vec::new();
        Self(Box::new(Place { fault, steps }))
    }
}

impl Unreadable {
    pub(in crate::preflight) fn fault(&self) -> Fault {
        self.0.fault
    }

    /// A JSON Pointer (RFC 6901) to it; to what is nested too deep or has names that long, the beginning of one.
    pub(in crate::preflight) fn pointer(&self) -> String {
        let most = match self.0.fault {
            Fault::TooDeep => STEPS_TOLD,
            Fault::NotJson | Fault::HalfPair | Fault::HalfPairInName => usize::MAX,
        };
        let mut pointer = String::new();
        for step in self.0.steps.iter().rev().take(most) {
            let before = pointer.len();
            pointer.push('/');
            push_escaped(&mut pointer, step);
            if pointer.len() > LONGEST_TOLD {
                pointer.truncate(before);
                break;
            }
        }
        pointer
    }

    /// The same, seen from one level further out.
    fn within(mut self, step: impl Into<String>) -> Self {
        self.0.steps.push(step.into());
        self
    }
}

type Read<T> = Result<T, Unreadable>;

/// Reads one JSON text.
pub(super) fn read<'a>(text: &'a str, names: &'a Names) -> Read<Node<'a>> {
    let mut reader = Reader { text, at: 0, names };
    let node = reader.value(DEEPEST, &[])?;
    reader.space();
    if reader.at == text.len() {
        Ok(node)
    } else {
        Err(Fault::NotJson.into())
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    names: &'a Names,
}

/// A member's name as it was read.
enum ReadName<'a> {
    Known {
        name: &'a Name,
        /// As it is written, where that is another spelling.
        written: Option<Box<str>>,
    },
    /// The form does not know it.
    Unknown(Cow<'a, str>),
}

/// The names that an object has had so far.
#[derive(Default)]
struct Seen([u64; 4]);

impl Seen {
    /// Whether it has been there before.
    fn again(&mut self, name: NameId) -> bool {
        let (word, bit) = (&mut self.0[name.index() / 64], 1 << (name.index() % 64));
        let again = *word & bit != 0;
        *word |= bit;
        again
    }
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Read<u8> {
        self.space();
        self.peek().ok_or_else(|| Fault::NotJson.into())
    }

    fn take(&mut self, byte: u8) -> Read<()> {
        if self.next()? == byte {
            self.at += 1;
            Ok(())
        } else {
            Err(Fault::NotJson.into())
        }
    }

    /// Whether there is another member or element, its comma taken; else the end is taken.
    fn goes_on(&mut self, end: u8) -> Read<bool> {
        let byte = self.next()?;
        self.at += 1;
        match byte {
            b',' => Ok(true),
            byte if byte == end => Ok(false),
            _ => Err(Fault::NotJson.into()),
        }
    }

    /// Whether the list or object that has just begun is empty, its end taken then.
    fn is_empty(&mut self, end: u8) -> Read<bool> {
        let empty = self.next()? == end;
        self.at += usize::from(empty);
        Ok(empty)
    }

    /// Reads a value; `like` are the members of one before it, if it is an object.
    fn value(&mut self, depth: usize, like: &[Member<'a>]) -> Read<Node<'a>> {
        match self.next()? {
            b'{' => Ok(Node::Object(self.object(depth, like)?)),
            b'[' => self.list(depth),
            b'"' => Ok(Node::Text(self.string()?)),
            _ => self.scalar(),
        }
    }

    /// The value under a name that should hold a number; its inside does not matter if it is none.
    fn number(&mut self, depth: usize) -> Read<Node<'a>> {
        match self.next()? {
            b'{' => self.skip(depth).map(|()| Node::Object(Object::default())),
            b'[' => self.skip(depth).map(|()| Node::List {
                elements: Vec::new(),
                count: 0,
            }),
            b'"' => Ok(Node::Text(self.string()?)),
            _ => self.scalar(),
        }
    }

    fn object(&mut self, depth: usize, like: &[Member<'a>]) -> Read<Object<'a>> {
        let depth = deeper(depth)?;
        self.at += 1;
        let mut object = Object::default();
        if self.is_empty(b'}')? {
            return Ok(object);
        }
        let usual = if like.is_empty() {
            USUAL_MEMBERS
        } else {
            like.len()
        };
        object.members.reserve_exact(usual);
        let mut foreseen = like;
        let mut seen = Seen::default();
        loop {
            match self.name(&mut foreseen)? {
                ReadName::Known { name, written } => {
                    if seen.again(name.id) {
                        object.take_out(name);
                    }
                    let value = if name.is_number {
                        self.number(depth)
                    } else {
                        self.value(depth, &[])
                    };
                    let value = value.map_err(|fault| {
                        fault.within(written.as_deref().unwrap_or(&name.canonical))
                    })?;
                    object.put(name, written, value);
                }
                ReadName::Unknown(written) => {
                    self.skip(depth).map_err(|fault| fault.within(&*written))?;
                    object.put_unknown(written);
                }
            }
            if !self.goes_on(b'}')? {
                return Ok(object);
            }
        }
    }

    /// Reads a member's name and its colon.
    fn name(&mut self, foreseen: &mut &[Member<'a>]) -> Read<ReadName<'a>> {
        if self.next()? != b'"' {
            return Err(Fault::NotJson.into());
        }
        if let Some((next, rest)) = foreseen.split_first()
            && self.is_at(next.name)
        {
            *foreseen = rest;
            self.at += next.name.canonical.len() + 2;
            self.take(b':')?;
            return Ok(ReadName::Known {
                name: next.name,
                written: None,
            });
        }
        let written = self.string().map_err(of_a_name)?;
        self.take(b':')?;
        let Some(name) = self.names.find(&written) else {
            return Ok(ReadName::Unknown(written));
        };
        // One before it has been left out, or stands elsewhere.
        let ahead = foreseen.iter().position(|member| member.name.id == name.id);
        if let Some(ahead) = ahead {
            *foreseen = &foreseen[ahead + 1..];
        }
        let written = (*written != *name.canonical).then(|| (*written).into());
        Ok(ReadName::Known { name, written })
    }

    /// Whether the string that begins here is this name.
    fn is_at(&self, name: &Name) -> bool {
        let (begin, end) = (self.at + 1, self.at + 1 + name.canonical.len());
        let bytes = self.text.as_bytes();
        bytes.get(end) == Some(&b'"') && bytes.get(begin..end) == Some(name.canonical.as_bytes())
    }

    fn list(&mut self, depth: usize) -> Read<Node<'a>> {
        let depth = deeper(depth)?;
        self.at += 1;
        let (mut elements, mut count) = (Vec::new(), 0);
        if self.is_empty(b']')? {
            return Ok(Node::List { elements, count });
        }
        loop {
            if count < MAX_ELEMENTS {
                let like = elements.last().and_then(Node::object);
                let like = like.map_or(&[][..], |object| &object.members);
                let element = self.value(depth, like);
                elements.push(element.map_err(|fault| fault.within(count.to_string()))?);
            } else {
                self.skip(depth)
                    .map_err(|fault| fault.within(count.to_string()))?;
            }
            count += 1;
            if !self.goes_on(b']')? {
                return Ok(Node::List { elements, count });
            }
        }
    }

    /// A string's text, borrowed where it has no escapes.
    fn string(&mut self) -> Read<Cow<'a, str>> {
        let (begin, escaped) = (self.at, self.skip_string()?);
        if escaped {
            return unescaped(&self.text[begin..self.at]).map(Cow::Owned);
        }
        Ok(Cow::Borrowed(&self.text[begin + 1..self.at - 1]))
    }

    /// Goes past a string and says whether it has escapes.
    fn skip_string(&mut self) -> Read<bool> {
        self.at += 1;
        let mut escaped = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..).ok_or(Fault::NotJson)?;
            self.at += plain_bytes(rest);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(_) | None => return Err(Fault::NotJson.into()),
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Read<Node<'a>> {
        let begin = self.at;
        let rest = self.text.as_bytes().get(begin..).ok_or(Fault::NotJson)?;
        if let Some(b'-' | b'0'..=b'9') = rest.first() {
            let (few, length) = FewDigits::at_start(rest);
            self.at += length;
            let has_few = few.filter(|_| !self.is_in_scalar());
            self.skip_scalar();
            let text = &self.text[begin..self.at];
            return Ok(Node::Number(Number { text, few: has_few }));
        }
        self.skip_scalar();
        match &self.text[begin..self.at] {
            "null" => Ok(Node::Null),
            "true" | "false" => Ok(Node::Bool),
            _ => Err(Fault::NotJson.into()),
        }
    }

    fn skip_scalar(&mut self) {
        while self.is_in_scalar() {
            self.at += 1;
        }
    }

    fn is_in_scalar(&self) -> bool {
        let next = self.peek();
        matches!(
            next,
            Some(b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.')
        )
    }

    /// Goes past a value in which `depth` more levels may lie, without recursion.
    fn skip(&mut self, depth: usize) -> Read<()> {
        let mut left = depth;
        loop {
            match self.next()? {
                b'"' => {
                    let begin = self.at;
                    if self.skip_string()? {
                        unescaped(&self.text[begin..self.at])?;
                    }
                }
                b'{' | b'[' => {
                    left = deeper(left)?;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' if left < depth => {
                    left += 1;
                    self.at += 1;
                }
                b',' | b':' if left < depth => {
                    self.at += 1;
                    continue;
                }
                _ => drop(self.scalar()?),
            }
            if left == depth {
                return Ok(());
            }
        }
    }
}

/// One level further in, of those that are left.
fn deeper(depth: usize) -> Read<usize> {
    depth.checked_sub(1).ok_or_else(|| Fault::TooDeep.into())
}

/// What a string with escapes says.
fn unescaped(quoted: &str) -> Read<String> {
    serde_json::from_str(quoted).map_err(|_| {
        // Whoever keeps the text as it is sees no fault in half of a pair.
        let is_json = serde_json::from_str::<&RawValue>(quoted).is_ok();
        let fault = if is_json {
            Fault::HalfPair
        } else {
            Fault::NotJson
        };
        fault.into()
    })
}

fn of_a_name(unreadable: Unreadable) -> Unreadable {
    match unreadable.fault() {
        Fault::HalfPair => Fault::HalfPairInName.into(),
        Fault::NotJson | Fault::TooDeep | Fault::HalfPairInName => unreadable,
    }
}
