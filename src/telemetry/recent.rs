//! What has become of the jobs lately, by code, for those who watch.
//!
//! One rule: statuses and codes only, in bounded memory. Nothing here can tell one job from another.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::bounded_code;
use crate::outcome::Status;

/// What is called lately.
const MINUTES: i64 = 15;

/// So many codes of one status are told apart: a hostile portal could make up any number.
const MOST_CODES: usize = 50;

/// What stands for those beyond.
const OTHERS: &str = "other";

/// What has become of the jobs of this process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<Tallies>>);

#[derive(Debug, Default)]
struct Tallies {
    settled: BTreeMap<&'static str, BTreeMap<String, Tally>>,
    waited: BTreeMap<String, Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    total: u64,
    /// Which minute, and how often in it; ascending.
    minutes: VecDeque<(i64, u32)>,
    last: Timestamp,
}

/// How often something has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The status of the result; none if the job waits.
    pub status: Option<&'static str>,
    /// The first code of the result, or what the job waits for. May be empty.
    pub code: String,
    /// In the last quarter of an hour.
    pub lately: u64,
    /// Since the process began.
    pub total: u64,
    /// When it happened last.
    pub last: Timestamp,
}

impl Recent {
    /// A job ended in a result.
    pub fn settled(&self, status: Status, code: &str) {
        let mut tallies = self.tallies();
        let of_status = tallies.settled.entry(status.as_str()).or_default();
        tally(of_status, bounded_code(code), Timestamp::now());
    }

    /// A job went to the ladder.
    pub fn waited(&self, why: &str) {
        tally(
            &mut self.tallies().waited,
            bounded_wait(why),
            Timestamp::now(),
        );
    }

    /// The results by status and code, the latest first.
    pub fn outcomes(&self) -> Vec<Count> {
        let tallies = self.tallies();
        let settled = tallies.settled.iter();
        sorted(
            settled
                .flat_map(|(status, codes)| counts(Some(status), codes))
                .collect(),
        )
    }

    /// What jobs went to the ladder for, the latest first.
    pub fn waits(&self) -> Vec<Count> {
        sorted(counts(None, &self.tallies().waited).collect())
    }

    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a job waits for: a code, or two words as the worker's own are.
fn bounded_wait(why: &str) -> &str {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    match why.split_once(' ') {
        Some((one, other)) if why.len() <= 32 && is_word(one) && is_word(other) => why,
        Some(_) | None => bounded_code(why),
    }
}

fn tally(codes: &mut BTreeMap<String, Tally>, code: &str, now: Timestamp) {
    if let Some(tally) = codes.get_mut(code) {
        return tally.count(now);
    }
    let code = if codes.len() < MOST_CODES {
        code
    } else {
        OTHERS
    };
    codes.entry(code.to_owned()).or_default().count(now);
}

fn counts(
    status: Option<&'static str>,
    codes: &BTreeMap<String, Tally>,
) -> impl Iterator<Item = Count> {
    let minute = minute_of(Timestamp::now());
    codes.iter().map(move |(code, tally)| Count {
        status,
        code: code.clone(),
        lately: tally.lately(minute),
        total: tally.total,
        last: tally.last,
    })
}

fn sorted(mut counts: Vec<Count>) -> Vec<Count> {
    counts.sort_by_key(|count| Reverse(count.last));
    counts
}

fn minute_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

impl Tally {
    fn count(&mut self, now: Timestamp) {
        let minute = minute_of(now);
        self.total = self.total.saturating_add(1);
        self.last = now;
        match self.minutes.back_mut() {
            Some((last, count)) if *last == minute => *count = count.saturating_add(1),
            _ => self.minutes.push_back((minute, 1)),
        }
        while self
            .minutes
            .front()
            .is_some_and(|(first, _)| minute - first >= MINUTES)
        {
            self.minutes.pop_front();
        }
    }

    fn lately(&self, minute: i64) -> u64 {
        let lately = self.minutes.iter();
        let lately = lately.filter(|(then, _)| minute - then < MINUTES);
        lately.map(|(_, count)| u64::from(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_by_status_and_code_and_forgotten_as_recent() {
        let recent = Recent::default();
        recent.settled(Status::Rejected, "2189");
        recent.settled(Status::Signed, "");
        recent.settled(Status::Rejected, "2189");
        let outcomes = recent.outcomes();
        let told: Vec<_> = outcomes
            .iter()
            .map(|c| (c.status, c.code.as_str(), c.lately, c.total))
            .collect();
        assert_eq!(
            told,
            [(Some("rejected"), "2189", 2, 2), (Some("signed"), "", 1, 1)]
        );
        let mut tally = Tally::default();
        let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        for minute in [0, 0, 1, 14, 15] {
            tally.count(at(minute));
        }
        assert_eq!(
            (tally.lately(15), tally.lately(16), tally.lately(40)),
            (3, 2, 0)
        );
        assert_eq!((tally.total, tally.minutes.len()), (5, 3));
    }

    #[test]
    fn made_up_codes_do_not_fill_the_memory_and_texts_are_no_codes() {
        let recent = Recent::default();
        recent.waited("Buyer Sample Traders is not known");
        recent.waited("Buyer Traders");
        recent.waited("buyer sample traders");
        recent.waited("login rate");
        let of = |waits: &[Count], code| {
            let of_code = waits.iter().find(|count| count.code == code);
            of_code.map(|count| count.total)
        };
        let waits = recent.waits();
        assert_eq!(of(&waits, "other"), Some(3));
        assert_eq!(of(&waits, "login rate"), Some(1));
        for number in 0..1000 {
            recent.waited(&number.to_string());
        }
        let waits = recent.waits();
        assert!(waits.len() <= MOST_CODES + 1);
        assert_eq!(waits.iter().map(|count| count.total).sum::<u64>(), 1004);
    }
}
