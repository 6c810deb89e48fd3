//! Has the linker lay the functions that a worker runs side by side, where the linker can.
//!
//! An idle worker runs a fifth of its code, which otherwise lies all over the program: the kernel maps sixteen pages
//! around each that is touched, so nearly all of it would be resident. `functions.ld`, which `scripts/layout` writes,
//! names what is run. It is a linker script of the form that adds to the linker's own (GNU ld manual, "INSERT"), which
//! ld and lld read and others do not. So the compiler is asked for a program of one line with it; where that comes to
//! nothing, the worker is linked as it would be without this file, and a warning says so.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const FUNCTIONS: &str = "src/layout/functions.ld";
/// The section that it makes.
const SECTION: &[u8] = b".text.used";
/// What separates the flags in `CARGO_ENCODED_RUSTFLAGS` (cargo's manual, "Environment Variables").
const SEPARATOR: char = '\u{1f}';

fn main() {
    println!("cargo:rerun-if-changed=src/layout");
    // Flags for the compiler are watched by cargo itself, linkers named in its configuration by nobody.
    if let Ok(target) = env::var("TARGET") {
        let target = target.to_uppercase().replace(['-', '.'], "_");
        println!("cargo:rerun-if-env-changed=CARGO_TARGET_{target}_LINKER");
    }
    // Programs for tests are not optimised: other functions, and where they lie is of no matter.
    let optimised = env::var_os("OPT_LEVEL").is_some_and(|level| level == "3");
    let linux = env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|system| system == "linux");
    if !(optimised && linux) {
        return;
    }
    match laid_out() {
        Ok(script) => {
            for argument in ["-T", &script] {
                println!("cargo:rustc-link-arg-bin=irn-worker={argument}");
            }
        }
        Err(error) => println!(
            "cargo:warning=irn-worker is linked without {FUNCTIONS}: it works the same, and takes some MiB more memory \
             when idle ({error})"
        ),
    }
}

/// The linker script, once a program has been linked with it as the worker will be.
fn laid_out() -> io::Result<String> {
    let needed = |name: &str| {
        env::var_os(name).ok_or_else(|| io::Error::other(format!("{name} is not set")))
    };
    let out = PathBuf::from(needed("OUT_DIR")?);
    let script = Path::new(&needed("CARGO_MANIFEST_DIR")?).join(FUNCTIONS);
    let (source, program) = (out.join("one_line.rs"), out.join("one_line"));
    fs::write(&source, "fn main() {}\n")?;
    let mut compiler = Command::new(needed("RUSTC")?);
    compiler
        .args(["--crate-name", "one_line", "--crate-type", "bin"])
        .arg("--target")
        .arg(needed("TARGET")?)
        .args(["-C", "link-arg=-T", "-C"])
        .arg(option("link-arg=", script.as_os_str()))
        .arg("-o")
        .arg(&program);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        compiler.arg("-C").arg(option("linker=", &linker));
    }
    if let Ok(flags) = env::var("CARGO_ENCODED_RUSTFLAGS") {
        compiler.args(flags.split(SEPARATOR).filter(|flag| !flag.is_empty()));
    }
    let output = compiler.arg(&source).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = said
            .lines()
            .find(|line| line.contains("ld: "))
            .or_else(|| said.lines().find(|line| line.contains("error")))
            .unwrap_or("the compiler does not say why");
        return Err(io::Error::other(reason.trim().to_owned()));
    }
    if !fs::read(&program)?
        .windows(SECTION.len())
        .any(|bytes| bytes == SECTION)
    {
        return Err(io::Error::other("the linker pays no heed to it"));
    }
    script
        .into_os_string()
        .into_string()
        .map_err(|_| io::Error::other("the path of this folder is not UTF-8"))
}

fn option(name: &str, value: &OsStr) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}
