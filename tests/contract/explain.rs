//! `irn-worker explain` as a person or a script meets it, and docs/errors.md, which it prints.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::repository;

/// Runs it in an empty folder.
fn explain(arguments: &[&str]) -> Result<Output> {
    let folder = TempDir::new()?;
    explain_in(folder.path(), arguments)
}

fn explain_in(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let output = Command::new(env!("CARGO_BIN_EXE_irn-worker"))
        .arg("explain")
        .args(arguments)
        .current_dir(folder)
        .output()?;
    Ok(output)
}

fn text(output: &Output) -> Result<String> {
    Ok(String::from_utf8(output.stdout.clone())?)
}

fn lines(output: &Output) -> Result<Vec<Value>> {
    text(output)?
        .lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

/// `does` of one explanation, for a call.
fn does<'a>(explanation: &'a Value, call: &str) -> &'a str {
    let steps = explanation["worker_does"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let step = steps.iter().find(|step| {
        let calls = step["calls"].as_array();
        calls.is_some_and(|calls| calls.iter().any(|known| known == call))
    });
    step.and_then(|step| step["does"].as_str())
        .unwrap_or_default()
}

#[test]
fn every_code_of_the_portals_lists_is_explained_in_its_group() -> Result<()> {
    let list = fs::read_to_string(repository("tests/contract/codes.tsv"))?;
    let mut seen = 0;
    for row in list.lines().filter(|row| !row.starts_with('#')) {
        let [group, place, codes] = row.split('\t').collect::<Vec<_>>()[..] else {
            anyhow::bail!("not a row: {row}");
        };
        let (kind, class) = place.split_once(' ').context("no class")?;
        for code in codes.split(' ').map(|code| code.replace("%20", " ")) {
            let output = explain(&["--json", &code])?;
            ensure!(output.status.success(), "{group}: {code} is not known");
            let lines = lines(&output)?;
            let explanation = lines.iter().find(|line| line["kind"] == kind);
            let explanation = explanation.with_context(|| format!("{code}: {lines:?}"))?;
            assert_eq!(
                explanation["class"].as_str().unwrap_or("-"),
                class,
                "{code}"
            );
            for member in ["meaning", "fixed_by", "remedy"] {
                let said = explanation[member].as_str().unwrap_or_default();
                ensure!(said.len() > 10, "{code}: {member} is {said:?}");
            }
            seen += 1;
        }
    }
    ensure!(seen > 250, "{seen}");
    Ok(())
}

#[test]
fn what_the_worker_does_is_said_for_each_call() -> Result<()> {
    let output = explain(&["--json", "1005", "2150", "2182", "5001"])?;
    assert_eq!(output.status.code(), Some(0));
    let lines = lines(&output)?;
    assert!(does(&lines[0], "generate").contains("logs in once"));
    assert!(does(&lines[0], "login").contains("CREDENTIALS_REFUSED"));
    assert!(does(&lines[1], "generate").contains("`signed` with `recovered`"));
    assert!(does(&lines[2], "generate").contains("`rejected`"));
    assert_eq!(lines[2]["preflight"], true);
    assert_eq!(lines[2]["fixed_by"], "the ERP's user");
    assert!(does(&lines[3], "generate").contains("takes the outcome for unknown"));
    assert!(does(&lines[3], "ewb").contains("takes the outcome for unknown"));
    assert!(does(&lines[3], "look_up").contains("tries again"));
    Ok(())
}

#[test]
fn a_code_that_nobody_knows_is_not_explained_away() -> Result<()> {
    let output = explain(&["4711"])?;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output)?;
    assert!(said.contains("no code that this version knows"), "{said}");
    assert!(said.contains("`failed`, UNKNOWN_CODE"), "{said}");
    assert!(said.contains("irp.unknown_codes"), "{said}");

    let output = explain(&["--json", "2150", "4711"])?;
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output)?;
    assert_eq!(lines[0]["known"], true);
    assert_eq!(lines[1]["known"], false);
    assert_eq!(lines[1]["code"], "4711");

    let output = explain(&["RETRIES_EXHASTED"])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output)?.contains("RETRIES_EXHAUSTED?"));
    Ok(())
}

#[test]
fn what_the_operator_decided_of_a_code_is_what_is_said_of_it() -> Result<()> {
    let folder = TempDir::new()?;
    fs::create_dir(folder.path().join("config"))?;
    let settings = "irp.unknown_codes = { \"4711\" = \"retry\", \"4712\" = \"reject\" }\n";
    fs::write(folder.path().join("config/worker.toml"), settings)?;
    let output = explain_in(folder.path(), &["--json", "4711", "4712", "1099"])?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = lines(&output)?;
    assert!(does(&lines[0], "look_up").contains("tries again"));
    assert!(does(&lines[1], "generate").contains("`rejected`"));
    // Of the range of accounts: on a login it stops the GSTIN, otherwise it is kept.
    assert!(does(&lines[2], "login").contains("CREDENTIALS_REFUSED"));
    assert!(does(&lines[2], "generate").contains("UNKNOWN_CODE"));

    fs::write(
        folder.path().join("config/worker.toml"),
        "irp.unknown_codes = { \"4711\" = \"perhaps\" }",
    )?;
    let output = explain_in(folder.path(), &["4711"])?;
    assert_eq!(output.status.code(), Some(2));
    // What is known needs no configuration.
    let output = explain_in(folder.path(), &["2150"])?;
    assert_eq!(output.status.code(), Some(0));
    Ok(())
}

#[test]
fn without_a_code_all_of_them_are_listed() -> Result<()> {
    let listed = explain(&[])?;
    assert_eq!(listed.status.code(), Some(0));
    let listed = text(&listed)?;
    let all = lines(&explain(&["--all", "--json"])?)?;
    ensure!(all.len() > 280, "{}", all.len());
    for known in &all {
        let code = known["code"].as_str().context("no code")?;
        ensure!(listed.contains(&format!("\n  {code} ")), "{code}");
    }
    let kinds: BTreeSet<_> = all.iter().map(|known| known["kind"].to_string()).collect();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    Ok(())
}

#[test]
fn docs_errors_is_what_the_command_prints() -> Result<()> {
    let printed = text(&explain(&["--markdown"])?)?;
    let page = fs::read_to_string(repository("docs/errors.md")).unwrap_or_default();
    assert!(
        page == printed,
        "docs/errors.md is out of date: irn-worker explain --markdown > docs/errors.md"
    );
    Ok(())
}

/// The sources of a folder below `src/`, without their unit tests.
fn sources(folder: &str) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(repository(folder))? {
        let path = entry?.path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            texts.extend(sources(&format!("{folder}/{name}"))?);
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            let text = fs::read_to_string(path)?;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            texts.push(code.to_owned());
        }
    }
    Ok(texts)
}

/// What stands in quotation marks right after each `mark`.
fn quoted_after<'t>(text: &'t str, mark: &str) -> Vec<&'t str> {
    let parts = text.split(mark).skip(1);
    parts
        .filter_map(|rest| rest.split_once('"').map(|(quoted, _)| quoted))
        .collect()
}

fn known(kind: &str) -> Result<BTreeSet<String>> {
    let all = lines(&explain(&["--all", "--json"])?)?;
    let of_kind = all.iter().filter(|known| known["kind"] == kind);
    Ok(of_kind
        .filter_map(|known| known["code"].as_str().map(str::to_owned))
        .collect())
}

/// Words that are written where a job is deferred are no members of an enum, so the sources are asked.
#[test]
fn whatever_a_job_is_deferred_for_is_explained() -> Result<()> {
    let known = known("wait")?;
    let mut found = BTreeSet::new();
    for text in sources("src/worker")? {
        for mark in ["why: \"", "let why = \""] {
            found.extend(quoted_after(&text, mark).into_iter().map(str::to_owned));
        }
    }
    // Longer ones are sentences for the log, and those of jobs that are somebody else's now.
    found.retain(|word| word.split(' ').count() <= 2 && word != "grace over");
    ensure!(found.len() >= 7, "{found:?}");
    let missing: Vec<_> = found.difference(&known).collect();
    assert_eq!(json!(missing), json!([]));

    let constants = fs::read_to_string(repository("src/worker/case.rs"))?;
    let constants = quoted_after(&constants, ": &str = \"");
    ensure!(constants.len() >= 4, "{constants:?}");
    for word in constants {
        ensure!(explain(&[word])?.status.success(), "{word}");
    }
    Ok(())
}

/// What the worker itself puts into a result under a code of the portal's.
#[test]
fn whatever_stands_for_a_code_of_the_portal_is_explained() -> Result<()> {
    let known = known("irp")?;
    let mut found = BTreeSet::new();
    for folder in ["src/worker", "src/irp", "src/limits"] {
        for text in sources(folder)? {
            let joined: String = text.split_whitespace().collect();
            let codes = quoted_after(&joined, "ErrorEntry::irp(\"");
            found.extend(codes.into_iter().map(str::to_owned));
        }
    }
    ensure!(found.len() >= 3 && found.contains("REJ"), "{found:?}");
    let missing: Vec<_> = found.difference(&known).collect();
    assert_eq!(json!(missing), json!([]));
    Ok(())
}

#[test]
fn whatever_a_call_may_end_with_is_explained() -> Result<()> {
    let known = known("transport")?;
    let text = fs::read_to_string(repository("src/irp/error.rs"))?;
    let (_, labels) = text
        .split_once("fn call_result_label")
        .context("no labels")?;
    let (of_errors, _) = labels.split_once("\n    }\n").context("no end")?;
    let (_, of_refusals) = labels
        .split_once("fn label")
        .context("no labels of refusals")?;
    let mut found = quoted_after(of_errors, "=> \"");
    found.extend(quoted_after(of_refusals, "=> \""));
    ensure!(found.len() >= 15, "{found:?}");
    let missing: Vec<_> = found
        .iter()
        .filter(|label| !known.contains(**label))
        .collect();
    assert_eq!(json!(missing), json!([]));
    Ok(())
}
