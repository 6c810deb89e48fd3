//! `explain`: what codes mean.

use std::io::{self, Write as _};
use std::path::Path;

use clap::Args;

use super::{DEFAULT_CONFIG, FAILED, Failure, warned};
use crate::config::{self, UnknownCode};
use crate::ops::explain::{self, Explanation};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Codes of the portal, reasons of the worker, statuses of results, HTTP statuses. None: list all there are.
    #[arg(value_name = "CODE")]
    codes: Vec<String>,
    /// Explain every code there is.
    #[arg(long, conflicts_with = "codes")]
    all: bool,
    /// Print every code as the page docs/errors.md.
    #[arg(long, conflicts_with_all = ["codes", "all", "json"])]
    markdown: bool,
}

impl ExplainArgs {
    /// Explains and gives the exit code: 1 if a code is not known.
    pub(super) fn run(&self, path: &Path, json: bool) -> Result<u8, Failure> {
        let mut out = io::stdout().lock();
        if self.markdown {
            write!(out, "{}", explain::page())?;
            return Ok(0);
        }
        if self.codes.is_empty() {
            let all = explain::all();
            if !self.all && !json {
                list(&mut out, &all)?;
                return Ok(0);
            }
            write(&mut out, json, &all)?;
            return Ok(0);
        }
        let mut code = 0;
        for asked in &self.codes {
            let known = explain::known(asked);
            if !known.is_empty() {
                write(&mut out, json, &known)?;
                continue;
            }
            code = FAILED;
            let operator = unknown_codes(path)?;
            write(&mut out, json, &[explain::unknown(asked, &operator)])?;
            let similar = explain::similar(asked);
            if !similar.is_empty() && !json {
                writeln!(out, "  did you mean  {}?", similar.join(", "))?;
            }
        }
        Ok(code)
    }
}

/// `irp.unknown_codes`. Known codes need no configuration; without one in the usual place, the defaults do.
fn unknown_codes(path: &Path) -> Result<Vec<(String, UnknownCode)>, Failure> {
    let is_there = path != Path::new(DEFAULT_CONFIG) || path.exists();
    let loaded =
        config::load_unknown_codes(is_there.then_some(path), config::process_environment())?;
    Ok(warned(loaded))
}

fn write(out: &mut impl io::Write, json: bool, explanations: &[Explanation]) -> io::Result<()> {
    for explanation in explanations {
        if json {
            writeln!(out, "{}", serde_json::json!(explanation))?;
        } else {
            explanation.write(out)?;
        }
    }
    Ok(())
}

/// One line each.
fn list(out: &mut impl io::Write, all: &[Explanation]) -> io::Result<()> {
    let mut kind = None;
    for known in all {
        if kind != Some(known.kind) {
            let before = if kind.is_some() { "\n" } else { "" };
            writeln!(out, "{before}{}:", known.kind.title())?;
            kind = Some(known.kind);
        }
        writeln!(out, "  {:<21} {}", known.code, known.meaning)?;
    }
    Ok(())
}
