//! The files a configuration names: reading secrets from them, and who else can.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// Far above any password or key, far below what a mistaken path (a log, a device) would cost.
const LARGEST_SECRET_BYTES: u64 = 64 * 1024;

/// The largest secret, and room for the reader to see that there is no more.
const SECRET_BUFFER_BYTES: usize = 64 * 1024 + 64;

/// What a secret file holds, without the line break that editors leave at its end.
///
/// # Errors
/// What is wrong with the file, to be read after its key.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, String> {
    let unreadable = |e: std::io::Error| format!("{} cannot be read: {e}", path.display());
    // Large enough from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BUFFER_BYTES));
    File::open(path)
        .and_then(|file| file.take(LARGEST_SECRET_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST_SECRET_BYTES {
        return Err(format!("{} is too long for a secret", path.display()));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| format!("{} does not hold UTF-8 text", path.display()))?
        .trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// A TOML file's text.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn read_text(path: &Path) -> Result<Zeroizing<String>, String> {
    let bytes = Zeroizing::new(fs::read(path).map_err(|e| format!("cannot be read: {e}"))?);
    std::str::from_utf8(&bytes)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|e| format!("is not UTF-8 text after byte {}", e.valid_up_to()))
}

/// The permission bits, or `None` where the file is not there.
pub fn mode(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    Some(metadata.permissions().mode() & 0o7777)
}

/// Whether users outside the file's group can read it. The group may: that is how orchestrators mount secrets for
/// a process without root.
pub(super) fn is_readable_by_others(path: &Path) -> bool {
    mode(path).is_some_and(|mode| mode & 0o004 != 0)
}
