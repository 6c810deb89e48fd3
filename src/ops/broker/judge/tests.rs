use super::*;

const NEEDS: Needs = Needs {
    consumer_timeout: Duration::from_secs(300),
    declare: false,
    limits_deliveries: true,
};

fn judged(name: &str, argument: &str, expected: Option<&str>, seen: Option<&str>) -> Finding {
    judge(&of_queue(name, argument, expected, seen), NEEDS).unwrap()
}

fn of_queue(name: &str, argument: &str, expected: Option<&str>, seen: Option<&str>) -> Deviation {
    Deviation {
        kind: Kind::Queue,
        name: name.to_owned(),
        how: How::Argument {
            name: argument.to_owned(),
            expected: expected.map(str::to_owned),
            seen: seen.map(str::to_owned),
            policy: None,
        },
    }
}

#[test]
fn delivery_limit_below_zero_is_none_and_loses_nothing() {
    for queue in ["irn.dead", "irn.poison", "irn.results"] {
        let deviation = of_queue(queue, "x-delivery-limit", Some("1000000"), Some("-1"));
        assert!(judge(&deviation, NEEDS).is_none(), "{queue}");
    }
    let jobs = judged("irn.jobs", "x-delivery-limit", Some("20"), Some("-1"));
    assert!(!jobs.loses_messages && jobs.verdict == Verdict::Warning);
}

#[test]
fn what_loses_messages_is_told_apart_from_what_is_odd() {
    for (queue, argument, expected, seen, loses) in [
        (
            "irn.jobs",
            "x-queue-type",
            Some("quorum"),
            Some("classic"),
            true,
        ),
        (
            "irn.results",
            "x-queue-type",
            Some("quorum"),
            Some("classic"),
            true,
        ),
        (
            "irn.jobs",
            "x-dead-letter-exchange",
            Some("irn.poison"),
            None,
            true,
        ),
        (
            "irn.retry.15s",
            "x-dead-letter-strategy",
            Some("at-least-once"),
            None,
            true,
        ),
        (
            "irn.retry.15s",
            "x-message-ttl",
            Some("15000"),
            Some("20000"),
            false,
        ),
        (
            "irn.dead",
            "x-message-ttl",
            Some("20000"),
            Some("15000"),
            true,
        ),
        (
            "irn.dead",
            "x-message-ttl",
            Some("15000"),
            Some("20000"),
            false,
        ),
        ("irn.dead", "x-message-ttl", Some("15000"), None, false),
        ("irn.jobs", "x-delivery-limit", Some("20"), Some("4"), true),
        ("irn.jobs", "x-delivery-limit", Some("20"), Some("5"), false),
        (
            "irn.dead",
            "x-delivery-limit",
            Some("1000000"),
            Some("20"),
            true,
        ),
        (
            "irn.jobs.urgent",
            "x-consumer-timeout",
            None,
            Some("299999"),
            true,
        ),
        (
            "irn.jobs.urgent",
            "x-consumer-timeout",
            None,
            Some("300000"),
            false,
        ),
        ("irn.results", "x-max-length", None, Some("10"), true),
        ("irn.results", "x-message-ttl", None, Some("10"), true),
        (
            "irn.results",
            "x-delivery-limit",
            Some("1000000"),
            Some("999"),
            true,
        ),
        (
            "irn.results",
            "x-delivery-limit",
            Some("1000000"),
            Some("1000"),
            false,
        ),
        (
            "irn.results",
            "x-delivery-limit",
            Some("1000000"),
            None,
            true,
        ),
        ("irn.jobs", "x-delivery-limit", Some("20"), None, false),
        (
            "irn.retry.15s",
            "x-dead-letter-routing-key",
            None,
            Some("irn.dead"),
            true,
        ),
        (
            "irn.jobs",
            "x-single-active-consumer",
            None,
            Some("true"),
            false,
        ),
        (
            "irn.control.log",
            "x-queue-type",
            Some("stream"),
            Some("quorum"),
            false,
        ),
        ("irn.control.log", "x-expires", None, Some("10"), false),
        ("irn.jobs", "x-max-length", None, Some("10"), false),
        ("irn.poison", "x-expires", None, Some("10"), true),
        ("irn.results", "x-message-ttl", None, Some("10"), true),
        ("irn.results", "x-delivery-limit", None, Some("1"), true),
        (
            "irn.control.log",
            "x-max-length-bytes",
            Some("1"),
            Some("2"),
            false,
        ),
    ] {
        let finding = judged(queue, argument, expected, seen);
        assert_eq!(finding.loses_messages, loses, "{finding:?}");
        assert!(finding.remedy.is_some(), "{finding:?}");
        assert!(finding.what.contains(queue) && finding.what.contains(argument));
    }
}
