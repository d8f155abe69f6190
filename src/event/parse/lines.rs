//! NDJSON: an event a line. A line that is broken ends where it ends, at its newline: its neighbours are taken.
//!
//! The lines are put together to an array and parsed at once. That array may read otherwise than its lines (`{"a":1` and `"b":2}` are
//! one object with a comma between them), so each of its elements must lie within a line, and there must be as many of the one as of the
//! other ([`Parsed::is_one_a_line`]). Where it is not so, each line is read by itself, the slow way.

use memchr::memchr;
use serde_json::value::RawValue;

use super::slow::slow_value;
use super::{BodyError, Form, Parsed, Parser, check_density};
use crate::event::{Code, Rejection};

/// How deep an event stands in its body: as in an array, so that the form makes no difference to the limit.
const DEPTH: usize = 1;

/// The lines of a body as one text.
pub struct Joined {
    /// An array of them, with a newline between any two.
    pub text: Vec<u8>,
    /// How many there are.
    pub lines: usize,
}

/// The lines of a body that have anything in them, without the white space around it.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(body);
    let all = std::iter::from_fn(move || {
        let body = rest?;
        let Some(end) = memchr(b'\n', body) else { return rest.take() };
        rest = Some(&body[end + 1..]);
        Some(&body[..end])
    });
    all.map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

/// Whether a body that is no JSON value is several of them, one a line: its first line is a whole object, and not its last.
pub fn are_in(body: &[u8]) -> bool {
    let mut lines = lines(body);
    let first = lines.next().and_then(|line| serde_json::from_slice::<&RawValue>(line).ok());
    first.is_some_and(|value| value.get().starts_with('{')) && lines.next().is_some()
}

/// Puts the lines of a body together.
pub fn join(body: &[u8]) -> Joined {
    let mut text = Vec::with_capacity(body.len() + body.len() / 64 + 16);
    let mut count = 0;
    text.push(b'[');
    for line in lines(body) {
        if count > 0 {
            text.extend_from_slice(b",\n");
        }
        text.extend_from_slice(line);
        count += 1;
    }
    text.push(b']');
    Joined { text, lines: count }
}

impl Parser {
    /// Reads each line of a body by itself.
    ///
    /// # Errors
    /// [`BodyError::TooMany`], [`BodyError::TooDense`].
    pub fn parse_each_line<'p>(&'p mut self, body: &'p [u8], events_max: usize) -> Result<Parsed<'p>, BodyError> {
        check_density(body, events_max)?;
        let got = lines(body).count();
        if got > events_max {
            return Err(BodyError::TooMany { got, limit: events_max });
        }
        let elements = lines(body).map(|line| (line, serde_json::from_slice::<&RawValue>(line)));
        let elements = elements.map(|(line, value)| match value {
            Ok(value) => (line, slow_value(value, DEPTH)),
            Err(error) => (line, Err(Rejection::new(Code::Malformed, "", format!("is not valid JSON: {error}")))),
        });
        Ok(Parsed { body, form: Form::Slow { elements: elements.collect(), is_array: true }, slot: &mut self.tape })
    }
}

impl Parsed<'_> {
    /// Whether an array that was [joined](join) of so many lines has these very lines as its elements.
    pub fn is_one_a_line(&self, lines: usize) -> bool {
        self.len() == Ok(lines) && self.elements().all(|element| memchr(b'\n', element.raw).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::parse::{Members, Value};
    use proptest::prelude::*;

    fn shown(members: Members<'_>) -> String {
        let one = |(key, value): (&str, Value<'_>)| {
            let value = match value {
                Value::Null => "null".to_owned(),
                Value::Bool(is) => is.to_string(),
                Value::Number(text) => String::from_utf8_lossy(text).into_owned(),
                Value::String(text) => format!("{text:?}"),
                Value::Array(_) => "[…]".to_owned(),
                Value::Object(members) => format!("{{{}}}", shown(members)),
            };
            format!("{key}={value}")
        };
        members.map(one).collect::<Vec<_>>().join(" ")
    }

    fn elements(parsed: &Parsed<'_>) -> Vec<(String, Result<String, Code>)> {
        let read = |members: Result<Members<'_>, Rejection>| members.map(shown).map_err(|rejection| rejection.code);
        parsed.elements().map(|element| (String::from_utf8_lossy(element.raw).into_owned(), read(element.members))).collect()
    }

    /// As the gateway reads it.
    fn read(body: &[u8]) -> Vec<(String, Result<String, Code>)> {
        let mut parser = Parser::default();
        let joined = join(body);
        if let Ok(parsed) = parser.parse(&joined.text, 100)
            && parsed.is_one_a_line(joined.lines)
        {
            return elements(&parsed);
        }
        elements(&parser.parse_each_line(body, 100).expect("few lines"))
    }

    #[test]
    fn a_broken_line_ends_at_its_newline() {
        let body = b"{\"a\":1}\n{\"b\":\n\n  {\"c\":\"x\"} \r\n\"d\n{\"e\":true}";
        let found = read(body);
        let codes: Vec<_> = found.iter().map(|(raw, read)| (raw.as_str(), read.clone().map_err(Code::label))).collect();
        assert_eq!(
            codes,
            [
                ("{\"a\":1}", Ok("a=1".into())),
                ("{\"b\":", Err("malformed")),
                ("{\"c\":\"x\"}", Ok("c=\"x\"".into())),
                ("\"d", Err("malformed")),
                ("{\"e\":true}", Ok("e=true".into())),
            ]
        );
    }

    #[test]
    fn lines_that_only_together_are_json_are_not() {
        for body in ["{\"a\":1\n\"b\":2}", "{\"a\":\"x\ny\"}", "{\"a\":[1\n2]}", "{}\n{},{}\n{\"a\":[\n]}", "[1\n2]"] {
            let found = read(body.as_bytes());
            assert_eq!(found.len(), body.lines().count(), "{body:?}: {found:?}");
            assert!(found.iter().any(|(_, read)| *read == Err(Code::Malformed)), "{body:?}: {found:?}");
        }
    }

    #[test]
    fn only_whole_objects_before_a_newline_make_a_body_lines() {
        for (body, is) in [
            ("{}\n{}", true),
            (" \n{\"a\":\"\\n\"}\r\n{broken", true),
            ("{}", false),
            ("{}\n\n", false),
            ("[{}]\n{}", false),
            ("7\n8", false),
            ("{\n}\n{}", false),
            ("{} {}\n{}", false),
            ("[\n{},\n{}", false),
            ("", false),
        ] {
            assert_eq!(are_in(body.as_bytes()), is, "{body:?}");
        }
    }

    #[test]
    fn more_lines_than_a_request_may_have_events_are_too_many() {
        let body = "{}\n".repeat(7);
        let refused = Parser::default().parse_each_line(body.as_bytes(), 6).err();
        assert_eq!(refused, Some(BodyError::TooMany { got: 7, limit: 6 }));
        assert!(Parser::default().parse_each_line(body.as_bytes(), 7).is_ok());
    }

    proptest! {
        #[test]
        fn both_ways_read_the_same_lines(lines in proptest::collection::vec("[{}\\[\\]a\":,1 \\\\]{0,12}", 0..6)) {
            let body = lines.join("\n");
            let mut parser = Parser::default();
            let joined = join(body.as_bytes());
            let alone = elements(&parser.parse_each_line(body.as_bytes(), 100).expect("few lines"));
            prop_assert_eq!(joined.lines, alone.len());
            if let Ok(parsed) = parser.parse(&joined.text, 100) && parsed.is_one_a_line(joined.lines) {
                prop_assert_eq!(elements(&parsed), alone);
            }
        }
    }
}
