//! Rows: what was used in one hour or day, by (account, partition, meter, customer, dimensions).
//!
//! Keys sort so that both "one customer, a month" and "all customers, a day" are short ranges:
//!
//! ```text
//! u32 account   u8 length, meter   u8 grain (0 hour, 1 day)   u32 bucket (hours or days since 1970)
//! u8 length, customer   u32 partition   dimensions as in the record, or 0xff for the overflow row
//! ```
//!
//! Big-endian. A row:
//!
//! ```text
//! u8 version   u64 count   sum   min   max   i64 time of the last, µs   last value   u8 length, uniqueId of the last
//! version 2: sketches, as in src/sketch.rs
//! ```
//!
//! Little-endian; numbers × 10^12 as u8 length and the fewest bytes (two's complement). Version 1 is all rows but the overflow rows, and
//! those overflow rows that were begun before there were sketches: they never get any, as those would not have all values.

use ethnum::I256;

use crate::clock::UnixMicros;
use crate::event::identity::read_amount;
use crate::event::{Amount, Sum};
use crate::log::record;
use crate::sketch::{Sketches, ValueHash};

/// Seconds of an hour.
pub const HOUR_S: i64 = 3_600;
/// Seconds of a day.
pub const DAY_S: i64 = 86_400;

/// How wide a row's bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    /// An hour, UTC.
    Hour,
    /// A day, UTC.
    Day,
}

impl Grain {
    /// Seconds of a bucket.
    pub fn seconds(self) -> i64 {
        match self {
            Self::Hour => HOUR_S,
            Self::Day => DAY_S,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Hour => 0,
            Self::Day => 1,
        }
    }
}

/// A set of dimensions: the bytes that the record has, or the mark of the overflow row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DimensionSet<'b>(pub &'b [u8]);

impl<'b> DimensionSet<'b> {
    /// What the sets of a (partition, customer, meter, day) past the limit share.
    pub const OVERFLOW: DimensionSet<'static> = DimensionSet(&[0xff]);

    /// Whether this is the overflow row's.
    pub fn is_overflow(self) -> bool {
        self == Self::OVERFLOW
    }

    /// Keys and values, sorted by key; none for the overflow row.
    pub fn iter(self) -> impl Iterator<Item = (&'b str, &'b str)> {
        record::dimensions(if self.is_overflow() { &[0] } else { self.0 })
    }

    /// The value of one dimension.
    pub fn get(self, key: &str) -> Option<&'b str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

/// Which row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowKey<'b> {
    /// Whose.
    pub account: u32,
    /// The meter's API name.
    pub meter: &'b str,
    /// Hour or day.
    pub grain: Grain,
    /// Hours or days since 1970.
    pub bucket: u32,
    /// Who is billed.
    pub customer: &'b str,
    /// The log's partition.
    pub partition: u32,
    /// The event's dimensions.
    pub dimensions: DimensionSet<'b>,
}

impl<'b> RowKey<'b> {
    /// Appends the encoded key.
    pub fn write(&self, to: &mut Vec<u8>) {
        self.write_group(to);
        to.extend_from_slice(self.dimensions.0);
    }

    /// Appends the key without its dimensions: the prefix that all sets of a (partition, customer, meter, bucket) share.
    pub fn write_group(&self, to: &mut Vec<u8>) {
        write_bucket_prefix(to, self.account, self.meter, self.grain, self.bucket);
        write_name(to, self.customer);
        to.extend_from_slice(&self.partition.to_be_bytes());
    }

    /// Takes an encoded key apart; `None` if it is none.
    pub fn read(bytes: &'b [u8]) -> Option<Self> {
        let (account, rest) = bytes.split_first_chunk::<4>()?;
        let (meter, rest) = read_name(rest)?;
        let (grain, rest) = rest.split_first()?;
        let (bucket, rest) = rest.split_first_chunk::<4>()?;
        let (customer, rest) = read_name(rest)?;
        let (partition, dimensions) = rest.split_first_chunk::<4>()?;
        Some(Self {
            account: u32::from_be_bytes(*account),
            meter,
            grain: [Grain::Hour, Grain::Day].into_iter().find(|known| known.code() == *grain)?,
            bucket: u32::from_be_bytes(*bucket),
            customer,
            partition: u32::from_be_bytes(*partition),
            dimensions: DimensionSet(dimensions),
        })
    }

    /// Begin of the bucket, in s since 1970.
    pub fn start_s(&self) -> i64 {
        i64::from(self.bucket) * self.grain.seconds()
    }
}

fn write_name(to: &mut Vec<u8>, name: &str) {
    // Checked where it came in: 255 bytes at most.
    to.push(name.len() as u8);
    to.extend_from_slice(name.as_bytes());
}

fn read_name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

/// Appends what all rows of a meter begin with.
pub fn write_meter_prefix(to: &mut Vec<u8>, account: u32, meter: &str) {
    to.extend_from_slice(&account.to_be_bytes());
    write_name(to, meter);
}

/// Encoded keys: from (inclusive) and to (exclusive).
pub type KeyRange = (Vec<u8>, Vec<u8>);

/// Keys of all meters of an account, or of those behind one of them.
pub fn meters_behind(account: u32, meter: Option<&str>) -> KeyRange {
    let mut from = account.to_be_bytes().to_vec();
    if let Some(meter) = meter {
        write_name(&mut from, meter);
        // Behind a meter's name comes the grain, which is 0 or 1.
        from.push(0xff);
    }
    // No account has the last number.
    (from, account.saturating_add(1).to_be_bytes().to_vec())
}

fn write_bucket_prefix(to: &mut Vec<u8>, account: u32, meter: &str, grain: Grain, bucket: u32) {
    write_meter_prefix(to, account, meter);
    to.push(grain.code());
    to.extend_from_slice(&bucket.to_be_bytes());
}

/// Rows to be looked at: one meter, one grain, a range of buckets, some or all customers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSelection {
    /// Whose.
    pub account: u32,
    /// The meter's API name.
    pub meter: String,
    /// Hours or days.
    pub grain: Grain,
    /// First bucket, as in [`RowKey::bucket`].
    pub from: u32,
    /// One past the last bucket.
    pub to: u32,
    /// Only these customers, sorted; `None`: all.
    pub customers: Option<Vec<String>>,
}

impl RowSelection {
    /// Ranges of encoded keys (from, to) that together hold exactly the selected rows, in order.
    pub fn key_ranges(&self) -> Vec<KeyRange> {
        let bound = |bucket: u32, customer: Option<&str>| {
            let mut key = Vec::with_capacity(64);
            write_bucket_prefix(&mut key, self.account, &self.meter, self.grain, bucket);
            if let Some(customer) = customer {
                write_name(&mut key, customer);
            }
            key
        };
        match &self.customers {
            None => vec![(bound(self.from, None), bound(self.to, None))],
            Some(customers) => {
                let mut ranges: Vec<_> = (self.from..self.to)
                    .flat_map(|bucket| customers.iter().map(move |customer| bound(bucket, Some(customer))))
                    .map(|from| {
                        let mut to = from.clone();
                        // Behind the customer comes the partition, whose number is far below u32::MAX.
                        to.extend_from_slice(&[0xff; 4]);
                        (from, to)
                    })
                    .collect();
                ranges.sort_unstable();
                ranges
            }
        }
    }

    /// Whether a row is selected.
    pub fn holds(&self, key: &RowKey<'_>) -> bool {
        key.account == self.account
            && key.grain == self.grain
            && (self.from..self.to).contains(&key.bucket)
            && key.meter == self.meter
            && self
                .customers
                .as_ref()
                .is_none_or(|customers| customers.binary_search_by(|customer| customer.as_str().cmp(key.customer)).is_ok())
    }
}

/// Version of a row without sketches.
const PLAIN: u8 = 1;
/// Version of a row with them.
const WITH_SKETCHES: u8 = 2;

/// What was used. Rows of different partitions, or of several buckets, merge into one, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Number of measurements.
    pub count: u64,
    /// Their exact sum.
    pub sum: Sum,
    /// The smallest.
    pub min: Amount,
    /// The largest.
    pub max: Amount,
    /// Event time of the last one.
    pub last_time: UnixMicros,
    /// Its value.
    pub last: Amount,
    /// Its uniqueId, which decides among equal times.
    pub last_id: String,
    /// Of the values of each dimension; of an overflow row. Those of all its measurements, or none at all.
    pub sketches: Option<Box<Sketches>>,
}

impl Row {
    /// The row of one measurement.
    pub fn first(value: Amount, time: UnixMicros, unique_id: &str) -> Self {
        let last_id = unique_id.to_owned();
        Self { count: 1, sum: Sum::from(value), min: value, max: value, last_time: time, last: value, last_id, sketches: None }
    }

    /// A row of nothing, which is no row yet: with sketches, if these are the dimensions of the overflow row.
    pub fn none_yet(dimensions: DimensionSet<'_>) -> Self {
        let sketches = dimensions.is_overflow().then(Box::default);
        Self { count: 0, sketches, ..Self::first(Amount::default(), UnixMicros(i64::MIN), "") }
    }

    /// Adds one measurement; one of an overflow row is added to its sketches besides.
    #[inline]
    pub fn add(&mut self, value: Amount, time: UnixMicros, unique_id: &str) {
        if self.count == 0 {
            let sketches = self.sketches.take();
            *self = Self { sketches, ..Self::first(value, time, unique_id) };
            return;
        }
        self.count += 1;
        self.sum.add_amount(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if (time, unique_id) > (self.last_time, self.last_id.as_str()) {
            self.last_time = time;
            self.last = value;
            self.last_id.clear();
            self.last_id.push_str(unique_id);
        }
    }

    /// Adds another row. What comes of it has sketches if both have: only then these have all values.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum.add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        // Two sources may call two events the same at the same time: any rule does, as long as it is one.
        if (other.last_time, &other.last_id, other.last) > (self.last_time, &self.last_id, self.last) {
            self.last_time = other.last_time;
            self.last = other.last;
            self.last_id.clone_from(&other.last_id);
        }
        match (&mut self.sketches, &other.sketches) {
            (Some(own), Some(others)) => own.merge(others),
            (own, _) => *own = None,
        }
    }

    /// Bytes of memory behind its sketches.
    pub fn sketch_bytes(&self) -> usize {
        self.sketches.as_ref().map_or(0, |sketches| sketches.heap_bytes())
    }

    /// Appends the encoded row.
    pub fn write(&self, to: &mut Vec<u8>) {
        to.push(if self.sketches.is_some() { WITH_SKETCHES } else { PLAIN });
        to.extend_from_slice(&self.count.to_le_bytes());
        write_number(to, self.sum.scaled());
        for amount in [self.min, self.max] {
            write_number(to, I256::from(amount.scaled()));
        }
        to.extend_from_slice(&self.last_time.0.to_le_bytes());
        write_number(to, I256::from(self.last.scaled()));
        write_name(to, &self.last_id);
        if let Some(sketches) = &self.sketches {
            sketches.write(to);
        }
    }

    /// Reads an encoded row; `None` if it is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (count, rest) = rest.split_first_chunk::<8>()?;
        let (sum, rest) = read_number(rest)?;
        let (min, rest) = read_number(rest)?;
        let (max, rest) = read_number(rest)?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (last, rest) = read_number(rest)?;
        let (last_id, rest) = read_name(rest)?;
        let sketches = match *version {
            PLAIN if rest.is_empty() => None,
            WITH_SKETCHES => Some(Box::new(Sketches::read(rest)?)),
            _ => return None,
        };
        let row = Self {
            count: u64::from_le_bytes(*count),
            sum: Sum::from_scaled(wide(sum)?),
            min: read_amount(min)?,
            max: read_amount(max)?,
            last_time: UnixMicros(i64::from_le_bytes(*time)),
            last: read_amount(last)?,
            last_id: last_id.to_owned(),
            sketches,
        };
        row.is_possible().then_some(row)
    }

    /// Whether amounts can have made it, so that it can be added to others.
    pub fn is_possible(&self) -> bool {
        self.count > 0 && self.min <= self.max && self.sum.is_of(self.count)
    }
}

/// Adds the dimensions of a measurement to the sketches of the overflow rows that it is in, hour and day: those that have any. Gives back
/// the bytes of memory behind the sketches of both.
pub fn sketch_dimensions(dimensions: DimensionSet<'_>, rows: [&mut Row; 2]) -> usize {
    let mut sketches = rows.map(|row| row.sketches.as_deref_mut());
    for (name, value) in dimensions.iter() {
        let value = ValueHash::of(value);
        sketches.iter_mut().flatten().for_each(|sketches| sketches.add(name, value));
    }
    sketches.iter().flatten().map(|sketches| sketches.heap_bytes()).sum()
}

fn write_number(to: &mut Vec<u8>, number: I256) {
    let significant = if number < I256::ZERO { !number } else { number };
    let bits = 257 - significant.leading_zeros() as usize;
    let bytes = if number == I256::ZERO { 0 } else { bits.div_ceil(8) };
    to.push(bytes as u8);
    to.extend_from_slice(&number.to_le_bytes()[..bytes]);
}

fn read_number(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

fn wide(bytes: &[u8]) -> Option<I256> {
    let Some(last) = bytes.last() else { return Some(I256::ZERO) };
    let mut all = [if last & 0x80 == 0 { 0 } else { 0xff }; 32];
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(I256::from_le_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amounts() -> impl Strategy<Value = Amount> {
        prop_oneof![-1000_i128..1000, -99_999_999_999_999_999_999_999_999_999_999_i128..99_999_999_999_999_999_999_999_999_999_999]
            .prop_map(|scaled| Amount::from_scaled(scaled).expect("in range"))
    }

    fn measurements() -> impl Strategy<Value = Vec<(Amount, i64, String)>> {
        proptest::collection::vec((amounts(), 0_i64..20, "[a-c]{1,2}"), 1..40)
    }

    /// An overflow row has sketches; each measurement has the dimension `d`, its id.
    fn folded_with_sketches(measurements: &[(Amount, i64, String)]) -> Row {
        let (mut hour, mut day) = (Row::none_yet(DimensionSet::OVERFLOW), Row::none_yet(DimensionSet::OVERFLOW));
        for (value, time, id) in measurements {
            let dimensions = [&[1, 1, b'd', id.len() as u8, 0], id.as_bytes()].concat();
            hour.add(*value, UnixMicros(*time), id);
            day.add(*value, UnixMicros(*time), id);
            sketch_dimensions(DimensionSet(&dimensions), [&mut hour, &mut day]);
        }
        assert_eq!(hour, day);
        hour
    }

    fn folded(measurements: &[(Amount, i64, String)]) -> Row {
        let (value, time, id) = &measurements[0];
        let mut row = Row::first(*value, UnixMicros(*time), id);
        for (value, time, id) in &measurements[1..] {
            row.add(*value, UnixMicros(*time), id);
        }
        row
    }

    #[test]
    fn rows_from_before_there_were_sketches_are_read_and_written_as_they_were() {
        // Version 1: count 2, sum 3, min 1, max 2 (× 10^12), time 5, last 2, "u".
        let number = |scaled: i64, bytes: usize| [&[bytes as u8], &scaled.to_le_bytes()[..bytes]].concat();
        let (one, two, three) = (number(1_000_000_000_000, 6), number(2_000_000_000_000, 6), number(3_000_000_000_000, 6));
        let parts = [&[1][..], &2_u64.to_le_bytes(), &three, &one, &two, &5_i64.to_le_bytes(), &two, &[1, b'u']];
        let bytes = parts.concat();
        let row = Row::read(&bytes).expect("a row");
        let mut same = Row::first(Amount::from_int(1), UnixMicros(4), "t");
        same.add(Amount::from_int(2), UnixMicros(5), "u");
        assert_eq!(row, same);
        let mut written = Vec::new();
        row.write(&mut written);
        assert_eq!(written, bytes);
    }

    proptest! {
        #[test]
        fn a_row_is_read_back_as_it_was_written(measurements in measurements()) {
            let row = folded(&measurements);
            let mut bytes = Vec::new();
            row.write(&mut bytes);
            prop_assert_eq!(Row::read(&bytes), Some(row));
            prop_assert_eq!(Row::read(&bytes[..bytes.len() - 1]), None);
            let row = folded_with_sketches(&measurements);
            bytes.clear();
            row.write(&mut bytes);
            prop_assert_eq!(Row::read(&bytes), Some(row));
            prop_assert_eq!(Row::read(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn rows_merge_in_any_order_and_partitioning(measurements in measurements(), at in any::<prop::sample::Index>()) {
            // Equal (time, id) with different values cannot be: it is one identity.
            let mut seen = std::collections::HashSet::new();
            let mut measurements = measurements;
            measurements.retain(|(_, time, id)| seen.insert((*time, id.clone())));
            let whole = folded(&measurements);
            let (left, right) = measurements.split_at(at.index(measurements.len()));
            if !left.is_empty() && !right.is_empty() {
                let mut merged = folded(right);
                merged.merge(&folded(left));
                prop_assert_eq!(&merged, &whole);
                let mut merged = folded_with_sketches(right);
                merged.merge(&folded_with_sketches(left));
                prop_assert_eq!(&merged, &folded_with_sketches(&measurements));
                merged.merge(&folded(left));
                prop_assert_eq!(merged.sketches, None, "a part has none");
            }
            measurements.reverse();
            prop_assert_eq!(folded(&measurements), whole);
        }

        #[test]
        fn keys_sort_by_meter_then_bucket_and_are_read_back(a in 0_u32..3, b in 0_u32..70_000, customer in "[a-z]{1,5}", dims in proptest::collection::vec(any::<u8>(), 0..9)) {
            let key = RowKey { account: a, meter: "m", grain: Grain::Day, bucket: b, customer: &customer, partition: 0, dimensions: DimensionSet(&dims) };
            let mut bytes = Vec::new();
            key.write(&mut bytes);
            prop_assert_eq!(RowKey::read(&bytes), Some(key));
            let selection = RowSelection { account: a, meter: "m".into(), grain: Grain::Day, from: b, to: b + 1, customers: Some(vec![customer.clone()]) };
            prop_assert!(selection.key_ranges().iter().any(|(from, to)| *from <= bytes && bytes < *to));
            prop_assert!(selection.holds(&key));
        }
    }
}
