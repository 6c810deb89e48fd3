//! Reads the tree of a document that has been proven to be JSON.
//!
//! One rule: no value is copied that is not asked for, and no name looked up that can be foreseen: the elements of a
//! list have the same members in the same order, nearly always. It takes a fraction of the time of a visitor of the
//! general parser, and keeps every number's digits; a test holds it against that parser.

use std::borrow::Cow;

use super::{FewDigits, MAX_ELEMENTS, Member, Name, NameId, Names, Node, Number, Object};
use crate::json::plain_bytes;

/// As deep as the general parser goes.
const DEEPEST: usize = 128;

/// Room for so many members is made at once where nothing is foreseen: most blocks have fewer.
const USUAL_MEMBERS: usize = 12;

/// Not JSON, or nested deeper than any document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::preflight) struct Unreadable;

type Read<T> = Result<T, Unreadable>;

/// Reads one JSON text.
pub(super) fn read<'a>(text: &'a str, names: &'a Names) -> Read<Node<'a>> {
    let mut reader = Reader { text, at: 0, names };
    let node = reader.value(DEEPEST, &[])?;
    reader.space();
    if reader.at == text.len() {
        Ok(node)
    } else {
        Err(Unreadable)
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    names: &'a Names,
}

/// A member's name as it was read.
struct ReadName<'a> {
    name: &'a Name,
    /// As it is written, where that is another spelling.
    written: Option<Box<str>>,
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
        self.peek().ok_or(Unreadable)
    }

    fn take(&mut self, byte: u8) -> Read<()> {
        if self.next()? == byte {
            self.at += 1;
            Ok(())
        } else {
            Err(Unreadable)
        }
    }

    /// Whether there is another member or element, its comma taken; else the end is taken.
    fn goes_on(&mut self, end: u8) -> Read<bool> {
        let byte = self.next()?;
        self.at += 1;
        match byte {
            b',' => Ok(true),
            byte if byte == end => Ok(false),
            _ => Err(Unreadable),
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
    fn number(&mut self) -> Read<Node<'a>> {
        match self.next()? {
            b'{' => self.skip().map(|()| Node::Object(Object::default())),
            b'[' => self.skip().map(|()| Node::List {
                elements: Vec::new(),
                count: 0,
            }),
            b'"' => Ok(Node::Text(self.string()?)),
            _ => self.scalar(),
        }
    }

    fn object(&mut self, depth: usize, like: &[Member<'a>]) -> Read<Object<'a>> {
        let depth = depth.checked_sub(1).ok_or(Unreadable)?;
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
            match self.name(&mut foreseen, &mut object)? {
                Some(ReadName { name, written }) => {
                    if seen.again(name.id) {
                        object.take_out(name);
                    }
                    let value = if name.is_number {
                        self.number()?
                    } else {
                        self.value(depth, &[])?
                    };
                    object.put(name, written, value);
                }
                None => self.skip()?,
            }
            if !self.goes_on(b'}')? {
                return Ok(object);
            }
        }
    }

    /// Reads a member's name and its colon. One that the form does not know is noted as unknown.
    fn name(
        &mut self,
        foreseen: &mut &[Member<'a>],
        object: &mut Object<'a>,
    ) -> Read<Option<ReadName<'a>>> {
        if self.next()? != b'"' {
            return Err(Unreadable);
        }
        if let Some((next, rest)) = foreseen.split_first()
            && self.is_at(next.name)
        {
            *foreseen = rest;
            self.at += next.name.canonical.len() + 2;
            self.take(b':')?;
            return Ok(Some(ReadName {
                name: next.name,
                written: None,
            }));
        }
        let written = self.string()?;
        self.take(b':')?;
        let Some(name) = self.names.find(&written) else {
            object.put_unknown(written);
            return Ok(None);
        };
        // One before it has been left out, or stands elsewhere.
        let ahead = foreseen.iter().position(|member| member.name.id == name.id);
        if let Some(ahead) = ahead {
            *foreseen = &foreseen[ahead + 1..];
        }
        let written = (*written != *name.canonical).then(|| (*written).into());
        Ok(Some(ReadName { name, written }))
    }

    /// Whether the string that begins here is this name.
    fn is_at(&self, name: &Name) -> bool {
        let (begin, end) = (self.at + 1, self.at + 1 + name.canonical.len());
        let bytes = self.text.as_bytes();
        bytes.get(end) == Some(&b'"') && bytes.get(begin..end) == Some(name.canonical.as_bytes())
    }

    fn list(&mut self, depth: usize) -> Read<Node<'a>> {
        let depth = depth.checked_sub(1).ok_or(Unreadable)?;
        self.at += 1;
        let (mut elements, mut count) = (Vec::new(), 0);
        if self.is_empty(b']')? {
            return Ok(Node::List { elements, count });
        }
        loop {
            if count < MAX_ELEMENTS {
                let like = elements.last().and_then(Node::object);
                let like = like.map_or(&[][..], |object| &object.members);
                let element = self.value(depth, like)?;
                elements.push(element);
            } else {
                self.skip()?;
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
        let text = self.text;
        if escaped {
            let unescaped = serde_json::from_str(&text[begin..self.at]);
            return unescaped.map(Cow::Owned).map_err(|_| Unreadable);
        }
        Ok(Cow::Borrowed(&text[begin + 1..self.at - 1]))
    }

    /// Goes past a string and says whether it has escapes.
    fn skip_string(&mut self) -> Read<bool> {
        self.at += 1;
        let mut escaped = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..).ok_or(Unreadable)?;
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
                Some(_) | None => return Err(Unreadable),
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Read<Node<'a>> {
        let begin = self.at;
        let rest = self.text.as_bytes().get(begin..).ok_or(Unreadable)?;
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
            _ => Err(Unreadable),
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

    /// Goes past a value, however deep it is.
    fn skip(&mut self) -> Read<()> {
        let mut open = 0_usize;
        loop {
            match self.next()? {
                b'"' => drop(self.skip_string()?),
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1).ok_or(Unreadable)?;
                    self.at += 1;
                }
                b',' | b':' if open > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => drop(self.scalar()?),
            }
            if open == 0 {
                return Ok(());
            }
        }
    }
}
