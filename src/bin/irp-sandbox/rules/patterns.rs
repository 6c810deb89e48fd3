//! The published patterns of INV-01 text fields, each with a test that means the same.

/// A regular expression as the portal quotes it, and whether a text matches it.
pub(crate) struct Pattern {
    pub(crate) source: &'static str,
    pub(crate) holds: fn(&str) -> bool,
}

const fn pattern(source: &'static str, holds: fn(&str) -> bool) -> Pattern {
    Pattern { source, holds }
}

/// Any text without quotation mark and backslash.
pub(crate) const TEXT: Pattern = pattern(r#"^([^\"\\])*$"#, |text| !text.contains(['"', '\\']));
pub(crate) const YES_NO: Pattern = pattern("^([Y|N]{1})$", |text| matches!(text, "Y" | "N"));
pub(crate) const VERSION: Pattern = pattern(r"^1\.1$", |text| text == "1.1");
pub(crate) const TAX_SCHEME: Pattern = pattern("^GST$", |text| text.eq_ignore_ascii_case("GST"));
pub(crate) const SUPPLY_TYPE: Pattern = pattern("^(B2B|SEZWP|SEZWOP|EXPWP|EXPWOP|DEXP)$", |text| {
    ["B2B", "SEZWP", "SEZWOP", "EXPWP", "EXPWOP", "DEXP"]
        .iter()
        .any(|typ| typ.eq_ignore_ascii_case(text))
});
pub(crate) const DOCUMENT_TYPE: Pattern = pattern("^(INV|CRN|DBN)$", |text| {
    ["INV", "CRN", "DBN"]
        .iter()
        .any(|typ| typ.eq_ignore_ascii_case(text))
});
pub(crate) const DOCUMENT_NUMBER: Pattern =
    pattern(r"^([a-zA-Z1-9]{1}[a-zA-Z0-9\/-]{0,15})$", is_number);
pub(crate) const PRECEDING_NUMBER: Pattern =
    pattern(r"^[1-9a-zA-Z]{1}[0-9a-zA-Z\/-]{1,15}$", |text| {
        text.len() > 1 && is_number(text)
    });
/// The published pattern ends with 2029; this one does not.
pub(crate) const DATE: Pattern = pattern(r"^[0-3][0-9]\/[0-1][0-9]\/[2][0][0-9][0-9]$", |text| {
    shaped(
        text,
        &["03", "09", "//", "01", "09", "//", "22", "00", "09", "09"],
    )
});
pub(crate) const GSTIN: Pattern = pattern("^([0-9]{2}[0-9A-Z]{13})$", is_gstin);
pub(crate) const GSTIN_OR_URP: Pattern = pattern("^(([0-9]{2}[0-9A-Z]{13})|URP)$", |text| {
    text == "URP" || is_gstin(text)
});
pub(crate) const STATE: Pattern = pattern("^(?!0+$)([0-9]{1,2})$", |text| {
    matches!(text.len(), 1..=2) && digits(text) && text.bytes().any(|byte| byte != b'0')
});
pub(crate) const PHONE: Pattern = pattern("^([0-9]{6,12})$", |text| {
    matches!(text.len(), 6..=12) && digits(text)
});
pub(crate) const EMAIL: Pattern = pattern("^[a-zA-Z0-9+_.-]+@[a-zA-Z0-9.-]+$", |text| {
    text.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && !host.is_empty() && made_of(user, b"+_.-") && made_of(host, b".-")
    })
});
pub(crate) const SERIAL: Pattern = pattern("^([0-9]{1,6})$", |text| {
    matches!(text.len(), 1..=6) && digits(text)
});
pub(crate) const HSN: Pattern = pattern("^(?!0+$)([0-9]{4}|[0-9]{6}|[0-9]{8})$", |text| {
    matches!(text.len(), 4 | 6 | 8) && digits(text) && text.bytes().any(|byte| byte != b'0')
});
pub(crate) const LETTERS: Pattern = pattern("^([A-Z|a-z]{3,8})$", |text| {
    text.bytes().all(|byte| byte.is_ascii_alphabetic())
});
pub(crate) const COUNTRY: Pattern = pattern("^([A-Z]{2})$", |text| {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
});
pub(crate) const ALPHANUMERIC: Pattern = pattern("^([0-9A-Za-z]*)$", |text| made_of(text, b""));
pub(crate) const TRANSPORT_DOCUMENT: Pattern =
    pattern(r"^([a-zA-Z0-9\/-]{1,15})$", |text| made_of(text, b"/-"));
pub(crate) const TRANSPORT_MODE: Pattern =
    pattern("^([1-4]{1})$", |text| matches!(text, "1" | "2" | "3" | "4"));
pub(crate) const VEHICLE_TYPE: Pattern = pattern("^([O|R]{1})$", |text| matches!(text, "O" | "R"));
pub(crate) const CANCEL_REASON: Pattern =
    pattern("^[1-4]{1}$", |text| matches!(text, "1" | "2" | "3" | "4"));
pub(crate) const IRN: Pattern = pattern("^([a-zA-Z0-9]{64})$", is_irn);

/// Fifteen characters in the form of a GSTIN; the check digit is not looked at.
pub(crate) fn is_gstin(text: &str) -> bool {
    text.len() == 15
        && text.bytes().take(2).all(|byte| byte.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

/// Sixty-four hexadecimal digits.
pub(crate) fn is_irn(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_number(text: &str) -> bool {
    let starts = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() && byte != b'0');
    starts && text.len() <= 16 && made_of(text, b"/-")
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn made_of(text: &str, also: &[u8]) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
}

/// Whether each character lies between the two of its range.
fn shaped(text: &str, ranges: &[&str]) -> bool {
    text.len() == ranges.len()
        && text.bytes().zip(ranges).all(|(byte, range)| {
            let range = range.as_bytes();
            (range[0]..=range[1]).contains(&byte)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_accept_what_is_published_and_nothing_else() {
        let cases: &[(&Pattern, &[&str], &[&str])] = &[
            (
                &DOCUMENT_NUMBER,
                &["A", "1/-a", "ABCDEFGHIJKLMNOP"],
                &["", "0A", "/A", "-A", "A B", "ABCDEFGHIJKLMNOPQ", "é"],
            ),
            (&PRECEDING_NUMBER, &["A1"], &["A", "01"]),
            (
                &DATE,
                &["05/09/2025", "31/12/2099"],
                &[
                    "5/9/2025",
                    "05-09-2025",
                    "41/09/2025",
                    "05/09/1925",
                    "0५/09/202",
                ],
            ),
            (
                &GSTIN,
                &["29AAGCE4783K1Z1"],
                &[
                    "29aagce4783k1z1",
                    "URP",
                    "2XAAGCE4783K1Z1",
                    "29AAGCE4783K1Z",
                ],
            ),
            (&GSTIN_OR_URP, &["URP", "29AAGCE4783K1Z1"], &["urp", ""]),
            (&STATE, &["9", "29", "09"], &["0", "00", "", "129", "x"]),
            (&EMAIL, &["a+b@c.d"], &["a", "@c", "a@", "a b@c", "a@b@c"]),
            (
                &HSN,
                &["1001", "520832", "99831100"],
                &["0000", "12345", "10A1", ""],
            ),
            (&TEXT, &["ü – x", ""], &["a\"b", "a\\b"]),
            (&COUNTRY, &["DE"], &["de", "DEU"]),
            (&SUPPLY_TYPE, &["b2b", "EXPWOP"], &["B2C", ""]),
        ];
        for (pattern, good, bad) in cases {
            for text in *good {
                assert!(
                    (pattern.holds)(text),
                    "{} should match {text}",
                    pattern.source
                );
            }
            for text in *bad {
                assert!(
                    !(pattern.holds)(text),
                    "{} should not match {text}",
                    pattern.source
                );
            }
        }
    }
}
