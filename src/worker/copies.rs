//! Jobs that came in doubt and are done: copies of them that know of no doubt may still be in the queue or on the ladder.
//!
//! A worker that dies between the confirm of what it published and the acknowledgement leaves a job in two places. The one
//! that is handed out again looks before it sends; the other one would be refused as a duplicate, which the portal counts
//! as an error. Replicas tell one another, because the copy may come to any of them. One rule: what is remembered here only
//! ever makes a job look first.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::case::Case;
use super::settle::Ending;
use crate::control::Deed;

/// More than a worker that dies leaves behind, in all its windows and arrays.
const MOST: usize = 10_000;

/// Longer than any copy waits; and while the portal still gives out what it has signed.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Tells the other replicas of a deed.
pub type AnnounceDeed = dyn Fn(Deed) + Send + Sync;

/// What has been found or done of late for jobs that came in doubt.
pub(super) struct Copies {
    /// By this process.
    own: Cache<Deed, Instant>,
    /// By others, as they say.
    heard: Cache<Deed, Instant>,
    announce: OnceLock<Box<AnnounceDeed>>,
}

/// Of what a job may be a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// Of one that this process knows to be done.
    Surely,
    /// Of one that another says is done.
    AsHeard,
}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Copies({}, {})", self.own.len(), self.heard.len())
    }
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            own: Cache::new(MOST),
            heard: Cache::new(MOST),
            announce: OnceLock::new(),
        }
    }
}

impl Copies {
    /// From now on, the other replicas are told.
    pub(super) fn announce_as(&self, announce: Box<AnnounceDeed>) {
        // Told twice, the first one stays: there is one exchange.
        drop(self.announce.set(announce));
    }

    /// Another replica has done this.
    pub(super) fn heard(&self, deed: Deed) {
        self.heard.insert(deed, Instant::now());
    }

    /// Whether this job may be a copy of one that is done, and how sure that is.
    pub(super) fn include(&self, case: &Case) -> Option<Done> {
        if self.own.is_empty() && self.heard.is_empty() {
            return None;
        }
        self.done(&deed(case)?)
    }

    /// This job has ended so: if it came in doubt and is done, copies may be left of it.
    pub(super) fn note(&self, case: &Case, ending: &Ending) {
        // A cancellation looks first in any case.
        let is_done = matches!(
            ending,
            Ending::Registered { .. } | Ending::EwayBillIssued { .. }
        );
        if is_done
            && case.came_in_doubt()
            && let Some(deed) = deed(case)
        {
            self.own.insert(deed, Instant::now());
            if let Some(announce) = self.announce.get() {
                announce(deed);
            }
        }
    }

    /// Forgets what is older than a day. To be called now and then.
    pub(super) fn tidy(&self) {
        for done in [&self.own, &self.heard] {
            done.retain(|_, at| at.elapsed() < KEPT);
        }
    }

    fn done(&self, deed: &Deed) -> Option<Done> {
        let holds = |done: &Cache<Deed, Instant>| {
            let at = done.get(deed);
            at.is_some_and(|at| at.elapsed() < KEPT)
        };
        if holds(&self.own) {
            Some(Done::Surely)
        } else {
            holds(&self.heard).then_some(Done::AsHeard)
        }
    }
}

fn deed(case: &Case) -> Option<Deed> {
    Some((case.job.operation, case.has_to_itself()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irn::{DocumentType, Irn};
    use crate::job::Operation;

    fn registered(number: usize) -> Deed {
        let seller = "29AAGCE4783K1Z1".parse().unwrap();
        let date = jiff::civil::date(2026, 11, 30);
        let kind = DocumentType::Invoice;
        let irn = Irn::compute(&seller, date, kind, &number.to_string());
        (Operation::Generate, irn)
    }

    #[tokio::test(start_paused = true)]
    async fn copies_are_expected_for_a_day_of_what_was_done_in_doubt() {
        let copies = Copies::default();
        let (_, irn) = registered(1);
        copies.heard(registered(1));
        copies.heard(registered(2));
        copies.own.insert(registered(1), Instant::now());
        let done = |number| copies.done(&registered(number));
        assert_eq!(
            [done(1), done(2), done(3)],
            [Some(Done::Surely), Some(Done::AsHeard), None]
        );
        assert_eq!(copies.done(&(Operation::Cancel, irn)), None);
        tokio::time::advance(KEPT).await;
        assert_eq!([done(1), done(2)], [None, None]);
        copies.tidy();
        assert!(copies.own.is_empty() && copies.heard.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_remembered_than_there_is_room_for() {
        let copies = Copies::default();
        for number in 0..2 * MOST {
            copies.heard(registered(number));
        }
        assert!(copies.heard.len() <= MOST, "{copies:?}");
    }
}
