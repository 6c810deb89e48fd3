//! How the system is to treat this process: no core files, and threads that do not interrupt others.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getpriority_process, set_dumpable_behavior, setrlimit,
};
use thread_priority::{
    Error, NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
};

use super::StartError;

const SCHED_OTHER: ThreadSchedulePolicy =
    ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
const SCHED_BATCH: ThreadSchedulePolicy =
    ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);

/// Keeps documents and keys out of core files, whatever the system's default. The limit alone does not hold where the system
/// hands them to a program (core(5), "Piping core dumps to a program").
pub fn forbid_core_files() -> Result<(), StartError> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| StartError::Process(format!("cannot forbid core files: {error}")))
}

/// Puts this thread, and those that it starts from now on, under `SCHED_BATCH` (sched(7)): woken, a thread waits for its
/// turn instead of interrupting another.
///
/// Where replicas share processors with each other or the broker, each then finds more to do when its turn comes, and
/// hands more over at once: four replicas on two processors have half the switches between threads, and a job costs them
/// a fifth less. The price: beside a program that keeps a processor busy, a thread waits until that one's turn ends.
///
/// A policy other than `SCHED_OTHER`, the usual one, is somebody's choice and stays; niceness stays in any case.
///
/// # Errors
/// What the system says against it. Nothing but speed is lost.
pub fn use_sched_batch() -> io::Result<()> {
    match thread_schedule_policy() {
        Ok(SCHED_OTHER) => {}
        // One that the library has no name for is chosen, too.
        Ok(_) | Err(Error::Ffi(_)) => return Ok(()),
        Err(error) => return Err(io_error(error)),
    }
    let niceness = getpriority_process(None)?;
    let priority = of_niceness(niceness)
        .ok_or_else(|| io::Error::other(format!("no priority stands for niceness {niceness}")))?;
    match set_thread_priority_and_policy(thread_native_id(), priority, SCHED_BATCH) {
        // The policy may be set, and the niceness that it is already refused.
        Err(_) if matches!(thread_schedule_policy(), Ok(SCHED_BATCH)) => Ok(()),
        set => set.map_err(io_error),
    }
}

/// The system keeps a thread's niceness under a new policy, but the library sets one along with it, and counts it from 0
/// to 99.
fn of_niceness(niceness: i32) -> Option<ThreadPriority> {
    (0..=99)
        .filter_map(|value| ThreadPriorityValue::try_from(value).ok())
        .map(ThreadPriority::Crossplatform)
        .find(|priority| matches!(priority.to_posix(SCHED_BATCH), Ok(of) if of == niceness))
}

fn io_error(error: Error) -> io::Error {
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
            assert_eq!(priority.to_posix(SCHED_BATCH).unwrap(), niceness);
        }
    }
}
