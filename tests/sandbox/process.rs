//! The process: its one line, its keys, TLS, signals and wrong arguments.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Sandbox, command, http, spawn};

#[test]
fn signals_end_it_at_once_with_success() -> Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let mut sandbox = Sandbox::start(&[])?;
        let pid = Pid::from_child(&sandbox.child);
        kill_process(pid, signal)?;
        assert!(sandbox.child.wait()?.success(), "{signal:?}");
    }
    Ok(())
}

#[test]
fn keys_survive_a_restart() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (mut child, url) = spawn(&mut command(dir.path())?)?;
        assert!(
            url.starts_with("http://127.0.0.1:") && !url.ends_with(":0"),
            "{url}"
        );
        child.kill()?;
        child.wait()?;
        let files = [
            "auth_public.pem",
            "signing_public.pem",
            "signing_certificate.pem",
        ];
        seen.push(files.map(|file| {
            fs::read_to_string(dir.path().join("state").join(file)).unwrap_or_default()
        }));
    }
    assert!(seen[0][0].contains("BEGIN PUBLIC KEY") && seen[0][2].contains("BEGIN CERTIFICATE"));
    assert_eq!(seen[0], seen[1]);
    Ok(())
}

#[tokio::test]
async fn tls_is_served_with_the_given_certificate() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (certificate, key) = (dir.path().join("tls.pem"), dir.path().join("tls.key"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    let mut command = command(dir.path())?;
    command
        .arg("--tls-cert")
        .arg(&certificate)
        .arg("--tls-key")
        .arg(&key);
    let (mut child, url) = spawn(&mut command)?;
    assert!(url.starts_with("https://"), "{url}");
    let answered = http()?
        .get(format!("{url}/eivital/v1.04/heartbeat/ping"))
        .send()
        .await;
    child.kill()?;
    child.wait()?;
    assert!(answered?.text().await?.starts_with("e-Invoice Vital:-"));
    Ok(())
}

#[test]
fn a_wrong_credentials_file_is_named_and_nothing_starts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = command(dir.path())?;
    let path = dir.path().join("credentials.toml");
    fs::write(
        &path,
        "[[taxpayer]]\ngstin = \"29AAGCE4783K1Z1\"\nclient = \"x\"\nusername = \"u\"\npassword = \"p\"\n",
    )?;
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()?;
    assert!(!output.status.success() && output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).context("the reason is text")?;
    assert!(
        text.contains("credentials.toml") && text.contains("no client \"x\""),
        "{text}"
    );
    Ok(())
}
