//! What was used, day by day, on Stigg's wire (contract `stigg.md` section 5).

use serde::Serialize;

use super::fields::time;
use super::pages::Query as Parameters;
use crate::clock::UnixMillis;
use crate::customers::CustomerId;
use crate::dialect::ApiError;
use crate::event::{DIMENSION_KEY_BYTES_MAX, Sum};
use crate::store::row::DAY_S;
use crate::usage::{Aggregation, Answer, Buckets, Draft, Field, Interval, Query, QueryError, TIME_S_MAX, TimeRange, Zone};

const DAY_NS: i128 = DAY_S as i128 * 1_000_000_000;
/// The dimension that a resource is.
const RESOURCE: &str = super::events::RESOURCE;

/// What is asked, and how it is answered.
#[derive(Debug, Clone)]
pub struct History {
    /// The sums of whole days of UTC.
    pub query: Query,
    /// Whether those are more than what was asked for.
    pub is_widened: bool,
    group_by: Option<String>,
}

impl History {
    /// Reads the parameters of a GET `/api/v1/usage/{customerId}/history/{featureId}`. The answer has the days that the range touches.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn parse(
        (account, customer, feature): (u32, &CustomerId, &str),
        parameters: &Parameters,
        now: UnixMillis,
    ) -> Result<Self, ApiError> {
        let moment = |name: &'static str| {
            let text = parameters.text(name).filter(|text| !text.is_empty());
            text.map(|text| time(text).map_err(|reason| ApiError::bad_field(name, reason))).transpose()
        };
        let start = moment("startDate")?.ok_or_else(|| ApiError::bad_field("startDate", "is missing"))?;
        let end = moment("endDate")?;
        if end.is_some_and(|end| end <= start) {
            return Err(ApiError::bad_field("endDate", "must be after startDate"));
        }
        if end.is_none() && start > i128::from(now.0) * 1_000_000 {
            return Err(ApiError::bad_field("startDate", "lies in the future; without endDate the history ends now"));
        }
        // An event of this very millisecond may be acked.
        let last = end.unwrap_or((i128::from(now.0) + 1) * 1_000_000);
        // Between the years 1970 and 9999, so both are few.
        let days = (start.div_euclid(DAY_NS) as i64, (last + DAY_NS - 1).div_euclid(DAY_NS) as i64);
        let (start_s, end_s) = (days.0 * DAY_S, (days.1 * DAY_S).min(TIME_S_MAX));
        let is_widened = end.is_some_and(|end| i128::from(end_s) * 1_000_000_000 != end) || i128::from(start_s) * 1_000_000_000 != start;
        let group_by = parameters.text("groupBy").filter(|name| !name.is_empty()).map(str::to_owned);
        if group_by.as_ref().is_some_and(|name| name.len() > DIMENSION_KEY_BYTES_MAX) {
            return Err(ApiError::bad_field("groupBy", format!("has more than {DIMENSION_KEY_BYTES_MAX} bytes, the limit")));
        }
        let mut filters = vec![(Field::Customer, vec![customer.as_str().to_owned()])];
        filters.extend(parameters.text("resourceId").map(|id| (Field::Dimension(RESOURCE.into()), vec![id.to_owned()])));
        let range = TimeRange::new(start_s, end_s).map_err(refused)?;
        let draft = Draft {
            account,
            meter: feature.to_owned(),
            aggregation: Some(Aggregation::Sum),
            buckets: Buckets::new(range, Interval::Day, Zone::default()).map_err(refused)?,
            filters,
            group_by: group_by.iter().map(|name| Field::Dimension(name.clone())).collect(),
            take: None,
        };
        Ok(Self { query: Query::check(draft).map_err(refused)?, is_widened, group_by })
    }

    /// The answer as JSON.
    pub fn render(&self, answer: &Answer) -> Vec<u8> {
        let tags = |values: &[String]| {
            let tag = |(key, value): (&String, &String)| Tag { key: key.clone(), value: value.clone() };
            self.group_by.iter().zip(values).map(tag).collect()
        };
        let point = |(start_s, value): &(i64, Sum)| Point {
            timestamp: UnixMillis(start_s * 1_000).to_string(),
            value: *value,
            is_reset_point: false,
        };
        let series =
            answer.groups.iter().map(|group| Series { tags: tags(&group.values), points: group.buckets.iter().map(point).collect() });
        let data = Data { markers: [], series: series.collect() };
        // Texts and exact decimals always have a JSON form.
        serde_json::to_vec(&Envelope { data }).unwrap_or_default()
    }
}

fn refused(error: QueryError) -> ApiError {
    let field = match error {
        QueryError::StartOutside => "startDate",
        QueryError::EndOutside | QueryError::EndNotAfterStart => "endDate",
        QueryError::MeterEmpty | QueryError::MeterTooLong => "featureId",
        QueryError::TooManyGroupKeys => "groupBy",
        QueryError::TooManyBuckets
        | QueryError::TooManyZonedBuckets
        | QueryError::ZoneUnknown
        | QueryError::TooManyFilterValues
        | QueryError::TooManyLookUps => "startDate",
    };
    ApiError::bad_field(field, error)
}

#[derive(Serialize)]
struct Envelope {
    data: Data,
}

#[derive(Serialize)]
struct Data {
    /// Nothing is ever reset.
    markers: [(); 0],
    series: Vec<Series>,
}

#[derive(Serialize)]
struct Series {
    tags: Vec<Tag>,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Tag {
    key: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Point {
    timestamp: String,
    value: Sum,
    is_reset_point: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::row::HOUR_S;
    use crate::usage::memory::{MemoryRows, event};
    use crate::usage::{Limits, MeterType, evaluate};

    const DAY_0: i64 = 1_767_225_600;
    /// Noon of the third of January 2026.
    const NOW: UnixMillis = UnixMillis((DAY_0 + 2 * DAY_S + 12 * HOUR_S) * 1_000);

    fn parse(parameters: &[(&str, &str)]) -> Result<History, String> {
        let customer = CustomerId::parse("acme").expect("an id");
        let pairs = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        History::parse((1, &customer, "tokens"), &Parameters::new(pairs), NOW).map_err(|error| error.message)
    }

    #[test]
    fn the_days_that_a_range_touches_are_answered_whole() {
        let days = |parameters: &[(&str, &str)]| {
            let history = parse(parameters).expect("a question");
            let (start_s, end_s) = history.query.buckets().answered_s();
            ((start_s - DAY_0) as f64 / DAY_S as f64, (end_s - DAY_0) as f64 / DAY_S as f64, history.is_widened)
        };
        assert_eq!(days(&[("startDate", "2026-01-01T00:00:00+00:00")]), (0.0, 3.0, false));
        assert_eq!(days(&[("startDate", "2026-01-01T23:59:59.999999999Z")]), (0.0, 3.0, true));
        let whole = [("startDate", "2026-01-02T01:00:00+01:00"), ("endDate", "2026-01-03T00:00:00.000Z")];
        assert_eq!(days(&whole), (1.0, 2.0, false));
        let part = [("startDate", "2026-01-02T00:00:00Z"), ("endDate", "2026-01-03T00:00:00.000000001Z")];
        assert_eq!(days(&part), (1.0, 3.0, true));
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let start = ("startDate", "2026-01-01T00:00:00Z");
        let long = "d".repeat(129);
        for (parameters, said) in [
            (&[][..], "startDate is missing"),
            (&[("startDate", "")], "startDate is missing"),
            (&[("startDate", "today")], "startDate must be a time in RFC 3339, such as 2026-01-01T00:00:00Z"),
            (&[("startDate", "2026-01-03T12:00:00.001Z")], "startDate lies in the future; without endDate the history ends now"),
            (&[start, ("endDate", "2026-01-01T00:00:00Z")], "endDate must be after startDate"),
            (&[start, ("endDate", "1969-12-31T00:00:00Z")], "endDate must be a time between the years 1970 and 9999"),
            (&[start, ("groupBy", &long)], "groupBy has more than 128 bytes, the limit"),
            (
                &[("startDate", "1970-01-01T00:00:00Z"), ("endDate", "9999-01-01T00:00:00Z")],
                "startDate cuts the range into more than 100000 buckets, the limit",
            ),
        ] {
            assert_eq!(parse(parameters).map(|_| ()), Err(said.into()), "{parameters:?}");
        }
    }

    #[test]
    fn an_answer_has_a_point_for_each_day_with_usage() {
        let events = [
            event("acme", DAY_0, "1.5").dimensions(&[("region", "eu"), ("resourceId", "r")]),
            event("acme", DAY_0 + 3 * HOUR_S, "2"),
            event("acme", DAY_0 + 2 * DAY_S, "4").dimensions(&[("region", "eu")]),
            event("other", DAY_0, "8"),
        ];
        let rows = MemoryRows::of(&events);
        let shown = |parameters: &[(&str, &str)]| {
            let history = parse(&[&[("startDate", "2026-01-01T00:00:00Z")], parameters].concat()).expect("a question");
            let answer = evaluate(&history.query, MeterType::MaxInPeriod, &rows, Limits::default()).expect("rows in memory");
            String::from_utf8(history.render(&answer)).expect("text")
        };
        let point =
            |day: u32, value: &str| format!(r#"{{"timestamp":"2026-01-0{day}T00:00:00.000Z","value":{value},"isResetPoint":false}}"#);
        let data = |series: &str| format!(r#"{{"data":{{"markers":[],"series":[{series}]}}}}"#);
        let series = |tags: &str, points: &[String]| format!(r#"{{"tags":[{tags}],"points":[{}]}}"#, points.join(","));
        assert_eq!(shown(&[]), data(&series("", &[point(1, "3.5"), point(3, "4")])));
        let by_region = [
            series(r#"{"key":"region","value":"eu"}"#, &[point(1, "1.5"), point(3, "4")]),
            series(r#"{"key":"region","value":""}"#, &[point(1, "2")]),
        ];
        assert_eq!(shown(&[("groupBy", "region")]), data(&by_region.join(",")));
        assert_eq!(shown(&[("resourceId", "r")]), data(&series("", &[point(1, "1.5")])));
        assert_eq!(shown(&[("resourceId", "none")]), data(""));
    }
}
