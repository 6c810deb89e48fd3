//! What the linker is told about where functions lie (`src/layout`) still speaks of this program.
//!
//! Names change with the compiler and with libraries, and nothing fails when the linker finds none of them: an idle worker
//! only grows by some MiB.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use glob::Pattern;

const LISTED: &str = "src/layout/functions.ld";

/// Of the functions listed, how many a build for tests must have at least, in hundredths. Nine of ten are seen: one of
/// ten is inlined there.
const KNOWN_PERCENT: usize = 60;

/// How names of Rust functions begin, in legacy and in v0 mangling.
const MANGLINGS: [&str; 2] = ["_ZN", "_R"];

#[test]
fn functions_that_are_laid_side_by_side_are_still_the_programs_own() -> Result<()> {
    let program = program()?;
    let symbols = symbols(&program);
    let listed = listed(&symbols)?;
    ensure!(listed.len() > 1_000, "{LISTED} has {}", listed.len());
    let unknown: Vec<&Pattern> = listed
        .iter()
        .filter(|pattern| !names_one(pattern, &symbols))
        .collect();
    ensure!(
        100 * (listed.len() - unknown.len()) >= KNOWN_PERCENT * listed.len(),
        "of {} functions in {LISTED} the program has all but {}: run scripts/layout. For example not {}",
        listed.len(),
        unknown.len(),
        unknown.first().map_or("", |pattern| pattern.as_str()),
    );
    Ok(())
}

#[test]
fn functions_that_the_program_does_not_have_are_told_apart() -> Result<()> {
    let program = program()?;
    let symbols = symbols(&program);
    for pattern in listed(&symbols)? {
        let beginning = beginning(&pattern);
        let other: String = beginning.chars().rev().collect();
        ensure!(!names_one(&Pattern::new(&other)?, &symbols), "{other}");
    }
    Ok(())
}

#[test]
fn build_script_gives_the_list_to_a_linker_that_reads_it_and_spares_it_one_that_does_not()
-> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("build");
    let compiled = Command::new("rustc")
        .args(["--edition", "2024", "src/layout/build.rs", "-o"])
        .arg(&script)
        .status()?;
    ensure!(compiled.success(), "{compiled}");
    // As cargo calls it for an optimised build.
    let told = |optimisation: &str, flags: &str| -> Result<String> {
        let output = Command::new(&script)
            .env("RUSTC", "rustc")
            .env("TARGET", host()?)
            .env("OPT_LEVEL", optimisation)
            .env("OUT_DIR", folder.path())
            .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
            .env("CARGO_CFG_TARGET_OS", "linux")
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env_remove("RUSTC_LINKER")
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let list = format!(
        "rustc-link-arg-bin=irn-worker={}/{LISTED}",
        env!("CARGO_MANIFEST_DIR")
    );
    let good = told("3", "")?;
    ensure!(
        good.contains(&list) && !good.contains("cargo:warning"),
        "{good}"
    );
    let refused = told("3", "-Clinker=false")?;
    ensure!(
        !refused.contains(&list) && refused.contains("cargo:warning"),
        "{refused}"
    );
    let not_optimised = told("1", "")?;
    ensure!(
        !not_optimised.contains(&list) && !not_optimised.contains("cargo:warning"),
        "{not_optimised}"
    );
    Ok(())
}

/// The machine that the compiler runs on, as it calls it.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let said = String::from_utf8(output.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc names no host")
}

fn program() -> Result<Vec<u8>> {
    Ok(fs::read(env!("CARGO_BIN_EXE_irn-worker"))?)
}

/// Whatever in the program could be a function's name; its table of symbols ends each with a zero.
fn symbols(program: &[u8]) -> BTreeSet<&str> {
    program
        .split(|byte| *byte == 0)
        .filter(|text| text.len() > 2 && text.iter().all(u8::is_ascii_graphic))
        .filter_map(|text| str::from_utf8(text).ok())
        .collect()
}

/// The functions that are listed under names as the program's compiler gives them, without their sections.
fn listed(symbols: &BTreeSet<&str>) -> Result<Vec<Pattern>> {
    let named = |mangling: &&str| {
        let own = |name: &&&str| name.starts_with(mangling) && name.contains("10irn_worker");
        symbols.iter().filter(own).count() > 1_000
    };
    let mangling = MANGLINGS
        .into_iter()
        .find(named)
        .context("the program has no names of functions: is it stripped?")?;
    let script = fs::read_to_string(LISTED)?;
    script
        .lines()
        .filter_map(|line| line.trim().strip_prefix(".text."))
        .map(|section| section.strip_prefix("unlikely.").unwrap_or(section))
        .filter(|function| function.starts_with(mangling))
        .map(|function| Pattern::new(function).with_context(|| function.to_owned()))
        .collect()
}

/// Whether one of the symbols matches; they begin with what stands before the first `*`.
fn names_one(pattern: &Pattern, symbols: &BTreeSet<&str>) -> bool {
    let beginning = beginning(pattern);
    symbols
        .range(beginning..)
        .take_while(|symbol| symbol.starts_with(beginning))
        .any(|symbol| pattern.matches(symbol))
}

fn beginning(pattern: &Pattern) -> &str {
    let text = pattern.as_str();
    text.split_once('*')
        .map_or(text, |(beginning, _)| beginning)
}
