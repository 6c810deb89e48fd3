//! Whose turn it is to be split.
//!
//! One rule: what waits here is little. A delivery that waits would come back in doubt if this replica died, with all of
//! its documents; and the prefetch window counts messages, however long they are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// A batch of the largest size takes some time of the broker's and of ours.
const AT_ONCE: usize = 2;

/// So many bytes of batches may wait, or one that is longer; two hundred documents of the usual length.
const WAITING: usize = 512 * 1024;

/// Those that may not come back as quickly as they can surely be split: one that has to be sent away again is in hand twice.
const BYTES_A_SECOND: f64 = 4.0 * 1024.0 * 1024.0;

/// No sooner than this: by then those that came together with them have been split or sent away.
const SOONEST: Duration = Duration::from_secs(2);

/// The turns of one class.
#[derive(Debug)]
pub(in crate::worker) struct Turns {
    turns: Semaphore,
    /// Bytes of those that wait.
    waiting: AtomicUsize,
    /// When the last of those that were sent away comes back.
    last: Mutex<Instant>,
}

/// A batch that waits.
struct Waiting<'t> {
    turns: &'t Turns,
    bytes: usize,
    /// It is the only one, or all together are not many.
    is_little: bool,
}

impl<'t> Waiting<'t> {
    fn new(turns: &'t Turns, bytes: usize) -> Self {
        let before = turns.waiting.fetch_add(bytes, Ordering::Relaxed);
        Self {
            turns,
            bytes,
            is_little: before == 0 || before + bytes <= WAITING,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Turns {
    pub(in crate::worker) fn new() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            waiting: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
        }
    }

    /// Waits until a batch of this length may be split, or says in how long it had best come back. One in doubt waits in any
    /// case: nothing more of it could come to be so.
    pub(in crate::worker) async fn turn(
        &self,
        bytes: usize,
        in_doubt: bool,
    ) -> Result<SemaphorePermit<'_>, Duration> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let waiting = Waiting::new(self, bytes);
        if !waiting.is_little && !in_doubt {
            return Err(self.next_return(bytes));
        }
        // Closed never.
        self.turns.acquire().await.map_err(|_| SOONEST)
    }

    /// In how long one of this length that is not to wait here had best come.
    pub(in crate::worker) fn next_return(&self, bytes: usize) -> Duration {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        let due = (*last).max(now + SOONEST);
        *last = due + Duration::from_secs_f64(bytes / BYTES_A_SECOND);
        due - now
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_wait_for_their_turn_and_the_others_come_back_one_after_the_other() {
        let turns = Turns::new();
        let first = turns.turn(1, false).await.unwrap();
        let second = turns.turn(1, false).await.unwrap();
        // However long it is, or it would never have its turn.
        let mut waits = Box::pin(turns.turn(2 * WAITING, false));
        assert!((&mut waits).now_or_never().is_none());
        let mebibyte = 1024 * 1024;
        let away = [
            turns.turn(mebibyte, false).await,
            turns.turn(1, false).await,
        ];
        let its_time = Duration::from_millis(250);
        assert_eq!(away.map(Result::unwrap_err), [SOONEST, SOONEST + its_time]);
        assert!(
            turns.turn(mebibyte, true).now_or_never().is_none(),
            "in doubt"
        );
        drop(first);
        let third = waits.await.unwrap();
        drop(second);
        assert!(turns.turn(1, false).await.is_ok(), "nobody waits any more");
        drop(third);
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 0);
    }
}
