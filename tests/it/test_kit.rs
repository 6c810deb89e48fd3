//! The test kit itself: what it breaks is broken, and what it counts is there.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::support::amqp::{Amqp, Job};
use crate::support::broker::Broker;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::eventually;
use crate::support::invoice::{invoice, odd_but_valid, wrong_total};
use crate::support::private_broker::PrivateBroker;
use crate::support::proxy::TcpProxy;
use crate::support::sandbox::Sandbox;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn every_generated_invoice_is_json_and_every_variant_differs() -> Result<()> {
    for gstin in GSTINS {
        let plain = invoice(gstin, "T-1");
        for text in [
            &plain,
            &odd_but_valid(gstin, "T-1"),
            &wrong_total(gstin, "T-1"),
        ] {
            let document: serde_json::Value = serde_json::from_str(text)?;
            assert_eq!(document["SellerDtls"]["Gstin"], gstin);
            assert_eq!(document["DocDtls"]["No"], "T-1");
        }
        assert!(odd_but_valid(gstin, "T-1").contains("21851.00 "));
        assert_ne!(wrong_total(gstin, "T-1"), plain);
    }
    Ok(())
}

#[tokio::test]
async fn waiting_ends_at_its_deadline_and_says_what_for() {
    let waited = eventually(Duration::from_millis(60), "a sign", async || Ok(None::<()>)).await;
    let error = waited.map_err(|error| format!("{error:#}"));
    assert!(
        error.as_ref().is_err_and(|e| e.contains("a sign")),
        "{error:?}"
    );
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn virtual_host_is_there_for_one_test_and_gone_after_it() -> Result<()> {
    let broker = Broker::new().await?;
    let url = broker.url();
    let erp = Amqp::connect(&url).await?;
    erp.declare("erp.test").await?;
    erp.publish_into("erp.test", &Job::new("", "one").correlation_id("c-1"))
        .await?;
    erp.publish_into(
        "erp.test",
        &Job::new("", "two").text_header("x-irn-status", "signed"),
    )
    .await?;
    eventually(SOON, "two messages", async || {
        Ok((erp.depth("erp.test").await? == 2).then_some(()))
    })
    .await?;
    let taken = erp.take("erp.test", 1, SOON).await?;
    assert_eq!(
        (taken[0].correlation_id(), taken[0].body.as_slice()),
        ("c-1", b"one".as_slice())
    );
    let rest = erp.drain("erp.test").await?;
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].header("x-irn-status").as_deref(), Some("signed"));
    assert!(
        erp.take("erp.test", 1, Duration::from_millis(100))
            .await
            .is_err()
    );
    assert!(erp.depth("erp.absent").await.is_err());
    drop(broker);
    assert!(Amqp::connect(&url).await.is_err());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn user_without_permissions_cannot_declare() -> Result<()> {
    let broker = Broker::new().await?;
    let erp = Amqp::connect(&broker.add_user("", ".*", ".*").await?).await?;
    assert!(erp.declare("erp.test").await.is_err());
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn proxy_holds_cuts_and_restores() -> Result<()> {
    let broker = Broker::new().await?;
    let proxy = TcpProxy::to(broker.address()).await?;
    let through = broker.url_through(proxy.address());
    let erp = Amqp::connect(&through).await?;
    erp.declare("erp.test").await?;

    proxy.hold();
    let held = tokio::time::timeout(Duration::from_millis(200), erp.declare("erp.test")).await;
    assert!(held.is_err(), "a byte got through");
    proxy.restore();
    eventually(SOON, "the broker to answer again", async || {
        Ok(Some(erp.depth("erp.test").await?))
    })
    .await?;

    proxy.cut();
    eventually(SOON, "the connection to be lost", async || {
        Ok(erp.depth("erp.test").await.is_err().then_some(()))
    })
    .await?;
    assert!(Amqp::connect(&through).await.is_err());

    proxy.restore();
    let erp = Amqp::connect(&through).await?;
    proxy.drop_connections();
    eventually(SOON, "the connection to be lost", async || {
        Ok(erp.depth("erp.test").await.is_err().then_some(()))
    })
    .await?;
    Amqp::connect(&through).await?.depth("erp.test").await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn private_broker_comes_back_with_its_messages() -> Result<()> {
    let node = PrivateBroker::start().await?;
    let broker = node.virtual_host().await?;
    let erp = Amqp::connect(&broker.url()).await?;
    erp.declare("erp.test").await?;
    erp.publish_into("erp.test", &Job::new("", "kept")).await?;
    node.stop().await?;
    assert!(Amqp::connect(&broker.url()).await.is_err());
    node.start_again().await?;
    node.ctl(&["list_queues"]).await?;
    let erp = Amqp::connect(&broker.url()).await?;
    assert_eq!(erp.depth("erp.test").await?, 1);
    node.kill().await?;
    node.start_again().await?;
    let erp = Amqp::connect(&broker.url()).await?;
    assert_eq!(erp.take("erp.test", 1, SOON).await?[0].body, b"kept");
    Ok(())
}

#[tokio::test]
async fn sandbox_starts_takes_faults_and_counts() -> Result<()> {
    let sandbox = Sandbox::start(&Credentials::of(&GSTINS)).await?;
    assert!(sandbox.auth_key().exists());
    assert!(sandbox.signing_certificate().exists());
    sandbox
        .faults(
            7,
            json!([{"endpoint": "generate", "kind": "drop", "when": "after"}]),
        )
        .await?;
    sandbox.clear_faults().await?;
    sandbox.advance("1h").await?;
    assert_eq!(sandbox.held().await?, 0);
    sandbox.release().await?;
    assert_eq!(sandbox.stats().await?.generates, 0);
    Ok(())
}
