//! A TCP proxy the tests can cut, hold and restore: what a network does between worker and broker.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the network does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weather {
    /// Connections made in an earlier epoch are closed.
    epoch: u64,
    /// New connections are closed at once.
    refusing: bool,
    /// No byte passes, no connection is closed: half-open.
    holding: bool,
}

/// Passes connections on to one address until told otherwise; gone when dropped.
#[derive(Debug)]
pub(crate) struct TcpProxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    ended: CancellationToken,
    tasks: JoinSet<()>,
}

impl TcpProxy {
    /// Listens on a free port and passes on to `upstream` (`host:port`).
    pub(crate) async fn to(upstream: &str) -> Result<Self> {
        Self::at("127.0.0.1:0", upstream).await
    }

    /// Listens on a free port and passes each connection on to the first of these that takes it, as the address of a
    /// cluster does.
    pub(crate) async fn to_any(upstreams: &[String]) -> Result<Self> {
        Self::listen("127.0.0.1:0", upstreams.to_vec()).await
    }

    /// Like [`TcpProxy::to`] on a given address, to which connections were refused until now.
    pub(crate) async fn at(address: &str, upstream: &str) -> Result<Self> {
        Self::listen(address, vec![upstream.to_owned()]).await
    }

    async fn listen(address: &str, upstreams: Vec<String>) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (weather, seen) = watch::channel(Weather {
            epoch: 0,
            refusing: false,
            holding: false,
        });
        let mut tasks = JoinSet::new();
        let ended = CancellationToken::new();
        tasks.spawn(accept(listener, upstreams, seen, ended.clone()));
        Ok(Self {
            address,
            weather,
            ended,
            tasks,
        })
    }

    /// Ends it: when this returns no connection is open, and new ones are refused.
    pub(crate) async fn end(mut self) {
        self.ended.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection; new ones are welcome.
    pub(crate) fn drop_connections(&self) {
        self.weather.send_modify(|w| w.epoch += 1);
    }

    /// Closes every connection, and every new one at once.
    pub(crate) fn cut(&self) {
        self.weather.send_modify(|w| {
            *w = Weather {
                epoch: w.epoch + 1,
                refusing: true,
                ..*w
            }
        });
    }

    /// Lets no byte through, and no end of a connection either.
    pub(crate) fn hold(&self) {
        self.weather.send_modify(|w| w.holding = true);
    }

    /// Fair weather.
    pub(crate) fn restore(&self) {
        self.weather.send_modify(|w| {
            *w = Weather {
                refusing: false,
                holding: false,
                ..*w
            }
        });
    }
}

async fn accept(
    listener: TcpListener,
    upstreams: Vec<String>,
    seen: watch::Receiver<Weather>,
    ended: CancellationToken,
) {
    let mut connections = JoinSet::new();
    while let Some(accepted) = ended.run_until_cancelled(listener.accept()).await {
        let Ok((client, _)) = accepted else {
            continue;
        };
        let now = *seen.borrow();
        if !now.refusing {
            connections.spawn(pass(client, upstreams.clone(), seen.clone(), now.epoch));
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    connections.shutdown().await;
}

/// One connection, until either side or the weather ends it.
async fn pass(
    mut client: TcpStream,
    upstreams: Vec<String>,
    mut seen: watch::Receiver<Weather>,
    epoch: u64,
) {
    let Some(mut server) = connect(&upstreams).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (up, down) = (seen.clone(), seen.clone());
    tokio::select! {
        _ = pump(&mut from_client, &mut to_server, up) => {}
        _ = pump(&mut from_server, &mut to_client, down) => {}
        _ = seen.wait_for(|w| w.epoch != epoch) => {}
    }
}

async fn connect(upstreams: &[String]) -> Option<TcpStream> {
    for upstream in upstreams {
        if let Ok(server) = TcpStream::connect(upstream).await {
            return Some(server);
        }
    }
    None
}

/// Copies one direction while the weather is fair.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut seen: watch::Receiver<Weather>,
) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        seen.wait_for(|w| !w.holding).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
