use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::*;
use crate::config::SigningKeyFile;
use crate::document::Lines;
use crate::document::{self, Document};
use crate::irn::Irn;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::LazyLock;

#[derive(Deserialize)]
struct Vectors {
    kid: String,
    key_file: String,
    tokens: Vec<String>,
}

static VECTORS: LazyLock<Vectors> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../tests/vectors/nic-signed-qr.json")).unwrap()
});

/// A key of our own in the form in which a portal would publish it.
struct Portal {
    pair: RsaKeyPair,
    certificate_pem: String,
    public_pem: String,
}

static PORTALS: LazyLock<[Portal; 2]> = LazyLock::new(|| [Portal::new(), Portal::new()]);

impl Portal {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["portal".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        Self {
            pair: RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap(),
            certificate_pem: certificate.pem(),
            public_pem: key.public_key_pem(),
        }
    }

    fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!(
            "{}.{}",
            encode(header.as_bytes()),
            encode(payload.as_bytes())
        );
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .unwrap();
        format!("{signed}.{}", encode(&signature))
    }

    fn sign_as(&self, kid: &str) -> String {
        self.sign(
            &format!(r#"{{"alg":"RS256","kid":"{kid}","typ":"JWT"}}"#),
            r#"{"data":"{}","iss":"NIC"}"#,
        )
    }
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn keyring(entries: &[(&str, Option<&str>)]) -> Result<Keyring, Vec<KeyFault>> {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<SigningKeyFile> = entries
        .iter()
        .enumerate()
        .map(|(position, (text, kid))| {
            let file = folder.path().join(format!("{position}.pem"));
            std::fs::write(&file, text).unwrap();
            SigningKeyFile {
                file,
                kid: kid.map(str::to_owned),
            }
        })
        .collect();
    Keyring::load(&files)
}

fn verdict(keyring: &Keyring, token: &str) -> Option<Verdict> {
    Token::parse(token).ok().map(|token| keyring.verify(&token))
}

fn nic_keyring(kid: Option<&str>) -> Keyring {
    let file = PathBuf::from("tests/vectors").join(&VECTORS.key_file);
    Keyring::load(&[SigningKeyFile {
        file,
        kid: kid.map(str::to_owned),
    }])
    .unwrap()
}

#[test]
fn codes_that_the_real_sandbox_signed_verify() {
    for keyring in [nic_keyring(None), nic_keyring(Some(&VECTORS.kid))] {
        for token in &VECTORS.tokens {
            assert_eq!(verdict(&keyring, token), Some(Verdict::Verified));
        }
        assert_eq!(
            keyring.fingerprints()[0].kids,
            std::slice::from_ref(&VECTORS.kid)
        );
    }
}

#[test]
fn any_changed_byte_of_a_real_code_is_noticed() {
    let keyring = nic_keyring(Some(&VECTORS.kid));
    for token in &VECTORS.tokens {
        for position in 0..token.len() {
            for replacement in [
                b'A',
                b'B',
                b'g',
                b'.',
                b'=',
                b'-',
                token.as_bytes()[position] ^ 1,
            ] {
                let mut bytes = token.clone().into_bytes();
                if bytes[position] == replacement {
                    continue;
                }
                bytes[position] = replacement;
                let altered = String::from_utf8(bytes).unwrap();
                assert_ne!(
                    verdict(&keyring, &altered),
                    Some(Verdict::Verified),
                    "{position} {replacement}"
                );
            }
        }
        for altered in [
            format!("{token}A"),
            format!("{token}="),
            format!("{token}."),
            token[1..].to_owned(),
        ] {
            assert_ne!(verdict(&keyring, &altered), Some(Verdict::Verified));
        }
    }
}

#[test]
fn data_of_a_real_code_is_read() {
    let qr = Token::parse(&VECTORS.tokens[1]).unwrap().qr_data().unwrap();
    let values = qr.fields().map(|(_, value)| value.unwrap());
    assert_eq!(
        values,
        [
            "29AAAPH9357H000",
            "29AWGPV7107B1Z1",
            "SAM/011",
            "INV",
            "19/08/2021",
            "12908",
            "1",
            "1001",
            "d0c091f072efe8ef71fe2a648690f053cf60b4cc160bc001b530058ad252c0f5",
            "2022-11-06 01:46:00",
        ]
    );
}

#[test]
fn certificate_is_found_by_its_thumbprint_as_kid_or_x5t() {
    let portal = &PORTALS[0];
    let keyring = keyring(&[(&portal.certificate_pem, None)]).unwrap();
    let kids = keyring.fingerprints()[0].kids.clone();
    assert_eq!((kids[0].len(), kids[1].len()), (40, 27));
    assert_eq!(
        verdict(&keyring, &portal.sign_as(&kids[0])),
        Some(Verdict::Verified)
    );
    assert_eq!(
        verdict(&keyring, &portal.sign_as(&kids[0].to_lowercase())),
        Some(Verdict::Verified)
    );
    let by_x5t = portal.sign(&format!(r#"{{"alg":"RS256","x5t":"{}"}}"#, kids[1]), "{}");
    assert_eq!(verdict(&keyring, &by_x5t), Some(Verdict::Verified));
}

#[test]
fn another_key_under_a_known_name_is_bad_and_an_unknown_name_is_unknown() {
    let keyring = keyring(&[(&PORTALS[0].certificate_pem, Some("ours"))]).unwrap();
    assert_eq!(
        verdict(&keyring, &PORTALS[0].sign_as("ours")),
        Some(Verdict::Verified)
    );
    assert_eq!(
        verdict(&keyring, &PORTALS[1].sign_as("ours")),
        Some(Verdict::Bad)
    );
    assert_eq!(
        verdict(&keyring, &PORTALS[1].sign_as("theirs")),
        Some(Verdict::UnknownKey)
    );
    assert_eq!(
        verdict(&keyring, &PORTALS[0].sign_as("theirs")),
        Some(Verdict::UnknownKey)
    );
}

#[test]
fn bare_key_adopts_the_first_name_it_verifies_and_no_other() {
    let keyring = keyring(&[(&PORTALS[0].public_pem, None)]).unwrap();
    assert_eq!(
        verdict(&keyring, &PORTALS[1].sign_as("first")),
        Some(Verdict::UnknownKey)
    );
    assert_eq!(
        verdict(&keyring, &PORTALS[0].sign_as("first")),
        Some(Verdict::Verified)
    );
    assert_eq!(
        verdict(&keyring, &PORTALS[1].sign_as("first")),
        Some(Verdict::Bad)
    );
    assert_eq!(
        verdict(&keyring, &PORTALS[0].sign_as("second")),
        Some(Verdict::UnknownKey)
    );
    assert_eq!(keyring.fingerprints()[0].kids, ["first"]);
}

#[test]
fn two_bare_keys_take_a_name_each() {
    let both = format!("{}{}", PORTALS[0].public_pem, PORTALS[1].public_pem);
    let keyring = keyring(&[(&both, None)]).unwrap();
    for (portal, kid) in PORTALS.iter().zip(["a", "b"]) {
        assert_eq!(
            verdict(&keyring, &portal.sign_as(kid)),
            Some(Verdict::Verified)
        );
    }
    assert_eq!(
        verdict(&keyring, &PORTALS[0].sign_as("b")),
        Some(Verdict::Bad)
    );
}

#[test]
fn name_learnt_from_the_second_token_is_held_against_the_first() {
    let [ours, theirs] = &*PORTALS;
    let (forged, genuine) = (theirs.sign_as("k"), ours.sign_as("k"));
    let (forged, genuine) = (
        Token::parse(&forged).unwrap(),
        Token::parse(&genuine).unwrap(),
    );
    for (invoice, qr_code, expected) in [
        (&forged, &genuine, Verdict::Bad),
        (&genuine, &forged, Verdict::Bad),
        (&genuine, &genuine, Verdict::Verified),
    ] {
        let keyring = keyring(&[(&ours.public_pem, None)]).unwrap();
        assert_eq!(keyring.verify_both(invoice, qr_code), expected);
    }
}

#[test]
fn token_that_names_no_key_must_fit_one_of_ours() {
    let keyring = keyring(&[(&PORTALS[0].certificate_pem, None)]).unwrap();
    assert_eq!(
        verdict(&keyring, &PORTALS[0].sign(r#"{"alg":"RS256"}"#, "{}")),
        Some(Verdict::Verified)
    );
    assert_eq!(
        verdict(&keyring, &PORTALS[1].sign(r#"{"alg":"RS256"}"#, "{}")),
        Some(Verdict::Bad)
    );
    assert_eq!(
        verdict(
            &Keyring::default(),
            &PORTALS[1].sign(r#"{"alg":"RS256"}"#, "{}")
        ),
        Some(Verdict::UnknownKey)
    );
}

#[test]
fn other_algorithms_and_other_shapes_are_malformed() {
    let portal = &PORTALS[0];
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"RS512"}"#,
        r#"{"alg":"rs256"}"#,
        r#"{"alg":7}"#,
        "{}",
        "[]",
        "",
        r#"{"alg":"RS256","crit":["exp"]}"#,
    ] {
        assert!(
            Token::parse(&portal.sign(header, "{}")).is_err(),
            "{header}"
        );
    }
    for text in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c.d",
        "e30.e30.e30",
        "é.é.é",
    ] {
        assert!(Token::parse(text).is_err(), "{text}");
    }
}

#[test]
fn each_unusable_key_file_is_named() {
    let private = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)
        .unwrap()
        .serialize_pem();
    let curve = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .unwrap()
        .public_key_pem();
    let entries = [
        ("", None),
        ("text", None),
        (private.as_str(), None),
        (curve.as_str(), None),
        (&PORTALS[0].public_pem, None),
    ];
    let faults = keyring(&entries).unwrap_err();
    let names: Vec<_> = faults
        .iter()
        .map(|fault| fault.file.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["0.pem", "1.pem", "2.pem", "3.pem"]);
    let missing = Keyring::load(&[SigningKeyFile {
        file: "does/not/exist.pem".into(),
        kid: None,
    }])
    .unwrap_err();
    assert!(missing[0].problem.starts_with("it cannot be read"));
}

fn document() -> Document {
    document::read(
        br#"{"DocDtls":{"Typ":"INV","No":"si/25-26/00417","Dt":"05/09/2025"},"SellerDtls":{"Gstin":"29AAGCE4783K1Z1"},
            "BuyerDtls":{"Gstin":"27AABCT9421M1ZY"},"ValDtls":{"TotInvVal":21851.00}}"#,
    )
    .unwrap()
}

fn qr(json: &str) -> QrData {
    let payload = serde_json::json!({ "data": json, "iss": "NIC" }).to_string();
    Token::parse(&PORTALS[0].sign(r#"{"alg":"RS256"}"#, &payload))
        .unwrap()
        .qr_data()
        .unwrap()
}

fn invoice(json: &str) -> InvoiceData {
    let payload = serde_json::json!({ "iss": "NIC", "data": json }).to_string();
    Token::parse(&PORTALS[0].sign(r#"{"alg":"RS256"}"#, &payload))
        .unwrap()
        .invoice_data()
        .unwrap()
}

const QR: &str = r#"{"SellerGstin":"29AAGCE4783K1Z1","BuyerGstin":"27AABCT9421M1ZY","DocNo":"SI/25-26/00417","DocTyp":"INV","DocDt":"05/09/2025","TotInvVal":21851.0,"ItemCnt":1,"MainHsnCode":"1001","Irn":"fae5ffe886954f6ac49fc7984f5524d7dda619175aa78bf6481966fe65d48908","IrnDt":"2025-09-05 12:30:00"}"#;
const INVOICE: &str = r#"{"AckNo":112510000000001,"AckDt":"2025-09-05 12:30:00","Irn":"fae5ffe886954f6ac49fc7984f5524d7dda619175aa78bf6481966fe65d48908","DocDtls":{"Typ":"INV","No":"SI/25-26/00417","Dt":"05/09/2025"},"SellerDtls":{"Gstin":"29AAGCE4783K1Z1"},"BuyerDtls":{"Gstin":"27AABCT9421M1ZY"},"ValDtls":{"TotInvVal":21851}}"#;

#[test]
fn signed_data_of_the_document_is_accepted_whatever_the_case_and_the_zeros() {
    let document = document();
    assert_eq!(
        compare(&document, &document.irn(), &qr(QR), &invoice(INVOICE)),
        Ok(())
    );
    assert_eq!(invoice(INVOICE).ack_no(), Some("112510000000001"));
}

#[test]
fn each_difference_is_named_whichever_token_has_it() {
    let document = document();
    let altered = [
        ("irn", "fae5ffe8", "0000ffe8"),
        ("seller", "29AAGCE4783K1Z1", "29AAGCE4783K1Z2"),
        ("buyer", "27AABCT9421M1ZY", "URP"),
        ("number", "SI/25-26/00417", "SI/25-26/00418"),
        ("type", "INV", "CRN"),
        ("date", "05/09/2025", "06/09/2025"),
        ("total", "21851", "21852"),
        ("total", "\"TotInvVal\"", "\"Other\""),
    ];
    for (field, from, to) in altered {
        let other_qr = compare(
            &document,
            &document.irn(),
            &qr(&QR.replace(from, to)),
            &invoice(INVOICE),
        );
        assert_eq!(other_qr.unwrap_err().fields, [field], "{from}");
        let other_invoice = compare(
            &document,
            &document.irn(),
            &qr(QR),
            &invoice(&INVOICE.replace(from, to)),
        );
        assert_eq!(other_invoice.unwrap_err().fields, [field], "{from}");
    }
    let other_irn: Irn = "0".repeat(64).parse().unwrap();
    assert_eq!(
        compare(&document, &other_irn, &qr(QR), &invoice(INVOICE))
            .unwrap_err()
            .fields,
        ["irn"]
    );
}

/// INV-01 has two decimal places, and an ERP's arithmetic may leave more.
#[test]
fn total_that_the_portal_has_rounded_to_its_two_decimals_is_the_same() {
    for (ours, is_same) in [
        ("21851.004", true),
        ("21850.999999999996", true),
        ("21851.0099", true),
        ("21851.01", false),
        ("21850.99", false),
    ] {
        let mut document = document();
        document.total = Some(ours.parse().unwrap());
        let compared = compare(&document, &document.irn(), &qr(QR), &invoice(INVOICE));
        assert_eq!(compared.is_ok(), is_same, "{ours}");
    }
}

#[test]
fn token_that_nobody_verifies_may_be_signed_in_any_way_and_no_key_believes_it() {
    let payload = serde_json::json!({ "data": QR, "iss": "NIC" }).to_string();
    let token = PORTALS[0].sign(r#"{"alg":"PS256","crit":["x"]}"#, &payload);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let padded = format!("{signed}==.{signature}==");
    for token in [&token, &padded] {
        assert!(Token::parse(token).is_err());
        let read = Token::parse_unproven(token).unwrap();
        assert!(read.qr_data().unwrap() == qr(QR));
        let keyring = keyring(&[(&PORTALS[0].public_pem, None)]).unwrap();
        assert_ne!(keyring.verify(&read), Verdict::Verified);
    }
    assert!(Token::parse_unproven("no token").is_err());
}

#[test]
fn lines_are_compared_with_both_tokens_and_a_claim_that_is_absent_is_no_difference() {
    let lines = |items: &str| Lines::read(&format!(r#"{{"ItemList":[{items}]}}"#)).unwrap();
    let ours = lines(r#"{"HsnCd":"100190","AssAmt":100}"#);
    let same = lines(r#"{"ItemNo":0,"HsnCd":"100190","AssAmt":100.0}"#);
    assert_eq!(compare_lines(&ours, &qr(QR), Some(&same)), [""; 0]);
    assert_eq!(compare_lines(&ours, &qr("{}"), None), [""; 0]);
    for (field, from, to) in [
        ("item count", "\"ItemCnt\":1", "\"ItemCnt\":2"),
        ("main HSN", "\"1001\"", "\"1002\""),
    ] {
        let other = qr(&QR.replace(from, to));
        assert_eq!(compare_lines(&ours, &other, Some(&same)), [field]);
    }
    let longer = lines(r#"{"HsnCd":"100190","AssAmt":50},{"HsnCd":"100190","AssAmt":50}"#);
    assert_eq!(compare_lines(&ours, &qr(QR), Some(&longer)), ["item count"]);
    let other = lines(r#"{"HsnCd":"520832","AssAmt":100}"#);
    assert_eq!(compare_lines(&ours, &qr(QR), Some(&other)), ["main HSN"]);
}

proptest::proptest! {
    #[test]
    fn any_text_is_taken_apart_without_panic(text in ".{0,200}", parts in proptest::collection::vec("[ -~]{0,40}", 3)) {
        drop(Token::parse(&text));
        let encoded: Vec<String> = parts.iter().map(|part| encode(part.as_bytes())).collect();
        if let Ok(token) = Token::parse(&encoded.join(".")) {
            drop((token.qr_data(), token.invoice_data()));
        }
    }
}
