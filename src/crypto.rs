//! The portal's arithmetic: RSA for the login, AES-256-ECB for everything after it. Bytes in, bytes out.
//!
//! One rule: keys and opened answers live in buffers that are wiped on drop, and nothing here can print them.

use std::fmt;

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::common::InnerInit;
use aes::cipher::{BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, KeyInit};
use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use rand::RngCore;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Encrypt, RsaPublicKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::wiped::Wiped;

const KEY_LENGTH: usize = 32;
const BLOCK: usize = 16;

/// How much is sealed at a time: whole AES blocks and whole base64 groups, so that the pieces' texts can be
/// joined; small enough to live on the stack and in the first-level cache.
const PIECE: usize = 3 * 1024;

/// Standard base64 whose padding may be missing, as some gateways drop it.
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why bytes could not be opened or sealed. Never says what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// Not base64, or not whole AES blocks.
    #[error("the ciphertext is not base64 of whole AES blocks")]
    NotCiphertext,
    /// The padding is wrong after decryption: another key sealed it.
    #[error("the ciphertext was not sealed with this key")]
    WrongKey,
    /// A session key that is not 32 bytes long.
    #[error("the session key does not have 32 bytes")]
    BadSessionKey,
    /// User name and password are longer than one RSA block can carry.
    #[error("the login does not fit into one block of the portal's RSA key")]
    LoginTooLong,
    /// The file holds no RSA public key of at least 2048 bits.
    #[error("no RSA public key of 2048 to 8192 bits was found in PEM form")]
    BadPublicKey,
}

/// The key a login makes up: the portal wraps the session key with it (NIC, "Authentication" v1.04).
#[derive(Clone)]
pub struct AppKey(Key);

/// The key that seals requests and answers of one session: `Sek` on the wire, unwrapped.
pub struct SessionKey(Key);

#[derive(Clone)]
struct Key(Zeroizing<[u8; KEY_LENGTH]>);

impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppKey(..)")
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

impl AppKey {
    /// 32 random bytes from a cryptographic generator seeded by the operating system.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
        rand::rng().fill_bytes(bytes.as_mut());
        Self(Key(bytes))
    }

    /// The 44 characters that go into the login.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(self.0.0.as_ref()))
    }

    /// Unwraps the `Sek` of the answer to the very login that carried this key.
    pub fn unwrap_session_key(&self, sek_base64: &str) -> Result<SessionKey, CryptoError> {
        SessionKey::of(&self.0.open(sek_base64)?)
    }

    /// Opens what was sealed with this key: some portals seal the whole answer to a login.
    pub fn open(&self, data_base64: &str) -> Result<Wiped<Vec<u8>>, CryptoError> {
        self.0.open(data_base64)
    }
}

impl SessionKey {
    /// Reads the `Sek` of an answer that was sealed as a whole, which holds the key itself (IRIS).
    pub fn from_base64(text: &str) -> Result<Self, CryptoError> {
        let bytes = decode_base64(text).map(Zeroizing::new);
        Self::of(&bytes.ok_or(CryptoError::BadSessionKey)?)
    }

    fn of(bytes: &[u8]) -> Result<Self, CryptoError> {
        let bytes = bytes.try_into().map_err(|_| CryptoError::BadSessionKey)?;
        Ok(Self(Key(Zeroizing::new(bytes))))
    }

    /// Seals a request's payload: base64(AES-256-ECB-PKCS7(plain)), in one allocation.
    pub fn seal(&self, plain: &[u8]) -> String {
        let mut text = String::with_capacity(sealed_length(plain.len()));
        self.seal_into(plain, &mut text);
        text
    }

    /// Appends the sealed payload to `text`, which grows by [`sealed_length`].
    pub fn seal_into(&self, plain: &[u8], text: &mut String) {
        self.0.seal_into(plain, text);
    }

    /// Opens an answer's `Data`.
    pub fn open(&self, data_base64: &str) -> Result<Wiped<Vec<u8>>, CryptoError> {
        self.0.open(data_base64)
    }
}

/// The length in characters of a payload of `plain` bytes once sealed.
pub const fn sealed_length(plain: usize) -> usize {
    ((plain / BLOCK + 1) * BLOCK).div_ceil(3) * 4
}

impl Key {
    fn cipher(&self) -> Aes256 {
        Aes256::new((&*self.0).into())
    }

    fn seal_into(&self, plain: &[u8], text: &mut String) {
        let cipher = self.cipher();
        let mut buffer = [0; PIECE + BLOCK];
        let mut pieces = plain.chunks_exact(PIECE);
        for piece in &mut pieces {
            buffer[..PIECE].copy_from_slice(piece);
            let (blocks, _) = aes::Block::slice_as_chunks_mut(&mut buffer[..PIECE]);
            cipher.encrypt_blocks(blocks);
            base64_simd::STANDARD.encode_append(&buffer[..PIECE], text);
        }
        let rest = pieces.remainder();
        buffer[..rest.len()].copy_from_slice(rest);
        let sealed = ecb::Encryptor::inner_init(cipher)
            .encrypt_padded::<Pkcs7>(&mut buffer, rest.len())
            .expect("the buffer has a block more than the longest piece, so the padding fits");
        base64_simd::STANDARD.encode_append(sealed, text);
    }

    fn open(&self, data_base64: &str) -> Result<Wiped<Vec<u8>>, CryptoError> {
        let mut bytes = Wiped::new(decode_base64(data_base64).ok_or(CryptoError::NotCiphertext)?);
        if bytes.is_empty() || bytes.len() % BLOCK != 0 {
            return Err(CryptoError::NotCiphertext);
        }
        let length = ecb::Decryptor::inner_init(self.cipher())
            .decrypt_padded::<Pkcs7>(&mut bytes)
            .map_err(|_| CryptoError::WrongKey)?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Reads standard base64, also where a gateway has dropped its padding or broken it into lines (RFC 2045, section 6.8).
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    if let Ok(bytes) = base64_simd::STANDARD.decode_to_vec(text) {
        return Some(bytes);
    }
    let mut compact = Wiped::new(Vec::with_capacity(text.len()));
    compact.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    TOLERANT.decode(compact.as_slice()).ok()
}

/// The portal's RSA key that encrypts logins. Another key than the one that signs invoices (NIC, error 1013).
#[derive(Clone, Debug)]
pub struct LoginKey(RsaPublicKey);

impl LoginKey {
    /// Reads a PEM text: `PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`.
    pub fn from_pem(text: &str) -> Result<Self, CryptoError> {
        let key = RsaPublicKey::from_public_key_pem(text)
            .ok()
            .or_else(|| RsaPublicKey::from_pkcs1_pem(text).ok())
            .or_else(|| certified_key(text))
            .ok_or(CryptoError::BadPublicKey)?;
        (256..=1024)
            .contains(&key.size())
            .then_some(Self(key))
            .ok_or(CryptoError::BadPublicKey)
    }

    /// Encrypts a login: base64(RSA-PKCS1v15(base64(json))). The inner base64 is the portal's rule
    /// (NIC, "Authentication" v1.04).
    pub fn seal_login(&self, json: &[u8]) -> Result<String, CryptoError> {
        let inner = Zeroizing::new(BASE64_STANDARD.encode(json));
        let sealed = self
            .0
            .encrypt(
                &mut rsa::rand_core::OsRng,
                Pkcs1v15Encrypt,
                inner.as_bytes(),
            )
            .map_err(|_| CryptoError::LoginTooLong)?;
        Ok(BASE64_STANDARD.encode(sealed))
    }
}

fn certified_key(text: &str) -> Option<RsaPublicKey> {
    let der = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    RsaPublicKey::from_public_key_der(certificate.public_key().raw).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rsa::pkcs8::{EncodePublicKey, LineEnding};
    use rsa::{RsaPrivateKey, pkcs1::EncodeRsaPublicKey};
    use serde::Deserialize;
    use std::sync::LazyLock;

    #[derive(Deserialize)]
    struct Vectors {
        app_key_base64: String,
        session_key_base64: String,
        sek_field: String,
        payload: String,
        data_field: String,
        auth_json: String,
        rsa_input: String,
    }

    static VECTORS: LazyLock<Vectors> = LazyLock::new(|| {
        serde_json::from_str(include_str!("../tests/vectors/crypto.json")).unwrap()
    });
    static PORTAL: LazyLock<RsaPrivateKey> =
        LazyLock::new(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap());

    fn key(bytes: [u8; 32]) -> Key {
        Key(Zeroizing::new(bytes))
    }

    fn app_key() -> AppKey {
        let bytes = BASE64_STANDARD.decode(&VECTORS.app_key_base64).unwrap();
        AppKey(key(bytes.try_into().unwrap()))
    }

    #[test]
    fn session_key_of_the_vector_is_unwrapped() {
        let session = app_key().unwrap_session_key(&VECTORS.sek_field).unwrap();
        assert_eq!(
            BASE64_STANDARD.encode(session.0.0.as_ref()),
            VECTORS.session_key_base64
        );
        assert_eq!(*app_key().to_base64(), VECTORS.app_key_base64);
    }

    #[test]
    fn payload_of_the_vector_is_sealed_and_opened() {
        let session = app_key().unwrap_session_key(&VECTORS.sek_field).unwrap();
        assert_eq!(session.seal(VECTORS.payload.as_bytes()), VECTORS.data_field);
        assert_eq!(
            session.open(&VECTORS.data_field).unwrap().as_slice(),
            VECTORS.payload.as_bytes()
        );
        let unpadded = VECTORS.data_field.trim_end_matches('=');
        assert!(session.open(unpadded).is_ok());
    }

    #[test]
    fn login_is_base64_inside_rsa_inside_base64() {
        let login_key = LoginKey(PORTAL.to_public_key());
        let sealed = login_key.seal_login(VECTORS.auth_json.as_bytes()).unwrap();
        assert_eq!(sealed.len(), 344);
        let opened = PORTAL
            .decrypt(Pkcs1v15Encrypt, &BASE64_STANDARD.decode(sealed).unwrap())
            .unwrap();
        assert_eq!(opened, VECTORS.rsa_input.as_bytes());
    }

    #[test]
    fn login_of_183_bytes_fits_and_of_184_does_not() {
        let login_key = LoginKey(PORTAL.to_public_key());
        assert!(login_key.seal_login(&[b'x'; 183]).is_ok());
        assert_eq!(
            login_key.seal_login(&[b'x'; 184]),
            Err(CryptoError::LoginTooLong)
        );
    }

    #[test]
    fn login_key_is_read_from_each_pem_form() {
        let public = PORTAL.to_public_key();
        let forms = [
            public.to_public_key_pem(LineEnding::LF).unwrap(),
            public.to_pkcs1_pem(LineEnding::CRLF).unwrap(),
            certificate(&PORTAL),
        ];
        for pem in forms {
            assert_eq!(LoginKey::from_pem(&pem).unwrap().0, public, "{pem}");
        }
        for pem in [
            "",
            "nonsense",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ] {
            assert_eq!(
                LoginKey::from_pem(pem).unwrap_err(),
                CryptoError::BadPublicKey,
                "{pem}"
            );
        }
    }

    fn certificate(key: &RsaPrivateKey) -> String {
        use rsa::pkcs8::EncodePrivateKey;
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        let pair =
            rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &rcgen::PKCS_RSA_SHA256).unwrap();
        rcgen::CertificateParams::new(vec!["portal".to_owned()])
            .unwrap()
            .self_signed(&pair)
            .unwrap()
            .pem()
    }

    #[test]
    fn keys_print_nothing() {
        let session = app_key().unwrap_session_key(&VECTORS.sek_field).unwrap();
        assert_eq!(
            format!("{:?} {session:?}", app_key()),
            "AppKey(..) SessionKey(..)"
        );
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(
            AppKey::generate().to_base64(),
            AppKey::generate().to_base64()
        );
        assert_eq!(AppKey::generate().to_base64().len(), 44);
    }

    #[test]
    fn session_key_of_another_length_is_refused() {
        let mut sealed = String::new();
        app_key().0.seal_into(&[7; 31], &mut sealed);
        assert_eq!(
            app_key().unwrap_session_key(&sealed).unwrap_err(),
            CryptoError::BadSessionKey
        );
    }

    #[test]
    fn sealing_agrees_with_whole_buffer_encryption_around_every_piece_boundary() {
        for length in [
            0,
            1,
            15,
            16,
            17,
            PIECE - 1,
            PIECE,
            PIECE + 1,
            3 * PIECE,
            3 * PIECE + 17,
        ] {
            let plain: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let key = key([9; 32]);
            let mut whole = plain.clone();
            whole.resize(length + BLOCK, 0);
            let whole = ecb::Encryptor::inner_init(key.cipher())
                .encrypt_padded::<Pkcs7>(&mut whole, length)
                .unwrap()
                .to_vec();
            let mut text = String::new();
            key.seal_into(&plain, &mut text);
            assert_eq!(text, BASE64_STANDARD.encode(whole), "{length}");
            assert_eq!(text.len(), sealed_length(length), "{length}");
        }
    }

    proptest! {
        #[test]
        fn opening_what_was_sealed_is_identity(bytes: [u8; 32], plain in proptest::collection::vec(any::<u8>(), 0..8000)) {
            let session = SessionKey(key(bytes));
            let opened = session.open(&session.seal(&plain)).unwrap();
            prop_assert_eq!(opened.as_slice(), plain.as_slice());
        }

        #[test]
        fn opening_any_text_never_panics(text in ".{0,200}", blocks in proptest::collection::vec(any::<u8>(), 0..6 * 16)) {
            let session = SessionKey(key([3; 32]));
            drop(session.open(&text));
            drop(session.open(&BASE64_STANDARD.encode(blocks)));
        }
    }
}
