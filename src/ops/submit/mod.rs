//! `submit`: publishes invoices, or requests about registered ones, as jobs and, if asked, waits for their results.
//!
//! One rule: bytes stay bytes. Each document goes out exactly as it stands in its file.

mod inputs;
mod progress;
mod replies;
mod summary;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::broker::{
    BadEndpoint, BrokerError, Endpoint, FieldTable, JOBS_EXCHANGE, Publication, PublishError,
    Publisher, Topology, timed,
};
use crate::config::BrokerSide;
use crate::gstin::Gstin;
use crate::job::{Class, Operation, PriorOutcome, Properties, header, long, set, short};
use crate::retry::Backoffs;

use inputs::{Invoice, read_inputs};
use replies::Replies;

pub use summary::Summary;

/// Confirms in flight.
const IN_FLIGHT: usize = 128;

/// What to submit and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked for with them.
    pub operation: Operation,
    /// Files, directories, or `-` for standard input.
    pub inputs: Vec<PathBuf>,
    /// Ahead of the other jobs.
    pub urgent: bool,
    /// Whose credentials to use, when not the seller's.
    pub gstin: Option<Gstin>,
    /// After which a job is not submitted any more.
    pub deadline: Option<Timestamp>,
    /// Where results go when nobody waits for them here; absent: the default queue.
    pub reply_to: Option<String>,
    /// Wait for the results.
    pub wait: Option<Wait>,
}

impl Request {
    fn class(&self) -> Class {
        if self.urgent {
            Class::Urgent
        } else {
            Class::Bulk
        }
    }
}

/// How to wait for results.
#[derive(Clone, Debug)]
pub struct Wait {
    /// Where the results are written, one line each; absent: standard output.
    pub out: Option<PathBuf>,
    /// Give up after this long; absent: never.
    pub timeout: Option<Duration>,
}

/// Why nothing, or not everything, was submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// A file cannot be read, or the one for the results not be made.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: String,
        /// The system's reason.
        error: io::Error,
    },
    /// Results cannot be written any more.
    #[error("the results cannot be written: {0}")]
    Output(#[source] io::Error),
    /// A file that is not JSON; nothing was published.
    #[error("{path}: not JSON at line {line}, column {column}; nothing was published")]
    NotJson {
        /// Which one.
        path: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Nothing to do.
    #[error(
        "no invoices found: give a JSON or NDJSON file, a directory with such files, or - for standard input"
    )]
    Nothing,
    /// The workers would refuse the reply queue.
    #[error(
        "the configuration's replies.allow admits no queue named {0}: add \"erp.*\" to it, or submit without --wait"
    )]
    NotAllowed(String),
    /// The broker's address or TLS files.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// The broker is not there.
    #[error("the broker cannot be reached: {0}")]
    Broker(#[from] BrokerError),
    /// The job queues are missing.
    #[error(
        "the broker takes no jobs: exchange {JOBS_EXCHANGE} routes nowhere; run `irn-worker topology apply` first"
    )]
    NoTopology,
    /// The exchange is gone, or the user may not write to it.
    #[error("the broker refuses jobs: {0}")]
    Refused(String),
}

impl From<lapin::Error> for SubmitError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error.into())
    }
}

/// Publishes, and waits if asked.
pub async fn submit(config: &BrokerSide, request: &Request) -> Result<Summary, SubmitError> {
    let run = uuid::Uuid::new_v4().simple().to_string();
    let invoices = read_inputs(&request.inputs, &run, request.operation)?;
    let endpoint = Endpoint::try_new(&config.broker, "submit")?;
    let replies = match &request.wait {
        Some(wait) => Some(Replies::open(config, &endpoint, wait, &run).await?),
        None => None,
    };
    let started = std::time::Instant::now();
    let queue = replies
        .as_ref()
        .map(|replies| replies.queue.clone())
        .or_else(|| request.reply_to.clone());
    let published = publish_all(config, &endpoint, request, queue, &invoices);
    let mut summary = Summary {
        published: invoices.len(),
        waited: request.wait.is_some(),
        success: request.operation.success().as_str(),
        ..Summary::default()
    };
    match replies {
        None => published.await?,
        Some(mut replies) => {
            let waiting = invoices
                .iter()
                .map(|invoice| invoice.correlation_id.clone())
                .collect();
            // Results come in while jobs still go out; what cannot be published need not be waited for.
            let published = within(replies.patience(), published);
            let done = tokio::try_join!(published, replies.collect(waiting, &mut summary));
            match done {
                Ok(_) if summary.missing == 0 => replies.close().await,
                Ok(_) | Err(_) => replies.leave(),
            }
            done?;
        }
    }
    summary.taken = started.elapsed();
    Ok(summary)
}

async fn within<T>(
    patience: Option<Duration>,
    work: impl Future<Output = Result<T, SubmitError>>,
) -> Result<T, SubmitError> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, work)
            .await
            .unwrap_or(Err(BrokerError::Timeout(patience).into())),
        None => work.await,
    }
}

async fn publish_all(
    config: &BrokerSide,
    endpoint: &Endpoint,
    request: &Request,
    reply_to: Option<String>,
    invoices: &[Invoice],
) -> Result<(), SubmitError> {
    // Seen now, an unreachable broker is an error; lost later, the publisher comes back by itself.
    let connection = endpoint.connect("submit").await?;
    match timed(Topology::takes_jobs(&connection)).await? {
        Err(BrokerError::Topology { .. }) => return Err(SubmitError::NoTopology),
        checked => checked?,
    }
    drop(connection);
    let publisher = Publisher::default();
    let stop = CancellationToken::new();
    let topology = Topology::of(&config.replies, &config.retry, &config.dead_letter);
    let sending = async {
        let results: Vec<_> = stream::iter(invoices)
            .map(|invoice| publish_one(&publisher, request, reply_to.as_deref(), invoice))
            .buffered(IN_FLIGHT)
            .collect()
            .await;
        stop.cancel();
        results.into_iter().collect::<Result<(), SubmitError>>()
    };
    let ((), sent) = tokio::join!(publisher.run(endpoint, &topology, false, &stop), sending);
    sent
}

async fn publish_one(
    publisher: &Publisher,
    request: &Request,
    reply_to: Option<&str>,
    invoice: &Invoice,
) -> Result<(), SubmitError> {
    let mut publication = Publication {
        exchange: JOBS_EXCHANGE.into(),
        routing_key: Cow::Owned(request.operation.routing_key(request.class())),
        properties: properties(request, reply_to, invoice, PriorOutcome::NotSent),
        body: invoice.body.clone(),
    };
    let mut delays = Backoffs::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        publisher.ready().await;
        match publisher.publish(&publication).await {
            Ok(()) => return Ok(()),
            Err(PublishError::Returned) => return Err(SubmitError::NoTopology),
            Err(PublishError::Refused(why)) => return Err(SubmitError::Refused(why)),
            Err(PublishError::Unconfirmed(_)) => {
                // Its first copy may be in the queue: the second one makes the worker look before it sends.
                publication.properties =
                    properties(request, reply_to, invoice, PriorOutcome::Unknown);
                tokio::time::sleep(delays.next_delay()).await;
            }
            Err(PublishError::NotConnected | PublishError::Nacked) => {
                tokio::time::sleep(delays.next_delay()).await;
            }
        }
    }
}

fn properties(
    request: &Request,
    reply_to: Option<&str>,
    invoice: &Invoice,
    outcome: PriorOutcome,
) -> Properties {
    let mut headers = FieldTable::default();
    if outcome != PriorOutcome::NotSent {
        set(&mut headers, header::OUTCOME, long(outcome.as_str()));
    }
    if let Some(gstin) = &request.gstin {
        set(&mut headers, header::GSTIN, long(gstin.as_str()));
    }
    if let Some(deadline) = &request.deadline {
        set(&mut headers, header::DEADLINE, long(&deadline.to_string()));
    }
    let properties = Properties::default()
        .with_content_type(short("application/json"))
        .with_type(short(&request.operation.kind()))
        .with_message_id(short(&invoice.id))
        .with_correlation_id(short(&invoice.correlation_id))
        .with_timestamp(u64::try_from(Timestamp::now().as_second()).unwrap_or_default())
        .with_headers(headers);
    match reply_to {
        Some(queue) => properties.with_reply_to(short(queue)),
        None => properties,
    }
}
