//! Heeds what operators tell all replicas, and what these tell one another.

use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedSender};

use crate::broker::{Endpoint, Tell, listen};
use crate::control::{Notice, Order};
use crate::limits::Limits;
use crate::telemetry::control as events;
use crate::worker::Worker;

/// Heeds orders for as long as it is waited for, or until the broker does not permit it.
pub(super) async fn heed(endpoint: Endpoint, worker: Arc<Worker>, limits: Arc<Limits>) {
    let declare = worker.config().topology.declare;
    let replica: Arc<str> = worker.replica().into();
    let (words, mut said) = mpsc::unbounded_channel();
    announce_logins(&limits, &replica, words.clone());
    let greeting = Notice::Hello.to_json(&replica);
    let tell = Tell {
        greeting: &greeting,
        words: &mut said,
    };
    let refused = listen(&endpoint, declare, tell, |message| {
        if let Some((from, notice)) = Notice::read(message) {
            match notice {
                // What is published reaches its publisher, too: now the others have it as well.
                Notice::Hello if from == &*replica => limits.hears_of_logins(true),
                Notice::Login(_) if from == &*replica => {}
                Notice::Hello | Notice::Login(_) => note(&worker, &limits, from, &notice, &words),
            }
            return;
        }
        match Order::read(message) {
            Ok(order) => obey(&worker, &order),
            Err(why) => events::order_ignored(&why),
        }
    });
    let refused = refused.await;
    limits.hears_of_logins(false);
    events::no_control(&refused);
}

fn announce_logins(limits: &Limits, replica: &Arc<str>, words: UnboundedSender<String>) {
    let name = Arc::clone(replica);
    let announce = move |gstin| {
        // Nobody receives where control is not permitted.
        drop(words.send(Notice::Login(gstin).to_json(&name)));
    };
    limits.announce_logins_as(Arc::clone(replica), Box::new(announce));
}

fn note(
    worker: &Worker,
    limits: &Limits,
    from: &str,
    notice: &Notice,
    words: &UnboundedSender<String>,
) {
    match notice {
        Notice::Hello => {
            for gstin in limits.own_logins_of_late() {
                drop(words.send(Notice::Login(gstin).to_json(worker.replica())));
            }
        }
        // Made-up names must not fill the memory.
        Notice::Login(gstin) if worker.credentials().accounts.contains_key(gstin) => {
            limits.heard_login(from, *gstin);
        }
        Notice::Login(_) => {}
    }
}

fn obey(worker: &Worker, order: &Order) {
    let accounts = &worker.credentials().accounts;
    // Made-up names must not fill the memory.
    match order {
        Order::Resume(gstin) if accounts.contains_key(gstin) => {
            worker.resume(gstin);
            events::resumed(gstin);
        }
        Order::Resume(_) => events::order_ignored(&"it names a GSTIN without credentials here"),
        Order::ResumeClient(name) if accounts.values().any(|of| of.client.name == *name) => {
            worker.resume_client(name);
        }
        Order::ResumeClient(_) => {
            events::order_ignored(&"it names a client that is not known here")
        }
    }
}
