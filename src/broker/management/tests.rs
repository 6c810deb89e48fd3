use serde_json::json;

use super::*;

#[test]
fn a_policy_lowers_numbers_and_fills_in_what_the_queue_does_not_say() {
    let queue: SeenQueue = serde_json::from_value(json!({
        "name": "irn.jobs", "type": "quorum", "durable": true, "policy": "p",
        "arguments": {"x-delivery-limit": 20, "x-message-ttl": 5, "x-overflow": "reject-publish"},
        "effective_policy_definition":
            {"delivery-limit": 3, "message-ttl": 9, "overflow": "drop-head", "max-length": 10},
    }))
    .unwrap();
    for (argument, seen, by_policy) in [
        ("x-delivery-limit", Some("3"), true),
        ("x-message-ttl", Some("5"), false),
        ("x-overflow", Some("drop-head"), true),
        ("x-max-length", Some("10"), true),
        ("x-expires", None, false),
    ] {
        assert_eq!(
            queue.effective(argument),
            (seen.map(str::to_owned), by_policy),
            "{argument}"
        );
    }
}

#[test]
fn alternate_exchange_is_the_exchanges_own_or_that_of_a_policy_which_names_one() {
    let seen = Seen {
        exchanges: BTreeMap::new(),
        queues: BTreeMap::new(),
        bindings: Vec::new(),
        policies: BTreeMap::from([
            ("other".to_owned(), json!({"ha-mode": "all"})),
            (
                "alternate".to_owned(),
                json!({"alternate-exchange": "irn.poison"}),
            ),
        ]),
    };
    for (arguments, policy, alternate, by) in [
        (json!({}), json!(null), None, None),
        (json!({}), json!("other"), None, None),
        (json!({}), json!("gone"), None, None),
        (
            json!({}),
            json!("alternate"),
            Some("irn.poison"),
            Some("alternate"),
        ),
        (
            json!({"alternate-exchange": "own"}),
            json!("alternate"),
            Some("own"),
            None,
        ),
    ] {
        let exchange: SeenExchange = serde_json::from_value(json!({
            "name": "irn.jobs", "type": "topic", "durable": true,
            "arguments": arguments, "policy": policy,
        }))
        .unwrap();
        let found = seen.alternate_of(&exchange);
        assert_eq!(found, (alternate.map(str::to_owned), by), "{policy}");
    }
}

#[test]
fn escapes_of_a_url_are_undone() {
    assert_eq!(decoded("p%40ss%2fw%zz%"), "p@ss/w%zz%");
}
