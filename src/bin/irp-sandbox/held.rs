//! Requests that a rule keeps until somebody releases them: the way to catch a moment in mid-flight without sleeping.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::oneshot;

use crate::call::Endpoint;

/// A held request, as `GET /_sandbox/held` lists it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HeldRequest {
    /// Number to release it by.
    pub(crate) id: u64,
    /// Id of the rule that holds it.
    pub(crate) rule: Option<String>,
    pub(crate) endpoint: Endpoint,
    pub(crate) gstin: String,
    pub(crate) number: Option<String>,
    /// Whether the portal has acted on it already.
    pub(crate) committed: bool,
}

struct Entry {
    request: HeldRequest,
    /// Dropping it releases the request.
    _release: oneshot::Sender<()>,
}

#[derive(Default)]
struct Entries {
    next: u64,
    held: BTreeMap<u64, Entry>,
}

/// All held requests.
#[derive(Default)]
pub(crate) struct Held(Mutex<Entries>);

impl Held {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `request`, numbering it, until it is released.
    pub(crate) async fn keep(&self, mut request: HeldRequest) {
        let (release, released) = oneshot::channel();
        {
            let mut entries = self.entries();
            entries.next += 1;
            request.id = entries.next;
            let id = request.id;
            entries.held.insert(
                id,
                Entry {
                    request,
                    _release: release,
                },
            );
        }
        // Nothing is ever sent: the end of the sender is the signal.
        drop(released.await);
    }

    /// The held requests, oldest first.
    pub(crate) fn list(&self) -> Vec<HeldRequest> {
        self.entries()
            .held
            .values()
            .map(|entry| entry.request.clone())
            .collect()
    }

    /// Lets go the request of that number, or those that the rule of that id holds; returns how many.
    pub(crate) fn release(&self, id: &str) -> usize {
        let mut entries = self.entries();
        let matches = |entry: &Entry| {
            entry.request.id.to_string() == id || entry.request.rule.as_deref() == Some(id)
        };
        let before = entries.held.len();
        entries.held.retain(|_, entry| !matches(entry));
        before - entries.held.len()
    }

    /// Lets go every request; returns how many there were.
    pub(crate) fn release_all(&self) -> usize {
        let held = std::mem::take(&mut self.entries().held);
        held.len()
    }
}
