//! The `data` claim of a token in the form in which NIC writes it, read in one go.
//!
//! One rule: it reads what it knows exactly, and leaves every other form to the general way. A signed invoice is a JSON
//! text within a JSON text, with an escape every few bytes: read by a general parser it costs half as much as the
//! verification of its signature.

use crate::document::members_of;

const BEGIN: &str = "{\"data\":\"";

/// The text of `data`, if the payload begins with it, it has simple escapes only, and nothing else is called so.
pub(super) fn data_of(payload: &str) -> Option<String> {
    let (data, rest) = text_until_end(payload.strip_prefix(BEGIN)?)?;
    let rest = rest.trim_start();
    let others = match rest.strip_prefix(',') {
        Some(members) => format!("{{{members}"),
        None => format!("{{{rest}"),
    };
    match members_of(&others, ["data"]) {
        Ok([None]) => Some(data),
        Ok([Some(_)]) | Err(_) => None,
    }
}

/// A JSON string's text, its first quotation mark already read, and what follows its last.
fn text_until_end(json: &str) -> Option<(String, &str)> {
    let bytes = json.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    loop {
        let plain = plain_bytes(&bytes[at..]);
        text.extend_from_slice(&bytes[at..at + plain]);
        at += plain;
        match bytes.get(at)? {
            b'"' => return Some((String::from_utf8(text).ok()?, &json[at + 1..])),
            b'\\' => text.push(escaped(*bytes.get(at + 1)?)?),
            // A control character, which no string may hold as it is.
            _ => return None,
        }
        at += 2;
    }
}

/// The byte an escape of one letter stands for.
fn escaped(letter: u8) -> Option<u8> {
    match letter {
        b'"' | b'\\' | b'/' => Some(letter),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        _ => None,
    }
}

/// How many bytes come before the first quotation mark, backslash or control character.
fn plain_bytes(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ');
    let plain = rest.iter().position(is_special).unwrap_or(rest.len());
    bytes.len() - rest.len() + plain
}

/// Eight bytes at once: the highest bit of each special one is set, of the first one at least correctly (Mycroft's
/// test for a byte below another).
fn special_bytes(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let below = |word: u64, limit: u64| word.wrapping_sub(limit * EACH) & !word & HIGH;
    let equals = |byte: u8| below(word ^ (u64::from(byte) * EACH), 1);
    below(word, 0x20) | equals(b'"') | equals(b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn other_forms_are_left_to_the_general_way() {
        for payload in [
            r#"{"iss":"NIC","data":"x"}"#,
            r#"{"data":{"Irn":"x"}}"#,
            r#"{"data":"x","data":"y"}"#,
            r#"{"data":"x","DATA":"y"}"#,
            r#"{"data":"\u0041"}"#,
            r#"{"data":"x"#,
            r#"{"data":"x"} {"#,
            r#"{"data":"x" "iss":"NIC"}"#,
            "{\"data\":\"a\nb\"}",
        ] {
            assert_eq!(data_of(payload), None, "{payload}");
        }
        for payload in [r#"{"data":"x"}"#, r#"{"data":"x" , "iss":"NIC"} "#] {
            assert_eq!(data_of(payload).as_deref(), Some("x"), "{payload}");
        }
    }

    proptest! {
        #[test]
        fn text_is_what_a_json_parser_reads(
            text in r#"([a-zA-Z0-9 :{},"\\/₹é]|\n|\t|\x01){0,80}"#,
            space in "[ \n]{0,2}",
        ) {
            let payload = format!("{{\"data\":{}{space},\"iss\":\"NIC\"}}", json!(text));
            let parsed: Value = serde_json::from_str(&payload).unwrap();
            match data_of(&payload) {
                Some(data) => prop_assert_eq!(&parsed["data"], &Value::from(data)),
                None => prop_assert!(text.contains('\x01')),
            }
        }
    }
}
