//! The `data` claim of a token in the form in which NIC writes it, read in one go.
//!
//! One rule: it reads what it knows exactly, and leaves every other form to the general way. A signed invoice is a JSON
//! text within a JSON text, with an escape every few bytes: read by a general parser it costs half as much as the
//! verification of its signature.

use memchr::{memchr, memmem};

use crate::document::members_of;
use crate::wiped::Wiped;

const BEGIN: &str = "{\"data\":\"";

/// The text of `data`, if the payload begins with it, no other escapes are in it than those of quotation marks and
/// slashes, and nothing else is called so.
pub(super) fn data_of(payload: &str) -> Option<String> {
    unescaped(escaped_data_of(payload)?.as_bytes())
}

/// As [`data_of`], but that the lists in the outermost object are empty, and what was in them has not been read: nine
/// tenths of a signed invoice are its lines, and few ask for them.
pub(super) fn data_without_lists_of(payload: &str) -> Option<String> {
    let escaped = escaped_data_of(payload)?.as_bytes();
    // What is left out must be of this form as well.
    if has_odd(escaped) {
        return None;
    }
    // A buffer that grows leaves copies of what it held behind it.
    let mut kept = Wiped::new(Vec::with_capacity(escaped.len()));
    let (mut depth, mut at, mut from) = (0_usize, 0, 0);
    while let Some(byte) = escaped.get(at) {
        match byte {
            b'\\' => at = end_of_string(escaped, at)?,
            b'[' if depth == 1 => {
                kept.extend_from_slice(escaped.get(from..=at)?);
                at = end_of_list(escaped, at)?;
                from = at - 1;
            }
            b'{' | b'[' => (depth, at) = (depth + 1, at + 1),
            b'}' | b']' => (depth, at) = (depth.checked_sub(1)?, at + 1),
            _ => at += 1,
        }
    }
    kept.extend_from_slice(escaped.get(from..)?);
    unescaped(&kept)
}

/// Where the list that begins here ends.
fn end_of_list(escaped: &[u8], begin: usize) -> Option<usize> {
    let (mut open, mut at) = (0_usize, begin);
    loop {
        at = match escaped.get(at)? {
            b'\\' => end_of_string(escaped, at)?,
            b'{' | b'[' => {
                open += 1;
                at + 1
            }
            b']' if open == 1 => return Some(at + 1),
            b'}' | b']' => {
                open = open.checked_sub(1).filter(|open| *open > 0)?;
                at + 1
            }
            _ => at + 1,
        };
    }
}

/// Where the string that begins here ends, if it has no escapes of its own but those of slashes.
fn end_of_string(escaped: &[u8], begin: usize) -> Option<usize> {
    let mut at = begin;
    if escaped.get(at + 1)? != &b'"' {
        return None;
    }
    loop {
        at += 2;
        at += memchr(b'\\', escaped.get(at..)?)?;
        match escaped.get(at + 1)? {
            b'"' => return Some(at + 2),
            b'/' => {}
            _ => return None,
        }
    }
}

/// `data` as it stands in the payload, its quotation marks behind backslashes.
fn escaped_data_of(payload: &str) -> Option<&str> {
    let rest = payload.strip_prefix(BEGIN)?;
    // Within the text a quotation mark has a backslash before it, so that no comma can stand there.
    let (escaped, others) = match memmem::find(rest.as_bytes(), b",\"") {
        Some(comma) => {
            let (escaped, others) = rest.split_at(comma);
            (escaped.strip_suffix('"')?, format!("{{{}", &others[1..]))
        }
        None => (rest.trim_end().strip_suffix("\"}")?, "{}".to_owned()),
    };
    match members_of(&others, ["data"]) {
        Ok([None]) => Some(escaped),
        Ok([Some(_)]) | Err(_) => None,
    }
}

/// A JSON string's text, where taking the backslashes away is all there is to do.
fn unescaped(escaped: &[u8]) -> Option<String> {
    if has_odd(escaped) {
        return None;
    }
    let mut text = vec![0; escaped.len()];
    let mut end = 0;
    // Without a branch: where the next backslash is, no processor can guess.
    for byte in escaped {
        *text.get_mut(end)? = *byte;
        end += usize::from(*byte != b'\\');
    }
    text.truncate(end);
    String::from_utf8(text).ok()
}

/// Whether there is any byte that takes more than that.
fn has_odd(escaped: &[u8]) -> bool {
    let (first, last) = (escaped.first(), escaped.last());
    let pairs = escaped.iter().zip(escaped.get(1..).unwrap_or_default());
    let odd = pairs.fold(false, |odd, (before, byte)| odd | is_odd(*before, *byte));
    odd || first.is_some_and(|first| is_odd(0, *first)) || last == Some(&b'\\')
}

/// A byte that takes more than that, or may not be in a string: a control character, a quotation mark without a
/// backslash, any other escape.
fn is_odd(before: u8, byte: u8) -> bool {
    let is_escaped = before == b'\\';
    let may_be_escaped = (byte == b'"') | (byte == b'/');
    (byte < b' ') | (is_escaped & !may_be_escaped) | (!is_escaped & (byte == b'"'))
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
            r#"{"data":"x,","iss":"NIC"}"#,
            r#"{"data":"x\","iss":"NIC"}"#,
            r#"{"data":"x\"}"#,
            r#"{"data":"x"#,
            r#"{"data":"x"} {"#,
            r#"{"data":"x" "iss":"NIC"}"#,
            "{\"data\":\"a\nb\"}",
        ] {
            assert_eq!(data_of(payload), None, "{payload}");
        }
        for payload in [
            r#"{"data":"x"}"#,
            r#"{"data":"x","iss":"NIC"}"#,
            "{\"data\":\"x\"}\n",
        ] {
            assert_eq!(data_of(payload).as_deref(), Some("x"), "{payload}");
        }
    }

    #[test]
    fn outermost_lists_are_empty_and_all_else_is_there() {
        for (data, rest) in [
            (
                json!({"a": [1, {"b": "]"}], "c": {"d": [2]}}),
                json!({"a": [], "c": {"d": [2]}}),
            ),
            (
                json!({"a": "[", "b": [], "c": [["x/y"]]}),
                json!({"a": "[", "b": [], "c": []}),
            ),
            (json!("no object"), json!("no object")),
        ] {
            let payload = json!({ "data": data.to_string() }).to_string();
            let kept = data_without_lists_of(&payload).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), rest);
        }
    }

    #[test]
    fn lists_that_do_not_end_are_left_to_the_general_way() {
        for data in [
            r#"{"a":["#,
            r#"{"a":[}"#,
            r#"{"a":["x]}"#,
            r#"{"a":["\\"]}"#,
            "]",
            "{\"a\":[1,\n2]}",
        ] {
            let payload = json!({ "data": data }).to_string();
            assert_eq!(data_without_lists_of(&payload), None, "{data}");
        }
    }

    proptest! {
        #[test]
        fn text_is_what_a_json_parser_reads(
            text in r#"([a-zA-Z0-9 :{},"\\/₹é]|\n|\t|\x01){0,80}"#,
        ) {
            let payload = format!("{{\"data\":{},\"iss\":\"NIC\"}}", json!(text));
            let parsed: Value = serde_json::from_str(&payload).unwrap();
            match data_of(&payload) {
                Some(data) => prop_assert_eq!(&parsed["data"], &Value::from(data)),
                None => {
                    let other_escapes = text.contains(['\x01', '\n', '\t', '\\']);
                    prop_assert!(other_escapes || text.ends_with(','));
                }
            }
        }
    }
}
