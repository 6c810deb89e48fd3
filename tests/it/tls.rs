//! TLS to the broker and to the portal, with certificates made here: sound ones work, and of others it is said what is wrong.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::support::amqp::{Amqp, Job};
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::invoice::invoice;
use crate::support::outcome::Outcome;
use crate::support::private_broker::PrivateBroker;
use crate::support::sandbox::Sandbox;
use crate::support::stack::Stack;
use crate::support::tls::{Ca, Issued};
use crate::support::worker::WorkerConfig;

const SELLER: &str = GSTINS[0];
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("the path is UTF-8")?.to_owned())
}

/// Below the range from which Linux gives out ports by itself.
fn free_port() -> Result<u16> {
    let tried = (0..200).map(|_| 12_000 + rand::random_range(0..20_000));
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    tried.into_iter().find(free).context("no port is free")
}

/// A broker that speaks TLS to those only who show a certificate of its CA.
struct TlsBroker {
    broker: PrivateBroker,
    ca: Ca,
    folder: TempDir,
    port: u16,
}

impl TlsBroker {
    async fn start() -> Result<Self> {
        let (ca, folder, port) = (Ca::new()?, TempDir::new()?, free_port()?);
        let root = folder.path().join("ca.pem");
        std::fs::write(&root, ca.pem())?;
        let (cert, key) = ca
            .issue(&["127.0.0.1", "localhost"], "broker")?
            .write(folder.path(), "broker")?;
        let conf = format!(
            "listeners.ssl.default = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {cert}\n\
             ssl_options.keyfile = {key}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
             ssl_cert_login_from = common_name\nauth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\n",
            text(&root)?
        );
        let broker = PrivateBroker::start_with(&conf, "rabbitmq_auth_mechanism_ssl").await?;
        Ok(Self {
            broker,
            ca,
            folder,
            port,
        })
    }

    /// Shows another certificate from now on.
    async fn shows(&self, issued: &Issued) -> Result<()> {
        issued.write(self.folder.path(), "broker")?;
        self.broker.ctl(&["eval", "ssl:clear_pem_cache()."]).await
    }

    /// A worker's configuration with its CA and a certificate of this user.
    fn config(&self, sandbox: &Sandbox, url: &str, client: &Issued) -> Result<WorkerConfig> {
        let (cert, key) = client.write(self.folder.path(), "client")?;
        WorkerConfig::between(url, sandbox)?
            .set("broker.ca_file", text(&self.folder.path().join("ca.pem"))?)?
            .set("broker.client_cert_file", cert)?
            .set("broker.client_key_file", key)
    }

    fn url(&self, user: &str) -> String {
        format!("amqps://{user}@127.0.0.1:{}/%2f", self.port)
    }
}

async fn unreachable(config: &WorkerConfig, says: &str, remedy: &str) -> Result<()> {
    let output = config.output("check", &[]).await?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.contains(says), "{says}:\n{said}");
    ensure!(said.contains(remedy), "{remedy}:\n{said}");
    ensure!(
        output.status.code() == Some(3),
        "{:?}\n{said}",
        output.status
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn broker_and_worker_verify_each_other_and_say_what_is_wrong() -> Result<()> {
    let tls = TlsBroker::start().await?;
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
    let client = tls.ca.issue(&["client"], "irn-worker")?;
    let url = tls.url("guest:guest");
    // Nobody is let in without a certificate, or with one of another CA.
    let bare = WorkerConfig::between(&url, &sandbox)?
        .set("broker.ca_file", text(&tls.folder.path().join("ca.pem"))?)?;
    unreachable(&bare, "fail  broker 127.0.0.1", "broker.client_cert_file").await?;
    let stranger = Ca::new()?.issue(&["client"], "irn-worker")?;
    unreachable(
        &tls.config(&sandbox, &url, &stranger)?,
        "fail  broker 127.0.0.1",
        "broker.client_cert_file",
    )
    .await?;
    // Its certificate says who the user is.
    tls.broker
        .ctl(&["add_user", "irn-worker", "unused"])
        .await?;
    tls.broker
        .ctl(&["set_permissions", "irn-worker", ".*", ".*", ".*"])
        .await?;
    let external = format!("{}?auth_mechanism=external", tls.url("irn-worker"));
    let config = tls.config(&sandbox, &external, &client)?;
    let checked = config.output("check", &[]).await?;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let worker = config.start("worker").await?;
    let erp = Amqp::connect(tls.broker.url()).await?;
    erp.publish(&[Job::generate("j-1", invoice(SELLER, "T/1"))])
        .await?;
    let mut taken = erp.take("irn.results", 1, SETTLED_WITHIN).await?;
    Outcome::read(taken.pop().context("one was taken")?)?.assert_signed(false);
    drop(worker);
    // A broker whose certificate is not what it should be gets neither password nor job.
    let config = tls.config(&sandbox, &url, &client)?;
    tls.shows(&tls.ca.issue(&["other.example"], "broker")?)
        .await?;
    unreachable(&config, "not valid for name", "host name").await?;
    tls.shows(&tls.ca.issue_expired(&["127.0.0.1"], "broker")?)
        .await?;
    unreachable(&config, "expired", "renewed").await?;
    tls.shows(&Ca::new()?.issue(&["127.0.0.1"], "broker")?)
        .await?;
    unreachable(&config, "UnknownIssuer", "broker.ca_file").await
}

/// A portal with this certificate of `ca`, and a configuration that trusts that CA.
async fn portal(folder: &Path, ca: &Ca, issued: &Issued) -> Result<Sandbox> {
    let (cert, key) = issued.write(folder, "portal")?;
    let arguments = ["--tls-cert", &cert, "--tls-key", &key];
    let credentials = Credentials::of(&GSTINS);
    Sandbox::start_trusting(&credentials, &arguments, Some(&ca.pem())).await
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn portal_is_believed_with_a_certificate_of_its_ca_for_its_name_and_in_time() -> Result<()> {
    let stack = Stack::start(0).await?;
    let (ca, folder) = (Ca::new()?, TempDir::new()?);
    let root = folder.path().join("ca.pem");
    std::fs::write(&root, ca.pem())?;
    let applied = stack.config()?.output("topology", &["apply"]).await?;
    ensure!(applied.status.success(), "{applied:?}");
    for (issued, says, remedy) in [
        (
            ca.issue_expired(&["127.0.0.1"], "portal")?,
            "expired",
            "renewed",
        ),
        (
            ca.issue(&["other.example"], "portal")?,
            "not valid for name",
            "host name",
        ),
        (
            Ca::new()?.issue(&["127.0.0.1"], "portal")?,
            "UnknownIssuer",
            "irp.ca_file",
        ),
    ] {
        let sandbox = portal(folder.path(), &ca, &issued).await?;
        let config = WorkerConfig::between(&stack.broker.url(), &sandbox)?
            .set("irp.ca_file", text(&root)?)?;
        unreachable(&config, says, remedy).await?;
    }
    let sandbox = portal(folder.path(), &ca, &ca.issue(&["127.0.0.1"], "portal")?).await?;
    assert!(sandbox.url().starts_with("https://"));
    let config =
        WorkerConfig::between(&stack.broker.url(), &sandbox)?.set("irp.ca_file", text(&root)?)?;
    let checked = config.output("check", &["--login"]).await?;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let _worker = config.start("worker").await?;
    stack
        .settle(Job::generate("j-1", invoice(SELLER, "T/2")))
        .await?
        .assert_signed(false);
    // Not by the system's roots.
    let config = WorkerConfig::between(&stack.broker.url(), &sandbox)?;
    unreachable(&config, "UnknownIssuer", "irp.ca_file").await
}
