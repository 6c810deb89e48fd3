//! The channels of one publishing connection, each with one publication on its way at a time.
//!
//! Several on one channel could not be told apart. RabbitMQ sends a message that no queue takes back at once, before its
//! acknowledgement, but acknowledges those published before it when it likes; lapin credits whatever came back to the
//! acknowledgement that it sees next. A job whose result came back would be taken for done, and another's result for
//! lost.

use std::sync::{Arc, Mutex, PoisonError};

use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::BrokerError;
use crate::broker::connection::timed;

/// The most publications on their way at a time; more wait.
const MOST: usize = 128;

/// Channels of the connection that are for other purposes: questions, and declaring the topology again.
const OTHERS: u16 = 4;

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
            None => self.open().await?,
        };
        Ok(Lent {
            channel,
            _permit: permit,
        })
    }

    /// Takes back a channel whose publication is answered.
    pub(super) fn take_back(&self, lent: Lent) {
        let Lent { channel, _permit } = lent;
        self.idle().push(channel);
    }

    async fn open(&self) -> Result<Channel, BrokerError> {
        let channel = timed(self.connection.create_channel()).await??;
        timed(channel.confirm_select(ConfirmSelectOptions::default())).await??;
        Ok(channel)
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
