//! No secret is printed, and no bytes stop the loader.

use anyhow::Result;
use irn_worker::config::{self, Environment, credentials};
use proptest::prelude::*;

use crate::support::{Folder, owned};

const CANARY: &str = "c4n4ry-s3cr3t";

#[test]
fn loaded_configuration_prints_no_secret() -> Result<()> {
    let text = format!(
        "broker.url = \"amqp://user:{CANARY}@localhost\"\nirp.proxy = \"http://user:{CANARY}@localhost\"\nirp.extra_headers = {{ X-Key = \"{CANARY}\" }}"
    );
    let loaded = Folder::new()?.load(&text)??;
    assert!(loaded.config.broker.url.expose().contains(CANARY));
    assert!(!format!("{loaded:?} {loaded:#?}").contains(CANARY));
    Ok(())
}

#[test]
fn loaded_credentials_print_no_secret() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write(
        "credentials.toml",
        format!(
            "[[client]]\nname = \"a\"\nclient_id = \"id\"\nclient_secret = \"{CANARY}\"\n[[taxpayer]]\ngstin = \"29AAGCE4783K1Z1\"\nclient = \"a\"\nusername = \"u\"\npassword = \"{CANARY}\"\n"
        ),
    )?;
    let loaded = credentials::load(&path, Environment::Production)?;
    assert_eq!(loaded.credentials.accounts.len(), 1);
    assert!(!format!("{loaded:?} {loaded:#?}").contains(CANARY));
    Ok(())
}

#[test]
fn faults_of_secret_settings_do_not_quote_them() -> Result<()> {
    let folder = Folder::new()?;
    let texts = [
        format!("broker.url = \"{CANARY}\""),
        format!("broker.url = \"http://u:{CANARY}@h\""),
        format!("broker.url = \"amqp://u:{CANARY}@h/\""),
        format!("broker.url = \"amqp://u:{CANARY}"),
        format!("broker.url = [\"{CANARY}\"]"),
        format!("irp.proxy = \"{CANARY}\""),
        format!("irp.base_url = \"https://u:{CANARY}@h\""),
        format!("irp.extra_headers = {{ a = \"\\n{CANARY}\" }}"),
        format!("irp.extra_headers = {{ gstin = \"{CANARY}\" }}"),
    ];
    for text in texts {
        let faults = folder.load(&text)?.unwrap_err();
        assert!(
            !format!("{faults} {faults:?}").contains(CANARY),
            "{text}: {faults}"
        );
    }
    let faults = folder
        .load_with("", &[("IRN_WORKER__IRP__EXTRA_HEADERS", CANARY)])?
        .unwrap_err();
    assert!(!format!("{faults} {faults:?}").contains(CANARY), "{faults}");
    Ok(())
}

#[test]
fn file_with_an_own_password_that_all_can_read_is_warned_of() -> Result<()> {
    let folder = Folder::new()?;
    let mut texts = Vec::new();
    for (url, mode) in [
        ("amqp://u:secret@localhost", 0o644),
        ("amqp://u:secret@localhost", 0o640),
        ("amqp://guest:guest@localhost", 0o644),
    ] {
        folder.worker_toml(&format!("broker.url = \"{url}\""))?;
        let text = std::fs::read(folder.path("worker.toml"))?;
        let path = folder.write_with_mode("worker.toml", text, mode)?;
        let warnings = config::load(&path, [])?.warnings;
        texts.push(
            warnings
                .iter()
                .any(|warning| warning.problem.contains("every user of this machine")),
        );
    }
    assert_eq!(texts, [true, false, false]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_never_stop_the_loaders(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let folder = Folder::new().unwrap();
        load_both(&folder, &bytes)?;
    }

    /// Near to TOML, so that the faults lie deeper than its syntax.
    #[test]
    fn arbitrary_settings_never_stop_the_loaders(
        text in "((broker|irp|retry|limits|client|taxpayer|log)(\\.(url|delays|signing_keys|extra_headers|immediate|gstin|total))? = (\"[ -~]{0,12}\"|-?[0-9]{1,20}|\\[\"[0-9a-z]{0,4}\"(, \\{ a = 1 \\})?\\]|\\{ [a-z]{1,8} = \"é\" \\}|1979-05-27|0x[0-9a-f]{1,18}|nan)\n|\\[\\[?(client|taxpayer|irp)\\]?\\]\n){0,6}",
        name in "IRN_WORKER__([A-Z]{0,6}_{0,3}){0,4}",
        value in "[ -~é]{0,16}",
    ) {
        let folder = Folder::new().unwrap();
        load_both(&folder, text.as_bytes())?;
        let path = folder.write("worker.toml", &text).unwrap();
        match config::load(&path, owned(&[(&name, &value)])) {
            Ok(loaded) => drop(loaded),
            Err(faults) => prop_assert!(!faults.faults.is_empty()),
        }
    }
}

fn load_both(folder: &Folder, bytes: &[u8]) -> Result<(), TestCaseError> {
    let failed = |e: anyhow::Error| TestCaseError::fail(e.to_string());
    let path = folder.write("any.toml", bytes).map_err(failed)?;
    // irp.base_url is required and no such bytes set it, so this cannot load.
    let faults = config::load(&path, []).err().map(|faults| faults.faults);
    prop_assert!(faults.is_some_and(|faults| !faults.is_empty()));
    if let Err(faults) = credentials::load(&path, Environment::Sandbox) {
        prop_assert!(!faults.faults.is_empty());
    }
    Ok(())
}
