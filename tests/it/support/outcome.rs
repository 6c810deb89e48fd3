//! A job's result as an ERP reads it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::amqp::Message;

/// A result message and its body as JSON.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) message: Message,
    pub(crate) json: Value,
}

impl Outcome {
    pub(crate) fn read(message: Message) -> Result<Self> {
        let json = message.json()?;
        let status = json["status"]
            .as_str()
            .context("a result without a status")?;
        // Contract, section 3: what an ERP can rely on whatever the portal has said.
        let own = &json["errors"][0];
        ensure!(
            status != "failed" || own["source"] == "worker",
            "a failed result without an error of the worker's first: {json}"
        );
        Ok(Self { message, json })
    }

    pub(crate) fn status(&self) -> &str {
        self.text("status")
    }

    /// A member that is a text; empty if it is null.
    pub(crate) fn text(&self, member: &str) -> &str {
        self.json[member].as_str().unwrap_or_default()
    }

    /// `source code` of every error.
    pub(crate) fn errors(&self) -> Vec<String> {
        let errors = self.json["errors"].as_array();
        let shown = |error: &Value| {
            let text = |member: &str| error[member].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("source"), text("code"))
        };
        errors
            .map(|errors| errors.iter().map(shown).collect())
            .unwrap_or_default()
    }

    /// `signed`, genuine, and whether it was registered before: what almost every test wants to know.
    pub(crate) fn assert_signed(&self, recovered: bool) {
        assert_eq!(self.status(), "signed", "{}", self.json);
        assert_eq!(self.text("signature"), "verified", "{}", self.json);
        assert_eq!(self.json["recovered"], recovered, "{}", self.json);
        assert_eq!(self.json["errors"], serde_json::json!([]), "{}", self.json);
    }
}
