//! Starts a sandbox and speaks the portal's protocol to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Once;

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyInit};
use anyhow::{Context, Result, ensure};
use aws_lc_rs::rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use reqwest::{Method, Response};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const SELLER: &str = "29AAGCE4783K1Z1";
pub(crate) const SAMPLE: &str = include_str!("../vectors/invoices/b2b-interstate.json");
pub(crate) const SAMPLE_IRN: &str =
    "fae5ffe886954f6ac49fc7984f5524d7dda619175aa78bf6481966fe65d48908";

const CREDENTIALS: &str = r#"
[[client]]
name = "acme"
client_id = "ACME"
client_secret = "acme-secret"

[[client]]
name = "other"
client_id = "OTHER"
client_secret = "other-secret"

[[taxpayer]]
gstin = "29AAGCE4783K1Z1"
client = "acme"
username = "API_ka"
password_file = "ka-password"

[[taxpayer]]
gstin = "27AABCT9421M1ZY"
client = "acme"
username = "API_mh"
password = "Pw@mh"
"#;

/// A running sandbox, killed when dropped.
pub(crate) struct Sandbox {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) dir: TempDir,
    pub(crate) http: reqwest::Client,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// The built binary with the arguments every sandbox needs.
pub(crate) fn command(dir: &Path) -> Result<Command> {
    fs::write(dir.join("credentials.toml"), CREDENTIALS)?;
    fs::write(dir.join("ka-password"), "Pw@ka\n")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_irp-sandbox"));
    command
        .args(["--listen", "127.0.0.1:0", "--state-dir"])
        .arg(dir.join("state"));
    command
        .arg("--credentials")
        .arg(dir.join("credentials.toml"));
    Ok(command)
}

/// Starts the command and reads the address it prints.
pub(crate) fn spawn(command: &mut Command) -> Result<(Child, String)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
    let url = line
        .trim()
        .strip_prefix("listening on ")
        .context("the first line")?;
    Ok((child, url.to_owned()))
}

/// A client that trusts everything on this machine's loopback.
pub(crate) fn http() -> Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
    Ok(reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .build()?)
}

impl Sandbox {
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (child, url) = spawn(command(dir.path())?.args(arguments))?;
        Ok(Self {
            child,
            url,
            dir,
            http: http()?,
        })
    }

    /// One that serves HTTPS with a certificate made for it.
    pub(crate) fn start_tls() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let (certificate, key) = (dir.path().join("tls.pem"), dir.path().join("tls.key"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let mut command = command(dir.path())?;
        command.arg("--tls-cert").arg(&certificate);
        command.arg("--tls-key").arg(&key);
        let (child, url) = spawn(&mut command)?;
        Ok(Self {
            child,
            url,
            dir,
            http: http()?,
        })
    }

    /// A control call with a JSON body; fails unless it is answered 200.
    pub(crate) async fn control(&self, path: &str, body: Value) -> Result<Value> {
        let request = self
            .http
            .post(format!("{}/_sandbox/{path}", self.url))
            .body(body.to_string());
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    pub(crate) async fn show(&self, path: &str) -> Result<Value> {
        let response = self
            .http
            .get(format!("{}/_sandbox/{path}", self.url))
            .send()
            .await?;
        Ok(serde_json::from_str(&response.text().await?)?)
    }

    pub(crate) async fn stats(&self) -> Result<Value> {
        self.show("stats").await
    }

    /// Waits until `count` requests are held.
    pub(crate) async fn until_held(&self, count: usize) -> Result<Value> {
        loop {
            let held = self.show("held").await?;
            if held.as_array().is_some_and(|held| held.len() >= count) {
                return Ok(held);
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn client(&self) -> Client<'_> {
        Client {
            sandbox: self,
            client: ("ACME".to_owned(), "acme-secret".to_owned()),
            gstin: SELLER.to_owned(),
            user: ("API_ka".to_owned(), "Pw@ka".to_owned()),
            app_key: [7; 32],
            force: json!(false),
        }
    }

    pub(crate) fn buyer(&self) -> Client<'_> {
        let user = ("API_mh".to_owned(), "Pw@mh".to_owned());
        Client {
            gstin: "27AABCT9421M1ZY".to_owned(),
            user,
            ..self.client()
        }
    }

    /// The `data` claim of a token, after its signature was checked with the published key.
    pub(crate) fn verified(&self, token: &str) -> Result<Value> {
        let path = self.dir.path().join("state/signing_public.pem");
        let key = SubjectPublicKeyInfoDer::from_pem_file(path)
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let (signed, signature) = token.rsplit_once('.').context("a token")?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature)?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.as_ref())
            .verify(signed.as_bytes(), &signature)?;
        unverified(token)
    }
}

/// The `data` claim of a token.
pub(crate) fn unverified(token: &str) -> Result<Value> {
    let payload = token.split('.').nth(1).context("a payload")?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload)?)?;
    ensure!(claims["iss"] == "NIC");
    Ok(serde_json::from_str(
        claims["data"].as_str().context("data is a string")?,
    )?)
}

/// The header of a token.
pub(crate) fn token_header(token: &str) -> Result<Value> {
    let header = token.split('.').next().context("a header")?;
    Ok(serde_json::from_slice(
        &BASE64_URL_SAFE_NO_PAD.decode(header)?,
    )?)
}

pub(crate) struct Client<'a> {
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) client: (String, String),
    pub(crate) gstin: String,
    pub(crate) user: (String, String),
    pub(crate) app_key: [u8; 32],
    pub(crate) force: Value,
}

/// A login's outcome.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) token: String,
    pub(crate) key: [u8; 32],
    pub(crate) expiry: String,
}

impl Client<'_> {
    /// The login request's body, made as the portal's page says.
    pub(crate) fn sealed_login(&self) -> Result<String> {
        let login = json!({
            "UserName": self.user.0, "Password": self.user.1,
            "AppKey": BASE64_STANDARD.encode(self.app_key), "ForceRefreshAccessToken": self.force,
        });
        self.rsa(BASE64_STANDARD.encode(login.to_string()).as_bytes())
    }

    pub(crate) fn rsa(&self, plain: &[u8]) -> Result<String> {
        let path = self.sandbox.dir.path().join("state/auth_public.pem");
        let key = SubjectPublicKeyInfoDer::from_pem_file(path)
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let key = Pkcs1PublicEncryptingKey::new(PublicEncryptingKey::from_der(&key)?)?;
        let mut sealed = vec![0; key.ciphertext_size()];
        let length = key.encrypt(plain, &mut sealed)?.len();
        sealed.truncate(length);
        Ok(BASE64_STANDARD.encode(sealed))
    }

    pub(crate) async fn auth(&self, body: Value) -> Result<Value> {
        let request = self
            .sandbox
            .http
            .post(format!("{}/eivital/v1.04/auth", self.sandbox.url));
        let request = request
            .header("client_id", &self.client.0)
            .header("client_secret", &self.client.1);
        let response = request
            .header("Gstin", &self.gstin)
            .body(body.to_string())
            .send()
            .await?;
        Ok(serde_json::from_str(&response.text().await?)?)
    }

    pub(crate) async fn login(&self) -> Result<Session> {
        let answer = self.auth(json!({"Data": self.sealed_login()?})).await?;
        let data = &answer["Data"];
        let text = |name: &str| {
            data[name]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("{name} in {answer}"))
        };
        let key = open(&self.app_key, &text("Sek")?)?;
        let key = <[u8; 32]>::try_from(key)
            .map_err(|_| anyhow::anyhow!("the session key has 32 bytes"))?;
        Ok(Session {
            token: text("AuthToken")?,
            key,
            expiry: text("TokenExpiry")?,
        })
    }

    /// Any call after the login; a body is sealed and wrapped.
    pub(crate) async fn call(
        &self,
        session: &Session,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> reqwest::Result<Response> {
        let mut request = self
            .sandbox
            .http
            .request(method, format!("{}{path}", self.sandbox.url));
        request = request
            .header("client-id", &self.client.0)
            .header("client-secret", &self.client.1);
        request = request
            .header("gstin", &self.gstin)
            .header("user_name", &self.user.0);
        request = request.header("AuthToken", &session.token);
        if let Some(body) = body {
            request = request.body(json!({"Data": seal(&session.key, body)}).to_string());
        }
        request.send().await
    }

    pub(crate) async fn json(
        &self,
        session: &Session,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Value> {
        let response = self.call(session, method, path, body).await?;
        Ok(serde_json::from_str(&response.text().await?)?)
    }

    pub(crate) async fn generate(&self, session: &Session, document: &[u8]) -> Result<Value> {
        self.json(
            session,
            Method::POST,
            "/eicore/v1.03/Invoice",
            Some(document),
        )
        .await
    }

    pub(crate) async fn get(&self, session: &Session, path: &str) -> Result<Value> {
        self.json(session, Method::GET, path, None).await
    }

    pub(crate) async fn by_irn(&self, session: &Session, irn: &str) -> Result<Value> {
        self.get(session, &format!("/eicore/v1.03/Invoice/irn/{irn}"))
            .await
    }

    pub(crate) async fn cancel(&self, session: &Session, irn: &str) -> Result<Value> {
        let body = json!({"Irn": irn, "CnlRsn": "1", "CnlRem": "Wrong entry"}).to_string();
        self.json(
            session,
            Method::POST,
            "/eicore/v1.03/Invoice/Cancel",
            Some(body.as_bytes()),
        )
        .await
    }
}

/// The decrypted `Data` of a successful answer.
pub(crate) fn data(session: &Session, answer: &Value) -> Result<Value> {
    ensure!(answer["Status"] == 1, "not successful: {answer}");
    let data = answer["Data"].as_str().context("Data is a string")?;
    Ok(serde_json::from_slice(&open(&session.key, data)?)?)
}

/// The codes of a refusal.
pub(crate) fn codes(answer: &Value) -> Vec<String> {
    assert_eq!(answer["Status"], 0, "{answer}");
    let entries = answer["ErrorDetails"]
        .as_array()
        .expect("errors are an array");
    entries
        .iter()
        .map(|entry| {
            entry["ErrorCode"]
                .as_str()
                .expect("a code is text")
                .to_owned()
        })
        .collect()
}

pub(crate) fn seal(key: &[u8; 32], plain: &[u8]) -> String {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + 16, 0);
    let sealed =
        ecb::Encryptor::<Aes256>::new(key.into()).encrypt_padded::<Pkcs7>(&mut buffer, plain.len());
    BASE64_STANDARD.encode(sealed.expect("a spare block is room for padding"))
}

pub(crate) fn open(key: &[u8; 32], data: &str) -> Result<Vec<u8>> {
    let mut buffer = BASE64_STANDARD.decode(data)?;
    let plain = ecb::Decryptor::<Aes256>::new(key.into()).decrypt_padded::<Pkcs7>(&mut buffer);
    Ok(plain
        .map_err(|_| anyhow::anyhow!("sealed under another key"))?
        .to_vec())
}

/// The sample invoice under another number.
pub(crate) fn invoice(number: &str) -> String {
    SAMPLE.replace("SI/25-26/00417", number)
}
