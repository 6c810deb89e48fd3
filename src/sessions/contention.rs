//! Notices that another system uses the same API user and keeps ending our sessions, as some portals do at every login.
//!
//! One rule: it only watches. It causes no login and prevents none: their rate is bounded elsewhere.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A session refused so soon after its login did not come to its end by itself: the shortest one lives for an hour.
const YOUNG: Duration = Duration::from_secs(5 * 60);

/// So many of them within [`WINDOW`] are no accident.
const STRIKES: usize = 3;

/// Both how far back is counted and how often it is told.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// What happened to the sessions of one account.
#[derive(Debug, Default)]
pub(super) struct Contention(Mutex<Strikes>);

#[derive(Debug, Default)]
struct Strikes {
    at: VecDeque<Instant>,
    told: Option<Instant>,
}

impl Contention {
    /// A session that was opened then has been refused by the portal. Whether this is news to be told now.
    pub(super) fn refused(&self, opened: Instant) -> bool {
        if opened.elapsed() >= YOUNG {
            return false;
        }
        let now = Instant::now();
        let mut strikes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.forget_the_old();
        if strikes.at.len() == STRIKES {
            strikes.at.pop_front();
        }
        strikes.at.push_back(now);
        let is_news =
            strikes.at.len() >= STRIKES && strikes.told.is_none_or(|told| told.elapsed() >= WINDOW);
        if is_news {
            strikes.told = Some(now);
        }
        is_news
    }

    /// Whether it goes on.
    pub(super) fn is_on(&self) -> bool {
        let mut strikes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.forget_the_old();
        strikes.at.len() >= STRIKES
    }
}

impl Strikes {
    fn forget_the_old(&mut self) {
        while self.at.front().is_some_and(|at| at.elapsed() >= WINDOW) {
            self.at.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn three_sessions_refused_in_their_youth_are_told_of_once_in_a_while() {
        let contention = Contention::default();
        let mut told = 0;
        for _ in 0..12 {
            let opened = Instant::now();
            tokio::time::sleep(Duration::from_secs(30)).await;
            told += usize::from(contention.refused(opened));
        }
        assert_eq!((told, contention.is_on()), (1, true));
        tokio::time::sleep(WINDOW).await;
        assert!(!contention.is_on(), "nothing happens any more");
    }

    #[tokio::test(start_paused = true)]
    async fn two_accidents_or_sessions_of_a_good_age_are_nothing() {
        let contention = Contention::default();
        for _ in 0..5 {
            let opened = Instant::now();
            tokio::time::sleep(YOUNG).await;
            assert!(!contention.refused(opened));
        }
        for _ in 0..2 {
            assert!(!contention.refused(Instant::now()));
        }
        tokio::time::sleep(WINDOW).await;
        assert!(!contention.refused(Instant::now()), "the two are long ago");
        assert!(!contention.is_on());
    }
}
