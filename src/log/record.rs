//! One event as it stands in the log, version 3. The fold reads it without parsing JSON; `GET /v1/events` turns it back
//! into JSON on demand.
//!
//! ```text
//! u32 length of what follows
//! u128 identity hash          keyed, see event::identity
//! u64 content hash
//! u8  flags                   1: uniqueId made by the gateway; 2: filtered by rules, counts nowhere; 4: some of its measurements are;
//!                             8: some of its measurements have dimensions of their own
//! u32 account
//! u16 length, namespace
//! u8  length, uniqueId
//! …   content in its canonical form, see event::identity
//! u64 with flag 4 only: bit n says that measurement n (sorted by meter) is filtered; some are, and some are not
//! with flag 8 only: for each measurement, sorted by meter, its own dimensions as the event's: u8 count; each: u8 length, key; u16 length,
//!     value. They come before the event's of the same key; some measurement has any
//! ```
//!
//! A measurement that its meter could not read is filtered, too, and has an own dimension that says why
//! ([`crate::dialect::cloudevents::ERROR_DIMENSION`]). The content hash is of what the sender said, of which definitions may have made other
//! measurements and dimensions.
//!
//! Version 1 had no flag 4, version 2 no flag 8; otherwise they are the same.
//!
//! Little-endian. The receive time is the block's; the event time is the one sent, or else the receive time.

mod own;
mod undecodable;

use serde::ser::{Serialize, SerializeMap, Serializer};

pub use own::Measured;
pub use undecodable::{Undecodable, Why};

use crate::clock::{UnixMicros, UnixMillis};
use crate::event::identity::{read_amount, write_attributes, write_content, write_id};
use crate::event::{Amount, ContentHash, HashKey, IdentityHash, IdentityMode, MEASUREMENTS_MAX, MeterEvent, Sum, TIME_MAX};

/// The version that this binary writes.
pub const VERSION: u16 = 3;

const GENERATED: u8 = 1;
const FILTERED: u8 = 2;
const PARTLY_FILTERED: u8 = 4;
const OWN: u8 = 8;
/// Length, identity hash, content hash, flags: what stands before the event itself.
const FIXED_BYTES: usize = 4 + 16 + 8 + 1;

/// Whose event it is, and what makes it the same as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub number: u32,
    /// As the account was made.
    pub identity: IdentityMode,
}

/// What the gateway decided about an event, to be kept beside it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decisions {
    /// Bit n: a filtering rule dropped measurement n, sorted by meter, which then counts nowhere. An event of which all are dropped
    /// has the verdict `filtered`. Bits beyond its measurements say nothing.
    pub filtered: u64,
}

impl Decisions {
    /// Rules dropped all of it.
    pub const FILTERED: Self = Self { filtered: u64::MAX };
}

/// One bit for each of so many measurements.
fn all_of(measurements: usize) -> u64 {
    if measurements >= MEASUREMENTS_MAX { u64::MAX } else { (1 << measurements) - 1 }
}

/// Appends an event; gives back the hashes that were computed on the way.
pub fn write(
    to: &mut Vec<u8>,
    key: &HashKey,
    account: Account,
    event: &MeterEvent<'_, '_>,
    decisions: Decisions,
) -> (IdentityHash, ContentHash) {
    let start = to.len();
    to.extend_from_slice(&[0; FIXED_BYTES]);
    write_id(to, account.number, event.namespace(), event.unique_id());
    let content_at = to.len();
    let identity = match account.identity {
        IdentityMode::UniqueId => key.identity(&to[start + FIXED_BYTES..]),
        IdentityMode::AllAttributes => {
            write_attributes(&event.said(), event.time_sent(), to);
            let identity = key.identity(&to[start + FIXED_BYTES..]);
            to.truncate(content_at);
            identity
        }
    };
    write_content(&event.whole(), event.time_sent(), to);
    let content = content_hash(key, event, to, content_at);
    let all = all_of(event.measurements().len());
    let filtered = match (decisions.filtered | event.unreadable()) & all {
        0 => 0,
        dropped if dropped == all => FILTERED,
        dropped => {
            to.extend_from_slice(&dropped.to_le_bytes());
            PARTLY_FILTERED
        }
    };
    let own = if event.own_dimensions().is_empty() { 0 } else { OWN };
    if own != 0 {
        own::write(event, to);
    }
    let length = (to.len() - start - 4) as u32;
    let flags = if event.unique_id_generated() { GENERATED } else { 0 } | filtered | own;
    let fixed = &mut to[start..start + FIXED_BYTES];
    fixed[..4].copy_from_slice(&length.to_le_bytes());
    fixed[4..20].copy_from_slice(&identity.0.to_le_bytes());
    fixed[20..28].copy_from_slice(&content.0.to_le_bytes());
    fixed[28] = flags;
    (identity, content)
}

/// Of what the sender said; as a rule that is what stands in the record from `at` on.
fn content_hash(key: &HashKey, event: &MeterEvent<'_, '_>, to: &mut Vec<u8>, at: usize) -> ContentHash {
    if !event.is_mapped() {
        return key.content(&to[at..]);
    }
    let end = to.len();
    write_content(&event.said(), event.time_sent(), to);
    let content = key.content(&to[end..]);
    to.truncate(end);
    content
}

/// A record as it was read; slices of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'b> {
    /// Which event it is.
    pub identity: IdentityHash,
    /// What it says.
    pub content: ContentHash,
    /// Whose it is.
    pub account: u32,
    /// Whether the gateway made the uniqueId.
    pub unique_id_generated: bool,
    /// Whether filtering rules dropped all of it.
    pub filtered: bool,
    /// Bit n: they dropped measurement n. Neither 0 nor all of them: 0 where all or none are dropped.
    pub filtered_in_part: u64,
    /// Empty except for CloudEvents.
    pub namespace: &'b str,
    /// The producer's id.
    pub unique_id: &'b str,
    /// Who is billed.
    pub customer_id: &'b str,
    /// When it happened.
    pub time: UnixMicros,
    /// When the gateway received it.
    pub received: UnixMillis,
    time_is_received: bool,
    measurements: &'b [u8],
    dimensions: &'b [u8],
    /// Of each measurement, one behind the other; empty: none has any.
    own: &'b [u8],
}

/// The records of a block's payload, each with its place in the block. After a length that makes no sense, the rest of
/// the block is undecodable record by record, so that positions stay right.
pub fn records(payload: &[u8], count: u32, received: UnixMillis) -> impl Iterator<Item = Result<Record<'_>, Undecodable<'_>>> {
    let mut rest = payload;
    (0..count).map(move |_| {
        let (bytes, after) = split_record(rest).ok_or_else(|| Undecodable::of(std::mem::take(&mut rest)))?;
        rest = after;
        read(bytes, received).ok_or_else(|| Undecodable::of(bytes))
    })
}

/// The bytes of a block's records one by one, as [`write()`] wrote them.
pub fn parts(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let (part, after) = rest.split_at_checked(4 + split_record(rest)?.0.len())?;
        rest = after;
        Some(part)
    })
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Reads off the front of a slice; `None` where it is too short.
struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn bytes(&mut self, len: usize) -> Option<&'b [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn text(&mut self, len: usize) -> Option<&'b str> {
        std::str::from_utf8(self.bytes(len)?).ok()
    }

    fn short(&mut self) -> Option<&'b [u8]> {
        let len = self.byte()?;
        self.bytes(usize::from(len))
    }

    fn short_text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.short()?).ok()
    }

    fn measurement_bytes(&mut self) -> Option<(&'b [u8], Amount)> {
        let meter = self.short()?;
        Some((meter, read_amount(self.short()?)?))
    }

    fn measurement(&mut self) -> Option<(&'b str, Amount)> {
        let (meter, value) = self.measurement_bytes()?;
        Some((std::str::from_utf8(meter).ok()?, value))
    }

    fn dimension_bytes(&mut self) -> Option<(&'b [u8], &'b [u8])> {
        let key = self.short()?;
        let len = u16::from_le_bytes(self.array()?);
        Some((key, self.bytes(usize::from(len))?))
    }

    fn dimension(&mut self) -> Option<(&'b str, &'b str)> {
        let (key, value) = self.dimension_bytes()?;
        Some((std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?))
    }

    /// The bytes of `count` items that `item` can read.
    fn items<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<&'b [u8]> {
        let start = self.0;
        for _ in 0..self.byte()? {
            item(self)?;
        }
        Some(&start[..start.len() - self.0.len()])
    }
}

fn read(bytes: &[u8], received: UnixMillis) -> Option<Record<'_>> {
    let mut cursor = Cursor(bytes);
    let identity = IdentityHash(u128::from_le_bytes(cursor.array()?));
    let content = ContentHash(u64::from_le_bytes(cursor.array()?));
    let flags = cursor.byte()?;
    let account = u32::from_le_bytes(cursor.array()?);
    let namespace_len = u16::from_le_bytes(cursor.array()?);
    let namespace = cursor.text(usize::from(namespace_len))?;
    let unique_id = cursor.short_text()?;
    let customer_id = cursor.short_text()?;
    let time_sent = i64::from_le_bytes(cursor.array()?);
    let measurements = cursor.items(Cursor::measurement)?;
    let dimensions = cursor.items(Cursor::dimension)?;
    let filtered_in_part = if flags & PARTLY_FILTERED == 0 { 0 } else { u64::from_le_bytes(cursor.array()?) };
    let own = if flags & OWN == 0 { &[][..] } else { own::read(&mut cursor, measurements[0], dimensions[0])? };
    let time = if time_sent == i64::MIN { received.micros() } else { UnixMicros(time_sent) };
    // The bucket of a row must be computed from it.
    if !(0..=TIME_MAX.micros().0).contains(&time.0) {
        return None;
    }
    if !cursor.0.is_empty() || flags & !(GENERATED | FILTERED | PARTLY_FILTERED | OWN) != 0 || measurements[0] == 0 {
        return None;
    }
    if flags & PARTLY_FILTERED != 0 && !is_a_part(filtered_in_part, usize::from(measurements[0]), flags) {
        return None;
    }
    Some(Record {
        identity,
        content,
        account,
        unique_id_generated: flags & GENERATED != 0,
        filtered: flags & FILTERED != 0,
        filtered_in_part,
        namespace,
        unique_id,
        customer_id,
        time,
        received,
        time_is_received: time_sent == i64::MIN,
        measurements,
        dimensions,
        own,
    })
}

/// Whether some measurements are filtered, and not all: otherwise the mask would not be there.
fn is_a_part(filtered: u64, measurements: usize, flags: u8) -> bool {
    let all = all_of(measurements);
    flags & FILTERED == 0 && measurements <= MEASUREMENTS_MAX && filtered & !all == 0 && filtered != 0 && filtered != all
}

impl<'b> Record<'b> {
    /// Whether the event brought no time of its own.
    pub fn time_is_received(&self) -> bool {
        self.time_is_received
    }

    /// The meters and what they showed, sorted by meter.
    pub fn measurements(&self) -> impl Iterator<Item = (&'b str, Amount)> + use<'b> {
        each(self.measurements, Cursor::measurement)
    }

    /// The same for whoever writes bytes: that they are text is not proven once more.
    pub fn measurements_as_bytes(&self) -> impl Iterator<Item = (&'b [u8], Amount)> + use<'b> {
        each(self.measurements, Cursor::measurement_bytes)
    }

    /// The dimensions, sorted by key; without those that single measurements have.
    pub fn dimensions(&self) -> impl Iterator<Item = (&'b str, &'b str)> + use<'b> {
        dimensions(self.dimensions)
    }

    /// The same as they stand in the log: count and items. Equal dimensions have equal bytes.
    pub fn dimension_bytes(&self) -> &'b [u8] {
        self.dimensions
    }

    /// Whether a measurement is filtered, by its place.
    fn is_filtered(&self, at: usize) -> bool {
        let filtered = if self.filtered { u64::MAX } else { self.filtered_in_part };
        // Of more measurements than bits, all are filtered or none.
        filtered >> at.min(MEASUREMENTS_MAX - 1) & 1 != 0
    }
}

/// Takes the dimensions that [`Record::dimension_bytes`] gave apart again.
pub fn dimensions(bytes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    each(bytes, Cursor::dimension)
}

/// The same for whoever writes bytes: that they are text is not proven once more.
pub fn dimensions_as_bytes(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    each(bytes, Cursor::dimension_bytes)
}

/// The meters of measurements as they stand in a record: count and items.
pub fn meters(bytes: &[u8]) -> impl Iterator<Item = &str> {
    each(bytes, Cursor::measurement).map(|(meter, _)| meter)
}

/// Reads items that stand behind their count, as far as they can be read.
fn each<'b, T>(bytes: &'b [u8], mut item: impl FnMut(&mut Cursor<'b>) -> Option<T>) -> impl Iterator<Item = T> {
    let (count, items) = bytes.split_first().unwrap_or((&0, &[]));
    let mut cursor = Cursor(items);
    (0..*count).map_while(move |_| item(&mut cursor))
}

/// The event as JSON, in Amberflo's field names (contract `amberflo.md` section 2).
impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("uniqueId", self.unique_id)?;
        if !self.namespace.is_empty() {
            map.serialize_entry("namespace", self.namespace)?;
        }
        map.serialize_entry("customerId", self.customer_id)?;
        map.serialize_entry("meterTimeInMillis", &self.time.millis().0)?;
        let mut measurements = self.measurements();
        if let (Some((meter, value)), None) = (measurements.next(), measurements.next()) {
            map.serialize_entry("meterApiName", meter)?;
            map.serialize_entry("meterValue", &Sum::from(value))?;
        } else {
            map.serialize_entry("values", &Pairs(|| self.measurements().map(|(meter, value)| (meter, Sum::from(value)))))?;
        }
        map.serialize_entry("dimensions", &Pairs(|| self.dimensions()))?;
        if self.has_own_dimensions() {
            map.serialize_entry("meterDimensions", &Pairs(|| self.own_sets().map(|(meter, own)| (meter, Pairs(move || dimensions(own))))))?;
        }
        map.end()
    }
}

/// Serializes the pairs of an iterator as an object, without collecting them.
struct Pairs<F>(F);

impl<F: Fn() -> I, I: Iterator<Item = (K, V)>, K: Serialize, V: Serialize> Serialize for Pairs<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::event::{Draft, Measurement, TimeWindow};
    use proptest::prelude::*;

    pub(crate) const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);
    const ACCOUNT: Account = Account { number: 9, identity: IdentityMode::UniqueId };

    pub(crate) fn encode(customer: &str, values: &[(&str, i64)], dimensions: &[(&str, &str)], time: Option<UnixMicros>) -> Vec<u8> {
        encode_filtered(customer, values, dimensions, time, 0)
    }

    fn encode_filtered(
        customer: &str,
        values: &[(&str, i64)],
        dimensions: &[(&str, &str)],
        time: Option<UnixMicros>,
        filtered: u64,
    ) -> Vec<u8> {
        let mut measurements: Vec<_> = values.iter().map(|(meter, value)| Measurement { meter, value: Amount::from_int(*value) }).collect();
        let mut dimensions = dimensions.to_vec();
        let draft = Draft {
            namespace: "svc-a",
            unique_id: "u-1",
            unique_id_generated: false,
            customer_id: customer,
            time,
            measurements: &mut measurements,
            dimensions: &mut dimensions,
        };
        let event = MeterEvent::check(draft, RECEIVED, TimeWindow::default()).expect("a good event");
        let mut bytes = Vec::new();
        write(&mut bytes, &HashKey::from_bytes([1; 16]), ACCOUNT, &event, Decisions { filtered });
        bytes
    }

    pub(crate) fn only(bytes: &[u8]) -> Result<Record<'_>, Undecodable<'_>> {
        records(bytes, 1, RECEIVED).next().expect("one record")
    }

    fn json(bytes: &[u8]) -> String {
        serde_json::to_string_pretty(&only(bytes).expect("decodes")).expect("serializes")
    }

    #[test]
    fn an_event_comes_back_as_json() {
        let bytes = encode("acme-7", &[("tokens", 42)], &[("model", "m-2")], Some(UnixMicros(1_767_225_600_500_250)));
        insta::assert_snapshot!(json(&bytes), @r#"
        {
          "uniqueId": "u-1",
          "namespace": "svc-a",
          "customerId": "acme-7",
          "meterTimeInMillis": 1767225600500,
          "meterApiName": "tokens",
          "meterValue": 42,
          "dimensions": {
            "model": "m-2"
          }
        }
        "#);
        let several = encode("acme-7", &[("out", 2), ("in", -1)], &[], None);
        insta::assert_snapshot!(json(&several), @r#"
        {
          "uniqueId": "u-1",
          "namespace": "svc-a",
          "customerId": "acme-7",
          "meterTimeInMillis": 1767225600000,
          "values": {
            "in": -1,
            "out": 2
          },
          "dimensions": {}
        }
        "#);
    }

    #[test]
    fn a_time_without_a_bucket_is_undecodable() {
        let good = encode("acme-7", &[("tokens", 42)], &[], Some(UnixMicros(5)));
        let sent_at = good.windows(8).position(|eight| eight == 5_i64.to_le_bytes()).expect("the time");
        for (time, decodes) in [(0, true), (-1, false), (i64::MAX, false), (TIME_MAX.micros().0, true)] {
            let mut bytes = good.clone();
            bytes[sent_at..sent_at + 8].copy_from_slice(&i64::to_le_bytes(time));
            assert_eq!(only(&bytes).is_ok(), decodes, "{time}");
        }
    }

    #[test]
    fn the_content_hash_knows_what_was_said_and_not_in_which_order() {
        let content = |bytes: &[u8]| only(bytes).expect("decodes").content;
        let one = encode("a", &[("x", 1), ("y", 2)], &[("k", "1"), ("l", "2")], None);
        let same = encode("a", &[("y", 2), ("x", 1)], &[("l", "2"), ("k", "1")], None);
        let other = encode("a", &[("x", 1), ("y", 3)], &[("k", "1"), ("l", "2")], None);
        let timed = encode("a", &[("x", 1), ("y", 2)], &[("k", "1"), ("l", "2")], Some(RECEIVED.micros()));
        assert_eq!(content(&one), content(&same));
        assert_ne!(content(&one), content(&other));
        assert_ne!(content(&one), content(&timed), "a default is not what was sent");
    }

    #[test]
    fn each_measurement_is_filtered_by_itself_and_the_content_stays_what_was_sent() {
        let values = [("c", 3), ("a", 1), ("b", 2)];
        let whole = encode("acme", &values, &[("k", "v")], None);
        let counted = |record: &Record<'_>| record.counted().map(|one| one.meter.to_owned()).collect::<Vec<_>>();
        for (filtered, is_whole, counts, dropped) in [
            (0, false, vec!["a", "b", "c"], vec![]),
            (0b101, false, vec!["b"], vec!["a", "c"]),
            (0b010, false, vec!["a", "c"], vec!["b"]),
            (0b111, true, vec![], vec!["a", "b", "c"]),
            // Bits of nothing.
            (!0b111, false, vec!["a", "b", "c"], vec![]),
        ] {
            let bytes = encode_filtered("acme", &values, &[("k", "v")], None, filtered);
            let record = only(&bytes).expect("decodes");
            assert_eq!((record.filtered, counted(&record)), (is_whole, counts.iter().map(|&meter| meter.to_owned()).collect()));
            assert_eq!(record.filtered_meters().collect::<Vec<_>>(), dropped);
            let unfiltered = only(&whole).expect("decodes");
            assert_eq!((record.identity, record.content), (unfiltered.identity, unfiltered.content));
            assert!(record.measurements().eq(unfiltered.measurements()) && record.dimensions().eq(unfiltered.dimensions()));
        }
    }

    #[test]
    fn a_mask_that_says_all_or_nothing_is_undecodable() {
        let good = encode_filtered("acme", &[("a", 1), ("b", 2)], &[], None, 0b01);
        assert!(only(&good).is_ok());
        for mask in [0, 0b11, 0b101, u64::MAX] {
            let mut bytes = good.clone();
            let at = bytes.len() - 8;
            bytes[at..].copy_from_slice(&u64::to_le_bytes(mask));
            assert!(only(&bytes).is_err(), "{mask:b}");
        }
        let mut both = good.clone();
        both[FIXED_BYTES - 1] |= FILTERED;
        assert!(only(&both).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_undecodable(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0_u32..4) {
            prop_assert_eq!(records(&bytes, count, RECEIVED).count(), count as usize);
        }

        #[test]
        fn a_cut_record_is_undecodable(cut in any::<prop::sample::Index>()) {
            let bytes = encode("acme-7", &[("tokens", 42), ("calls", 1)], &[("model", "m-2")], None);
            prop_assert!(only(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }
}
