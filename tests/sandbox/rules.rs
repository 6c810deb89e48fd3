//! What is refused, with which codes: one changed sample a line.

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{SAMPLE, SELLER, Sandbox, codes, data, invoice};

const INTRASTATE: &str = include_str!("../vectors/invoices/credit-note-intrastate.json");
const EXPORT: &str = include_str!("../vectors/invoices/export-with-payment.json");
const LONG: &str = include_str!("../vectors/invoices/b2b-120-items-with-eway-bill.json");

#[tokio::test]
async fn every_sample_invoice_is_registered() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    for sample in [SAMPLE, INTRASTATE, EXPORT, LONG] {
        data(
            &session,
            &client.generate(&session, sample.as_bytes()).await?,
        )?;
    }
    assert_eq!(sandbox.stats().await?["registrations"], 4);
    Ok(())
}

/// Sample, JSON Pointer, new value (`null` removes the member), codes.
type Case = (&'static str, &'static str, Value, &'static [&'static str]);

fn form_cases() -> Vec<Case> {
    vec![
        (SAMPLE, "/Version", json!("1.0"), &["5002"]),
        (SAMPLE, "/DocDtls/No", json!("0123"), &["5002"]),
        (SAMPLE, "/DocDtls/Dt", json!("2025-09-05"), &["5002"]),
        (SAMPLE, "/SellerDtls/Pin", json!("560058"), &["5002"]),
        (SAMPLE, "/SellerDtls/LglNm", json!("Ab"), &["5002"]),
        (SAMPLE, "/SellerDtls", Value::Null, &["5002"]),
        (SAMPLE, "/ItemList", json!({}), &["5002"]),
        (SAMPLE, "/ItemList/0/IgstAmt", json!(-900), &["5002"]),
        (SAMPLE, "/ItemList/0/IgstAmt", json!(900.005), &["5002"]),
        (SAMPLE, "/TranDtls/SupTyp", json!("B2C"), &["5002"]),
    ]
}

fn arithmetic_cases() -> Vec<Case> {
    vec![
        (
            SAMPLE,
            "/ItemList/0/TotAmt",
            json!(18077.01),
            &["2192", "2193"],
        ),
        (SAMPLE, "/ItemList/0/Discount", json!(70), &["2193"]),
        (
            SAMPLE,
            "/ItemList/0/IgstAmt",
            json!(902),
            &["2235", "2194", "2185"],
        ),
        (SAMPLE, "/ItemList/0/TotItemVal", json!(18902), &["2194"]),
        (SAMPLE, "/ItemList/0/GstRt", json!(5.5), &["2240", "2235"]),
        (SAMPLE, "/ItemList/1/SlNo", json!("1"), &["2233"]),
        (SAMPLE, "/ItemList/0/Unit", json!("XYZ"), &["2177"]),
        (SAMPLE, "/ItemList/0/Unit", Value::Null, &["2239"]),
        (SAMPLE, "/ItemList/0/Qty", Value::Null, &["2238"]),
        (SAMPLE, "/ItemList/0/HsnCd", json!("998391"), &["2176"]),
        (SAMPLE, "/ItemList/0/IsServc", json!("Y"), &["2176"]),
        (
            SAMPLE,
            "/ItemList/0/CgstAmt",
            json!(5),
            &["2174", "2194", "2184"],
        ),
        (SAMPLE, "/ItemList/0/CesRt", json!(10), &["2266"]),
        (SAMPLE, "/ItemList", json!([]), &["2228", "2182", "2185"]),
        (SAMPLE, "/ValDtls/AssVal", json!(20502.5), &["2182", "2189"]),
        (SAMPLE, "/ValDtls/IgstVal", json!(1353), &["2185", "2189"]),
        (SAMPLE, "/ValDtls/CesVal", json!(2.5), &["2186", "2189"]),
        (SAMPLE, "/ValDtls/TotInvVal", json!(21853), &["2189"]),
        (SAMPLE, "/ValDtls/TotInvVal", json!(21851.99), &[]),
        (
            INTRASTATE,
            "/ItemList/0/CgstAmt",
            json!(905),
            &["2227", "2194", "2184"],
        ),
        (
            INTRASTATE,
            "/ItemList/0/IgstAmt",
            json!(5),
            &["2172", "2194", "2185"],
        ),
        (INTRASTATE, "/DocDtls/Typ", json!("INV"), &[]),
        (
            EXPORT,
            "/ItemList/0/SgstAmt",
            json!(5),
            &["2180", "2194", "2183"],
        ),
    ]
}

fn party_cases() -> Vec<Case> {
    vec![
        (
            SAMPLE,
            "/SellerDtls/Gstin",
            json!("27AABCT9421M1ZY"),
            &["2143", "2211", "2258"],
        ),
        (SAMPLE, "/BuyerDtls/Gstin", json!("URP"), &["2212"]),
        (
            SAMPLE,
            "/BuyerDtls/Gstin",
            json!("29AABCT9421M1ZU"),
            &["2265"],
        ),
        (SAMPLE, "/BuyerDtls/Pin", json!(110001), &["2178"]),
        (SAMPLE, "/BuyerDtls/Pin", Value::Null, &["2244"]),
        (SAMPLE, "/BuyerDtls/Pos", json!("96"), &["2242"]),
        (SAMPLE, "/BuyerDtls/Pos", json!("28"), &["2243"]),
        (SAMPLE, "/DocDtls/Dt", json!("31/04/2025"), &["2144"]),
        (SAMPLE, "/DocDtls/Dt", json!("31/12/2099"), &["2163"]),
        (
            SAMPLE,
            "/TranDtls/IgstOnIntra",
            json!("Y"),
            &["2262", "2294"],
        ),
        (
            EXPORT,
            "/BuyerDtls/Gstin",
            json!("27AABCT9421M1ZY"),
            &["2248"],
        ),
        (EXPORT, "/BuyerDtls/Pin", json!(400001), &["2178"]),
        (EXPORT, "/BuyerDtls/Stcd", json!("27"), &["2261"]),
        (EXPORT, "/BuyerDtls/Pos", json!("27"), &["2229"]),
        (EXPORT, "/ExpDtls/CntCode", json!("XX"), &["2202"]),
        (EXPORT, "/ExpDtls", Value::Null, &["2202"]),
        (EXPORT, "/TranDtls/RegRev", json!("Y"), &["2162"]),
    ]
}

fn changed(sample: &str, pointer: &str, value: Value, number: usize) -> Result<String> {
    let mut document: Value = serde_json::from_str(sample)?;
    document["DocDtls"]["No"] = json!(format!("CASE/{number}"));
    let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    let parent = document.pointer_mut(parent).and_then(Value::as_object_mut);
    let parent = parent.ok_or_else(|| anyhow::anyhow!("{pointer} names nothing"))?;
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.to_owned(), value);
    }
    Ok(document.to_string())
}

#[tokio::test]
async fn every_finding_of_a_document_is_reported_at_once_with_its_code() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let cases = [form_cases(), arithmetic_cases(), party_cases()].concat();
    for (number, (sample, pointer, value, expected)) in cases.into_iter().enumerate() {
        let document = changed(sample, pointer, value.clone(), number)?;
        let answer = client.generate(&session, document.as_bytes()).await?;
        let mut found = if answer["Status"] == 1 {
            Vec::new()
        } else {
            codes(&answer)
        };
        let mut expected = expected.to_vec();
        found.sort();
        expected.sort_unstable();
        assert_eq!(found, expected, "{pointer} = {value}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn member_names_are_read_in_any_case() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let odd = SAMPLE
        .replace("\"Pos\"", "\"POS\"")
        .replace("\"Gstin\"", "\"GSTIN\"")
        .replace("\"INV\"", "\"inv\"");
    let made = data(&session, &client.generate(&session, odd.as_bytes()).await?)?;
    assert_eq!(made["Irn"], crate::client::SAMPLE_IRN);
    Ok(())
}

#[tokio::test]
async fn unreadable_payloads_have_their_codes() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let big = invoice("BIG/1").replace("Cotton", &"x".repeat(2 * 1024 * 1024));
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    for (payload, code) in [
        ("", "2255"),
        ("nonsense", "5002"),
        (deep.as_str(), "5002"),
        (big.as_str(), "5002"),
    ] {
        assert_eq!(
            codes(&client.generate(&session, payload.as_bytes()).await?),
            [code]
        );
    }
    assert_eq!(
        codes(&client.generate(&session, b"\xff\xfe{}").await?),
        ["5002"]
    );
    // One in 256 foreign keys leaves bytes behind that look like padding: then it is the text that cannot be read.
    let mut foreign = session;
    let mut wrong_keys = 0;
    for byte in 1..=8 {
        foreign.key = [byte; 32];
        let answer = codes(&client.generate(&foreign, SAMPLE.as_bytes()).await?);
        assert!(answer == ["1020"] || answer == ["5002"], "{answer:?}");
        wrong_keys += usize::from(answer == ["1020"]);
    }
    assert!(wrong_keys > 4, "{wrong_keys} of 8 were told apart");
    Ok(())
}

#[tokio::test]
async fn the_age_of_documents_is_limited_only_on_request() -> Result<()> {
    let sandbox = Sandbox::start(&["--reporting-window", "30"])?;
    sandbox
        .control("clock", json!({"now": "2025-10-05T12:00:00+05:30"}))
        .await?;
    let client = sandbox.client();
    let session = client.login().await?;
    data(
        &session,
        &client.generate(&session, SAMPLE.as_bytes()).await?,
    )?;
    sandbox
        .control("clock", json!({"now": "2025-10-06T12:00:00+05:30"}))
        .await?;
    let session = client.login().await?;
    assert_eq!(
        codes(
            &client
                .generate(&session, invoice("LATE/1").as_bytes())
                .await?
        ),
        ["2305"]
    );
    sandbox
        .control("settings", json!({"reporting_window_days": null}))
        .await?;
    data(
        &session,
        &client
            .generate(&session, invoice("LATE/1").as_bytes())
            .await?,
    )?;
    Ok(())
}

#[tokio::test]
async fn check_digits_count_in_production_only() -> Result<()> {
    let document = SAMPLE.replace("27AABCT9421M1ZY", "27AABCT9421M1ZZ");
    for (environment, accepted) in [("sandbox", true), ("production", false)] {
        let sandbox = Sandbox::start(&["--environment", environment])?;
        let client = sandbox.client();
        let session = client.login().await?;
        let answer = client.generate(&session, document.as_bytes()).await?;
        if accepted {
            data(&session, &answer)?;
        } else {
            assert_eq!(codes(&answer), ["3030"]);
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_state_of_a_party_decides() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let buyer = "27AABCT9421M1ZY";
    let cases = [
        (buyer, json!({"status": "SUS"}), ""),
        (
            buyer,
            json!({"status": "CNL", "deregistered": "2025-09-30"}),
            "",
        ),
        (
            buyer,
            json!({"status": "CNL", "deregistered": "2025-08-31"}),
            "3074",
        ),
        (buyer, json!({"status": "CNL"}), "3029"),
        (buyer, json!({"registered": "2025-09-06"}), "3079"),
        (buyer, json!({"type": "SEZ"}), "2246"),
        (SELLER, json!({"status": "SUS"}), "3029"),
        (SELLER, json!({"type": "SEZ"}), "2231"),
        (SELLER, json!({"type": "COM"}), "2300"),
        (SELLER, json!({"blocked": true}), "1014"),
    ];
    for (number, (gstin, mut entry, code)) in cases.into_iter().enumerate() {
        sandbox
            .control("taxpayers", json!({"gstin": buyer}))
            .await?;
        sandbox
            .control("taxpayers", json!({"gstin": SELLER}))
            .await?;
        entry["gstin"] = json!(gstin);
        sandbox.control("taxpayers", entry.clone()).await?;
        let document = invoice(&format!("PARTY/{number}"));
        let answer = client.generate(&session, document.as_bytes()).await?;
        if code.is_empty() {
            data(&session, &answer)?;
        } else {
            assert_eq!(codes(&answer), [code], "{entry}");
        }
    }
    Ok(())
}
