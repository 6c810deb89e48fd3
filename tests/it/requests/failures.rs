//! Every way in which an answer is lost or a call refused, for each of the requests: what is in doubt is looked up, and
//! only what is known not to be done is sent again.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Make, SELLER, SOON, all_registered, asked, assert_nothing_blind};
use crate::support::amqp::Job;
use crate::support::eventually;
use crate::support::stack::Stack;

/// How an answer may be lost.
fn losses() -> Vec<Value> {
    vec![
        json!({"kind": "drop"}),
        json!({"kind": "status", "status": 500}),
        json!({"kind": "status", "status": 502}),
        json!({"kind": "status", "status": 504}),
        json!({"kind": "html"}),
        json!({"kind": "html", "status": 503}),
        json!({"kind": "empty"}),
        json!({"kind": "truncated"}),
        json!({"kind": "error", "code": "5001", "message": "Application error"}),
        json!({"kind": "delay", "ms": 1300}),
    ]
}

/// A request: the fault's endpoint for it, the beginning of its documents' numbers, and how it ends.
type Request = (&'static str, &'static str, Make, &'static str);

const REQUESTS: [Request; 3] = [
    ("cancel", "CF", Job::cancel, "cancelled"),
    ("ewb", "EF", Job::eway_bill, "ewb_issued"),
    ("get_by_irn", "GF", Job::get, "found"),
];

/// One worker whose portal may take longer than its patience, but not than its settle time.
async fn impatient() -> Result<Stack> {
    Stack::start_with(1, |config| {
        config
            .set("irp.request_timeout", "1s")?
            .set("irp.settle_time", "1s")
    })
    .await
}

/// One document for each loss, and each loss once, before or after the portal has acted.
async fn lose_each_answer(
    stack: &Stack,
    (endpoint, prefix, job, _): Request,
    when: &str,
) -> Result<usize> {
    let losses = losses();
    let irns = all_registered(stack, prefix, losses.len()).await?;
    let rule = |(i, loss): (usize, &Value)| {
        let mut rule = loss.clone();
        rule["endpoint"] = json!(endpoint);
        rule["number"] = json!(format!("{prefix}/{i}"));
        rule["when"] = json!(when);
        rule["times"] = json!(1);
        rule
    };
    let rules: Vec<Value> = losses.iter().enumerate().map(rule).collect();
    stack.sandbox.faults(1, json!(rules)).await?;
    let jobs = irns.iter().enumerate();
    let jobs: Vec<Job> = jobs
        .map(|(i, irn)| job(&format!("{prefix}-{i}"), SELLER, irn))
        .collect();
    stack.erp.publish(&jobs).await?;
    Ok(losses.len())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn answer_lost_after_the_portal_acted_is_recovered_without_a_second_request() -> Result<()> {
    for request in REQUESTS {
        let stack = impatient().await?;
        let count = lose_each_answer(&stack, request, "after").await?;
        let changes = request.0 != "get_by_irn";
        for (id, outcome) in stack.outcomes(count, SOON).await? {
            assert_eq!(outcome.status(), request.3, "{id}: {}", outcome.json);
            assert_eq!(outcome.json["recovered"], changes, "{id}: {}", outcome.json);
            if changes {
                assert_eq!(outcome.json["attempts"], 2, "{id}: {}", outcome.json);
            }
        }
        let stats = stack.sandbox.stats().await?;
        if changes {
            assert_eq!(stats.requests(request.0), u64::try_from(count)?);
        }
        assert_nothing_blind(&stats);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn answer_lost_before_the_portal_acted_is_looked_for_and_only_then_asked_again() -> Result<()>
{
    for request in REQUESTS {
        let stack = impatient().await?;
        let count = lose_each_answer(&stack, request, "before").await?;
        // What was only late has been done by the time somebody looks.
        let late = losses().len() - 1;
        for (id, outcome) in stack.outcomes(count, SOON).await? {
            assert_eq!(outcome.status(), request.3, "{id}: {}", outcome.json);
            let recovered = request.0 != "get_by_irn" && id.ends_with(&format!("-{late}"));
            assert_eq!(
                outcome.json["recovered"], recovered,
                "{id}: {}",
                outcome.json
            );
        }
        let stats = stack.sandbox.stats().await?;
        let all = 2 * u64::try_from(count)?;
        match request.0 {
            "cancel" => assert_eq!(asked(&stats), [all, all - 1, 0, 0]),
            "ewb" => assert_eq!(asked(&stats), [0, 0, all - 1, all / 2]),
            _ => assert_eq!(asked(&stats), [all, 0, 0, 0]),
        }
        assert_nothing_blind(&stats);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn answer_under_a_wrong_key_is_read_again_with_a_new_session() -> Result<()> {
    for (endpoint, prefix, job, status) in REQUESTS {
        let stack = Stack::start(1).await?;
        let irns = all_registered(&stack, prefix, 1).await?;
        let once = json!([{"endpoint": endpoint, "kind": "wrong_key", "times": 1}]);
        stack.sandbox.faults(1, once).await?;
        let outcome = stack.settle(job("w-1", SELLER, &irns[0])).await?;
        assert_eq!(outcome.status(), status, "{}", outcome.json);
        assert_eq!(outcome.json["attempts"], 1);
        let stats = stack.sandbox.stats().await?;
        assert_eq!(stats.calls().logins, 2);
        assert_nothing_blind(&stats);
        let [looks, cancels, bills, bill_looks] = asked(&stats);
        match endpoint {
            "cancel" => assert_eq!((looks, cancels), (2, 1)),
            "ewb" => assert_eq!((bills, bill_looks), (1, 1)),
            _ => assert_eq!(looks, 2),
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refused_session_is_replaced_once_by_one_login() -> Result<()> {
    for (_, prefix, job, status) in REQUESTS {
        let stack = Stack::start(1).await?;
        let irns = all_registered(&stack, prefix, 4).await?;
        stack.sandbox.revoke_tokens().await?;
        let jobs: Vec<Job> = (0..4)
            .map(|i| job(&format!("s-{i}"), SELLER, &irns[i]))
            .collect();
        stack.erp.publish(&jobs).await?;
        for outcome in stack.outcomes(4, SOON).await?.values() {
            assert_eq!(outcome.status(), status, "{}", outcome.json);
            assert_eq!(outcome.json["attempts"], 1, "{}", outcome.json);
        }
        let stats = stack.sandbox.stats().await?;
        assert_eq!(stats.calls().logins, 2);
        assert_nothing_blind(&stats);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn refused_password_and_blocked_account_end_in_the_dead_letters_after_one_call() -> Result<()>
{
    for (endpoint, kind, code) in [
        ("auth", "refuse_password", "1019"),
        ("core", "block_gstin", "1014"),
    ] {
        for (_, prefix, job, _) in REQUESTS {
            let stack = Stack::start(1).await?;
            let irns = all_registered(&stack, prefix, 2).await?;
            let before = stack.sandbox.stats().await?.errors;
            let refuse = json!([{"endpoint": endpoint, "kind": kind}]);
            stack.sandbox.faults(1, refuse).await?;
            stack.sandbox.revoke_tokens().await?;
            for (i, irn) in irns.iter().enumerate() {
                let outcome = stack.settle(job(&format!("r-{i}"), SELLER, irn)).await?;
                assert_eq!(outcome.status(), "failed", "{}", outcome.json);
                let wanted = [
                    "worker CREDENTIALS_REFUSED".to_owned(),
                    format!("irp {code}"),
                ];
                assert_eq!(outcome.errors(), wanted);
                assert_eq!(outcome.json["dead_lettered"], true);
                assert_eq!(outcome.text("irn"), irn);
            }
            let errors = stack.sandbox.stats().await?.errors - before;
            assert!(errors <= 2, "{endpoint}: {errors}");
            for letter in stack.erp.take("irn.dead", 2, SOON).await? {
                assert_eq!(letter.header("x-irn-error").as_deref(), Some(code));
            }
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn throttled_request_comes_back_and_is_not_in_doubt() -> Result<()> {
    for (endpoint, prefix, job, status) in REQUESTS {
        let stack = Stack::start(1).await?;
        let irns = all_registered(&stack, prefix, 1).await?;
        let once = json!([{"endpoint": endpoint, "kind": "status", "status": 429, "times": 1}]);
        stack.sandbox.faults(1, once).await?;
        let outcome = stack.settle(job("t-1", SELLER, &irns[0])).await?;
        assert_eq!(outcome.status(), status, "{}", outcome.json);
        let stats = stack.sandbox.stats().await?;
        assert_nothing_blind(&stats);
        assert_eq!(stats.requests("get_ewb"), 0, "nothing was in doubt");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn request_that_is_never_answered_dies_saying_what_is_not_known() -> Result<()> {
    for (endpoint, prefix, job, known) in [
        (
            "cancel",
            "CX",
            Job::cancel as Make,
            "cancelled the registration",
        ),
        ("ewb", "EX", Job::eway_bill, "issued the e-way bill"),
        ("get_by_irn", "GX", Job::get, "asks again"),
    ] {
        let stack = Stack::start_with(1, |config| config.set("retry.max_attempts", 2)).await?;
        let irns = all_registered(&stack, prefix, 1).await?;
        let never = json!([{"endpoint": endpoint, "kind": "html"}]);
        stack.sandbox.faults(1, never).await?;
        let outcome = stack.settle(job("x-1", SELLER, &irns[0])).await?;
        assert_eq!(outcome.errors(), ["worker RETRIES_EXHAUSTED"]);
        let message = outcome.json["errors"][0]["message"].as_str();
        assert!(
            message.is_some_and(|text| text.contains(known)),
            "{message:?}"
        );
        assert_nothing_blind(&stack.sandbox.stats().await?);
        let letter = stack.erp.drain("irn.dead").await?.remove(0);
        let unknown = if endpoint == "get_by_irn" {
            "not_sent"
        } else {
            "unknown"
        };
        assert_eq!(letter.header("x-irn-outcome").as_deref(), Some(unknown));
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn request_refused_without_a_reason_is_looked_for_and_not_sent_again() -> Result<()> {
    for (endpoint, prefix, job, status) in &REQUESTS[..2] {
        let stack = impatient().await?;
        let irns = all_registered(&stack, prefix, 2).await?;
        let rule = |number: usize, when: &str| {
            json!({"endpoint": endpoint, "number": format!("{prefix}/{number}"),
                "kind": "no_reason", "when": when})
        };
        let rules = json!([rule(0, "before"), rule(1, "after")]);
        stack.sandbox.faults(1, rules).await?;
        let refused = stack.settle(job("n-0", SELLER, &irns[0])).await?;
        assert_eq!(refused.status(), "failed", "{}", refused.json);
        assert_eq!(refused.errors(), ["worker UNINTELLIGIBLE"]);
        assert_eq!(refused.json["dead_lettered"], true);
        let done = stack.settle(job("n-1", SELLER, &irns[1])).await?;
        assert_eq!(done.status(), *status, "{}", done.json);
        assert_eq!(done.json["recovered"], true, "{}", done.json);
        let stats = stack.sandbox.stats().await?;
        assert_eq!(stats.requests(endpoint), 2, "{stats:?}");
        assert_nothing_blind(&stats);
    }
    Ok(())
}

/// The first look is answered, and the request sent; then the portal answers no look-up of this document any more.
#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/test"]
async fn look_up_that_is_refused_says_nothing_of_what_may_have_been_done() -> Result<()> {
    for (endpoint, look, prefix, job) in [
        ("cancel", "get_by_irn", "CR", Job::cancel as Make),
        ("ewb", "get_ewb", "ER", Job::eway_bill),
    ] {
        let stack = impatient().await?;
        let irns = all_registered(&stack, prefix, 2).await?;
        let lost = json!([{"endpoint": endpoint, "kind": "drop", "when": "after", "times": 1}]);
        stack.sandbox.faults(1, lost).await?;
        let jobs = [job("d-1", SELLER, &irns[0])];
        stack.erp.publish(&jobs).await?;
        eventually(SOON, "the request to be sent", async || {
            let stats = stack.sandbox.stats().await?;
            Ok((stats.requests(endpoint) == 1).then_some(()))
        })
        .await?;
        let refuse = json!([{"endpoint": look, "kind": "error", "code": "2257",
            "message": "The credentials are not valid for this IRN"}]);
        stack.sandbox.faults(1, refuse).await?;
        let outcome = &stack.outcomes(1, SOON).await?["d-1"];
        assert_eq!(outcome.status(), "failed", "{}", outcome.json);
        assert_eq!(outcome.json["dead_lettered"], true, "{}", outcome.json);
        assert!(
            outcome.errors().contains(&"irp 2257".to_owned()),
            "{}",
            outcome.json
        );
        // Of one that has sent nothing yet it is the answer.
        if endpoint == "cancel" {
            let outcome = stack.settle(job("d-2", SELLER, &irns[1])).await?;
            assert_eq!(outcome.status(), "rejected", "{}", outcome.json);
        }
    }
    Ok(())
}
