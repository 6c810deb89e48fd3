//! What the worker tells of itself: one function per event, log line and metric together, so they cannot drift.
//!
//! One rule: an event takes typed, allow-listed values. No function here accepts a document, a portal's text or a
//! secret, so none can be logged.

mod backlog;
mod catalogue;
pub mod control;
pub mod credentials;
mod lines;
mod portal;
mod traces;

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogConfig, LogFormat};
use crate::gstin::Gstin;
use crate::irn::Irn;
use crate::outcome::{Reason, SignatureState, Status, Timing};

mod limits;
mod portals;
mod queues;
mod recent;

use lines::Lines;

pub use backlog::{consumers_seen, queue_messages, unknown_outcome_age};
pub use catalogue::{Kind, METRICS, Metric};
pub use limits::{
    BudgetOf, budget_crossed, budget_resumed, budget_used, replicas_seen, useful_replicas,
};
pub use lines::Flush;
pub use portal::{BreakerState, breaker_changed, breaker_state, clock_skew, concurrency_limit};
pub use portals::{
    gstin_synchronised, looked_up_elsewhere, registered_otherwise, token_contention,
    turned_to_failover,
};
pub use queues::{QueueCount, QueueCounts, Queues};
pub use recent::{Count, Recent};
pub use traces::{CallSpan, JobSpan, ResultSpan, Traces, TracesFault};

/// Seconds in the histograms of jobs and portal calls: a job behind the ladder may take an hour.
const BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 300.0, 3600.0,
];

/// Starts logging to standard error. Libraries beneath the worker are never let below `info`, whatever is asked:
/// at `trace` they print the frames and bodies that pass through them.
///
/// What it gives is to be held until the end: JSON lines are written some at a time.
///
/// # Errors
/// The operating system gives no thread to write them.
pub fn init_logging(config: &LogConfig) -> io::Result<Option<Flush>> {
    let ours = LevelFilter::from_level(config.level);
    let theirs = ours.min(LevelFilter::WARN);
    let filter = Targets::new()
        .with_default(theirs)
        // It warns of every returned message, body included.
        .with_target("lapin", LevelFilter::OFF)
        .with_target("irn_worker", ours);
    let registry = tracing_subscriber::registry().with(filter);
    let (started, flush) = match config.format {
        LogFormat::Json => {
            let (writer, flush) = Lines::start(io::stderr())?;
            let lines = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(writer);
            (registry.with(lines).try_init(), Some(flush))
        }
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal();
            let lines = tracing_subscriber::fmt::layer()
                .with_ansi(colour)
                .with_writer(std::io::stderr);
            (registry.with(lines).try_init(), None)
        }
    };
    // A second subscriber in one process can only be a test's; the first one stays.
    drop(started);
    hide_panic_messages();
    Ok(flush)
}

/// A panic's message may quote what it tripped over, so only its place is told. Whether a job was in its hands, it does not
/// say: where one was, whoever settles it does, and threads of libraries have none.
fn hide_panic_messages() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        error!(panic.location = place, "a task or thread panicked");
    }));
}

/// Starts the metrics of this process and gives the handle that renders them.
pub fn init_metrics() -> Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
        .build_recorder();
    let handle = recorder.handle();
    // As with the subscriber: only a test can have been here before.
    drop(metrics::set_global_recorder(recorder));
    catalogue::describe();
    Ok(handle)
}

/// Whether the worker takes jobs, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not attached yet.
    Starting,
    /// Attached to the job queues now.
    Consuming,
    /// The broker is gone; trying to come back.
    BrokerLost,
    /// Attached, but results cannot be published, so no job is taken.
    PublisherLost,
    /// The portal is down: the jobs stay in their queues.
    PortalDown,
    /// An operator has paused everybody: the jobs stay in their queues.
    Paused,
    /// It is not known yet who is paused, so no job is taken.
    PausesUnread,
    /// Finishing what runs; takes nothing new.
    Draining,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Consuming => "consuming",
            Self::BrokerLost => "no broker connection",
            Self::PublisherLost => "no broker connection for results",
            Self::PortalDown => "the portal's breaker is open",
            Self::Paused => "paused by an operator",
            Self::PausesUnread => "waiting to learn what is paused",
            Self::Draining => "draining",
        })
    }
}

/// The worker's state, for readiness: set by whoever finds out, read by the admin endpoint.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<State>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::Starting)))
    }
}

impl Readiness {
    /// The state now.
    pub fn state(&self) -> State {
        *self.0.borrow()
    }

    /// The state as it changes.
    pub fn changes(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    /// Tells of a change; a drain is final.
    pub fn set(&self, state: State) {
        let changed = self.0.send_if_modified(|now| {
            let changes = *now != state && *now != State::Draining;
            if changes {
                *now = state;
            }
            changes
        });
        if changed {
            let ready = if state == State::Consuming { 1.0 } else { 0.0 };
            gauge!("irn_worker_ready").set(ready);
            let paused = if state == State::Paused { 1.0 } else { 0.0 };
            gauge!("irn_worker_paused").set(paused);
            info!(state = %state, "worker is {state}");
        }
    }
}

/// Who an event is about: ids that may be logged.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The job's id.
    pub job_id: &'a str,
    /// Its GSTIN, once known.
    pub gstin: Option<&'a Gstin>,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Its span, where it is traced: what is logged and counted of the job is told there too.
    pub span: Option<&'a JobSpan>,
}

impl About<'_> {
    fn gstin(&self) -> &str {
        self.gstin.map(Gstin::as_str).unwrap_or_default()
    }
}

/// A number a log can hold: JSON has no place for the 128 bits of `as_millis`.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How a job ended: what may be logged of it. The IRN names the document; its number is in no log.
#[derive(Clone, Copy, Debug)]
pub struct Settled<'a> {
    /// What it asked for.
    pub operation: &'static str,
    /// How it ended.
    pub status: Status,
    /// The code of the first error, if there was one.
    pub code: &'a str,
    /// Registered by an earlier attempt or message.
    pub recovered: bool,
    /// The document's, where it could be read.
    pub irn: Option<&'a Irn>,
    /// Whether it is in `irn.dead` or `irn.poison` as well.
    pub dead_lettered: bool,
    /// Where the time went.
    pub timing: Timing,
}

/// A job ended in a result, so long after its delivery.
pub fn job_settled(about: About<'_>, settled: Settled<'_>, total: Duration) {
    let Settled {
        operation,
        status,
        recovered,
        dead_lettered,
        timing,
        ..
    } = settled;
    counter!("irn_worker_jobs_total", "operation" => operation, "status" => status.as_str())
        .increment(1);
    histogram!("irn_worker_job_seconds").record(total.as_secs_f64());
    let (job, gstin, attempt) = (about.job_id, about.gstin(), about.attempt);
    let code = bounded_code(settled.code);
    if let Some(span) = about.span {
        span.settled(status, code, recovered);
    }
    let irn = settled.irn.map(Irn::as_str).unwrap_or_default();
    let status = status.as_str();
    let (queued_ms, irp_ms, total_ms) = (timing.queued, timing.irp, timing.total);
    info!(
        job.id = job,
        operation,
        gstin,
        irn,
        attempt,
        status,
        code,
        recovered,
        dead_lettered,
        queued_ms,
        irp_ms,
        total_ms,
        "job {status}"
    );
}

/// A job goes to the ladder, counted as an attempt or not.
pub fn job_retried(about: About<'_>, rung: &str, code: &str, unknown: bool, counted: bool) {
    counter!("irn_worker_retries_total", "rung" => rung.to_owned()).increment(1);
    if unknown {
        counter!("irn_worker_unknown_outcomes").increment(1);
    }
    let (job, gstin, attempt) = (about.job_id, about.gstin(), about.attempt);
    let code = bounded_code(code);
    if let Some(span) = about.span {
        span.retried(rung, code, unknown);
    }
    warn!(
        job.id = job,
        gstin, attempt, rung, code, unknown, counted, "job waits on the {rung} rung"
    );
}

/// A job waits for a limit: not an attempt, not an error.
pub fn job_deferred(about: About<'_>, rung: &str, reason: &'static str) {
    counter!("irn_worker_deferred_total", "reason" => reason).increment(1);
    if let Some(span) = about.span {
        span.deferred(rung, reason);
    }
    let (job, gstin, attempt) = (about.job_id, about.gstin(), about.attempt);
    debug!(
        job.id = job,
        gstin, attempt, rung, reason, "job deferred to the {rung} rung"
    );
}

/// A job the worker gave up on, or a delivery it could not read.
pub fn job_dead_lettered(about: About<'_>, reason: Reason, code: &str, unknown: bool) {
    counter!("irn_worker_dead_letters_total", "reason" => reason.as_str()).increment(1);
    if let Some(span) = about.span {
        span.dead_lettered(reason, unknown);
    }
    let (job, gstin, attempt, reason) =
        (about.job_id, about.gstin(), about.attempt, reason.as_str());
    let code = bounded_code(code);
    error!(
        job.id = job,
        gstin, attempt, reason, code, unknown, "job dead-lettered"
    );
}

/// A job was published to its queue again, for another replica to do it.
pub fn job_passed_on(about: About<'_>, reason: &'static str) {
    counter!("irn_worker_passed_on_total").increment(1);
    if let Some(span) = about.span {
        span.passed_on(reason);
    }
    let (job, gstin, attempt) = (about.job_id, about.gstin(), about.attempt);
    debug!(
        job.id = job,
        gstin, attempt, reason, "job left to another replica"
    );
}

/// A job was handed back unstarted.
pub fn job_handed_back(about: About<'_>) {
    if let Some(span) = about.span {
        span.handed_back();
    }
    let (job, gstin) = (about.job_id, about.gstin());
    info!(job.id = job, gstin, "job handed back to its queue");
}

/// A delivery was left to the broker's redelivery.
pub fn job_abandoned(about: About<'_>, why: &'static str) {
    if let Some(span) = about.span {
        span.abandoned(why);
    }
    let (job, gstin) = (about.job_id, about.gstin());
    warn!(job.id = job, gstin, why, "delivery left to redelivery");
}

/// A document was a batch and has been split into jobs or, where it was long, into so many parts first.
pub fn batch_split(job_id: &str, documents: usize, parts: Option<usize>, taken: Duration) {
    let taken_ms = millis(taken);
    match parts {
        None => info!(
            job.id = job_id,
            documents, taken_ms, "batch split into {documents} jobs"
        ),
        Some(parts) => info!(
            job.id = job_id,
            documents, parts, taken_ms, "batch of {documents} documents cut into {parts} parts"
        ),
    }
}

/// A message whose properties lapin cannot read ended the connection.
pub fn malformed_message() {
    error!(
        "a message with malformed properties ended the connection; taking deliveries one by one until the broker's \
         delivery limit moves it to irn.poison"
    );
}

/// A result could not be routed to the queue the ERP named.
pub fn result_undeliverable(about: About<'_>, reply_to: &str) {
    counter!("irn_worker_results_undeliverable_total").increment(1);
    warn!(
        job.id = about.job_id,
        reply_to, "reply queue is gone; the result goes to the default queue, marked"
    );
}

/// The portal answered, or did not.
pub fn irp_called(
    call: &'static str,
    result: &'static str,
    code: Option<&str>,
    taken: Duration,
    span: Option<CallSpan>,
) {
    if let Some(span) = span {
        span.end(result, code);
    }
    counter!("irn_worker_irp_requests_total", "call" => call, "result" => result).increment(1);
    histogram!("irn_worker_irp_request_seconds", "call" => call).record(taken.as_secs_f64());
    let code = code.map(bounded_code);
    if let Some(code) = code {
        counter!("irn_worker_irp_errors_total", "code" => code.to_owned()).increment(1);
    }
    debug!(
        call,
        result,
        code,
        taken_ms = millis(taken),
        "portal call {call}: {result}"
    );
}

/// A code as it may be logged and counted. What is no code is neither: it may be a text that quotes the document,
/// and a hostile portal could fill the memory with labels. Long enough for the worker's own codes.
pub fn bounded_code(code: &str) -> &str {
    let fit = code.len() <= 32
        && code
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if fit { code } else { "other" }
}

/// A document came again unchanged after its refusal, and was answered without a call.
pub fn refusal_repeated(about: About<'_>) {
    counter!("irn_worker_refusals_repeated_total").increment(1);
    info!(
        job.id = about.job_id,
        gstin = about.gstin(),
        "the portal refused these bytes within a day; the earlier refusal is answered"
    );
}

/// A login ended.
pub fn logged_in(gstin: &Gstin, renewed: bool, valid_for: Duration) {
    counter!("irn_worker_auth_total", "result" => "ok").increment(1);
    info!(
        gstin = gstin.as_str(),
        renewed,
        valid_for_s = valid_for.as_secs(),
        "session opened"
    );
}

/// A login failed, for good or for now.
pub fn login_failed(gstin: &Gstin, code: Option<&str>, refused: bool) {
    let result = if refused { "refused" } else { "failed" };
    counter!("irn_worker_auth_total", "result" => result).increment(1);
    let (gstin, code) = (gstin.as_str(), bounded_code(code.unwrap_or_default()));
    if refused {
        error!(
            gstin,
            code, "the portal refused this GSTIN's credentials; its jobs fail until they change"
        );
    } else {
        warn!(gstin, code, "login failed; it will be tried again");
    }
}

/// The portal gives no new token for a session that still runs.
pub fn renewal_refused(gstin: &Gstin, code: Option<&str>) {
    counter!("irn_worker_auth_total", "result" => "failed").increment(1);
    let (gstin, code) = (gstin.as_str(), bounded_code(code.unwrap_or_default()));
    warn!(
        gstin,
        code, "the portal refused to renew a session; it serves until it ends"
    );
}

/// A session was dropped because the portal refused its token or its key did not fit.
pub fn session_invalidated(gstin: &Gstin, generation: u64) {
    warn!(gstin = gstin.as_str(), generation, "session invalidated");
}

/// How many sessions are live, and how many accounts are refused.
pub fn sessions_live(live: usize, refused: usize) {
    let exact = |count| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    gauge!("irn_worker_tokens_valid").set(exact(live));
    gauge!("irn_worker_accounts_refused").set(exact(refused));
}

/// A job being worked on, from now until this is dropped.
#[derive(Debug)]
pub struct InFlight(());

impl InFlight {
    /// One more. Counted up and down, because a number read and then set would be another task's by then.
    pub fn begin() -> Self {
        gauge!("irn_worker_in_flight").increment(1.0);
        Self(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!("irn_worker_in_flight").decrement(1.0);
    }
}

/// How a registration's signatures fared.
pub fn signature_checked(about: About<'_>, state: SignatureState) {
    counter!("irn_worker_signature_total", "result" => state.as_str()).increment(1);
    if state == SignatureState::UnknownKey {
        error!(
            job.id = about.job_id,
            gstin = about.gstin(),
            "signed under a key that is not configured: add the portal's new key to irp.signing_keys"
        );
    }
}

/// Signed data that fails, or is of another document.
pub fn signature_bad(about: About<'_>, reason: Reason, fields: &[&'static str]) {
    counter!("irn_worker_signature_total", "result" => "bad").increment(1);
    let (job, gstin, reason) = (about.job_id, about.gstin(), reason.as_str());
    error!(job.id = job, gstin, reason, ?fields, "signed data refused");
}

/// The portal answered with a code nobody has classified.
pub fn unknown_code(about: About<'_>, code: &str) {
    error!(
        job.id = about.job_id,
        gstin = about.gstin(),
        code = bounded_code(code),
        "unclassified portal code; decide in irp.unknown_codes"
    );
}

/// What is registered has a status that says neither that it is valid nor that it is cancelled.
pub fn unknown_status(about: About<'_>, status: &str) {
    error!(
        job.id = about.job_id,
        gstin = about.gstin(),
        status = bounded_code(status),
        "registered with a status that nobody knows; look at the registration at the portal"
    );
}

/// A broker connection came up.
pub fn broker_connected(role: &'static str) {
    info!(role, "connected to the broker to {role}");
}

/// A broker connection or channel ended.
pub fn broker_lost(role: &'static str, why: &dyn fmt::Display) {
    warn!(role, error = %why, "lost the broker connection to {role}; reconnecting");
}

/// Something on the broker is not as it should be, and the worker uses it as it is.
pub fn broker_differs(what: &dyn fmt::Display) {
    warn!(finding = %what, "the broker is not as it should be: {what}");
}

/// This of the broker could not be looked at before the start.
pub fn broker_not_seen(what: &dyn fmt::Display) {
    warn!(finding = %what, "not looked at on the broker: {what}");
}

/// The broker blocks publishers (memory or disk alarm), or no longer does.
pub fn broker_blocked(blocked: bool) {
    gauge!("irn_worker_broker_blocked").set(if blocked { 1.0 } else { 0.0 });
    if blocked {
        error!(
            "the broker blocks publishers (memory or disk alarm); no job is taken until it lets them on"
        );
    } else {
        info!("the broker takes messages again");
    }
}

/// A publish did not succeed and will be tried again.
pub fn publish_retried(about: About<'_>, why: &dyn fmt::Display) {
    warn!(job.id = about.job_id, error = %why, "publish not confirmed; publishing again");
}

/// The worker starts.
pub fn started(replica: &str, admin: &std::net::SocketAddr, broker: &str, accounts: usize) {
    info!(replica, accounts, broker, admin.url = %format_args!("http://{admin}"), "irn-worker starts; admin endpoint on http://{admin}");
}

/// The system does not let the worker choose how its threads are scheduled.
pub fn sched_batch_refused(error: &std::io::Error) {
    info!(%error, "this worker's threads do not run under SCHED_BATCH: where they share processors, a job costs more");
}

/// A stop was asked.
pub fn stop_asked(signal: &'static str) {
    info!(signal, "{signal}: draining");
}

/// The worker has stopped.
pub fn stopped(abandoned: usize) {
    if abandoned == 0 {
        info!("drained; nothing left behind");
    } else {
        warn!(
            abandoned,
            "the drain time ran out; what was under way will be redelivered"
        );
    }
}

/// The service manager that started the worker cannot be told how it is.
pub fn service_manager_unreachable(error: &std::io::Error) {
    warn!(%error, "cannot tell the service manager how the worker is");
}

/// The admin endpoint gave up.
pub fn admin_failed(error: &std::io::Error) {
    error!(%error, "the admin endpoint failed");
}

/// Something allowed in the configuration, and probably not meant.
pub fn config_warning(warning: &crate::config::Fault) {
    warn!(%warning, "configuration: {warning}");
}
