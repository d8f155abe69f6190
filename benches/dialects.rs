//! From the body of a request to a block of records, and for Octane on to its answer, of the same events in the words of each dialect. None may
//! cost more than twice what Amberflo's cost (`amberflo`).

#[expect(dead_code, reason = "other benchmarks use more of it")]
mod workload;

use std::cell::Cell;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use tollgate::clock::UnixMillis;
use tollgate::dialect::amberflo::ingest::read_event;
use tollgate::dialect::cloudevents::events::read_cloud_event;
use tollgate::dialect::cloudevents::plan::{Plan, Plans};
use tollgate::dialect::draft::Scratch;
use tollgate::dialect::octane::measurements::{Given, read_measurement, write_echo};
use tollgate::dialect::stigg::events as stigg;
use tollgate::event::parse::{Members, Parser};
use tollgate::event::{HashKey, IdentityMode, MeterEvent, Rejection};
use tollgate::log::{Block, record};
use tollgate::meters::{Extensions, Meter, Said};
use tollgate::usage::MeterType;
use workload::{ACCOUNT, Content, METER, RECEIVED, WINDOW, Workload};

/// Events of a request.
const EVENTS: u64 = 1_000;
const KEY: HashKey = HashKey::from_bytes([7; 16]);

/// Bodies of requests, between `before` and `after`, with each event as `write` writes it.
fn bodies(before: &str, after: &str, write: impl Fn(&mut Vec<u8>, u64, &Content, &str)) -> Vec<Vec<u8>> {
    let workload = Workload::new(1_000);
    let body = |from: u64| {
        let mut body = before.as_bytes().to_vec();
        for number in from..from + EVENTS {
            if number > from {
                body.push(b',');
            }
            let content = workload.content(number);
            let time = jiff::Timestamp::from_millisecond(content.time as i64).expect("a time").to_string();
            write(&mut body, number, &content, &time);
        }
        body.extend_from_slice(after.as_bytes());
        body
    };
    (0..4).map(|turn| body(turn * EVENTS)).collect()
}

/// Records of a body's events.
fn records<R>(parser: &mut Parser, body: &[u8], mut each: impl FnMut(&[u8], &MeterEvent<'_, '_>), read: R) -> Block
where
    R: for<'t, 's> Fn(Members<'t>, &'s mut Scratch<'t>) -> Result<MeterEvent<'t, 's>, Rejection>,
{
    let parsed = parser.parse(body, EVENTS as usize).expect("the body is JSON");
    let account = record::Account { number: ACCOUNT, identity: IdentityMode::UniqueId };
    let mut block = Block::new(RECEIVED, body.len());
    let mut scratch = Scratch::default();
    for element in parsed.elements() {
        let event = element.members.and_then(|members| read(members, &mut scratch)).expect("a good event");
        block.push(|to| _ = record::write(to, &KEY, account, &event, record::Decisions::default()));
        each(element.raw, &event);
    }
    block
}

fn plans() -> &'static Plans {
    let definition =
        json!({"eventType": METER, "aggregation": "SUM", "valueProperty": "$.value", "groupBy": {"region": "$.region", "level": "$.tier"}});
    let said = Said { display_name: String::new(), label: String::new(), meter_type: MeterType::SumOfAllUsage, dimensions: Vec::new() };
    let openmeter = definition.as_object().cloned().expect("an object");
    let meter = Meter { name: "tokens".into(), said, ext: Extensions { openmeter, ..Extensions::default() }, created_at: UnixMillis(1) };
    Box::leak(Box::new(Plans::from([(METER.into(), Arc::new(Plan::of(METER, [&meter]).expect("a plan")))])))
}

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
    let measurements = bodies("[", "]", |to, number, Content { customer, tier, whole, tenths, .. }, time| {
        write!(to, r#"{{"id":"01234567-89ab-4cde-8f01-{number:012x}","meter_name":"{METER}","customer_name":"customer-{customer:05}","value":{whole}.{tenths},"time":"{time}","labels":{{"region":"eu-1","tier":"{tier}"}}}}"#).expect("memory");
    });
    bench("octane", measurements.clone(), &mut |parser, body| {
        drop(black_box(records(
            parser,
            body,
            |_, _| (),
            |members, scratch| read_measurement(members, (&KEY, None), &mut Given::default(), scratch, RECEIVED, WINDOW),
        )));
    });
    bench("octane with its answer", measurements, &mut |parser, body| {
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
    let events = bodies(r#"{"events":["#, "]}", |to, number, Content { customer, tier, whole, tenths, .. }, time| {
        write!(to, r#"{{"idempotencyKey":"01234567-89ab-4cde-8f01-{number:012x}","eventName":"{METER}","customerId":"customer-{customer:05}","timestamp":"{time}","dimensions":{{"value":{whole}.{tenths},"region":"eu-1","tier":"{tier}"}}}}"#).expect("memory");
    });
    bench("stigg", events, &mut |parser, body| {
        let body = stigg::in_envelope(body).expect("an envelope");
        drop(black_box(records(parser, body, |_, _| (), |members, scratch| stigg::read_event(members, scratch, RECEIVED, WINDOW))));
    });
    let events = bodies("[", "]", |to, number, Content { customer, tier, whole, tenths, .. }, time| {
        write!(to, r#"{{"specversion":"1.0","id":"01234567-89ab-4cde-8f01-{number:012x}","source":"svc-a","type":"{METER}","subject":"customer-{customer:05}","time":"{time}","data":{{"value":{whole}.{tenths},"region":"eu-1","tier":"{tier}"}}}}"#).expect("memory");
    });
    for (name, plans) in [("cloudevents", None), ("cloudevents with a meter", Some(plans()))] {
        bench(name, events.clone(), &mut |parser, body| {
            drop(black_box(records(
                parser,
                body,
                |_, _| (),
                |members, scratch| read_cloud_event(members, plans, scratch, RECEIVED, WINDOW),
            )));
        });
    }
}

criterion_group!(benches, dialects);
criterion_main!(benches);
