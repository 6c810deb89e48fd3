//! One job being worked on: what came in, and what has been learned of it so far.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::lanes::AtHead;
use crate::broker::Acknowledger;
use crate::document::Document;
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::job::{Again, Job, Operation, PriorOutcome};
use crate::limits::Slot;
use crate::request::Request;
use crate::telemetry::{About, JobSpan, Traces};

/// What an attempt ends with when the session was refused, or its key did not fit, and the next one as well.
const SESSION_CODES: [&str; 7] = [
    "1005",
    "1015",
    "1020",
    "401",
    "238",
    "106",
    "undecipherable",
];

/// The portal's code for a document that is registered already.
pub(super) const DUPLICATE: &str = "2150";

/// The portal's code for a payload that its schema does not know, or for a failure of its own.
pub(super) const DOES_NOT_FIT: &str = "2140";

/// The portal's codes for an e-way bill that is there already.
const ISSUED_BEFORE: [&str; 2] = ["4002", "4026"];

/// What an attempt ends with that failed because the portal was down.
pub(super) const PORTAL_DOWN: &str = "portal_down";

/// What an attempt ends with whose request the portal refused without saying why.
pub(super) const UNEXPLAINED: &str = "unexplained";

/// What a job is deferred with whose GSTIN has no session here, and no login left.
pub(super) const LOGIN_RATE: &str = "login rate";

/// What a job is deferred with before anybody has looked at it.
pub(super) const SWEPT: &str = "swept";

/// What a job is deferred with that an operator's pause keeps from the portal before anybody has looked at it.
pub(super) const PAUSED: &str = "paused";

/// The same for a job that was judged before.
pub(super) const HELD: &str = "held";

/// A login or a slot is there within this time, or those behind wait no longer for the one that waits for it.
const BRIEFLY: Duration = Duration::from_secs(1);

/// Whether what an attempt ended with has a say in how a later one is judged.
pub(super) fn decides_later(code: &str) -> bool {
    SESSION_CODES.contains(&code) || [DOES_NOT_FIT, PORTAL_DOWN, UNEXPLAINED].contains(&code)
}

/// What a job is about.
#[derive(Debug)]
pub(super) enum Subject {
    /// The document of a `generate` job.
    Document(Document),
    /// What a `cancel`, `get` or `ewb` job asks for.
    Request(Request),
    /// Its body does not say.
    Unnamed,
}

impl Subject {
    /// The document, where its details are known.
    pub(super) fn document(&self) -> Option<&Document> {
        match self {
            Self::Document(document) => Some(document),
            Self::Request(request) => request.document(),
            Self::Unnamed => None,
        }
    }

    /// Whose document it is, where that is known: not always the one whose credentials are used.
    pub(super) fn seller(&self) -> Option<Gstin> {
        match self {
            Self::Document(document) => Some(document.seller),
            Self::Request(request) => request.seller(),
            Self::Unnamed => None,
        }
    }

    /// What a person knows it by, for the `x-irn-document` header.
    pub(super) fn label(&self) -> Option<String> {
        let by_irn = || Some(format!("IRN {}", self.irn()?));
        self.document().map(Document::label).or_else(by_irn)
    }

    /// The IRN, given or computed.
    pub(super) fn irn(&self) -> Option<Irn> {
        match self {
            Self::Document(document) => Some(document.irn()),
            Self::Request(request) => Some(request.irn()),
            Self::Unnamed => None,
        }
    }
}

/// A job under way. Outlives the attempt, so that a panic there leaves everything needed to settle it.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) job: Job,
    pub(super) id: String,
    pub(super) subject: Subject,
    /// Whose credentials are used.
    pub(super) gstin: Option<Gstin>,
    pub(super) received: Instant,
    pub(super) received_at: Timestamp,
    pub(super) acknowledger: Acknowledger,
    doubt: AtomicBool,
    /// The doubt is younger than any rung the job has waited on.
    young: AtomicBool,
    refused: AtomicBool,
    duplicate: AtomicBool,
    irp_ms: AtomicU64,
    waited_micros: AtomicU64,
    code: Mutex<Option<String>>,
    /// Held until the job is settled: what cannot be published must not pile up.
    slot: OnceLock<(Slot, Option<Slot>)>,
    /// When it had its turn.
    turned: OnceLock<Instant>,
    /// When it was first sent in this attempt.
    sent: OnceLock<Instant>,
    /// Held until its GSTIN's rate has let it go, or has not.
    head: Mutex<Option<AtHead>>,
    /// The portal that the document may be registered at; none: at any.
    portal: Mutex<Option<Arc<str>>>,
    /// Where it is traced.
    pub(super) span: Option<JobSpan>,
}

impl Case {
    /// A case for a decoded job. `subject` is the view of its body.
    pub(super) fn new(
        job: Job,
        subject: Subject,
        acknowledger: Acknowledger,
        traces: &Traces,
    ) -> Self {
        let irn = subject.irn();
        let gstin = job
            .gstin
            .or_else(|| subject.document().map(|document| document.seller));
        // What changes nothing may be asked again at any time.
        let doubt = job.operation.changes_something()
            && (job.redelivered || job.outcome == PriorOutcome::Unknown);
        let mut case = Self {
            id: job.id(irn.as_ref().map(Irn::as_str)),
            subject,
            gstin,
            received: Instant::now(),
            received_at: Timestamp::now(),
            acknowledger,
            doubt: AtomicBool::new(doubt),
            // An unknown outcome that no worker has published has waited on no rung.
            young: AtomicBool::new(doubt && (job.redelivered || job.first_seen.is_none())),
            duplicate: AtomicBool::new(job.last_error.as_deref() == Some(DUPLICATE)),
            refused: AtomicBool::new(job.outcome == PriorOutcome::Refused),
            irp_ms: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
            code: Mutex::new(None),
            slot: OnceLock::new(),
            turned: OnceLock::new(),
            sent: OnceLock::new(),
            head: Mutex::default(),
            portal: Mutex::new(pin(&job)),
            span: None,
            job,
        };
        let queued = || case.job.queued(case.received_at);
        case.span = traces.attempt(&case.job, case.about(), queued);
        case
    }

    /// The document that nobody else may be at work on meanwhile; none where nothing is changed.
    pub(super) fn has_to_itself(&self) -> Option<Irn> {
        let changes = self.job.operation.changes_something();
        changes.then(|| self.subject.irn()).flatten()
    }

    /// The document, where its details are known.
    pub(super) fn document(&self) -> Option<&Document> {
        self.subject.document()
    }

    /// What is known of what the portal has done for it.
    pub(super) fn known(&self) -> &'static str {
        if self.in_doubt() {
            self.job.operation.unknown()
        } else {
            self.job.operation.undone()
        }
    }

    /// Whether the portal may have done what is asked for without our knowing.
    pub(super) fn in_doubt(&self) -> bool {
        self.doubt.load(Ordering::Relaxed)
    }

    /// Whether nobody has judged it before: no worker has seen it, or it only went by when its lane was full or paused.
    pub(super) fn is_unjudged(&self) -> bool {
        let before = self.job.last_error.as_deref();
        let went_by = before == Some(SWEPT) || before == Some(PAUSED);
        !self.in_doubt() && (self.job.first_seen.is_none() || went_by)
    }

    /// Whether nobody can have sent it or a copy of it: whoever saw it saw it during a pause that began then.
    pub(super) fn was_never_sendable(&self, paused_since: Timestamp) -> bool {
        let seen_before = self.job.first_seen.is_some_and(|seen| seen < paused_since);
        !self.in_doubt() && !seen_before
    }

    /// Whether no worker has had it or a copy of it in hand.
    pub(super) fn is_unseen(&self) -> bool {
        !self.in_doubt() && self.job.first_seen.is_none()
    }

    /// Whether all that is known of it is that it has waited: no attempt of it was counted, and none left anything in doubt.
    pub(super) fn has_only_waited(&self) -> bool {
        !self.in_doubt() && self.job.attempt == 1
    }

    /// It has its turn: the slot that it is worked on in, and its route's, where that has some of its own.
    pub(super) fn takes(&self, slot: Slot, of_route: Option<Slot>) {
        self.turned.get_or_init(Instant::now);
        // A second one would be free again at once.
        drop(self.slot.set((slot, of_route)));
    }

    /// When it was first sent in this attempt, if it was.
    pub(super) fn sent_at(&self) -> Option<Instant> {
        self.sent.get().copied()
    }

    /// Whether it had its turn before that.
    pub(super) fn had_turn_before(&self, then: Instant) -> bool {
        self.turned.get().is_some_and(|turned| *turned <= then)
    }

    /// It is at the head of its lane.
    pub(super) fn comes_to_head(&self, head: Option<AtHead>) {
        if let Ok(mut at) = self.head.lock() {
            *at = head;
        }
    }

    /// The next one of its lane may wait for the rate.
    pub(super) fn leaves_head(&self) {
        self.comes_to_head(None);
    }

    /// Does something that the rate does not depend on, and in which those behind it do not wait for it for long.
    pub(super) async fn briefly_at_head<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let is_at_head = self.head.lock().is_ok_and(|head| head.is_some());
        if is_at_head {
            if let Ok(done) = timeout(BRIEFLY, work.as_mut()).await {
                return done;
            }
            self.leaves_head();
        }
        work.await
    }

    /// Whether it may not be submitted any more.
    pub(super) fn is_past_deadline(&self) -> bool {
        self.job
            .deadline
            .is_some_and(|deadline| deadline < Timestamp::now())
    }

    /// It may have been done, at whatever portal: somebody else has it in hand, or had.
    pub(super) fn doubt(&self) {
        let doubt = self.job.operation.changes_something();
        self.doubt.store(doubt, Ordering::Relaxed);
        self.young.store(doubt, Ordering::Relaxed);
        self.pin(None);
    }

    /// A request is about to leave for this portal: from now on its outcome is unknown until the portal says something
    /// readable.
    pub(super) fn doubt_at(&self, portal: &Arc<str>) {
        self.sent.get_or_init(Instant::now);
        self.doubt();
        self.pin(Some(Arc::clone(portal)));
    }

    /// The one portal that may have registered the document, if it is one.
    pub(super) fn portal(&self) -> Option<Arc<str>> {
        self.portal.lock().ok().and_then(|portal| portal.clone())
    }

    fn pin(&self, to: Option<Arc<str>>) {
        if let Ok(mut portal) = self.portal.lock() {
            *portal = to;
        }
    }

    /// A copy of this job may have been worked on, long enough ago for a look-up to settle it.
    pub(super) fn doubt_again(&self) {
        self.doubt.store(true, Ordering::Relaxed);
    }

    /// It was in doubt before, at this portal or nobody knows where, and is so still.
    pub(super) fn doubt_still(&self, at: Option<Arc<str>>) {
        self.doubt_again();
        self.pin(at);
    }

    /// Whether the doubt arose just now, so that a look-up that finds nothing proves nothing yet.
    pub(super) fn doubt_is_young(&self) -> bool {
        self.in_doubt() && self.young.load(Ordering::Relaxed)
    }

    /// The portal has said that nothing is registered.
    pub(super) fn clear_doubt(&self, refused: bool) {
        self.doubt.store(false, Ordering::Relaxed);
        self.pin(None);
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// The portal has refused this document as a duplicate before, in this attempt or an earlier one: it is registered,
    /// even if no look-up finds it yet, and must not be submitted again.
    pub(super) fn is_known_duplicate(&self) -> bool {
        self.in_doubt() && self.duplicate.load(Ordering::Relaxed)
    }

    /// See [`Case::is_known_duplicate`].
    pub(super) fn note_duplicate(&self, portal: &Arc<str>) {
        self.doubt_at(portal);
        self.duplicate.store(true, Ordering::Relaxed);
    }

    /// Whether the attempt before this one ended with the session refused.
    pub(super) fn session_was_refused_before(&self) -> bool {
        let before = self.job.last_error.as_deref();
        before.is_some_and(|code| SESSION_CODES.contains(&code))
    }

    /// Whether the portal has said that there is an e-way bill already.
    pub(super) fn was_said_to_be_issued(&self) -> bool {
        let before = self.job.last_error.as_deref();
        let is_said = before.is_some_and(|code| ISSUED_BEFORE.contains(&code));
        is_said && self.job.operation == Operation::Ewb
    }

    /// Whether the attempt before this one failed because the portal was down.
    pub(super) fn portal_was_down_before(&self) -> bool {
        self.job.last_error.as_deref() == Some(PORTAL_DOWN)
    }

    /// Whether the portal has refused the request without saying why: if a look-up finds nothing done, it is not sent again
    /// as it is.
    pub(super) fn was_unexplained(&self) -> bool {
        self.in_doubt() && self.job.last_error.as_deref() == Some(UNEXPLAINED)
    }

    /// Adds the time of one portal call.
    pub(super) fn add_irp_time(&self, taken: Duration) {
        self.irp_ms.fetch_add(millis(taken), Ordering::Relaxed);
    }

    /// Milliseconds spent waiting for the portal.
    pub(super) fn irp_ms(&self) -> u64 {
        self.irp_ms.load(Ordering::Relaxed)
    }

    /// Adds the time of one wait for its lane, a session or a limit.
    pub(super) fn add_wait(&self, taken: Duration) {
        let micros = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        self.waited_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// When it would have been received had there been none of those waits.
    pub(super) fn began_to_work(&self) -> Instant {
        self.received + Duration::from_micros(self.waited_micros.load(Ordering::Relaxed))
    }

    /// The last code the portal or the transport gave, for `x-irn-error`.
    pub(super) fn note_code(&self, code: &str) {
        if let Ok(mut last) = self.code.lock() {
            *last = Some(code.to_owned());
        }
    }

    /// See [`Case::note_code`].
    pub(super) fn last_code(&self) -> Option<String> {
        self.code.lock().ok().and_then(|last| last.clone())
    }

    /// What the next one to see this job has to know.
    pub(super) fn outcome(&self) -> PriorOutcome {
        match (self.in_doubt(), self.refused.load(Ordering::Relaxed)) {
            (true, _) => PriorOutcome::Unknown,
            (false, true) => PriorOutcome::Refused,
            (false, false) => PriorOutcome::NotSent,
        }
    }

    /// Whether its outcome was unknown when it was delivered.
    pub(super) fn came_in_doubt(&self) -> bool {
        self.job.redelivered || self.job.outcome == PriorOutcome::Unknown
    }

    /// When a worker first saw it.
    pub(super) fn first_seen(&self) -> Timestamp {
        self.job.first_seen.unwrap_or(self.received_at)
    }

    /// Headers for publishing it again.
    pub(super) fn again<'a>(&self, attempt: u32, error: Option<&'a str>) -> Again<'a> {
        Again {
            attempt,
            outcome: self.outcome(),
            first_seen: Some(self.first_seen()),
            error,
            portal: self.portal(),
        }
    }

    /// Who this is about, for telemetry.
    pub(super) fn about(&self) -> About<'_> {
        About {
            job_id: &self.id,
            gstin: self.gstin.as_ref(),
            attempt: self.job.attempt,
            span: self.span.as_ref(),
        }
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The portal that a job in doubt is bound to. One that was handed out again may have been submitted elsewhere since the
/// header was written.
fn pin(job: &Job) -> Option<Arc<str>> {
    let is_sure = job.outcome == PriorOutcome::Unknown && !job.redelivered;
    job.portal.as_deref().filter(|_| is_sure).map(Arc::from)
}
