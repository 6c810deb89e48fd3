//! What the portal signed: whether a key we were given signed it, what it says, and whether that is our document.
//!
//! One rule: nothing is taken from a token before three parts, canonical base64url and `RS256` are seen to, and
//! only [`Verdict::Verified`] means that the portal said it.

mod claims;
mod data;
mod keyring;

use std::fmt;

use serde_json::value::RawValue;

use crate::document::{Lines, members_of, string};
use crate::wiped::Wiped;

pub use claims::{InvoiceData, Mismatch, QrData, compare, compare_lines};
pub use keyring::{KeyFault, KeySummary, Keyring};

/// What verification says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A configured key signed exactly these bytes.
    Verified,
    /// It names a key nobody configured.
    UnknownKey,
    /// It was not signed by the key it names.
    Bad,
}

/// A text that is not a token of the portal: not three parts of base64url, or not RS256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signed token of the portal: {0}")]
pub struct Malformed(&'static str);

/// A decoded, not yet verified token (RFC 7515, compact form).
pub struct Token<'a> {
    signed: &'a str,
    payload: Wiped<Vec<u8>>,
    signature: Vec<u8>,
    kid: Option<String>,
    x5t: Option<String>,
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?})", self.kid)
    }
}

impl<'a> Token<'a> {
    /// Takes a token apart. `alg` must be RS256: `none` proves nothing, and with HS256 a public key would do as the
    /// secret (RFC 8725, section 3.1).
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let (signed, header, payload, signature) = parts(text)?;
        let header = decode(header)?;
        let header =
            std::str::from_utf8(&header).map_err(|_| Malformed("its header is not JSON"))?;
        let [alg, kid, x5t, critical] = members_of(header, ["alg", "kid", "x5t", "crit"])
            .map_err(|_| Malformed("its header is not JSON"))?;
        if alg.and_then(string).as_deref() != Some("RS256") {
            return Err(Malformed("it is not signed with RS256"));
        }
        if critical.is_some() {
            return Err(Malformed("it demands an extension (crit)"));
        }
        Ok(Self {
            signed,
            payload: decode(payload)?,
            signature: decode(signature)?.to_vec(),
            kid: owned(kid),
            x5t: owned(x5t),
        })
    }

    /// Takes a token apart that nobody is going to verify: whatever its algorithm, and with padding too. No key verifies what
    /// comes of it.
    pub fn parse_unproven(text: &'a str) -> Result<Self, Malformed> {
        let (signed, _, payload, _) = parts(text)?;
        Ok(Self {
            signed,
            payload: decode(payload.trim_end_matches('='))?,
            signature: Vec::new(),
            kid: None,
            x5t: None,
        })
    }

    /// The key it names (`kid`), if it names one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its `data` claim, a JSON object in a text (NIC) or as it is. Says nothing of who wrote it.
    pub fn data(&self) -> Result<Wiped<String>, Malformed> {
        self.data_by(data::data_of)
    }

    fn data_by(&self, read: fn(&str) -> Option<String>) -> Result<Wiped<String>, Malformed> {
        const PROBLEM: Malformed = Malformed("it has no data claim");
        let payload = simdutf8::basic::from_utf8(&self.payload).map_err(|_| PROBLEM)?;
        if let Some(data) = read(payload) {
            return Ok(Wiped::new(data));
        }
        let [data] = members_of(payload, ["data"]).map_err(|_| PROBLEM)?;
        let data = data.ok_or(PROBLEM)?;
        let text = string(data).map_or_else(|| data.get().to_owned(), std::borrow::Cow::into_owned);
        Ok(Wiped::new(text))
    }

    /// Reads it as a signed QR code.
    pub fn qr_data(&self) -> Result<QrData, Malformed> {
        QrData::read(&self.data()?).ok_or(Malformed("its data is not a JSON object"))
    }

    /// Reads it as a signed invoice.
    pub fn invoice_data(&self) -> Result<InvoiceData, Malformed> {
        let data = self.data_by(data::data_without_lists_of)?;
        InvoiceData::read(&data).ok_or(Malformed("its data is not a JSON object"))
    }

    /// The lines of a signed invoice, if it has readable ones.
    pub fn invoice_lines(&self) -> Option<Lines> {
        Lines::read(&self.data().ok()?)
    }
}

/// What is signed of a compact token, and its three parts.
fn parts(text: &str) -> Result<(&str, &str, &str, &str), Malformed> {
    const PROBLEM: Malformed = Malformed("it has not three parts");
    let (signed, signature) = text.rsplit_once('.').ok_or(PROBLEM)?;
    let (header, payload) = signed.split_once('.').ok_or(PROBLEM)?;
    Ok((signed, header, payload, signature))
}

/// Base64url without padding; bits left over at the end must be zero, or two texts would stand for one token.
fn decode(part: &str) -> Result<Wiped<Vec<u8>>, Malformed> {
    let bytes = base64_simd::URL_SAFE_NO_PAD
        .decode_to_vec(part)
        .map_err(|_| Malformed("it is not base64url"))?;
    Ok(Wiped::new(bytes))
}

fn owned(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(string)
        .map(std::borrow::Cow::into_owned)
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
