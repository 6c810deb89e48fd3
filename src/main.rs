//! `irn-worker`: parse the arguments, run the command, give its exit code.

#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use clap::Parser as _;
use irn_worker::cli::{self, Cli};

/// Keeps what lives long apart from the buffers of documents that come and go: with libc's allocator ten thousand
/// sessions, 16 MiB, held 62 MiB with the holes between them.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The variable from which the standard library takes the size of every thread's stack.
const STACK_VARIABLE: &str = "RUST_MIN_STACK";

/// Enough for headers nested as deep as the largest frame has room for; memory is only taken as it is used.
const STACK_BYTES: u64 = 67_108_864;

/// The variable from which the allocator takes its options.
const ALLOCATOR_VARIABLE: &str = "MALLOC_CONF";

/// Two heaps, however many processors the machine has; what is free goes back to it after a second. From 1 MiB on, as the
/// AMQP library's buffers are, memory comes fresh: of what was used before every page would count, though hardly any of
/// theirs is ever written to.
const ALLOCATOR_OPTIONS: &str =
    "narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0,oversize_threshold:1048576";

fn main() -> ExitCode {
    start_over();
    let cli = Cli::parse();
    // One provider for the portal's TLS and the broker's; a second call could only find the same one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    cli::run(cli)
}

/// Starts this process over with deeper stacks and the allocator's options, once.
///
/// Tables and lists in a message's headers may be nested some ten thousand levels deep, and the AMQP library reads,
/// copies and drops them by recursion: on a stack of the default 2 MiB that ends the process, and every job with it.
/// The library makes its threads itself and the variable is read at the first of them, so this process cannot change
/// it for itself; and the allocator has read its options before anything here runs. Where it cannot start over, it goes
/// on as it is.
fn start_over() {
    let stack = std::env::var(STACK_VARIABLE).ok();
    let stack: Option<u64> = stack.and_then(|bytes| bytes.parse().ok());
    let is_deep = stack.is_some_and(|bytes| bytes >= STACK_BYTES);
    let has_options = std::env::var_os(ALLOCATOR_VARIABLE).is_some();
    if is_deep && has_options {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
        let mut again = Command::new(program);
        again.arg0(name).args(arguments).env(
            STACK_VARIABLE,
            stack.unwrap_or(0).max(STACK_BYTES).to_string(),
        );
        if !has_options {
            again.env(ALLOCATOR_VARIABLE, ALLOCATOR_OPTIONS);
        }
        // It returns only if it fails.
        drop(again.exec());
    }
}
