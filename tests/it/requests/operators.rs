//! An e-commerce operator: what it has registered for a seller belongs to that seller, and is asked for under its name.

use anyhow::Result;
use serde_json::json;

use super::{SELLER, asked};
use crate::support::amqp::Job;
use crate::support::credentials::GSTINS;
use crate::support::invoice::{irn, sold_through};
use crate::support::stack::Stack;

const OPERATOR: &str = GSTINS[1];

/// Registers an invoice of [`SELLER`] in the operator's name; its IRN.
async fn registered(stack: &Stack, number: &str) -> Result<String> {
    let document = sold_through(OPERATOR, SELLER, number);
    let job = Job::generate(&format!("g-{number}"), document).text_header("x-irn-gstin", OPERATOR);
    stack.settle(job).await?.assert_signed(false);
    Ok(irn(SELLER, number))
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn operator_finds_what_it_has_registered_under_the_seller_that_it_names() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = registered(&stack, "O/1").await?;
    for (id, wanted) in [
        ("f-1", format!(r#""Irn":"{irn}""#)),
        (
            "f-2",
            r#""Typ":"INV","No":"O/1","Dt":"05/09/2025""#.to_owned(),
        ),
    ] {
        let body = format!(r#"{{{wanted},"SellerGstin":"{SELLER}"}}"#);
        let found = stack.settle(Job::about("get", id, OPERATOR, body)).await?;
        assert_eq!(found.status(), "found", "{}", found.json);
        assert_eq!(found.text("signature"), "verified");
        assert_eq!((found.text("irn"), found.text("gstin")), (&*irn, OPERATOR));
        assert_eq!(found.json["document"]["number"], "O/1");
    }
    assert_eq!(stack.sandbox.stats().await?.errors, 0);
    let unnamed = stack.settle(Job::get("f-3", OPERATOR, &irn)).await?;
    assert_eq!(unnamed.status(), "rejected", "{}", unnamed.json);
    assert_eq!(unnamed.errors(), ["irp 2226"]);
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn operator_cancels_what_it_has_registered_and_has_an_eway_bill_issued_for_it() -> Result<()>
{
    let stack = Stack::start(1).await?;
    let (bill, void) = (
        registered(&stack, "O/2").await?,
        registered(&stack, "O/3").await?,
    );
    let issued = stack.settle(Job::eway_bill("e-1", OPERATOR, &bill)).await?;
    assert_eq!(issued.status(), "ewb_issued", "{}", issued.json);
    let body = format!(
        r#"{{"Irn":"{void}","CnlRsn":"2","CnlRem":"Wrong entry","SellerGstin":"{SELLER}"}}"#
    );
    let order = Job::about("cancel", "c-1", OPERATOR, body);
    let cancelled = stack.settle(order).await?;
    assert_eq!(cancelled.status(), "cancelled", "{}", cancelled.json);
    assert_eq!(cancelled.text("irn"), void);
    let stats = stack.sandbox.stats().await?;
    assert_eq!((asked(&stats), stats.errors), ([1, 1, 1, 0], 0));
    Ok(())
}

/// Nothing is sold under a GSTIN for collecting tax, so what is asked for under it belongs to somebody else.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn tax_collector_that_names_no_seller_is_told_so_without_a_call() -> Result<()> {
    let stack = Stack::start(1).await?;
    let irn = irn(SELLER, "O/4");
    for (i, job) in [
        Job::about(
            "get",
            "o-0",
            "29AAACO1234K1C5",
            r#"{"Typ":"INV","No":"O/4","Dt":"05/09/2025"}"#,
        ),
        Job::get("o-1", "29AAACO1234K1C5", &irn),
        Job::cancel("o-2", "29AAACO1234K1C5", &irn),
    ]
    .into_iter()
    .enumerate()
    {
        let outcome = stack.settle(job).await?;
        assert_eq!(outcome.status(), "rejected", "{i}: {}", outcome.json);
        assert_eq!(outcome.errors(), ["preflight 2155"], "{i}");
        assert_eq!(
            outcome.json["errors"][0],
            json!({"source": "preflight", "code": "2155",
            "path": "/SellerGstin", "message": outcome.json["errors"][0]["message"]})
        );
    }
    assert_eq!(stack.sandbox.stats().await?.all_requests(), 0);
    Ok(())
}
