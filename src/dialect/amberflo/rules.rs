//! Filtering rules on Amberflo's wire (contract `amberflo.md` section 4): request ⇄ model.

use serde_json::{Map, Value};

use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, parse_object};
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX, NAME_BYTES_MAX};
use crate::rules::{Action, NewRule, Rule, VALUES_MAX};

const ACTIONS: [(&str, Action); 2] = [("INCLUDE", Action::Include), ("EXCLUDE", Action::Exclude)];

/// Reads the body of POST `/meter-event-filtering-rules`. Only the meter is required.
///
/// # Errors
/// 400 `BAD_REQUEST`; `details` names the field.
pub fn parse(body: &[u8]) -> Result<NewRule, ApiError> {
    let object = parse_object(body)?;
    let fields = Fields::of(&object, "");
    Ok(NewRule {
        id: fields.name("ruleId", NAME_BYTES_MAX)?,
        meter: fields.required_name("meterApiName", NAME_BYTES_MAX)?,
        dimension: fields.name("dimensionName", DIMENSION_KEY_BYTES_MAX)?,
        values: fields.texts("dimensionValues", VALUES_MAX, DIMENSION_VALUE_BYTES_MAX)?.unwrap_or_default(),
        action: fields.word("action", &ACTIONS)?,
    })
}

/// A rule as it is answered: what it does not say is left out.
pub fn render(rule: &Rule) -> Value {
    let mut shown = Map::new();
    shown.insert("ruleId".into(), rule.id.as_str().into());
    shown.insert("meterApiName".into(), rule.meter.as_str().into());
    if let Some(dimension) = &rule.dimension {
        shown.insert("dimensionName".into(), dimension.as_str().into());
    }
    shown.insert("dimensionValues".into(), rule.values.as_slice().into());
    if let Some((word, _)) = ACTIONS.into_iter().find(|(_, action)| Some(*action) == rule.action) {
        shown.insert("action".into(), word.into());
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_meter_is_required_and_what_is_wrong_is_named() {
        let least = parse(br#"{"meterApiName":"m","action":null}"#).expect("is good");
        assert_eq!(least, NewRule { id: None, meter: "m".into(), dimension: None, values: vec![], action: None });
        let whole = json!({"meterApiName": "m", "ruleId": "r", "dimensionName": "d", "dimensionValues": ["x", ""], "action": "exclude"});
        let values = vec!["x".into(), String::new()];
        let expected =
            NewRule { id: Some("r".into()), meter: "m".into(), dimension: Some("d".into()), values, action: Some(Action::Exclude) };
        assert_eq!(parse(whole.to_string().as_bytes()), Ok(expected));
        for (name, value, reason) in [
            ("meterApiName", Value::Null, "meterApiName is missing"),
            ("ruleId", json!(""), "ruleId must not be empty"),
            ("dimensionName", json!(["d"]), "dimensionName must be a string"),
            ("dimensionValues", json!([null]), "dimensionValues must be an array of strings"),
            ("dimensionValues", json!(vec!["x"; 1_001]), "dimensionValues has 1001 entries, the limit is 1000"),
            ("action", json!("DROP"), "action must be one of INCLUDE, EXCLUDE"),
        ] {
            let mut body = whole.clone();
            body[name] = value;
            let error = parse(body.to_string().as_bytes()).expect_err("is refused");
            assert_eq!(error.details.as_deref(), Some(reason));
        }
    }
}
