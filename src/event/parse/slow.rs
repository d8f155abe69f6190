//! The slow way over `serde_json`, element by element: for bodies that simd-json refuses although they are JSON.

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{BodyError, Form, Items, Members, Value};
use crate::event::{Code, JSON_DEPTH_MAX, Rejection};

/// A value of the slow way, which owns its strings.
#[doc(hidden)]
pub enum Slow<'p> {
    Null,
    Bool(bool),
    Number(&'p [u8]),
    String(String),
    Array(Vec<Slow<'p>>),
    Object(Vec<(String, Slow<'p>)>),
}

impl Slow<'_> {
    pub(super) fn view(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(text) => Value::Number(text),
            Self::String(text) => Value::String(text),
            Self::Array(items) => Value::Array(Items::Slow(items.iter())),
            Self::Object(members) => Value::Object(Members::Slow(members.iter())),
        }
    }
}

pub(super) fn slow_form(body: &[u8], events_max: usize) -> Result<Form<'_>, BodyError> {
    let syntax = |error: serde_json::Error| BodyError::Syntax(error.to_string());
    let whole: &RawValue = serde_json::from_slice(body).map_err(syntax)?;
    let (elements, is_array) = match whole.get().as_bytes().first() {
        Some(b'[') => (serde_json::from_str::<Vec<&RawValue>>(whole.get()).map_err(syntax)?, true),
        Some(b'{') => (vec![whole], false),
        _ => return Err(BodyError::NeitherObjectNorArray),
    };
    // Before they are read: what is kept of an element is many times as large as the shortest.
    if elements.len() > events_max {
        return Err(BodyError::TooMany { got: elements.len(), limit: events_max });
    }
    let depth = usize::from(is_array);
    let elements = elements.into_iter().map(|raw| (raw.get().as_bytes(), slow_value(raw, depth))).collect();
    Ok(Form::Slow { elements, is_array })
}

pub(super) fn slow_value(raw: &RawValue, depth: usize) -> Result<Slow<'_>, Rejection> {
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            check_depth(text, depth)?;
            let mut members = Vec::new();
            for (key, value) in slow_members(text)? {
                members.push((key, slow_value(value, depth + 1)?));
            }
            Slow::Object(members)
        }
        Some(b'[') => {
            check_depth(text, depth)?;
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| broken_string())?;
            Slow::Array(items.into_iter().map(|item| slow_value(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Slow::String(serde_json::from_str(text).map_err(|_| broken_string())?),
        Some(b't') => Slow::Bool(true),
        Some(b'f') => Slow::Bool(false),
        Some(b'n') => Slow::Null,
        _ => Slow::Number(text.as_bytes()),
    })
}

/// Refuses a value that nests deeper than the limit, without recursing into it.
fn check_depth(text: &str, outside: usize) -> Result<(), Rejection> {
    let (mut depth, mut in_string, mut escaped) = (outside, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return Err(Rejection::new(Code::TooDeep, "", format!("nests deeper than {JSON_DEPTH_MAX} levels")));
        }
    }
    Ok(())
}

fn broken_string() -> Rejection {
    Rejection::new(Code::WrongValue, "", "has a string with a broken escape")
}

fn slow_members(text: &str) -> Result<Vec<(String, &RawValue)>, Rejection> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Pairs).map_err(|_| broken_string())
}
