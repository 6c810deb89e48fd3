//! Listens, plain or with TLS, and fails below HTTP: a response marked `HangUp` closes its connection unanswered, and
//! the TLS handshake waits as long as the settings say.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::response::Response;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::exchange::HangUp;
use crate::sandbox::Sandbox;
use crate::timer;

/// A bound socket with what it speaks.
pub(crate) struct Server {
    listener: TcpListener,
    tls: Option<RustlsConfig>,
}

impl Server {
    /// Binds `address`; from then on connections are accepted, by the kernel until `serve` runs.
    ///
    /// # Errors
    /// When the address is taken or the certificate cannot be used.
    pub(crate) async fn bind(address: SocketAddr, tls: Option<(&Path, &Path)>) -> Result<Self> {
        let tls = match tls {
            Some((certificate, key)) => {
                let config = RustlsConfig::from_pem_file(certificate, key).await;
                Some(config.context("cannot use the TLS certificate and key")?)
            }
            None => None,
        };
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, tls })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub(crate) fn url(&self) -> Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// Answers requests until the task is dropped; `sandbox` says how slow TLS is.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) async fn serve(self, router: Router, sandbox: Arc<Sandbox>) -> Result<()> {
        let service = OneForAll(Hanging(router));
        match self.tls {
            Some(config) => {
                let acceptor = RustlsAcceptor::new(config).acceptor(SlowTls(sandbox));
                axum_server::from_tcp(self.listener)?
                    .acceptor(acceptor)
                    .http1_only()
                    .serve(service)
                    .await?;
            }
            None => {
                axum_server::from_tcp(self.listener)?
                    .acceptor(NoDelayAcceptor)
                    .http1_only()
                    .serve(service)
                    .await?;
            }
        }
        Ok(())
    }
}

/// Lets a connection wait, accepted, before TLS reads its first byte. The acceptor around it bounds the handshake only
/// from then on, so that a delay may be of any length.
#[derive(Clone)]
struct SlowTls(Arc<Sandbox>);

impl<S: Send + 'static> Accept<TcpStream, S> for SlowTls {
    type Stream = TcpStream;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(TcpStream, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let delay = self.0.settings().tls_delay();
        Box::pin(async move {
            if !delay.is_zero() {
                timer::pause(delay).await;
            }
            NoDelayAcceptor.accept(stream, service).await
        })
    }
}

/// Gives every connection the same service.
#[derive(Clone)]
struct OneForAll(Hanging);

impl Service<SocketAddr> for OneForAll {
    type Response = Hanging;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Hanging, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: SocketAddr) -> Self::Future {
        std::future::ready(Ok(self.0.clone()))
    }
}

/// Turns a response marked `HangUp` into an error: hyper closes the connection of a service that fails, and sends
/// nothing.
#[derive(Clone)]
struct Hanging(Router);

impl<B> Service<axum::http::Request<B>> for Hanging
where
    Router: Service<axum::http::Request<B>, Response = Response, Error = std::convert::Infallible>,
    <Router as Service<axum::http::Request<B>>>::Future: Send + 'static,
{
    type Response = Response;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<B>) -> Self::Future {
        let answering = self.0.call(request);
        Box::pin(async move {
            let response = match answering.await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            match response.extensions().get::<HangUp>() {
                Some(_) => Err(io::Error::other("hanging up, as a fault rule asks")),
                None => Ok(response),
            }
        })
    }
}
