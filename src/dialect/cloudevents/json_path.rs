//! Where in the data of an event a meter finds something: a path as RFC 9535 writes it, of those that name one value at most (the
//! singular queries of its section 2.3.5.1): `$.usage.tokens`, `$['cost centre'][0]`, `$.items[-1].sku`. What could name several
//! values (`*`, `..`, slices, filters, more than one selector in a bracket) is refused.

use crate::event::parse::Value;

/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 1_024;
/// Most steps: nothing in a body can be nested deeper.
pub const STEPS_MAX: usize = crate::event::JSON_DEPTH_MAX;
/// Largest index, either way (RFC 9535, section 2.1).
const INDEX_MAX: i64 = (1 << 53) - 1;

/// Why a text is no path; to be read after the field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text.
    #[error("has {0} bytes, the limit is {PATH_BYTES_MAX}")]
    TooLong(usize),
    /// The path.
    #[error("has more than {STEPS_MAX} steps, the limit")]
    TooDeep,
    /// It has another first character, or none.
    #[error("must begin with $")]
    NoRoot,
    /// It is one that may name several values, from this byte on.
    #[error("may name several values (at byte {0}): give names and indexes only, as in $.a['b'][0]")]
    NotSingular(usize),
    /// No index can be so large; at this byte.
    #[error("has an index of more than {INDEX_MAX} (at byte {0})")]
    IndexTooLarge(usize),
    /// It is none, from this byte on.
    #[error("is no JSONPath (at byte {0})")]
    Syntax(usize),
}

/// A path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JsonPath {
    steps: Box<[Step]>,
}

/// From a value to one that is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A member of an object.
    Name(Box<str>),
    /// An element of an array; a negative one counts from the end.
    Index(i64),
}

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > PATH_BYTES_MAX {
            return Err(Error::TooLong(text.len()));
        }
        let mut reader = Reader { text, at: 0 };
        if !reader.has('$') {
            return Err(Error::NoRoot);
        }
        let mut steps = Vec::new();
        while reader.at < text.len() {
            let step = reader.step()?;
            if steps.len() == STEPS_MAX {
                return Err(Error::TooDeep);
            }
            steps.push(step);
        }
        Ok(Self { steps: steps.into() })
    }

    #[cfg(test)]
    pub(super) fn of(steps: Vec<Step>) -> Self {
        Self { steps: steps.into() }
    }

    /// From the outermost value on.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The one member of the outermost value that it names, if it is a path of one step.
    pub fn member(&self) -> Option<&str> {
        match &*self.steps {
            [Step::Name(name)] => Some(name),
            _ => None,
        }
    }

    /// The value that it names; the first of members of one name.
    pub fn find<'t>(&self, root: Value<'t>) -> Option<Value<'t>> {
        self.steps.iter().try_fold(root, |value, step| match (step, value) {
            (Step::Name(name), Value::Object(mut members)) => members.find(|(member, _)| *member == &**name).map(|(_, value)| value),
            (Step::Index(index), Value::Array(mut items)) => items.nth(place(*index, items.len())?),
            _ => None,
        })
    }
}

/// Where an index points in an array of so many elements.
pub(super) fn place(index: i64, len: usize) -> Option<usize> {
    let from_end = usize::try_from(index.unsigned_abs()).ok()?;
    if index < 0 { len.checked_sub(from_end) } else { Some(from_end).filter(|at| *at < len) }
}

/// Reads off the front of a path.
struct Reader<'p> {
    text: &'p str,
    at: usize,
}

impl<'p> Reader<'p> {
    fn rest(&self) -> &'p str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Result<char, Error> {
        let next = self.peek().ok_or(Error::Syntax(self.at))?;
        self.at += next.len_utf8();
        Ok(next)
    }

    fn has(&mut self, wanted: char) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += if is_there { wanted.len_utf8() } else { 0 };
        is_there
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn step(&mut self) -> Result<Step, Error> {
        let from = self.at;
        self.skip_blanks();
        match self.peek() {
            Some('.') => self.dotted(),
            Some('[') => self.bracketed(),
            // Blanks at the end belong to no step.
            _ => Err(Error::Syntax(from)),
        }
    }

    /// `.name`
    fn dotted(&mut self) -> Result<Step, Error> {
        let from = self.at;
        self.at += 1;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
        match self.peek() {
            Some('.' | '*') => return Err(Error::NotSingular(from)),
            Some(first) if is_name(first) && !first.is_ascii_digit() => {}
            _ => return Err(Error::Syntax(self.at)),
        }
        let rest = self.rest();
        let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        self.at += len;
        Ok(Step::Name(rest[..len].into()))
    }

    /// `['name']`, `["name"]`, `[7]`
    fn bracketed(&mut self) -> Result<Step, Error> {
        let from = self.at;
        self.at += 1;
        self.skip_blanks();
        let step = match self.peek() {
            Some(quote @ ('\'' | '"')) => Step::Name(self.quoted(quote)?.into()),
            Some('-' | '0'..='9') => Step::Index(self.index()?),
            Some('*' | '?' | ':') => return Err(Error::NotSingular(from)),
            _ => return Err(Error::Syntax(self.at)),
        };
        self.skip_blanks();
        match self.peek() {
            Some(']') => {
                self.at += 1;
                Ok(step)
            }
            Some(',' | ':') => Err(Error::NotSingular(from)),
            _ => Err(Error::Syntax(self.at)),
        }
    }

    fn index(&mut self) -> Result<i64, Error> {
        let from = self.at;
        let rest = self.rest();
        let digits = rest.trim_start_matches('-');
        let sign = rest.len() - digits.len();
        let len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let digits = &digits[..len];
        if sign > 1 || len == 0 || digits.starts_with('0') && (len > 1 || sign == 1) {
            return Err(Error::Syntax(from));
        }
        let index: i64 = digits.parse().ok().filter(|index| *index <= INDEX_MAX).ok_or(Error::IndexTooLarge(from))?;
        self.at += sign + len;
        Ok(if sign == 1 { -index } else { index })
    }

    fn quoted(&mut self, quote: char) -> Result<String, Error> {
        self.at += 1;
        let mut name = String::new();
        loop {
            let at = self.at;
            match self.next()? {
                '\\' => name.push(self.escaped(quote)?),
                end if end == quote => return Ok(name),
                '\0'..='\x1f' => return Err(Error::Syntax(at)),
                plain => name.push(plain),
            }
        }
    }

    /// What stands behind a backslash.
    fn escaped(&mut self, quote: char) -> Result<char, Error> {
        let at = self.at;
        Ok(match self.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            same @ ('/' | '\\') => same,
            same if same == quote => same,
            'u' => {
                let first = self.hex()?;
                let units = match first {
                    0xd800..=0xdbff if self.has('\\') && self.has('u') => vec![first, self.hex()?],
                    _ => vec![first],
                };
                let decoded = String::from_utf16(&units).map_err(|_| Error::Syntax(at))?;
                decoded.chars().next().ok_or(Error::Syntax(at))?
            }
            _ => return Err(Error::Syntax(at)),
        })
    }

    fn hex(&mut self) -> Result<u16, Error> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).ok_or(Error::Syntax(self.at))?;
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
pub(super) mod tests;
