//! What a broker says of itself before anybody has logged in: lapin reads it and keeps it to itself.

use std::pin::Pin;

use futures_io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AMQPUriTcpExt as _, TLSConfig};
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::connection::{in_the_clear, timed};
use super::{BrokerError, Endpoint};

/// AMQP 0-9-1, section 4.2.2.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

/// Type, channel, size (section 4.2.3).
const FRAME_HEADER: usize = 7;

/// Class, method and version before the properties of `connection.start`.
const BEFORE_PROPERTIES: usize = 6;

/// More than any broker has to say of itself.
const LONGEST: usize = 64 * 1024;

/// Which broker it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// `RabbitMQ`
    pub product: String,
    /// `3.13.7`
    pub version: String,
}

impl Greeting {
    /// Major and minor version, if the version says.
    pub fn release(&self) -> Option<(u32, u32)> {
        let mut numbers = self.version.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl Endpoint {
    /// Connects without logging in and reads what the broker says first.
    ///
    /// # Errors
    /// When it cannot be reached, its certificate is not accepted, or it does not speak AMQP 0-9-1.
    pub async fn greeting(&self) -> Result<Greeting, BrokerError> {
        timed(self.read_greeting()).await?
    }

    async fn read_greeting(&self) -> Result<Greeting, BrokerError> {
        let lost = |error: std::io::Error| BrokerError::Lost(error.to_string());
        let runtime = lapin::runtime::default_runtime()?;
        let uri = self.uri();
        let host = uri.authority.host.clone();
        let dialling = in_the_clear(uri);
        let dialling = dialling.connect_with_config_async(TLSConfig::default(), &runtime);
        let mut stream = dialling.await.map_err(lost)?;
        if let Some(connector) = self.tls() {
            stream = stream.into_rustls(connector, &host).await.map_err(lost)?;
        }
        write(&mut stream, PROTOCOL_HEADER).await.map_err(lost)?;
        let mut header = [0; FRAME_HEADER];
        read(&mut stream, &mut header).await.map_err(lost)?;
        let [1, _, _, size @ ..] = header else {
            return Err(not_amqp());
        };
        let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
        if size > LONGEST {
            return Err(not_amqp());
        }
        let mut payload = vec![0; size];
        read(&mut stream, &mut payload).await.map_err(lost)?;
        let properties = payload.get(BEFORE_PROPERTIES..).unwrap_or_default();
        let (_, table) = parse_field_table(properties).map_err(|_| not_amqp())?;
        Ok(Greeting {
            product: text(&table, "product"),
            version: text(&table, "version"),
        })
    }
}

fn not_amqp() -> BrokerError {
    BrokerError::Lost("what answers there does not speak AMQP 0-9-1".to_owned())
}

fn text(table: &FieldTable, name: &str) -> String {
    match table.inner().get(&ShortString::from(name)) {
        Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        _ => "unknown".to_owned(),
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written =
            std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes)).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await
}

async fn read(stream: &mut (impl AsyncRead + Unpin), mut into: &mut [u8]) -> std::io::Result<()> {
    while !into.is_empty() {
        let got = std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, into)).await?;
        if got == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        into = into.get_mut(got..).unwrap_or_default();
    }
    Ok(())
}
