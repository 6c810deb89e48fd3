//! Documents that were judged and signed before the first request: the portal's answer to them is only sealed and
//! sent, so that a load test measures its client. Each submit of one is a registration of its own, however often it
//! comes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::answer::Registration;
use crate::documents::Document;

/// One document with its answer.
pub(crate) struct Presigned {
    /// What the register will hold once it was submitted.
    pub(crate) document: Document,
    /// Its name in the counters.
    pub(crate) name: String,
    /// The answer, its text included.
    pub(crate) registration: Registration,
}

/// All of them, by their bytes.
#[derive(Default)]
pub(crate) struct Corpus(HashMap<Arc<[u8]>, Arc<Presigned>, BuildHasherDefault<Words>>);

impl Corpus {
    /// Adds a document; false when the very same one is there already.
    pub(crate) fn add(&mut self, presigned: Presigned) -> bool {
        let raw = Arc::clone(&presigned.document.raw);
        self.0.insert(raw, Arc::new(presigned)).is_none()
    }

    /// The document of exactly these bytes, when it is `seller` who submits it.
    pub(crate) fn find(&self, plain: &[u8], seller: &str) -> Option<Arc<Presigned>> {
        if self.0.is_empty() {
            return None;
        }
        let found = self.0.get(plain)?;
        (found.document.seller == seller).then(|| Arc::clone(found))
    }
}

/// Takes a document in eight bytes at a time: the standard hash would be the dearest step of a submit. Nobody chooses
/// the documents in order to collide here, and what is found is compared.
#[derive(Default)]
pub(crate) struct Words(u64);

impl Words {
    fn take(&mut self, word: [u8; 8]) {
        // An odd number without a pattern (the golden ratio's fraction).
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(SPREAD);
    }
}

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.take(*word);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.take(last);
    }

    fn finish(&self) -> u64 {
        // The table takes its place from the low bits, which the multiplication moves the least.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> u64 {
        let mut words = Words::default();
        words.write(bytes);
        words.finish()
    }

    #[test]
    fn documents_that_differ_in_one_byte_have_other_hashes() {
        let document: Vec<u8> = (0..=255).cycle().take(1_003).collect();
        let mut hashes: Vec<u64> = (0..document.len())
            .map(|at| {
                let mut other = document.clone();
                other[at] ^= 1;
                hash(&other)
            })
            .collect();
        hashes.push(hash(&document));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), document.len() + 1);
    }
}
