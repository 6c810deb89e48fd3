//! How the system schedules a worker's threads.

use anyhow::{Context as _, Result, ensure};
use rustix::process::getpriority_process;

use crate::support::stack::Stack;

/// `SCHED_BATCH`, sched(7).
const IN_BATCHES: i32 = 3;

/// One thread, of /proc/PID/task/TID: its name, niceness and policy (proc_pid_stat(5), fields 2, 19 and 41).
struct Scheduled {
    name: String,
    niceness: i32,
    policy: i32,
}

fn threads(pid: i32) -> Result<Vec<Scheduled>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    let read = tasks.map(|task| {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        let (name, rest) = stat.rsplit_once(')').context("no name")?;
        let field = |number: usize| rest.split_whitespace().nth(number - 3).context("no field");
        Ok(Scheduled {
            name: name.rsplit_once('(').context("no name")?.1.to_owned(),
            niceness: field(19)?.parse()?,
            policy: field(41)?.parse()?,
        })
    });
    read.collect()
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn threads_that_carry_jobs_are_scheduled_in_batches_and_no_less_nice() -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let worker = stack.worker()?;
    worker.until_ready().await?;
    let threads = threads(worker.pid()?)?;
    let niceness = getpriority_process(None)?;
    // The first thread of the process only waits for the end of the second.
    let carrying = [("lapin-io-loop", 2), ("irn-worker", 1)];
    for (name, at_least) in carrying {
        let in_batches = threads
            .iter()
            .filter(|thread| thread.name == name && thread.policy == IN_BATCHES)
            .count();
        ensure!(in_batches >= at_least, "{in_batches} {name} in batches");
    }
    let other = threads.iter().find(|thread| thread.niceness != niceness);
    ensure!(
        other.is_none(),
        "{} is {} nice, and its parent {niceness}",
        other.map_or("", |thread| &thread.name),
        other.map_or(0, |thread| thread.niceness)
    );
    Ok(())
}
