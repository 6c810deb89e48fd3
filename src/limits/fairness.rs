//! Whose call is next where all wait for the same limit.
//!
//! One rule: of those that wait, the next is of the GSTIN that has had none for the longest. Many that are busy take it in
//! turns, and one that is not goes at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::gstin::Gstin;

/// A GSTIN that had none of the last so many counts as one that never had any.
const REMEMBERED: u64 = 10_000;

/// Those that wait, and who was served last.
#[derive(Debug, Default)]
pub(super) struct Fairness {
    /// How many wait; mostly nobody does, and then nothing is kept.
    waiting: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of each one's last.
    served: HashMap<Gstin, u64>,
    number: u64,
    /// How many of a GSTIN wait, by the number of its last.
    waiting: BTreeMap<(u64, Gstin), usize>,
}

/// One that waits, as long as this lives.
#[derive(Debug)]
pub(super) struct Waits<'f> {
    fairness: &'f Fairness,
    gstin: Gstin,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut state = self.fairness.lock();
        let key = (state.last_of(&self.gstin), self.gstin);
        if let Some(count) = state.waiting.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                state.waiting.remove(&key);
            }
        }
        self.fairness.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    fn last_of(&self, gstin: &Gstin) -> u64 {
        self.served.get(gstin).copied().unwrap_or_default()
    }
}

impl Fairness {
    /// One of this GSTIN begins to wait.
    pub(super) fn waits(&self, gstin: Gstin) -> Waits<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        let key = (state.last_of(&gstin), gstin);
        *state.waiting.entry(key).or_default() += 1;
        let fairness = self;
        Waits { fairness, gstin }
    }

    /// Whether nobody waits who has had none for longer than this GSTIN.
    pub(super) fn is_next(&self, gstin: &Gstin) -> bool {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let state = self.lock();
        let mine = state.last_of(gstin);
        let first = state.waiting.first_key_value();
        first.is_none_or(|((last, _), _)| *last >= mine)
    }

    /// This GSTIN has had one.
    pub(super) fn served(&self, gstin: Gstin) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut state = self.lock();
        state.number += 1;
        let number = state.number;
        let before = state.served.insert(gstin, number).unwrap_or_default();
        if let Some(count) = state.waiting.remove(&(before, gstin)) {
            state.waiting.insert((number, gstin), count);
        }
    }

    /// Forgets whose last was long ago. To be called now and then.
    pub(super) fn forget_the_old(&self) {
        let mut state = self.lock();
        let State {
            served,
            number,
            waiting,
        } = &mut *state;
        served.retain(|gstin, last| {
            *last + REMEMBERED > *number || waiting.contains_key(&(*last, *gstin))
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gstins() -> [Gstin; 3] {
        ["29AAGCE4783K1Z1", "27AABCT9421M1ZY", "33AAKFN5208R1ZT"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn who_has_had_none_for_the_longest_is_next() {
        let fairness = Fairness::default();
        let [a, b, c] = gstins();
        assert!(fairness.is_next(&a), "nobody waits");
        let of_a = (fairness.waits(a), fairness.waits(a));
        let of_b = fairness.waits(b);
        for busy in [a, b, a] {
            fairness.served(busy);
        }
        assert!(fairness.is_next(&b) && !fairness.is_next(&a));
        assert!(fairness.is_next(&c), "it had none at all");
        let of_c = fairness.waits(c);
        assert!(!fairness.is_next(&b));
        fairness.served(c);
        drop(of_c);
        assert!(fairness.is_next(&b));
        drop(of_b);
        assert!(fairness.is_next(&a));
        drop(of_a);
        assert!(fairness.lock().waiting.is_empty());
    }

    #[test]
    fn long_ago_is_as_good_as_never() {
        let fairness = Fairness::default();
        let [a, b, _] = gstins();
        let _of_b = fairness.waits(b);
        fairness.served(a);
        for _ in 0..REMEMBERED {
            fairness.served(b);
        }
        fairness.forget_the_old();
        let state = fairness.lock();
        assert_eq!((state.last_of(&a), state.last_of(&b)), (0, REMEMBERED + 1));
    }
}
