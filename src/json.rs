//! Looking through the bytes of a JSON text, eight at a time.
//!
//! One rule: for texts that a parser has proven to be JSON, or whose readers give up at the first surprise.

/// What some programs (.NET's writers of UTF-8 among them) put before a text, to say that it is UTF-8. It is no part of
/// the text, and JSON's parsers may go past it (RFC 8259, section 8.1).
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The text behind a byte order mark; all of it, where it has none.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// How many bytes come before the first quotation mark, backslash or control character.
pub(crate) fn plain_bytes(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let plain = plain_bytes_of(*word);
        if plain < word.len() {
            return index * word.len() + plain;
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ');
    let plain = rest.iter().position(is_special).unwrap_or(rest.len());
    bytes.len() - rest.len() + plain
}

/// The same of eight bytes.
fn plain_bytes_of(word: [u8; 8]) -> usize {
    // Without one there are 64 zeros, and so eight bytes.
    special_bytes(u64::from_le_bytes(word)).trailing_zeros() as usize / 8
}

/// Of eight bytes the highest bit of each special one is set, of the first one at least correctly (Mycroft's test for a
/// byte below another).
fn special_bytes(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let below = |word: u64, limit: u64| word.wrapping_sub(limit * EACH) & !word & HIGH;
    let equals = |byte: u8| below(word ^ (u64::from(byte) * EACH), 1);
    below(word, 0x20) | equals(b'"') | equals(b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn first_special_byte_is_found(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
            let expected = bytes.iter().position(special).unwrap_or(bytes.len());
            prop_assert_eq!(plain_bytes(&bytes), expected);
        }
    }
}
