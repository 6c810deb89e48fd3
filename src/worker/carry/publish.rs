//! Publishing for a delivery: again and again, until a queue holds the message or the delivery is no longer ours.

use std::time::Duration;

use crate::broker::{Acknowledger, Publication, PublishError};
use crate::retry::Backoffs;
use crate::telemetry::{self, About};
use crate::worker::Worker;

/// The delivery is no longer ours: what was being published for it is left to the next one to see it.
#[derive(Debug)]
pub(in crate::worker) struct Lost;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Routed {
    Queue,
    Nowhere,
}

/// Publishes until a queue holds the message.
pub(in crate::worker) async fn publish(
    worker: &Worker,
    publication: &Publication<'_>,
    acknowledger: &Acknowledger,
    about: About<'_>,
) -> Result<(), Lost> {
    let mut delays = publish_delays();
    loop {
        match publish_unless_returned(worker, publication, acknowledger, about).await? {
            Routed::Queue => return Ok(()),
            // One of the worker's own queues is gone: it comes back, or a person brings it back.
            Routed::Nowhere => {
                pause(
                    worker,
                    acknowledger,
                    about,
                    &mut delays,
                    &PublishError::Returned,
                )
                .await?
            }
        }
    }
}

pub(super) async fn publish_unless_returned(
    worker: &Worker,
    publication: &Publication<'_>,
    acknowledger: &Acknowledger,
    about: About<'_>,
) -> Result<Routed, Lost> {
    let mut delays = publish_delays();
    loop {
        // What is settled for a delivery that is no longer ours would be settled twice.
        if !acknowledger.is_live() {
            return Err(Lost);
        }
        match worker.publisher.publish(publication).await {
            Ok(()) => return Ok(Routed::Queue),
            Err(PublishError::Returned) => return Ok(Routed::Nowhere),
            Err(
                error @ (PublishError::NotConnected
                | PublishError::Nacked
                | PublishError::Unconfirmed(_)),
            ) => {
                pause(worker, acknowledger, about, &mut delays, &error).await?;
            }
        }
    }
}

fn publish_delays() -> Backoffs {
    Backoffs::new(Duration::from_millis(50), Duration::from_secs(2))
}

async fn pause(
    worker: &Worker,
    acknowledger: &Acknowledger,
    about: About<'_>,
    delays: &mut Backoffs,
    error: &PublishError,
) -> Result<(), Lost> {
    telemetry::publish_retried(about, error);
    let ready = async {
        tokio::time::sleep(delays.next_delay()).await;
        worker.publisher.ready().await;
    };
    tokio::select! {
        () = acknowledger.lost() => Err(Lost),
        () = ready => Ok(()),
    }
}
