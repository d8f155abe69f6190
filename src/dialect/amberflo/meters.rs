//! Meter definitions on Amberflo's wire (contract `amberflo.md` section 3): request ⇄ model.

use serde_json::{Value, json};

use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, parse_object};
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSIONS_MAX, NAME_BYTES_MAX};
use crate::meters::{Meter, Said, TEXT_BYTES_MAX};
use crate::usage::MeterType;

/// Amberflo's three, and two of ours: what a query gets that names no aggregation.
const TYPES: [(&str, MeterType); 5] = [
    ("SUM_OF_ALL_USAGE", MeterType::SumOfAllUsage),
    ("MAX_IN_PERIOD", MeterType::MaxInPeriod),
    ("UNIQUE_CUSTOMERS_COUNT", MeterType::UniqueCustomersCount),
    ("AVG", MeterType::Average),
    ("LATEST", MeterType::Latest),
];

/// What a POST or a PUT says about a meter; checked. Unknown fields and the time in it are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterRequest {
    /// The `meterApiName`.
    pub name: String,
    /// The rest.
    pub said: Said,
}

impl MeterRequest {
    /// Reads the body of a POST or PUT `/meter-definition`. The label may come with both.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`; `details` names the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let object = parse_object(body)?;
        let fields = Fields::of(&object, "");
        let name = fields.required_name("meterApiName", NAME_BYTES_MAX)?;
        let dimensions = fields.texts("dimensions", DIMENSIONS_MAX, DIMENSION_KEY_BYTES_MAX)?.unwrap_or_default();
        let said = Said {
            display_name: fields.required_name("displayName", TEXT_BYTES_MAX)?,
            label: fields.name("label", TEXT_BYTES_MAX)?.unwrap_or_else(|| name.clone()),
            meter_type: fields.required_word("type", &TYPES)?,
            dimensions,
        };
        Ok(Self { name, said })
    }
}

/// A definition as it is answered.
pub fn render(meter: &Meter) -> Value {
    let name_of = |meter_type| TYPES.into_iter().find(|(_, known)| *known == meter_type).map(|(name, _)| name);
    json!({
        "meterApiName": meter.name,
        "displayName": meter.said.display_name,
        "label": meter.said.label,
        "type": name_of(meter.said.meter_type),
        "dimensions": meter.said.dimensions,
        "meterTimeInMillis": meter.created_at.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(body: &Value) -> String {
        match MeterRequest::parse(body.to_string().as_bytes()) {
            Ok(_) => panic!("it was taken: {body}"),
            Err(error) => error.details.unwrap_or(error.message),
        }
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = json!({"meterApiName": "calls", "displayName": "API calls", "type": "sum_of_all_usage"});
        body[name] = value;
        body
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let request = MeterRequest::parse(with("dimensions", Value::Null).to_string().as_bytes()).expect("is good");
        let said =
            Said { display_name: "API calls".into(), label: "calls".into(), meter_type: MeterType::SumOfAllUsage, dimensions: vec![] };
        assert_eq!(request, MeterRequest { name: "calls".into(), said });
        for (word, meter_type) in TYPES {
            let request = MeterRequest::parse(with("type", word.into()).to_string().as_bytes()).expect("is good");
            assert_eq!(request.said.meter_type, meter_type);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value, reason) in [
            ("meterApiName", Value::Null, "meterApiName is missing"),
            ("meterApiName", json!(""), "meterApiName must not be empty"),
            ("meterApiName", json!(7), "meterApiName must be a string"),
            ("meterApiName", json!("a\0"), "meterApiName contains U+0000"),
            ("meterApiName", json!("x".repeat(256)), "meterApiName has 256 bytes, the limit is 255"),
            ("displayName", Value::Null, "displayName is missing"),
            ("type", Value::Null, "type is missing"),
            ("type", json!("SUM"), "type must be one of SUM_OF_ALL_USAGE, MAX_IN_PERIOD, UNIQUE_CUSTOMERS_COUNT, AVG, LATEST"),
            ("label", json!(1), "label must be a string"),
            ("dimensions", json!("region"), "dimensions must be an array of strings"),
            ("dimensions", json!([1]), "dimensions must be an array of strings"),
            ("dimensions", json!(["x".repeat(129)]), "dimensions[0] has 129 bytes, the limit is 128"),
            ("dimensions", json!(vec!["x"; 65]), "dimensions has 65 entries, the limit is 64"),
        ] {
            assert_eq!(details(&with(name, value)), reason);
        }
        for body in ["", "[]", "7", "{"] {
            assert!(MeterRequest::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
