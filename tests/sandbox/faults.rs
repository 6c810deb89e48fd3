//! Faults, shapes, held requests and counters.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{
    SAMPLE, SAMPLE_IRN, SELLER, Sandbox, codes, data, invoice, token_header, unverified,
};

const GENERATE: &str = "/eicore/v1.03/Invoice";

#[tokio::test]
async fn a_dropped_connection_carries_no_answer_and_the_side_it_fell_on_matters() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    for (when, number, registrations) in [("before", "D/1", 0), ("after", "D/2", 1)] {
        let rule = json!({"endpoint": "generate", "kind": "drop", "when": when, "times": 1});
        sandbox.control("faults", json!({"rules": [rule]})).await?;
        let document = invoice(number);
        let lost = client
            .call(&session, Method::POST, GENERATE, Some(document.as_bytes()))
            .await;
        let error = lost.err().context("the connection was closed")?;
        assert!(error.is_request() && error.status().is_none(), "{error:?}");
        assert_eq!(
            sandbox.stats().await?["registrations"],
            registrations,
            "{when}"
        );
    }
    assert_eq!(sandbox.show("faults").await?["rules"][0]["fired"], 1);
    Ok(())
}

#[tokio::test]
async fn unusable_answers_come_as_the_rules_say() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let rules = json!([
        {"kind": "status", "status": 503, "retry_after": 7, "times": 1},
        {"kind": "html", "status": 502, "times": 1},
        {"kind": "html", "times": 1},
        {"kind": "empty", "times": 1},
        {"kind": "truncated", "times": 1},
        {"kind": "truncated", "when": "after", "times": 1},
    ]);
    sandbox.control("faults", json!({"rules": rules})).await?;
    let mut answers = Vec::new();
    for _ in 0..6 {
        let response = client
            .call(&session, Method::POST, GENERATE, Some(SAMPLE.as_bytes()))
            .await?;
        let retry = response.headers().get("retry-after").cloned();
        answers.push((response.status().as_u16(), retry, response.text().await?));
    }
    let statuses: Vec<u16> = answers.iter().map(|(status, ..)| *status).collect();
    assert_eq!(statuses, [503, 502, 200, 200, 200, 200]);
    assert_eq!(answers[0].1.as_ref().context("Retry-After")?, "7");
    assert!(answers[1].2.contains("<html>") && answers[2].2.contains("<html>"));
    assert!(answers[3].2.is_empty());
    for (.., text) in &answers[4..] {
        assert!(
            !text.is_empty() && serde_json::from_str::<Value>(text).is_err(),
            "{text}"
        );
    }
    let stats = sandbox.stats().await?;
    assert_eq!(
        (
            &stats["registrations"],
            &stats["generates"],
            &stats["errors"]
        ),
        (&json!(1), &json!(6), &json!(0))
    );
    assert_eq!(
        codes(&client.generate(&session, SAMPLE.as_bytes()).await?),
        ["2150"]
    );
    Ok(())
}

#[tokio::test]
async fn portal_errors_can_be_asked_for() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let rules = json!([{"endpoint": "auth", "kind": "refuse_password"}]);
    sandbox.control("faults", json!({"rules": rules})).await?;
    assert_eq!(
        codes(&client.auth(json!({"Data": client.sealed_login()?})).await?),
        ["1019"]
    );
    let info = json!([{"InfCd": "DUPIRN", "Desc": {"Irn": SAMPLE_IRN}}]);
    let rules = json!([
        {"endpoint": "generate", "kind": "error", "code": "2150", "message": "Duplicate IRN", "info": info, "times": 1},
        {"endpoint": "core", "gstin": SELLER, "kind": "block_gstin", "code": "3035"},
    ]);
    sandbox.control("faults", json!({"rules": rules})).await?;
    let session = client.login().await?;
    let answer = client.generate(&session, SAMPLE.as_bytes()).await?;
    assert_eq!(
        (codes(&answer), &answer["InfoDtls"]),
        (vec!["2150".to_owned()], &info)
    );
    assert_eq!(
        codes(&client.generate(&session, SAMPLE.as_bytes()).await?),
        ["3035"]
    );
    let stats = sandbox.stats().await?;
    assert_eq!(
        (&stats["registrations"], &stats["authentications_refused"]),
        (&json!(0), &json!(1))
    );
    let refused = sandbox
        .control("faults", json!({"rules": [{"kind": "explode"}]}))
        .await;
    assert!(refused.is_err_and(|error| error.to_string().contains("400")));
    Ok(())
}

#[tokio::test]
async fn spoilt_answers_decrypt_verify_or_agree_no_more() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let kinds = [
        "wrong_key",
        "bad_signature",
        "wrong_signing_key",
        "mismatch",
    ];
    let mut answers = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        sandbox
            .control(
                "faults",
                json!({"rules": [{"endpoint": "generate", "kind": kind}]}),
            )
            .await?;
        answers.push(
            client
                .generate(&session, invoice(&format!("SP/{}", number + 1)).as_bytes())
                .await?,
        );
    }
    assert!(data(&session, &answers[0]).is_err());
    for token in ["SignedInvoice", "SignedQRCode"] {
        let spoilt = |answer| {
            data(&session, answer).map(|made| made[token].as_str().unwrap_or_default().to_owned())
        };
        assert!(sandbox.verified(&spoilt(&answers[1])?).is_err());
        let stranger = spoilt(&answers[2])?;
        assert!(sandbox.verified(&stranger).is_err());
        assert_ne!(
            token_header(&stranger)?["kid"],
            token_header(&spoilt(&answers[3])?)?["kid"]
        );
        assert_eq!(
            unverified(&stranger)?["Irn"],
            data(&session, &answers[2])?["Irn"]
        );
        let other = sandbox.verified(&spoilt(&answers[3])?)?;
        assert_ne!(other["Irn"], data(&session, &answers[3])?["Irn"]);
    }
    assert_eq!(sandbox.stats().await?["registrations"], 4);
    Ok(())
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_a_new_login_gets_another() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let rules = json!([{"endpoint": "generate", "kind": "revoke_token", "times": 1}]);
    sandbox.control("faults", json!({"rules": rules})).await?;
    assert_eq!(
        codes(&client.generate(&session, SAMPLE.as_bytes()).await?),
        ["1005"]
    );
    let renewed = client.login().await?;
    assert_ne!(renewed.token, session.token);
    data(
        &renewed,
        &client.generate(&renewed, SAMPLE.as_bytes()).await?,
    )?;
    Ok(())
}

#[tokio::test]
async fn a_held_request_waits_for_its_release_and_overlaps_are_counted() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let rules = json!([{"id": "gate", "endpoint": "generate", "kind": "hold", "times": 2}]);
    sandbox.control("faults", json!({"rules": rules})).await?;
    let first = client.generate(&session, SAMPLE.as_bytes());
    let second = client.generate(&session, SAMPLE.as_bytes());
    let conductor = async {
        let held = sandbox.until_held(2).await?;
        assert_eq!(
            (&held[0]["number"], &held[0]["committed"]),
            (&json!("SI/25-26/00417"), &json!(false))
        );
        assert_eq!(codes(&client.by_irn(&session, SAMPLE_IRN).await?), ["2148"]);
        let released = sandbox
            .control("release", json!({"id": held[0]["id"]}))
            .await?;
        assert_eq!(released["released"], 1);
        sandbox.control("release", json!({"id": "gate"})).await
    };
    let (first, second, released) = tokio::join!(first, second, conductor);
    ensure!(released?["released"] == 1);
    let statuses = [first?["Status"].clone(), second?["Status"].clone()];
    assert!(
        statuses.contains(&json!(1)) && statuses.contains(&json!(0)),
        "{statuses:?}"
    );
    let stats = sandbox.stats().await?;
    assert_eq!(
        (&stats["overlapping_generates"], &stats["registrations"]),
        (&json!(1), &json!(1))
    );
    Ok(())
}

#[tokio::test]
async fn a_portal_that_was_asked_acts_even_when_the_client_has_gone() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    sandbox
        .control(
            "faults",
            json!({"rules": [{"endpoint": "generate", "kind": "hold"}]}),
        )
        .await?;
    tokio::select! {
        answered = client.generate(&session, SAMPLE.as_bytes()) => ensure!(false, "answered {answered:?}"),
        held = sandbox.until_held(1) => drop(held?),
    }
    // The request's future is gone, and with it the connection.
    sandbox.control("release", json!({})).await?;
    while sandbox.stats().await?["registrations"] != 1 {
        tokio::task::yield_now().await;
    }
    data(&session, &client.by_irn(&session, SAMPLE_IRN).await?)?;
    Ok(())
}

#[tokio::test]
async fn shapes_change_the_form_and_not_the_content() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let shapes = json!({
        "status": "string", "error_details": "base64", "error_code": "number", "info_dtls": "object",
        "info_desc": "json_string", "ack_no": "string", "extra_members": true, "auth_data": "json_string",
    });
    let session = client.login().await?;
    sandbox.control("faults", json!({"shapes": shapes})).await?;
    let login = client.auth(json!({"Data": client.sealed_login()?})).await?;
    let text = login["Data"].as_str().context("a string")?;
    assert_eq!(
        serde_json::from_str::<Value>(text)?["AuthToken"],
        json!(session.token)
    );
    let made = client.generate(&session, SAMPLE.as_bytes()).await?;
    assert_eq!(made["Status"], "1");
    let again = client.generate(&session, SAMPLE.as_bytes()).await?;
    assert_eq!(
        (&again["Status"], &again["InfoDtls"]["InfCd"]),
        (&json!("0"), &json!("DUPIRN"))
    );
    let desc: Value =
        serde_json::from_str(again["InfoDtls"]["Desc"].as_str().context("a string")?)?;
    assert!(desc["AckNo"].is_string());
    assert!(again["ErrorDetails"].is_string() && again.get("x-unknown").is_some());
    Ok(())
}

#[tokio::test]
async fn too_many_errors_block_the_gstin() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    sandbox
        .control("settings", json!({"error_budget_per_gstin": 3}))
        .await?;
    for _ in 0..3 {
        assert_eq!(
            codes(&client.generate(&session, b"not JSON").await?),
            ["5002"]
        );
    }
    assert_eq!(
        codes(&client.generate(&session, SAMPLE.as_bytes()).await?),
        ["1014"]
    );
    let buyer = sandbox.buyer();
    let theirs = buyer.login().await?;
    assert_eq!(codes(&buyer.by_irn(&theirs, SAMPLE_IRN).await?), ["2148"]);
    sandbox
        .control("settings", json!({"error_budget_per_gstin": null}))
        .await?;
    data(
        &session,
        &client.generate(&session, SAMPLE.as_bytes()).await?,
    )?;
    Ok(())
}

#[tokio::test]
async fn call_that_was_refused_readably_comes_again_without_being_called_blind() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let once = |code: &str| json!({"rules": [{"endpoint": "generate", "kind": "error", "code": code, "times": 1}]});
    for (number, code, blind) in [("1", "1005", 0), ("2", "5001", 1)] {
        sandbox.control("faults", once(code)).await?;
        let document = SAMPLE.replace("SI/25-26/00417", &format!("BLIND/{number}"));
        assert_ne!(document, SAMPLE);
        let refused = client.generate(&session, document.as_bytes()).await?;
        assert_eq!(codes(&refused), [code]);
        data(
            &session,
            &client.generate(&session, document.as_bytes()).await?,
        )?;
        assert_eq!(sandbox.stats().await?["blind_generates"], blind, "{code}");
    }
    // A look-up that finds nothing has been read, whatever spoils the answers that find something.
    let document = SAMPLE.replace("SI/25-26/00417", "BLIND/3");
    let lost = json!({"rules": [{"endpoint": "generate", "kind": "drop", "times": 1}]});
    sandbox.control("faults", lost).await?;
    let answer = client.generate(&session, document.as_bytes()).await;
    assert!(answer.is_err(), "{answer:?}");
    let spoil = json!({"rules": [{"endpoint": "get_by_doc", "kind": "wrong_key"}]});
    sandbox.control("faults", spoil).await?;
    let path =
        "/eicore/v1.03/Invoice/irnbydocdetails?doctype=INV&docnum=BLIND/3&docdate=05/09/2025";
    assert_eq!(codes(&client.get(&session, path).await?), ["2154"]);
    data(
        &session,
        &client.generate(&session, document.as_bytes()).await?,
    )?;
    assert_eq!(sandbox.stats().await?["blind_generates"], 1);
    Ok(())
}

#[tokio::test]
async fn gstin_of_fifteen_bytes_that_are_no_letters_is_refused_like_any_other() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let path = "/eivital/v1.04/Master/gstin/1é345678901234";
    assert_eq!(codes(&client.get(&session, path).await?), ["3030"]);
    Ok(())
}

#[tokio::test]
async fn reset_forgets_everything_but_the_keys() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let made = data(
        &session,
        &client.generate(&session, SAMPLE.as_bytes()).await?,
    )?;
    sandbox
        .control(
            "faults",
            json!({"rules": [{"endpoint": "generate", "kind": "drop"}]}),
        )
        .await?;
    let password = json!({"gstin": SELLER, "username": "API_ka", "password": "another"});
    sandbox.control("password", password).await?;
    sandbox.control("reset", json!({})).await?;
    assert_eq!(sandbox.show("documents").await?, json!([]));
    assert_eq!(sandbox.stats().await?["generates"], 0);
    assert_eq!(
        codes(&client.generate(&session, SAMPLE.as_bytes()).await?),
        ["1005"]
    );
    let session = client.login().await?;
    data(
        &session,
        &client.generate(&session, SAMPLE.as_bytes()).await?,
    )?;
    sandbox.verified(made["SignedQRCode"].as_str().context("a token")?)?;
    Ok(())
}
