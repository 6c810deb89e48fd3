//! The real parts of one run, and what each operation does to them.

use std::collections::VecDeque;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::model::Model;
use crate::plan::{MOST_WORKERS, Operation, Weather};
use crate::support::amqp::Amqp;
use crate::support::broker::Broker;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::ledger::Ledger;
use crate::support::proxy::TcpProxy;
use crate::support::sandbox::{Sandbox, Stats};
use crate::support::worker::{WorkerConfig, WorkerProcess};

const SOON: Duration = Duration::from_secs(30);

/// Longer than every wait of the configuration below, on a machine that is busy with other runs.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

const DRAINED_WITHIN: Duration = Duration::from_secs(25);

/// How long an operation that lets the workers work lasts at most.
const A_MOMENT: Duration = Duration::from_millis(400);

const RUNGS: [&str; 3] = ["100ms", "400ms", "1500ms"];

/// Calls of one GSTIN in a second, in every worker.
const RATE: u64 = 40;

/// What a run is made of, in the order in which it has to go.
pub(crate) struct World {
    workers: VecDeque<WorkerProcess>,
    erp: Amqp,
    proxy: TcpProxy,
    sandbox: Sandbox,
    broker: Broker,
    ledger: Ledger,
    model: Model,
    rng: StdRng,
    /// What may have left jobs in two places: deaths of workers and cuts of connections.
    disturbances: u64,
    sessions_ended: bool,
    started: usize,
}

impl World {
    pub(crate) async fn new(seed: u64) -> Result<Self> {
        let broker = Broker::new().await?;
        let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
        let erp = Amqp::connect(&broker.url()).await?;
        let proxy = TcpProxy::to(broker.address()).await?;
        let world = Self {
            workers: VecDeque::new(),
            erp,
            proxy,
            sandbox,
            broker,
            ledger: Ledger::default(),
            model: Model::default(),
            rng: StdRng::seed_from_u64(seed),
            disturbances: 0,
            sessions_ended: false,
            started: 0,
        };
        let applied = world.config(&world.broker.url())?;
        let applied = applied.output("topology", &["apply"]).await?;
        ensure!(applied.status.success(), "{applied:?}");
        Ok(world)
    }

    fn config(&self, url: &str) -> Result<WorkerConfig> {
        WorkerConfig::between(url, &self.sandbox)?
            .set("irp.connect_timeout", "1s")?
            .set("irp.request_timeout", "2s")?
            .set("irp.settle_time", "1200ms")?
            .set("irp.concurrency", 8)?
            .set("retry.immediate.max_elapsed", "300ms")?
            .set("retry.max_attempts", 100)?
            .set("retry.delays", RUNGS.to_vec())?
            .set("limits.per_gstin", format!("{RATE}/s"))
    }

    /// Does one thing, then looks at what must hold at any moment.
    pub(crate) async fn perform(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Publish(wares, count) => {
                let (model, ledger) = (&mut self.model, &mut self.ledger);
                let jobs: Vec<_> = (0..*count).map(|_| model.next(*wares, ledger)).collect();
                self.erp.publish(&jobs).await?;
            }
            Operation::Portal(weather) => self.change_weather(*weather).await?,
            Operation::RevokeSessions => {
                self.sessions_ended = true;
                self.sandbox.revoke_tokens().await?;
            }
            Operation::MoveClock(hours) => {
                self.sessions_ended = true;
                self.sandbox.advance(&format!("{hours}h")).await?;
            }
            Operation::StartWorker(death) => {
                let death = death.map(|(point, visit)| format!("{}:{visit}", point.name()));
                self.start_worker(death.as_deref()).await?;
            }
            Operation::KillWorker => {
                if let Some(worker) = self.workers.pop_front() {
                    self.disturbances += 1;
                    drop(worker.kill().await?);
                }
            }
            Operation::DrainWorker => self.drain_worker().await?,
            Operation::DropConnections => {
                self.disturbances += 1;
                self.proxy.drop_connections();
            }
            Operation::CutOff => {
                self.disturbances += 1;
                self.proxy.cut();
            }
            Operation::BackAgain => self.proxy.restore(),
            Operation::Wait(answers) => self.wait(*answers).await?,
        }
        self.count_the_dead()?;
        self.take_results().await?;
        self.ensure_holds_at_any_moment().await
    }

    async fn start_worker(&mut self, death: Option<&str>) -> Result<()> {
        self.count_the_dead()?;
        if self.workers.len() == MOST_WORKERS {
            return Ok(());
        }
        self.started += 1;
        let mut config = self.config(&self.broker.url_through(self.proxy.address()))?;
        if let Some(death) = death {
            config = config.env("IRN_WORKER_CRASH_AT", death);
        }
        self.workers
            .push_back(config.spawn(&format!("worker {}", self.started))?);
        Ok(())
    }

    async fn drain_worker(&mut self) -> Result<()> {
        let Some(mut worker) = self.workers.pop_front() else {
            return Ok(());
        };
        // One that has just died by itself cannot be told to stop.
        if worker.try_ended()?.is_some() {
            self.disturbances += 1;
            return Ok(());
        }
        let status = worker.terminate(DRAINED_WITHIN).await?;
        // Cut off from its broker it cannot give anything back; told to die, it may do that meanwhile.
        self.disturbances += u64::from(!status.success());
        Ok(())
    }

    /// Forgets workers that have died at their point.
    fn count_the_dead(&mut self) -> Result<()> {
        let mut alive = VecDeque::new();
        for mut worker in self.workers.drain(..) {
            match worker.try_ended()? {
                Some(status) => {
                    ensure!(died_as_told(status), "a worker ended with {status}");
                    self.disturbances += 1;
                }
                None => alive.push_back(worker),
            }
        }
        self.workers = alive;
        Ok(())
    }

    async fn change_weather(&mut self, weather: Weather) -> Result<()> {
        self.sessions_ended |= matches!(weather, Weather::ForgetsSessions);
        let seed = self.rng.random();
        self.sandbox.faults(seed, rules(weather)).await
    }

    async fn wait(&mut self, answers: usize) -> Result<()> {
        let enough = self.ledger.answered() + answers;
        let end = Instant::now() + A_MOMENT;
        let mut looks = interval(Duration::from_millis(50));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < end && self.ledger.answered() < enough {
            looks.tick().await;
            self.take_results().await?;
        }
        Ok(())
    }

    async fn take_results(&mut self) -> Result<()> {
        self.ledger.collect_rest(&self.erp).await
    }

    async fn ensure_holds_at_any_moment(&mut self) -> Result<()> {
        let stats = self.sandbox.stats().await?;
        self.ensure_portal_was_spared(&stats)?;
        if self.workers.is_empty() {
            self.ensure_unanswered_jobs_are_visible().await?;
        }
        Ok(())
    }

    fn ensure_portal_was_spared(&self, stats: &Stats) -> Result<()> {
        let disturbances = self.disturbances + self.workers.len() as u64;
        self.model
            .ensure_nothing_was_sent_blindly(stats, disturbances)?;
        self.model
            .ensure_no_needless_error(stats, disturbances, self.sessions_ended)?;
        // Each worker that was started within the second begins with the burst of a tenth.
        let most = RATE * MOST_WORKERS as u64 * 5 / 4;
        for gstin in GSTINS {
            let highest = stats.of(gstin).max_per_second;
            ensure!(highest <= most, "{gstin}: {highest} calls in a second");
        }
        Ok(())
    }

    /// P2 while nobody works: a job that has no result is in a queue, which a batch is as one message.
    async fn ensure_unanswered_jobs_are_visible(&mut self) -> Result<()> {
        let (erp, ledger) = (&self.erp, &mut self.ledger);
        eventually(SOON, "unanswered jobs to be in queues", async || {
            ledger.collect_rest(erp).await?;
            let waiting = erp.jobs_waiting(&RUNGS).await? as usize;
            let unanswered = ledger.published() - ledger.answered();
            ensure!(3 * waiting >= unanswered, "{waiting} for {unanswered}");
            Ok(Some(()))
        })
        .await
    }

    /// Fair weather and one worker that nobody disturbs: everything comes to its end and is accounted for.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        self.sandbox.clear_faults().await?;
        self.proxy.restore();
        // Those that are told to die might do it at the very end.
        for worker in self.workers.drain(..) {
            self.disturbances += 1;
            drop(worker.kill().await?);
        }
        let mut last = self
            .config(&self.broker.url())?
            .start("the last worker")
            .await?;
        let all = self.ledger.published();
        self.ledger
            .collect(&self.broker.url(), all, SETTLED_WITHIN)
            .await?;
        eventually(SOON, "the last worker to be idle", async || {
            self.erp.until_no_job_waits(&RUNGS, SOON).await?;
            let idle = last.metric("irn_worker_in_flight", "").await? == 0.0;
            Ok((idle && self.erp.jobs_waiting(&RUNGS).await? == 0).then_some(()))
        })
        .await?;
        let status = last.terminate(DRAINED_WITHIN).await?;
        ensure!(status.success(), "the last worker ended with {status}");
        self.take_results().await?;
        self.ensure_accounted_for().await
    }

    async fn ensure_accounted_for(&self) -> Result<()> {
        self.model.ensure_each_ended_well(&self.ledger)?;
        self.ensure_portal_was_spared(&self.sandbox.stats().await?)?;
        let waiting = self.erp.jobs_waiting(&RUNGS).await?;
        ensure!(waiting == 0, "{waiting} jobs are left");
        let dead = self.erp.depth("irn.dead").await?;
        ensure!(dead == 0, "{dead} jobs died");
        let poison = self.erp.depth("irn.poison").await? as usize;
        let unreadable = self.model.unreadable();
        ensure!(
            poison >= unreadable && (unreadable > 0 || poison == 0),
            "{poison} in irn.poison of {unreadable} unreadable"
        );
        Ok(())
    }

    /// One line about what this run saw.
    pub(crate) async fn figures(&self) -> Result<String> {
        let stats = self.sandbox.stats().await?;
        Ok(format!(
            "{} jobs, {} results, {} disturbances, {} submits, {} look-ups, {} by twins that looked at once",
            self.ledger.published(),
            self.ledger.received(),
            self.disturbances,
            stats.generates,
            stats.lookups,
            self.model.unexplained(&stats)
        ))
    }
}

fn died_as_told(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(rustix::process::Signal::ABORT.as_raw())
}

fn rules(weather: Weather) -> Value {
    let garbled = ["status", "html", "empty", "truncated"];
    match weather {
        Weather::Fair => json!([]),
        Weather::LosesAnswers => {
            json!([{"endpoint": "generate", "kind": "drop", "when": "after", "probability": 0.5}])
        }
        Weather::LosesRequests => {
            json!([{"endpoint": "core", "kind": "drop", "when": "before", "probability": 0.3}])
        }
        Weather::Garbles => garbled
            .iter()
            .flat_map(|kind| {
                ["before", "after"].map(|when| {
                    json!({"endpoint": "core", "kind": kind, "when": when, "probability": 0.06})
                })
            })
            .collect(),
        Weather::Slow => json!([{"endpoint": "core", "kind": "delay", "ms": 120, "when": "after"}]),
        Weather::ForgetsSessions => {
            json!([{"endpoint": "core", "kind": "revoke_token", "probability": 0.05}])
        }
        Weather::Scrambles => {
            json!([{"endpoint": "core", "kind": "wrong_key", "probability": 0.1}])
        }
        Weather::Throttles => {
            json!([{"endpoint": "core", "kind": "status", "status": 429, "probability": 0.2}])
        }
        Weather::LoginsFail => {
            json!([{"endpoint": "auth", "kind": "status", "status": 503, "probability": 0.3}])
        }
    }
}
