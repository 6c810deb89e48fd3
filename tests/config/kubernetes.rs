//! The examples for Kubernetes are true: they count the queues that there are, and leave a pod the time that it needs.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use irn_worker::broker::Topology;
use irn_worker::config::{self, Config};

use crate::support::{Folder, shipped};

/// As it stands in a regular expression of the examples.
const COUNTED: [&str; 2] = [
    "irn\\.(jobs|jobs\\.urgent|retry\\..+)",
    "irn\\\\.(jobs|jobs\\\\.urgent|retry\\\\..+)",
];

fn example(name: &str) -> Result<String> {
    fs::read_to_string(shipped("kubernetes").join(name)).with_context(|| name.to_owned())
}

fn shipped_config() -> Result<Config> {
    let folder = Folder::new()?;
    Ok(config::load(&shipped("worker.toml"), folder.required())?.config)
}

#[test]
fn examples_count_the_job_queues_and_every_rung_and_no_other_queue() -> Result<()> {
    let config = shipped_config()?;
    let topology = Topology::of(&config.replies, &config.retry, &config.dead_letter);
    let (counted, others): (Vec<_>, Vec<_>) = topology.queues().partition(|queue| {
        ["irn.jobs", "irn.jobs.urgent"].contains(queue) || queue.starts_with("irn.retry.")
    });
    assert_eq!(counted.len(), 2 + config.retry.delays.len());
    assert_eq!(
        others,
        ["irn.poison", "irn.control.log", "irn.results", "irn.dead"]
    );
    for (name, pattern) in ["keda-scaledobject.yaml", "hpa.yaml"].iter().zip(COUNTED) {
        let text = example(name)?;
        assert!(text.contains(pattern), "{name} does not count {pattern}");
        assert!(text.contains("max(irn_worker_useful_replicas)"), "{name}");
    }
    Ok(())
}

#[test]
fn grace_of_a_pod_is_longer_than_a_drain() -> Result<()> {
    let text = example("pod-termination.yaml")?;
    let seconds = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("terminationGracePeriodSeconds: "))
        .context("no grace")?;
    let grace = Duration::from_secs(seconds.parse()?);
    let drain = shipped_config()?.shutdown.drain_timeout;
    // The worker gives what runs beside its jobs one more second.
    assert!(grace >= drain + Duration::from_secs(10), "{grace:?}");
    Ok(())
}
