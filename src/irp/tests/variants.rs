//! Answers that are not quite as documented, and what each is worth.

use super::*;
use crate::outcome::PortalSign;

/// A portal that says this of its status, and its data sealed.
fn telling(plain: &str) -> Portal {
    let body = success(plain);
    Portal::start(move |_| http("200 OK", "", &body))
}

async fn looked_up(plain: &str) -> Result<Registration, IrpError> {
    let (portal, taxpayer) = (telling(plain), Taxpayer::new());
    let gstin = taxpayer.account.gstin;
    let irn = IRN.parse().unwrap();
    portal.irp().by_irn(&taxpayer.access(), &gstin, &irn).await
}

async fn standing(plain: &str) -> Result<Registration, IrpError> {
    let (portal, taxpayer) = (telling(plain), Taxpayer::new());
    let gstin = taxpayer.account.gstin;
    let irn = IRN.parse().unwrap();
    let irp = portal.irp();
    irp.standing_by_irn(&taxpayer.access(), &gstin, &irn).await
}

async fn generated(plain: &str) -> Result<Registration, IrpError> {
    let (portal, taxpayer) = (telling(plain), Taxpayer::new());
    portal.irp().generate(&taxpayer.access(), b"{}").await
}

#[tokio::test]
async fn refusal_without_a_reason_is_an_answer_that_costs_and_no_silence() {
    let retry = Disposition::Retry { not_before: None };
    for body in [
        r#"{"Status":0,"Data":null,"ErrorDetails":null,"InfoDtls":null}"#,
        r#"{"Status":"0"}"#,
        r#"{"status_cd":"0","error":{}}"#,
    ] {
        let portal = Portal::start(move |_| http("200 OK", "", body));
        let (irp, taxpayer) = (portal.irp(), Taxpayer::new());
        let (access, gstin) = (taxpayer.access(), taxpayer.account.gstin);
        let irn = IRN.parse().unwrap();
        let errors = [
            (
                irp.generate(&access, b"{}").await.unwrap_err(),
                Disposition::Resolve,
                "unexplained",
            ),
            (
                irp.cancel(&access, &irn, "1", "x").await.unwrap_err(),
                Disposition::Resolve,
                "unexplained",
            ),
            (
                irp.by_irn(&access, &gstin, &irn).await.unwrap_err(),
                retry,
                "unanswered",
            ),
            (
                irp.login(&taxpayer.account, false).await.unwrap_err(),
                retry,
                "unanswered",
            ),
        ];
        for (error, disposition, label) in errors {
            assert_eq!(error.disposition(), disposition, "{body} {label}");
            assert_eq!(error.call_result_label(), label, "{body}");
            assert_eq!(error.sign(), Some(PortalSign::Answered), "{body} {label}");
            assert!(error.is_counted(), "{body} {label}");
        }
    }
}

#[test]
fn status_is_read_in_any_case_and_by_the_first_letters_of_its_word() {
    for (words, expected) in [
        (
            &["ACT", "act", "Active", "A", " act "][..],
            Validity::Active,
        ),
        (
            &["CNL", "cnl", "Cancelled", "CANCELED", "c"],
            Validity::Cancelled,
        ),
        (&["REJ", "rej", "Rejected", "R"], Validity::Lost),
    ] {
        for word in words {
            assert_eq!(Validity::of(word), expected, "{word}");
        }
    }
    for word in [
        "INA",
        "ACTIVATION PENDING",
        "Inactive",
        "D",
        "0",
        "not active",
    ] {
        assert_eq!(Validity::of(word), Validity::Other(word.to_owned()));
        assert_eq!(Validity::of(word).as_str(), word);
    }
}

#[tokio::test]
async fn status_goes_on_in_the_portals_own_word_whoever_handed_it_on() {
    for (word, expected) in [("Active", "ACT"), ("cancelled", "CNL"), ("rej", "REJ")] {
        let told = registration().replace("\"ACT\"", &format!("\"{word}\""));
        assert_eq!(looked_up(&told).await.unwrap().status.as_str(), expected);
    }
    let untold = registration().replace("\"Status\":\"ACT\"", "\"Status\":null");
    assert_eq!(looked_up(&untold).await.unwrap().status, Validity::Active);
}

#[tokio::test]
async fn signed_data_is_wanted_only_of_what_is_valid_and_only_where_it_is_delivered() {
    let bare = format!(r#"{{"Irn":"{IRN}","AckDt":"2025-09-05 12:30:00","Status":"ACT"}}"#);
    assert_eq!(
        looked_up(&bare).await.unwrap_err().call_result_label(),
        "unintelligible"
    );
    assert_eq!(standing(&bare).await.unwrap().irn.as_str(), IRN);
    for word in ["CNL", "REJ", "XYZ"] {
        let told = bare.replace("ACT", word);
        let found = looked_up(&told).await.unwrap();
        assert_eq!((found.status.as_str(), found.ack_no), (word, None));
    }
    // A registration's own answer has to bring it, unless it is void from the start.
    for (word, is_whole) in [("ACT", false), ("XYZ", false), ("CNL", true)] {
        let told = bare.replace("ACT", word);
        assert_eq!(generated(&told).await.is_ok(), is_whole, "{word}");
    }
    let without_number = registration().replace("112510000000001", "null");
    for answer in [
        looked_up(&without_number).await,
        generated(&without_number).await,
    ] {
        assert_eq!(answer.unwrap_err().call_result_label(), "unintelligible");
    }
}

#[tokio::test]
async fn eway_bill_without_a_number_is_none_to_one_who_looks_and_no_answer_to_one_who_asked_for_it()
{
    for plain in [
        r#"{"EwbNo":null,"EwbDt":null,"EwbValidTill":null}"#,
        r#"{"EwbNo":0,"Status":"ACT"}"#,
        r#"{"EwbNo":"","EwbDt":""}"#,
        "{}",
        "[{}]",
    ] {
        let (portal, taxpayer) = (telling(plain), Taxpayer::new());
        let (irp, access) = (portal.irp(), taxpayer.access());
        let irn = IRN.parse().unwrap();
        let error = irp.eway_bill_by_irn(&access, &irn).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::NotRegistered, "{plain}");
        let error = irp.eway_bill(&access, b"{}").await.unwrap_err();
        assert_eq!(error.call_result_label(), "unintelligible", "{plain}");
    }
}

#[tokio::test]
async fn eway_bill_is_there_unless_it_says_that_it_is_cancelled() {
    for (word, is_cancelled) in [
        ("ACT", false),
        ("act", false),
        ("Active", false),
        ("DIS", false),
        ("CNL", true),
        ("Cancelled", true),
    ] {
        let plain = format!(r#"{{"EwbNo":110000000001,"Status":"{word}"}}"#);
        let (portal, taxpayer) = (telling(&plain), Taxpayer::new());
        let irn = IRN.parse().unwrap();
        let bill = portal
            .irp()
            .eway_bill_by_irn(&taxpayer.access(), &irn)
            .await;
        assert_eq!(bill.unwrap().is_cancelled(), is_cancelled, "{word}");
    }
}

#[tokio::test]
async fn what_is_said_beside_a_cancellation_is_kept() {
    let body = success(&format!(
        r#"{{"Irn":"{IRN}","CancelDate":"2025-09-05 18:09:00","InfoDtls":[{{"InfCd":"ADDNLNFO","Desc":"x"}}]}}"#
    ));
    let body = body.replace(
        "\"InfoDtls\":null",
        r#""InfoDtls":[{"InfCd":"EWBALERT","Desc":"y"}],"Alert":"maintenance""#,
    );
    let portal = Portal::start(move |_| http("200 OK", "", &body));
    let taxpayer = Taxpayer::new();
    let irn = IRN.parse().unwrap();
    let irp = portal.irp();
    let done = irp.cancel(&taxpayer.access(), &irn, "1", "x").await;
    let info = done.unwrap().info;
    let codes: Vec<&str> = info.iter().map(|info| info.code.as_str()).collect();
    assert_eq!(codes, ["EWBALERT", "ALERT", "ADDNLNFO"]);
}

#[tokio::test]
async fn acknowledgement_in_a_form_that_may_be_read_two_ways_is_at_no_certain_time() {
    let found = looked_up(&registration()).await.unwrap();
    assert!(found.acknowledged_at().is_some());
    let told = registration().replace(
        "\"2025-09-05 12:30:00\",\"Irn",
        "\"09/05/2025 12:30:00\",\"Irn",
    );
    let found = looked_up(&told).await.unwrap();
    assert_eq!(found.acknowledged_at(), None);
    assert!(found.ack_date_rfc3339().is_some());
}

#[tokio::test]
async fn number_that_was_signed_takes_the_place_of_the_one_beside_it_if_it_is_one() {
    let mut found = looked_up(&registration()).await.unwrap();
    let beside = found.ack_no.clone();
    for nothing in [None, Some(""), Some("1.1251E+14"), Some("n/a")] {
        found.believe(nothing.map(str::to_owned));
        assert_eq!(found.ack_no, beside, "{nothing:?}");
    }
    found.believe(Some("112510000000077".to_owned()));
    assert_eq!(found.ack_no.as_deref(), Some("112510000000077"));
}

#[tokio::test]
async fn one_token_alone_is_told_from_both_and_dropped() {
    for member in ["a.b.c", "d.e.f"] {
        let told = registration().replace(member, "").replace("ACT", "CNL");
        let mut found = standing(&told).await.unwrap();
        assert!(!found.has_both_tokens());
        found.forget_tokens();
        assert!(found.signed_invoice.is_empty() && found.signed_qr_code.is_empty());
    }
    assert!(looked_up(&registration()).await.unwrap().has_both_tokens());
}
