//! A letter as a person or a script sees it.
//!
//! One rule: the body is shown only where it was asked for, and what others wrote cannot act on a terminal.

use std::io::{self, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use crate::broker::{AMQPValue, Letter};

/// A text of somebody else's on one line: without control characters, and no longer than so many characters.
pub(in crate::ops) fn plain(text: &str, most: usize) -> String {
    let mut chars = text.chars();
    let escaped = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    let mut shown: String = chars.by_ref().take(most).map(escaped).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// A letter as one JSON object; with its body as text or, where it is none, in Base64.
pub(super) fn json(letter: &Letter, with_body: bool) -> Value {
    let properties = &letter.properties;
    let text = |value: &Option<lapin::types::ShortString>| {
        value.as_ref().map(|value| value.as_str().to_owned())
    };
    let mut shown = json!({
        "message_id": text(properties.message_id()),
        "correlation_id": text(properties.correlation_id()),
        "reply_to": text(properties.reply_to()),
        "type": text(properties.kind()),
        "content_type": text(properties.content_type()),
        "timestamp": properties.timestamp(),
        "routing_key": letter.routing_key,
        "redelivered": letter.redelivered,
        "headers": headers(letter),
        "body_bytes": letter.body.as_it_came().len(),
    });
    if with_body {
        match std::str::from_utf8(letter.body.as_it_came()) {
            Ok(text) => shown["body"] = text.into(),
            Err(_) => {
                shown["body_base64"] = BASE64_STANDARD.encode(letter.body.as_it_came()).into()
            }
        }
    }
    shown
}

fn headers(letter: &Letter) -> Map<String, Value> {
    let headers = letter.properties.headers().as_ref();
    let entries = headers.into_iter().flat_map(|headers| headers.inner());
    entries
        .map(|(name, value)| (name.as_str().to_owned(), value_json(value)))
        .collect()
}

fn value_json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Float(value) => (*value).into(),
        AMQPValue::Double(value) => (*value).into(),
        AMQPValue::DecimalValue(value) => json!({"scale": value.scale, "value": value.value}),
        AMQPValue::ShortString(text) => text.as_str().into(),
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        AMQPValue::Timestamp(seconds) => (*seconds).into(),
        AMQPValue::ByteArray(bytes) => BASE64_STANDARD.encode(bytes.as_slice()).into(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(value_json).collect(),
        AMQPValue::FieldTable(table) => {
            let entries = table.inner().iter();
            let entries =
                entries.map(|(name, value)| (name.as_str().to_owned(), value_json(value)));
            entries.collect::<Map<_, _>>().into()
        }
        AMQPValue::Void => Value::Null,
    }
}

/// A letter for a person: one property or header a line, then its body if that was asked for.
pub(super) fn write(
    letter: &Letter,
    number: u64,
    with_body: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    const LONGEST: usize = 400;
    writeln!(out, "letter {number}")?;
    let shown = json(letter, false);
    let members = shown.as_object().into_iter().flatten();
    for (name, value) in members.filter(|(name, _)| *name != "headers" && *name != "body_bytes") {
        if !value.is_null() {
            writeln!(out, "  {name:<22} {}", plain(&text(value), LONGEST))?;
        }
    }
    for (name, value) in headers(letter) {
        writeln!(
            out,
            "  {:<22} {}",
            plain(&name, 64),
            plain(&text(&value), LONGEST)
        )?;
    }
    writeln!(
        out,
        "  {:<22} {} bytes",
        "body",
        letter.body.as_it_came().len()
    )?;
    if with_body {
        match std::str::from_utf8(letter.body.as_it_came()) {
            Ok(body) => writeln!(out, "{}", plain(body, usize::MAX))?,
            Err(_) => writeln!(
                out,
                "(Base64) {}",
                BASE64_STANDARD.encode(letter.body.as_it_came())
            )?,
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::FieldTable;
    use crate::job::{Body, Properties, long, set};

    fn letter(body: &[u8]) -> Letter {
        let mut headers = FieldTable::default();
        set(&mut headers, "x-evil", long("a\u{1b}[2Jb"));
        set(&mut headers, "x-count", AMQPValue::LongLongInt(3));
        Letter {
            exchange: String::new(),
            routing_key: "irn.dead".to_owned(),
            properties: Properties::default().with_headers(headers),
            body: Body::copy_of(body),
            redelivered: true,
        }
    }

    #[test]
    fn body_is_shown_only_where_it_was_asked_for() {
        let letter = letter(br#"{"secret":1}"#);
        let mut text = Vec::new();
        write(&letter, 1, false, &mut text).expect("memory");
        assert!(!String::from_utf8_lossy(&text).contains("secret"));
        assert!(!json(&letter, false).to_string().contains("secret"));
        assert_eq!(json(&letter, true)["body"], r#"{"secret":1}"#);
        write(&letter, 1, true, &mut text).expect("memory");
        assert!(String::from_utf8_lossy(&text).contains(r#"{"secret":1}"#));
    }

    #[test]
    fn what_others_wrote_does_not_act_on_a_terminal() {
        let mut text = Vec::new();
        write(&letter(b"\x1b]0;title\x07"), 1, true, &mut text).expect("memory");
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{7}'),
            "{text}"
        );
        assert!(text.contains(r"a\u{1b}[2Jb"), "{text}");
    }

    #[test]
    fn body_that_is_no_text_is_kept_to_the_byte() {
        let shown = json(&letter(&[0xff, 0]), true);
        assert_eq!(shown["body_base64"], "/wA=");
        assert_eq!(shown["headers"]["x-count"], 3);
    }
}
