use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(5);

fn found(due: u64, replicas: u32) -> Found {
    Found {
        due,
        on_ladder: Vec::new(),
        replicas,
        portal_is_full: false,
        allowed: 1_000.0,
        width: 10,
    }
}

fn replicas(arriving: f64, backlog: f64, allowed: f64) -> u32 {
    let demand = Demand {
        arriving,
        backlog,
        allowed,
        capacity: 20.0,
    };
    demand.useful_replicas()
}

/// Looks every five seconds for so long, with so many jobs of 100 ms settled in between.
async fn go_on(scaling: &Scaling, time: Duration, per_second: u64, found: &Found) -> u32 {
    let mut latest = 0;
    for _ in 0..time.as_secs() / LOOK.as_secs() {
        tokio::time::advance(LOOK).await;
        for _ in 0..per_second * LOOK.as_secs() {
            scaling.worked(Duration::from_millis(100), true);
        }
        latest = scaling.look(found).replicas;
    }
    latest
}

#[test]
fn figure_is_the_need_or_what_the_limits_allow_and_never_none() {
    for (arriving, backlog, allowed, expected) in [
        (0.0, 0.0, 1_000.0, 1),
        (15.0, 0.0, 1_000.0, 1),
        (50.0, 0.0, 1_000.0, 3),
        (15.0, 50.0, 1_000.0, 4),
        (50.0, 1_000.0, 60.0, 3),
        (50.0, 1_000.0, 10.0, 1),
    ] {
        let figure = replicas(arriving, backlog, allowed);
        assert_eq!(figure, expected, "{arriving} {backlog} {allowed}");
    }
}

#[test]
fn need_a_tenth_beyond_what_replicas_can_do_asks_for_no_other_one() {
    assert_eq!(replicas(41.9, 0.0, 1_000.0), 2);
    assert_eq!(replicas(42.1, 0.0, 1_000.0), 3);
}

#[test]
fn capacity_of_nothing_or_without_end_makes_no_endless_fleet() {
    for capacity in [0.0, f64::INFINITY, f64::NAN] {
        let demand = Demand {
            arriving: 0.0,
            backlog: 0.0,
            allowed: 10.0,
            capacity,
        };
        assert_eq!(demand.useful_replicas(), 1, "{capacity}");
    }
}

#[test]
fn what_is_on_a_long_rung_is_due_over_the_rungs_time() {
    let mut found = found(600, 1);
    found.on_ladder = vec![(600, Duration::from_secs(15)), (3_600, MINUTE * 60)];
    assert_eq!(found.to_work_off(MINUTE), 10.0 + 10.0 + 1.0);
    assert_eq!(found.backlog(), 600 + 600 + 3_600);
}

#[tokio::test(start_paused = true)]
async fn fleet_is_as_large_as_it_should_be_until_something_is_known() {
    let scaling = Scaling::new(MINUTE);
    assert_eq!(scaling.look(&found(0, 2)).replicas, 1);
    let useful = scaling.look(&found(100_000, 2));
    assert_eq!((useful.replicas, useful.demand), (2, None));
}

#[tokio::test(start_paused = true)]
async fn backlog_asks_for_the_replicas_that_work_it_off_in_time() {
    let scaling = Scaling::new(MINUTE);
    // 100 a second fit into ten places of 100 ms; as many come in as go, and 24,000 wait: 500 a second.
    let figure = go_on(&scaling, MINUTE, 100, &found(24_000, 1)).await;
    assert_eq!(figure, 5);
    let latest = scaling.latest().and_then(|latest| latest.demand).unwrap();
    assert!((latest.arriving - 100.0).abs() < 0.01, "{latest:?}");
    assert!((latest.capacity - 100.0).abs() < 0.01, "{latest:?}");
}

#[tokio::test(start_paused = true)]
async fn jobs_that_only_leave_the_queue_are_no_arrivals() {
    let scaling = Scaling::new(MINUTE * 10);
    let mut latest = 0;
    for left in (0..12).rev() {
        latest = go_on(&scaling, LOOK, 100, &found(left * 500, 1)).await;
    }
    let demand = scaling.latest().and_then(|latest| latest.demand).unwrap();
    assert_eq!((demand.arriving, latest), (0.0, 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_are_of_use_than_the_limits_let_work() {
    let scaling = Scaling::new(MINUTE);
    let mut limited = found(1_000_000, 1);
    limited.allowed = 10.0;
    assert_eq!(go_on(&scaling, MINUTE, 10, &limited).await, 1);
    // One GSTIN, eight at a time, five seconds each: 1.6 a second, and the limit of 10 is reached by seven replicas.
    let slow = Scaling::new(MINUTE);
    limited.width = 8;
    slow.look(&limited);
    tokio::time::advance(LOOK).await;
    slow.worked(LOOK, true);
    assert_eq!(slow.look(&limited).replicas, 7);
}

#[tokio::test(start_paused = true)]
async fn portal_that_takes_no_more_asks_for_no_more_replicas() {
    let scaling = Scaling::new(MINUTE);
    let mut full = found(1_000_000, 2);
    full.portal_is_full = true;
    assert_eq!(go_on(&scaling, MINUTE, 100, &full).await, 2);
}

#[tokio::test(start_paused = true)]
async fn figure_rises_at_once_and_falls_when_a_minute_needed_fewer() {
    let scaling = Scaling::new(MINUTE);
    assert_eq!(go_on(&scaling, MINUTE, 10, &found(0, 1)).await, 1);
    let risen = go_on(&scaling, LOOK, 100, &found(24_000, 4)).await;
    assert!(risen >= 4, "{risen}");
    assert_eq!(go_on(&scaling, LOOK, 100, &found(0, 4)).await, risen);
    assert_eq!(go_on(&scaling, MINUTE * 2, 10, &found(0, 4)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_settle_nothing_make_a_job_take_longer() {
    let scaling = Scaling::new(MINUTE);
    scaling.look(&found(600, 1));
    tokio::time::advance(LOOK).await;
    for settled in [false, false, false, true] {
        scaling.worked(Duration::from_millis(250), settled);
    }
    let demand = scaling.look(&found(600, 1)).demand.unwrap();
    assert_eq!(demand.capacity, 10.0);
}
