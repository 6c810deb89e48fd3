use super::*;

use crate::config::credentials::{Client, Secret};

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

#[tokio::test(start_paused = true)]
async fn gstin_that_waited_for_the_total_does_not_exceed_its_own_rate_when_others_end() {
    let limits = Arc::new(limits(rate(20, 1), rate(100, 1)));
    limits.share_among(NonZeroU32::MIN);
    let start = Instant::now();
    let others_end = start + Duration::from_secs(5);
    let mut lanes = tokio::task::JoinSet::new();
    for number in 0..80_u32 {
        let limits = Arc::clone(&limits);
        // Ten GSTINs of eight calls at once each; the last goes on longer.
        let (gstin, is_last) = (number % 10, number % 10 == 9);
        let until = if is_last {
            start + Duration::from_secs(10)
        } else {
            others_end
        };
        lanes.spawn(async move {
            let account = account(&format!("{:02}AAGCE4783K1Z1", gstin + 10));
            let mut calls = Vec::new();
            while Instant::now() < until {
                let admission = limits.admit_call(&account, Class::Bulk, Duration::from_secs(5));
                if admission.await == Admission::Granted {
                    calls.push((is_last, start.elapsed()));
                }
            }
            calls
        });
    }
    let calls: Vec<_> = lanes.join_all().await.into_iter().flatten().collect();
    let in_time = |(_, at): &&(bool, Duration)| *at < Duration::from_secs(5);
    let used = calls.iter().filter(in_time).count();
    assert!((450..=510).contains(&used), "{used} of 500");
    let of_last = calls.iter().filter(|(is_last, _)| *is_last);
    let mut of_last: Vec<Duration> = of_last.map(|(_, at)| *at).collect();
    of_last.sort();
    let within = |from: &Duration| {
        let until = *from + Duration::from_secs(1);
        of_last
            .iter()
            .filter(|at| (*from..until).contains(*at))
            .count()
    };
    let most = of_last.iter().map(within).max().unwrap();
    assert!(most <= 22, "{most}");
}

#[tokio::test(start_paused = true)]
async fn quiet_gstin_does_not_stand_behind_the_busy_ones_that_use_the_total_up() {
    let limits = Arc::new(limits(rate(10, 1), rate(20, 1)));
    limits.share_among(NonZeroU32::MIN);
    let end = Instant::now() + Duration::from_secs(60);
    let mut busy = tokio::task::JoinSet::new();
    for number in 0..40_u32 {
        let limits = Arc::clone(&limits);
        busy.spawn(async move {
            let account = account(&format!("{:02}AAGCE4783K1Z1", number + 10));
            let mut calls = 0_u32;
            while Instant::now() < end {
                let admission = limits.admit_call(&account, Class::Bulk, Duration::from_secs(5));
                let is_granted = admission.await == Admission::Granted;
                calls += u32::from(is_granted && Instant::now() < end);
            }
            calls
        });
    }
    let quiet = account("09AAGCE4783K1Z1");
    let mut longest = Duration::ZERO;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(2_345)).await;
        let asked = Instant::now();
        let admission = limits.admit_call(&quiet, Class::Bulk, Duration::from_secs(5));
        assert_eq!(admission.await, Admission::Granted);
        // At the beginning nobody has had any.
        if asked + Duration::from_secs(50) > end {
            continue;
        }
        longest = longest.max(asked.elapsed());
    }
    let calls = busy.join_all().await;
    let all: u32 = calls.iter().sum();
    assert!(longest < Duration::from_millis(150), "{longest:?}");
    assert!((1140..=1205).contains(&all), "{all} of 1200");
    let (least, most) = (calls.iter().min(), calls.iter().max());
    assert!(least >= Some(&25) && most <= Some(&35), "{calls:?}");
}

fn account(gstin: &str) -> Account {
    let client = Client {
        name: "acme".to_owned(),
        id: "ACME".to_owned(),
        secret: Secret::new("s".to_owned()),
        route: None,
        subscriber: None,
    };
    Account {
        gstin: gstin.parse().unwrap(),
        client: Arc::new(client),
        username: "API_acme".to_owned(),
        password: Secret::new("p".to_owned()),
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_hundred_calls_at_ten_a_second_take_ten_seconds() {
    let limits = limits(rate(10, 1), rate(1000, 1));
    let account = account("29AAGCE4783K1Z1");
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(
            limits.admit_call(&account, Class::Bulk, LONG).await,
            Admission::Granted
        );
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
    let account = account("29AAGCE4783K1Z1");
    assert_eq!(
        limits
            .admit_call(&account, Class::Bulk, Duration::from_secs(3))
            .await,
        Admission::Granted
    );
    let start = Instant::now();
    let refused = limits
        .admit_call(&account, Class::Bulk, Duration::from_secs(3))
        .await;
    assert!(
        matches!(refused, Admission::Wait(wait) if wait > Duration::from_secs(9)),
        "{refused:?}"
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_gstin_does_not_use_anothers_rate_but_both_share_the_total() {
    let limits = limits(rate(1, 10), rate(1, 1));
    let [a, b] = ["29AAGCE4783K1Z1", "27AABCT9421M1ZY"].map(account);
    let start = Instant::now();
    assert_eq!(
        limits.admit_call(&a, Class::Bulk, LONG).await,
        Admission::Granted
    );
    assert_eq!(
        limits.admit_call(&b, Class::Bulk, LONG).await,
        Admission::Granted
    );
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

#[tokio::test(start_paused = true)]
async fn gstin_with_half_its_budget_used_is_slowed_to_a_quarter_and_others_are_not() {
    let limits = limits(rate(10, 1), rate(1000, 1));
    let [slow, quick] = ["29AAGCE4783K1Z1", "27AABCT9421M1ZY"].map(account);
    for _ in 0..1000 {
        limits.budget.count(&slow.gstin, "acme", NonZeroU32::MIN);
    }
    assert_eq!(limits.spacing(&slow), Duration::from_millis(400));
    assert_eq!(limits.spacing(&quick), Duration::from_millis(100));
    let start = Instant::now();
    for _ in 0..26 {
        assert_eq!(
            limits.admit_call(&slow, Class::Bulk, LONG).await,
            Admission::Granted
        );
    }
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn urgent_call_that_waits_for_its_own_rate_again_keeps_the_total_from_nobody() {
    let limits = limits(rate(1, 3), rate(1, 4));
    let [ours, other] = ["29AAGCE4783K1Z1", "27AABCT9421M1ZY"].map(account);
    let (start, patience) = (Instant::now(), Duration::from_secs(60));
    let bulk = async |account: &Account| {
        limits.admit_call(account, Class::Bulk, patience).await;
        start.elapsed()
    };
    bulk(&other).await;
    // Of its own rate it has one, which is void before the total lets it go.
    let urgent = limits.admit_call(&ours, Class::Urgent, patience);
    let another = async {
        tokio::time::sleep_until(start + Duration::from_millis(3_500)).await;
        let taken = limits.calls.take(ours.gstin, limits.share(), Class::Bulk);
        assert_eq!(taken, Ok(()), "the next one is another's");
        tokio::time::sleep_until(start + Duration::from_millis(4_100)).await;
        bulk(&other).await
    };
    let (_, at) = tokio::join!(urgent, another);
    assert!(at < Duration::from_secs(5), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn urgent_calls_go_before_those_that_wait_for_the_rate_and_leave_them_every_eighth() {
    let limits = limits(rate(10, 1), rate(1000, 1));
    let account = account("29AAGCE4783K1Z1");
    let went = std::sync::Mutex::new(Vec::new());
    let call = async |class| {
        assert_eq!(
            limits.admit_call(&account, class, LONG).await,
            Admission::Granted
        );
        went.lock().unwrap().push(class);
    };
    let (call, went_so_far) = (&call, &went);
    let bulk = futures_util::future::join_all((0..20).map(|_| call(Class::Bulk)));
    let urgent = async {
        tokio::time::sleep(Duration::from_millis(550)).await;
        let before = went_so_far.lock().unwrap().len();
        futures_util::future::join_all((0..20).map(|_| call(Class::Urgent))).await;
        went_so_far.lock().unwrap()[before..].to_vec()
    };
    let ((), after) = tokio::join!(async { drop(bulk.await) }, urgent);
    assert_eq!(after[0], Class::Urgent, "the next one is its");
    let bulk_among_them = after.iter().filter(|class| **class == Class::Bulk).count();
    assert!((2..=3).contains(&bulk_among_them), "{after:?}");
    let all = went.lock().unwrap().len();
    assert_eq!(all, 40);
}

#[tokio::test(start_paused = true)]
async fn rate_of_a_gstin_is_shared_by_those_that_do_not_leave_it_to_the_others() {
    let limits = limits(rate(12, 1), rate(1000, 1));
    let [account, another] = ["29AAGCE4783K1Z1", "27AABCT9421M1ZY"].map(account);
    let gstin = account.gstin;
    limits.announce_as("a".into(), Box::new(|_, _| {}));
    limits.hears_others(true);
    for name in ["b", "c"] {
        limits.heard_name(name);
    }
    let shared = |account: &Account| (limits.spacing(account).as_secs_f64() * 12.0).round();
    let shared_by = || shared(&account);
    let seen = |replicas| limits.share_among(NonZeroU32::new(replicas).unwrap());
    seen(3);
    for name in ["b", "nobody knows it"] {
        limits.heard_idle(name, gstin);
    }
    assert_eq!(shared_by(), 2.0);
    assert_eq!(shared(&another), 3.0);
    // One that joins is idle before it was counted.
    tokio::time::advance(Duration::from_millis(100)).await;
    limits.heard_name("d");
    limits.heard_idle("d", gstin);
    assert_eq!(shared_by(), 2.0);
    seen(4);
    assert_eq!(shared_by(), 2.0);
    // One is gone, and nobody knows which.
    seen(3);
    assert_eq!(shared_by(), 3.0);
    tokio::time::advance(Duration::from_millis(100)).await;
    for name in ["c", "d"] {
        limits.heard_name(name);
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    seen(3);
    assert_eq!(shared_by(), 2.0, "d is idle, b is gone");
    limits.heard_return("d", gstin);
    assert_eq!(shared_by(), 3.0);
    // What is not heard any more may not be so any more.
    limits.heard_idle("d", gstin);
    assert_eq!(shared_by(), 2.0);
    limits.lost_others();
    assert_eq!(shared_by(), 3.0);
    limits.heard_idle("d", gstin);
    assert_eq!(shared_by(), 3.0);
}

#[tokio::test(start_paused = true)]
async fn calls_for_a_gstin_that_was_left_to_the_others_wait_until_they_have_heard_of_it() {
    let limits = Arc::new(limits(rate(2, 1), rate(1000, 1)));
    let account = account("29AAGCE4783K1Z1");
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let tell = move |_, word| telling.lock().unwrap().push(word);
    limits.announce_as("a".into(), Box::new(tell));
    limits.leave_to_others(account.gstin);
    assert!(told.lock().unwrap().is_empty(), "there is nobody");
    limits.share_among(NonZeroU32::new(2).unwrap());
    limits.leave_to_others(account.gstin);
    assert!(told.lock().unwrap().is_empty(), "nobody would hear it");
    limits.hears_others(true);

    let start = Instant::now();
    let (left, heard) = (Duration::from_millis(1_500), Duration::from_secs(4));
    let hearing = async {
        tokio::time::sleep_until(start + left).await;
        for _ in 0..2 {
            limits.leave_to_others(account.gstin);
        }
        tokio::time::sleep_until(start + heard).await;
        limits.heard_own_return(account.gstin);
    };
    // One after the other, each second; some wait already when the GSTIN is left.
    let calls = futures_util::future::join_all((0..5).map(async |_| {
        let admission = limits.admit_call(&account, Class::Bulk, LONG).await;
        (admission, start.elapsed())
    }));
    let ((), calls) = tokio::join!(hearing, calls);
    let meanwhile = |(admission, at): &&(Admission, Duration)| {
        *admission == Admission::Granted && left < *at && *at <= heard
    };
    assert_eq!(calls.iter().filter(meanwhile).count(), 0, "{calls:?}");
    let granted = calls
        .iter()
        .filter(|(admission, _)| *admission == Admission::Granted);
    assert_eq!(granted.count(), 5, "{calls:?}");
    assert_eq!(*told.lock().unwrap(), [Word::Idle, Word::Returns]);
}

#[tokio::test(start_paused = true)]
async fn who_has_logged_in_of_late_can_do_the_jobs_while_it_is_there_and_has_its_session() {
    let limits = limits(rate(12, 1), rate(1000, 1));
    let gstin = account("29AAGCE4783K1Z1").gstin;
    limits.announce_as("a".into(), Box::new(|_, _| {}));
    limits.hears_others(true);
    limits.share_among(NonZeroU32::new(2).unwrap());
    let can_be_done = || limits.is_logged_in_elsewhere(&gstin);
    assert!(!can_be_done());
    limits.heard_login("b", gstin, LoggedIn::default());
    assert!(!can_be_done(), "nobody has that name");
    limits.heard_name("b");
    assert!(can_be_done());
    limits.heard_idle("b", gstin);
    assert!(!can_be_done(), "it has lost its session");
    limits.heard_return("b", gstin);
    assert!(can_be_done());
}
