//! Events as producers write them, good and bad.

use super::DAY_0_MS;

/// One event: its members in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Name and JSON text of each.
    members: Vec<(String, String)>,
    dimensions: Vec<(String, String)>,
}

/// An event with everything that one needs: 1 of the meter `m`, used by the customer `c` on the first day.
pub(crate) fn event(unique_id: &str) -> Event {
    let mut event = event_without_id();
    event.members.insert(0, ("uniqueId".into(), quoted(unique_id)));
    event
}

/// The same without a uniqueId.
pub(crate) fn event_without_id() -> Event {
    let event = Event { members: Vec::new(), dimensions: Vec::new() };
    event.customer("c").meter("m").value("1").at(DAY_0_MS)
}

/// An event of about 60 KB, all of which is kept.
pub(crate) fn wide_event(unique_id: &str) -> Event {
    (0..58).fold(event(unique_id), |event, key| event.dimension(&format!("key-{key}"), &"x".repeat(1_000)))
}

/// A body of these events.
pub(crate) fn batch(events: &[Event]) -> String {
    let events: Vec<_> = events.iter().map(Event::json).collect();
    format!("[{}]", events.join(","))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Event {
    pub(crate) fn customer(self, id: &str) -> Self {
        self.raw("customerId", &quoted(id))
    }

    pub(crate) fn meter(self, name: &str) -> Self {
        self.raw("meterApiName", &quoted(name))
    }

    /// The value, with these very digits.
    pub(crate) fn value(self, digits: impl ToString) -> Self {
        self.raw("meterValue", &digits.to_string())
    }

    /// When it happened, in ms since 1970.
    pub(crate) fn at(self, ms: i64) -> Self {
        self.raw("meterTimeInMillis", &ms.to_string())
    }

    /// One more dimension.
    pub(crate) fn dimension(mut self, key: &str, value: &str) -> Self {
        self.dimensions.push((key.into(), value.into()));
        self
    }

    /// Several meters at once, in place of the one.
    pub(crate) fn values(self, values: &[(&str, &str)]) -> Self {
        let members: Vec<_> = values.iter().map(|(meter, digits)| format!("{}:{digits}", quoted(meter))).collect();
        self.without("meterApiName").without("meterValue").raw("values", &format!("{{{}}}", members.join(",")))
    }

    /// A member with this very JSON text, in place of the one of this name if there is one.
    pub(crate) fn raw(mut self, name: &str, json: &str) -> Self {
        match self.members.iter_mut().find(|(known, _)| known == name) {
            Some((_, text)) => *text = json.into(),
            None => self.members.push((name.into(), json.into())),
        }
        self
    }

    /// A member more, even if there is one of this name.
    pub(crate) fn repeated(mut self, name: &str, json: &str) -> Self {
        self.members.push((name.into(), json.into()));
        self
    }

    /// Without a member.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.members.retain(|(known, _)| known != name);
        self
    }

    /// Made longer by a member that nobody reads, until it has this many bytes.
    pub(crate) fn padded_to(self, bytes: usize) -> Self {
        let padded = self.raw("padding", "\"\"");
        let missing = bytes.checked_sub(padded.json().len()).expect("it is shorter");
        padded.raw("padding", &quoted(&"x".repeat(missing)))
    }

    /// As it is sent.
    pub(crate) fn json(&self) -> String {
        let object = |members: &[(String, String)]| {
            let members: Vec<_> = members.iter().map(|(name, text)| format!("{}:{text}", quoted(name))).collect();
            format!("{{{}}}", members.join(","))
        };
        let mut members = self.members.clone();
        if !self.dimensions.is_empty() {
            let dimensions: Vec<_> = self.dimensions.iter().map(|(key, value)| (key.clone(), quoted(value))).collect();
            members.push(("dimensions".into(), object(&dimensions)));
        }
        object(&members)
    }
}
