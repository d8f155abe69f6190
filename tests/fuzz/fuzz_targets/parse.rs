//! Any body: the fast way to parse (simd-json) must make of it what the slow one (`serde_json`) makes.
//!
//! Run: `cargo +nightly fuzz run --fuzz-dir tests/fuzz parse /tmp/corpus tests/fuzz/corpus/parse -- -max_total_time=600`. A bounded run without nightly is
//! `a_mutated_body_reads_the_same_on_both_ways` in the crate's own tests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::clock::UnixMillis;
use tollgate::dialect::amberflo::ingest::{Scratch, read_event};
use tollgate::event::parse::{Parsed, Parser};
use tollgate::event::{Rejection, TimeWindow};

fn outcomes(parsed: &Parsed<'_>) -> Vec<(Vec<u8>, Result<String, Rejection>)> {
    let mut scratch = Scratch::default();
    let mut all = Vec::new();
    for element in parsed.elements() {
        let read = element.members.and_then(|members| {
            let event = read_event(members, &mut scratch, UnixMillis(1_767_225_600_000), TimeWindow::default())?;
            let id = if event.unique_id_generated() { "(made)" } else { event.unique_id() };
            let rest = (event.customer_id(), event.time(), event.measurements(), event.dimensions());
            Ok(format!("{id} {rest:?}"))
        });
        all.push((element.raw.to_vec(), read));
    }
    all
}

fuzz_target!(|body: &[u8]| {
    let (mut fast, mut slow) = (Parser::default(), Parser::default());
    let fast = fast.parse(body, 1_000).map(|parsed| outcomes(&parsed));
    let slow = slow.parse_slowly(body, 1_000).map(|parsed| outcomes(&parsed));
    match (fast, slow) {
        // The wording of a syntax error is the parser's own.
        (Err(_), Err(_)) => {}
        (fast, slow) => assert_eq!(fast, slow),
    }
});
