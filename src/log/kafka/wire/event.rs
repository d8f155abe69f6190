//! Events.

use super::json::{Scanner, read_hex, write_hex, write_number, write_text};
use super::{Incoming, Outgoing, only};
use crate::clock::UnixMillis;
use crate::event::Amount;
use crate::event::identity::{partition_of, write_amount, write_id};
use crate::log::record::{self, Record, Why, dimensions_as_bytes};

const GENERATED: u8 = 1;
const FILTERED: u8 = 2;
const TIME_RECEIVED: u8 = 4;
/// Both flags that a record of version 1 has itself.
const RECORD_FLAGS: u8 = GENERATED | FILTERED;
/// What a record says in its place where some of its measurements are filtered.
const PARTLY_FILTERED: u8 = 4;
/// The same, where some of its measurements have dimensions of their own.
const OWN: u8 = 8;
/// Where a record has its canonical name: behind length, hashes and flags.
const NAME_AT: usize = 4 + 16 + 8 + 1;

pub(super) fn encode(bytes: &[u8], received: UnixMillis, partitions: u32, to: &mut Outgoing) -> Option<()> {
    let record = only(bytes, received)?;
    let account_and_namespace = 4 + 2 + record.namespace.len();
    let name = bytes.get(NAME_AT..NAME_AT + account_and_namespace + 1 + record.unique_id.len())?;
    to.partition = partition_of(name, partitions);
    write_key(&record, &mut to.key);
    write_header(&record, &mut to.header);
    write_value(&record, &mut to.value);
    Some(())
}

fn write_key(record: &Record<'_>, to: &mut Vec<u8>) {
    write_number(u64::from(record.account), to);
    to.push(b'/');
    if !record.namespace.is_empty() {
        to.extend_from_slice(record.namespace.as_bytes());
        to.push(b'/');
    }
    to.extend_from_slice(record.unique_id.as_bytes());
}

fn write_header(record: &Record<'_>, to: &mut Vec<u8>) {
    let is_partly_filtered = record.filtered_in_part != 0;
    let version: &[u8] = match (record.has_own_dimensions(), is_partly_filtered) {
        (true, _) => b"3 ",
        (false, true) => b"2 ",
        (false, false) => b"1 ",
    };
    to.extend_from_slice(version);
    write_hex(&record.identity.0.to_be_bytes(), to);
    to.push(b' ');
    write_hex(&record.content.0.to_be_bytes(), to);
    to.push(b' ');
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags =
        flag(record.unique_id_generated, GENERATED) | flag(record.filtered, FILTERED) | flag(record.time_is_received(), TIME_RECEIVED);
    to.push(b'0' + flags);
    if is_partly_filtered || record.has_own_dimensions() {
        to.push(b' ');
        write_hex(&record.filtered_in_part.to_be_bytes(), to);
    }
}

/// Appends the value of an event's message.
pub fn write_value(record: &Record<'_>, to: &mut Vec<u8>) {
    to.extend_from_slice(b"{\"uniqueId\":");
    write_text(record.unique_id.as_bytes(), to);
    if !record.namespace.is_empty() {
        to.extend_from_slice(b",\"namespace\":");
        write_text(record.namespace.as_bytes(), to);
    }
    to.extend_from_slice(b",\"customerId\":");
    write_text(record.customer_id.as_bytes(), to);
    to.extend_from_slice(b",\"meterTimeInMillis\":");
    write_number(record.time.millis().0.unsigned_abs(), to);
    if record.time.0 % 1_000 != 0 {
        to.extend_from_slice(b",\"meterTimeInMicros\":");
        write_number(record.time.0.unsigned_abs(), to);
    }
    let mut measurements = record.measurements_as_bytes();
    if let (Some((meter, value)), None) = (measurements.next(), measurements.next()) {
        to.extend_from_slice(b",\"meterApiName\":");
        write_text(meter, to);
        to.extend_from_slice(b",\"meterValue\":");
        value.write(to);
    } else {
        to.extend_from_slice(b",\"values\":{");
        for (at, (meter, value)) in record.measurements_as_bytes().enumerate() {
            write_member(at, meter, to);
            value.write(to);
        }
        to.push(b'}');
    }
    to.extend_from_slice(b",\"dimensions\":{");
    write_dimensions(record.dimension_bytes(), to);
    if record.has_own_dimensions() {
        to.extend_from_slice(b",\"meterDimensions\":{");
        for (at, (meter, own)) in record.own_sets().enumerate() {
            write_member(at, meter.as_bytes(), to);
            to.push(b'{');
            write_dimensions(own, to);
        }
        to.push(b'}');
    }
    to.push(b'}');
}

/// Writes the members of an object, and its end.
fn write_dimensions(dimensions: &[u8], to: &mut Vec<u8>) {
    for (at, (key, value)) in dimensions_as_bytes(dimensions).enumerate() {
        write_member(at, key, to);
        write_text(value, to);
    }
    to.push(b'}');
}

fn write_member(at: usize, name: &[u8], to: &mut Vec<u8>) {
    if at > 0 {
        to.push(b',');
    }
    write_text(name, to);
    to.push(b':');
}

pub(super) fn decode(message: &Incoming<'_>, to: &mut Vec<u8>) -> Option<()> {
    let start = to.len();
    let header = Header::read(message.header?)?;
    let (account, name) = read_account(message.key?)?;
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(&header.identity.to_le_bytes());
    to.extend_from_slice(&header.content.to_le_bytes());
    to.push(
        header.flags & RECORD_FLAGS | if header.filtered.is_some() { PARTLY_FILTERED } else { 0 } | if header.has_own { OWN } else { 0 },
    );
    let mut value = Scanner(message.value?);
    value.literal(b"{\"uniqueId\":")?;
    read_name(account, name, &mut value, to)?;
    value.literal(b",\"customerId\":")?;
    short_text(&mut value, to)?;
    let time = read_time(&mut value)?;
    if header.flags & TIME_RECEIVED == 0 {
        to.extend_from_slice(&time.to_le_bytes());
    } else {
        // What the event did not bring is what the message says itself.
        (time == message.received.micros().0).then_some(())?;
        to.extend_from_slice(&i64::MIN.to_le_bytes());
    }
    let measurements_at = to.len();
    read_measurements(&mut value, to)?;
    value.literal(b",\"dimensions\":{")?;
    read_dimensions(&mut value, to)?;
    if let Some(filtered) = header.filtered {
        to.extend_from_slice(&filtered.to_le_bytes());
    }
    if header.has_own {
        value.literal(b",\"meterDimensions\":{")?;
        read_own(&mut value, measurements_at, to)?;
    }
    value.literal(b"}")?;
    value.0.is_empty().then_some(())?;
    let length = u32::try_from(to.len() - start - 4).ok()?;
    to[start..start + 4].copy_from_slice(&length.to_le_bytes());
    // Texts are UTF-8, the time has a bucket: whatever else makes a record.
    only(&to[start..], message.received).map(drop)
}

/// What is wrong with a message that cannot be decoded, as far as can be said.
pub(super) fn why(message: &Incoming<'_>) -> Why {
    match (message.header, message.key, message.value) {
        (_, _, None | Some([])) => Why::NoValue,
        (None, ..) => Why::NoHeader,
        (Some(header), ..) if Header::read(header).is_none() => Why::Header,
        (_, None, _) => Why::NoKey,
        (_, Some(key), _) if read_account(key).is_none() => Why::Key,
        _ => Why::Value,
    }
}

struct Header {
    identity: u128,
    content: u64,
    flags: u8,
    /// In version 2, and in version 3 if there are any.
    filtered: Option<u64>,
    /// In version 3.
    has_own: bool,
}

impl Header {
    fn read(header: &[u8]) -> Option<Self> {
        let (version, rest) = header.split_first_chunk::<2>()?;
        let (identity, rest) = rest.split_first_chunk::<32>()?;
        let (content, rest) = rest.strip_prefix(b" ")?.split_first_chunk::<16>()?;
        let [b' ', flags @ b'0'..=b'7', filtered @ ..] = rest else { return None };
        let filtered = match (version, filtered) {
            (b"1 ", []) => None,
            (b"2 ", [b' ', filtered @ ..]) if filtered.len() == 16 => Some(u64::try_from(read_hex(filtered)?).ok()?),
            (b"3 ", [b' ', filtered @ ..]) if filtered.len() == 16 => {
                Some(u64::try_from(read_hex(filtered)?).ok()?).filter(|bits| *bits != 0)
            }
            _ => return None,
        };
        let content = u64::try_from(read_hex(content)?).ok()?;
        Some(Self { identity: read_hex(identity)?, content, flags: flags - b'0', filtered, has_own: version == b"3 " })
    }
}

/// The account of a key, and what follows it.
fn read_account(key: &[u8]) -> Option<(u32, &[u8])> {
    let (account, name) = key.split_at_checked(memchr::memchr(b'/', key)?)?;
    Some((std::str::from_utf8(account).ok()?.parse().ok()?, name.get(1..)?))
}

/// Writes account, namespace and uniqueId, which stand in the value the other way round, and in the key.
fn read_name(account: u32, name: &[u8], value: &mut Scanner<'_>, to: &mut Vec<u8>) -> Option<()> {
    let at = to.len();
    let id_length = value.text(usize::from(u8::MAX), to)?;
    if !value.0.starts_with(b",\"namespace\":") {
        let id = to.get(at..at + id_length)?;
        (id == name).then_some(())?;
        to.truncate(at);
        write_id(to, account, "", std::str::from_utf8(name).ok()?);
        return Some(());
    }
    value.literal(b",\"namespace\":")?;
    let namespace_length = value.text(usize::from(u16::MAX), to).filter(|length| *length > 0)?;
    let (id, namespace) = to.get(at..)?.split_at_checked(id_length)?;
    let (in_key, id_in_key) = name.split_at_checked(namespace_length)?;
    (in_key == namespace && id_in_key.strip_prefix(b"/") == Some(id)).then_some(())?;
    to.truncate(at);
    write_id(to, account, std::str::from_utf8(in_key).ok()?, std::str::from_utf8(&id_in_key[1..]).ok()?);
    Some(())
}

/// In µs.
fn read_time(value: &mut Scanner<'_>) -> Option<i64> {
    value.literal(b",\"meterTimeInMillis\":")?;
    let millis = value.whole()?;
    if !value.has(b",\"meterTimeInMicros\":") {
        return millis.checked_mul(1_000);
    }
    let micros = value.whole()?;
    (micros / 1_000 == millis && micros % 1_000 != 0).then_some(micros)
}

fn read_measurements(value: &mut Scanner<'_>, to: &mut Vec<u8>) -> Option<()> {
    if value.has(b",\"meterApiName\":") {
        to.push(1);
        short_text(value, to)?;
        value.literal(b",\"meterValue\":")?;
        return read_decimal(value, to);
    }
    value.literal(b",\"values\":{")?;
    read_members(value, to, read_decimal)
}

fn read_decimal(value: &mut Scanner<'_>, to: &mut Vec<u8>) -> Option<()> {
    write_amount(Amount::parse(value.number()?).ok()?, to);
    Some(())
}

/// Writes dimensions up to the end of their object.
fn read_dimensions(value: &mut Scanner<'_>, to: &mut Vec<u8>) -> Option<()> {
    read_members(value, to, |value, to| {
        let length_at = to.len();
        to.extend_from_slice(&[0; 2]);
        let length = value.text(usize::from(u16::MAX), to)?;
        to[length_at..length_at + 2].copy_from_slice(&(length as u16).to_le_bytes());
        Some(())
    })
}

/// Writes the dimensions of each of the measurements that stand in `to`, of which those that have any are named here in their order.
fn read_own(value: &mut Scanner<'_>, measurements_at: usize, to: &mut Vec<u8>) -> Option<()> {
    let meters = record::meters(to.get(measurements_at..)?).map(str::to_owned).collect::<Vec<_>>();
    let mut meters = meters.iter();
    let mut is_first = true;
    while !value.has(b"}") {
        if !std::mem::take(&mut is_first) {
            value.literal(b",")?;
        }
        let mut name = Vec::new();
        value.text(usize::from(u8::MAX), &mut name)?;
        value.literal(b":{")?;
        // Those in between have none.
        while meters.next()?.as_bytes() != name {
            to.push(0);
        }
        let count_at = to.len();
        read_dimensions(value, to)?;
        (*to.get(count_at)? > 0).then_some(())?;
    }
    meters.for_each(|_| to.push(0));
    Some(())
}

/// Writes the members of an object behind their number, up to and with its end. Their names are sorted, and no two alike.
fn read_members(value: &mut Scanner<'_>, to: &mut Vec<u8>, item: impl Fn(&mut Scanner<'_>, &mut Vec<u8>) -> Option<()>) -> Option<()> {
    let count_at = to.len();
    to.push(0);
    let mut last: Option<std::ops::Range<usize>> = None;
    while !value.has(b"}") {
        if last.is_some() {
            value.literal(b",")?;
        }
        let name = short_text(value, to)?;
        if let Some(last) = last {
            (to[last] < to[name.clone()]).then_some(())?;
        }
        last = Some(name);
        value.literal(b":")?;
        item(value, to)?;
        to[count_at] = to[count_at].checked_add(1)?;
    }
    Some(())
}

/// Writes a text behind its length; gives back where it stands.
fn short_text(value: &mut Scanner<'_>, to: &mut Vec<u8>) -> Option<std::ops::Range<usize>> {
    let length_at = to.len();
    to.push(0);
    let length = value.text(usize::from(u8::MAX), to)?;
    to[length_at] = length as u8;
    Some(length_at + 1..to.len())
}
