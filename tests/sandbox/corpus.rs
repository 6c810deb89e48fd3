//! Documents that the portal signed at start.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{SELLER, Sandbox, codes, command, data, http, invoice, spawn};

/// The sample under another number, in one line.
fn line(number: &str) -> Result<String> {
    Ok(serde_json::from_str::<Value>(&invoice(number))?.to_string())
}

fn start(lines: &[&str]) -> Result<Sandbox> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("corpus.ndjson");
    fs::write(&file, lines.join("\n"))?;
    let (child, url) = spawn(command(dir.path())?.arg("--corpus").arg(file))?;
    Ok(Sandbox {
        child,
        url,
        dir,
        http: http()?,
    })
}

#[tokio::test]
async fn a_corpus_document_is_registered_each_time_it_comes_and_found_once_it_came() -> Result<()> {
    let (one, two) = (line("C/1")?, line("C/2")?);
    let sandbox = start(&[&one, &two])?;
    let client = sandbox.client();
    let session = client.login().await?;

    let path = "/eicore/v1.03/Invoice/irnbydocdetails?doctype=INV&docnum=C/1&docdate=05/09/2025";
    assert_eq!(codes(&client.get(&session, path).await?), ["2154"]);
    let first = client.generate(&session, one.as_bytes()).await?;
    let made = data(&session, &first)?;
    let signed = sandbox.verified(made["SignedInvoice"].as_str().unwrap_or_default())?;
    assert_eq!(signed["DocDtls"]["No"], "C/1");
    assert_eq!(
        (&signed["Irn"], &signed["AckNo"]),
        (&made["Irn"], &made["AckNo"])
    );
    let qr = sandbox.verified(made["SignedQRCode"].as_str().unwrap_or_default())?;
    assert_eq!(qr["DocNo"], "C/1");

    let again = client.generate(&session, one.as_bytes()).await?;
    assert_eq!(data(&session, &again)?, made);
    assert_eq!(again["InfoDtls"], Value::Null);
    assert_eq!(data(&session, &client.get(&session, path).await?)?, made);
    let irn = made["Irn"].as_str().unwrap_or_default();
    assert_eq!(data(&session, &client.by_irn(&session, irn).await?)?, made);

    let stats = sandbox.stats().await?;
    let counted = [
        "generates",
        "registrations",
        "duplicate_generates",
        "blind_generates",
    ];
    assert_eq!(
        counted.map(|name| stats[name].clone()),
        [2, 2, 0, 0].map(Value::from)
    );
    let document = &stats["documents"][format!("{SELLER}/INV/C/1/2025-26")];
    assert_eq!(
        (&document["submits"], &document["registered"]),
        (&json!(2), &json!(true))
    );
    Ok(())
}

#[tokio::test]
async fn a_document_that_is_not_in_the_corpus_is_judged_as_ever() -> Result<()> {
    let one = line("C/1")?;
    let sandbox = start(&[&one])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let other = line("C/2")?;
    data(
        &session,
        &client.generate(&session, other.as_bytes()).await?,
    )?;
    assert_eq!(
        codes(&client.generate(&session, other.as_bytes()).await?),
        ["2150"]
    );

    // The number of a corpus document with other bytes: whoever comes second is the duplicate.
    let respelt = one.replace(":0,", ":0.0,");
    assert_ne!(respelt, one);
    data(
        &session,
        &client.generate(&session, respelt.as_bytes()).await?,
    )?;
    assert_eq!(
        codes(&client.generate(&session, one.as_bytes()).await?),
        ["2150"]
    );

    let stranger = sandbox.buyer();
    let session = stranger.login().await?;
    assert!(!codes(&stranger.generate(&session, one.as_bytes()).await?).is_empty());
    Ok(())
}

#[tokio::test]
async fn faults_and_shapes_apply_to_a_corpus_document() -> Result<()> {
    let one = line("C/1")?;
    let sandbox = start(&[&one])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let made = data(&session, &client.generate(&session, one.as_bytes()).await?)?;

    sandbox
        .control(
            "faults",
            json!({"rules": [{"number": "C/1", "kind": "bad_signature"}]}),
        )
        .await?;
    let spoilt = data(&session, &client.generate(&session, one.as_bytes()).await?)?;
    let token = spoilt["SignedInvoice"].as_str().unwrap_or_default();
    assert!(sandbox.verified(token).is_err());

    sandbox
        .control(
            "faults",
            json!({"shapes": {"ack_no": "string", "status": "string"}}),
        )
        .await?;
    let shaped = client.generate(&session, one.as_bytes()).await?;
    assert_eq!(shaped["Status"], "1");
    let shaped = data(&session, &json!({"Status": 1, "Data": shaped["Data"]}))?;
    assert_eq!(shaped["AckNo"], made["AckNo"].to_string());

    sandbox
        .control(
            "faults",
            json!({"rules": [{"kind": "status", "when": "after"}]}),
        )
        .await?;
    let path = "/eicore/v1.03/Invoice";
    let post = reqwest::Method::POST;
    let failed = client
        .call(&session, post, path, Some(one.as_bytes()))
        .await?;
    assert_eq!(failed.status(), 503);
    assert_eq!(sandbox.stats().await?["registrations"], 4);
    Ok(())
}

#[tokio::test]
async fn a_cancelled_corpus_document_is_registered_anew() -> Result<()> {
    let one = line("C/1")?;
    let sandbox = start(&[&one])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let made = data(&session, &client.generate(&session, one.as_bytes()).await?)?;
    let irn = made["Irn"].as_str().unwrap_or_default();
    data(&session, &client.cancel(&session, irn).await?)?;
    assert_eq!(
        data(&session, &client.by_irn(&session, irn).await?)?["Status"],
        "CNL"
    );
    assert_eq!(
        data(&session, &client.generate(&session, one.as_bytes()).await?)?,
        made
    );
    assert_eq!(
        data(&session, &client.by_irn(&session, irn).await?)?["Status"],
        "ACT"
    );
    Ok(())
}

#[test]
fn a_corpus_with_a_document_that_would_be_refused_is_told_by_its_line() -> Result<()> {
    let good = line("C/1")?;
    let wrong = line("C/2")?.replace(r#""TotInvVal":21851"#, r#""TotInvVal":31851"#);
    for (lines, said) in [
        (format!("{good}\n\n{wrong}\n"), ["line 3", "2189"]),
        (format!("{good}\n{good}\n"), ["line 2", "twice"]),
        ("nonsense".to_owned(), ["line 1", "not valid JSON"]),
        (String::new(), ["holds no document", "corpus.ndjson"]),
    ] {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("corpus.ndjson");
        fs::write(&file, lines)?;
        let output = command(dir.path())?.arg("--corpus").arg(file).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said:?}");
        assert!(said.iter().all(|said| text.contains(said)), "{text}");
    }
    Ok(())
}
