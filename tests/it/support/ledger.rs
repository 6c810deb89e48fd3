//! What an ERP knows of a run: the jobs it published and every result that came back, until the two agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::amqp::{Amqp, Job, Message};
use super::credentials::GSTINS;
use super::invoice::invoice;

/// Between two tries to reach a broker that may be away.
const RECONNECT_AFTER: Duration = Duration::from_millis(200);

/// One result as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) message_id: String,
    pub(crate) body: Value,
    /// The broker had handed it out before.
    pub(crate) redelivered: bool,
}

impl Entry {
    pub(crate) fn status(&self) -> &str {
        self.body["status"].as_str().unwrap_or_default()
    }

    /// What in it could not be said of the same job as well; nothing if it is a repetition.
    fn contradicts(&self, other: &Self) -> Option<&'static str> {
        if self.message_id != other.message_id {
            return Some("message_id");
        }
        [
            "status",
            "irn",
            "ack_no",
            "signed_invoice",
            "signed_qr_code",
        ]
        .into_iter()
        .find(|member| self.body[member] != other.body[member])
    }

    /// Without what is signed, which is long.
    fn summary(&self) -> String {
        let Self {
            message_id, body, ..
        } = self;
        let (irn, errors, attempts) = (&body["irn"], &body["errors"], &body["attempts"]);
        format!(
            "{message_id} {} {irn} {errors} attempt {attempts}",
            self.status()
        )
    }
}

/// Jobs published and results received.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    published: BTreeSet<String>,
    results: BTreeMap<String, Vec<Entry>>,
}

impl Ledger {
    /// Publishes `count` valid invoices, spread over the five sellers. `run` keeps their numbers apart.
    pub(crate) async fn publish(erp: &Amqp, run: &str, count: usize) -> Result<Self> {
        let jobs = invoices(run, count);
        erp.publish(&jobs.iter().map(|(_, job)| job.clone()).collect::<Vec<_>>())
            .await?;
        Ok(Self {
            published: jobs.into_iter().map(|(id, _)| id).collect(),
            results: BTreeMap::new(),
        })
    }

    /// Enters jobs that are about to be published.
    pub(crate) fn expect(&mut self, ids: impl IntoIterator<Item = String>) {
        self.published.extend(ids);
    }

    /// How many jobs were published.
    pub(crate) fn published(&self) -> usize {
        self.published.len()
    }

    /// How many jobs have been answered at least once.
    pub(crate) fn answered(&self) -> usize {
        self.results.len()
    }

    /// How many jobs were published.
    pub(crate) fn expected(&self) -> usize {
        self.published.len()
    }

    /// How many results have come, repeated ones included.
    pub(crate) fn received(&self) -> usize {
        self.results.values().map(Vec::len).sum()
    }

    /// Every result that has come.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.results.values().flatten()
    }

    /// Enters a result.
    pub(crate) fn enter(&mut self, message: &Message) -> Result<()> {
        let body = message.json()?;
        let job = body["job_id"].as_str().context("a result without job_id")?;
        ensure!(
            self.published.contains(job),
            "a result of {job}, which nobody published"
        );
        let message_id = message.properties.message_id().clone();
        let message_id = message_id.map(|id| id.to_string()).unwrap_or_default();
        self.results.entry(job.to_owned()).or_default().push(Entry {
            message_id,
            body,
            redelivered: message.redelivered,
        });
        Ok(())
    }

    /// Takes results off the default reply queue until so many jobs have been answered, through any number of
    /// broker failures.
    ///
    /// # Errors
    /// When the deadline passes before: the error names some of the jobs without a result.
    pub(crate) async fn collect(
        &mut self,
        url: &str,
        answered: usize,
        deadline: Duration,
    ) -> Result<()> {
        let end = Instant::now() + deadline;
        let mut last_error = None;
        while self.answered() < answered {
            match timeout_at(end, self.collect_from(url, answered)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    last_error = Some(error);
                    sleep(RECONNECT_AFTER).await;
                }
                Err(_elapsed) => bail!(
                    "{} of {answered} jobs were answered after {deadline:?}; not, for example, {:?}; last error: \
                     {last_error:?}",
                    self.answered(),
                    self.missing().take(5).collect::<Vec<_>>()
                ),
            }
        }
        Ok(())
    }

    async fn collect_from(&mut self, url: &str, answered: usize) -> Result<()> {
        let erp = Amqp::connect(url).await?;
        erp.take_until("irn.results", |message| {
            self.enter(&message)?;
            Ok(self.answered() >= answered)
        })
        .await
    }

    /// Enters all that is left in the default reply queue.
    pub(crate) async fn collect_rest(&mut self, erp: &Amqp) -> Result<()> {
        for message in erp.drain("irn.results").await? {
            self.enter(&message)?;
        }
        Ok(())
    }

    fn missing(&self) -> impl Iterator<Item = &String> {
        self.published
            .iter()
            .filter(|job| !self.results.contains_key(*job))
    }

    /// Every job has exactly one result, and it is `signed`. What the broker hands out again, because our acknowledgement
    /// has not reached the queue before the channel was closed, was published once.
    pub(crate) fn ensure_each_signed_once(&self) -> Result<()> {
        self.ensure_each_signed()?;
        let published = |entries: &[Entry]| {
            let again = entries.iter().skip(1).filter(|entry| entry.redelivered);
            entries.len() - again.count()
        };
        let all = self.results.iter();
        let all = all.map(|(job, entries)| (job, published(entries)));
        let repeated: Vec<_> = all.filter(|(_, published)| *published != 1).collect();
        ensure!(repeated.is_empty(), "answered more than once: {repeated:?}");
        Ok(())
    }

    /// Every job has a result, all are `signed`, and repeated ones are recognisable as repetitions.
    pub(crate) fn ensure_each_signed(&self) -> Result<()> {
        self.ensure_each_answered()?;
        for (job, entries) in &self.results {
            for entry in entries {
                ensure!(
                    entry.status() == "signed",
                    "{job} ended as {}: {}",
                    entry.status(),
                    entry.body["errors"]
                );
            }
        }
        Ok(())
    }

    /// Every job has ended as `status` says, and repeated results are recognisable as repetitions; of a job that `may`
    /// end otherwise later, the first result counts.
    pub(crate) fn ensure_each_ended(
        &self,
        status: impl Fn(&str) -> &'static str,
        may: impl Fn(&str, &Entry) -> bool,
    ) -> Result<()> {
        let missing: Vec<_> = self.missing().take(5).collect();
        ensure!(missing.is_empty(), "no result for {missing:?} and others");
        for (job, entries) in &self.results {
            let first = &entries[0];
            ensure!(first.status() == status(job), "{}", first.summary());
            for entry in entries {
                let contradicts = entry.contradicts(first).filter(|_| !may(job, entry));
                ensure!(
                    contradicts.is_none(),
                    "the results of {job} contradict each other: {} and {}",
                    first.summary(),
                    entry.summary()
                );
            }
        }
        Ok(())
    }

    /// The first result of every job that has one.
    pub(crate) fn firsts(&self) -> impl Iterator<Item = &Entry> {
        self.results.values().filter_map(|entries| entries.first())
    }

    /// How many results came again because the broker handed them out again.
    pub(crate) fn repeated_by_the_broker(&self) -> usize {
        let repeated = self
            .results
            .values()
            .flat_map(|entries| entries.iter().skip(1));
        repeated.filter(|entry| entry.redelivered).count()
    }

    /// How many jobs have results that contradict each other.
    pub(crate) fn contradictory(&self) -> usize {
        let contradictory = |entries: &&Vec<Entry>| {
            entries
                .iter()
                .any(|entry| entry.contradicts(&entries[0]).is_some())
        };
        self.results.values().filter(contradictory).count()
    }

    /// The results of one job, none if it has not been answered.
    pub(crate) fn results_of(&self, job: &str) -> &[Entry] {
        self.results.get(job).map_or(&[], Vec::as_slice)
    }

    /// Every job has a result, and repeated ones are recognisable as repetitions: the same `message_id`, the same
    /// status, the same registration, the same signed data.
    pub(crate) fn ensure_each_answered(&self) -> Result<()> {
        let missing: Vec<_> = self.missing().take(5).collect();
        ensure!(missing.is_empty(), "no result for {missing:?} and others");
        for (job, entries) in &self.results {
            for entry in entries {
                if let Some(member) = entry.contradicts(&entries[0]) {
                    bail!(
                        "the results of {job} contradict each other in {member}: {} and {}",
                        entries[0].summary(),
                        entry.summary()
                    );
                }
            }
        }
        Ok(())
    }
}

/// `count` valid invoices with their job ids, spread over the five sellers.
pub(crate) fn invoices(run: &str, count: usize) -> Vec<(String, Job)> {
    (0..count)
        .map(|number| {
            let id = format!("{run}-{number}");
            let document = invoice(GSTINS[number % GSTINS.len()], &format!("{run}/{number}"));
            (id.clone(), Job::generate(&id, document))
        })
        .collect()
}
