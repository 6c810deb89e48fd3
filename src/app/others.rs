//! What replicas tell one another: that they are there, that they log in, and which errors they know of.
//!
//! One rule: what nobody takes is dropped. Names and errors go at most once in a while, however often somebody asks, and errors are
//! told by a few; logins of late are told again to each that says hello, because it may be about to log in.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;

use crate::control::{Notice, Whom};
use crate::gstin::Gstin;
use crate::limits::Limits;
use crate::worker::Worker;

/// One that says hello hears the others' names within this time; in a large fleet later.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// So much at most is to be told while the broker does not take it.
const MOST_WORDS: usize = 4096;

/// So many of those that know tell a new one of errors.
const TELLERS: usize = 3;

/// This replica among the others.
pub(super) struct Others {
    limits: Arc<Limits>,
    /// The replica's name, made the only one of its kind: where processes share a host's name and process ids, too.
    us: Arc<str>,
    words: Sender<String>,
    /// One of them has come.
    greeted: Notify,
    /// One of them knows of no errors yet.
    asked: AtomicBool,
    has_asked: AtomicBool,
}

impl Others {
    /// This replica, and what it has to tell.
    pub(super) fn new(replica: &str, limits: &Arc<Limits>) -> (Self, Receiver<String>) {
        let (words, said) = mpsc::channel(MOST_WORDS);
        let us = format!("{replica}.{:08x}", rand::random::<u32>());
        let others = Self {
            limits: Arc::clone(limits),
            us: us.into(),
            words,
            greeted: Notify::new(),
            asked: AtomicBool::new(false),
            has_asked: AtomicBool::new(false),
        };
        others.announce_logins();
        (others, said)
    }

    fn announce_logins(&self) {
        let (us, words) = (Arc::clone(&self.us), self.words.clone());
        let announce = move |gstin| say(&words, &us, &Notice::Login(gstin));
        self.limits
            .announce_logins_as(Arc::clone(&self.us), Box::new(announce));
    }

    /// What this replica says first.
    pub(super) fn greeting(&self) -> String {
        Notice::Hello.to_json(&self.us)
    }

    /// Heeds a notice.
    pub(super) fn heed(&self, worker: &Worker, from: &str, notice: &Notice) {
        let limits = &self.limits;
        let credentials = worker.credentials();
        let is_own = from == &*self.us;
        // Made-up names must not fill the memory.
        let is_known = |gstin: &Gstin| credentials.accounts.contains_key(gstin);
        match notice {
            Notice::Hello if is_own => {
                // What is published reaches its publisher, too: now the others have it as well.
                limits.heard_name(from);
                limits.hears_others(true);
                if !self.has_asked.swap(true, Ordering::Relaxed) {
                    self.say(&Notice::Asks);
                }
            }
            Notice::Hello => {
                limits.heard_name(from);
                self.greeted.notify_one();
                for gstin in limits.own_logins_of_late() {
                    self.say(&Notice::Login(gstin));
                }
            }
            Notice::Here => limits.heard_name(from),
            Notice::Asks | Notice::Login(_) | Notice::Errors(..) if is_own => {}
            Notice::Asks => {
                limits.heard_asking(from);
                self.asked.store(true, Ordering::Relaxed);
                self.greeted.notify_one();
            }
            Notice::Login(gstin) if is_known(gstin) => limits.heard_login(from, *gstin),
            Notice::Errors(Whom::Gstin(gstin), errors) if is_known(gstin) => {
                limits.heard_errors_of_gstin(gstin, errors);
            }
            Notice::Errors(Whom::Client(name), errors) if credentials.has_client(name) => {
                limits.heard_errors_of_client(name, errors);
            }
            Notice::Login(_) | Notice::Errors(..) => {}
        }
    }

    /// Tells the others every few seconds that this replica is there, and soon to one that has just come.
    pub(super) async fn tell(&self) -> Infallible {
        loop {
            if self.limits.tells_name() {
                self.say(&Notice::Here);
            }
            if self.asked.swap(false, Ordering::Relaxed) && self.limits.is_one_of_first(TELLERS) {
                self.tell_errors();
            }
            let told_every = self.limits.told_every();
            // Not sooner: when many greet at once, each is answered by all.
            tokio::time::sleep(ANSWERED_WITHIN.max(told_every / 5)).await;
            drop(timeout(told_every, self.greeted.notified()).await);
        }
    }

    fn tell_errors(&self) {
        let gstins = self.limits.told_errors_of_gstins().into_iter();
        let gstins = gstins.map(|(gstin, errors)| (Whom::Gstin(gstin), errors));
        let clients = self.limits.told_errors_of_clients().into_iter();
        let clients = clients.map(|(name, errors)| (Whom::Client(name.to_string()), errors));
        for (whom, errors) in gstins.chain(clients) {
            self.say(&Notice::Errors(whom, errors));
        }
    }

    fn say(&self, notice: &Notice) {
        say(&self.words, &self.us, notice);
    }
}

/// Nobody receives where control is not permitted.
fn say(words: &Sender<String>, us: &str, notice: &Notice) {
    drop(words.try_send(notice.to_json(us)));
}
