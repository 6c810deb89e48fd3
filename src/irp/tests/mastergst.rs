//! MasterGST's contract: what is sent, and what its answers mean.

use super::*;
use crate::config::Provider;
use crate::config::credentials::{Account, Client, Subscriber};
use std::sync::Arc;

/// A taxpayer of a client that is registered with the provider, and its session without a key.
fn plain() -> Taxpayer {
    let taxpayer = Taxpayer::new();
    let client = Client {
        subscriber: Some(Subscriber {
            email: "tax+ka@acme.example".to_owned(),
            ip_address: "203.0.113.7".parse().unwrap(),
        }),
        ..Client::clone(&taxpayer.account.client)
    };
    let account = Account {
        client: Arc::new(client),
        ..taxpayer.account
    };
    Taxpayer {
        account,
        ..taxpayer
    }
}

fn access(taxpayer: &Taxpayer) -> Access<'_> {
    Access {
        key: None,
        ..taxpayer.access()
    }
}

fn irp(portal: &Portal) -> Irp {
    let mut config = portal.config();
    config.route.provider = Provider::MasterGst;
    config.route.public_key_file = None;
    Irp::try_new(&config).unwrap()
}

fn answering(body: &str) -> Portal {
    let body = body.to_owned();
    Portal::start(move |_| http("200 OK", "", &body))
}

fn told(data: &str) -> String {
    format!(
        r#"{{"status_cd":"1","status_desc":"GSTR request succeeds","irp":"NIC","data":{data}}}"#
    )
}

/// Status and code of what a submit comes to.
async fn refused(status: &str, body: &str) -> (&'static str, String, Disposition) {
    let (status, body) = (status.to_owned(), body.to_owned());
    let portal = Portal::start(move |_| http(&status, "", &body));
    let taxpayer = plain();
    let answer = irp(&portal).generate(&access(&taxpayer), b"{}").await;
    let error = answer.unwrap_err();
    let code = error.code().unwrap_or_default().to_owned();
    (error.call_result_label(), code, error.disposition())
}

#[tokio::test]
async fn login_goes_in_headers_and_brings_a_session_without_a_key() {
    let portal = answering(
        r#"{"data":{"ClientId":"c","UserName":"u","AuthToken":"tOkEn","Sek":"x","TokenExpiry":"2099-01-01 00:00:00"},"status_cd":"Sucess","status_desc":"GSTR request succeeds","header":{}}"#,
    );
    let taxpayer = plain();
    let login = irp(&portal).login(&taxpayer.account, true).await.unwrap();
    assert_eq!((login.token.expose(), login.key.is_none()), ("tOkEn", true));
    assert!(login.expires_in > Duration::from_secs(3600));
    let request = &portal.requests()[0];
    assert_eq!(
        request.line(),
        "GET /einvoice/authenticate?email=tax%2Bka%40acme.example HTTP/1.1"
    );
    for (name, value) in [
        ("username", "API_demo01"),
        ("password", "Demo\"@12345"),
        ("ip_address", "203.0.113.7"),
        ("client_id", "the-client"),
        ("client_secret", "the-secret"),
        ("gstin", "29AAGCE4783K1Z1"),
    ] {
        assert_eq!(request.header(name), [value], "{name}");
    }
    assert!(request.body.is_empty() && request.header("user_name").is_empty());
}

#[tokio::test]
async fn login_is_read_in_every_form_and_without_a_token_the_account_is_refused() {
    let token = r#""AuthToken":"tOkEn","TokenExpiry":"2099-01-01 00:00:00""#;
    let text = serde_json::Value::from(format!("{{{token}}}")).to_string();
    for body in [
        format!(r#"{{"status_cd":"1","data":{{{token}}}}}"#),
        format!(r#"{{"status_cd":"1","data":{text}}}"#),
        format!(r#"{{"status_cd":"Sucess",{token}}}"#),
        format!(r#"{{"status_cd":1,"Data":null,{token}}}"#),
        format!(r#"{{{token}}}"#),
    ] {
        let login = irp(&answering(&body)).login(&plain().account, false).await;
        assert_eq!(login.unwrap().token.expose(), "tOkEn", "{body}");
    }
    for body in [
        r#"{"status_cd":"1","status_desc":"GSTR request succeeds","data":{}}"#,
        r#"{"status_cd":"Sucess","data":{"AuthToken":""}}"#,
        r#"{"status_cd":"Sucess","data":{"AuthToken":null,"TokenExpiry":null}}"#,
        r#"{"status_cd":"0","status_desc":"[{\"ErrorCode\":\"1019\",\"ErrorMessage\":\"Incorrect Password\"}]"}"#,
    ] {
        let error = irp(&answering(body)).login(&plain().account, false).await;
        let disposition = error.unwrap_err().disposition();
        assert_eq!(disposition, Disposition::RefuseAccount, "{body}");
    }
    // What says nothing at all refuses nobody.
    for body in ["{}", r#"{"message":"maintenance"}"#] {
        let error = irp(&answering(body)).login(&plain().account, false).await;
        let disposition = error.unwrap_err().disposition();
        assert_eq!(
            disposition,
            Disposition::Retry { not_before: None },
            "{body}"
        );
    }
    // Of a bare text nobody knows what it means: it is final too, because a login is no place to try.
    let bare = r#"{"status_cd":"0","status_desc":"Invalid credentials"}"#;
    let error = irp(&answering(bare)).login(&plain().account, false).await;
    assert!(matches!(error.unwrap_err(), IrpError::Refused(_)));
}

#[tokio::test]
async fn login_that_the_provider_does_not_admit_is_refused_and_one_it_fails_is_not() {
    for (status, expected) in [
        ("401 Unauthorized", Some(Disposition::RefuseAccount)),
        ("403 Forbidden", Some(Disposition::RefuseAccount)),
        ("500 Internal Server Error", None),
        ("503 Service Unavailable", None),
    ] {
        let portal = Portal::start(move |_| http(status, "", "<html>"));
        let error = irp(&portal).login(&plain().account, false).await;
        let disposition = error.unwrap_err().disposition();
        let retry = Disposition::Retry { not_before: None };
        assert_eq!(disposition, expected.unwrap_or(retry), "{status}");
    }
}

#[tokio::test]
async fn document_goes_plain_byte_for_byte_and_the_registration_comes_back_as_sent() {
    let portal = answering(&told(&registration()));
    let taxpayer = plain();
    let document =
        "{ \"ValDtls\" : {\"TotInvVal\":21851.00}, \"x\":\"Zoë ₹\\u00e9\",\r\n\t\"Unknown\":1e0 }"
            .as_bytes();
    let answer = irp(&portal).generate(&access(&taxpayer), document).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.irn.as_str(), answer.ack_no.as_deref()),
        (IRN, Some("112510000000001"))
    );
    let request = &portal.requests()[0];
    assert_eq!(
        request.line(),
        "POST /einvoice/type/GENERATE/version/V1_03?email=tax%2Bka%40acme.example HTTP/1.1"
    );
    assert_eq!(request.body, document);
    assert_eq!(request.header("auth-token"), ["tOkEn123"]);
    assert_eq!(request.header("content-type"), ["application/json"]);
    for name in ["password", "authtoken", "user_name"] {
        assert!(request.header(name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn calls_go_to_the_addresses_of_the_provider() {
    let details = r#"{"Gstin":"29AAGCE4783K1Z1","Status":"ACT","BlkStatus":"U"}"#;
    let cancelled = format!(r#"{{"Irn":"{IRN}","CancelDate":"2025-09-05 18:09:00"}}"#);
    let portal = Portal::start(move |request| {
        let line = request.line();
        let data = if line.contains("GST") && !line.contains("GETIRN") {
            details.to_owned()
        } else if line.contains("/CANCEL/") {
            cancelled.clone()
        } else if line.contains("EWAYBILL") {
            r#"{"EwbNo":110000000001,"EwbDt":"2025-09-05 12:30:00"}"#.to_owned()
        } else {
            registration()
        };
        http("200 OK", "", &told(&data))
    });
    let (irp, taxpayer) = (irp(&portal), plain());
    let (access, gstin) = (access(&taxpayer), taxpayer.account.gstin);
    let (irn, seller) = (IRN.parse().unwrap(), "33AAKFN5208R1ZT".parse().unwrap());
    irp.by_document(
        &access,
        &gstin,
        DocumentType::Invoice,
        "SI/25-26/00417",
        "05/09/2025",
    )
    .await
    .unwrap();
    irp.by_irn(&access, &seller, &irn).await.unwrap();
    irp.gstin_details(&access, &gstin).await.unwrap();
    irp.sync_gstin(&access, &gstin).await.unwrap();
    irp.cancel(&access, &irn, "1", "Wrong \"entry\"")
        .await
        .unwrap();
    irp.eway_bill(&access, b"{ }").await.unwrap();
    irp.eway_bill_by_irn(&access, &irn).await.unwrap();
    let requests = portal.requests();
    let lines: Vec<&str> = requests.iter().map(Request::line).collect();
    let email = "email=tax%2Bka%40acme.example";
    let type_of = |operation: &str| format!("/einvoice/type/{operation}/version/V1_03?{email}");
    assert_eq!(
        lines,
        [
            format!("GET {}&param1=INV HTTP/1.1", type_of("GETIRNBYDOCDETAILS")),
            format!(
                "GET {}&param1={IRN}&supplier_gstn={seller} HTTP/1.1",
                type_of("GETIRN")
            ),
            format!("GET {}&param1={gstin} HTTP/1.1", type_of("GSTNDETAILS")),
            format!(
                "GET {}&param1={gstin} HTTP/1.1",
                type_of("SYNC_GSTIN_FROMCP")
            ),
            format!("POST {} HTTP/1.1", type_of("CANCEL")),
            format!("POST {} HTTP/1.1", type_of("GENERATE_EWAYBILL")),
            format!(
                "GET {}&param1={IRN}&supplier_gstn={gstin} HTTP/1.1",
                type_of("GETEWAYBILLIRN")
            ),
        ]
    );
    assert_eq!(requests[0].header("docnum"), ["SI/25-26/00417"]);
    assert_eq!(requests[0].header("docdate"), ["05/09/2025"]);
    let payload = format!(r#"{{"Irn":"{IRN}","CnlRsn":"1","CnlRem":"Wrong \"entry\""}}"#);
    assert_eq!(requests[4].body, payload.as_bytes());
}

#[tokio::test]
async fn empty_data_is_nothing_found_on_a_look_up_and_an_open_outcome_on_a_submit() {
    for data in [
        "[]", "[ ]", "{}", "[{}]", "[ { } ]", "\"[]\"", "\"[{}]\"", "\"\"", "\" \"",
    ] {
        let (portal, taxpayer) = (answering(&told(data)), plain());
        let (irp, access) = (irp(&portal), access(&taxpayer));
        let irn = IRN.parse().unwrap();
        let error = irp.by_irn(&access, &taxpayer.account.gstin, &irn).await;
        let disposition = error.unwrap_err().disposition();
        assert_eq!(disposition, Disposition::NotRegistered, "{data}");
        let error = irp.generate(&access, b"{}").await.unwrap_err();
        assert_ne!(error.disposition(), Disposition::NotRegistered, "{data}");
    }
    // Nothing at all is no answer to the question.
    for body in [
        r#"{"status_cd":"1","status_desc":"GSTR request succeeds"}"#,
        &told("null"),
    ] {
        let (portal, taxpayer) = (answering(body), plain());
        let gstin = taxpayer.account.gstin;
        let error = irp(&portal)
            .by_irn(&access(&taxpayer), &gstin, &IRN.parse().unwrap())
            .await;
        let error = error.unwrap_err();
        let retry = Disposition::Retry { not_before: None };
        assert_eq!(error.disposition(), retry, "{body}");
        // It is there, and works: others may go on asking.
        let answered = crate::outcome::PortalSign::Answered;
        assert_eq!(error.sign(), Some(answered), "{body}");
    }
}

/// There is no key that could be the wrong one: no login helps.
#[tokio::test]
async fn data_that_is_no_object_is_no_proof_of_a_stale_session() {
    for data in ["\"No data found\"", "[1]", "true", "[[]]", "\"[1,2]\""] {
        let (portal, taxpayer) = (answering(&told(data)), plain());
        let gstin = taxpayer.account.gstin;
        let error = irp(&portal)
            .by_irn(&access(&taxpayer), &gstin, &IRN.parse().unwrap())
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.call_result_label(), "unintelligible", "{data}");
    }
}

#[tokio::test]
async fn registration_in_a_list_of_one_is_read_as_it_is() {
    let quoted = serde_json::Value::from(format!("[{}]", registration())).to_string();
    for data in [format!("[{}]", registration()), quoted] {
        let (portal, taxpayer) = (answering(&told(&data)), plain());
        let gstin = taxpayer.account.gstin;
        let found = irp(&portal)
            .by_irn(&access(&taxpayer), &gstin, &IRN.parse().unwrap())
            .await;
        assert_eq!(found.unwrap().irn.as_str(), IRN, "{data}");
    }
}

#[tokio::test]
async fn refusals_oblige_to_the_same_as_the_portals_own() {
    let of = |code: &str| {
        format!(
            r#"{{"status_cd":"0","status_desc":"[{{\"ErrorCode\":\"{code}\",\"ErrorMessage\":\"m\"}}]","irp":"NIC"}}"#
        )
    };
    for (code, expected) in [
        ("2150", Disposition::Adopt),
        ("2278", Disposition::Conflict),
        ("1005", Disposition::Reauth),
        ("1014", Disposition::RefuseAccount),
        ("2189", Disposition::Reject),
        ("3029", Disposition::SyncGstin),
        ("GSPERR300", Disposition::Resolve),
        ("GSP752", Disposition::Resolve),
        ("503", Disposition::Resolve),
        ("429", Disposition::Retry { not_before: None }),
        ("7777", Disposition::Park),
    ] {
        let (_, told, disposition) = refused("200 OK", &of(code)).await;
        assert_eq!((told.as_str(), disposition), (code, expected));
    }
}

/// Whoever says so stands before the portal and behind it.
#[tokio::test]
async fn refusal_of_the_providers_own_leaves_a_submit_open_as_a_code_too() {
    for code in ["401", "403"] {
        let body = format!(r#"{{"status_cd":"0","errorCode":"{code}","errorDesc":"m"}}"#);
        for status in ["200 OK", "401 Unauthorized", "403 Forbidden"] {
            let (label, _, disposition) = refused(status, &body).await;
            let open = ("unconfirmed", Disposition::Resolve);
            assert_eq!((label, disposition), open, "{status} {code}");
        }
    }
}

#[test]
fn providers_code_in_no_table_is_guessed_about_on_a_call_and_never_on_a_login() {
    for code in ["GSP752", "ASP101", "GEN1", "SYS_9"] {
        let on = |call| crate::irp::codes::obliges_to(call, code, &[]);
        assert_eq!(on(Call::Generate), Disposition::Resolve, "{code}");
        assert_eq!(on(Call::Login), Disposition::Park, "{code}");
    }
}

#[tokio::test]
async fn failure_of_the_provider_leaves_a_submit_open_whatever_the_status() {
    for status in [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "500 Oops",
        "502 Oops",
        "504 Oops",
    ] {
        for body in ["", "<html>", r#"{"message":"Forbidden"}"#] {
            let (label, _, disposition) = refused(status, body).await;
            assert_eq!(
                (label, disposition),
                ("unconfirmed", Disposition::Resolve),
                "{status} {body}"
            );
        }
    }
    let (label, ..) = refused("429 Too Many Requests", "").await;
    assert_eq!(label, "throttled");
}

#[tokio::test]
async fn outage_in_the_providers_words_is_a_silent_portal_and_costs_the_taxpayer_nothing() {
    use crate::outcome::PortalSign;
    for (code, expected) in [
        ("GSPGSTDOWN", PortalSign::Silent { retry_after: None }),
        ("504", PortalSign::Silent { retry_after: None }),
        ("429", PortalSign::Throttled { retry_after: None }),
        ("2150", PortalSign::Answered),
    ] {
        let body = format!(r#"{{"status_cd":"0","errorCode":"{code}","errorDesc":"m"}}"#);
        let (portal, taxpayer) = (answering(&body), plain());
        let error = irp(&portal).generate(&access(&taxpayer), b"{}").await;
        let error = error.unwrap_err();
        assert_eq!(error.sign(), Some(expected), "{code}");
        assert_eq!(
            error.is_counted(),
            expected == PortalSign::Answered,
            "{code}"
        );
    }
}

#[tokio::test]
async fn outage_told_in_a_sentence_is_a_silent_portal_whatever_the_code_and_the_case() {
    use crate::outcome::PortalSign;
    for (code, sentence) in [
        ("", "GSPGSTDOWN: GST system is down"),
        ("", "read tcp: connection reset by peer"),
        ("2189", "dial tcp: No Route To Host"),
    ] {
        let desc = if code.is_empty() {
            sentence.to_owned()
        } else {
            format!("{code} : {sentence}")
        };
        let body = format!(r#"{{"status_cd":"0","status_desc":"{desc}"}}"#);
        let (portal, taxpayer) = (answering(&body), plain());
        let error = irp(&portal).generate(&access(&taxpayer), b"{}").await;
        let error = error.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Resolve, "{body}");
        let silent = PortalSign::Silent { retry_after: None };
        assert_eq!(error.sign(), Some(silent), "{body}");
        assert!(!error.is_counted(), "{body}");
    }
}

#[tokio::test]
async fn client_without_email_and_address_sends_nothing() {
    let portal = answering("{}");
    let taxpayer = Taxpayer::new();
    let error = irp(&portal).login(&taxpayer.account, false).await;
    assert!(matches!(error.unwrap_err(), IrpError::Unsendable { .. }));
    assert!(portal.requests().is_empty());
}
