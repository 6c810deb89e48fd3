//! The sandbox's clock: the machine's, moved by tests. Every date the portal shows or judges comes from here, in
//! Indian Standard Time, as the portal writes it.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::civil::{Date, DateTime};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// Real time plus an offset; it keeps running after it has been moved.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset_ms: AtomicI64,
}

impl Clock {
    /// The moment the portal believes it is.
    pub(crate) fn now(&self) -> Timestamp {
        let offset = SignedDuration::from_millis(self.offset_ms.load(Ordering::Relaxed));
        Timestamp::now()
            .checked_add(offset)
            .unwrap_or(Timestamp::MAX)
    }

    /// Makes it `moment` now.
    pub(crate) fn set(&self, moment: Timestamp) {
        let offset = moment.duration_since(Timestamp::now());
        self.store(offset);
    }

    /// Moves the clock by `step`, backwards when negative.
    pub(crate) fn advance(&self, step: SignedDuration) {
        let offset = SignedDuration::from_millis(self.offset_ms.load(Ordering::Relaxed));
        self.store(offset.saturating_add(step));
    }

    /// Back to the machine's time.
    pub(crate) fn reset(&self) {
        self.offset_ms.store(0, Ordering::Relaxed);
    }

    fn store(&self, offset: SignedDuration) {
        let millis = i64::try_from(offset.as_millis()).unwrap_or(i64::MAX);
        self.offset_ms.store(millis, Ordering::Relaxed);
    }
}

/// The wall clock in India.
pub(crate) fn ist(moment: Timestamp) -> DateTime {
    Offset::from_seconds(19_800)
        .expect("+05:30 is a valid offset")
        .to_datetime(moment)
}

/// `yyyy-MM-dd HH:mm:ss` in IST, the portal's only way to write a moment.
pub(crate) fn stamp(moment: Timestamp) -> String {
    let at = ist(moment);
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!(
        "{:04}-{:02}-{:02} {hour:02}:{minute:02}:{second:02}",
        at.year(),
        at.month(),
        at.day()
    )
}

/// The nearest full minute: AckDt is rounded while IrnDt keeps its seconds (seen in real answers).
pub(crate) fn nearest_minute(moment: Timestamp) -> Timestamp {
    let minute = (moment.as_second() + 30).div_euclid(60);
    Timestamp::from_second(minute * 60).unwrap_or(moment)
}

/// The `Date` header (RFC 9110, section 5.6.7).
pub(crate) fn http_date(moment: Timestamp) -> String {
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&moment)
        .unwrap_or_default()
}

/// Reads the portal's `dd/mm/yyyy`; `None` when it is not a day of the calendar.
pub(crate) fn parse_day(text: &str) -> Option<Date> {
    let (day, rest) = text.split_once('/')?;
    let (month, year) = rest.split_once('/')?;
    let digits =
        |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
    if !(digits(day, 2) && digits(month, 2) && digits(year, 4)) {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

/// The financial year of a day, April to March, as the IRN hashes it: `2025-26`.
pub(crate) fn financial_year(day: Date) -> String {
    let start = if day.month() >= 4 {
        day.year()
    } else {
        day.year() - 1
    };
    format!("{start}-{:02}", (start + 1) % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_indian_standard_time() {
        let moment: Timestamp = "2025-09-05T18:45:39Z".parse().unwrap();
        assert_eq!(stamp(moment), "2025-09-06 00:15:39");
        assert_eq!(stamp(nearest_minute(moment)), "2025-09-06 00:16:00");
        assert_eq!(http_date(moment), "Fri, 05 Sep 2025 18:45:39 GMT");
    }

    #[test]
    fn a_moved_clock_keeps_running_from_there() {
        let clock = Clock::default();
        let target: Timestamp = "2026-01-01T06:30:00Z".parse().unwrap();
        clock.set(target);
        assert!(clock.now().duration_since(target).as_secs() < 5);
        clock.advance(SignedDuration::from_hours(49));
        assert_eq!(clock.now().duration_since(target).as_hours(), 49);
        clock.reset();
        assert!(clock.now().duration_since(Timestamp::now()).as_secs().abs() < 5);
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        assert!(parse_day("29/02/2024").is_some());
        for wrong in [
            "29/02/2025",
            "31/04/2025",
            "1/04/2025",
            "2025-04-01",
            "",
            "a/b/c",
            "+1/04/2025",
        ] {
            assert!(parse_day(wrong).is_none(), "{wrong}");
        }
    }
}
