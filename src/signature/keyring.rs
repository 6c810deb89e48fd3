//! The portal's public keys, and which of them a token names.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Token, Verdict};
use crate::config::SigningKeyFile;
use crate::irn::hex;

/// Why a key file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("irp.signing_keys: {}: {problem}", file.display())]
pub struct KeyFault {
    /// Which file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// A configured key, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySummary {
    /// Where it came from.
    pub file: PathBuf,
    /// The names it answers to now: none for a bare public key that has verified nothing yet.
    pub kids: Vec<String>,
    /// SHA-256 of its DER form, in hexadecimal.
    pub sha256: String,
}

#[derive(Debug)]
struct Key {
    file: PathBuf,
    /// From the certificate or the configuration; empty for a bare public key.
    kids: Vec<String>,
    /// What a bare key was found to answer to, for the life of the process.
    adopted: OnceLock<String>,
    sha256: String,
    key: ParsedPublicKey,
}

/// All keys that signed data may be verified with.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// Reads certificates and public keys; one file may hold several. All faults come at once.
    pub fn load(files: &[SigningKeyFile]) -> Result<Self, Vec<KeyFault>> {
        let mut keyring = Self::default();
        let mut faults = Vec::new();
        for SigningKeyFile { file, kid } in files {
            match std::fs::read(file) {
                Ok(bytes) => {
                    if let Err(fault) = keyring.add(file, kid.as_deref(), &bytes) {
                        faults.push(fault);
                    }
                }
                Err(error) => faults.push(KeyFault {
                    file: file.clone(),
                    problem: format!("it cannot be read: {error}"),
                    remedy: "check the path and the file's mode; relative paths start at the working directory",
                }),
            }
        }
        if faults.is_empty() {
            Ok(keyring)
        } else {
            Err(faults)
        }
    }

    fn add(&mut self, file: &Path, kid: Option<&str>, bytes: &[u8]) -> Result<(), KeyFault> {
        let fault = |problem: &str| KeyFault {
            file: file.to_owned(),
            problem: problem.to_owned(),
            remedy: "name PEM files with the certificates or public keys that the portal publishes for its signatures",
        };
        let mut blocks = Vec::new();
        for pem in Pem::iter_from_buffer(bytes) {
            let pem = pem.map_err(|_| fault("it is not well-formed PEM"))?;
            match pem.label.as_str() {
                "CERTIFICATE" | "PUBLIC KEY" | "RSA PUBLIC KEY" => {
                    blocks.push((pem.label, pem.contents))
                }
                label if label.ends_with("PRIVATE KEY") => {
                    return Err(fault(
                        "it holds a private key; signatures are verified with public ones",
                    ));
                }
                _ => {}
            }
        }
        if blocks.is_empty() && X509Certificate::from_der(bytes).is_ok() {
            blocks.push(("CERTIFICATE".to_owned(), bytes.to_vec()));
        }
        if blocks.is_empty() {
            return Err(fault("it holds neither a certificate nor a public key"));
        }
        for (label, der) in blocks {
            let key = read_key(file, kid, &label, &der)
                .ok_or_else(|| fault("it holds a key that is not RSA of 2048 to 8192 bits"))?;
            self.keys.push(key);
        }
        Ok(())
    }

    /// Whether no key is configured.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, for `check`.
    pub fn fingerprints(&self) -> Vec<KeySummary> {
        self.keys
            .iter()
            .map(|key| KeySummary {
                file: key.file.clone(),
                kids: key.kids.iter().chain(key.adopted.get()).cloned().collect(),
                sha256: key.sha256.clone(),
            })
            .collect()
    }

    /// Verifies a token with the key it names. A bare public key takes the first name under which it verifies
    /// something; a token that names no key must fit one of ours.
    pub fn verify(&self, token: &Token<'_>) -> Verdict {
        let mut named = self
            .keys
            .iter()
            .filter(|key| key.answers_to(token))
            .peekable();
        if named.peek().is_some() {
            return if named.any(|key| key.signed(token)) {
                Verdict::Verified
            } else {
                Verdict::Bad
            };
        }
        let names_nothing = token.kid.is_none() && token.x5t.is_none();
        for key in self
            .keys
            .iter()
            .filter(|key| names_nothing || key.is_bare())
        {
            if key.signed(token) && key.adopt(token) {
                return Verdict::Verified;
            }
        }
        if names_nothing && !self.is_empty() {
            Verdict::Bad
        } else {
            Verdict::UnknownKey
        }
    }

    /// Verifies both tokens of a registration and says the worse of it. A bare key that the second one gives its
    /// name to is held against the first as well.
    pub fn verify_both(&self, invoice: &Token<'_>, qr_code: &Token<'_>) -> Verdict {
        let mut verdicts = [self.verify(invoice), self.verify(qr_code)];
        if verdicts == [Verdict::UnknownKey, Verdict::Verified] {
            verdicts[0] = self.verify(invoice);
        }
        let any = |verdict| verdicts.contains(&verdict);
        if any(Verdict::Bad) {
            Verdict::Bad
        } else if any(Verdict::UnknownKey) {
            Verdict::UnknownKey
        } else {
            Verdict::Verified
        }
    }
}

impl Key {
    fn is_bare(&self) -> bool {
        self.kids.is_empty() && self.adopted.get().is_none()
    }

    fn answers_to(&self, token: &Token<'_>) -> bool {
        let names = [&token.kid, &token.x5t];
        self.kids
            .iter()
            .chain(self.adopted.get())
            .any(|kid| names.into_iter().flatten().any(|name| same_name(kid, name)))
    }

    fn signed(&self, token: &Token<'_>) -> bool {
        self.key
            .verify_sig(token.signed.as_bytes(), &token.signature)
            .is_ok()
    }

    /// Takes the token's name, if it has one and this key is bare; false if another name came first meanwhile.
    fn adopt(&self, token: &Token<'_>) -> bool {
        match token.kid.as_ref().or(token.x5t.as_ref()) {
            Some(name) => self.adopted.get_or_init(|| name.clone()) == name,
            None => true,
        }
    }
}

/// A thumbprint is the same in either case; anything else must match exactly.
fn same_name(ours: &str, theirs: &str) -> bool {
    let is_thumbprint =
        |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    ours == theirs || (is_thumbprint(ours) && ours.eq_ignore_ascii_case(theirs))
}

fn read_key(file: &Path, kid: Option<&str>, label: &str, der: &[u8]) -> Option<Key> {
    let mut kids: Vec<String> = kid.map(str::to_owned).into_iter().collect();
    let key = if label == "CERTIFICATE" {
        // The portal names its keys by the certificate's SHA-1: in hexadecimal as `kid`, in base64url as `x5t`.
        let thumbprint = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, der);
        kids.push(hex(thumbprint.as_ref()).to_ascii_uppercase());
        kids.push(BASE64_URL_SAFE_NO_PAD.encode(thumbprint.as_ref()));
        X509Certificate::from_der(der)
            .ok()?
            .1
            .public_key()
            .raw
            .to_vec()
    } else {
        der.to_vec()
    };
    Some(Key {
        file: file.to_owned(),
        kids,
        adopted: OnceLock::new(),
        sha256: hex(digest::digest(&SHA256, der).as_ref()),
        key: ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key).ok()?,
    })
}
