//! `verify`: whether a signed invoice or QR code is genuine, and what it says.

use std::fmt;
use std::io::{self, Write};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::dead_letters::plain;
use crate::document::string;
use crate::signature::{Keyring, Token, Verdict};

/// The members with the whole signed invoice, in a result and in the portal's answers.
const WHOLE_INVOICES: [&str; 2] = ["signed_invoice", "SignedInvoice"];

/// Those with what is printed.
const PRINTED: [&str; 3] = ["signed_qr_code", "SignedQRCode", "SignedQrCode"];

/// One token's verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// The member of a result or of the portal's answer that it stood in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// `genuine`, `unknown_key`, `forged` or `malformed`.
    pub verdict: &'static str,
    /// The key it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Why it is malformed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What it says, to the digit. Shown whatever the verdict; believe it only if that is `genuine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    #[serde(skip)]
    token: String,
}

impl Verified {
    /// Whether a configured key signed it.
    pub fn is_genuine(&self) -> bool {
        self.verdict == "genuine"
    }

    /// Whether it may be the code that is printed on the invoice: the signed invoice itself is as large, and is not.
    pub fn is_drawn(&self) -> bool {
        let member = self.member.as_deref();
        member.is_none_or(|member| !WHOLE_INVOICES.contains(&member))
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
        match &self.member {
            Some(member) => writeln!(out, "{member}: {words}")?,
            None => writeln!(out, "{words}")?,
        }
        if let Some(problem) = &self.problem {
            writeln!(out, "  {problem}")?;
        }
        // What a forger wrote cannot act on the terminal.
        let plain = |text: &str| plain(text, usize::MAX);
        if let Some(kid) = &self.kid {
            writeln!(out, "  {:<14} {}", "kid", plain(kid))?;
        }
        let fields = self.data.as_deref().map(RawValue::get);
        let fields = fields.and_then(|data| serde_json::from_str::<Fields<'_>>(data).ok());
        for (name, value) in fields.into_iter().flat_map(|Fields(fields)| fields) {
            let text = string(value).unwrap_or_else(|| value.get().into());
            writeln!(out, "  {:<14} {}", plain(&name), plain(&text))?;
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
        .map(|(member, token)| verify_one(keyring, member, token))
        .collect()
}

/// The tokens of JSON values (any text member that looks like one, at any depth), else each line that is not empty.
fn tokens_in(text: &str) -> Vec<(Option<String>, String)> {
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect();
    match values {
        Ok(values) if !values.is_empty() => {
            let mut tokens = Vec::new();
            values
                .iter()
                .for_each(|value| collect(None, value, &mut tokens));
            tokens
        }
        _ => text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| (None, line.to_owned()))
            .collect(),
    }
}

fn collect(member: Option<&str>, value: &Value, tokens: &mut Vec<(Option<String>, String)>) {
    match value {
        Value::String(text) if Token::parse(text).is_ok() => {
            let known = member.filter(|it| WHOLE_INVOICES.contains(it) || PRINTED.contains(it));
            tokens.push((known.map(str::to_owned), text.clone()));
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect(member, value, tokens)),
        Value::Object(members) => members
            .iter()
            .for_each(|(member, value)| collect(Some(member), value, tokens)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn verify_one(keyring: &Keyring, member: Option<String>, text: String) -> Verified {
    let parsed = Token::parse(&text).map(|token| {
        let verdict = match keyring.verify(&token) {
            Verdict::Verified => "genuine",
            Verdict::UnknownKey => "unknown_key",
            Verdict::Bad => "forged",
        };
        let data = token.data().ok().and_then(|data| on_one_line(&data));
        (verdict, token.kid().map(str::to_owned), data)
    });
    match parsed {
        Ok((verdict, kid, data)) => Verified {
            member,
            verdict,
            kid,
            problem: None,
            data,
            token: text,
        },
        Err(problem) => Verified {
            member,
            verdict: "malformed",
            kid: None,
            problem: Some(problem.to_string()),
            data: None,
            token: text,
        },
    }
}

/// JSON as it came, but for line breaks between its parts.
fn on_one_line(json: &str) -> Option<Box<RawValue>> {
    serde_json::from_str::<&RawValue>(json).ok()?;
    // Within its texts there are none.
    let line = json.replace(|it: char| it.is_ascii_control(), " ");
    RawValue::from_string(line).ok()
}

/// The members of an object, in the order in which they were signed.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = members.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    #[test]
    fn what_a_forger_wrote_stays_on_its_line() {
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        let header = part(r#"{"alg":"RS256","kid":"\u001b[2J"}"#);
        let data = r#"{"data":"{\"A\\nB\":\"\\u001b[2J\\nsignature verified\"}"}"#;
        let token = format!("{header}.{}.{}", part(data), part("x"));
        let verified = verify(&Keyring::default(), &token);
        let mut shown = Vec::new();
        verified[0].write(&mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("signature verified"), "{shown:?}");
        assert_eq!(shown.lines().count(), 3, "{shown:?}");
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn amounts_are_shown_to_the_digit_and_members_in_the_order_in_which_they_were_signed() {
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        let header = part(r#"{"alg":"RS256"}"#);
        let data =
            r#"{"data":"{\"TotInvVal\":21851.10,\n\"ItemCnt\":1,\"A\":[99999999999999.99]}"}"#;
        let token = format!("{header}.{}.{}", part(data), part("x"));
        let verified = verify(&Keyring::default(), &token);
        let mut shown = Vec::new();
        verified[0].write(&mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        let signed = [
            "TotInvVal",
            "21851.10",
            "ItemCnt",
            "1",
            "A",
            "[99999999999999.99]",
        ];
        let words: Vec<_> = shown.split_whitespace().collect();
        assert!(words.ends_with(&signed), "{words:?}");
        let json = serde_json::to_string(&verified).unwrap();
        assert!(
            json.contains(r#""TotInvVal":21851.10, "ItemCnt":1"#),
            "{json}"
        );
    }
}
