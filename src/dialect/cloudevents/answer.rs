//! Answers to queries of meters (contract `cloudevents.md` section 3), written piece by piece. Rows come group by group, the largest one
//! first, and in the order of time in each; windows without events are left out.
//!
//! The columns of CSV are `window_start`, `window_end`, `subject`, `customer_id` (if customers are filtered for), the groups in the order in
//! which they were asked for, and `value`.

use std::io::Write as _;
use std::vec::IntoIter;

use serde::Serialize;
use serde_json::json;

use super::query::{MeterQuery, window_word};
use crate::clock::rfc3339;
use crate::dialect::csv::write_text;
use crate::event::Sum;
use crate::usage::{Answer, Buckets, Field, Group, Query, Zone, time_in_zone};

/// Most rows of an answer.
pub const ROWS_MAX: usize = 10_000_000;

/// The answer would have more rows than [`ROWS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer has more than {ROWS_MAX} rows, the limit: ask for longer windows, a shorter range or fewer groups")]
pub struct TooLarge;

/// In what form an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A `MeterQueryResult`.
    Json,
    /// Lines, the first of which has the names of the columns.
    Csv,
}

/// The windows of an answer.
#[derive(Debug)]
struct Windows {
    /// Where each begins, in s since 1970, ascending; behind the last one stands its end.
    edges: Vec<i64>,
    /// Whether there is only one, and it has the totals.
    is_one: bool,
}

impl Windows {
    fn of(buckets: &Buckets, starts: Vec<i64>, is_one: bool) -> Self {
        let (start_s, end_s) = buckets.answered_s();
        let mut edges = if is_one { vec![start_s] } else { starts };
        edges.push(if is_one { end_s } else { buckets.end_s() });
        Self { edges, is_one }
    }

    /// Begin and end of the window that begins with a bucket.
    fn around(&self, start_s: i64) -> (i64, i64) {
        let behind = self.edges.partition_point(|edge| *edge <= start_s).clamp(1, self.edges.len().max(2) - 1);
        (self.edges[behind - 1], self.edges[behind])
    }

    /// The values of a group: the begin of its window, and the number.
    fn values(&self, group: Group) -> Vec<(i64, Sum)> {
        match self.edges.first() {
            Some(start_s) if self.is_one => vec![(*start_s, group.total)],
            _ => group.buckets,
        }
    }
}

/// A group that is being written.
#[derive(Debug)]
struct Open {
    values: IntoIter<(i64, Sum)>,
    /// What stands in each of its rows between the window and the value, or behind both.
    said: Vec<u8>,
}

/// Writes the body of an answer, as much at a time as is wanted.
#[derive(Debug)]
pub struct Writer {
    asked: MeterQuery,
    form: Form,
    group_by: Vec<Field>,
    windows: Windows,
    groups: IntoIter<Group>,
    open: Option<Open>,
    has_begun: bool,
    has_rows: bool,
    has_ended: bool,
    numbers: usize,
}

impl Writer {
    /// Of what was found; [`None`]: nothing can be.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn new(asked: MeterQuery, form: Form, found: Option<(Query, Answer)>) -> Result<Self, TooLarge> {
        let is_one = asked.window.is_none();
        let nothing = (Vec::new(), Windows { edges: Vec::new(), is_one }, Vec::new());
        let (group_by, windows, groups) = found.map_or(nothing, |(query, answer)| {
            (query.group_by().to_vec(), Windows::of(query.buckets(), answer.bucket_starts, is_one), answer.groups)
        });
        let of_group = |group: &Group| if is_one { 1 } else { group.buckets.len() };
        let rows: usize = groups.iter().map(of_group).sum();
        if rows > ROWS_MAX {
            return Err(TooLarge);
        }
        let numbers = groups.iter().map(|group| group.buckets.len() + 1).sum();
        let groups = groups.into_iter();
        Ok(Self { asked, form, group_by, windows, groups, open: None, has_begun: false, has_rows: false, has_ended: false, numbers })
    }

    /// Numbers in memory.
    pub fn numbers_held(&self) -> usize {
        self.numbers
    }

    /// Appends the next part of the body: until `to` has so many bytes, or a little more, or the body is whole. Says whether there is more.
    pub fn write(&mut self, to: &mut Vec<u8>, bytes: usize) -> bool {
        while to.len() < bytes && !self.has_ended {
            self.step(to);
        }
        !self.has_ended
    }

    fn step(&mut self, to: &mut Vec<u8>) {
        if !self.has_begun {
            self.has_begun = true;
            self.begin(to);
        } else if let Some(open) = &mut self.open {
            match open.values.next() {
                None => self.open = None,
                Some((start_s, value)) => {
                    let window = self.windows.around(start_s);
                    match self.form {
                        Form::Json => write_row(window, value, &open.said, self.has_rows, to),
                        Form::Csv => write_line(window, value, &open.said, to),
                    }
                    self.has_rows = true;
                }
            }
        } else if let Some(group) = self.groups.next() {
            let said = self.said_of(&group);
            self.open = Some(Open { values: self.windows.values(group).into_iter(), said });
        } else {
            self.has_ended = true;
            if self.form == Form::Json {
                to.extend_from_slice(b"]}");
            }
        }
    }

    fn begin(&self, to: &mut Vec<u8>) {
        match self.form {
            Form::Json => {
                to.push(b'{');
                for (name, time) in [("from", self.asked.from), ("to", self.asked.to)] {
                    if let Some(time) = time {
                        write_json(&name, to);
                        to.push(b':');
                        write_json(&rfc3339::shortest(time), to);
                        to.push(b',');
                    }
                }
                if let Some(interval) = self.asked.window {
                    to.extend_from_slice(b"\"windowSize\":");
                    write_json(&window_word(interval), to);
                    to.push(b',');
                }
                to.extend_from_slice(b"\"data\":[");
            }
            Form::Csv => {
                to.extend_from_slice(b"window_start,window_end,subject,");
                if self.asked.shows_customer {
                    to.extend_from_slice(b"customer_id,");
                }
                for name in self.asked.groups() {
                    write_text(name, to);
                    to.push(b',');
                }
                to.extend_from_slice(b"value\r\n");
            }
        }
    }

    fn said_of(&self, group: &Group) -> Vec<u8> {
        let pairs = || self.group_by.iter().zip(&group.values);
        let customer = pairs().find(|(field, _)| **field == Field::Customer).map(|(_, value)| value.as_str());
        let subject = customer.filter(|_| self.asked.shows_subject);
        let customer = customer.filter(|_| self.asked.shows_customer);
        let dimension = |(field, value): (&Field, &String)| match field {
            Field::Dimension(name) => Some((name.clone(), value.as_str().into())),
            Field::Customer => None,
        };
        let mut said = Vec::new();
        match self.form {
            Form::Json => {
                let groups: serde_json::Map<_, _> = pairs().filter_map(dimension).collect();
                let mut members = json!({"subject": subject, "groupBy": groups});
                if let Some(customer) = customer {
                    members["customerId"] = customer.into();
                }
                write_json(&members, &mut said);
            }
            Form::Csv => {
                let texts = pairs().filter(|(field, _)| **field != Field::Customer).map(|(_, value)| value.as_str());
                let customers = self.asked.shows_customer.then_some(customer.unwrap_or_default());
                for text in [subject.unwrap_or_default()].into_iter().chain(customers).chain(texts) {
                    said.push(b',');
                    write_text(text, &mut said);
                }
            }
        }
        said
    }
}

/// Appends anything that always has a JSON form: texts, and maps of them.
fn write_json(value: &impl Serialize, to: &mut Vec<u8>) {
    let written = serde_json::to_writer(to, value);
    debug_assert!(written.is_ok(), "a vector takes everything, and every key is a text");
}

/// `said` is an object with further members.
fn write_row((start_s, end_s): (i64, i64), value: Sum, said: &[u8], has_one_before: bool, to: &mut Vec<u8>) {
    if has_one_before {
        to.push(b',');
    }
    let (start, end) = (time_in_zone(start_s, &Zone::default()), time_in_zone(end_s, &Zone::default()));
    let written = write!(to, "{{\"value\":{value},\"windowStart\":\"{start}\",\"windowEnd\":\"{end}\",");
    debug_assert!(written.is_ok(), "a vector takes everything");
    to.extend_from_slice(said.get(1..).unwrap_or_default());
}

/// `said` are the fields between, with a comma before each.
fn write_line((start_s, end_s): (i64, i64), value: Sum, said: &[u8], to: &mut Vec<u8>) {
    let written = write!(to, "{},{}", time_in_zone(start_s, &Zone::default()), time_in_zone(end_s, &Zone::default()));
    to.extend_from_slice(said);
    let written = written.and_then(|()| write!(to, ",{value}\r\n"));
    debug_assert!(written.is_ok(), "a vector takes everything");
}

/// Writes the subjects of an answer that is grouped by them: one JSON array, in the order of their bytes.
#[derive(Debug)]
pub struct Subjects {
    subjects: IntoIter<String>,
    has_begun: bool,
}

impl Subjects {
    /// Of what was found.
    pub fn of(found: Option<Answer>) -> Self {
        let groups = found.map(|answer| answer.groups).unwrap_or_default();
        let mut subjects: Vec<String> = groups.into_iter().filter_map(|group| group.values.into_iter().next()).collect();
        subjects.sort_unstable();
        Self { subjects: subjects.into_iter(), has_begun: false }
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Writer::write`].
    pub fn write(&mut self, to: &mut Vec<u8>, bytes: usize) -> bool {
        while to.len() < bytes {
            let separator = if std::mem::replace(&mut self.has_begun, true) { b',' } else { b'[' };
            match self.subjects.next() {
                Some(subject) => {
                    to.push(separator);
                    write_json(&subject, to);
                }
                None => {
                    to.extend_from_slice(if separator == b'[' { b"[]" } else { b"]" });
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
