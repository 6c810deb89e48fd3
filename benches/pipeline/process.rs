//! Child processes, and what the kernel says of a process: its CPU time and its memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::eventually;

/// The kernel counts CPU time in hundredths of a second (USER_HZ on Linux).
const TICK: Duration = Duration::from_millis(10);

/// How long a process may take to end when it is asked to.
const END_WITHIN: Duration = Duration::from_secs(30);

/// A running child whose output goes to a file; killed when dropped.
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command` with both outputs in `log`.
    pub(crate) fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let file = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            name,
            child,
            log: log.to_owned(),
        })
    }

    /// Waits until it has written a line from which `pick` takes something.
    pub(crate) async fn says(
        &mut self,
        deadline: Duration,
        pick: impl Fn(&str) -> Option<String>,
    ) -> Result<String> {
        let what = format!("{} to be ready", self.name);
        let found = eventually(deadline, &what, async || {
            if let Some(found) = self.text()?.lines().find_map(&pick) {
                return Ok(Some(Some(found)));
            }
            // Ended: there is nothing to wait for any more.
            Ok(self.child.try_wait()?.map(|_| None))
        });
        match found.await? {
            Some(found) => Ok(found),
            None => bail!("{} ended: {}", self.name, self.last_words()),
        }
    }

    /// What it does to the machine.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}: {}", self.name, self.last_words());
        }
        Usage::of(self.pid()?)
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        let pid = self.child.id();
        pid.with_context(|| format!("{} has ended: {}", self.name, self.last_words()))
    }

    /// SIGTERM, and SIGKILL when that does not help.
    pub(crate) async fn end(mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).context("a pid is positive")?;
        kill_process(pid, Signal::TERM)?;
        if timeout(END_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await?;
            bail!("{} did not end within {END_WITHIN:?}", self.name);
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    fn last_words(&self) -> String {
        let text = self.text().unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time so far.
    pub(crate) cpu: Duration,
    /// KiB resident now.
    pub(crate) rss: u64,
    /// KiB resident at the most so far.
    pub(crate) peak: u64,
}

impl Usage {
    /// Reads `/proc`.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat
            .rsplit_once(')')
            .context("the name ends with a bracket")?;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: u32 = times.map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self {
            cpu: TICK * ticks,
            rss: kib(&status, "VmRSS:")?,
            peak: kib(&status, "VmHWM:")?,
        })
    }
}

/// What all of these have used up so far.
pub(crate) fn cpu_of_all(programs: &mut [Program]) -> Result<Duration> {
    let usages = programs.iter_mut().map(Program::usage);
    usages.map(|usage| Ok(usage?.cpu)).sum()
}

fn kib(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number
        .with_context(|| format!("/proc says no {name}"))?
        .parse()?)
}
