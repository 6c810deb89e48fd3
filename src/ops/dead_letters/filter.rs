//! Which letters a command means.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::gstin::Gstin;
use crate::job::DeadLetter;

/// A letter is meant if every condition that is given holds; one of several values is enough.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Filter {
    /// `x-irn-reason`, or what stands for it where the broker moved the message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// `x-irn-error`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<String>,
    /// `x-irn-gstin`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gstins: Vec<Gstin>,
    /// The ERP's own ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Dead for at least so long. One that does not say when it died is not.
    #[serde(rename = "older_than_seconds", skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "seconds")]
    pub older_than: Option<Duration>,
}

fn seconds<S: serde::Serializer>(age: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    age.map(|age| age.as_secs()).serialize(to)
}

impl Filter {
    /// Whether it means every letter.
    pub fn is_everything(&self) -> bool {
        self.reasons.is_empty()
            && self.codes.is_empty()
            && self.gstins.is_empty()
            && self.ids.is_empty()
            && self.older_than.is_none()
    }

    /// Whether it means this letter.
    pub fn admits(&self, letter: DeadLetter<'_>, now: Timestamp) -> bool {
        let one_of = |wanted: &[String], is: Option<&str>| {
            wanted.is_empty()
                || is.is_some_and(|is| wanted.iter().any(|one| one.eq_ignore_ascii_case(is)))
        };
        let is_old = |age: Duration| {
            let since = letter.dead_at().map(|dead_at| now.duration_since(dead_at));
            since
                .and_then(|since| Duration::try_from(since).ok())
                .is_some_and(|since| since >= age)
        };
        let id = letter.message_id();
        one_of(&self.reasons, Some(letter.cause()))
            && one_of(&self.codes, letter.code())
            && (self.gstins.is_empty()
                || letter.gstin().is_some_and(|is| self.gstins.contains(&is)))
            && (self.ids.is_empty() || id.is_some_and(|is| self.ids.iter().any(|one| one == is)))
            && self.older_than.is_none_or(is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::FieldTable;
    use crate::job::{Properties, header, long, set, short};

    fn letter() -> Properties {
        let mut headers = FieldTable::default();
        for (name, value) in [
            (header::REASON, "RETRIES_EXHAUSTED"),
            (header::ERROR, "timeout"),
            (header::GSTIN, "29AAGCE4783K1Z1"),
            (header::DEAD_AT, "2026-01-01T00:00:00Z"),
        ] {
            set(&mut headers, name, long(value));
        }
        Properties::default()
            .with_message_id(short("j-1"))
            .with_headers(headers)
    }

    fn admits(filter: &Filter) -> bool {
        let now = "2026-01-01T01:00:00Z".parse().expect("a time");
        filter.admits(DeadLetter::new(&letter()), now)
    }

    #[test]
    fn letter_is_meant_if_every_condition_holds() {
        let text = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        assert!(admits(&Filter::default()));
        let mut filter = Filter {
            reasons: text(&["NO_CREDENTIALS", "retries_exhausted"]),
            codes: text(&["timeout"]),
            gstins: vec!["29AAGCE4783K1Z1".parse().expect("a GSTIN")],
            ids: text(&["j-1"]),
            older_than: Some(Duration::from_secs(3600)),
        };
        assert!(admits(&filter));
        filter.older_than = Some(Duration::from_secs(3601));
        assert!(!admits(&filter));
        for other in [
            Filter {
                reasons: text(&["PANICKED"]),
                ..Filter::default()
            },
            Filter {
                codes: text(&["1019"]),
                ..Filter::default()
            },
            Filter {
                ids: text(&["J-1"]),
                ..Filter::default()
            },
            Filter {
                gstins: vec!["27AABCT9421M1ZY".parse().expect("a GSTIN")],
                ..Filter::default()
            },
        ] {
            assert!(!admits(&other), "{other:?}");
            assert!(!other.is_everything());
        }
    }
}
