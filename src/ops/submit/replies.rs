//! A reply queue of our own, and the results that come to it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Write};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use serde::Deserialize;

use super::inputs::file_error;
use super::progress::Progress;
use super::{SubmitError, Summary, Wait};
use crate::broker::{AMQPValue, BrokerError, Endpoint, FieldTable, timed};
use crate::config::BrokerSide;
use crate::job::{set, short};
use crate::retry::Backoffs;

/// A reply queue nobody reads any more goes away after this long.
const REPLY_QUEUE_EXPIRES: Duration = Duration::from_secs(3600);

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
pub(super) struct Replies {
    endpoint: Endpoint,
    pub(super) queue: String,
    out: Box<dyn Write + Send>,
    deadline: Option<tokio::time::Instant>,
    progress: Progress,
}

impl Replies {
    pub(super) async fn open(
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

    /// What is left of the time the caller is willing to wait.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(tokio::time::Instant::now()))
    }

    pub(super) async fn collect(
        &mut self,
        mut waiting: HashSet<String>,
        summary: &mut Summary,
    ) -> Result<(), SubmitError> {
        self.progress.start(waiting.len());
        let deadline = self.deadline;
        let collected = tokio::select! {
            collected = self.consume_through_faults(&mut waiting, summary) => collected,
            () = until(deadline) => Ok(()),
        };
        summary.missing = waiting.len();
        self.progress.finish();
        collected
    }

    /// Consumes until every result is here, coming back whenever the broker is lost.
    async fn consume_through_faults(
        &mut self,
        waiting: &mut HashSet<String>,
        summary: &mut Summary,
    ) -> Result<(), SubmitError> {
        let mut delays = Backoffs::new(Duration::from_millis(200), Duration::from_secs(5));
        while !waiting.is_empty() {
            match self.consume(waiting, summary).await {
                Err(SubmitError::Broker(_)) => tokio::time::sleep(delays.next_delay()).await,
                consumed => consumed?,
            }
        }
        Ok(())
    }

    async fn consume(
        &mut self,
        waiting: &mut HashSet<String>,
        summary: &mut Summary,
    ) -> Result<(), SubmitError> {
        let connection = self.endpoint.connect("submit").await?;
        let channel = timed(connection.create_channel()).await??;
        let (queue, options) = (short(&self.queue), BasicConsumeOptions::default());
        let consuming = channel.basic_consume(queue, short(""), options, FieldTable::default());
        let mut results = timed(consuming).await??;
        while !waiting.is_empty() {
            let Some(delivery) = results.next().await.transpose()? else {
                return Err(BrokerError::Lost("the reply queue is gone".to_owned()).into());
            };
            let id = delivery
                .properties
                .correlation_id()
                .as_ref()
                .map(|id| id.as_str().to_owned())
                .unwrap_or_default();
            // A result that came before is a repetition; the receiver drops it.
            if waiting.remove(&id) {
                self.take(&delivery.data, summary)?;
            }
            timed(delivery.acker.ack(BasicAckOptions::default())).await??;
        }
        Ok(())
    }

    fn take(&mut self, body: &[u8], summary: &mut Summary) -> Result<(), SubmitError> {
        let written = self
            .out
            .write_all(body)
            .and_then(|()| self.out.write_all(b"\n"))
            // It is acknowledged next, and then nobody has it but this file.
            .and_then(|()| self.out.flush());
        written.map_err(SubmitError::Output)?;
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

    /// Leaves the reply queue, and what may still come to it, for whoever wants to look.
    pub(super) fn leave(self) {
        let queue = self.queue;
        eprintln!("irn-worker: results that have not come yet stay in queue {queue} for an hour");
    }

    /// Removes the reply queue, as far as that is possible; it would expire by itself.
    pub(super) async fn close(self) {
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

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
