//! Rates: so many calls in a period, per GSTIN and in total.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::clock::{Moment, TokioClock};
use crate::config::{LimitsConfig, Rate};
use crate::gstin::Gstin;

type PerGstin = RateLimiter<Gstin, DashMapStateStore<Gstin>, TokioClock, NoOpMiddleware<Moment>>;
type Total = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>;

/// Whether a call may be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go ahead: the call is counted.
    Granted,
    /// Not for this long yet: nothing is counted.
    Wait(Duration),
}

/// The rates of one process.
#[derive(Debug)]
pub struct Limits {
    calls: PerGstin,
    total: Total,
    logins: PerGstin,
    per_gstin: Rate,
}

impl Limits {
    /// Rates as configured.
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            calls: RateLimiter::new(
                quota(config.per_gstin),
                DashMapStateStore::default(),
                TokioClock,
            ),
            total: RateLimiter::direct_with_clock(quota(config.total), TokioClock),
            logins: RateLimiter::new(
                quota(config.auth_per_gstin),
                DashMapStateStore::default(),
                TokioClock,
            ),
            per_gstin: config.per_gstin,
        }
    }

    /// Waits until a call for this GSTIN is within both rates, but not past `patience`.
    pub async fn admit_call(&self, gstin: &Gstin, patience: Duration) -> Admission {
        match wait_for(patience, || self.try_call(gstin)).await {
            Admission::Granted => wait_for(patience, || self.try_total()).await,
            refused @ Admission::Wait(_) => refused,
        }
    }

    /// Waits until a login for this GSTIN is within its rate, but not past `patience`.
    pub async fn admit_login(&self, gstin: &Gstin, patience: Duration) -> Admission {
        wait_for(patience, || {
            admission(self.logins.check_key(gstin).err().map(|until| wait(&until)))
        })
        .await
    }

    /// How long `calls` calls of one GSTIN take at its rate.
    pub fn expected_wait(&self, calls: u32) -> Duration {
        self.per_gstin.period / self.per_gstin.count.get() * calls
    }

    /// Forgets GSTINs that have been quiet for long enough to count as new. To be called now and then: governor
    /// never forgets by itself.
    pub fn forget_the_quiet(&self) {
        for limiter in [&self.calls, &self.logins] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    fn try_call(&self, gstin: &Gstin) -> Admission {
        admission(self.calls.check_key(gstin).err().map(|until| wait(&until)))
    }

    fn try_total(&self) -> Admission {
        admission(self.total.check().err().map(|until| wait(&until)))
    }
}

fn admission(wait: Option<Duration>) -> Admission {
    wait.map_or(Admission::Granted, Admission::Wait)
}

fn wait(until: &governor::NotUntil<Moment>) -> Duration {
    until.wait_time_from(TokioClock.now())
}

/// Evenly spaced, with a burst of a tenth of the count at most: a full bucket lets a fresh key send twice the rate
/// in its first period, which a hard limit of the portal would not forgive.
fn quota(rate: Rate) -> Quota {
    let spacing = rate.period / rate.count.get();
    let burst = NonZeroU32::new(rate.count.get().div_ceil(10)).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(spacing.max(Duration::from_nanos(1)))
        .unwrap_or_else(|| Quota::per_second(rate.count))
        .allow_burst(burst)
}

async fn wait_for(patience: Duration, mut attempt: impl FnMut() -> Admission) -> Admission {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let Admission::Wait(delay) = attempt() else {
            return Admission::Granted;
        };
        if tokio::time::Instant::now() + delay > deadline {
            return Admission::Wait(delay);
        }
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn rate(count: u32, seconds: u64) -> Rate {
        Rate {
            count: NonZeroU32::new(count).unwrap(),
            period: Duration::from_secs(seconds),
        }
    }

    fn limits(per_gstin: Rate, total: Rate) -> Limits {
        Limits::new(&LimitsConfig {
            per_gstin,
            total,
            auth_per_gstin: rate(2, 60),
            error_budget_per_gstin: rate(2000, 86_400),
            error_budget_total: rate(20_000, 86_400),
        })
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_hundred_calls_at_ten_a_second_take_ten_seconds() {
        let limits = limits(rate(10, 1), rate(1000, 1));
        let gstin = "29AAGCE4783K1Z1".parse().unwrap();
        let start = Instant::now();
        for _ in 0..100 {
            assert_eq!(limits.admit_call(&gstin, LONG).await, Admission::Granted);
        }
        let taken = start.elapsed();
        assert!(
            taken >= Duration::from_millis(9_800) && taken <= Duration::from_millis(10_200),
            "{taken:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_past_ones_patience_is_refused_at_once_with_its_length() {
        let limits = limits(rate(1, 10), rate(1000, 1));
        let gstin = "29AAGCE4783K1Z1".parse().unwrap();
        assert_eq!(
            limits.admit_call(&gstin, Duration::from_secs(3)).await,
            Admission::Granted
        );
        let start = Instant::now();
        let refused = limits.admit_call(&gstin, Duration::from_secs(3)).await;
        assert!(
            matches!(refused, Admission::Wait(wait) if wait > Duration::from_secs(9)),
            "{refused:?}"
        );
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_gstin_does_not_use_anothers_rate_but_both_share_the_total() {
        let limits = limits(rate(1, 10), rate(1, 1));
        let [a, b] = ["29AAGCE4783K1Z1", "27AABCT9421M1ZY"].map(|text| text.parse().unwrap());
        let start = Instant::now();
        assert_eq!(limits.admit_call(&a, LONG).await, Admission::Granted);
        assert_eq!(limits.admit_call(&b, LONG).await, Admission::Granted);
        assert!(
            (1_000..1_100).contains(&start.elapsed().as_millis()),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn logins_are_never_more_than_the_rate_in_any_minute() {
        let limits = limits(rate(10, 1), rate(100, 1));
        let gstin = "29AAGCE4783K1Z1".parse().unwrap();
        let start = Instant::now();
        for _ in 0..5 {
            assert_eq!(limits.admit_login(&gstin, LONG).await, Admission::Granted);
        }
        assert!(
            start.elapsed() >= Duration::from_secs(119),
            "{:?}",
            start.elapsed()
        );
    }
}
