//! The shipped files are true: they load, and what they present as defaults are the defaults.

use std::fs;

use anyhow::Result;
use irn_worker::config::{self, Environment, credentials};

use crate::support::{Folder, shipped};

#[test]
fn every_shipped_worker_file_loads() -> Result<()> {
    let folder = Folder::new()?;
    let mut loaded = 0;
    for entry in fs::read_dir(shipped(""))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("worker") {
            // Keys are issued by a portal, so no shipped file can name one that is there.
            let mut variables = folder.required();
            variables.push(("IRN_WORKER__IRP__SIGNING_KEYS".to_owned(), "[]".to_owned()));
            config::load(&path, variables)?;
            loaded += 1;
        }
    }
    assert_eq!(loaded, 2);
    Ok(())
}

#[test]
fn shipped_worker_file_states_the_defaults() -> Result<()> {
    let folder = Folder::new()?;
    let empty = folder.write("empty.toml", "")?;
    let defaults = config::load(&empty, folder.required())?.config;
    let stated = config::load(&shipped("worker.toml"), folder.required())?.config;
    assert_eq!(format!("{stated:#?}"), format!("{defaults:#?}"));
    assert_eq!(stated.broker.url, defaults.broker.url);
    Ok(())
}

#[test]
fn settings_that_the_shipped_worker_file_leaves_out_are_spelt_right() -> Result<()> {
    let folder = Folder::new()?;
    let text = fs::read_to_string(shipped("worker.toml"))?;
    let is_setting = |line: &&str| {
        let words = line
            .strip_prefix("# ")
            .and_then(|setting| setting.split_once(" = "));
        words.is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let left_out: Vec<&str> = text.lines().filter(is_setting).collect();
    assert_eq!(left_out.len(), 23, "{left_out:#?}");
    let all = text
        .lines()
        .map(|line| if is_setting(&line) { &line[2..] } else { line });
    let path = folder.write("all.toml", all.collect::<Vec<_>>().join("\n"))?;
    let faults = config::load(&path, [])
        .unwrap_err()
        .faults
        .into_iter()
        .filter(|fault| !fault.problem.contains("No such file"))
        .map(|fault| fault.to_string());
    // No file, so no key: `require` is refused only because of that.
    let faults: Vec<String> = faults
        .filter(|fault| !fault.contains("no signing key"))
        .collect();
    assert_eq!(faults, [""; 0]);
    Ok(())
}

#[test]
fn shipped_credentials_load_with_secrets_beside_them() -> Result<()> {
    let folder = Folder::new()?;
    for name in [
        "acme-client-secret",
        "29AAGCE4783K1Z1-password",
        "33AAKFN5208R1ZT-password",
    ] {
        folder.write(&format!("secrets/{name}"), format!("{name}\n"))?;
    }
    let text = fs::read_to_string(shipped("credentials.example.toml"))?;
    let example = folder.write("credentials.toml", text)?;
    let loaded = credentials::load(&example, Environment::Production)?;
    assert_eq!(loaded.credentials.accounts.len(), 2);
    assert_eq!(loaded.warnings, []);

    let sandbox = credentials::load(&shipped("credentials.sandbox.toml"), Environment::Sandbox)?;
    assert_eq!(sandbox.credentials.accounts.len(), 2);
    Ok(())
}
