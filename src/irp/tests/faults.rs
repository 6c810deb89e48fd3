//! Everything but a readable success, and what becomes of it.

use super::*;
use crate::outcome::PortalSign;

const REFUSAL: &str = r#"{"Status":0,"Data":null,"ErrorDetails":[{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}],"InfoDtls":[{"InfCd":"DUPIRN","Desc":{"AckNo":112510000000001,"AckDt":"2025-09-05 12:30:00","Irn":"fae5ffe886954f6ac49fc7984f5524d7dda619175aa78bf6481966fe65d48908"}}]}"#;

/// What one raw answer becomes on a registration and on a look-up.
async fn labels(answer: Vec<u8>) -> (&'static str, &'static str) {
    let portal = Portal::start(move |_| answer.clone());
    let (irp, taxpayer) = (portal.irp(), Taxpayer::new());
    let generate = irp.generate(&taxpayer.access(), b"{}").await.unwrap_err();
    let look_up = irp
        .by_document(
            &taxpayer.access(),
            &taxpayer.account.gstin,
            DocumentType::Invoice,
            "1",
            "05/09/2025",
        )
        .await
        .unwrap_err();
    assert_eq!(portal.requests().len(), 2, "a second try was made");
    (generate.call_result_label(), look_up.call_result_label())
}

#[tokio::test]
async fn each_unreadable_answer_leaves_a_registration_open_and_fails_a_look_up() {
    let truncated = &success(&registration())[..200];
    let oversized = "x".repeat(17 * 1024 * 1024);
    let answers = [
        (
            "HTML",
            http(
                "200 OK",
                "Content-Type: text/html\r\n",
                "<html>The requested URL was rejected</html>",
            ),
        ),
        ("empty", http("200 OK", "", "")),
        ("no content", http("204 No Content", "", "")),
        ("truncated JSON", http("200 OK", "", truncated)),
        (
            "broken off",
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Status\":1,".to_vec(),
        ),
        (
            "broken chunks",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"Sta".to_vec(),
        ),
        ("hung up", Vec::new()),
        ("half a status line", b"HTTP/1.1 20".to_vec()),
        ("not HTTP", b"SSH-2.0-OpenSSH\r\n".to_vec()),
        (
            "announced too large",
            b"HTTP/1.1 200 OK\r\nContent-Length: 17000000\r\n\r\n{".to_vec(),
        ),
        (
            "too large",
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{oversized}").into_bytes(),
        ),
        (
            "redirect",
            http("307 Temporary Redirect", "Location: /elsewhere\r\n", ""),
        ),
        ("403", http("403 Forbidden", "", "<html>")),
        (
            "404",
            http("404 Not Found", "", r#"{"status":404,"error":"Not Found"}"#),
        ),
        ("500", http("500 Internal Server Error", "", "<html>")),
        ("502", http("502 Bad Gateway", "", "")),
        (
            "504 with JSON",
            http(
                "504 Gateway Timeout",
                "",
                r#"{"message":"Endpoint request timed out"}"#,
            ),
        ),
        (
            "500 with an envelope that says nothing",
            http("500 Oops", "", r#"{"Status":0,"ErrorDetails":null}"#),
        ),
        (
            "500 with a success",
            http("500 Oops", "", &success(&registration())),
        ),
        (
            "success without data",
            http("200 OK", "", r#"{"Status":1,"Data":null}"#),
        ),
    ];
    for (name, answer) in answers {
        assert_eq!(
            labels(answer).await,
            ("unconfirmed", "server_error"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn readable_answers_mean_the_same_on_every_call() {
    let seal_of = |key: &[u8], plain: &str| {
        http(
            "200 OK",
            "",
            &format!(r#"{{"Status":1,"Data":"{}"}}"#, seal(key, plain.as_bytes())),
        )
    };
    let answers = [
        ("refusal", http("200 OK", "", REFUSAL), "duplicate"),
        (
            "refusal with 400",
            http("400 Bad Request", "", REFUSAL),
            "duplicate",
        ),
        (
            "refusal with 500",
            http("500 Internal Server Error", "", REFUSAL),
            "duplicate",
        ),
        (
            "401 that says why",
            http("401 Unauthorized", "", REFUSAL),
            "duplicate",
        ),
        (
            "401 bare",
            http("401 Unauthorized", "", ""),
            "session_refused",
        ),
        (
            "401 HTML",
            http("401 Unauthorized", "", "<html>"),
            "session_refused",
        ),
        (
            "401 with a gateway's text",
            http("401 Unauthorized", "", r#"{"message":"Unauthorized"}"#),
            "session_refused",
        ),
        (
            "429",
            http("429 Too Many Requests", "", "slow down"),
            "throttled",
        ),
        (
            "another key",
            seal_of(&[1; 32], &registration()),
            "undecipherable",
        ),
        (
            "not ciphertext",
            http("200 OK", "", r#"{"Status":1,"Data":"abc"}"#),
            "undecipherable",
        ),
        (
            "not JSON inside",
            seal_of(&SESSION_KEY, "nonsense"),
            "undecipherable",
        ),
        (
            "an empty list",
            seal_of(&SESSION_KEY, "[]"),
            "unintelligible",
        ),
        (
            "a text",
            seal_of(&SESSION_KEY, r#""No data found""#),
            "unintelligible",
        ),
        (
            "two registrations",
            seal_of(&SESSION_KEY, &format!("[{0},{0}]", registration())),
            "unintelligible",
        ),
        (
            "no IRN",
            seal_of(
                &SESSION_KEY,
                r#"{"AckNo":1,"SignedInvoice":"a","SignedQRCode":"b"}"#,
            ),
            "unintelligible",
        ),
        (
            "no signed data",
            seal_of(&SESSION_KEY, &registration().replace("a.b.c", "")),
            "unintelligible",
        ),
    ];
    for (name, answer, expected) in answers {
        assert_eq!(labels(answer).await, (expected, expected), "{name}");
    }
}

#[tokio::test]
async fn code_that_nobody_knows_under_a_failure_leaves_a_registration_open_and_fails_a_login_for_now()
 {
    const SAID: &str =
        r#"{"Status":0,"ErrorDetails":[{"ErrorCode":"9001","ErrorMessage":"time-out"}]}"#;
    let answer = || http("504 Gateway Timeout", "Retry-After: 7\r\n", SAID);
    assert_eq!(labels(answer()).await, ("unconfirmed", "server_error"));
    let portal = Portal::start(move |_| answer());
    let error = portal
        .irp()
        .login(&Taxpayer::new().account, false)
        .await
        .unwrap_err();
    let wait = Some(Duration::from_secs(7));
    assert_eq!(error.disposition(), Disposition::Retry { not_before: wait });
    assert!(matches!(error.sign(), Some(PortalSign::Silent { .. })));
}

#[tokio::test]
async fn request_of_a_size_that_is_turned_away_is_rejected_and_not_sent_again() {
    for body in [
        "",
        "<html>413 Request Entity Too Large</html>",
        r#"{"message":"too large"}"#,
    ] {
        let portal = Portal::start(move |_| http("413 Payload Too Large", "", body));
        let taxpayer = Taxpayer::new();
        let error = portal
            .irp()
            .generate(&taxpayer.access(), b"{}")
            .await
            .unwrap_err();
        assert_eq!(
            (error.disposition(), error.code()),
            (Disposition::Reject, Some("413"))
        );
    }
}

#[tokio::test]
async fn duplicate_carries_what_is_registered() {
    let portal = Portal::start(|_| http("200 OK", "", REFUSAL));
    let error = portal
        .irp()
        .generate(&Taxpayer::new().access(), b"{}")
        .await
        .unwrap_err();
    assert_eq!(
        (error.disposition(), error.code()),
        (Disposition::Adopt, Some("2150"))
    );
    let IrpError::Refused(refusal) = error else {
        panic!("{error:?}")
    };
    let duplicate = refusal.duplicate.as_ref().unwrap();
    assert_eq!(duplicate.irn.unwrap().as_str(), IRN);
    assert_eq!(duplicate.ack_no.as_deref(), Some("112510000000001"));
    assert_eq!(
        (refusal.entries().len(), refusal.info[0].code.as_str()),
        (1, "DUPIRN")
    );
}

#[tokio::test]
async fn wait_asked_for_is_read_in_seconds_and_as_a_date() {
    let date =
        "Date: Fri, 05 Sep 2025 06:30:00 GMT\r\nRetry-After: Fri, 05 Sep 2025 06:30:42 GMT\r\n";
    let rows = [
        ("429 Slow", "Retry-After: 7\r\n", Some(7)),
        ("429 Slow", date, Some(42)),
        (
            "429 Slow",
            "Retry-After: Fri, 05 Sep 2025 06:30:42 GMT\r\n",
            Some(0),
        ),
        ("429 Slow", "Retry-After: soon\r\n", None),
        ("429 Slow", "Retry-After: 99999999\r\n", Some(86_400)),
        ("429 Slow", "", None),
        ("503 Busy", "Retry-After: 30\r\n", Some(30)),
    ];
    for (status, headers, seconds) in rows {
        let portal = Portal::start(move |_| http(status, headers, ""));
        let taxpayer = Taxpayer::new();
        let error = portal
            .irp()
            .by_irn(
                &taxpayer.access(),
                &taxpayer.account.gstin,
                &IRN.parse().unwrap(),
            )
            .await
            .unwrap_err();
        let not_before = seconds.map(Duration::from_secs);
        assert_eq!(
            error.disposition(),
            Disposition::Retry { not_before },
            "{headers}"
        );
    }
}

#[tokio::test]
async fn refused_connection_and_failed_handshake_are_not_sent() {
    let taxpayer = Taxpayer::new();
    let portal = Portal::start(|_| Vec::new());
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let not_tls = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in plain.incoming() {
            std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .ok();
        }
    });
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let root = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .unwrap()
        .cert
        .pem();
    let ca_file = portal.folder.path().join("root.pem");
    std::fs::write(&ca_file, root).unwrap();
    for base_url in [
        format!("http://{closed}"),
        format!("https://{not_tls}"),
        "http://portal.invalid".to_owned(),
    ] {
        let mut config = portal.config();
        config.route.base_url = base_url;
        config.route.ca_file = Some(ca_file.clone());
        let irp = Irp::try_new(&config).unwrap();
        let error = irp.generate(&taxpayer.access(), b"{}").await.unwrap_err();
        assert!(matches!(error, IrpError::NotSent(_)), "{error:?}");
        assert_eq!(error.disposition(), Disposition::Retry { not_before: None });
        let error = irp.login(&taxpayer.account, false).await.unwrap_err();
        assert!(matches!(error, IrpError::NotSent(_)), "{error:?}");
    }
    assert!(portal.requests().is_empty());
}

#[tokio::test]
async fn silence_after_the_request_is_a_timeout_with_an_open_outcome() {
    let portal = Portal::start(|_| {
        std::thread::sleep(Duration::from_secs(2));
        Vec::new()
    });
    let config = crate::config::IrpConfig {
        request_timeout: Duration::from_millis(200),
        ..portal.config()
    };
    let error = Irp::try_new(&config)
        .unwrap()
        .generate(&Taxpayer::new().access(), b"{}")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            IrpError::Unconfirmed {
                why: Unreadable::TimedOut,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.disposition(), Disposition::Resolve);
}

#[tokio::test]
async fn refused_logins_stop_the_account_and_failed_ones_are_tried_again() {
    let refusal = |code: &str| {
        http(
            "200 OK",
            "",
            &format!(
                r#"{{"Status":0,"ErrorDetails":[{{"ErrorCode":"{code}","ErrorMessage":"m"}}]}}"#
            ),
        )
    };
    let retry = Disposition::Retry { not_before: None };
    let rows = [
        ("1019", refusal("1019"), Disposition::RefuseAccount),
        ("1015", refusal("1015"), Disposition::RefuseAccount),
        ("1099", refusal("1099"), Disposition::RefuseAccount),
        (
            "401",
            http("401 Unauthorized", "", ""),
            Disposition::RefuseAccount,
        ),
        ("5001", refusal("5001"), retry),
        ("4711", refusal("4711"), Disposition::Park),
        ("500", http("500 Oops", "", ""), retry),
        ("HTML", http("200 OK", "", "<html>"), retry),
        ("hung up", Vec::new(), retry),
        (
            "no token",
            http("200 OK", "", r#"{"Status":1,"Data":{"Sek":"x"}}"#),
            Disposition::Park,
        ),
        (
            "a key of somebody else",
            http(
                "200 OK",
                "",
                r#"{"Status":1,"Data":{"AuthToken":"t","Sek":"YaaTbk6PEBwcwfmTtUKg1OJ0Dor61OTRXQ1mGzguyomfO3UEkm+L024xGOkDpM1K"}}"#,
            ),
            Disposition::Reauth,
        ),
    ];
    for (name, answer, expected) in rows {
        let portal = Portal::start(move |_| answer.clone());
        let error = portal
            .irp()
            .login(&Taxpayer::new().account, false)
            .await
            .unwrap_err();
        assert_eq!(error.disposition(), expected, "{name}");
        assert_eq!(portal.requests().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_sent_cost_no_call() {
    let portal = Portal::start(|_| Vec::new());
    let mut taxpayer = Taxpayer::new();
    taxpayer.account.password = Secret::new("p".repeat(80));
    let error = portal
        .irp()
        .login(&taxpayer.account, false)
        .await
        .unwrap_err();
    assert_eq!(error.disposition(), Disposition::RefuseAccount);
    taxpayer.account.username = "API\nX".to_owned();
    let error = portal
        .irp()
        .generate(&taxpayer.access(), b"{}")
        .await
        .unwrap_err();
    assert!(matches!(error, IrpError::Unsendable { .. }), "{error:?}");
    assert!(portal.requests().is_empty());
}

#[tokio::test]
async fn errors_print_neither_document_nor_secret() {
    let refusal = r#"{"Status":0,"ErrorDetails":[{"ErrorCode":"5002","ErrorMessage":"bad CANARY"}],"InfoDtls":[{"InfCd":"X","Desc":"CANARY"}]}"#;
    let answers = [
        Vec::new(),
        http("500 CANARY", "", "CANARY"),
        http("200 OK", "", "CANARY"),
        http("200 OK", "", refusal),
    ];
    for answer in answers {
        let portal = Portal::start(move |_| answer.clone());
        let mut taxpayer = Taxpayer::new();
        taxpayer.token = AuthToken::new("CANARY".to_owned());
        let (irp, access) = (portal.irp(), taxpayer.access());
        let errors = [
            irp.by_document(
                &access,
                &taxpayer.account.gstin,
                DocumentType::Invoice,
                "CANARY",
                "05/09/2025",
            )
            .await
            .unwrap_err(),
            irp.generate(&access, b"CANARY").await.unwrap_err(),
        ];
        for error in errors {
            let mut printed = format!("{error} {error:?} {irp:?} {access:?}");
            let mut cause = std::error::Error::source(&error);
            while let Some(deeper) = cause {
                printed.push_str(&deeper.to_string());
                cause = deeper.source();
            }
            assert!(!printed.contains("CANARY"), "{printed}");
        }
    }
}

#[tokio::test]
async fn configuration_faults_name_key_and_remedy() {
    let portal = Portal::start(|_| Vec::new());
    let good = portal.config();
    let nonsense = portal.folder.path().join("nonsense.pem");
    std::fs::write(&nonsense, "nonsense").unwrap();
    let with = |change: &dyn Fn(&mut crate::config::IrpConfig)| {
        let mut config = good.clone();
        change(&mut config);
        Irp::try_new(&config).unwrap_err()
    };
    let faults = [
        (
            "irp.base_url",
            with(&|config| config.route.base_url = "portal.example".to_owned()),
        ),
        (
            "irp.base_url",
            with(&|config| config.route.base_url = "ftp://portal.example".to_owned()),
        ),
        (
            "irp.base_url",
            with(&|config| config.route.base_url = "https://portal.example/?a=b".to_owned()),
        ),
        (
            "irp.public_key_file",
            with(&|config| config.route.public_key_file = Some("does/not/exist.pem".into())),
        ),
        (
            "irp.public_key_file",
            with(&|config| config.route.public_key_file = Some(nonsense.clone())),
        ),
        (
            "irp.ca_file",
            with(&|config| config.route.ca_file = Some(nonsense.clone())),
        ),
        (
            "irp.proxy",
            with(&|config| config.proxy = Some(SecretUrl::new("::".to_owned()))),
        ),
        (
            "irp.extra_headers",
            with(&|config| {
                config.route.extra_headers = vec![("a b".to_owned(), Secret::new("c".to_owned()))]
            }),
        ),
    ];
    for (key, fault) in faults {
        assert_eq!(fault.key, key, "{fault}");
        assert!(!fault.remedy.is_empty() && !fault.problem.is_empty());
    }
}
