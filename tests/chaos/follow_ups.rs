//! What an ERP asks for once an invoice is signed: a third each are cancelled, fetched, and given an e-way bill.

use std::collections::BTreeSet;

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::support::amqp::{Amqp, Job};
use crate::support::ledger::{Entry, Ledger};

/// A broker that is away comes back within this.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(90);

const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Begins the ids of what follows.
const PREFIXES: [(&str, &str); 3] = [
    ("cancel-", "cancelled"),
    ("get-", "found"),
    ("ewb-", "ewb_issued"),
];

/// The follow-ups asked for so far, by the id of the invoice's job.
#[derive(Debug, Default)]
pub(crate) struct FollowUps(BTreeSet<String>);

impl FollowUps {
    /// Publishes what follows on the invoices that were signed since the last time.
    pub(crate) async fn publish(&mut self, url: &str, ledger: &mut Ledger) -> Result<()> {
        let new: Vec<(String, String, Job)> = ledger
            .firsts()
            .filter(|entry| entry.body["operation"] == "generate")
            .filter(|entry| !self.0.contains(text(entry, "job_id")))
            .map(follow_up)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        ledger.expect(new.iter().map(|(_, id, _)| id.clone()));
        let mut jobs: Vec<Job> = new.iter().map(|(.., job)| job.clone()).collect();
        // An unconfirmed one may be in a queue: said so, the second copy looks before it is sent.
        let end = Instant::now() + PUBLISHED_WITHIN;
        while let Err(unconfirmed) = publish(url, &jobs).await {
            ensure!(Instant::now() < end, "{unconfirmed:#}");
            tokio::time::sleep(AGAIN_AFTER).await;
            let doubted = jobs.into_iter();
            jobs = doubted
                .map(|job| job.text_header("x-irn-outcome", "unknown"))
                .collect();
        }
        self.0.extend(new.into_iter().map(|(of, ..)| of));
        Ok(())
    }
}

async fn publish(url: &str, jobs: &[Job]) -> Result<()> {
    Amqp::connect(url).await?.publish(jobs).await
}

/// How a job of this id has to end.
pub(crate) fn status_of(job: &str) -> &'static str {
    let prefixes = PREFIXES.iter();
    let follow_up = |(prefix, _): &&(&str, &str)| job.starts_with(prefix);
    prefixes
        .clone()
        .find(follow_up)
        .map_or("signed", |(_, status)| status)
}

/// Whether the invoice of this job was cancelled on purpose: a copy of its job that a crash has left may be told so.
pub(crate) fn may_find_itself_cancelled(job: &str) -> bool {
    status_of(job) == "signed" && kind_of(job) == PREFIXES[0].0
}

fn kind_of(job: &str) -> &'static str {
    let number = job
        .rsplit('-')
        .next()
        .and_then(|number| number.parse().ok());
    let number: usize = number.unwrap_or_default();
    // Not by the remainder alone, or each seller would get one kind.
    PREFIXES[(number / 5) % PREFIXES.len()].0
}

fn follow_up(entry: &Entry) -> (String, String, Job) {
    let of = text(entry, "job_id").to_owned();
    let (gstin, irn) = (text(entry, "gstin"), text(entry, "irn"));
    let prefix = kind_of(&of);
    let id = format!("{prefix}{of}");
    let job = match prefix {
        "cancel-" => Job::cancel(&id, gstin, irn),
        "get-" => Job::get(&id, gstin, irn),
        _ => Job::eway_bill(&id, gstin, irn),
    };
    (of, id, job)
}

fn text<'e>(entry: &'e Entry, member: &str) -> &'e str {
    entry.body[member].as_str().unwrap_or_default()
}
