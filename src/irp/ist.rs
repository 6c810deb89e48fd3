//! The portal's times: Indian Standard Time that does not say so.

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// UTC+05:30, all year.
const AHEAD_OF_UTC: SignedDuration = SignedDuration::from_mins(5 * 60 + 30);

/// Forms seen beside `yyyy-MM-dd HH:mm:ss`.
const FORMS: [&str; 4] = [
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %I:%M:%S %p",
    "%d-%m-%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
];

/// Reads a time of the portal: `yyyy-MM-dd HH:mm:ss` in IST by practice, since no page of NIC names the zone. A
/// text with an offset of its own is taken at its word.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse() {
        return Some(timestamp);
    }
    let civil = text
        .parse::<DateTime>()
        .ok()
        .filter(|_| text.len() > "yyyy-mm-dd".len())
        .or_else(|| {
            FORMS
                .iter()
                .find_map(|form| strtime::parse(form, text).ok()?.to_datetime().ok())
        })?;
    Offset::UTC
        .to_timestamp(civil)
        .ok()?
        .checked_sub(AHEAD_OF_UTC)
        .ok()
}

/// As [`parse`], of the portal's own form only: in the others day and month may be the other way round.
pub(super) fn parse_certain(text: &str) -> Option<Timestamp> {
    let begins_with_the_year = text
        .trim()
        .split_once('-')
        .is_some_and(|(year, _)| year.len() == "yyyy".len());
    begins_with_the_year.then(|| parse(text)).flatten()
}

/// A time of the portal as RFC 3339 with India's offset: `2025-09-05T12:30:00+05:30`.
pub(super) fn rfc3339(text: &str) -> Option<String> {
    let in_india = parse(text)?.checked_add(AHEAD_OF_UTC).ok()?;
    Some(in_india.strftime("%Y-%m-%dT%H:%M:%S+05:30").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_the_same_moment_in_india() {
        let forms = [
            "2025-09-05 12:30:00",
            "2025-09-05T12:30:00",
            "2025-09-05 12:30:00.000",
            " 2025-09-05 12:30:00 ",
            "05/09/2025 12:30:00",
            "05/09/2025 12:30:00 PM",
            "05-09-2025 12:30:00",
            "05/09/2025 12:30",
            "2025-09-05T07:00:00Z",
            "2025-09-05T12:30:00+05:30",
        ];
        for form in forms {
            assert_eq!(
                rfc3339(form).as_deref(),
                Some("2025-09-05T12:30:00+05:30"),
                "{form}"
            );
        }
    }

    #[test]
    fn only_a_time_that_begins_with_the_year_is_certain() {
        for form in [
            "2025-09-05 12:30:00",
            " 2025-09-05T12:30:00+05:30",
            "2025-09-05T07:00:00Z",
        ] {
            assert_eq!(parse_certain(form), parse(form), "{form}");
            assert!(parse_certain(form).is_some(), "{form}");
        }
        for form in [
            "05/09/2025 12:30:00",
            "05/09/2025 12:30:00 PM",
            "05-09-2025 12:30:00",
            "05/09/2025 12:30",
            "soon",
        ] {
            assert_eq!(parse_certain(form), None, "{form}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "soon",
            "2025-09-05",
            "2025-13-05 12:30:00",
            "1757055600000",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }
}
