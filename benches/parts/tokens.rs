//! What a portal signs, under a key made for this run.

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::prelude::*;
use irn_worker::config::SigningKeyFile;
use irn_worker::signature::Keyring;

const KID: &str = "parts";

/// A portal's key of the usual length: RSA, 2048 bits.
pub(crate) struct Signer {
    pair: RsaKeyPair,
    public_pem: String,
}

impl Signer {
    pub(crate) fn new() -> Result<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
        Ok(Self {
            pair: RsaKeyPair::from_pkcs8(&key.serialize_der())?,
            public_pem: key.public_key_pem(),
        })
    }

    /// The keys a worker would be given.
    pub(crate) fn keyring(&self) -> Result<Keyring> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("signing.pem");
        std::fs::write(&file, &self.public_pem)?;
        let key = SigningKeyFile {
            file,
            kid: Some(KID.to_owned()),
        };
        Keyring::load(&[key])
            .map_err(|faults| anyhow!("{} faults in a key made here", faults.len()))
    }

    /// A token of about this length.
    pub(crate) fn token(&self, length: usize) -> Result<String> {
        let around = self.sign("")?.len();
        let claims = length
            .checked_sub(around)
            .context("shorter than the signature")?;
        // Base64 makes four letters of three bytes.
        self.sign(&"a".repeat(claims / 4 * 3))
    }

    fn sign(&self, data: &str) -> Result<String> {
        let header = BASE64_URL_SAFE_NO_PAD
            .encode(format!(r#"{{"alg":"RS256","kid":"{KID}","typ":"JWT"}}"#));
        let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"data":"{data}","iss":"NIC"}}"#));
        let signed = format!("{header}.{claims}");
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            signed.as_bytes(),
            &mut signature,
        )?;
        Ok(format!(
            "{signed}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(&signature)
        ))
    }
}
