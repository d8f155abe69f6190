//! From the body of a request to a block of records: `tape` takes the body apart and no more, `record` goes on to the
//! encoded records with both their hashes, `record_slowly` the same over `serde_json`.

#[expect(dead_code, reason = "other benchmarks use more of it")]
mod workload;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tollgate::event::parse::{Parser, Way};
use workload::{Workload, encode};

/// Bodies of about so many events altogether take turns, so that no branch predictor learns them by heart.
const EVENTS: u64 = 4_000;

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for events in [1, 100, 1_000] {
        let mut workload = Workload::new(1_000);
        let bodies: Vec<Vec<u8>> = (0..EVENTS / events).map(|_| workload.body(events)).collect();
        group.throughput(Throughput::ElementsAndBytes { elements: events, bytes: bodies[0].len() as u64 });
        let mut parser = Parser::default();
        let mut turns = bodies.iter().map(Vec::as_slice).cycle();
        let mut next = || turns.next().expect("there is no end");
        for (name, way) in [("scan", Way::Scan), ("tape", Way::Tape)] {
            group.bench_function(BenchmarkId::new(name, events), |bencher| {
                bencher.iter(|| parser.parse_from(way, next(), events as usize).expect("the body is JSON").elements().count());
            });
        }
        group.bench_function(BenchmarkId::new("record", events), |bencher| {
            bencher.iter(|| {
                let body = next();
                encode(body, parser.parse(body, events as usize))
            });
        });
        group.bench_function(BenchmarkId::new("record_slowly", events), |bencher| {
            bencher.iter(|| {
                let body = next();
                encode(body, parser.parse_from(Way::Slow, body, events as usize))
            });
        });
    }
}

criterion_group!(benches, parse);
criterion_main!(benches);
