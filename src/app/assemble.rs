//! Configuration → a worker that has not started, and what those who watch it may look at.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::admin::{LanesView, PortalView, WorkView};
use crate::broker::{Publisher, retry_exchange};
use crate::config::credentials::Credentials;
use crate::config::{Config, IrpConfig};
use crate::control::Paused;
use crate::irp::{Irp, IrpConfigFault};
use crate::limits::{Breakers, Limits, Slots};
use crate::preflight::Preflight;
use crate::retry::Ladder;
use crate::sessions::Sessions;
use crate::signature::Keyring;
use crate::telemetry::{Queues, Recent, Traces};
use crate::worker::{Parts, Portal, Portals, Worker};

/// A worker and the views of it.
pub(super) struct Assembled {
    pub(super) worker: Arc<Worker>,
    pub(super) lanes: LanesView,
    pub(super) work: WorkView,
    pub(super) portal: PortalView,
    pub(super) failover: Option<PortalView>,
    /// The exchange of the rung on which a job in doubt waits.
    pub(super) doubted: String,
}

/// What the worker is given from outside.
pub(super) struct Given<'a> {
    pub(super) replica: &'a str,
    pub(super) publisher: Publisher,
    pub(super) traces: Traces,
    pub(super) stop: CancellationToken,
    /// Where logins in the background run.
    pub(super) background: &'a TaskTracker,
}

/// Reads the files that the configuration names and puts the worker together.
pub(super) fn assemble(
    config: &Arc<Config>,
    credentials: Credentials,
    given: Given<'_>,
) -> Result<Assembled, StartError> {
    let limits = Arc::new(Limits::new(&config.limits));
    let breakers = Breakers::new(config.irp.concurrency);
    let primary = portal(&config.irp, breakers, &limits, given.background)?;
    let failover = match config.irp.for_failover() {
        // Its calls count against the same limits.
        Some(irp) => {
            let breakers = Breakers::of_failover(irp.concurrency);
            Some(portal(&irp, breakers, &limits, given.background)?)
        }
        None => None,
    };
    // A portal that needs half the time it is given is about to need all of it.
    let slots = Slots::new(config.irp.concurrency, config.irp.request_timeout / 2);
    let credentials = Arc::new(ArcSwap::from_pointee(credentials));
    let sessions = Arc::clone(&primary.sessions);
    let view = |portal: &Portal| PortalView {
        breakers: Arc::clone(&portal.breakers),
        slots: Arc::clone(&slots),
    };
    let (portal, failover_view) = (view(&primary), failover.as_ref().map(view));
    let ladder = Ladder::try_new(config.retry.delays.clone()).ok_or(StartError::NoRungs)?;
    let doubted = retry_exchange(ladder.at_least(config.irp.settle_time));
    let (paused, recent, queues) = (Paused::default(), Recent::default(), Queues::default());
    let worker = Arc::new(Worker::new(Parts {
        config: Arc::clone(config),
        credentials: Arc::clone(&credentials),
        portals: Portals::new(primary, failover),
        keyring: Keyring::load(&config.irp.signing_keys).map_err(StartError::Keys)?,
        preflight: Arc::new(Preflight::new(&config.validate, config.irp.environment)?),
        limits: Arc::clone(&limits),
        slots,
        ladder,
        publisher: given.publisher,
        traces: given.traces,
        paused: paused.clone(),
        recent: recent.clone(),
        queues: queues.clone(),
        replica: given.replica.to_owned(),
        stop: given.stop,
    }));
    let held = Arc::clone(&worker);
    let lanes = LanesView {
        sessions,
        limits,
        scaling: worker.scaling(),
        credentials,
        paused,
        held: Arc::new(move |gstin| held.held(gstin)),
    };
    Ok(Assembled {
        worker,
        lanes,
        work: WorkView { recent, queues },
        portal,
        failover: failover_view,
        doubted,
    })
}

fn portal(
    config: &IrpConfig,
    breakers: Breakers,
    limits: &Arc<Limits>,
    background: &TaskTracker,
) -> Result<Portal, IrpConfigFault> {
    let irp = Arc::new(Irp::try_new(config)?);
    let breakers = Arc::new(breakers);
    let sessions = Arc::new(Sessions::new(
        Arc::clone(&irp),
        Arc::clone(limits),
        Arc::clone(&breakers),
        background.clone(),
    ));
    Ok(Portal::new(&config.base_url, irp, sessions, breakers))
}
