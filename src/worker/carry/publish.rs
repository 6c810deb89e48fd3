//! Publishing for a delivery: again and again, until a queue holds the message or the delivery is no longer ours.

use std::pin::pin;
use std::time::Duration;

use crate::broker::{Acknowledger, Publication, PublishError, retry_exchange};
use crate::crash::Point;
use crate::job::Properties;
use crate::retry::Backoffs;
use crate::telemetry::{self, About};
use crate::worker::Worker;

/// The delivery is no longer ours: what was being published for it is left to the next one to see it.
#[derive(Debug)]
pub(in crate::worker) struct Lost;

/// Where a message is.
#[derive(Debug, PartialEq, Eq)]
enum Routed {
    /// In a queue.
    Queue,
    /// Back with us: no queue took it.
    Nowhere,
    /// Refused: a queue is full, or has just lost its leader; or the exchange is gone.
    Refused,
    /// Perhaps in a queue: it left, and no confirm came.
    Perhaps,
}

/// A foreign queue that refuses this often in a row is full, and not only busy.
const REFUSALS: u32 = 3;

/// Publishes to the worker's own queues until one holds the message. For messages that may come twice.
pub(in crate::worker) async fn publish(
    worker: &Worker,
    publication: &Publication<'_>,
    acknowledger: &Acknowledger,
    about: About<'_>,
) -> Result<(), Lost> {
    let mut tries = Tries::new(worker, acknowledger, about);
    loop {
        match tries.publish(publication).await? {
            Routed::Queue => return Ok(()),
            Routed::Nowhere | Routed::Refused | Routed::Perhaps => {}
        }
    }
}

/// Publishes to a queue that is not the worker's own; false if it is gone or takes nothing any more. An ERP that does
/// not read its results must not hold up everybody else's.
pub(super) async fn publish_if_taken(
    worker: &Worker,
    publication: &Publication<'_>,
    acknowledger: &Acknowledger,
    about: About<'_>,
) -> Result<bool, Lost> {
    let mut tries = Tries {
        is_own: false,
        ..Tries::new(worker, acknowledger, about)
    };
    let mut refusals = 0;
    loop {
        match tries.publish(publication).await? {
            Routed::Queue => return Ok(true),
            Routed::Nowhere => return Ok(false),
            Routed::Refused => refusals += 1,
            Routed::Perhaps => {}
        }
        if refusals == REFUSALS {
            return Ok(false);
        }
    }
}

/// Publishes a job again. Where a try may have put it into a queue, it is published a second time as one in doubt: its
/// twin may be at the portal before it, so it waits on the ladder and looks first.
pub(in crate::worker) async fn publish_job(
    worker: &Worker,
    publication: &Publication<'_>,
    in_doubt: impl FnOnce() -> Properties,
    acknowledger: &Acknowledger,
    about: About<'_>,
) -> Result<(), Lost> {
    let mut tries = Tries::new(worker, acknowledger, about);
    loop {
        match tries.publish(publication).await? {
            Routed::Queue => return Ok(()),
            Routed::Nowhere | Routed::Refused => {}
            Routed::Perhaps => break,
        }
    }
    let rung = worker.ladder.at_least(worker.config.irp.settle_time);
    let again = Publication {
        exchange: retry_exchange(rung).into(),
        routing_key: publication.routing_key.clone(),
        properties: in_doubt(),
        body: publication.body.clone(),
    };
    publish(worker, &again, acknowledger, about).await
}

/// Tries to publish for one delivery, each after a longer pause than the one before.
struct Tries<'a> {
    worker: &'a Worker,
    acknowledger: &'a Acknowledger,
    about: About<'a>,
    delays: Backoffs,
    /// Whether it goes to the worker's own queues.
    is_own: bool,
}

impl<'a> Tries<'a> {
    fn new(worker: &'a Worker, acknowledger: &'a Acknowledger, about: About<'a>) -> Self {
        let delays = Backoffs::new(Duration::from_millis(50), Duration::from_secs(2));
        Self {
            worker,
            acknowledger,
            about,
            delays,
            is_own: true,
        }
    }

    /// One try; if it did not succeed, the pause before the next is over when this returns.
    async fn publish(&mut self, publication: &Publication<'_>) -> Result<Routed, Lost> {
        loop {
            // What is settled for a delivery that is no longer ours would be settled twice.
            if !self.acknowledger.is_live() {
                return Err(Lost);
            }
            let publishing = pin!(self.worker.publisher.publish(publication));
            let publishing = self.worker.crash.during(Point::Publishing, publishing);
            let error = match publishing.await {
                Ok(()) => return Ok(Routed::Queue),
                Err(error) => error,
            };
            let routed = match &error {
                PublishError::NotConnected => None,
                PublishError::Nacked | PublishError::Refused(_) => Some(Routed::Refused),
                PublishError::Unconfirmed(_) => Some(Routed::Perhaps),
                PublishError::Returned => Some(Routed::Nowhere),
            };
            let has_no_queue = matches!(error, PublishError::Returned | PublishError::Refused(_));
            if has_no_queue && self.is_own {
                // It is declared again, or a person brings it back.
                self.worker.publisher.report_missing_queue();
            }
            self.pause(&error).await?;
            if let Some(routed) = routed {
                return Ok(routed);
            }
        }
    }

    async fn pause(&mut self, error: &PublishError) -> Result<(), Lost> {
        telemetry::publish_retried(self.about, error);
        let delay = self.delays.next_delay();
        let ready = async {
            tokio::time::sleep(delay).await;
            self.worker.publisher.ready().await;
        };
        tokio::select! {
            () = self.acknowledger.lost() => Err(Lost),
            () = ready => Ok(()),
        }
    }
}
