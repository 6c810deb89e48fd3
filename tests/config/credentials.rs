//! The credentials file: one file or a folder, secrets inline or beside it, and every way to get it wrong.

use anyhow::{Context as _, Result};
use irn_worker::config::credentials::{self, Changes, Credentials, Loaded};
use irn_worker::config::{ConfigFaults, Environment, Source};
use irn_worker::gstin::Gstin;

use crate::support::Folder;

const CLIENT: &str = "[[client]]\nname = \"acme\"\nclient_id = \"ID\"\nclient_secret = \"s\"\n";
const TAXPAYER: &str = "[[taxpayer]]\ngstin = \"29AAGCE4783K1Z1\"\nclient = \"acme\"\nusername = \"u\"\npassword = \"p\"\n";

fn load(text: &str) -> Result<Result<Loaded, ConfigFaults>> {
    let path = Folder::new()?;
    let path = path.write("credentials.toml", text)?;
    Ok(credentials::load(&path, Environment::Production))
}

fn of(gstin: &str, credentials: &Credentials) -> Result<(String, String, String, String)> {
    let account = credentials
        .accounts
        .get(&gstin.parse::<Gstin>()?)
        .context("no account")?;
    Ok((
        account.client.id.clone(),
        account.client.secret.expose().to_owned(),
        account.username.clone(),
        account.password.expose().to_owned(),
    ))
}

fn words(words: [&str; 4]) -> (String, String, String, String) {
    let [a, b, c, d] = words.map(str::to_owned);
    (a, b, c, d)
}

#[test]
fn secret_files_start_at_the_folder_of_the_file_that_names_them() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("here/secrets/client", "s3cret\r\n")?;
    folder.write("here/secrets/password", " p w \n\n")?;
    let text = format!("{CLIENT}{TAXPAYER}")
        .replace(
            "client_secret = \"s\"",
            "client_secret_file = \"secrets/client\"",
        )
        .replace("password = \"p\"", "password_file = \"secrets/password\"");
    let path = folder.write("here/credentials.toml", text)?;
    let loaded = credentials::load(&path, Environment::Production)?;
    assert_eq!(
        of("29AAGCE4783K1Z1", &loaded.credentials)?,
        words(["ID", "s3cret", "u", " p w "])
    );
    let [warning] = loaded.warnings.as_slice() else {
        panic!("{:#?}", loaded.warnings);
    };
    assert_eq!(warning.key, "taxpayer[29AAGCE4783K1Z1].password");
    assert!(warning.problem.contains("begins or ends with a space"));
    Ok(())
}

#[test]
fn folder_is_read_as_one_file_whatever_its_order() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("c/29.toml", TAXPAYER)?;
    folder.write(
        "c/33.toml",
        TAXPAYER.replace("29AAGCE4783K1Z1", "33AAKFN5208R1ZT"),
    )?;
    folder.write("c/clients.toml", CLIENT)?;
    folder.write("c/.hidden.toml", "no TOML")?;
    folder.write("c/secrets/unused.toml", "no TOML")?;
    folder.write("c/29.toml~", "no TOML")?;
    let loaded = credentials::load(&folder.path("c"), Environment::Production)?;
    assert_eq!(loaded.credentials.accounts.len(), 2);
    assert_eq!(
        of("33AAKFN5208R1ZT", &loaded.credentials)?,
        words(["ID", "s", "u", "p"])
    );
    let [warning] = loaded.warnings.as_slice() else {
        panic!("{:#?}", loaded.warnings);
    };
    assert!(
        warning.to_string().contains("29.toml~: is not read"),
        "{warning}"
    );
    Ok(())
}

/// What to replace in a good file, by what, key at fault, part of the problem, part of the remedy.
#[rustfmt::skip] // one fault a line
const FAULTS: &[(&str, &str, &str, &str, &str)] = &[
    (TAXPAYER, "", "", "lists no [[taxpayer]]", "credentials.path"),
    ("name = \"acme\"\n", "", "client[0].name", "is missing", "refer to"),
    ("client_id = \"ID\"\n", "", "client[acme].client_id", "is missing", "client id"),
    ("client_id = \"ID\"", "client_id = \"Ï\"", "client[acme].client_id", "no header can carry", "ASCII"),
    ("client_id = \"ID\"", "client_id = \"ID \"", "client[acme].client_id", "spaces around it", "ASCII"),
    ("client_secret = \"s\"\n", "", "client[acme].client_secret", "is missing", "client_secret_file"),
    ("client_secret = \"s\"", "client_secret = 5", "client[acme].client_secret", "whole number, not text", "quotes"),
    ("client_secret", "client_sekret_file", "client[acme].client_sekret_file", "not a known key", "did you mean `client.client_secret_file`?"),
    ("[[client]]", "[client]", "client", "is a table, not a list", "[[client]]"),
    ("\"29AAGCE4783K1Z1\"", "\"29aagce4783k1z1\"", "taxpayer[0].gstin", "is no GSTIN", "two digits"),
    ("\"29AAGCE4783K1Z1\"", "\"29AAGCE4783K1Z2\"", "taxpayer[29AAGCE4783K1Z2].gstin", "check digit", "sandbox"),
    ("gstin = \"29AAGCE4783K1Z1\"\n", "", "taxpayer[0].gstin", "is missing", "GSTIN"),
    ("client = \"acme\"", "client = \"acne\"", "taxpayer[29AAGCE4783K1Z1].client", "`acne`", "one of: acme"),
    ("client = \"acme\"\n", "", "taxpayer[29AAGCE4783K1Z1].client", "is missing", "[[client]]"),
    ("username = \"u\"\n", "", "taxpayer[29AAGCE4783K1Z1].username", "is missing", "API user"),
    ("username = \"u\"", "username = \"u\\n\"", "taxpayer[29AAGCE4783K1Z1].username", "no header can carry", "ASCII"),
    ("password = \"p\"\n", "", "taxpayer[29AAGCE4783K1Z1].password", "is missing", "password_file"),
    ("password = \"p\"", "password = \"\"", "taxpayer[29AAGCE4783K1Z1].password", "is empty", "_file"),
    ("password = \"p\"", "password_file = \"gone\"", "taxpayer[29AAGCE4783K1Z1].password_file", "cannot be read", "relative paths start at"),
    ("password = \"p\"", "password = \"p\"\npassword_file = \"x\"", "taxpayer[29AAGCE4783K1Z1].password", "beside `password_file`", "keep one"),
    ("password = \"p\"\n", "password = \"p\"\nclient_id = \"x\"\n", "taxpayer[29AAGCE4783K1Z1].client_id", "not a known key", "client.client_id"),
];

#[test]
fn every_deliberate_fault_is_told_with_file_key_problem_and_remedy() -> Result<()> {
    for (from, to, key, problem, remedy) in FAULTS {
        let text = format!("{CLIENT}{TAXPAYER}").replace(from, to);
        let faults = load(&text)?.err();
        let faults = faults.unwrap_or_else(|| panic!("{text}: loads")).faults;
        let about: Vec<_> = faults.iter().filter(|fault| fault.key == *key).collect();
        let [fault] = about.as_slice() else {
            panic!("{text}: not one fault of {key}: {faults:#?}");
        };
        assert!(fault.problem.contains(problem), "{text}: {fault}");
        assert!(fault.remedy.contains(remedy), "{text}: {fault}");
        assert!(
            matches!(&fault.source, Source::File { path, line }
            if path.ends_with("credentials.toml") && (line.is_some() || key.is_empty())),
            "{fault}"
        );
    }
    Ok(())
}

#[test]
fn all_faults_of_all_files_are_told_at_once() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("c/a.toml", CLIENT.replace("\"ID\"", "7"))?;
    folder.write("c/b.toml", format!("{TAXPAYER}{TAXPAYER}"))?;
    folder.write(
        "c/c.toml",
        TAXPAYER
            .replace("29AAGCE4783K1Z1", "33")
            .replace("acme", "none"),
    )?;
    let faults = credentials::load(&folder.path("c"), Environment::Production).unwrap_err();
    let lines = faults.to_string();
    for part in [
        "a.toml:3: client[acme].client_id",
        "already listed at",
        "`33` is no GSTIN",
        "`none`",
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    assert_eq!(faults.faults.len(), 4, "{lines}");
    Ok(())
}

#[test]
fn duplicates_name_both_places() -> Result<()> {
    let faults = load(&format!("{CLIENT}{CLIENT}{TAXPAYER}{TAXPAYER}"))?
        .unwrap_err()
        .to_string();
    assert!(
        faults.contains("credentials.toml:5: client[acme].name: is already used at "),
        "{faults}"
    );
    assert!(
        faults.contains(
            "credentials.toml:14: taxpayer[29AAGCE4783K1Z1].gstin: is already listed at "
        ),
        "{faults}"
    );
    assert!(
        faults.contains("credentials.toml:9; keep one user per GSTIN"),
        "{faults}"
    );
    Ok(())
}

#[test]
fn user_and_password_fit_the_login_up_to_66_escaped_characters() -> Result<()> {
    let with = |password: &str| {
        load(&format!("{CLIENT}{TAXPAYER}").replace("\"p\"", &format!("'{password}'")))
    };
    assert_eq!(with(&"p".repeat(65))??.credentials.accounts.len(), 1);
    // A quote takes two characters in JSON, an é two bytes.
    for password in [
        "p".repeat(66),
        format!("{}\"", "p".repeat(64)),
        format!("{}é", "p".repeat(64)),
    ] {
        let faults = with(&password)?.unwrap_err().to_string();
        assert!(faults.contains("take 67 characters together"), "{faults}");
    }
    Ok(())
}

#[test]
fn sandbox_admits_numbers_without_check_digit() -> Result<()> {
    let folder = Folder::new()?;
    let text = format!("{CLIENT}{TAXPAYER}").replace("29AAGCE4783K1Z1", "29AABCT1332L000");
    let path = folder.write("credentials.toml", text)?;
    assert!(credentials::load(&path, Environment::Sandbox).is_ok());
    assert!(credentials::load(&path, Environment::Production).is_err());
    Ok(())
}

#[test]
fn files_that_all_can_read_are_warned_of() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_with_mode("password", "p", 0o604)?;
    let text =
        format!("{CLIENT}{TAXPAYER}").replace("password = \"p\"", "password_file = \"password\"");
    let path = folder.write_with_mode("credentials.toml", text, 0o644)?;
    let warnings = credentials::load(&path, Environment::Production)?.warnings;
    let keys: Vec<&str> = warnings
        .iter()
        .map(|warning| warning.key.as_str())
        .collect();
    assert_eq!(
        keys,
        ["", "taxpayer[29AAGCE4783K1Z1].password_file"],
        "{warnings:#?}"
    );
    assert!(
        warnings
            .iter()
            .all(|warning| warning.remedy.contains("chmod o-rwx"))
    );
    Ok(())
}

#[test]
fn client_that_nobody_uses_is_warned_of() -> Result<()> {
    let warnings = load(&format!(
        "{CLIENT}{}{TAXPAYER}",
        CLIENT.replace("acme", "old")
    ))??
    .warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].key, "client[old]");
    Ok(())
}

#[test]
fn half_written_file_is_refused_whole() -> Result<()> {
    let whole = format!(
        "{CLIENT}{TAXPAYER}{}",
        TAXPAYER.replace("29AAGCE4783K1Z1", "33AAKFN5208R1ZT")
    );
    let entries_end = [CLIENT.len() + TAXPAYER.len(), whole.len()];
    for end in 0..whole.len() {
        // A cut after a whole entry, or one that takes its last line break, cannot be told from a complete file.
        if entries_end
            .iter()
            .any(|whole_end| (whole_end - 1..=*whole_end).contains(&end))
        {
            continue;
        }
        assert!(load(&whole[..end])?.is_err(), "{}", &whole[..end]);
    }
    Ok(())
}

#[test]
fn changes_are_told_by_gstin() -> Result<()> {
    let other = TAXPAYER.replace("29AAGCE4783K1Z1", "33AAKFN5208R1ZT");
    let third = TAXPAYER.replace("29AAGCE4783K1Z1", "07AADCB2230M1ZV");
    let before = load(&format!("{CLIENT}{TAXPAYER}{other}"))??.credentials;
    let same = load(&format!("{other}{TAXPAYER}{CLIENT}"))??.credentials;
    assert!(same.changes_since(&before).is_empty());
    let after = load(&format!(
        "{CLIENT}{}{third}",
        TAXPAYER.replace("\"p\"", "\"q\"")
    ))??
    .credentials;
    let gstin = |text: &str| text.parse::<Gstin>();
    let changes = Changes {
        added: vec![gstin("07AADCB2230M1ZV")?],
        changed: vec![gstin("29AAGCE4783K1Z1")?],
        removed: vec![gstin("33AAKFN5208R1ZT")?],
    };
    assert_eq!(after.changes_since(&before), changes);
    let new_secret =
        load(&format!("{CLIENT}{TAXPAYER}{other}").replace("\"s\"", "\"t\""))??.credentials;
    let changes = new_secret.changes_since(&before);
    assert_eq!(changes.changed.len(), 2, "{changes:?}");
    assert_eq!(changes.all().count(), 2);
    Ok(())
}
