//! irp-sandbox: India's Invoice Registration Portal for local runs and tests, with real RSA, AES and signed tokens,
//! and with every fault a client must survive. It shares no code with the worker, so that a mistake in one shows
//! against the other. docs/sandbox.md tells how to use it.

#![forbid(unsafe_code)]

mod accounts;
mod answer;
mod call;
mod clock;
mod control;
mod corpus;
mod crypto;
mod documents;
mod envelope;
mod exchange;
mod faults;
mod gateways;
mod held;
mod http;
mod irn;
mod jwt;
mod keys;
mod mastergst;
mod node;
mod portal;
mod rules;
mod sandbox;
mod server;
mod sessions;
mod settings;
mod stats;
mod taxpayers;
mod timer;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use clap::Parser;
use jiff::SignedDuration;
use tokio::signal::unix::{SignalKind, signal};

use crate::accounts::Accounts;
use crate::keys::Keys;
use crate::sandbox::Sandbox;
use crate::server::Server;
use crate::settings::{Environment, Settings};

/// An IRP simulator with real RSA, AES and JWT, for local runs, tests and CI.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// Directory of the portal's keys, which are made at the first start
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// Credentials file (or directory) of the worker's format: who may log in; without it nobody may
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Serve HTTPS with this certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Which installation to play: decides token life and check digits
    #[arg(long, value_enum, default_value = "sandbox")]
    environment: Environment,
    /// Life of a token in minutes, instead of the environment's
    #[arg(long, value_name = "N")]
    token_minutes: Option<f64>,
    /// Hash document numbers as sent, as the portal did before June 2025
    #[arg(long)]
    legacy_irn: bool,
    /// How long a registration can be looked up
    #[arg(long, value_name = "DURATION", default_value = "48h")]
    lookup_window: SignedDuration,
    /// Refuse documents older than this many days (2305)
    #[arg(long, value_name = "DAYS")]
    reporting_window: Option<u32>,
    /// Documents (NDJSON) to judge and sign at start: submits of them cost little and never count as duplicates
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
}

impl Arguments {
    fn settings(&self) -> Settings {
        let mut settings = Settings::new(self.environment);
        settings.legacy_irn = self.legacy_irn;
        settings.lookup_window_hours = self.lookup_window.as_secs_f64() / 3600.0;
        settings.reporting_window_days = self.reporting_window;
        if let Some(minutes) = self.token_minutes {
            settings.token_minutes = minutes;
        }
        settings
    }

    fn tls(&self) -> Option<(&Path, &Path)> {
        Some((self.tls_cert.as_deref()?, self.tls_key.as_deref()?))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is installed already"))?;
    let accounts = match &arguments.credentials {
        Some(path) => Accounts::load(path)?,
        None => Accounts::default(),
    };
    let keys = Keys::load_or_create(&arguments.state_dir)?;
    let mut sandbox = Sandbox::new(keys, accounts, arguments.settings());
    if let Some(file) = &arguments.corpus {
        sandbox.corpus = sandbox.presign(file)?;
    }
    let sandbox = Arc::new(sandbox);
    let server = Server::bind(arguments.listen, arguments.tls()).await?;
    // Both before the line that says "ready": whoever reads it may signal at once.
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    announce(&server.url()?)?;
    tokio::select! {
        served = server.serve(http::router(Arc::clone(&sandbox)), sandbox) => served,
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    }
}

/// The one line a parent process waits for.
fn announce(url: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on {url}")?;
    Ok(out.flush()?)
}
