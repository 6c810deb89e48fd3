//! What each part of a job costs, one by one: `cargo bench --bench parts`, or `-- NAME` for some of them.
//!
//! Each runs alone on one thread with its data in the cache: read the figures as what a job needs at least, and for
//! what a change of one part saves.

mod documents;
mod tokens;

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, anyhow};
use base64::prelude::*;
use cipher::{BlockModeEncrypt as _, KeyInit as _, block_padding::Pkcs7};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use irn_worker::config::credentials::{Account, Client, Secret};
use irn_worker::config::{self, Environment, LimitsConfig, Rate, Rung, ValidateConfig};
use irn_worker::crypto::{AppKey, SessionKey};
use irn_worker::document;
use irn_worker::gstin::Gstin;
use irn_worker::irn::Irn;
use irn_worker::job::Class;
use irn_worker::limits::{Admission, Limits};
use irn_worker::outcome::{
    ResultDocument, ResultMessage, SignatureState, Status, Timing, result_message_id,
};
use irn_worker::preflight::Preflight;
use irn_worker::retry::Ladder;
use irn_worker::signature::{Token, Verdict};
use irn_worker::worker::measured::{MeasuredLanes, settle_common_endings};
use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::tokens::Signer;

/// The lengths of the two tokens of a common registration.
const INVOICE_TOKEN: usize = 12_700;
const QR_TOKEN: usize = 800;

/// The answer to a document of 8 KB.
const ANSWER: usize = 14_000;

const GSTINS: [usize; 2] = [1, 10_000];

criterion_group! {
    name = parts;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = crypto, signatures, documents, preflight, results, settlement, lanes, limiter
}
criterion_main!(parts);

fn crypto(c: &mut Criterion) {
    let key = session_key().expect("a key made here fits itself");
    let mut group = c.benchmark_group("seal");
    for (name, document) in documents::sizes() {
        group.throughput(Throughput::Bytes(document.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| key.seal(black_box(document.as_bytes())))
        });
    }
    group.finish();
    let answer = key.seal(&vec![b'a'; ANSWER]);
    let mut group = c.benchmark_group("open");
    group.throughput(Throughput::Bytes(ANSWER as u64));
    group.bench_function("14 KB", |b| {
        b.iter(|| {
            key.open(black_box(&answer))
                .expect("it was sealed with this key")
        });
    });
    group.finish();
}

fn signatures(c: &mut Criterion) {
    let signer = Signer::new().expect("a key can be made");
    let keyring = signer.keyring().expect("the key is read again");
    let mut group = c.benchmark_group("verify");
    for (name, length) in [("12.7 KB", INVOICE_TOKEN), ("0.8 KB", QR_TOKEN)] {
        let text = signer.token(length).expect("the key signs");
        let verdict = || Token::parse(black_box(&text)).map(|token| keyring.verify(&token));
        assert_eq!(verdict().ok(), Some(Verdict::Verified));
        group.bench_function(name, |b| b.iter(verdict));
    }
    group.finish();
}

fn documents(c: &mut Criterion) {
    let mut group = c.benchmark_group("document");
    for (name, document) in documents::sizes() {
        let view = || document::read(black_box(document.as_bytes()));
        assert!(view().is_ok());
        group.throughput(Throughput::Bytes(document.len() as u64));
        group.bench_function(name, |b| b.iter(view));
    }
    group.finish();
}

fn preflight(c: &mut Criterion) {
    let strict = ValidateConfig {
        preflight: config::Preflight::Strict,
        rules_file: None,
    };
    let preflight =
        Preflight::new(&strict, Environment::Production).expect("what is built in compiles");
    let now: Timestamp = "2025-09-06T06:30:00Z".parse().expect("a moment");
    let mut group = c.benchmark_group("preflight");
    for (name, document) in documents::sizes() {
        let check = || preflight.check(black_box(document.as_bytes()), now, None);
        let report = check();
        let found: Vec<_> = report.errors().map(|found| &found.code).collect();
        assert!(found.is_empty(), "{found:?}");
        group.throughput(Throughput::Bytes(document.len() as u64));
        group.bench_function(name, |b| b.iter(check));
    }
    group.finish();
}

fn results(c: &mut Criterion) {
    let json = |length: usize| {
        let text = format!("\"{}\"", "a".repeat(length));
        RawValue::from_string(text).expect("a text in quotation marks is JSON")
    };
    let [invoice, qr_code] = [INVOICE_TOKEN, QR_TOKEN].map(json);
    let irn = "f".repeat(64);
    let message = ResultMessage {
        gstin: Some(gstin(0)),
        document: Some(ResultDocument {
            r#type: "INV",
            number: "PARTS/1",
            date: "05/09/2025",
        }),
        irn: Some(&irn),
        ack_no: Some("112510000000001"),
        ack_date: Some("2025-09-05T12:30:00+05:30"),
        irn_status: Some("ACT"),
        signed_invoice: Some(&invoice),
        signed_qr_code: Some(&qr_code),
        signature: Some(SignatureState::Verified),
        timing_ms: Timing {
            queued: 12,
            irp: 310,
            total: 340,
        },
        ..ResultMessage::bare("job-1", "generate", Status::Signed)
    };
    let mut group = c.benchmark_group("result");
    group.bench_function("body", |b| {
        b.iter(|| serde_json::to_vec(black_box(&message)));
    });
    group.bench_function("message id", |b| {
        b.iter(|| result_message_id(black_box("job-1"), Status::Signed, Some(&irn)));
    });
    group.finish();
}

fn settlement(c: &mut Criterion) {
    let ladder = ladder();
    assert_eq!(settle_common_endings(&ladder), 2);
    c.bench_function("settle/four endings", |b| {
        b.iter(|| settle_common_endings(black_box(&ladder)));
    });
}

/// A turn taken and given back, by one GSTIN after the other.
fn lanes(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("turn");
    for count in GSTINS {
        let lanes = MeasuredLanes::new(64, &ladder());
        let gstins: Vec<_> = (0..count).map(gstin).collect();
        let irns: Vec<_> = (0..count).map(irn).collect();
        let mut all = gstins.iter().zip(irns).cycle();
        group.bench_function(BenchmarkId::new("GSTINs", count), |b| {
            b.iter(|| {
                let (gstin, irn) = all.next().expect("a cycle has no end");
                assert!(runtime.block_on(lanes.take_and_give_back(gstin, irn)));
            });
        });
    }
    group.finish();
}

/// A call within all limits.
fn limiter(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("admit");
    for count in GSTINS {
        let limits = Limits::new(&no_limits());
        let accounts: Vec<_> = (0..count).map(account).collect();
        let mut all = accounts.iter().cycle();
        group.bench_function(BenchmarkId::new("GSTINs", count), |b| {
            b.iter(|| {
                let account = all.next().expect("a cycle has no end");
                let patience = Duration::from_secs(1);
                let admitting = limits.admit_call(account, Class::Bulk, patience);
                let admission = runtime.block_on(admitting);
                assert_eq!(admission, Admission::Granted);
            });
        });
    }
    group.finish();
}

/// A session's key as a login's answer brings it: sealed with the key that the login made up.
fn session_key() -> Result<SessionKey> {
    let made_up = AppKey::generate();
    let bytes = BASE64_STANDARD.decode(made_up.to_base64().as_bytes())?;
    // 32 bytes of key, and room for the padding.
    let mut buffer = [7; 48];
    let sealed = ecb::Encryptor::<aes::Aes256>::new_from_slice(&bytes)?
        .encrypt_padded::<Pkcs7>(&mut buffer, 32)
        .map_err(|_| anyhow!("the padding fits"))?;
    Ok(made_up.unwrap_session_key(&BASE64_STANDARD.encode(sealed))?)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O can be made")
}

fn ladder() -> Ladder {
    let rung = |(name, seconds): (&str, u64)| Rung {
        name: name.to_owned(),
        delay: Duration::from_secs(seconds),
    };
    let rungs = [("15s", 15), ("1m", 60), ("5m", 300)].map(rung);
    Ladder::try_new(rungs.into()).expect("there are rungs")
}

/// So high that nobody ever waits.
fn no_limits() -> LimitsConfig {
    let rate = Rate {
        count: u32::MAX.try_into().expect("not zero"),
        period: Duration::from_secs(1),
    };
    LimitsConfig {
        per_gstin: rate,
        total: rate,
        auth_per_gstin: rate,
        error_budget_per_gstin: rate,
        error_budget_total: rate,
    }
}

fn account(number: usize) -> Account {
    Account {
        gstin: gstin(number),
        client: std::sync::Arc::new(Client {
            name: "acme".to_owned(),
            id: "ACME".to_owned(),
            secret: Secret::new("not a secret".to_owned()),
            route: None,
            subscriber: None,
        }),
        username: "API_acme".to_owned(),
        password: Secret::new("not a secret".to_owned()),
    }
}

fn gstin(number: usize) -> Gstin {
    let letter = |shift: usize| char::from(b'A' + u8::try_from(number / shift % 26).expect("< 26"));
    let (a, b) = (letter(1), letter(26));
    let text = format!("29{a}{b}GCE{:04}K1Z1", number % 10_000);
    text.parse().expect("it has the form of a GSTIN")
}

fn irn(number: usize) -> Irn {
    format!("{number:064x}").parse().expect("64 digits")
}
