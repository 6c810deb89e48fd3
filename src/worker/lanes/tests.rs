use super::course::{HANGING_PART, HANGING_SPACING};
use super::*;
use crate::config::Rung;
use crate::outcome::PortalSign;

const SPACING: Duration = Duration::from_millis(100);

/// Others are about, and nothing is known of the queue.
const AROUND: Around = Around {
    alone: false,
    replicas: 1,
    passes_on: false,
    queue: None,
    urgent_queue: None,
};

fn irn(n: u32) -> Irn {
    format!("{n:064x}").parse().unwrap()
}

fn lanes(slots: usize, concurrency: usize) -> Lanes {
    lanes_among(Slots::new(slots, PATIENCE), concurrency)
}

fn lanes_among(slots: Arc<Slots>, concurrency: usize) -> Lanes {
    let rung = |seconds: u64| Rung {
        name: format!("{seconds}s"),
        delay: Duration::from_secs(seconds),
    };
    let rungs = [15, 60, 300].map(rung).to_vec();
    let window = Window {
        prefetch: 128,
        share: Share::HALF,
    };
    Lanes::new(slots, concurrency, window, &Ladder::try_new(rungs).unwrap())
}

/// A bulk job that has waited before.
fn deferred(spacing: Duration) -> Deferred {
    Deferred {
        class: Class::Bulk,
        again: true,
        spacing,
        at_least: Duration::ZERO,
    }
}

fn gstin() -> Gstin {
    "29AAGCE4783K1Z1".parse().unwrap()
}

fn another() -> Gstin {
    "27AABCT9421M1ZY".parse().unwrap()
}

impl Lanes {
    /// A bulk job's turn.
    async fn turn(&self, gstin: &Gstin, irn: Irn) -> Result<Turn, NoTurn> {
        self.turn_of(gstin, Class::Bulk, irn).await
    }

    async fn turn_of(&self, gstin: &Gstin, class: Class, irn: Irn) -> Result<Turn, NoTurn> {
        self.enter(gstin, class, AROUND)?
            .turn(Some(irn), || AROUND)
            .await
    }

    /// Somebody else has been here, and may come again.
    async fn see_another(&self) {
        drop(self.turn(&another(), irn(9_999_999)).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_has_one_turn_at_a_time() {
    let lanes = lanes(64, 8);
    let first = lanes.turn(&gstin(), irn(1)).await.unwrap();
    assert_eq!(
        lanes.turn(&gstin(), irn(1)).await.unwrap_err(),
        NoTurn::Twin
    );
    drop(first);
    assert!(lanes.turn(&gstin(), irn(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_document_left_in_doubt_has_no_turn_before_that_can_be_settled() {
    let lanes = lanes(64, 8);
    let settle_time = Duration::from_secs(30);
    let mut first = lanes.turn(&gstin(), irn(1)).await.unwrap();
    first.ends_in_doubt(settle_time);
    drop(first);
    lanes.tidy();
    let twin = lanes.turn(&gstin(), irn(1)).await;
    assert_eq!(twin.unwrap_err(), NoTurn::Twin);
    tokio::time::sleep(settle_time).await;
    assert!(lanes.turn(&gstin(), irn(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_makes_one_wait_then_defers_and_leaves_other_lanes_alone() {
    let lanes = lanes(64, 1);
    let held = lanes.turn(&gstin(), irn(1)).await.unwrap();
    let start = Instant::now();
    assert!(matches!(
        lanes.turn(&gstin(), irn(2)).await,
        Err(NoTurn::Full)
    ));
    assert_eq!(start.elapsed(), PATIENCE);
    assert!(lanes.turn(&another(), irn(3)).await.is_ok());
    drop(held);
    assert!(
        lanes.turn(&gstin(), irn(2)).await.is_ok(),
        "the deferred document is free again"
    );
}

#[tokio::test(start_paused = true)]
async fn gstins_that_fill_the_window_with_their_places_leave_some_of_it_to_one_that_has_nothing_there()
 {
    let lanes = lanes(200, 40);
    let gstins = ["33AAKFN5208R1ZT", "07AADCB2230M1ZV", "24AAHCS7315P2ZV"];
    let gstins = gstins.map(|text| text.parse::<Gstin>().unwrap());
    let mut turns = Vec::new();
    // The last place of each stays free.
    for (n, of) in (0..117).zip(gstins.iter().cycle()) {
        turns.push(lanes.turn(of, irn(n)).await.unwrap());
    }
    for n in 1_000..1_003 {
        turns.push(lanes.turn(&gstin(), irn(n)).await.unwrap());
    }
    // They take their time.
    tokio::time::advance(Duration::from_secs(10)).await;
    let made_way = lanes.turn(&gstins[0], irn(2_000)).await;
    assert_eq!(made_way.unwrap_err(), NoTurn::Full);
    // Not all of them: a few hundred a second.
    turns.push(lanes.turn(&gstins[0], irn(2_000)).await.unwrap());
    tokio::time::advance(Duration::from_secs(1) / PROBES).await;
    let made_way = lanes.turn(&gstins[1], irn(2_001)).await;
    assert_eq!(made_way.unwrap_err(), NoTurn::Full);
    tokio::time::advance(Duration::from_secs(1) / PROBES).await;
    assert!(lanes.turn(&another(), irn(3_000)).await.is_ok());
    let alone = Around {
        alone: true,
        ..AROUND
    };
    let entry = lanes.enter(&gstins[1], Class::Bulk, alone).unwrap();
    assert!(entry.turn(Some(irn(2_001)), || alone).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_gstin_waits_in_its_share_of_the_window_and_the_others_are_deferred_in_a_moment() {
    let lanes = lanes(64, 8);
    lanes.see_another().await;
    let start = Instant::now();
    let (lanes, gstin) = (&lanes, gstin());
    let turns = (0..128).map(|n| lanes.turn(&gstin, irn(n)));
    let mut turns = futures_util::future::join_all(turns);
    let ended = tokio::time::timeout(PATIENCE / 2, &mut turns).await;
    assert!(ended.is_err(), "some of them wait");
    let (in_flight, waiting) = lanes.held(&gstin);
    assert_eq!(in_flight, 8);
    assert!((50..=56).contains(&waiting), "{waiting} of 56");
    let granted = turns.await.iter().filter(|turn| turn.is_ok()).count();
    assert_eq!((granted, start.elapsed()), (8, PATIENCE));
    assert_eq!(lanes.held(&gstin), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn however_many_gstins_wait_a_part_of_the_window_is_left() {
    let lanes = lanes(64, 8);
    lanes.see_another().await;
    let busy: Vec<Gstin> = (1..=5)
        .map(|n| format!("29AAGCE4783K{n}Z1").parse().unwrap())
        .collect();
    let mut held = Vec::new();
    for n in 0..500_u32 {
        let gstin = &busy[usize::try_from(n).unwrap() % busy.len()];
        tokio::time::advance(Duration::from_millis(20)).await;
        held.extend(lanes.enter(gstin, Class::Bulk, AROUND).ok());
    }
    assert!((80..=120).contains(&held.len()), "{} of 128", held.len());
    let place = lanes.enter(&another(), Class::Bulk, AROUND);
    assert!(matches!(place.unwrap().stand, Stand::InPlace(_)));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_swept_away_where_nobody_wants_the_window_but_a_few_to_see_who_comes() {
    let lanes = lanes(64, 1);
    let (lanes, gstin) = (&lanes, gstin());
    // Two turns a second.
    for n in 0..20 {
        let turn = lanes.turn(&gstin, irn(n)).await.unwrap();
        tokio::time::advance(Duration::from_millis(500)).await;
        drop(turn);
    }
    let _busy = lanes.turn(&gstin, irn(20)).await.unwrap();
    let start = Instant::now();
    let turns = (100..220).map(|n| async move {
        let turn = lanes.turn(&gstin, irn(n)).await;
        (turn.map(drop), start.elapsed())
    });
    let ended = futures_util::future::join_all(turns).await;
    let probes = ended.iter().filter(|(_, at)| *at < PATIENCE);
    let (mut count, mut last) = (0_u32, Duration::ZERO);
    for (_, at) in probes {
        count += 1;
        last = last.max(*at);
    }
    assert!(count >= 110, "{count}");
    let least = Duration::from_secs(1) * (count - 1) / PROBES;
    assert!(last >= least, "{count} within {last:?}");
}

#[tokio::test(start_paused = true)]
async fn the_only_account_waits_for_itself_and_nobody_is_swept() {
    let lanes = lanes(64, 1);
    let alone = Around {
        alone: true,
        ..AROUND
    };
    let _busy = lanes.turn(&gstin(), irn(0)).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    for _ in 0..128 {
        let entry = lanes.enter(&gstin(), Class::Bulk, alone).unwrap();
        assert!(matches!(entry.stand, Stand::InLine(_, Waits::Until(until))
            if until == Instant::now() + PATIENCE));
    }
}

#[tokio::test(start_paused = true)]
async fn gstin_holds_no_more_than_half_of_the_slots_that_are_left() {
    let slots = Slots::new(64, PATIENCE);
    let lanes = lanes_among(Arc::clone(&slots), 8);
    let throttled = PortalSign::Throttled { retry_after: None };
    let mut held = Vec::new();
    for expected in [8, 4, 1] {
        while slots.limit() / 2 > expected {
            tokio::time::advance(Duration::from_secs(1)).await;
            slots.observe(Duration::ZERO, throttled, &gstin());
        }
        for n in 0..9 {
            let turn = tokio::time::timeout(QUICK, lanes.turn(&gstin(), irn(n))).await;
            held.extend(turn.ok().and_then(Result::ok));
        }
        let share = (slots.limit() / 2).clamp(1, 8);
        assert_eq!(held.len(), share, "of {}", slots.limit());
        held.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn quick_lane_makes_any_number_wait_a_moment_and_defers_nobody() {
    let lanes = lanes(64, 8);
    lanes.see_another().await;
    let lanes = &lanes;
    let jobs = (0..1000).map(|n| async move {
        let turn = lanes.turn(&gstin(), irn(n)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        turn.map(drop)
    });
    let ended = futures_util::future::join_all(jobs).await;
    assert!(ended.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn lane_that_only_seemed_quick_is_left_to_its_share_after_a_moment() {
    let lanes = lanes(64, 8);
    lanes.see_another().await;
    let (lanes, gstin) = (&lanes, gstin());
    let turns = (0..128).map(|n| lanes.turn(&gstin, irn(n)));
    let turns = futures_util::future::join_all(turns);
    let hanging = tokio::time::timeout(QUICK * 2, turns).await;
    assert!(hanging.is_err());
    let left = lanes.window - lanes.common.held.get(Class::Bulk);
    assert_eq!(left, 128, "all have gone with their future");
    let held: Vec<_> = (0..128)
        .filter_map(|_| lanes.enter(&gstin, Class::Bulk, AROUND).ok())
        .collect();
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(lanes.enter(&gstin, Class::Bulk, AROUND).is_err());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_lane_that_hangs_come_back_by_its_latency_but_never_give_it_up() {
    let lanes = lanes(64, 2);
    let apart = |spacing: Duration| {
        let first = lanes.defer(&gstin(), &deferred(spacing), AROUND);
        lanes.defer(&gstin(), &deferred(spacing), AROUND) - first
    };
    for n in 0..20 {
        let turn = lanes.turn(&gstin(), irn(n)).await.unwrap();
        tokio::time::advance(Duration::from_millis(500)).await;
        drop(turn);
    }
    let quarter = |exact: Duration| (exact * 99 / 100..=exact).contains(&apart(SPACING));
    assert!(quarter(Duration::from_millis(250)), "{:?}", apart(SPACING));
    let turn = lanes.turn(&gstin(), irn(0)).await.unwrap();
    tokio::time::advance(Duration::from_secs(30)).await;
    drop(turn);
    assert_eq!(apart(SPACING), SPACING * HANGING_PART);
    assert_eq!(apart(Duration::ZERO), HANGING_SPACING);
}

#[tokio::test(start_paused = true)]
async fn lane_that_hangs_for_the_first_time_is_noticed_while_it_does() {
    let lanes = lanes(64, 1);
    lanes.see_another().await;
    let _hanging = lanes.turn(&gstin(), irn(0)).await.unwrap();
    tokio::time::advance(Duration::from_secs(10)).await;
    let start = Instant::now();
    let next = lanes.turn(&gstin(), irn(1)).await;
    assert!(matches!(next, Err(NoTurn::Full)));
    assert_eq!(start.elapsed(), Duration::ZERO, "nobody waits behind it");
}

#[tokio::test(start_paused = true)]
async fn lane_is_forgotten_when_nobody_is_in_it_and_nobody_comes_back() {
    let lanes = lanes(64, 1);
    let turn = lanes.turn(&gstin(), irn(0)).await.unwrap();
    lanes.tidy();
    assert_eq!(lanes.lanes.len(), 1);
    lanes.defer(&gstin(), &deferred(SPACING * 1000), AROUND);
    drop(turn);
    tokio::time::advance(LATELY + SPACING).await;
    lanes.tidy();
    assert_eq!(lanes.lanes.len(), 1, "one comes back");
    tokio::time::advance(LATELY * 2).await;
    lanes.tidy();
    assert_eq!(lanes.lanes.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn urgent_jobs_go_before_those_that_wait_in_the_lane_and_leave_them_every_eighth_turn() {
    let lanes = lanes(64, 1);
    let (lanes, gstin) = (&lanes, gstin());
    let held = lanes.turn(&gstin, irn(0)).await.unwrap();
    let order = Mutex::new(Vec::new());
    let order_of_turns = &order;
    let job = |class, n| async move {
        let turn = lanes.turn_of(&gstin, class, irn(n)).await.unwrap();
        order_of_turns.lock().unwrap().push(class);
        drop(turn);
    };
    let bulk = futures_util::future::join_all((1..20).map(|n| job(Class::Bulk, n)));
    let urgent = futures_util::future::join_all((20..40).map(|n| job(Class::Urgent, n)));
    tokio::join!(bulk, urgent, async { drop(held) });
    let order = order.into_inner().unwrap();
    let bulk = |n: usize| order[..n].iter().filter(|c| **c == Class::Bulk).count();
    assert_eq!([bulk(7), bulk(8), bulk(16), order.len()], [0, 1, 2, 39]);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_left_for_an_urgent_job_where_one_came_of_whichever_gstin() {
    let lanes = lanes(64, 8);
    let urgent = lanes.turn_of(&another(), Class::Urgent, irn(100)).await;
    drop(urgent.unwrap());
    let mut turns = Vec::new();
    for n in 0..8 {
        let turn = tokio::time::timeout(QUICK, lanes.turn(&gstin(), irn(n))).await;
        turns.extend(turn.ok().and_then(Result::ok));
    }
    assert_eq!(turns.len(), 7);
    let of = gstin();
    let urgent = lanes.turn_of(&of, Class::Urgent, irn(8));
    assert!(tokio::time::timeout(QUICK, urgent).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn bulk_that_fills_its_window_defers_no_urgent_job() {
    let lanes = lanes(64, 8);
    lanes.see_another().await;
    let gstin = gstin();
    let _bulk: Vec<_> = (0..128)
        .filter_map(|_| lanes.enter(&gstin, Class::Bulk, AROUND).ok())
        .collect();
    tokio::time::advance(Duration::from_secs(1)).await;
    let urgent: Vec<_> = (0..8)
        .filter_map(|_| lanes.enter(&gstin, Class::Urgent, AROUND).ok())
        .collect();
    assert_eq!(urgent.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_closed_lane_lets_nobody_go_on_and_opens_again_for_those_in_line() {
    let lanes = Arc::new(lanes(64, 8));
    lanes.see_another().await;
    lanes.close(&gstin(), Duration::from_secs(2), Closed::Login);
    let began = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..20 {
        let lanes = Arc::clone(&lanes);
        waiting.spawn(async move {
            lanes
                .turn(&gstin(), irn(n))
                .await
                .map(|_turn| began.elapsed())
        });
    }
    for waited in waiting.join_all().await {
        let waited = waited.unwrap();
        assert!(waited >= Duration::from_secs(2), "{waited:?}");
        assert!(waited < Duration::from_secs(3), "{waited:?}");
    }
}

/// Their GSTIN may be the only one seen so far, and another's job stand behind them.
#[tokio::test(start_paused = true)]
async fn lane_closed_for_a_login_does_not_keep_the_whole_window() {
    let lanes = Arc::new(lanes(64, 8));
    lanes.close(&gstin(), PATIENCE, Closed::Login);
    let began = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..128 {
        let lanes = Arc::clone(&lanes);
        waiting.spawn(async move {
            let ended = lanes.turn(&gstin(), irn(n)).await.map(drop);
            (ended, began.elapsed())
        });
    }
    let left = waiting.join_all().await;
    let soon = left.iter().filter(|(_, at)| *at < Duration::from_secs(1));
    let soon: Vec<_> = soon.map(|(ended, _)| ended).collect();
    assert!(soon.len() >= 64, "{} beyond its share", soon.len());
    assert!(soon.iter().all(|ended| **ended == Err(NoTurn::Full)));
}

#[tokio::test(start_paused = true)]
async fn where_another_replica_has_a_session_jobs_are_passed_on_no_faster_than_it_can_take_them() {
    let every = Duration::from_millis(50);
    let one = Around {
        replicas: 2,
        passes_on: true,
        queue: Some(128),
        urgent_queue: Some(129),
        ..AROUND
    };
    let in_doubt = Around {
        passes_on: false,
        ..one
    };
    let behind_many = Around {
        queue: Some(129),
        urgent_queue: Some(128),
        ..one
    };
    let behind_unknown = Around { queue: None, ..one };
    let alone = Around { replicas: 1, ..one };
    for (class, around, elsewhere, passed_on) in [
        (Class::Bulk, one, true, true),
        (Class::Bulk, one, false, false),
        (Class::Bulk, in_doubt, true, false),
        (Class::Bulk, behind_many, true, false),
        (Class::Bulk, behind_unknown, true, false),
        (Class::Bulk, alone, true, false),
        (Class::Urgent, behind_many, true, true),
        (Class::Urgent, one, true, false),
    ] {
        let lanes = Arc::new(lanes(64, 8));
        let closed_for = if elsewhere {
            Closed::LoginElsewhere { every }
        } else {
            Closed::Login
        };
        lanes.close(&gstin(), PATIENCE, closed_for);
        let began = Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..120 {
            let lanes = Arc::clone(&lanes);
            waiting.spawn(async move {
                let entry = lanes.enter(&gstin(), class, around)?;
                let turn = entry.turn(Some(irn(n)), || around).await;
                turn.map(|_| began.elapsed())
            });
        }
        let ends = waiting.join_all().await;
        let left = ends.iter().filter(|end| **end == Err(NoTurn::PassedOn));
        let left = left.count();
        // The others would have to wait for as long as it is closed, and find it open.
        assert_eq!(left, if passed_on { 50 } else { 0 }, "{around:?}");
        lanes.close(&gstin(), PATIENCE, closed_for);
        let at_once = (0..100).filter(|_| lanes.is_passed_on(&gstin(), class, around));
        let at_once = at_once.count();
        assert_eq!(at_once, if passed_on { 10 } else { 0 }, "{around:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn job_that_waits_is_passed_on_when_the_queue_is_short_by_then_and_urgent_ones_wait_for_no_bulk()
 {
    let lanes = lanes(64, 8);
    let every = Duration::from_secs(1);
    let closed_for = Closed::LoginElsewhere { every };
    lanes.close(&gstin(), PATIENCE, closed_for);
    let around = |queue| Around {
        replicas: 2,
        passes_on: true,
        queue: Some(queue),
        urgent_queue: Some(0),
        ..AROUND
    };
    let entry = lanes.enter(&gstin(), Class::Bulk, around(5_000)).unwrap();
    tokio::time::advance(PATIENCE / 2).await;
    lanes.close(&gstin(), PATIENCE, closed_for);
    let turn = entry.turn(Some(irn(1)), || around(0)).await;
    assert_eq!(turn.map(drop), Err(NoTurn::PassedOn));
    // It waits for its time to be passed on, and many come before it is over.
    let entry = lanes.enter(&gstin(), Class::Bulk, around(0)).unwrap();
    let behind_many = entry.turn(Some(irn(2)), || around(5_000));
    let began = Instant::now();
    assert!(behind_many.await.is_ok(), "the lane is open again");
    assert!(began.elapsed() >= PATIENCE / 2);
    lanes.close(&gstin(), PATIENCE, closed_for);
    tokio::time::advance(every).await;
    let is_passed_on = |class| lanes.is_passed_on(&gstin(), class, around(0));
    assert!(is_passed_on(Class::Bulk));
    assert!(
        !is_passed_on(Class::Bulk),
        "the next one goes in two seconds"
    );
    assert!(is_passed_on(Class::Urgent));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_stays_closed_holds_its_share_for_a_minute_and_the_others_leave_as_probes() {
    let lanes = Arc::new(lanes(64, 8));
    lanes.see_another().await;
    let began = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    lanes.close(&gstin(), PATIENCE, Closed::Login);
    for n in 0..128 {
        let lanes = Arc::clone(&lanes);
        waiting.spawn(async move {
            let ended = lanes.turn(&gstin(), irn(n)).await.map(drop);
            // Whoever tries finds that it is closed still.
            lanes.close(&gstin(), PATIENCE, Closed::Login);
            (ended, began.elapsed())
        });
    }
    let mut left: Vec<_> = waiting.join_all().await;
    left.sort_by_key(|(_, at)| *at);
    let at = |n: usize| left[n].1;
    // 64 are its share, and three hundred probes go in a second.
    assert!(
        at(63) >= Duration::from_millis(190) && at(63) < PATIENCE,
        "{:?}",
        at(63)
    );
    assert!(
        left[..63]
            .iter()
            .all(|(ended, _)| *ended == Err(NoTurn::Full))
    );
    assert!(
        at(70) >= PATIENCE && at(127) <= CLOSED_PATIENCE + PATIENCE,
        "{:?}",
        at(127)
    );
}
