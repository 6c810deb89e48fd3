//! Certificates, made as they are needed.

use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

/// A certification authority of the test's own.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
pub(crate) struct Issued {
    cert: String,
    key: String,
}

impl Ca {
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of the same name, another's certificates would be taken for its own with a wrong signature.
        let name = format!("test CA {}", uuid::Uuid::new_v4());
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(Self(CertifiedIssuer::self_signed(
            params,
            KeyPair::generate()?,
        )?))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// For these names or addresses, and with this common name.
    pub(crate) fn issue(&self, names: &[&str], common_name: &str) -> Result<Issued> {
        self.issue_until(names, common_name, 4096)
    }

    /// The same, and its time is over.
    pub(crate) fn issue_expired(&self, names: &[&str], common_name: &str) -> Result<Issued> {
        self.issue_until(names, common_name, 2020)
    }

    fn issue_until(&self, names: &[&str], common_name: &str, year: i32) -> Result<Issued> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.not_after = date_time_ymd(year, 1, 1);
        params.not_before = date_time_ymd(2019, 1, 1);
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate()?;
        Ok(Issued {
            cert: params.signed_by(&key, &self.0)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Issued {
    /// Writes `NAME.pem` and `NAME-key.pem` and returns their paths.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> Result<(String, String)> {
        use std::os::unix::fs::PermissionsExt as _;
        let write = |name: String, text: &str, mode: u32| {
            let path = folder.join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            Ok::<_, anyhow::Error>(path.to_str().context("the path is UTF-8")?.to_owned())
        };
        Ok((
            write(format!("{name}.pem"), &self.cert, 0o644)?,
            write(format!("{name}-key.pem"), &self.key, 0o600)?,
        ))
    }
}
