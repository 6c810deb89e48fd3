//! The process: its one line, its keys, TLS, signals and wrong arguments.

use std::fs;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::timeout;

use crate::client::{Sandbox, command, http, spawn};

/// How a heartbeat begins.
const ALIVE: &str = "e-Invoice Vital:-";

/// A heartbeat; a fresh client makes it a fresh connection.
async fn ping(http: &reqwest::Client, sandbox: &Sandbox) -> Result<String> {
    let url = format!("{}/eivital/v1.04/heartbeat/ping", sandbox.url);
    Ok(http.get(url).send().await?.text().await?)
}

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
    let sandbox = Sandbox::start_tls()?;
    assert!(sandbox.url.starts_with("https://"), "{}", sandbox.url);
    assert!(ping(&http()?, &sandbox).await?.starts_with(ALIVE));
    Ok(())
}

#[tokio::test]
async fn a_slow_handshake_stops_new_tls_connections_and_no_open_one() -> Result<()> {
    let sandbox = Sandbox::start_tls()?;
    sandbox
        .control("settings", json!({"tls_delay_ms": 3_600_000}))
        .await?;
    TcpStream::connect(sandbox.url.trim_start_matches("https://"))?;
    let waiting = timeout(Duration::from_millis(500), ping(&http()?, &sandbox)).await;
    assert!(waiting.is_err(), "answered: {waiting:?}");
    // The delay is lifted over the connection that was there before it.
    let delay = Duration::from_millis(300);
    sandbox
        .control("settings", json!({"tls_delay_ms": 300}))
        .await?;
    let begun = Instant::now();
    assert!(ping(&http()?, &sandbox).await?.starts_with(ALIVE));
    assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_slow_handshake_leaves_plain_http_alone() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    sandbox
        .control("settings", json!({"tls_delay_ms": 3_600_000}))
        .await?;
    let answered = timeout(Duration::from_secs(30), ping(&http()?, &sandbox)).await??;
    assert!(answered.starts_with(ALIVE), "{answered}");
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
