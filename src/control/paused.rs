//! The pauses as this replica knows them, shared by those who heed them and those who show them.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::{Order, Pause, Pauses, Whom};
use crate::gstin::Gstin;

/// What is paused now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Paused(Arc<watch::Sender<Known>>);

#[derive(Debug, Default)]
struct Known {
    pauses: Pauses,
    state: Reading,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    NotYet,
    Read,
    CannotBe,
}

impl Default for Paused {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Known::default())))
    }
}

impl Paused {
    /// Whether the pauses are known, or cannot be: before that, no job may be taken.
    pub fn is_settled(&self) -> bool {
        self.0.borrow().state != Reading::NotYet
    }

    /// Whether they are known.
    pub fn is_known(&self) -> bool {
        self.0.borrow().state == Reading::Read
    }

    /// These pauses hold.
    pub fn know(&self, pauses: Pauses) {
        self.0.send_modify(|known| {
            *known = Known {
                pauses,
                state: Reading::Read,
            };
        });
    }

    /// These pauses hold, and none that is in force ends by it: they may not be all.
    pub fn know_also(&self, mut pauses: Pauses) {
        self.0.send_modify(|known| {
            pauses.add_missing(std::mem::take(&mut known.pauses));
            *known = Known {
                pauses,
                state: Reading::Read,
            };
        });
    }

    /// They cannot be read now: the last ones known hold.
    pub fn cannot_be_read(&self) {
        self.0.send_modify(|known| known.state = Reading::CannotBe);
    }

    /// Heeds one more order. False if it changes nothing.
    pub fn heed(&self, order: Order) -> bool {
        let mut changed = false;
        self.0
            .send_modify(|known| changed = known.pauses.heed(order, Timestamp::now()));
        changed
    }

    /// Why jobs of this GSTIN wait, if they do.
    pub fn of(&self, gstin: &Gstin, client: Option<&str>) -> Option<(Whom, Pause)> {
        let known = self.0.borrow();
        let found = known.pauses.of(gstin, client, Timestamp::now());
        found.map(|(whom, pause)| (whom, pause.clone()))
    }

    /// The pause of everybody.
    pub fn portal(&self) -> Option<Pause> {
        self.0.borrow().pauses.portal(Timestamp::now()).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<(Whom, Pause)> {
        let known = self.0.borrow();
        let all = known.pauses.all(Timestamp::now());
        all.map(|(whom, pause)| (whom.clone(), pause.clone()))
            .collect()
    }

    /// Tells of changes.
    pub fn changes(&self) -> Changes {
        Changes(self.0.subscribe())
    }
}

/// Waits for changes of what is paused.
#[derive(Debug)]
pub struct Changes(watch::Receiver<Known>);

impl Changes {
    /// Ends at the next change.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could change anything.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn pauses_that_may_not_be_all_end_none_that_is_in_force() {
        let now = Timestamp::now();
        let until = now + Duration::from_secs(60);
        let pause = Pause::try_new("audit".parse().unwrap(), now, until).unwrap();
        let paused = Paused::default();
        paused.heed(Order::Pause(Whom::Portal, pause));
        paused.know_also(Pauses::default());
        assert!(paused.portal().is_some() && paused.is_known());
        paused.know(Pauses::default());
        assert!(paused.portal().is_none());
    }
}
