//! An AMQP 0-9-1 publisher that sends whatever bytes it is told to: what no client library would encode.

use anyhow::{Context as _, Result, ensure};
use reqwest::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;
const FRAME_MAX: u32 = 131_072;

/// Property flags of a content header (AMQP 0-9-1, section 4.2.6.1), highest bit first, which is the order on the wire.
pub(crate) const HEADERS: u16 = 1 << 13;
pub(crate) const MESSAGE_ID: u16 = 1 << 7;

/// A connection with one channel in confirm mode.
#[derive(Debug)]
pub(crate) struct RawPublisher(TcpStream);

impl RawPublisher {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let url = Url::parse(url)?;
        let address = (
            url.host_str().context("a host")?,
            url.port().context("a port")?,
        );
        let mut raw = Self(TcpStream::connect(address).await?);
        raw.0.write_all(b"AMQP\x00\x00\x09\x01").await?;
        raw.expect(10, 10).await?;
        let login = [
            b"\0",
            url.username().as_bytes(),
            b"\0",
            url.password().unwrap_or_default().as_bytes(),
        ]
        .concat();
        let start_ok = [
            &0u32.to_be_bytes()[..],
            &short(b"PLAIN"),
            &long(&login),
            &short(b"en_US"),
        ];
        raw.call(0, 10, 11, &start_ok.concat()).await?;
        raw.expect(10, 30).await?;
        let tune_ok = [
            &1u16.to_be_bytes()[..],
            &FRAME_MAX.to_be_bytes(),
            &0u16.to_be_bytes(),
        ];
        raw.call(0, 10, 31, &tune_ok.concat()).await?;
        let vhost = url.path().trim_start_matches('/').as_bytes();
        raw.call(0, 10, 40, &[&short(vhost)[..], &[0, 0]].concat())
            .await?;
        raw.expect(10, 41).await?;
        raw.call(1, 20, 10, &[0]).await?;
        raw.expect(20, 11).await?;
        raw.call(1, 85, 10, &[0]).await?;
        raw.expect(85, 11).await?;
        Ok(raw)
    }

    /// Publishes to `irn.jobs` with these property flags and bytes, and waits for the confirm.
    pub(crate) async fn publish(
        &mut self,
        key: &str,
        flags: u16,
        properties: &[u8],
        body: &[u8],
    ) -> Result<()> {
        let publish = [
            &[0, 0][..],
            &short(b"irn.jobs"),
            &short(key.as_bytes()),
            &[0],
        ];
        self.call(1, 60, 40, &publish.concat()).await?;
        let size = u64::try_from(body.len())?.to_be_bytes();
        let header = [
            &60u16.to_be_bytes()[..],
            &[0, 0],
            &size,
            &flags.to_be_bytes(),
            properties,
        ];
        self.frame(HEADER, 1, &header.concat()).await?;
        for part in body.chunks(FRAME_MAX as usize - 8) {
            self.frame(BODY, 1, part).await?;
        }
        self.expect(60, 80).await
    }

    async fn call(
        &mut self,
        channel: u16,
        class: u16,
        method: u16,
        arguments: &[u8],
    ) -> Result<()> {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        self.frame(METHOD, channel, &payload).await
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<()> {
        let size = u32::try_from(payload.len())?.to_be_bytes();
        let frame = [
            &[kind][..],
            &channel.to_be_bytes(),
            &size,
            payload,
            &[FRAME_END],
        ];
        Ok(self.0.write_all(&frame.concat()).await?)
    }

    async fn expect(&mut self, class: u16, method: u16) -> Result<()> {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).await?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; usize::try_from(size)? + 1];
        self.0.read_exact(&mut payload).await?;
        let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
        ensure!(
            payload.starts_with(&wanted),
            "waited for method {class}.{method}: {:?}",
            String::from_utf8_lossy(&payload)
        );
        Ok(())
    }
}

/// A short string of any bytes.
pub(crate) fn short(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    [&[length][..], &bytes[..usize::from(length)]].concat()
}

/// A long string, or a table's bytes, with its length before it.
pub(crate) fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A header field: name, type and value.
pub(crate) fn field(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    [&short(name)[..], &[kind], value].concat()
}
