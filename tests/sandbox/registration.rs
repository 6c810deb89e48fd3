//! Registration, look-ups, cancellation, taxpayers and e-way bills.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{SAMPLE, SAMPLE_IRN, SELLER, Sandbox, codes, data, invoice, token_header};

fn info<'a>(answer: &'a Value, code: &str) -> Option<&'a Value> {
    let entries = answer["InfoDtls"].as_array()?;
    entries
        .iter()
        .find(|entry| entry["InfCd"] == code)
        .map(|entry| &entry["Desc"])
}

#[tokio::test]
async fn a_registration_is_signed_numbered_and_found_again() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    sandbox
        .control("clock", json!({"now": "2025-09-05T12:29:40+05:30"}))
        .await?;
    let client = sandbox.client();
    let session = client.login().await?;
    let answer = client.generate(&session, SAMPLE.as_bytes()).await?;
    let made = data(&session, &answer)?;
    assert_eq!(
        (&made["Irn"], &made["Status"]),
        (&json!(SAMPLE_IRN), &json!("ACT"))
    );
    assert_eq!(
        (&made["AckNo"], &made["AckDt"]),
        (
            &json!(112_510_000_000_001_u64),
            &json!("2025-09-05 12:30:00")
        )
    );
    assert_eq!(
        (&answer["ErrorDetails"], &answer["InfoDtls"]),
        (&Value::Null, &Value::Null)
    );

    let signed = sandbox.verified(made["SignedInvoice"].as_str().context("a token")?)?;
    assert_eq!(
        (&signed["Irn"], &signed["AckNo"]),
        (&made["Irn"], &made["AckNo"])
    );
    assert!(
        signed["AckDt"]
            .as_str()
            .context("a date")?
            .starts_with("2025-09-05 12:29:4")
    );
    assert_eq!(signed["ItemList"][0]["ItemNo"], 0);
    assert_eq!(signed["ValDtls"]["TotInvVal"].as_f64(), Some(21851.0));
    let qr_token = made["SignedQRCode"].as_str().context("a token")?;
    let qr = sandbox.verified(qr_token)?;
    let expected = json!({
        "SellerGstin": SELLER, "BuyerGstin": "27AABCT9421M1ZY", "DocNo": "SI/25-26/00417", "DocTyp": "INV",
        "DocDt": "05/09/2025", "TotInvVal": 21851.0, "ItemCnt": 2, "MainHsnCode": "520832", "Irn": SAMPLE_IRN,
        "IrnDt": signed["AckDt"],
    });
    assert_eq!(qr, expected);
    let header = token_header(qr_token)?;
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&json!("RS256"), &json!("JWT"))
    );

    assert_eq!(
        data(&session, &client.by_irn(&session, SAMPLE_IRN).await?)?,
        made
    );
    let path = "/eicore/v1.03/Invoice/irnbydocdetails?doctype=inv&docnum=SI/25-26/00417&docdate=05/09/2025";
    assert_eq!(data(&session, &client.get(&session, path).await?)?, made);
    Ok(())
}

#[tokio::test]
async fn the_certificate_names_the_key() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let made = data(
        &session,
        &client.generate(&session, SAMPLE.as_bytes()).await?,
    )?;
    let pem = std::fs::read(sandbox.dir.path().join("state/signing_certificate.pem"))?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem)?;
    let thumbprint =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &pem.contents);
    let hex: String = thumbprint
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    assert_eq!(
        token_header(made["SignedInvoice"].as_str().context("a token")?)?["kid"],
        json!(hex)
    );
    Ok(())
}

#[tokio::test]
async fn documents_are_kept_byte_for_byte() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let odd = SAMPLE
        .replace("21851", "21851.00")
        .replace("Kaveri Fabrics", "Kāverī – тест \\u00fc")
        .replace(
            "\"Version\"",
            "\"Unknown\" :  [ 1.50, null ],\r\n\t\"Version\"",
        );
    let made = data(&session, &client.generate(&session, odd.as_bytes()).await?)?;
    let irn = made["Irn"].as_str().context("an IRN")?;
    let kept = sandbox
        .http
        .get(format!("{}/_sandbox/documents/{irn}/body", sandbox.url))
        .send()
        .await?;
    assert_eq!(kept.bytes().await?, odd.as_bytes());
    let signed = sandbox.verified(made["SignedInvoice"].as_str().context("a token")?)?;
    assert_eq!(
        (&signed["SellerDtls"]["TrdNm"], &signed["Unknown"]),
        (&json!("Kāverī – тест ü"), &Value::Null)
    );
    let listed = sandbox.show("documents").await?;
    assert_eq!(
        (&listed[0]["irn"], &listed[0]["status"]),
        (&json!(SAMPLE_IRN), &json!("ACT"))
    );
    Ok(())
}

#[tokio::test]
async fn numbers_are_hashed_in_upper_case_unless_in_legacy_mode() -> Result<()> {
    let upper = "d9476807f5496dea9fc65c6a954887db156022ba4b0d17a3687d43576beb8e17";
    let document = SAMPLE
        .replace("SI/25-26/00417", "Test-00df1")
        .replace("05/09/2025", "14/07/2025")
        .replace(SELLER, "37ARZPT4384Q1MT")
        .replace("\"Stcd\": \"29\"", "\"Stcd\": \"37\"")
        .replace("560058", "515001")
        .replace(
            "\"IgstOnIntra\": \"N\"",
            &format!("\"EcmGstin\": \"{SELLER}\""),
        );
    for (arguments, same) in [(&[][..], true), (&["--legacy-irn"][..], false)] {
        let sandbox = Sandbox::start(arguments)?;
        let client = sandbox.client();
        let session = client.login().await?;
        let made = data(
            &session,
            &client.generate(&session, document.as_bytes()).await?,
        )?;
        assert_eq!(made["Irn"] == upper, same, "{arguments:?}");
        let qr = sandbox.verified(made["SignedQRCode"].as_str().context("a token")?)?;
        assert_eq!(qr["DocNo"], "Test-00df1");
    }
    Ok(())
}

#[tokio::test]
async fn a_second_registration_is_refused_with_the_first_ones_details() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let made = data(
        &session,
        &client.generate(&session, SAMPLE.as_bytes()).await?,
    )?;
    let again = client.generate(&session, SAMPLE.as_bytes()).await?;
    assert_eq!(codes(&again), ["2150"]);
    let expected = json!({"AckNo": made["AckNo"], "AckDt": made["AckDt"], "Irn": made["Irn"]});
    assert_eq!(info(&again, "DUPIRN"), Some(&expected));

    let cancelled = data(&session, &client.cancel(&session, SAMPLE_IRN).await?)?;
    assert_eq!(cancelled["Irn"], SAMPLE_IRN);
    assert_eq!(
        codes(&client.generate(&session, SAMPLE.as_bytes()).await?),
        ["2278"]
    );
    assert_eq!(codes(&client.cancel(&session, SAMPLE_IRN).await?), ["9999"]);
    assert_eq!(
        data(&session, &client.by_irn(&session, SAMPLE_IRN).await?)?["Status"],
        "CNL"
    );

    let stats = sandbox.stats().await?;
    let document = &stats["documents"]["29AAGCE4783K1Z1/INV/SI/25-26/00417/2025-26"];
    assert_eq!(
        document,
        &json!({"submits": 3, "duplicates": 2, "registered": true, "lookups": 1, "blind": 2})
    );
    assert_eq!(
        (&stats["duplicate_generates"], &stats["registrations"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        stats["errors_by_code"],
        json!({"2150": 1, "2278": 1, "9999": 1})
    );
    Ok(())
}

#[tokio::test]
async fn a_registration_at_another_portal_is_named() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    sandbox
        .control(
            "registered-elsewhere",
            json!({"irn": SAMPLE_IRN, "irp": "NIC102"}),
        )
        .await?;
    let answer = client.generate(&session, SAMPLE.as_bytes()).await?;
    assert_eq!(codes(&answer), ["2295"]);
    assert_eq!(
        info(&answer, "DUPIRNGLP").context("the entry")?["IrnDtl"]["RegIrp"],
        "NIC102"
    );
    assert_eq!(codes(&client.by_irn(&session, SAMPLE_IRN).await?), ["2148"]);
    Ok(())
}

#[tokio::test]
async fn look_ups_say_why_they_find_nothing() -> Result<()> {
    let sandbox = Sandbox::start(&["--lookup-window", "48h"])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let by_document = "/eicore/v1.03/Invoice/irnbydocdetails?doctype=INV&docnum=SI%2F25-26%2F00417&docdate=05%2F09%2F2025";
    assert_eq!(codes(&client.by_irn(&session, SAMPLE_IRN).await?), ["2148"]);
    assert_eq!(codes(&client.by_irn(&session, "nonsense").await?), ["2145"]);
    assert_eq!(codes(&client.get(&session, by_document).await?), ["2154"]);
    assert_eq!(
        codes(
            &client
                .get(
                    &session,
                    "/eicore/v1.03/Invoice/irnbydocdetails?doctype=INV"
                )
                .await?
        ),
        ["2142"]
    );
    data(
        &session,
        &client.generate(&session, SAMPLE.as_bytes()).await?,
    )?;

    let buyer = sandbox.buyer();
    let theirs = buyer.login().await?;
    assert_eq!(codes(&buyer.by_irn(&theirs, SAMPLE_IRN).await?), ["2226"]);
    assert_eq!(codes(&buyer.cancel(&theirs, SAMPLE_IRN).await?), ["2143"]);

    sandbox.control("clock", json!({"advance": "49h"})).await?;
    let session = client.login().await?;
    let late = client.get(&session, by_document).await?;
    assert_eq!(codes(&late), ["2283"]);
    assert!(
        late["ErrorDetails"][0]["ErrorMessage"]
            .as_str()
            .context("a text")?
            .contains("more than 2 days")
    );
    assert_eq!(codes(&client.by_irn(&session, SAMPLE_IRN).await?), ["2283"]);
    assert_eq!(
        codes(&client.generate(&session, SAMPLE.as_bytes()).await?),
        ["2150"]
    );
    assert_eq!(codes(&client.cancel(&session, SAMPLE_IRN).await?), ["2270"]);
    Ok(())
}

#[tokio::test]
async fn a_stale_taxpayer_is_refused_until_it_is_synchronised() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let buyer = "27AABCT9421M1ZY";
    for (status, code) in [("INA", "3029"), ("NONE", "3028")] {
        let stale = json!({"gstin": buyer, "status": status, "portal_status": "ACT"});
        sandbox.control("taxpayers", stale).await?;
        let document = invoice(&format!("ST/{code}"));
        let refused = client.generate(&session, document.as_bytes()).await?;
        assert_eq!(codes(&refused), [code]);
        assert!(
            refused["ErrorDetails"][0]["ErrorMessage"]
                .as_str()
                .context("a text")?
                .contains(buyer)
        );
        let synced = client
            .get(
                &session,
                &format!("/eivital/v1.04/Master/syncgstin/{buyer}"),
            )
            .await?;
        let details = data(&session, &synced)?;
        assert_eq!(
            (&details["Status"], &details["StateCode"]),
            (&json!("ACT"), &json!(27))
        );
        data(
            &session,
            &client.generate(&session, document.as_bytes()).await?,
        )?;
    }
    let gone = json!({"gstin": buyer, "status": "NONE"});
    sandbox.control("taxpayers", gone).await?;
    let path = format!("/eivital/v1.04/Master/gstin/{buyer}");
    assert_eq!(codes(&client.get(&session, &path).await?), ["3001"]);
    assert_eq!(sandbox.stats().await?["requests"]["sync"], 2);
    Ok(())
}

const BY_ROAD: &str = r#""EwbDtls": {"Distance": 0, "TransMode": "1", "VehNo": "KA01AB1234", "VehType": "R"}, "Version""#;

#[tokio::test]
async fn an_eway_bill_is_issued_with_the_invoice_and_blocks_its_cancellation() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let document = SAMPLE.replace("\"Version\"", BY_ROAD);
    let answer = client.generate(&session, document.as_bytes()).await?;
    let made = data(&session, &answer)?;
    assert_eq!(made["EwbNo"].to_string().len(), 12);
    assert!(
        made["EwbValidTill"]
            .as_str()
            .context("a date")?
            .ends_with("23:59:00")
    );
    assert!(
        info(&answer, "EWBPPD")
            .and_then(Value::as_str)
            .context("the distance")?
            .ends_with("KM")
    );
    assert_eq!(codes(&client.cancel(&session, SAMPLE_IRN).await?), ["2230"]);

    let path = format!("/eiewb/v1.03/ewaybill/irn/{SAMPLE_IRN}");
    assert_eq!(
        data(&session, &client.get(&session, &path).await?)?["EwbNo"],
        made["EwbNo"]
    );
    let cancel = json!({"ewbNo": made["EwbNo"], "cancelRsnCode": 1}).to_string();
    let cancelled = client
        .json(
            &session,
            Method::POST,
            "/ewaybillapi/v1.03/ewayapi",
            Some(cancel.as_bytes()),
        )
        .await?;
    data(&session, &cancelled)?;
    data(&session, &client.cancel(&session, SAMPLE_IRN).await?)?;
    Ok(())
}

#[tokio::test]
async fn a_refused_eway_bill_leaves_the_registration_good() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let document = SAMPLE.replace("\"Version\"", r#""EwbDtls": {"Distance": 840}, "Version""#);
    let answer = client.generate(&session, document.as_bytes()).await?;
    let made = data(&session, &answer)?;
    assert_eq!(
        (&made["Status"], &made["EwbNo"]),
        (&json!("ACT"), &Value::Null)
    );
    assert_eq!(
        info(&answer, "EWBERR").context("the entry")?[0]["ErrorCode"],
        "4019"
    );

    let later = json!({"Irn": SAMPLE_IRN, "Distance": 840, "TransId": SELLER}).to_string();
    let path = "/eiewb/v1.03/ewaybill";
    let bill = data(
        &session,
        &client
            .json(&session, Method::POST, path, Some(later.as_bytes()))
            .await?,
    )?;
    assert_eq!(bill["EwbValidTill"], Value::Null);
    let twice = client
        .json(&session, Method::POST, path, Some(later.as_bytes()))
        .await?;
    assert_eq!(codes(&twice), ["4002"]);
    Ok(())
}

#[tokio::test]
async fn rejected_registrations_are_listed_by_day() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    sandbox
        .control("clock", json!({"now": "2026-02-03T12:00:00+05:30"}))
        .await?;
    let client = sandbox.client();
    let session = client.login().await?;
    data(
        &session,
        &client.generate(&session, SAMPLE.as_bytes()).await?,
    )?;
    sandbox
        .control("reject", json!({"irn": SAMPLE_IRN}))
        .await?;
    let list = async |day: &str| {
        let path = format!("/eicore/v1.03/Invoice/rejectedirns?date={day}");
        data(&session, &client.get(&session, &path).await?)
    };
    assert_eq!(list("03/02/2026").await?, json!([SAMPLE_IRN]));
    assert_eq!(list("04/02/2026").await?, json!([]));
    assert_eq!(
        data(&session, &client.by_irn(&session, SAMPLE_IRN).await?)?["Status"],
        "REJ"
    );
    Ok(())
}

#[tokio::test]
async fn a_registration_cancelled_by_hand_burns_its_number() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    data(
        &session,
        &client.generate(&session, SAMPLE.as_bytes()).await?,
    )?;
    sandbox
        .control("cancel", json!({"irn": SAMPLE_IRN}))
        .await?;
    assert_eq!(
        data(&session, &client.by_irn(&session, SAMPLE_IRN).await?)?["Status"],
        "CNL"
    );
    let again = client.generate(&session, SAMPLE.as_bytes()).await?;
    assert_eq!(codes(&again), ["2278"]);
    Ok(())
}
