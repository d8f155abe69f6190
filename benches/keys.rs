//! What a key costs a request: the look-up, and for a key with limits the allowance and what an answer says of it.
//!
//! `cargo bench --bench keys`

#[path = "setup/keys.rs"]
mod setup;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hyper::header::HeaderMap;
use setup::Keys;

fn keys(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let Keys { ring, plain, limited } = setup::keys(dir.path());
    criterion.bench_function("look-up", |bench| bench.iter(|| ring.caller(black_box(plain.as_bytes())).expect("is known")));
    for (name, key) in [("allowance/none", &plain), ("allowance/both", &limited)] {
        let caller = ring.caller(key.as_bytes()).expect("is known");
        criterion.bench_function(name, |bench| {
            bench.iter(|| (caller.take_request().is_ok(), caller.check().is_ok(), caller.take_events(black_box(1)).is_ok()))
        });
    }
    let caller = ring.caller(limited.as_bytes()).expect("is known");
    let mut headers = HeaderMap::new();
    criterion.bench_function("headers/both", |bench| bench.iter(|| caller.describe_limits(black_box(&mut headers))));
}

criterion_group!(benches, keys);
criterion_main!(benches);
