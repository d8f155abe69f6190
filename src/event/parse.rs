//! JSON bodies taken apart without an allocation an event, in up to three [ways](Way).
//!
//! The usual form is read in one pass over the body. Whatever is otherwise (an escape, an exponent, what is broken) goes to simd-json, whose
//! tape is walked in lockstep with the byte offsets that its first stage found: strings are slices of a padded scratch copy of the body, as
//! it unescapes in place. Numbers are the bytes that were sent, never an `f64`. A body that simd-json refuses although it is JSON (a number
//! beyond `f64`, nesting beyond the limit) goes a slow way over `serde_json`, element by element, so that one bad event never costs its
//! neighbours. All ways give a dialect the same [`Members`]; `a_body_reads_the_same_on_all_ways` holds them to it.
//!
//! Repeated keys: the members are handed on as sent. A dialect refuses a repetition of a key that it knows, since
//! two parsers could disagree on which one to bill; repetitions of unknown keys are as unknown as their first.

pub mod lines;
mod scan;
mod slow;
mod values;

use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use super::{Code, JSON_DEPTH_MAX, Rejection};

pub(crate) use scan::find_special;
#[doc(hidden)]
pub use scan::{Node as ScannedNode, Scanned};
#[doc(hidden)]
pub use slow::Slow;
pub(in crate::event) use values::max as values_max;

use scan::scan;
use slow::slow_form;

/// The ways to read a body, each of which falls back to those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In one pass: the usual form.
    Scan,
    /// simd-json's tape: whatever it takes.
    Tape,
    /// `serde_json`, element by element: any JSON.
    Slow,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Scan, Self::Tape, Self::Slow];
}

/// Buffers that are used again for body after body; one a thread.
pub struct Parser {
    buffers: Buffers,
    tape: Tape<'static>,
    padded: Vec<u8>,
    nodes: Vec<ScannedNode>,
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
    Scanned(Scanned<'p>),
    Tape { tape: Tape<'p>, structurals: &'p [u32] },
    Slow { elements: Vec<(&'p [u8], Result<Slow<'p>, Rejection>)>, is_array: bool },
}

impl Default for Parser {
    fn default() -> Self {
        let buffers = Buffers::with_max_depth(16 << 10, JSON_DEPTH_MAX);
        Self { buffers, tape: Tape(Vec::new()), padded: Vec::new(), nodes: Vec::new() }
    }
}

impl Parser {
    /// Takes a body apart. `body` stays as it is: raw ranges and digits are read from it.
    ///
    /// # Errors
    /// [`BodyError`]: no event can be told from another.
    pub fn parse<'p>(&'p mut self, body: &'p [u8], events_max: usize) -> Result<Parsed<'p>, BodyError> {
        self.parse_from(Way::Scan, body, events_max)
    }

    /// The same, without the ways before this one: for holding them against each other.
    ///
    /// # Errors
    /// As [`Parser::parse`].
    pub fn parse_from<'p>(&'p mut self, way: Way, body: &'p [u8], events_max: usize) -> Result<Parsed<'p>, BodyError> {
        check_density(body, events_max)?;
        let scanned = if way == Way::Scan { scan(body, &mut self.nodes) } else { None };
        let form = match scanned {
            Some(text) => Form::Scanned(Scanned { text, nodes: &self.nodes }),
            None if way == Way::Slow => slow_form(body, events_max)?,
            None => {
                self.padded.clear();
                self.padded.reserve(body.len() + INPUT_PADDING);
                self.padded.extend_from_slice(body);
                self.padded.resize(body.len() + INPUT_PADDING, b' ');
                let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
                let filled = simd_json::fill_tape_padded(&mut self.padded, body.len(), &mut self.buffers, &mut tape);
                match filled {
                    Ok(()) => Form::Tape { tape, structurals: self.buffers.structural_indexes() },
                    Err(_) => {
                        self.tape = tape.reset();
                        slow_form(body, events_max)?
                    }
                }
            }
        };
        let parsed = Parsed { body, form, slot: &mut self.tape };
        let got = parsed.len()?;
        if got > events_max { Err(BodyError::TooMany { got, limit: events_max }) } else { Ok(parsed) }
    }

    /// Gives back what one large body has left behind: a thread may not see another one for long. After each body.
    pub fn trim(&mut self) {
        let tape_bytes = self.tape.0.capacity() * size_of::<Node<'static>>();
        let nodes_bytes = self.nodes.capacity() * size_of::<ScannedNode>();
        if self.padded.capacity() + tape_bytes + nodes_bytes > KEPT_BYTES_MAX {
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
            Form::Scanned(source) => source.nodes.first().is_some_and(ScannedNode::is_array),
            Form::Tape { tape, .. } => matches!(tape.0.first(), Some(Node::Array { .. })),
            Form::Slow { is_array, .. } => *is_array,
        }
    }

    fn len(&self) -> Result<usize, BodyError> {
        match &self.form {
            Form::Scanned(source) => Ok(source.nodes.first().filter(|root| root.is_array()).map_or(1, ScannedNode::count)),
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
            Form::Scanned(source) => {
                // An array comes before its first element.
                let (at, left) = source.nodes.first().filter(|root| root.is_array()).map_or((0, 1), |root| (1, root.count()));
                Elements::Scanned { source: *source, at, left }
            }
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
    Scanned { source: Scanned<'t>, at: usize, left: usize },
    #[doc(hidden)]
    Tape { source: Source<'t>, at: At, left: usize },
    #[doc(hidden)]
    Slow(std::slice::Iter<'t, (&'t [u8], Result<Slow<'t>, Rejection>)>),
}

impl<'t> Iterator for Elements<'t> {
    type Item = Element<'t>;

    fn next(&mut self) -> Option<Element<'t>> {
        match self {
            Self::Scanned { source, at, left } => {
                *left = left.checked_sub(1)?;
                let raw = source.bytes(*at);
                let members = match source.value(at) {
                    Value::Object(members) => Ok(members),
                    _ => Err(not_an_object()),
                };
                Some(Element { raw, members })
            }
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

/// A JSON value. Numbers are the bytes that were sent.
#[derive(Clone)]
pub enum Value<'t> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The number's text.
    Number(&'t [u8]),
    /// Unescaped.
    String(&'t str),
    /// Its elements.
    Array(Items<'t>),
    /// Its members.
    Object(Members<'t>),
}

/// The members of an object in the order sent, repetitions included.
#[derive(Clone)]
pub enum Members<'t> {
    #[doc(hidden)]
    Scanned { source: Scanned<'t>, at: usize, left: usize },
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
            Self::Scanned { source, at, left } => {
                *left = left.checked_sub(1)?;
                Some((source.key(at), source.value(at)))
            }
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

/// The elements of an array in the order sent.
#[derive(Clone)]
pub enum Items<'t> {
    #[doc(hidden)]
    Scanned { source: Scanned<'t>, at: usize, left: usize },
    #[doc(hidden)]
    Tape { source: Source<'t>, at: At, left: usize },
    #[doc(hidden)]
    Slow(std::slice::Iter<'t, Slow<'t>>),
}

impl<'t> Iterator for Items<'t> {
    type Item = Value<'t>;

    fn next(&mut self) -> Option<Value<'t>> {
        match self {
            Self::Scanned { source, at, left } => {
                *left = left.checked_sub(1)?;
                Some(source.value(at))
            }
            Self::Tape { source, at, left } => {
                *left = left.checked_sub(1)?;
                let value = source.value(at);
                at.mark += 1; // the comma or the closing bracket
                Some(value)
            }
            Self::Slow(items) => items.next().map(Slow::view),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self {
            Self::Scanned { left, .. } | Self::Tape { left, .. } => *left,
            Self::Slow(items) => items.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Items<'_> {}

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
                let items = Items::Tape { source: *self, at: *at, left: *len };
                self.skip(at, *len, *count);
                Value::Array(items)
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
