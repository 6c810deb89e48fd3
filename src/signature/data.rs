//! The `data` claim of a token in the form in which NIC writes it, read in one go.
//!
//! One rule: it reads what it knows exactly, and leaves every other form to the general way. A signed invoice is a JSON
//! text within a JSON text, with an escape every few bytes: read by a general parser it costs half as much as the
//! verification of its signature.

use crate::document::members_of;
use crate::json::plain_bytes_of;

const BEGIN: &str = "{\"data\":\"";

/// The text of `data`, if the payload begins with it, it has simple escapes only, and nothing else is called so.
pub(super) fn data_of(payload: &str) -> Option<String> {
    let (data, rest) = text_until_end(payload.strip_prefix(BEGIN)?)?;
    let others = match rest.trim_start().strip_prefix(',') {
        Some(members) => format!("{{{members}"),
        None => rest
            .trim()
            .strip_prefix('}')?
            .is_empty()
            .then(|| "{}".to_owned())?,
    };
    match members_of(&others, ["data"]) {
        Ok([None]) => Some(data),
        Ok([Some(_)]) | Err(_) => None,
    }
}

/// A JSON string's text, its first quotation mark already read, and what follows its last.
fn text_until_end(json: &str) -> Option<(String, &str)> {
    let bytes = json.as_bytes();
    // Eight bytes are copied at a time, plain or not, and those that are not are written over.
    let mut text = vec![0; bytes.len() + 8];
    let (mut from, mut to) = (0, 0);
    loop {
        if let Some(word) = bytes.get(from..).and_then(<[u8]>::first_chunk) {
            *text.get_mut(to..)?.first_chunk_mut()? = *word;
            let plain = plain_bytes_of(*word);
            (from, to) = (from + plain, to + plain);
            if plain == word.len() {
                continue;
            }
        }
        match *bytes.get(from)? {
            b'"' => {
                text.truncate(to);
                return Some((String::from_utf8(text).ok()?, &json[from + 1..]));
            }
            b'\\' => {
                *text.get_mut(to)? = escaped(*bytes.get(from + 1)?)?;
                (from, to) = (from + 2, to + 1);
            }
            // A control character, which no string may hold as it is.
            ..b' ' => return None,
            // Near the end, byte by byte.
            plain => {
                *text.get_mut(to)? = plain;
                (from, to) = (from + 1, to + 1);
            }
        }
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
