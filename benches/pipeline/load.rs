//! The ERP's side: publishes jobs and takes results, cheaply enough not to be what is measured.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use tokio::time::timeout;

use crate::corpus::Corpus;

/// How many publishes may be unconfirmed.
const WINDOW: usize = 512;
/// How many results are acknowledged together.
const ACK_EVERY: usize = 100;
const PREFETCH: u16 = 2_000;
/// No result or confirm for so long means that none will come.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection of the ERP's own.
pub(crate) struct Erp {
    pub(crate) jobs: Jobs,
    pub(crate) results: Results,
    /// Kept open.
    _connection: Connection,
}

/// The end that publishes.
pub(crate) struct Jobs(Channel);

/// The end that consumes.
pub(crate) struct Results {
    consumer: Consumer,
    unacknowledged: usize,
}

impl Erp {
    /// Connects to a virtual host that has the worker's topology, and consumes its results.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let publishing = connection.create_channel().await?;
        let options = ConfirmSelectOptions::default();
        publishing.confirm_select(options).await?;
        let consuming = connection.create_channel().await?;
        consuming
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = consuming
            .basic_consume("irn.results".into(), "".into(), options, none)
            .await?;
        Ok(Self {
            jobs: Jobs(publishing),
            results: Results {
                consumer,
                unacknowledged: 0,
            },
            _connection: connection,
        })
    }
}

impl Jobs {
    /// Publishes the jobs of these numbers, and waits until the broker has confirmed all.
    pub(crate) async fn publish(&self, corpus: &Corpus, jobs: Range<usize>) -> Result<()> {
        let mut confirms = VecDeque::with_capacity(WINDOW);
        for number in jobs {
            if confirms.len() == WINDOW
                && let Some(oldest) = confirms.pop_front()
            {
                accepted(oldest).await?;
            }
            confirms.push_back(self.send(number, corpus.document(number)).await?);
        }
        for confirm in confirms {
            accepted(confirm).await?;
        }
        Ok(())
    }

    /// Publishes one job without waiting for the confirm.
    #[expect(
        clippy::disallowed_methods,
        reason = "the benchmark's own publisher: its callers look at the confirm"
    )]
    pub(crate) async fn send(
        &self,
        number: usize,
        document: &[u8],
    ) -> Result<impl Future<Output = lapin::Result<Confirmation>> + use<>> {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(number.to_string().into());
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        Ok(self
            .0
            .basic_publish(
                "irn.jobs".into(),
                "generate".into(),
                options,
                document,
                properties,
            )
            .await?)
    }
}

impl Results {
    /// Takes so many results.
    ///
    /// # Errors
    /// When one of them is not `signed`, or none comes for a minute.
    pub(crate) async fn take(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.next().await?;
        }
        Ok(())
    }

    /// Takes the next result and returns its job's number.
    pub(crate) async fn next(&mut self) -> Result<usize> {
        let delivery = timeout(SILENCE, self.consumer.next())
            .await
            .with_context(|| format!("no result for {SILENCE:?}"))?
            .context("the consumer was cancelled")??;
        self.unacknowledged += 1;
        if self.unacknowledged == ACK_EVERY {
            let options = BasicAckOptions { multiple: true };
            ensure!(delivery.acker.ack(options).await?, "an ack was not sent");
            self.unacknowledged = 0;
        }
        let properties = &delivery.properties;
        let status = properties
            .headers()
            .as_ref()
            .and_then(|headers| headers.inner().get("x-irn-status"));
        match status {
            Some(AMQPValue::LongString(text)) if text.as_bytes() == b"signed" => {}
            _ => bail!(
                "a job was not signed: {}",
                String::from_utf8_lossy(&delivery.data)
            ),
        }
        let id = properties.correlation_id().as_ref();
        let id = id.context("a result without correlation_id")?;
        Ok(id.as_str().parse()?)
    }
}

/// Waits for a confirm.
///
/// # Errors
/// When the job was not taken, or the broker says nothing for a minute, as one whose memory is full.
pub(crate) async fn accepted(
    confirm: impl Future<Output = lapin::Result<Confirmation>>,
) -> Result<()> {
    let said = timeout(SILENCE, confirm).await.with_context(|| {
        format!("no confirm for {SILENCE:?}: has the broker an alarm? Fewer --jobs take less of its memory")
    })?;
    match said? {
        Confirmation::Ack(None) => Ok(()),
        unwelcome => bail!("a job was not taken: {unwelcome:?}"),
    }
}
