//! Whether a job that finds its lane busy may wait for its turn, holding its delivery, or goes to the ladder.
//!
//! One rule: a delivery that waits takes a place in the window from those that stand behind it in the queue. Where
//! somebody may stand there that could go on at once, a GSTIN waits in its share only and what is over is swept away;
//! where nobody does, sweeping would be of use to nobody, and the queue is the best place to wait.

use std::time::Duration;

/// In a lane that moves so quickly any number may wait: their places are soon another GSTIN's.
pub(super) const QUICK: Duration = Duration::from_millis(200);

/// Who is expected to have its turn within this time is rarely out of patience before it.
const EXPECTED: Duration = Duration::from_millis(2500);

/// A lane that takes all that the window holds within this time shows soon who stands behind it.
const SOON: Duration = Duration::from_secs(1);

/// A queue that is shorter is swept through within seconds, and then it is known who stands in it.
const SHORT: u32 = 20_000;

/// What is known when a job comes to a lane that is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Its place among those that wait, from 1.
    pub(super) position: u32,
    /// Deliveries that the lane has.
    pub(super) held: u32,
    /// The time between two turns.
    pub(super) pace: Duration,
    /// How many deliveries may be held at once.
    pub(super) window: u32,
    /// How many of them are held.
    pub(super) taken: u32,
    /// How many of them one GSTIN may hold.
    pub(super) share: u32,
    pub(super) others: Others,
}

/// Who else could use the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// Nobody: there is one account.
    None,
    /// Nobody was seen lately whose lane is not as full.
    Unseen,
    /// Somebody was, and has nothing here to do.
    Wanting,
}

impl Others {
    /// What the lanes say, and the length of the queue where that is known. A worker that has just started has seen
    /// nobody.
    pub(super) fn judge(alone: bool, wanting: bool, fresh: bool, queue: Option<u32>) -> Self {
        if alone {
            return Self::None;
        }
        let swept_soon = fresh && queue.is_some_and(|queue| queue <= SHORT);
        if wanting || swept_soon {
            Self::Wanting
        } else {
            Self::Unseen
        }
    }
}

/// What a job does that finds its lane full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It waits for its turn, as long as anybody does.
    Wait,
    /// It waits for a moment. The lane may only have seemed quick.
    Moment,
    /// It waits until it is needed as a probe: to see who stands behind it.
    Edge,
    /// It goes to the ladder.
    Full,
}

pub(super) fn room(look: &Look) -> Room {
    let wait = look.pace.saturating_mul(look.position);
    let left = look.window.saturating_sub(look.taken);
    // Of what is left: however many are busy, there is room for somebody who is not.
    let in_share = look.held < look.share && look.held < left;
    if in_share && wait <= EXPECTED {
        return Room::Wait;
    }
    if wait <= QUICK {
        return Room::Moment;
    }
    match look.others {
        Others::None => Room::Wait,
        Others::Unseen if look.pace.saturating_mul(look.window) <= SOON => Room::Wait,
        Others::Unseen => Room::Edge,
        Others::Wanting => Room::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISY: Look = Look {
        position: 60,
        held: 68,
        pace: Duration::from_millis(100),
        window: 128,
        taken: 68,
        share: 64,
        others: Others::Wanting,
    };

    #[test]
    fn a_gstin_waits_in_its_share_and_what_is_over_is_swept_where_somebody_wants_the_window() {
        let few = Look {
            position: 5,
            held: 13,
            taken: 13,
            ..NOISY
        };
        assert_eq!(room(&few), Room::Wait);
        assert_eq!(room(&NOISY), Room::Full);
        let over = Look {
            pace: Duration::from_millis(30),
            ..NOISY
        };
        assert_eq!(room(&over), Room::Full);
        assert_eq!(room(&Look { held: 58, ..over }), Room::Wait);
        let crowded = Look { taken: 100, ..few };
        assert_eq!(room(&crowded), Room::Wait);
        let crowded = Look { taken: 120, ..few };
        assert_eq!(room(&crowded), Room::Full, "eight are left for others");
    }

    #[test]
    fn any_number_waits_in_a_quick_lane() {
        let quick = Look {
            pace: Duration::from_millis(3),
            held: 120,
            taken: 120,
            ..NOISY
        };
        assert_eq!(room(&quick), Room::Moment);
        assert_eq!(
            room(&Look {
                position: 100,
                ..quick
            }),
            Room::Full
        );
    }

    #[test]
    fn where_nobody_wants_the_window_the_queue_is_the_place_to_wait() {
        let others = |others| room(&Look { others, ..NOISY });
        assert_eq!(others(Others::None), Room::Wait);
        assert_eq!(others(Others::Unseen), Room::Edge);
        let brisk = Look {
            pace: Duration::from_millis(5),
            others: Others::Unseen,
            ..NOISY
        };
        assert_eq!(
            room(&brisk),
            Room::Wait,
            "what stands behind comes soon anyway"
        );
    }

    #[test]
    fn a_lane_that_hangs_keeps_nobody_waiting_behind_it() {
        let hanging = Look {
            position: 1,
            held: 8,
            taken: 8,
            pace: Duration::from_secs(4),
            ..NOISY
        };
        assert_eq!(room(&hanging), Room::Full);
    }

    #[test]
    fn a_fresh_worker_sweeps_through_a_short_queue_and_not_through_a_long_one() {
        for (alone, wanting, fresh, queue, expected) in [
            (true, true, true, Some(1), Others::None),
            (false, true, false, Some(100_000), Others::Wanting),
            (false, false, true, Some(10_000), Others::Wanting),
            (false, false, true, Some(100_000), Others::Unseen),
            (false, false, true, None, Others::Unseen),
            (false, false, false, Some(10_000), Others::Unseen),
        ] {
            assert_eq!(Others::judge(alone, wanting, fresh, queue), expected);
        }
    }
}
