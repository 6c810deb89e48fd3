//! Who did what to the letters: one JSON line on standard error at the end of a command, and one at the beginning of
//! those that change something, so that one which is killed leaves a trace.
//!
//! One rule: filters, options and counts. Nothing of a document is in it.

use std::io::{self, Write as _};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Filter, LetterQueue};
use crate::broker::Endpoint;
use crate::config::LettersSide;

/// What is told of a command.
#[derive(Debug)]
pub struct Audit {
    command: &'static str,
    queue: LetterQueue,
    filter: Filter,
    options: Value,
    broker: Option<(String, String)>,
    run: String,
}

impl Audit {
    /// A command that begins with these options.
    pub fn of(
        command: &'static str,
        config: &LettersSide,
        queue: LetterQueue,
        filter: &Filter,
        options: Value,
    ) -> Self {
        let endpoint = Endpoint::try_new(&config.broker_side.broker, "dead-letters").ok();
        Self {
            command,
            queue,
            filter: filter.clone(),
            options,
            broker: endpoint.map(|endpoint| (endpoint.address(), endpoint.user().to_owned())),
            run: uuid::Uuid::new_v4().simple().to_string(),
        }
    }

    /// It begins.
    pub fn begins(&self) {
        self.tell("begins", &Value::Null);
    }

    /// It has ended, with what it did and this exit code.
    pub fn ends(&self, did: &Value, exit: u8) {
        self.tell("ends", &json!({ "did": did, "exit": exit }));
    }

    fn tell(&self, phase: &'static str, more: &Value) {
        let variable = |name: &str| std::env::var(name).ok();
        let (broker, broker_user) = self.broker.clone().unzip();
        let mut line = json!({
            "timestamp": Timestamp::now(), "level": "INFO", "target": "irn_worker::audit",
            "message": format!("dead-letters {} {phase}", self.command),
            "run": self.run, "command": self.command, "phase": phase, "queue": self.queue.name(),
            "filter": self.filter, "options": self.options,
            "user": variable("SUDO_USER").or_else(|| variable("USER")),
            "uid": rustix::process::getuid().as_raw(),
            "host": rustix::system::uname().nodename().to_string_lossy(),
            "broker": broker, "broker_user": broker_user,
        });
        if let Some(more) = more.as_object() {
            for (name, value) in more {
                line[name] = value.clone();
            }
        }
        // Whoever closed standard error does not want to know.
        drop(writeln!(io::stderr().lock(), "{line}"));
    }
}
