//! The events that the benchmarks run on: of the same shape and size as those of `tollgate bench` (`src/loadgen/events.rs`),
//! and functions of nothing but their number.

use std::io::Write as _;

use tollgate::clock::UnixMillis;
use tollgate::dialect::amberflo::ingest::read_event;
use tollgate::dialect::draft::Scratch;
use tollgate::event::parse::{BodyError, Parsed, Parser};
use tollgate::event::{HashKey, IdentityMode, TimeWindow};
use tollgate::log::{Block, record};

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// When everything is received: in the middle of an hour, so that all event times lie in that one.
pub(crate) const RECEIVED: UnixMillis = UnixMillis(1_767_227_400_000);
/// Whose events they are.
pub(crate) const ACCOUNT: u32 = 1;
/// The only meter.
pub(crate) const METER: &str = "api-calls-0";
/// Different sets of dimensions of each customer.
pub(crate) const DIMENSION_SETS: u64 = 4;
const TIERS: [&str; DIMENSION_SETS as usize] = ["gold", "free", "plus", "team"];
/// As in the production settings.
pub(crate) const WINDOW: TimeWindow = TimeWindow { age_ms_max: Some(35 * 86_400_000), future_ms_max: Some(86_400_000) };
/// Event times lie up to this far in the past.
const JITTER_MS: u64 = 60_000;
const EVENTS_PER_MS: u64 = 1_000;

/// An endless row of events. The first ones are one of each customer and dimension set, the rest are scattered over them.
pub(crate) struct Workload {
    customers: u64,
    next: u64,
}

impl Workload {
    /// The events of so many customers, from the first one on.
    pub(crate) fn new(customers: u64) -> Self {
        Self { customers, next: 0 }
    }

    /// The body of a request with the next `events` events: one as an object, more as an array.
    pub(crate) fn body(&mut self, events: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(208 * events as usize + 2);
        for number in self.next..self.next + events {
            body.push(if number == self.next { b'[' } else { b',' });
            self.write_event(&mut body, number);
        }
        self.next += events;
        body.push(b']');
        if events == 1 { body[1..body.len() - 1].to_vec() } else { body }
    }

    /// What the gateway makes of a request with the next `events` events.
    pub(crate) fn block(&mut self, events: u64) -> Block {
        let body = self.body(events);
        encode(&body, Parser::default().parse(&body, events as usize))
    }

    fn write_event(&self, body: &mut Vec<u8>, number: u64) {
        let Content { customer, tier, whole, tenths, time } = self.content(number);
        let written = write!(
            body,
            r#"{{"uniqueId":"01234567-89ab-4cde-8f01-{number:012x}","meterApiName":"{METER}","customerId":"customer-{customer:05}","meterValue":{whole}.{tenths},"meterTimeInMillis":{time},"dimensions":{{"region":"eu-1","tier":"{tier}"}}}}"#
        );
        written.expect("memory takes everything");
    }

    /// What the event of a number says.
    pub(crate) fn content(&self, number: u64) -> Content {
        let dice = scramble(number);
        let place = if number < self.customers * DIMENSION_SETS { number } else { below(self.customers * DIMENSION_SETS, dice) };
        let (customer, tier) = (place / DIMENSION_SETS, TIERS[(place % DIMENSION_SETS) as usize]);
        let value = 100 + below(900, dice.rotate_left(32));
        let time = RECEIVED.0 as u64 + number / EVENTS_PER_MS - below(JITTER_MS, scramble(dice));
        Content { customer, tier, whole: value / 10, tenths: value % 10, time }
    }
}

/// What an event says.
pub(crate) struct Content {
    pub(crate) customer: u64,
    pub(crate) tier: &'static str,
    /// Its value, and the tenths of it.
    pub(crate) whole: u64,
    pub(crate) tenths: u64,
    /// In ms.
    pub(crate) time: u64,
}

/// What the gateway makes of a body that was taken apart.
pub(crate) fn encode(body: &[u8], parsed: Result<Parsed<'_>, BodyError>) -> Block {
    let parsed = parsed.expect("the body is JSON");
    let key = HashKey::from_bytes([7; 16]);
    let account = record::Account { number: ACCOUNT, identity: IdentityMode::UniqueId };
    let mut block = Block::new(RECEIVED, body.len());
    let mut scratch = Scratch::default();
    for element in parsed.elements() {
        let event = element.members.and_then(|members| read_event(members, &mut scratch, RECEIVED, WINDOW)).expect("a good event");
        block.push(|to| _ = record::write(to, &key, account, &event, record::Decisions::default()));
    }
    block
}

/// The finaliser of splitmix64: spreads neighbouring numbers over all 64 bits.
pub(crate) fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps random bits to 0..`end`.
fn below(end: u64, bits: u64) -> u64 {
    ((u128::from(bits) * u128::from(end)) >> 64) as u64
}
