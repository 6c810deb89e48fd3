//! From a value to the type its key wants, and what to write when it is something else.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::tree::{Item, Value};
use super::{
    ClientPair, DeadLetterPayload, Environment, HeaderStyle, LogFormat, Preflight, Provider, Rate,
    Rung, Share, SignaturePolicy, UnknownCode,
};

/// A type that a key may want.
pub(super) trait Setting: Sized {
    /// What to write, as an imperative.
    fn remedy() -> String;

    /// # Errors
    /// What is wrong, to be read after the key.
    fn read(item: &Item) -> Result<Self, String>;

    /// What a file may say, for the published schema. It may be wider than what is read, never narrower.
    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "string", "minLength": 1})
    }
}

/// A closed set of words.
pub(super) trait Choice: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Choice> Setting for T {
    fn remedy() -> String {
        let words: Vec<String> = T::WORDS.iter().map(|(w, _)| format!("`{w}`")).collect();
        format!("write {}", words.join(" or "))
    }

    fn read(item: &Item) -> Result<Self, String> {
        let text = text(item)?;
        let found = T::WORDS.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, choice)| *choice)
            .ok_or_else(|| format!("{} is not a choice", quoted(text)))
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        serde_json::json!({"enum": words})
    }
}

impl Choice for Environment {
    const WORDS: &'static [(&'static str, Self)] =
        &[("sandbox", Self::Sandbox), ("production", Self::Production)];
}

impl Choice for HeaderStyle {
    const WORDS: &'static [(&'static str, Self)] =
        &[("underscore", Self::Underscore), ("hyphen", Self::Hyphen)];
}

impl Choice for Provider {
    const WORDS: &'static [(&'static str, Self)] =
        &[("nic", Self::Nic), ("mastergst", Self::MasterGst)];
}

impl Choice for ClientPair {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("send", Self::Send),
        ("omit", Self::Omit),
        ("empty", Self::Empty),
    ];
}

impl Choice for SignaturePolicy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("require", Self::Require),
        ("warn", Self::Warn),
        ("off", Self::Off),
    ];
}

impl Choice for UnknownCode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("retry", Self::Retry),
        ("reject", Self::Reject),
        ("dead_letter", Self::DeadLetter),
    ];
}

impl Choice for Preflight {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("strict", Self::Strict),
        ("schema", Self::Schema),
        ("off", Self::Off),
    ];
}

impl Choice for DeadLetterPayload {
    const WORDS: &'static [(&'static str, Self)] = &[("keep", Self::Keep), ("drop", Self::Drop)];
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Choice for tracing::Level {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::ERROR),
        ("warn", Self::WARN),
        ("info", Self::INFO),
        ("debug", Self::DEBUG),
        ("trace", Self::TRACE),
    ];
}

impl Setting for bool {
    fn remedy() -> String {
        "write `true` or `false`, without quotes".to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        match item.decoded()?.value {
            Value::Boolean(value) => Ok(value),
            other => Err(not(&other, "true or false")),
        }
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "boolean"})
    }
}

/// An unsigned number of the broker's protocol.
impl Setting for u16 {
    fn remedy() -> String {
        "write a whole number from 0 to 65535, without quotes".to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        whole(item)?
            .try_into()
            .map_err(|_| "is out of range".to_owned())
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "integer", "minimum": 0, "maximum": u16::MAX})
    }
}

impl Setting for Share {
    fn remedy() -> String {
        "write a whole number of percent from 1 to 100, without quotes".to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let percent = whole(item)?.try_into().ok();
        percent
            .and_then(Self::try_new)
            .ok_or_else(|| "is out of range".to_owned())
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "integer", "minimum": 1, "maximum": 100})
    }
}

/// A number of attempts under way at once. Twice of it must fit a prefetch, which has 16 bits.
impl Setting for usize {
    fn remedy() -> String {
        "write a whole number from 1 to 32767, without quotes".to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let number: u16 = whole(item)?
            .try_into()
            .map_err(|_| "is out of range".to_owned())?;
        let in_range = (1..=u16::MAX / 2).contains(&number);
        in_range
            .then_some(Self::from(number))
            .ok_or_else(|| "is out of range".to_owned())
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "integer", "minimum": 1, "maximum": u16::MAX / 2})
    }
}

impl Setting for NonZeroU32 {
    fn remedy() -> String {
        "write a whole number from 1 upwards, without quotes".to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let number: u32 = whole(item)?
            .try_into()
            .map_err(|_| "is out of range".to_owned())?;
        Self::new(number).ok_or_else(|| "is out of range".to_owned())
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "integer", "minimum": 1, "maximum": u32::MAX})
    }
}

impl Setting for String {
    fn remedy() -> String {
        "write a text in double quotes".to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        match text(item)? {
            "" => Err("is empty".to_owned()),
            text => Ok(text.to_owned()),
        }
    }
}

impl Setting for PathBuf {
    fn remedy() -> String {
        "write a path in double quotes".to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        String::read(item).map(Self::from)
    }
}

/// The path of a file that is there and can be opened.
pub(super) struct ReadableFile(pub(super) PathBuf);

impl Setting for ReadableFile {
    fn remedy() -> String {
        "name a file that exists and that this user may read; relative paths start at the working directory"
            .to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let path = PathBuf::read(item)?;
        let metadata = File::open(&path).and_then(|file| file.metadata());
        match metadata {
            Ok(metadata) if metadata.is_dir() => Err(format!("{} is a folder", path.display())),
            Ok(_) => Ok(Self(path)),
            Err(e) => Err(format!("{} cannot be read: {e}", path.display())),
        }
    }
}

impl Setting for IpAddr {
    fn remedy() -> String {
        "write an IP address of this machine, for example \"203.0.113.7\"".to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let text = text(item)?;
        text.parse()
            .map_err(|_| format!("{} is not an IP address", quoted(text)))
    }
}

impl Setting for SocketAddr {
    fn remedy() -> String {
        "write an IP address and a port, for example \"127.0.0.1:9464\"".to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let text = text(item)?;
        text.parse()
            .map_err(|_| format!("{} is not an IP address with a port", quoted(text)))
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "string", "pattern": ":[0-9]+$"})
    }
}

impl Setting for glob::Pattern {
    fn remedy() -> String {
        "write a glob such as \"erp.*\"".to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let text = String::read(item)?;
        Self::new(&text).map_err(|e| format!("{} is not a glob: {e}", quoted(&text)))
    }
}

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A number and a unit, nothing else: the text may become part of a queue's name.
impl Setting for Duration {
    fn remedy() -> String {
        "write a whole number and one of the units ms, s, m, h, d, for example \"200ms\", \"15s\" or \"72h\""
            .to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let text = text(item)?;
        duration(text).ok_or_else(|| format!("{} is not a duration", quoted(text)))
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "string", "pattern": "^(0|[1-9][0-9]*)(ms|s|m|h|d)$"})
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_number(text)?;
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(number.checked_mul(*milliseconds)?))
}

/// `15s` → (15, `s`). Leading zeros and signs are refused, so that one delay has one spelling per unit.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let has_leading_zero = number.len() > 1 && number.starts_with('0');
    (!has_leading_zero).then_some((number.parse().ok()?, unit))
}

impl Setting for Rung {
    fn remedy() -> String {
        Duration::remedy()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let delay = Duration::read(item)?;
        let name = text(item)?.to_owned();
        Ok(Self { name, delay })
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        Duration::schema()
    }
}

const PERIODS: [(&str, u64); 5] = [
    ("s", 1),
    ("m", 60),
    ("h", 3_600),
    ("d", 86_400),
    ("day", 86_400),
];

impl Setting for Rate {
    fn remedy() -> String {
        "write a count from 1 upwards and a period, for example \"10/s\", \"2/m\", \"5/h\" or \"2000/day\""
            .to_owned()
    }

    fn read(item: &Item) -> Result<Self, String> {
        let text = text(item)?;
        rate(text).ok_or_else(|| format!("{} is not a rate", quoted(text)))
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "string", "pattern": "^[1-9][0-9]*/(s|m|h|d|day)$"})
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        rate(text).ok_or_else(Self::remedy)
    }
}

fn rate(text: &str) -> Option<Rate> {
    let (count, period) = text.split_once('/')?;
    let (count, "") = split_number(count)? else {
        return None;
    };
    let (_, seconds) = PERIODS.iter().find(|(name, _)| *name == period)?;
    Some(Rate {
        count: NonZeroU32::new(count.try_into().ok()?)?,
        period: Duration::from_secs(*seconds),
    })
}

fn text(item: &Item) -> Result<&str, String> {
    item.value
        .text()
        .ok_or_else(|| not(&item.value, "text in double quotes"))
}

fn whole(item: &Item) -> Result<i64, String> {
    match item.decoded()?.value {
        Value::Integer(number) => Ok(number),
        other => Err(not(&other, "a whole number")),
    }
}

/// "is a list, not text".
pub(super) fn not(value: &Value, wanted: &str) -> String {
    format!("is {}, not {wanted}", value.kind())
}

/// A value in a message: short, and harmless on a terminal.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let rest = if shown.len() < text.len() { "…" } else { "" };
    format!("`{}{rest}`", shown.escape_debug())
}
