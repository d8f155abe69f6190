//! Usage.

use serde_json::json;

use super::meters::AGGREGATIONS;
use super::{name, name_in, time_in};
use crate::accounts::Scope;
use crate::api::openapi::complete;
use crate::dialect::octane::usage::NUMBERS_MAX;
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX};
use crate::openapi::{Operation, Schema};
use crate::usage::{BUCKETS_MAX, FILTER_VALUES_MAX, GROUP_BY_MAX};

/// What both queries have in common. Every event that was acknowledged before is seen, as in every dialect.
fn asks(id: &str, summary: &str, about: &str, answer: Schema, example: serde_json::Value) -> Operation {
    let (complete, about_complete, schema) = complete();
    let yes = || Schema::words(&["true"]);
    Operation::new(id, summary)
        .about(about)
        .needs(Scope::Read)
        .path("name", name("The customer."))
        .header("Prefer", Schema::text().about("`wait=N`: seconds to wait for what was just acknowledged; without it 2."))
        .may_be_unknown()
        .answers("The usage", answer)
        .example(example)
        .always_with_header(complete, about_complete, schema)
        .always_with_header("Tollgate-Positions", "Up to where the rows go: `partition=next position`, comma-separated.", Schema::text())
        .with_header("Tollgate-Range", "`start-end` in seconds since 1970, where a range was moved to whole hours.", Schema::text())
        .with_header("Tollgate-Groups-Cut", "There are more groups than an answer has.", yes())
        .with_header("Tollgate-Overflow", "Events that have lost their labels were filtered or grouped by labels.", yes())
        .with_header("Tollgate-Approximate", "Of numbers of different values: how far from the truth they may be.", Schema::text())
}

pub(in crate::api::octane) fn show() -> Operation {
    let time = |about: &str| Schema::text().about(about).about("RFC 3339, or seconds since 1970.").example("2026-01-01T00:00:00Z");
    let about = "What a counter has counted, as its aggregation says, or the latest value of a gauge. A range is widened to whole hours. A meter that nobody \
                 defined is a counter that sums; without measurements its usage is 0.";
    let answer = Schema::object().has("usage", Schema::number()).named("OctaneUsage");
    asks("octaneGetUsage", "Ask for usage", about, answer, json!({"usage": 12.5}))
        .required_query("meter_name", name_in("The meter."))
        .query(
            "start_time",
            time("The first moment; without it that of the month. A gauge is then asked for the latest value of all before the end."),
        )
        .query("end_time", time("The end, which is not part of it; without it that of the month that is running."))
}

pub(in crate::api::octane) fn show_by_time() -> Operation {
    let filter = Schema::object()
        .has("key", Schema::name_to(DIMENSION_KEY_BYTES_MAX))
        .has("value", Schema::text_to(DIMENSION_VALUE_BYTES_MAX))
        .named("OctaneLabelFilter");
    let filters = Schema::array(filter).with("maxItems", FILTER_VALUES_MAX).about("All must be met; of those with one key, any.");
    let groups = Schema::array(Schema::text_to(DIMENSION_KEY_BYTES_MAX)).with("maxItems", GROUP_BY_MAX).about("Labels to group by.");
    let body = Schema::object()
        .has("meter_name", name_in("The meter."))
        .has("start_time", time_in("The first moment."))
        .takes("end_time", time_in("The end, which is not part of it; without it now."))
        .takes("time_bucket", Schema::words_in_any_case(&["HOUR", "DAY"]).about("Of UTC; without it days."))
        .takes(
            "aggregate",
            Schema::words_in_any_case(&AGGREGATIONS).about("In place of what the meter says. A TIME_WEIGHTED_SUM is refused."),
        )
        .takes("label_filters", filters)
        .takes("label_group_by_keys", groups)
        .named("OctaneUsageByTimeQuery");
    let point = Schema::object()
        .has("time", Schema::time().about("The begin of the hour or day."))
        .has("usage", Schema::number())
        .has("labels", Schema::map(Schema::text()).about("Of the group; empty where nothing was grouped by."));
    let answer = Schema::object()
        .has("meter_name", Schema::text())
        .has("meter_display_name", Schema::text())
        .may_have("unit_name", Schema::text())
        .has("start_time", Schema::time().about("What is answered: a range is widened to whole hours."))
        .has("end_time", Schema::time())
        .has("total_usage", Schema::number().about("Of all groups and all of the range together."))
        .has("usage_by_time", Schema::array(point))
        .named("OctaneUsageByTime");
    let example = json!({"meter_name": "tokens", "meter_display_name": "Tokens", "start_time": "2026-01-01T00:00:00.000000Z",
        "end_time": "2026-01-02T00:00:00.000000Z", "total_usage": 12.5,
        "usage_by_time": [{"time": "2026-01-01T00:00:00.000000Z", "usage": 12.5, "labels": {"region": "eu-1"}}]});
    let about = format!(
        "Hours and days without usage are left out. At most {BUCKETS_MAX} hours or days, of which at most {NUMBERS_MAX}, of all groups together, have usage."
    );
    let asked =
        json!({"meter_name": "tokens", "start_time": "2026-01-01T00:00:00Z", "time_bucket": "day", "label_group_by_keys": ["region"]});
    asks("octaneGetUsageByTime", "Ask for usage by time", &about, answer, example).body(body, asked)
}
