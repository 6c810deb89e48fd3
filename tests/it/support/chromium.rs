//! A headless Chromium, driven over its DevTools protocol: what a page looks like, says and asks for in a real browser.
//!
//! The protocol goes over the browser's own pipes, JSON objects that end with a zero byte: no port, no socket.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::eventually;

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What it is called by those who package it.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// A screen to look at the page on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    pub(crate) name: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
}

pub(crate) const DESKTOP: Screen = Screen {
    name: "desktop",
    width: 1280,
    height: 900,
    dark: false,
};
pub(crate) const DARK: Screen = Screen {
    name: "dark",
    dark: true,
    ..DESKTOP
};
pub(crate) const TELEPHONE: Screen = Screen {
    name: "telephone",
    width: 375,
    height: 800,
    dark: false,
};

/// A browser with one page; killed when dropped.
#[derive(Debug)]
pub(crate) struct Chromium {
    _child: Child,
    _profile: TempDir,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    number: u64,
    /// What it has told by itself.
    events: VecDeque<Value>,
}

impl Chromium {
    /// Starts it with an empty profile. `CHROMIUM` names another one than that on the path.
    pub(crate) async fn start() -> Result<Self> {
        let program = std::env::var("CHROMIUM").ok();
        let program = program.or_else(|| NAMES.into_iter().find(|n| on_path(n)).map(str::to_owned));
        let program = program.context("no Chromium: run scripts/install chromium")?;
        let profile = TempDir::with_prefix("irn-worker-chromium-")?;
        let mut command = Command::new("bash");
        // It reads commands from descriptor 3 and answers on 4.
        command
            .args([
                "-c",
                r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#,
                "bash",
            ])
            .arg(program)
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().context("starting Chromium")?;
        let mut browser = Self {
            to: child.stdin.take().context("a pipe")?,
            from: BufReader::new(child.stdout.take().context("a pipe")?),
            _child: child,
            _profile: profile,
            session: None,
            number: 0,
            events: VecDeque::new(),
        };
        browser.attach().await?;
        Ok(browser)
    }

    async fn attach(&mut self) -> Result<()> {
        let page = json!({"url": "about:blank"});
        let target = self.call("Target.createTarget", page).await?["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let attached = self.call("Target.attachToTarget", attach).await?;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            self.call(&format!("{domain}.enable"), json!({})).await?;
        }
        Ok(())
    }

    /// Shows the page on this screen.
    pub(crate) async fn on(&mut self, screen: Screen) -> Result<()> {
        let metrics = json!({"width": screen.width, "height": screen.height, "deviceScaleFactor": 1,
            "mobile": screen.width < 500});
        self.call("Emulation.setDeviceMetricsOverride", metrics)
            .await?;
        let scheme = if screen.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// Whether scripts run.
    pub(crate) async fn scripts(&mut self, run: bool) -> Result<()> {
        let off = json!({"value": !run});
        self.call("Emulation.setScriptExecutionDisabled", off)
            .await?;
        Ok(())
    }

    /// Loads a page to its end.
    pub(crate) async fn open(&mut self, url: &str) -> Result<()> {
        self.events
            .retain(|event| event["method"] != "Page.loadEventFired");
        self.call("Page.navigate", json!({"url": url})).await?;
        while !self
            .events
            .iter()
            .any(|event| event["method"] == "Page.loadEventFired")
        {
            self.read().await?;
        }
        Ok(())
    }

    /// The value of an expression in the page.
    pub(crate) async fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let ask = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", ask).await?;
        ensure!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, expression: &str, deadline: Duration) -> Result<()> {
        eventually(deadline, expression, async || {
            Ok((self.evaluate(expression).await? == true).then_some(()))
        })
        .await
    }

    /// The text that a person sees.
    pub(crate) async fn text(&mut self) -> Result<String> {
        let text = self.evaluate("document.body.innerText").await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// What a screen reader is told: role and name of every element that has both.
    pub(crate) async fn spoken(&mut self) -> Result<Vec<(String, String)>> {
        let tree = self.call("Accessibility.getFullAXTree", json!({})).await?;
        let nodes = tree["nodes"].as_array().context("no tree")?;
        let spoken = nodes.iter().filter_map(|node| {
            let role = node["role"]["value"].as_str()?;
            let name = node["name"]["value"].as_str()?;
            Some((role.to_owned(), name.to_owned()))
        });
        Ok(spoken.collect())
    }

    /// The whole page as a picture.
    pub(crate) async fn photograph(&mut self, file: &Path) -> Result<()> {
        let how = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.call("Page.captureScreenshot", how).await?;
        let data = picture["data"].as_str().context("no picture")?;
        Ok(std::fs::write(file, BASE64_STANDARD.decode(data)?)?)
    }

    /// All that went wrong in the page, and all it asked for from elsewhere than `origin`.
    pub(crate) async fn complaints(&mut self, origin: &str) -> Result<Vec<String>> {
        // A round trip: whatever was told before has been read then.
        self.evaluate("0").await?;
        let complaints = self
            .events
            .iter()
            .filter_map(|event| complaint(event, origin));
        Ok(complaints.collect())
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).await?;
        loop {
            let Some(answer) = self.read().await? else {
                continue;
            };
            if answer["id"] != self.number {
                continue;
            }
            if !answer["error"].is_null() {
                bail!("{method}: {}", answer["error"]);
            }
            return Ok(answer["result"].clone());
        }
    }

    /// Reads one message; an event is put aside.
    async fn read(&mut self) -> Result<Option<Value>> {
        let mut bytes = Vec::new();
        let reading = self.from.read_until(0, &mut bytes);
        let read = timeout(ANSWER_WITHIN, reading)
            .await
            .context("Chromium does not answer")??;
        ensure!(read > 0, "Chromium has ended");
        let message: Value = serde_json::from_slice(bytes.strip_suffix(&[0]).unwrap_or(&bytes))?;
        if message["id"].is_null() {
            self.events.push_back(message);
            return Ok(None);
        }
        Ok(Some(message))
    }
}

fn complaint(event: &Value, origin: &str) -> Option<String> {
    let params = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" | "Log.entryAdded" => Some(params.to_string()),
        "Runtime.consoleAPICalled" if params["type"] == "error" => Some(params.to_string()),
        "Network.requestWillBeSent" => {
            let url = params["request"]["url"].as_str()?;
            let is_own = url.starts_with(origin) || url == "about:blank" || url == "data:,";
            (!is_own).then(|| format!("asked for {url}"))
        }
        _ => None,
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
