//! Answers to usage queries, written as a stream: no tree of values is built, whatever the number of groups.

use std::io;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Form, UsageQuery, field_name};
use crate::event::Sum;
use crate::event::amount::PLACES;
use crate::sketch;
use crate::usage::{Answer, Approximate, Field, Group, Query};

/// Largest answer, in bytes. 100,000 groups with a value for each day of a month fit.
pub const ANSWER_BYTES_MAX: usize = 384 << 20;

/// Whether form B has the buckets without events, as 0. Form A never has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gaps {
    /// `/usage`.
    Filled,
    /// `/usage/sparse`.
    LeftOut,
}

/// The answer is larger than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer has more than {bytes_max} bytes, the limit: ask for longer intervals, a shorter range or fewer groups")]
pub struct TooLarge {
    /// The limit.
    pub bytes_max: usize,
}

/// The body of an answer as it grows: one report, or an array of them.
#[derive(Debug)]
pub struct Body {
    to: Limited,
    is_array: bool,
    reports: usize,
}

impl Body {
    /// The body of `POST /usage`: takes one report. Limited to `bytes_max`.
    pub fn single(bytes_max: usize) -> Self {
        Self { to: Limited { bytes: Vec::new(), bytes_max }, is_array: false, reports: 0 }
    }

    /// The body of a batch: takes any number of reports. Limited to `bytes_max`.
    pub fn array(bytes_max: usize) -> Self {
        Self { to: Limited { bytes: b"[".to_vec(), bytes_max }, is_array: true, reports: 0 }
    }

    /// Writes the answer to a query.
    ///
    /// # Errors
    /// [`TooLarge`]: the body is of no use any more.
    pub fn push(&mut self, asked: &UsageQuery, answer: &Answer, gaps: Gaps) -> Result<(), TooLarge> {
        debug_assert!(self.is_array || self.reports == 0, "a single report");
        let too_large = TooLarge { bytes_max: self.to.bytes_max };
        if self.reports > 0 {
            io::Write::write_all(&mut self.to, b",").map_err(|_| too_large)?;
        }
        self.reports += 1;
        let written = match asked.form {
            Form::A => serde_json::to_writer(&mut self.to, &form_a(&asked.query, answer)),
            Form::B => serde_json::to_writer(&mut self.to, &form_b(asked, answer, gaps)),
        };
        // Nothing but the limit can fail: keys are strings, numbers exact decimals.
        written.map_err(|_| too_large)
    }

    /// The whole body.
    pub fn finish(mut self) -> Vec<u8> {
        if self.is_array {
            self.to.bytes.push(b']');
        }
        self.to.bytes
    }
}

/// Bytes up to a limit.
#[derive(Debug)]
struct Limited {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportA<M> {
    client_meters: M,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupA<'a, R> {
    group_info: GroupInfo<'a>,
    records: R,
}

fn form_a<'a>(query: &'a Query, answer: &'a Answer) -> impl Serialize {
    let group_a = move |group: &'a Group| GroupA {
        group_info: GroupInfo::of(query, group),
        records: Each(move || group.buckets.iter().map(|(start_s, number)| Entry(*start_s, Exact(*number)))),
    };
    ReportA { client_meters: Entry(query.meter(), Each(move || answer.groups.iter().map(group_a))) }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportB<'a, G> {
    metadata: &'a RawValue,
    seconds_since_epoch_intervals: &'a [i64],
    client_meters: G,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupB<'a, V> {
    group: Grouping<'a>,
    group_value: Exact,
    /// Ours: only where the values are not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    approximate: Option<ApproximateB>,
    values: V,
}

/// How far the values of a group may be from the truth.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApproximateB {
    /// Relative.
    #[serde(skip_serializing_if = "Option::is_none")]
    standard_error: Option<Exact>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lower_bound: bool,
}

impl ApproximateB {
    fn of(Approximate { is_estimate, is_lower_bound }: Approximate) -> Option<Self> {
        let standard_error = is_estimate.then(|| Exact(sketch::standard_error()));
        (is_estimate || is_lower_bound).then_some(Self { standard_error, lower_bound: is_lower_bound })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Grouping<'a> {
    group_info: GroupInfo<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ValueB {
    value: Exact,
    seconds_since_epoch_utc: i64,
    percentage_from_previous: Exact,
}

fn form_b<'a>(asked: &'a UsageQuery, answer: &'a Answer, gaps: Gaps) -> impl Serialize {
    let starts = &answer.bucket_starts[..];
    let group_b = move |group: &'a Group| GroupB {
        group: Grouping { group_info: GroupInfo::of(&asked.query, group) },
        group_value: Exact(group.total),
        approximate: ApproximateB::of(group.approximate),
        values: Values { starts, buckets: &group.buckets, gaps },
    };
    let client_meters = Each(move || answer.groups.iter().map(group_b));
    ReportB { metadata: &asked.metadata, seconds_since_epoch_intervals: starts, client_meters }
}

/// The series of a group. What a value is compared with is the bucket before it, whether that has events or not, so that
/// leaving out the gaps changes no percentage.
struct Values<'a> {
    starts: &'a [i64],
    buckets: &'a [(i64, Sum)],
    gaps: Gaps,
}

impl Values<'_> {
    /// Every bucket of the range, those without events as 0.
    fn filled(&self) -> impl Iterator<Item = ValueB> {
        let mut known = self.buckets.iter().peekable();
        let mut previous = Sum::ZERO;
        self.starts.iter().map(move |start_s| {
            let number = known.next_if(|(known_s, _)| known_s == start_s).map_or(Sum::ZERO, |(_, number)| *number);
            value_b(*start_s, number, std::mem::replace(&mut previous, number))
        })
    }

    /// The buckets that have events.
    fn sparse(&self) -> impl Iterator<Item = ValueB> {
        self.buckets.iter().enumerate().map(|(at, (start_s, number))| {
            let bucket_before = self.starts.partition_point(|start| start < start_s).checked_sub(1).map(|index| self.starts[index]);
            let known_before = at.checked_sub(1).map(|index| self.buckets[index]);
            let previous = known_before.filter(|(known_s, _)| Some(*known_s) == bucket_before).map_or(Sum::ZERO, |(_, number)| number);
            value_b(*start_s, *number, previous)
        })
    }
}

fn value_b(start_s: i64, number: Sum, previous: Sum) -> ValueB {
    ValueB { value: Exact(number), seconds_since_epoch_utc: start_s, percentage_from_previous: Exact(number.percentage_from(previous)) }
}

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.gaps {
            Gaps::Filled => serializer.collect_seq(self.filled()),
            Gaps::LeftOut => serializer.collect_seq(self.sparse()),
        }
    }
}

/// Names and values of what was grouped by.
struct GroupInfo<'a> {
    fields: &'a [Field],
    values: &'a [String],
}

impl<'a> GroupInfo<'a> {
    fn of(query: &'a Query, group: &'a Group) -> Self {
        Self { fields: query.group_by(), values: &group.values }
    }
}

impl Serialize for GroupInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields.iter().map(field_name).zip(self.values))
    }
}

/// The items of an iterator as an array, without collecting them.
struct Each<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0())
    }
}

/// An object with one member.
struct Entry<K, V>(K, V);

impl<K: Serialize, V: Serialize> Serialize for Entry<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(&self.0, &self.1)])
    }
}

/// A number of an answer. Most are whole and small: those go the way without a text in between.
struct Exact(Sum);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let scale = 10_i128.pow(PLACES);
        let scaled = i128::try_from(self.0.scaled()).ok().filter(|scaled| scaled % scale == 0);
        match scaled.and_then(|scaled| i64::try_from(scaled / scale).ok()) {
            Some(whole) => serializer.serialize_i64(whole),
            None => self.0.serialize(serializer),
        }
    }
}
