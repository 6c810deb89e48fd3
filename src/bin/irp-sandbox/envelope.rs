//! Dresses an answer as the portal's JSON envelope. The documented shape is the default; the others are those seen
//! behind gateways and in older notes, so that a client can be shown all of them (`shapes` of the faults).

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::{Answer, EwayBill, Granted, Info, Payload, PortalError, Refused, Registration};
use crate::crypto::{Key, sealed_length};

/// The variants of every shape; `Default` is what NIC's own portal sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Shapes {
    pub(crate) status: NumberShape,
    pub(crate) error_details: ErrorShape,
    error_keys: KeyShape,
    error_code: CodeShape,
    info_dtls: InfoShape,
    info_desc: DescShape,
    /// Put an unrelated entry before the one that matters.
    info_other_first: bool,
    ack_no: NumberShape,
    irn_status: StatusShape,
    signed_data: SignedShape,
    extra_members: bool,
    pub(crate) auth_data: LoginShape,
    pub(crate) nothing_found: NothingShape,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NumberShape {
    #[default]
    Number,
    String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CodeShape {
    #[default]
    String,
    Number,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorShape {
    #[default]
    Array,
    Object,
    JsonString,
    Base64,
    Plain,
    Null,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum InfoShape {
    #[default]
    Array,
    Object,
    String,
    Null,
    Absent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DescShape {
    #[default]
    Native,
    JsonString,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoginShape {
    #[default]
    Object,
    JsonString,
    /// Beside the status; MasterGST's contract only.
    TopLevel,
    /// A success without a token; MasterGST's contract only.
    Absent,
}

/// In what words a registration's status is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StatusShape {
    /// `ACT`, `CNL`, `REJ`
    #[default]
    Code,
    /// The same in small letters.
    Small,
    /// `Active`, `Cancelled`, `Rejected`
    Word,
    /// Something that nobody knows.
    Unknown,
}

impl StatusShape {
    fn told(self, code: &'static str) -> String {
        match (self, code) {
            (Self::Code, code) => code.to_owned(),
            (Self::Small, code) => code.to_lowercase(),
            (Self::Word, "ACT") => "Active".to_owned(),
            (Self::Word, "CNL") => "Cancelled".to_owned(),
            (Self::Word, _) => "Rejected".to_owned(),
            (Self::Unknown, _) => "XYZ".to_owned(),
        }
    }
}

/// Whether a registration comes with its signed texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SignedShape {
    #[default]
    Present,
    Absent,
}

/// How MasterGST's contract says that nothing was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NothingShape {
    #[default]
    Error,
    /// A success with an empty list.
    Empty,
}

/// The spelling of an error's members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeyShape {
    #[default]
    Pascal,
    Camel,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    status: Value,
    data: Value,
    error_details: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_dtls: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<&'static str>,
    #[serde(rename = "x-unknown", skip_serializing_if = "Option::is_none")]
    unknown: Option<Value>,
}

/// The body of an answer; what is secret in it is sealed under `key`.
pub(crate) fn render(answer: &Answer, key: Option<&Key>, shapes: &Shapes) -> String {
    if let Some(body) = render_ready(answer, key, shapes) {
        return body;
    }
    let (status, data, error_details, info) = match answer {
        Ok(Granted { payload, info }) => (1, data(payload, key, shapes), Value::Null, info),
        Err(Refused { errors, info }) => (0, Value::Null, error_details(errors, shapes), info),
    };
    let envelope = Envelope {
        status: number(status, shapes.status),
        data,
        error_details,
        info_dtls: info_dtls(info, shapes),
        alert: shapes
            .extra_members
            .then_some("Scheduled maintenance on Sunday"),
        unknown: shapes
            .extra_members
            .then(|| json!({"nested": [1, {"deep": null}]})),
    };
    serde_json::to_string(&envelope).expect("values of JSON are always JSON")
}

/// A registration whose text is ready, in the documented shape: by far the most frequent answer under load, written
/// into one buffer.
fn render_ready(answer: &Answer, key: Option<&Key>, shapes: &Shapes) -> Option<String> {
    let (Ok(Granted { payload, info }), Some(key)) = (answer, key) else {
        return None;
    };
    let Payload::Registration(registration) = payload else {
        return None;
    };
    if !info.is_empty() || *shapes != Shapes::default() {
        return None;
    }
    let plain = registration.text.as_deref()?;
    let (head, tail) = (
        r#"{"Status":1,"Data":""#,
        r#"","ErrorDetails":null,"InfoDtls":null}"#,
    );
    let mut body = String::with_capacity(head.len() + sealed_length(plain.len()) + tail.len());
    body.push_str(head);
    key.seal_into(plain.as_bytes(), &mut body);
    body.push_str(tail);
    Some(body)
}

/// A registration as JSON in the documented shape.
pub(crate) fn registration_text(registration: &Registration) -> String {
    registration_json(registration, &Shapes::default())
}

pub(crate) fn number(number: u64, shape: NumberShape) -> Value {
    match shape {
        NumberShape::Number => json!(number),
        NumberShape::String => json!(number.to_string()),
    }
}

fn data(payload: &Payload, key: Option<&Key>, shapes: &Shapes) -> Value {
    let plain = match payload {
        Payload::Login(login) => {
            return match shapes.auth_data {
                LoginShape::Object | LoginShape::TopLevel => login.clone(),
                LoginShape::Absent => Value::Null,
                LoginShape::JsonString => json!(login.to_string()),
            };
        }
        Payload::Registration(registration) => registration_json(registration, shapes),
        Payload::Json(value) => value.to_string(),
    };
    key.map_or(Value::Null, |key| json!(key.seal(plain.as_bytes())))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RegistrationWire<'a> {
    ack_no: Value,
    ack_dt: &'a str,
    irn: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_invoice: Option<&'a str>,
    #[serde(rename = "SignedQRCode", skip_serializing_if = "Option::is_none")]
    signed_qr: Option<&'a str>,
    status: String,
    ewb_no: Option<u64>,
    ewb_dt: Option<&'a str>,
    ewb_valid_till: Option<&'a str>,
    remarks: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x_unknown: Option<&'static str>,
}

/// The decrypted `Data` of generate and of both look-ups (NIC, generate-irn page).
pub(crate) fn registration_json(registration: &Registration, shapes: &Shapes) -> String {
    let bill = registration.eway_bill.as_ref();
    let signed = |text| match shapes.signed_data {
        SignedShape::Present => Some(text),
        SignedShape::Absent => None,
    };
    let wire = RegistrationWire {
        ack_no: number(registration.ack_no, shapes.ack_no),
        ack_dt: &registration.ack_dt,
        irn: &registration.irn,
        signed_invoice: signed(&*registration.signed_invoice),
        signed_qr: signed(&*registration.signed_qr),
        status: shapes.irn_status.told(registration.status),
        ewb_no: bill.map(|bill| bill.number),
        ewb_dt: bill.map(|bill| bill.issued.as_str()),
        ewb_valid_till: bill.and_then(|bill| bill.valid_till.as_deref()),
        remarks: bill.and_then(|bill| bill.remarks.as_deref()),
        x_unknown: shapes.extra_members.then_some("ignore me"),
    };
    serde_json::to_string(&wire).expect("texts and numbers are always JSON")
}

/// An e-way bill's own answer (NIC, generate EWB by IRN page).
pub(crate) fn eway_bill_json(bill: &EwayBill) -> Value {
    json!({
        "EwbNo": bill.number,
        "EwbDt": bill.issued,
        "EwbValidTill": bill.valid_till,
        "Remarks": bill.remarks,
        "Status": if bill.active { "ACT" } else { "CNL" },
    })
}

pub(crate) fn error_details(errors: &[PortalError], shapes: &Shapes) -> Value {
    if errors.is_empty() {
        return Value::Null;
    }
    let entries: Vec<Value> = errors
        .iter()
        .map(|error| error_entry(error, shapes))
        .collect();
    let text = || serde_json::to_string(&entries).expect("values of JSON are always JSON");
    match shapes.error_details {
        ErrorShape::Array => json!(entries),
        ErrorShape::Object => entries.first().cloned().unwrap_or(Value::Null),
        ErrorShape::JsonString => json!(text()),
        ErrorShape::Base64 => json!(BASE64_STANDARD.encode(text())),
        ErrorShape::Plain => {
            let lines: Vec<String> = errors
                .iter()
                .map(|error| format!("{} : {}", error.code, error.message))
                .collect();
            json!(lines.join("; "))
        }
        ErrorShape::Null => Value::Null,
    }
}

fn error_entry(error: &PortalError, shapes: &Shapes) -> Value {
    let code = match (shapes.error_code, error.code.parse::<u64>()) {
        (CodeShape::Number, Ok(code)) => json!(code),
        (CodeShape::Number, Err(_)) | (CodeShape::String, _) => json!(error.code),
    };
    match shapes.error_keys {
        KeyShape::Pascal => json!({ "ErrorCode": code, "ErrorMessage": error.message }),
        KeyShape::Camel => json!({ "errorCode": code, "errorMessage": error.message }),
    }
}

fn info_dtls(info: &[Info], shapes: &Shapes) -> Option<Value> {
    let mut entries: Vec<Value> = info.iter().map(|info| info_entry(info, shapes)).collect();
    if shapes.info_other_first && !entries.is_empty() {
        entries.insert(
            0,
            json!({ "InfCd": "ADDNLNFO", "Desc": "{\"note\":\"unrelated\"}" }),
        );
    }
    let empty = entries.is_empty();
    match shapes.info_dtls {
        InfoShape::Absent => None,
        InfoShape::Null => Some(Value::Null),
        InfoShape::String if empty => Some(json!("")),
        InfoShape::String => Some(json!(json!(entries).to_string())),
        InfoShape::Array | InfoShape::Object if empty => Some(Value::Null),
        InfoShape::Array => Some(json!(entries)),
        InfoShape::Object => entries.pop(),
    }
}

/// Additional information as a list.
pub(crate) fn info_list(info: &[Info], shapes: &Shapes) -> Value {
    info.iter().map(|info| info_entry(info, shapes)).collect()
}

fn info_entry(info: &Info, shapes: &Shapes) -> Value {
    let mut desc = info.desc.clone();
    if let Some(ack_no) = desc.get("AckNo").and_then(Value::as_u64) {
        desc["AckNo"] = number(ack_no, shapes.ack_no);
    }
    if matches!(shapes.info_desc, DescShape::JsonString) && !desc.is_string() {
        desc = json!(desc.to_string());
    }
    json!({ "InfCd": info.inf_cd, "Desc": desc })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duplicate() -> Answer {
        let info = Info::new(
            "DUPIRN",
            json!({"AckNo": 112_510_000_000_001_u64, "Irn": "ab"}),
        );
        Err(Refused::one("2150", "Duplicate IRN").with_info(info))
    }

    fn body(answer: &Answer, shapes: &str) -> Value {
        let text = render(answer, None, &serde_json::from_str(shapes).unwrap());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_default_shape_is_the_documented_one() {
        let text = render(&duplicate(), None, &Shapes::default());
        assert_eq!(
            text,
            concat!(
                r#"{"Status":0,"Data":null,"ErrorDetails":[{"ErrorCode":"2150","ErrorMessage":"Duplicate IRN"}],"#,
                r#""InfoDtls":[{"Desc":{"AckNo":112510000000001,"Irn":"ab"},"InfCd":"DUPIRN"}]}"#
            )
        );
    }

    #[test]
    fn a_text_that_is_ready_makes_the_same_answer() {
        let registration = Registration {
            ack_no: 112_510_000_000_001,
            ack_dt: "2025-09-05 12:30:00".to_owned(),
            irn: "ab".to_owned(),
            signed_invoice: "a.b.c".into(),
            signed_qr: "d.e.f".into(),
            text: None,
            status: "ACT",
            eway_bill: None,
        };
        let ready = Registration {
            text: Some(registration_text(&registration).into()),
            ..registration.clone()
        };
        let key = Key::random();
        let body = |registration, shapes: &Shapes| {
            let payload = Payload::Registration(Box::new(registration));
            render(&Ok(payload.into()), Some(&key), shapes)
        };
        let other = serde_json::from_str(r#"{"ack_no":"string"}"#).unwrap();
        for shapes in [Shapes::default(), other] {
            let bodies = [registration.clone(), ready.clone()].map(|one| body(one, &shapes));
            assert_eq!(bodies[0], bodies[1]);
        }
    }

    #[test]
    fn every_shape_of_errors_says_the_same() {
        let entry = json!({"ErrorCode": "2150", "ErrorMessage": "Duplicate IRN"});
        let details = |shape: &str| {
            body(&duplicate(), &format!(r#"{{"error_details":"{shape}"}}"#))["ErrorDetails"].clone()
        };
        assert_eq!(details("array"), json!([entry]));
        assert_eq!(details("object"), entry);
        let text = |value: Value| value.as_str().unwrap().to_owned();
        assert_eq!(
            serde_json::from_str::<Value>(&text(details("json_string"))).unwrap(),
            json!([entry])
        );
        let decoded = BASE64_STANDARD.decode(text(details("base64"))).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&decoded).unwrap(),
            json!([entry])
        );
        assert_eq!(text(details("plain")), "2150 : Duplicate IRN");
        assert_eq!(details("null"), Value::Null);
        let numeric = body(&duplicate(), r#"{"error_code":"number","status":"string"}"#);
        assert_eq!(
            (&numeric["ErrorDetails"][0]["ErrorCode"], &numeric["Status"]),
            (&json!(2150), &json!("0"))
        );
    }

    #[test]
    fn every_shape_of_information_keeps_the_entry() {
        let info = |shapes: &str| body(&duplicate(), shapes);
        assert_eq!(
            info(r#"{"info_other_first":true}"#)["InfoDtls"][1]["InfCd"],
            "DUPIRN"
        );
        assert_eq!(
            info(r#"{"info_dtls":"object","info_other_first":true}"#)["InfoDtls"]["InfCd"],
            "DUPIRN"
        );
        assert!(
            info(r#"{"info_dtls":"string"}"#)["InfoDtls"]
                .as_str()
                .unwrap()
                .contains("DUPIRN")
        );
        assert_eq!(info(r#"{"info_dtls":"absent"}"#).get("InfoDtls"), None);
        assert_eq!(
            info(r#"{"info_dtls":"null"}"#).get("InfoDtls"),
            Some(&Value::Null)
        );
        let text =
            info(r#"{"info_desc":"json_string","ack_no":"string"}"#)["InfoDtls"][0]["Desc"].clone();
        let desc: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        assert_eq!(desc["AckNo"], "112510000000001");
    }
}
