//! An e-commerce operator: what it has registered for a seller belongs to that seller, and is asked for under its name.

use anyhow::Result;
use serde_json::json;

use super::{SELLER, asked};
use crate::support::amqp::Job;
use crate::support::credentials::{Credentials, GSTINS};
use crate::support::invoice::{irn, sold_through};
use crate::support::outcome::Outcome;
use crate::support::stack::Stack;

const OPERATOR: &str = GSTINS[1];
/// Nothing is sold under a GSTIN for collecting tax.
const COLLECTOR: &str = "29AAACO1234K1C5";

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
async fn tax_collector_that_names_no_seller_cancels_by_irn_and_is_told_what_else_to_name()
-> Result<()> {
    let credentials = Credentials::of(&[SELLER, COLLECTOR]);
    let stack = Stack::of(&credentials, 1, Ok).await?;
    let document = r#"{"Typ":"INV","No":"O/4","Dt":"05/09/2025"}"#;
    let unnamed = Job::about("get", "o-0", COLLECTOR, document);
    let outcome = stack.settle(unnamed).await?;
    assert_names_the_seller(&outcome);
    assert_eq!(stack.sandbox.stats().await?.all_requests(), 0);
    let job = Job::generate("g-1", sold_through(COLLECTOR, SELLER, "O/5"))
        .text_header("x-irn-gstin", COLLECTOR);
    stack.settle(job).await?.assert_signed(false);
    let nothing = Job::get("o-1", COLLECTOR, &irn(SELLER, "O/6"));
    assert_names_the_seller(&stack.settle(nothing).await?);
    let void = irn(SELLER, "O/5");
    let order = Job::cancel("o-2", COLLECTOR, &void);
    let cancelled = stack.settle(order).await?;
    assert_eq!(cancelled.status(), "cancelled", "{}", cancelled.json);
    assert_eq!(cancelled.text("irn"), void);
    let order = Job::cancel("o-3", COLLECTOR, &irn(SELLER, "O/6"));
    let nothing = stack.settle(order).await?;
    assert_eq!(nothing.status(), "not_found", "{}", nothing.json);
    Ok(())
}

/// The look-up says nothing of such a registration, so the portal's own answer to the cancellation has to.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn cancellation_by_an_operator_that_names_no_seller_is_settled_though_its_answer_was_lost()
-> Result<()> {
    let credentials = Credentials::of(&[SELLER, COLLECTOR]);
    for when in ["after", "before"] {
        let stack = Stack::of(&credentials, 1, Ok).await?;
        let job = Job::generate("g-1", sold_through(COLLECTOR, SELLER, "O/7"))
            .text_header("x-irn-gstin", COLLECTOR);
        stack.settle(job).await?.assert_signed(false);
        let lost = json!([{"endpoint": "cancel", "kind": "drop", "when": when, "times": 1}]);
        stack.sandbox.faults(1, lost).await?;
        let order = Job::cancel("c-1", COLLECTOR, &irn(SELLER, "O/7"));
        let cancelled = stack.settle(order).await?;
        assert_eq!(cancelled.status(), "cancelled", "{}", cancelled.json);
        assert_eq!(cancelled.json["recovered"], when == "after", "{when}");
        // The second one is answered with 9999, or does it.
        assert_eq!(stack.sandbox.stats().await?.requests("cancel"), 2);
    }
    Ok(())
}

fn assert_names_the_seller(outcome: &Outcome) {
    assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
    assert_eq!(outcome.errors(), ["preflight 2155"]);
    assert_eq!(outcome.json["errors"][0]["path"], "/SellerGstin");
}
