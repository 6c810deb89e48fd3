use super::*;
use futures_util::FutureExt as _;
use proptest::prelude::*;

const SLOW: Duration = Duration::from_secs(15);
const QUICK: Duration = Duration::from_millis(300);
const SILENT: PortalSign = PortalSign::Silent { retry_after: None };

fn gstin() -> Gstin {
    "27AABCT9421M1ZY".parse().unwrap()
}

fn another() -> Gstin {
    "29AAGCE4783K1Z1".parse().unwrap()
}

fn taken(slots: &Arc<Slots>, class: Class) -> Option<Slot> {
    slots.acquire(class, gstin()).now_or_never()
}

/// An [`Aimd`] and calls that fill its rounds.
struct Bench {
    aimd: Aimd,
    now: Instant,
}

impl Bench {
    fn new(cap: usize) -> Self {
        let now = Instant::now();
        Self {
            aimd: Aimd::new(cap, SLOW, now),
            now,
        }
    }

    /// A round of a hundred calls, so many of which end like that; the limit after it.
    fn round(&mut self, bad: usize, taken: Duration, sign: PortalSign) -> usize {
        for call in 0..100 {
            self.now += ROUND / 99;
            let (taken, sign) = if call < bad {
                (taken, sign)
            } else {
                (QUICK, PortalSign::Answered)
            };
            self.aimd.ended(self.now, taken, sign, &gstin());
        }
        self.aimd.limit()
    }
}

#[tokio::test]
async fn overload_shrinks_it_once_a_round_and_never_below_one() {
    let throttled = PortalSign::Throttled { retry_after: None };
    for (bad, taken, sign) in [
        (50, QUICK, SILENT),
        (50, SLOW * 2, PortalSign::Answered),
        (1, QUICK, throttled),
    ] {
        let mut bench = Bench::new(64);
        assert_eq!(bench.round(bad, taken, sign), 44, "{sign:?}");
        for _ in 0..30 {
            bench.round(bad, taken, sign);
        }
        assert_eq!(bench.aimd.limit(), 1, "{sign:?}");
    }
}

#[tokio::test]
async fn one_throttled_gstin_takes_no_slots_from_the_others_and_two_do() {
    let throttled = PortalSign::Throttled { retry_after: None };
    let mut bench = Bench::new(64);
    bench
        .aimd
        .ended(bench.now, QUICK, PortalSign::Answered, &another());
    for _ in 0..100 {
        bench.now += ALONE_AFTER / 100;
        bench.aimd.ended(bench.now, QUICK, throttled, &gstin());
    }
    assert_eq!(bench.aimd.limit(), 64);
    bench.aimd.ended(bench.now, QUICK, throttled, &another());
    assert_eq!(bench.aimd.limit(), 44);
    bench.now += ALONE_AFTER;
    bench.aimd.ended(bench.now, QUICK, throttled, &gstin());
    assert_eq!(bench.aimd.limit(), 31, "nobody else is at work");
}

#[tokio::test]
async fn it_grows_only_when_it_was_in_the_way() {
    let mut bench = Bench::new(64);
    for _ in 0..30 {
        bench.round(100, QUICK, SILENT);
    }
    assert_eq!(bench.round(0, QUICK, SILENT), 1);
    for _ in 0..10 {
        bench.aimd.found_full();
        bench.round(0, QUICK, SILENT);
    }
    assert_eq!(bench.aimd.limit(), 64);
}

#[tokio::test]
async fn answers_lost_at_random_do_not_bring_it_down() {
    let mut bench = Bench::new(64);
    for _ in 0..100 {
        assert_eq!(bench.round(30, QUICK, SILENT), 64);
    }
}

#[tokio::test]
async fn a_portal_that_needs_seconds_for_every_answer_is_not_overloaded() {
    let mut bench = Bench::new(64);
    for _ in 0..100 {
        assert_eq!(
            bench.round(100, Duration::from_secs(5), PortalSign::Answered),
            64
        );
    }
}

#[tokio::test]
async fn slots_are_as_many_as_the_width_whatever_was_taken_before() {
    let slots = Slots::new(3, SLOW);
    let before: Vec<_> = [taken(&slots, Class::Bulk), taken(&slots, Class::Bulk)].into();
    assert!(before.iter().all(Option::is_some));
    slots.narrow(Some(0));
    assert!(taken(&slots, Class::Bulk).is_none());
    slots.narrow(Some(1));
    let probe = taken(&slots, Class::Bulk);
    assert!(probe.is_some());
    drop(before);
    assert!(taken(&slots, Class::Bulk).is_none(), "one probe at a time");
    drop(probe);
    assert!(taken(&slots, Class::Bulk).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_becomes_free_wakes_whoever_waits() {
    let slots = Slots::new(1, SLOW);
    let held = slots.acquire(Class::Bulk, gstin()).await;
    let (slot, ()) = tokio::join!(slots.acquire(Class::Bulk, gstin()), async { drop(held) });
    drop(slot);
    slots.narrow(Some(0));
    let (slot, ()) = tokio::join!(slots.acquire(Class::Bulk, gstin()), async {
        slots.narrow(None)
    });
    drop(slot);
    assert_eq!(slots.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn urgent_jobs_have_the_next_free_slots_but_one_in_eight() {
    let slots = Slots::new(1, SLOW);
    let held = slots.acquire(Class::Bulk, gstin()).await;
    let order = Mutex::new(Vec::new());
    let wait = async |class| {
        let slot = slots.acquire(class, gstin()).await;
        order.lock().unwrap().push(class);
        drop(slot);
    };
    let bulk = futures_util::future::join_all((0..4).map(|_| wait(Class::Bulk)));
    let urgent = futures_util::future::join_all((0..20).map(|_| wait(Class::Urgent)));
    tokio::join!(bulk, urgent, async { drop(held) });
    let order = order.into_inner().unwrap();
    let first = |n: usize| order[..n].iter().filter(|c| **c == Class::Bulk).count();
    assert_eq!([first(7), first(8), first(16), order.len()], [0, 1, 2, 24]);
}

#[tokio::test(start_paused = true)]
async fn slots_are_kept_free_for_urgent_jobs_once_there_are_some() {
    let slots = Slots::new(16, SLOW);
    drop(taken(&slots, Class::Urgent));
    let bulk: Vec<_> = (0..16).filter_map(|_| taken(&slots, Class::Bulk)).collect();
    assert_eq!(bulk.len(), 14);
    assert!(taken(&slots, Class::Urgent).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_free_slot_goes_to_the_gstin_that_has_the_fewest() {
    let slots = Slots::new(4, SLOW);
    let held: Vec<_> = (0..4).filter_map(|_| taken(&slots, Class::Bulk)).collect();
    let mut waiting: Vec<_> = [gstin(), gstin(), another(), another()]
        .into_iter()
        .map(|gstin| Box::pin(slots.acquire(Class::Bulk, gstin)))
        .collect();
    let mut served = Vec::new();
    let mut serve = || {
        waiting.retain_mut(|one| match one.now_or_never() {
            Some(slot) => {
                served.push(slot);
                false
            }
            None => true,
        });
    };
    serve();
    for slot in held {
        drop(slot);
        serve();
    }
    let order: Vec<_> = served.iter().map(|slot| slot.owner.1).collect();
    // Three to none, two to one, one to two; then there is one left.
    assert_eq!(order, [another(), another(), gstin(), gstin()]);
    drop(served);
    let state = slots.lock();
    assert!(state.used_by.is_empty(), "{:?}", state.used_by);
}

#[tokio::test]
async fn who_stops_waiting_takes_no_slot_along() {
    let slots = Slots::new(1, SLOW);
    let held = slots.acquire(Class::Bulk, gstin()).await;
    for _ in 0..10 {
        assert!(taken(&slots, Class::Bulk).is_none());
    }
    drop(held);
    assert_eq!(slots.used(), 0);
    assert!(taken(&slots, Class::Bulk).is_some());
}

proptest! {
    #[test]
    fn it_stays_between_one_and_the_cap(
        cap in 1usize..200,
        calls in proptest::collection::vec((0u64..40_000, 0u64..2_000, any::<bool>(), any::<bool>()), 0..300),
    ) {
        let mut bench = Bench::new(cap);
        for (taken, later, good, full) in calls {
            bench.now += Duration::from_millis(later);
            if full {
                bench.aimd.found_full();
            }
            let sign = if good { PortalSign::Answered } else { SILENT };
            bench.aimd.ended(bench.now, Duration::from_millis(taken), sign, &gstin());
            prop_assert!((1..=cap).contains(&bench.aimd.limit()));
        }
    }

    #[test]
    fn no_more_slots_are_taken_than_the_cap(
        cap in 1usize..8,
        steps in proptest::collection::vec((any::<bool>(), proptest::option::of(0usize..10)), 0..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let slots = Slots::new(cap, SLOW);
        let mut held = Vec::new();
        for (take, width) in steps {
            slots.narrow(width);
            if take {
                held.extend(taken(&slots, Class::Bulk));
            } else {
                held.pop();
            }
            prop_assert!(held.len() <= cap);
            prop_assert_eq!(slots.used(), held.len());
        }
    }
}
