//! `topology`: what would be declared, declaring it, exporting it.

use std::io::{self, Write as _};
use std::path::Path;

use clap::Subcommand;

use super::{Failure, broker_failure, broker_side, endpoint, print};
use crate::broker::{BrokerError, Topology, timed, users};
use crate::config::BrokerSide;

#[derive(Debug, Subcommand)]
pub(super) enum TopologyCommand {
    /// Print what would be declared.
    Plan,
    /// Declare it.
    Apply,
    /// Print a RabbitMQ definitions file.
    Export {
        /// Also four users, without passwords, and their permissions.
        #[arg(long)]
        users: bool,
    },
}

impl TopologyCommand {
    /// Does it and gives the exit code.
    pub(super) async fn run(self, config: &Path, json: bool) -> Result<u8, Failure> {
        match self {
            Self::Plan => plan(config, json),
            Self::Apply => apply(config, json).await,
            Self::Export { users } => export(config, users),
        }
    }
}

fn topology(config: &BrokerSide) -> Topology {
    Topology::of(&config.replies, &config.retry, &config.dead_letter)
}

fn plan(path: &Path, json: bool) -> Result<u8, Failure> {
    let lines = topology(&broker_side(path)?).lines();
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::json!({ "declares": lines }))?;
    } else {
        lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(0)
}

async fn apply(path: &Path, json: bool) -> Result<u8, Failure> {
    let config = broker_side(path)?;
    let endpoint = endpoint(&config.broker, "topology")?;
    let failure =
        |error: BrokerError| broker_failure(&format!("broker {}", endpoint.address()), &error);
    let connection = endpoint.connect("topology").await.map_err(failure)?;
    let topology = topology(&config);
    let applying = async {
        topology.apply(&connection).await?;
        topology.apply_control_log(&connection).await
    };
    timed(applying).await.map_err(failure)?.map_err(failure)?;
    let (broker, queues): (_, Vec<_>) = (endpoint.address(), topology.queues().collect());
    if json {
        print(serde_json::json!({ "broker": broker, "queues": queues }))
    } else {
        print(format_args!("declared on {broker}: {}", queues.join(", ")))
    }
}

fn export(path: &Path, with_users: bool) -> Result<u8, Failure> {
    let config = broker_side(path)?;
    let endpoint = endpoint(&config.broker, "topology")?;
    let topology = topology(&config);
    let definitions = if with_users {
        topology.definitions_with_users(endpoint.vhost(), &users(&config.replies))
    } else {
        topology.definitions(endpoint.vhost())
    };
    print(format_args!("{definitions:#}"))
}
