//! Delays that end when they are due.
//!
//! The runtime's own timer goes by whole milliseconds and is up to two late: whoever measures his latency against this
//! portal would take them for his.

use std::time::{Duration, Instant};

/// More than the runtime's timer is late on an idle machine.
const LATE: Duration = Duration::from_millis(3);

/// Returns after `delay`, within some tens of microseconds on an idle machine.
pub(crate) async fn pause(delay: Duration) {
    let due = Instant::now() + delay;
    // Few of many long delays are near their end at once, so that few threads wait.
    if let Some(most) = delay.checked_sub(LATE) {
        tokio::time::sleep(most).await;
    }
    let rest = move || std::thread::sleep(due.saturating_duration_since(Instant::now()));
    if tokio::task::spawn_blocking(rest).await.is_err() {
        // The runtime ends: nobody is waited for.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_delay_is_never_short_even_if_it_is_of_less_than_a_millisecond() {
        for delay in [0, 1, 700, 2_300, 5_900].map(Duration::from_micros) {
            let started = Instant::now();
            pause(delay).await;
            assert!(started.elapsed() >= delay, "{delay:?}");
        }
    }

    #[tokio::test]
    async fn thousands_of_requests_are_delayed_side_by_side() {
        let started = Instant::now();
        let delays = (0..5_000).map(|_| pause(Duration::from_millis(100)));
        futures_util::future::join_all(delays).await;
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
