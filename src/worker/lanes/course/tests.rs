use super::*;

use std::collections::VecDeque;

const SPACING: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3600);

fn wish(class: Class, again: bool) -> Return {
    Return {
        class,
        again,
        spacing: SPACING,
        waiting: 8,
        longest: LONGEST,
    }
}

#[tokio::test]
async fn first_returns_come_half_as_fast_again_and_who_comes_again_is_not_put_behind_them() {
    let now = Instant::now();
    let mut course = Course::new(now);
    let mut next = |again| course.next_return(&wish(Class::Bulk, again), now);
    let first: Vec<_> = (0..301).map(|_| next(false)).collect();
    let taken = (first[300] - first[0]).as_millis();
    assert!((19_990..=20_000).contains(&taken), "{taken} ms");
    assert_eq!(next(true), SPACING * 9, "after the eight that wait");
    assert_eq!(next(true), SPACING * 10);
}

#[tokio::test]
async fn urgent_jobs_are_not_put_behind_the_others() {
    let now = Instant::now();
    let mut course = Course::new(now);
    for _ in 0..50_000 {
        course.next_return(&wish(Class::Bulk, false), now);
    }
    let urgent = course.next_return(&wish(Class::Urgent, false), now);
    assert_eq!(urgent, SPACING * 9);
}

#[tokio::test]
async fn those_that_come_again_wait_a_minute_at_most_or_go_behind_all_others() {
    let now = Instant::now();
    let mut course = Course::new(now);
    let mut next = |again| course.next_return(&wish(Class::Bulk, again), now);
    let first = (0..1000).map(|_| next(false)).last().unwrap();
    let again: Vec<_> = (0..1000).map(|_| next(true)).collect();
    let soon = again.iter().filter(|wait| **wait <= AGAIN_WITHIN).count();
    assert_eq!(soon, 592, "at their lane's pace, after those that wait");
    assert!(again[soon..].iter().all(|wait| *wait > first));
}

#[tokio::test]
async fn is_awaited_until_the_last_one_is_due() {
    let now = Instant::now();
    let mut course = Course::new(now);
    assert!(!course.is_awaited(now));
    let wait = course.next_return(&wish(Class::Urgent, false), now);
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
    waiting: VecDeque<(Instant, bool)>,
}

/// A lane, the ladder, and a backlog of one GSTIN.
struct World {
    course: Course,
    rungs: Vec<RungQueue>,
    queue: usize,
    /// Those in the queue or in a rung that have come back before are put back as such.
    returned: VecDeque<()>,
    waiting: u32,
    taken: usize,
    deferrals: usize,
}

impl World {
    /// As many as may wait in the lane: two and a half seconds of its rate.
    const ROOM: u32 = 25;

    fn new(now: Instant, jobs: usize, rungs: &[u64]) -> Self {
        let rung = |seconds: &u64| RungQueue {
            delay: Duration::from_secs(*seconds),
            waiting: VecDeque::new(),
        };
        Self {
            course: Course::new(now),
            rungs: rungs.iter().map(rung).collect(),
            queue: jobs,
            returned: VecDeque::new(),
            waiting: 0,
            taken: 0,
            deferrals: 0,
        }
    }

    fn comes(&mut self, now: Instant, again: bool) {
        if self.waiting < Self::ROOM {
            self.waiting += 1;
            return;
        }
        let longest = self.rungs.last().unwrap().delay;
        let wish = Return {
            waiting: self.waiting,
            longest,
            ..wish(Class::Bulk, again)
        };
        let wait = self.course.next_return(&wish, now);
        let rung = self.rungs.iter_mut().find(|rung| rung.delay >= wait);
        let rung = rung.unwrap();
        rung.waiting.push_back((now + wait.min(rung.delay), true));
        self.deferrals += 1;
    }

    fn step(&mut self, now: Instant, handed_out: usize, takes: bool) {
        if takes && self.waiting > 0 {
            self.waiting -= 1;
            self.taken += 1;
        }
        for rung in &mut self.rungs {
            while rung.waiting.front().is_some_and(|(due, _)| *due <= now) {
                rung.waiting.pop_front();
                self.returned.push_back(());
            }
        }
        for _ in 0..handed_out {
            if self.queue > 0 {
                self.queue -= 1;
                self.comes(now, false);
            } else if self.returned.pop_front().is_some() {
                self.comes(now, true);
            }
        }
    }
}

/// What a lane of ten a second makes of a backlog that is swept at 3,000 a second: the seconds it needs, all deferrals,
/// and the most in a second after the sweep. It is an error of the test's if it ever stands still before the end.
fn drained(jobs: usize, rungs: &[u64]) -> (usize, usize, usize) {
    const STEPS: u32 = 50;
    let start = Instant::now();
    let mut world = World::new(start, jobs, rungs);
    let swept_after = jobs / 3000 + 1;
    let (mut most, mut second) = (0, 0);
    while world.taken < jobs {
        let (deferrals, taken) = (world.deferrals, world.taken);
        for step in 0..STEPS {
            let at = Duration::from_secs(1) * step / STEPS;
            let now = start + Duration::from_secs(u64::try_from(second).unwrap()) + at;
            world.step(now, 3000 / 50, step % 5 == 0);
        }
        second += 1;
        if second > swept_after {
            most = most.max(world.deferrals - deferrals);
        }
        let at_work = world.taken - taken;
        let last = world.taken + 30 > jobs;
        assert!(
            at_work == 10 || second == 1 || last,
            "{at_work} in second {second}, {} taken",
            world.taken
        );
        assert!(second < jobs, "it never ends");
    }
    println!(
        "{jobs} jobs: {second} s, {} deferrals, at most {most} a second",
        world.deferrals
    );
    (second, world.deferrals, most)
}

#[tokio::test]
async fn backlog_of_100_000_jobs_keeps_its_lane_at_its_rate_and_never_comes_back_in_a_heap() {
    let (seconds, deferrals, most) = drained(100_000, &[15, 60, 300, 900, 3600]);
    assert!(seconds <= 10_010, "{seconds}");
    assert!(deferrals <= 400_000, "{deferrals}");
    assert!(most <= 300, "{most} deferrals in a second");
}

#[tokio::test]
async fn a_short_ladder_takes_a_small_backlog_as_well() {
    let (seconds, deferrals, most) = drained(1_000, &[1, 5, 30]);
    assert!(seconds <= 110, "{seconds}");
    assert!(deferrals <= 10_000, "{deferrals}");
    assert!(most <= 300, "{most} deferrals in a second");
}
