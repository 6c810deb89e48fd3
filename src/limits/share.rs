//! How many replicas share the limits, judged by the live consumers of the job queue, and which of them this one is.
//!
//! One rule: when in doubt, more. A replica too many costs some throughput for a second, one too few breaks a limit.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// While replicas come back from a lost broker, they see one another too late: for so long nobody believes that there
/// are fewer. Longer than the slowest reconnect and a look.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// One replica's part of every limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// How many share them.
    pub(super) replicas: NonZeroU32,
    /// When this one has its turns; none: at times of its own.
    pub(super) seat: Option<Seat>,
}

/// A place among the replicas, which take turns by the clock that they all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    /// From 0; below the number of replicas.
    pub(super) place: u32,
    /// A moment of ours, and how long it is after the Unix epoch.
    pub(super) clock: (Instant, Duration),
}

impl Share {
    /// Of so many, without a place among them.
    pub(super) fn of(replicas: NonZeroU32) -> Self {
        Self {
            replicas,
            seat: None,
        }
    }

    /// Whether what was planned with the other one holds: a clock that is read again changes nothing.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let place = |share: &Self| share.seat.map(|seat| seat.place);
        self.replicas == other.replicas && place(self) == place(other)
    }
}

impl Seat {
    /// How long ago the last of the moments was that come every `spacing`, seen from the epoch by `offset` later.
    pub(super) fn since_turn(&self, now: Instant, spacing: Duration, offset: Duration) -> Duration {
        let (at, since_epoch) = self.clock;
        let nanos = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
        let behind = nanos(at.saturating_duration_since(now));
        let now = nanos(since_epoch) + nanos(now.saturating_duration_since(at)) - behind;
        let into = (now - nanos(offset)).rem_euclid(nanos(spacing).max(1));
        Duration::from_nanos(u64::try_from(into).unwrap_or_default())
    }
}

/// The replicas that are believed to live.
#[derive(Clone, Copy, Debug)]
pub struct Replicas(NonZeroU32);

impl Default for Replicas {
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

impl Replicas {
    /// What to believe after the broker has counted so many consumers; `consuming_for` is how long this replica has
    /// been one of them.
    pub fn seen(&mut self, consumers: u32, consuming_for: Option<Duration>) -> NonZeroU32 {
        // Before it consumes, a replica is not counted, and counts itself.
        let unseen = u32::from(consuming_for.is_none());
        let believed = NonZeroU32::new(consumers.saturating_add(unseen));
        let settled = consuming_for.is_some_and(|held| held >= SETTLED_AFTER);
        // None at all, though this replica consumes: it has just stopped to, or the count is older than its start.
        if let Some(count) = believed
            && (count > self.0 || settled)
        {
            self.0 = count;
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    fn seen(looks: &[(u32, Option<Duration>)]) -> Vec<u32> {
        let mut replicas = Replicas::default();
        let looks = looks.iter();
        looks
            .map(|(consumers, held)| replicas.seen(*consumers, *held).get())
            .collect()
    }

    #[test]
    fn replica_that_starts_counts_itself_before_it_is_seen() {
        assert_eq!(
            seen(&[(3, None), (3, Some(Duration::ZERO)), (4, LONG)]),
            [4, 4, 4]
        );
    }

    #[test]
    fn more_are_believed_at_once_and_fewer_as_soon_as_this_one_has_settled() {
        let soon = Some(SETTLED_AFTER - Duration::from_millis(1));
        assert_eq!(
            seen(&[(4, LONG), (1, soon), (5, soon), (2, Some(SETTLED_AFTER))]),
            [4, 4, 5, 2]
        );
    }

    #[test]
    fn fleet_that_pauses_together_comes_back_as_many_as_it_was() {
        assert_eq!(
            seen(&[
                (3, LONG),
                (2, None),
                (0, None),
                (1, Some(Duration::ZERO)),
                (2, None),
                (3, LONG)
            ]),
            [3, 3, 3, 3, 3, 3]
        );
    }

    #[test]
    fn broker_that_counts_nobody_is_not_believed() {
        assert_eq!(seen(&[(3, LONG), (0, LONG), (0, None)]), [3, 3, 3]);
    }
}
