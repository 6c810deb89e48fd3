//! A taxpayer's GST identification number: format and check digit, nothing that needs a portal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const LENGTH: usize = 15;
const ALPHABET: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// A well-formed GSTIN: two digits (the state), then thirteen upper-case letters or digits.
///
/// The check digit is *not* part of being well-formed, because the portal's sandbox hands out numbers that
/// fail it; ask [`Gstin::has_valid_check_digit`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gstin([u8; LENGTH]);

/// Why a text is not a GSTIN. Says nothing of the text itself: it may be somebody's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a GSTIN is two digits followed by thirteen capital letters or digits, for example 29AAGCE4783K1Z1"
)]
pub struct BadGstin;

impl Gstin {
    /// The fifteen characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The two-digit code of the state the taxpayer is registered in.
    pub fn state_code(&self) -> &str {
        &self.as_str()[..2]
    }

    /// Whether the fifteenth character is the check digit of the first fourteen (a Luhn scheme over 36 symbols).
    pub fn has_valid_check_digit(&self) -> bool {
        self.0[LENGTH - 1] == self.check_digit()
    }

    /// Whether it is one under which an e-commerce operator collects tax at source: nothing is sold under such a one. Its
    /// fourteenth character is C (the portal's pattern of GSTINs for TCS).
    pub fn is_of_a_tax_collector(&self) -> bool {
        self.0[LENGTH - 2] == b'C'
    }

    fn check_digit(&self) -> u8 {
        let sum: usize = self.0[..LENGTH - 1]
            .iter()
            .enumerate()
            .map(|(position, &symbol)| {
                let product = symbol_value(symbol) * (1 + position % 2);
                product / 36 + product % 36
            })
            .sum();
        ALPHABET[(36 - sum % 36) % 36]
    }
}

fn symbol_value(symbol: u8) -> usize {
    match symbol {
        b'0'..=b'9' => usize::from(symbol - b'0'),
        _ => usize::from(symbol - b'A') + 10,
    }
}

impl FromStr for Gstin {
    type Err = BadGstin;

    fn from_str(text: &str) -> Result<Self, BadGstin> {
        let bytes: [u8; LENGTH] = text.as_bytes().try_into().map_err(|_| BadGstin)?;
        let well_formed = bytes[..2].iter().all(u8::is_ascii_digit)
            && bytes[2..]
                .iter()
                .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        well_formed.then_some(Self(bytes)).ok_or(BadGstin)
    }
}

impl fmt::Display for Gstin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Gstin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Gstin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Gstin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GENUINE: [&str; 10] = [
        "29AAGCE4783K1Z1",
        "27AABCT9421M1ZY",
        "33AAKFN5208R1ZT",
        "07AADCB2230M1ZV",
        "24AAHCS7315P2ZV",
        "97AAACZ4567Q1Z9",
        "09AAJCM7191E1Z5",
        "33AAACC1206D1ZN",
        "27AAPFU0939F1ZV",
        "29AAACP7879D1Z0",
    ];

    #[test]
    fn check_digit_of_known_numbers_is_valid() {
        for text in GENUINE {
            assert!(
                text.parse::<Gstin>().unwrap().has_valid_check_digit(),
                "{text}"
            );
        }
    }

    #[test]
    fn made_up_sandbox_numbers_are_well_formed_without_check_digit() {
        for text in [
            "22AAAAA0000A1Z5",
            "02AMBPG7773M002",
            "29AABCT1332L000",
            "37ARZPT4384Q1MT",
        ] {
            assert!(
                !text.parse::<Gstin>().unwrap().has_valid_check_digit(),
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_numbers_are_refused() {
        for text in [
            "",
            "29AAGCE4783K1Z",
            "29aagce4783k1z1",
            "X9AAGCE4783K1Z1",
            "29AAGCE4783K1Z1 ",
            "29AAGCE4783K1Zé",
        ] {
            assert_eq!(text.parse::<Gstin>(), Err(BadGstin), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_single_substitution_in_a_genuine_number_is_noticed(which in 0..GENUINE.len(), at in 2usize..15, to in 0usize..36) {
            let mut bytes = GENUINE[which].as_bytes().to_vec();
            prop_assume!(bytes[at] != ALPHABET[to]);
            bytes[at] = ALPHABET[to];
            let altered: Gstin = std::str::from_utf8(&bytes).unwrap().parse().unwrap();
            prop_assert!(!altered.has_valid_check_digit());
        }
    }
}
