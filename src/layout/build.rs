//! Has the linker lay the functions that a worker runs side by side, where the linker can.
//!
//! An idle worker runs a fifth of its code, which otherwise lies all over the program: the kernel reads sixteen pages
//! around each that is touched, so nearly all of it would be resident. `functions.ld`, which `scripts/layout` writes,
//! names what is run. It is a linker script of the form that adds to the linker's own (GNU ld manual, "INSERT"), which
//! ld and lld read and others do not. So the compiler is asked for a program of one line with it; where that cannot
//! be linked, the worker is linked as it would be without this file, and says so.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const FUNCTIONS: &str = "src/layout/functions.ld";
/// What separates the flags in `CARGO_ENCODED_RUSTFLAGS` (cargo's manual, "Environment Variables").
const SEPARATOR: char = '\u{1f}';

fn main() {
    println!("cargo:rerun-if-changed=src/layout");
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    // Programs for tests are not optimised: other functions, and where they lie is of no matter.
    let optimised = env::var_os("OPT_LEVEL").is_some_and(|level| level == "3");
    let linux = env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|system| system == "linux");
    if !(optimised && linux) {
        return;
    }
    match links() {
        Ok((script, true)) => {
            for argument in ["-T", &script.display().to_string()] {
                println!("cargo:rustc-link-arg-bin=irn-worker={argument}");
            }
        }
        Ok((_, false)) => not_laid_out("the linker does not read it"),
        Err(error) => not_laid_out(&error.to_string()),
    }
}

/// The linker script, and whether the linker that the worker will be linked by reads it.
fn links() -> io::Result<(PathBuf, bool)> {
    let missing = |name: &str| io::Error::other(format!("{name} is not set"));
    let needed = |name| env::var_os(name).ok_or_else(|| missing(name));
    let out = PathBuf::from(needed("OUT_DIR")?);
    let script = Path::new(&needed("CARGO_MANIFEST_DIR")?).join(FUNCTIONS);
    let source = out.join("one_line.rs");
    fs::write(&source, "fn main() {}\n")?;
    let mut compiler = Command::new(needed("RUSTC")?);
    compiler
        .args(["--crate-name", "one_line", "--crate-type", "bin"])
        .arg("--target")
        .arg(needed("TARGET")?)
        .args(["-C", "link-arg=-T", "-C"])
        .arg(joined("link-arg=", script.as_os_str()))
        .arg("-o")
        .arg(out.join("one_line"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        compiler.arg("-C").arg(joined("linker=", &linker));
    }
    if let Ok(flags) = env::var("CARGO_ENCODED_RUSTFLAGS") {
        compiler.args(flags.split(SEPARATOR).filter(|flag| !flag.is_empty()));
    }
    let output = compiler.arg(source).output()?;
    Ok((script, output.status.success()))
}

fn joined(option: &str, value: &OsStr) -> OsString {
    let mut joined = OsString::from(option);
    joined.push(value);
    joined
}

fn not_laid_out(reason: &str) {
    println!(
        "cargo:warning=irn-worker is linked without {FUNCTIONS} ({reason}): it works the same, and takes some MiB more \
         memory when idle"
    );
}
