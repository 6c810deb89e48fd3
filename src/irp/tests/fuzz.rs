//! Hostile answers of the portal never stop the worker: each is read as the answer to every call.

#[path = "../../../tests/fuzz/mutate.rs"]
mod mutate;

use super::*;
use crate::crypto::AppKey;
use mutate::{count, fuzz};
use serde_json::value::RawValue;

const CALLS: [Call; 6] = [
    Call::Login,
    Call::Generate,
    Call::LookUp,
    Call::Gstin,
    Call::Cancel,
    Call::EwayBill,
];

fn seeds() -> Vec<Vec<u8>> {
    let refusal = |details: &str, info: &str| {
        format!(r#"{{"Status":0,"Data":null,"ErrorDetails":{details},"InfoDtls":{info}}}"#)
    };
    let texts = [
        success("{}"),
        registration(),
        format!(r#"{{"Status":"1","Data":{},"ErrorDetails":null}}"#, registration()),
        refusal(r#"[{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}]"#,
            &format!(r#"[{{"InfCd":"DUPIRP","Desc":{{"AckNo":1,"AckDt":"2025-09-05 12:30:00","Irn":"{IRN}"}}}}]"#)),
        refusal(r#"[{"ErrorCode":3028,"ErrorMessage":"GSTIN -29AAGCE4783K1Z1 is invalid"}]"#, r#""[]""#),
        refusal(r#""W3siRXJyb3JDb2RlIjoiMTAwNSIsIkVycm9yTWVzc2FnZSI6IkludmFsaWQgVG9rZW4ifV0=""#, "null"),
        r#"{"status_cd":"0","error":{"error_cd":"GSP102","message":"The service is down"}}"#.to_owned(),
        r#"{"Status":1,"Data":{"ClientId":"c","UserName":"u","AuthToken":"t","Sek":"AAAA","TokenExpiry":"2099-01-01 00:00:00"}}"#.to_owned(),
        r#"{"Gstin":"29AAGCE4783K1Z1","Status":"ACT","BlkStatus":"U","TxpType":"REG","DtReg":"2017-07-01","DtDReg":null}"#.to_owned(),
        format!(r#"{{"Irn":"{IRN}","CancelDate":"2025-09-05 12:30:00"}}"#),
        "<html><body>502 Bad Gateway</body></html>".to_owned(),
    ];
    texts.map(String::into_bytes).into()
}

#[test]
fn fuzzed_portal_answers_never_panic() {
    let portal = Portal::start(|_| http("200 OK", "", "{}"));
    let irp = portal.irp();
    let app_key = AppKey::generate();
    fuzz(
        "answer",
        &seeds(),
        count(350),
        |_| (),
        |(), input| {
            let number = input.len();
            let answer = http::Answer {
                status: [200, 200, 200, 400, 401, 500][number % 6],
                date: None,
                retry_after: None,
                body: input.to_vec().into(),
            };
            match irp.judge(CALLS[number % CALLS.len()], &answer) {
                Ok(envelope) => {
                    if let Some(data) = envelope.data {
                        drop(answer::Login::read(data, &app_key, None));
                        read_as_all(data.get());
                    }
                }
                Err(error) => drop((
                    error.code().map(str::len),
                    error.disposition(),
                    error.to_string(),
                )),
            }
            if let Ok(text) = std::str::from_utf8(input) {
                read_as_all(text);
                if let Ok(data) = serde_json::from_str::<&RawValue>(text) {
                    drop(answer::Login::read(data, &app_key, None));
                }
            }
        },
    );
}

/// Text that a sealed answer may have held.
fn read_as_all(json: &str) {
    if let Ok(registration) = Registration::read(json, Vec::new()) {
        drop(registration.ack_date_rfc3339());
    }
    drop(GstinDetails::read(json));
    drop(Cancellation::read(json, Vec::new()));
    drop(EwayBill::issued(json, Vec::new()));
    drop(EwayBill::looked_up(json, Vec::new()));
}
