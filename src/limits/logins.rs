//! How many logins a GSTIN may have: each replica its share of the rate, and all together no more than the rate in any
//! period, as far as they hear of one another.
//!
//! One rule: a replica that hears nothing still keeps its share; where it never will, it begins at some time of its own, because
//! many that start at once would all take theirs in the same moment.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use rand::Rng as _;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::paced::Paced;
use super::share::Share;
use crate::config::Rate;
use crate::control::{LoggedIn, Word};
use crate::gstin::Gstin;
use crate::job::Class;

/// Replicas that start together would all log in at the same moment: each waits for some part of a second first, the
/// least of it long enough to hear what the others have done.
const SPREAD: std::ops::Range<u64> = 200..1_200;

/// What replicas tell one another arrives within this time. Whoever is about to log in listens for so long.
const HEARD_WITHIN: Duration = Duration::from_millis(400);

/// Words that are heard within this time of one another may come to another replica the other way round.
const SAME_MOMENT: Duration = Duration::from_millis(50);

/// Its own word that it logs in comes back to a replica within this time, or it does not wait for it any longer.
const OWN_HEARD_WITHIN: Duration = Duration::from_secs(3);

/// A replica that does not know yet whether it will hear the others waits for that, but not longer.
const HEARING_WITHIN: Duration = Duration::from_secs(3);

/// So long after a start a fleet may be larger than it seems.
const YOUNG: Duration = Duration::from_secs(5);

/// As large as this.
const PRESUMED: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

/// A job whose replica may not log in comes back after this time, perhaps to one that has.
const TO_ANOTHER: Duration = Duration::from_secs(5);

/// Tells the other replicas of a GSTIN.
pub type Announce = dyn Fn(Gstin, Word) + Send + Sync;

/// The logins of one process, and what is known of the others'.
pub(super) struct Logins {
    rate: Rate,
    own: Paced<Gstin>,
    /// So many were taken here.
    taken: AtomicU32,
    fleet: DashMap<Gstin, VecDeque<Login>>,
    us: OnceLock<Us>,
    hearing: watch::Sender<Hearing>,
    own_heard: Notify,
}

/// Whether the other replicas are heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    NotYet,
    Since(Instant),
    Never,
}

struct Us {
    replica: Arc<str>,
    announce: Box<Announce>,
}

#[derive(Clone, Debug)]
struct Login {
    /// When it was heard of, or was said to have been; of this replica's own, when it was taken.
    at: Instant,
    /// None: this one.
    replica: Option<Arc<str>>,
    /// The replica counts them, if it is not of an earlier version.
    number: Option<u32>,
    /// When the others have heard of this replica's own, as it has come back.
    came_back: Option<Instant>,
}

impl Login {
    fn told(&self) -> LoggedIn {
        LoggedIn {
            number: self.number,
            ago: self.at.elapsed(),
        }
    }
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Logins({:?})", self.rate)
    }
}

impl Logins {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            own: Paced::new(rate),
            taken: AtomicU32::new(0),
            fleet: DashMap::new(),
            us: OnceLock::new(),
            hearing: watch::Sender::new(Hearing::NotYet),
            own_heard: Notify::new(),
        }
    }

    /// From now on, the other replicas are told.
    pub(super) fn announce_as(&self, replica: Arc<str>, announce: Box<Announce>) {
        // Told twice, the first one stays: there is one exchange.
        drop(self.us.set(Us { replica, announce }));
    }

    /// What the other replicas say is heard from now on, or never.
    pub(super) fn hears(&self, others: bool) {
        self.own.begin_apart(!others);
        self.hearing.send_replace(if others {
            Hearing::Since(Instant::now())
        } else {
            Hearing::Never
        });
    }

    /// What they say is not heard for now, nor what we say.
    pub(super) fn lost_others(&self) {
        self.hearing.send_if_modified(|hearing| {
            let heard = matches!(hearing, Hearing::Since(_));
            if heard {
                *hearing = Hearing::NotYet;
            }
            heard
        });
    }

    /// Waits until the others have had time to answer a hello. `since` this process was first told of the fleet, it has
    /// tried to hear them.
    async fn hear_them_out(&self, since: Option<Duration>) {
        let left = since.map_or(Duration::ZERO, |since| HEARING_WITHIN.saturating_sub(since));
        let mut hearing = self.hearing.subscribe();
        let known = hearing.wait_for(|hearing| *hearing != Hearing::NotYet);
        let known = tokio::time::timeout(left, known).await;
        let since = match known.map(|known| known.map(|hearing| *hearing)) {
            Ok(Ok(Hearing::Since(since))) => since,
            Ok(Ok(Hearing::NotYet | Hearing::Never) | Err(_)) | Err(_) => return,
        };
        tokio::time::sleep_until(since + HEARD_WITHIN).await;
    }

    /// Another replica logs in, or is said to have logged in.
    pub(super) fn heard(&self, replica: &str, gstin: Gstin, told: LoggedIn) {
        let at = Instant::now().checked_sub(told.ago);
        let Some(at) = at.filter(|_| told.ago < self.rate.period) else {
            return;
        };
        let mut logins = self.fleet.entry(gstin).or_default();
        logins.retain(|login| self.is_recent(login));
        // Who does not tell which one it is, of a replica that has logged in, does not count it once more.
        let is_known = |known: &Login| {
            let is_same = told.number.is_none() || known.number == told.number;
            is_same && known.replica.as_deref() == Some(replica)
        };
        // More than that change nothing, whoever sends them.
        if logins.len() <= 2 * self.most() && !logins.iter().any(is_known) {
            logins.push_back(Login {
                at,
                replica: Some(replica.into()),
                number: told.number,
                came_back: None,
            });
        }
    }

    /// Another replica has told of one that it did not send.
    pub(super) fn heard_withdrawn(&self, replica: &str, gstin: Gstin, number: u32) {
        let is_it = |login: &Login| {
            login.number == Some(number) && login.replica.as_deref() == Some(replica)
        };
        if let Some(mut logins) = self.fleet.get_mut(&gstin) {
            logins.retain(|login| !is_it(login));
        }
    }

    /// What was told of a login of this replica's has come back.
    pub(super) fn heard_own(&self, gstin: Gstin, told: LoggedIn) {
        let is_it = |login: &&mut Login| login.replica.is_none() && login.number == told.number;
        if let Some(mut logins) = self.fleet.get_mut(&gstin)
            && let Some(own) = logins.iter_mut().find(is_it)
        {
            own.came_back.get_or_insert_with(Instant::now);
            self.own_heard.notify_waiters();
        }
    }

    /// The logins within the period: who has logged in, where it was not this replica.
    pub(super) fn of_late(&self) -> Vec<(Option<Arc<str>>, Gstin, LoggedIn)> {
        let mut of_late = Vec::new();
        for of in &self.fleet {
            let recent = of.iter().filter(|login| self.is_recent(login));
            of_late.extend(recent.map(|login| (login.replica.clone(), *of.key(), login.told())));
        }
        of_late
    }

    /// The replicas that have logged in for this GSTIN within the period.
    pub(super) fn others_of_late(&self, gstin: &Gstin) -> Vec<Arc<str>> {
        let Some(logins) = self.fleet.get(gstin) else {
            return Vec::new();
        };
        let of_late = logins.iter().filter(|login| self.is_recent(login));
        of_late.filter_map(|login| login.replica.clone()).collect()
    }

    /// Whether so many replicas could exceed the rate by one login each. `since` they were counted for the first time,
    /// others may have started in the same moment, and none has seen the others yet.
    pub(super) fn is_crowded(&self, replicas: NonZeroU32, since: Option<Duration>) -> bool {
        let is_young = since.is_some_and(|since| since < YOUNG);
        replicas > self.rate.count || (is_young && PRESUMED > self.rate.count)
    }

    /// Takes one where others may want theirs at the same moment, or says in how long its job had best come back.
    pub(super) async fn take_among_others(
        &self,
        gstin: Gstin,
        since: Option<Duration>,
        take: impl Fn() -> Result<(), Duration>,
    ) -> Result<(), Duration> {
        self.hear_them_out(since).await;
        // Those that have logged in can do the job: it may come to one of them the next time.
        let elsewhere = |wait: Duration| wait.min(TO_ANOTHER);
        if let Some(wait) = self.used_up_for(gstin) {
            return Err(elsewhere(wait));
        }
        let wait = rand::rng().random_range(SPREAD);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        take().map_err(elsewhere)?;
        match self.stand_back(&gstin).await {
            Some(wait) => Err(elsewhere(wait)),
            None => Ok(()),
        }
    }

    /// How long the logins of all replicas leave room for no other one.
    fn used_up_for(&self, gstin: Gstin) -> Option<Duration> {
        let mut logins = self.fleet.entry(gstin).or_default();
        logins.retain(|login| self.is_recent(login));
        if logins.len() < self.most() {
            return None;
        }
        let oldest = logins.iter().map(|login| login.at).min()?;
        Some(self.rate.period.saturating_sub(oldest.elapsed()))
    }

    /// Takes one login now, or says how long there will be none.
    pub(super) fn take(&self, gstin: Gstin, replicas: NonZeroU32) -> Result<(), Duration> {
        if let Some(wait) = self.used_up_for(gstin) {
            return Err(wait);
        }
        let login = {
            let mut logins = self.fleet.entry(gstin).or_default();
            self.own.take(gstin, Share::of(replicas), Class::Bulk)?;
            let login = Login {
                at: Instant::now(),
                replica: None,
                number: Some(self.taken.fetch_add(1, Ordering::Relaxed)),
                came_back: None,
            };
            logins.push_back(login.clone());
            login
        };
        self.announce(gstin, Word::Login(login.told()));
        Ok(())
    }

    /// Tells the others, if there is a way.
    pub(super) fn announce(&self, gstin: Gstin, word: Word) {
        if let Some(us) = self.us.get() {
            (us.announce)(gstin, word);
        }
    }

    /// Listens for a moment after the others have heard that one was taken. Where it is one too many, those go that were heard
    /// first, in the same moment those with the lower names; the others say how long to wait.
    async fn stand_back(&self, gstin: &Gstin) -> Option<Duration> {
        let told = self.own_came_back(gstin).await;
        tokio::time::sleep_until(told + HEARD_WITHIN).await;
        let us = self.us.get()?;
        let logins = self.fleet.get(gstin)?;
        let own = logins.iter().rposition(|login| login.replica.is_none())?;
        let is_ahead = |(place, login): &(usize, &Login)| {
            let apart = told.max(login.at) - told.min(login.at);
            let is_first = match &login.replica {
                None => *place < own,
                Some(name) if apart <= SAME_MOMENT => *name < us.replica,
                Some(_) => login.at < told,
            };
            self.is_recent(login) && is_first
        };
        let ahead = logins.iter().enumerate().filter(is_ahead).count();
        if ahead < self.most() {
            return None;
        }
        drop(logins);
        self.give_back(gstin);
        Some(self.rate.period)
    }

    /// The one that was taken last is not sent after all.
    pub(super) fn give_back(&self, gstin: &Gstin) {
        self.own.forget(gstin);
        let Some(mut logins) = self.fleet.get_mut(gstin) else {
            return;
        };
        let own = logins.iter().rposition(|login| login.replica.is_none());
        let own = own.and_then(|own| logins.remove(own));
        drop(logins);
        if let Some(number) = own.and_then(|own| own.number) {
            self.announce(*gstin, Word::Withdrawn(number));
        }
    }

    /// Waits until the last login of our own has come back, so that the others know of it: a machine that is busy is slow to
    /// tell. Where it does not, all that were heard meanwhile were first; where nobody is heard, it counts from when it was taken.
    async fn own_came_back(&self, gstin: &Gstin) -> Instant {
        let own = || {
            let logins = self.fleet.get(gstin)?;
            let own = logins.iter().rfind(|login| login.replica.is_none());
            own.map(|login| (login.at, login.came_back))
        };
        let taken = own().map_or_else(Instant::now, |(at, _)| at);
        let coming_back = async {
            loop {
                let mut heard = std::pin::pin!(self.own_heard.notified());
                heard.as_mut().enable();
                match own() {
                    Some((_, Some(came_back))) => return came_back,
                    Some((_, None)) => heard.await,
                    // It is not counted any more.
                    None => return taken,
                }
            }
        };
        match *self.hearing.borrow() {
            Hearing::Since(_) => {}
            Hearing::NotYet | Hearing::Never => return taken,
        }
        let came_back = tokio::time::timeout(OWN_HEARD_WITHIN, coming_back).await;
        came_back.unwrap_or_else(|_| Instant::now())
    }

    /// The next login of this GSTIN need not wait for those before it.
    pub(super) fn forget(&self, gstin: &Gstin) {
        self.forget_own(gstin);
        self.fleet.remove(gstin);
    }

    /// The next login of this GSTIN need not wait for those of this replica before it.
    pub(super) fn forget_own(&self, gstin: &Gstin) {
        self.own.forget(gstin);
        if let Some(mut logins) = self.fleet.get_mut(gstin) {
            logins.retain(|login| login.replica.is_some());
        }
    }

    pub(super) fn forget_the_quiet(&self) {
        self.own.forget_the_quiet();
        self.fleet
            .retain(|_, logins| logins.iter().any(|login| self.is_recent(login)));
        self.fleet.shrink_to_fit();
    }

    fn is_recent(&self, login: &Login) -> bool {
        login.at.elapsed() < self.rate.period
    }

    fn most(&self) -> usize {
        usize::try_from(self.rate.count.get()).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const FOUR: NonZeroU32 = NonZeroU32::new(4).unwrap();

    fn gstin() -> Gstin {
        "29AAGCE4783K1Z1".parse().unwrap()
    }

    fn told(number: u32, ago: Duration) -> LoggedIn {
        LoggedIn {
            number: Some(number),
            ago,
        }
    }

    fn now(number: u32) -> LoggedIn {
        told(number, Duration::ZERO)
    }

    fn replica(name: &str) -> Logins {
        let logins = Logins::new(Rate {
            count: NonZeroU32::new(2).unwrap(),
            period: MINUTE,
        });
        logins.announce_as(name.into(), Box::new(|_, _| {}));
        logins
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_log_in_than_the_rate_allows_all_replicas_together() {
        let logins = replica("b");
        logins.heard("c", gstin(), now(0));
        tokio::time::advance(MINUTE / 2).await;
        logins.heard("d", gstin(), now(0));
        assert_eq!(logins.take(gstin(), FOUR), Err(MINUTE / 2));
        tokio::time::advance(MINUTE / 2).await;
        assert_eq!(logins.take(gstin(), FOUR), Ok(()));
        // Half a minute ago the other's.
        let ours = (None, gstin(), now(0));
        let theirs = (Some("d".into()), gstin(), told(0, MINUTE / 2));
        assert_eq!(logins.of_late(), [theirs, ours]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_log_in_at_the_same_moment_one_too_many_stands_back() {
        let (low, high) = (replica("a"), replica("d"));
        for logins in [&low, &high] {
            logins.heard("b", gstin(), now(0));
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(logins.take(gstin(), FOUR), Ok(()));
            logins.heard("c", gstin(), now(0));
        }
        assert_eq!(low.stand_back(&gstin()).await, None);
        assert_eq!(high.stand_back(&gstin()).await, Some(MINUTE));
        assert!(high.of_late().iter().all(|(other, ..)| other.is_some()));
    }

    #[tokio::test(start_paused = true)]
    async fn replica_whose_word_was_late_stands_back_for_those_that_were_heard_before_it() {
        let second = Duration::from_secs(1);
        for (late, stands_back) in [(false, None), (true, Some(MINUTE))] {
            let logins = replica("a");
            logins.hears(true);
            logins.heard("b", gstin(), now(0));
            assert_eq!(logins.take(gstin(), FOUR), Ok(()));
            let hearing = async {
                if !late {
                    logins.heard_own(gstin(), now(0));
                }
                tokio::time::sleep(second).await;
                logins.heard("c", gstin(), now(0));
                tokio::time::sleep(second).await;
                logins.heard_own(gstin(), now(0));
            };
            let gstin = gstin();
            let (ended, ()) = tokio::join!(logins.stand_back(&gstin), hearing);
            assert_eq!(ended, stands_back, "late: {late}");
        }
        // Nothing comes back.
        for (others, stands_back) in [(1, None), (2, Some(MINUTE))] {
            let mute = replica("a");
            mute.hears(true);
            let gstin = gstin();
            assert_eq!(mute.take(gstin, FOUR), Ok(()));
            let hearing = async {
                tokio::time::sleep(second).await;
                for name in ["b", "c"].iter().take(others) {
                    mute.heard(name, gstin, now(0));
                }
            };
            let (ended, ()) = tokio::join!(mute.stand_back(&gstin), hearing);
            assert_eq!(ended, stands_back, "{others}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn notices_are_counted_once_each_and_new_credentials_need_not_wait_for_them() {
        let logins = replica("a");
        for name in ["b", "b", "c", "d", "e", "f", "g"] {
            logins.heard(name, gstin(), now(0));
        }
        assert_eq!(logins.fleet.get(&gstin()).map(|known| known.len()), Some(5));
        assert!(logins.take(gstin(), FOUR).is_err());
        logins.forget(&gstin());
        assert_eq!(logins.take(gstin(), FOUR), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn new_credentials_forget_what_this_replica_sent_and_each_login_of_another_counts() {
        let logins = replica("a");
        logins.heard("b", gstin(), now(0));
        assert_eq!(logins.take(gstin(), FOUR), Ok(()));
        assert_eq!(logins.take(gstin(), FOUR), Err(MINUTE));
        logins.forget_own(&gstin());
        assert_eq!(logins.take(gstin(), FOUR), Ok(()), "the other's counts on");
        // With new credentials the other one may log in again within the period.
        let other = replica("c");
        other.heard("b", gstin(), now(0));
        other.heard("b", gstin(), now(0));
        assert_eq!(other.used_up_for(gstin()), None);
        other.heard("b", gstin(), LoggedIn::default());
        assert_eq!(
            other.used_up_for(gstin()),
            None,
            "an earlier version tells of it"
        );
        other.heard("b", gstin(), now(1));
        assert_eq!(other.used_up_for(gstin()), Some(MINUTE));
        // Not sent after all.
        other.heard_withdrawn("d", gstin(), 1);
        assert_eq!(other.used_up_for(gstin()), Some(MINUTE));
        other.heard_withdrawn("b", gstin(), 1);
        assert_eq!(other.used_up_for(gstin()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn login_that_is_not_sent_is_withdrawn_and_may_be_taken_at_once() {
        let logins = Logins::new(Rate {
            count: NonZeroU32::new(2).unwrap(),
            period: MINUTE,
        });
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let words = Arc::clone(&told);
        let tell = move |_, word| words.lock().unwrap().push(word);
        logins.announce_as("a".into(), Box::new(tell));
        assert_eq!(logins.take(gstin(), FOUR), Ok(()));
        assert_eq!(logins.take(gstin(), FOUR), Err(2 * MINUTE));
        logins.give_back(&gstin());
        assert_eq!(logins.take(gstin(), FOUR), Ok(()));
        let words = [Word::Login(now(0)), Word::Withdrawn(0), Word::Login(now(1))];
        assert_eq!(*told.lock().unwrap(), words);
    }

    #[tokio::test(start_paused = true)]
    async fn login_that_is_told_again_is_as_old_as_it_was_whoever_tells_of_it() {
        let logins = replica("a");
        logins.heard("b", gstin(), now(3));
        tokio::time::advance(MINUTE / 2).await;
        let of_late = logins.of_late();
        assert_eq!(of_late, [(Some("b".into()), gstin(), told(3, MINUTE / 2))]);
        let newcomer = replica("c");
        newcomer.heard("b", gstin(), of_late[0].2);
        newcomer.heard("d", gstin(), now(0));
        newcomer.heard("e", gstin(), told(0, MINUTE));
        assert_eq!(newcomer.used_up_for(gstin()), Some(MINUTE / 2));
        tokio::time::advance(MINUTE / 2).await;
        assert_eq!(newcomer.used_up_for(gstin()), None);
        // It is over; told once more, it does not begin again.
        newcomer.heard("b", gstin(), told(3, MINUTE));
        assert_eq!(newcomer.used_up_for(gstin()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn replica_waits_to_hear_the_others_but_not_where_it_never_will() {
        let second = Duration::from_secs(1);
        let waited = async |logins: &Logins, since| {
            let start = Instant::now();
            logins.hear_them_out(since).await;
            start.elapsed()
        };
        let logins = replica("a");
        assert_eq!(waited(&logins, Some(second)).await, HEARING_WITHIN - second);
        assert_eq!(waited(&logins, Some(MINUTE)).await, Duration::ZERO);
        logins.hears(true);
        assert_eq!(waited(&logins, Some(second)).await, HEARD_WITHIN);
        assert_eq!(waited(&logins, Some(second)).await, Duration::ZERO);
        logins.hears(false);
        assert_eq!(waited(&logins, Some(second)).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_start_at_once_and_hear_nobody_do_not_log_in_together() {
        let fleet = NonZeroU32::new(100).unwrap();
        let replicas: Vec<_> = (0..fleet.get()).map(|_| replica("deaf")).collect();
        replicas.iter().for_each(|logins| logins.hears(false));
        let mut taken = 0;
        for _ in 0..60 {
            let takes = |logins: &&Logins| logins.take(gstin(), fleet).is_ok();
            taken += replicas.iter().filter(takes).count();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(taken <= 12, "{taken} in the first minute; two are the rate");
        // Few enough that each may have one need not wait for each other.
        let few = replica("one of two");
        few.hears(false);
        assert_eq!(few.take(gstin(), NonZeroU32::new(2).unwrap()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_long_ago_is_forgotten() {
        let logins = replica("a");
        logins.heard("b", gstin(), now(0));
        logins.forget_the_quiet();
        assert_eq!(logins.fleet.len(), 1);
        tokio::time::advance(MINUTE).await;
        logins.forget_the_quiet();
        assert_eq!(logins.fleet.len(), 0);
    }
}
