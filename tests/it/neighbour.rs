//! One GSTIN's trouble is its own: nine small ones beside a noisy one, with figures.
//!
//! The form of these tests may be changed by the environment, for measurements on a quiet machine: `NEIGHBOUR_JOBS`, how
//! many the noisy one publishes at once; `NEIGHBOUR_EACH` and `NEIGHBOUR_EVERY_MS`, how many each small one does and
//! how often.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::support::amqp::{Amqp, Job};
use crate::support::credentials::Credentials;
use crate::support::eventually;
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;
use crate::support::worker::WorkerConfig;

const NOISY: &str = "27AABCT9421M1ZY";
const SMALL: [&str; 9] = [
    "29AAGCE4783K1Z1",
    "29AAGCE4783K2Z1",
    "29AAGCE4783K3Z1",
    "29AAGCE4783K4Z1",
    "33AAKFN5208R1ZT",
    "33AAKFN5208R2ZT",
    "07AADCB2230M1ZV",
    "07AADCB2230M2ZV",
    "24AAHCS7315P2ZV",
];

/// What the noisy one publishes: thousands while the small ones are measured.
const NOISE: usize = 60;
const NOISE_EVERY: Duration = Duration::from_millis(100);

/// How the small ones and a backlog are measured.
#[derive(Clone, Copy)]
struct Form {
    /// Jobs of each small one, one after the other.
    each: usize,
    every: Duration,
    /// What the noisy one publishes at once.
    backlog: usize,
}

impl Form {
    fn from_environment() -> Result<Self> {
        let read = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name} is no number")),
            Err(_) => Ok(default),
        };
        Ok(Self {
            each: usize::try_from(read("NEIGHBOUR_EACH", 40)?)?,
            every: Duration::from_millis(read("NEIGHBOUR_EVERY_MS", 100)?),
            backlog: usize::try_from(read("NEIGHBOUR_JOBS", 3000)?)?,
        })
    }
}

const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// How long jobs took, in order.
struct Times(Vec<Duration>);

impl Times {
    fn percentile(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0[(self.0.len() * percent / 100).min(last)]
    }
}

/// Ten taxpayers, the noisy one at most twenty calls a second where `throttled`.
async fn ten(throttled: bool) -> Result<Stack> {
    let all: Vec<&str> = SMALL.into_iter().chain([NOISY]).collect();
    let rate = if throttled { "20/s" } else { "5000/s" };
    let change = |config: WorkerConfig| {
        config
            .set("limits.per_gstin", rate)?
            .set("retry.delays", vec!["1s", "5s", "30s", "2m"])
    };
    Stack::of(&Credentials::of(&all), 1, change).await
}

/// One small GSTIN's jobs, each published when the one before is answered.
async fn one_small(stack: &Stack, run: &str, gstin: &str) -> Result<Vec<Duration>> {
    let form = Form::from_environment()?;
    let erp = Amqp::connect(&stack.broker.url()).await?;
    let queue = format!("erp.{run}.{gstin}");
    erp.declare(&queue).await?;
    let mut results = erp.arrivals(&queue).await?;
    let mut pauses = interval(form.every);
    pauses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = Vec::with_capacity(form.each);
    for i in 0..form.each {
        pauses.tick().await;
        let number = format!("{run}/{i}");
        let job = Job::generate(&number, invoice(gstin, &number)).reply_to(&queue);
        let published = Instant::now();
        erp.publish(&[job]).await?;
        let (result, took) = results.next_since(published, ANSWERED_WITHIN).await?;
        times.push(took);
        Outcome::read(result)?.assert_signed(false);
    }
    Ok(times)
}

/// The nine small ones together.
async fn nine_small(stack: &Stack, run: &str) -> Result<Times> {
    let all = try_join_all(SMALL.map(|gstin| one_small(stack, run, gstin))).await?;
    // The first of each logs in.
    let mut times: Vec<_> = all
        .into_iter()
        .flat_map(|times| times.into_iter().skip(1))
        .collect();
    times.sort_unstable();
    Ok(Times(times))
}

/// The noisy one publishes until told to stop; returns how many.
async fn noise(stack: &Stack, over: &CancellationToken) -> Result<usize> {
    let erp = Amqp::connect(&stack.broker.url()).await?;
    erp.declare("erp.noise").await?;
    let mut ticks = interval(NOISE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published = 0;
    while over.run_until_cancelled(ticks.tick()).await.is_some() {
        let numbers = (published..published + NOISE).map(|i| format!("N/{i}"));
        let job = |n: String| Job::generate(&n, invoice(NOISY, &n)).reply_to("erp.noise");
        erp.publish(&numbers.map(job).collect::<Vec<_>>()).await?;
        published += NOISE;
    }
    Ok(published)
}

/// The nine alone, then beside the noisy one under these faults: the 99th percentile may not move by more than this
/// machine's own unrest.
async fn measure(what: &str, throttled: bool, faults: Value) -> Result<(Stack, usize)> {
    let mut stack = ten(throttled).await?;
    stack.sandbox.faults(1, faults).await?;
    let alone = nine_small(&stack, "A").await?;
    let over = CancellationToken::new();
    let (beside, published) = {
        let nine = async {
            let beside = nine_small(&stack, "B").await;
            over.cancel();
            beside
        };
        tokio::try_join!(nine, noise(&stack, &over))?
    };
    let deferred = deferrals(&mut stack).await?;
    println!(
        "{what}: p50 {:?} alone, {:?} beside; p99 {:?} alone, {:?} beside {published} jobs, of which {deferred} deferrals",
        alone.percentile(50),
        beside.percentile(50),
        alone.percentile(99),
        beside.percentile(99),
    );
    let bound = alone.percentile(99) * 3 + Duration::from_millis(500);
    assert!(
        beside.percentile(99) <= bound,
        "{what}: p99 {:?} over {bound:?}",
        beside.percentile(99)
    );
    let bound = alone.percentile(50) * 3 + Duration::from_millis(100);
    assert!(
        beside.percentile(50) <= bound,
        "{what}: p50 {:?} over {bound:?}",
        beside.percentile(50)
    );
    Ok((stack, published))
}

/// The noisy one's backlog, published at once; returns how long the job queue held more than the small ones' jobs.
async fn backlog(stack: &Stack, jobs: usize) -> Result<Duration> {
    let erp = Amqp::connect(&stack.broker.url()).await?;
    erp.declare("erp.noise").await?;
    let numbers = (0..jobs).map(|i| format!("Q/{i}"));
    let job = |n: String| Job::generate(&n, invoice(NOISY, &n)).reply_to("erp.noise");
    let begun = Instant::now();
    erp.publish(&numbers.map(job).collect::<Vec<_>>()).await?;
    eventually(ANSWERED_WITHIN * 6, "the backlog to be swept", async || {
        let waiting = usize::try_from(erp.depth("irn.jobs").await?)?;
        Ok((waiting <= SMALL.len()).then_some(()))
    })
    .await?;
    Ok(begun.elapsed())
}

/// The nine alone, then while a backlog comes and goes, then beside the backlog on the ladder.
async fn measure_backlog(what: &str, throttled: bool, faults: Value) -> Result<Stack> {
    let form = Form::from_environment()?;
    let mut stack = ten(throttled).await?;
    stack.sandbox.faults(1, faults).await?;
    let alone = nine_small(&stack, "A").await?;
    let nine = nine_small(&stack, "B");
    let (during, swept) = tokio::try_join!(nine, backlog(&stack, form.backlog))?;
    let before = deferrals(&mut stack).await?;
    let began = Instant::now();
    let after = nine_small(&stack, "C").await?;
    let deferred = deferrals(&mut stack).await?;
    let rate = (deferred - before) / began.elapsed().as_secs_f64();
    println!(
        "{what}, backlog of {}: swept in {swept:?} with {before} deferrals, then {rate:.1} a second; p50 {:?} alone, \
         {:?} while it came, {:?} beside it; p99 {:?}, {:?}, {:?}",
        form.backlog,
        alone.percentile(50),
        during.percentile(50),
        after.percentile(50),
        alone.percentile(99),
        during.percentile(99),
        after.percentile(99),
    );
    // The others' work on this machine included.
    let bound = |percent| alone.percentile(percent) * 3 + Duration::from_millis(500);
    for percent in [50, 99] {
        let beside = after.percentile(percent);
        assert!(beside <= bound(percent), "{what}: p{percent} {beside:?}");
    }
    assert!(
        rate <= 300.0,
        "{what}: {rate} deferrals a second after the sweep"
    );
    Ok(stack)
}

async fn deferrals(stack: &mut Stack) -> Result<f64> {
    let worker = stack.worker()?;
    worker.metric("irn_worker_deferred_total", "").await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn nine_gstins_do_not_notice_the_backlog_of_one_at_its_rate() -> Result<()> {
    let stack = measure_backlog("throttled", true, json!([])).await?;
    let most = stack.sandbox.stats().await?.of(NOISY).max_per_second;
    // Over minutes a busy machine has a request or two arrive late, together with those of the next second.
    assert!((10..=26).contains(&most), "{most} calls in a second");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn nine_gstins_do_not_notice_the_backlog_of_one_for_which_the_portal_is_slow() -> Result<()> {
    let slow = json!([{"endpoint": "core", "gstin": NOISY, "kind": "delay", "ms": 1500}]);
    let stack = measure_backlog("slow", false, slow).await?;
    let calls = stack.sandbox.stats().await?.of(NOISY).generates;
    assert!(calls >= 8, "the noisy one does not stand still: {calls}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn nine_gstins_do_not_notice_the_backlog_of_one_that_the_portal_throttles() -> Result<()> {
    let told = json!([{"endpoint": "generate", "gstin": NOISY, "kind": "status", "status": 429}]);
    let stack = measure_backlog("told to slow down", true, told).await?;
    let stats = stack.sandbox.stats().await?.of(NOISY);
    assert_eq!(stats.registrations, 0);
    assert!(
        stats.max_per_second <= 26,
        "{} in a second",
        stats.max_per_second
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn nine_gstins_do_not_notice_one_for_which_the_portal_is_slow() -> Result<()> {
    let slow = json!([{"endpoint": "core", "gstin": NOISY, "kind": "delay", "ms": 1500}]);
    let (stack, published) = measure("slow", false, slow).await?;
    let calls = stack.sandbox.stats().await?.of(NOISY).generates;
    assert!(published > 2000, "{published} are no noise");
    assert!(calls >= 8, "the noisy one does not stand still: {calls}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn nine_gstins_do_not_notice_one_that_is_throttled() -> Result<()> {
    let (stack, published) = measure("throttled", true, json!([])).await?;
    let most = stack.sandbox.stats().await?.of(NOISY).max_per_second;
    assert!(published > 2000, "{published} are no noise");
    assert!((10..=23).contains(&most), "{most} calls in a second");
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn nine_gstins_do_not_notice_one_whose_login_is_refused() -> Result<()> {
    let refused = json!([{"endpoint": "auth", "gstin": NOISY, "kind": "refuse_password"}]);
    let (stack, published) = measure("refused", false, refused).await?;
    assert!(published > 2000, "{published} are no noise");
    assert_eq!(
        stack
            .sandbox
            .stats()
            .await?
            .of(NOISY)
            .authentications_refused,
        1
    );
    Ok(())
}
