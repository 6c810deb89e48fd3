//! Signed invoices and signed QR codes as the portal makes them: a JWT of exactly two claims, `data` (JSON in a
//! string) and `iss`, signed RS256 (RFC 7515, RFC 7518 section 3.3; header and claims as in the portal's own tokens).

use std::fmt::Write;

use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::irn::irn_of_parts;

/// A signing key with the name its tokens carry.
pub(crate) struct Signer {
    key: RsaKeyPair,
    rng: SystemRandom,
    /// The encoded header with its dot, the same for every token.
    head: String,
}

#[derive(Serialize, Deserialize)]
struct Claims<T> {
    data: T,
    iss: String,
}

impl Signer {
    /// `thumbprint` is the SHA-1 of the certificate: in hex it is the `kid`, in base64url the `x5t`.
    pub(crate) fn new(key: RsaKeyPair, thumbprint: &[u8]) -> Self {
        let kid = hex(thumbprint).to_uppercase();
        let x5t = BASE64_URL_SAFE_NO_PAD.encode(thumbprint);
        let header = format!(r#"{{"alg":"RS256","kid":"{kid}","typ":"JWT","x5t":"{x5t}"}}"#);
        let mut head = BASE64_URL_SAFE_NO_PAD.encode(header);
        head.push('.');
        Self {
            key,
            rng: SystemRandom::new(),
            head,
        }
    }

    /// The token whose `data` claim is `data`.
    pub(crate) fn sign(&self, data: &str) -> String {
        let claims = Claims {
            data,
            iss: "NIC".to_owned(),
        };
        let payload = serde_json::to_vec(&claims).expect("two strings are always JSON");
        let mut token = String::with_capacity(self.head.len() + payload.len() * 4 / 3 + 352);
        token.push_str(&self.head);
        BASE64_URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &self.rng,
                token.as_bytes(),
                &mut signature,
            )
            .expect("a 2048-bit key has room for a SHA-256 signature");
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

/// The `data` claim of a token made here.
fn data_of(token: &str) -> Result<String> {
    let payload = token.split('.').nth(1).context("a token has three parts")?;
    let claims: Claims<String> = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload)?)?;
    Ok(claims.data)
}

/// The same token with a signature that does not verify.
pub(crate) fn with_broken_signature(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    if let Some(byte) = bytes.get_mut(100) {
        *byte ^= 1;
    }
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// The same content signed by `signer`.
///
/// # Errors
/// When `token` is not one of ours.
pub(crate) fn resigned(token: &str, signer: &Signer) -> Result<String> {
    Ok(signer.sign(&data_of(token)?))
}

/// Properly signed, but about another document: its number, its IRN and its total differ. Handles both kinds of token.
///
/// # Errors
/// When `token` is not one of ours.
pub(crate) fn of_another_document(token: &str, signer: &Signer) -> Result<String> {
    let mut data: Value = serde_json::from_str(&data_of(token)?)?;
    let is_qr = data.get("DocNo").is_some();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (gstin, typ, number, day) = if is_qr {
        (
            text(&data["SellerGstin"]),
            text(&data["DocTyp"]),
            text(&data["DocNo"]),
            text(&data["DocDt"]),
        )
    } else {
        let doc = &data["DocDtls"];
        (
            text(&data["SellerDtls"]["Gstin"]),
            text(&doc["Typ"]),
            text(&doc["No"]),
            text(&doc["Dt"]),
        )
    };
    let other = other_number(&number);
    data["Irn"] =
        json!(irn_of_parts(&gstin, &day, &typ, &other).context("the document was registered")?);
    if is_qr {
        data["DocNo"] = json!(other);
        data["TotInvVal"] = json!(1.0);
    } else {
        data["DocDtls"]["No"] = json!(other);
        data["ValDtls"]["TotInvVal"] = json!(1.0);
    }
    Ok(signer.sign(&data.to_string()))
}

/// Another number of the same length, so that it stays a legal one.
fn other_number(number: &str) -> String {
    let last = number.chars().next_back().unwrap_or('0');
    let stem = &number[..number.len() - last.len_utf8().min(number.len())];
    format!("{stem}{}", if last == '9' { '8' } else { '9' })
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String does not fail");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    #[test]
    fn header_and_claims_have_the_portals_shape() -> Result<()> {
        let token = keys::stranger()?.sign(r#"{"DocNo":"SI/1"}"#);
        let parts: Vec<&str> = token.split('.').collect();
        let decode =
            |part| String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let header: Value = serde_json::from_str(&decode(parts[0]))?;
        assert!(decode(parts[0]).starts_with(r#"{"alg":"RS256","kid":""#));
        let kid = header["kid"].as_str().unwrap();
        assert_eq!((kid.len(), kid.to_uppercase()), (40, kid.to_owned()));
        let thumbprint = BASE64_URL_SAFE_NO_PAD.decode(header["x5t"].as_str().unwrap())?;
        assert_eq!(hex(&thumbprint).to_uppercase(), kid);
        assert_eq!(
            decode(parts[1]),
            r#"{"data":"{\"DocNo\":\"SI/1\"}","iss":"NIC"}"#
        );
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(parts[2])?.len(), 256);
        Ok(())
    }

    #[test]
    fn every_tampering_changes_the_token() -> Result<()> {
        let signer = keys::stranger()?;
        let data = r#"{"SellerGstin":"29AAGCE4783K1Z1","DocNo":"SI/9","DocTyp":"INV","DocDt":"05/09/2025","TotInvVal":9.0}"#;
        let token = signer.sign(data);
        let broken = with_broken_signature(&token);
        assert_ne!(broken, token);
        assert_eq!(broken.len(), token.len());
        assert_ne!(resigned(&token, &keys::stranger()?)?, token);
        let other: Value = serde_json::from_str(&data_of(&of_another_document(&token, &signer)?)?)?;
        assert_eq!(other["DocNo"], "SI/8");
        assert_eq!(other["Irn"].as_str().unwrap().len(), 64);
        Ok(())
    }
}
