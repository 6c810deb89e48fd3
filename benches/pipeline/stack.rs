//! What a job passes: the portal, and the worker or the floor that is measured. Each is a process of its own, started
//! as its users start it.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs};

use anyhow::{Result, ensure};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::corpus::Corpus;
use crate::process::Program;
use crate::support::http;

/// Signing the largest corpus takes some seconds a core.
const PORTAL_WITHIN: Duration = Duration::from_secs(180);
const LOGS: &str = "logs";
/// A limit that does not bind.
const UNBOUND: &str = "1000000/s";
const WORKER_WITHIN: Duration = Duration::from_secs(60);

/// The folder of the programs to be measured, as users build them.
const PROGRAMS: &str = "IRN_WORKER_BENCH_PROGRAMS";

/// A program to be measured. What cargo builds along with a benchmark has the features of the tests' libraries too,
/// among them a clock that can be paused and costs more to look at.
fn program(name: &str, built_along: &str) -> PathBuf {
    std::env::var_os(PROGRAMS).map_or_else(
        || PathBuf::from(built_along),
        |folder| PathBuf::from(folder).join(name),
    )
}

/// A directory that goes with the run, and numbers for the files in it.
pub(crate) struct Workplace {
    dir: tempfile::TempDir,
    made: std::cell::Cell<u32>,
}

impl Workplace {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::TempDir::with_prefix("irn-worker-bench-")?;
        fs::create_dir(dir.path().join(LOGS))?;
        Ok(Self {
            dir,
            made: std::cell::Cell::default(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path for a log. The worker watches the folder of its credentials, where a log would tell it of every line.
    fn log(&self, name: &str) -> PathBuf {
        self.fresh(&format!("{LOGS}/{name}"))
    }

    /// A path that no one else was given.
    fn fresh(&self, name: &str) -> PathBuf {
        self.made.set(self.made.get() + 1);
        let (folder, name) = name.rsplit_once('/').unwrap_or(("", name));
        let name = format!("{}-{name}", self.made.get());
        self.path().join(folder).join(name)
    }
}

/// The running portal, which answers documents of a corpus from its store.
pub(crate) struct Portal {
    pub(crate) program: Program,
    pub(crate) url: String,
    state: PathBuf,
    /// The certificate it serves HTTPS with.
    ca_file: Option<PathBuf>,
    client: reqwest::Client,
}

impl Portal {
    pub(crate) async fn start(place: &Workplace, corpus: &Corpus, tls: bool) -> Result<Self> {
        let state = place.fresh("portal");
        fs::create_dir(&state)?;
        let mut command = Command::new(program("irp-sandbox", env!("CARGO_BIN_EXE_irp-sandbox")));
        command.args(["--listen", "127.0.0.1:0", "--state-dir"]);
        command.arg(&state).arg("--corpus").arg(&corpus.file);
        command.arg("--credentials").arg(&corpus.credentials);
        let ca_file = if tls {
            let (certificate, key) = (state.join("tls.pem"), state.join("tls.key"));
            let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
            fs::write(&certificate, made.cert.pem())?;
            fs::write(&key, made.signing_key.serialize_pem())?;
            command.arg("--tls-cert").arg(&certificate);
            command.arg("--tls-key").arg(key);
            Some(certificate)
        } else {
            None
        };
        let mut program = Program::start("irp-sandbox", command, &place.log("portal.log"))?;
        let listening = |line: &str| Some(line.strip_prefix("listening on ")?.trim().to_owned());
        let url = program.says(PORTAL_WITHIN, listening).await?;
        let mut client = reqwest::Client::builder().no_proxy();
        if let Some(file) = &ca_file {
            let roots = reqwest::Certificate::from_pem_bundle(&fs::read(file)?)?;
            client = client.tls_certs_only(roots);
        }
        Ok(Self {
            program,
            url,
            state,
            ca_file,
            client: client.build()?,
        })
    }

    /// Forgets tokens, counters and latency.
    async fn reset(&self) -> Result<()> {
        self.control("reset", &Value::Null).await
    }

    /// Answers submits so much later.
    async fn delay(&self, delay: Duration) -> Result<()> {
        let ms = u64::try_from(delay.as_millis())?;
        let rules = json!([{"endpoint": "generate", "kind": "delay", "ms": ms}]);
        self.control("faults", &json!({ "rules": rules })).await
    }

    /// Fails unless exactly so many documents were submitted, and all of them registered without an error.
    pub(crate) async fn expect(&self, submits: usize) -> Result<()> {
        let stats: Value = http::json(&self.client, &self.url_of("stats")).await?;
        let counted = [&stats["generates"], &stats["registrations"]];
        ensure!(
            counted.iter().all(|count| **count == submits) && stats["errors"] == 0,
            "of {submits} jobs the portal counted {} submits, {} registrations, errors {}",
            stats["generates"],
            stats["registrations"],
            stats["errors_by_code"]
        );
        Ok(())
    }

    async fn control(&self, route: &str, body: &Value) -> Result<()> {
        let url = self.url_of(route);
        http::send(&self.client, reqwest::Method::POST, &url, body)
            .await
            .map(drop)
    }

    fn url_of(&self, route: &str) -> String {
        format!("{}/_sandbox/{route}", self.url)
    }
}

/// What carries the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The bare pipeline.
    Floor,
    /// The worker as it is configured by default, its pre-flight on or off.
    Worker { preflight: bool },
}

/// As the tables call it.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor => "floor",
            Self::Worker { preflight: false } => "worker",
            Self::Worker { preflight: true } => "worker + pre-flight",
        })
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Between which broker and which portal a subject is started, and how wide.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) place: &'a Workplace,
    pub(crate) broker_url: &'a str,
    pub(crate) portal: &'a Portal,
    pub(crate) corpus: &'a Corpus,
    /// Of each replica.
    pub(crate) concurrency: u16,
    /// How long the portal takes over a submit, beyond what it takes by itself.
    pub(crate) delay: Duration,
}

impl Setting<'_> {
    /// Has the portal forget what was, and declares the worker's queues in the virtual host.
    pub(crate) async fn prepare(&self) -> Result<()> {
        self.portal.reset().await?;
        if !self.delay.is_zero() {
            self.portal.delay(self.delay).await?;
        }
        let subject = Subject::Worker { preflight: false };
        let mut command = Command::new(program("irn-worker", env!("CARGO_BIN_EXE_irn-worker")));
        let status = command
            .args(["topology", "apply", "--config"])
            .arg(self.config(subject)?)
            .stdout(std::process::Stdio::null())
            .status()
            .await?;
        ensure!(status.success(), "topology apply ended with {status}");
        Ok(())
    }

    /// Starts one replica; a worker is waited for until it is up.
    pub(crate) async fn start(&self, subject: Subject) -> Result<Program> {
        match subject {
            Subject::Floor => self.start_floor(),
            Subject::Worker { .. } => self.start_worker(subject).await,
        }
    }

    fn start_floor(&self) -> Result<Program> {
        // The floor is this very program: its CPU time must be its own process's.
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor", "--broker-url", self.broker_url]);
        command.args(["--portal", &self.portal.url]);
        command.args(["--concurrency", &self.concurrency.to_string()]);
        let state = &self.portal.state;
        command
            .arg("--login-key")
            .arg(state.join("auth_public.pem"));
        command
            .arg("--signing-key")
            .arg(state.join("signing_public.pem"));
        command.arg("--credentials").arg(&self.corpus.credentials);
        if let Some(file) = &self.portal.ca_file {
            command.arg("--ca-file").arg(file);
        }
        Program::start("floor", command, &self.place.log("floor.log"))
    }

    async fn start_worker(&self, subject: Subject) -> Result<Program> {
        let mut command = Command::new(program("irn-worker", env!("CARGO_BIN_EXE_irn-worker")));
        command.args(["run", "--config"]).arg(self.config(subject)?);
        let log = self.place.log("worker.log");
        let mut program = Program::start("irn-worker", command, &log)?;
        let up = |line: &str| {
            line.contains("admin endpoint on http://")
                .then(|| line.to_owned())
        };
        program.says(WORKER_WITHIN, up).await?;
        Ok(program)
    }

    /// Writes a configuration in which nothing but concurrency binds.
    fn config(&self, subject: Subject) -> Result<PathBuf> {
        let preflight = match subject {
            Subject::Worker { preflight: true } => "strict",
            Subject::Worker { preflight: false } | Subject::Floor => "off",
        };
        let state = &self.portal.state;
        let mut irp = json!({
            "environment": "sandbox",
            "base_url": self.portal.url,
            "public_key_file": state.join("auth_public.pem"),
            "signing_keys": [state.join("signing_certificate.pem")],
            "signatures": "require",
            "concurrency": self.concurrency,
            "concurrency_per_gstin": self.concurrency,
        });
        if let Some(file) = &self.portal.ca_file {
            irp["ca_file"] = json!(file);
        }
        let config = json!({
            "broker": {"url": self.broker_url},
            "credentials": {"path": self.corpus.credentials},
            "irp": irp,
            "limits": {"per_gstin": UNBOUND, "total": UNBOUND, "auth_per_gstin": UNBOUND},
            "validate": {"preflight": preflight},
            "admin": {"listen": "127.0.0.1:0"},
            "log": {"format": "json"},
        });
        let file = self.place.fresh("worker.toml");
        fs::write(&file, toml::to_string(&config)?)?;
        Ok(file)
    }
}
