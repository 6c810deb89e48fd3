//! The `data` claim of a token in the form in which NIC writes it, read in one go.
//!
//! One rule: it reads what it knows exactly, and leaves every other form to the general way. A signed invoice is a JSON
//! text within a JSON text, with an escape every few bytes: read by a general parser it costs half as much as the
//! verification of its signature.

use memchr::memmem;

use crate::document::members_of;

const BEGIN: &str = "{\"data\":\"";

/// The text of `data`, if the payload begins with it, no other escapes are in it than those of quotation marks and
/// slashes, and nothing else is called so.
pub(super) fn data_of(payload: &str) -> Option<String> {
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
        Ok([None]) => unescaped(escaped.as_bytes()),
        Ok([Some(_)]) | Err(_) => None,
    }
}

/// A JSON string's text, where taking the backslashes away is all there is to do.
fn unescaped(escaped: &[u8]) -> Option<String> {
    let (first, last) = (escaped.first(), escaped.last());
    let pairs = escaped.iter().zip(escaped.get(1..).unwrap_or_default());
    let odd = pairs.fold(false, |odd, (before, byte)| odd | is_odd(*before, *byte));
    if odd || first.is_some_and(|first| is_odd(0, *first)) || last == Some(&b'\\') {
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
