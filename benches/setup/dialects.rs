//! The events of [`Workload`] in the words of each dialect but Amberflo's, and from the body of a request to a block of records.

use std::io::Write as _;
use std::sync::Arc;

use serde_json::json;
use tollgate::clock::UnixMillis;
use tollgate::dialect::cloudevents::events::read_cloud_event;
use tollgate::dialect::cloudevents::plan::{Plan, Plans};
use tollgate::dialect::draft::Scratch;
use tollgate::dialect::octane::measurements::{Given, read_measurement};
use tollgate::dialect::stigg::events as stigg;
use tollgate::event::parse::{Members, Parser};
use tollgate::event::{HashKey, IdentityMode, MeterEvent, Rejection};
use tollgate::log::{Block, record};
use tollgate::meters::{Extensions, Meter, Said};
use tollgate::usage::MeterType;

use super::workload::{ACCOUNT, Content, METER, RECEIVED, WINDOW, Workload};

/// Events of a request.
pub(crate) const EVENTS: u64 = 1_000;
pub(crate) const KEY: HashKey = HashKey::from_bytes([7; 16]);

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

/// Octane's measurements.
pub(crate) fn measurements() -> Vec<Vec<u8>> {
    bodies("[", "]", |to, number, Content { customer, tier, whole, tenths, .. }, time| {
        write!(to, r#"{{"id":"01234567-89ab-4cde-8f01-{number:012x}","meter_name":"{METER}","customer_name":"customer-{customer:05}","value":{whole}.{tenths},"time":"{time}","labels":{{"region":"eu-1","tier":"{tier}"}}}}"#).expect("memory");
    })
}

/// Stigg's events, in their envelope.
pub(crate) fn stigg_events() -> Vec<Vec<u8>> {
    bodies(r#"{"events":["#, "]}", |to, number, Content { customer, tier, whole, tenths, .. }, time| {
        write!(to, r#"{{"idempotencyKey":"01234567-89ab-4cde-8f01-{number:012x}","eventName":"{METER}","customerId":"customer-{customer:05}","timestamp":"{time}","dimensions":{{"value":{whole}.{tenths},"region":"eu-1","tier":"{tier}"}}}}"#).expect("memory");
    })
}

/// CloudEvents.
pub(crate) fn cloud_events() -> Vec<Vec<u8>> {
    bodies("[", "]", |to, number, Content { customer, tier, whole, tenths, .. }, time| {
        write!(to, r#"{{"specversion":"1.0","id":"01234567-89ab-4cde-8f01-{number:012x}","source":"svc-a","type":"{METER}","subject":"customer-{customer:05}","time":"{time}","data":{{"value":{whole}.{tenths},"region":"eu-1","tier":"{tier}"}}}}"#).expect("memory");
    })
}

/// Records of a body's events, which `read` reads; `each` gets them, too, with what they are in the body.
pub(crate) fn records<R>(parser: &mut Parser, body: &[u8], mut each: impl FnMut(&[u8], &MeterEvent<'_, '_>), read: R) -> Block
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

/// Records of a body of [`measurements`].
pub(crate) fn octane_records(parser: &mut Parser, body: &[u8]) -> Block {
    records(
        parser,
        body,
        |_, _| (),
        |members, scratch| read_measurement(members, (&KEY, None), &mut Given::default(), scratch, RECEIVED, WINDOW),
    )
}

/// Records of a body of [`stigg_events`].
pub(crate) fn stigg_records(parser: &mut Parser, body: &[u8]) -> Block {
    let body = stigg::in_envelope(body).expect("an envelope");
    records(parser, body, |_, _| (), |members, scratch| stigg::read_event(members, scratch, RECEIVED, WINDOW))
}

/// Records of a body of [`cloud_events`].
pub(crate) fn cloud_records(parser: &mut Parser, body: &[u8], plans: Option<&'static Plans>) -> Block {
    records(parser, body, |_, _| (), |members, scratch| read_cloud_event(members, plans, scratch, RECEIVED, WINDOW))
}

/// What a meter of OpenMeter reads of [`cloud_events`].
pub(crate) fn plans() -> &'static Plans {
    let definition =
        json!({"eventType": METER, "aggregation": "SUM", "valueProperty": "$.value", "groupBy": {"region": "$.region", "level": "$.tier"}});
    let said = Said { display_name: String::new(), label: String::new(), meter_type: MeterType::SumOfAllUsage, dimensions: Vec::new() };
    let openmeter = definition.as_object().cloned().expect("an object");
    let meter = Meter { name: "tokens".into(), said, ext: Extensions { openmeter, ..Extensions::default() }, created_at: UnixMillis(1) };
    Box::leak(Box::new(Plans::from([(METER.into(), Arc::new(Plan::of(METER, [&meter]).expect("a plan")))])))
}
