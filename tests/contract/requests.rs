//! The schemas of cancel, get and ewb jobs: what fits is read, and what is refused for its form does not fit.

use anyhow::{Result, ensure};
use irn_worker::config::{self, Environment, ValidateConfig};
use irn_worker::document::BadDocument;
use irn_worker::gstin::Gstin;
use irn_worker::preflight::Preflight;
use irn_worker::request::{self, Request};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{schema, validator};

type Read = fn(&[u8], Option<Gstin>) -> Result<Request, BadDocument>;

const JOBS: [(&str, Read); 3] = [
    ("cancel", request::cancel),
    ("get", request::get),
    ("ewb", request::eway_bill),
];

fn preflight() -> Result<Preflight> {
    let settings = ValidateConfig {
        preflight: config::Preflight::Schema,
        rules_file: None,
    };
    Ok(Preflight::new(&settings, Environment::Sandbox)?)
}

/// Whether the worker has nothing against the form of this body.
fn is_read(preflight: &Preflight, job: &str, read: Read, body: &Value) -> Result<bool> {
    let body = body.to_string();
    let gstin = "29AAGCE4783K1Z1".parse()?;
    let is_whole = read(body.as_bytes(), Some(gstin)).is_ok();
    let is_refused = job == "ewb"
        && preflight
            .check_eway_bill(body.as_bytes(), Timestamp::now())
            .refuses();
    Ok(is_whole && !is_refused)
}

fn values() -> Vec<Value> {
    let long = "x".repeat(101);
    vec![
        json!(true),
        json!(7),
        json!(-1),
        json!(1.5),
        json!(0),
        json!(4001),
        json!(""),
        json!("x"),
        json!("1"),
        json!("5"),
        json!("R"),
        json!("INV"),
        json!("05/09/2025"),
        json!("5.9.2025"),
        json!("KA01AB1234"),
        json!("KA 01"),
        json!(long),
        json!([]),
        json!({}),
        json!("29AAGCE4783K1Z1"),
        json!("0".repeat(64)),
    ]
}

#[test]
fn schemas_of_requests_let_through_what_is_read_and_nothing_else() -> Result<()> {
    let preflight = preflight()?;
    let (mut taken, mut refused) = (0, 0);
    for (job, read) in JOBS {
        let schema = schema(&format!("job.{job}.v1"))?;
        let validator = validator(&schema)?;
        let examples = schema["examples"].as_array().map_or(&[][..], Vec::as_slice);
        let members = schema["properties"].as_object().into_iter().flatten();
        let members: Vec<&str> = members.map(|(name, _)| name.as_str()).collect();
        for example in examples {
            ensure!(is_read(&preflight, job, read, example)?, "{job}: {example}");
            for member in &members {
                for value in values().into_iter().map(Some).chain([None]) {
                    let mut body = example.clone();
                    match value {
                        Some(value) => body[*member] = value,
                        None => drop(body.as_object_mut().and_then(|body| body.remove(*member))),
                    }
                    // The one thing that no schema can say.
                    let names_both = body.get("Irn").is_some() && body.get("Typ").is_some();
                    if validator.is_valid(&body) && !(job == "get" && names_both) {
                        ensure!(
                            is_read(&preflight, job, read, &body)?,
                            "{job}: {body} fits, and is not read"
                        );
                        taken += 1;
                    } else {
                        refused += usize::from(!is_read(&preflight, job, read, &body)?);
                    }
                }
            }
        }
    }
    ensure!(taken > 60 && refused > 200, "{taken} {refused}");
    Ok(())
}

#[test]
fn bodies_that_the_worker_refuses_do_not_fit() -> Result<()> {
    let irn = "0".repeat(64);
    for (job, body) in [
        ("cancel", json!({"Irn": irn, "CnlRsn": "5", "CnlRem": "x"})),
        ("cancel", json!({"Irn": irn, "CnlRsn": "1", "CnlRem": ""})),
        (
            "cancel",
            json!({"Irn": "abc", "CnlRsn": "1", "CnlRem": "x"}),
        ),
        (
            "cancel",
            json!([{"Irn": irn, "CnlRsn": "1", "CnlRem": "x"}]),
        ),
        ("get", json!({})),
        ("get", json!({"Typ": "INV", "No": "A/1"})),
        (
            "get",
            json!({"Typ": "INV", "No": "A/23456789012345678", "Dt": "05/09/2025"}),
        ),
        (
            "get",
            json!({"Typ": "INV", "No": "0/1", "Dt": "05/09/2025"}),
        ),
        ("get", json!({"Irn": irn, "Typ": "INV"})),
        ("ewb", json!({"Distance": 0})),
        ("ewb", json!({"Irn": irn})),
        ("ewb", json!({"Irn": irn, "Distance": 4001})),
        ("ewb", json!({"Irn": irn, "Distance": 10, "TransMode": "5"})),
        ("ewb", json!({"Irn": irn, "Distance": 10, "VehNo": "KA 01"})),
    ] {
        let validator = validator(&schema(&format!("job.{job}.v1"))?)?;
        ensure!(!validator.is_valid(&body), "{job}: {body} fits");
        let read = JOBS
            .iter()
            .find(|(name, _)| *name == job)
            .map(|(_, read)| *read);
        let is_read = is_read(&preflight()?, job, read.unwrap_or(request::get), &body)?;
        ensure!(!is_read, "{job}: {body} is read");
    }
    Ok(())
}
