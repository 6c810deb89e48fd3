//! Buffers that held a document, overwritten when they are dropped.
//!
//! One rule: for documents, of which a hundred kilobytes pass for every job. Passwords and keys are kept in `zeroize`'s
//! types, which write byte by byte and promise more.

use std::fmt;
use std::hint::black_box;
use std::ops::{Deref, DerefMut};

/// A buffer that can be overwritten.
pub trait Wipe {
    /// Overwrites all that is allocated, what is beyond the length included.
    fn wipe(&mut self);
}

impl Wipe for Vec<u8> {
    fn wipe(&mut self) {
        self.clear();
        self.resize(self.capacity(), 0);
        // As if somebody read it: or the compiler would leave out what it sees nobody read.
        black_box(self.as_slice());
    }
}

impl Wipe for String {
    fn wipe(&mut self) {
        std::mem::take(self).into_bytes().wipe();
    }
}

/// Overwritten when dropped; prints nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Wiped<T: Wipe>(T);

impl<T: Wipe> Wiped<T> {
    /// Takes a buffer over.
    pub fn new(buffer: T) -> Self {
        Self(buffer)
    }
}

impl<T: Wipe> From<T> for Wiped<T> {
    fn from(buffer: T) -> Self {
        Self(buffer)
    }
}

impl<T: Wipe> Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl AsRef<[u8]> for Wiped<Vec<u8>> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<T: Wipe> DerefMut for Wiped<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Wipe> Drop for Wiped<T> {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

impl<T: Wipe> fmt::Debug for Wiped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wiped(..)")
    }
}
