//! What is published, and how each job may end: what the ERP knows without looking at the worker.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use crate::plan::Wares;
use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::{invoice, with_other_content, wrong_total};
use crate::support::ledger::Ledger;
use crate::support::sandbox::{DocumentStats, Stats};

/// Documents in one message.
const BATCH: usize = 3;

/// What a job's document is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    First,
    Other,
    Faulty,
    Unreadable,
}

/// Jobs published so far.
#[derive(Debug, Default)]
pub(crate) struct Model {
    numbers: usize,
    jobs: BTreeMap<String, (usize, Content)>,
}

impl Model {
    /// The next job of a kind, entered into the ledger under every id that it is answered under.
    pub(crate) fn next(&mut self, wares: Wares, ledger: &mut Ledger) -> Job {
        let sequence = self.jobs.len();
        let id = format!("J{sequence}");
        match wares {
            Wares::Batch => {
                let members: Vec<_> = (1..=BATCH)
                    .map(|member| {
                        let number = self.new_number();
                        self.enter(format!("{id}/{member}"), number, Content::First, ledger);
                        document(number, Content::First)
                    })
                    .collect();
                Job::generate(&id, format!("[{}]", members.join(",")))
            }
            Wares::Fresh => self.job(id, None, Content::First, ledger),
            Wares::SameAgain => self.job(id, Some(sequence / 2), Content::First, ledger),
            Wares::OtherContent => self.job(id, Some(sequence / 2), Content::Other, ledger),
            Wares::Faulty => self.job(id, None, Content::Faulty, ledger),
            Wares::Unreadable => self.job(id, None, Content::Unreadable, ledger),
        }
    }

    /// A job with a new number, or with the number of the first document at or after one that was published before.
    fn job(
        &mut self,
        id: String,
        like: Option<usize>,
        content: Content,
        ledger: &mut Ledger,
    ) -> Job {
        let like = like.and_then(|sequence| {
            let good = |(_, content): &&(usize, Content)| *content == Content::First;
            let mut known = self.jobs.values().filter(good).skip(sequence);
            known.next().map(|(number, _)| *number)
        });
        let number = like.unwrap_or_else(|| self.new_number());
        let job = Job::generate(&id, document(number, content));
        self.enter(id, number, content, ledger);
        job
    }

    fn new_number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    fn enter(&mut self, id: String, number: usize, content: Content, ledger: &mut Ledger) {
        ledger.expect([id.clone()]);
        self.jobs.insert(id, (number, content));
    }

    /// Jobs that say something about a document which another job has spoken of before.
    fn repetitions(&self) -> u64 {
        let numbers: BTreeSet<_> = self.jobs.values().map(|(number, _)| number).collect();
        (self.jobs.len() - numbers.len()) as u64
    }

    /// Deliveries that nobody can read.
    pub(crate) fn unreadable(&self) -> usize {
        self.jobs
            .values()
            .filter(|(_, content)| *content == Content::Unreadable)
            .count()
    }

    fn faulty(&self) -> u64 {
        let faulty = self.jobs.values();
        faulty
            .filter(|(_, content)| *content == Content::Faulty)
            .count() as u64
    }

    /// P1: no document is sent again before somebody has looked. Repeated jobs are news to the worker, and each of
    /// `disturbances` may leave jobs in two places: such twins look before they send, perhaps at the same moment.
    pub(crate) fn ensure_nothing_was_sent_blindly(
        &self,
        stats: &Stats,
        disturbances: u64,
    ) -> Result<()> {
        for (name, document) in &stats.documents {
            let jobs = self.jobs_about(name);
            let allowed = jobs.saturating_sub(1) + disturbances;
            let DocumentStats {
                blind, duplicates, ..
            } = *document;
            ensure!(blind <= allowed, "{name}, {jobs} jobs: {document:?}");
            ensure!(duplicates <= allowed, "{name}, {jobs} jobs: {document:?}");
        }
        let unexplained = self.unexplained(stats);
        ensure!(
            unexplained <= disturbances,
            "{unexplained} blind submits after {disturbances} disturbances"
        );
        Ok(())
    }

    /// Blind submits that are not explained by another job about the same document: those of twins of one job.
    pub(crate) fn unexplained(&self, stats: &Stats) -> u64 {
        let documents = stats.documents.iter();
        documents
            .map(|(name, document)| {
                let others = self.jobs_about(name).saturating_sub(1);
                document.blind.saturating_sub(others)
            })
            .sum()
    }

    fn jobs_about(&self, document: &str) -> u64 {
        let number = document
            .rsplit_once("SIM/")
            .and_then(|(_, rest)| rest.split_once('/'));
        let number = number.and_then(|(number, _)| number.parse::<usize>().ok());
        let jobs = self.jobs.values();
        jobs.filter(|(about, _)| Some(*about) == number).count() as u64
    }

    /// P3: the portal answered no error that these jobs, and what happened to them, do not explain.
    pub(crate) fn ensure_no_needless_error(
        &self,
        stats: &Stats,
        disturbances: u64,
        sessions_ended: bool,
    ) -> Result<()> {
        for (code, count) in &stats.errors_by_code {
            let allowed = match code.as_str() {
                // A look-up that finds nothing.
                "2148" | "2154" => u64::MAX,
                "1005" if sessions_ended => u64::MAX,
                "2150" => self.repetitions() + disturbances,
                // The total that is wrong: at once in the first look, or once at the portal.
                "2189" => self.faulty() * (1 + disturbances),
                _ => 0,
            };
            ensure!(*count <= allowed, "{count} × {code} of {allowed} allowed");
        }
        Ok(())
    }

    /// P2: every job has ended, once, and as its document deserves.
    pub(crate) fn ensure_each_ended_well(&self, ledger: &Ledger) -> Result<()> {
        ledger.ensure_each_answered()?;
        let mut signed: BTreeMap<usize, BTreeSet<Content>> = BTreeMap::new();
        for (job, (number, content)) in &self.jobs {
            let status = ledger
                .results_of(job)
                .first()
                .map_or("", |first| first.status());
            let right = match content {
                Content::Faulty => status == "rejected",
                Content::Unreadable => status == "failed",
                Content::First | Content::Other => match status {
                    "signed" => {
                        signed.entry(*number).or_default().insert(*content);
                        true
                    }
                    "conflict" => self.is_contested(*number),
                    _ => false,
                },
            };
            ensure!(right, "{job} ({content:?}) ended as {status:?}");
        }
        for (job, (number, content)) in &self.jobs {
            if !matches!(content, Content::First | Content::Other) {
                continue;
            }
            let winners = signed.get(number).map_or(0, BTreeSet::len);
            ensure!(winners == 1, "{winners} contents of {number} were signed");
            let won = signed[number].contains(content);
            for result in ledger.results_of(job) {
                ensure!(
                    won == (result.status() == "signed"),
                    "{job} with the same content as a signed one was not"
                );
            }
        }
        Ok(())
    }

    fn is_contested(&self, number: usize) -> bool {
        self.jobs
            .values()
            .any(|(about, content)| *about == number && *content == Content::Other)
    }
}

fn document(number: usize, content: Content) -> String {
    let gstin = GSTINS[number % GSTINS.len()];
    let number = format!("SIM/{number}");
    match content {
        Content::First => invoice(gstin, &number),
        Content::Other => with_other_content(gstin, &number),
        Content::Faulty => wrong_total(gstin, &number),
        Content::Unreadable => format!("{{\"No\":\"{number}\""),
    }
}
