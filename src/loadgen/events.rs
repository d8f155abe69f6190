//! What is sent: which event stands at which place of the run, and the buffers that hold its JSON.
//!
//! An event is a function of its number in the run (and of the run's id and start), of nothing else. So a
//! repetition has the same content as the original without anybody remembering it, and two runs with the
//! same settings send the same events under other ids.
//!
//! Every field has a fixed width. A [`Template`] is laid out once; from then on only digits change.

use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::ops::Range;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Times of ordinary events lie up to this far in the past, as those of producers that batch do.
const JITTER_MS: u64 = 60_000;
/// Times of late events lie up to this far in the past.
const LATE_MS: u64 = 7 * 24 * 3_600_000;
/// Half of the repetitions repeat one of this many events before the request (a client's retry),
/// the other half any earlier one (a replay).
const NEAR_EVENTS: u64 = 10_000;
const TIERS: [&str; 4] = ["gold", "free", "plus", "team"];
/// Bytes of a `uniqueId`; the last 12 of them count the events of a run in hexadecimal.
pub(super) const ID_BYTES: usize = 36;
const ID_COUNTER_BYTES: usize = 12;
const TIME_BYTES: usize = 13;

/// Shares are kept in millionths, so that what is an exact percentage stays one.
pub(super) const MILLION: u64 = 1_000_000;

/// Which events a run sends.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    /// The first 24 bytes of every id, random for each run.
    id_prefix: String,
    /// Start of the run, Unix ms.
    start_ms: u64,
    mix: Mix,
}

/// The part of a workload that the user chooses.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    /// Events in each full request, ≥ 1.
    pub(super) events_per_request: u64,
    /// Different customers, ≥ 1.
    pub(super) customers: u64,
    /// Different meters, ≥ 1.
    pub(super) meters: u64,
    /// Different sets of dimensions, ≥ 1.
    pub(super) dimension_sets: u64,
    /// Events that repeat an earlier one, in millionths.
    pub(super) repeated_millionths: u64,
    /// Events with a time up to 7 days ago, in millionths.
    pub(super) late_millionths: u64,
    /// Events a second on which a paced run is planned: event times advance with it.
    pub(super) rate: Option<NonZeroU64>,
}

/// One event, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    /// Number of the event whose id and content this is; smaller than its own if it repeats one.
    pub(super) origin: u64,
    customer: u64,
    meter: u64,
    dimension_set: u64,
    /// 100 to 999: values are 10.0 to 99.9, so that they have one width and exact sums.
    value_tenths: u64,
    time_ms: u64,
}

impl Workload {
    /// A workload whose ids begin with 72 of the `random` bits and whose times refer to `start_ms` (Unix ms).
    pub(super) fn new(random: u128, start_ms: u64, mix: Mix) -> Self {
        let hex = format!("{random:032x}");
        let id_prefix = format!("{}-{}-4{}-8{}-", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18]);
        Self { id_prefix, start_ms, mix }
    }

    /// The event at a place of the run, counted from 0.
    pub(super) fn event(&self, number: u64) -> Event {
        let origin = self.origin(number);
        let a = scramble(origin ^ 0x6576_656e_7400_0001);
        let b = scramble(a);
        let c = scramble(b);
        let late = below(MILLION, a) < self.mix.late_millionths;
        let age_ms = below(if late { LATE_MS } else { JITTER_MS }, c);
        Event {
            origin,
            customer: below(self.mix.customers, b),
            meter: below(self.mix.meters, b.rotate_left(21)),
            dimension_set: below(self.mix.dimension_sets, b.rotate_left(42)),
            value_tenths: 100 + below(900, a.rotate_left(32)),
            time_ms: (self.start_ms + self.planned_ms(origin)).saturating_sub(age_ms),
        }
    }

    /// Milliseconds into the run at which a paced run sends an event; 0 when nothing is planned.
    fn planned_ms(&self, number: u64) -> u64 {
        self.mix.rate.map_or(0, |rate| number.saturating_mul(1_000) / rate)
    }

    /// Follows repetitions back to the event that they repeat. Only events of earlier requests are repeated.
    fn origin(&self, mut number: u64) -> u64 {
        if self.mix.repeated_millionths == 0 {
            return number;
        }
        loop {
            let earlier = number - number % self.mix.events_per_request;
            let dice = scramble(number ^ 0x7265_7065_6174_0001);
            if earlier == 0 || below(MILLION, dice) >= self.mix.repeated_millionths {
                return number;
            }
            let pick = scramble(dice);
            let is_near = dice & 1 == 0;
            // Smaller than `number` in any case, so the loop ends.
            number = if is_near { earlier - 1 - below(earlier.min(NEAR_EVENTS), pick) } else { below(earlier, pick) };
        }
    }
}

/// The finaliser of splitmix64: spreads neighbouring numbers over all 64 bits.
pub(super) fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps random bits to 0..`end` by their upper half; the bias is irrelevant for the sizes used here.
pub(super) fn below(end: u64, bits: u64) -> u64 {
    ((u128::from(bits) * u128::from(end)) >> 64) as u64
}

/// Where the digits of an event stand, counted from its first byte.
#[derive(Debug, Clone)]
struct Layout {
    id_counter: Range<usize>,
    meter: Range<usize>,
    customer: Range<usize>,
    value: Range<usize>,
    time: Range<usize>,
    region: Range<usize>,
    tier: Range<usize>,
}

/// The bytes of some events in a row, with whatever stands in front of them.
#[derive(Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    events: usize,
    first_event_at: usize,
    /// From one event to the next, the comma included.
    stride: usize,
    layout: Layout,
}

impl Template {
    /// Lays out `events` events behind what `head` makes of the body's length in bytes.
    /// One event is sent as an object, more as an array.
    pub(super) fn new(workload: &Workload, events: usize, head: impl FnOnce(usize) -> Vec<u8>) -> Self {
        let (event, layout) = lay_out(workload);
        let is_array = events != 1;
        let body_bytes = events * event.len() + events.saturating_sub(1) + if is_array { 2 } else { 0 };
        let mut bytes = head(body_bytes);
        let body_at = bytes.len();
        bytes.reserve_exact(body_bytes);
        if is_array {
            bytes.push(b'[');
        }
        let first_event_at = bytes.len();
        for index in 0..events {
            if index > 0 {
                bytes.push(b',');
            }
            bytes.extend_from_slice(event.as_bytes());
        }
        if is_array {
            bytes.push(b']');
        }
        assert_eq!(bytes.len() - body_at, body_bytes, "the head has promised another length");
        Self { bytes, events, first_event_at, stride: event.len() + 1, layout }
    }

    /// Writes the events from number `first` on over the ones that are there. Returns how many of them are repetitions.
    pub(super) fn fill(&mut self, workload: &Workload, first: u64) -> u64 {
        let mut repeated = 0;
        let layout = &self.layout;
        let events = self.bytes[self.first_event_at..].chunks_mut(self.stride).take(self.events);
        for (number, bytes) in (first..).zip(events) {
            let event = workload.event(number);
            repeated += u64::from(event.origin != number);
            put_hex(&mut bytes[layout.id_counter.clone()], event.origin);
            put_decimal(&mut bytes[layout.meter.clone()], event.meter);
            put_decimal(&mut bytes[layout.customer.clone()], event.customer);
            let value = &mut bytes[layout.value.clone()];
            put_decimal(&mut value[..2], event.value_tenths / 10);
            put_decimal(&mut value[3..], event.value_tenths % 10);
            put_decimal(&mut bytes[layout.time.clone()], event.time_ms);
            let tiers = TIERS.len() as u64;
            put_decimal(&mut bytes[layout.region.clone()], 1 + event.dimension_set / tiers);
            bytes[layout.tier.clone()].copy_from_slice(TIERS[(event.dimension_set % tiers) as usize].as_bytes());
        }
        repeated
    }

    /// Head and body.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many events there are.
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// Appends the ids as they stand in the body, one a line.
    pub(super) fn write_ids(&self, lines: &mut Vec<u8>) {
        let id = self.layout.id_counter.end - ID_BYTES..self.layout.id_counter.end;
        for event in self.bytes[self.first_event_at..].chunks(self.stride).take(self.events) {
            lines.extend_from_slice(&event[id.clone()]);
            lines.push(b'\n');
        }
    }
}

/// The text of one event with its digits still at zero, and where they stand.
fn lay_out(workload: &Workload) -> (String, Layout) {
    fn push(text: &mut String, before: &str, field: &str) -> Range<usize> {
        text.push_str(before);
        let at = text.len();
        text.push_str(field);
        at..text.len()
    }
    let zeros = |largest: u64, digits_min: usize| "0".repeat(digits(largest).max(digits_min));
    let mix = &workload.mix;
    let mut text = String::new();
    push(&mut text, "{\"uniqueId\":\"", &workload.id_prefix);
    let id_counter = push(&mut text, "", &"0".repeat(ID_COUNTER_BYTES));
    let meter = push(&mut text, "\",\"meterApiName\":\"api-calls-", &zeros(mix.meters - 1, 1));
    let customer = push(&mut text, "\",\"customerId\":\"customer-", &zeros(mix.customers - 1, 5));
    let value = push(&mut text, "\",\"meterValue\":", "10.0");
    let time = push(&mut text, ",\"meterTimeInMillis\":", &"0".repeat(TIME_BYTES));
    let regions = 1 + (mix.dimension_sets - 1) / TIERS.len() as u64;
    let region = push(&mut text, ",\"dimensions\":{\"region\":\"eu-", &zeros(regions, 1));
    let tier = push(&mut text, "\",\"tier\":\"", TIERS[0]);
    text.push_str("\"}}");
    (text, Layout { id_counter, meter, customer, value, time, region, tier })
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn put_decimal(field: &mut [u8], mut number: u64) {
    for byte in field.iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
    debug_assert_eq!(number, 0, "the field is too narrow");
}

fn put_hex(field: &mut [u8], mut number: u64) {
    for byte in field.iter_mut().rev() {
        *byte = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
    debug_assert_eq!(number, 0, "the field is too narrow");
}

/// One connection's request as it goes over the wire. Keeps its bytes until the next one is prepared, so that
/// a repeated attempt sends the same ones.
#[derive(Debug)]
pub(super) struct RequestBuffer {
    /// Request line and headers but for the body's length.
    head: String,
    template: Template,
    /// With gzip the template has no head, and the wire sees this.
    gzipped: Option<Vec<u8>>,
    events_repeated: u64,
}

/// How bodies are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As they are.
    Identity,
    /// `Content-Encoding: gzip`.
    Gzip,
}

impl RequestBuffer {
    /// A buffer for requests of `events` events. `head` is the request line and headers, each line ended by CRLF.
    pub(super) fn new(workload: &Workload, events: usize, head: &str, encoding: Encoding) -> Self {
        let mut head = head.to_owned();
        let gzipped = match encoding {
            Encoding::Identity => None,
            Encoding::Gzip => {
                head.push_str("Content-Encoding: gzip\r\n");
                Some(Vec::new())
            }
        };
        let template = lay_out_request(workload, events, &head, gzipped.is_some());
        Self { head, template, gzipped, events_repeated: 0 }
    }

    /// Makes this the request with the `events` events from number `first` on.
    ///
    /// # Errors
    /// What the compressor says; it writes to memory, so nothing is expected.
    pub(super) fn prepare(&mut self, workload: &Workload, first: u64, events: usize) -> io::Result<()> {
        if self.template.events() != events {
            // Only the last request of a run is shorter.
            self.template = lay_out_request(workload, events, &self.head, self.gzipped.is_some());
        }
        self.events_repeated = self.template.fill(workload, first);
        if let Some(wire) = &mut self.gzipped {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(self.template.bytes())?;
            let body = encoder.finish()?;
            wire.clear();
            wire.extend_from_slice(&full_head(&self.head, body.len()));
            wire.extend_from_slice(&body);
        }
        Ok(())
    }

    /// The whole request.
    pub(super) fn wire(&self) -> &[u8] {
        self.gzipped.as_deref().unwrap_or(self.template.bytes())
    }

    /// How many of its events repeat an earlier one.
    pub(super) fn events_repeated(&self) -> u64 {
        self.events_repeated
    }

    /// Its ids, one a line.
    pub(super) fn id_lines(&self) -> Vec<u8> {
        let mut lines = Vec::with_capacity(self.template.events() * (ID_BYTES + 1));
        self.template.write_ids(&mut lines);
        lines
    }
}

fn lay_out_request(workload: &Workload, events: usize, head: &str, is_gzipped: bool) -> Template {
    Template::new(workload, events, |body_bytes| if is_gzipped { Vec::new() } else { full_head(head, body_bytes) })
}

fn full_head(head: &str, body_bytes: usize) -> Vec<u8> {
    format!("{head}Content-Length: {body_bytes}\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::io::Read as _;

    use serde_json::Value;

    use super::*;

    const START_MS: u64 = 1_767_225_600_123;

    fn mix() -> Mix {
        Mix {
            events_per_request: 1_000,
            customers: 1_000,
            meters: 4,
            dimension_sets: 4,
            repeated_millionths: 0,
            late_millionths: 0,
            rate: None,
        }
    }

    fn workload(mix: Mix) -> Workload {
        Workload::new(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, START_MS, mix)
    }

    fn parsed(bytes: &[u8]) -> Vec<Value> {
        match serde_json::from_slice(bytes).expect("the body is JSON") {
            Value::Array(events) => events,
            event => vec![event],
        }
    }

    fn text<'v>(event: &'v Value, field: &str) -> &'v str {
        event[field].as_str().unwrap_or_else(|| panic!("{field} is not a string in {event}"))
    }

    #[test]
    fn one_event_has_the_documented_form_and_207_bytes() {
        let workload = workload(mix());
        let mut template = Template::new(&workload, 1, |_| Vec::new());
        template.fill(&workload, 0xabc);
        assert_eq!(template.bytes().len(), 207);
        let event = &parsed(template.bytes())[0];
        assert_eq!(text(event, "uniqueId"), "01234567-89ab-4cde-8f01-000000000abc");
        assert!(text(event, "meterApiName").starts_with("api-calls-"));
        assert_eq!(text(event, "customerId").len(), "customer-00042".len());
        let value = event["meterValue"].as_f64().expect("a number");
        assert!((10.0..100.0).contains(&value), "{value}");
        let time_ms = event["meterTimeInMillis"].as_u64().expect("an integer");
        assert!((START_MS - JITTER_MS..=START_MS).contains(&time_ms), "{time_ms}");
        assert!(text(&event["dimensions"], "region").starts_with("eu-"));
        assert!(TIERS.contains(&text(&event["dimensions"], "tier")));
    }

    #[test]
    fn a_refilled_batch_is_json_of_the_same_length_with_new_ids() {
        let workload = workload(mix());
        let mut template = Template::new(&workload, 1_000, |_| Vec::new());
        let mut ids = HashSet::new();
        for request in 0..3 {
            template.fill(&workload, request * 1_000);
            assert_eq!(template.bytes().len(), 1_000 * 207 + 999 + 2);
            let events = parsed(template.bytes());
            assert_eq!(events.len(), 1_000);
            ids.extend(events.iter().map(|event| text(event, "uniqueId").to_owned()));
        }
        assert_eq!(ids.len(), 3_000);
    }

    #[test]
    fn every_customer_meter_and_dimension_set_occurs_and_no_other() {
        let workload = workload(Mix { customers: 10, meters: 12, dimension_sets: 50, ..mix() });
        let mut template = Template::new(&workload, 5_000, |_| Vec::new());
        template.fill(&workload, 0);
        let events = parsed(template.bytes());
        let distinct = |field: &dyn Fn(&Value) -> String| events.iter().map(field).collect::<HashSet<_>>().len();
        assert_eq!(distinct(&|event| event["customerId"].to_string()), 10);
        assert_eq!(distinct(&|event| event["meterApiName"].to_string()), 12);
        assert_eq!(distinct(&|event| event["dimensions"].to_string()), 50);
    }

    #[test]
    fn the_largest_settings_still_fit_their_fields() {
        let workload = workload(Mix { customers: 10_000_000, meters: 1_000, dimension_sets: 100_000, ..mix() });
        let mut template = Template::new(&workload, 1_000, |_| Vec::new());
        template.fill(&workload, 999_999_000); // debug assertions catch a field that is too narrow
        assert_eq!(parsed(template.bytes()).len(), 1_000);
    }

    #[test]
    fn repetitions_have_the_share_asked_for_and_the_content_of_an_earlier_request() {
        let workload = workload(Mix { repeated_millionths: 100_000, events_per_request: 100, ..mix() });
        let mut first_content: HashMap<u64, Event> = HashMap::new();
        let mut repeated = 0;
        for number in 0..100_000 {
            let event = workload.event(number);
            if event.origin == number {
                first_content.insert(number, event);
            } else {
                repeated += 1;
                assert!(event.origin / 100 < number / 100, "{number} repeats {}", event.origin);
                assert_eq!(first_content.get(&event.origin), Some(&event));
            }
        }
        assert!((9_500..10_500).contains(&repeated), "{repeated}");
        let mut template = Template::new(&workload, 100_000, |_| Vec::new());
        assert_eq!(template.fill(&workload, 0), repeated);
    }

    #[test]
    fn everything_repeated_is_the_first_request_again() {
        let workload = workload(Mix { repeated_millionths: MILLION, events_per_request: 10, ..mix() });
        assert!((0..10).all(|number| workload.event(number).origin == number));
        assert!((10..50_000).all(|number| workload.event(number).origin < 10));
    }

    #[test]
    fn late_events_have_the_share_asked_for_and_at_most_seven_days() {
        let workload = workload(Mix { late_millionths: 50_000, ..mix() });
        let ages: Vec<u64> = (0..100_000).map(|number| START_MS - workload.event(number).time_ms).collect();
        let late = ages.iter().filter(|age| **age >= JITTER_MS).count();
        assert!((4_700..5_300).contains(&late), "{late}");
        assert!(ages.iter().all(|age| *age < LATE_MS));
    }

    #[test]
    fn event_times_advance_with_a_paced_run() {
        let workload = workload(Mix { rate: NonZeroU64::new(100), ..mix() });
        let time_ms = workload.event(360_000).time_ms; // planned an hour after the start
        let planned_ms = START_MS + 3_600_000;
        assert!((planned_ms - JITTER_MS..=planned_ms).contains(&time_ms), "{time_ms}");
    }

    #[test]
    fn a_request_promises_the_length_that_it_has_also_when_the_last_one_is_shorter() {
        let workload = workload(mix());
        let mut request = RequestBuffer::new(&workload, 1_000, "POST /ingest HTTP/1.1\r\n", Encoding::Identity);
        for (events, body_bytes) in [(1_000, 208_001), (7, 7 * 207 + 6 + 2), (1, 207)] {
            request.prepare(&workload, 5_000, events).expect("prepared");
            let wire = String::from_utf8(request.wire().to_vec()).expect("UTF-8");
            let (head, body) = wire.split_once("\r\n\r\n").expect("a head");
            assert_eq!(head, format!("POST /ingest HTTP/1.1\r\nContent-Length: {body_bytes}"));
            assert_eq!(body.len(), body_bytes);
            assert_eq!(parsed(body.as_bytes()).len(), events);
        }
    }

    #[test]
    fn a_gzipped_request_unpacks_to_the_same_events() {
        let workload = workload(mix());
        let mut plain = RequestBuffer::new(&workload, 100, "POST / HTTP/1.1\r\n", Encoding::Identity);
        let mut gzipped = RequestBuffer::new(&workload, 100, "POST / HTTP/1.1\r\n", Encoding::Gzip);
        for first in [0, 100] {
            plain.prepare(&workload, first, 100).expect("prepared");
            gzipped.prepare(&workload, first, 100).expect("prepared");
            let body = |wire: &[u8]| {
                let at = wire.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
                wire[at + 4..].to_vec()
            };
            let mut unpacked = Vec::new();
            let packed = body(gzipped.wire());
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("gzip");
            assert_eq!(unpacked, body(plain.wire()));
            let head = String::from_utf8_lossy(gzipped.wire()).into_owned();
            assert!(head.contains(&format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", packed.len())));
        }
    }

    #[test]
    fn the_id_lines_are_the_ids_of_the_body() {
        let workload = workload(Mix { repeated_millionths: 500_000, ..mix() });
        let mut request = RequestBuffer::new(&workload, 50, "", Encoding::Identity);
        request.prepare(&workload, 1_000, 50).expect("prepared");
        assert!(request.events_repeated() > 0);
        let body_at = request.wire().iter().position(|byte| *byte == b'[').expect("an array");
        let in_body: Vec<String> = parsed(&request.wire()[body_at..]).iter().map(|event| text(event, "uniqueId").to_owned()).collect();
        let lines = String::from_utf8(request.id_lines()).expect("UTF-8");
        assert_eq!(lines.lines().collect::<Vec<_>>(), in_body);
    }
}
