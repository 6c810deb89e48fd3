//! Publishing for a delivery: again and again, until a queue holds the message or the delivery is no longer ours.

use std::time::Duration;

use crate::broker::{Acknowledger, Publication, PublishError, retry_exchange};
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
    /// Perhaps in a queue: it left, and no confirm came.
    Perhaps,
}

/// Publishes until a queue holds the message. For messages that may come twice.
pub(in crate::worker) async fn publish(
    worker: &Worker,
    publication: &Publication<'_>,
    acknowledger: &Acknowledger,
    about: About<'_>,
) -> Result<(), Lost> {
    let mut delays = publish_delays();
    // Returned: one of the worker's own queues is gone. It is declared again, or a person brings it back.
    while !publish_unless_returned(worker, publication, acknowledger, about).await? {
        worker.publisher.report_missing_queue();
        pause(
            worker,
            acknowledger,
            about,
            &mut delays,
            &PublishError::Returned,
        )
        .await?;
    }
    Ok(())
}

/// Publishes until a queue holds the message; false if it came back. For messages that may come twice.
pub(super) async fn publish_unless_returned(
    worker: &Worker,
    publication: &Publication<'_>,
    acknowledger: &Acknowledger,
    about: About<'_>,
) -> Result<bool, Lost> {
    loop {
        match publish_once(worker, publication, acknowledger, about).await? {
            Routed::Queue => return Ok(true),
            Routed::Nowhere => return Ok(false),
            Routed::Perhaps => {}
        }
    }
}

/// Publishes until it is known where the message is, or that it may be anywhere.
async fn publish_once(
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
            Err(error @ PublishError::Unconfirmed(_)) => {
                pause(worker, acknowledger, about, &mut delays, &error).await?;
                return Ok(Routed::Perhaps);
            }
            Err(error @ (PublishError::NotConnected | PublishError::Nacked)) => {
                pause(worker, acknowledger, about, &mut delays, &error).await?;
            }
        }
    }
}

/// Publishes a job again. Where the first try may have put it into a queue, it is published a second time as one in
/// doubt: its twin may be at the portal before it, so it waits on the ladder and looks first.
pub(in crate::worker) async fn publish_job(
    worker: &Worker,
    publication: &Publication<'_>,
    in_doubt: impl FnOnce() -> Properties,
    acknowledger: &Acknowledger,
    about: About<'_>,
) -> Result<(), Lost> {
    match publish_once(worker, publication, acknowledger, about).await? {
        Routed::Queue => return Ok(()),
        Routed::Nowhere => return publish(worker, publication, acknowledger, about).await,
        Routed::Perhaps => {}
    }
    let rung = worker.ladder.at_least(worker.config.irp.settle_time);
    let again = Publication {
        exchange: retry_exchange(rung).into(),
        routing_key: publication.routing_key.clone(),
        properties: in_doubt(),
        payload: publication.payload,
    };
    publish(worker, &again, acknowledger, about).await
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
