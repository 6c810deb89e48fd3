//! How many replicas would be of use now: as many as the backlog needs, and no more than the limits let work.
//!
//! One rule: nobody is told to add replicas that could only wait. Where something is not known yet, the fleet is as
//! large as it should be.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry;

/// Rates are taken over this time: shorter, and one slow answer would move them.
const OVER: Duration = Duration::from_secs(30);

/// The figure falls only when all of this time needed fewer: an autoscaler that follows a lull starts what it has just
/// stopped.
const HELD_FOR: Duration = Duration::from_secs(60);

/// A replica may be wanted so far beyond what it can do before another one is asked for.
const TOLERANCE: f64 = 0.1;

/// What one look has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Jobs that somebody could work on at once: in the job queues, and handed out.
    pub due: u64,
    /// Jobs on each rung of the ladder, and how long one may stay there.
    pub on_ladder: Vec<(u64, Duration)>,
    /// How many replicas there are.
    pub replicas: u32,
    /// The portal takes no more than it is given now: it is down, or slower than it should be.
    pub portal_is_full: bool,
    /// Calls a second that the limits allow the fleet, for the GSTINs that are at work.
    pub allowed: f64,
    /// How many of their jobs one replica works on at once.
    pub width: usize,
}

impl Found {
    fn backlog(&self) -> u64 {
        let on_ladder = self.on_ladder.iter().map(|(jobs, _)| jobs).sum::<u64>();
        self.due.saturating_add(on_ladder)
    }

    /// The pace at which the backlog is to be worked off. What is on a rung comes back over the rung's time.
    fn to_work_off(&self, within: Duration) -> f64 {
        let on_ladder = self.on_ladder.iter();
        let returning =
            on_ladder.map(|(jobs, stay)| count(*jobs) / within.max(*stay).as_secs_f64());
        count(self.due) / within.as_secs_f64() + returning.sum::<f64>()
    }
}

/// What the figure is made of: all in jobs a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// How many come in.
    pub arriving: f64,
    /// How many more would work the backlog off in time.
    pub backlog: f64,
    /// How many the limits allow.
    pub allowed: f64,
    /// How many one replica can do.
    pub capacity: f64,
}

impl Demand {
    /// How many replicas that takes, at least one: the need or what the limits let work, whichever is less.
    pub fn useful_replicas(&self) -> u32 {
        let possible = (self.arriving + self.backlog).min(self.allowed);
        let replicas = (possible / self.capacity - TOLERANCE).ceil();
        if replicas.is_finite() {
            whole(replicas).max(1)
        } else {
            1
        }
    }
}

/// What is told of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Useful {
    /// How many replicas are of use.
    pub replicas: u32,
    /// All jobs: waiting, handed out, on the ladder.
    pub backlog: u64,
    /// What it was made of; not before some jobs have been settled here.
    pub demand: Option<Demand>,
}

/// Jobs settled by this process, and what follows for the fleet's size.
#[derive(Debug)]
pub struct Scaling {
    work_off_within: Duration,
    settled: AtomicU64,
    worked_micros: AtomicU64,
    course: Mutex<Course>,
}

#[derive(Debug, Default)]
struct Course {
    looks: VecDeque<Look>,
    /// How long a job has kept its place lately, waits for limits aside, in seconds.
    job_seconds: Option<f64>,
    /// Earlier figures, and when they were found.
    figures: VecDeque<(Instant, u32)>,
    latest: Option<Useful>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    settled: u64,
    worked_micros: u64,
    backlog: u64,
}

impl Scaling {
    /// Nothing known yet. A backlog is to be gone in `work_off_within`.
    pub fn new(work_off_within: Duration) -> Self {
        Self {
            work_off_within,
            settled: AtomicU64::new(0),
            worked_micros: AtomicU64::new(0),
            course: Mutex::default(),
        }
    }

    /// An attempt has ended that was worked on for so long, waits for limits aside, and settled its job or did not.
    pub fn worked(&self, length: Duration, settled: bool) {
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        self.worked_micros.fetch_add(micros, Ordering::Relaxed);
        self.settled
            .fetch_add(u64::from(settled), Ordering::Relaxed);
    }

    /// Takes in what a look has found, and says what follows.
    pub fn look(&self, found: &Found) -> Useful {
        let look = Look {
            at: Instant::now(),
            settled: self.settled.load(Ordering::Relaxed),
            worked_micros: self.worked_micros.load(Ordering::Relaxed),
            backlog: found.backlog(),
        };
        let mut course = self.course();
        let demand = course.take_in(look).demand(found, self.work_off_within);
        let replicas = match demand {
            Some(demand) => demand.useful_replicas(),
            // Some wait, and it is not known yet how many this replica can do.
            None if look.backlog > 0 => found.replicas.max(1),
            None => 1,
        };
        let held = course.hold(look.at, replicas);
        let most = if found.portal_is_full {
            found.replicas.max(1)
        } else {
            u32::MAX
        };
        let useful = Useful {
            replicas: held.min(most),
            backlog: look.backlog,
            demand,
        };
        course.latest = Some(useful);
        telemetry::useful_replicas(useful.replicas);
        useful
    }

    /// What followed from the latest look.
    pub fn latest(&self) -> Option<Useful> {
        self.course().latest
    }

    /// Held for a few instructions, never across a wait.
    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Course {
    fn take_in(&mut self, look: Look) -> &mut Self {
        self.looks.push_back(look);
        // The oldest one kept is at least so old, if there is one: rates are taken from it.
        while self
            .looks
            .get(1)
            .is_some_and(|next| look.at - next.at >= OVER)
        {
            self.looks.pop_front();
        }
        self
    }

    /// `None` as long as nothing is known of what a job takes.
    fn demand(&mut self, found: &Found, work_off_within: Duration) -> Option<Demand> {
        let (first, last) = (*self.looks.front()?, *self.looks.back()?);
        let seconds = (last.at - first.at).as_secs_f64();
        let settled = count(last.settled - first.settled);
        if settled > 0.0 {
            let worked = Duration::from_micros(last.worked_micros - first.worked_micros);
            self.job_seconds = Some(worked.as_secs_f64() / settled);
        }
        let job_seconds = self.job_seconds?;
        let per_second = |jobs: f64| if seconds > 0.0 { jobs / seconds } else { 0.0 };
        let settled = per_second(settled);
        let growth = per_second(count(last.backlog) - count(first.backlog));
        let width = f64::from(u32::try_from(found.width).unwrap_or(u32::MAX));
        Some(Demand {
            // Jobs that come in are settled or make the backlog longer. All replicas are taken to do alike.
            arriving: (settled * f64::from(found.replicas) + growth).max(0.0),
            backlog: found.to_work_off(work_off_within),
            allowed: found.allowed,
            capacity: (width / job_seconds).max(settled),
        })
    }

    /// The highest figure of late.
    fn hold(&mut self, now: Instant, replicas: u32) -> u32 {
        self.figures.push_back((now, replicas));
        while self
            .figures
            .front()
            .is_some_and(|(at, _)| now - *at > HELD_FOR)
        {
            self.figures.pop_front();
        }
        let figures = self.figures.iter().map(|(_, replicas)| *replicas);
        figures.max().unwrap_or(replicas)
    }
}

/// A count as a number to calculate with: exact up to 2^53, and nobody has more jobs.
#[expect(clippy::cast_precision_loss, reason = "no queue holds 2^53 messages")]
fn count(jobs: u64) -> f64 {
    jobs as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is wanted of a fleet without end"
)]
fn whole(replicas: f64) -> u32 {
    replicas as u32
}

#[cfg(test)]
mod tests;
