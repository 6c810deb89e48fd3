//! The composition root: configuration → parts → a running worker → why it stopped.

mod assemble;
mod control;
mod guard;
mod others;
mod process;
mod reload;
mod service_manager;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Listener};
use crate::broker::{BadEndpoint, Endpoint, Publisher, Topology};
use crate::config::Config;
use crate::config::credentials::Credentials;
use crate::irp::IrpConfigFault;
use crate::ops::check::Finding;
use crate::ops::replay;
use crate::preflight::PreflightFault;
use crate::signature::KeyFault;
use crate::telemetry::credentials::Reloads;
use crate::telemetry::{self, Readiness, Traces, TracesFault};
use crate::worker::{self, Stopped, Worker};
use assemble::{Given, assemble};
pub use process::{forbid_core_files, use_sched_batch};
use reload::Reload;

/// How often the worker drops what has become of no use.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// How often samples are folded: a few thousand jobs' worth at most are waiting.
const UPKEEP: Duration = Duration::from_secs(1);

/// Why the worker could not start. All of them are faults of the configuration or the machine.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The broker's address or TLS files.
    #[error(transparent)]
    Broker(#[from] BadEndpoint),
    /// The portal's settings.
    #[error(transparent)]
    Irp(#[from] IrpConfigFault),
    /// The rules of pre-flight.
    #[error(transparent)]
    Preflight(#[from] PreflightFault),
    /// Signing keys.
    #[error("{}", .0.iter().map(|fault| format!("{fault}; {}", fault.remedy)).collect::<Vec<_>>().join("\n"))]
    Keys(Vec<KeyFault>),
    /// An empty ladder.
    #[error("retry.delays has no rung: give at least one delay")]
    NoRungs,
    /// The admin address is taken or not ours.
    #[error(
        "cannot listen on admin.listen = {address}: {error}; choose another address, or port 0 for any free one"
    )]
    Admin {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// The system's reason.
        error: std::io::Error,
    },
    /// Where spans go.
    #[error(transparent)]
    Traces(#[from] TracesFault),
    /// The broker would lose messages.
    #[error(
        "{}\nnot started, because messages would be lost, or nobody can see whether they would: put the above right, or start with --allow-unsafe-broker",
        .0.iter().map(|finding| guard::Told(finding).to_string()).collect::<Vec<_>>().join("\n")
    )]
    UnsafeBroker(Vec<Finding>),
    /// The process cannot be prepared.
    #[error("cannot prepare the process: {0}")]
    Process(String),
}

impl StartError {
    /// Whether another start may succeed with the same configuration: an address that a worker which is still draining has
    /// will be free, one that the machine does not have yet may come, and what the system refused it may grant.
    pub fn may_heal(&self) -> bool {
        match self {
            Self::Process(_) => true,
            Self::Admin { error, .. } => matches!(
                error.kind(),
                std::io::ErrorKind::AddrInUse | std::io::ErrorKind::AddrNotAvailable
            ),
            Self::Broker(_)
            | Self::Irp(_)
            | Self::Preflight(_)
            | Self::Keys(_)
            | Self::NoRungs
            | Self::Traces(_)
            | Self::UnsafeBroker(_) => false,
        }
    }
}

/// Runs the worker until SIGTERM or SIGINT, then drains. `allow_unsafe_broker`: also on a broker that would lose messages.
pub async fn run(
    config: Config,
    credentials: Credentials,
    allow_unsafe_broker: bool,
) -> Result<Stopped, StartError> {
    let metrics =
        telemetry::init_metrics().map_err(|error| StartError::Process(error.to_string()))?;
    let signals = Signals::install().map_err(|error| StartError::Process(error.to_string()))?;
    let started_at = Timestamp::now();
    let config = Arc::new(config);
    let replica = replica_name();
    let accounts = credentials.accounts.len();
    let endpoint = Endpoint::try_new(&config.broker, &replica)?;
    let topology = Topology::of(&config.replies, &config.retry, &config.dead_letter);
    let background = TaskTracker::new();
    let publisher = Publisher::default();
    let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
    let traces = Traces::start(&config.telemetry, &replica)?;
    let given = Given {
        replica: &replica,
        publisher: publisher.clone(),
        traces: traces.clone(),
        stop: stop.clone(),
        background: &background,
    };
    let assembled = assemble(&config, credentials, given)?;
    let listener = bind(config.admin.listen).await?;
    telemetry::started(&replica, &listener.address, &endpoint.address(), accounts);

    let worker = Arc::clone(&assembled.worker);
    let limits = Arc::clone(&assembled.lanes.limits);
    let readiness = Readiness::default();
    let reloads = Reloads::default();
    let asked = Arc::new(Notify::new());
    background.spawn(signals.heed(stop.clone(), Arc::clone(&asked)));
    background.spawn(housekeeping(Arc::clone(&worker), ended.clone()));
    background.spawn(upkeep(metrics.clone(), Arc::clone(&worker), ended.clone()));
    background.spawn(worker::watch(Arc::clone(&worker), ended.clone()));
    background.spawn(worker::watch_backlog(Arc::clone(&worker), ended.clone()));
    background.spawn(worker::watch_letters(Arc::clone(&worker), ended.clone()));
    let admin = Admin {
        replica: replica.as_str().into(),
        started_at,
        readiness: readiness.clone(),
        metrics,
        lanes: assembled.lanes,
        work: assembled.work,
        portal: assembled.portal,
        failover: assembled.failover,
        routes: assembled.routes,
        reloads: reloads.clone(),
    };
    background.spawn(serve(listener, admin, ended.clone()));
    let renewals = config.credentials.replay_dead_letters.then(|| {
        let (renewals, renewed) = mpsc::unbounded_channel();
        let doubted = assembled.doubted;
        let grace = config.irp.request_timeout;
        let publisher = publisher.clone();
        let replaying = replay::run(endpoint.clone(), publisher, doubted, grace, renewed);
        background.spawn(ended.clone().run_until_cancelled_owned(replaying));
        renewals
    });
    let reload = Reload::new(Arc::clone(&worker), reloads, asked, renewals);
    background.spawn(reload.run(ended.clone()));
    background.spawn(service_manager::tell(readiness.changes(), ended.clone()));
    let heeding = control::heed(
        endpoint.clone(),
        topology.clone(),
        publisher.clone(),
        Arc::clone(&worker),
        limits,
    );
    background.spawn(ended.clone().run_until_cancelled_owned(heeding));

    // A task of the runtime: what the loop hands over to other tasks then stays on the thread where it is.
    let (tasks, told, over) = (background.clone(), stop.clone(), ended.clone());
    let consuming = background.spawn(async move {
        let passing = guard::pass(
            &config,
            &endpoint,
            &topology,
            &readiness,
            allow_unsafe_broker,
        );
        // Told to stop before it began, it has nothing to publish, and no use for a connection.
        if let Some(passed) = told.run_until_cancelled(passing).await {
            passed?;
            let (to, of) = (endpoint.clone(), topology.clone());
            let declare = config.topology.declare;
            tasks.spawn(async move { publisher.run(&to, &of, declare, &over).await });
        }
        Ok(worker::run(worker, &endpoint, &topology, &readiness).await)
    });
    let stopped: Result<_, StartError> = match consuming.await {
        Ok(stopped) => stopped,
        Err(died) => std::panic::resume_unwind(died.into_panic()),
    };
    stop.cancel();
    end(&background, &ended).await;
    traces.end().await;
    let stopped = stopped?;
    telemetry::stopped(match stopped {
        Stopped::Drained => 0,
        Stopped::GraceOver { abandoned } => abandoned,
    });
    Ok(stopped)
}

async fn bind(address: std::net::SocketAddr) -> Result<Listener, StartError> {
    let listener = Listener::bind(address)
        .await
        .map_err(|error| StartError::Admin { address, error })?;
    // Whoever chose port 0 reads it here, whatever the log's level and format.
    println!("admin endpoint on http://{}", listener.address);
    Ok(listener)
}

/// Ends what runs beside the worker. Whatever still lingers (a login under way) may not keep the process past its grace.
async fn end(background: &TaskTracker, ended: &CancellationToken) {
    ended.cancel();
    background.close();
    drop(tokio::time::timeout(Duration::from_secs(1), background.wait()).await);
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Asks for a stop at the first signal to do so; more of them change nothing, the drain has its own end. SIGHUP
    /// asks for the credentials to be read again.
    async fn heed(mut self, stop: CancellationToken, reload: Arc<Notify>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => telemetry::stop_asked("SIGTERM"),
                _ = self.interrupt.recv() => telemetry::stop_asked("SIGINT"),
                _ = self.hang_up.recv() => {
                    reload.notify_one();
                    continue;
                }
                () = stop.cancelled() => {}
            }
            stop.cancel();
            return;
        }
    }
}

async fn housekeeping(worker: Arc<Worker>, ended: CancellationToken) {
    while ended
        .run_until_cancelled(tokio::time::sleep(HOUSEKEEPING))
        .await
        .is_some()
    {
        worker.tidy();
    }
}

/// Folds the samples of histograms into their buckets: where nobody fetches the metrics they would pile up for ever.
async fn upkeep(metrics: PrometheusHandle, worker: Arc<Worker>, ended: CancellationToken) {
    while ended
        .run_until_cancelled(tokio::time::sleep(UPKEEP))
        .await
        .is_some()
    {
        metrics.run_upkeep();
        worker.tell_of_unknowns();
    }
}

async fn serve(listener: Listener, admin: Admin, ended: CancellationToken) {
    if let Err(error) = listener.serve(admin, ended).await {
        telemetry::admin_failed(&error);
    }
}

/// Names this process among the replicas: host and process id.
fn replica_name() -> String {
    let host = rustix::system::uname();
    format!(
        "{}-{}",
        host.nodename().to_string_lossy(),
        std::process::id()
    )
}
