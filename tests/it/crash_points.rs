//! Promises P1 and P2 at every point at which a worker can die between receiving a job and acknowledging it.
//!
//! A worker is told to abort at a named point of a story; another one, which is not, brings the story to its end.
//! Then every job has one result, the portal has one registration and was never asked blindly, and whatever is kept in
//! `irn.dead` and `irn.poison` belongs to a job that ended there.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use irn_worker::crash::Point;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::eventually;
use crate::support::invoice::{invoice, irn, wrong_total};
use crate::support::ledger::Ledger;
use crate::support::stack::Stack;
use crate::support::worker::{WorkerConfig, WorkerProcess};

const SOON: Duration = Duration::from_secs(30);

/// The rungs of [`WorkerConfig::between`].
const RUNGS: [&str; 3] = ["200ms", "500ms", "1s"];

/// Where in a story the worker dies: a point, and which visit of it.
type Death = (Point, u32);

/// What happens to some jobs, and how they must end wherever a worker dies in it.
struct Story {
    /// Begins the document numbers, so that stories can be told apart.
    name: &'static str,
    /// The portal's faults while the first worker lives.
    faults: fn() -> Value,
    /// What is registered before, for a document number of this death's own.
    before: fn(&str) -> Vec<Job>,
    /// The jobs, for a document number of this death's own, and the ids they are answered under.
    jobs: fn(&str) -> (Vec<Job>, Vec<String>),
    status: &'static str,
    /// Documents that end up registered.
    registered: usize,
    /// How often one death may have a job answered.
    results_each: usize,
    /// The queue in which the jobs are kept as well.
    kept_in: Option<&'static str>,
    /// A stop is asked as soon as the portal holds a request.
    stopped: bool,
    deaths: &'static [Death],
}

const REGISTERED_AT_ONCE: Story = Story {
    name: "ONCE",
    // Slow, so that there is a middle of the submit to die in.
    faults: || json!([{"endpoint": "generate", "kind": "delay", "ms": 100, "when": "after"}]),
    before: |_| Vec::new(),
    jobs: one_invoice,
    status: "signed",
    registered: 1,
    results_each: 2,
    kept_in: None,
    stopped: false,
    deaths: &[
        (Point::Delivered, 1),
        (Point::Decoded, 1),
        (Point::TurnTaken, 1),
        (Point::SessionReady, 1),
        (Point::Submitting, 1),
        (Point::Submitted, 1),
        (Point::Answered, 1),
        (Point::Settled, 1),
        (Point::Publishing, 1),
        (Point::ResultConfirmed, 1),
        (Point::Acknowledged, 1),
    ],
};

const REGISTERED_AND_THE_ANSWER_LOST: Story = Story {
    name: "LOST",
    faults: || json!([{"endpoint": "generate", "kind": "drop", "when": "after", "times": 1}]),
    deaths: &[
        (Point::Answered, 1),
        (Point::Settled, 1),
        (Point::Publishing, 1),
        (Point::LadderConfirmed, 1),
        (Point::Acknowledged, 1),
        (Point::Decoded, 2),
        (Point::LookedUp, 1),
        (Point::Settled, 2),
        (Point::Publishing, 2),
        (Point::ResultConfirmed, 1),
    ],
    ..REGISTERED_AT_ONCE
};

const LOST_BEFORE_IT_WAS_REGISTERED: Story = Story {
    name: "NEVER",
    faults: || json!([{"endpoint": "generate", "kind": "drop", "when": "before", "times": 1}]),
    deaths: &[
        (Point::Submitted, 1),
        (Point::LadderConfirmed, 1),
        (Point::LookedUp, 1),
        (Point::Submitting, 2),
        (Point::Submitted, 2),
        (Point::Answered, 2),
        (Point::ResultConfirmed, 1),
    ],
    ..REGISTERED_AT_ONCE
};

const REFUSED: Story = Story {
    name: "BAD",
    faults: || json!([]),
    jobs: |number| {
        let job = Job::generate(number, wrong_total(GSTINS[0], number));
        (vec![job], vec![number.to_owned()])
    },
    status: "rejected",
    registered: 0,
    deaths: &[
        (Point::Settled, 1),
        (Point::Publishing, 1),
        (Point::ResultConfirmed, 1),
        (Point::Acknowledged, 1),
    ],
    ..REGISTERED_AT_ONCE
};

const WITHOUT_CREDENTIALS: Story = Story {
    name: "DEAD",
    faults: || json!([]),
    jobs: |number| {
        let document = invoice(GSTINS[0], number).replace(GSTINS[0], "29AABCT9421M1ZU");
        (
            vec![Job::generate(number, document)],
            vec![number.to_owned()],
        )
    },
    status: "failed",
    registered: 0,
    kept_in: Some("irn.dead"),
    deaths: &[
        (Point::Publishing, 1),
        (Point::DeadLetterConfirmed, 1),
        (Point::Publishing, 2),
        (Point::ResultConfirmed, 1),
        (Point::Acknowledged, 1),
    ],
    ..REGISTERED_AT_ONCE
};

const UNREADABLE: Story = Story {
    name: "POISON",
    faults: || json!([]),
    jobs: |number| {
        (
            vec![Job::generate(number, "{\"Version\":")],
            vec![number.to_owned()],
        )
    },
    status: "failed",
    registered: 0,
    kept_in: Some("irn.poison"),
    deaths: &[
        (Point::Publishing, 1),
        (Point::PoisonConfirmed, 1),
        (Point::Publishing, 2),
        (Point::ResultConfirmed, 1),
    ],
    ..REGISTERED_AT_ONCE
};

const BATCH: Story = Story {
    name: "BATCH",
    faults: || json!([]),
    jobs: |number| {
        let documents: Vec<_> = (1..=3)
            .map(|member| invoice(GSTINS[0], &format!("{number}-{member}")))
            .collect();
        let batch = Job::generate(number, format!("[{}]", documents.join(",")));
        let ids = (1..=3).map(|member| format!("{number}/{member}"));
        (vec![batch], ids.collect())
    },
    registered: 3,
    // The death catches the batch and a document of it that is being answered: redelivered, and split once more.
    results_each: 3,
    deaths: &[
        (Point::Publishing, 1),
        (Point::Publishing, 3),
        (Point::BatchPartConfirmed, 1),
        (Point::BatchPartConfirmed, 3),
        (Point::BatchConfirmed, 1),
    ],
    ..REGISTERED_AT_ONCE
};

const HANDED_BACK: Story = Story {
    name: "BACK",
    faults: || json!([{"endpoint": "generate", "kind": "hold"}]),
    jobs: |number| {
        let job = |n: usize| {
            let id = format!("{number}-{n}");
            (Job::generate(&id, invoice(GSTINS[0], &id)), id)
        };
        (1..=4).map(job).unzip()
    },
    registered: 4,
    stopped: true,
    deaths: &[
        (Point::Publishing, 1),
        (Point::HandBackConfirmed, 1),
        (Point::HandBackConfirmed, 2),
    ],
    ..REGISTERED_AT_ONCE
};

const CANCELLED: Story = Story {
    name: "CNL",
    faults: || json!([{"endpoint": "cancel", "kind": "delay", "ms": 100, "when": "after"}]),
    before: |number| one_invoice(number).0,
    jobs: |number| {
        let id = format!("{number}-c");
        let job = Job::cancel(&id, GSTINS[0], &irn(GSTINS[0], number));
        (vec![job], vec![id])
    },
    status: "cancelled",
    deaths: &[
        (Point::Delivered, 1),
        (Point::TurnTaken, 1),
        (Point::LookedUp, 1),
        (Point::SessionReady, 2),
        (Point::Submitting, 1),
        (Point::Submitted, 1),
        (Point::Answered, 1),
        (Point::Settled, 1),
        (Point::Publishing, 1),
        (Point::ResultConfirmed, 1),
        (Point::Acknowledged, 1),
    ],
    ..REGISTERED_AT_ONCE
};

const CANCELLED_AND_THE_ANSWER_LOST: Story = Story {
    name: "CLOST",
    faults: || json!([{"endpoint": "cancel", "kind": "drop", "when": "after", "times": 1}]),
    deaths: &[
        (Point::Answered, 1),
        (Point::LadderConfirmed, 1),
        (Point::LookedUp, 2),
        (Point::Settled, 2),
        (Point::ResultConfirmed, 1),
    ],
    ..CANCELLED
};

const EWAY_BILL_ISSUED: Story = Story {
    name: "EWB",
    faults: || json!([{"endpoint": "ewb", "kind": "delay", "ms": 100, "when": "after"}]),
    jobs: |number| {
        let id = format!("{number}-e");
        let job = Job::eway_bill(&id, GSTINS[0], &irn(GSTINS[0], number));
        (vec![job], vec![id])
    },
    status: "ewb_issued",
    deaths: &[
        (Point::TurnTaken, 1),
        (Point::SessionReady, 1),
        (Point::Submitting, 1),
        (Point::Submitted, 1),
        (Point::Answered, 1),
        (Point::Settled, 1),
        (Point::ResultConfirmed, 1),
        (Point::Acknowledged, 1),
    ],
    ..CANCELLED
};

const EWAY_BILL_ISSUED_AND_THE_ANSWER_LOST: Story = Story {
    name: "ELOST",
    faults: || json!([{"endpoint": "ewb", "kind": "drop", "when": "after", "times": 1}]),
    deaths: &[
        (Point::Answered, 1),
        (Point::LadderConfirmed, 1),
        (Point::LookedUp, 1),
        (Point::Settled, 2),
        (Point::ResultConfirmed, 1),
    ],
    ..EWAY_BILL_ISSUED
};

const STORIES: [&Story; 12] = [
    &REGISTERED_AT_ONCE,
    &REGISTERED_AND_THE_ANSWER_LOST,
    &LOST_BEFORE_IT_WAS_REGISTERED,
    &REFUSED,
    &WITHOUT_CREDENTIALS,
    &UNREADABLE,
    &BATCH,
    &HANDED_BACK,
    &CANCELLED,
    &CANCELLED_AND_THE_ANSWER_LOST,
    &EWAY_BILL_ISSUED,
    &EWAY_BILL_ISSUED_AND_THE_ANSWER_LOST,
];

fn one_invoice(number: &str) -> (Vec<Job>, Vec<String>) {
    let job = Job::generate(number, invoice(GSTINS[0], number));
    (vec![job], vec![number.to_owned()])
}

impl Story {
    /// Tells the story once for each death in it.
    async fn tell(&self) -> Result<()> {
        let stack = Stack::start(0).await?;
        self.prepare(&stack).await?;
        for (number, death) in self.deaths.iter().enumerate() {
            let (point, visit) = death;
            let number = self.number(number);
            self.tell_with(&stack, &number, *death)
                .await
                .with_context(|| format!("{}: dead at {}:{visit}", self.name, point.name()))?;
        }
        Ok(())
    }

    fn number(&self, death: usize) -> String {
        format!("{}{death:02}", self.name)
    }

    /// Has registered what the jobs are about.
    async fn prepare(&self, stack: &Stack) -> Result<()> {
        let numbers = (0..self.deaths.len()).map(|death| self.number(death));
        let jobs: Vec<Job> = numbers.flat_map(|number| (self.before)(&number)).collect();
        if jobs.is_empty() {
            return Ok(());
        }
        let mut worker = stack.config()?.start("the one before").await?;
        stack.erp.publish(&jobs).await?;
        for outcome in stack.outcomes(jobs.len(), SOON).await?.values() {
            outcome.assert_signed(false);
        }
        let status = worker.terminate(SOON).await?;
        ensure!(status.success(), "{status}");
        Ok(())
    }

    async fn tell_with(&self, stack: &Stack, number: &str, (point, visit): Death) -> Result<()> {
        let (jobs, ids) = (self.jobs)(number);
        let mut ledger = Ledger::default();
        ledger.expect(ids);
        stack.sandbox.faults(1, (self.faults)()).await?;
        let armed = self
            .config(stack)?
            .env("IRN_WORKER_CRASH_AT", &format!("{}:{visit}", point.name()));
        let mut victim = armed.start("the one that dies").await?;
        stack.erp.publish(&jobs).await?;
        if self.stopped {
            stack.sandbox.until_held(1, SOON).await?;
            victim.signal(Signal::TERM)?;
        }
        let status = victim.ended(SOON).await?;
        ensure!(
            status.signal() == Some(Signal::ABORT.as_raw()),
            "it did not die there, but ended with {status}"
        );
        stack.sandbox.clear_faults().await?;
        stack.sandbox.release().await?;
        self.finish(stack, &mut ledger).await?;
        self.ensure_accounted_for(stack, &ledger, number).await
    }

    /// One request at a time where a stop is to find jobs that were not begun.
    fn config(&self, stack: &Stack) -> Result<WorkerConfig> {
        let config = stack.config()?;
        if self.stopped {
            config.set("irp.concurrency", 1)?.set("broker.prefetch", 4)
        } else {
            Ok(config)
        }
    }

    async fn finish(&self, stack: &Stack, ledger: &mut Ledger) -> Result<()> {
        let mut survivor: WorkerProcess = self.config(stack)?.start("the one that lives").await?;
        let answered = ledger.published();
        ledger.collect(&stack.broker.url(), answered, SOON).await?;
        // A copy may still be on its way: it is answered as well before anything is counted. Between two queues the
        // broker counts it in neither, so one look proves nothing.
        let mut looks = 0;
        eventually(SOON, "the worker to be idle", async || {
            stack.erp.until_no_job_waits(&RUNGS, SOON).await?;
            let idle = survivor.metric("irn_worker_in_flight", "").await? == 0.0;
            let is_over = idle && stack.erp.jobs_waiting(&RUNGS).await? == 0;
            looks = if is_over { looks + 1 } else { 0 };
            Ok((looks >= 5).then_some(()))
        })
        .await?;
        let status = survivor.terminate(SOON).await?;
        ensure!(status.success(), "{status}");
        ensure!(stack.erp.jobs_waiting(&RUNGS).await? == 0, "a job was left");
        ledger.collect_rest(&stack.erp).await
    }

    async fn ensure_accounted_for(
        &self,
        stack: &Stack,
        ledger: &Ledger,
        number: &str,
    ) -> Result<()> {
        ledger.ensure_each_answered()?;
        for entry in ledger.entries() {
            ensure!(entry.status() == self.status, "{}", entry.body);
        }
        let (received, published) = (ledger.received(), ledger.published());
        ensure!(
            received <= self.results_each * published,
            "{received} results of {published} jobs"
        );
        let stats = stack.sandbox.stats().await?;
        let infix = format!("/{number}");
        let mut registered = 0;
        for (name, document) in &stats.documents {
            if !name.contains(&infix) {
                continue;
            }
            registered += usize::from(document.registered);
            ensure!(document.duplicates == 0, "{name}: {document:?}");
            ensure!(document.blind == 0, "{name}: {document:?}");
            ensure!(
                document.submits <= 1 + document.lookups || self.status == "rejected",
                "{name}: {document:?}"
            );
        }
        ensure!(registered == self.registered, "{registered} registered");
        let blind = (stats.blind_cancels, stats.blind_eway_bills);
        ensure!(blind == (0, 0), "{blind:?} blind");
        for queue in ["irn.dead", "irn.poison"] {
            let kept = stack.erp.drain(queue).await?.len();
            let expected = if self.kept_in == Some(queue) {
                1..=2
            } else {
                0..=0
            };
            ensure!(expected.contains(&kept), "{queue} holds {kept}");
        }
        Ok(())
    }
}

#[test]
fn every_crash_point_is_died_at_in_some_story() {
    let missed: Vec<_> = Point::ALL
        .iter()
        .filter(|point| {
            !STORIES
                .iter()
                .any(|story| story.deaths.iter().any(|(died, _)| died == *point))
        })
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// The survivor has the only session that may be opened.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn job_passed_on_is_done_once_where_the_worker_dies_that_passes_it_on() -> Result<()> {
    for (number, point) in [Point::Publishing, Point::HandBackConfirmed]
        .iter()
        .enumerate()
    {
        let one_login = |config: WorkerConfig| config.set("limits.auth_per_gstin", "1/h");
        let mut stack = Stack::start_with(1, one_login).await?;
        let job = |n: usize| {
            let id = format!("PASSED{number}/{n}");
            Job::generate(&id, invoice(GSTINS[0], &id))
        };
        stack.settle(job(0)).await?.assert_signed(false);
        let armed =
            one_login(stack.config()?)?.env("IRN_WORKER_CRASH_AT", &format!("{}:1", point.name()));
        let mut victim = armed.start("the one that dies").await?;
        // Before it knows the other by name, it would not know whom to leave a job to.
        eventually(SOON, "its place among two", async || {
            let status: Value = serde_json::from_str(&victim.admin("/status").await?)?;
            let is_known = status["replicas"] == 2 && status["place"].is_u64();
            Ok(is_known.then_some(()))
        })
        .await?;
        let ids: Vec<String> = (1..=6).map(|n| format!("PASSED{number}/{n}")).collect();
        let mut ledger = Ledger::default();
        ledger.expect(ids.clone());
        stack
            .erp
            .publish(&(1..=6).map(job).collect::<Vec<_>>())
            .await?;
        let status = victim.ended(SOON).await?;
        let at = point.name();
        ensure!(
            status.signal() == Some(Signal::ABORT.as_raw()),
            "{at}: ended with {status}"
        );
        ledger.collect(&stack.broker.url(), ids.len(), SOON).await?;
        let survivor = stack.worker()?;
        eventually(SOON, "the survivor to be idle", async || {
            let idle = survivor.metric("irn_worker_in_flight", "").await? == 0.0;
            Ok(idle.then_some(()))
        })
        .await?;
        stack.erp.until_no_job_waits(&RUNGS, SOON).await?;
        ledger.collect_rest(&stack.erp).await?;
        ledger.ensure_each_answered()?;
        for entry in ledger.entries() {
            ensure!(entry.status() == "signed", "{at}: {}", entry.body);
        }
        let stats = stack.sandbox.stats().await?;
        for (name, document) in &stats.documents {
            ensure!(
                document.registered && document.duplicates == 0 && document.blind == 0,
                "{at}: {name}: {document:?}"
            );
        }
        assert_eq!(
            (stats.documents.len(), stack.sandbox.calls().await?.logins),
            (7, 1)
        );
    }
    Ok(())
}

macro_rules! stories {
    ($($test:ident: $story:ident,)+) => {
        $(
            #[tokio::test]
            #[ignore = "needs RabbitMQ: scripts/test"]
            async fn $test() -> Result<()> {
                $story.tell().await
            }
        )+
    };
}

stories! {
    job_is_signed_once_wherever_its_worker_dies: REGISTERED_AT_ONCE,
    lost_answer_is_found_again_wherever_the_worker_dies: REGISTERED_AND_THE_ANSWER_LOST,
    lost_request_is_sent_again_after_a_look_wherever_the_worker_dies: LOST_BEFORE_IT_WAS_REGISTERED,
    refused_document_is_rejected_wherever_the_worker_dies: REFUSED,
    dead_letter_and_result_both_exist_wherever_the_worker_dies: WITHOUT_CREDENTIALS,
    poison_and_result_both_exist_wherever_the_worker_dies: UNREADABLE,
    batch_is_split_completely_wherever_the_worker_dies: BATCH,
    jobs_handed_back_are_not_lost_where_the_stopping_worker_dies: HANDED_BACK,
    registration_is_cancelled_once_wherever_the_worker_dies: CANCELLED,
    lost_cancellation_is_found_again_wherever_the_worker_dies: CANCELLED_AND_THE_ANSWER_LOST,
    eway_bill_is_issued_once_wherever_the_worker_dies: EWAY_BILL_ISSUED,
    lost_eway_bill_is_found_again_wherever_the_worker_dies: EWAY_BILL_ISSUED_AND_THE_ANSWER_LOST,
}
