//! What the workers are connected to: one node that is stopped and killed, or a cluster that loses one after another.

use anyhow::{Result, ensure};

use crate::support::broker::Broker;
use crate::support::cluster::{Cluster, NODES};
use crate::support::private_broker::PrivateBroker;

/// The broker of a run and its virtual host.
pub(crate) struct Brokers {
    vhost: Broker,
    kind: Kind,
}

enum Kind {
    Single(PrivateBroker),
    Cluster(Cluster),
}

impl Brokers {
    pub(crate) async fn start(cluster: bool) -> Result<Self> {
        let (kind, vhost) = if cluster {
            let cluster = Cluster::start().await?;
            let vhost = cluster.virtual_host().await?;
            (Kind::Cluster(cluster), vhost)
        } else {
            let node = PrivateBroker::start().await?;
            let vhost = node.virtual_host().await?;
            (Kind::Single(node), vhost)
        };
        Ok(Self { vhost, kind })
    }

    pub(crate) fn vhost(&self) -> &Broker {
        &self.vhost
    }

    /// Where it can be reached: each node.
    pub(crate) fn addresses(&self) -> Vec<String> {
        match &self.kind {
            Kind::Single(_) => vec![self.vhost.address().to_owned()],
            Kind::Cluster(cluster) => cluster.addresses(),
        }
    }

    /// In a cluster every queue is on all nodes, or losing one proves nothing.
    pub(crate) async fn ensure_replicated(&self) -> Result<()> {
        if let Kind::Cluster(cluster) = &self.kind {
            let fewest = cluster.fewest_members(&self.vhost).await?;
            ensure!(fewest == NODES, "a queue has {fewest} members");
        }
        Ok(())
    }

    /// Takes the broker away for the `number`th time: a clean stop and a SIGKILL in turn, of a cluster's nodes one
    /// after another by SIGKILL.
    pub(crate) async fn take_away(&self, number: usize) -> Result<()> {
        match &self.kind {
            // The stop comes first: RabbitMQ 3.10 may lose a quorum queue that is killed within a second of its making.
            Kind::Single(node) if number.is_multiple_of(2) => node.stop().await,
            Kind::Single(node) => node.kill().await,
            Kind::Cluster(cluster) => {
                cluster.until_dispensable(number % NODES).await?;
                cluster.kill(number % NODES).await
            }
        }
    }

    pub(crate) async fn bring_back(&self, number: usize) -> Result<()> {
        match &self.kind {
            Kind::Single(node) => node.start_again().await,
            Kind::Cluster(cluster) => cluster.start_again(number % NODES).await,
        }
    }

    /// Whether the workers have somebody to talk to while a node is away.
    pub(crate) fn survives(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }
}
