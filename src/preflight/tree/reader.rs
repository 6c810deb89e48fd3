//! Reads the tree of a document that has been proven to be JSON.
//!
//! One rule: no value is copied that is not asked for. It takes a tenth fewer instructions than a visitor of the general
//! parser did, and keeps every number's digits; a test holds it against that parser.

use std::borrow::Cow;

use super::{MAX_ELEMENTS, Names, Node, Number, Object};
use crate::json::plain_bytes;

/// As deep as the general parser goes.
const DEEPEST: usize = 128;

/// Not JSON, or nested deeper than any document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::preflight) struct Unreadable;

type Read<T> = Result<T, Unreadable>;

/// Reads one JSON text.
pub(super) fn read<'a>(text: &'a str, names: &'a Names) -> Read<Node<'a>> {
    let mut reader = Reader { text, at: 0, names };
    let node = reader.value(DEEPEST)?;
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

    fn value(&mut self, depth: usize) -> Read<Node<'a>> {
        match self.next()? {
            b'{' => Ok(Node::Object(self.object(depth)?)),
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

    fn object(&mut self, depth: usize) -> Read<Object<'a>> {
        let depth = depth.checked_sub(1).ok_or(Unreadable)?;
        self.at += 1;
        let mut object = Object::default();
        if self.is_empty(b'}')? {
            return Ok(object);
        }
        loop {
            if self.next()? != b'"' {
                return Err(Unreadable);
            }
            let written = self.string()?;
            self.take(b':')?;
            match self.names.find(&written) {
                Some(name) if name.is_number => {
                    let value = self.number()?;
                    object.put(name, &written, value);
                }
                Some(name) => {
                    let value = self.value(depth)?;
                    object.put(name, &written, value);
                }
                None => {
                    self.skip()?;
                    object.put_unknown(written);
                }
            }
            if !self.goes_on(b'}')? {
                return Ok(object);
            }
        }
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
                elements.push(self.value(depth)?);
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
        let bytes = self.text.as_bytes();
        while let Some(b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.') = bytes.get(self.at) {
            self.at += 1;
        }
        match &self.text[begin..self.at] {
            "null" => Ok(Node::Null),
            "true" | "false" => Ok(Node::Bool),
            number if number.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                Ok(Node::Number(Number::new(number)))
            }
            _ => Err(Unreadable),
        }
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
