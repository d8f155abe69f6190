//! What is answered.

use serde::Serialize;
use serde::ser::Serializer;

use super::ByTimeQuestion;
use crate::clock::{UnixMicros, rfc3339};
use crate::event::Sum;
use crate::meters::Meter;
use crate::usage::{Answer, Field, Query};

/// Most numbers of an answer by time, all groups together.
pub const NUMBERS_MAX: usize = 100_000;
/// Most bytes of one: labels may be long, and each number has them.
const BYTES_MAX: usize = 32 << 20;

/// The answer would be larger than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer has more than {NUMBERS_MAX} numbers or {BYTES_MAX} bytes, the limits: ask for days, a shorter range or fewer groups")]
pub struct TooLarge;

/// The answer to a GET.
pub fn render(answer: &Answer) -> Vec<u8> {
    format!("{{\"usage\":{}}}", total(answer)).into_bytes()
}

/// Of the one group that there is, or nothing.
fn total(answer: &Answer) -> Sum {
    answer.groups.first().map_or(Sum::ZERO, |group| group.total)
}

/// What the answer to a POST is made of.
#[derive(Debug)]
pub struct ByTime<'a> {
    /// What was asked.
    pub question: &'a ByTimeQuestion,
    /// What was evaluated of each group.
    pub query: &'a Query,
    /// What is said of the meter, if anything is.
    pub definition: Option<&'a Meter>,
    /// Of each group.
    pub groups: &'a Answer,
    /// Of all together; `None`: there is one group.
    pub all: Option<&'a Answer>,
}

/// One number.
struct Point<'a> {
    start_s: i64,
    labels: &'a [String],
    usage: Sum,
}

impl ByTime<'_> {
    /// The answer: hours and days without usage are left out, the others come in the order of time, then labels.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn write(&self) -> Result<Vec<u8>, TooLarge> {
        if self.groups.numbers() > NUMBERS_MAX {
            return Err(TooLarge);
        }
        let of_group = self.groups.groups.iter().flat_map(|group| {
            group.buckets.iter().map(|(start_s, usage)| Point { start_s: *start_s, labels: &group.values, usage: *usage })
        });
        let mut points: Vec<_> = of_group.collect();
        points.sort_unstable_by(|one, other| (one.start_s, one.labels).cmp(&(other.start_s, other.labels)));
        let names =
            self.query.group_by().iter().filter_map(|field| if let Field::Dimension(name) = field { Some(name.as_str()) } else { None });
        let names: Vec<_> = names.collect();
        let mut to = self.begin();
        for (at, point) in points.iter().enumerate() {
            if at > 0 {
                to.push(b',');
            }
            write(&Shown { point, names: &names }, &mut to);
            if to.len() > BYTES_MAX {
                return Err(TooLarge);
            }
        }
        to.extend_from_slice(b"]}");
        Ok(to)
    }

    /// Up to the first number.
    fn begin(&self) -> Vec<u8> {
        let (start_s, end_s) = self.query.buckets().answered_s();
        let name = self.question.meter.as_str();
        let display_name = self.definition.map_or(name, |meter| &meter.said.display_name);
        let unit_name = self.definition.and_then(|meter| meter.ext.octane.get("unit_name"));
        let mut to = b"{\"meter_name\":".to_vec();
        write(&name, &mut to);
        to.extend_from_slice(b",\"meter_display_name\":");
        write(&display_name, &mut to);
        if let Some(unit_name) = unit_name {
            to.extend_from_slice(b",\"unit_name\":");
            write(unit_name, &mut to);
        }
        let total = total(self.all.unwrap_or(self.groups));
        let rest = format!(
            ",\"start_time\":\"{}\",\"end_time\":\"{}\",\"total_usage\":{total},\"usage_by_time\":[",
            shown_second(start_s),
            shown_second(end_s)
        );
        to.extend_from_slice(rest.as_bytes());
        to
    }
}

fn shown_second(time_s: i64) -> String {
    rfc3339::micros(UnixMicros::of_seconds(time_s))
}

/// Appends what always has a JSON form: texts, exact decimals, maps of texts.
fn write(value: &impl Serialize, to: &mut Vec<u8>) {
    let written = serde_json::to_writer(to, value);
    debug_assert!(written.is_ok(), "a vector takes everything, and every key is a text");
}

/// A number with the names of its labels.
struct Shown<'a> {
    point: &'a Point<'a>,
    names: &'a [&'a str],
}

struct Labels<'a>(&'a [&'a str], &'a [String]);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Members<'a> {
            time: String,
            usage: Sum,
            labels: Labels<'a>,
        }
        let Point { start_s, labels, usage } = self.point;
        Members { time: shown_second(*start_s), usage: *usage, labels: Labels(self.names, labels) }.serialize(serializer)
    }
}
