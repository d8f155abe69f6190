//! The usual form of a body, read in one pass: texts without escapes, numbers without exponents, nothing nested past the limit. Whatever
//! is otherwise goes to simd-json, broken or not: nothing is refused here. Of what is read, simd-json would say the same
//! (`a_body_reads_the_same_on_all_ways`); this one makes no copy of the body, undoes no escape and makes no number of digits.

use super::{Items, Members, Value};
use crate::event::JSON_DEPTH_MAX;

/// A value, or the key of a member, which stands before its value.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Node {
    kind: Kind,
    /// In the body, quotes and brackets included.
    start: u32,
    end: u32,
    /// Members or items.
    count: u32,
    /// The node behind it and what is in it.
    next: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Bool(bool),
    Number,
    Text,
    Array,
    Object,
}

/// Reads a body that is one object or array in the usual form; gives it back as text, and a node for each value in it. `None`: it is something else.
pub(super) fn scan<'b>(body: &'b [u8], nodes: &mut Vec<Node>) -> Option<&'b str> {
    nodes.clear();
    u32::try_from(body.len()).ok()?;
    let text = simdutf8::basic::from_utf8(body).ok()?;
    let at = skip(body, 0);
    let end = match body.get(at)? {
        b'[' => array(body, at, 1, nodes)?,
        b'{' => object(body, at, 1, nodes)?,
        _ => return None,
    };
    (skip(body, end) == body.len()).then_some(text)
}

/// Past white space.
#[inline]
fn skip(body: &[u8], mut at: usize) -> usize {
    while matches!(body.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// Reads the value that begins here; gives back where it has ended.
#[inline]
fn value(body: &[u8], at: usize, depth: usize, nodes: &mut Vec<Node>) -> Option<usize> {
    let (kind, end) = match body.get(at)? {
        b'"' => return text(body, at, nodes),
        b'-' | b'0'..=b'9' => (Kind::Number, number(body, at)?),
        b'{' => return object(body, at, depth, nodes),
        b'[' => return array(body, at, depth, nodes),
        b't' => (Kind::Bool(true), literal(body, at, b"true")?),
        b'f' => (Kind::Bool(false), literal(body, at, b"false")?),
        b'n' => (Kind::Null, literal(body, at, b"null")?),
        _ => return None,
    };
    nodes.push(Node::leaf(kind, at, end));
    Some(end)
}

#[inline]
fn text(body: &[u8], at: usize, nodes: &mut Vec<Node>) -> Option<usize> {
    if *body.get(at)? != b'"' {
        return None;
    }
    let end = text_end(body, at + 1)? + 1;
    nodes.push(Node::leaf(Kind::Text, at, end));
    Some(end)
}

/// Where the quote is that ends a text; `None` if anything is before it that has to be escaped, or is.
#[inline]
fn text_end(body: &[u8], at: usize) -> Option<usize> {
    let end = at + find_special(body.get(at..)?)?;
    (body[end] == b'"').then_some(end)
}

/// Where the first byte is that ends a text or cannot stand in one as it is: a quote, a backslash or a control character.
#[inline]
pub(crate) fn find_special(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let found = special(u64::from_le_bytes(*eight));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    find_special_in_rest(bytes, at)
}

/// The same behind the last whole eight bytes. Not inlined: bodies go on behind nearly all of their texts.
#[inline(never)]
fn find_special_in_rest(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
    // Of those before it that are looked at once more none is one.
    if let Some(last) = bytes.last_chunk() {
        let found = special(u64::from_le_bytes(*last));
        return (found != 0).then(|| bytes.len() - 8 + found.trailing_zeros() as usize / 8);
    }
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).map(|found| at + found)
}

/// Eight bytes at once: the highest bit of the first that is a quote, a backslash or a control character. Of those behind it nothing is said.
#[inline]
fn special(bytes: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = u64::from_le_bytes([0x80; 8]);
    let below = |bytes: u64, limit: u64| bytes.wrapping_sub(ONES * limit) & !bytes;
    let quote = below(bytes ^ (ONES * b'"' as u64), 1);
    let backslash = below(bytes ^ (ONES * b'\\' as u64), 1);
    (quote | backslash | below(bytes, 0x20)) & HIGHEST
}

#[inline]
fn number(body: &[u8], start: usize) -> Option<usize> {
    let digits = |from: usize| from + body.get(from..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = start + usize::from(body.get(start) == Some(&b'-'));
    let mut end = digits(whole);
    if end == whole || (body[whole] == b'0' && end > whole + 1) {
        return None;
    }
    if body.get(end) == Some(&b'.') {
        let places = end + 1;
        end = digits(places);
        if end == places {
            return None;
        }
    }
    (!matches!(body.get(end), Some(b'e' | b'E'))).then_some(end)
}

fn literal(body: &[u8], at: usize, literal: &[u8]) -> Option<usize> {
    body.get(at..)?.starts_with(literal).then_some(at + literal.len())
}

fn object(body: &[u8], start: usize, depth: usize, nodes: &mut Vec<Node>) -> Option<usize> {
    list(body, start, (Kind::Object, b'}'), depth, nodes, |body, at, nodes| {
        let colon = skip(body, text(body, at, nodes)?);
        if *body.get(colon)? != b':' {
            return None;
        }
        value(body, skip(body, colon + 1), depth + 1, nodes)
    })
}

fn array(body: &[u8], start: usize, depth: usize, nodes: &mut Vec<Node>) -> Option<usize> {
    list(body, start, (Kind::Array, b']'), depth, nodes, |body, at, nodes| value(body, at, depth + 1, nodes))
}

/// What stands between two brackets, with commas between.
#[inline]
fn list(
    body: &[u8],
    start: usize,
    (kind, closing): (Kind, u8),
    depth: usize,
    nodes: &mut Vec<Node>,
    one: impl Fn(&[u8], usize, &mut Vec<Node>) -> Option<usize>,
) -> Option<usize> {
    if depth > JSON_DEPTH_MAX {
        return None;
    }
    let own = nodes.len();
    nodes.push(Node::leaf(kind, start, start));
    let (mut at, mut count) = (skip(body, start + 1), 0);
    if *body.get(at)? != closing {
        loop {
            at = skip(body, one(body, at, nodes)?);
            count += 1;
            match *body.get(at)? {
                b',' => at = skip(body, at + 1),
                end if end == closing => break,
                _ => return None,
            }
        }
    }
    let next = nodes.len() as u32;
    nodes[own] = Node { kind, start: start as u32, end: at as u32 + 1, count, next };
    Some(at + 1)
}

impl Node {
    fn leaf(kind: Kind, start: usize, end: usize) -> Self {
        // The body is shorter than that.
        Self { kind, start: start as u32, end: end as u32, count: 0, next: 0 }
    }

    pub(super) fn is_array(&self) -> bool {
        self.kind == Kind::Array
    }

    pub(super) fn count(&self) -> usize {
        self.count as usize
    }
}

/// The nodes with what they were made from.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Scanned<'t> {
    pub(super) text: &'t str,
    pub(super) nodes: &'t [Node],
}

impl<'t> Scanned<'t> {
    /// The bytes of a node.
    pub(super) fn bytes(&self, at: usize) -> &'t [u8] {
        self.nodes.get(at).map_or(b"", |node| self.sent(node))
    }

    #[inline]
    fn sent(&self, node: &Node) -> &'t [u8] {
        self.text.as_bytes().get(node.start as usize..node.end as usize).unwrap_or_default()
    }

    /// What is between the quotes, which are ASCII: neither end is inside of a character.
    #[inline]
    fn text(&self, node: &Node) -> &'t str {
        self.text.get(node.start as usize + 1..node.end as usize - 1).unwrap_or_default()
    }

    /// The key at a place, which moves behind it.
    #[inline]
    pub(super) fn key(&self, at: &mut usize) -> &'t str {
        let key = self.nodes.get(*at).map_or("", |node| self.text(node));
        *at += 1;
        key
    }

    /// The value at a place, which moves behind it.
    #[inline]
    pub(super) fn value(&self, at: &mut usize) -> Value<'t> {
        let Some(node) = self.nodes.get(*at) else { return Value::Null };
        let (inner, left) = (*at + 1, node.count());
        *at = inner;
        match node.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(value),
            Kind::Number => Value::Number(self.sent(node)),
            Kind::Text => Value::String(self.text(node)),
            Kind::Object => {
                *at = node.next as usize;
                Value::Object(Members::Scanned { source: *self, at: inner, left })
            }
            Kind::Array => {
                *at = node.next as usize;
                Value::Array(Items::Scanned { source: *self, at: inner, left })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_usual(body: &str) -> bool {
        scan(body.as_bytes(), &mut Vec::new()).is_some()
    }

    #[test]
    fn what_is_usual_is_read_here_and_the_rest_elsewhere() {
        for usual in [
            r#"{}"#,
            r#" [ ] "#,
            r#"[{"a":"b","c":-1.50,"d":[true,false,null,[]],"e":{"f":"ü 17 bytes and more"}}]"#,
            "{\"a\" :\t\"b\" ,\r\n\"c\": 0}\n",
        ] {
            assert!(is_usual(usual), "{usual}");
        }
        for other in [
            r#""#,
            r#"1"#,
            r#""text""#,
            r#"{"a":"\n"}"#,
            r#"{"a":1e5}"#,
            r#"{"a":01}"#,
            r#"{"a":-}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":+1}"#,
            r#"{"a":1"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{a:1}"#,
            r#"{"a":tru}"#,
            r#"{"a":"b}"#,
            r#"[1,]"#,
            r#"[1 2]"#,
            r#"{} {}"#,
            "{\"a\":\"\t\"}",
            "{\"a\":\"a tab behind eight \t\"}",
        ] {
            assert!(!is_usual(other), "{other}");
        }
        assert!(scan(b"{\"a\":\"\xff\"}", &mut Vec::new()).is_none());
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_usual(&nested(JSON_DEPTH_MAX)) && !is_usual(&nested(JSON_DEPTH_MAX + 1)));
    }

    proptest! {
        #[test]
        fn the_first_special_byte_of_eight_is_found(bytes: [u8; 8]) {
            let first = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20));
            let found = special(u64::from_le_bytes(bytes));
            prop_assert_eq!((found != 0).then_some(found.trailing_zeros() as usize / 8), first);
        }

        #[test]
        fn the_first_special_byte_of_any_number_is_found(text in "[a-z\u{e9}\u{0}-\u{1f}\"\\\\]{0,3}[a-z\u{e9}]{0,30}[\"\\\\\n]?[a-z]{0,9}") {
            let first = text.bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20));
            prop_assert_eq!(find_special(text.as_bytes()), first);
        }
    }
}
