//! All of it together: a virtual host, a portal, some workers, an ERP.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::amqp::{Amqp, Message};
use super::broker::Broker;
use super::credentials::{Credentials, GSTINS};
use super::sandbox::Sandbox;
use super::worker::{WorkerConfig, WorkerProcess};

/// A running system, with the fields in the order in which they have to go.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) workers: Vec<WorkerProcess>,
    pub(crate) erp: Amqp,
    pub(crate) sandbox: Sandbox,
    pub(crate) broker: Broker,
}

impl Stack {
    /// `workers` workers for the five sellers of [`GSTINS`], ready.
    pub(crate) async fn start(workers: usize) -> Result<Self> {
        Self::start_with(workers, Ok).await
    }

    /// The same with a changed configuration.
    pub(crate) async fn start_with(
        workers: usize,
        change: impl Fn(WorkerConfig) -> Result<WorkerConfig>,
    ) -> Result<Self> {
        let broker = Broker::new().await?;
        let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
        let erp = Amqp::connect(&broker.url()).await?;
        let mut stack = Self {
            workers: Vec::new(),
            erp,
            sandbox,
            broker,
        };
        for number in 1..=workers {
            let config = change(stack.config()?)?;
            stack
                .workers
                .push(config.start(&format!("worker {number}")).await?);
        }
        Ok(stack)
    }

    /// A configuration for one more worker.
    pub(crate) fn config(&self) -> Result<WorkerConfig> {
        WorkerConfig::between(&self.broker.url(), &self.sandbox)
    }

    /// The first worker.
    pub(crate) fn worker(&mut self) -> Result<&mut WorkerProcess> {
        self.workers.first_mut().context("the stack has no worker")
    }

    /// Takes `count` results off the default reply queue.
    pub(crate) async fn results(&self, count: usize, deadline: Duration) -> Result<Vec<Message>> {
        self.erp.take("irn.results", count, deadline).await
    }
}
