use super::*;
use std::collections::HashSet;

const RETRY: Disposition = Disposition::Retry { not_before: None };

fn fault(code: &str, message: &str) -> Fault {
    Fault {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

fn disposition(call: Call, codes: &[(&str, &str)]) -> Disposition {
    let faults: Vec<Fault> = codes
        .iter()
        .map(|(code, message)| fault(code, message))
        .collect();
    decide(call, &faults, &[], None).unwrap().1
}

fn of_one(call: Call, code: &str) -> Disposition {
    disposition(call, &[(code, "")])
}

#[test]
fn every_code_stands_once_and_explains_itself() {
    let codes: HashSet<_> = all().iter().map(|row| row.code).collect();
    assert_eq!(codes.len(), all().len());
    assert!(all().len() > 200, "{}", all().len());
    for row in all() {
        for text in [row.meaning, row.remedy, row.fixed_by()] {
            assert!(
                text.len() > 10 && !text.ends_with('.'),
                "{}: {text}",
                row.code
            );
        }
        assert_eq!(explain(&row.code.to_lowercase()).unwrap().code, row.code);
    }
}

#[test]
fn every_class_has_its_word_and_a_code() {
    let words: HashSet<_> = Class::ALL.map(Class::as_str).into_iter().collect();
    assert_eq!(words.len(), Class::ALL.len());
    for class in Class::ALL {
        assert!(all().iter().any(|row| row.class == class), "{class:?}");
    }
}

/// The portal's lists, by what they oblige to; a code that falls out of the table is noticed here.
#[test]
fn codes_of_the_portals_lists_oblige_to_what_the_portal_says() {
    let lists: [(&str, Call, Disposition); 18] = [
        (
            "1005 1015 1020 238 106 401",
            Call::Generate,
            Disposition::Reauth,
        ),
        (
            "1015 1005 1020 401",
            Call::Login,
            Disposition::RefuseAccount,
        ),
        (
            "1002 1004 1006 1007 1008 1010 1011 1012 1013 1014 1016 1017 1018 1019 5003 3000 3002 3014 3013 3015 3016 3017 \
             3025 3026 3031 3033 3034 3035 3036 3032 3037 3045 3046 3069 3070 3072 3080 3053 3065 3059 3064 3068 111 110",
            Call::Login,
            Disposition::RefuseAccount,
        ),
        ("1010 3033 3026", Call::Generate, Disposition::RefuseAccount),
        ("2150", Call::Generate, Disposition::Adopt),
        ("2278 2295", Call::Generate, Disposition::Conflict),
        ("3028 3029", Call::Generate, Disposition::SyncGstin),
        (
            "2148 2154 3001 3005 3011",
            Call::LookUp,
            Disposition::NotRegistered,
        ),
        ("2283", Call::LookUp, Disposition::TooOld),
        ("2146 2140 3019 3021 3058", Call::Generate, RETRY),
        (
            "2139 2147 3020 3043 5001 SYS_5001 GSPGSTDOWN GSPERR300 GEN5008 301 302",
            Call::Generate,
            Disposition::Resolve,
        ),
        ("9999", Call::Cancel, Disposition::Adopt),
        ("2148", Call::Cancel, Disposition::NotRegistered),
        (
            "2141 3020 5001 GSPGSTDOWN",
            Call::Cancel,
            Disposition::Resolve,
        ),
        ("4002 4026", Call::EwayBill, Disposition::Adopt),
        ("4003 4005 4007", Call::EwayBill, Disposition::NotRegistered),
        ("3020 5001", Call::EwayBill, Disposition::Resolve),
        (
            "2139 2147 3020 3043 5001 SYS_5001 GSPGSTDOWN",
            Call::Login,
            RETRY,
        ),
    ];
    for (codes, call, expected) in lists {
        for code in codes.split_whitespace() {
            assert_eq!(of_one(call, code), expected, "{code} on {}", call.as_str());
        }
    }
    let refusing = "2142 2143 2144 2145 2155 2156 2157 2159 2161 2162 2163 2169 2171 2172 2173 2174 2230 2231 2233 2249 2270 \
        2294 2300 2305 2323 2324 2325 3030 3039 3042 3052 3066 3092 3093 4000 4006 4008 4074 5002";
    let ranges = (2176..=2220)
        .chain(2222..=2248)
        .chain(2251..=2267)
        .chain(3074..=3079)
        .chain(4009..=4025)
        .chain(4027..=4040);
    for code in refusing
        .split_whitespace()
        .map(str::to_owned)
        .chain(ranges.map(|code| code.to_string()))
    {
        if code != "2221" && code != "2250" {
            assert_eq!(of_one(Call::Generate, &code), Disposition::Reject, "{code}");
        }
    }
}

#[test]
fn most_severe_code_decides_whatever_the_order() {
    let ladder = [
        "1005", "1010", "2295", "2150", "2182", "4711", "3029", "5001", "2146",
    ];
    for (position, worse) in ladder.iter().enumerate() {
        for milder in &ladder[position + 1..] {
            let expected = of_one(Call::Generate, worse);
            assert_eq!(
                disposition(Call::Generate, &[(milder, ""), (worse, "")]),
                expected,
                "{milder} {worse}"
            );
            assert_eq!(
                disposition(Call::Generate, &[(worse, ""), (milder, "")]),
                expected,
                "{worse} {milder}"
            );
        }
    }
    let faults = [fault("5002", "field"), fault("2150", ""), fault("2278", "")];
    assert_eq!(
        decide(Call::Generate, &faults, &[], None),
        Some((2, Disposition::Conflict))
    );
    assert_eq!(decide(Call::Generate, &[], &[], None), None);
}

#[test]
fn absence_is_read_among_other_entries_of_a_look_up() {
    for other in ["3019", "5001", "", "4711", "2142"] {
        assert_eq!(
            disposition(Call::LookUp, &[(other, ""), ("2154", "")]),
            Disposition::NotRegistered,
            "{other}"
        );
    }
    assert_eq!(
        disposition(Call::LookUp, &[("2154", ""), ("2283", "")]),
        Disposition::TooOld
    );
}

#[test]
fn code_5002_is_split_by_its_text() {
    let failed = (
        "5002",
        "Application error, issue with application while processing the request",
    );
    let refused = (
        "5002",
        "The field Address 1 must be a string with a minimum length of 1",
    );
    assert_eq!(disposition(Call::Generate, &[failed]), Disposition::Resolve);
    assert_eq!(disposition(Call::LookUp, &[failed]), RETRY);
    assert_eq!(disposition(Call::Generate, &[refused]), Disposition::Reject);
    assert_eq!(
        disposition(Call::Generate, &[failed, refused]),
        Disposition::Reject
    );
    assert_eq!(
        disposition(Call::Generate, &[("5002", "é")]),
        Disposition::Reject
    );
}

#[test]
fn outage_between_a_gateway_and_the_portal_leaves_the_outcome_open() {
    for message in [
        "GSPGSTDOWN: down",
        "upstream: Connection reset by peer",
        "No route to host",
    ] {
        assert_eq!(
            disposition(Call::Generate, &[("GW-1", message)]),
            Disposition::Resolve,
            "{message}"
        );
        assert_eq!(
            disposition(Call::LookUp, &[("", message)]),
            RETRY,
            "{message}"
        );
    }
}

#[test]
fn unknown_code_is_kept_for_a_person_unless_the_operator_decided() {
    let operator = [
        ("4711".to_owned(), UnknownCode::Retry),
        ("4712".to_owned(), UnknownCode::Reject),
        ("4713".to_owned(), UnknownCode::DeadLetter),
        ("2150".to_owned(), UnknownCode::Reject),
        ("1005".to_owned(), UnknownCode::Reject),
    ];
    let rows = [
        ("4711", RETRY),
        ("4712", Disposition::Reject),
        ("4713", Disposition::Park),
        ("4714", Disposition::Park),
        ("", Disposition::Park),
        ("2150", Disposition::Adopt),
        ("1005", Disposition::Reauth),
    ];
    for (code, expected) in rows {
        let (_, disposition) = decide(Call::Generate, &[fault(code, "")], &operator, None).unwrap();
        assert_eq!(disposition, expected, "{code}");
    }
}

#[test]
fn unknown_code_of_the_accounts_range_stops_a_login_and_nothing_else() {
    for code in ["1099", "1234", "3099"] {
        assert_eq!(
            of_one(Call::Login, code),
            Disposition::RefuseAccount,
            "{code}"
        );
        assert_eq!(of_one(Call::Generate, code), Disposition::Park, "{code}");
    }
    for code in ["3199", "10999", "109", "1O99"] {
        assert_eq!(of_one(Call::Login, code), Disposition::Park, "{code}");
    }
}

#[test]
fn wait_that_the_portal_asks_for_is_kept_where_something_is_to_be_tried_again() {
    let wait = Some(Duration::from_secs(7));
    let (_, retry) = decide(Call::LookUp, &[fault("5001", "")], &[], wait).unwrap();
    assert_eq!(retry, Disposition::Retry { not_before: wait });
    let (_, reject) = decide(Call::Generate, &[fault("2182", "")], &[], wait).unwrap();
    assert_eq!(reject, Disposition::Reject);
}
