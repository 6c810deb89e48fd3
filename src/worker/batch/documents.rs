//! The documents of a batch, one after the other, without a copy or a list of them.
//!
//! One rule: what has been read so far may be followed by a fault. Whoever acts on it reads to the end first.

use serde_json::value::RawValue;

/// The body is not one JSON array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Reads an array's elements one by one; its last item is the fault, if there is one.
#[derive(Clone, Debug)]
pub(super) struct Documents<'a> {
    rest: &'a [u8],
    next: Next,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    /// `[`, and an element unless `]` follows.
    Bracket,
    /// `,` and an element, or `]`.
    Comma,
    End,
}

impl<'a> Documents<'a> {
    pub(super) fn of(body: &'a [u8]) -> Self {
        Self {
            rest: body,
            next: Next::Bracket,
        }
    }

    /// How many bytes are still to be read.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn step(&mut self) -> Result<Option<&'a RawValue>, Broken> {
        match (self.next, self.symbol()) {
            (Next::Bracket, Some(b'[')) if self.peek() == Some(b']') => {
                self.rest = &self.rest[1..];
                self.end()
            }
            (Next::Bracket, Some(b'[')) | (Next::Comma, Some(b',')) => self.element().map(Some),
            (Next::Comma, Some(b']')) => self.end(),
            (Next::Bracket | Next::Comma | Next::End, _) => Err(Broken),
        }
    }

    fn element(&mut self) -> Result<&'a RawValue, Broken> {
        let mut values = serde_json::Deserializer::from_slice(self.rest).into_iter::<&RawValue>();
        let element = values.next().and_then(Result::ok).ok_or(Broken)?;
        self.rest = &self.rest[values.byte_offset()..];
        self.next = Next::Comma;
        Ok(element)
    }

    /// Nothing but white space may follow.
    fn end(&mut self) -> Result<Option<&'a RawValue>, Broken> {
        match self.peek() {
            None => Ok(None),
            Some(_) => Err(Broken),
        }
    }

    fn symbol(&mut self) -> Option<u8> {
        let symbol = self.peek()?;
        self.rest = &self.rest[1..];
        Some(symbol)
    }

    /// The next byte that is not white space (RFC 8259, section 2).
    fn peek(&mut self) -> Option<u8> {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let spaces = self.rest.iter().take_while(|byte| is_space(byte)).count();
        self.rest = &self.rest[spaces..];
        self.rest.first().copied()
    }
}

impl<'a> Iterator for Documents<'a> {
    type Item = Result<&'a RawValue, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.next, Next::End) {
            return None;
        }
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.next = Next::End;
        }
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &[u8]) -> Result<Vec<&str>, Broken> {
        Documents::of(body)
            .map(|document| document.map(RawValue::get))
            .collect()
    }

    #[test]
    fn elements_come_as_they_are_written() {
        let body = b" [ {\"a\" : [1, 2.50] } ,\t3\r\n,\"]\", null,[ ] ] \n";
        let expected = vec![r#"{"a" : [1, 2.50] }"#, "3", r#""]""#, "null", "[ ]"];
        assert_eq!(read(body), Ok(expected));
        assert_eq!(read(b"[ ]"), Ok(Vec::new()));
    }

    #[test]
    fn whatever_is_no_array_is_broken_and_nothing_follows_the_fault() {
        for body in [
            "",
            "{}",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1]]",
            "[1],",
            "[] 1",
            "[\"\x01\"]",
            "[1,{\"a\":}]",
            "[tru]",
            "[1}",
        ] {
            assert_eq!(read(body.as_bytes()), Err(Broken), "{body:?}");
            let mut documents = Documents::of(body.as_bytes());
            assert!(documents.any(|document| document.is_err()), "{body:?}");
            assert!(documents.next().is_none(), "{body:?}");
        }
        assert_eq!(read(b"[\"\xff\"]"), Err(Broken));
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_parser_of_whole_bodies(body in r#"[\[\]{},:"a1 ]{0,12}"#) {
            let whole = serde_json::from_str::<Vec<&RawValue>>(&body);
            let one_by_one = read(body.as_bytes());
            prop_assert_eq!(one_by_one.is_ok(), whole.is_ok());
            if let (Ok(one_by_one), Ok(whole)) = (one_by_one, whole) {
                let whole: Vec<_> = whole.into_iter().map(RawValue::get).collect();
                prop_assert_eq!(one_by_one, whole);
            }
        }
    }
}
