//! Parsers under attack: one function a target, which makes of any bytes what the running process would make of them, and panics where
//! a property does not hold. Built for tests and with the feature `fuzz` only; nothing that serves has it.
//!
//! What must hold everywhere: no panic, no hang, memory bounded by a multiple of the input; what is accepted can be written and read
//! back to the same; what is damaged is a named error and never a wrong answer.
//!
//! Three runners share the targets: the bounded run in `cargo test` (`tests`), the long form (`tests/soak fuzz`, which runs
//! `tests/fuzz/src/main.rs`), and cargo-fuzz (`tests/fuzz/fuzz_targets`). The corpus is in `tests/fixtures/fuzz/<target>`;
//! every input that ever failed is kept there as `found-…`.
//!
//! Most formats have checksums, which a random change never gets past. So the targets of files take a flag with which they put the
//! checksums right first (`mend`), by the layouts in the modules' documentation and not by the modules' code.
//!
//! Inputs of several parts are cut at [`SEPARATOR`].

mod bodies;
mod campaign;
mod dialect;
mod index;
mod log;
mod mend;
mod mutate;
mod store;

use std::hash::{DefaultHasher, Hash, Hasher};

pub use campaign::{Campaign, Finding, corpus};

/// Between the parts of an input.
pub const SEPARATOR: &[u8] = b"\n--8<--\n";

/// What kind of case an input was: whatever is of a new kind is worth changing further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(u64);

impl Kind {
    /// From what came out, in words. Numbers, what is quoted, and the rest of long texts do not make a new kind.
    fn of(said: impl std::fmt::Display) -> Self {
        let mut hasher = DefaultHasher::new();
        let (mut was_digit, mut is_quoted) = (false, false);
        for byte in said.to_string().bytes().take(160) {
            is_quoted ^= byte == b'`';
            if !byte.is_ascii_digit() && !is_quoted {
                byte.hash(&mut hasher);
            } else if !was_digit {
                b'0'.hash(&mut hasher);
            }
            was_digit = byte.is_ascii_digit() || is_quoted;
        }
        Self(hasher.finish())
    }
}

/// Something that takes bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Tries one input; panics if a property does not hold.
    pub run: fn(&[u8]) -> Kind,
    /// Longest input that is made, in bytes.
    pub bytes_max: usize,
    /// Cases of the bounded run.
    pub cases: u64,
    /// Bytes of memory that a case may take for each byte of input, beside `memory_base`. The C libraries' own are not counted.
    pub memory_factor: usize,
    /// Bytes of memory that a case may take however short it is: buffers of a fixed size.
    pub memory_base: usize,
}

const fn target(name: &'static str, run: fn(&[u8]) -> Kind, cases: u64) -> Target {
    Target { name, run, bytes_max: 16 << 10, cases, memory_factor: 64, memory_base: 1 << 20 }
}

/// All of them.
pub const TARGETS: [Target; 16] = [
    target("bodies", bodies::bodies, 2_000),
    target("forms", bodies::forms, 2_000),
    target("numbers", bodies::numbers, 20_000),
    // A body may inflate a hundredfold, into room that doubles.
    Target { memory_factor: 512, ..target("codings", bodies::codings, 400) },
    target("customers", dialect::customers, 3_000),
    // Every bucket of a range is in its answer.
    Target { memory_base: 64 << 20, ..target("usage", dialect::usage, 1_000) },
    target("paths", dialect::paths, 3_000),
    target("records", log::records, 10_000),
    // A log is opened, whose appender stages its writes.
    Target { memory_base: 8 << 20, ..target("letters", log::letters, 1_000) },
    Target { memory_base: 24 << 20, ..target("segments", log::segments, 600) },
    target("log-meta", log::meta, 2_000),
    // Two tables, whatever is in them.
    Target { memory_base: 192 << 20, ..target("index", index::index, 300) },
    target("rows", store::rows, 10_000),
    target("documents", store::documents, 3_000),
    Target { memory_base: 4 << 20, ..target("bases", store::bases, 400) },
    Target { memory_base: 4 << 20, ..target("backups", store::backups, 400) },
];

/// The parts of an input.
fn parts(input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut from = 0;
    for at in memchr::memmem::find_iter(input, SEPARATOR) {
        parts.push(&input[from..at]);
        from = at + SEPARATOR.len();
    }
    parts.push(&input[from..]);
    parts
}

/// A number as it makes a kind of its own.
fn unary(number: usize) -> String {
    "|".repeat(number.min(64))
}

/// The first byte, for choices, and the rest.
fn flags(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(flags, rest)| (*flags, rest))
}

#[cfg(test)]
mod seeds;
#[cfg(test)]
mod tests;
