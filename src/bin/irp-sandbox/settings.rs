//! The portal's switches: what the command line sets and the control API changes.

use std::time::Duration;

use clap::ValueEnum;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Which of the portal's two installations is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Environment {
    /// Tokens live 60 minutes; made-up GSTINs need no valid check digit.
    Sandbox,
    /// Tokens live 360 minutes; every GSTIN needs a valid check digit.
    Production,
}

impl Environment {
    /// How long a token lives (NIC, authentication pages).
    pub(crate) fn token_minutes(self) -> f64 {
        match self {
            Self::Sandbox => 60.0,
            Self::Production => 360.0,
        }
    }
}

/// All switches. `GET /_sandbox/settings` shows this structure, `POST` changes the members it names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) environment: Environment,
    /// Life of a token in minutes; parts of a minute are allowed.
    pub(crate) token_minutes: f64,
    /// Hash document numbers as they were sent, as the portal did before June 2025.
    pub(crate) legacy_irn: bool,
    /// How long a registration can be looked up, in hours; later look-ups are answered 2283.
    pub(crate) lookup_window_hours: f64,
    /// How old a document may be, in days (2305); `null` is no limit.
    pub(crate) reporting_window_days: Option<u32>,
    /// Give AckDt its seconds instead of rounding it to the minute.
    pub(crate) ack_seconds: bool,
    /// Errors after which a GSTIN is blocked; `null` is never.
    pub(crate) error_budget_per_gstin: Option<u64>,
    /// Errors after which a client id is blocked; `null` is never.
    pub(crate) error_budget_per_client: Option<u64>,
    /// What a blocked GSTIN or client is answered; the real code is not published.
    pub(crate) block_code: String,
    /// Milliseconds that a new TLS connection waits for its handshake; plain HTTP never waits.
    pub(crate) tls_delay_ms: u64,
}

impl Settings {
    /// The switches of `environment` with everything else at its default.
    pub(crate) fn new(environment: Environment) -> Self {
        Self {
            environment,
            token_minutes: environment.token_minutes(),
            legacy_irn: false,
            lookup_window_hours: 48.0,
            reporting_window_days: None,
            ack_seconds: false,
            error_budget_per_gstin: None,
            error_budget_per_client: None,
            block_code: "1014".to_owned(),
            tls_delay_ms: 0,
        }
    }

    /// Life of a token.
    pub(crate) fn token_life(&self) -> SignedDuration {
        SignedDuration::try_from_secs_f64(self.token_minutes * 60.0).unwrap_or(SignedDuration::MAX)
    }

    /// How long the handshake of a new TLS connection waits, in real time.
    pub(crate) fn tls_delay(&self) -> Duration {
        Duration::from_millis(self.tls_delay_ms)
    }

    /// How long a registration can be looked up.
    pub(crate) fn lookup_window(&self) -> SignedDuration {
        SignedDuration::try_from_secs_f64(self.lookup_window_hours * 3600.0)
            .unwrap_or(SignedDuration::MAX)
    }
}
