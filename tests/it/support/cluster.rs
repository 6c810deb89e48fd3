//! A cluster of three broker nodes of the test's own, for tests that lose one.

use std::ffi::OsStr;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Duration;

use super::broker::Broker;
use super::private_broker::{run, script, value_of};
use super::{eventually, http};

/// How many nodes it has.
pub(crate) const NODES: usize = 3;

const SAFE_WITHIN: Duration = Duration::from_secs(60);

/// Three RabbitMQ nodes that `scripts/broker` started; killed when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    dir: TempDir,
    nodes: Vec<Node>,
    _turn: SemaphorePermit<'static>,
}

/// Six nodes that start beside all else are more than a small machine serves in time.
static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

#[derive(Debug)]
struct Node {
    amqp_url: String,
    management_url: String,
}

impl Cluster {
    pub(crate) async fn start() -> Result<Self> {
        let turn = ONE_AT_A_TIME.acquire().await?;
        let dir = TempDir::with_prefix("irn-worker-cluster-")?;
        let mut cluster = Self {
            dir,
            nodes: Vec::new(),
            _turn: turn,
        };
        run([OsStr::new("cluster"), cluster.dir.path().as_os_str()]).await?;
        for number in 1..=NODES {
            let env = std::fs::read_to_string(cluster.dir.path().join(format!("{number}/env")))?;
            cluster.nodes.push(Node {
                amqp_url: value_of(&env, "AMQP_URL")?,
                management_url: value_of(&env, "RABBITMQ_MANAGEMENT_URL")?,
            });
        }
        Ok(cluster)
    }

    /// A virtual host on it, managed through the first node. It runs on every node: on a busy machine RabbitMQ may have
    /// failed to start it on one, and leaves it so.
    pub(crate) async fn virtual_host(&self) -> Result<Broker> {
        let first = self.nodes.first().context("a cluster has nodes")?;
        let broker = Broker::at(&first.amqp_url, &first.management_url).await?;
        let client = http::client()?;
        let url = format!("{}/api/vhosts/{}", first.management_url, broker.vhost());
        eventually(
            SAFE_WITHIN,
            "the virtual host to run everywhere",
            async || {
                let vhost: Value = http::json(&client, &url).await?;
                let states = vhost["cluster_state"].as_object().context("no states")?;
                let mut runs = states.len() == NODES;
                for (node, state) in states {
                    if state != "running" {
                        runs = false;
                        let start = client.post(format!("{url}/start/{node}"));
                        start
                            .header("content-type", "application/json")
                            .send()
                            .await?;
                    }
                }
                Ok(runs.then_some(()))
            },
        )
        .await?;
        Ok(broker)
    }

    /// `host:port` of every node.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let authority = |node: &Node| {
            let after = node.amqp_url.rsplit('@').next().unwrap_or_default();
            after.split('/').next().unwrap_or_default().to_owned()
        };
        self.nodes.iter().map(authority).collect()
    }

    /// SIGKILL to one node, counted from 0.
    pub(crate) async fn kill(&self, node: usize) -> Result<()> {
        self.run("kill", node).await
    }

    /// Starts a node again that was killed.
    pub(crate) async fn start_again(&self, node: usize) -> Result<()> {
        self.run("start", node).await
    }

    /// Waits until a node can be lost: every quorum queue has a majority without it.
    pub(crate) async fn until_dispensable(&self, node: usize) -> Result<()> {
        let client = http::client()?;
        let url = format!(
            "{}/api/health/checks/node-is-quorum-critical",
            self.nodes[node].management_url
        );
        let what = format!("node {} to be dispensable", node + 1);
        eventually(SAFE_WITHIN, &what, async || {
            let health: Value = http::json(&client, &url).await?;
            ensure!(health["status"] == "ok", "{health}");
            Ok(Some(()))
        })
        .await
    }

    /// How many members each quorum queue has, the fewest of all.
    pub(crate) async fn fewest_members(&self, vhost: &Broker) -> Result<usize> {
        let queues = vhost.quorum_queues().await?;
        let members = queues
            .iter()
            .map(|queue| queue["members"].as_array().map_or(0, Vec::len));
        members.min().context("there are no quorum queues")
    }

    async fn run(&self, command: &str, node: usize) -> Result<()> {
        let dir = self.dir.path().join((node + 1).to_string());
        run([OsStr::new(command), dir.as_os_str()]).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let killed = std::process::Command::new(script())
            .arg("kill")
            .arg(self.dir.path())
            .status();
        if !killed.as_ref().is_ok_and(std::process::ExitStatus::success) {
            println!("a cluster was not killed: {killed:?}");
        }
    }
}
