//! How far a command has come, on a terminal.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on a terminal, and nothing elsewhere.
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(super) fn of(total: u32) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(total.into()), target);
            let style = "{bar:40} {pos}/{len} letters looked at, {msg}, {elapsed}";
            let style = ProgressStyle::with_template(style);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self(bar)
    }

    /// One letter was looked at; so many are done.
    pub(super) fn seen(&self, done: u32, what: &'static str) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
            bar.set_message(format!("{done} {what}"));
        }
    }

    /// The walk begins anew, with so many letters.
    pub(super) fn anew(&self, total: u32) {
        if let Some(bar) = &self.0 {
            bar.set_length(total.into());
            bar.set_position(0);
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish();
        }
    }
}
