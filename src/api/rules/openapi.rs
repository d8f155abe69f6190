//! The description of filtering rules.

use serde_json::json;

use crate::accounts::Scope;
use crate::api::openapi::meter_name;
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX, NAME_BYTES_MAX};
use crate::openapi::{Operation, Schema};
use crate::rules::{RULES_MAX, VALUES_MAX};

const ACTIONS: [&str; 2] = ["INCLUDE", "EXCLUDE"];

fn rule_in() -> Schema {
    Schema::object()
        .has("meterApiName", meter_name())
        .takes("ruleId", Schema::name_to(NAME_BYTES_MAX).about("Changes the rule with this id; without it one is made."))
        .takes("dimensionName", Schema::name_to(DIMENSION_KEY_BYTES_MAX))
        .takes("dimensionValues", Schema::array(Schema::text_to(DIMENSION_VALUE_BYTES_MAX)).with("maxItems", VALUES_MAX))
        .takes("action", Schema::words_in_any_case(&ACTIONS))
        .named("NewFilteringRule")
}

fn rule() -> Schema {
    Schema::object()
        .has("ruleId", Schema::text())
        .has("meterApiName", Schema::text())
        .may_have("dimensionName", Schema::text())
        .has("dimensionValues", Schema::array(Schema::text()))
        .may_have("action", Schema::words(&ACTIONS))
        .named("FilteringRule")
}

pub(super) fn list() -> Operation {
    Operation::new("listFilteringRules", "List the filtering rules of a meter")
        .needs(Scope::Read)
        .required_query("meterApiName", Schema::text().with("minLength", 1))
        .answers("The rules", Schema::array(rule()))
        .example(json!([{"ruleId": "no-tests", "meterApiName": "tokens", "dimensionName": "env", "dimensionValues": ["test"], "action": "EXCLUDE"}]))
}

pub(super) fn put() -> Operation {
    let about = format!(
        "`EXCLUDE` drops an event whose dimension is among the values, `INCLUDE` one whose dimension is not; it holds for events received after \
         the answer. A dropped event is acknowledged and in no usage. A rule without `dimensionName` or `action` drops nothing. An account has at most \
         {RULES_MAX} rules."
    );
    let example =
        json!({"meterApiName": "tokens", "ruleId": "no-tests", "dimensionName": "env", "dimensionValues": ["test"], "action": "EXCLUDE"});
    Operation::new("putFilteringRule", "Make or change a filtering rule")
        .about(&about)
        .needs(Scope::Admin)
        .body(rule_in(), example)
        .answers("The rule", rule())
}
