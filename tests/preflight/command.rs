//! `irn-worker validate` as a person or a script meets it: verdicts, places, exit codes; no broker and no portal.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::corpus::{FAULTS, Kind, valid};

/// Runs it in an empty folder, `input` on its standard input.
fn validate(arguments: &[&str], input: &str) -> Output {
    let folder = TempDir::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_irn-worker"))
        .arg("validate")
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Beside the reading: neither pipe may fill up. A command that refuses its arguments reads nothing.
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn wrong_total(seed: u64) -> Value {
    let fault = FAULTS.iter().find(|fault| fault.code == "2189").unwrap();
    fault.document(seed)
}

#[test]
fn documents_in_every_shape_of_input_get_a_verdict_each() {
    let (good, bad) = (valid(Kind::WithinState, 1), wrong_total(2));
    let ndjson = format!("{good}\n\n{bad}\r\n{good}");
    let array = format!(" [ {good},\n{bad}, {good} ]\n");
    for input in [ndjson, array, format!("{good}[{bad}]{good}")] {
        let output = validate(&["--json", "-"], &input);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let lines = lines(&output);
        let verdicts: Vec<_> = lines
            .iter()
            .map(|line| line["verdict"].as_str().unwrap())
            .collect();
        assert_eq!(verdicts, ["accepted", "rejected", "accepted"]);
        assert_eq!(lines[1]["index"], 2);
        assert_eq!(lines[1]["document"]["number"], bad["DocDtls"]["No"]);
        let finding = &lines[1]["findings"][0];
        assert_eq!(finding["severity"], "error");
        assert_eq!(
            (&finding["code"], &finding["path"]),
            (&json!("2189"), &json!("/ValDtls/TotInvVal"))
        );
    }
    let pretty = serde_json::to_string_pretty(&good).unwrap();
    assert_eq!(validate(&["-"], &pretty).status.code(), Some(0));
    let marked = format!("\u{feff}{pretty}");
    assert_eq!(validate(&["-"], &marked).status.code(), Some(0));
    assert_eq!(validate(&["-"], "\u{feff}").status.code(), Some(2));
}

#[test]
fn people_read_codes_places_and_a_count() {
    let output = validate(
        &["-"],
        &format!("{}\n{}", valid(Kind::Services, 1), wrong_total(1)),
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("error   2189 /ValDtls/TotInvVal: "), "{text}");
    assert!(
        text.ends_with("2 documents: 1 accepted (0 with warnings), 1 rejected\n"),
        "{text}"
    );
}

#[test]
fn what_is_no_document_or_no_json_ends_with_1_and_its_place() {
    let output = validate(
        &["--json", "-"],
        &format!("{{}}\n{}\n{{\"half\":\n", valid(Kind::Services, 1)),
    );
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[0]["verdict"], &lines[0]["document"]),
        (&json!("rejected"), &Value::Null)
    );
    assert_eq!(lines[1]["verdict"], "accepted");
    assert_eq!(lines[2]["verdict"], "unreadable");
    let problem = lines[2]["problem"].as_str().unwrap();
    assert!(problem.contains("not JSON at line 4"), "{problem}");
    for broken in ["[{}", "please", "\u{feff}{}", "[{} {}]"] {
        assert_eq!(validate(&["-"], broken).status.code(), Some(1), "{broken}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for (arguments, input) in [
        (&["nowhere.json"][..], ""),
        (&["-"][..], " \n"),
        (&[][..], ""),
    ] {
        let output = validate(arguments, input);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(
        validate(&["--config", "nowhere.toml", "-"], "{}")
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn configuration_decides_how_much_is_judged() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("worker.toml");
    let judged = |text: &str, document: &Value| {
        std::fs::write(&config, text).unwrap();
        let output = validate(
            &["--config", config.to_str().unwrap(), "-"],
            &document.to_string(),
        );
        output.status.code()
    };
    let mistyped = FAULTS
        .iter()
        .find(|fault| fault.production_only)
        .unwrap()
        .document(1);
    assert_eq!(
        judged("validate.preflight = \"strict\"", &mistyped),
        Some(1)
    );
    assert_eq!(judged("irp.environment = \"sandbox\"", &mistyped), Some(0));
    assert_eq!(
        judged("validate.preflight = \"schema\"", &wrong_total(1)),
        Some(0)
    );
    assert_eq!(
        judged("validate.rules_file = \"/nowhere\"", &wrong_total(1)),
        Some(2)
    );
}

#[test]
fn control_characters_of_a_document_do_not_reach_the_terminal() {
    let mut document = valid(Kind::Services, 1);
    document["DocDtls"]["No"] = json!("A\u{1b}[2J");
    document["evil\u{1b}[31m"] = json!(1);
    let output = validate(&["-"], &document.to_string());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        !output.stdout.contains(&0x1b),
        "{:?}",
        String::from_utf8_lossy(&output.stdout)
    );
}
