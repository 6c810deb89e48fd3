//! Hostile bytes never stop the worker: deliveries, documents, tokens, control messages, and the files it is configured
//! with. What the portal answers is fuzzed beside the code that reads it, in `src/irp/tests/fuzz.rs`.
//!
//! `scripts/fuzz COUNT` runs all of it with many inputs.

mod mutate;

use std::path::{Path, PathBuf};

use irn_worker::broker::{AMQPValue, FieldTable};
use irn_worker::config::{self, Environment, SigningKeyFile, credentials};
use irn_worker::control::{Notice, Order};
use irn_worker::document;
use irn_worker::job::{self, Again, DeadLetter, Obituary, PriorOutcome, Properties, set, short};
use irn_worker::preflight::Preflight;
use irn_worker::signature::{Keyring, Token};
use jiff::Timestamp;
use mutate::{count, fuzz};
use tempfile::TempDir;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn file(path: &str) -> Vec<u8> {
    std::fs::read(repository(path)).expect("it is part of the repository")
}

fn invoices() -> Vec<Vec<u8>> {
    let folder = repository("tests/vectors/invoices");
    let entries = std::fs::read_dir(folder).expect("it is part of the repository");
    entries
        .map(|entry| std::fs::read(entry.expect("listed").path()).expect("it can be read"))
        .collect()
}

fn no_state(_: usize) {}

const HEADERS: [&str; 14] = [
    "x-irn-gstin",
    "x-irn-deadline",
    "x-irn-batch-id",
    "x-irn-batch-seq",
    "x-irn-attempt",
    "x-irn-first-seen",
    "x-irn-outcome",
    "x-irn-error",
    "x-irn-replays",
    "x-irn-reason",
    "x-irn-dead-at",
    "x-irn-routing-key",
    "x-death",
    "traceparent",
];

/// Properties as the bytes say: lines of a sign for what is set, and its text.
fn properties(bytes: &[u8]) -> (Properties, String) {
    let (mut properties, mut headers, mut key) =
        (Properties::default(), FieldTable::default(), String::new());
    for line in bytes.split(|byte| *byte == b'\n') {
        let [sign, rest @ ..] = line else { continue };
        let text = String::from_utf8_lossy(rest);
        match sign {
            b'K' => key = text.into_owned(),
            b't' => properties = properties.with_type(short(&text)),
            b'c' => properties = properties.with_content_type(short(&text)),
            b'm' => properties = properties.with_message_id(short(&text)),
            b'r' => properties = properties.with_reply_to(short(&text)),
            b'o' => properties = properties.with_correlation_id(short(&text)),
            b'p' => properties = properties.with_timestamp(u64::MAX >> (rest.len() % 64)),
            sign => set(
                &mut headers,
                HEADERS[usize::from(*sign) % HEADERS.len()],
                value(rest),
            ),
        }
    }
    (properties.with_headers(headers), key)
}

fn value(bytes: &[u8]) -> AMQPValue {
    let number = |bytes: &[u8]| {
        let digits = bytes
            .iter()
            .fold(0_i64, |n, b| n.wrapping_mul(31).wrapping_add(i64::from(*b)));
        digits.wrapping_mul(digits)
    };
    match bytes {
        [b'!', rest @ ..] => AMQPValue::LongLongInt(number(rest)),
        [b'?', rest @ ..] => AMQPValue::LongInt(number(rest) as i32),
        [b'+', rest @ ..] => AMQPValue::Boolean(rest.is_empty()),
        [b'/', ..] => AMQPValue::Void,
        [b'*', rest @ ..] => AMQPValue::FieldArray(vec![value(rest), value(rest)].into()),
        [b'$', rest @ ..] => AMQPValue::Double(number(rest) as f64),
        text => AMQPValue::LongString(text.into()),
    }
}

#[test]
fn deliveries_never_panic() {
    let mut seeds: Vec<Vec<u8>> = [
        "Kgenerate\ntirn.generate.v1\ncapplication/json\nmj-1\n\0",
        "Kurgent.cancel\na29AAGCE4783K1Z1\nb2026-01-01T00:00:00Z\nrerp.one\noC-1\n\0{}",
        "Kgenerate\nd!3\ne2026-01-01T00:00:00Z\nfunknown\ng2150\nh!1\niNO_CREDENTIALS\n\0[{},{}]",
        "Kget\nj2026-01-01T00:00:00+05:30\nkgenerate\nl*x\nm!9\np12345\n\0",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    for invoice in invoices() {
        let delivery = [b"Kgenerate\nmj-1\n\0", invoice.as_slice()].concat();
        seeds.push(delivery);
    }
    fuzz("delivery", &seeds, count(300), no_state, |(), input| {
        let split = input.iter().position(|byte| *byte == 0);
        let (head, body) = input.split_at(split.unwrap_or(input.len()));
        let (properties, key) = properties(head);
        let letter = DeadLetter::new(&properties);
        drop((
            letter.gstin(),
            letter.dead_at(),
            letter.routing_key("generate"),
        ));
        let replayed = letter.replayed((input.len() % 2 == 0).then_some(Timestamp::UNIX_EPOCH), "");
        drop(job::decode(replayed, &key, true, Vec::new()));
        handle(properties, &key, body.strip_prefix(b"\0").unwrap_or(body));
    });
}

/// What the worker does with a delivery before it calls anybody.
fn handle(properties: Properties, key: &str, body: &[u8]) {
    let obituary = Obituary {
        reason: "FUZZED",
        gstin: None,
        document: None,
        dead_at: Timestamp::UNIX_EPOCH,
        replica: "fuzz",
    };
    match job::decode(properties, key, false, body.to_vec()) {
        Ok(job) => {
            let again = Again {
                attempt: job.attempt,
                outcome: PriorOutcome::Unknown,
                first_seen: Some(job.first_seen.unwrap_or(Timestamp::UNIX_EPOCH)),
                error: job.last_error.as_deref(),
                portal: job.portal.as_deref().map(Into::into),
            };
            drop((
                job.id(None),
                job.returned_headers(),
                job.queued(Timestamp::UNIX_EPOCH),
            ));
            drop((
                job.dead(&again, &obituary),
                job.batch_member("b", 1, 2, &again),
            ));
            if let Ok(document) = document::read(job.body.as_bytes()) {
                drop((document.irn(), document.label(), document.date_text()));
            }
        }
        Err(unreadable) => drop((
            unreadable.id(),
            unreadable.returned_headers(),
            unreadable.poison(&obituary, None),
        )),
    }
}

#[test]
fn documents_never_panic_in_preflight() {
    let folder = TempDir::new().expect("a folder");
    let config = folder.path().join("worker.toml");
    std::fs::write(&config, required(folder.path())).expect("a file");
    let config = config::load(&config, Vec::new())
        .expect("it is complete")
        .config;
    let preflight = Preflight::new(&config.validate, Environment::Sandbox).expect("rules");
    let now: Timestamp = "2025-09-06T00:00:00Z".parse().expect("a time");
    fuzz(
        "preflight",
        &invoices(),
        count(10),
        no_state,
        |(), input| {
            let report = preflight.check(input, now, None);
            drop((report.refuses(), report.errors().collect::<Vec<_>>()));
        },
    );
}

#[test]
fn tokens_never_panic() {
    let vector: serde_json::Value =
        serde_json::from_slice(&file("tests/vectors/nic-signed-qr.json")).expect("JSON");
    let mut seeds = vec![b"e30.e30.e30".to_vec()];
    gather_tokens(&vector, &mut seeds);
    assert!(seeds.len() > 1, "no token in the vectors");
    let key = SigningKeyFile {
        file: repository("tests/vectors/nic-sandbox-signing.pem"),
        kid: None,
    };
    let keyring = Keyring::load(&[key]).expect("a key");
    fuzz("token", &seeds, count(220), no_state, |(), input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(token) = Token::parse(&text) {
            std::hint::black_box((token.kid(), token.data().is_ok(), keyring.verify(&token)));
            drop((
                token.qr_data().is_ok(),
                token.invoice_data().is_ok(),
                token.invoice_lines(),
            ));
        }
    });
}

fn gather_tokens(value: &serde_json::Value, tokens: &mut Vec<Vec<u8>>) {
    match value {
        serde_json::Value::String(text) if text.starts_with("ey") => {
            tokens.push(text.clone().into())
        }
        serde_json::Value::Object(members) => {
            members.values().for_each(|v| gather_tokens(v, tokens))
        }
        serde_json::Value::Array(items) => items.iter().for_each(|v| gather_tokens(v, tokens)),
        _ => {}
    }
}

#[test]
fn control_messages_never_panic() {
    let seeds = [
        br#"{"version":1,"action":"resume","gstin":"29AAGCE4783K1Z1"}"#.to_vec(),
        br#"{"version":2,"action":"pause","reason":"x","until":"2026-01-01T00:00:00Z"}"#.to_vec(),
        br#"{"version":1,"action":"pause","client":"a","reason":"x","since":"2026-01-01T00:00:00Z","until":"2026-01-02T00:00:00Z"}"#
            .to_vec(),
    ];
    fuzz("control", &seeds, count(110), no_state, |(), input| {
        drop(Order::read(input));
        assert!(Notice::read(input).is_none_or(|(from, _)| from.len() < input.len()));
    });
}

fn required(folder: &Path) -> String {
    let key = folder.join("irp.pem");
    std::fs::write(&key, "a key").expect("a file");
    format!(
        "irp.base_url = \"https://irp.example.in\"\nirp.public_key_file = \"{}\"\n",
        key.display()
    )
}

/// A file of each thread's own.
fn own_file(folder: &TempDir) -> impl Fn(usize) -> PathBuf + Sync {
    let folder = folder.path().to_owned();
    move |thread| folder.join(format!("{thread}.toml"))
}

#[test]
fn credentials_files_never_panic() {
    let folder = TempDir::new().expect("a folder");
    let entry = "[[client]]\nname = \"a\"\nclient_id = \"i\"\nclient_secret = \"s\"\n[[taxpayer]]\ngstin = \
                 \"29AAGCE4783K1Z1\"\nclient = \"a\"\nusername = \"u\"\npassword = \"p\"\n";
    let seeds = [
        file("config/credentials.example.toml"),
        entry.as_bytes().to_vec(),
        entry
            .replace("password = ", "password_file = ")
            .into_bytes(),
    ];
    fuzz(
        "credentials",
        &seeds,
        count(5),
        own_file(&folder),
        |path, input| {
            std::fs::write(&path, input).expect("a file");
            match credentials::load(path, Environment::Production) {
                Ok(loaded) => drop(loaded),
                Err(faults) => assert!(!faults.to_string().is_empty()),
            }
        },
    );
}

#[test]
fn configuration_files_never_panic() {
    let folder = TempDir::new().expect("a folder");
    let required = required(folder.path());
    let seeds = [
        [required.as_bytes(), &file("config/worker.toml")].concat(),
        format!("{required}[retry]\ndelays = [\"1s\", \"2s\"]\nimmediate = {{ max_elapsed = \"1s\" }}\n").into_bytes(),
        format!("{required}[limits]\nper_gstin = \"10/s\"\n[irp]\nunknown_codes = {{ \"1\" = \"retry\" }}\n").into_bytes(),
    ];
    fuzz(
        "configuration",
        &seeds,
        count(5),
        own_file(&folder),
        |path, input| {
            std::fs::write(&path, input).expect("a file");
            let text = String::from_utf8_lossy(input).chars().take(40).collect();
            let variables = vec![("IRN_WORKER__RETRY__DELAYS".to_owned(), text)];
            match config::load(path, variables) {
                Ok(loaded) => drop(loaded),
                Err(faults) => assert!(!faults.to_string().is_empty()),
            }
        },
    );
}

#[test]
fn seeds_are_read_as_meant() {
    let (properties, key) = properties(b"Kgenerate\nmj-1\na29AAGCE4783K1Z1\n");
    assert_eq!(key, "generate");
    let job = job::decode(properties, &key, false, Vec::new()).expect("a job");
    assert_eq!(job.message_id.as_deref(), Some("j-1"));
}
