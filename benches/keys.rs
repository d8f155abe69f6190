//! What a key costs a request: the look-up, and for a key with limits the allowance and what an answer says of it.
//!
//! `cargo bench --bench keys`

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use hyper::header::HeaderMap;
use tollgate::accounts::{Accounts, DEFAULT_ACCOUNT, DefaultAccount, NewKey, RATE_MAX, Rate, RateLimit, Scope};
use tollgate::clock::Clock;
use tollgate::store::embedded::EmbeddedStore;

fn keys(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("store.redb")).expect("a store"));
    let wanted = DefaultAccount { admin_key: Some("operator"), identity: None };
    let (accounts, _) = Accounts::open(store, &wanted, Clock::start()).expect("opens");
    let ring = accounts.ring();
    let operator = ring.caller(b"operator").expect("is known");
    let make = |limit| {
        let new = NewKey { scopes: vec![Scope::Ingest], limit, ..NewKey::default() };
        accounts.create_key(&operator, DEFAULT_ACCOUNT, new).expect("is made").text
    };
    let rate = Some(Rate { per_second: RATE_MAX, burst: RATE_MAX });
    let (plain, limited) = (make(RateLimit::default()), make(RateLimit { requests: rate, events: rate }));
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
