//! The two forms in JSON (contract `amberflo.md` section 5).

use serde::{Serialize, Serializer};

use super::super::{Form, UsageQuery, field_name};
use super::Value;
use crate::event::Sum;
use crate::event::amount::PLACES;
use crate::sketch;
use crate::usage::{Approximate, Field, Group};

/// Appends anything that always has a JSON form: texts, exact decimals, lists and maps of them.
fn write(value: &impl Serialize, to: &mut Vec<u8>) {
    let written = serde_json::to_writer(to, value);
    debug_assert!(written.is_ok(), "a vector takes everything, and every key is a text");
}

pub(super) fn begin_report(asked: &UsageQuery, starts: &[i64], has_one_before: bool, to: &mut Vec<u8>) {
    if has_one_before {
        to.push(b',');
    }
    match asked.form {
        Form::A => {
            to.extend_from_slice(b"{\"clientMeters\":{");
            write(&asked.query.meter(), to);
            to.extend_from_slice(b":[");
        }
        Form::B => {
            to.extend_from_slice(b"{\"metadata\":");
            to.extend_from_slice(asked.metadata.get().as_bytes());
            to.extend_from_slice(b",\"secondsSinceEpochIntervals\":");
            write(&starts, to);
            to.extend_from_slice(b",\"clientMeters\":[");
        }
    }
}

pub(super) fn end_report(form: Form, to: &mut Vec<u8>) {
    to.extend_from_slice(match form {
        Form::A => b"]}}",
        Form::B => b"]}",
    });
}

pub(super) fn begin_group(asked: &UsageQuery, group: &Group, has_one_before: bool, to: &mut Vec<u8>) {
    if has_one_before {
        to.push(b',');
    }
    let group_info = GroupInfo { fields: asked.query.group_by(), values: &group.values };
    match asked.form {
        Form::A => {
            to.extend_from_slice(b"{\"groupInfo\":");
            write(&group_info, to);
            to.extend_from_slice(b",\"records\":[");
        }
        Form::B => {
            to.extend_from_slice(b"{\"group\":{\"groupInfo\":");
            write(&group_info, to);
            to.extend_from_slice(b"},\"groupValue\":");
            write(&Exact(group.total), to);
            write_approximate(group.approximate, to);
            to.extend_from_slice(b",\"values\":[");
        }
    }
}

/// Ours, and only where the numbers of a group are not exact.
fn write_approximate(Approximate { is_estimate, is_lower_bound }: Approximate, to: &mut Vec<u8>) {
    if is_estimate || is_lower_bound {
        to.extend_from_slice(b",\"approximate\":");
        write(&ApproximateB { standard_error: is_estimate.then(|| Exact(sketch::standard_error())), lower_bound: is_lower_bound }, to);
    }
}

pub(super) fn end_group(to: &mut Vec<u8>) {
    to.extend_from_slice(b"]}");
}

pub(super) fn write_value(form: Form, value: &Value, to: &mut Vec<u8>) {
    if !value.is_first {
        to.push(b',');
    }
    match form {
        Form::A => write(&Entry(value.start_s, Exact(value.number)), to),
        Form::B => write(
            &ValueB {
                value: Exact(value.number),
                seconds_since_epoch_utc: value.start_s,
                percentage_from_previous: Exact(value.number.percentage_from(value.previous)),
            },
            to,
        ),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ValueB {
    value: Exact,
    seconds_since_epoch_utc: i64,
    percentage_from_previous: Exact,
}

/// How far the numbers of a group may be from the truth.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApproximateB {
    /// Relative.
    #[serde(skip_serializing_if = "Option::is_none")]
    standard_error: Option<Exact>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lower_bound: bool,
}

/// Names and values of what was grouped by.
struct GroupInfo<'a> {
    fields: &'a [Field],
    values: &'a [String],
}

impl Serialize for GroupInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields.iter().map(field_name).zip(self.values))
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
