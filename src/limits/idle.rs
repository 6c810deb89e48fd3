//! Who leaves a GSTIN to the others: replicas that may not log in for it yet, and cannot call.
//!
//! A limit that is divided by all of them is not used up by those that can: with two logins a minute, of three replicas one would
//! keep a third of a GSTIN's rate from the others for a minute. So it says that it is idle, and they share the rate. One rule:
//! who has said so calls again only when it has heard itself say that it returns, or when all have forgotten that it was idle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::time::Instant;

use crate::gstin::Gstin;

/// So long it is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// Of more GSTINs than this the others are not told: what replicas say to one another is to be little.
const MOST: usize = 100;

/// It is told again so often, as long as jobs come for it.
const TOLD_EVERY: Duration = Duration::from_secs(3);

/// Longer than a word may be on its way.
const OWN_FOR: Duration = Duration::from_secs(600);

/// What we have heard ourselves, all have heard after this time.
const HEARD_WITHIN: Duration = Duration::from_millis(200);

/// A call has to wait, because others believe that none is made from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotYet {
    /// It is asked again after this time.
    pub(super) wait: Duration,
    /// They are to be told that calls are made again.
    pub(super) tells: bool,
}

/// Where this replica is idle, and where others are.
#[derive(Debug, Default)]
pub(super) struct Idle {
    own: DashMap<Gstin, Own>,
    others: DashMap<Gstin, HashMap<Box<str>, Instant>>,
    /// How many of each there are, because mostly there are none, and every call asks.
    owns: AtomicUsize,
    heard: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
enum Own {
    Idle {
        told: Instant,
    },
    Returns {
        told: Instant,
        /// We have heard it ourselves.
        heard: Option<Instant>,
    },
}

impl Idle {
    /// No calls can be made for this GSTIN; whether that is to be told now.
    pub(super) fn rests(&self, gstin: Gstin, now: Instant) -> bool {
        let resting = Own::Idle { told: now };
        match self.own.entry(gstin) {
            Entry::Vacant(_) if self.owns.load(Ordering::Relaxed) >= MOST => false,
            Entry::Vacant(entry) => {
                entry.insert(resting);
                self.owns.fetch_add(1, Ordering::Relaxed);
                true
            }
            Entry::Occupied(mut entry) => match *entry.get() {
                // One word after the other: what comes back must be the last one that was told.
                Own::Idle { told } | Own::Returns { told, .. }
                    if now.duration_since(told) < TOLD_EVERY =>
                {
                    false
                }
                Own::Idle { .. } | Own::Returns { .. } => {
                    entry.insert(resting);
                    true
                }
            },
        }
    }

    /// A call is to be made for this GSTIN.
    pub(super) fn returns(&self, gstin: Gstin, now: Instant) -> Result<(), NotYet> {
        if self.owns.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let Entry::Occupied(mut entry) = self.own.entry(gstin) else {
            return Ok(());
        };
        let not_yet = |tells| NotYet {
            wait: HEARD_WITHIN,
            tells,
        };
        let (told, heard) = match *entry.get() {
            Own::Idle { .. } => {
                let heard = None;
                entry.insert(Own::Returns { told: now, heard });
                return Err(not_yet(true));
            }
            Own::Returns { told, heard } => (told, heard),
        };
        let is_heard = heard.is_some_and(|heard| now.duration_since(heard) >= HEARD_WITHIN);
        if is_heard || now.duration_since(told) >= BELIEVED_FOR {
            entry.remove();
            self.owns.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        Err(not_yet(false))
    }

    /// That we return has come back to us.
    pub(super) fn heard_own_return(&self, gstin: Gstin, now: Instant) {
        if let Some(mut own) = self.own.get_mut(&gstin)
            && let Own::Returns { heard, .. } = &mut *own
        {
            heard.get_or_insert(now);
        }
    }

    /// Another replica makes no calls for this GSTIN.
    pub(super) fn heard_idle(&self, replica: &str, gstin: Gstin, now: Instant) {
        let mut others = self.others.entry(gstin).or_insert_with(|| {
            self.heard.fetch_add(1, Ordering::Relaxed);
            HashMap::new()
        });
        others.insert(replica.into(), now);
    }

    /// It makes calls again.
    pub(super) fn heard_return(&self, replica: &str, gstin: Gstin) {
        if let Some(mut others) = self.others.get_mut(&gstin) {
            others.remove(replica);
        }
    }

    /// Those replicas that leave this GSTIN to us.
    pub(super) fn others(&self, gstin: &Gstin, now: Instant) -> Vec<Box<str>> {
        if self.heard.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let Some(others) = self.others.get(gstin) else {
            return Vec::new();
        };
        let idle = others.iter().filter(|(_, heard)| is_believed(**heard, now));
        idle.map(|(name, _)| name.clone()).collect()
    }

    /// What others say is not heard any more: what they have said is not believed either.
    pub(super) fn forget_others(&self) {
        self.others.clear();
        self.heard.store(0, Ordering::Relaxed);
    }

    /// Forgets what is not believed any more. To be called now and then.
    pub(super) fn tidy(&self, now: Instant) {
        self.others.retain(|_, others| {
            others.retain(|_, heard| is_believed(*heard, now));
            let is_of_use = !others.is_empty();
            if !is_of_use {
                self.heard.fetch_sub(1, Ordering::Relaxed);
            }
            is_of_use
        });
        self.own.retain(|_, own| {
            let (Own::Idle { told } | Own::Returns { told, .. }) = own;
            let is_of_use = now.duration_since(*told) < OWN_FOR;
            if !is_of_use {
                self.owns.fetch_sub(1, Ordering::Relaxed);
            }
            is_of_use
        });
    }
}

fn is_believed(heard: Instant, now: Instant) -> bool {
    now.duration_since(heard) < BELIEVED_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gstins() -> [Gstin; 2] {
        ["29AAGCE4783K1Z1", "27AABCT9421M1ZY"].map(|text| text.parse().unwrap())
    }

    #[tokio::test]
    async fn idle_ones_are_counted_until_they_return_or_are_not_heard_any_more() {
        let (idle, now) = (Idle::default(), Instant::now());
        let [gstin, other] = gstins();
        let others = |gstin, now| idle.others(gstin, now).len();
        assert_eq!(others(&gstin, now), 0);
        idle.heard_return("a", gstin);
        for name in ["a", "b", "a"] {
            idle.heard_idle(name, gstin, now);
        }
        assert_eq!([&gstin, &other].map(|gstin| others(gstin, now)), [2, 0]);
        idle.heard_return("a", gstin);
        let later = now + SECOND * 9;
        idle.heard_idle("c", gstin, later);
        assert_eq!(others(&gstin, later), 2);
        assert_eq!(others(&gstin, now + SECOND * 10), 1);
        let now = later;
        idle.tidy(now + SECOND * 10);
        assert!(idle.others.is_empty());
        assert_eq!(idle.heard.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn who_was_idle_calls_again_when_it_has_heard_itself_say_so() {
        let (idle, now) = (Idle::default(), Instant::now());
        let [gstin, other] = gstins();
        assert_eq!(idle.returns(gstin, now), Ok(()));
        assert!(idle.rests(gstin, now));
        assert!(
            !idle.rests(gstin, now + SECOND),
            "it has been told just now"
        );
        assert!(idle.rests(gstin, now + TOLD_EVERY));
        assert_eq!(idle.returns(other, now), Ok(()));
        idle.heard_own_return(gstin, now);
        let now = now + TOLD_EVERY;
        let tells = |not_yet: NotYet| not_yet.tells;
        assert_eq!(idle.returns(gstin, now).map_err(tells), Err(true));
        let now = now + SECOND;
        assert_eq!(idle.returns(gstin, now).map_err(tells), Err(false));
        idle.heard_own_return(gstin, now);
        assert_eq!(idle.returns(gstin, now).map_err(tells), Err(false));
        assert_eq!(idle.returns(gstin, now + HEARD_WITHIN), Ok(()));
        assert_eq!(idle.owns.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn who_is_not_heard_by_anybody_returns_when_all_have_forgotten_it() {
        let (idle, now) = (Idle::default(), Instant::now());
        let [gstin, _] = gstins();
        idle.rests(gstin, now);
        let late = now + BELIEVED_FOR;
        for moment in [now, late - SECOND] {
            assert!(idle.returns(gstin, moment).is_err());
        }
        assert_eq!(idle.returns(gstin, late), Ok(()));
        idle.rests(gstin, late);
        let much_later = late + BELIEVED_FOR * 9;
        idle.tidy(much_later);
        let returns = idle.returns(gstin, much_later);
        assert!(returns.is_err(), "it may have been told late");
        idle.tidy(much_later + OWN_FOR);
        assert_eq!(idle.owns.load(Ordering::Relaxed), 0);
    }
}
