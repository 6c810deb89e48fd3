//! Where broker and portal meet: takes deliveries, works on them in slots, settles each exactly once.
//!
//! The life of a job: decode → view the document → room in the GSTIN's lane → pre-flight → its turn, and a slot →
//! session and rate → look up if in doubt → submit → check what is signed → settle (a pure decision) → publish,
//! confirmed → acknowledge, always last.

mod accept;
mod attempt;
mod batch;
mod calls;
mod carry;
mod case;
mod copies;
mod doubt;
mod fleet;
mod gate;
mod lanes;
mod letters;
#[doc(hidden)]
pub mod measured;
mod paused;
mod portal;
mod portals;
mod requests;
mod resync;
mod rights;
mod routes;
mod run;
mod scaling;
mod settle;
mod unknowns;

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::broker::{Delivery, Publication, Publisher};
use crate::config::credentials::{Changes, Credentials};
use crate::config::{Config, DeadLetterPayload};
use crate::control::Paused;
use crate::crash::{CrashPoints, Point};
use crate::document::{self, BadDocument};
use crate::gstin::Gstin;
use crate::job::{self, Body, Class, Job, Operation, Properties};
use crate::limits::{Limits, Refusals, Scaling, Slots};
use crate::outcome::{ErrorEntry, ErrorSource, Reason};
use crate::preflight::{self, Preflight};
use crate::request;
use crate::retry::Ladder;
use crate::signature::Keyring;
use crate::telemetry::{Queues, Recent, Traces};

use case::{Case, SWEPT, Subject};
use copies::Copies;
use fleet::Fleet;
use lanes::{Around, Lanes, Window};
use resync::Resyncs;
use settle::{Ending, Settlement, Standing};
use unknowns::Unknowns;

pub use copies::{AnnounceDeed, Told};
pub use fleet::watch;
pub use letters::watch_letters;
pub use portals::{Portal, Portals};
pub use routes::{Route, Routes};
pub use run::{Stopped, run};
pub use scaling::watch_backlog;

/// Everything a job needs, shared by all tasks of one process.
#[derive(Debug)]
pub struct Worker {
    config: Arc<Config>,
    credentials: Arc<ArcSwap<Credentials>>,
    routes: Routes,
    keyring: Keyring,
    preflight: Arc<Preflight>,
    limits: Arc<Limits>,
    refusals: Refusals,
    slots: Arc<Slots>,
    /// Batches that are split at once: no call is made for them, so a portal that is down does not keep them waiting.
    splitting: batch::Turns,
    splitting_urgent: batch::Turns,
    lanes: Lanes,
    resyncs: Resyncs,
    ladder: Ladder,
    publisher: Publisher,
    paused: Paused,
    recent: Recent,
    queues: Queues,
    fleet: Fleet,
    scaling: Arc<Scaling>,
    unknowns: Unknowns,
    copies: Copies,
    traces: Traces,
    /// Whether the broker may hand out deliveries to us now.
    taking: watch::Sender<bool>,
    replica: String,
    crash: CrashPoints,
    /// A stop was asked: nothing new is sent.
    stop: CancellationToken,
    /// The grace is over: what still runs is left to redelivery.
    abandon: CancellationToken,
}

/// What a worker is made of.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is named as its type")]
pub struct Parts {
    pub config: Arc<Config>,
    pub credentials: Arc<ArcSwap<Credentials>>,
    pub routes: Routes,
    pub keyring: Keyring,
    pub preflight: Arc<Preflight>,
    pub limits: Arc<Limits>,
    pub slots: Arc<Slots>,
    pub ladder: Ladder,
    pub publisher: Publisher,
    pub traces: Traces,
    pub paused: Paused,
    pub recent: Recent,
    pub queues: Queues,
    pub replica: String,
    pub stop: CancellationToken,
}

impl Worker {
    /// A worker that has not started yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            lanes: Lanes::new(
                Arc::clone(&parts.slots),
                parts.config.irp.concurrency_per_gstin,
                Window {
                    prefetch: parts.config.broker.prefetch,
                    share: parts.config.broker.share_per_gstin,
                },
                &parts.ladder,
            ),
            resyncs: Resyncs::default(),
            unknowns: Unknowns::default(),
            copies: Copies::default(),
            traces: parts.traces,
            scaling: Arc::new(Scaling::new(parts.config.scaling.work_off_within)),
            config: parts.config,
            credentials: parts.credentials,
            routes: parts.routes,
            keyring: parts.keyring,
            preflight: parts.preflight,
            limits: parts.limits,
            refusals: Refusals::default(),
            slots: parts.slots,
            splitting: batch::Turns::new(),
            splitting_urgent: batch::Turns::new(),
            ladder: parts.ladder,
            publisher: parts.publisher,
            paused: parts.paused,
            recent: parts.recent,
            queues: parts.queues,
            fleet: Fleet::default(),
            taking: watch::Sender::new(false),
            replica: parts.replica,
            crash: CrashPoints::from_environment(),
            stop: parts.stop,
            abandon: CancellationToken::new(),
        }
    }

    /// Drops what has become of no use since the last time. To be called now and then.
    pub fn tidy(&self) {
        self.limits.tidy();
        self.refusals.tidy();
        for portal in self.routes.portals() {
            portal.breakers.forget_the_past();
        }
        self.lanes.tidy();
        self.resyncs.forget_the_old();
        self.copies.tidy();
    }

    /// From now on, the other replicas are told of what is done for jobs that came in doubt.
    pub fn announce_deeds_as(&self, announce: Box<AnnounceDeed>) {
        self.copies.announce_as(announce);
    }

    /// What another replica says of a job that came in doubt: copies of it wait, or are looked up first.
    pub fn heard_deed(&self, told: Told) {
        self.copies.heard(told);
    }

    /// What a replica should know that has just begun.
    pub fn deeds_of_late(&self) -> Vec<Told> {
        self.copies.of_late()
    }

    /// Its name among the replicas.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// What it was configured with.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The accounts in use now.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.load_full()
    }

    /// Uses these accounts from now on. What is known of those that changed is of no use any more.
    pub fn use_credentials(&self, credentials: Credentials, changes: &Changes) {
        self.credentials.store(Arc::new(credentials));
        let now = self.credentials.load();
        self.routes.serve(&now);
        for portal in self.routes.portals() {
            let changed = changes.all().copied();
            let accounts = changed.map(|gstin| (gstin, now.accounts.get(&gstin).cloned()));
            portal.sessions.replace(accounts);
        }
    }

    /// An operator has seen to the cause of this GSTIN's trouble: its errors so far are forgiven, what its account was
    /// refused for is forgotten, and its jobs go on.
    pub fn resume(&self, gstin: &Gstin) {
        self.limits.resume(gstin);
        for portal in self.routes.portals() {
            portal.sessions.forget_refusal(gstin);
        }
    }

    /// The same for a client: the errors so far of all its GSTINs together are forgiven.
    pub fn resume_client(&self, client: &str) {
        self.limits.resume_client(client);
    }

    /// What operators have paused.
    pub fn paused(&self) -> &Paused {
        &self.paused
    }

    /// Whether another system seems to use this GSTIN's API user, too.
    fn is_contended(&self, gstin: &Gstin) -> bool {
        self.routes
            .portals()
            .any(|portal| portal.sessions.is_contended(gstin))
    }

    /// What the lanes cannot see of the world around them.
    fn around(&self) -> Around {
        Around {
            alone: self.credentials.load().accounts.len() <= 1,
            replicas: self.limits.replicas().get(),
            passes_on: false,
            queue: self.fleet.queue(),
            urgent_queue: self.fleet.urgent_queue(),
        }
    }

    /// The same for one job. One in doubt would be taken up again before that is old enough to be settled, and one that was handed
    /// out before must not escape its queue's delivery limit.
    fn around_one(&self, case: &Case) -> Around {
        Around {
            passes_on: !case.in_doubt() && !case.job.redelivered,
            ..self.around()
        }
    }

    /// How many of a GSTIN's jobs are being worked on now, and how many wait for their turn.
    pub fn held(&self, gstin: &Gstin) -> (usize, usize) {
        self.lanes.held(gstin)
    }

    /// Whether a dead letter has its document, so that it can be replayed.
    fn keeps_letters(&self) -> bool {
        self.config.dead_letter.payload == DeadLetterPayload::Keep
    }

    /// A letter for `irn.dead` or `irn.poison`, with what of the message may be kept there.
    fn letter(
        &self,
        queue: &'static str,
        properties: Properties,
        body: &Body,
    ) -> Publication<'static> {
        let (properties, body) = match self.config.dead_letter.payload {
            DeadLetterPayload::Keep => (properties, body.clone()),
            DeadLetterPayload::Drop => (job::without_foreign_headers(properties), Body::default()),
        };
        Publication {
            exchange: "".into(),
            routing_key: queue.into(),
            properties,
            body,
        }
    }

    /// Works on one delivery until it is settled, or the grace is over.
    async fn work(&self, delivery: Delivery) {
        let last_resort = delivery.acknowledger.last_resort();
        // Where it stays: handed over as it is, it would be in this task twice.
        let working = pin!(AssertUnwindSafe(self.work_and_settle(delivery)).catch_unwind());
        // Dropped at the end of the grace, the delivery stays unacknowledged, and closing the channel redelivers it.
        if let Some(Err(_)) = self.abandon.run_until_cancelled(working).await {
            last_resort.reject().await;
        }
    }

    async fn work_and_settle(&self, delivery: Delivery) {
        let Delivery {
            routing_key,
            redelivered,
            properties,
            body,
            acknowledger,
        } = delivery;
        self.crash.at(Point::Delivered);
        let job = match job::decode(properties, &routing_key, redelivered, body) {
            Ok(mut job) => {
                job.publisher = self.publisher_of(&job.sender);
                job
            }
            Err(unreadable) => return carry::poison(self, *unreadable, acknowledger).await,
        };
        if job.operation == Operation::Generate && batch::is_batch(job.body.as_bytes()) {
            self.crash.at(Point::Decoded);
            let turns = self.turns_of(job.class());
            let turn = tokio::select! {
                biased;
                turn = turns.turn(job.body.as_bytes().len(), batch::is_in_doubt(&job)) => {
                    turn.map_err(|wait| Ending::Deferred { wait, why: SWEPT })
                }
                () = self.stop.cancelled() => Err(Ending::HandedBack),
            };
            let _turn = match turn {
                Ok(turn) => turn,
                Err(ending) => {
                    let case = Case::new(job, Subject::Unnamed, acknowledger, &self.traces);
                    return self.settle_and_carry_out(case, ending).await;
                }
            };
            return batch::split(self, job, acknowledger).await;
        }
        let body = job.body.as_bytes();
        let opened = match job.operation {
            Operation::Generate => document::read(body).map(Subject::Document),
            Operation::Cancel => request::cancel(body, job.gstin).map(Subject::Request),
            Operation::Get => request::get(body, job.gstin).map(Subject::Request),
            Operation::Ewb => request::eway_bill(body, job.gstin).map(Subject::Request),
        };
        self.crash.at(Point::Decoded);
        match opened {
            Ok(subject) => {
                self.attempt_and_settle(Case::new(job, subject, acknowledger, &self.traces))
                    .await
            }
            Err(BadDocument::NotJson { line, column }) => {
                let problem =
                    format!("the body is not JSON in UTF-8 (line {line}, column {column})");
                carry::poison(self, job.into_unreadable(problem), acknowledger).await;
            }
            Err(BadDocument::Refused(findings)) => {
                let refused = self.refused(&job, &findings);
                let case = Case::new(job, Subject::Unnamed, acknowledger, &self.traces);
                let ending = self.not_permitted(&case.job, case.gstin.as_ref());
                let ending = ending.unwrap_or(refused);
                self.settle_and_carry_out(case, ending).await;
            }
        }
    }

    fn turns_of(&self, class: Class) -> &batch::Turns {
        match class {
            Class::Bulk => &self.splitting,
            Class::Urgent => &self.splitting_urgent,
        }
    }

    /// The ending of a job whose body is JSON, but not what it has to be. In a document more may be wrong.
    fn refused(&self, job: &Job, findings: &[document::Finding]) -> Ending {
        let report = match job.operation {
            Operation::Generate => {
                let body = job.body.as_bytes();
                self.preflight
                    .check_after(findings, body, Timestamp::now(), job.gstin)
            }
            Operation::Cancel | Operation::Get | Operation::Ewb => preflight::Report::of(findings),
        };
        refused_by_preflight(&report)
    }

    async fn attempt_and_settle(&self, case: Case) {
        let ending = if self.stop.is_cancelled() || self.gate().is_shut() {
            Ending::HandedBack
        } else if let Some(ending) = self.not_permitted(&case.job, case.gstin.as_ref()) {
            ending
        } else {
            // The delivery stays outside what may panic, so that it can be settled whatever happens in there.
            let attempt = AssertUnwindSafe(attempt::attempt(self, &case)).catch_unwind();
            attempt.await.unwrap_or_else(|_| panicked())
        };
        self.settle_and_carry_out(case, ending).await;
    }

    async fn settle_and_carry_out(&self, case: Case, ending: Ending) {
        let standing = Standing {
            attempt: case.job.attempt,
            max_attempts: self.config.retry.max_attempts.get(),
            doubt: case.in_doubt(),
            young_doubt: case.doubt_is_young(),
            session_refused_before: case.session_was_refused_before(),
            portal_down: self.gate().is_shut(),
            portal_down_before: case.portal_was_down_before(),
            ladder: &self.ladder,
            settle_time: self.config.irp.settle_time,
        };
        let settlement: Settlement = settle::settle(&ending, &standing);
        self.crash.at(Point::Settled);
        let (began, ends_job) = (case.began_to_work(), settlement.ends_job());
        carry::carry_out(self, case, &ending, settlement).await;
        self.scaling.worked(began.elapsed(), ends_job);
    }
}

fn refused_by_preflight(report: &preflight::Report) -> Ending {
    let entry = |finding: &preflight::Finding| ErrorEntry {
        source: ErrorSource::Preflight,
        code: finding.code.to_owned(),
        message: finding.message.clone(),
        path: Some(finding.path.clone()),
    };
    Ending::Rejected {
        errors: report.errors().map(entry).collect(),
        info: Vec::new(),
    }
}

fn panicked() -> Ending {
    let message = "the worker failed inside; the job is kept, please report it";
    Ending::GaveUp {
        reason: Reason::Panicked,
        errors: vec![ErrorEntry::worker(Reason::Panicked, message)],
    }
}
