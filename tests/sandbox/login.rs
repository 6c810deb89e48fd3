//! Authentication, tokens and the gates before every call.

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine};
use reqwest::Method;
use serde_json::json;

use crate::client::{Client, SAMPLE, SELLER, Sandbox, Session, codes, data};

#[tokio::test]
async fn one_token_runs_and_its_key_is_wrapped_under_each_app_key() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let first = sandbox.client().login().await?;
    let again = Client {
        app_key: [9; 32],
        force: json!("true"),
        ..sandbox.client()
    }
    .login()
    .await?;
    assert_eq!(
        (&first.token, first.key, &first.expiry),
        (&again.token, again.key, &again.expiry)
    );
    assert_ne!(sandbox.buyer().login().await?.token, first.token);
    let stats = sandbox.stats().await?;
    assert_eq!(
        (&stats["authentications"], &stats["authentications_refused"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(stats["gstins"][SELLER]["authentications"], 2);
    Ok(())
}

#[tokio::test]
async fn force_renews_in_the_last_ten_minutes_and_ends_the_old_token() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    sandbox
        .control("clock", json!({"now": "2026-01-01T12:00:00+05:30"}))
        .await?;
    let client = Client {
        force: json!(true),
        ..sandbox.client()
    };
    let first = client.login().await?;
    assert!(
        first.expiry.starts_with("2026-01-01 13:00:0"),
        "60 minutes later, in IST: {}",
        first.expiry
    );
    sandbox.control("clock", json!({"advance": "45m"})).await?;
    assert_eq!(client.login().await?.token, first.token);
    sandbox.control("clock", json!({"advance": "6m"})).await?;
    let second = client.login().await?;
    assert_ne!(second.token, first.token);
    assert_eq!(
        codes(&client.generate(&first, SAMPLE.as_bytes()).await?),
        ["1005"]
    );
    data(&second, &client.generate(&second, SAMPLE.as_bytes()).await?)?;
    sandbox.control("clock", json!({"advance": "61m"})).await?;
    assert_eq!(
        codes(&client.generate(&second, SAMPLE.as_bytes()).await?),
        ["1005"]
    );
    Ok(())
}

#[tokio::test]
async fn production_tokens_live_six_hours() -> Result<()> {
    let sandbox = Sandbox::start(&["--environment", "production"])?;
    sandbox
        .control("clock", json!({"now": "2026-01-01T12:00:00+05:30"}))
        .await?;
    let session = sandbox.client().login().await?;
    assert!(
        session.expiry.starts_with("2026-01-01 18:00:0"),
        "{}",
        session.expiry
    );
    Ok(())
}

fn pair(left: &str, right: &str) -> (String, String) {
    (left.to_owned(), right.to_owned())
}

impl Client<'_> {
    fn with_client(self, id: &str, secret: &str) -> Self {
        Self {
            client: pair(id, secret),
            ..self
        }
    }

    fn with_user(self, name: &str, password: &str) -> Self {
        Self {
            user: pair(name, password),
            ..self
        }
    }

    fn with_gstin(self, gstin: &str) -> Self {
        Self {
            gstin: gstin.to_owned(),
            ..self
        }
    }
}

#[tokio::test]
async fn every_wrong_login_has_its_code() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let good = || sandbox.client();
    let cases = [
        (good().with_client("", "x"), "1011"),
        (good().with_client("ACME", ""), "1012"),
        (good().with_client("ACME", "wrong"), "1010"),
        (good().with_gstin(""), "1004"),
        (good().with_user("API_nobody", "Pw@ka"), "1017"),
        (good().with_gstin("27AABCT9421M1ZY"), "1015"),
        (
            good().with_gstin("29AAGCE4783K1Z1, 29AAGCE4783K1Z1"),
            "1015",
        ),
        (good().with_client("OTHER", "other-secret"), "1018"),
        (good().with_user("API_ka", "wrong"), "1019"),
    ];
    for (client, code) in cases {
        let answer = client.auth(json!({"Data": client.sealed_login()?})).await?;
        assert_eq!(codes(&answer), [code]);
    }
    let stats = sandbox.stats().await?;
    assert_eq!(stats["authentications"], 0);
    assert_eq!(stats["authentications_refused"], 9);
    Ok(())
}

#[tokio::test]
async fn unreadable_logins_have_their_codes() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let unencoded = client.rsa(br#"{"UserName":"API_ka"}"#)?;
    let short_key = json!({"UserName": "API_ka", "Password": "Pw@ka", "AppKey": "AAEC"});
    let short_key = client.rsa(BASE64_STANDARD.encode(short_key.to_string()).as_bytes())?;
    let bodies = [
        (json!({}), "5003"),
        (json!({"Data": null}), "5003"),
        (json!({"Data": ""}), "5003"),
        (json!({"Data": "bm90IHJzYQ=="}), "1020"),
        (json!({"Data": unencoded}), "1020"),
        (json!({"Data": short_key}), "1016"),
    ];
    for (body, code) in bodies {
        assert_eq!(codes(&client.auth(body.clone()).await?), [code], "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn gates_refuse_in_the_portals_order() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let session = sandbox.client().login().await?;
    let wrong = Session {
        token: "wrong".to_owned(),
        ..session.clone()
    };
    let none = || sandbox.client().with_gstin("").with_user("", "");
    let cases = [
        (none().with_client("", ""), &wrong, "1011"),
        (none().with_client("ACME", ""), &wrong, "1012"),
        (none().with_client("ACME", "x"), &wrong, "1010"),
        (none(), &wrong, "1004"),
        (sandbox.client().with_user("", ""), &wrong, "1006"),
        (sandbox.client(), &wrong, "1005"),
        (sandbox.client().with_user("API_mh", ""), &session, "1005"),
        (
            sandbox.client().with_gstin("27AABCT9421M1ZY"),
            &session,
            "1015",
        ),
    ];
    for (client, session, code) in cases {
        assert_eq!(
            codes(&client.generate(session, SAMPLE.as_bytes()).await?),
            [code]
        );
    }
    assert_eq!(sandbox.stats().await?["registrations"], 0);
    Ok(())
}

#[tokio::test]
async fn two_gstin_headers_are_refused() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let session = client.login().await?;
    let request = sandbox.http.get(format!(
        "{}/eivital/v1.04/Master/gstin/{SELLER}",
        sandbox.url
    ));
    let request = request
        .header("client_id", "ACME")
        .header("client_secret", "acme-secret");
    let request = request.header("Gstin", SELLER).header("gstin", SELLER);
    let response = request
        .header("user_name", "API_ka")
        .header("authtoken", &session.token)
        .send()
        .await?;
    assert_eq!(
        codes(&serde_json::from_str(&response.text().await?)?),
        ["1015"]
    );
    data(
        &session,
        &client
            .get(&session, &format!("/eivital/v1.04/Master/gstin/{SELLER}"))
            .await?,
    )?;
    Ok(())
}

#[tokio::test]
async fn a_changed_password_and_a_frozen_account_stop_the_login() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    let client = sandbox.client();
    let change = json!({"gstin": SELLER, "username": "API_ka", "password": "new"});
    sandbox.control("password", change).await?;
    let body = json!({"Data": client.sealed_login()?});
    assert_eq!(codes(&client.auth(body).await?), ["1019"]);
    let client = client.with_user("API_ka", "new");
    let session = client.login().await?;
    sandbox
        .control("taxpayers", json!({"gstin": SELLER, "frozen": true}))
        .await?;
    let body = json!({"Data": client.sealed_login()?});
    assert_eq!(codes(&client.auth(body).await?), ["3033"]);
    sandbox.control("revoke", json!({"gstin": SELLER})).await?;
    assert_eq!(
        codes(&client.generate(&session, SAMPLE.as_bytes()).await?),
        ["1005"]
    );
    Ok(())
}

#[tokio::test]
async fn the_date_header_follows_the_clock() -> Result<()> {
    let sandbox = Sandbox::start(&[])?;
    sandbox
        .control("clock", json!({"now": "2026-01-01T12:00:00+05:30"}))
        .await?;
    let client = sandbox.client();
    let session = client.login().await?;
    for path in [
        "/eivital/v1.04/heartbeat/ping",
        "/eivital/v1.04/Master/gstin/29AAGCE4783K1Z1",
    ] {
        let response = client.call(&session, Method::GET, path, None).await?;
        let date = response
            .headers()
            .get("date")
            .and_then(|date| date.to_str().ok());
        let expected = |date: &str| date.starts_with("Thu, 01 Jan 2026 06:30:");
        assert!(date.is_some_and(expected), "{path}: {date:?}");
    }
    let ping = client
        .call(&session, Method::GET, "/eivital/v1.04/heartbeat/ping", None)
        .await?;
    assert!(
        ping.text()
            .await?
            .starts_with("e-Invoice Vital:-01-01-2026 12:00:")
    );
    Ok(())
}
