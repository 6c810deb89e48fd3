//! One run: parts, events in a random order spread over the work, and the account.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::brokers::Brokers;
use crate::follow_ups::{FollowUps, may_find_itself_cancelled, status_of};
use crate::options::Options;
use crate::support::amqp::Amqp;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::invoice::irn;
use crate::support::ledger::{Ledger, invoices};
use crate::support::proxy::TcpProxy;
use crate::support::sandbox::Sandbox;
use crate::support::worker::{WorkerConfig, WorkerProcess};

const SOON: Duration = Duration::from_secs(90);

/// Without any progress for so long, a job is not coming any more.
const STUCK_AFTER: Duration = Duration::from_secs(120);

const RUNGS: [&str; 3] = ["250ms", "1s", "3s"];

/// Jobs published before their confirms are awaited.
const CHUNK: usize = 2_000;

/// The same where each of them is followed by another.
const FEW: usize = 40;

/// Calls that a worker has under way at most: what one event can leave in two places.
const CONCURRENCY: usize = 8;

/// The part of answers that are lost after the portal has acted: so many that a worker which sent again without looking
/// would be found out by the bounds of [`Run::account`].
const LOST: f64 = 0.25;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// SIGKILL to a worker.
    Kill,
    /// The broker, or a node of it, goes and comes back.
    Restart,
    /// A worker does not reach the broker.
    Partition,
}

/// A worker and its way to the broker.
struct Replica {
    worker: WorkerProcess,
    proxy: TcpProxy,
}

struct Run {
    options: Options,
    brokers: Brokers,
    sandbox: Sandbox,
    replicas: Vec<Replica>,
    /// The ERP's own way to the broker.
    front: TcpProxy,
    ledger: Ledger,
    follow_ups: FollowUps,
    rng: StdRng,
    /// How often the broker went, and how often a worker was cut off.
    restarted: usize,
    partitioned: usize,
}

/// Each run has brokers, workers and a portal of its own: more of them at once are more than a small machine serves in time.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Publishes, disturbs, accounts. Prints one line of figures, whatever came of it.
pub(crate) async fn run(options: Options) -> Result<()> {
    let _turn = TURNS.acquire().await?;
    let mut run = Run::new(options).await?;
    let started = Instant::now();
    let ended = run.work().await;
    let taken = started.elapsed();
    let accounted = match ended {
        Ok(()) => run.account().await,
        Err(error) => Err(error),
    };
    println!("\nchaos: {}", run.figures(taken).await?);
    accounted
}

impl Run {
    async fn new(options: Options) -> Result<Self> {
        let brokers = Brokers::start(options.cluster).await?;
        let sandbox = Sandbox::start(&Credentials::of(&GSTINS).over(options.way)).await?;
        let front = TcpProxy::to_any(&brokers.addresses()).await?;
        let mut run = Self {
            options,
            brokers,
            sandbox,
            replicas: Vec::new(),
            front,
            ledger: Ledger::default(),
            follow_ups: FollowUps::default(),
            rng: StdRng::seed_from_u64(options.seed),
            restarted: 0,
            partitioned: 0,
        };
        for number in 0..options.replicas {
            let mut addresses = run.brokers.addresses();
            let first = number % addresses.len();
            addresses.rotate_left(first);
            let proxy = TcpProxy::to_any(&addresses).await?;
            let config = run.config(&proxy)?;
            let worker = config.start(&format!("worker {}", number + 1)).await?;
            run.replicas.push(Replica { worker, proxy });
        }
        run.brokers.ensure_replicated().await?;
        Ok(run)
    }

    fn config(&self, proxy: &TcpProxy) -> Result<WorkerConfig> {
        let vhost = self.brokers.vhost();
        let url = format!("{}?heartbeat=2", vhost.url_through(proxy.address()));
        WorkerConfig::between(&url, &self.sandbox)?
            .over(self.options.way, &self.sandbox)?
            .set("irp.connect_timeout", "1s")?
            .set("irp.request_timeout", "2s")?
            .set("irp.settle_time", "2500ms")?
            .set("irp.concurrency", CONCURRENCY as i64)?
            .set("retry.max_attempts", 100)?
            .set("retry.delays", RUNGS.to_vec())
    }

    fn url(&self) -> String {
        self.brokers.vhost().url_through(self.front.address())
    }

    async fn work(&mut self) -> Result<()> {
        // Answers lost after and before the portal has acted, and requests that take long enough to be cut short.
        let faults = json!([
            {"endpoint": "generate", "kind": "delay", "ms": 20, "when": "after"},
            {"endpoint": "generate", "kind": "drop", "when": "after", "probability": LOST},
            {"endpoint": "generate", "kind": "drop", "when": "before", "probability": 0.02},
            {"endpoint": "cancel", "kind": "drop", "when": "after", "probability": LOST},
            {"endpoint": "cancel", "kind": "drop", "when": "before", "probability": 0.03},
            {"endpoint": "ewb", "kind": "drop", "when": "after", "probability": LOST},
            {"endpoint": "ewb", "kind": "html", "when": "before", "probability": 0.03},
            {"endpoint": "core", "kind": "status", "status": 503, "probability": 0.01},
        ]);
        self.sandbox.faults(self.options.seed, faults).await?;
        self.publish().await?;
        let events = self.events();
        let steps = events.len() + 1;
        for (number, event) in events.into_iter().enumerate() {
            // Over the first nine tenths of the work, so that each of them finds some.
            let answered = self.options.all_jobs() * 9 / 10 * (number + 1) / steps;
            self.collect(answered).await?;
            ensure!(
                self.ledger.answered() < self.options.all_jobs(),
                "event {} came too late",
                number + 1
            );
            self.happen(event).await?;
        }
        self.collect(self.options.all_jobs()).await
    }

    async fn publish(&mut self) -> Result<()> {
        let erp = Amqp::connect(&self.url()).await?;
        for jobs in invoices("CHAOS", self.options.jobs).chunks(CHUNK) {
            let (ids, jobs): (Vec<_>, Vec<_>) = jobs.iter().cloned().unzip();
            self.ledger.expect(ids);
            erp.publish(&jobs).await?;
        }
        Ok(())
    }

    /// What happens, in an order of the seed's.
    fn events(&mut self) -> Vec<Event> {
        let Options {
            kills,
            restarts,
            partitions,
            ..
        } = self.options;
        let mut events = vec![Event::Kill; kills];
        events.extend(vec![Event::Restart; restarts]);
        events.extend(vec![Event::Partition; partitions]);
        events.shuffle(&mut self.rng);
        events
    }

    async fn happen(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Kill => self.kill_a_worker().await,
            Event::Restart => self.restart_the_broker().await,
            Event::Partition => self.cut_a_worker_off().await,
        }
    }

    async fn kill_a_worker(&mut self) -> Result<()> {
        let victim = self.rng.random_range(0..self.replicas.len());
        let Replica { worker, proxy } = self.replicas.swap_remove(victim);
        let config = worker.kill().await?;
        let worker = config.start("a worker in place of a killed one").await?;
        self.replicas.push(Replica { worker, proxy });
        Ok(())
    }

    async fn restart_the_broker(&mut self) -> Result<()> {
        let number = self.restarted;
        self.restarted += 1;
        self.brokers.take_away(number).await?;
        if self.brokers.survives() {
            // Work goes on without that node.
            let more = (self.ledger.answered() + 20).min(self.options.all_jobs());
            self.collect(more).await?;
        } else {
            for replica in &mut self.replicas {
                replica.worker.until_not_ready(SOON).await?;
            }
        }
        self.brokers.bring_back(number).await
    }

    async fn cut_a_worker_off(&mut self) -> Result<()> {
        self.partitioned += 1;
        let victim = self.rng.random_range(0..self.replicas.len());
        let replica = &mut self.replicas[victim];
        if self.partitioned.is_multiple_of(2) {
            replica.proxy.cut();
        } else {
            replica.proxy.hold();
        }
        replica.worker.until_not_ready(SOON).await?;
        replica.proxy.restore();
        replica.worker.until_ready().await
    }

    /// Collects results until so many jobs are answered; fails when nothing comes any more.
    async fn collect(&mut self, answered: usize) -> Result<()> {
        let url = self.url();
        while self.ledger.answered() < answered {
            let before = self.ledger.answered();
            let at_once = if self.options.mixed { FEW } else { CHUNK };
            // What follows on the last of them is not asked for before they are in.
            let next = answered.min(before + at_once).min(self.ledger.expected());
            self.ledger.collect(&url, next, STUCK_AFTER).await?;
            if self.options.mixed {
                self.follow_ups.publish(&url, &mut self.ledger).await?;
            }
        }
        Ok(())
    }

    /// The second phase: what was published is answered, once or recognisably again, and nothing is left anywhere.
    async fn account(&mut self) -> Result<()> {
        let erp = Amqp::connect(&self.url()).await?;
        let replicas = &mut self.replicas;
        eventually(SOON, "the workers to be idle", async || {
            erp.until_no_job_waits(&RUNGS, SOON).await?;
            let mut busy = 0.0;
            for replica in replicas.iter_mut() {
                busy += replica.worker.metric("irn_worker_in_flight", "").await?;
            }
            Ok((busy == 0.0 && erp.jobs_waiting(&RUNGS).await? == 0).then_some(()))
        })
        .await?;
        for replica in &mut self.replicas {
            let status = replica.worker.terminate(SOON).await?;
            ensure!(status.success(), "{status}");
        }
        self.ledger.collect_rest(&erp).await?;
        let mixed = self.options.mixed;
        self.ledger.ensure_each_ended(status_of, |job, again| {
            mixed && may_find_itself_cancelled(job) && again.status() == "conflict"
        })?;
        self.ensure_each_is_the_one_published()?;
        for queue in ["irn.dead", "irn.poison"] {
            let depth = erp.depth(queue).await?;
            ensure!(depth == 0, "{queue} holds {depth}");
        }
        let stats = self.sandbox.stats().await?;
        ensure!(
            stats.registrations == self.options.jobs as u64,
            "{} registrations",
            stats.registrations
        );
        // Twins, which an event may leave of the jobs it catches, may look at the same moment.
        let Options {
            kills,
            restarts,
            partitions,
            replicas,
            ..
        } = self.options;
        let caught = (kills + partitions + restarts * replicas) * CONCURRENCY;
        let of_each = self.options.jobs / 3;
        for (what, asked, blind, most) in [
            ("submits", self.options.jobs, stats.blind_generates, caught),
            // So few of those are caught that a bound above their number would say nothing.
            ("cancellations", of_each, stats.blind_cancels, of_each / 10),
            ("e-way bills", of_each, stats.blind_eway_bills, of_each / 10),
        ] {
            ensure!(blind <= most as u64, "{blind} blind {what}");
            let lost = LOST * asked as f64;
            ensure!(
                (most as f64) < lost,
                "{lost} lost {what} and a bound of {most} prove nothing"
            );
        }
        Ok(())
    }

    /// The portal's rule gives each document its IRN: the results are the same whichever way it was registered.
    fn ensure_each_is_the_one_published(&self) -> Result<()> {
        let firsts = self.ledger.firsts();
        for entry in firsts.filter(|entry| entry.body["operation"] == "generate") {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let (gstin, number) = (&entry.body["gstin"], &entry.body["document"]["number"]);
            let expected = irn(&text(gstin), &text(number));
            ensure!(text(&entry.body["irn"]) == expected, "{}", entry.body);
        }
        Ok(())
    }

    async fn figures(&self, taken: Duration) -> Result<String> {
        let Options {
            jobs,
            kills,
            restarts,
            partitions,
            replicas,
            cluster,
            mixed,
            way,
            seed,
        } = self.options;
        let answered = self.ledger.answered();
        let status = |name: &str| {
            let firsts = self.ledger.firsts();
            firsts.filter(|entry| entry.status() == name).count()
        };
        let recovered = self.ledger.firsts();
        let recovered = recovered.filter(|entry| entry.body["recovered"] == true);
        // The ERP of this test is cut off from the broker as well, and is then handed results for the second time.
        let repeated = self.ledger.received() - answered;
        let again = self.ledger.repeated_by_the_broker();
        let stats = self.sandbox.stats().await?;
        let seconds = taken.as_secs_f64();
        let others = if mixed {
            format!(
                "; cancelled {}, found {}, e-way bills {}, of these calls blind {} and {}",
                status("cancelled"),
                status("found"),
                status("ewb_issued"),
                stats.blind_cancels,
                stats.blind_eway_bills
            )
        } else {
            String::new()
        };
        Ok(format!(
            "jobs {jobs}, signed {}, recovered {}, published twice {}, handed out twice by the broker {}, unaccounted {}, contradictory {}; kills {kills}, \
             {} {restarts}, partitions {partitions}, replicas {replicas}, over {way}, seed {seed}; submits {}, look-ups {}, of \
             registered documents {}, blind {}; {seconds:.0} s, {:.0} jobs/s",
            status("signed"),
            recovered.count(),
            repeated - again,
            again,
            self.options.all_jobs() - answered,
            self.ledger.contradictory(),
            if cluster {
                "nodes lost"
            } else {
                "broker restarts"
            },
            stats.generates,
            stats.lookups,
            stats.duplicate_generates,
            stats.blind_generates,
            self.options.all_jobs() as f64 / seconds
        ) + &others)
    }
}
