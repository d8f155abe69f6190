//! Meters on Octane's wire (contract `octane.md` section 3): request ⇄ model.
//!
//! Of a definition every dialect sees the display name, the type and the dimensions, which Octane calls expected labels. What only Octane says
//! is kept as it was sent. A type that another dialect has changed since is told in Octane's words, in place of the aggregation that was sent.

use serde_json::{Map, Value};

use super::fields::{Patch, text_patch};
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, parse_object};
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSIONS_MAX, NAME_BYTES_MAX};
use crate::meters::{Extensions, Meter, Said, TEXT_BYTES_MAX};
use crate::usage::MeterType;

/// Longest JSON of `event_label_filter`, in bytes.
const FILTER_BYTES_MAX: usize = 4_096;
const AGGREGATION: &str = "aggregation";
const ARCHIVED: &str = "is_archived";
const DESCRIPTION: &str = "description";

/// Octane's aggregations, and the type that the other dialects know (contract, section 3).
const AGGREGATIONS: [(&str, MeterType); 8] = [
    ("SUM", MeterType::SumOfAllUsage),
    ("COUNT", MeterType::SumOfAllUsage),
    ("MAX", MeterType::MaxInPeriod),
    ("MIN", MeterType::SumOfAllUsage),
    ("UNIQUE_COUNT", MeterType::UniqueCustomersCount),
    ("AVG", MeterType::SumOfAllUsage),
    ("TIME_WEIGHTED_SUM", MeterType::SumOfAllUsage),
    ("LATEST", MeterType::SumOfAllUsage),
];
/// Words that are checked and kept as they were sent: those of the specification and those of the clients.
const WORDS: [(&str, &[(&str, ())]); 3] = [
    ("meter_type", &[("counter", ()), ("gauge", ())]),
    ("data_type", &[("INT", ()), ("FLOAT", ()), ("STRING", ()), ("CONTINUOUS", ()), ("DISCRETE", ())]),
    ("reporting_method", &[("periodic", ()), ("total", ()), ("DELTA", ())]),
];
/// What a definition has that was not made by Octane.
const UNSAID: [(&str, &str); 3] = [("meter_type", "COUNTER"), ("data_type", "FLOAT"), ("reporting_method", "DELTA")];

/// What a POST says about a meter; checked. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterRequest {
    /// The `name`.
    pub name: String,
    /// What the other dialects see.
    pub said: Said,
    /// What they do not.
    pub ext: Extensions,
}

impl MeterRequest {
    /// Reads the body of a POST.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let object = parse_object(body)?;
        let fields = Fields::of(&object, "");
        let name = fields.required_name("name", NAME_BYTES_MAX)?;
        let mut octane = Map::new();
        octane.insert("event_name".into(), fields.required_name("event_name", NAME_BYTES_MAX)?.into());
        for (word, known) in WORDS {
            fields.required_word(word, known)?;
            octane.insert(word.into(), fields.required_text(word)?.into());
        }
        let meter_type = fields.required_word(AGGREGATION, &AGGREGATIONS)?;
        octane.insert(AGGREGATION.into(), fields.required_text(AGGREGATION)?.into());
        octane.insert("is_incremental".into(), fields.required("is_incremental", fields.bool("is_incremental")?)?.into());
        for name in [DESCRIPTION, "unit_name"] {
            if let Patch::Set(text) = text_patch(&fields, name, TEXT_BYTES_MAX)? {
                octane.insert(name.into(), text.into());
            }
        }
        let labels = |name| fields.texts(name, DIMENSIONS_MAX, DIMENSION_KEY_BYTES_MAX);
        if let Some(primary) = labels("primary_labels")? {
            octane.insert("primary_labels".into(), primary.into());
        }
        if let Some(filter) = label_filter(&fields)? {
            octane.insert("event_label_filter".into(), filter);
        }
        let display_name = match text_patch(&fields, "display_name", TEXT_BYTES_MAX)? {
            Patch::Set(text) => text,
            Patch::Keep | Patch::Clear => name.clone(),
        };
        let dimensions = labels("expected_labels")?.unwrap_or_default();
        let said = Said { display_name, label: name.clone(), meter_type, dimensions };
        Ok(Self { name, said, ext: Extensions { octane, ..Extensions::default() } })
    }
}

fn label_filter(fields: &Fields<'_>) -> Result<Option<Value>, ApiError> {
    let Some(filter) = fields.get("event_label_filter") else { return Ok(None) };
    let bytes = filter.to_string().len();
    if bytes > FILTER_BYTES_MAX {
        return Err(fields.wrong("event_label_filter", format_args!("has {bytes} bytes, the limit is {FILTER_BYTES_MAX}")));
    }
    Ok(Some(filter.clone()))
}

/// What a PUT says about a meter: nothing else of it can be changed, and the rest is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterPatch {
    display_name: Patch<String>,
    description: Patch<String>,
}

impl MeterPatch {
    /// Reads the body of a PUT.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let object = parse_object(body)?;
        let fields = Fields::of(&object, "");
        let text = |name| text_patch(&fields, name, TEXT_BYTES_MAX);
        Ok(Self { display_name: text("display_name")?, description: text(DESCRIPTION)? })
    }

    /// Merges it into a definition.
    pub fn apply(&self, meter: &mut Meter) {
        match &self.display_name {
            Patch::Keep => {}
            Patch::Clear => meter.said.display_name.clone_from(&meter.name),
            Patch::Set(text) => meter.said.display_name.clone_from(text),
        }
        match &self.description {
            Patch::Keep => {}
            Patch::Clear => drop(meter.ext.octane.remove(DESCRIPTION)),
            Patch::Set(text) => drop(meter.ext.octane.insert(DESCRIPTION.into(), text.as_str().into())),
        }
    }
}

/// Takes a meter out of the list. It can still be asked for, and its usage stays.
pub fn archive(meter: &mut Meter) {
    meter.ext.octane.insert(ARCHIVED.into(), true.into());
}

/// Whether [`archive`] was done to it.
pub fn is_archived(meter: &Meter) -> bool {
    meter.ext.octane.get(ARCHIVED) == Some(&Value::Bool(true))
}

/// What an event is called that the meter counts; by default as the meter.
pub fn event_name(meter: &Meter) -> &str {
    meter.ext.octane.get("event_name").and_then(Value::as_str).unwrap_or(&meter.name)
}

/// How Octane's queries make one number of many: as it was sent, unless another dialect has changed the type since.
pub fn aggregation(meter: &Meter) -> &str {
    let kept = meter.ext.octane.get(AGGREGATION).and_then(Value::as_str);
    let means = |word: &str| AGGREGATIONS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, meter_type)| meter_type);
    match kept {
        Some(word) if means(word) == Some(meter.said.meter_type) => word,
        _ => match meter.said.meter_type {
            MeterType::SumOfAllUsage => "SUM",
            MeterType::MaxInPeriod => "MAX",
            MeterType::UniqueCustomersCount => "UNIQUE_COUNT",
            MeterType::Average => "AVG",
            MeterType::Latest => "LATEST",
        },
    }
}

/// A definition as it is answered.
pub fn render(meter: &Meter) -> Value {
    let mut members = meter.ext.octane.clone();
    for (name, unsaid) in UNSAID {
        members.entry(name).or_insert_with(|| unsaid.into());
    }
    members.entry("is_incremental").or_insert(Value::Bool(true));
    members.entry("primary_labels").or_insert_with(|| Value::Array(Vec::new()));
    members.insert("event_name".into(), event_name(meter).into());
    members.insert(AGGREGATION.into(), aggregation(meter).into());
    members.insert("name".into(), meter.name.as_str().into());
    members.insert("display_name".into(), meter.said.display_name.as_str().into());
    members.insert("expected_labels".into(), meter.said.dimensions.clone().into());
    members.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::UnixMillis;

    fn full() -> Value {
        json!({
            "name": "calls", "event_name": "call", "meter_type": "Counter", "data_type": "int", "aggregation": "Max", "is_incremental": false,
            "reporting_method": "periodic", "display_name": "API calls", "description": "of the API", "unit_name": "calls",
            "expected_labels": ["region", "tier"], "primary_labels": ["region"], "event_label_filter": {"region": ["eu", 7]},
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = full();
        body[name] = value;
        body
    }

    fn made(body: &Value) -> Meter {
        let MeterRequest { name, said, ext } = MeterRequest::parse(body.to_string().as_bytes()).expect("a good body");
        Meter { name, said, ext, created_at: UnixMillis(1) }
    }

    #[test]
    fn what_was_sent_is_kept_and_shown_as_it_was_sent() {
        let meter = made(&full());
        assert_eq!(render(&meter), full());
        let said = Said {
            display_name: "API calls".into(),
            label: "calls".into(),
            meter_type: MeterType::MaxInPeriod,
            dimensions: vec!["region".into(), "tier".into()],
        };
        assert_eq!(meter.said, said);
    }

    #[test]
    fn every_word_of_both_sources_is_taken_in_any_case() {
        for (name, words) in [
            ("meter_type", vec!["counter", "GAUGE"]),
            ("data_type", vec!["INT", "float", "STRING", "CONTINUOUS", "discrete"]),
            ("reporting_method", vec!["periodic", "TOTAL", "total", "DELTA"]),
            ("aggregation", vec!["SUM", "count", "MAX", "MIN", "unique_count", "AVG", "TIME_WEIGHTED_SUM", "LATEST"]),
        ] {
            for word in words {
                assert_eq!(render(&made(&with(name, word.into())))[name], word);
            }
        }
        for (word, meter_type) in [("avg", MeterType::SumOfAllUsage), ("UNIQUE_COUNT", MeterType::UniqueCustomersCount)] {
            assert_eq!(made(&with("aggregation", word.into())).said.meter_type, meter_type);
        }
    }

    #[test]
    fn a_definition_of_another_dialect_is_shown_whole() {
        let said =
            Said { display_name: "Calls".into(), label: "c".into(), meter_type: MeterType::UniqueCustomersCount, dimensions: vec![] };
        let mut meter = Meter { name: "calls".into(), said, ext: Extensions::default(), created_at: UnixMillis(1) };
        let expected = json!({
            "name": "calls", "event_name": "calls", "meter_type": "COUNTER", "data_type": "FLOAT", "aggregation": "UNIQUE_COUNT",
            "is_incremental": true, "reporting_method": "DELTA", "display_name": "Calls", "expected_labels": [], "primary_labels": [],
        });
        assert_eq!(render(&meter), expected);
        meter = made(&with("aggregation", "avg".into()));
        assert_eq!(aggregation(&meter), "avg");
        meter.said.meter_type = MeterType::MaxInPeriod;
        assert_eq!(aggregation(&meter), "MAX", "another dialect has changed it");
    }

    #[test]
    fn a_merge_changes_two_texts_and_an_empty_one_unsets() {
        let mut meter = made(&full());
        let patch = |body: Value| MeterPatch::parse(body.to_string().as_bytes()).expect("a good body");
        patch(json!({"description": "", "aggregation": "SUM", "display_name": null})).apply(&mut meter);
        let mut expected = full();
        expected.as_object_mut().expect("an object").remove("description");
        assert_eq!(render(&meter), expected);
        patch(json!({"display_name": "", "description": "new"})).apply(&mut meter);
        assert_eq!((&meter.said.display_name[..], &render(&meter)["description"]), ("calls", &json!("new")));
        assert!(!is_archived(&meter));
        archive(&mut meter);
        assert!(is_archived(&meter) && render(&meter)["is_archived"] == true);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value, details) in [
            ("name", Value::Null, "name is missing"),
            ("name", json!("x".repeat(256)), "name has 256 bytes, the limit is 255"),
            ("event_name", Value::Null, "event_name is missing"),
            ("meter_type", Value::Null, "meter_type is missing"),
            ("meter_type", json!("sum"), "meter_type must be one of counter, gauge"),
            ("data_type", json!(7), "data_type must be a string"),
            (
                "aggregation",
                json!("MEDIAN"),
                "aggregation must be one of SUM, COUNT, MAX, MIN, UNIQUE_COUNT, AVG, TIME_WEIGHTED_SUM, LATEST",
            ),
            ("is_incremental", Value::Null, "is_incremental is missing"),
            ("is_incremental", json!("true"), "is_incremental must be true or false"),
            ("reporting_method", Value::Null, "reporting_method is missing"),
            ("display_name", json!("x".repeat(1_025)), "display_name has 1025 bytes, the limit is 1024"),
            ("unit_name", json!([]), "unit_name must be a string"),
            ("expected_labels", json!(vec!["x"; 65]), "expected_labels has 65 entries, the limit is 64"),
            ("primary_labels", json!(["x".repeat(129)]), "primary_labels[0] has 129 bytes, the limit is 128"),
            ("event_label_filter", json!("x".repeat(4_095)), "event_label_filter has 4097 bytes, the limit is 4096"),
        ] {
            let refused = MeterRequest::parse(with(name, value).to_string().as_bytes()).expect_err("a bad body");
            assert_eq!(refused.details.as_deref(), Some(details));
        }
    }
}
