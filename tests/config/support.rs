//! A folder with the files that a configuration names, and configurations that name them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use irn_worker::config::{self, ConfigFaults, Loaded};
use tempfile::TempDir;

pub(crate) const BASE_URL: &str = "https://irp.example.in";

pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let folder = Self(TempDir::new()?);
        folder.write("irp.pem", "any PEM: loading does not read it")?;
        Ok(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that its owner alone can read.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        self.write_with_mode(name, text, 0o600)
    }

    pub(crate) fn write_with_mode(
        &self,
        name: &str,
        text: impl AsRef<[u8]>,
        mode: u32,
    ) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(path)
    }

    /// `text`, where `{dir}` is this folder, with the two required settings before it unless it has them itself.
    /// They take one line each, so that the text begins at line 3.
    pub(crate) fn worker_toml(&self, text: &str) -> Result<PathBuf> {
        let url = if text.contains("base_url") { "#" } else { "" };
        let key = if text.contains("irp.public_key_file") {
            "#"
        } else {
            ""
        };
        let dir = self.0.path().display().to_string();
        let text = text.replace("{dir}", &dir);
        let text = format!(
            "{url}irp.base_url = \"{BASE_URL}\"\n{key}irp.public_key_file = \"{dir}/irp.pem\"\n{text}"
        );
        self.write("worker.toml", text)
    }

    pub(crate) fn load(&self, text: &str) -> Result<Result<Loaded, ConfigFaults>> {
        self.load_with(text, &[])
    }

    pub(crate) fn load_with(
        &self,
        text: &str,
        variables: &[(&str, &str)],
    ) -> Result<Result<Loaded, ConfigFaults>> {
        let path = self.worker_toml(text)?;
        Ok(config::load(&path, owned(variables)))
    }

    /// The variables that give a shipped configuration its two required settings.
    pub(crate) fn required(&self) -> Vec<(String, String)> {
        let key_file = self.path("irp.pem").display().to_string();
        owned(&[
            ("IRN_WORKER__IRP__BASE_URL", BASE_URL),
            ("IRN_WORKER__IRP__PUBLIC_KEY_FILE", &key_file),
        ])
    }
}

pub(crate) fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

/// `irp.base_url` → `IRN_WORKER__IRP__BASE_URL`
pub(crate) fn variable(key: &str) -> String {
    format!(
        "{}{}",
        config::VARIABLE_PREFIX,
        key.replace('.', "__").to_uppercase()
    )
}

/// A file of this repository.
pub(crate) fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name)
}
