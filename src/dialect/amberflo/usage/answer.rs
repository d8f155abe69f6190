//! Answers to usage queries, written piece by piece: neither a tree of values nor the text of a whole answer is in memory, whatever the
//! number of groups.

mod csv;
mod json;

use std::vec::IntoIter;

use super::{Form, UsageQuery};
use crate::event::Sum;
use crate::usage::{Answer, Group, MeterType};

/// Most numbers of a body: values of groups, and begins of buckets where a report lists them. 100,000 groups with a value for each day of a
/// month have a third of it; their JSON has about 250 MB.
pub const NUMBERS_MAX: usize = 10_000_000;

/// Whether form B has the buckets without events, as 0. Form A never has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gaps {
    /// `/usage`.
    Filled,
    /// `/usage/sparse`.
    LeftOut,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One report, in JSON.
    One,
    /// An array of reports, in JSON.
    Array,
    /// Lines of CSV, for one query or all meters.
    Csv,
    /// Lines of CSV that begin with the number of the query in its batch, from 0 on.
    NumberedCsv,
}

impl Shape {
    fn is_csv(self) -> bool {
        match self {
            Self::Csv | Self::NumberedCsv => true,
            Self::One | Self::Array => false,
        }
    }
}

/// The answer would be larger than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer has more than {numbers_max} numbers, the limit: ask for longer intervals, a shorter range or fewer groups")]
pub struct TooLarge {
    /// The limit.
    pub numbers_max: usize,
}

/// The answer to one query, with what it takes to write it.
#[derive(Debug)]
pub struct Report {
    /// As it was asked.
    pub asked: UsageQuery,
    /// The type of its meter.
    pub meter_type: MeterType,
    /// What was found.
    pub answer: Answer,
}

/// All that is to be written of a request's answer, and how much that may be.
#[derive(Debug)]
pub struct Reports {
    shape: Shape,
    gaps: Gaps,
    reports: Vec<Report>,
    numbers: usize,
    numbers_max: usize,
}

impl Reports {
    /// None yet.
    pub fn new(shape: Shape, gaps: Gaps, numbers_max: usize) -> Self {
        Self { shape, gaps, reports: Vec::new(), numbers: 0, numbers_max }
    }

    /// Takes one more.
    ///
    /// # Errors
    /// [`TooLarge`]: with this one there would be too much to write; it was not taken.
    pub fn push(&mut self, report: Report) -> Result<(), TooLarge> {
        debug_assert!(self.shape != Shape::One || self.reports.is_empty(), "a single report");
        let starts = report.answer.bucket_starts.len();
        let listed = if report.asked.form == Form::B && !self.shape.is_csv() { starts } else { 0 };
        let values = match Series::gaps(&report, self.gaps) {
            Gaps::Filled => report.answer.groups.len().saturating_mul(starts),
            Gaps::LeftOut => report.answer.numbers(),
        };
        let numbers = self.numbers.saturating_add(listed).saturating_add(values);
        if numbers > self.numbers_max {
            return Err(TooLarge { numbers_max: self.numbers_max });
        }
        self.numbers = numbers;
        self.reports.push(report);
        Ok(())
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Report> {
        self.reports.iter()
    }

    /// Numbers in memory.
    pub fn numbers_held(&self) -> usize {
        self.reports.iter().map(|report| report.answer.numbers() + report.answer.groups.len()).sum()
    }

    /// Begins to write them.
    pub fn into_writer(self) -> Writer {
        let columns = if self.shape.is_csv() { csv::columns(&self.reports) } else { Vec::new() };
        Writer {
            shape: self.shape,
            gaps: self.gaps,
            columns,
            reports: self.reports.into_iter(),
            written: 0,
            open: None,
            stage: Stage::Begin,
        }
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Reports,
    End,
}

/// Writes the body of an answer, as much at a time as is wanted. What was written is no longer in memory.
#[derive(Debug)]
pub struct Writer {
    shape: Shape,
    gaps: Gaps,
    /// Names of the fields that CSV has a column for.
    columns: Vec<String>,
    reports: IntoIter<Report>,
    /// Reports that were begun.
    written: usize,
    open: Option<OpenReport>,
    stage: Stage,
}

/// A report that is being written.
#[derive(Debug)]
struct OpenReport {
    asked: UsageQuery,
    meter_type: MeterType,
    gaps: Gaps,
    starts: Vec<i64>,
    groups: IntoIter<Group>,
    /// Whether a group of it was written.
    has_groups: bool,
    group: Option<OpenGroup>,
}

/// A group that is being written.
#[derive(Debug)]
struct OpenGroup {
    group: Group,
    series: Series,
    /// What each line of CSV begins with.
    line_begin: Vec<u8>,
}

impl Writer {
    /// Appends the next part of the body: until `to` has so many bytes, or a little more, or the body is whole. Says whether there is more.
    pub fn write(&mut self, to: &mut Vec<u8>, bytes: usize) -> bool {
        while to.len() < bytes {
            if !self.step(to) {
                return false;
            }
        }
        true
    }

    /// Appends one more value, or what stands between values; nothing at the end.
    fn step(&mut self, to: &mut Vec<u8>) -> bool {
        match (self.stage, &mut self.open) {
            (Stage::Begin, _) => {
                self.begin(to);
                self.stage = Stage::Reports;
                true
            }
            (Stage::Reports, Some(report)) => {
                if !report.step(self.shape, &self.columns, self.written - 1, to) {
                    self.open = None;
                }
                true
            }
            (Stage::Reports, None) => {
                let Some(report) = self.reports.next() else {
                    self.stage = Stage::End;
                    if self.shape == Shape::Array {
                        to.push(b']');
                    }
                    return false;
                };
                self.open = Some(OpenReport::begin(report, self.shape, self.gaps, self.written > 0, to));
                self.written += 1;
                true
            }
            (Stage::End, _) => false,
        }
    }

    fn begin(&self, to: &mut Vec<u8>) {
        match self.shape {
            Shape::One => {}
            Shape::Array => to.push(b'['),
            Shape::Csv | Shape::NumberedCsv => csv::begin(self.shape, &self.columns, to),
        }
    }
}

impl OpenReport {
    fn begin(report: Report, shape: Shape, gaps: Gaps, has_one_before: bool, to: &mut Vec<u8>) -> Self {
        let gaps = Series::gaps(&report, gaps);
        let Report { asked, meter_type, answer } = report;
        if !shape.is_csv() {
            json::begin_report(&asked, &answer.bucket_starts, has_one_before, to);
        }
        let (starts, groups) = (answer.bucket_starts, answer.groups.into_iter());
        Self { asked, meter_type, gaps, starts, groups, has_groups: false, group: None }
    }

    /// Appends one more value or the begin or end of a group; says whether the report goes on.
    fn step(&mut self, shape: Shape, columns: &[String], number: usize, to: &mut Vec<u8>) -> bool {
        if let Some(open) = &mut self.group {
            match open.series.next(&self.starts, &open.group.buckets, self.gaps) {
                Some(value) if shape.is_csv() => csv::write_value(&open.line_begin, &value, self.asked.query.buckets().zone(), to),
                Some(value) => json::write_value(self.asked.form, &value, to),
                None => {
                    if !shape.is_csv() {
                        json::end_group(to);
                    }
                    self.group = None;
                }
            }
            return true;
        }
        let Some(group) = self.groups.next() else {
            if !shape.is_csv() {
                json::end_report(self.asked.form, to);
            }
            return false;
        };
        let mut line_begin = Vec::new();
        if shape.is_csv() {
            let number = (shape == Shape::NumberedCsv).then_some(number);
            csv::begin_line(number, &self.asked.query, self.meter_type, columns, &group.values, &mut line_begin);
        } else {
            json::begin_group(&self.asked, &group, self.has_groups, to);
        }
        self.has_groups = true;
        self.group = Some(OpenGroup { group, series: Series::default(), line_begin });
        true
    }
}

/// A bucket of a group as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value {
    is_first: bool,
    start_s: i64,
    number: Sum,
    /// Of the bucket before it, whether that has events or not.
    previous: Sum,
}

/// Where the series of a group stands. What a value is compared with is the bucket before it, so that leaving out the gaps changes no
/// percentage.
#[derive(Debug, Default)]
struct Series {
    written: usize,
    /// Of the buckets with events, those that are written.
    known: usize,
}

impl Series {
    /// Whether a report shows the buckets without events.
    fn gaps(report: &Report, asked_for: Gaps) -> Gaps {
        match report.asked.form {
            Form::A => Gaps::LeftOut,
            Form::B => asked_for,
        }
    }

    fn next(&mut self, starts: &[i64], known: &[(i64, Sum)], gaps: Gaps) -> Option<Value> {
        let is_first = self.written == 0;
        let (at, start_s) = match gaps {
            Gaps::Filled => (self.written, *starts.get(self.written)?),
            Gaps::LeftOut => {
                let start_s = known.get(self.known)?.0;
                (starts.partition_point(|start| *start < start_s), start_s)
            }
        };
        let before = at.checked_sub(1).and_then(|before| starts.get(before));
        let number_at = |index: Option<usize>, start: Option<&i64>| {
            let (start_s, number) = known.get(index?)?;
            (Some(start_s) == start).then_some(*number)
        };
        let previous = number_at(self.known.checked_sub(1), before).unwrap_or(Sum::ZERO);
        let number = number_at(Some(self.known), Some(&start_s));
        self.written += 1;
        self.known += usize::from(number.is_some());
        Some(Value { is_first, start_s, number: number.unwrap_or(Sum::ZERO), previous })
    }
}
