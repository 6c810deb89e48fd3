//! Letters counted by what they died of.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::view::plain;
use crate::job::DeadLetter;

/// Beyond so many groups, letters are counted together: their headers come from outside, and memory must not grow with
/// them.
const MOST: usize = 50_000;

/// What letters of a group have in common. Texts are cut: they may be anybody's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    reason: String,
    code: String,
    gstin: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Group {
    count: u64,
    span: Span,
}

/// The first and the last death that is known of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span(Option<(Timestamp, Timestamp)>);

impl Span {
    fn add(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at {
            let (oldest, newest) = self.0.unwrap_or((at, at));
            self.0 = Some((oldest.min(at), newest.max(at)));
        }
    }
}

/// How many letters of each cause there are, and since when.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    groups: BTreeMap<Cause, Group>,
    all: Group,
}

impl Groups {
    /// Counts one.
    pub fn add(&mut self, letter: DeadLetter<'_>) {
        let text = |text: &str| plain(text, 64);
        let mut cause = Cause {
            reason: text(letter.cause()),
            code: text(letter.code().unwrap_or_default()),
            gstin: letter
                .gstin()
                .map(|gstin| gstin.to_string())
                .unwrap_or_default(),
        };
        if self.groups.len() >= MOST && !self.groups.contains_key(&cause) {
            cause = Cause {
                reason: "(others)".to_owned(),
                code: String::new(),
                gstin: String::new(),
            };
        }
        for group in [self.groups.entry(cause).or_default(), &mut self.all] {
            group.count += 1;
            group.span.add(letter.dead_at());
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.all.count
    }

    /// The first and the last death, as far as they are known.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        self.all.span.0
    }

    /// A table for a person; nothing if there are none.
    pub fn write(&self, out: &mut impl Write, now: Timestamp) -> io::Result<()> {
        if self.groups.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "{:>8}  {:<22} {:<14} {:<15}  {:<20}  NEWEST",
            "COUNT", "REASON", "CODE", "GSTIN", "OLDEST"
        )?;
        for (cause, group) in &self.groups {
            let (oldest, newest) = group.span.0.unzip();
            let shown = |at: Option<Timestamp>| {
                at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", age(at, now)))
            };
            let or_dash = |text: &str| {
                if text.is_empty() {
                    "-".to_owned()
                } else {
                    text.to_owned()
                }
            };
            writeln!(
                out,
                "{:>8}  {:<22} {:<14} {:<15}  {:<20}  {}",
                group.count,
                cause.reason,
                or_dash(&cause.code),
                or_dash(&cause.gstin),
                shown(oldest),
                shown(newest)
            )?;
        }
        Ok(())
    }

    /// The same for a script.
    pub fn json(&self) -> Value {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let groups = self.groups.iter().map(|(cause, group)| {
            let (oldest, newest) = group.span.0.unzip();
            json!({
                "reason": cause.reason, "code": text(&cause.code), "gstin": text(&cause.gstin),
                "count": group.count, "oldest": oldest, "newest": newest,
            })
        });
        groups.collect()
    }
}

/// How long ago, for a person.
pub fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs().max(0);
    let rounded = match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds - seconds % 60,
        86_400..172_800 => seconds - seconds % 3_600,
        _ => return format!("{}d", seconds / 86_400),
    };
    format!("{:#}", SignedDuration::from_secs(rounded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::FieldTable;
    use crate::job::{Properties, header, long, set};

    fn letter(reason: &str, code: &str, dead_at: &str) -> Properties {
        let mut headers = FieldTable::default();
        for (name, value) in [
            (header::REASON, reason),
            (header::ERROR, code),
            (header::GSTIN, "29AAGCE4783K1Z1"),
            (header::DEAD_AT, dead_at),
        ] {
            set(&mut headers, name, long(value));
        }
        Properties::default().with_headers(headers)
    }

    #[test]
    fn letters_are_counted_by_reason_code_and_gstin_with_the_oldest_and_the_newest() {
        let mut groups = Groups::default();
        for (reason, code, dead_at) in [
            ("PANICKED", "", "2026-01-01T00:00:03Z"),
            ("RETRIES_EXHAUSTED", "timeout", "2026-01-01T00:00:02Z"),
            ("RETRIES_EXHAUSTED", "timeout", "2026-01-01T00:00:01Z"),
            ("RETRIES_EXHAUSTED", "502", "never"),
        ] {
            groups.add(DeadLetter::new(&letter(reason, code, dead_at)));
        }
        assert_eq!(groups.count(), 4);
        let json = groups.json();
        let counts: Vec<_> = json
            .as_array()
            .expect("a list")
            .iter()
            .map(|group| (group["code"].as_str(), group["count"].as_u64()))
            .collect();
        assert_eq!(
            counts,
            [
                (None, Some(1)),
                (Some("502"), Some(1)),
                (Some("timeout"), Some(2))
            ]
        );
        assert_eq!(json[2]["oldest"], "2026-01-01T00:00:01Z");
        assert_eq!(json[2]["newest"], "2026-01-01T00:00:02Z");
        assert_eq!(json[1]["oldest"], Value::Null);
    }

    #[test]
    fn ages_are_rounded_as_people_do() {
        let now: Timestamp = "2026-01-03T00:00:00Z".parse().expect("a time");
        let ago = |at: &str| age(at.parse().expect("a time"), now);
        assert_eq!(ago("2026-01-02T23:58:50Z"), "1m 10s");
        assert_eq!(ago("2026-01-02T21:58:50Z"), "2h 1m");
        assert_eq!(ago("2026-01-03T00:00:09Z"), "0s");
        assert_eq!(ago("2026-01-01T00:00:01Z"), "47h");
        assert_eq!(ago("2026-01-01T00:00:00Z"), "2d");
        assert_eq!(ago("2025-02-05T10:00:00Z"), "331d");
    }
}
