mod counted;
mod faults;
mod fuzz;
mod mastergst;
mod portal;
mod profiles;
mod variants;

use super::*;
use crate::config::credentials::Secret;
use crate::config::{HeaderStyle, SecretUrl};
use crate::outcome::Disposition;
use aes::cipher::{BlockModeDecrypt, KeyInit, block_padding::Pkcs7, common::InnerInit};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use portal::{Portal, Request, SESSION_KEY, Taxpayer, http, seal, success};
use std::time::Duration;

const IRN: &str = "fae5ffe886954f6ac49fc7984f5524d7dda619175aa78bf6481966fe65d48908";

fn registration() -> String {
    format!(
        r#"{{"AckNo":112510000000001,"AckDt":"2025-09-05 12:30:00","Irn":"{IRN}","SignedInvoice":"a.b.c","SignedQRCode":"d.e.f","Status":"ACT","EwbNo":141000000001,"EwbDt":"2025-09-05 12:30:00","EwbValidTill":null,"Remarks":null,"New":{{}}}}"#
    )
}

fn opened(request: &Request) -> Vec<u8> {
    let mut bytes = BASE64_STANDARD.decode(request.data()).unwrap();
    let cipher = ecb::Decryptor::inner_init(aes::Aes256::new_from_slice(&SESSION_KEY).unwrap());
    cipher.decrypt_padded::<Pkcs7>(&mut bytes).unwrap().to_vec()
}

fn login_answer(request: &Request, expiry: &str) -> String {
    let login: serde_json::Value = serde_json::from_str(&request.login()).unwrap();
    let app_key = BASE64_STANDARD
        .decode(login["AppKey"].as_str().unwrap())
        .unwrap();
    format!(
        r#"{{"Status":1,"Data":{{"ClientId":"c","UserName":"u","AuthToken":"tOkEn","Sek":"{}","TokenExpiry":"{expiry}"}},"ErrorDetails":null,"InfoDtls":null}}"#,
        seal(&app_key, &SESSION_KEY).replace('/', "\\/")
    )
}

#[tokio::test]
async fn login_is_sent_exactly_and_its_session_key_unwrapped() {
    let portal =
        Portal::start(|request| http("200 OK", "", &login_answer(request, "2099-01-01 00:00:00")));
    let taxpayer = Taxpayer::new();
    let login = portal.irp().login(&taxpayer.account, true).await.unwrap();
    assert_eq!(login.token.expose(), "tOkEn");
    assert_eq!(
        &**login.key.unwrap().open(&seal(&SESSION_KEY, b"{}")).unwrap(),
        b"{}"
    );
    let request = &portal.requests()[0];
    assert_eq!(request.line(), "POST /eivital/v1.04/auth HTTP/1.1");
    for (name, value) in [
        ("client_id", "the-client"),
        ("client_secret", "the-secret"),
        ("gstin", "29AAGCE4783K1Z1"),
        ("content-type", "application/json"),
        ("accept-encoding", "identity"),
    ] {
        assert_eq!(request.header(name), [value], "{name}");
    }
    for name in ["user_name", "authtoken", "client-id", "referer"] {
        assert!(request.header(name).is_empty(), "{name}");
    }
    let json = request.login();
    assert!(
        json.starts_with(r#"{"UserName":"API_demo01","Password":"Demo\"@12345","AppKey":""#),
        "{json}"
    );
    assert!(
        json.ends_with(r#"=","ForceRefreshAccessToken":true}"#),
        "{json}"
    );
}

#[tokio::test]
async fn login_whose_data_is_json_in_a_text_is_read_too() {
    let portal = Portal::start(|request| {
        let answer = login_answer(request, "2099-01-01 00:00:00");
        let mut answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        answer["Data"] = answer["Data"].to_string().into();
        http("200 OK", "", &answer.to_string())
    });
    let taxpayer = Taxpayer::new();
    let login = portal.irp().login(&taxpayer.account, false).await.unwrap();
    assert_eq!(login.token.expose(), "tOkEn");
}

#[tokio::test]
async fn login_whose_data_is_in_base64_or_sealed_is_read_with_its_key_wrapped_or_as_it_is() {
    let forms: [fn(&str, &[u8]) -> String; 3] = [
        |json, _| BASE64_STANDARD.encode(json),
        |json, app_key| seal(app_key, json.as_bytes()),
        // The key itself, in what only the app key opens.
        |json, app_key| {
            let mut data: serde_json::Value = serde_json::from_str(json).unwrap();
            data["Sek"] = BASE64_STANDARD.encode(SESSION_KEY).into();
            seal(app_key, data.to_string().as_bytes())
        },
    ];
    for form in forms {
        let portal = Portal::start(move |request| {
            let login: serde_json::Value = serde_json::from_str(&request.login()).unwrap();
            let app_key = login["AppKey"].as_str().unwrap();
            let app_key = BASE64_STANDARD.decode(app_key).unwrap();
            let answer = login_answer(request, "2099-01-01 00:00:00");
            let mut answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            answer["Data"] = form(&answer["Data"].to_string(), &app_key).into();
            http("200 OK", "", &answer.to_string())
        });
        let taxpayer = Taxpayer::new();
        let login = portal.irp().login(&taxpayer.account, false).await.unwrap();
        assert_eq!(login.token.expose(), "tOkEn");
        let sealed = seal(&SESSION_KEY, b"{}");
        assert_eq!(&**login.key.unwrap().open(&sealed).unwrap(), b"{}");
    }
}

#[tokio::test]
async fn expiry_is_indian_time_measured_by_the_portals_clock() {
    // 12:00 at the portal is 06:30 UTC; our own clock says something else entirely.
    let date = "Date: Fri, 05 Sep 2025 06:30:00 GMT\r\n";
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let rows = [
        ("2025-09-05 18:00:00", minutes(360)),
        ("2025-09-05 12:00:01", Duration::from_secs(1)),
        ("2025-09-05 11:59:59", Duration::ZERO),
        ("2025-09-05 11:45:01", Duration::ZERO),
        // UTC instead of IST, day and month the other way round, a clock of its own: none of them ended then.
        ("2025-09-05 07:30:00", minutes(60)),
        ("2025-05-09 18:00:00", minutes(60)),
        ("2019-01-01 00:00:00", minutes(60)),
        ("2025-09-09 12:00:00", minutes(24 * 60)),
        ("05/09/2025 12:30:00", minutes(30)),
        ("not a time", minutes(60)),
    ];
    let taxpayer = Taxpayer::new();
    for (expiry, expected) in rows {
        let portal =
            Portal::start(move |request| http("200 OK", date, &login_answer(request, expiry)));
        let login = portal.irp().login(&taxpayer.account, false).await.unwrap();
        assert_eq!(login.expires_in, expected, "{expiry}");
        let agrees = ["2025-09-05 1", "05/09/2025", "not"]
            .iter()
            .any(|start| expiry.starts_with(start));
        assert_eq!(login.dates_by_the_clock, agrees, "{expiry}");
        assert!(login.clock_skew.unwrap().is_negative());
    }
}

#[tokio::test]
async fn expiry_without_a_date_header_is_measured_by_our_clock() {
    let expiry = Timestamp::now() + jiff::SignedDuration::from_mins(330 + 60);
    let expiry = expiry.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let portal = Portal::start(move |request| http("200 OK", "", &login_answer(request, &expiry)));
    let login = portal
        .irp()
        .login(&Taxpayer::new().account, false)
        .await
        .unwrap();
    let left = login.expires_in.as_secs();
    assert!((3590..=3600).contains(&left), "{left}");
    assert_eq!(login.clock_skew, None);
}

#[tokio::test]
async fn document_arrives_byte_for_byte_and_the_registration_comes_back_as_sent() {
    let portal = Portal::start(|_| http("200 OK", "", &success(&registration())));
    let taxpayer = Taxpayer::new();
    let document =
        "{ \"ValDtls\" : {\"TotInvVal\":21851.00}, \"x\":\"Zoë ₹\\u00e9\",\r\n\t\"Unknown\":1e0 }"
            .as_bytes();
    let answer = portal
        .irp()
        .generate(&taxpayer.access(), document)
        .await
        .unwrap();
    let request = &portal.requests()[0];
    assert_eq!(request.line(), "POST /eicore/v1.03/Invoice HTTP/1.1");
    assert_eq!(opened(request), document);
    assert!(request.body.starts_with(b"{\"Data\":\"") && request.body.ends_with(b"\"}"));
    for (name, value) in [
        ("gstin", "29AAGCE4783K1Z1"),
        ("user_name", "API_demo01"),
        ("authtoken", "tOkEn123"),
    ] {
        assert_eq!(request.header(name), [value], "{name}");
    }
    assert_eq!(answer.irn.as_str(), IRN);
    assert_eq!(answer.ack_no.as_deref(), Some("112510000000001"));
    assert_eq!(
        answer.ack_date_rfc3339().as_deref(),
        Some("2025-09-05T12:30:00+05:30")
    );
    assert_eq!(
        (
            answer.signed_invoice.as_str(),
            answer.signed_qr_code.as_str()
        ),
        ("a.b.c", "d.e.f")
    );
    let bill = answer.eway_bill.as_ref().unwrap().get();
    assert_eq!(
        bill,
        r#"{"EwbNo":141000000001,"EwbDt":"2025-09-05 12:30:00"}"#
    );
    assert_eq!(format!("{answer:?}"), format!("Registration({IRN})"));
}

#[tokio::test]
async fn registration_is_read_from_its_variants() {
    let rows = [
        (
            "number in a text",
            registration().replace("112510000000001", "\"112510000000001\""),
        ),
        (
            "other case",
            registration()
                .replace("\"Irn\"", "\"irn\"")
                .replace("AckNo", "ackno"),
        ),
        (
            "upper-case IRN",
            registration().replace(IRN, &IRN.to_uppercase()),
        ),
    ];
    for (name, plain) in rows {
        let portal = Portal::start(move |_| http("200 OK", "", &success(&plain)));
        let answer = portal
            .irp()
            .generate(&Taxpayer::new().access(), b"{}")
            .await
            .unwrap();
        assert_eq!(
            (answer.irn.as_str(), answer.ack_no.as_deref()),
            (IRN, Some("112510000000001")),
            "{name}"
        );
    }
    let without_bill = registration()
        .replace("141000000001", "null")
        .replace("\"ACT\"", "\"CNL\"")
        .replace("a.b.c", "");
    let body = success(&without_bill).replace(
        "\"InfoDtls\":null",
        r#""InfoDtls":[{"InfCd":"EWBERR","Desc":[]}]"#,
    );
    let portal = Portal::start(move |_| http("200 OK", "", &body));
    let taxpayer = Taxpayer::new();
    let answer = portal
        .irp()
        .by_irn(
            &taxpayer.access(),
            &taxpayer.account.gstin,
            &IRN.parse().unwrap(),
        )
        .await
        .unwrap();
    assert!(answer.eway_bill.is_none());
    assert_eq!(
        (answer.status.as_str(), answer.info[0].code.as_str()),
        ("CNL", "EWBERR")
    );
}

#[tokio::test]
async fn look_ups_and_master_calls_go_to_the_published_paths() {
    let details = r#"{"Gstin":"29AAGCE4783K1Z1","Status":"ACT","BlkStatus":"U","TxpType":"REG","DtReg":"2017-07-01","DtDReg":null,"StateCode":29}"#;
    let portal = Portal::start(move |request| {
        let plain = if request.line().contains("/Master/") {
            details.to_owned()
        } else {
            registration()
        };
        http("200 OK", "", &success(&plain))
    });
    let (irp, taxpayer) = (portal.irp(), Taxpayer::new());
    let (access, gstin) = (taxpayer.access(), taxpayer.account.gstin);
    irp.by_document(
        &access,
        &gstin,
        DocumentType::Invoice,
        "SI/25-26/0 & 1",
        "05/09/2025",
    )
    .await
    .unwrap();
    irp.by_irn(&access, &gstin, &IRN.parse().unwrap())
        .await
        .unwrap();
    assert!(
        irp.gstin_details(&access, &gstin)
            .await
            .unwrap()
            .is_active()
    );
    let synchronised = irp.sync_gstin(&access, &gstin).await.unwrap();
    assert_eq!(synchronised.registered_on.as_deref(), Some("2017-07-01"));
    assert_eq!(synchronised.deregistered_on, None);
    let requests = portal.requests();
    let lines: Vec<&str> = requests.iter().map(Request::line).collect();
    let by_irn = format!("GET /eicore/v1.03/Invoice/irn/{IRN} HTTP/1.1");
    assert_eq!(
        lines,
        [
            "GET /eicore/v1.03/Invoice/irnbydocdetails?doctype=INV&docnum=SI%2F25-26%2F0+%26+1&docdate=05%2F09%2F2025 HTTP/1.1",
            &by_irn,
            "GET /eivital/v1.04/Master/gstin/29AAGCE4783K1Z1 HTTP/1.1",
            "GET /eivital/v1.04/Master/syncgstin/29AAGCE4783K1Z1 HTTP/1.1",
        ]
    );
    for request in &requests {
        assert_eq!(request.header("gstin"), ["29AAGCE4783K1Z1"]);
        assert_eq!(request.header("authtoken"), ["tOkEn123"]);
        assert!(request.header("sup_gstin").is_empty());
    }
}

#[tokio::test]
async fn operator_names_the_seller_whose_registration_it_looks_for() {
    let portal = Portal::start(|_| http("200 OK", "", &success(&registration())));
    let (irp, taxpayer) = (portal.irp(), Taxpayer::new());
    let (access, seller) = (taxpayer.access(), "33AAKFN5208R1ZT".parse().unwrap());
    irp.by_document(&access, &seller, DocumentType::Invoice, "1", "05/09/2025")
        .await
        .unwrap();
    irp.by_irn(&access, &seller, &IRN.parse().unwrap())
        .await
        .unwrap();
    let requests = portal.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(request.header("gstin"), ["29AAGCE4783K1Z1"]);
        assert_eq!(request.header("sup_gstin"), ["33AAKFN5208R1ZT"]);
    }
}

#[tokio::test]
async fn cancellation_is_sent_as_documented() {
    let portal = Portal::start(|_| {
        http(
            "200 OK",
            "",
            &success(&format!(
                r#"{{"Irn":"{IRN}","CancelDate":"2025-09-05 18:09:00"}}"#
            )),
        )
    });
    let taxpayer = Taxpayer::new();
    let irn = IRN.parse().unwrap();
    let cancelled = portal
        .irp()
        .cancel(&taxpayer.access(), &irn, "1", "Wrong \"entry\"")
        .await
        .unwrap();
    assert_eq!(
        cancelled.cancel_date_rfc3339().as_deref(),
        Some("2025-09-05T18:09:00+05:30")
    );
    let request = &portal.requests()[0];
    assert_eq!(request.line(), "POST /eicore/v1.03/Invoice/Cancel HTTP/1.1");
    let payload = format!(r#"{{"Irn":"{IRN}","CnlRsn":"1","CnlRem":"Wrong \"entry\""}}"#);
    assert_eq!(opened(request), payload.as_bytes());
}

#[tokio::test]
async fn eway_bill_is_asked_for_byte_for_byte_and_its_members_stay_as_sent() {
    let answer = r#"{"EwbNo":110000000001,"EwbDt":"2025-09-05 12:30:00","EwbValidTill":null,"Status":"CNL"}"#;
    let portal = Portal::start(|_| http("200 OK", "", &success(answer)));
    let taxpayer = Taxpayer::new();
    let payload = format!(r#"{{ "Irn":"{IRN}", "Distance" : 0.0 }}"#);
    let irp = portal.irp();
    let bill = irp
        .eway_bill(&taxpayer.access(), payload.as_bytes())
        .await
        .unwrap();
    let members = r#"{"EwbNo":110000000001,"EwbDt":"2025-09-05 12:30:00"}"#;
    assert_eq!(bill.members.get(), members);
    assert!(bill.is_cancelled());
    let irn = IRN.parse().unwrap();
    drop(
        irp.eway_bill_by_irn(&taxpayer.access(), &irn)
            .await
            .unwrap(),
    );
    let requests = portal.requests();
    assert_eq!(requests[0].line(), "POST /eiewb/v1.03/ewaybill HTTP/1.1");
    assert_eq!(opened(&requests[0]), payload.as_bytes());
    let line = format!("GET /eiewb/v1.03/ewaybill/irn/{IRN} HTTP/1.1");
    assert_eq!(requests[1].line(), line);
}

#[tokio::test]
async fn header_style_and_extra_headers_follow_the_configuration() {
    let portal = Portal::start(|_| http("200 OK", "", &success(&registration())));
    let mut config = portal.config();
    config.route.header_style = HeaderStyle::Hyphen;
    config.route.extra_headers = vec![("X-Asp-Id".to_owned(), Secret::new("42".to_owned()))];
    let irp = Irp::try_new(&config).unwrap();
    irp.generate(&Taxpayer::new().access(), b"{}")
        .await
        .unwrap();
    let request = &portal.requests()[0];
    assert_eq!(request.header("client-id"), ["the-client"]);
    assert_eq!(request.header("client-secret"), ["the-secret"]);
    assert!(request.header("client_id").is_empty());
    assert_eq!(request.header("x-asp-id"), ["42"]);
}

#[test]
fn calls_can_be_made_from_any_thread() {
    fn sendable<T: Send + Sync>() {}
    fn future_is_sendable<T: Send>(_: &T) {}
    sendable::<Irp>();
    sendable::<IrpError>();
    let (portal, taxpayer) = (Portal::start(|_| Vec::new()), Taxpayer::new());
    let (irp, access) = (portal.irp(), taxpayer.access());
    future_is_sendable(&irp.generate(&access, b""));
    future_is_sendable(&irp.login(&taxpayer.account, false));
}
