//! A command asks for what it uses and no more: machines that only publish have no portal settings and no keys.

use std::process::Command;

use anyhow::Result;
use irn_worker::config;

use crate::support::{Folder, owned};

/// What a worker's own file may say that is not there on a publishing machine.
const PORTAL_FILES: &str = r#"
irp.base_url = "https://irp.example.in"
irp.public_key_file = "/nowhere/irp.pem"
irp.ca_file = "/nowhere/ca.pem"
irp.proxy_file = "/nowhere/proxy"
irp.extra_headers = { X-Key = { value_file = "/nowhere/key" } }
irp.signing_keys = ["/nowhere/*.pem", { file = "/nowhere/key.pem", kid = "A" }]
irp.signatures = "require"
credentials.path = "/nowhere/credentials.toml"
"#;

fn keys_at_fault<T>(loaded: Result<T, config::ConfigFaults>) -> Vec<String> {
    let faults = loaded.err().map(|faults| faults.faults).unwrap_or_default();
    faults.into_iter().map(|fault| fault.key).collect()
}

#[test]
fn broker_side_loads_from_a_file_without_portal() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write(
        "worker.toml",
        "broker.url = \"amqps://u:p@mq.example.in\"\nretry.delays = [\"200ms\"]\nirp.settle_time = \"1s\"",
    )?;
    // The settle time is longer than that ladder: the worker's concern, judged where it is needed.
    let loaded = config::load_broker_side(&path, [])?;
    assert_eq!(loaded.warnings, []);
    assert_eq!(
        loaded.config.broker.url.expose(),
        "amqps://u:p@mq.example.in"
    );
    assert_eq!(loaded.config.retry.delays.len(), 1);
    assert_eq!(
        keys_at_fault(config::load(&path, [])),
        ["irp.base_url", "irp.public_key_file", "irp.settle_time"]
    );
    Ok(())
}

#[test]
fn judging_documents_needs_no_portal_no_broker_and_no_file() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write(
        "worker.toml",
        format!("{PORTAL_FILES}\nvalidate.preflight = \"schema\""),
    )?;
    let loaded = config::load_validation(Some(&path), [])?;
    assert_eq!(loaded.config.validate.preflight, config::Preflight::Schema);
    assert_eq!(loaded.config.environment, config::Environment::Production);

    let sandbox = owned(&[("IRN_WORKER__IRP__ENVIRONMENT", "sandbox")]);
    let loaded = config::load_validation(None, sandbox)?;
    assert_eq!(loaded.config.environment, config::Environment::Sandbox);
    assert_eq!(loaded.config.validate.preflight, config::Preflight::Strict);

    let path = folder.write(
        "wrong.toml",
        "validate.preflight = \"lax\"\nvalidate.rules_file = \"/nowhere/rules.toml\"",
    )?;
    assert_eq!(
        keys_at_fault(config::load_validation(Some(&path), [])),
        ["validate.preflight", "validate.rules_file"]
    );
    Ok(())
}

#[test]
fn broker_side_does_not_ask_for_the_portals_files() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write("worker.toml", PORTAL_FILES)?;
    let loaded = config::load_broker_side(&path, [])?;
    assert_eq!(loaded.warnings, []);
    assert_eq!(
        keys_at_fault(config::load(&path, [])),
        [
            "irp.public_key_file",
            "irp.ca_file",
            "irp.proxy_file",
            "irp.extra_headers.X-Key.value_file",
            "irp.signing_keys[0]",
            "irp.signing_keys[1].file",
        ]
    );
    Ok(())
}

#[test]
fn letters_side_knows_of_the_second_portal_of_any_route() -> Result<()> {
    let folder = Folder::new()?;
    let two = r#"irp.failover_url = "https://two.example.in""#;
    let named = r#"
irp.routes.gsp.base_url = "https://gsp.example.in"
irp.routes.gsp.failover_url = "https://two.example.in"
"#;
    for (more, portals) in [("", 1), (two, 2), (named, 2)] {
        let path = folder.write("worker.toml", format!("{PORTAL_FILES}\n{more}"))?;
        assert_eq!(
            config::load_letters_side(&path, [])?.config.portals,
            portals
        );
    }
    Ok(())
}

#[test]
fn signing_keys_load_alone() -> Result<()> {
    let folder = Folder::new()?;
    let key = folder.write("signing.pem", "key")?;
    let text = format!(
        "broker.ca_file = \"/nowhere/ca.pem\"\nirp.signing_keys = [\"{}\"]",
        key.display()
    );
    let path = folder.write("worker.toml", text)?;
    let loaded = config::load_signing_keys(&path, [])?;
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.len(), 1);

    let path = folder.write("worker.toml", PORTAL_FILES)?;
    assert_eq!(
        keys_at_fault(config::load_signing_keys(&path, [])),
        ["irp.signing_keys[0]", "irp.signing_keys[1].file"]
    );
    Ok(())
}

#[test]
fn wrong_value_is_a_fault_whoever_reads_it() -> Result<()> {
    let folder = Folder::new()?;
    for (text, key) in [
        ("irp.concurrency = 0", "irp.concurrency"),
        ("irp.base_url = \"nonsense\"", "irp.base_url"),
        ("irp.signing_keys = 3", "irp.signing_keys"),
        ("irp.ca_file = 3", "irp.ca_file"),
        ("irp.proxy_file = []", "irp.proxy_file"),
        ("limits.totall = \"1/s\"", "limits.totall"),
        ("broker.url = \"localhost\"", "broker.url"),
        ("log.level = \"loud\"", "log.level"),
    ] {
        let path = folder.write("worker.toml", text)?;
        assert_eq!(keys_at_fault(config::load_broker_side(&path, [])), [key]);
        assert_eq!(keys_at_fault(config::load_signing_keys(&path, [])), [key]);
    }
    Ok(())
}

#[test]
fn what_is_needed_is_judged_as_for_the_worker() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.write(
        "worker.toml",
        "broker.ca_file = \"/nowhere/ca.pem\"\nretry.delays = []\ndead_letter.ttl = \"90d\"\nreplies.default_queue = \"irn.jobs\"",
    )?;
    assert_eq!(
        keys_at_fault(config::load_broker_side(&path, [])),
        [
            "broker.ca_file",
            "retry.delays",
            "dead_letter.ttl",
            "replies.default_queue"
        ]
    );
    let plain = owned(&[("IRN_WORKER__BROKER__URL", "amqp://u:p@mq.example.in")]);
    let path = folder.write("worker.toml", "")?;
    let warnings = config::load_broker_side(&path, plain)?.warnings;
    assert!(
        warnings.len() == 1 && warnings[0].key == "broker.url",
        "{warnings:#?}"
    );
    Ok(())
}

#[test]
fn commands_run_on_what_they_use_without_a_word_about_the_rest() -> Result<()> {
    let folder = Folder::new()?;
    let bare = folder.write("worker.toml", "")?;
    let worker = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irn-worker"));
        command.args(arguments).arg("--config").arg(&bare).output()
    };
    for command in ["plan", "export"] {
        let output = worker(&["topology", command])?;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stderr)?, "");
    }
    let invoice = folder.write("invoice.json", "{}")?.display().to_string();
    // Nothing listens there: the command comes as far as the broker.
    folder.write(
        "worker.toml",
        "broker.url = \"amqp://guest:guest@127.0.0.1:1\"",
    )?;
    let output = worker(&["submit", &invoice])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");

    let token = folder.write("token", "a.b.c")?.display().to_string();
    let output = worker(&["verify", &token])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("set irp.signing_keys, or give --key FILE"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    Ok(())
}

#[test]
fn output_that_nobody_reads_ends_the_command_quietly() -> Result<()> {
    let bare = Folder::new()?.write("worker.toml", "")?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_irn-worker"));
    command.args([
        "irn",
        "29AAGCE4783K1Z1",
        "05/09/2025",
        "INV",
        "SI/1",
        "--config",
    ]);
    let output = command.arg(&bare).stdout(writer).output()?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr)?, "");
    Ok(())
}

#[test]
fn asking_how_a_worker_is_needs_only_where_it_listens() -> Result<()> {
    let folder = Folder::new()?;
    let text = format!("{PORTAL_FILES}admin.listen = \"0.0.0.0:19464\"");
    let path = folder.write("worker.toml", text)?;
    let loaded = config::load_admin(&path, [])?;
    assert_eq!(loaded.config.listen, "0.0.0.0:19464".parse()?);
    let path = folder.write("worker.toml", "admin.listen = \"here\"")?;
    assert_eq!(
        keys_at_fault(config::load_admin(&path, [])),
        ["admin.listen"]
    );
    Ok(())
}
