//! Imports point down: what `src/lib.rs` says about the layers is what the code does.
//!
//! `src/lib.rs` declares the modules bottom first, in groups separated by blank lines or comments. A
//! module may use itself and the modules of earlier groups: nothing beside it, nothing above it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// A source file: its path below `src/` and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The top-level module the file belongs to; none for `lib.rs`, `main.rs` and the other binary.
    fn module(&self) -> Option<&str> {
        let (first, _) = self.path.split_once(['/', '.'])?;
        (!["lib", "main", "bin"].contains(&first)).then_some(first)
    }

    /// How many `super::` lead from the file's own module to the crate root.
    fn depth(&self) -> usize {
        let steps = self.path.split('/').count();
        if self.path.ends_with("/mod.rs") {
            steps - 1
        } else {
            steps
        }
    }
}

#[test]
fn modules_use_only_the_groups_declared_above_them() -> Result<()> {
    let sources = sources()?;
    let lib = sources
        .iter()
        .find(|s| s.path == "lib.rs")
        .context("there is no src/lib.rs")?;
    let groups = groups(&lib.text);
    ensure!(groups.len() > 1, "src/lib.rs declares no layers");
    assert_eq!(upward_uses(&groups, &sources), [""; 0]);
    Ok(())
}

#[test]
fn sandbox_shares_no_code_with_the_library() -> Result<()> {
    let sandbox = |s: &Source| s.path.starts_with("bin/irp-sandbox/");
    assert_eq!(naming(&sources()?, sandbox, &["irn_worker"])?, [""; 0]);
    Ok(())
}

#[test]
fn only_retry_names_the_unmaintained_backoff_crate() -> Result<()> {
    let outside = |s: &Source| s.path != "retry.rs";
    assert_eq!(naming(&sources()?, outside, &["backoff"])?, [""; 0]);
    Ok(())
}

#[test]
fn broker_and_portal_do_not_know_each_other() -> Result<()> {
    let sources = sources()?;
    assert_eq!(
        naming(&sources, |s| s.module() == Some("broker"), &["irp"])?,
        [""; 0]
    );
    assert_eq!(
        naming(
            &sources,
            |s| s.module() == Some("irp"),
            &["broker", "lapin"]
        )?,
        [""; 0]
    );
    Ok(())
}

#[test]
fn groups_are_read_from_the_declarations() {
    let lib = "//! docs\n\npub mod gstin;\nmod irn;\n\n/// Settings.\npub mod config;\n// one up\npub(crate) mod app;\n";
    assert_eq!(
        groups(lib),
        [vec!["gstin", "irn"], vec!["config"], vec!["app"]]
    );
}

#[test]
fn planted_violations_are_found() {
    let groups = vec![
        vec!["gstin".into(), "irn".into()],
        vec!["broker".into(), "irp".into()],
    ];
    for (path, text, found) in [
        (
            "gstin.rs",
            "use crate::broker::Publisher;",
            "gstin.rs uses broker",
        ),
        (
            "gstin.rs",
            "use crate::{\n    irp::{wire, codes},\n};",
            "gstin.rs uses irp",
        ),
        ("gstin.rs", "use super::irn;", "gstin.rs uses irn"),
        (
            "gstin.rs",
            "fn f() { crate::app::run() }",
            "gstin.rs uses app",
        ),
        (
            "irp/wire.rs",
            "use crate::broker;",
            "irp/wire.rs uses broker",
        ),
        ("irp/mod.rs", "use super::broker;", "irp/mod.rs uses broker"),
        (
            "irp/wire.rs",
            "use super::super::broker;",
            "irp/wire.rs uses broker",
        ),
        (
            "irp/wire.rs",
            "const Q: char = '\"'; use crate::broker;",
            "irp/wire.rs uses broker",
        ),
    ] {
        assert_eq!(
            upward_uses(&groups, &[Source::new(path, text)]),
            [found],
            "{text}"
        );
    }
}

#[test]
fn permitted_uses_are_left_alone() {
    let groups = vec![
        vec!["gstin".into(), "irn".into()],
        vec!["broker".into(), "irp".into()],
    ];
    for (path, text) in [
        ("broker/consumer.rs", "use crate::{gstin::Gstin, irn};"),
        (
            "broker/consumer.rs",
            "use super::publisher; use crate::broker::topology;",
        ),
        (
            "gstin.rs",
            "//! Not [`crate::broker`].\n/* crate::irp */ const T: &str = \"crate::irp\";",
        ),
        (
            "gstin.rs",
            "#[cfg(test)]\nmod tests {\n    use super::irn_of;\n}\n",
        ),
        ("main.rs", "use crate::anything;"),
        ("bin/irp-sandbox/main.rs", "use crate::registry;"),
    ] {
        assert_eq!(
            upward_uses(&groups, &[Source::new(path, text)]),
            [""; 0],
            "{text}"
        );
    }
}

#[test]
fn planted_names_are_found_in_code_alone() -> Result<()> {
    let sources = [
        Source::new("a.rs", "use backoff::ExponentialBackoff;"),
        Source::new("b.rs", "// backoff\nlet backoff_ms = \"backoff\";"),
        Source::new(
            "c.rs",
            "let x = crate::config::backoff::MAX; let y = config.backoff;",
        ),
    ];
    assert_eq!(
        naming(&sources, |_| true, &["backoff"])?,
        ["a.rs names backoff"]
    );
    Ok(())
}

/// Every Rust file below `src/`.
fn sources() -> Result<Vec<Source>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let below = path
                    .strip_prefix(&root)?
                    .to_str()
                    .context("a path is not UTF-8")?;
                sources.push(Source::new(below, &fs::read_to_string(&path)?));
            }
        }
    }
    Ok(sources)
}

/// The modules that `lib.rs` declares, bottom group first.
fn groups(lib: &str) -> Vec<Vec<String>> {
    let mut groups = vec![Vec::new()];
    for line in lib.lines().map(str::trim) {
        let separates = line.is_empty() || (line.starts_with("//") && !line.starts_with("///"));
        if separates {
            groups.push(Vec::new());
        } else if let Some(name) = declared(line)
            && let Some(group) = groups.last_mut()
        {
            group.push(name.to_owned());
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// `name` of `mod name;` with any visibility.
fn declared(line: &str) -> Option<&str> {
    let (visibility, rest) = line.split_once("mod ")?;
    (visibility.is_empty() || visibility.starts_with("pub")).then_some(rest.strip_suffix(';')?)
}

/// One line for every use of a module that the layers do not allow.
fn upward_uses(groups: &[Vec<String>], sources: &[Source]) -> Vec<String> {
    let layer = |module: &str| groups.iter().position(|g| g.iter().any(|m| m == module));
    let mut found = Vec::new();
    for source in sources {
        let Some(own) = source.module() else { continue };
        for used in reached(source) {
            if used != own && layer(&used).is_none_or(|of_used| Some(of_used) >= layer(own)) {
                found.push(format!("{} uses {used}", source.path));
            }
        }
    }
    found
}

/// The names a file takes from the crate root.
fn reached(source: &Source) -> BTreeSet<String> {
    let code = code_only(&source.text);
    let mut names = after_prefix(&code, "crate::");
    names.extend(after_prefix(
        &without_inline_modules(&code),
        &"super::".repeat(source.depth()),
    ));
    names
}

/// The first names that follow `prefix`: of `crate::a::b` and of each branch of `crate::{a::b, c}`.
fn after_prefix(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let longer_path = code[..at].ends_with(|c: char| c == ':' || is_name(c));
        if longer_path {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(branches) = rest.strip_prefix('{') else {
            names.insert(leading_name(rest));
            continue;
        };
        let mut nesting = 0_usize;
        let mut start = 0;
        for (i, c) in branches.char_indices() {
            let ends_branch = nesting == 0 && (c == ',' || c == '}');
            if ends_branch {
                names.insert(leading_name(&branches[start..i]));
                start = i + 1;
            }
            match c {
                '{' => nesting += 1,
                '}' if nesting == 0 => break,
                '}' => nesting -= 1,
                _ => {}
            }
        }
    }
    names.remove("");
    names.remove("super"); // a longer chain, which is matched from its own start
    names
}

/// One line for every file of those `of` picks that names one of the crates or modules `names` in code.
fn naming(sources: &[Source], of: fn(&Source) -> bool, names: &[&str]) -> Result<Vec<String>> {
    let picked: Vec<_> = sources.iter().filter(|s| of(s)).collect();
    ensure!(!picked.is_empty(), "there is no file to look at");
    let mut found = Vec::new();
    for source in picked {
        let code = code_only(&source.text);
        for name in names {
            let named = code.match_indices(name).any(|(at, _)| {
                let (before, after) = (&code[..at], &code[at + name.len()..]);
                let in_use = before.ends_with("use ") || before.ends_with("crate::");
                let whole = !before.ends_with(|c: char| is_name(c) || c == ':' || c == '.')
                    && after.starts_with("::");
                (in_use && !after.starts_with(is_name)) || whole
            });
            if named {
                found.push(format!("{} names {name}", source.path));
            }
        }
    }
    Ok(found)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn leading_name(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|&c| is_name(c))
        .collect()
}

/// The text without its top-level `mod name { … }` blocks, inside which `super::` means the file itself.
fn without_inline_modules(code: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in code.lines() {
        let opens = line.split_once("mod ").is_some_and(|(visibility, rest)| {
            (visibility.is_empty() || visibility.starts_with("pub")) && rest.ends_with('{')
        });
        inside |= opens;
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= line != "}"; // rustfmt puts the end of a top-level block, and no other, in the first column
    }
    kept
}

/// The text with comments, strings and characters left out.
fn code_only(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = literal_or_comment(rest);
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.push(' ');
            rest = rest.get(skipped..).unwrap_or_default();
        }
    }
    code
}

/// The length of the comment, string or character that `text` begins with; 0 when it begins with code.
fn literal_or_comment(text: &str) -> usize {
    let until = |from: usize, end: &str| {
        text.get(from..)
            .and_then(|t| t.find(end))
            .map_or(text.len(), |at| from + at + end.len())
    };
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return until(2, "*/");
    }
    if text.starts_with("r\"") {
        return until(2, "\"");
    }
    if text.starts_with("r#\"") {
        return until(3, "\"#");
    }
    match text.as_bytes() {
        [b'"', ..] => closing_quote(text, '"'),
        [b'\'', b'\\', ..] => closing_quote(text, '\''),
        // One character between quotes; anything else after a quote is a lifetime.
        [b'\'', ..] => {
            let mut after = text.char_indices().skip(2);
            after
                .next()
                .filter(|&(_, c)| c == '\'')
                .map_or(0, |(at, _)| at + 1)
        }
        _ => 0,
    }
}

/// The length of a quoted literal with backslash escapes.
fn closing_quote(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}
