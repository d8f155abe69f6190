//! From the body of a request to a block of records, and for Octane on to its answer, of the same events in the words of each dialect. None may
//! cost more than twice what Amberflo's cost (`amberflo`).

#[path = "setup/dialects.rs"]
mod setup;
#[expect(dead_code, reason = "other benchmarks use more of it")]
mod workload;

use std::cell::Cell;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use setup::{EVENTS, KEY, cloud_events, cloud_records, measurements, octane_records, plans, records, stigg_events, stigg_records};
use tollgate::dialect::amberflo::ingest::read_event;
use tollgate::dialect::octane::measurements::{Given, read_measurement, write_echo};
use tollgate::event::MeterEvent;
use tollgate::event::parse::Parser;
use workload::{RECEIVED, WINDOW, Workload};

fn dialects(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dialects");
    group.throughput(Throughput::Elements(EVENTS));
    let mut parser = Parser::default();
    let mut bench = |name: &str, bodies: Vec<Vec<u8>>, take: &mut dyn FnMut(&mut Parser, &[u8])| {
        let mut turns = bodies.iter().map(Vec::as_slice).cycle();
        group.bench_function(BenchmarkId::new(name, EVENTS), |bencher| {
            bencher.iter(|| take(&mut parser, turns.next().expect("there is no end")));
        });
    };
    let mut workload = Workload::new(1_000);
    bench("amberflo", (0..4).map(|_| workload.body(EVENTS)).collect(), &mut |parser, body| {
        drop(black_box(records(parser, body, |_, _| (), |members, scratch| read_event(members, scratch, RECEIVED, WINDOW))));
    });
    bench("octane", measurements(), &mut |parser, body| drop(black_box(octane_records(parser, body))));
    bench("octane with its answer", measurements(), &mut |parser, body| {
        let mut answer = Vec::with_capacity(body.len());
        let last = Cell::new(Given::default());
        let each = |raw: &[u8], event: &MeterEvent<'_, '_>| write_echo(raw, last.get(), event.unique_id(), event.time(), &mut answer);
        drop(black_box(records(parser, body, each, |members, scratch| {
            let mut given = Given::default();
            let event = read_measurement(members, (&KEY, None), &mut given, scratch, RECEIVED, WINDOW);
            last.set(given);
            event
        })));
        black_box(answer);
    });
    bench("stigg", stigg_events(), &mut |parser, body| drop(black_box(stigg_records(parser, body))));
    for (name, plans) in [("cloudevents", None), ("cloudevents with a meter", Some(plans()))] {
        bench(name, cloud_events(), &mut |parser, body| drop(black_box(cloud_records(parser, body, plans))));
    }
}

criterion_group!(benches, dialects);
criterion_main!(benches);
