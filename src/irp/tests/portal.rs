//! The other end of one connection: answers each request with the bytes it was told to, keys included.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use aes::cipher::common::InnerInit;
use aes::cipher::{BlockModeEncrypt, KeyInit, block_padding::Pkcs7};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::{Pkcs1v15Encrypt, RsaPrivateKey};
use serde_json::Value;

use crate::config::credentials::{Account, Client, Secret};
use crate::config::{
    ClientPair, Environment, HeaderStyle, IrpConfig, PathsConfig, Provider, RouteConfig,
    SignaturePolicy,
};
use crate::crypto::SessionKey;
use crate::irp::{Access, AuthToken, Irp};

pub(super) const SESSION_KEY: [u8; 32] = [0x5e; 32];

static RSA: LazyLock<RsaPrivateKey> =
    LazyLock::new(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap());

/// A request as it arrived.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// All values of a header, its name spelt exactly so apart from case.
    pub(super) fn header(&self, name: &str) -> Vec<&str> {
        let fields = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// `Data` of the body.
    pub(super) fn data(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 1);
        body["Data"].as_str().unwrap().to_owned()
    }

    /// The login that the body carries, opened with the portal's private key.
    pub(super) fn login(&self) -> String {
        let inner = RSA
            .decrypt(
                Pkcs1v15Encrypt,
                &BASE64_STANDARD.decode(self.data()).unwrap(),
            )
            .unwrap();
        String::from_utf8(BASE64_STANDARD.decode(inner).unwrap()).unwrap()
    }
}

pub(super) fn seal(key: &[u8], plain: &[u8]) -> String {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + 16, 0);
    let cipher = ecb::Encryptor::inner_init(aes::Aes256::new_from_slice(key).unwrap());
    BASE64_STANDARD.encode(
        cipher
            .encrypt_padded::<Pkcs7>(&mut buffer, plain.len())
            .unwrap(),
    )
}

pub(super) fn success(plain: &str) -> String {
    format!(
        r#"{{"Status":1,"Data":"{}","ErrorDetails":null,"InfoDtls":null}}"#,
        seal(&SESSION_KEY, plain.as_bytes())
    )
}

/// A whole HTTP answer.
pub(super) fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(super) struct Portal {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    pub(super) folder: tempfile::TempDir,
}

impl Portal {
    /// Answers every request with what `answer` returns, and then closes; with nothing, it closes at once.
    pub(super) fn start(answer: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        // Ends with the process: the listener is never closed.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream
                    .set_read_timeout(Some(Duration::from_secs(5)))
                    .unwrap();
                let Some(request) = read_request(&mut stream) else {
                    continue;
                };
                let reply = answer(&request);
                seen.lock().unwrap().push(request);
                // A client that has seen enough closes first.
                stream.write_all(&reply).ok();
            }
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("login.pem"),
            RSA.to_public_key()
                .to_public_key_pem(LineEnding::LF)
                .unwrap(),
        )
        .unwrap();
        Self {
            address,
            requests,
            folder,
        }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn config(&self) -> IrpConfig {
        config(
            format!("http://{}/", self.address),
            self.folder.path().join("login.pem"),
        )
    }

    pub(super) fn irp(&self) -> Irp {
        Irp::try_new(&self.config()).unwrap()
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let length = stream.read(&mut piece).ok().filter(|length| *length > 0)?;
        bytes.extend_from_slice(&piece[..length]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut request = Request {
        head,
        body: bytes[end + 4..].to_vec(),
    };
    let length: usize = request
        .header("content-length")
        .first()
        .map_or(0, |length| length.parse().unwrap());
    while request.body.len() < length {
        let read = stream.read(&mut piece).ok().filter(|length| *length > 0)?;
        request.body.extend_from_slice(&piece[..read]);
    }
    Some(request)
}

pub(super) fn config(base_url: String, public_key_file: PathBuf) -> IrpConfig {
    IrpConfig {
        environment: Environment::Sandbox,
        route_name: None,
        route: RouteConfig {
            provider: Provider::Nic,
            base_url,
            public_key_file: Some(public_key_file),
            failover: None,
            ca_file: None,
            extra_headers: Vec::new(),
            header_style: HeaderStyle::Underscore,
            header_names: Vec::new(),
            paths: PathsConfig::default(),
            client_pair: ClientPair::Send,
        },
        routes: Vec::new(),
        signing_keys: Vec::new(),
        signatures: SignaturePolicy::Warn,
        concurrency: 4,
        concurrency_per_gstin: 4,
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(10),
        settle_time: Duration::from_secs(30),
        local_address: None,
        proxy: None,
        unknown_codes: Vec::new(),
    }
}

/// A taxpayer with a live session whose key the portal knows.
pub(super) struct Taxpayer {
    pub(super) account: Account,
    pub(super) token: AuthToken,
    pub(super) key: SessionKey,
}

impl Taxpayer {
    pub(super) fn new() -> Self {
        let client = Client {
            name: "acme".to_owned(),
            id: "the-client".to_owned(),
            secret: Secret::new("the-secret".to_owned()),
            route: None,
            subscriber: None,
        };
        let app_key = crate::crypto::AppKey::generate();
        let sek = seal(
            &BASE64_STANDARD
                .decode(app_key.to_base64().as_bytes())
                .unwrap(),
            &SESSION_KEY,
        );
        Self {
            account: Account {
                gstin: "29AAGCE4783K1Z1".parse().unwrap(),
                client: Arc::new(client),
                username: "API_demo01".to_owned(),
                password: Secret::new("Demo\"@12345".to_owned()),
            },
            token: AuthToken::new("tOkEn123".to_owned()),
            key: app_key.unwrap_session_key(&sek).unwrap(),
        }
    }

    pub(super) fn access(&self) -> Access<'_> {
        Access {
            account: &self.account,
            token: &self.token,
            key: Some(&self.key),
        }
    }
}
