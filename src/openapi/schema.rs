//! Schemas (JSON Schema 2020-12), built a line a field.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What a value looks like, with the named schemas that it refers to.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    json: Map<String, Value>,
    named: Named,
}

/// Schemas by their names.
type Named = BTreeMap<&'static str, Value>;

impl Schema {
    fn of(json: Value) -> Self {
        let json = match json {
            Value::Object(json) => json,
            _ => Map::new(),
        };
        Self { json, named: Named::new() }
    }

    /// Any value.
    pub fn any() -> Self {
        Self::of(json!({}))
    }

    /// A text of any length.
    pub fn text() -> Self {
        Self::of(json!({"type": "string"}))
    }

    /// A text of at most so many bytes, without U+0000: the characters may be fewer, but never more.
    pub fn text_to(bytes_max: usize) -> Self {
        let description = format!("At most {bytes_max} bytes in UTF-8, without U+0000.");
        Self::of(json!({"type": "string", "maxLength": bytes_max, "pattern": "^[^\\u0000]*$", "description": description}))
    }

    /// The same, and not empty.
    pub fn name_to(bytes_max: usize) -> Self {
        Self::text_to(bytes_max).with("minLength", 1)
    }

    /// One of a few words.
    pub fn words(words: &[&str]) -> Self {
        Self::of(json!({"type": "string", "enum": words}))
    }

    /// One of a few words, which are read in any case.
    pub fn words_in_any_case(words: &[&str]) -> Self {
        let mut all: Vec<String> = Vec::new();
        for word in words.iter().map(|word| (*word).to_owned()).chain(words.iter().map(|word| word.to_lowercase())) {
            if !all.contains(&word) {
                all.push(word);
            }
        }
        Self::of(json!({"type": "string", "enum": all, "description": "Read in any case."}))
    }

    /// A time as text, RFC 3339.
    pub fn time() -> Self {
        Self::of(json!({"type": "string", "format": "date-time"}))
    }

    /// A whole number.
    pub fn integer() -> Self {
        Self::of(json!({"type": "integer"}))
    }

    /// A whole number in a range.
    pub fn integer_in(range: std::ops::RangeInclusive<i64>) -> Self {
        Self::integer().with("minimum", *range.start()).with("maximum", *range.end())
    }

    /// A whole number of 0 or more.
    pub fn count() -> Self {
        Self::integer().with("minimum", 0)
    }

    /// An exact decimal, as a JSON number.
    pub fn number() -> Self {
        Self::of(json!({"type": "number"}))
    }

    /// True or false.
    pub fn flag() -> Self {
        Self::of(json!({"type": "boolean"}))
    }

    /// True, where the alternative is that there is nothing.
    pub fn yes() -> Self {
        Self::flag().with("const", true)
    }

    /// Null and nothing else.
    pub fn null() -> Self {
        Self::of(json!({"type": "null"}))
    }

    /// Any number of values.
    pub fn array(of: Self) -> Self {
        let (items, named) = of.into_parts();
        Self { json: Self::of(json!({"type": "array", "items": items})).json, named }
    }

    /// An object with any keys.
    pub fn map(of: Self) -> Self {
        let (values, named) = of.into_parts();
        Self { json: Self::of(json!({"type": "object", "additionalProperties": values})).json, named }
    }

    /// An object, whose fields follow.
    pub fn object() -> Self {
        Self::of(json!({"type": "object", "properties": {}}))
    }

    /// Exactly one of these.
    pub fn one_of(schemas: impl IntoIterator<Item = Self>) -> Self {
        Self::alternatives("oneOf", schemas)
    }

    /// At least one of these.
    pub fn any_of(schemas: impl IntoIterator<Item = Self>) -> Self {
        Self::alternatives("anyOf", schemas)
    }

    fn alternatives(keyword: &str, schemas: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::any();
        let alternatives: Vec<Value> = schemas.into_iter().map(|schema| all.adopt(schema)).collect();
        all.with(keyword, alternatives)
    }

    /// The same schema under a name, to which others refer. One name is one schema.
    pub fn named(self, name: &'static str) -> Self {
        let (json, mut named) = self.into_parts();
        let before = named.insert(name, json);
        debug_assert!(before.is_none(), "{name} refers to itself");
        Self { json: Self::of(json!({"$ref": format!("#/components/schemas/{name}")})).json, named }
    }

    /// A field that an object always has.
    #[must_use]
    pub fn has(self, name: &str, schema: Self) -> Self {
        let mut object = self.may_have(name, schema);
        let required = object.json.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(required) = required {
            required.push(name.into());
        }
        object
    }

    /// A field that an object may have.
    #[must_use]
    pub fn may_have(mut self, name: &str, schema: Self) -> Self {
        let schema = self.adopt(schema);
        if let Some(Value::Object(properties)) = self.json.get_mut("properties") {
            properties.insert(name.into(), schema);
        }
        self
    }

    /// A field of a request that may be absent, or null, which is the same.
    #[must_use]
    pub fn takes(self, name: &str, schema: Self) -> Self {
        self.may_have(name, schema.or_null())
    }

    /// An object that has no other fields.
    #[must_use]
    pub fn and_nothing_else(self) -> Self {
        self.with("additionalProperties", false)
    }

    /// Or null.
    #[must_use]
    pub fn or_null(mut self) -> Self {
        match self.json.get("type").cloned() {
            Some(Value::String(own)) => {
                if let Some(Value::Array(words)) = self.json.get_mut("enum") {
                    words.push(Value::Null);
                }
                self.with("type", json!([own, "null"]))
            }
            Some(_) => self,
            None if self.json.is_empty() => self,
            None => Self::any_of([self, Self::null()]),
        }
    }

    /// What it means, for people; in front of what was said before.
    #[must_use]
    pub fn about(self, text: &str) -> Self {
        let description = match self.json.get("description") {
            Some(Value::String(before)) => format!("{text} {before}"),
            _ => text.to_owned(),
        };
        self.with("description", description)
    }

    /// An example.
    #[must_use]
    pub fn example(self, example: impl Into<Value>) -> Self {
        let example = example.into();
        self.with("examples", json!([example]))
    }

    /// Any keyword.
    #[must_use]
    pub fn with(mut self, keyword: &str, value: impl Into<Value>) -> Self {
        self.json.insert(keyword.into(), value.into());
        self
    }

    fn adopt(&mut self, other: Self) -> Value {
        let (json, named) = other.into_parts();
        for (name, schema) in named {
            let before = self.named.insert(name, schema.clone());
            debug_assert!(before.is_none_or(|before| before == schema), "two schemas have the name {name}");
        }
        json
    }

    /// The schema as JSON, and those that it refers to.
    pub(super) fn into_parts(self) -> (Value, Named) {
        (self.json.into(), self.named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_schemas_travel_with_what_refers_to_them() {
        let inner = Schema::object().has("id", Schema::name_to(3)).named("Inner");
        let outer = Schema::object().takes("inner", inner.clone()).may_have("all", Schema::array(inner)).named("Outer");
        let (json, named) = outer.into_parts();
        assert_eq!(json, json!({"$ref": "#/components/schemas/Outer"}));
        assert_eq!(named.keys().copied().collect::<Vec<_>>(), ["Inner", "Outer"]);
        assert_eq!(named["Outer"]["properties"]["all"]["items"], json!({"$ref": "#/components/schemas/Inner"}));
        assert_eq!(named["Inner"]["required"], json!(["id"]));
    }

    #[test]
    fn a_word_in_any_case_may_be_null_where_it_may_be_absent() {
        let (json, _) = Schema::words_in_any_case(&["SUM", "day"]).or_null().into_parts();
        assert_eq!(json["enum"], json!(["SUM", "day", "sum", null]));
        assert_eq!(json["type"], json!(["string", "null"]));
    }
}
