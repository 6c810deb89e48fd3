//! How the system schedules a worker's threads.

use std::io::ErrorKind;

use anyhow::{Context as _, Result, ensure};
use rustix::process::getpriority_process;

use crate::support::stack::Stack;
use crate::support::worker::WorkerProcess;

/// sched(7)
const SCHED_BATCH: i32 = 3;
const SCHED_IDLE: i32 = 5;

/// One thread of a process.
#[derive(Debug)]
struct Thread {
    id: i32,
    name: String,
    niceness: i32,
    policy: i32,
}

/// The threads of a worker that is ready: proc_pid_stat(5), fields 2, 19 and 41.
async fn threads(worker: &mut WorkerProcess) -> Result<Vec<Thread>> {
    worker.until_ready().await?;
    let mut threads = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", worker.pid()?))? {
        let task = task?;
        let stat = match std::fs::read_to_string(task.path().join("stat")) {
            Ok(stat) => stat,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            // ESRCH: it ended while it was read.
            Err(error) if error.raw_os_error() == Some(3) => continue,
            Err(error) => return Err(error.into()),
        };
        let (before, after) = stat.rsplit_once(')').context("no name ends")?;
        let field = |number: usize| {
            let field = after.split_whitespace().nth(number - 3);
            Ok::<i32, anyhow::Error>(field.context("no such field")?.parse()?)
        };
        threads.push(Thread {
            id: task.file_name().to_string_lossy().parse()?,
            name: before
                .split_once('(')
                .context("no name begins")?
                .1
                .to_owned(),
            niceness: field(19)?,
            policy: field(41)?,
        });
    }
    let to_the_broker = threads
        .iter()
        .filter(|thread| thread.name == "lapin-io-loop");
    ensure!(to_the_broker.count() >= 2, "{threads:?}");
    Ok(threads)
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn threads_are_under_sched_batch_and_as_nice_as_the_worker_was_started() -> Result<()> {
    let stack = Stack::start(0).await?;
    let config = stack.config()?;
    let wrapper = ["chrt", "--other", "0", "nice", "-n", "5"];
    let mut worker = config.spawn_under("nice worker", &wrapper)?;
    let nicer = (getpriority_process(None)? + 5).min(19);
    let first = worker.pid()?;
    for thread in threads(&mut worker).await? {
        ensure!(thread.niceness == nicer, "{thread:?} is not {nicer} nice");
        // The first thread only waits for the end of the second.
        ensure!(
            thread.policy == SCHED_BATCH || thread.id == first,
            "{thread:?}"
        );
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn scheduling_policy_that_somebody_has_chosen_stays() -> Result<()> {
    let stack = Stack::start(0).await?;
    let config = stack.config()?;
    let mut worker = config.spawn_under("idle worker", &["chrt", "--idle", "0"])?;
    for thread in threads(&mut worker).await? {
        ensure!(thread.policy == SCHED_IDLE, "{thread:?}");
    }
    Ok(())
}
