//! What `benches/parts` measures of this module's inside: taking and giving back a turn, and the settlement's decision.
//!
//! One rule: it adds nothing to them, and nobody else uses it.

use std::time::Duration;

use super::lanes::{Around, Lanes, Window};
use super::settle::{Ending, Settlement, Standing, settle};
use crate::config::Share;
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::job::Class;
use crate::limits::Slots;
use crate::retry::Ladder;

/// The lanes of a worker.
#[derive(Debug)]
pub struct MeasuredLanes(Lanes);

impl MeasuredLanes {
    /// Lanes of eight attempts each among so many slots.
    pub fn new(slots: usize, ladder: &Ladder) -> Self {
        let slots = Slots::new(slots, Duration::from_secs(15));
        let window = Window {
            prefetch: 128,
            share: Share::HALF,
        };
        Self(Lanes::new(slots, 8, window, ladder))
    }

    /// Takes a turn and gives it back; false if there was none.
    pub async fn take_and_give_back(&self, gstin: &Gstin, irn: Irn) -> bool {
        let around = Around {
            alone: false,
            replicas: 1,
            passes_on: false,
            queue: None,
            urgent_queue: None,
        };
        match self.0.enter(gstin, Class::Bulk, around) {
            Ok(entry) => entry.turn(Some(irn), || around).await.is_ok(),
            Err(_) => false,
        }
    }
}

/// Decides once for each of four common endings, and counts those that need another attempt.
pub fn settle_common_endings(ladder: &Ladder) -> usize {
    let standing = Standing {
        attempt: 3,
        max_attempts: 12,
        doubt: false,
        young_doubt: false,
        session_refused_before: false,
        portal_down: false,
        portal_down_before: false,
        ladder,
        settle_time: Duration::from_secs(30),
    };
    let endings = [
        Ending::Expired,
        Ending::NotFoundYet,
        Ending::Deferred {
            wait: Duration::from_secs(2),
            why: "rate",
        },
        Ending::Rejected {
            errors: Vec::new(),
            info: Vec::new(),
        },
    ];
    let again = |ending: &&Ending| matches!(settle(ending, &standing), Settlement::Ladder { .. });
    endings.iter().filter(again).count()
}
