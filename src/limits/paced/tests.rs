use super::*;
use proptest::prelude::*;

fn rate(count: u32) -> Rate {
    Rate {
        count: NonZeroU32::new(count).unwrap(),
        period: Duration::from_secs(1),
    }
}

/// Takes as soon as it can, `share(elapsed)` saying among how many, and returns when.
async fn taken(rate: Rate, seconds: u64, share: impl Fn(Duration) -> u32) -> Vec<Duration> {
    taken_of(&Paced::new(rate), seconds, share).await
}

async fn taken_of(
    paced: &Paced<()>,
    seconds: u64,
    share: impl Fn(Duration) -> u32,
) -> Vec<Duration> {
    let start = Instant::now();
    let mut taken = Vec::new();
    while start.elapsed() < Duration::from_secs(seconds) {
        let replicas = NonZeroU32::new(share(start.elapsed())).unwrap();
        match paced.take((), Share::of(replicas), Class::Bulk) {
            Ok(()) => taken.push(start.elapsed()),
            Err(wait) => tokio::time::sleep(wait.min(Duration::from_millis(20))).await,
        }
    }
    taken
}

fn most_in_a_second(taken: &[Duration]) -> usize {
    let within = |from: &Duration| {
        let until = *from + Duration::from_secs(1);
        taken
            .iter()
            .filter(|&&at| *from <= at && at < until)
            .count()
    };
    taken.iter().map(within).max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn share_of_four_replicas_is_a_quarter_of_the_rate() {
    let taken = taken(rate(20), 10, |_| 4).await;
    assert!((49..=51).contains(&taken.len()), "{}", taken.len());
    assert!(
        most_in_a_second(&taken) <= 6,
        "{}",
        most_in_a_second(&taken)
    );
}

#[tokio::test(start_paused = true)]
async fn replicas_that_are_more_than_the_rate_do_not_go_together() {
    let replicas: Vec<_> = (0..40).map(|_| Paced::new(rate(5)).apart()).collect();
    let start = Instant::now();
    let mut taken = Vec::new();
    while start.elapsed() < Duration::from_secs(120) {
        // One more is there for a while.
        let fleet = if start.elapsed() < Duration::from_secs(40) {
            41
        } else {
            40
        };
        let fleet = Share::of(NonZeroU32::new(fleet).unwrap());
        let goes = |paced: &&Paced<()>| paced.take((), fleet, Class::Bulk).is_ok();
        let at_once = replicas.iter().filter(goes).count();
        taken.extend(std::iter::repeat_n(start.elapsed(), at_once));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((520..=600).contains(&taken.len()), "{}", taken.len());
    let most = most_in_a_second(&taken);
    assert!(
        most <= 20,
        "{most} of a limit of 5, where all together were 40"
    );
}

/// Replicas that all have a place, and find each turn up to six milliseconds late; when each took one.
async fn in_turn(rate: Rate, replicas: u32, seconds: u64, shift: Duration) -> Vec<Duration> {
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    let mut all = tokio::task::JoinSet::new();
    for place in 0..replicas {
        all.spawn(async move {
            let paced = Paced::new(rate).apart();
            let clock = (start, Duration::from_secs(1_700_000_000) + shift);
            let share = Share {
                replicas: NonZeroU32::new(replicas).unwrap(),
                seat: Some(Seat { place, clock }),
            };
            let mut taken = Vec::new();
            while Instant::now() < end {
                let Err(wait) = paced.take("a key", share, Class::Bulk) else {
                    taken.push(start.elapsed());
                    continue;
                };
                let late = Duration::from_micros(rand::random_range(0..6_000));
                tokio::time::sleep(wait + late).await;
            }
            taken
        });
    }
    let mut taken: Vec<_> = all.join_all().await.into_iter().flatten().collect();
    taken.sort();
    taken
}

#[tokio::test(start_paused = true)]
async fn replicas_that_know_their_places_are_together_as_even_as_one() {
    for (count, replicas) in [(10, 3), (10, 4), (20, 3), (20, 7), (5, 4), (7, 12)] {
        for shift in [0, 123_456_789, 999_999_999] {
            let taken = in_turn(rate(count), replicas, 60, Duration::from_nanos(shift)).await;
            let settled: Vec<_> = taken
                .iter()
                .copied()
                .filter(|at| *at > Duration::from_secs(3))
                .collect();
            let (most, count) = (most_in_a_second(&settled), count as usize);
            assert!(most <= count + 1, "{most} of {count} with {replicas}");
            let least = count * 57 - replicas as usize;
            assert!(settled.len() >= least, "{} of {least}", settled.len());
            let begun = most_in_a_second(&taken);
            assert!(begun <= count + replicas as usize, "{begun} of {count}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn key_that_was_quiet_waits_for_no_turn_and_then_gets_back_to_its_own() {
    let share = Share {
        replicas: NonZeroU32::new(2).unwrap(),
        seat: Some(Seat {
            place: 0,
            clock: (Instant::now(), Duration::ZERO),
        }),
    };
    let paced = Paced::new(rate(1));
    let offset = part_of(Duration::from_secs(2), &"key");
    // In the middle between two turns.
    tokio::time::advance(offset + Duration::from_secs(11)).await;
    assert_eq!(paced.take("key", share, Class::Bulk), Ok(()));
    let wait = Err(Duration::from_secs(3));
    assert_eq!(paced.take("key", share, Class::Bulk), wait);
    // A little late.
    tokio::time::advance(Duration::from_millis(3_100)).await;
    assert_eq!(paced.take("key", share, Class::Bulk), Ok(()));
    let wait = Err(Duration::from_millis(1_900));
    assert_eq!(paced.take("key", share, Class::Bulk), wait);
    assert_eq!(paced.due_in(&"key"), Duration::from_millis(1_900));
    // Nobody knows its place any more.
    let without = Share::of(share.replicas);
    let wait = Err(Duration::from_secs(2));
    assert_eq!(paced.take("key", without, Class::Bulk), wait);
}

#[tokio::test(start_paused = true)]
async fn shares_that_change_each_second_hand_out_no_burst() {
    let taken = taken(rate(100), 20, |elapsed| {
        if elapsed.as_secs() % 2 == 0 { 1 } else { 2 }
    })
    .await;
    assert!(
        most_in_a_second(&taken) <= 110,
        "{}",
        most_in_a_second(&taken)
    );
    assert!((1400..=1520).contains(&taken.len()), "{}", taken.len());
}

#[tokio::test(start_paused = true)]
async fn fleet_that_changes_all_the_time_does_not_keep_a_slow_rate_from_being_used() {
    // The last one begins with a burst of five.
    for (count, period, fewer, least, spacing) in [
        (6, 60, 4, 20, 40),
        (6, 60, 6, 12, 60),
        (1000, 3600, 20, 12, 0),
    ] {
        let slow = Rate {
            count: NonZeroU32::new(count).unwrap(),
            period: Duration::from_secs(period),
        };
        let paced = Paced::new(slow).apart();
        // They are so many or one more, each for twenty seconds.
        let share = |elapsed: Duration| fewer + u32::from(elapsed.as_secs() % 40 < 20);
        let taken = taken_of(&paced, 1000, share).await;
        let many = taken.len();
        assert!((least..=25).contains(&many), "{fewer} of {count}: {many}");
        let gaps = taken.windows(2).map(|two| two[1] - two[0]);
        let apart = gaps.min().unwrap();
        assert!(apart >= Duration::from_secs(spacing), "{apart:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn next_one_is_due_when_it_can_be_taken() {
    let clock = (Instant::now(), Duration::from_secs(1_700_000_000));
    let seat = |place| Some(Seat { place, clock });
    // Calls a second, replicas, and the place among them.
    for (count, replicas, seat) in [
        (2, 1, None),
        (2, 1, seat(0)),
        (50, 1, seat(0)),
        (50, 2, None),
        (2, 3, seat(1)),
    ] {
        let paced = Paced::new(rate(count));
        let replicas = NonZeroU32::new(replicas).unwrap();
        let share = Share { replicas, seat };
        assert_eq!(paced.due_in(&()), Duration::ZERO);
        for number in 0..50 {
            assert_eq!(paced.take((), share, Class::Bulk), Ok(()), "{number}");
            let due = paced.due_in(&());
            if due.is_zero() {
                assert!(burst(rate(count), replicas).get() > 1);
                continue;
            }
            let nanosecond = Duration::from_nanos(1);
            tokio::time::advance(due - nanosecond).await;
            assert!(paced.take((), share, Class::Bulk).is_err(), "{number}");
            tokio::time::advance(nanosecond).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn places_that_change_all_the_time_do_not_keep_a_slow_rate_from_being_used() {
    let slow = Rate {
        count: NonZeroU32::new(6).unwrap(),
        period: Duration::from_secs(60),
    };
    let start = Instant::now();
    for every in [5, 20, 60] {
        let (paced, begun) = (Paced::new(slow).apart(), Instant::now());
        let mut taken = Vec::new();
        while begun.elapsed() < Duration::from_secs(2000) {
            // Of four, then of five, and now and then without a place; the clock is read again all the time.
            let number = u32::try_from(begun.elapsed().as_secs() / every).unwrap();
            let now = Instant::now();
            let read = now - start + Duration::from_nanos(rand::random_range(0..2_000));
            let seat = Seat {
                place: number % 3,
                clock: (now, Duration::from_secs(1_700_000_000) + read),
            };
            let share = Share {
                replicas: NonZeroU32::new(4 + number % 2).unwrap(),
                seat: (number % 5 > 1).then_some(seat),
            };
            match paced.take("a key", share, Class::Bulk) {
                Ok(()) => taken.push(begun.elapsed()),
                Err(wait) => tokio::time::sleep(wait.min(Duration::from_millis(500))).await,
            }
        }
        // Forty to fifty would be the best.
        let many = taken.len();
        assert!((28..=52).contains(&many), "every {every} s: {many}");
        let gaps = taken.windows(2).map(|two| two[1] - two[0]);
        let apart = gaps.min().unwrap();
        assert!(
            apart >= Duration::from_secs(30),
            "every {every} s: {apart:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn quiet_key_is_forgotten_and_a_busy_one_is_not() {
    let paced = Paced::new(rate(1));
    let alone = Share::of(NonZeroU32::MIN);
    paced.take("quiet", alone, Class::Bulk).unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    paced.forget_the_quiet();
    assert_eq!(paced.asked(Duration::from_secs(61)), 1);
    tokio::time::advance(KNOWN_FOR).await;
    paced.take("busy", alone, Class::Bulk).unwrap();
    paced.forget_the_quiet();
    assert!(!paced.paces.contains_key("quiet"));
    assert!(paced.take("busy", alone, Class::Bulk).is_err());
}

proptest! {
    #[test]
    fn bursts_of_all_replicas_together_are_at_most_a_tenth_or_one_each(
        count in 1u32..10_000,
        replicas in 1u32..100,
    ) {
        let of_one = burst(rate(count), NonZeroU32::new(replicas).unwrap()).get();
        prop_assert!((of_one - 1) * replicas <= count.div_ceil(10), "{of_one}");
    }
}
