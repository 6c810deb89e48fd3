//! The composition root: configuration → parts → a running worker → why it stopped.

mod control;
mod reload;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, LanesView, Listener, PortalView};
use crate::broker::{BadEndpoint, Endpoint, Publisher, Topology};
use crate::config::credentials::Credentials;
use crate::config::{Config, IrpConfig};
use crate::irp::{Irp, IrpConfigFault};
use crate::limits::{Breakers, Limits, Slots};
use crate::ops::replay;
use crate::preflight::{Preflight, PreflightFault};
use crate::retry::Ladder;
use crate::sessions::Sessions;
use crate::signature::{KeyFault, Keyring};
use crate::telemetry::credentials::Reloads;
use crate::telemetry::{self, Readiness};
use crate::worker::{self, Parts, Portal, Portals, Stopped, Worker};
use reload::Reload;

/// How often the worker drops what has become of no use.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

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
    /// The process cannot be prepared.
    #[error("cannot prepare the process: {0}")]
    Process(String),
}

/// Runs the worker until SIGTERM or SIGINT, then drains.
pub async fn run(config: Config, credentials: Credentials) -> Result<Stopped, StartError> {
    let metrics =
        telemetry::init_metrics().map_err(|error| StartError::Process(error.to_string()))?;
    let signals = Signals::install().map_err(|error| StartError::Process(error.to_string()))?;
    let config = Arc::new(config);
    let replica = replica_name();
    let endpoint = Endpoint::try_new(&config.broker, &replica)?;
    let topology = Topology::of(&config.replies, &config.retry, &config.dead_letter);
    let irp = Arc::new(Irp::try_new(&config.irp)?);
    let keyring = Keyring::load(&config.irp.signing_keys).map_err(StartError::Keys)?;
    let preflight = Arc::new(Preflight::new(&config.validate, config.irp.environment)?);
    let ladder = Ladder::try_new(config.retry.delays.clone()).ok_or(StartError::NoRungs)?;
    let address = config.admin.listen;
    let listener = Listener::bind(address)
        .await
        .map_err(|error| StartError::Admin { address, error })?;
    // Whoever chose port 0 reads it here, whatever the log's level and format.
    println!("admin endpoint on http://{}", listener.address);
    telemetry::started(
        &replica,
        &listener.address,
        &endpoint.address(),
        credentials.accounts.len(),
    );

    let limits = Arc::new(Limits::new(&config.limits));
    let breakers = Arc::new(Breakers::new(config.irp.concurrency));
    // A portal that needs half the time it is given is about to need all of it.
    let slots = Slots::new(config.irp.concurrency, config.irp.request_timeout / 2);
    let background = TaskTracker::new();
    let sessions = Arc::new(Sessions::new(
        Arc::clone(&irp),
        Arc::clone(&limits),
        Arc::clone(&breakers),
        background.clone(),
    ));
    let failover = failover(&config.irp, &limits, &background)?;
    let readiness = Readiness::default();
    let publisher = Publisher::default();
    let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
    let (asked, reloads) = (Arc::new(Notify::new()), Reloads::default());
    background.spawn(signals.heed(stop.clone(), Arc::clone(&asked)));
    background.spawn(publish(
        publisher.clone(),
        endpoint.clone(),
        topology.clone(),
        config.topology.declare,
        ended.clone(),
    ));
    let replay_publisher = publisher.clone();
    let replays = config.credentials.replay_dead_letters;
    let credentials = Arc::new(ArcSwap::from_pointee(credentials));
    let name = replica.as_str().into();
    let view = |breakers: &Arc<Breakers>| PortalView {
        breakers: Arc::clone(breakers),
        slots: Arc::clone(&slots),
    };
    let portal = view(&breakers);
    let failover_view = failover.as_ref().map(|failover| view(&failover.breakers));
    let primary = Portal::new(&config.irp.base_url, irp, Arc::clone(&sessions), breakers);
    let parts = Parts {
        config,
        credentials: Arc::clone(&credentials),
        portals: Portals::new(primary, failover),
        keyring,
        preflight,
        limits: Arc::clone(&limits),
        slots,
        ladder,
        publisher,
        replica,
        stop: stop.clone(),
    };
    let worker = Arc::new(Worker::new(parts));
    background.spawn(housekeeping(Arc::clone(&worker), ended.clone()));
    background.spawn(worker::watch(Arc::clone(&worker), ended.clone()));
    let worker_held = Arc::clone(&worker);
    let lanes = LanesView {
        sessions,
        limits,
        credentials,
        held: Arc::new(move |gstin| worker_held.held(gstin)),
    };
    let admin = Admin {
        replica: name,
        readiness: readiness.clone(),
        metrics,
        lanes,
        portal,
        failover: failover_view,
        reloads: reloads.clone(),
    };
    background.spawn(serve(listener, admin, ended.clone()));
    let renewals = replays.then(|| {
        let (renewals, renewed) = mpsc::unbounded_channel();
        let replaying = replay::run(endpoint.clone(), replay_publisher, renewed);
        background.spawn(ended.clone().run_until_cancelled_owned(replaying));
        renewals
    });
    let reload = Reload::new(Arc::clone(&worker), reloads, asked, renewals);
    background.spawn(reload.run(ended.clone()));
    let heeding = control::heed(endpoint.clone(), Arc::clone(&worker));
    background.spawn(ended.clone().run_until_cancelled_owned(heeding));

    let stopped = worker::run(worker, &endpoint, &topology, &readiness).await;
    stop.cancel();
    ended.cancel();
    background.close();
    // Whatever still lingers (a login under way) may not keep the process past its grace.
    drop(tokio::time::timeout(Duration::from_secs(1), background.wait()).await);
    telemetry::stopped(match stopped {
        Stopped::Drained => 0,
        Stopped::GraceOver { abandoned } => abandoned,
    });
    Ok(stopped)
}

/// The portal to turn to while the first one is down, if one is configured. Its calls count against the same limits.
fn failover(
    config: &IrpConfig,
    limits: &Arc<Limits>,
    background: &TaskTracker,
) -> Result<Option<Portal>, IrpConfigFault> {
    let Some(config) = config.for_failover() else {
        return Ok(None);
    };
    let irp = Arc::new(Irp::try_new(&config)?);
    let breakers = Arc::new(Breakers::of_failover(config.concurrency));
    let sessions = Arc::new(Sessions::new(
        Arc::clone(&irp),
        Arc::clone(limits),
        Arc::clone(&breakers),
        background.clone(),
    ));
    Ok(Some(Portal::new(&config.base_url, irp, sessions, breakers)))
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

async fn publish(
    publisher: Publisher,
    endpoint: Endpoint,
    topology: Topology,
    declare: bool,
    ended: CancellationToken,
) {
    publisher.run(&endpoint, &topology, declare, &ended).await;
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

/// Keeps documents and keys out of core files, whatever the system's default.
pub fn forbid_core_files() -> Result<(), StartError> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)
        .map_err(|error| StartError::Process(format!("cannot forbid core files: {error}")))
}
