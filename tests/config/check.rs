//! `check` without the network: its lines, its JSON and its exit code.

use anyhow::Result;
use irn_worker::ops::check::{self, Finding, Offline, Report, Verdict};

use crate::support::Folder;

const CREDENTIALS: &str = "[[client]]\nname = \"acme\"\nclient_id = \"ID\"\nclient_secret = \"c4n4ry\"\n[[taxpayer]]\ngstin = \"29AAGCE4783K1Z1\"\nclient = \"acme\"\nusername = \"user\"\npassword = \"c4n4ry\"\n";

fn offline(folder: &Folder, text: &str) -> Result<(Offline, String)> {
    let text = format!("credentials.path = \"{{dir}}/credentials.toml\"\n{text}");
    let path = folder.worker_toml(&text)?;
    let offline = check::offline(&path, []);
    let mut lines = Vec::new();
    offline.report.write_text(&mut lines)?;
    Ok((offline, String::from_utf8(lines)?))
}

#[test]
fn sound_configuration_is_told_file_by_file_and_gstin_by_gstin() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("credentials.toml", CREDENTIALS)?;
    folder.write_with_mode("signing.pem", "key", 0o666)?;
    let (offline, lines) = offline(
        &folder,
        "irp.signing_keys = [\"{dir}/signing.pem\"]\nshutdown.drain_timeout = \"45s\"",
    )?;
    for part in [
        "worker.toml: complete",
        "portal: production at https://irp.example.in",
        "signatures: required, 1 key files",
        "irp.pem has mode 0600",
        "signing.pem has mode 0666 and can be changed by every user",
        "credentials.toml: 1 GSTINs, mode 0600",
        "credentials of 29AAGCE4783K1Z1: client acme, user and password take 10 of 66 characters",
        "pre-flight: schema and business rules, built-in rules",
        "7 ok, 1 warnings, 0 failed",
    ] {
        assert!(lines.contains(part), "{part}:\n{lines}");
    }
    assert!(!format!("{lines}{offline:?}").contains("c4n4ry"));
    assert_eq!(offline.report.exit_code(), 0);
    assert!(offline.config.is_some() && offline.credentials.is_some());
    Ok(())
}

#[test]
fn wrong_configuration_is_told_with_remedies_and_exit_code_2() -> Result<()> {
    let folder = Folder::new()?;
    let (offline, lines) = offline(&folder, "irp.concurency = 3\nlog.level = \"loud\"")?;
    assert_eq!(offline.report.exit_code(), 2);
    assert!(offline.config.is_none());
    assert!(lines.contains("worker.toml:4: irp.concurency: is not a known key\n      -> did you mean `irp.concurrency`?"), "{lines}");
    assert!(
        lines.contains("worker.toml:5: log.level: `loud` is not a choice"),
        "{lines}"
    );
    assert!(lines.contains("2 failed"), "{lines}");
    Ok(())
}

#[test]
fn rules_of_preflight_are_read_before_a_worker_needs_them() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("credentials.toml", CREDENTIALS)?;
    folder.write("rules.toml", "[tax_rates]\nknown = []\n")?;
    let (offline, lines) = offline(&folder, "validate.rules_file = \"{dir}/rules.toml\"")?;
    assert_eq!(offline.report.exit_code(), 2);
    assert!(
        lines.contains("rules.toml: ") && lines.contains("missing field"),
        "{lines}"
    );
    assert!(lines.contains("a copy of config/rules.toml"), "{lines}");
    Ok(())
}

#[test]
fn wrong_credentials_leave_the_configuration_usable() -> Result<()> {
    let folder = Folder::new()?;
    let (offline, lines) = offline(&folder, "")?;
    assert_eq!(offline.report.exit_code(), 2);
    assert!(offline.config.is_some() && offline.credentials.is_none());
    assert!(
        lines.contains("credentials.toml: cannot be read: No such file"),
        "{lines}"
    );
    Ok(())
}

#[test]
fn json_holds_what_the_lines_hold() -> Result<()> {
    let report = Report {
        findings: vec![
            Finding::ok("broker: 3.13"),
            Finding::new(Verdict::Unreachable, "portal: refused", "open the firewall"),
        ],
    };
    let mut json = Vec::new();
    report.write_json(&mut json)?;
    assert_eq!(
        String::from_utf8(json)?,
        "{\"exit_code\":3,\"findings\":[{\"verdict\":\"ok\",\"what\":\"broker: 3.13\"},{\"remedy\":\"open the firewall\",\"verdict\":\"fail\",\"what\":\"portal: refused\"}]}\n"
    );
    Ok(())
}

#[test]
fn exit_code_is_that_of_the_most_basic_failure() {
    let code = |verdicts: &[Verdict]| {
        let findings = verdicts
            .iter()
            .map(|verdict| Finding::new(*verdict, "", ""))
            .collect();
        Report { findings }.exit_code()
    };
    assert_eq!(code(&[]), 0);
    assert_eq!(code(&[Verdict::Ok, Verdict::Warning]), 0);
    assert_eq!(code(&[Verdict::Failed, Verdict::Ok]), 1);
    assert_eq!(code(&[Verdict::Unreachable, Verdict::Failed]), 3);
    assert_eq!(code(&[Verdict::Misconfigured, Verdict::Unreachable]), 2);
}
