//! The HTTP client of the tests.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Certificate, Client, Method, Response, redirect};
use serde_json::Value;

/// A client for servers on this machine.
pub(crate) fn client() -> Result<Client> {
    client_trusting(None)
}

/// The same for servers with a certificate of this CA, in PEM.
pub(crate) fn client_trusting(ca: Option<&str>) -> Result<Client> {
    // reqwest takes the process's provider; whichever test came first has installed the same one.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let ca = ca
        .map(|pem| Certificate::from_pem(pem.as_bytes()))
        .transpose()?;
    let builder = match ca {
        Some(ca) => Client::builder().tls_certs_only([ca]),
        None => Client::builder(),
    };
    builder
        .timeout(Duration::from_secs(30))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .build()
        .context("building an HTTP client")
}

/// Sends `body` as JSON (nothing for `Null`) and returns the answer if its status is a success.
pub(crate) async fn send(
    client: &Client,
    method: Method,
    url: &str,
    body: &Value,
) -> Result<Response> {
    let mut request = client.request(method.clone(), url);
    if !body.is_null() {
        request = request
            .header("content-type", "application/json")
            .body(body.to_string());
    }
    let answer = request
        .send()
        .await
        .with_context(|| format!("{method} {url}"))?;
    let status = answer.status();
    if !status.is_success() {
        let text = answer.text().await.unwrap_or_default();
        bail!("{method} {url} answered {status}: {text}");
    }
    Ok(answer)
}

/// GETs `url` as JSON.
pub(crate) async fn json<T: serde::de::DeserializeOwned>(client: &Client, url: &str) -> Result<T> {
    let bytes = send(client, Method::GET, url, &Value::Null)
        .await?
        .bytes()
        .await?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("GET {url} answered {}", String::from_utf8_lossy(&bytes)))
}
