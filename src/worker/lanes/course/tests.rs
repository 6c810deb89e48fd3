use super::*;

use std::collections::VecDeque;

use crate::config::Rung;
use crate::retry::Ladder;

const SPACING: Duration = Duration::from_millis(100);
const LADDER: [u64; 5] = [15, 60, 300, 900, 3600];

fn rungs(seconds: &[u64], now: Instant) -> Rungs {
    let rung = |&seconds: &u64| Rung {
        name: format!("{seconds}s"),
        delay: Duration::from_secs(seconds),
    };
    let ladder = Ladder::try_new(seconds.iter().map(rung).collect());
    Rungs::new(&ladder.unwrap(), now)
}

fn wish(class: Class, again: bool) -> Return {
    Return {
        class,
        again,
        spacing: SPACING,
        waiting: 8,
        queue: None,
        replicas: 1,
        at_least: Duration::ZERO,
    }
}

#[tokio::test]
async fn first_returns_come_half_as_fast_again_and_who_comes_again_is_not_put_behind_them() {
    let now = Instant::now();
    let (mut course, rungs) = (Course::new(now), rungs(&LADDER, now));
    let mut next = |again| course.next_return(&wish(Class::Bulk, again), &rungs, now);
    let first: Vec<_> = (0..301).map(|_| next(false)).collect();
    let taken = (first[300] - first[0]).as_millis();
    assert!((19_990..=20_000).contains(&taken), "{taken} ms");
    assert_eq!(next(true), SPACING * 9, "after the eight that wait");
    assert_eq!(next(true), SPACING * 10);
}

#[tokio::test]
async fn urgent_jobs_are_not_put_behind_the_others() {
    let now = Instant::now();
    let (mut course, rungs) = (Course::new(now), rungs(&LADDER, now));
    for _ in 0..50_000 {
        course.next_return(&wish(Class::Bulk, false), &rungs, now);
    }
    let urgent = course.next_return(&wish(Class::Urgent, false), &rungs, now);
    assert_eq!(urgent, SPACING * 9);
}

#[tokio::test]
async fn those_that_come_again_wait_half_a_minute_at_most_or_go_behind_all_others() {
    let now = Instant::now();
    let (mut course, rungs) = (Course::new(now), rungs(&LADDER, now));
    let mut next = |again| course.next_return(&wish(Class::Bulk, again), &rungs, now);
    let first = (0..1000).map(|_| next(false)).last().unwrap();
    let again: Vec<_> = (0..1000).map(|_| next(true)).collect();
    let soon = again.iter().filter(|wait| **wait <= AGAIN_WITHIN).count();
    assert_eq!(soon, 292, "at their lane's pace, after those that wait");
    assert!(again[soon..].iter().all(|wait| *wait > first));
}

#[tokio::test]
async fn is_awaited_until_the_last_one_is_due() {
    let now = Instant::now();
    let (mut course, rungs) = (Course::new(now), rungs(&LADDER, now));
    assert!(!course.is_awaited(now));
    let wait = course.next_return(&wish(Class::Urgent, false), &rungs, now);
    assert!(course.is_awaited(now));
    assert!(!course.is_awaited(now + wait + SPACING));
}

#[tokio::test]
async fn pace_is_what_turns_took_or_what_those_take_that_hang_now() {
    let start = Instant::now();
    let mut course = Course::new(start);
    let mut now = start;
    for _ in 0..40 {
        course.began(now);
        now += Duration::from_millis(500);
        course.ended(now - Duration::from_millis(500), now);
    }
    let pace = course.pace(2, now).as_millis();
    assert!((249..=250).contains(&pace), "{pace}");
    let hanging = course.pace(2, now + Duration::from_secs(10));
    assert_eq!(hanging, Duration::from_secs(5));
}

/// A rung's queue: in order, and a message leaves when its time has come and all before it have left.
struct RungQueue {
    delay: Duration,
    /// When each is due, and whose it is.
    waiting: VecDeque<(Instant, usize)>,
}

/// Lanes, the ladder, and a backlog.
struct World {
    lanes: Vec<Simulated>,
    rungs: Rungs,
    ladder: Vec<RungQueue>,
    /// Whose the next ones are, and whether they have come back before.
    queue: VecDeque<(usize, bool)>,
    /// Whether its length is known.
    queue_is_known: bool,
}

/// A lane, and how its GSTIN's jobs get on.
struct Simulated {
    course: Course,
    jobs: usize,
    waiting: u32,
    taken: usize,
    deferrals: usize,
}

impl World {
    /// As many as may wait in a lane: two and a half seconds of its rate.
    const ROOM: u32 = 25;

    fn new(now: Instant, backlog: &[usize], seconds: &[u64]) -> Self {
        let lane = |&jobs: &usize| Simulated {
            course: Course::new(now),
            jobs,
            waiting: 0,
            taken: 0,
            deferrals: 0,
        };
        let rung = |&seconds: &u64| RungQueue {
            delay: Duration::from_secs(seconds),
            waiting: VecDeque::new(),
        };
        Self {
            lanes: backlog.iter().map(lane).collect(),
            rungs: rungs(seconds, now),
            ladder: seconds.iter().map(rung).collect(),
            queue: mixed(backlog),
            queue_is_known: false,
        }
    }

    fn comes(&mut self, now: Instant, whose: usize, again: bool) {
        let lane = &mut self.lanes[whose];
        if lane.waiting < Self::ROOM {
            lane.waiting += 1;
            return;
        }
        let queue = self.queue_is_known.then_some(self.queue.len());
        let wish = Return {
            waiting: lane.waiting,
            queue: queue.and_then(|queue| u32::try_from(queue).ok()),
            ..wish(Class::Bulk, again)
        };
        let wait = lane.course.next_return(&wish, &self.rungs, now);
        let rung = self.ladder.iter_mut().find(|rung| rung.delay >= wait);
        let rung = rung.unwrap();
        self.rungs.holds(rung.delay, wait, now);
        rung.waiting.push_back((now + wait, whose));
        lane.deferrals += 1;
    }

    fn step(&mut self, now: Instant, handed_out: usize, takes: bool) {
        for lane in &mut self.lanes {
            if takes && lane.waiting > 0 {
                lane.waiting -= 1;
                lane.taken += 1;
            }
        }
        for rung in &mut self.ladder {
            while rung.waiting.front().is_some_and(|(due, _)| *due <= now) {
                let (_, whose) = rung.waiting.pop_front().unwrap();
                self.queue.push_back((whose, true));
            }
        }
        for _ in 0..handed_out {
            if let Some((whose, again)) = self.queue.pop_front() {
                self.comes(now, whose, again);
            }
        }
    }

    fn deferrals(&self) -> usize {
        self.lanes.iter().map(|lane| lane.deferrals).sum()
    }
}

/// The backlogs of several, each spread over all of the queue.
fn mixed(backlog: &[usize]) -> VecDeque<(usize, bool)> {
    let mut jobs: Vec<(f64, usize)> = Vec::new();
    for (whose, &count) in backlog.iter().enumerate() {
        let count = u32::try_from(count).unwrap();
        let place = |n: u32| (f64::from(n) + 0.5) / f64::from(count);
        jobs.extend((0..count).map(|n| (place(n), whose)));
    }
    jobs.sort_by(|one, other| one.0.total_cmp(&other.0));
    jobs.into_iter().map(|(_, whose)| (whose, false)).collect()
}

/// What became of a world: the seconds that each lane needed, all deferrals, and the most in a second after the sweep.
#[derive(Debug)]
struct Drained {
    seconds: Vec<usize>,
    deferrals: usize,
    most: usize,
}

/// What lanes of ten a second make of a backlog that is swept at 3,000 a second. It is an error of the test's if the
/// first one ever stands still before its end.
fn drained(mut world: World, start: Instant) -> Drained {
    const STEPS: u32 = 50;
    let swept_after = world.queue.len() / 3000 + 1;
    let mut seconds = vec![0; world.lanes.len()];
    let (mut most, mut second) = (0, 0);
    while world.lanes.iter().any(|lane| lane.taken < lane.jobs) {
        let (deferrals, taken) = (world.deferrals(), world.lanes[0].taken);
        for step in 0..STEPS {
            let at = Duration::from_secs(1) * step / STEPS;
            let now = start + Duration::from_secs(u64::try_from(second).unwrap()) + at;
            world.step(now, 3000 / 50, step % 5 == 0);
        }
        second += 1;
        if second > swept_after {
            most = most.max(world.deferrals() - deferrals);
        }
        let first = &world.lanes[0];
        let at_work = first.taken - taken;
        assert!(
            at_work == 10 || second == 1 || first.taken + 30 > first.jobs,
            "{at_work} in second {second}, {} taken",
            first.taken
        );
        for (needed, lane) in seconds.iter_mut().zip(&world.lanes) {
            if lane.taken < lane.jobs {
                *needed = second + 1;
            }
        }
        assert!(second < 20_000, "it never ends");
    }
    let drained = Drained {
        seconds,
        deferrals: world.deferrals(),
        most,
    };
    println!("{drained:?}");
    drained
}

#[tokio::test]
async fn backlog_of_100_000_jobs_keeps_its_lane_at_its_rate_and_never_comes_back_in_a_heap() {
    for queue_is_known in [false, true] {
        let start = Instant::now();
        let mut world = World::new(start, &[100_000], &LADDER);
        world.queue_is_known = queue_is_known;
        let drained = drained(world, start);
        assert!(drained.seconds[0] <= 10_010, "{drained:?}");
        assert!(drained.deferrals <= 400_000, "{drained:?}");
        assert!(drained.most <= 300, "{drained:?}");
    }
}

#[tokio::test]
async fn a_ladder_that_is_too_short_for_a_backlog_makes_no_heap_of_it_where_its_length_is_known() {
    let start = Instant::now();
    let mut world = World::new(start, &[100_000], &LADDER[..3]);
    world.queue_is_known = true;
    // Each of 100,000 comes back within five minutes, so 333 a second do.
    let drained = drained(world, start);
    assert!(drained.seconds[0] <= 10_010, "{drained:?}");
    assert!(drained.most <= 500, "{drained:?}");
}

#[tokio::test]
async fn a_short_ladder_takes_a_small_backlog_as_well() {
    let start = Instant::now();
    let drained = drained(World::new(start, &[1_000], &[1, 5, 30]), start);
    assert!(drained.seconds[0] <= 110, "{drained:?}");
    assert!(drained.deferrals <= 10_000, "{drained:?}");
    assert!(drained.most <= 300, "{drained:?}");
}

#[tokio::test]
async fn the_backlog_of_one_gstin_does_not_hold_up_the_smaller_ones_of_others() {
    for backlog in [
        &[100_000, 3_000, 500][..],
        &[30_000, 15_000],
        &[30_000, 20_000, 10_000],
    ] {
        let start = Instant::now();
        let mut world = World::new(start, backlog, &LADDER);
        world.queue_is_known = true;
        let drained = drained(world, start);
        for (&jobs, &seconds) in backlog.iter().zip(&drained.seconds) {
            // At their rate, and what a few hundred lose to the shortest rungs.
            let bound = jobs / 10 * 3 / 2 + 30;
            assert!(seconds <= bound, "{jobs} of {backlog:?}: {drained:?}");
        }
        let all = backlog.iter().sum::<usize>();
        assert!(drained.deferrals <= all * 6, "{backlog:?}: {drained:?}");
    }
}

#[tokio::test]
async fn schedule_of_long_ago_does_not_make_those_that_take_a_shorter_rung_due_together() {
    let start = Instant::now();
    let (mut course, rungs) = (Course::new(start), rungs(&[1, 60], start));
    let now = start + Duration::from_secs(1000);
    rungs.holds(Duration::from_secs(60), Duration::from_secs(60), now);
    let mut next = || course.next_return(&wish(Class::Bulk, false), &rungs, now);
    // Nine that wait need a second and less.
    let shortened: Vec<_> = (0..20).map(|_| next()).collect();
    assert!(shortened.iter().all(|wait| *wait <= Duration::from_secs(1)));
    assert!(course.bulk.until > now, "it has not gone back");
}
