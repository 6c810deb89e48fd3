//! `dead-letters`: what lies in `irn.dead` and `irn.poison`, and what a person does about it.
//!
//! One rule: a letter leaves its queue only when it is proven to be a job again, or when a person has said to drop it.
//! Whenever a command is cut off, every letter is where it was, or a job, or at the worst both: then the letter is
//! marked by the broker, and its next replay looks before it sends.

pub mod audit;
mod canary;
mod discard;
mod filter;
mod groups;
mod judge;
mod look;
mod pace;
mod plan;
mod progress;
mod replay;
mod view;

use std::io;
use std::time::Duration;

use crate::broker::{
    BadEndpoint, BrokerError, DEAD_QUEUE, InOtherHands, POISON_QUEUE, PublishError, WalkError,
};

pub use canary::{Canary, Deaths};
pub use discard::{Discarded, discard};
pub use filter::Filter;
pub use groups::{Groups, age};
pub use look::{Listing, Looked, Shown, export, list, show};
pub use plan::{Cost, Plan, plan};
pub use replay::{Ended, Kept, ReplayRequest, Replayed, replay};

pub(in crate::ops) use view::plain;

/// A walk begins anew after this long, because the broker takes back what is held for longer than its consumer time-out:
/// half an hour, if nobody has changed it.
const HELD_FOR: Duration = Duration::from_secs(300);

/// Where letters lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LetterQueue {
    /// Jobs that the worker gave up on.
    #[default]
    Dead,
    /// What it could not read, and what the broker moved there by itself.
    Poison,
}

impl LetterQueue {
    /// The queue's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dead => DEAD_QUEUE,
            Self::Poison => POISON_QUEUE,
        }
    }
}

/// What there is to say of letters that were not seen.
pub fn said_of(elsewhere: InOtherHands) -> Option<String> {
    let InOtherHands { counted, uncounted } = elsewhere;
    let how_many = match (counted, uncounted) {
        (0, false) => return None,
        (0, true) => "some letters were".to_owned(),
        (counted, false) => format!("{counted} letters were"),
        (counted, true) => format!("at least {counted} letters were"),
    };
    Some(format!(
        "{how_many} in other hands, and not looked at: another command looks at them or has taken them, or a person on the \
         management page; run this again when that has ended"
    ))
}

/// Why a command ended early. What was not done is as it was.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    /// The broker's address or TLS files.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// The broker, or one of its queues.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A letter could not be published. It is still a letter.
    #[error("a letter could not be published and stays where it is: {0}")]
    Publish(#[from] PublishError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// Others have changed the queue between two walks.
    #[error(
        "others took letters out while the output stood still: it is not whole, {0} letters were looked at; begin again"
    )]
    Changed(u64),
    /// Letters go back before all can be looked at.
    #[error(
        "there are more letters than can be looked at before they have to be given back: {0} were, from the front; run it \
         nearer to the broker, replay or drop those in front first, or (to list or export) give --limit"
    )]
    TooMany(u64),
    /// The configuration has no rungs.
    #[error("retry.delays is empty")]
    NoRungs,
}

impl From<WalkError> for LettersError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Broker(error) => Self::Broker(error),
            WalkError::Publish(error) => Self::Publish(error),
        }
    }
}
