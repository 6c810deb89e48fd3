//! Named places at which a build for tests can be told to die, so that each gap between receiving a job and
//! acknowledging it is seen with a crash in it.
//!
//! One rule: without the feature `crash-points` nothing here does anything, and no build that anybody runs has it.
//! With it, `IRN_WORKER_CRASH_AT=submitting:3` aborts the process the third time it comes to that point.

/// The variable that arms a point: its name, and after a colon the number of the visit that is the last.
#[cfg(feature = "crash-points")]
const VARIABLE: &str = "IRN_WORKER_CRASH_AT";

/// How long a request or a message under way is given to arrive before the process dies.
#[cfg(feature = "crash-points")]
const UNDER_WAY_FOR: std::time::Duration = std::time::Duration::from_millis(50);

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)+) => {
        /// A place in the life of a job, in the order in which a job may come to it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $point,)+
        }

        impl Point {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$point,)+];

            /// What it is called in the environment.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// A delivery has come and nothing is known of it.
    Delivered = "delivered",
    /// Its properties and its document are understood.
    Decoded = "decoded",
    /// It has its turn in the lane.
    TurnTaken = "turn_taken",
    /// A job in doubt was looked up; nothing has been made of the answer.
    LookedUp = "looked_up",
    /// A session and a rate are there for the next call.
    SessionReady = "session_ready",
    /// The submit is about to leave.
    Submitting = "submitting",
    /// The submit has left and is being answered.
    Submitted = "submitted",
    /// The submit was answered; nothing has been made of the answer.
    Answered = "answered",
    /// It is decided what becomes of the job, and nothing of it is done.
    Settled = "settled",
    /// A message has left for the broker, whatever it is, and its confirm has not been read.
    Publishing = "publishing",
    /// A copy of the job is on the ladder, and the job is not acknowledged.
    LadderConfirmed = "ladder_confirmed",
    /// A copy of the job is back in its queue, and the job is not acknowledged.
    HandBackConfirmed = "hand_back_confirmed",
    /// The dead letter is kept, and its result is not published.
    DeadLetterConfirmed = "dead_letter_confirmed",
    /// What nobody can read is kept, and its result is not published.
    PoisonConfirmed = "poison_confirmed",
    /// One document of a batch is a job of its own, perhaps not the others.
    BatchPartConfirmed = "batch_part_confirmed",
    /// All documents of a batch are jobs, and the batch is not acknowledged.
    BatchConfirmed = "batch_confirmed",
    /// The result is in its queue, and the job is not acknowledged.
    ResultConfirmed = "result_confirmed",
    /// The acknowledgement was handed to the connection.
    Acknowledged = "acknowledged",
}

/// The point at which this process is to die, if there is one.
#[derive(Debug, Default)]
pub struct CrashPoints {
    #[cfg(feature = "crash-points")]
    armed: Option<Armed>,
}

#[cfg(feature = "crash-points")]
#[derive(Debug)]
struct Armed {
    point: Point,
    visits_left: std::sync::atomic::AtomicU32,
}

#[cfg(not(feature = "crash-points"))]
impl CrashPoints {
    /// None: this build has no crash points.
    pub fn from_environment() -> Self {
        Self::default()
    }

    /// Nothing.
    #[inline]
    pub fn at(&self, _point: Point) {}

    /// The future itself.
    #[inline]
    pub fn during<F: Future>(&self, _point: Point, future: F) -> F {
        future
    }
}

#[cfg(feature = "crash-points")]
impl CrashPoints {
    /// Reads which point is armed.
    ///
    /// # Panics
    /// If the variable names no point: a test that believes to crash must not go on unharmed.
    pub fn from_environment() -> Self {
        let armed = std::env::var(VARIABLE).ok().map(|text| {
            armed(&text).unwrap_or_else(|| panic!("{VARIABLE}={text} names no crash point"))
        });
        Self { armed }
    }

    /// Dies here, if it was told to.
    pub fn at(&self, point: Point) {
        if self.fires(point) {
            std::process::abort();
        }
    }

    /// Runs what is under way for a moment and then dies without having read how it ended, if it was told to.
    pub async fn during<F: Future>(&self, point: Point, future: F) -> F::Output {
        if !self.fires(point) {
            return future.await;
        }
        drop(tokio::time::timeout(UNDER_WAY_FOR, future).await);
        std::process::abort();
    }

    fn fires(&self, point: Point) -> bool {
        use std::sync::atomic::Ordering;
        let armed = self.armed.as_ref().filter(|armed| armed.point == point);
        armed.is_some_and(|armed| armed.visits_left.fetch_sub(1, Ordering::Relaxed) == 1)
    }
}

#[cfg(feature = "crash-points")]
fn armed(text: &str) -> Option<Armed> {
    let (name, visit) = text.split_once(':').unwrap_or((text, "1"));
    let point = *Point::ALL.iter().find(|point| point.name() == name)?;
    let visits: u32 = visit.parse().ok().filter(|visits| *visits > 0)?;
    Some(Armed {
        point,
        visits_left: visits.into(),
    })
}

#[cfg(all(test, feature = "crash-points"))]
mod tests {
    use super::*;

    #[test]
    fn armed_point_fires_at_the_visit_that_was_named_and_at_no_other_point() {
        let points = CrashPoints {
            armed: armed("submitting:3"),
        };
        let visits: Vec<bool> = (0..5).map(|_| points.fires(Point::Submitting)).collect();
        assert_eq!(visits, [false, false, true, false, false]);
        assert!(!points.fires(Point::Answered));
        assert!(!CrashPoints::default().fires(Point::Submitting));
    }

    #[test]
    fn what_names_no_point_arms_none() {
        for text in ["", "submit", "submitting:", "submitting:0", "submitting:x"] {
            assert!(armed(text).is_none(), "{text}");
        }
        assert!(armed("submitting").is_some());
    }
}
