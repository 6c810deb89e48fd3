//! `irn-worker`: parse the arguments, run the command, give its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use irn_worker::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One provider for the portal's TLS and the broker's; a second call could only find the same one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    cli::run(cli)
}
