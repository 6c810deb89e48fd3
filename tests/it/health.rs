//! `health` and the service manager: what a container engine and systemd hear of a worker.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::credentials::{Credentials, GSTINS};
use crate::support::sandbox::Sandbox;
use crate::support::stack::Stack;
use crate::support::worker::{WorkerConfig, WorkerProcess};

const SOON: Duration = Duration::from_secs(20);

/// Nobody listens there: port 1 is below all that are given out.
const NO_BROKER: &str = "amqp://guest:guest@127.0.0.1:1/%2f";

/// What `health` says of this worker, as its exit code and its words.
async fn health(
    config: &WorkerConfig,
    worker: &mut WorkerProcess,
    arguments: &[&str],
) -> Result<(Option<i32>, String)> {
    let url = worker.admin_url().await?;
    let address = url.strip_prefix("http://").context("an HTTP endpoint")?;
    let mut command = config.command("health")?;
    command
        .args(arguments)
        .env("IRN_WORKER__ADMIN__LISTEN", address)
        .kill_on_drop(true);
    let output = command.output().await?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&said).trim().to_owned(),
    ))
}

#[tokio::test]
async fn health_tells_a_living_worker_from_one_that_takes_jobs_and_from_none() -> Result<()> {
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS[..1])).await?;
    let config = WorkerConfig::between(NO_BROKER, &sandbox)?;
    let mut worker = WorkerConfig::between(NO_BROKER, &sandbox)?.spawn("worker")?;
    let without_broker = (Some(1), "no broker connection".to_owned());
    worker.until_logged("no broker connection", SOON).await?;
    assert_eq!(
        health(&config, &mut worker, &["--ready"]).await?,
        without_broker
    );
    assert_eq!(
        health(&config, &mut worker, &[]).await?,
        (Some(0), "alive".to_owned())
    );
    let (code, said) = health(&config, &mut worker, &["--ready", "--json"]).await?;
    let said: Value = serde_json::from_str(&said)?;
    assert_eq!(
        (code, said),
        (
            Some(1),
            json!({"healthy": false, "state": "no broker connection"})
        )
    );

    worker.terminate(SOON).await?;
    let (code, said) = health(&config, &mut worker, &[]).await?;
    assert_eq!(code, Some(1), "{said}");
    ensure!(
        said.contains("no worker answers at http://127.0.0.1:"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn health_of_a_port_that_only_the_worker_knows_is_wrong_configuration() -> Result<()> {
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS[..1])).await?;
    let config = WorkerConfig::between(NO_BROKER, &sandbox)?;
    let output = config.output("health", &[]).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    ensure!(said.contains("admin.listen has port 0"), "{said}");
    Ok(())
}

#[tokio::test]
async fn address_that_somebody_has_ends_the_start_but_is_no_wrong_configuration() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS[..1])).await?;
    let config =
        WorkerConfig::between(NO_BROKER, &sandbox)?.set("admin.listen", address.as_str())?;
    let output = config.output("run", &[]).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    ensure!(
        said.contains(&format!("cannot listen on admin.listen = {address}")),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn service_manager_hears_of_start_state_life_and_stop() -> Result<()> {
    let dir = TempDir::new()?;
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(SOON))?;
    let socket = path.to_str().context("a path in UTF-8")?.to_owned();
    let mut stack = Stack::start_with(1, |config| {
        Ok(config
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "100000"))
    })
    .await?;
    let hearing = tokio::task::spawn_blocking(move || {
        let heard = until_heard(&manager, "STATUS=consuming", 2)?;
        Ok::<_, anyhow::Error>((manager, heard))
    });
    let (manager, heard) = hearing.await??;
    assert!(heard[0].starts_with("READY=1\n"), "{heard:?}");
    assert!(!heard.concat().contains("STOPPING=1"), "{heard:?}");

    let status = stack.worker()?.terminate(SOON).await?;
    assert_eq!(status.code(), Some(0));
    let stopping = tokio::task::spawn_blocking(move || until_heard(&manager, "STOPPING=1", 0));
    assert!(stopping.await??.concat().contains("STATUS=draining"));
    Ok(())
}

/// All that was said until this text was, and so many signs of life.
fn until_heard(manager: &UnixDatagram, text: &str, signs_of_life: usize) -> Result<Vec<String>> {
    let mut heard: Vec<String> = Vec::new();
    let mut buffer = [0; 1024];
    while !heard.iter().any(|news| news.contains(text))
        || heard
            .iter()
            .filter(|news| news.contains("WATCHDOG=1"))
            .count()
            < signs_of_life
    {
        let length = manager
            .recv(&mut buffer)
            .with_context(|| format!("waiting for {text} after {heard:?}"))?;
        heard.push(String::from_utf8(buffer[..length].to_vec())?);
    }
    Ok(heard)
}
