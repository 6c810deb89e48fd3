use super::*;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;

fn envelope(body: &str) -> Envelope<'_> {
    Envelope::parse(body.as_bytes()).unwrap()
}

fn faults(body: &str) -> Vec<(String, String)> {
    envelope(body)
        .faults
        .into_iter()
        .map(|fault| (fault.code, fault.message))
        .collect()
}

/// One answer of a refusal, however the portal or a gateway wraps it.
#[test]
fn refusal_is_read_from_every_shape() {
    let base64 = BASE64_STANDARD.encode(r#"[{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}]"#);
    let base64_object =
        BASE64_STANDARD.encode(r#"{"errorCodes":"2150,","message":"Duplicate IRN"}"#);
    let broken_into_lines = base64.replace('S', "S\\r\\n");
    let shapes = [
        ("base64 in lines", format!(r#"{{"Status":0,"ErrorDetails":"{broken_into_lines}"}}"#)),
        ("base64 unpadded", format!(r#"{{"Status":0,"ErrorDetails":"{}"}}"#, base64.trim_end_matches('='))),
        ("spaced text", r#"{"Status":0,"ErrorDetails":"2150 Duplicate IRN"}"#.to_owned()),
        ("array", r#"{"Status":0,"Data":null,"ErrorDetails":[{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}],"InfoDtls":null}"#.to_owned()),
        ("status as text", r#"{"Status":"0","ErrorDetails":[{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}]}"#.to_owned()),
        ("status as bool", r#"{"Status":false,"ErrorDetails":[{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}]}"#.to_owned()),
        ("no status", r#"{"ErrorDetails":[{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}]}"#.to_owned()),
        ("numeric code", r#"{"Status":0,"ErrorDetails":[{"ErrorCode":2150,"ErrorMessage":"Duplicate IRN"}]}"#.to_owned()),
        ("object", r#"{"Status":0,"ErrorDetails":{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}}"#.to_owned()),
        ("lower camel", r#"{"Status":0,"ErrorDetails":[{"errorCode":"2150","errorMessage":"Duplicate IRN"}]}"#.to_owned()),
        ("snake", r#"{"Status":0,"ErrorDetails":[{"error_code":"2150","error_message":"Duplicate IRN","error_source":"IRP"}]}"#.to_owned()),
        ("gateway's names", r#"{"Status":0,"ErrorDetails":[{"error_cd":"2150","message":"Duplicate IRN"}]}"#.to_owned()),
        ("text of JSON", r#"{"Status":0,"ErrorDetails":"[{\"ErrorCode\":\"2150\",\"ErrorMessage\":\"Duplicate IRN\"}]"}"#.to_owned()),
        ("text of JSON object", r#"{"Status":0,"ErrorDetails":"{\"ErrorCode\":\"2150\",\"ErrorMessage\":\"Duplicate IRN\"}"}"#.to_owned()),
        ("base64 of JSON", format!(r#"{{"Status":0,"ErrorDetails":"{base64}"}}"#)),
        ("base64 of an object", format!(r#"{{"Status":0,"error":"{base64_object}"}}"#)),
        ("array of texts of JSON", r#"{"Status":0,"ErrorDetails":["{\"ErrorCode\":\"2150\",\"ErrorMessage\":\"Duplicate IRN\"}"]}"#.to_owned()),
        ("plain text with code", r#"{"Status":0,"ErrorDetails":"2150 : Duplicate IRN"}"#.to_owned()),
        ("code within a message", r#"{"Status":0,"ErrorDetails":[{"ErrorMessage":"2150: Duplicate IRN"}]}"#.to_owned()),
        ("gateway's envelope", r#"{"status_cd":"0","errorCode":"2150","errorDesc":"Duplicate IRN"}"#.to_owned()),
        ("gateway's text", r#"{"status_cd":"0","status_desc":"[{\"ErrorCode\":\"2150\",\"ErrorMessage\":\"Duplicate IRN\"}]","irp":"NIC"}"#.to_owned()),
        ("gateway's error object", r#"{"status_cd":"0","error":{"error_cd":"2150","message":"Duplicate IRN"}}"#.to_owned()),
        ("capital wrapper", r#"{"Status":0,"Error":[{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}]}"#.to_owned()),
        ("wrapper in the plural", r#"{"status_cd":"0","Errors":[{"error_cd":"2150","message":"Duplicate IRN"}]}"#.to_owned()),
        ("errors where the data would be", r#"{"status_cd":"0","data":[{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}]}"#.to_owned()),
        ("the same in a text", r#"{"status_cd":"0","data":"[{\"ErrorCode\":\"2150\",\"ErrorMessage\":\"Duplicate IRN\"}]"}"#.to_owned()),
        ("code behind a bare text", r#"{"status_cd":"0","status_desc":"GSTR request fails","data":{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}}"#.to_owned()),
        ("other case", r#"{"status":0,"DATA":null,"errorDetails":[{"ERRORCODE":"2150","errormessage":"Duplicate IRN"}]}"#.to_owned()),
        ("unknown members", r#"{"Rek":"x","Status":0,"n":{"a":[1,{}]},"ErrorDetails":[{"x":1,"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}]}"#.to_owned()),
        ("byte order mark", "\u{feff}{\"Status\":0,\"ErrorDetails\":[{\"ErrorCode\":\"2150\",\"ErrorMessage\":\"Duplicate IRN\"}]}".to_owned()),
    ];
    for (name, body) in shapes {
        assert_eq!(
            faults(&body),
            [("2150".to_owned(), "Duplicate IRN".to_owned())],
            "{name}"
        );
        assert_eq!(
            envelope(&body).verdict(200, &[]),
            Verdict::Refusal,
            "{name}"
        );
        assert_eq!(
            envelope(&body).verdict(400, &[]),
            Verdict::Refusal,
            "{name}"
        );
    }
}

#[test]
fn several_errors_keep_the_order_of_the_portal() {
    let body = r#"{"Status":0,"ErrorDetails":[{"ErrorCode":"5002","ErrorMessage":"a"},{"ErrorCode":2182},{"ErrorMessage":"bare"},null,7]}"#;
    let codes: Vec<_> = faults(body).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["5002", "2182", "", "7"]);
}

#[test]
fn bare_text_is_an_error_without_a_code() {
    for text in ["Invalid Token", "21 invoices failed", "2150Duplicate"] {
        let body = format!(r#"{{"Status":0,"ErrorDetails":"{text}"}}"#);
        assert_eq!(faults(&body), [(String::new(), text.to_owned())]);
        assert_eq!(
            envelope(&body).verdict(200, &[]),
            Verdict::Refusal,
            "{text}"
        );
        assert_eq!(
            envelope(&body).verdict(400, &[]),
            Verdict::Neither,
            "{text}"
        );
    }
}

#[test]
fn texts_that_were_joined_into_one_are_told_apart() {
    let codes_and_texts =
        |text: &str| faults(&format!(r#"{{"Status":0,"ErrorDetails":"{text}"}}"#));
    let fault = |code: &str, text: &str| (code.to_owned(), text.to_owned());
    assert_eq!(
        codes_and_texts("5002 : a field; 2150 : Duplicate IRN; 2182-x;"),
        [
            fault("5002", "a field"),
            fault("2150", "Duplicate IRN"),
            fault("2182", "x")
        ]
    );
    assert_eq!(
        codes_and_texts("2150 : Duplicate IRN; ask again; later"),
        [fault("2150", "Duplicate IRN; ask again; later")]
    );
    for one in [
        "no code; none",
        "3000 ms exceeded",
        "2 of 3 failed; 2150 : Duplicate IRN",
    ] {
        assert_eq!(codes_and_texts(one), [fault("", one)]);
    }
    assert_eq!(
        codes_and_texts("2176 : Invalid HSN code(s) - 1001; 1006"),
        [fault("2176", "Invalid HSN code(s) - 1001; 1006")]
    );
    assert_eq!(
        codes_and_texts("1005;2182"),
        [fault("1005", ""), fault("2182", "")]
    );
    assert_eq!(
        codes_and_texts("5002 : a; 2150"),
        [fault("5002", "a"), fault("2150", "")]
    );
}

#[test]
fn code_that_nobody_knows_is_the_portals_word_unless_the_status_says_that_somebody_failed() {
    let body =
        r#"{"Status":0,"ErrorDetails":[{"ErrorCode":"9001","ErrorMessage":"gateway timeout"}]}"#;
    let operator = [("9001".to_owned(), UnknownCode::Reject)];
    for (status, alone) in [
        (200, Verdict::Refusal),
        (400, Verdict::Refusal),
        (408, Verdict::Neither),
        (500, Verdict::Neither),
        (504, Verdict::Neither),
    ] {
        assert_eq!(envelope(body).verdict(status, &[]), alone, "{status}");
        assert_eq!(
            envelope(body).verdict(status, &operator),
            Verdict::Refusal,
            "{status}"
        );
        let known = body.replace("9001", "2150");
        assert_eq!(
            envelope(&known).verdict(status, &[]),
            Verdict::Refusal,
            "{status}"
        );
    }
}

#[test]
fn what_says_nothing_is_neither_success_nor_refusal() {
    for body in [
        "{}",
        r#"{"status":"failed","error":"upstream timeout"}"#,
        r#"{"status":"failure","message":"upstream timeout"}"#,
        r#"{"Status":2,"Data":"x","ErrorDetails":null,"error":"x"}"#,
        r#"{"timestamp":"2025-09-05","status":500,"error":"Internal Server Error","message":"oops","path":"/eicore"}"#,
        r#"{"fault":{"faultstring":"x"}}"#,
        r#"{"message":"no Route matched"}"#,
    ] {
        assert_eq!(envelope(body).verdict(200, &[]), Verdict::Neither, "{body}");
        assert_eq!(envelope(body).verdict(400, &[]), Verdict::Neither, "{body}");
    }
}

#[test]
fn refusal_in_so_many_words_and_no_more_is_one_where_the_status_bears_it_out() {
    for body in [
        r#"{"Status":0,"Data":null,"ErrorDetails":null,"InfoDtls":null}"#,
        r#"{"Status":"0"}"#,
        r#"{"Status":false,"ErrorDetails":""}"#,
        r#"{"Status":0,"ErrorDetails":[]}"#,
        r#"{"Status":0,"ErrorDetails":[{}]}"#,
        r#"{"status_cd":"0","data":"GIhOG99b+MPee6D5cDrWdg=="}"#,
    ] {
        assert_eq!(
            envelope(body).verdict(200, &[]),
            Verdict::Unexplained,
            "{body}"
        );
        assert_eq!(envelope(body).verdict(400, &[]), Verdict::Neither, "{body}");
    }
}

#[test]
fn success_is_read_from_each_shape_and_only_with_a_2xx_status() {
    for body in [
        r#"{"Status":1,"Data":"eA==","ErrorDetails":null,"InfoDtls":null}"#,
        r#"{"Status":"1","Data":"eA==","InfoDtls":""}"#,
        r#"{"status_cd":"1","data":"eA=="}"#,
        r#"{"Data":"eA=="}"#,
        r#"{"Status":1,"Data":"eA==","ErrorDetails":[]}"#,
    ] {
        assert_eq!(envelope(body).verdict(200, &[]), Verdict::Success, "{body}");
        assert_eq!(envelope(body).verdict(400, &[]), Verdict::Neither, "{body}");
        assert_eq!(envelope(body).data.unwrap().get(), r#""eA==""#);
    }
}

#[test]
fn bodies_that_are_no_object_are_unreadable() {
    for (body, empty) in [
        ("", true),
        (" \r\n", true),
        (
            "<html><body>The requested URL was rejected</body></html>",
            false,
        ),
        ("OK", false),
        ("[]", false),
        ("null", false),
        (r#"{"Status":1,"Data":"eA"#, false),
        (r#"{"Status":1} trailing"#, false),
        ("\u{feff}", true),
    ] {
        let problem = Envelope::parse(body.as_bytes()).unwrap_err();
        assert_eq!(matches!(problem, Unreadable::Empty), empty, "{body}");
        assert_eq!(matches!(problem, Unreadable::NotJson), !empty, "{body}");
    }
    assert!(matches!(
        Envelope::parse(b"{\"Status\":\"\xff\"}"),
        Err(Unreadable::NotJson)
    ));
}

const IRN: &str = "fae5ffe886954f6ac49fc7984f5524d7dda619175aa78bf6481966fe65d48908";

#[test]
fn duplicate_is_found_by_its_code_in_every_shape() {
    let desc =
        format!(r#"{{"AckNo":112110056789012,"AckDt":"2025-07-14 12:44:00","Irn":"{IRN}"}}"#);
    let quoted = serde_json::Value::from(desc.as_str()).to_string();
    let list = format!(r#"[{{"InfCd":"DUPIRN","Desc":{desc}}}]"#);
    let quoted_list = serde_json::Value::from(list.as_str()).to_string();
    let shapes = [
        list.clone(),
        format!(r#"[{{"InfCd":"ADDNLNFO","Desc":"x"}},null,{{"Desc":{desc},"InfCd":"DUPIRN"}}]"#),
        format!(r#"{{"InfCd":"DUPIRN","Desc":{desc}}}"#),
        format!(r#"{{"InfoCode":"DUPIRN","desc":{desc}}}"#),
        format!(r#"[{{"InfCd":"DUPIRN","Desc":[{desc}]}}]"#),
        format!(r#"[{{"InfCd":"DUPIRN","Desc":{quoted}}}]"#),
        quoted_list,
        format!("\"{}\"", BASE64_STANDARD.encode(&list)),
        list.replace("112110056789012", "\"112110056789012\""),
    ];
    for info in shapes {
        let body =
            format!(r#"{{"Status":0,"ErrorDetails":[{{"ErrorCode":"2150"}}],"InfoDtls":{info}}}"#);
        let duplicate = envelope(&body).duplicate.expect(&info);
        assert_eq!(
            duplicate.irn.map(|irn| irn.to_string()).as_deref(),
            Some(IRN),
            "{info}"
        );
        assert_eq!(
            duplicate.ack_no.as_deref(),
            Some("112110056789012"),
            "{info}"
        );
        assert_eq!(
            duplicate.ack_date_rfc3339().as_deref(),
            Some("2025-07-14T12:44:00+05:30"),
            "{info}"
        );
        assert_eq!(duplicate.registered_at, None);
    }
}

#[test]
fn duplicate_at_another_portal_says_where_even_without_an_acknowledgement() {
    let body = format!(
        r#"{{"Status":0,"ErrorDetails":null,"InfoDtls":[{{"InfCd":"DUPIRNGLP","Desc":{{"AckNo":null,"Irn":"{IRN}","IrnDtl":{{"RegIrp":"NIC101"}}}}}}]}}"#
    );
    let envelope = envelope(&body);
    let duplicate = envelope.duplicate.as_ref().unwrap();
    assert_eq!(
        (
            duplicate.ack_no.as_ref(),
            duplicate.registered_at.as_deref()
        ),
        (None, Some("NIC101"))
    );
    assert_eq!(envelope.faults[0].code, "2295");
}

#[test]
fn duplicate_without_its_error_is_still_a_duplicate() {
    let body =
        format!(r#"{{"Status":0,"InfoDtls":{{"InfCd":"DUPIRN","Desc":{{"Irn":"{IRN}"}}}}}}"#);
    assert_eq!(envelope(&body).faults[0].code, "2150");
    assert_eq!(envelope(&body).verdict(200, &[]), Verdict::Refusal);
}

#[test]
fn duplicate_is_one_whatever_code_stands_beside_it() {
    for (code, expected) in [("DUP01", "2150"), ("2150", "2150"), ("2295", "2295")] {
        let body = format!(
            r#"{{"Status":0,"ErrorDetails":[{{"ErrorCode":"{code}"}}],"InfoDtls":[{{"InfCd":"DUPIRN","Desc":{{"Irn":"{IRN}"}}}}]}}"#
        );
        let last = faults(&body).pop().map(|(code, _)| code);
        assert_eq!(last.as_deref(), Some(expected), "{body}");
    }
}

#[test]
fn where_a_duplicate_is_registered_is_said_by_its_code_and_by_nothing_else() {
    for (code, details, expected) in [
        ("DUPIRNGLP", "", "2295"),
        ("dupirnglp", "", "2295"),
        ("DUPIRN", r#","IrnDtl":{"RegIrp":"NIC101"}"#, "2150"),
    ] {
        for said in ["null", r#""Duplicate IRN""#] {
            let body = format!(
                r#"{{"Status":0,"ErrorDetails":{said},"InfoDtls":[{{"InfCd":"{code}","Desc":{{"Irn":"{IRN}"{details}}}}}]}}"#
            );
            assert_eq!(faults(&body)[0].0, expected, "{body}");
        }
    }
}

#[test]
fn information_keeps_text_as_it_is_and_the_rest_as_json() {
    let body = r#"{"Status":1,"Data":"eA==","Alert":"maintenance tonight","InfoDtls":[
        {"InfCd":"EWBERR","Desc":[{"ErrorCode":"4019","ErrorMessage":"m"}]},
        {"InfCd":"EWBPPD","Desc":"Pin-Pin calc distance: 2467KM"},
        {"InfCd":"ADDNLNFO","Desc":"{\"a\":1}"},{"InfCd":"EWBVEH","Desc":null},"bare",""]}"#;
    let info: Vec<_> = envelope(body)
        .info
        .into_iter()
        .map(|info| (info.code, info.detail))
        .collect();
    let expected = [
        ("EWBERR", r#"[{"ErrorCode":"4019","ErrorMessage":"m"}]"#),
        ("EWBPPD", "Pin-Pin calc distance: 2467KM"),
        ("ADDNLNFO", r#"{"a":1}"#),
        ("EWBVEH", ""),
        ("", "bare"),
        ("ALERT", "maintenance tonight"),
    ];
    assert_eq!(
        info,
        expected.map(|(code, detail)| (code.to_owned(), detail.to_owned()))
    );
    for absent in ["null", "\"\"", "[]", "7"] {
        let body = format!(r#"{{"Status":1,"Data":"eA==","InfoDtls":{absent}}}"#);
        assert_eq!(envelope(&body).info, [], "{absent}");
    }
}

#[test]
fn texts_within_texts_are_followed_only_so_deep() {
    let mut body = r#"[{"ErrorCode":"2150"}]"#.to_owned();
    for _ in 0..40 {
        body = serde_json::Value::from(body).to_string();
        if body.len() > 1 << 20 {
            break;
        }
    }
    assert_eq!(
        faults(&format!(r#"{{"Status":0,"ErrorDetails":{body}}}"#)),
        []
    );
    let deep = format!(
        r#"{{"Status":0,"ErrorDetails":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(faults(&deep), []);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(Envelope::parse(&bytes));
    }

    #[test]
    fn any_values_in_the_known_members_are_read_without_panic(
        status in "[ -~]{0,12}", details in "[\\[\\]{}\":,a-zA-Z0-9=é ]{0,60}", info in "[\\[\\]{}\":,a-zA-Z0-9= ]{0,60}",
    ) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        for (details, info) in [(details.clone(), info.clone()), (quoted(&details), quoted(&info))] {
            let body = format!(r#"{{"Status":{},"ErrorDetails":{details},"InfoDtls":{info}}}"#, quoted(&status));
            if let Ok(envelope) = Envelope::parse(body.as_bytes()) {
                envelope.verdict(200, &[]);
            }
        }
    }
}
