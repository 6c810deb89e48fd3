//! TLS to the broker: which roots are trusted, and which certificate is shown.
//!
//! One rule: the roots of `broker.ca_file` are the only ones. lapin by itself would add them to the system's, and would
//! not connect at all where the system has none, as in an image of nothing but the worker.

use std::path::Path;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::BadEndpoint;
use crate::config::BrokerConfig;

/// What an `amqps://` connection is opened with.
pub(super) fn connector(config: &BrokerConfig) -> Result<RustlsConnector, BadEndpoint> {
    // The first of the process's users of TLS installs the provider; whoever comes second finds it there.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let roots = match &config.ca_file {
        Some(file) => {
            let roots = certificates("broker.ca_file", file)?;
            RustlsConnectorConfig::default().with_parsable_certificates(roots)
        }
        None => RustlsConnectorConfig::new_with_native_certs()
            .map_err(|error| BadEndpoint::Roots(error.to_string()))?,
    };
    let connector = match (&config.client_cert_file, &config.client_key_file) {
        (Some(cert), Some(key)) => {
            let chain = certificates("broker.client_cert_file", cert)?;
            roots.connector_with_single_cert(chain, private_key(key)?)
        }
        _ => roots.connector_with_no_client_auth(),
    };
    connector.map_err(|error| BadEndpoint::Pem {
        key: "broker.client_key_file",
        path: shown(config.client_key_file.as_deref()),
        problem: error.to_string(),
    })
}

fn shown(path: Option<&Path>) -> String {
    path.unwrap_or(Path::new("")).display().to_string()
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, BadEndpoint> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.unwrap_or_default();
    if found.is_empty() {
        return Err(BadEndpoint::Pem {
            key,
            path: shown(Some(path)),
            problem: "it holds no well-formed CERTIFICATE block".to_owned(),
        });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, BadEndpoint> {
    let bytes = zeroize::Zeroizing::new(read(path)?);
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| BadEndpoint::Pem {
        key: "broker.client_key_file",
        path: shown(Some(path)),
        problem: "it holds no well-formed PRIVATE KEY block without a passphrase".to_owned(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, BadEndpoint> {
    std::fs::read(path).map_err(|error| BadEndpoint::File {
        path: shown(Some(path)),
        error,
    })
}
