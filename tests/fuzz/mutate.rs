//! A small fuzzer for the stable toolchain: seeds, changed by bytes and by structure, thrown at a target in parallel.
//!
//! A run is repeatable: `FUZZ_SEED` (1) starts the generators, `FUZZ_COUNT` is how many inputs there are, and an input
//! that makes a target panic is kept in `tests/fuzz/regressions`, where every later run tries it first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Inputs of a target when nothing else is asked for: a second or two.
const DEFAULT_COUNT: u64 = 20_000;

/// What breaks parsers: put in place of something, or somewhere in between.
const TOKENS: [&[u8]; 36] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\0",
    b"\xff\xfe",
    b"\xe2\x80\xae",
    b"null",
    b"true",
    b"-0",
    b"-1",
    b"1e400",
    b"0.1e-999999999",
    b"9223372036854775808",
    b"340282366920938463463374607431768211456",
    b"\"\"",
    b"{}",
    b"[[[[[[[[",
    b"=",
    b"==",
    b".",
    b"..",
    b"\n",
    b"\r\n",
    b"'''",
    b"\"\"\"",
    b"#",
    b"31/02/2025",
    b"99/99/9999",
    b"29AAGCE4783K1Z1",
];

/// How many inputs a target is to get: its share of what is asked for, in thousandths.
pub(crate) fn count(thousandths: u64) -> u64 {
    let asked = std::env::var("FUZZ_COUNT").ok();
    match asked.and_then(|count| count.parse::<u64>().ok()) {
        Some(all) => all * thousandths / 1000,
        None => (DEFAULT_COUNT * thousandths / 200).max(100),
    }
}

/// Throws `count` inputs made from `seeds` at a target, each thread with a state of its own.
///
/// # Panics
/// When the target does; the input is kept.
pub(crate) fn fuzz<S>(
    target: &str,
    seeds: &[Vec<u8>],
    count: u64,
    state: impl Fn(usize) -> S + Sync,
    run: impl Fn(&mut S, &[u8]) + Sync,
) {
    assert!(!seeds.is_empty(), "{target} has no seeds");
    let started = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let first: u64 = std::env::var("FUZZ_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    let mut own = state(threads);
    let known = regressions(target);
    for input in known.iter().chain(seeds) {
        run(&mut own, input);
    }
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (state, run, done) = (&state, &run, &done);
            scope.spawn(move || {
                let mut own = state(thread);
                let mut random = StdRng::seed_from_u64(first * 1_000_003 + thread as u64);
                while done.fetch_add(1, Ordering::Relaxed) < count {
                    let input = changed(&mut random, seeds);
                    let ran = catch_unwind(AssertUnwindSafe(|| run(&mut own, &input)));
                    if ran.is_err() {
                        panic!(
                            "{target} panicked; the input is in {}",
                            keep(target, &input)
                        );
                    }
                }
            });
        }
    });
    println!(
        "fuzz {target}: {count} inputs, {} kept ones, 0 panics, {:.1} s",
        known.len(),
        started.elapsed().as_secs_f64()
    );
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/regressions")
}

fn regressions(target: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder()).expect("the folder is part of the repository");
    let of_target = format!("{target}-");
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&of_target))
        .map(|entry| std::fs::read(entry.path()).expect("a kept input can be read"))
        .collect()
}

fn keep(target: &str, input: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, input);
    let name: String = digest.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let path = folder().join(format!("{target}-{name}"));
    std::fs::write(&path, input).expect("the folder can be written to");
    path.display().to_string()
}

/// A seed, changed in one to eight places.
fn changed(random: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..=8) {
        change(random, seeds, &mut input);
    }
    input
}

fn change(random: &mut StdRng, seeds: &[Vec<u8>], input: &mut Vec<u8>) {
    let at = random.random_range(0..=input.len());
    let end = (at + random.random_range(0..=16)).min(input.len());
    match random.random_range(0..8) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = random.random(),
        2 => drop(input.drain(at..end)),
        3 => input.truncate(at),
        4 => {
            let piece = input[at..end].to_vec();
            drop(input.splice(at..at, piece));
        }
        5 => {
            let token = TOKENS[random.random_range(0..TOKENS.len())];
            drop(input.splice(at..end, token.iter().copied()));
        }
        6 => {
            let token = TOKENS[random.random_range(0..TOKENS.len())];
            let (start, end) = value_around(input, at);
            drop(input.splice(start..end, token.iter().copied()));
        }
        _ => {
            let other = &seeds[random.random_range(0..seeds.len())];
            let from = random.random_range(0..=other.len());
            let to = (from + random.random_range(0..=64)).min(other.len());
            drop(input.splice(at..end, other[from..to].iter().copied()));
        }
    }
}

/// A stretch between two of the signs that separate values.
fn value_around(input: &[u8], at: usize) -> (usize, usize) {
    let is_sign = |byte: &u8| b",:{}[]=\n".contains(byte);
    let start = input[..at]
        .iter()
        .rposition(is_sign)
        .map_or(0, |sign| sign + 1);
    let end = input[at..]
        .iter()
        .position(is_sign)
        .map_or(input.len(), |sign| at + sign);
    (start, end)
}
