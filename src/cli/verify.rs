//! `verify`: whether signed data is the portal's.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{FAILED, Failure, MISUSED, warned};
use crate::config::{self, SigningKeyFile};
use crate::json::without_mark;
use crate::ops::verify::{Verified, verify};
use crate::signature::Keyring;

/// What to verify, and with what.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A file with tokens, one a line, or with results or answers in JSON; - for standard input.
    #[arg(value_name = "FILE|-")]
    input: PathBuf,
    /// Verify with these keys or certificates (PEM), not the configured ones.
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Also draw the QR codes: every token, but of a result or an answer of the portal only the one that is printed.
    #[arg(long)]
    qr: bool,
}

impl VerifyArgs {
    /// Verifies, prints and gives the exit code.
    pub(super) fn run(&self, path: &Path, json: bool) -> Result<u8, Failure> {
        let keyring = keyring(path, &self.keys)?;
        let mut bytes = Vec::new();
        if self.input == Path::new("-") {
            io::stdin().read_to_end(&mut bytes)?;
        } else {
            let shown = self.input.display();
            bytes = std::fs::read(&self.input)
                .map_err(|error| Failure::new(MISUSED, format!("{shown}: {error}")))?;
        }
        // What is no text is no token.
        let text = String::from_utf8_lossy(without_mark(&bytes));
        let verified = verify(&keyring, &text);
        if verified.is_empty() {
            return Err(Failure::new(FAILED, "no signed token found in the input"));
        }
        let mut out = io::stdout().lock();
        for token in &verified {
            if json {
                writeln!(
                    out,
                    "{}",
                    serde_json::to_string(token).map_err(io::Error::other)?
                )?
            } else {
                token.write(&mut out)?
            }
            // Asked first: drawing costs a hundred times what verifying does.
            if self.qr
                && token.is_drawn()
                && let Some(drawn) = token.qr_code(io::stdout().is_terminal())
            {
                writeln!(out, "{drawn}")?;
            }
        }
        Ok(if verified.iter().all(Verified::is_genuine) {
            0
        } else {
            FAILED
        })
    }
}

fn keyring(path: &Path, keys: &[PathBuf]) -> Result<Keyring, Failure> {
    let files = if keys.is_empty() {
        warned(config::load_signing_keys(
            path,
            config::process_environment(),
        )?)
    } else {
        keys.iter()
            .map(|file| SigningKeyFile {
                file: file.clone(),
                kid: None,
            })
            .collect()
    };
    let keyring = Keyring::load(&files).map_err(|faults| {
        let lines: Vec<_> = faults
            .iter()
            .map(|fault| format!("{fault}; {}", fault.remedy))
            .collect();
        Failure::new(MISUSED, lines.join("\n"))
    })?;
    if keyring.is_empty() {
        return Err(Failure::new(
            MISUSED,
            "no key to verify with: set irp.signing_keys, or give --key FILE",
        ));
    }
    Ok(keyring)
}
