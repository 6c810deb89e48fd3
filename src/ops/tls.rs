//! What to do about a connection that TLS refuses, and about certificates that are or will be of no use.
//!
//! One rule: the TLS library's words say what is wrong; what to do about it is said here.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use x509_parser::pem::Pem;

use super::check::{Finding, Verdict};

/// So long before its end, somebody should see to a new certificate.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

const RENEW: &str = "have the server's certificate renewed, if this machine's clock is right";
const NOT_YET: &str = "correct this machine's clock, or wait for the certificate to begin";
const NAME: &str =
    "name the server by a host name that its certificate is made for, or have it made for this one";
const PLAIN: &str =
    "what answers there does not speak TLS: correct the port, or use amqp:// or http://";

/// Words of rustls, about certificates first and then those of alerts.
const REMEDIES: [(&str, &str); 12] = [
    ("certificate expired", RENEW),
    ("Expired", RENEW),
    ("not valid yet", NOT_YET),
    ("NotValidYet", NOT_YET),
    ("not valid for name", NAME),
    ("NotValidForName", NAME),
    (
        "CertificateRequired",
        "the server asks for a certificate: set broker.client_cert_file and broker.client_key_file",
    ),
    (
        "HandshakeFailure",
        "the server does not accept this client: set broker.client_cert_file and broker.client_key_file, if it asks for a certificate",
    ),
    (
        "UnknownCA",
        "the server does not know the CA of broker.client_cert_file: use a certificate that it accepts",
    ),
    (
        "BadCertificate",
        "the server does not accept broker.client_cert_file: use a certificate that it accepts",
    ),
    ("InvalidMessage", PLAIN),
    ("InvalidContentType", PLAIN),
];

/// What to do about a TLS error with these words; `roots` is the setting that names the roots to trust.
pub(super) fn remedy_for(text: &str, roots: &'static str) -> Option<&'static str> {
    // The other one is of a CA that has the same name as one of ours.
    if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        return Some(if roots.starts_with("broker") {
            "name the CA that issued the broker's certificate in broker.ca_file"
        } else {
            "name the CA that issued the portal's certificate in irp.ca_file"
        });
    }
    // An alert is the server's word on our certificate.
    if text.contains("alert: CertificateExpired") {
        return Some("the server finds broker.client_cert_file expired: have it renewed");
    }
    let told = REMEDIES.into_iter().find(|(word, _)| text.contains(word));
    told.map(|(_, remedy)| remedy)
}

/// Until when the certificates in a file are valid; nothing if it holds none.
pub(super) fn validity(key: &str, file: &Path, now: Timestamp) -> Vec<Finding> {
    let Ok(bytes) = std::fs::read(file) else {
        // Told of by who reads it.
        return Vec::new();
    };
    let certificates = Pem::iter_from_buffer(&bytes)
        .flatten()
        .filter(|pem| pem.label == "CERTIFICATE");
    let mut findings = Vec::new();
    for pem in certificates {
        let Ok(certificate) = pem.parse_x509() else {
            continue;
        };
        let validity = certificate.validity();
        let at = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let (begins, ends) = (
            at(validity.not_before.timestamp()),
            at(validity.not_after.timestamp()),
        );
        // What comes after the client's own are CAs, which the broker may know otherwise.
        let is_decisive = key == "broker.client_cert_file" && findings.is_empty();
        findings.push(judge(key, file, (begins, ends), is_decisive, now));
    }
    findings
}

fn judge(
    key: &str,
    file: &Path,
    (begins, ends): (Timestamp, Timestamp),
    is_decisive: bool,
    now: Timestamp,
) -> Finding {
    let what = format!("{key}: the certificate in {}", file.display());
    // The portal's own may go on to verify what they have signed.
    let verdict = if is_decisive {
        Verdict::Misconfigured
    } else {
        Verdict::Warning
    };
    if ends <= now {
        let remedy = "replace it by one that is valid";
        return Finding::new(verdict, format!("{what} expired at {ends}"), remedy);
    }
    if now < begins {
        let remedy = "correct this machine's clock, or use one that is valid";
        return Finding::new(
            verdict,
            format!("{what} is not valid before {begins}"),
            remedy,
        );
    }
    if ends < now + SOON {
        let remedy = "have a new one ready by then";
        return Finding::new(
            Verdict::Warning,
            format!("{what} ends soon, at {ends}"),
            remedy,
        );
    }
    Finding::ok(format!("{what} is valid until {ends}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_told_of_before_they_end_and_refused_after() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let days = |days: i64| now + SignedDuration::from_hours(24 * days);
        for (key, is_decisive, begins, ends, verdict) in [
            ("broker.client_cert_file", true, -1, 31, Verdict::Ok),
            ("broker.client_cert_file", true, -1, 29, Verdict::Warning),
            (
                "broker.client_cert_file",
                true,
                -2,
                -1,
                Verdict::Misconfigured,
            ),
            (
                "broker.client_cert_file",
                true,
                1,
                90,
                Verdict::Misconfigured,
            ),
            ("broker.client_cert_file", false, -2, -1, Verdict::Warning),
            ("irp.signing_keys", false, -2, -1, Verdict::Warning),
        ] {
            let validity = (days(begins), days(ends));
            let finding = judge(key, Path::new("x.pem"), validity, is_decisive, now);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
        }
    }
}
