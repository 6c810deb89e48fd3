//! Which points are measured: one thing is varied at a time around the standard point.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::corpus::Corpus;
use crate::point::{Amount, Measured, measure};
use crate::stack::{Portal, Setting, Subject, Workplace};
use crate::support::broker::Broker;

/// What a measurement is taken at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Point {
    /// Jobs at once, of each replica.
    pub(crate) concurrency: u16,
    /// Bytes of a document, about.
    pub(crate) size: usize,
    /// GSTINs, each with a login of its own.
    pub(crate) sellers: usize,
    /// Workers.
    pub(crate) replicas: usize,
    /// Whether the portal speaks HTTPS.
    pub(crate) tls: bool,
    /// How many milliseconds the portal takes over a submit, beyond what it takes by itself.
    pub(crate) portal_ms: u64,
}

/// What the others are compared with.
pub(crate) const STANDARD: Point = Point {
    concurrency: 64,
    size: 8_000,
    sellers: 100,
    replicas: 1,
    tls: false,
    portal_ms: 0,
};

/// As long as a portal takes at least that is not on the same machine. Replicas are for more jobs at once, which wait for it.
pub(crate) const AWAY_MS: u64 = 50;

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
pub(crate) enum Axis {
    /// Jobs at once
    Concurrency,
    /// Bytes of a document
    Size,
    /// GSTINs
    Sellers,
    /// Workers
    Replicas,
    /// HTTP and HTTPS
    Scheme,
}

impl Axis {
    pub(crate) const ALL: [Self; 5] = [
        Self::Concurrency,
        Self::Size,
        Self::Sellers,
        Self::Replicas,
        Self::Scheme,
    ];

    /// As a table's first column calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Concurrency => "jobs at once",
            Self::Size => "document",
            Self::Sellers => "GSTINs",
            Self::Replicas => "replicas",
            Self::Scheme => "portal",
        }
    }

    /// Where a point lies on it.
    pub(crate) fn value(self, point: &Point) -> String {
        match self {
            Self::Concurrency => point.concurrency.to_string(),
            Self::Size => format!("{} KB", point.size / 1_000),
            Self::Sellers => point.sellers.to_string(),
            Self::Replicas => match point.portal_ms {
                0 => point.replicas.to_string(),
                ms => format!("{}, portal {ms} ms", point.replicas),
            },
            Self::Scheme => if point.tls { "https" } else { "http" }.to_owned(),
        }
    }

    /// The points on it, the standard one among them.
    pub(crate) fn points(self) -> Vec<Point> {
        match self {
            Self::Concurrency => [1, 16, 64, 256]
                .map(|concurrency| Point {
                    concurrency,
                    ..STANDARD
                })
                .into(),
            Self::Size => [3_000, 8_000, 40_000, 400_000]
                .map(|size| Point { size, ..STANDARD })
                .into(),
            Self::Sellers => [1, 10, 100, 1_000, 10_000]
                .map(|sellers| Point {
                    sellers,
                    ..STANDARD
                })
                .into(),
            Self::Replicas => {
                let beside = |portal_ms, replicas: &[usize]| {
                    let point = |replicas: &usize| Point {
                        replicas: *replicas,
                        portal_ms,
                        ..STANDARD
                    };
                    replicas.iter().map(point).collect::<Vec<Point>>()
                };
                [beside(0, &[1, 2, 3, 4]), beside(AWAY_MS, &[1, 2, 4])].concat()
            }
            Self::Scheme => [false, true].map(|tls| Point { tls, ..STANDARD }).into(),
        }
    }
}

impl Point {
    /// So many jobs that CPU time, which is counted in hundredths of a second, is known to about a hundredth.
    fn amount(&self, jobs: usize) -> Amount {
        let share = match (self.size, self.concurrency) {
            (100_000.., _) => 20,
            (20_000.., _) => 3,
            (_, 1) => 5,
            _ => 1,
        };
        Amount {
            // Every GSTIN has logged in by then, at every replica, though the first one takes jobs before the last is up.
            warm_up: (jobs / share / 8).max(self.sellers) * self.replicas * self.replicas,
            counted: jobs / share,
        }
    }

    /// What is measured here. Pre-flight costs the same wherever the document is the same.
    fn subjects(&self) -> &'static [Subject] {
        const FLOOR: Subject = Subject::Floor;
        const PLAIN: Subject = Subject::Worker { preflight: false };
        const STRICT: Subject = Subject::Worker { preflight: true };
        let same_documents = Point {
            size: self.size,
            ..STANDARD
        };
        if *self == same_documents {
            &[FLOOR, PLAIN, STRICT]
        } else {
            &[FLOOR, PLAIN]
        }
    }

    /// Nothing measured yet.
    fn rows(&self, corpus: &Corpus) -> impl Iterator<Item = Row> {
        self.subjects().iter().map(|subject| Row {
            point: *self,
            subject: *subject,
            document_bytes: corpus.size(),
            median: Measured::default(),
            runs: Vec::new(),
        })
    }

    /// Points that one running portal serves.
    fn portal(&self) -> (usize, usize, bool) {
        (self.size, self.sellers, self.tls)
    }
}

/// What a subject cost at a point.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) point: Point,
    pub(crate) subject: Subject,
    /// Bytes of a document, exactly.
    pub(crate) document_bytes: usize,
    /// Of all runs.
    pub(crate) median: Measured,
    pub(crate) runs: Vec<Measured>,
}

/// How the whole is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) runs: usize,
    pub(crate) jobs: usize,
    pub(crate) broker_pid: Option<u32>,
}

/// Points that one running portal serves, and what was measured there.
struct Stage {
    corpus: Corpus,
    portal: Portal,
    rows: Vec<Row>,
}

/// Measures all points that `points` names, each once a run, and tells of each measurement.
///
/// A run goes over all points before the next one begins, and every second one the other way round, so that what else the
/// machine does, which changes within minutes, meets alike what is compared.
pub(crate) async fn sweep(
    place: &Workplace,
    plan: Plan,
    points: impl IntoIterator<Item = Point>,
    told: impl Fn(&Row),
) -> Result<Vec<Row>> {
    let mut by_portal: BTreeMap<_, Vec<Point>> = BTreeMap::new();
    for point in points {
        let of_portal = by_portal.entry(point.portal()).or_default();
        if !of_portal.contains(&point) {
            of_portal.push(point);
        }
    }
    let mut stages = Vec::with_capacity(by_portal.len());
    for ((size, sellers, tls), points) in by_portal {
        let corpus = Corpus::make(place.path(), size, sellers)?;
        stages.push(Stage {
            portal: Portal::start(place, &corpus, tls).await?,
            rows: points
                .iter()
                .flat_map(|point| point.rows(&corpus))
                .collect(),
            corpus,
        });
    }
    for run in 0..plan.runs {
        for stage in &mut stages {
            let rows = stage.rows.iter_mut();
            let rows: Vec<&mut Row> = if run % 2 == 0 {
                rows.collect()
            } else {
                rows.rev().collect()
            };
            for row in rows {
                let measured = once(place, plan, row, &stage.portal, &stage.corpus).await?;
                row.runs.push(measured);
                told(row);
            }
        }
    }
    let mut rows = Vec::new();
    for stage in stages {
        stage.portal.program.end().await?;
        rows.extend(stage.rows.into_iter().map(|row| Row {
            median: Measured::median(&row.runs),
            ..row
        }));
    }
    Ok(rows)
}

/// Measures one subject at one point, in a virtual host of its own.
async fn once(
    place: &Workplace,
    plan: Plan,
    row: &Row,
    portal: &Portal,
    corpus: &Corpus,
) -> Result<Measured> {
    let Row { point, subject, .. } = row;
    let broker = Broker::new().await?;
    let setting = Setting {
        place,
        broker_url: &broker.url(),
        portal,
        corpus,
        concurrency: point.concurrency,
        delay: Duration::from_millis(point.portal_ms),
    };
    let amount = point.amount(plan.jobs);
    measure(&setting, plan.broker_pid, *subject, point.replicas, amount).await
}
