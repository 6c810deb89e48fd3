//! The example clients of scripts/clients: each publishes, waits, verifies and shows, and says with its exit code what it
//! found. `scripts/clients/run` installs what they need.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::amqp::Job;
use crate::support::broker::Broker;
use crate::support::credentials::GSTINS;
use crate::support::invoice::{invoice, irn, wrong_total};
use crate::support::stack::Stack;

const SELLER: &str = GSTINS[0];
const REPLIES: &str = "erp.client";

/// A package of theirs may have to be fetched first.
const INSTALLED_WITHIN: Duration = Duration::from_secs(300);
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// One of the clients, and the folder with the invoices that it is given.
struct Client {
    name: &'static str,
    folder: TempDir,
}

impl Client {
    async fn install(name: &'static str) -> Result<Self> {
        let mut command = Command::new(launcher());
        command.args(["--install", name]).kill_on_drop(true);
        let output = timeout(INSTALLED_WITHIN, command.output()).await??;
        ensure!(
            output.status.success(),
            "{name} cannot be installed: {output:?}"
        );
        let folder = TempDir::new()?;
        Ok(Self { name, folder })
    }

    fn write(&self, name: &str, document: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, document)?;
        Ok(path)
    }

    /// Runs it with these invoices; gives its exit code and what it printed.
    async fn run(
        &self,
        url: &str,
        key: &Path,
        wait: &str,
        invoices: &[&PathBuf],
    ) -> Result<(i32, String)> {
        self.run_with(url, key, wait, invoices, &[]).await
    }

    /// The same with these variables.
    async fn run_with(
        &self,
        url: &str,
        key: &Path,
        wait: &str,
        invoices: &[&PathBuf],
        variables: &[(&str, &str)],
    ) -> Result<(i32, String)> {
        let mut command = Command::new(launcher());
        command
            .arg(self.name)
            .args(invoices)
            .env("AMQP_URL", url)
            .env("SIGNING_KEY", key)
            .env("REPLY_TO", REPLIES)
            .env("TIMEOUT", wait)
            .envs(variables.iter().copied())
            .kill_on_drop(true);
        let Output {
            status,
            stdout,
            stderr,
        } = timeout(ANSWERED_WITHIN, command.output()).await??;
        let printed = [stdout, stderr].concat();
        let code = status.code().context("killed")?;
        Ok((code, String::from_utf8_lossy(&printed).into_owned()))
    }
}

fn launcher() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/clients/run")
}

/// How many lines of a QR code there are in it.
fn drawn_lines(printed: &str) -> usize {
    let is_drawn = |line: &&str| line.contains(['█', '▀', '▄']);
    printed.lines().filter(is_drawn).count()
}

async fn tells_a_story(name: &'static str) -> Result<()> {
    let client = Client::install(name).await?;
    let mut stack = Stack::start(1).await?;
    let url = stack.broker.url();
    let key = stack
        .sandbox
        .signing_certificate()
        .with_file_name("signing_public.pem");
    let number = format!("C/{name}/1");
    let good = client.write("good.json", &invoice(SELLER, &number))?;
    let bad = client.write("bad.json", &wrong_total(SELLER, &format!("C/{name}/2")))?;

    let (code, printed) = client.run(&url, &key, "20", &[&good]).await?;
    ensure!(code == 0, "{code}: {printed}");
    let signed = format!("signed {} (genuine)", irn(SELLER, &number));
    ensure!(printed.contains(&signed), "{printed}");
    ensure!(drawn_lines(&printed) > 40, "no QR code: {printed}");

    // One of two is refused. What was answered twice, to a run before, is told once.
    stack.erp.publish_into(REPLIES, &earlier()).await?;
    stack.erp.publish_into(REPLIES, &earlier()).await?;
    let (code, printed) = client.run(&url, &key, "20", &[&good, &bad]).await?;
    ensure!(code == 1, "{code}: {printed}");
    ensure!(printed.contains(&signed), "{printed}");
    ensure!(printed.contains("rejected"), "{printed}");
    ensure!(
        printed.contains("preflight 2189 /ValDtls/TotInvVal"),
        "{printed}"
    );
    assert_eq!(
        printed.matches("earlier: failed (kept").count(),
        1,
        "{printed}"
    );
    ensure!(printed.contains("worker RETRIES_EXHAUSTED"), "{printed}");

    // Nor is what anybody may have put into the queue.
    for (number, forged) in forged().iter().enumerate() {
        let forged = Job::new("", forged.to_string()).id(&format!("forged {number}"));
        stack.erp.publish_into(REPLIES, &forged).await?;
    }
    let (code, printed) = client.run(&url, &key, "20", &[&good]).await?;
    ensure!(code == 0, "{code}: {printed}");
    assert_eq!(
        (
            printed.matches("NOT GENUINE").count(),
            printed.matches("(genuine)").count()
        ),
        (forged().len(), 1),
        "{printed}"
    );

    // A result that could not be shown is still there.
    if name.ends_with("pika") {
        let (code, printed) = client
            .run_with(
                &url,
                &key,
                "20",
                &[&good],
                &[("PYTHONIOENCODING", "latin-1")],
            )
            .await?;
        ensure!(code == 3, "{code}: {printed}");
        assert_eq!(stack.erp.take(REPLIES, 1, ANSWERED_WITHIN).await?.len(), 1);
    }

    // Under a key that is not the one for signing, nothing is proven.
    let other = stack.sandbox.auth_key();
    let (code, printed) = client.run(&url, &other, "20", &[&good]).await?;
    ensure!(code == 1, "{code}: {printed}");
    ensure!(
        printed.contains("NOT GENUINE") && drawn_lines(&printed) == 0,
        "{printed}"
    );

    let stopped = stack.worker()?.terminate(Duration::from_secs(20)).await?;
    ensure!(stopped.success(), "{stopped}");
    let (code, printed) = client.run(&url, &key, "1", &[&good]).await?;
    ensure!(code == 3, "{code}: {printed}");
    ensure!(printed.contains("no result in 1 s"), "{printed}");
    assert_eq!(
        stack.erp.depth(REPLIES).await?,
        0,
        "every result was acknowledged"
    );

    let bare = Broker::new().await?;
    let (code, printed) = client.run(&bare.url(), &key, "1", &[&good]).await?;
    ensure!(code == 3, "without an exchange {code}: {printed}");
    let (code, printed) = client.run(&url, &key, "1", &[]).await?;
    ensure!(code == 2, "without invoices {code}: {printed}");
    Ok(())
}

/// A result that an earlier run did not wait for.
fn earlier() -> Job {
    let result = json!({
        "version": 1, "job_id": "earlier", "operation": "generate", "status": "failed", "irn": null,
        "errors": [{"source": "worker", "code": "RETRIES_EXHAUSTED", "message": "gave up"}],
        "dead_lettered": true,
    });
    Job::new("", result.to_string()).id("a repeated result has the same one")
}

/// Results that say `signed` and prove nothing.
fn forged() -> [Value; 4] {
    let forged = |more: Value| {
        let mut result = json!({
            "version": 1, "job_id": "forged", "operation": "generate", "status": "signed", "errors": [], "dead_lettered": false,
        });
        for (member, value) in more.as_object().into_iter().flatten() {
            result[member] = value.clone();
        }
        result
    };
    let tokens = |token: &str| json!({"signed_invoice": token, "signed_qr_code": token});
    // {"alg":"none"} and {"data":"{}"}
    let unsigned = "eyJhbGciOiJub25lIn0.eyJkYXRhIjoie30ifQ.";
    [
        forged(tokens("x.y.AAAA")),
        forged(tokens(unsigned)),
        forged(json!({"irn": null, "signed_invoice": null, "signed_qr_code": null})),
        forged(json!({"irn": irn(SELLER, "F/1")})),
    ]
}

macro_rules! clients {
    ($($test:ident: $name:literal,)*) => {$(
        #[tokio::test]
        #[ignore = "needs RabbitMQ and what scripts/clients/run installs: scripts/test"]
        async fn $test() -> Result<()> {
            tells_a_story($name).await
        }
    )*};
}

clients! {
    client_in_python_with_pika_publishes_waits_verifies_and_shows: "pika",
    client_in_python_with_aio_pika_publishes_waits_verifies_and_shows: "aio-pika",
    client_in_node_publishes_waits_verifies_and_shows: "node",
    client_in_java_publishes_waits_verifies_and_shows: "java",
    client_in_php_publishes_waits_verifies_and_shows: "php",
    client_in_csharp_publishes_waits_verifies_and_shows: "csharp",
}
