//! What the portal has refused lately: the same bytes are not sent again, the earlier refusal is answered.
//!
//! NIC names the repetition of an unchanged, erroneous request as the main waste. One rule: nothing is kept but in
//! memory, of the document only a digest, and no type here prints a text.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::gstin::Gstin;
use crate::outcome::{ErrorEntry, Info};

/// How long a refusal is believed: rules and registers change overnight.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What all refusals together may take, texts included.
const MOST_BYTES: u64 = 8 << 20;

/// A refusal takes so much beside its texts.
const OVERHEAD_BYTES: u64 = 256;

/// The portal's refusal of a document.
pub struct Earlier {
    /// All errors, in the portal's order.
    pub errors: Vec<ErrorEntry>,
    /// Additional information.
    pub info: Vec<Info>,
    until: Instant,
}

impl fmt::Debug for Earlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Earlier(..)")
    }
}

/// SHA-256 of the account's GSTIN and the document's bytes: another account may be allowed what this one is not.
type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

/// Refusals of the last day, the oldest forgotten when there are too many.
#[derive(Debug)]
pub struct Refusals(Cache<Fingerprint, Arc<Earlier>, Bytes>);

impl Default for Refusals {
    fn default() -> Self {
        let expected = usize::try_from(MOST_BYTES / (4 * OVERHEAD_BYTES)).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(expected, MOST_BYTES, Bytes))
    }
}

impl Refusals {
    /// What the portal said of these bytes, if it has refused them within a day.
    pub fn earlier(&self, gstin: &Gstin, document: &[u8]) -> Option<Arc<Earlier>> {
        // The usual case, and no digest then.
        if self.0.is_empty() {
            return None;
        }
        let fingerprint = fingerprint(gstin, document);
        let earlier = self.0.get(&fingerprint)?;
        if earlier.until <= Instant::now() {
            self.0.remove(&fingerprint);
            return None;
        }
        Some(earlier)
    }

    /// The portal has refused these bytes, for reasons that lie in them alone.
    pub fn remember(
        &self,
        gstin: &Gstin,
        document: &[u8],
        errors: Vec<ErrorEntry>,
        info: Vec<Info>,
    ) {
        let until = Instant::now() + KEPT;
        let earlier = Earlier {
            errors,
            info,
            until,
        };
        self.0
            .insert(fingerprint(gstin, document), Arc::new(earlier));
    }

    /// Forgets what is older than a day. To be called now and then.
    pub fn tidy(&self) {
        let now = Instant::now();
        self.0.retain(|_, earlier| earlier.until > now);
    }
}

fn fingerprint(gstin: &Gstin, document: &[u8]) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(gstin.as_str().as_bytes());
    context.update(document);
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

/// Weighs a refusal by its texts.
#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Fingerprint, Arc<Earlier>> for Bytes {
    fn weight(&self, _: &Fingerprint, earlier: &Arc<Earlier>) -> u64 {
        let errors = earlier.errors.iter();
        let errors: usize = errors.map(|e| e.code.len() + e.message.len()).sum();
        let info = earlier.info.iter();
        let info: usize = info.map(|i| i.code.len() + i.detail.len()).sum();
        OVERHEAD_BYTES + u64::try_from(errors + info).unwrap_or(u64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gstins() -> [Gstin; 2] {
        ["29AAGCE4783K1Z1", "27AABCT9421M1ZY"].map(|text| text.parse().unwrap())
    }

    fn refused(refusals: &Refusals, gstin: &Gstin, document: &[u8], message: &str) {
        let errors = vec![ErrorEntry::irp("2189", message)];
        refusals.remember(gstin, document, errors, Vec::new());
    }

    #[tokio::test(start_paused = true)]
    async fn refused_bytes_are_answered_as_before_for_a_day() {
        let refusals = Refusals::default();
        let [gstin, other] = gstins();
        refused(&refusals, &gstin, b"{\"No\":1}", "total");
        let known = || refusals.earlier(&gstin, b"{\"No\":1}");
        assert_eq!(known().unwrap().errors[0].code, "2189");
        assert!(refusals.earlier(&gstin, b"{\"No\":2}").is_none());
        assert!(refusals.earlier(&other, b"{\"No\":1}").is_none());
        tokio::time::advance(KEPT - Duration::from_secs(1)).await;
        refusals.tidy();
        assert!(known().is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(known().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_of_refusals_is_bounded_by_the_bytes_of_their_texts() {
        let refusals = Refusals::default();
        let [gstin, _] = gstins();
        let long = "x".repeat(10_000);
        for n in 0..5_000_u32 {
            refused(&refusals, &gstin, &n.to_be_bytes(), &long);
        }
        assert!(refusals.0.weight() <= MOST_BYTES, "{}", refusals.0.weight());
        assert!(refusals.0.len() > 100, "{}", refusals.0.len());
        assert!(refusals.earlier(&gstin, &4_999_u32.to_be_bytes()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn texts_of_refusals_are_not_printed() {
        let refusals = Refusals::default();
        let [gstin, _] = gstins();
        refused(&refusals, &gstin, b"{}", "CANARY");
        let earlier = refusals.earlier(&gstin, b"{}");
        assert!(!format!("{refusals:?} {earlier:?}").contains("CANARY"));
    }
}
