//! How long, on the command line.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// For example 10m, 2h or 1d 6h. A day has 24 hours here.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    let length = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|error| error.to_string())?;
    Duration::try_from(length).map_err(|_| "it must not be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_given_in_days_hours_minutes_seconds() {
        for (text, seconds) in [
            ("2h", 7_200),
            ("3d", 259_200),
            ("90m", 5_400),
            ("1d 6h", 108_000),
            ("PT2H", 7_200),
            ("1s", 1),
        ] {
            let read = duration(text);
            assert_eq!(read, Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "2", "soon", "1 month", "-2h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
