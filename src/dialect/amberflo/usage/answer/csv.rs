//! Answers as CSV (RFC 4180): a line for each group and bucket, with the same buckets and digits as in JSON.
//!
//! | Column | |
//! |---|---|
//! | `query` | in batches only: the number of the query, from 0 on |
//! | `meter` | its API name |
//! | `aggregation` | what was computed, by default what the meter's type says |
//! | one for each key that is grouped by | its value; `""` where an event does not have it. In a batch, the keys of all queries in the order in which they come |
//! | `start` | begin of the bucket, RFC 3339: in UTC with `Z`, in another time zone as local time with its distance from UTC |
//! | `value` | the exact number, without exponent and trailing zeros |
//!
//! Texts stand as they came in: a program that takes cells for formulas must be told not to.

use std::io::Write as _;

use super::super::field_name;
use super::{Report, Shape, Value};
use crate::dialect::csv::write_text;
use crate::usage::{Measure, MeterType, Query, Zone, time_in_zone};

/// Names of all fields that are grouped by, each once, in the order in which they come.
pub(super) fn columns(reports: &[Report]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for name in reports.iter().flat_map(|report| report.asked.query.group_by()).map(field_name) {
        if !columns.iter().any(|known| known == name) {
            columns.push(name.to_owned());
        }
    }
    columns
}

/// The line with the names of the columns.
pub(super) fn begin(shape: Shape, columns: &[String], to: &mut Vec<u8>) {
    if shape == Shape::NumberedCsv {
        to.extend_from_slice(b"query,");
    }
    to.extend_from_slice(b"meter,aggregation,");
    for column in columns {
        write_text(column, to);
        to.push(b',');
    }
    to.extend_from_slice(b"start,value\r\n");
}

/// What all lines of a group begin with.
pub(super) fn begin_line(
    number: Option<usize>,
    query: &Query,
    meter_type: MeterType,
    columns: &[String],
    values: &[String],
    to: &mut Vec<u8>,
) {
    if let Some(number) = number {
        to.extend_from_slice(format!("{number},").as_bytes());
    }
    write_text(query.meter(), to);
    to.extend_from_slice(format!(",{},", label(query.measure(meter_type))).as_bytes());
    for column in columns {
        let value = query.group_by().iter().zip(values).find(|(field, _)| field_name(field) == column);
        write_text(value.map_or("", |(_, value)| value), to);
        to.push(b',');
    }
}

pub(super) fn write_value(line_begin: &[u8], value: &Value, zone: &Zone, to: &mut Vec<u8>) {
    to.extend_from_slice(line_begin);
    let written = write!(to, "{},{}\r\n", time_in_zone(value.start_s, zone), value.number);
    debug_assert!(written.is_ok(), "a vector takes everything");
}

fn label(measure: Measure<'_>) -> &'static str {
    match measure {
        Measure::Sum => "SUM",
        Measure::Min => "MIN",
        Measure::Max => "MAX",
        Measure::Count | Measure::Customers => "COUNT",
        Measure::Average => "AVG",
        Measure::Latest => "LATEST",
        Measure::Unique(_) => "UNIQUE",
    }
}
