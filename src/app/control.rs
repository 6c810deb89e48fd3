//! Heeds what operators tell all replicas, and what these tell one another.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::others::Others;
use crate::broker::{Endpoint, Heard, Publisher, Tell, Topology, listen};
use crate::control::{Notice, Order, Pauses, Whom};
use crate::limits::Limits;
use crate::telemetry::control as events;
use crate::worker::Worker;

/// Once there is a broker, the pauses have to be known within this time, or the work begins without them. Longer than a
/// log is waited for that cannot be read now.
const KNOWN_WITHIN: Duration = Duration::from_secs(125);

/// Heeds orders for as long as it is waited for, or until the broker does not permit it.
pub(super) async fn heed(
    endpoint: Endpoint,
    topology: Topology,
    publisher: Publisher,
    worker: Arc<Worker>,
    limits: Arc<Limits>,
) {
    let listening = listen_to_all(&endpoint, &topology, &worker, &limits);
    tokio::join!(listening, begin_without(&publisher, &worker));
}

/// A log that neither answers nor refuses does not keep the worker from its work.
async fn begin_without(publisher: &Publisher, worker: &Worker) {
    publisher.ready().await;
    tokio::time::sleep(KNOWN_WITHIN).await;
    if !worker.paused().is_settled() {
        events::no_log(&"it has not been read in time");
        worker.paused().cannot_be_read();
    }
}

async fn listen_to_all(
    endpoint: &Endpoint,
    topology: &Topology,
    worker: &Arc<Worker>,
    limits: &Arc<Limits>,
) {
    let (others, mut said, deeds) = Others::new(worker, limits);
    let greeting = others.greeting();
    let tell = Tell {
        greeting: &greeting,
        words: &mut said,
    };
    let declared = worker.config().topology.declare.then_some(topology);
    // What the log has told of so far, while it is read.
    let mut reading: Option<Pauses> = None;
    let heeding = |heard: Heard<'_>| match heard {
        Heard::Word(message) => heed_word(worker, &others, message),
        Heard::Lost => limits.lost_others(),
        Heard::NoWords(refused) => {
            limits.hears_others(false);
            events::no_control(refused);
        }
        Heard::Mute(refused) => {
            limits.hears_others(false);
            events::no_words(refused);
        }
        Heard::LogBegins => reading = Some(Pauses::default()),
        Heard::Logged(message) => heed_logged(worker, message, reading.as_mut()),
        Heard::LogRead { is_sure } => {
            if let Some(pauses) = reading.take() {
                match is_sure {
                    true => worker.paused().know(pauses),
                    false => worker.paused().know_also(pauses),
                }
                events::pauses_known(worker.paused().all().len());
            }
        }
        Heard::NoLog(refused) => {
            events::no_log(refused);
            worker.paused().cannot_be_read();
        }
    };
    tokio::select! {
        () = listen(endpoint, declared, tell, heeding) => {}
        never = others.tell(worker, deeds) => match never {},
    }
}

fn heed_word(worker: &Worker, others: &Others, message: &[u8]) {
    if let Some((from, notice)) = Notice::read(message) {
        return others.heed(worker, from, &notice);
    }
    match Order::read(message) {
        Ok(Order::Resume(whom)) => resume(worker, &whom),
        Ok(Order::Pause(..)) => {
            events::order_ignored(&"a pause counts only where it is kept, in irn.control.log");
        }
        Err(why) => events::order_ignored(&why),
    }
}

/// An order of the log: one that was there before, or a new one.
fn heed_logged(worker: &Worker, message: &[u8], reading: Option<&mut Pauses>) {
    let order = match Order::read(message) {
        Ok(order) => order,
        Err(why) => return events::order_ignored(&why),
    };
    match reading {
        Some(pauses) => _ = pauses.heed(order, Timestamp::now()),
        None => {
            let event = order.clone();
            if worker.paused().heed(order) {
                tell_of(worker, &event);
            }
        }
    }
}

/// Names are told only where they are known: anybody may have published them.
fn tell_of(worker: &Worker, order: &Order) {
    let credentials = worker.credentials();
    let known = match order.whom() {
        Whom::Portal => true,
        Whom::Gstin(gstin) => credentials.accounts.contains_key(gstin),
        Whom::Client(name) => credentials.has_client(name),
    };
    match order {
        Order::Pause(whom, pause) => events::paused(known.then_some(whom), pause.until),
        Order::Resume(whom) => events::pause_lifted(known.then_some(whom)),
    }
}

fn resume(worker: &Worker, whom: &Whom) {
    let credentials = worker.credentials();
    // Made-up names must not fill the memory.
    match whom {
        Whom::Gstin(gstin) if credentials.accounts.contains_key(gstin) => {
            worker.resume(gstin);
            events::resumed(gstin);
        }
        Whom::Gstin(_) => events::order_ignored(&"it names a GSTIN without credentials here"),
        Whom::Client(name) if credentials.has_client(name) => worker.resume_client(name),
        Whom::Client(_) => events::order_ignored(&"it names a client that is not known here"),
        // Nothing but a pause can be lifted for everybody, and those are lifted in the log.
        Whom::Portal => {}
    }
}
