//! `verify`: whether a signed invoice or QR code is genuine, and what it says.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::signature::{Keyring, Token, Verdict};

/// One token's verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// `genuine`, `unknown_key`, `forged` or `malformed`.
    pub verdict: &'static str,
    /// The key it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Why it is malformed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What it says. Shown whatever the verdict; believe it only if that is `genuine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    #[serde(skip)]
    token: String,
}

impl Verified {
    /// Whether a configured key signed it.
    pub fn is_genuine(&self) -> bool {
        self.verdict == "genuine"
    }

    /// Its verdict and fields, a line each; nested parts as JSON.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let words = match self.verdict {
            "genuine" => "signature verified: the portal signed exactly this",
            "unknown_key" => "NOT VERIFIED: it is signed under a key that is not configured",
            "forged" => "FORGED OR CHANGED: the key it names did not sign this",
            _ => "NOT A TOKEN of the portal",
        };
        writeln!(out, "{words}")?;
        if let Some(problem) = &self.problem {
            writeln!(out, "  {problem}")?;
        }
        if let Some(kid) = &self.kid {
            writeln!(out, "  {:<14} {kid}", "kid")?;
        }
        if let Some(Value::Object(fields)) = &self.data {
            for (name, value) in fields {
                match value {
                    Value::String(text) => writeln!(out, "  {name:<14} {text}")?,
                    other => writeln!(out, "  {name:<14} {other}")?,
                }
            }
        }
        Ok(())
    }

    /// The token as a QR code of half-height blocks. `None` if it is too long for one. `in_colour` makes it black on
    /// white, as scanners want it, on a terminal of whatever colours.
    pub fn qr_code(&self, in_colour: bool) -> Option<String> {
        let code =
            qrcode::QrCode::with_error_correction_level(&self.token, qrcode::EcLevel::L).ok()?;
        let drawn = code
            .render::<qrcode::render::unicode::Dense1x2>()
            .quiet_zone(true)
            .build();
        let paint = |line: &str| format!("\x1b[30;107m{line}\x1b[0m\n");
        Some(if in_colour {
            drawn.lines().map(paint).collect()
        } else {
            drawn
        })
    }
}

/// Verifies every token in a text: one per line, or inside a result of this worker or an answer of the portal.
pub fn verify(keyring: &Keyring, text: &str) -> Vec<Verified> {
    tokens_in(text)
        .into_iter()
        .map(|token| verify_one(keyring, token))
        .collect()
}

/// The tokens of JSON values (any text member that looks like one, at any depth), else each line that is not empty.
fn tokens_in(text: &str) -> Vec<String> {
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect();
    match values {
        Ok(values) if !values.is_empty() => {
            let mut tokens = Vec::new();
            values.iter().for_each(|value| collect(value, &mut tokens));
            tokens
        }
        _ => text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}

fn collect(value: &Value, tokens: &mut Vec<String>) {
    match value {
        Value::String(text) if Token::parse(text).is_ok() => tokens.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, tokens)),
        Value::Object(members) => members.values().for_each(|value| collect(value, tokens)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn verify_one(keyring: &Keyring, text: String) -> Verified {
    let parsed = Token::parse(&text).map(|token| {
        let verdict = match keyring.verify(&token) {
            Verdict::Verified => "genuine",
            Verdict::UnknownKey => "unknown_key",
            Verdict::Bad => "forged",
        };
        let data = token
            .data()
            .ok()
            .and_then(|data| serde_json::from_str(&data).ok());
        (verdict, token.kid().map(str::to_owned), data)
    });
    match parsed {
        Ok((verdict, kid, data)) => Verified {
            verdict,
            kid,
            problem: None,
            data,
            token: text,
        },
        Err(problem) => Verified {
            verdict: "malformed",
            kid: None,
            problem: Some(problem.to_string()),
            data: None,
            token: text,
        },
    }
}
