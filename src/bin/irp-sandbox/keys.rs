//! The portal's two RSA keys and its signing certificate: made at the first start, kept in the state directory and
//! used again afterwards. Private files are readable by their owner only.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::digest;
use aws_lc_rs::rsa::{Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::RsaKeyPair;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::jwt::Signer;

const AUTH_PRIVATE: &str = "auth_private.pem";
const AUTH_PUBLIC: &str = "auth_public.pem";
const SIGNING_PRIVATE: &str = "signing_private.pem";
const SIGNING_PUBLIC: &str = "signing_public.pem";
const SIGNING_CERTIFICATE: &str = "signing_certificate.pem";

/// What the portal decrypts logins with and signs invoices with.
pub(crate) struct Keys {
    /// Opens logins encrypted with `auth_public.pem`.
    pub(crate) login: Pkcs1PrivateDecryptingKey,
    /// Signs with the key of `signing_certificate.pem`.
    pub(crate) signer: Signer,
}

impl Keys {
    /// Reads the keys in `dir`, or makes them when there are none yet.
    ///
    /// # Errors
    /// When the directory cannot be written or a file in it is not a key.
    pub(crate) fn load_or_create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let login = load_or_create_rsa(dir, AUTH_PRIVATE, AUTH_PUBLIC)?;
        let signing = load_or_create_rsa(dir, SIGNING_PRIVATE, SIGNING_PUBLIC)?;
        let certificate = load_or_create_certificate(dir, &signing)?;
        Ok(Self {
            login: decrypting_key(&login)?,
            signer: signer(&signing, &certificate)?,
        })
    }
}

/// A signer nobody was told about, for answers signed by an unknown key.
///
/// # Errors
/// When the cryptography library cannot make a key.
pub(crate) fn stranger() -> Result<Signer> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    let certificate = self_signed(&key)?;
    signer(&key, certificate.der())
}

fn load_or_create_rsa(dir: &Path, private: &str, public: &str) -> Result<KeyPair> {
    let path = dir.join(private);
    let key = if path.exists() {
        let pem =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_RSA_SHA256)
            .with_context(|| format!("{} is not a PKCS#8 RSA key", path.display()))?
    } else {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        write(&path, &key.serialize_pem(), 0o600)?;
        key
    };
    write(&dir.join(public), &key.public_key_pem(), 0o644)?;
    Ok(key)
}

fn load_or_create_certificate(dir: &Path, key: &KeyPair) -> Result<CertificateDer<'static>> {
    let path = dir.join(SIGNING_CERTIFICATE);
    if path.exists() {
        return CertificateDer::from_pem_file(&path)
            .map_err(|error| anyhow!("{} is not a certificate: {error}", path.display()));
    }
    let certificate = self_signed(key)?;
    write(&path, &certificate.pem(), 0o644)?;
    Ok(certificate.der().clone())
}

fn self_signed(key: &KeyPair) -> Result<rcgen::Certificate> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "irp-sandbox signing");
    name.push(
        DnType::OrganizationName,
        "irp-sandbox, not the government's portal",
    );
    params.distinguished_name = name;
    Ok(params.self_signed(key)?)
}

fn decrypting_key(key: &KeyPair) -> Result<Pkcs1PrivateDecryptingKey> {
    let key = PrivateDecryptingKey::from_pkcs8(key.serialized_der())?;
    Ok(Pkcs1PrivateDecryptingKey::new(key)?)
}

fn signer(key: &KeyPair, certificate: &CertificateDer<'_>) -> Result<Signer> {
    let key = PrivatePkcs8KeyDer::from(key.serialized_der());
    let pair = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der())?;
    // The portal names its key by the certificate's SHA-1 thumbprint (seen in its signed QR codes).
    let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
    Ok(Signer::new(pair, thumbprint.as_ref()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_used_again() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let first = Keys::load_or_create(dir.path())?;
        let files = [AUTH_PUBLIC, SIGNING_PUBLIC, SIGNING_CERTIFICATE];
        let read = |name: &str| fs::read_to_string(dir.path().join(name));
        let before = files.map(|name| read(name).unwrap());
        let second = Keys::load_or_create(dir.path())?;
        assert_eq!(files.map(|name| read(name).unwrap()), before);
        assert!(before[0].starts_with("-----BEGIN PUBLIC KEY-----"));
        assert_ne!(before[0], before[1]);
        assert_eq!(first.signer.sign("{}"), second.signer.sign("{}"));
        Ok(())
    }

    #[test]
    fn private_keys_are_readable_by_their_owner_only() -> Result<()> {
        let dir = tempfile::tempdir()?;
        Keys::load_or_create(dir.path())?;
        for name in [AUTH_PRIVATE, SIGNING_PRIVATE] {
            let mode = fs::metadata(dir.path().join(name))?.permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        Ok(())
    }
}
