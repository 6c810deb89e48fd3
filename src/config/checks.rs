//! What settings must be to each other: deadlines that nest, limits that can be reached, names that can be used.
//!
//! The rule: refuse what cannot work, warn of what was probably not meant.

use std::time::Duration;

use super::findings::Findings;
use super::{
    Config, IrpConfig, LimitsConfig, Rate, RepliesConfig, RetryConfig, Rung, SignaturePolicy,
};

/// A delivery that is not acknowledged for 30 minutes (RabbitMQ's default `consumer_timeout`) costs the channel;
/// half of it leaves room for the login, the look-up and the submit of one attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// A job that waits longer is forgotten by people before it is tried again.
const LONGEST_RUNG: Duration = Duration::from_secs(24 * 3600);
/// RabbitMQ counts a queue's TTL in milliseconds, in 32 bits.
const LONGEST_TTL: Duration = Duration::from_millis(u32::MAX as u64);
/// An AMQP short string.
const LONGEST_QUEUE_NAME_BYTES: usize = 255;
/// Where the worker keeps its own jobs: a result must not land among them.
const OWN_QUEUES: [&str; 4] = ["irn.jobs", "irn.jobs.urgent", "irn.dead", "irn.poison"];

/// Notes what only shows when all sections are read.
pub(super) fn across_sections(config: &Config, findings: &Findings) {
    times_are_positive(config, findings);
    deadlines_nest(config, findings);
    ladder_ascends(&config.retry, findings);
    settle_time_fits_the_ladder(config, findings);
    settle_time_covers_a_request(&config.irp, findings);
    ttl_fits_the_broker(config, findings);
    slots_fit(config, findings);
    limits_fit(&config.limits, findings);
    signatures_can_be_checked(&config.irp, findings);
    broker_files_are_of_use(config, findings);
    replies_cannot_loop(&config.replies, findings);
}

fn times_are_positive(config: &Config, findings: &Findings) {
    let times = [
        ("irp.connect_timeout", config.irp.connect_timeout),
        ("irp.request_timeout", config.irp.request_timeout),
        ("shutdown.drain_timeout", config.shutdown.drain_timeout),
        ("dead_letter.ttl", config.dead_letter.ttl),
        ("scaling.work_off_within", config.scaling.work_off_within),
    ];
    for (key, _) in times.iter().filter(|(_, time)| time.is_zero()) {
        findings.contradiction(&[key], "is zero", "write a duration above zero");
    }
}

fn deadlines_nest(config: &Config, findings: &Findings) {
    let irp = &config.irp;
    if irp.connect_timeout > irp.request_timeout {
        findings.contradiction(
            &["irp.connect_timeout", "irp.request_timeout"],
            "is longer than `irp.request_timeout`, which it is a part of",
            "make it the shorter of the two",
        );
    }
    let bounded = [
        ("irp.request_timeout", irp.request_timeout),
        (
            "retry.immediate.max_elapsed",
            config.retry.immediate_max_elapsed,
        ),
        ("shutdown.drain_timeout", config.shutdown.drain_timeout),
    ];
    for (key, _) in bounded.iter().filter(|(_, time)| *time >= LONGEST_WAIT) {
        findings.contradiction(
            &[key],
            "is so long that the broker may take a running job back, which it does after 30 minutes",
            "write less than \"15m\"",
        );
    }
    if config.shutdown.drain_timeout < irp.request_timeout {
        findings.doubt(
            &["shutdown.drain_timeout", "irp.request_timeout"],
            "is shorter than `irp.request_timeout`: a stop in the middle of a slow call leaves the job to redelivery and a look-up",
            "raise it above `irp.request_timeout` if the orchestrator waits that long before it kills",
        );
    }
}

fn ladder_ascends(retry: &RetryConfig, findings: &Findings) {
    const KEY: &str = "retry.delays";
    const REMEDY: &str =
        "list each delay once, the shortest first, for example [\"15s\", \"1m\", \"5m\"]";
    if retry.delays.is_empty() {
        findings.contradiction(
            &[KEY],
            "is empty: no job could wait for a second attempt",
            REMEDY,
        );
    }
    if retry.delays.iter().any(|rung| rung.delay.is_zero()) {
        findings.contradiction(&[KEY], "has a delay of zero", REMEDY);
    }
    if let Some([before, after]) = retry.delays.windows(2).find(|w| w[0].delay >= w[1].delay) {
        let problem = format!("has `{}` before `{}`", before.name, after.name);
        findings.contradiction(&[KEY], &problem, REMEDY);
    }
    if let Some(rung) = retry.delays.iter().find(|rung| rung.delay > LONGEST_RUNG) {
        let problem = format!("has `{}`, which is longer than a day", rung.name);
        findings.contradiction(&[KEY], &problem, "write at most \"24h\"");
    }
}

/// A job whose outcome is unknown waits on a rung of at least `settle_time` before it is looked up.
fn settle_time_fits_the_ladder(config: &Config, findings: &Findings) {
    let longest = config.retry.delays.last().map(|Rung { delay, .. }| *delay);
    if longest.is_some_and(|longest| longest < config.irp.settle_time) {
        findings.contradiction(
            &["irp.settle_time", "retry.delays"],
            "is longer than the last of `retry.delays`: a job with an unknown outcome could wait nowhere",
            "lower it, or add a delay of at least that length",
        );
    }
}

/// A job that another worker takes over may still have its first request under way for as long as that may take.
fn settle_time_covers_a_request(irp: &IrpConfig, findings: &Findings) {
    if irp.settle_time < irp.request_timeout {
        findings.doubt(
            &["irp.settle_time", "irp.request_timeout"],
            "is shorter than `irp.request_timeout`: a look-up may find nothing while a request is still under way",
            "raise it to `irp.request_timeout` at least",
        );
    }
}

fn ttl_fits_the_broker(config: &Config, findings: &Findings) {
    if config.dead_letter.ttl > LONGEST_TTL {
        findings.contradiction(
            &["dead_letter.ttl"],
            "is longer than a queue's TTL can be",
            "write at most \"49d\"",
        );
    }
}

fn slots_fit(config: &Config, findings: &Findings) {
    if usize::from(config.broker.prefetch) < config.irp.concurrency {
        findings.doubt(
            &["broker.prefetch", "irp.concurrency"],
            "is below `irp.concurrency`: some of the slots would never get a job",
            "set it to 0, which means twice `irp.concurrency`",
        );
    }
    if config.irp.concurrency_per_gstin > config.irp.concurrency {
        findings.doubt(
            &["irp.concurrency_per_gstin", "irp.concurrency"],
            "is above `irp.concurrency` and never reached",
            "lower it, so that one GSTIN cannot take every slot",
        );
    }
}

fn limits_fit(limits: &LimitsConfig, findings: &Findings) {
    let pairs = [
        (
            "limits.per_gstin",
            limits.per_gstin,
            "limits.total",
            limits.total,
        ),
        (
            "limits.error_budget_per_gstin",
            limits.error_budget_per_gstin,
            "limits.error_budget_total",
            limits.error_budget_total,
        ),
    ];
    for (key, one, total_key, total) in pairs {
        if per_second(one) > per_second(total) {
            let problem = format!("is above `{total_key}` and never reached");
            findings.doubt(&[key, total_key], &problem, "lower it, or raise the total");
        }
    }
}

fn per_second(rate: Rate) -> f64 {
    f64::from(rate.count.get()) / rate.period.as_secs_f64()
}

fn signatures_can_be_checked(irp: &IrpConfig, findings: &Findings) {
    const KEYS: [&str; 2] = ["irp.signatures", "irp.signing_keys"];
    const REMEDY: &str = "list the portal's signing keys or certificates in `irp.signing_keys`";
    match irp.signatures {
        SignaturePolicy::Require if irp.signing_keys.is_empty() => {
            findings.contradiction(
                &KEYS,
                "is `require`, but no signing key is configured",
                REMEDY,
            );
        }
        SignaturePolicy::Warn if irp.signing_keys.is_empty() => findings.doubt(
            &["irp.signing_keys", "irp.signatures"],
            "is empty: every result will say that its signature is unverified",
            REMEDY,
        ),
        SignaturePolicy::Require | SignaturePolicy::Warn => {}
        SignaturePolicy::Off => findings.doubt(
            &KEYS,
            "is `off`: a forged answer would pass for a registration",
            "use `require` or `warn`",
        ),
    }
    let mut kids: Vec<&str> = irp
        .signing_keys
        .iter()
        .filter_map(|key| key.kid.as_deref())
        .collect();
    kids.sort_unstable();
    if let Some([kid, _]) = kids.windows(2).find(|pair| pair[0] == pair[1]) {
        let problem = format!("names the kid `{}` beside two files", kid.escape_debug());
        findings.contradiction(
            &["irp.signing_keys"],
            &problem,
            "give each key a kid of its own",
        );
    }
}

fn broker_files_are_of_use(config: &Config, findings: &Findings) {
    let broker = &config.broker;
    let files = [
        ("broker.ca_file", &broker.ca_file),
        ("broker.client_cert_file", &broker.client_cert_file),
        ("broker.client_key_file", &broker.client_key_file),
    ];
    if broker.url.expose().starts_with("amqp:") {
        for (key, _) in files.iter().filter(|(_, file)| file.is_some()) {
            findings.doubt(
                &[key, "broker.url"],
                "has no effect with an amqp:// URL",
                "use amqps://",
            );
        }
    }
    let [_, (cert, cert_file), (key, key_file)] = files;
    let (set, missing) = match (cert_file, key_file) {
        (Some(_), None) => (cert, key),
        (None, Some(_)) => (key, cert),
        (Some(_), Some(_)) | (None, None) => return,
    };
    let problem = format!("is set without `{missing}`");
    findings.contradiction(&[set, missing], &problem, "set both or neither");
}

fn replies_cannot_loop(replies: &RepliesConfig, findings: &Findings) {
    let queue = replies.default_queue.as_str();
    if queue.len() > LONGEST_QUEUE_NAME_BYTES
        || queue.starts_with("amq.")
        || OWN_QUEUES.contains(&queue)
    {
        findings.contradiction(
            &["replies.default_queue"],
            "cannot be a queue for results: it is too long, reserved, or the worker's own",
            "write a queue name of at most 255 bytes, for example \"irn.results\"",
        );
    }
    let is_own = |glob: &&glob::Pattern| OWN_QUEUES.iter().any(|own| glob.matches(own));
    if let Some(glob) = replies.allow.iter().find(is_own) {
        let problem = format!(
            "has `{glob}`, which lets a job have its result put among the worker's own jobs"
        );
        findings.doubt(
            &["replies.allow"],
            &problem,
            "name the reply queues more closely, for example \"erp.*\"",
        );
    }
    let is_direct = |glob: &&glob::Pattern| glob.as_str().starts_with("amq.rabbitmq.");
    if let Some(glob) = replies.allow.iter().find(is_direct) {
        let problem = format!(
            "has `{glob}`, but no result goes to direct reply-to: it keeps nothing for one who is away"
        );
        findings.doubt(
            &["replies.allow"],
            &problem,
            "have the ERP declare a queue for its results, and name that",
        );
    }
    if !replies.allow.iter().any(|glob| glob.matches(queue)) {
        findings.doubt(
            &["replies.allow", "replies.default_queue"],
            "does not match `replies.default_queue`: a job that names it will be refused",
            "add it to the list",
        );
    }
}
