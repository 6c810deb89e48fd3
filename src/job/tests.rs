use super::*;
use lapin::types::FieldArray;
use proptest::prelude::*;

fn headers(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        set(&mut table, name, value.clone());
    }
    table
}

fn job(properties: Properties) -> Job {
    decode(properties, "generate", false, b"{}".to_vec()).unwrap()
}

fn problem(properties: Properties, routing_key: &str) -> String {
    decode(properties, routing_key, false, Vec::new())
        .unwrap_err()
        .problem
}

const AGAIN: Again<'_> = Again {
    attempt: 3,
    outcome: PriorOutcome::Unknown,
    first_seen: Some(Timestamp::UNIX_EPOCH),
    error: Some("504"),
    portal: None,
};

#[test]
fn the_portal_of_a_doubt_goes_with_the_job_and_leaves_it_with_the_doubt() {
    let doubtful = Again {
        portal: Some("irp2.example.in".into()),
        ..AGAIN
    };
    let pinned = job(job(Properties::default()).again(&doubtful));
    assert_eq!(pinned.portal.as_deref(), Some("irp2.example.in"));
    assert_eq!(job(pinned.again(&AGAIN)).portal, None);
}

#[test]
fn a_bare_message_is_a_first_attempt_of_its_routing_keys_operation() {
    let job = decode(Properties::default(), "urgent.generate", false, Vec::new()).unwrap();
    assert_eq!(job.operation, Operation::Generate);
    assert_eq!((job.attempt, job.outcome), (1, PriorOutcome::NotSent));
    assert_eq!(job.id(Some("the-irn")), "the-irn");
    assert!(job.id(None).starts_with("sha256:"));
}

#[test]
fn the_type_property_outranks_the_routing_key() {
    let properties = Properties::default().with_type(short("irn.cancel.v1"));
    assert_eq!(job(properties).operation, Operation::Cancel);
}

#[test]
fn what_makes_no_sense_is_unreadable_and_named() {
    let with = |name: &str, value| Properties::default().with_headers(headers(&[(name, value)]));
    let long = |text: &str| AMQPValue::LongString(text.into());
    let rows = [
        (with(header::ATTEMPT, long("banana")), header::ATTEMPT),
        (
            with(header::ATTEMPT, AMQPValue::LongInt(-1)),
            header::ATTEMPT,
        ),
        (
            with(header::ATTEMPT, AMQPValue::LongLongInt(i64::MAX)),
            header::ATTEMPT,
        ),
        (
            with(header::ATTEMPT, AMQPValue::Boolean(true)),
            header::ATTEMPT,
        ),
        (with(header::DEADLINE, long("tomorrow")), header::DEADLINE),
        (
            with(header::DEADLINE, AMQPValue::Timestamp(1)),
            header::DEADLINE,
        ),
        (with(header::GSTIN, long("29aagce4783k1z1")), header::GSTIN),
        (
            with(header::GSTIN, AMQPValue::FieldArray(FieldArray::default())),
            header::GSTIN,
        ),
        (
            with(header::GSTIN, AMQPValue::LongString(vec![0xff].into())),
            header::GSTIN,
        ),
        (with(header::OUTCOME, long("maybe")), header::OUTCOME),
        (
            Properties::default().with_content_type(short("text/xml")),
            "content_type",
        ),
        (
            Properties::default().with_type(short("irn.generate.v9")),
            "type",
        ),
        (
            Properties::default().with_message_id(short(&"x".repeat(129))),
            "message_id",
        ),
    ];
    for (properties, named) in rows {
        let problem = problem(properties, "generate");
        assert!(problem.contains(named), "{problem}");
    }
    assert!(problem(Properties::default(), "genrate").contains("routing key"));
}

#[test]
fn what_a_client_fills_with_an_empty_text_is_not_there() {
    let empty = || AMQPValue::LongString("".into());
    let given = [
        (header::GSTIN, empty()),
        (header::DEADLINE, AMQPValue::ShortString(short(""))),
        (header::OUTCOME, empty()),
    ];
    let job = job(Properties::default()
        .with_type(short(""))
        .with_content_type(short(""))
        .with_message_id(short(""))
        .with_headers(headers(&given)));
    assert_eq!(job.operation, Operation::Generate);
    assert_eq!((job.gstin, job.deadline), (None, None));
    assert_eq!(job.outcome, PriorOutcome::NotSent);
}

#[test]
fn any_width_of_integer_and_either_kind_of_string_is_read() {
    let numbers = [
        AMQPValue::ShortShortUInt(7),
        AMQPValue::ShortInt(7),
        AMQPValue::LongUInt(7),
        AMQPValue::LongLongInt(7),
    ];
    for number in numbers {
        let job = job(Properties::default().with_headers(headers(&[(header::ATTEMPT, number)])));
        assert_eq!(job.attempt, 7);
    }
    let texts = [
        AMQPValue::LongString("29AAGCE4783K1Z1".into()),
        AMQPValue::ShortString(short("29AAGCE4783K1Z1")),
        AMQPValue::ByteArray(b"29AAGCE4783K1Z1"[..].into()),
    ];
    for text in texts {
        let job = job(Properties::default().with_headers(headers(&[(header::GSTIN, text)])));
        assert_eq!(job.gstin.unwrap().as_str(), "29AAGCE4783K1Z1");
    }
}

#[test]
fn published_again_it_keeps_the_erps_properties_and_drops_what_would_hurt() {
    let properties = Properties::default()
        .with_content_type(short("application/json; charset=utf-8"))
        .with_correlation_id(short("c-1"))
        .with_message_id(short("m-1"))
        .with_reply_to(short("erp.replies"))
        .with_timestamp(1_700_000_000)
        .with_app_id(short("erp"))
        .with_priority(9)
        .with_user_id(short("erp"))
        .with_expiration(short("1000"))
        .with_delivery_mode(1)
        .with_headers(headers(&[
            ("erp-own", AMQPValue::Boolean(true)),
            (header::BATCH_ID, AMQPValue::LongString("b-1".into())),
            ("x-death", AMQPValue::FieldArray(FieldArray::default())),
            (
                "x-first-death-queue",
                AMQPValue::LongString("irn.retry.15s".into()),
            ),
        ]));
    let again = job(properties).again(&AGAIN);
    assert_eq!(again.user_id(), &None, "the broker would close our channel");
    assert_eq!(again.expiration(), &None, "it would leave the ladder early");
    assert_eq!(again.delivery_mode(), &Some(2));
    assert_eq!(again.timestamp(), &Some(1_700_000_000));
    assert_eq!(again.priority(), &None, "a rung is to be left in order");
    let same =
        |value: &Option<lapin::types::ShortString>| value.as_ref().map(|v| v.as_str().to_owned());
    assert_eq!(same(again.message_id()).as_deref(), Some("m-1"));
    assert_eq!(same(again.correlation_id()).as_deref(), Some("c-1"));
    assert_eq!(same(again.reply_to()).as_deref(), Some("erp.replies"));
    let carried = again.headers().as_ref().unwrap();
    let names: Vec<_> = carried.inner().keys().map(|name| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "erp-own",
            header::ATTEMPT,
            header::BATCH_ID,
            header::ERROR,
            header::FIRST_SEEN,
            header::OUTCOME
        ]
    );
    assert_eq!(header_text(Some(carried), header::OUTCOME), Some("unknown"));
    let read_back = job(again);
    assert_eq!(
        (read_back.attempt, read_back.outcome),
        (3, PriorOutcome::Unknown)
    );
    assert_eq!(read_back.last_error.as_deref(), Some("504"));
}

#[test]
fn a_dead_letter_says_whose_it_is_and_why() {
    let seller: Gstin = "29AAGCE4783K1Z1".parse().unwrap();
    let obituary = Obituary {
        reason: "RETRIES_EXHAUSTED",
        gstin: Some(&seller),
        document: Some("INV SI/1 05/09/2025"),
        dead_at: Timestamp::UNIX_EPOCH,
        replica: "here-1",
    };
    let dead = job(Properties::default()).dead(&AGAIN, &obituary);
    let text = |name| {
        header_text(dead.headers().as_ref(), name)
            .unwrap()
            .to_owned()
    };
    assert_eq!(text(header::REASON), "RETRIES_EXHAUSTED");
    assert_eq!(text(header::GSTIN), "29AAGCE4783K1Z1");
    assert_eq!(text(header::DOCUMENT), "INV SI/1 05/09/2025");
    assert_eq!(text(header::DEAD_AT), "1970-01-01T00:00:00Z");
    assert_eq!(text(header::OUTCOME), "unknown");
    assert_eq!(text(header::REPLICA), "here-1");
}

#[test]
fn a_job_that_came_by_another_way_returns_to_its_operations_lane() {
    let moved = |key| {
        decode(
            Properties::default().with_type(short("irn.generate.v1")),
            key,
            false,
            Vec::new(),
        )
    };
    assert_eq!(moved("irn.jobs").unwrap().routing_key, "generate");
    assert_eq!(
        moved("urgent.generate").unwrap().routing_key,
        "urgent.generate"
    );
}

#[test]
fn further_routing_keys_of_the_publisher_are_not_carried_on() {
    let keys = AMQPValue::FieldArray(vec![AMQPValue::LongString("urgent.generate".into())].into());
    let job =
        job(Properties::default().with_headers(headers(&[("CC", keys.clone()), ("BCC", keys)])));
    let again = job.again(&AGAIN);
    let names: Vec<_> = again
        .headers()
        .as_ref()
        .unwrap()
        .inner()
        .keys()
        .map(|name| name.to_string())
        .collect();
    assert!(
        !names.iter().any(|name| name == "CC" || name == "BCC"),
        "{names:?}"
    );
}

#[test]
fn headers_that_leave_no_room_in_a_frame_are_poison_and_are_left_out_of_it() {
    let long = AMQPValue::LongString("x".repeat(17 * 1024).into());
    let nested = AMQPValue::FieldTable(headers(&[("inner", long)]));
    let properties = Properties::default().with_headers(headers(&[("erp-own", nested)]));
    let unreadable = decode(properties, "generate", false, b"{}".to_vec()).unwrap_err();
    assert!(unreadable.problem.contains("16 KiB"));
    let obituary = Obituary {
        reason: "UNREADABLE",
        gstin: None,
        document: None,
        dead_at: Timestamp::UNIX_EPOCH,
        replica: "here-1",
    };
    let kept = unreadable.poison(&obituary, None);
    assert!(!kept.headers().as_ref().unwrap().contains_key("erp-own"));
    assert!(
        kept.headers()
            .as_ref()
            .unwrap()
            .contains_key(header::REASON)
    );
}

#[test]
fn a_job_that_fits_still_fits_when_it_comes_back() {
    let full = AMQPValue::LongString("x".repeat(16 * 1024 - 64).into());
    let first = job(Properties::default().with_headers(headers(&[("erp-own", full)])));
    let obituary = Obituary {
        reason: "RETRIES_EXHAUSTED",
        gstin: None,
        document: Some(&"d".repeat(60)),
        dead_at: Timestamp::UNIX_EPOCH,
        replica: "here-1",
    };
    let second = job(first.dead(&AGAIN, &obituary));
    assert_eq!(second.attempt, AGAIN.attempt);
    let forged = AMQPValue::LongString("x".repeat(17 * 1024).into());
    let properties = Properties::default().with_headers(headers(&[(header::BATCH_ID, forged)]));
    assert!(problem(properties, "generate").contains("16 KiB"));
}

#[test]
fn ids_of_a_batchs_members_stay_readable_and_apart() {
    for id in ["b".repeat(128), "ü".repeat(127)] {
        let batch = job(Properties::default().with_message_id(short(&id)));
        let member = |sequence| {
            let properties = batch.batch_member("b-1", sequence, 2, &AGAIN);
            job(properties).message_id.unwrap()
        };
        assert_ne!(member(1), member(2));
        assert!(member(1).chars().count() <= 128);
    }
    let batch = job(Properties::default().with_message_id(short("m-1")));
    let member = job(batch.batch_member("b-1", 7, 9, &AGAIN));
    assert_eq!(member.message_id.as_deref(), Some("m-1/7"));
}

#[test]
fn documents_of_a_part_are_those_of_the_batch_that_it_was_cut_from() {
    let batch = job(Properties::default().with_message_id(short("m-1")));
    assert_eq!(batch.part_of_batch(), None);
    let place = BatchPart {
        first: 101,
        of: 250,
    };
    let part = job(batch.batch_part("m-1", place, &AGAIN));
    assert_eq!(part.part_of_batch(), Some(place));
    assert_eq!(
        (part.id(None).as_str(), part.batch_id()),
        ("m-1", Some("m-1"))
    );
    assert!(place.has_room_for(150) && !place.has_room_for(151));
    // Put back, it is the same part.
    let part = job(part.again(&AGAIN));
    assert_eq!(part.part_of_batch(), Some(place));
    let member = job(part.batch_member("m-1", 107, 250, &AGAIN));
    assert_eq!(member.part_of_batch(), None);
    assert_eq!(member.message_id.as_deref(), Some("m-1/107"));
}

#[test]
fn a_body_and_a_job_print_nothing_of_the_document() {
    let job = decode(Properties::default(), "generate", false, b"CANARY".to_vec()).unwrap();
    assert!(!format!("{job:?} {:?}", job.body).contains("CANARY"));
}

proptest! {
    #[test]
    fn any_short_text_is_cut_to_what_a_short_string_holds(text in ".{0,300}") {
        prop_assert!(short(&text).as_str().len() <= 255);
        prop_assert!(text.starts_with(short(&text).as_str()));
    }
}

#[test]
fn letter_died_of_what_the_broker_moved_it_for_last() {
    let death = |reason: &str| {
        let mut death = FieldTable::default();
        set(&mut death, "reason", long(reason));
        set(&mut death, "time", AMQPValue::Timestamp(1_700_000_000));
        AMQPValue::FieldTable(death)
    };
    let letter = |deaths: &[&str]| {
        let mut headers = FieldTable::default();
        // Of the first time on the ladder; it stays so.
        set(&mut headers, "x-first-death-reason", long("expired"));
        if !deaths.is_empty() {
            let deaths: Vec<_> = deaths.iter().map(|reason| death(reason)).collect();
            set(
                &mut headers,
                "x-death",
                AMQPValue::FieldArray(deaths.into()),
            );
        }
        Properties::default().with_headers(headers)
    };
    for (deaths, cause) in [
        (&["delivery_limit", "expired"][..], "DELIVERY_LIMIT"),
        (&["rejected", "expired"], "REJECTED"),
        (&["expired"], "EXPIRED"),
        (&[], "EXPIRED"),
    ] {
        assert_eq!(
            DeadLetter::new(&letter(deaths)).cause(),
            cause,
            "{deaths:?}"
        );
        let dead_at = (!deaths.is_empty()).then(|| Timestamp::from_second(1_700_000_000).unwrap());
        assert_eq!(DeadLetter::new(&letter(deaths)).dead_at(), dead_at);
    }
}

#[test]
fn byte_order_mark_is_none_of_the_document_and_travels_on() {
    for (came, document) in [
        (&b"\xef\xbb\xbf{}"[..], &b"{}"[..]),
        (b"{}", b"{}"),
        (b"\xef\xbb\xbf", b""),
        (b"\xef\xbb{}", b"\xef\xbb{}"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", b"\xef\xbb\xbf{}"),
    ] {
        let body = Body::copy_of(came);
        assert_eq!((body.as_bytes(), body.as_it_came()), (document, came));
    }
}
