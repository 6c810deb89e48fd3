//! What a pause means to one job: nothing is sent for it, it waits on the ladder uncounted, and its deadline holds.
//!
//! One rule: a job that waits for an operator costs others nothing. It comes back the more rarely the longer its pause
//! lasts, and never keeps another message on its rung.

use std::time::Duration;

use jiff::Timestamp;

use super::Worker;
use super::case::{Case, HELD, PAUSED};
use super::portal;
use super::settle::Ending;
use crate::config::credentials::Account;
use crate::control::Pause;
use crate::gstin::Gstin;
use crate::retry::Ladder;

/// A job comes back when its pause has lasted half as long again, so that a pause that is lifted holds nobody up for
/// much longer than it lasted; but after this long at the latest.
const LOOKS_WITHIN: Duration = Duration::from_secs(300);

/// Longer than the rung below: what is behind it on its rung is due no earlier.
const LONGER: Duration = Duration::from_millis(1);

/// What becomes of a job whose GSTIN or client is paused, before anything is done for it. None: it is not paused.
pub(super) fn before(
    worker: &Worker,
    case: &Case,
    gstin: &Gstin,
    account: Option<&Account>,
) -> Option<Ending> {
    let client = account.map(|account| account.client.name.as_str());
    let (_, pause) = worker.paused.of(gstin, client)?;
    let changes = case.job.operation.changes_something();
    if case.is_past_deadline() && (!changes || case.was_never_sendable(pause.since)) {
        return Some(Ending::Expired);
    }
    Some(deferred(worker, case, &pause))
}

/// The same before each call: a pause may have begun since.
pub(super) fn before_call(worker: &Worker, case: &Case, account: &Account) -> Option<Ending> {
    if let Some(pause) = worker.paused.portal() {
        // In doubt, it would be looked up as soon as it is taken, so it waits where it ages.
        return Some(match case.in_doubt() {
            true => deferred(worker, case, &pause),
            false => portal::NOT_ASKED,
        });
    }
    let client = account.client.name.as_str();
    let (_, pause) = worker.paused.of(&account.gstin, Some(client))?;
    Some(deferred(worker, case, &pause))
}

fn deferred(worker: &Worker, case: &Case, pause: &Pause) -> Ending {
    Ending::Deferred {
        wait: comes_back_in(pause, Timestamp::now(), &worker.ladder),
        // What was judged before stays judged.
        why: if case.is_unjudged() { PAUSED } else { HELD },
    }
}

/// In how long a job is to come back and see whether the pause is over.
fn comes_back_in(pause: &Pause, now: Timestamp, ladder: &Ladder) -> Duration {
    let wait = (pause.age(now) / 2).min(LOOKS_WITHIN);
    let mut rungs = ladder.rungs().iter().map(|rung| rung.delay);
    let shortest = rungs.next().unwrap_or_default();
    let below = rungs.take_while(|delay| *delay <= wait).last();
    let wait = below.unwrap_or(shortest) + LONGER;
    // A queue lets its messages go only at its head: behind a retry on a longer rung it would stay as long as that.
    let rungs = ladder.rungs().iter().map(|rung| rung.delay);
    let longest = rungs.take_while(|delay| *delay <= LOOKS_WITHIN).last();
    let wait = longest.map_or(wait, |longest| wait.min(longest));
    wait.min(pause.left(now) + LONGER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rung;

    #[test]
    fn job_comes_back_the_more_rarely_the_longer_the_pause_lasts_and_at_its_end() {
        let rung = |seconds| Rung {
            name: format!("{seconds}s"),
            delay: Duration::from_secs(seconds),
        };
        let ladder = Ladder::try_new([15, 60, 300, 900, 3600].map(rung).into()).unwrap();
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let reason = "audit".parse().unwrap();
        let pause = Pause::try_new(reason, at(0), at(7200)).unwrap();
        for (now, rung, seconds, more) in [
            (0, 60, 15, LONGER),
            (100, 60, 15, LONGER),
            (120, 300, 60, LONGER),
            (599, 300, 60, LONGER),
            // Not on the next rung: there it would wait behind retries, for a quarter of an hour.
            (600, 300, 300, Duration::ZERO),
            (6000, 300, 300, Duration::ZERO),
            (7190, 15, 10, LONGER),
        ] {
            let wait = comes_back_in(&pause, at(now), &ladder);
            assert_eq!(wait, Duration::from_secs(seconds) + more, "after {now} s");
            let on = ladder.at_least(wait).delay;
            assert_eq!(on, Duration::from_secs(rung), "after {now} s");
        }
    }
}
