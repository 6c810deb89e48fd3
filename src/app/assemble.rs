//! Configuration → a worker that has not started, and what those who watch it may look at.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::admin::{LanesView, PortalView, RouteView, WorkView};
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
use crate::worker::{Parts, Portal, Portals, Route, Routes, Worker};

/// A worker and the views of it.
pub(super) struct Assembled {
    pub(super) worker: Arc<Worker>,
    pub(super) lanes: LanesView,
    pub(super) work: WorkView,
    pub(super) portal: PortalView,
    pub(super) failover: Option<PortalView>,
    pub(super) routes: Vec<RouteView>,
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
    // A portal that needs half the time it is given is about to need all of it.
    let slow = config.irp.request_timeout / 2;
    let slots = Slots::new(config.irp.concurrency, slow);
    let ways = ways(&config.irp, &slots, slow, &limits, given.background)?;
    let (mut views, mut sessions) = (Vec::new(), Vec::new());
    for way in &ways {
        sessions.push(Arc::clone(&way.primary.sessions));
        views.push(RouteView {
            name: way.name.clone(),
            portal: view(&way.primary),
            failover: way.failover.as_ref().map(view),
        });
    }
    let unnamed = views.remove(0);
    let routes = ways.into_iter().map(Way::into_route).collect();
    let routes = Routes::new(routes, &credentials);
    let credentials = Arc::new(ArcSwap::from_pointee(credentials));
    let ladder = Ladder::try_new(config.retry.delays.clone()).ok_or(StartError::NoRungs)?;
    let doubted = retry_exchange(ladder.at_least(config.irp.settle_time));
    let (paused, recent, queues) = (Paused::default(), Recent::default(), Queues::default());
    let worker = Arc::new(Worker::new(Parts {
        config: Arc::clone(config),
        credentials: Arc::clone(&credentials),
        routes,
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
        sessions: sessions.into(),
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
        portal: unnamed.portal,
        failover: unnamed.failover,
        routes: views,
        doubted,
    })
}

fn view(portal: &Portal) -> PortalView {
    PortalView {
        breakers: Arc::clone(&portal.breakers),
        slots: Arc::clone(&portal.slots),
    }
}

/// A route in parts.
struct Way {
    name: Option<Arc<str>>,
    primary: Portal,
    failover: Option<Portal>,
    /// Its share of the places, where it shares them.
    slots: Option<Arc<Slots>>,
}

impl Way {
    fn into_route(self) -> Route {
        let portals = Portals::new(self.primary, self.failover);
        Route::new(self.name, portals, self.slots)
    }
}

/// Every route, the one of `[irp]` itself first.
fn ways(
    irp: &IrpConfig,
    all: &Arc<Slots>,
    slow: Duration,
    limits: &Arc<Limits>,
    background: &TaskTracker,
) -> Result<Vec<Way>, IrpConfigFault> {
    let configs = irp.each_route();
    // All of them: other credentials may take another one tomorrow.
    let cap = share(irp, configs.len());
    let way = |config: &IrpConfig| {
        let route = config.route_name.as_deref();
        let slots = (configs.len() > 1)
            .then(|| Slots::of_route(cap, slow, route.unwrap_or(UNNAMED).into()));
        let portal = |config: &IrpConfig, is_failover| {
            // Its calls count against the same limits.
            let breakers = Breakers::named(config.concurrency, route, is_failover);
            portal(
                config,
                breakers,
                slots.as_ref().unwrap_or(all),
                limits,
                background,
            )
        };
        Ok(Way {
            name: config.route_name.clone(),
            primary: portal(config, false)?,
            failover: match config.for_failover() {
                Some(other) => Some(portal(&other, true)?),
                None => None,
            },
            slots: slots.clone(),
        })
    };
    configs.iter().map(way).collect()
}

/// What metrics call the route that has no name, where there are others.
const UNNAMED: &str = "default";

/// How many places a route may take: each of the others is left as many as one GSTIN may take.
fn share(irp: &IrpConfig, routes: usize) -> usize {
    let others = routes.saturating_sub(1);
    let left = irp.concurrency_per_gstin.saturating_mul(others);
    let least = irp.concurrency / routes.max(1);
    irp.concurrency.saturating_sub(left).max(least).max(1)
}

fn portal(
    config: &IrpConfig,
    breakers: Breakers,
    slots: &Arc<Slots>,
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
    let slots = Arc::clone(slots);
    Ok(Portal::new(
        &config.route.base_url,
        irp,
        sessions,
        breakers,
        slots,
    ))
}
