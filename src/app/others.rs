//! What replicas tell one another: that they are there, that they log in or leave a GSTIN to the others, which errors they know
//! of, and what they do for jobs that came in doubt.
//!
//! One rule: what nobody takes is dropped. Who greets or asks is answered at most once in a while, however many do, and what
//! happened before is told by a few.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::join;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{sleep, timeout};

use crate::control::{Deed, Notice, Progress, Whom, Word};
use crate::gstin::Gstin;
use crate::limits::Limits;
use crate::worker::{Told, Worker};

/// Logins of late are told again so often at most, to those that have said hello meanwhile: they do not listen for long.
const LOGINS_TOLD_EVERY: Duration = Duration::from_millis(100);

/// Deeds are told twenty times a second at most, in a large fleet more rarely, unless they are more than one message holds.
const DEEDS_PER_NAME: u32 = 100;

/// So much at most is to be told while the broker does not take it.
const MOST_WORDS: usize = 4096;

/// So many tell a new one of errors, deeds, and what others did.
const TELLERS: usize = 3;

/// Those that would have told may have been dead: a new one asks once more after this time.
const ASKS_AGAIN_AFTER: Duration = Duration::from_secs(15);

/// This replica among the others.
pub(super) struct Others {
    limits: Arc<Limits>,
    /// The replica's name, made the only one of its kind: where processes share a host's name and process ids, too.
    us: Arc<str>,
    words: Sender<String>,
    /// One of them has come.
    greeted: Notify,
    /// One of them may be about to log in.
    logins_asked: Notify,
    /// One of them knows of no errors yet.
    asked: AtomicBool,
    /// We hear the others, who can be asked.
    listens: Notify,
}

impl Others {
    /// This replica, what it has to say, and the deeds that it has to tell of.
    pub(super) fn new(
        worker: &Worker,
        limits: &Arc<Limits>,
    ) -> (Self, Receiver<String>, Receiver<Told>) {
        let (words, said) = mpsc::channel(MOST_WORDS);
        let replica = worker.replica();
        let us = format!("{replica}.{:08x}", rand::random::<u32>());
        let others = Self {
            limits: Arc::clone(limits),
            us: us.into(),
            words,
            greeted: Notify::new(),
            logins_asked: Notify::new(),
            asked: AtomicBool::new(false),
            listens: Notify::new(),
        };
        others.announce();
        let (done, deeds) = mpsc::channel(MOST_WORDS);
        let among = Arc::clone(limits);
        worker.announce_deeds_as(Box::new(move |progress, deed| {
            if among.replicas().get() > 1 {
                // What there is no room for may cost another an error.
                _ = done.try_send((progress, deed, Duration::ZERO));
            }
        }));
        (others, said, deeds)
    }

    fn announce(&self) {
        let (us, words) = (Arc::clone(&self.us), self.words.clone());
        let announce = move |gstin, word| say(&words, &us, &Notice::Of(gstin, word));
        let us = Arc::clone(&self.us);
        self.limits.announce_as(us, Box::new(announce));
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
                self.listens.notify_one();
                // Those that were told while nobody took it.
                self.logins_asked.notify_one();
            }
            Notice::Hello => {
                limits.heard_name(from);
                self.greeted.notify_one();
                self.logins_asked.notify_one();
            }
            Notice::Here => limits.heard_name(from),
            Notice::Who => {
                limits.heard_name(from);
                self.greeted.notify_one();
            }
            Notice::Of(gstin, Word::Returns) if is_own => limits.heard_own_return(*gstin),
            Notice::Of(gstin, Word::Login(login)) if is_own => {
                limits.heard_own_login(*gstin, *login);
            }
            Notice::Asks | Notice::Of(..) | Notice::Errors(..) | Notice::Deeds(..) if is_own => {}
            Notice::Asks => {
                limits.heard_asking(from);
                self.asked.store(true, Ordering::Relaxed);
                self.greeted.notify_one();
            }
            Notice::Of(gstin, word) if is_known(gstin) => match word {
                Word::Login(login) => limits.heard_login(from, *gstin, *login),
                Word::Withdrawn(number) => limits.heard_withdrawn(from, *gstin, *number),
                Word::Idle => limits.heard_idle(from, *gstin),
                Word::Returns => limits.heard_return(from, *gstin),
            },
            Notice::Errors(Whom::Gstin(gstin), errors) if is_known(gstin) => {
                limits.heard_errors_of_gstin(gstin, errors);
            }
            Notice::Errors(Whom::Client(name), errors) if credentials.has_client(name) => {
                limits.heard_errors_of_client(name, errors);
            }
            Notice::Deeds(progress, deeds) => {
                for (deed, ago) in deeds {
                    worker.heard_deed((*progress, *deed, *ago));
                }
            }
            Notice::Of(..) | Notice::Errors(..) => {}
        }
    }

    /// Tells the others what they should know, for as long as it is waited for.
    pub(super) async fn tell(&self, worker: &Worker, deeds: Receiver<Told>) -> Infallible {
        let told = join!(
            self.tell_name_and_news(worker),
            self.tell_logins(),
            self.tell_deeds(deeds),
            self.ask_for_errors(),
            self.ask_for_names(),
        );
        told.0
    }

    /// Every few seconds, and soon to one that has just come.
    async fn tell_name_and_news(&self, worker: &Worker) -> Infallible {
        loop {
            if self.limits.tells_name() {
                self.say(&Notice::Here);
            }
            if self.asked.swap(false, Ordering::Relaxed)
                && self.limits.is_one_of_first_that_know(TELLERS)
            {
                self.tell_errors();
                self.say_deeds(worker.deeds_of_late());
            }
            let told_every = self.limits.told_every();
            // Not sooner: when many greet at once, each is answered by all.
            sleep(self.limits.answered_within()).await;
            drop(timeout(told_every, self.greeted.notified()).await);
        }
    }

    async fn tell_logins(&self) -> Infallible {
        loop {
            self.logins_asked.notified().await;
            for (gstin, login) in self.limits.own_logins_of_late() {
                self.say(&Notice::Of(gstin, Word::Login(login)));
            }
            if self.limits.is_one_of_first(TELLERS) {
                self.tell_logins_of_others();
            }
            // Those that come meanwhile are told together.
            sleep(LOGINS_TOLD_EVERY).await;
        }
    }

    /// Who has just died cannot tell of them. In their names: they are counted once, however many tell of them.
    fn tell_logins_of_others(&self) {
        for (other, gstin, login) in self.limits.logins_of_others() {
            if self.words.capacity() > MOST_WORDS / 2 {
                say(&self.words, &other, &Notice::Of(gstin, Word::Login(login)));
            }
        }
    }

    async fn tell_deeds(&self, mut deeds: Receiver<Told>) -> Infallible {
        loop {
            let mut told = Vec::new();
            if deeds.recv_many(&mut told, Notice::MOST_DEEDS).await == 0 {
                return pending().await;
            }
            let are_all = told.len() < Notice::MOST_DEEDS;
            self.say_deeds(told);
            if are_all {
                sleep(self.limits.told_every() / DEEDS_PER_NAME).await;
            }
        }
    }

    /// They are many now and then, and leave room for what must not be lost.
    fn say_deeds(&self, deeds: Vec<Told>) {
        for progress in Progress::ALL {
            let of_these = deeds.iter().filter(|(of, _, _)| *of == progress);
            let of_these: Vec<(Deed, Duration)> =
                of_these.map(|(_, deed, ago)| (*deed, *ago)).collect();
            for deeds in of_these.chunks(Notice::MOST_DEEDS) {
                if self.words.capacity() > MOST_WORDS / 2 {
                    self.say(&Notice::Deeds(progress, deeds.to_vec()));
                }
            }
        }
    }

    /// Asks the others what they know of errors, as soon as they are heard.
    async fn ask_for_errors(&self) -> Infallible {
        self.listens.notified().await;
        self.say(&Notice::Asks);
        sleep(ASKS_AGAIN_AFTER).await;
        self.say(&Notice::Asks);
        pending().await
    }

    async fn ask_for_names(&self) -> Infallible {
        loop {
            self.limits.wants_names().await;
            self.say(&Notice::Who);
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
