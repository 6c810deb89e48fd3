//! Jobs that came in doubt and are done: copies of them that know of no doubt may still be in the queue or on the ladder.
//!
//! A worker that dies between the confirm of what it published and the acknowledgement leaves a job in two places. The one
//! that is handed out again looks before it sends; the other one would be refused as a duplicate, which the portal counts
//! as an error. Replicas tell one another, because the copy may come to any of them. One rule: what is remembered here only
//! ever makes a job wait, and look first.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::Worker;
use super::case::Case;
use super::settle::Ending;
use crate::config::credentials::Account;
use crate::control::{Deed, Progress};
use crate::job::Operation;

/// More than a worker that dies leaves behind, in all its windows and arrays.
const MOST: usize = 10_000;

/// Longer than any copy waits; and while the portal still gives out what it has signed.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What seems to have begun later by less than this has only been told again: words need a moment, which would add up.
const TOLD_AGAIN: Duration = Duration::from_secs(2);

/// A replica that has just begun is told of so many, and of those of late: copies of the others have mostly come.
const TOLD: usize = 2_000;
const OF_LATE: Duration = Duration::from_secs(900);

/// Of the error budgets, so much at most is spent on looking for copies that a crash may have left: one part in ten.
const SPENT_ON_COPIES: u32 = 10;

/// What is told of a deed, and how long ago that was.
pub type Told = (Progress, Deed, Duration);

/// Tells the other replicas of a deed.
pub type AnnounceDeed = dyn Fn(Progress, Deed) + Send + Sync;

/// What has been found or done of late for jobs that came in doubt.
pub(super) struct Copies {
    /// By this process, and done.
    own: Cache<Deed, Instant>,
    /// By others, as they say.
    heard: Cache<Deed, (Progress, Instant)>,
    announce: OnceLock<Box<AnnounceDeed>>,
}

/// What is known of a job's copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// This process knows that one is done.
    Done,
    /// Another says so of one, and since when.
    Heard(Progress, Instant),
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

    /// Another replica has said this, so long ago. Told again, it does not become younger.
    pub(super) fn heard(&self, (progress, deed, ago): Told) {
        let Some(at) = Instant::now().checked_sub(ago).filter(|_| ago < KEPT) else {
            return;
        };
        let is_news = match self.heard.get(&deed) {
            // What is done stays so, though a later copy begins anew.
            Some((Progress::Done, _)) => false,
            Some((_, before)) => match progress {
                Progress::Begun => before + TOLD_AGAIN < at,
                Progress::Undone => before <= at,
                Progress::Done => true,
            },
            None => true,
        };
        if is_news {
            self.heard.insert(deed, (progress, at));
        }
    }

    /// What is known of this job's copies.
    pub(super) fn of(&self, case: &Case) -> Option<Known> {
        if self.own.is_empty() && self.heard.is_empty() {
            return None;
        }
        self.known(&deed(case)?)
    }

    /// This job is about to be sent: if it came in doubt, copies may be left of it.
    pub(super) fn begin(&self, case: &Case) {
        self.tell(case, Progress::Begun);
    }

    fn tell(&self, case: &Case, progress: Progress) {
        if case.came_in_doubt()
            && let Some(deed) = deed(case)
        {
            self.announce(progress, deed);
        }
    }

    /// This job has ended so: if it came in doubt and is done, copies may be left of it.
    /// It was sent, and the portal has not done it: that is told as well.
    pub(super) fn note(&self, case: &Case, ending: &Ending) {
        match ending {
            Ending::Registered { .. } | Ending::EwayBillIssued { .. } => {
                if case.came_in_doubt()
                    && let Some(deed) = deed(case)
                {
                    self.own.insert(deed, Instant::now());
                }
                self.tell(case, Progress::Done);
            }
            // Registered, with other content or at another portal.
            Ending::Conflict { .. } => {}
            _ if case.sent_at().is_some() && !case.in_doubt() => {
                self.tell(case, Progress::Undone);
            }
            _ => {}
        }
    }

    /// What a replica should know that has just begun.
    pub(super) fn of_late(&self) -> Vec<Told> {
        let own = self.own.iter();
        let own = own.map(|(deed, at)| (Progress::Done, deed, at.elapsed()));
        let heard = self.heard.iter();
        let heard = heard.map(|(deed, (progress, at))| (progress, deed, at.elapsed()));
        let of_late = own.chain(heard).filter(|(_, _, ago)| *ago < OF_LATE);
        of_late.take(TOLD).collect()
    }

    /// Forgets what is older than a day. To be called now and then.
    pub(super) fn tidy(&self) {
        self.own.retain(|_, at| at.elapsed() < KEPT);
        self.heard.retain(|_, (_, at)| at.elapsed() < KEPT);
    }

    fn announce(&self, progress: Progress, deed: Deed) {
        if let Some(announce) = self.announce.get() {
            announce(progress, deed);
        }
    }

    fn known(&self, deed: &Deed) -> Option<Known> {
        let is_kept = |at: &Instant| at.elapsed() < KEPT;
        if self.own.get(deed).as_ref().is_some_and(is_kept) {
            return Some(Known::Done);
        }
        match self.heard.get(deed)? {
            (Progress::Undone, _) => None,
            (progress, at) => is_kept(&at).then_some(Known::Heard(progress, at)),
        }
    }
}

/// A copy of this job may be done, so it is looked up first; or is being done, so it waits for that. One in doubt looks in
/// any case. What is only heard may be made up, and each look-up that finds nothing is an error.
pub(super) fn heed(worker: &Worker, case: &Case, account: &Account) -> Option<Ending> {
    if case.in_doubt() {
        return None;
    }
    match worker.copies.of(case)? {
        Known::Heard(..) if !are_looked_for(worker, Some(account)) => return None,
        Known::Heard(Progress::Begun, at) if is_under_way(worker, at) => {
            return Some(twin(worker, case));
        }
        Known::Done | Known::Heard(..) => case.doubt_again(),
    }
    None
}

/// Before it is sent: somebody else may have begun to do the same, as was heard while it waited, or looked and found nothing.
pub(super) fn unless_begun_elsewhere(
    worker: &Worker,
    case: &Case,
    account: &Account,
) -> Result<(), Box<Ending>> {
    if case.in_doubt() || case.sent_at().is_some() {
        return Ok(());
    }
    let is_begun = match worker.copies.of(case) {
        Some(Known::Heard(Progress::Begun, at)) if is_under_way(worker, at) => true,
        Some(Known::Heard(_, at)) => case.had_turn_before(at),
        Some(Known::Done) | None => false,
    };
    if is_begun && are_looked_for(worker, Some(account)) {
        return Err(Box::new(twin(worker, case)));
    }
    Ok(())
}

/// Whether what began then is not settled yet. A little less than the time that its copies wait, or they would wait for a
/// second time.
fn is_under_way(worker: &Worker, began: Instant) -> bool {
    began.elapsed() < worker.config.irp.settle_time * 3 / 4
}

/// Whatever becomes of the other one, this one has to look before it sends.
pub(super) fn twin(worker: &Worker, case: &Case) -> Ending {
    case.doubt();
    Ending::Deferred {
        wait: worker.config.irp.settle_time,
        why: "twin",
    }
}

/// Whether error budgets have room for looking for copies: they are mostly not there, and then that is an error.
pub(super) fn are_looked_for(worker: &Worker, account: Option<&Account>) -> bool {
    account.is_none_or(|account| worker.limits.has_spent_less(account, SPENT_ON_COPIES))
}

/// A cancellation looks first in any case, and what changes nothing may be asked twice.
fn deed(case: &Case) -> Option<Deed> {
    match case.job.operation {
        operation @ (Operation::Generate | Operation::Ewb) => {
            Some((operation, case.has_to_itself()?))
        }
        Operation::Cancel | Operation::Get => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irn::{DocumentType, Irn};

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
        let now = Instant::now();
        for number in [1, 2] {
            copies.heard((Progress::Done, registered(number), Duration::ZERO));
        }
        copies.own.insert(registered(1), now);
        let known = |number| copies.known(&registered(number));
        let heard = Some(Known::Heard(Progress::Done, now));
        assert_eq!(
            [known(1), known(2), known(3)],
            [Some(Known::Done), heard, None]
        );
        assert_eq!(copies.known(&(Operation::Ewb, irn)), None);
        tokio::time::advance(KEPT).await;
        assert_eq!([known(1), known(2)], [None, None]);
        copies.tidy();
        assert!(copies.own.is_empty() && copies.heard.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_stays_done_and_is_told_for_a_while() {
        let copies = Copies::default();
        let start = Instant::now();
        let heard = |progress, number, ago| copies.heard((progress, registered(number), ago));
        for progress in [Progress::Begun, Progress::Done, Progress::Begun] {
            heard(progress, 1, Duration::ZERO);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let done_at = start + Duration::from_secs(1);
        let known = |number| copies.known(&registered(number));
        assert_eq!(known(1), Some(Known::Heard(Progress::Done, done_at)));
        tokio::time::advance(OF_LATE / 2).await;
        copies.own.insert(registered(3), Instant::now());
        assert_eq!(copies.of_late().len(), 2);
        tokio::time::advance(OF_LATE / 2).await;
        let ago = OF_LATE / 2;
        assert_eq!(copies.of_late(), [(Progress::Done, registered(3), ago)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_does_not_become_younger_when_it_is_told_again_and_may_be_undone() {
        let copies = Copies::default();
        let begun = Instant::now();
        let known = || copies.known(&registered(1));
        let heard = |progress, ago| copies.heard((progress, registered(1), ago));
        heard(Progress::Begun, Duration::ZERO);
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(10)).await;
            heard(Progress::Begun, begun.elapsed());
            assert_eq!(known(), Some(Known::Heard(Progress::Begun, begun)));
        }
        heard(Progress::Undone, Duration::ZERO);
        assert_eq!(known(), None);
        heard(Progress::Begun, begun.elapsed());
        assert_eq!(known(), None, "that was before");
        tokio::time::advance(TOLD_AGAIN * 2).await;
        heard(Progress::Begun, Duration::ZERO);
        let again = Instant::now();
        assert_eq!(known(), Some(Known::Heard(Progress::Begun, again)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_remembered_than_there_is_room_for() {
        let copies = Copies::default();
        for number in 0..2 * MOST {
            copies.heard((Progress::Begun, registered(number), Duration::ZERO));
        }
        assert!(copies.heard.len() <= MOST, "{copies:?}");
        assert_eq!(copies.of_late().len(), TOLD);
    }
}
