//! The bare pipeline: what a job costs with these libraries when nothing is decided, limited, counted, logged or
//! tried again. Written as one would write it, with the worker's own seal and open; it runs as a process of its own.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use clap::Args;
use futures_util::StreamExt as _;
use irn_worker::crypto::{AppKey, LoginKey, SessionKey, sealed_length};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
    BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the floor is told; it reads no configuration.
#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    /// The broker and virtual host
    #[arg(long)]
    broker_url: String,
    /// The portal's base URL
    #[arg(long)]
    portal: String,
    /// The portal's RSA key for logins
    #[arg(long)]
    login_key: PathBuf,
    /// The public key that verifies what it signs
    #[arg(long)]
    signing_key: PathBuf,
    /// Who logs in
    #[arg(long)]
    credentials: PathBuf,
    /// How many jobs at once; twice as many are prefetched
    #[arg(long)]
    concurrency: u16,
    /// The root to trust for HTTPS
    #[arg(long)]
    ca_file: Option<PathBuf>,
}

/// Consumes until SIGTERM, or until something fails. What is done is acknowledged before the end: the broker would hand
/// it to another replica otherwise, and the bare pipeline submits whatever it is handed.
pub(crate) async fn run(arguments: &FloorArgs) -> Result<()> {
    let url = &arguments.broker_url;
    let consume = Connection::connect(url, ConnectionProperties::default()).await?;
    let publish = Connection::connect(url, ConnectionProperties::default()).await?;
    let results = publish.create_channel().await?;
    let options = ConfirmSelectOptions::default();
    results.confirm_select(options).await?;
    let pipeline = Arc::new(Pipeline::new(arguments, results)?);

    let channel = consume.create_channel().await?;
    let prefetch = arguments.concurrency * 2;
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await?;
    let options = BasicConsumeOptions::default();
    let mut jobs = channel
        .basic_consume("irn.jobs".into(), "".into(), options, FieldTable::default())
        .await?;
    let slots = Arc::new(Semaphore::new(usize::from(arguments.concurrency)));
    let (tasks, failed) = (TaskTracker::new(), CancellationToken::new());
    let mut terminated = signal(SignalKind::terminate())?;
    loop {
        let delivery = tokio::select! {
            delivery = jobs.next() => delivery.context("the consumer was cancelled")??,
            () = failed.cancelled() => bail!("a job failed"),
            _ = terminated.recv() => break,
        };
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let (pipeline, failed) = (Arc::clone(&pipeline), failed.clone());
        tasks.spawn(async move {
            if let Err(error) = pipeline.job(delivery).await {
                eprintln!("floor: {error:#}");
                failed.cancel();
            }
            drop(slot);
        });
    }
    tasks.close();
    tasks.wait().await;
    // Of more than 32 acknowledgements on their way, RabbitMQ keeps some back and loses them with the channel; another
    // floor would be handed those jobs again. What it is asked after them it answers after them.
    let options = BasicCancelOptions::default();
    channel.basic_cancel(jobs.tag(), options).await?;
    let options = BasicGetOptions::default();
    drop(channel.basic_get("irn.jobs".into(), options).await?);
    consume.close(200, "done".into()).await?;
    Ok(())
}

struct Pipeline {
    http: Client,
    portal: String,
    login_key: LoginKey,
    signing_key: ParsedPublicKey,
    results: Channel,
    client: ClientEntry,
    taxpayers: HashMap<String, TaxpayerEntry>,
    sessions: Mutex<HashMap<String, Arc<OnceCell<Session>>>>,
}

struct Session {
    key: SessionKey,
    headers: HeaderMap,
}

#[derive(Deserialize)]
struct Credentials {
    client: Vec<ClientEntry>,
    taxpayer: Vec<TaxpayerEntry>,
}

#[derive(Clone, Deserialize)]
struct ClientEntry {
    client_id: String,
    client_secret: String,
}

#[derive(Deserialize)]
struct TaxpayerEntry {
    gstin: String,
    username: String,
    password: String,
}

/// All that a job is asked for.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Job<'a> {
    #[serde(borrow)]
    doc_dtls: JobDocument<'a>,
    #[serde(borrow)]
    seller_dtls: JobSeller<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JobDocument<'a> {
    typ: &'a str,
    no: &'a str,
    dt: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JobSeller<'a> {
    gstin: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<'a> {
    status: u8,
    data: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Registration<'a> {
    ack_no: u64,
    ack_dt: &'a str,
    irn: &'a str,
    signed_invoice: &'a str,
    #[serde(rename = "SignedQRCode")]
    signed_qr_code: &'a str,
    status: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Granted {
    data: Login,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Login {
    auth_token: String,
    sek: String,
}

#[derive(Serialize)]
struct JobResult<'a> {
    version: u8,
    job_id: &'a str,
    operation: &'static str,
    status: &'static str,
    gstin: &'a str,
    document: ResultDocument<'a>,
    irn: &'a str,
    ack_no: String,
    ack_date: &'a str,
    irn_status: &'a str,
    signed_invoice: &'a str,
    signed_qr_code: &'a str,
    signature: &'static str,
}

#[derive(Serialize)]
struct ResultDocument<'a> {
    r#type: &'a str,
    number: &'a str,
    date: &'a str,
}

impl Pipeline {
    fn new(arguments: &FloorArgs, results: Channel) -> Result<Self> {
        let credentials: Credentials =
            toml::from_str(&fs::read_to_string(&arguments.credentials)?)?;
        let mut builder = Client::builder().no_proxy();
        if let Some(file) = &arguments.ca_file {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(&fs::read(file)?)?);
        }
        let key = SubjectPublicKeyInfoDer::from_pem_file(&arguments.signing_key)?;
        let client = credentials.client.first();
        Ok(Self {
            http: builder.build()?,
            portal: arguments.portal.clone(),
            login_key: LoginKey::from_pem(&fs::read_to_string(&arguments.login_key)?)?,
            signing_key: ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)?,
            results,
            client: client.context("no client in the credentials")?.clone(),
            taxpayers: credentials
                .taxpayer
                .into_iter()
                .map(|taxpayer| (taxpayer.gstin.clone(), taxpayer))
                .collect(),
            sessions: Mutex::default(),
        })
    }

    async fn job(&self, delivery: Delivery) -> Result<()> {
        let job: Job<'_> = serde_json::from_slice(&delivery.data)?;
        let gstin = job.seller_dtls.gstin;
        let cell = self.session_of(gstin);
        let session = cell.get_or_try_init(|| self.log_in(gstin)).await?;

        let url = format!("{}/eicore/v1.03/Invoice", self.portal);
        let request = self
            .http
            .post(url)
            .headers(session.headers.clone())
            .body(sealed_body(&session.key, &delivery.data));
        let response = request.send().await?.error_for_status()?;
        let body = response.bytes().await?;
        let envelope: Envelope<'_> = serde_json::from_slice(&body)?;
        ensure!(envelope.status == 1, "refused: {body:?}");
        let plain = session.key.open(envelope.data.context("no data")?)?;
        let registration: Registration<'_> = serde_json::from_slice(&plain)?;
        self.verify(registration.signed_invoice)?;
        self.verify(registration.signed_qr_code)?;

        let id = delivery.properties.message_id().as_ref();
        let id = id.context("a job without message_id")?.as_str();
        let result = result_of(id, &job, &registration)?;
        self.publish(id, &result).await?;
        let options = BasicAckOptions::default();
        ensure!(delivery.acker.ack(options).await?, "an ack was not sent");
        Ok(())
    }

    fn session_of(&self, gstin: &str) -> Arc<OnceCell<Session>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = sessions.get(gstin) {
            return Arc::clone(cell);
        }
        Arc::clone(sessions.entry(gstin.to_owned()).or_default())
    }

    async fn log_in(&self, gstin: &str) -> Result<Session> {
        let taxpayer = self.taxpayers.get(gstin).context("no credentials")?;
        let app_key = AppKey::generate();
        let login = json!({
            "UserName": taxpayer.username, "Password": taxpayer.password,
            "AppKey": app_key.to_base64().as_str(), "ForceRefreshAccessToken": false,
        });
        let sealed = self.login_key.seal_login(login.to_string().as_bytes())?;
        let mut headers = HeaderMap::new();
        headers.insert("client_id", self.client.client_id.parse()?);
        headers.insert("client_secret", self.client.client_secret.parse()?);
        headers.insert("gstin", gstin.parse()?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = self
            .http
            .post(format!("{}/eivital/v1.04/auth", self.portal))
            .headers(headers.clone())
            .body(json!({ "Data": sealed }).to_string());
        let body = request.send().await?.bytes().await?;
        let granted: Granted = serde_json::from_slice(&body)?;
        headers.insert("user_name", taxpayer.username.parse()?);
        headers.insert("authtoken", granted.data.auth_token.parse()?);
        Ok(Session {
            key: app_key.unwrap_session_key(&granted.data.sek)?,
            headers,
        })
    }

    fn verify(&self, token: &str) -> Result<()> {
        let (signed, signature) = token.rsplit_once('.').context("not a token")?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature)?;
        self.signing_key
            .verify_sig(signed.as_bytes(), &signature)
            .context("a signature is wrong")
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the floor is not the worker: it publishes with the library alone, mandatory and confirmed"
    )]
    async fn publish(&self, id: &str, result: &[u8]) -> Result<()> {
        let mut headers = FieldTable::default();
        headers.insert(
            "x-irn-status".into(),
            AMQPValue::LongString("signed".into()),
        );
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_type("irn.result.v1".into())
            .with_correlation_id(id.into())
            .with_headers(headers);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let confirm = self
            .results
            .basic_publish("".into(), "irn.results".into(), options, result, properties)
            .await?;
        match confirm.await? {
            Confirmation::Ack(None) => Ok(()),
            unwelcome => Err(anyhow::anyhow!("a result was not taken: {unwelcome:?}")),
        }
    }
}

/// `{"Data":"…"}` around the sealed document.
fn sealed_body(key: &SessionKey, document: &[u8]) -> String {
    let mut body = String::with_capacity(sealed_length(document.len()) + 11);
    body.push_str("{\"Data\":\"");
    key.seal_into(document, &mut body);
    body.push_str("\"}");
    body
}

fn result_of(id: &str, job: &Job<'_>, registration: &Registration<'_>) -> Result<Vec<u8>> {
    let result = JobResult {
        version: 1,
        job_id: id,
        operation: "generate",
        status: "signed",
        gstin: job.seller_dtls.gstin,
        document: ResultDocument {
            r#type: job.doc_dtls.typ,
            number: job.doc_dtls.no,
            date: job.doc_dtls.dt,
        },
        irn: registration.irn,
        ack_no: registration.ack_no.to_string(),
        ack_date: registration.ack_dt,
        irn_status: registration.status,
        signed_invoice: registration.signed_invoice,
        signed_qr_code: registration.signed_qr_code,
        signature: "verified",
    };
    Ok(serde_json::to_vec(&result)?)
}
