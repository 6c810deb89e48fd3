//! Child processes whose output is kept and which end with the test.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::eventually;

/// A running child; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// Copy the child's output into `lines`; end when dropped.
    _readers: JoinSet<()>,
}

impl Process {
    /// Starts `command`. Its output is printed under `name`, which a test shows when it fails.
    pub(crate) fn start(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let mut readers = JoinSet::new();
        let stdout = child.stdout.take().context("standard output is piped")?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        readers.spawn(keep_lines(name.to_owned(), stdout, Arc::clone(&lines)));
        readers.spawn(keep_lines(name.to_owned(), stderr, Arc::clone(&lines)));
        Ok(Self {
            name: name.to_owned(),
            child,
            lines,
            _readers: readers,
        })
    }

    /// All lines it has written so far, standard output and error.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for a line from which `pick` takes something.
    ///
    /// # Errors
    /// When the deadline passes or the process ends before.
    pub(crate) async fn line<T>(
        &mut self,
        deadline: Duration,
        what: &str,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let what = format!("{} to say {what}", self.name);
        let found = eventually(deadline, &what, async || {
            if let Some(found) = self.lines().iter().find_map(|line| pick(line)) {
                return Ok(Some(Ok(found)));
            }
            Ok(self.child.try_wait()?.map(Err))
        })
        .await?;
        match found {
            Ok(found) => Ok(found),
            Err(status) => bail!("{} ended with {status}: {:?}", self.name, self.lines()),
        }
    }

    pub(crate) fn pid(&self) -> Result<Pid> {
        let id = self
            .child
            .id()
            .with_context(|| format!("{} has ended", self.name))?;
        Pid::from_raw(i32::try_from(id)?).context("a pid is positive")
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        match timeout(deadline, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_elapsed) => bail!("{} still ran after {deadline:?}", self.name),
        }
    }

    /// How it ended, if it has.
    pub(crate) fn try_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

async fn keep_lines(name: String, output: impl AsyncRead + Unpin, lines: Arc<Mutex<Vec<String>>>) {
    let mut output = BufReader::new(output).split(b'\n');
    while let Ok(Some(line)) = output.next_segment().await {
        let line = String::from_utf8_lossy(&line).into_owned();
        println!("{name}| {line}");
        lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }
}
