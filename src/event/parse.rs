//! JSON bodies taken apart without an allocation an event: simd-json's tape, walked in lockstep with the byte
//! offsets that its first stage found.
//!
//! Strings are slices of a padded scratch copy of the body (simd-json unescapes in place), numbers are the bytes
//! that were sent, never an `f64`. A body that simd-json refuses although it is JSON (a number beyond `f64`, nesting
//! beyond the limit) goes a slow way over `serde_json`, element by element, so that one bad event never costs its
//! neighbours. Both ways give a dialect the same [`Members`]; `a_body_reads_the_same_on_both_ways` holds them to it.
//!
//! Repeated keys: the members are handed on as sent. A dialect refuses a repetition of a key that it knows, since
//! two parsers could disagree on which one to bill; repetitions of unknown keys are as unknown as their first.

pub mod lines;
mod values;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use super::{Code, JSON_DEPTH_MAX, Rejection};

pub(in crate::event) use values::max as values_max;

/// Buffers that are used again for body after body; one a thread.
pub struct Parser {
    buffers: Buffers,
    tape: Tape<'static>,
    padded: Vec<u8>,
}

/// Past this the scratch buffers of one large body are given back instead of kept.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// The body as a whole is of no use; nothing of it was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON.
    #[error("the body is not valid JSON: {0}")]
    Syntax(String),
    /// Not CSV.
    #[error("the body is not valid CSV: {0}")]
    Table(String),
    /// JSON, but neither an object nor an array.
    #[error("the body must be an event or an array of events")]
    NeitherObjectNorArray,
    /// More events than a request may have.
    #[error("the body has {got} events, the limit is {limit}")]
    TooMany {
        /// How many there are.
        got: usize,
        /// How many there may be.
        limit: usize,
    },
    /// More values of any kind than so many events need.
    #[error("the body has more than {limit} values, the limit")]
    TooDense {
        /// How many there may be.
        limit: usize,
    },
}

/// A body taken apart. Borrows the parser's buffers and gives them back when dropped.
pub struct Parsed<'p> {
    body: &'p [u8],
    form: Form<'p>,
    slot: &'p mut Tape<'static>,
}

enum Form<'p> {
    Tape { tape: Tape<'p>, structurals: &'p [u32] },
    Slow { elements: Vec<(&'p [u8], Result<Slow<'p>, Rejection>)>, is_array: bool },
}

impl Default for Parser {
    fn default() -> Self {
        Self { buffers: Buffers::with_max_depth(16 << 10, JSON_DEPTH_MAX), tape: Tape(Vec::new()), padded: Vec::new() }
    }
}

impl Parser {
    /// Takes a body apart. `body` stays as it is: raw ranges and digits are read from it.
    ///
    /// # Errors
    /// [`BodyError`]: no event can be told from another.
    pub fn parse<'p>(&'p mut self, body: &'p [u8], events_max: usize) -> Result<Parsed<'p>, BodyError> {
        check_density(body, events_max)?;
        self.padded.clear();
        self.padded.reserve(body.len() + INPUT_PADDING);
        self.padded.extend_from_slice(body);
        self.padded.resize(body.len() + INPUT_PADDING, b' ');
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let filled = simd_json::fill_tape_padded(&mut self.padded, body.len(), &mut self.buffers, &mut tape);
        let form = match filled {
            Ok(()) => Form::Tape { tape, structurals: self.buffers.structural_indexes() },
            Err(_) => {
                self.tape = tape.reset();
                slow_form(body, events_max)?
            }
        };
        let parsed = Parsed { body, form, slot: &mut self.tape };
        let got = parsed.len()?;
        if got > events_max {
            return Err(BodyError::TooMany { got, limit: events_max });
        }
        Ok(parsed)
    }

    /// The slow way alone, for holding the fast one against it.
    ///
    /// # Errors
    /// As [`Parser::parse`].
    pub fn parse_slowly<'p>(&'p mut self, body: &'p [u8], events_max: usize) -> Result<Parsed<'p>, BodyError> {
        check_density(body, events_max)?;
        Ok(Parsed { body, form: slow_form(body, events_max)?, slot: &mut self.tape })
    }

    /// Gives back what one large body has left behind: a thread may not see another one for long. After each body.
    pub fn trim(&mut self) {
        let tape_bytes = self.tape.0.capacity() * size_of::<Node<'static>>();
        if self.padded.capacity() + tape_bytes > KEPT_BYTES_MAX {
            *self = Self::default();
        }
    }
}

fn check_density(body: &[u8], events_max: usize) -> Result<(), BodyError> {
    let limit = values::max(events_max);
    if values::are_more_than(limit, body) { Err(BodyError::TooDense { limit }) } else { Ok(()) }
}

impl Drop for Parsed<'_> {
    fn drop(&mut self) {
        if let Form::Tape { tape, .. } = &mut self.form {
            *self.slot = std::mem::replace(tape, Tape(Vec::new())).reset();
        }
    }
}

/// One element of the body: its place, its bytes as sent, and its members if it is an object.
pub struct Element<'t> {
    /// The element's bytes, as sent.
    pub raw: &'t [u8],
    /// What is in it.
    pub members: Result<Members<'t>, Rejection>,
}

impl Parsed<'_> {
    /// Whether the body is an array (of any length) and not a single event.
    pub fn is_array(&self) -> bool {
        match &self.form {
            Form::Tape { tape, .. } => matches!(tape.0.first(), Some(Node::Array { .. })),
            Form::Slow { is_array, .. } => *is_array,
        }
    }

    fn len(&self) -> Result<usize, BodyError> {
        match &self.form {
            Form::Tape { tape, .. } => match tape.0.first() {
                Some(Node::Array { len, .. }) => Ok(*len),
                Some(Node::Object { .. }) => Ok(1),
                _ => Err(BodyError::NeitherObjectNorArray),
            },
            Form::Slow { elements, .. } => Ok(elements.len()),
        }
    }

    /// The elements in the order sent.
    pub fn elements(&self) -> Elements<'_> {
        match &self.form {
            Form::Tape { tape, structurals } => {
                let source = Source { body: self.body, nodes: &tape.0, structurals };
                // An array's bracket comes before its first element.
                let (at, left) = match tape.0.first() {
                    Some(Node::Array { len, .. }) => (At { node: 1, mark: 1 }, *len),
                    _ => (At { node: 0, mark: 0 }, 1),
                };
                Elements::Tape { source, at, left }
            }
            Form::Slow { elements, .. } => Elements::Slow(elements.iter()),
        }
    }
}

/// Iterator over the elements of a body.
pub enum Elements<'t> {
    #[doc(hidden)]
    Tape { source: Source<'t>, at: At, left: usize },
    #[doc(hidden)]
    Slow(std::slice::Iter<'t, (&'t [u8], Result<Slow<'t>, Rejection>)>),
}

impl<'t> Iterator for Elements<'t> {
    type Item = Element<'t>;

    fn next(&mut self) -> Option<Element<'t>> {
        match self {
            Self::Tape { source, at, left } => {
                *left = left.checked_sub(1)?;
                let start = source.offset(at.mark);
                let value = source.value(at);
                let end = if at.mark < source.structurals.len() { source.offset(at.mark) } else { source.body.len() };
                at.mark += 1; // the comma or the closing bracket
                let raw = source.body.get(start..end).unwrap_or_default().trim_ascii_end();
                let members = match value {
                    Value::Object(members) => Ok(members),
                    _ => Err(not_an_object()),
                };
                Some(Element { raw, members })
            }
            Self::Slow(elements) => {
                let (raw, value) = elements.next()?;
                let members = match value {
                    Ok(Slow::Object(members)) => Ok(Members::Slow(members.iter())),
                    Ok(_) => Err(not_an_object()),
                    Err(rejection) => Err(rejection.clone()),
                };
                Some(Element { raw, members })
            }
        }
    }
}

fn not_an_object() -> Rejection {
    Rejection::new(Code::NotAnObject, "", "must be a JSON object")
}

/// A JSON value. Numbers are the bytes that were sent; arrays are only known to be one, as no event has any.
pub enum Value<'t> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The number's text.
    Number(&'t [u8]),
    /// Unescaped.
    String(&'t str),
    /// Not read any further.
    Array,
    /// Its members.
    Object(Members<'t>),
}

/// The members of an object in the order sent, repetitions included.
pub enum Members<'t> {
    #[doc(hidden)]
    Tape { source: Source<'t>, at: At, left: usize },
    #[doc(hidden)]
    Slow(std::slice::Iter<'t, (String, Slow<'t>)>),
}

impl<'t> Iterator for Members<'t> {
    type Item = (&'t str, Value<'t>);

    #[inline]
    fn next(&mut self) -> Option<(&'t str, Value<'t>)> {
        match self {
            Self::Tape { source, at, left } => {
                *left = left.checked_sub(1)?;
                let Some(Node::String(key)) = source.nodes.get(at.node) else { return None };
                at.node += 1;
                at.mark += 2; // the key and its colon
                let value = source.value(at);
                at.mark += 1; // the comma or the closing brace
                Some((key, value))
            }
            Self::Slow(members) => members.next().map(|(key, value)| (key.as_str(), value.view())),
        }
    }
}

/// The tape with what it was made from.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Source<'t> {
    body: &'t [u8],
    nodes: &'t [Node<'t>],
    structurals: &'t [u32],
}

/// A place on the tape and the structural character that belongs to it.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct At {
    node: usize,
    mark: usize,
}

impl<'t> Source<'t> {
    fn offset(&self, mark: usize) -> usize {
        self.structurals.get(mark).map_or(self.body.len(), |at| *at as usize)
    }

    /// The value at a place, which moves behind it.
    #[inline]
    fn value(&self, at: &mut At) -> Value<'t> {
        let here = *at;
        let Some(node) = self.nodes.get(here.node) else { return Value::Null };
        at.node += 1;
        at.mark += 1;
        match node {
            Node::String(text) => Value::String(text),
            Node::Static(StaticNode::Null) => Value::Null,
            Node::Static(StaticNode::Bool(value)) => Value::Bool(*value),
            Node::Static(_) => Value::Number(self.number(here.mark)),
            Node::Object { len, count } => {
                let members = Members::Tape { source: *self, at: *at, left: *len };
                self.skip(at, *len, *count);
                Value::Object(members)
            }
            Node::Array { len, count } => {
                self.skip(at, *len, *count);
                Value::Array
            }
        }
    }

    /// Moves from behind an opening bracket to behind the closing one.
    fn skip(&self, at: &mut At, len: usize, count: usize) {
        let inner = &self.nodes[at.node..at.node + count];
        at.node += count;
        // Colons stand after the keys of objects, commas between the members of both; both closings count one.
        let separators = |node: &Node<'_>| match node {
            Node::String(_) | Node::Static(_) => 1,
            Node::Object { len, .. } => 2 + (2 * len).saturating_sub(1),
            Node::Array { len, .. } => 2 + len.saturating_sub(1),
        };
        let own = match self.nodes[at.node - count - 1] {
            Node::Object { .. } => (2 * len).saturating_sub(1),
            _ => len.saturating_sub(1),
        };
        at.mark += own + 1 + inner.iter().map(separators).sum::<usize>();
    }

    fn number(&self, mark: usize) -> &'t [u8] {
        let rest = self.body.get(self.offset(mark)..).unwrap_or_default();
        let len = rest.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
        &rest[..len]
    }
}

/// A value of the slow way, which owns its strings.
#[doc(hidden)]
pub enum Slow<'p> {
    Null,
    Bool(bool),
    Number(&'p [u8]),
    String(String),
    Array,
    Object(Vec<(String, Slow<'p>)>),
}

impl Slow<'_> {
    fn view(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(text) => Value::Number(text),
            Self::String(text) => Value::String(text),
            Self::Array => Value::Array,
            Self::Object(members) => Value::Object(Members::Slow(members.iter())),
        }
    }
}

fn slow_form(body: &[u8], events_max: usize) -> Result<Form<'_>, BodyError> {
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

fn slow_value(raw: &RawValue, depth: usize) -> Result<Slow<'_>, Rejection> {
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
            check_strings(text)?;
            Slow::Array
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

/// Refuses what only shows when strings are decoded (lone surrogates), in parts that no dialect reads.
fn check_strings(text: &str) -> Result<(), Rejection> {
    let (mut start, mut has_escape, mut escaped) = (None, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match (start, byte) {
            _ if escaped => escaped = false,
            (Some(_), b'\\') => (has_escape, escaped) = (true, true),
            (None, b'"') => (start, has_escape) = (Some(at), false),
            (Some(begin), b'"') => {
                start = None;
                let is_broken = has_escape && serde_json::from_str::<String>(&text[begin..=at]).is_err();
                if is_broken {
                    return Err(broken_string());
                }
            }
            _ => {}
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
