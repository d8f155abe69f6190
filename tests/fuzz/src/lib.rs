//! The targets of `tollgate::fuzz` as cargo-fuzz wants them: a binary each, in `fuzz_targets`.
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz --features libfuzzer segments /tmp/corpus tests/fixtures/fuzz/segments -- -max_total_time=600
//! ```
//!
//! The long form on a stable compiler is in `main.rs`; `tests/soak fuzz` runs it.

#[cfg(feature = "libfuzzer")]
pub use libfuzzer_sys;

/// Finds a target by its name.
pub fn target(name: &str) -> tollgate::fuzz::Target {
    let found = tollgate::fuzz::TARGETS.into_iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("there is no target {name}"))
}

/// A target for libFuzzer.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        use $crate::libfuzzer_sys;

        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            ($crate::target($name).run)(input);
        });
    };
}
