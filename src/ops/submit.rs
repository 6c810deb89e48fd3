//! `submit`: publishes invoices as jobs and, if asked, waits for their results.
//!
//! One rule: bytes stay bytes. Each document goes out exactly as it stands in its file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::broker::{
    AMQPValue, BrokerError, Endpoint, FieldTable, JOBS_EXCHANGE, Payload, Publication, Publisher,
    Topology, timed,
};
use crate::config::BrokerSide;
use crate::document;
use crate::gstin::Gstin;
use crate::job::{Properties, header, long, set, short};
use crate::retry::Backoffs;

/// Confirms in flight.
const IN_FLIGHT: usize = 128;

/// A reply queue nobody reads any more goes away after this long.
const REPLY_QUEUE_EXPIRES: Duration = Duration::from_secs(3600);

/// What to submit and how.
#[derive(Clone, Debug)]
pub struct Request {
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
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: String,
        /// The system's reason.
        error: io::Error,
    },
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
    /// The broker is not there.
    #[error("the broker cannot be reached: {0}")]
    Broker(#[from] BrokerError),
    /// The job queues are missing.
    #[error(
        "the broker takes no jobs: exchange {JOBS_EXCHANGE} routes nowhere; run `irn-worker topology apply` first"
    )]
    NoTopology,
}

impl From<lapin::Error> for SubmitError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error.into())
    }
}

/// What became of the invoices.
#[derive(Debug, Default)]
pub struct Summary {
    /// Jobs published and confirmed.
    pub published: usize,
    /// Results by status, if they were waited for.
    pub statuses: BTreeMap<String, usize>,
    /// Signatures by state.
    pub signatures: BTreeMap<String, usize>,
    /// Error codes of what is not signed.
    pub codes: BTreeMap<String, usize>,
    /// Registered by an earlier attempt, found again.
    pub recovered: usize,
    /// Results that did not come in time.
    pub missing: usize,
    /// Whether results were waited for.
    pub waited: bool,
    /// From the first publish to the last result.
    pub taken: Duration,
}

impl Summary {
    /// Whether every invoice is where it should be: signed, or, without waiting, published.
    pub fn is_good(&self) -> bool {
        !self.waited || self.statuses.get("signed").copied().unwrap_or_default() == self.published
    }

    /// A table for a person.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{} published in {:.1} s",
            self.published,
            self.taken.as_secs_f64()
        )?;
        if !self.waited {
            return Ok(());
        }
        for (status, count) in &self.statuses {
            writeln!(out, "  {status:<12} {count:>6}")?;
        }
        if self.missing > 0 {
            writeln!(out, "  {:<12} {:>6}", "no result", self.missing)?;
        }
        for (state, count) in &self.signatures {
            writeln!(out, "  signature {state:<12} {count:>6}")?;
        }
        if self.recovered > 0 {
            writeln!(
                out,
                "  {:<12} {:>6}  (registered by an earlier attempt, found again)",
                "recovered", self.recovered
            )?;
        }
        for (code, count) in &self.codes {
            writeln!(out, "  error {code:<20} {count:>6}")?;
        }
        Ok(())
    }

    /// The same for a script.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "published": self.published, "statuses": self.statuses, "signatures": self.signatures,
            "codes": self.codes, "recovered": self.recovered, "missing": self.missing,
            "seconds": self.taken.as_secs_f64(),
        })
    }
}

struct Invoice {
    id: String,
    correlation_id: String,
    body: String,
}

/// Publishes, and waits if asked.
pub async fn submit(config: &BrokerSide, request: &Request) -> Result<Summary, SubmitError> {
    let run = uuid::Uuid::new_v4().simple().to_string();
    let invoices = read_inputs(&request.inputs, &run)?;
    let endpoint = Endpoint::try_new(&config.broker, "submit")
        .map_err(|error| SubmitError::Broker(BrokerError::Lost(error.to_string())))?;
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
        ..Summary::default()
    };
    match replies {
        None => published.await?,
        Some(mut replies) => {
            let waiting = invoices
                .iter()
                .map(|invoice| invoice.correlation_id.clone())
                .collect();
            // Results come in while jobs still go out.
            let (published, collected) =
                tokio::join!(published, replies.collect(waiting, &mut summary));
            replies.close().await;
            published?;
            collected?;
        }
    }
    summary.taken = started.elapsed();
    Ok(summary)
}

fn read_inputs(inputs: &[PathBuf], run: &str) -> Result<Vec<Invoice>, SubmitError> {
    let mut invoices = Vec::new();
    for input in inputs {
        for path in files_of(input)? {
            let text = read_text(&path)?;
            add_invoices(&mut invoices, &path, &text, run)?;
        }
    }
    if invoices.is_empty() {
        Err(SubmitError::Nothing)
    } else {
        Ok(invoices)
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> SubmitError {
    let path = path.display().to_string();
    move |error| SubmitError::File { path, error }
}

/// The file itself, or a directory's `.json` and `.ndjson` files by name.
fn files_of(input: &Path) -> Result<Vec<PathBuf>, SubmitError> {
    if !input.is_dir() {
        return Ok(vec![input.to_owned()]);
    }
    let entries = std::fs::read_dir(input).map_err(file_error(input))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(file_error(input))?.path();
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        if path.is_file() && ["json", "ndjson", "jsonl"].contains(&extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_text(path: &Path) -> Result<String, SubmitError> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin()
            .read_to_string(&mut text)
            .map_err(file_error(path))?;
    } else {
        text = std::fs::read_to_string(path).map_err(file_error(path))?;
    }
    Ok(text)
}

/// One JSON value after another; an array stands for its elements.
fn add_invoices(
    invoices: &mut Vec<Invoice>,
    path: &Path,
    text: &str,
    run: &str,
) -> Result<(), SubmitError> {
    let not_json = |error: serde_json::Error| SubmitError::NotJson {
        path: path.display().to_string(),
        line: error.line(),
        column: error.column(),
    };
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let value = value.map_err(not_json)?;
        if value.get().starts_with('[') {
            let elements: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(not_json)?;
            elements
                .into_iter()
                .for_each(|element| add_invoice(invoices, element, run));
        } else {
            add_invoice(invoices, value, run);
        }
    }
    Ok(())
}

fn add_invoice(invoices: &mut Vec<Invoice>, document: &RawValue, run: &str) {
    let correlation_id = format!("{run}-{}", invoices.len() + 1);
    let id = match document::read(document.get().as_bytes()) {
        Ok(view) => view.irn().to_string(),
        // The worker will say what is wrong with it.
        Err(_) => correlation_id.clone(),
    };
    invoices.push(Invoice {
        id,
        correlation_id,
        body: document.get().to_owned(),
    });
}

async fn publish_all(
    config: &BrokerSide,
    endpoint: &Endpoint,
    request: &Request,
    reply_to: Option<String>,
    invoices: &[Invoice],
) -> Result<(), SubmitError> {
    // Seen now, an unreachable broker is an error; lost later, the publisher comes back by itself.
    drop(endpoint.connect("submit").await?);
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
    let publication = Publication {
        exchange: JOBS_EXCHANGE.into(),
        routing_key: Cow::Borrowed(if request.urgent {
            "urgent.generate"
        } else {
            "generate"
        }),
        properties: properties(request, reply_to, invoice),
        payload: Payload(invoice.body.as_bytes()),
    };
    let mut delays = Backoffs::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        publisher.ready().await;
        match publisher.publish(&publication).await {
            Ok(()) => return Ok(()),
            Err(crate::broker::PublishError::Returned) => return Err(SubmitError::NoTopology),
            // Sent twice is harmless: the IRN is the same, and the worker looks before it sends.
            Err(_) => tokio::time::sleep(delays.next_delay()).await,
        }
    }
}

fn properties(request: &Request, reply_to: Option<&str>, invoice: &Invoice) -> Properties {
    let mut headers = FieldTable::default();
    if let Some(gstin) = &request.gstin {
        set(&mut headers, header::GSTIN, long(gstin.as_str()));
    }
    if let Some(deadline) = &request.deadline {
        set(&mut headers, header::DEADLINE, long(&deadline.to_string()));
    }
    let properties = Properties::default()
        .with_content_type(short("application/json"))
        .with_type(short("irn.generate.v1"))
        .with_message_id(short(&invoice.id))
        .with_correlation_id(short(&invoice.correlation_id))
        .with_timestamp(u64::try_from(Timestamp::now().as_second()).unwrap_or_default())
        .with_headers(headers);
    match reply_to {
        Some(queue) => properties.with_reply_to(short(queue)),
        None => properties,
    }
}

/// What a result says, as far as the summary needs it.
#[derive(Deserialize)]
struct ResultView<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    signature: Option<Cow<'a, str>>,
    #[serde(default)]
    recovered: bool,
    #[serde(borrow, default)]
    errors: Vec<ErrorView<'a>>,
}

#[derive(Deserialize)]
struct ErrorView<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
}

/// A reply queue of our own.
struct Replies {
    endpoint: Endpoint,
    queue: String,
    out: Box<dyn Write + Send>,
    deadline: Option<tokio::time::Instant>,
    progress: Progress,
}

impl Replies {
    async fn open(
        config: &BrokerSide,
        endpoint: &Endpoint,
        wait: &Wait,
        run: &str,
    ) -> Result<Self, SubmitError> {
        let queue = format!("erp.submit.{run}");
        if !config
            .replies
            .allow
            .iter()
            .any(|pattern| pattern.matches(&queue))
        {
            return Err(SubmitError::NotAllowed(queue));
        }
        let connection = endpoint.connect("submit").await?;
        let channel = timed(connection.create_channel()).await??;
        let mut arguments = FieldTable::default();
        let expires = i64::try_from(REPLY_QUEUE_EXPIRES.as_millis()).unwrap_or(i64::MAX);
        set(&mut arguments, "x-expires", AMQPValue::LongLongInt(expires));
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        timed(channel.queue_declare(short(&queue), options, arguments)).await??;
        let out: Box<dyn Write + Send> = match &wait.out {
            Some(path) => Box::new(io::BufWriter::new(
                std::fs::File::create(path).map_err(file_error(path))?,
            )),
            None => Box::new(io::stdout()),
        };
        Ok(Self {
            endpoint: endpoint.clone(),
            queue,
            out,
            deadline: wait
                .timeout
                .map(|timeout| tokio::time::Instant::now() + timeout),
            progress: Progress::default(),
        })
    }

    async fn collect(
        &mut self,
        waiting: Vec<String>,
        summary: &mut Summary,
    ) -> Result<(), SubmitError> {
        let mut waiting: HashMap<String, ()> = waiting.into_iter().map(|id| (id, ())).collect();
        self.progress.start(waiting.len());
        let mut delays = Backoffs::new(Duration::from_millis(200), Duration::from_secs(5));
        while !waiting.is_empty() {
            match self.consume(&mut waiting, summary).await {
                Ok(Consumed::Everything) => break,
                Ok(Consumed::TimeIsUp) => break,
                Err(SubmitError::Broker(_)) => tokio::time::sleep(delays.next_delay()).await,
                Err(error) => return Err(error),
            }
        }
        summary.missing = waiting.len();
        self.progress.finish();
        self.out.flush().map_err(file_error(Path::new("--out")))
    }

    async fn consume(
        &mut self,
        waiting: &mut HashMap<String, ()>,
        summary: &mut Summary,
    ) -> Result<Consumed, SubmitError> {
        let connection = self.endpoint.connect("submit").await?;
        let channel = timed(connection.create_channel()).await??;
        let (queue, options) = (short(&self.queue), BasicConsumeOptions::default());
        let consuming = channel.basic_consume(queue, short(""), options, FieldTable::default());
        let mut results = timed(consuming).await??;
        let deadline = self.deadline;
        while !waiting.is_empty() {
            let next = tokio::select! {
                next = results.next() => next,
                () = until(deadline) => return Ok(Consumed::TimeIsUp),
            };
            let Some(delivery) = next.transpose()? else {
                return Err(BrokerError::Lost("the reply queue is gone".to_owned()).into());
            };
            let id = delivery
                .properties
                .correlation_id()
                .as_ref()
                .map(|id| id.as_str().to_owned())
                .unwrap_or_default();
            // A result that came before is a repetition; the receiver drops it.
            if waiting.remove(&id).is_some() {
                self.take(&delivery.data, summary)?;
            }
            delivery.acker.ack(BasicAckOptions::default()).await?;
        }
        Ok(Consumed::Everything)
    }

    fn take(&mut self, body: &[u8], summary: &mut Summary) -> Result<(), SubmitError> {
        let written = self
            .out
            .write_all(body)
            .and_then(|()| self.out.write_all(b"\n"));
        written.map_err(file_error(Path::new("--out")))?;
        self.progress.one();
        let Ok(result) = serde_json::from_slice::<ResultView<'_>>(body) else {
            *summary.statuses.entry("unreadable".to_owned()).or_default() += 1;
            return Ok(());
        };
        *summary
            .statuses
            .entry(result.status.into_owned())
            .or_default() += 1;
        if let Some(signature) = result.signature {
            *summary
                .signatures
                .entry(signature.into_owned())
                .or_default() += 1;
        }
        summary.recovered += usize::from(result.recovered);
        for error in result.errors {
            *summary.codes.entry(error.code.into_owned()).or_default() += 1;
        }
        Ok(())
    }

    /// Removes the reply queue, as far as that is possible; it would expire by itself.
    async fn close(self) {
        let Ok(connection) = self.endpoint.connect("submit").await else {
            return;
        };
        if let Ok(Ok(channel)) = timed(connection.create_channel()).await {
            drop(
                timed(channel.queue_delete(short(&self.queue), QueueDeleteOptions::default()))
                    .await,
            );
        }
    }
}

enum Consumed {
    Everything,
    TimeIsUp,
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A bar on a terminal, a line now and then elsewhere.
#[derive(Default)]
struct Progress {
    bar: Option<ProgressBar>,
    done: usize,
    total: usize,
}

impl Progress {
    fn start(&mut self, total: usize) {
        self.total = total;
        if io::stderr().is_terminal() {
            let bar =
                ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{bar:40} {pos}/{len} results, {per_sec}, {elapsed}");
            self.bar = Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
        }
    }

    fn one(&mut self) {
        self.done += 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if self.done.is_multiple_of(self.total.div_ceil(10).max(1)) => {
                eprintln!("{}/{} results", self.done, self.total);
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}
