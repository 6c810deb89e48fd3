//! What operators have paused: each pause has a reason and an end, and holds for every replica.
//!
//! One rule: a pause ends by itself. Each replica judges that by its own clock; nobody has to be there to lift it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::Order;
use crate::gstin::Gstin;

/// The longest pause: less than the log of orders keeps one.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 86_400);

/// Enough for a ticket's number and a sentence.
const LONGEST_REASON: usize = 200;

/// More pauses at once are no operator's, and must not fill the memory.
const MOST: usize = 10_000;

/// Whom an order is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// Everybody.
    Portal,
    /// All GSTINs of the client of this name.
    Client(String),
    /// One GSTIN.
    Gstin(Gstin),
}

impl Whom {
    /// The word in messages and `/status`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Portal => "portal",
            Self::Client(_) => "client",
            Self::Gstin(_) => "gstin",
        }
    }

    /// Which GSTIN or client.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Portal => None,
            Self::Client(name) => Some(name),
            Self::Gstin(gstin) => Some(gstin.as_str()),
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Portal => f.write_str("the portal"),
            Self::Client(name) => write!(f, "client {name}"),
            Self::Gstin(gstin) => write!(f, "{gstin}"),
        }
    }
}

/// Why something is paused, in an operator's words: one line of printable characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

/// A text that cannot be the reason of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reason is one line of 1 to {LONGEST_REASON} printable characters")]
pub struct BadReason;

impl std::str::FromStr for Reason {
    type Err = BadReason;

    fn from_str(text: &str) -> Result<Self, BadReason> {
        let text = text.trim();
        let fits = !text.is_empty()
            && text.chars().count() <= LONGEST_REASON
            && text.chars().all(is_printable);
        fits.then(|| Self(text.to_owned())).ok_or(BadReason)
    }
}

impl Reason {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Neither a control character nor one that only changes how its neighbours are shown.
fn is_printable(c: char) -> bool {
    let only_shapes = matches!(c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !c.is_control() && !only_shapes
}

/// One pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// Until when at the latest.
    pub until: Timestamp,
}

/// Times that cannot be those of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pause lasts longer than nothing and at most 30 days")]
pub struct BadLength;

impl Pause {
    /// A pause between these times.
    ///
    /// # Errors
    /// When it would last for no time, or longer than [`LONGEST_PAUSE`].
    pub fn try_new(reason: Reason, since: Timestamp, until: Timestamp) -> Result<Self, BadLength> {
        let length = Duration::try_from(until.duration_since(since)).map_err(|_| BadLength)?;
        if length.is_zero() || length > LONGEST_PAUSE {
            return Err(BadLength);
        }
        Ok(Self {
            reason,
            since,
            until,
        })
    }

    /// How long it still lasts.
    pub fn left(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.until.duration_since(now)).unwrap_or_default()
    }

    /// How long it has lasted.
    pub fn age(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.since)).unwrap_or_default()
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.until <= now
    }
}

/// All pauses, as the orders so far have left them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses(BTreeMap<Whom, Pause>);

impl Pauses {
    /// Heeds one more order, which prevails over those before it. False if it changes nothing: a pause that is over
    /// already and ends none, one too many, or nothing to lift.
    pub fn heed(&mut self, order: Order, now: Timestamp) -> bool {
        match order {
            Order::Pause(whom, pause) => self.pause(whom, pause, now),
            Order::Resume(whom) => self.lift(&whom, now),
        }
    }

    /// A pause that goes on began when it did.
    fn pause(&mut self, whom: Whom, mut pause: Pause, now: Timestamp) -> bool {
        self.0.retain(|_, pause| !pause.is_over(now));
        if pause.is_over(now) {
            // Read late, one that was shortened: the longer one before it must not come back.
            return self.lift(&whom, now);
        }
        let running = self.0.get(&whom);
        if running.is_none() && self.0.len() >= MOST {
            return false;
        }
        if let Some(running) = running {
            pause.since = pause.since.min(running.since);
        }
        self.0.insert(whom, pause);
        true
    }

    fn lift(&mut self, whom: &Whom, now: Timestamp) -> bool {
        self.0.remove(whom).is_some_and(|pause| !pause.is_over(now))
    }

    /// Adds those of whom nothing is known here.
    pub(super) fn add_missing(&mut self, others: Self) {
        for (whom, pause) in others.0 {
            self.0.entry(whom).or_insert(pause);
        }
    }

    /// Why jobs of this GSTIN wait, if they do: its own pause, or that of its client.
    pub fn of(
        &self,
        gstin: &Gstin,
        client: Option<&str>,
        now: Timestamp,
    ) -> Option<(Whom, &Pause)> {
        if self.0.is_empty() {
            return None;
        }
        let client = client.map(|name| Whom::Client(name.to_owned()));
        let both = [Some(Whom::Gstin(*gstin)), client].into_iter().flatten();
        both.filter_map(|whom| self.in_force(&whom, now).map(|pause| (whom, pause)))
            .max_by_key(|(_, pause)| pause.until)
    }

    /// The pause of everybody.
    pub fn portal(&self, now: Timestamp) -> Option<&Pause> {
        self.in_force(&Whom::Portal, now)
    }

    /// All of them.
    pub fn all(&self, now: Timestamp) -> impl Iterator<Item = (&Whom, &Pause)> {
        self.0.iter().filter(move |(_, pause)| !pause.is_over(now))
    }

    fn in_force(&self, whom: &Whom, now: Timestamp) -> Option<&Pause> {
        self.0.get(whom).filter(|pause| !pause.is_over(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn pause(since: i64, until: i64) -> Pause {
        Pause::try_new("a".parse().unwrap(), at(since), at(until)).unwrap()
    }

    fn gstin() -> Gstin {
        "29AAGCE4783K1Z1".parse().unwrap()
    }

    #[test]
    fn pause_ends_by_itself_and_holds_for_whom_it_names() {
        let mut pauses = Pauses::default();
        let acme = Whom::Client("acme".to_owned());
        assert!(pauses.pause(Whom::Gstin(gstin()), pause(0, 10), at(1)));
        assert!(pauses.pause(acme.clone(), pause(0, 20), at(1)));
        let whom = |second, client| {
            let found = pauses.of(&gstin(), client, at(second));
            found.map(|(whom, _)| whom)
        };
        assert_eq!(whom(9, None), Some(Whom::Gstin(gstin())));
        assert_eq!(whom(9, Some("acme")), Some(acme.clone()));
        assert_eq!(whom(10, Some("other")), None);
        assert_eq!(whom(19, Some("acme")), Some(acme));
        assert_eq!(whom(20, Some("acme")), None);
        assert_eq!(pauses.portal(at(1)), None);
        assert_eq!(pauses.all(at(15)).count(), 1);
    }

    #[test]
    fn pause_that_goes_on_keeps_its_beginning_and_one_that_was_lifted_does_not() {
        let (mut pauses, whom) = (Pauses::default(), Whom::Gstin(gstin()));
        assert!(pauses.pause(whom.clone(), pause(0, 10), at(1)));
        assert!(pauses.pause(whom.clone(), pause(5, 30), at(5)));
        let since = |pauses: &Pauses| pauses.of(&gstin(), None, at(6)).map(|(_, p)| p.since);
        assert_eq!(since(&pauses), Some(at(0)));
        assert!(pauses.lift(&whom, at(6)));
        assert!(!pauses.lift(&whom, at(6)));
        assert!(pauses.pause(whom, pause(6, 30), at(6)));
        assert_eq!(since(&pauses), Some(at(6)));
    }

    #[test]
    fn pause_that_was_shortened_is_over_also_for_whoever_reads_of_it_later() {
        let mut pauses = Pauses::default();
        assert!(pauses.pause(Whom::Portal, pause(0, 1000), at(20)));
        assert!(pauses.pause(Whom::Portal, pause(5, 10), at(20)));
        assert_eq!(pauses.portal(at(20)), None);
        assert!(!pauses.pause(Whom::Portal, pause(5, 10), at(20)));
    }

    #[test]
    fn what_is_over_and_what_is_too_much_is_not_taken() {
        let mut pauses = Pauses::default();
        assert!(!pauses.pause(Whom::Portal, pause(0, 10), at(10)));
        for number in 0..MOST {
            assert!(pauses.pause(Whom::Client(number.to_string()), pause(0, 10), at(1)));
        }
        assert!(!pauses.pause(Whom::Portal, pause(0, 10), at(1)));
        assert!(pauses.pause(Whom::Portal, pause(11, 12), at(11)));
    }

    #[test]
    fn reason_is_one_printable_line_and_a_pause_at_most_thirty_days() {
        let reason = |text: &str| text.parse::<Reason>();
        assert_eq!(reason(" GST audit – ₹ ").unwrap().as_str(), "GST audit – ₹");
        let long = "x".repeat(LONGEST_REASON + 1);
        for text in ["", "  ", "a\nb", "a\u{202e}b", "a\u{1b}[31m", &long] {
            assert_eq!(reason(text), Err(BadReason), "{text:?}");
        }
        let length = |seconds| Pause::try_new(reason("a").unwrap(), at(0), at(seconds)).is_ok();
        assert!(length(1) && length(30 * 86_400));
        assert!(!length(0) && !length(-1) && !length(30 * 86_400 + 1));
    }
}
