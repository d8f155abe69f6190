//! Puts checksums right, so that what they stand for is looked at. Bytes that are too few stay as they are.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

const SEGMENT_HEADER_BYTES: usize = 64;
const BLOCK_HEADER_BYTES: usize = 48;
const PAGE_BYTES: usize = 1_024;
const FOOTER_BYTES: usize = 64;

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|eight| u64::from_le_bytes(*eight))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|four| u32::from_le_bytes(*four))
}

/// Writes the checksum of a range at a place.
fn seal(bytes: &mut [u8], of: std::ops::Range<usize>, at: usize) {
    if let Some(covered) = bytes.get(of) {
        let crc = crc32c::crc32c(covered).to_le_bytes();
        if let Some(place) = bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&crc);
        }
    }
}

/// A segment of the log, also its blocks' positions.
pub(super) fn segment(bytes: &mut [u8]) {
    let Some(mut next) = u64_at(bytes, 28) else { return };
    seal(bytes, 0..36, 36);
    let mut at = SEGMENT_HEADER_BYTES;
    while let (Some(payload), Some(count)) = (u32_at(bytes, at + 8), u32_at(bytes, at + 12)) {
        if at + BLOCK_HEADER_BYTES > bytes.len() {
            return;
        }
        bytes[at + 16..at + 24].copy_from_slice(&next.to_le_bytes());
        let end = at + BLOCK_HEADER_BYTES + payload as usize;
        seal(bytes, at + BLOCK_HEADER_BYTES..end, at + 40);
        seal(bytes, at..at + 44, at + 44);
        next = next.wrapping_add(u64::from(count));
        at = end;
    }
}

/// The index of a segment.
pub(super) fn sparse_index(bytes: &mut [u8]) {
    if let Some(end) = bytes.len().checked_sub(4) {
        seal(bytes, 0..end, end);
    }
}

/// A run of the dedup index.
pub(super) fn run(bytes: &mut [u8]) {
    let Some(footer) = bytes.len().checked_sub(FOOTER_BYTES) else { return };
    let pages = u64_at(bytes, footer + 16).map_or(0, |pages| usize::try_from(pages).unwrap_or(usize::MAX)).min(footer / PAGE_BYTES);
    for page in 0..pages {
        let begin = page * PAGE_BYTES;
        seal(bytes, begin..begin + PAGE_BYTES - 4, begin + PAGE_BYTES - 4);
    }
    seal(bytes, pages * PAGE_BYTES..footer, footer + 32);
    seal(bytes, footer..footer + 60, footer + 60);
}

/// The rows of a base.
pub(super) fn frames(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(items) = u32_at(bytes, at) {
        let end = at + 8 + items as usize;
        seal(bytes, at + 8..end, at + 4);
        at = end;
    }
}

/// A JSON file with a checksum of one of its members.
pub(super) fn json(bytes: &mut Vec<u8>, member: &str) {
    let Ok(members) = serde_json::from_slice::<std::collections::BTreeMap<String, Box<RawValue>>>(bytes) else { return };
    let Some(content) = members.get(member) else { return };
    let crc = crc32c::crc32c(content.get().as_bytes());
    *bytes = format!("{{\"{member}\":{content},\"crc32c\":{crc}}}").into_bytes();
}

/// The metadata of a log.
pub(super) fn meta(bytes: &mut Vec<u8>) {
    let Ok(mut members) = serde_json::from_slice::<Map<String, Value>>(bytes) else { return };
    let shown = |name: &str| match members.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let horizon = match shown("dedup_horizon_ms") {
        none if none == "null" || none.is_empty() => "None".to_owned(),
        ms => format!("Some({ms})"),
    };
    let [format, version, id, key, partitions, sets] =
        ["format", "record_version", "log_id", "hash_key", "partitions", "dimension_sets_max"].map(shown);
    let text = format!("{format} {version} {id} {key} {partitions} {horizon} {sets}");
    members.insert("crc32c".into(), crc32c::crc32c(text.as_bytes()).into());
    *bytes = Value::from(members).to_string().into_bytes();
}
