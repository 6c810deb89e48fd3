//! Documents, secrets and keys are overwritten before their memory is given back.
//!
//! An allocator looks through every block that is freed while a test watches, and counts those that still hold the
//! canary. That shows what a type's drop does, and what no type says: the copies left behind by buffers that grew.

#![expect(
    unsafe_code,
    reason = "an allocator is the only one to see memory as it is given back"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::common::InnerInit as _;
use aes::cipher::{BlockModeEncrypt as _, KeyInit as _};
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use irn_worker::config::Environment;
use irn_worker::config::credentials::{self, Secret};
use irn_worker::crypto::AppKey;
use irn_worker::document;
use irn_worker::job::{self, Properties};
use irn_worker::signature::Token;
use tempfile::TempDir;

/// 32 bytes, so that it can be a key as well.
const CANARY: &[u8; 32] = b"cAnArY-cAnArY-0417-wIpE-mE-nOw-!";

thread_local! {
    /// How many blocks held the canary when they were freed, while somebody watches.
    static SEEN: Cell<Option<usize>> = const { Cell::new(None) };
}

struct Watch;

#[global_allocator]
static WATCH: Watch = Watch;

// SAFETY: allocation and release are the system's own; a block is only read, within its bounds, before it is released.
unsafe impl GlobalAlloc for Watch {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    // No `realloc`: the default one allocates, copies and releases, so that the old block is seen too.
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // A thread that ends has no counter any more.
        let watching = SEEN.try_with(|seen| seen.get()).ok().flatten();
        if let Some(seen) = watching
            // SAFETY: the block has `layout.size()` bytes until it is released below.
            && unsafe { holds_canary(block, layout.size()) }
        {
            SEEN.with(|counter| counter.set(Some(seen + 1)));
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Bytes that were never written may be among those read, hence one by one and volatile.
unsafe fn holds_canary(block: *const u8, size: usize) -> bool {
    let mut matched = 0;
    for at in 0..size {
        // SAFETY: `at` is within the block.
        let byte = unsafe { block.add(at).read_volatile() };
        matched = match byte {
            byte if byte == CANARY[matched] => matched + 1,
            byte if byte == CANARY[0] => 1,
            _ => 0,
        };
        if matched == CANARY.len() / 2 {
            return true;
        }
    }
    false
}

/// How many freed blocks held the canary during `work`.
fn left_by(work: impl FnOnce() -> Result<()>) -> Result<usize> {
    SEEN.set(Some(0));
    let worked = work();
    let seen = SEEN.replace(None).context("nobody else ends the watch")?;
    worked.map(|()| seen)
}

fn canary() -> &'static str {
    std::str::from_utf8(CANARY).expect("it is ASCII")
}

fn invoice() -> Vec<u8> {
    let text = include_str!("vectors/invoices/b2b-interstate.json");
    let marked = text.replacen("Kaveri Fabrics", canary(), 1);
    assert!(marked.contains(canary()), "the invoice holds no canary");
    marked.into_bytes()
}

/// As the portal seals it (NIC, encryption page): AES-256-ECB with PKCS#7 padding, in base64.
fn seal(key: &[u8], plain: &[u8]) -> Result<String> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + 16, 0);
    let cipher = ecb::Encryptor::inner_init(Aes256::new_from_slice(key)?);
    let sealed = cipher.encrypt_padded::<Pkcs7>(&mut buffer, plain.len());
    Ok(BASE64_STANDARD.encode(sealed.ok().context("the buffer is long enough")?))
}

#[test]
fn watch_sees_what_is_not_wiped() -> Result<()> {
    let seen = left_by(|| {
        let mut grown = Vec::with_capacity(CANARY.len());
        grown.extend_from_slice(CANARY);
        grown.reserve(1 << 12);
        drop(grown);
        Ok(())
    })?;
    assert_eq!(seen, 2, "the buffer that grew, and the one it grew into");
    Ok(())
}

#[test]
fn job_and_the_view_of_its_document_are_wiped() -> Result<()> {
    let body = invoice();
    let seen = left_by(|| {
        let job = job::decode(Properties::default(), "generate", false, body)
            .map_err(|unreadable| anyhow::anyhow!(unreadable.problem))?;
        let document = document::read(job.body.as_bytes())
            .ok()
            .context("a document")?;
        let copy = job.clone();
        drop((document, copy, job));
        Ok(())
    })?;
    assert_eq!(seen, 0);
    Ok(())
}

#[test]
fn unreadable_delivery_is_wiped() -> Result<()> {
    let body = invoice();
    let seen = left_by(|| {
        let unreadable = job::decode(Properties::default(), "no such key", false, body).err();
        drop(unreadable.context("it has no operation")?);
        Ok(())
    })?;
    assert_eq!(seen, 0);
    Ok(())
}

#[test]
fn secret_is_wiped() -> Result<()> {
    let text = canary().to_owned();
    let seen = left_by(|| {
        let secret = Secret::new(text);
        drop((secret.clone(), secret));
        Ok(())
    })?;
    assert_eq!(seen, 0);
    Ok(())
}

#[test]
fn credentials_leave_no_password_behind_when_they_are_read_and_dropped() -> Result<()> {
    let folder = TempDir::new()?;
    let entry = "[[client]]\nname = \"a\"\nclient_id = \"i\"\nclient_secret_file = \"secret\"\n[[taxpayer]]\n\
                 gstin = \"29AAGCE4783K1Z1\"\nclient = \"a\"\nusername = \"u\"\npassword = \"";
    let file = folder.path().join("c.toml");
    fs::write(&file, format!("{entry}{}\"\n", canary()))?;
    fs::write(folder.path().join("secret"), format!("{}\n", canary()))?;
    let seen = left_by(|| {
        // On this thread, which is the one that is watched.
        let loaded = credentials::read_here(&file, Environment::Sandbox).result?;
        let account = loaded.credentials.accounts.values().next();
        assert_eq!(
            account.map(|account| account.password.expose()),
            Some(canary())
        );
        Ok(())
    })?;
    assert_eq!(seen, 0);
    Ok(())
}

#[test]
fn session_key_and_what_it_opens_are_wiped() -> Result<()> {
    let app_key = AppKey::generate();
    let app_bytes = BASE64_STANDARD.decode(app_key.to_base64().as_bytes())?;
    let wrapped = seal(&app_bytes, CANARY)?;
    let answer = seal(CANARY, &invoice())?;
    let seen = left_by(|| {
        // On the heap, where its end is seen.
        let key = Box::new(app_key.unwrap_session_key(&wrapped)?);
        let opened = key.open(&answer)?;
        assert!(opened.windows(CANARY.len()).any(|window| window == CANARY));
        drop((opened, key));
        Ok(())
    })?;
    assert_eq!(seen, 0);
    Ok(())
}

/// With data as an object. Where it is a JSON text, the JSON library leaves a copy behind while it unescapes it.
#[test]
fn payload_of_a_token_is_wiped() -> Result<()> {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let data = serde_json::json!({"data": {"TrdNm": canary()}});
    let token = format!(
        "{}.{}.AA",
        part(r#"{"alg":"RS256"}"#),
        part(&data.to_string())
    );
    let seen = left_by(|| {
        let token = Token::parse(&token).ok().context("a token")?;
        let data = token.data().ok().context("data")?;
        assert!(data.contains(canary()));
        Ok(())
    })?;
    assert_eq!(seen, 0);
    Ok(())
}
