use super::*;
use proptest::prelude::*;

const ONE: NonZeroU32 = NonZeroU32::MIN;
const DAY: Duration = Duration::from_secs(86_400);

fn rate(count: u32) -> Rate {
    Rate {
        count: NonZeroU32::new(count).unwrap(),
        period: DAY,
    }
}

fn replicas(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

fn gstins() -> [Gstin; 2] {
    ["29AAGCE4783K1Z1", "27AABCT9421M1ZY"].map(|text| text.parse().unwrap())
}

fn spend(budget: &Budget, gstin: &Gstin, errors: u32) {
    for _ in 0..errors {
        budget.count(gstin, "acme", ONE);
    }
}

#[tokio::test(start_paused = true)]
async fn budget_slows_at_half_warns_at_four_fifths_and_stops_when_used_up() {
    let budget = Budget::new(rate(10), rate(1000));
    let [gstin, other] = gstins();
    let states = (1..=10).map(|_| {
        spend(&budget, &gstin, 1);
        budget.state(&gstin, "acme", ONE).as_str()
    });
    assert_eq!(
        states.collect::<Vec<_>>(),
        [
            "open", "open", "open", "open", "slow", "slow", "slow", "warned", "warned", "stopped"
        ]
    );
    assert_eq!(budget.stopped(&gstin, "acme", ONE), Some(Stopped::Gstin));
    assert_eq!(budget.state(&other, "acme", ONE), BudgetState::Open);
}

#[tokio::test(start_paused = true)]
async fn used_up_client_stops_all_its_gstins_and_no_other_clients() {
    let budget = Budget::new(rate(1000), rate(10));
    let [gstin, other] = gstins();
    spend(&budget, &gstin, 10);
    assert_eq!(budget.stopped(&other, "acme", ONE), Some(Stopped::Client));
    assert_eq!(budget.stopped(&other, "zenith", ONE), None);
}

#[tokio::test(start_paused = true)]
async fn stopped_gstin_goes_on_when_the_window_has_moved() {
    let budget = Budget::new(rate(3), rate(1000));
    let [gstin, _] = gstins();
    spend(&budget, &gstin, 3);
    tokio::time::advance(DAY - Duration::from_secs(1)).await;
    assert_eq!(budget.stopped(&gstin, "acme", ONE), Some(Stopped::Gstin));
    tokio::time::advance(DAY / 96 + Duration::from_secs(2)).await;
    assert_eq!(budget.stopped(&gstin, "acme", ONE), None);
    budget.tidy(ONE);
    assert_eq!(budget.gstins.purses.len(), 0, "the quiet are forgotten");
}

#[tokio::test(start_paused = true)]
async fn resumed_gstin_goes_on_at_once_unless_its_client_is_stopped() {
    let budget = Budget::new(rate(3), rate(6));
    let [gstin, other] = gstins();
    spend(&budget, &gstin, 3);
    budget.resume(&gstin);
    assert_eq!(budget.stopped(&gstin, "acme", ONE), None);
    spend(&budget, &other, 3);
    budget.resume(&other);
    assert_eq!(budget.stopped(&other, "acme", ONE), Some(Stopped::Client));
    budget.resume_client("acme");
    assert_eq!(budget.stopped(&other, "acme", ONE), None);
}

#[tokio::test(start_paused = true)]
async fn replicas_share_a_budget_and_each_keeps_at_least_one_error() {
    for (fleet, errors) in [(1, 10), (2, 5), (4, 2), (10, 1), (99, 1)] {
        let budget = Budget::new(rate(10), rate(1000));
        let [gstin, _] = gstins();
        let fleet = replicas(fleet);
        for _ in 0..errors {
            assert_eq!(budget.stopped(&gstin, "acme", fleet), None, "{fleet}");
            let room = budget.reserve(&gstin, "acme", fleet);
            assert!(matches!(room, Allowance::Granted(_)), "{fleet}: {room:?}");
            budget.count(&gstin, "acme", fleet);
        }
        let stopped = budget.stopped(&gstin, "acme", fleet);
        assert_eq!(stopped, Some(Stopped::Gstin), "{fleet}");
        let room = budget.reserve(&gstin, "acme", fleet);
        assert!(matches!(room, Allowance::Stopped(_)), "{fleet}: {room:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fleet_that_grows_uses_up_no_budget_by_that() {
    let budget = Budget::new(rate(2_000), rate(100_000));
    let [gstin, _] = gstins();
    spend(&budget, &gstin, 600);
    for fleet in [1, 2, 4, 10] {
        let usage = budget.of_gstin(&gstin, replicas(fleet));
        assert_eq!((usage.used, usage.limit), (600, 2_000));
        assert_eq!(usage.state, BudgetState::Open, "{fleet}");
    }
    budget.count(&gstin, "acme", replicas(4));
    assert_eq!(budget.of_gstin(&gstin, ONE).used, 604);
}

proptest! {
    /// Calls begin and are answered in any order, with an error or without: the errors never exceed the limit.
    #[test]
    fn calls_under_way_at_once_cannot_overrun_the_budget(
        limit in 1u32..20,
        client_limit in 1u32..20,
        steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0usize..8), 1..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let budget = Budget::new(rate(limit), rate(client_limit));
        let [gstin, _] = gstins();
        let (mut under_way, mut errors) = (Vec::new(), 0);
        for (begins, fails, which) in steps {
            if begins {
                match budget.reserve(&gstin, "acme", ONE) {
                    Allowance::Granted(reservation) => under_way.push(reservation),
                    Allowance::Busy => prop_assert!(!under_way.is_empty(), "nothing to wait for"),
                    Allowance::Stopped(_) => prop_assert_eq!(errors, limit.min(client_limit)),
                }
            } else if !under_way.is_empty() {
                let answered = under_way.swap_remove(which % under_way.len());
                if fails {
                    errors += 1;
                    budget.count(&gstin, "acme", ONE);
                }
                drop(answered);
            }
            prop_assert!(errors <= limit.min(client_limit), "{errors} errors");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn replica_that_joins_begins_with_the_errors_that_another_tells() {
    let (old, new) = (
        Budget::new(rate(100), rate(1000)),
        Budget::new(rate(100), rate(1000)),
    );
    let [gstin, other] = gstins();
    spend(&old, &gstin, 60);
    tokio::time::advance(DAY / 2).await;
    spend(&old, &gstin, 40);
    spend(&old, &other, 9);
    let told = old.told_of_gstins();
    assert_eq!(told.len(), 1, "less than a tenth is not told of");
    for _ in 0..3 {
        new.heard_of_gstin(&gstin, &told[0].1, replicas(2));
    }
    // The end of the budget is not believed before it is met.
    assert_eq!(new.of_gstin(&gstin, ONE).used, 80);
    assert_eq!(new.stopped(&gstin, "acme", replicas(9)), None);
    assert_eq!(new.state(&gstin, "acme", ONE), BudgetState::Warned);
    for _ in 0..10 {
        new.count(&gstin, "acme", replicas(2));
    }
    assert_eq!(new.stopped(&gstin, "acme", ONE), Some(Stopped::Gstin));
    let clients = old.told_of_clients();
    new.heard_of_client(&clients[0].0, &clients[0].1, ONE);
    assert_eq!(new.of_client("acme", ONE).used, 109);
    // Fewer than are known say nothing, and neither do those that are over.
    new.heard_of_gstin(&gstin, &[(DAY / 4, 7)], ONE);
    new.heard_of_gstin(&gstin, &[(DAY * 2, u32::MAX)], ONE);
    assert_eq!(new.of_gstin(&gstin, ONE).used, 100);
    // The first ones are forgotten in time.
    tokio::time::advance(DAY / 2 + DAY / 24).await;
    assert_eq!(new.of_gstin(&gstin, ONE).used, 60);
}

#[tokio::test(start_paused = true)]
async fn what_others_knew_before_an_operator_forgave_it_is_not_believed() {
    let budget = Budget::new(rate(100), rate(1000));
    let [gstin, other] = gstins();
    budget.resume(&gstin);
    for gstin in [gstin, other] {
        budget.heard_of_gstin(&gstin, &[(Duration::ZERO, u32::MAX), (DAY, 1)], ONE);
    }
    assert_eq!(budget.of_gstin(&gstin, ONE).used, 0);
    assert_eq!(budget.of_gstin(&other, ONE).used, 80);
}
