//! Where the broker is and how to reach it.

use std::fmt;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, ErrorKind};

use crate::config::BrokerConfig;

/// A connection that is not up after this long will not come up: lapin itself would wait for ever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A broker that takes longer than this over one small request is as good as gone.
const RPC_TIMEOUT: Duration = Duration::from_secs(10);

/// Half of it without a byte makes a heartbeat, twice of it a lost connection: a worker behind a silent firewall
/// should notice within the settle time, not after the broker's default of a minute.
const HEARTBEAT_SECONDS: u16 = 15;

/// As large as the broker allows by default. A message's properties travel in one frame, never split: with less than
/// the ERPs' own, lapin could not read what they are free to publish.
const FRAME_MAX: u32 = 128 * 1024;

/// Enough for the properties of whatever the worker publishes: those of a job have 16 KiB at most, ours two more. lapin
/// keeps buffers of 64 frames, and the processor's caches are small.
const OWN_FRAME_MAX: u32 = 32 * 1024;

/// Why talking to the broker failed.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The connection or channel failed; carries lapin's reason in words that quote no message.
    #[error("{0}")]
    Lost(String),
    /// The broker sent bytes lapin cannot read: some message carries properties that are not well-formed.
    #[error("the broker delivered a message whose properties are not well-formed AMQP")]
    Malformed,
    /// The broker did not answer in time.
    #[error("the broker did not answer within {0:?}")]
    Timeout(Duration),
    /// An exchange or queue is missing or has other arguments.
    #[error("{what}: {remedy}")]
    Topology {
        /// What is wrong, naming the queue or exchange.
        what: String,
        /// What to do about it.
        remedy: &'static str,
    },
}

/// What lapin itself says of a frame that is larger than was agreed.
const FRAME_ERROR: AMQPErrorKind = AMQPErrorKind::Hard(AMQPHardError::FRAMEERROR);

impl From<lapin::Error> for BrokerError {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            // The parser's own text quotes the frame.
            ErrorKind::ParsingError(_) => Self::Malformed,
            ErrorKind::ProtocolError(amqp) if *amqp.kind() == FRAME_ERROR => Self::Malformed,
            _ => Self::Lost(error.to_string()),
        }
    }
}

/// Why the configured endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadEndpoint {
    /// The URL does not parse. Its text is left out: it has a password in it.
    #[error(
        "broker.url is not an AMQP URL: use amqp://user:password@host:5672/vhost, the vhost / written as %2f"
    )]
    Url,
    /// A TLS file cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: String,
        /// The system's reason.
        error: std::io::Error,
    },
}

/// The broker's address and credentials, ready to connect.
#[derive(Clone)]
pub struct Endpoint {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    replica: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.address())
    }
}

impl Endpoint {
    /// Reads the URL and the TLS files. `replica` names the connections in the broker's own lists.
    pub fn try_new(config: &BrokerConfig, replica: &str) -> Result<Self, BadEndpoint> {
        let mut uri: AMQPUri = config.url.expose().parse().map_err(|_| BadEndpoint::Url)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|error| BadEndpoint::File {
                path: path.display().to_string(),
                error,
            })
        };
        let cert_chain = config.ca_file.as_deref().map(read).transpose()?;
        let identity = match (&config.client_cert_file, &config.client_key_file) {
            (Some(cert), Some(key)) => Some(OwnedIdentity::PKCS8 {
                pem: read(cert)?,
                key: read(key)?,
            }),
            _ => None,
        };
        let cert_chain = cert_chain.map(|pem| String::from_utf8_lossy(&pem).into_owned());
        Ok(Self {
            uri,
            tls: OwnedTLSConfig {
                identity,
                cert_chain,
            },
            replica: replica.to_owned(),
        })
    }

    /// Host, port and virtual host, without credentials.
    pub fn address(&self) -> String {
        format!(
            "{}:{}/{}",
            self.uri.authority.host,
            self.uri.authority.port,
            self.vhost()
        )
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// The user that connects.
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// Opens a connection for one role, one that messages of others come in on.
    pub async fn connect(&self, role: &str) -> Result<Connection, BrokerError> {
        self.connect_at(self.uri.clone(), role).await
    }

    /// Opens a connection for one role, one that carries the worker's own messages only.
    pub async fn connect_for_own(&self, role: &str) -> Result<Connection, BrokerError> {
        let mut uri = self.uri.clone();
        let frame_max = uri.query.frame_max.get_or_insert(OWN_FRAME_MAX);
        *frame_max = OWN_FRAME_MAX.min(*frame_max);
        self.connect_at(uri, role).await
    }

    async fn connect_at(&self, uri: AMQPUri, role: &str) -> Result<Connection, BrokerError> {
        let name = format!("irn-worker {} {role}", self.replica);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let runtime = lapin::runtime::default_runtime()?;
        let connecting =
            Connection::connect_uri_with_config(uri, properties, self.tls.clone(), runtime);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(BrokerError::Timeout(CONNECT_TIMEOUT)),
        }
    }
}

/// Bounds a request to the broker: lapin's own futures never end when the connection is lost while they wait.
pub(crate) async fn timed<F: Future>(request: F) -> Result<F::Output, BrokerError> {
    tokio::time::timeout(RPC_TIMEOUT, request)
        .await
        .map_err(|_| BrokerError::Timeout(RPC_TIMEOUT))
}
