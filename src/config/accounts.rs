//! The accounts, for commands that only look at them to warn.

use std::path::Path;

use super::Config;
use super::credentials::{self, Credentials, Terms};
use super::load::load_part;
use super::need::Need;

/// The accounts, for a command that can do without: none where this machine does not have them, or not whole.
pub fn load_accounts_if_any(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Option<Credentials> {
    let part = |config: Config| (config.credentials.path, Terms::from(&config.irp));
    let loaded = load_part(path, environment, Need::BrokerSide, part).ok()?;
    let (path, terms) = loaded.config;
    let loaded = credentials::load(&path, terms).ok()?;
    Some(loaded.credentials)
}
