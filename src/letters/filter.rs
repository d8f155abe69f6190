//! Which letters are meant: a letter is whatever was sent, so its names are what can be read of it.

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::clock::UnixMillis;
use crate::dialect::amberflo::ingest::custom::Name;
use crate::event::csv::Table;
use crate::gateway::form::{Shape, Syntax};
use crate::gateway::letters::DeadLetter;
use crate::log::Position;

/// What a letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing was done about it.
    Open,
    /// It was replayed and refused again.
    Refused,
    /// It was replayed, and its event is in the log.
    Replayed,
    /// Nobody gets to see it.
    Deleted,
}

impl State {
    /// As it stands in answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Replayed => "replayed",
            Self::Deleted => "deleted",
        }
    }
}

/// Which letters are meant, of those that are not deleted. The default: all, and none of them, as `limit` says how many.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only with this code.
    pub code: Option<String>,
    /// Only with this in the text of the reason.
    pub reason: Option<String>,
    /// Only with a measurement of this meter.
    pub meter: Option<String>,
    /// Only of this customer.
    pub customer: Option<String>,
    /// Only with this id.
    pub unique_id: Option<String>,
    /// Only received then or later.
    pub from: Option<UnixMillis>,
    /// Only received before.
    pub to: Option<UnixMillis>,
    /// Only of these states; empty: of any.
    pub states: Vec<State>,
    /// Only before this position.
    pub before: Option<Position>,
    /// At most so many.
    pub limit: usize,
}

impl Filter {
    /// Whether anything is asked of a letter itself.
    pub fn is_selective(&self) -> bool {
        let texts = [&self.code, &self.reason, &self.meter, &self.customer, &self.unique_id];
        texts.iter().any(|text| text.is_some()) || self.from.is_some() || self.to.is_some() || !self.states.is_empty()
    }

    /// The same without the letters of a state.
    #[must_use]
    pub fn without(mut self, state: State) -> Self {
        if self.states.is_empty() {
            self.states = vec![State::Open, State::Refused, State::Replayed];
        }
        self.states.retain(|known| *known != state);
        // None of what is left would be none at all, and not any.
        if self.states.is_empty() {
            self.states = vec![State::Deleted];
        }
        self
    }

    pub(super) fn holds(&self, letter: &DeadLetter, received: UnixMillis, state: State) -> bool {
        state != State::Deleted
            && (self.states.is_empty() || self.states.contains(&state))
            && self.from.is_none_or(|from| from <= received)
            && self.to.is_none_or(|to| received < to)
            && self.code.as_ref().is_none_or(|code| *code == letter.refusal.code)
            && self.reason.as_ref().is_none_or(|reason| letter.refusal.reason.contains(reason.as_str()))
            && self.holds_names(letter)
    }

    fn holds_names(&self, letter: &DeadLetter) -> bool {
        if self.meter.is_none() && self.customer.is_none() && self.unique_id.is_none() {
            return true;
        }
        let names = Names::of(letter);
        let has = |wanted: &Option<String>, found: &[String]| wanted.as_ref().is_none_or(|wanted| found.contains(wanted));
        has(&self.meter, &names.meters) && has(&self.customer, &names.customers) && has(&self.unique_id, &names.unique_ids)
    }
}

/// The names in an event that was not taken, as far as it can be read: up to where it is cut, and each repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// `uniqueId`.
    pub unique_ids: Vec<String>,
    /// `customerId`.
    pub customers: Vec<String>,
    /// `meterApiName`, and the keys of `values`.
    pub meters: Vec<String>,
}

impl Names {
    /// Reads them from a letter, in the form that it was sent in.
    pub fn of(letter: &DeadLetter) -> Self {
        let DeadLetter { sent, raw, .. } = letter;
        let mut names = Self::default();
        match sent.syntax {
            Syntax::Csv => names.note_row(&sent.body(raw), sent.shape),
            Syntax::Json | Syntax::Ndjson => names.note_object(raw, sent.shape),
        }
        names
    }

    /// Reads them from the bytes of an event of the contract, as JSON.
    pub fn read(raw: &[u8]) -> Self {
        let mut names = Self::default();
        names.note_object(raw, Shape::Amberflo);
        names
    }

    fn note_object(&mut self, raw: &[u8], shape: Shape) {
        // An error ends it: what was read before stays.
        drop(serde_json::Deserializer::from_slice(raw).deserialize_map(Event(self, shape)));
    }

    /// A row that cannot be read has no names, nor has one that is cut.
    fn note_row(&mut self, body: &[u8], shape: Shape) {
        let Ok(table) = Table::read(body, 1) else { return };
        let columns = table.columns();
        let Some(fields) = table.rows().next().and_then(|row| row.fields.ok()) else { return };
        for (column, field) in columns.into_iter().zip(fields).filter(|(_, field)| !field.is_empty()) {
            if let Some(name) = shape.name_under(column) {
                self.note_name(name, field.to_owned());
            }
        }
    }

    fn note_name(&mut self, name: Name, text: String) {
        match name {
            Name::UniqueId => self.unique_ids.push(text),
            Name::Customer => self.customers.push(text),
            Name::Meter => self.meters.push(text),
        }
    }

    /// Under each key that may be a name, whichever of them the event goes by; of a custom event also where it is a number.
    fn note(&mut self, key: &str, value: &RawValue, shape: Shape) {
        if shape == Shape::Amberflo && key == "values" {
            drop(serde_json::Deserializer::from_str(value.get()).deserialize_map(Keys(&mut self.meters)));
            return;
        }
        let Some(name) = shape.name_under(key) else { return };
        let text = match serde_json::from_str(value.get()) {
            Ok(Value::String(text)) => text,
            Ok(Value::Number(number)) if shape == Shape::Custom => number.to_string(),
            Ok(_) | Err(_) => return,
        };
        self.note_name(name, text);
    }
}

/// Whose names, and what its members mean.
struct Event<'n>(&'n mut Names, Shape);

impl<'de> Visitor<'de> for Event<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            self.0.note(&key, value, self.1);
        }
        Ok(())
    }
}

struct Keys<'n>(&'n mut Vec<String>);

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, IgnoredAny)) = map.next_entry()? {
            self.0.push(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::form::Sent;
    use crate::gateway::letters::Refusal;

    fn names(raw: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
        let Names { unique_ids, customers, meters } = Names::read(raw.as_bytes());
        (unique_ids, customers, meters)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn names_are_read_as_far_as_they_can_be() {
        let whole = r#"{"uniqueId":"u\u00e9","customerId":"c","values":{"a":1,"b":"2"},"meterApiName":"m","uniqueId":"v","x":[1]}"#;
        assert_eq!(names(whole), (texts(&["ué", "v"]), texts(&["c"]), texts(&["a", "b", "m"])));
        let cut = r#"{"uniqueId":"u","customerId":"c","padding":"xxxx"#;
        assert_eq!(names(cut), (texts(&["u"]), texts(&["c"]), texts(&[])));
        let odd = r#"{"customerId":"\ud800","uniqueId":"u","meterApiName":7}"#;
        assert_eq!(names(odd), (texts(&["u"]), texts(&[]), texts(&[])));
        for nothing in ["", "7", "\"uniqueId\"", "[]", "[{\"uniqueId\":\"u\"}]", "null"] {
            assert_eq!(names(nothing), names("{}"), "{nothing}");
        }
    }

    #[test]
    fn names_are_read_in_the_form_that_was_sent() {
        let of = |sent: Sent, raw: &str| {
            let refusal = Refusal { code: String::new(), field: String::new(), reason: String::new() };
            let Names { unique_ids, customers, meters } =
                Names::of(&DeadLetter { account: 1, index: 0, refusal, is_cut: false, record: None, sent, raw: raw.into() });
            (unique_ids, customers, meters)
        };
        let csv = |shape, header: &str| Sent { syntax: Syntax::Csv, shape, header: Some(header.into()) };
        let expected = (texts(&["u,1"]), texts(&["c"]), texts(&[]));
        assert_eq!(of(csv(Shape::Amberflo, "uniqueId,id,customerId,meterApiName"), "\"u,1\",x,c,"), expected);
        assert_eq!(of(csv(Shape::Custom, "id,n,customer,meter"), "\"u,1\",x,c,"), expected);
        assert_eq!(of(csv(Shape::Amberflo, "uniqueId,customerId"), "\"cut"), names("{}"));
        let custom = Sent { syntax: Syntax::Ndjson, shape: Shape::Custom, header: None };
        let all = (texts(&["7"]), texts(&["c", "s"]), texts(&["t"]));
        assert_eq!(of(custom, r#"{"customer":"c","subject":"s","id":7,"type":"t","event":{},"n":1,"uniqueId":null"#), all);
    }

    #[test]
    fn deep_nesting_and_broken_bytes_are_no_names() {
        let deep = format!("{{\"uniqueId\":\"u\",\"x\":{}", "[".repeat(60_000));
        assert_eq!(Names::read(deep.as_bytes()).unique_ids, ["u"]);
        assert_eq!(Names::read(b"{\"uniqueId\":\"\xff\"}"), Names::default());
    }
}
