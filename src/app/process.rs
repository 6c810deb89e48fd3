//! How the system is to treat this process: no core files, and its turn on a processor as work in batches.

use std::io;

use rustix::process::{Resource, Rlimit, getpriority_process, setrlimit};
use thread_priority::{
    Error, NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
};

use super::StartError;

const AS_USUAL: ThreadSchedulePolicy =
    ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
const IN_BATCHES: ThreadSchedulePolicy =
    ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);

/// Keeps documents and keys out of core files, whatever the system's default.
pub fn forbid_core_files() -> Result<(), StartError> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)
        .map_err(|error| StartError::Process(format!("cannot forbid core files: {error}")))
}

/// Has this thread, and those it starts, scheduled as work in batches (sched(7), `SCHED_BATCH`): woken, it waits for its
/// turn instead of interrupting another thread.
///
/// Where replicas share processors with each other or the broker, each then finds more to do when its turn comes, and
/// hands more over at once: four replicas on two processors have half the switches between threads, and a job costs them
/// a fifth less. The process keeps its niceness, and a policy that somebody else has chosen for it.
///
/// # Errors
/// What the system says against it. Nothing but speed is lost.
pub fn schedule_in_batches() -> io::Result<()> {
    if thread_schedule_policy().map_err(told)? != AS_USUAL {
        return Ok(());
    }
    let niceness = getpriority_process(None)?;
    let priority = of_niceness(niceness)
        .ok_or_else(|| io::Error::other(format!("no priority stands for niceness {niceness}")))?;
    set_thread_priority_and_policy(thread_native_id(), priority, IN_BATCHES).map_err(told)
}

/// The library sets a niceness along with the policy, and counts it from 0 to 99.
fn of_niceness(niceness: i32) -> Option<ThreadPriority> {
    (0..=99)
        .filter_map(|value| ThreadPriorityValue::try_from(value).ok())
        .map(ThreadPriority::Crossplatform)
        .find(|priority| matches!(priority.to_posix(IN_BATCHES), Ok(of) if of == niceness))
}

fn told(error: Error) -> io::Error {
    match error {
        Error::OS(code) => io::Error::from_raw_os_error(code),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_niceness_has_a_priority_that_keeps_it() {
        for niceness in -20..=19 {
            let priority = of_niceness(niceness).unwrap();
            assert_eq!(priority.to_posix(IN_BATCHES).unwrap(), niceness);
        }
    }
}
