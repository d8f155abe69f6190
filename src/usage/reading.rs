//! Which rows are read for an answer: as few as there can be, in the order of time.

use std::ops::{ControlFlow, Range};

use super::{Buckets, Interval};
use crate::store::row::HOUR_S;
use crate::store::{self, Grain, Row, RowKey, RowSelection, Rows};

/// Most ranges of keys that one scan is made of: with a filter of many customers, a scan is cut into several.
const RANGES_MAX: usize = 10_000;
/// Most hours of a bucket that are in no whole day of UTC.
const EDGE_HOURS_MAX: usize = 46;
/// Buckets of customers that are looked for with one question.
const BUCKETS_AT_ONCE: usize = 64;
/// Look-ups for the meters that have events of a customer in a range.
const METER_LOOK_UPS_MAX: usize = 500_000;
/// Meters that are looked at for those that have events in a range.
pub const METERS_LOOKED_AT_MAX: usize = 10_000;

/// Which rows make up the buckets of a range, in the order of time: days of UTC that lie in one bucket, and the hours between them.
pub(super) fn plan(buckets: &Buckets, starts: &[i64]) -> Vec<(Grain, Range<u32>)> {
    let hours = buckets.hours();
    if buckets.interval() == Interval::Hour {
        return vec![(Grain::Hour, hours)];
    }
    let mut scans: Vec<(Grain, Range<u32>)> = Vec::new();
    // The first bucket may begin before the range, even before 1970.
    let hour = |start: &i64| u32::try_from(start / HOUR_S).unwrap_or(0).clamp(hours.start, hours.end);
    let ends = starts.iter().skip(1).map(hour).chain([hours.end]);
    for (grain, scan) in starts.iter().map(hour).zip(ends).flat_map(|(start, end)| days_and_edges(start..end)) {
        match scans.last_mut() {
            // One begins where the last one ended.
            Some((last_grain, last)) if *last_grain == grain => last.end = scan.end,
            _ => scans.push((grain, scan)),
        }
    }
    scans
}

/// A range of hours as whole days of UTC and what is left at its ends.
fn days_and_edges(hours: Range<u32>) -> impl Iterator<Item = (Grain, Range<u32>)> {
    let days = hours.start.div_ceil(24)..hours.end / 24;
    let scans = if days.is_empty() {
        [(Grain::Hour, hours), (Grain::Day, 0..0), (Grain::Hour, 0..0)]
    } else {
        let (before, behind) = (hours.start..days.start * 24, days.end * 24..hours.end);
        [(Grain::Hour, before), (Grain::Day, days), (Grain::Hour, behind)]
    };
    scans.into_iter().filter(|(_, buckets)| !buckets.is_empty())
}

/// Most hours and days that [`plan`] has, without making it.
pub(super) fn buckets_read_max(buckets: &Buckets) -> usize {
    let hours = buckets.hours().len();
    let buckets_max = match buckets.interval() {
        Interval::Hour => return hours,
        // Buckets of whole days of UTC: the edges are those of the range.
        Interval::Day | Interval::Week | Interval::Month if buckets.zone().is_utc() => 1,
        Interval::Day => return hours,
        Interval::Week => hours / (7 * 24 - 1) + 2,
        Interval::Month => hours / (28 * 24 - 1) + 2,
    };
    hours.min(hours / 24 + EDGE_HOURS_MAX * buckets_max)
}

pub(super) fn selection(account: u32, meter: &str, grain: Grain, buckets: Range<u32>, customers: Option<&[String]>) -> RowSelection {
    RowSelection { account, meter: meter.to_owned(), grain, from: buckets.start, to: buckets.end, customers: customers.map(<[_]>::to_vec) }
}

/// Scans until `visit` has had enough, a bounded number of key ranges at a time.
pub(super) fn scan(
    rows: &dyn Rows,
    mut selection: RowSelection,
    visit: &mut dyn FnMut(RowKey<'_>, &Row) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, store::Error> {
    let (from, to) = (selection.from, selection.to);
    let step = match &selection.customers {
        Some(customers) if customers.is_empty() => return Ok(ControlFlow::Continue(())),
        Some(customers) => (RANGES_MAX / customers.len()).max(1),
        None => (to - from) as usize,
    };
    let mut has_had_enough = false;
    for from in (from..to).step_by(step) {
        (selection.from, selection.to) = (from, to.min(from.saturating_add(step as u32)));
        let result = rows.scan(&selection, &mut |key, row| match visit(key, row) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                has_had_enough = true;
                // An error is the only way out of a scan; nobody sees this one.
                Err(store::Error::Failed("the scan was left".into()))
            }
        });
        if has_had_enough {
            return Ok(ControlFlow::Break(()));
        }
        result?;
    }
    Ok(ControlFlow::Continue(()))
}

/// Which rows are looked for: of a meter, in hours or days, and whose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) account: u32,
    pub(super) meter: &'p str,
    /// Sorted; `None`: anybody's.
    pub(super) customers: Option<&'p [String]>,
}

/// Whether there is any row at a place in a range of hours or days; `None`: what was left of look-ups was not enough to tell. Each bucket of a
/// customer is a look-up, and so is a step over those that nobody has a row in.
pub(super) fn has_row(
    rows: &dyn Rows,
    place: Place<'_>,
    (grain, buckets): (Grain, Range<u32>),
    look_ups_left: &mut usize,
) -> Result<Option<bool>, store::Error> {
    let Place { account, meter, customers } = place;
    let mut from = buckets.start;
    while let Some(bucket) = first_bucket(rows, account, meter, grain, from..buckets.end)? {
        let Some(customers) = customers else { return Ok(Some(true)) };
        if customers.is_empty() {
            return Ok(Some(false));
        }
        let at_once = (BUCKETS_AT_ONCE / customers.len()).max(1);
        let Some(left) = look_ups_left.checked_sub(1 + at_once * customers.len()) else { return Ok(None) };
        *look_ups_left = left;
        from = bucket.saturating_add(at_once as u32).min(buckets.end);
        let ranges = selection(account, meter, grain, bucket..from, Some(customers)).key_ranges();
        if rows.first_key(&ranges)?.is_some() {
            return Ok(Some(true));
        }
    }
    Ok(Some(false))
}

/// The first of some hours or days that has a row of a meter.
pub(super) fn first_bucket(
    rows: &dyn Rows,
    account: u32,
    meter: &str,
    grain: Grain,
    buckets: Range<u32>,
) -> Result<Option<u32>, store::Error> {
    if buckets.is_empty() {
        return Ok(None);
    }
    let key = rows.first_key(&selection(account, meter, grain, buckets, None).key_ranges())?;
    Ok(key.and_then(|key| RowKey::read(&key).map(|key| key.bucket)))
}

/// Begin of the first day of UTC, in s since 1970, on which a meter has events.
///
/// # Errors
/// The rows cannot be read.
pub fn first_day_s(rows: &dyn Rows, account: u32, meter: &str) -> Result<Option<i64>, store::Error> {
    let first = first_bucket(rows, account, meter, Grain::Day, 0..u32::MAX)?;
    Ok(first.map(|day| i64::from(day) * Grain::Day.seconds()))
}

/// The meters of an account that have events in a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetersInRange {
    /// Their names, shorter ones first, names of one length in the order of their bytes.
    pub names: Vec<String>,
    /// Whether there may be more: as many as were asked for were found, [`METERS_LOOKED_AT_MAX`] were looked at, or a customer was looked for on
    /// very many days.
    pub cut: bool,
}

/// Meters that have events in a range of hours, of some customers (sorted) or of all: the first `meters_max` of them. A few look-ups for each
/// meter, however many rows it has.
///
/// # Errors
/// The rows cannot be read.
pub fn meters_in_range(
    rows: &dyn Rows,
    account: u32,
    hours: Range<u32>,
    customers: Option<&[String]>,
    meters_max: usize,
) -> Result<MetersInRange, store::Error> {
    let mut names = Vec::new();
    let mut look_ups_left = METER_LOOK_UPS_MAX;
    let mut next = rows.next_meter(account, None)?;
    for _ in 0..METERS_LOOKED_AT_MAX {
        let Some(meter) = next else { return Ok(MetersInRange { names, cut: false }) };
        next = rows.next_meter(account, Some(&meter))?;
        let place = Place { account, meter: &meter, customers };
        let mut has_rows = false;
        for part in days_and_edges(hours.clone()) {
            let Some(found) = has_row(rows, place, part, &mut look_ups_left)? else { return Ok(MetersInRange { names, cut: true }) };
            has_rows |= found;
        }
        if has_rows && names.len() == meters_max {
            return Ok(MetersInRange { names, cut: true });
        }
        if has_rows {
            names.push(meter);
        }
    }
    Ok(MetersInRange { names, cut: next.is_some() })
}

#[cfg(test)]
mod tests;
