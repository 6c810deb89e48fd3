//! Where the broker is and how to reach it.

use std::fmt;
use std::io;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::{AMQPUriTcpExt as _, RustlsConnector, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use tokio_util::sync::CancellationToken;

use super::tls;
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
    #[error(
        "the broker delivered a message whose properties are not well-formed AMQP (a text that is not UTF-8, say); the \
         management page shows it under its queue's Get messages, and can take it out"
    )]
    Malformed,
    /// The broker did not answer in time.
    #[error("the broker did not answer within {0:?}")]
    Timeout(Duration),
    /// It is there, and does not let this user in.
    #[error("{what}: {remedy}")]
    Refused {
        /// Whom or what it refuses, and its own words.
        what: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// It takes nothing that is published.
    #[error(
        "the broker blocks publishers: it is short of memory or disk; `rabbitmq-diagnostics alarms` says which, and on \
         which node: free some"
    )]
    Blocked,
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
    /// A TLS file does not hold what it should.
    #[error("{key}: {path}: {problem}; name a PEM file")]
    Pem {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nothing to verify the broker's certificate with.
    #[error(
        "broker.url is amqps://, but the system's roots cannot be used ({0}): install them (Debian: ca-certificates), or name the broker's own in broker.ca_file"
    )]
    Roots(String),
}

/// The broker's address and credentials, ready to connect.
#[derive(Clone)]
pub struct Endpoint {
    uri: AMQPUri,
    /// For `amqps://`.
    tls: Option<RustlsConnector>,
    signed_as: Option<String>,
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
        let tls = match uri.scheme {
            AMQPScheme::AMQPS => Some(tls::connector(config)?),
            AMQPScheme::AMQP => None,
        };
        Ok(Self {
            uri,
            tls,
            signed_as: config.signed_as.clone(),
            replica: replica.to_owned(),
        })
    }

    /// Host, port and virtual host as `broker.url` has them, without credentials.
    pub fn address(&self) -> String {
        format!(
            "{}:{}/{}",
            self.uri.authority.host,
            self.uri.authority.port,
            in_a_url(self.vhost())
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

    /// The address with user and password, for who connects otherwise.
    pub(super) fn uri(&self) -> AMQPUri {
        self.uri.clone()
    }

    /// What an `amqps://` address is connected to with.
    pub(super) fn tls(&self) -> Option<&RustlsConnector> {
        self.tls.as_ref()
    }

    /// Whether it is `amqps://`.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// The user who signs what is published, where that is asked for.
    pub(super) fn signed_as(&self) -> Option<&str> {
        self.signed_as.as_deref()
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
        let tls = self.tls.clone();
        // lapin dials on a thread of its own, which goes on when this is dropped: for as long as the system tries to reach a
        // host that is silent, and into a panic where the runtime, which looks names up for it, has gone meanwhile.
        let wanted = CancellationToken::new();
        let unwanted = wanted.clone();
        let _until_here = wanted.drop_guard();
        let connecting = Connection::connector(
            uri,
            runtime,
            async move |uri, runtime| {
                let dialling = async {
                    let host = uri.authority.host.clone();
                    let stream = in_the_clear(uri)
                        .connect_with_config_async(TLSConfig::default(), &runtime)
                        .await?;
                    match &tls {
                        Some(connector) => Ok(stream.into_rustls(connector, &host).await?),
                        None => Ok(stream),
                    }
                };
                tokio::select! {
                    // First, because what the runtime was to do for a dial ends badly once it has gone.
                    biased;
                    () = unwanted.cancelled() => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
                    dialled = dialling => dialled,
                }
            },
            properties,
        );
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|error| self.refused(error)),
            Err(_) => Err(BrokerError::Timeout(CONNECT_TIMEOUT)),
        }
    }

    /// A broker that is there may not let us in.
    fn refused(&self, error: lapin::Error) -> BrokerError {
        const LOGIN: AMQPErrorKind = AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED);
        const VHOST: AMQPErrorKind = AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED);
        let kind = match error.kind() {
            ErrorKind::ProtocolError(amqp) => Some(amqp.kind().clone()),
            _ => None,
        };
        if kind == Some(LOGIN) {
            BrokerError::Refused {
                what: format!("the broker refuses the login of {} ({error})", self.user()),
                remedy: "correct user and password in broker.url, or create the user",
            }
        } else if kind == Some(VHOST) {
            BrokerError::Refused {
                what: format!(
                    "the broker does not let {} into the virtual host {} ({error})",
                    self.user(),
                    self.vhost()
                ),
                remedy: "correct the virtual host in broker.url, create it, or permit this user to use it",
            }
        } else {
            error.into()
        }
    }
}

/// The name of a virtual host as a URL has it: RabbitMQ calls its first one `/`, which would not be seen beside the
/// slash before it.
fn in_a_url(vhost: &str) -> String {
    vhost.replace('%', "%25").replace('/', "%2f")
}

/// The same address as far as TCP goes: TLS begins above it, with the connector of [`tls`].
pub(super) fn in_the_clear(uri: AMQPUri) -> AMQPUri {
    AMQPUri {
        scheme: AMQPScheme::AMQP,
        ..uri
    }
}

/// Bounds a request to the broker: lapin's own futures never end when the connection is lost while they wait.
pub(crate) async fn timed<F: Future>(request: F) -> Result<F::Output, BrokerError> {
    tokio::time::timeout(RPC_TIMEOUT, request)
        .await
        .map_err(|_| BrokerError::Timeout(RPC_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_hosts_are_shown_so_that_they_can_be_written_into_the_url_again() {
        for (vhost, shown) in [
            ("/", "%2f"),
            ("erp", "erp"),
            ("a/b", "a%2fb"),
            ("50%", "50%25"),
        ] {
            let shown_now = in_a_url(vhost);
            assert_eq!(shown_now, shown);
            let url = format!("amqp://u:p@host:5672/{shown_now}");
            let uri: AMQPUri = url.parse().unwrap();
            assert_eq!(uri.vhost, vhost);
        }
    }
}
