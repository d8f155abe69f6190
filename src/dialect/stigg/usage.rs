//! Reports of usage on Stigg's wire (contract `stigg.md` section 4): what a body brings, and the measurements that answer it.
//!
//! A measurement is the record that counts under its id: a report that was sent before is answered as it was then. Its total is that behind
//! this record: all that its customer ever used of the feature, but for what stands behind it in the same report.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::events::{RESOURCE, read_usage};
use super::fields::object;
use crate::clock::UnixMillis;
use crate::dialect::ApiError;
use crate::dialect::draft::Scratch;
use crate::event::parse::{BodyError, Element, Parser};
use crate::event::{Amount, Code, IdentityMode, Rejection, Sum, TimeWindow};

/// Most usages of a report.
pub const USAGES_MAX: usize = 100;
/// Under which name they stand in a body.
pub const USAGES: &str = "usages";

/// The body of a report: one usage, or an object that has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The usage, or an array of them, as they were sent.
    pub events: Bytes,
    /// Whether the answer is one measurement.
    pub is_single: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'b> {
    #[serde(borrow)]
    usages: Option<&'b RawValue>,
    customer_id: Option<IgnoredAny>,
    feature_id: Option<IgnoredAny>,
}

impl Report {
    /// Takes a body apart; what is in a usage is not looked at.
    ///
    /// # Errors
    /// 400.
    pub fn parse(body: Bytes) -> Result<Self, ApiError> {
        // Says what is wrong with what is no object.
        object(&body)?;
        let members: Members<'_> = match body.is_empty() {
            true => Members { usages: None, customer_id: None, feature_id: None },
            false => serde_json::from_slice(&body).map_err(|error| ApiError::bad_field("the body", format!("cannot be read: {error}")))?,
        };
        let Some(usages) = members.usages else {
            let is_single = members.customer_id.is_some() || members.feature_id.is_some();
            return if is_single { Ok(Self { events: body, is_single }) } else { Err(ApiError::bad_field(USAGES, "is missing")) };
        };
        let all: Vec<&RawValue> = serde_json::from_str(usages.get()).map_err(|_| ApiError::bad_field(USAGES, "must be an array"))?;
        if !(1..=USAGES_MAX).contains(&all.len()) {
            return Err(ApiError::bad_field(USAGES, format!("has {} entries, it must be 1 to {USAGES_MAX}", all.len())));
        }
        Ok(Self { events: body.slice_ref(usages.get().as_bytes()), is_single: false })
    }
}

/// What one usage says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Whose.
    pub customer: String,
    /// Of what.
    pub feature: String,
    value: Amount,
    /// With the resource.
    dimensions: BTreeMap<String, String>,
    /// Whether it came with an `idempotencyKey`.
    pub has_key: bool,
}

/// The usages of [`Report::events`], as the gateway read them when it was received.
///
/// # Errors
/// What is wrong with one. Nothing, if the gateway took them.
pub fn read_usages(events: &[u8], received: UnixMillis, window: TimeWindow) -> Result<Vec<Usage>, Rejection> {
    let mut parser = Parser::default();
    let wrong = |error: BodyError| Rejection::new(Code::WrongType, "", error.to_string());
    let parsed = parser.parse(events, USAGES_MAX).map_err(wrong)?;
    let mut scratch = Scratch::default();
    let mut usages = Vec::new();
    for Element { members, .. } in parsed.elements() {
        let event = read_usage(members?, &mut scratch, received, window)?;
        let dimensions = event.dimensions().iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        usages.extend(event.measurements().first().map(|measurement| Usage {
            customer: event.customer_id().to_owned(),
            feature: measurement.meter.to_owned(),
            value: measurement.value,
            dimensions: dimensions.collect(),
            has_key: !event.unique_id_generated(),
        }));
    }
    Ok(usages)
}

/// What is answered for one usage.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    id: String,
    received: UnixMillis,
    time: UnixMillis,
    usage: Usage,
    /// Whether its value is in the total of its customer and feature.
    counts: bool,
}

/// The fields of a record that a usage became.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    customer_id: String,
    meter_api_name: String,
    meter_value: serde_json::Number,
    meter_time_in_millis: i64,
    dimensions: BTreeMap<String, String>,
}

impl Measurement {
    /// Of a usage that was received just now.
    pub fn new(usage: Usage, id: String, time: UnixMillis, received: UnixMillis) -> Self {
        Self { id, received, time, usage, counts: true }
    }

    /// The id, as sent or as made.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Becomes the record that stands first under its id, as the log has it. That may be of somebody else, or of another feature: then the usage that came now counts
    /// nowhere.
    pub fn settle(&mut self, first: &RawValue, received: UnixMillis, is_filtered: bool) {
        let stored: Option<Stored> = serde_json::from_str(first.get()).ok();
        let stored = stored.filter(|stored| stored.customer_id == self.usage.customer && stored.meter_api_name == self.usage.feature);
        let Some((stored, value)) =
            stored.and_then(|stored| Amount::parse(stored.meter_value.as_str().as_bytes()).ok().map(|value| (stored, value)))
        else {
            self.counts = false;
            return;
        };
        self.received = received;
        self.time = UnixMillis(stored.meter_time_in_millis);
        self.usage.value = value;
        self.usage.dimensions = stored.dimensions;
        self.counts = !is_filtered;
    }

    fn render(&self, total: Sum) -> Value {
        json!({
            "id": self.id, "createdAt": self.received.to_string(), "timestamp": self.time.to_string(),
            "customerId": self.usage.customer, "featureId": self.usage.feature, "value": Sum::from(self.usage.value), "currentUsage": total,
            "resourceId": self.usage.dimensions.get(RESOURCE), "nextResetDate": null, "usagePeriodStart": null, "usagePeriodEnd": null,
        })
    }
}

/// By customer and feature.
pub type Totals = BTreeMap<(String, String), Sum>;

/// The measurements of a report as they go out. `totals`: once all of it was counted.
pub fn render(measurements: &[Measurement], identity: IdentityMode, mut totals: Totals) -> Vec<Value> {
    let mut seen = HashSet::new();
    // What tells an event from others: not how much it is.
    let attributes = |one: &Measurement| match identity {
        IdentityMode::UniqueId => None,
        IdentityMode::AllAttributes => {
            let Usage { customer, feature, dimensions, .. } = one.usage.clone();
            Some((customer, feature, dimensions, one.time.0))
        }
    };
    let is_first: Vec<bool> = measurements.iter().map(|one| seen.insert((one.id.as_str(), attributes(one)))).collect();
    // From the last one back: what stands behind a record is not in its total.
    let back = measurements.iter().zip(is_first).rev().map(|(one, is_first)| {
        let total = totals.entry((one.usage.customer.clone(), one.usage.feature.clone())).or_default();
        let shown = one.render(*total);
        if one.counts && is_first {
            *total = Sum::from_scaled(total.scaled() - Sum::from(one.usage.value).scaled());
        }
        shown
    });
    let mut shown: Vec<Value> = back.collect();
    shown.reverse();
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<(String, bool), String> {
        let report = Report::parse(Bytes::copy_from_slice(body.as_bytes()));
        report.map(|report| (String::from_utf8(report.events.to_vec()).expect("text"), report.is_single)).map_err(|error| error.message)
    }

    #[test]
    fn a_report_is_one_usage_or_an_object_that_has_some() {
        assert_eq!(parse(r#" {"usages": [{"a":1}, 7] , "x":0}"#), Ok((r#"[{"a":1}, 7]"#.into(), false)));
        assert_eq!(parse(r#"{"customerId":"c"}"#), Ok((r#"{"customerId":"c"}"#.into(), true)));
        assert_eq!(parse(r#"{"usages":null,"featureId":"f"}"#), Ok((r#"{"usages":null,"featureId":"f"}"#.into(), true)));
        let many = format!(r#"{{"usages":[{}]}}"#, vec!["{}"; USAGES_MAX + 1].join(","));
        for (body, said) in [
            ("", "usages is missing"),
            ("{}", "usages is missing"),
            (r#"{"usages":null}"#, "usages is missing"),
            (r#"{"usages":{}}"#, "usages must be an array"),
            (r#"{"usages":[]}"#, "usages has 0 entries, it must be 1 to 100"),
            (&many, "usages has 101 entries, it must be 1 to 100"),
            ("[]", "the body must be a JSON object"),
            ("{", "the body is not JSON: EOF while parsing an object at line 1 column 1"),
        ] {
            assert_eq!(parse(body), Err(said.into()), "{body}");
        }
    }

    fn measurement(id: &str, value: &[u8], counts: bool) -> Measurement {
        let value = Amount::parse(value).expect("an amount");
        let usage = Usage { customer: "acme".into(), feature: "seats".into(), value, dimensions: BTreeMap::new(), has_key: true };
        Measurement { counts, ..Measurement::new(usage, id.into(), UnixMillis(5), UnixMillis(7)) }
    }

    #[test]
    fn a_total_is_that_behind_its_record() {
        let measurements = [
            measurement("a", b"1", true),
            measurement("b", b"10", true),
            // Once more, and something that a rule dropped.
            measurement("b", b"10", true),
            measurement("c", b"100", false),
            measurement("d", b"1000", true),
        ];
        let totals = BTreeMap::from([(("acme".to_owned(), "seats".to_owned()), Sum::from_count(6_011))]);
        let current: Vec<_> =
            render(&measurements, IdentityMode::UniqueId, totals).iter().map(|one| one["currentUsage"].to_string()).collect();
        assert_eq!(current, ["5001", "5011", "5011", "5011", "6011"]);
        // Where a key is not all that tells: of one key, the same at another time is another one, and another value is not.
        let later = Measurement { time: UnixMillis(6), ..measurement("a", b"2", true) };
        let measurements = [measurement("a", b"1", true), measurement("a", b"9", true), later];
        let totals = BTreeMap::from([(("acme".to_owned(), "seats".to_owned()), Sum::from_count(3))]);
        let shown = render(&measurements, IdentityMode::AllAttributes, totals);
        assert_eq!(shown.iter().map(|one| one["currentUsage"].to_string()).collect::<Vec<_>>(), ["1", "1", "3"]);
        assert_eq!(
            render(&measurements[..1], IdentityMode::UniqueId, BTreeMap::new())[0]["currentUsage"],
            json!(0),
            "a total that nobody has"
        );
    }
}
