//! What can be typed after `dead-letters`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::duration::duration;
use crate::config::Rate;
use crate::gstin::Gstin;
use crate::ops::dead_letters::{Filter, LetterQueue};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum QueueArg {
    /// irn.dead: jobs that the worker gave up on.
    Dead,
    /// irn.poison: what it could not read, and what the broker moved there.
    Poison,
}

/// Which letters.
#[derive(Debug, Args)]
pub(in crate::cli) struct FilterArgs {
    /// In which queue.
    #[arg(long, value_enum, default_value = "dead")]
    queue: QueueArg,
    /// That died of this, RETRIES_EXHAUSTED for example; may be repeated.
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,
    /// Whose last attempt ended with this code, 1019 for example; may be repeated.
    #[arg(long = "code", value_name = "CODE")]
    codes: Vec<String>,
    /// Of this GSTIN; may be repeated.
    #[arg(long = "gstin", value_name = "GSTIN")]
    gstins: Vec<Gstin>,
    /// With this `message_id`; may be repeated.
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Dead for at least this long, for example 15m or 1d.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) limit: u32,
    /// Also print the documents.
    #[arg(long)]
    pub(super) body: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u32>,
    /// No faster than this, for example 50/s.
    #[arg(long, value_name = "RATE")]
    pub(super) rate: Option<Rate>,
    /// Say what would be done and what it may cost, and do nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Replay so many first, wait for their results, and go on only if none of them died.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) canary: Option<u32>,
    /// How long to wait for the results of the canaries; never shorter than they wait on the ladder before they are
    /// looked up.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        default_value = "10m",
        requires = "canary"
    )]
    pub(super) canary_timeout: Duration,
    /// Also replay what died twice of the same cause, and what is in irn.poison.
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u32>,
    /// Into this file, which only you may read (default: standard output). There are documents in it.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DropArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u32>,
    /// Really.
    #[arg(long)]
    pub(super) yes: bool,
}

impl FilterArgs {
    pub(super) fn read(&self) -> (LetterQueue, Filter) {
        let queue = match self.queue {
            QueueArg::Dead => LetterQueue::Dead,
            QueueArg::Poison => LetterQueue::Poison,
        };
        let filter = Filter {
            reasons: self.reasons.clone(),
            codes: self.codes.clone(),
            gstins: self.gstins.clone(),
            ids: self.ids.clone(),
            older_than: self.older_than,
        };
        (queue, filter)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn times_may_be_given_in_days() {
        for line in [
            "irn-worker dead-letters list --older-than 1d",
            "irn-worker dead-letters replay --canary 1 --canary-timeout 1d",
            "irn-worker submit - --wait --timeout 1d",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }
}
