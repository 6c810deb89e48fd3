//! The routes to the portal, and which of them an account takes: the portal itself, or gateways in front of it.
//!
//! One rule: an account's calls go over its client's route and no other: what one gateway is to see, another is not. Each
//! route has sessions, breakers and places of its own, so that the trouble of one is not the others'.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::gate::Gate;
use super::lanes::PATIENCE;
use super::portals::{Portal, Portals};
use crate::config::credentials::{Account, Credentials};
use crate::limits::Slots;

/// One route.
#[derive(Debug)]
pub struct Route {
    /// As clients call it; none for the one of those that name none.
    name: Option<Arc<str>>,
    portals: Portals,
    /// How many of its jobs are worked on at once, where others share the places with it.
    slots: Option<Arc<Slots>>,
    /// An account takes it.
    in_use: AtomicBool,
}

/// All routes of this worker.
#[derive(Debug)]
pub struct Routes(Vec<Route>);

impl Route {
    /// A route to these portals; `slots` are its share of the places, if it has to share them.
    pub fn new(name: Option<Arc<str>>, portals: Portals, slots: Option<Arc<Slots>>) -> Self {
        Self {
            name,
            portals,
            slots,
            in_use: AtomicBool::new(true),
        }
    }

    /// Where it leads.
    pub(super) fn portals(&self) -> &Portals {
        &self.portals
    }

    /// Its share of the places.
    pub(super) fn slots(&self) -> Option<&Arc<Slots>> {
        self.slots.as_ref()
    }
}

impl Routes {
    /// These, for these accounts.
    pub fn new(routes: Vec<Route>, credentials: &Credentials) -> Self {
        let routes = Self(routes);
        routes.serve(credentials);
        routes
    }

    /// Serves these accounts from now on: a route that none of them takes counts no more.
    pub(super) fn serve(&self, credentials: &Credentials) {
        for route in &self.0 {
            let in_use = credentials.uses(route.name.as_deref());
            route.in_use.store(in_use, Ordering::Relaxed);
        }
    }

    /// The one that this account takes. None if there is none of that name: then nothing is sent.
    pub(super) fn of(&self, account: &Account) -> Option<&Route> {
        let name = account.client.route.as_deref();
        self.0.iter().find(|route| route.name.as_deref() == name)
    }

    /// Every portal of every route.
    pub fn portals(&self) -> impl Iterator<Item = &Portal> {
        self.0.iter().flat_map(|route| route.portals.all())
    }

    /// Whether the widest of the routes in use is this.
    pub(super) fn gate(&self) -> Gate {
        let gates = self.in_use().map(|route| route.portals.gate());
        gates
            .max_by_key(|gate| gate.width().unwrap_or(usize::MAX))
            // Without an account nothing is called.
            .unwrap_or(Gate::Wide)
    }

    /// Whether this one is down while others are not, or all the calls that try whether it is back are under way.
    pub(super) fn goes_on_without(&self, route: &Route) -> bool {
        let portals = &route.portals;
        self.in_use().nth(1).is_some() && (portals.gate().is_shut() || !portals.admits())
    }

    /// How long a job waits for a portal that is being tried: where others share the places, it does not.
    pub(super) fn patience(&self) -> Duration {
        if self.in_use().nth(1).is_some() {
            Duration::ZERO
        } else {
            PATIENCE
        }
    }

    fn in_use(&self) -> impl Iterator<Item = &Route> {
        self.0
            .iter()
            .filter(|route| route.in_use.load(Ordering::Relaxed))
    }
}
