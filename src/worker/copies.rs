//! Jobs that came in doubt and are done: copies of them that know of no doubt may still be in the queue or on the ladder.
//!
//! A worker that dies between the confirm of what it published and the acknowledgement leaves a job in two places. The one
//! that is handed out again looks before it sends; the other one would be refused as a duplicate, which the portal counts
//! as an error. One rule: what is remembered here only ever makes a job look first.

use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::case::Case;
use super::settle::Ending;
use crate::irn::Irn;
use crate::job::Operation;

/// More than a worker that dies leaves behind, in all its windows and arrays.
const MOST: usize = 10_000;

/// Longer than any copy waits; and while the portal still gives out what it has signed.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What is done, and to which document.
type Deed = (Operation, Irn);

/// What this process has found or had done of late for jobs that came in doubt.
#[derive(Debug)]
pub(super) struct Copies(Cache<Deed, Instant>);

impl Default for Copies {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Copies {
    /// Whether this job may be a copy of one that is done.
    pub(super) fn include(&self, case: &Case) -> bool {
        !self.0.is_empty() && deed(case).is_some_and(|deed| self.is_done(&deed))
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
            self.done(deed);
        }
    }

    /// Forgets what is older than a day. To be called now and then.
    pub(super) fn tidy(&self) {
        self.0.retain(|_, at| at.elapsed() < KEPT);
    }

    fn done(&self, deed: Deed) {
        self.0.insert(deed, Instant::now());
    }

    fn is_done(&self, deed: &Deed) -> bool {
        self.0.get(deed).is_some_and(|at| at.elapsed() < KEPT)
    }
}

fn deed(case: &Case) -> Option<Deed> {
    Some((case.job.operation, case.has_to_itself()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irn::DocumentType;

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
        copies.done(registered(1));
        assert!(copies.is_done(&registered(1)) && !copies.is_done(&registered(2)));
        assert!(!copies.is_done(&(Operation::Cancel, irn)));
        tokio::time::advance(KEPT).await;
        assert!(!copies.is_done(&registered(1)));
        copies.tidy();
        assert!(copies.0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_remembered_than_there_is_room_for() {
        let copies = Copies::default();
        for number in 0..2 * MOST {
            copies.done(registered(number));
        }
        assert!(copies.0.len() <= MOST, "{}", copies.0.len());
    }
}
