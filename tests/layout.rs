//! What the linker is told about where functions lie (`src/layout`) still speaks of this program.
//!
//! Names change with the compiler and with libraries, and nothing fails when the linker finds none of them: an idle worker
//! only grows by some MiB.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use glob::Pattern;

/// Of the functions named, how many a build for tests must have at least, in hundredths. It is optimised otherwise, so
/// that one in ten is inlined that the list names.
const KNOWN_PERCENT: usize = 60;

const LISTED: &str = "src/layout/functions.ld";

#[test]
fn functions_that_are_laid_side_by_side_are_still_the_programs_own() -> Result<()> {
    let program = fs::read(env!("CARGO_BIN_EXE_irn-worker"))?;
    let symbols: BTreeSet<&str> = symbols(&program).collect();
    let listed = listed(&fs::read_to_string(LISTED)?)?;
    ensure!(listed.len() > 1_000, "{LISTED} names {}", listed.len());
    let unknown: Vec<&str> = listed
        .iter()
        .filter(|pattern| !names_one(pattern, &symbols))
        .map(Pattern::as_str)
        .collect();
    ensure!(
        100 * (listed.len() - unknown.len()) >= KNOWN_PERCENT * listed.len(),
        "of {} functions in {LISTED} the program has all but {}: run scripts/layout. For example, not these: {:?}",
        listed.len(),
        unknown.len(),
        unknown
            .iter()
            .step_by(1 + unknown.len() / 10)
            .collect::<Vec<_>>()
    );
    Ok(())
}

#[test]
fn list_of_another_compiler_is_told_apart() -> Result<()> {
    let program = fs::read(env!("CARGO_BIN_EXE_irn-worker"))?;
    let symbols: BTreeSet<&str> = symbols(&program).collect();
    let listed = listed(&fs::read_to_string(LISTED)?)?;
    let mangled_otherwise =
        |pattern: &Pattern| Pattern::new(&pattern.as_str().replace("_ZN", "_RN"));
    let mut known = 0;
    for pattern in &listed {
        known += usize::from(names_one(&mangled_otherwise(pattern)?, &symbols));
    }
    ensure!(
        100 * known < KNOWN_PERCENT * listed.len(),
        "{known} of {} are found under names that the compiler does not give",
        listed.len()
    );
    Ok(())
}

/// The functions that a linker script names, without their sections.
fn listed(script: &str) -> Result<Vec<Pattern>> {
    script
        .lines()
        .filter_map(|line| line.trim().strip_prefix(".text."))
        .filter(|rest| !rest.starts_with("used"))
        .map(|section| {
            let function = section.strip_prefix("unlikely.").unwrap_or(section);
            Pattern::new(function).with_context(|| format!("{LISTED} names {section:?}"))
        })
        .collect()
}

/// Whether one of the sorted symbols matches; they begin with what stands before the first `*`.
fn names_one(pattern: &Pattern, symbols: &BTreeSet<&str>) -> bool {
    let (beginning, _) = pattern
        .as_str()
        .split_once('*')
        .unwrap_or((pattern.as_str(), ""));
    symbols
        .range(beginning..)
        .take_while(|symbol| symbol.starts_with(beginning))
        .any(|symbol| pattern.matches(symbol))
}

/// Whatever in the file could be a function's name, which its table of symbols ends with a zero.
fn symbols(program: &[u8]) -> impl Iterator<Item = &str> {
    program
        .split(|byte| *byte == 0)
        .filter(|text| text.len() > 2 && text.iter().all(u8::is_ascii_graphic))
        .filter_map(|text| str::from_utf8(text).ok())
}
