use super::*;
use proptest::prelude::*;

const SILENT: PortalSign = PortalSign::Silent { retry_after: None };

/// A breaker, the time, and calls that end as they began: at once.
struct Bench {
    breaker: Breaker,
    now: Instant,
}

impl Bench {
    fn of(scope: Scope) -> Self {
        Self {
            breaker: Breaker::new(scope, 64),
            now: Instant::now(),
        }
    }

    fn ends(&mut self, sign: PortalSign) -> View {
        self.ends_for("29AAGCE4783K1Z1", sign)
    }

    fn ends_for(&mut self, gstin: &str, sign: PortalSign) -> View {
        let began = self.breaker.begin();
        let gstin = gstin.parse().unwrap();
        self.breaker.end(self.now, began, Some(sign), &gstin);
        self.breaker.view(self.now)
    }

    fn is_open(&mut self) -> bool {
        matches!(self.breaker.view(self.now), View::Open { .. })
    }

    /// Ends calls until it opens; how many that took.
    fn ends_until_open(&mut self, sign: PortalSign, every: Duration) -> usize {
        (1..=1_000)
            .find(|_| {
                self.now += every;
                matches!(self.ends(sign), View::Open { .. })
            })
            .unwrap()
    }

    /// Moves to the moment of the next probe; how long that took.
    fn until_half_open(&mut self) -> Duration {
        let View::Open { until } = self.breaker.view(self.now) else {
            panic!("not open")
        };
        let waited = until - self.now;
        self.now = until;
        assert_eq!(self.breaker.view(self.now), View::HalfOpen { width: 1 });
        waited
    }
}

#[tokio::test]
async fn dead_portal_opens_it_at_once_under_load_and_soon_without() {
    for (sign, others, every_ms, calls) in [
        (PortalSign::Unreached, 50, 0, 10),
        (SILENT, 50, 0, 20),
        (SILENT, 0, 0, 10),
        (PortalSign::Unreached, 0, 500, 5),
        (SILENT, 50, 250, 10),
        (SILENT, 0, 30_000, 5),
    ] {
        let mut bench = Bench::of(Scope::Core);
        for _ in 0..others {
            bench.breaker.begin();
        }
        let every = Duration::from_millis(every_ms);
        assert_eq!(
            bench.ends_until_open(sign, every),
            calls,
            "{sign:?} every {every:?}"
        );
    }
    assert_eq!(
        Bench::of(Scope::Login).ends_until_open(PortalSign::Unreached, Duration::ZERO),
        1
    );
}

#[tokio::test]
async fn any_answer_ends_a_run_of_silence() {
    let mut bench = Bench::of(Scope::Core);
    for _ in 0..1_000 {
        for _ in 0..4 {
            bench.now += Duration::from_secs(30);
            assert_eq!(bench.ends(SILENT), View::Closed);
        }
        bench.ends(PortalSign::Answered);
    }
}

#[tokio::test]
async fn one_throttled_gstin_opens_nothing_and_three_do() {
    let throttled = PortalSign::Throttled {
        retry_after: Some(Duration::from_secs(7)),
    };
    let mut bench = Bench::of(Scope::Core);
    bench.breaker.begin();
    for _ in 0..1_000 {
        assert_eq!(bench.ends_for("29AAGCE4783K1Z1", throttled), View::Closed);
    }
    assert_eq!(bench.ends_for("27AABCT9421M1ZY", throttled), View::Closed);
    bench.ends_for("29AABCT9421M1ZU", throttled);
    assert_eq!(bench.until_half_open(), Duration::from_secs(7));
}

#[tokio::test]
async fn a_request_for_a_slower_pace_opens_nothing() {
    let mut bench = Bench::of(Scope::Core);
    let slower = PortalSign::Throttled { retry_after: None };
    for gstin in ["29AAGCE4783K1Z1", "27AABCT9421M1ZY", "29AABCT9421M1ZU"] {
        for _ in 0..100 {
            assert_eq!(bench.ends_for(gstin, slower), View::Closed);
        }
    }
    bench.ends_until_open(SILENT, Duration::ZERO);
    bench.until_half_open();
    assert_eq!(bench.ends(slower), View::HalfOpen { width: 1 });
}

#[tokio::test]
async fn retry_after_is_obeyed_between_a_second_and_a_quarter_of_an_hour() {
    for (asked, obeyed) in [(0, 1), (20, 20), (86_400, 900)] {
        let mut bench = Bench::of(Scope::Core);
        bench.breaker.begin();
        let sign = PortalSign::Silent {
            retry_after: Some(Duration::from_secs(asked)),
        };
        assert_eq!(bench.ends_until_open(sign, Duration::ZERO), 3);
        assert_eq!(bench.until_half_open(), Duration::from_secs(obeyed));
    }
}

#[tokio::test]
async fn one_probe_decides_and_each_round_of_answers_doubles_the_width() {
    let mut bench = Bench::of(Scope::Core);
    bench.ends_until_open(SILENT, Duration::ZERO);
    bench.until_half_open();
    let began = bench.breaker.begin();
    assert!(!bench.breaker.admits(bench.now), "one probe at a time");
    bench.breaker.end(
        bench.now,
        began,
        Some(SILENT),
        &"29AAGCE4783K1Z1".parse().unwrap(),
    );
    assert!(bench.is_open());
    bench.until_half_open();
    let mut widths = Vec::new();
    while let View::HalfOpen { width } = bench.breaker.view(bench.now) {
        widths.push(width);
        for _ in 0..width {
            bench.ends(PortalSign::Answered);
        }
    }
    assert_eq!(widths, [1, 2, 4, 8, 16, 32]);
    assert_eq!(bench.breaker.view(bench.now), View::Closed);
}

#[tokio::test]
async fn half_open_one_closes_in_time_though_there_is_little_to_do() {
    let mut bench = Bench::of(Scope::Core);
    bench.ends_until_open(SILENT, Duration::ZERO);
    bench.until_half_open();
    bench.ends(PortalSign::Answered);
    bench.now += RAMP;
    assert_eq!(bench.ends(PortalSign::Answered), View::Closed);
}

#[tokio::test]
async fn a_call_begun_before_it_opened_says_nothing_afterwards() {
    let mut bench = Bench::of(Scope::Core);
    let straggler = bench.breaker.begin();
    bench.ends_until_open(SILENT, Duration::ZERO);
    bench.until_half_open();
    let gstin = "29AAGCE4783K1Z1".parse().unwrap();
    bench
        .breaker
        .end(bench.now, straggler, Some(SILENT), &gstin);
    assert_eq!(bench.breaker.view(bench.now), View::HalfOpen { width: 1 });
    bench.breaker.begin();
    assert!(
        !bench.breaker.admits(bench.now),
        "the straggler's end frees no place"
    );
}

#[tokio::test]
async fn a_portal_that_flaps_is_tried_less_and_less_often() {
    let mut bench = Bench::of(Scope::Core);
    let mut waits = Vec::new();
    for _ in 0..8 {
        bench.ends_until_open(SILENT, Duration::ZERO);
        waits.push(bench.until_half_open());
        while bench.breaker.view(bench.now) != View::Closed {
            bench.ends(PortalSign::Answered);
        }
    }
    assert!(waits[0] <= FIRST_DELAY * 3 / 2, "{waits:?}");
    assert!(waits[7] >= LONGEST_DELAY / 2, "{waits:?}");
    bench.now += STEADY;
    bench.ends_until_open(SILENT, Duration::ZERO);
    assert!(bench.until_half_open() <= FIRST_DELAY * 3 / 2);
}

/// Any end of a call, a time later.
fn step() -> impl Strategy<Value = (PortalSign, u64)> {
    let wait = proptest::option::of((0u64..100_000).prop_map(Duration::from_secs));
    let sign = (0..4, wait).prop_map(|(kind, retry_after)| match kind {
        0 => PortalSign::Answered,
        1 => PortalSign::Unreached,
        2 => PortalSign::Silent { retry_after },
        _ => PortalSign::Throttled { retry_after },
    });
    (sign, 0u64..20_000)
}

proptest! {
    #[test]
    fn faults_at_random_never_open_it(seed in any::<u64>()) {
        use rand::{Rng as _, SeedableRng as _};
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let mut bench = Bench::of(Scope::Core);
        bench.breaker.begin();
        for _ in 0..1_000 {
            bench.now += Duration::from_millis(random.random_range(0..20));
            let sign = if random.random_bool(0.3) { SILENT } else { PortalSign::Answered };
            prop_assert_eq!(bench.ends(sign), View::Closed);
        }
    }

    #[test]
    fn it_always_comes_back_and_never_waits_out_of_bounds(steps in proptest::collection::vec(step(), 0..200)) {
        let mut bench = Bench::of(Scope::Core);
        for (sign, wait_ms) in steps {
            bench.now += Duration::from_millis(wait_ms);
            if !bench.breaker.admits(bench.now) {
                let waited = bench.until_half_open();
                prop_assert!(waited <= LONGEST_RETRY_AFTER, "{waited:?}");
                prop_assert!(bench.breaker.admits(bench.now));
            }
            let before = bench.breaker.view(bench.now);
            let after = bench.ends(sign);
            if sign == PortalSign::Answered {
                prop_assert!(!matches!(after, View::Open { .. }), "an answer opens nothing");
            }
            let failed = !matches!(
                sign,
                PortalSign::Answered | PortalSign::Throttled { retry_after: None }
            );
            if before == (View::HalfOpen { width: 1 }) && failed {
                prop_assert!(matches!(after, View::Open { .. }), "a failed probe opens it again");
            }
        }
    }
}
