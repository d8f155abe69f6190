//! Fields of a request's body, read one by one, so that an error names the field.

use serde_json::{Map, Value};

use super::ApiError;
use crate::event::Amount;

/// Reads a body that is one object.
pub(in crate::dialect) fn parse_object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::bad_request("the body must be a JSON object")),
        Err(error) => Err(not_json(&error)),
    }
}

pub(in crate::dialect) fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::bad_request(format!("the body is not JSON: {error}"))
}

/// An object of the request and where it stands. A field that is null is absent.
pub(in crate::dialect) struct Fields<'v> {
    pub(in crate::dialect) object: &'v Map<String, Value>,
    /// In front of the fields' names in messages: `[3].timeRange.`, or nothing.
    prefix: String,
}

impl<'v> Fields<'v> {
    pub(in crate::dialect) fn of(object: &'v Map<String, Value>, path: &str) -> Self {
        Self { object, prefix: if path.is_empty() { String::new() } else { format!("{path}.") } }
    }

    pub(in crate::dialect) fn wrong(&self, name: &str, reason: impl std::fmt::Display) -> ApiError {
        ApiError::bad_field(format_args!("{}{name}", self.prefix), reason)
    }

    pub(in crate::dialect) fn get(&self, name: &str) -> Option<&'v Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(in crate::dialect) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, ApiError> {
        value.ok_or_else(|| self.wrong(name, "is missing"))
    }

    pub(in crate::dialect) fn object(&self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Self { object, prefix: format!("{}{name}.", self.prefix) })),
            Some(_) => Err(self.wrong(name, "must be an object")),
        }
    }

    pub(in crate::dialect) fn text(&self, name: &str) -> Result<Option<&'v str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a string")),
        }
    }

    pub(in crate::dialect) fn required_text(&self, name: &str) -> Result<&'v str, ApiError> {
        self.required(name, self.text(name)?)
    }

    /// A text that something is called by.
    pub(in crate::dialect) fn name(&self, name: &str, bytes_max: usize) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if text.is_empty() {
            return Err(self.wrong(name, "must not be empty"));
        }
        self.check_text(name, text, bytes_max)?;
        Ok(Some(text.to_owned()))
    }

    pub(in crate::dialect) fn required_name(&self, name: &str, bytes_max: usize) -> Result<String, ApiError> {
        self.required(name, self.name(name, bytes_max)?)
    }

    /// An array of strings, any of which may be empty.
    pub(in crate::dialect) fn texts(&self, name: &str, entries_max: usize, bytes_max: usize) -> Result<Option<Vec<String>>, ApiError> {
        let wrong = || self.wrong(name, "must be an array of strings");
        let entries = match self.get(name) {
            None => return Ok(None),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(wrong()),
        };
        if entries.len() > entries_max {
            return Err(self.wrong(name, format_args!("has {} entries, the limit is {entries_max}", entries.len())));
        }
        let checked = entries.iter().enumerate().map(|(at, entry)| {
            let text = entry.as_str().ok_or_else(wrong)?;
            self.check_text(&format!("{name}[{at}]"), text, bytes_max)?;
            Ok(text.to_owned())
        });
        checked.collect::<Result<_, _>>().map(Some)
    }

    pub(in crate::dialect) fn check_text(&self, name: &str, text: &str, bytes_max: usize) -> Result<(), ApiError> {
        check_text(text, bytes_max).map_err(|reason| self.wrong(name, reason))
    }

    pub(in crate::dialect) fn bool(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    /// A whole number; `1.0` and `1e3` are some, too (contract `README.md`, "Numbers in").
    pub(in crate::dialect) fn int(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => read_int(number.as_str()),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| self.wrong(name, "must be a whole number"))
    }

    pub(in crate::dialect) fn required_int(&self, name: &str) -> Result<i64, ApiError> {
        self.required(name, self.int(name)?)
    }

    /// One of a few words, in any case.
    pub(in crate::dialect) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, ApiError> {
        self.text(name)?.map(|text| find_word(text, words).map_err(|reason| self.wrong(name, reason))).transpose()
    }

    pub(in crate::dialect) fn required_word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<T, ApiError> {
        self.required(name, self.word(name, words)?)
    }

    /// A string or an array of strings. An empty array is as good as none: clients leave it out or not as it comes.
    pub(in crate::dialect) fn values(&self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        let wrong = || self.wrong(name, "must be a string or an array of strings");
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text.clone()])),
            Some(Value::Array(values)) => {
                let texts = values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong));
                let texts = texts.collect::<Result<Vec<_>, _>>()?;
                Ok((!texts.is_empty()).then_some(texts))
            }
            Some(_) => Err(wrong()),
        }
    }
}

/// A whole number from the text of a JSON number. What would have to be rounded to be one is none: `2e-42` is no time.
pub(super) fn read_int(text: &str) -> Option<i64> {
    Amount::parse(text.as_bytes()).ok()?.to_int().filter(|_| is_whole(text))
}

/// Whether no digit behind the point, wherever the exponent puts it, is other than 0.
fn is_whole(number: &str) -> bool {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('-');
    // One that does not fit is beyond all digits of the text.
    let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    let point = exponent.saturating_add(whole.len() as i64);
    (0..).zip(whole.bytes().chain(fraction.bytes())).all(|(at, digit)| digit == b'0' || at < point)
}

/// What is wrong with a text, to be read after the field's name.
pub(in crate::dialect) fn check_text(text: &str, bytes_max: usize) -> Result<(), String> {
    if text.len() > bytes_max {
        return Err(format!("has {} bytes, the limit is {bytes_max}", text.len()));
    }
    // PostgreSQL cannot keep it in a text, and no real name has one.
    if text.contains('\0') { Err("contains U+0000".into()) } else { Ok(()) }
}

fn find_word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("must be one of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::read_int;

    #[test]
    fn a_whole_number_is_read_however_it_is_written_and_nothing_is_rounded_to_one() {
        for (text, number) in [
            ("7", Some(7)),
            ("-7.00", Some(-7)),
            ("1e3", Some(1_000)),
            ("1.5E+1", Some(15)),
            ("1200e-2", Some(12)),
            ("0e-99999999999999999999", Some(0)),
            ("0.0", Some(0)),
            ("1.5", None),
            ("1e-1", None),
            ("2.589e-42", None),
            ("1.0000000000000001", None),
            ("1e-99999999999999999999", None),
            ("1e19", None),
        ] {
            assert_eq!(read_int(text), number, "{text}");
        }
    }
}
