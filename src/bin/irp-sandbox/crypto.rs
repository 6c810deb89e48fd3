//! The portal's ciphers, from the server's end: RSA-2048 PKCS#1 v1.5 for the login, AES-256-ECB-PKCS7 for everything
//! else (NIC, authentication v1.04 page). Written without a look at the library's own, so that the two cannot share
//! a mistake.

use std::fmt;

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyInit};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::Pkcs1PrivateDecryptingKey;
use base64::prelude::{BASE64_STANDARD, Engine};

/// A 32-byte AES key: the app key a client brings, or the session key the portal gives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A new random key.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).expect("the operating system's generator answers after start-up");
        Self(bytes)
    }

    /// Reads a key from base64; `None` unless it is exactly 32 bytes.
    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        BASE64_STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// Encrypts and encodes, as the `Data` member carries it.
    pub(crate) fn seal(&self, plain: &[u8]) -> String {
        let mut text = String::with_capacity(sealed_length(plain.len()));
        self.seal_into(plain, &mut text);
        text
    }

    /// The same, appended to `text`.
    pub(crate) fn seal_into(&self, plain: &[u8], text: &mut String) {
        let mut buffer = Vec::with_capacity(plain.len() + 16);
        buffer.extend_from_slice(plain);
        buffer.resize(plain.len() + 16, 0);
        let sealed = ecb::Encryptor::<Aes256>::new(&self.0.into())
            .encrypt_padded::<Pkcs7>(&mut buffer, plain.len())
            .expect("a whole spare block is room enough for the padding");
        BASE64_STANDARD.encode_string(sealed, text);
    }

    /// Decodes and decrypts a `Data` member; `None` when it was not sealed under this key.
    pub(crate) fn open(&self, data: &str) -> Option<Vec<u8>> {
        let mut buffer = BASE64_STANDARD.decode(data).ok()?;
        let plain = ecb::Decryptor::<Aes256>::new(&self.0.into())
            .decrypt_padded::<Pkcs7>(&mut buffer)
            .ok()?;
        let length = plain.len();
        buffer.truncate(length);
        Some(buffer)
    }

    /// This key sealed under `app_key`: the `Sek` member.
    pub(crate) fn wrapped_under(&self, app_key: &Key) -> String {
        app_key.seal(&self.0)
    }
}

/// How many characters a payload of `plain` bytes has once it is sealed.
pub(crate) const fn sealed_length(plain: usize) -> usize {
    ((plain / 16 + 1) * 16).div_ceil(3) * 4
}

/// Undoes what a client does to its login: base64 of RSA of base64 of JSON. `None` when any step fails.
pub(crate) fn open_login(key: &Pkcs1PrivateDecryptingKey, data: &str) -> Option<Vec<u8>> {
    let sealed = BASE64_STANDARD.decode(data).ok()?;
    let mut buffer = vec![0; key.min_output_size()];
    let inner = key.decrypt(&sealed, &mut buffer).ok()?;
    BASE64_STANDARD.decode(inner).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../../../tests/vectors/crypto.json")).unwrap()
    }

    #[test]
    fn session_key_and_payload_match_the_published_vectors() {
        let vectors = vectors();
        let text = |name: &str| vectors[name].as_str().unwrap().to_owned();
        let app_key = Key::from_base64(&text("app_key_base64")).unwrap();
        let session_key = Key::from_base64(&text("session_key_base64")).unwrap();
        assert_eq!(session_key.wrapped_under(&app_key), text("sek_field"));
        assert_eq!(
            session_key.seal(text("payload").as_bytes()),
            text("data_field")
        );
        assert_eq!(
            session_key.open(&text("data_field")).unwrap(),
            text("payload").as_bytes()
        );
    }

    #[test]
    fn foreign_and_broken_ciphertexts_do_not_open() {
        let vectors = vectors();
        let data = vectors["data_field"].as_str().unwrap();
        let app_key = Key::from_base64(vectors["app_key_base64"].as_str().unwrap()).unwrap();
        assert!(app_key.open(data).is_none());
        assert!(app_key.open("not base64!").is_none());
        assert!(app_key.open("AAAA").is_none());
        assert!(app_key.open("").is_none());
    }

    #[test]
    fn app_keys_of_another_length_are_refused() {
        assert!(Key::from_base64(&BASE64_STANDARD.encode([0; 31])).is_none());
        assert!(Key::from_base64(&BASE64_STANDARD.encode([0; 33])).is_none());
        assert!(Key::from_base64("AAEC").is_none());
    }
}
