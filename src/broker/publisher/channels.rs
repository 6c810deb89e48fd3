//! Channels with one publication on its way at a time, for times when messages come back or answers go missing.
//!
//! Of several on one channel (see `shared_channel`), a message that came back cannot always be told from the others, and
//! a channel that the broker closes over one publication takes the others with it.

use std::sync::{Arc, Mutex, PoisonError};

use lapin::{Channel, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::shared_channel::confirming;
use crate::broker::BrokerError;

/// The most publications on their way at a time on channels of their own; more wait.
const MOST: usize = 128;

/// Channels of the connection that are for other purposes: the shared one, questions, declaring the topology again.
const OTHERS: u16 = 5;

/// Channels in confirm mode, opened as they are needed and kept.
pub(super) struct Channels {
    connection: Arc<Connection>,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Channel>>,
}

/// A channel on which nothing else is on its way. Closed when dropped, because what was begun on it may still be
/// answered, unless given back.
pub(super) struct Lent {
    pub(super) channel: Channel,
    _permit: OwnedSemaphorePermit,
}

impl Channels {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        let allowed = connection.configuration().channel_max();
        let ours = usize::from(allowed.saturating_sub(OTHERS)).clamp(1, MOST);
        Self {
            connection,
            permits: Arc::new(Semaphore::new(ours)),
            idle: Mutex::default(),
        }
    }

    /// A channel with nothing on its way; waits while too many are lent.
    pub(super) async fn lend(&self) -> Result<Lent, BrokerError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| BrokerError::Lost("the publishing connection ended".to_owned()))?;
        let channel = match self.kept() {
            Some(channel) => channel,
            None => confirming(&self.connection).await?,
        };
        Ok(Lent {
            channel,
            _permit: permit,
        })
    }

    /// Whether the connection is there.
    pub(super) fn are_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Takes back a channel whose publication is answered.
    pub(super) fn take_back(&self, lent: Lent) {
        let Lent { channel, _permit } = lent;
        self.idle().push(channel);
    }

    /// One that is kept, if any is still open.
    fn kept(&self) -> Option<Channel> {
        let mut idle = self.idle();
        while let Some(channel) = idle.pop() {
            if channel.status().connected() {
                return Some(channel);
            }
        }
        None
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        // A list of channels is whole whatever happened to who held it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
