//! `health`: what the worker on this machine says of itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::{Client, redirect};

/// Well within what whoever asks for a health check leaves it; the endpoint only reads memory.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `/healthz`: the process lives.
    Alive,
    /// `/readyz`: it takes jobs.
    Ready,
}

impl Probe {
    fn path(self) -> &'static str {
        match self {
            Self::Alive => "/healthz",
            Self::Ready => "/readyz",
        }
    }
}

/// What the worker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is as asked.
    pub is_good: bool,
    /// Its own word: `alive`, `ready`, or why it takes no jobs.
    pub state: String,
}

/// Why nothing was heard of it.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Nobody but the worker knows its port.
    #[error(
        "admin.listen has port 0, so the worker alone knows where it listens: set a port, for example 127.0.0.1:9464"
    )]
    AnyPort,
    /// Nobody answers, or not in time.
    #[error(
        "no worker answers at http://{address}: {reason}; does it run, and is admin.listen right?"
    )]
    NoAnswer {
        /// Where it was asked.
        address: SocketAddr,
        /// What happened instead.
        reason: String,
    },
}

/// Asks the worker that listens there.
///
/// # Errors
/// When there is no answer; a worker that says no has answered.
pub async fn ask(listen: SocketAddr, probe: Probe) -> Result<Answer, HealthError> {
    if listen.port() == 0 {
        return Err(HealthError::AnyPort);
    }
    let address = reachable(listen);
    let get = async {
        let client = Client::builder()
            .timeout(ANSWERS_WITHIN)
            .redirect(redirect::Policy::none())
            // A proxy of the environment is for the portal, never for this machine.
            .no_proxy()
            // It is asked in the clear, also where no roots are installed.
            .tls_certs_only([])
            .build()?;
        let url = format!("http://{address}{}", probe.path());
        let answer = client.get(url).send().await?;
        let is_good = answer.status().is_success();
        let state = answer.text().await?.trim().to_owned();
        Ok(Answer { is_good, state })
    };
    get.await
        .map_err(|error: reqwest::Error| HealthError::NoAnswer {
            address,
            reason: root_cause(&error),
        })
}

/// Where to call somebody who listens there: on all addresses of the machine, for example.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host @ (IpAddr::V4(_) | IpAddr::V6(_)) => host,
    };
    SocketAddr::new(host, listen.port())
}

/// The system's own word, for example "Connection refused": what is around it repeats the address.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn worker_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("192.0.2.7:80", "192.0.2.7:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
