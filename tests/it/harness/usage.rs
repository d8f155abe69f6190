//! Questions about usage, and their answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Client, DAY_0_S, DAY_S};

/// A question that is put together before it is asked: form B of the contract, over the 31 days from the first one on.
pub(crate) struct Question<'c> {
    client: &'c Client,
    meter: String,
    from_s: i64,
    to_s: i64,
    interval: &'static str,
    filter: serde_json::Map<String, Value>,
    group_by: Vec<String>,
    wait_s: Option<u32>,
}

impl<'c> Question<'c> {
    pub(super) fn new(client: &'c Client, meter: &str) -> Self {
        let (from_s, to_s) = (DAY_0_S, DAY_0_S + 31 * DAY_S);
        let (filter, group_by) = (serde_json::Map::new(), Vec::new());
        Self { client, meter: meter.into(), from_s, to_s, interval: "DAY", filter, group_by, wait_s: None }
    }

    /// Of one customer.
    pub(crate) fn customer(self, id: &str) -> Self {
        self.only("customerId", id)
    }

    /// Only what has this value in a field.
    pub(crate) fn only(mut self, field: &str, value: &str) -> Self {
        self.filter.insert(field.into(), json!([value]));
        self
    }

    /// One group for each value of a field.
    pub(crate) fn by(mut self, field: &str) -> Self {
        self.group_by.push(field.into());
        self
    }

    /// Of another time.
    pub(crate) fn between(mut self, from_s: i64, to_s: i64) -> Self {
        (self.from_s, self.to_s) = (from_s, to_s);
        self
    }

    /// `HOUR`, `DAY`, `WEEK` or `MONTH`.
    pub(crate) fn every(mut self, interval: &'static str) -> Self {
        self.interval = interval;
        self
    }

    /// How long the rows may take to catch up.
    pub(crate) fn wait_s(mut self, seconds: u32) -> Self {
        self.wait_s = Some(seconds);
        self
    }

    /// Asks, and expects an answer.
    #[track_caller]
    pub(crate) fn ask(self, aggregation: &str) -> Usage {
        let answer = self.ask_somehow(aggregation);
        assert_eq!(answer.status, 200, "{}", answer.shown());
        Usage { report: answer.json(), answer }
    }

    /// Asks, and takes whatever comes.
    #[track_caller]
    pub(crate) fn ask_somehow(self, aggregation: &str) -> Answer {
        let mut query = json!({
            "meterApiName": self.meter, "aggregation": aggregation, "timeGroupingInterval": self.interval,
            "timeRange": {"startTimeInSeconds": self.from_s, "endTimeInSeconds": self.to_s},
        });
        if !self.filter.is_empty() {
            query["filter"] = Value::Object(self.filter);
        }
        if !self.group_by.is_empty() {
            query["groupBy"] = json!(self.group_by);
        }
        let prefer = self.wait_s.map(|seconds| format!("wait={seconds}"));
        let headers: Vec<_> = prefer.iter().map(|value| ("prefer", value.as_str())).collect();
        self.client.post("/usage", &headers, query.to_string())
    }

    /// The exact sum, all in all.
    #[track_caller]
    pub(crate) fn sum(self) -> String {
        self.complete("SUM")
    }

    /// The number of events.
    #[track_caller]
    pub(crate) fn count(self) -> usize {
        self.complete("COUNT").parse().expect("a whole number")
    }

    /// The smallest value.
    #[track_caller]
    pub(crate) fn min(self) -> String {
        self.complete("MIN")
    }

    /// The largest value.
    #[track_caller]
    pub(crate) fn max(self) -> String {
        self.complete("MAX")
    }

    #[track_caller]
    fn complete(self, aggregation: &str) -> String {
        let question = if self.wait_s.is_none() { self.wait_s(30) } else { self };
        let usage = question.ask(aggregation);
        assert!(usage.is_complete(), "{}", usage.answer.shown());
        usage.total()
    }
}

/// An answer to a question.
pub(crate) struct Usage {
    /// As it came.
    pub(crate) answer: Answer,
    report: Value,
}

impl Usage {
    /// The number of the only group; 0 if nothing was used.
    #[track_caller]
    pub(crate) fn total(&self) -> String {
        let groups = self.groups();
        assert!(groups.len() <= 1, "one group was asked for: {groups:?}");
        groups.into_values().next().unwrap_or_else(|| "0".into())
    }

    /// The number of each group, by its values joined with `/`.
    #[track_caller]
    pub(crate) fn groups(&self) -> BTreeMap<String, String> {
        let groups = self.report["clientMeters"].as_array().expect("an array");
        let key = |group: &Value| {
            let values = group["group"]["groupInfo"].as_object().expect("an object").values();
            values.map(|value| value.as_str().expect("a text").to_owned()).collect::<Vec<_>>().join("/")
        };
        groups.iter().map(|group| (key(group), group["groupValue"].to_string())).collect()
    }

    /// The numbers of the only group by the begin of their bucket, those that are not 0.
    #[track_caller]
    pub(crate) fn buckets(&self) -> BTreeMap<i64, String> {
        let groups = self.report["clientMeters"].as_array().expect("an array");
        let values = groups.iter().flat_map(|group| group["values"].as_array().expect("an array"));
        let buckets = values.map(|value| (value["secondsSinceEpochUtc"].as_i64().expect("seconds"), value["value"].to_string()));
        buckets.filter(|(_, number)| number != "0").collect()
    }

    /// Whether everything acked before is in it, as the answer says.
    #[track_caller]
    pub(crate) fn is_complete(&self) -> bool {
        let complete = self.answer.header("tollgate-complete").expect("every answer says so");
        complete.parse().expect("true or false")
    }

    /// Up to where the rows of the only partition go.
    #[track_caller]
    pub(crate) fn position(&self) -> u64 {
        let positions = self.answer.header("tollgate-positions").expect("every answer says so");
        positions.strip_prefix("0=").and_then(|next| next.parse().ok()).expect("`0=` and a number")
    }
}
