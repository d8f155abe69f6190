//! CSV bodies taken apart (RFC 4180): a header row, then an event a row. `csv-core` finds fields and unquotes them; here is
//! what it is lenient about, and which bytes are whose.
//!
//! A row with quotes that do not match is rejected alone if it ends with its line. If it may go on behind that, nobody knows where it ends:
//! what reads as rows could be text of a field, so nothing of the body is taken.

use csv_core::{ReadRecordResult, Reader};
use memchr::{memchr, memchr_iter, memchr2};

use super::parse::{BodyError, values_max};
use super::{Code, DIMENSIONS_MAX, Rejection};

/// Most columns: all fields of the contract, and all dimensions of an event.
pub const COLUMNS_MAX: usize = DIMENSIONS_MAX + 16;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A body taken apart.
pub struct Table<'b> {
    header: &'b str,
    /// All fields, unquoted, one behind the other.
    text: Vec<u8>,
    /// Where each field ends in `text`.
    ends: Vec<u32>,
    columns: Vec<std::ops::Range<usize>>,
    rows: Vec<RowAt<'b>>,
}

struct RowAt<'b> {
    raw: &'b [u8],
    /// Of `text`.
    from: usize,
    /// Of `ends`.
    fields: std::ops::Range<usize>,
    wrong: Option<Rejection>,
}

/// One row.
pub struct Row<'t> {
    /// Its bytes as sent, without the end of the line.
    pub raw: &'t [u8],
    /// Its fields, as many as there are columns.
    pub fields: Result<Vec<&'t str>, Rejection>,
}

impl<'b> Table<'b> {
    /// Takes a body apart.
    ///
    /// # Errors
    /// [`BodyError`]: there is no header, or no row can be told from another, or there are too many.
    pub fn read(body: &'b [u8], rows_max: usize) -> Result<Self, BodyError> {
        check_density(body, rows_max)?;
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        let mut reading = Reading::new(body);
        let (mut rows, mut got) = (Vec::new(), 0);
        let header = reading.next()?.ok_or_else(|| wrong("it has no header row"))?;
        while let Some(row) = reading.next()? {
            got += 1;
            if got <= rows_max {
                rows.push(row);
            }
        }
        if got > rows_max {
            return Err(BodyError::TooMany { got, limit: rows_max });
        }
        let Reading { text, ends, .. } = reading;
        let columns = columns(&header, &text, &ends)?;
        let header = std::str::from_utf8(header.raw).map_err(|_| wrong("its header row is not UTF-8"))?;
        Ok(Self { header, text, ends, columns, rows })
    }

    /// The header row as it was sent.
    pub fn header(&self) -> &'b str {
        self.header
    }

    /// The names of the columns: none is empty, no two are alike.
    pub fn columns(&self) -> Vec<&str> {
        self.columns.iter().map(|name| std::str::from_utf8(&self.text[name.clone()]).unwrap_or_default()).collect()
    }

    /// The rows behind the header, in the order sent.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|row| Row { raw: row.raw, fields: self.fields(row) })
    }

    fn fields(&self, row: &RowAt<'_>) -> Result<Vec<&str>, Rejection> {
        if let Some(wrong) = &row.wrong {
            return Err(wrong.clone());
        }
        if row.fields.len() != self.columns.len() {
            let reason = format!("has {} fields, the header has {}", row.fields.len(), self.columns.len());
            return Err(malformed(reason));
        }
        let fields = fields(row, &self.ends).map(|field| std::str::from_utf8(&self.text[field]));
        fields.collect::<Result<_, _>>().map_err(|_| malformed("is not UTF-8"))
    }
}

fn wrong(what: &str) -> BodyError {
    BodyError::Table(what.into())
}

fn malformed(reason: impl Into<String>) -> Rejection {
    Rejection::new(Code::Malformed, "", reason)
}

fn check_density(body: &[u8], rows_max: usize) -> Result<(), BodyError> {
    let limit = values_max(rows_max);
    let ends = |byte| memchr_iter(byte, body).count();
    if body.len() > limit && ends(b',') + ends(b'\n') + ends(b'\r') > limit { Err(BodyError::TooDense { limit }) } else { Ok(()) }
}

/// Where the fields of a row are in the text.
fn fields<'r>(row: &RowAt<'_>, ends: &'r [u32]) -> impl Iterator<Item = std::ops::Range<usize>> + use<'r> {
    let mut from = row.from;
    ends[row.fields.clone()].iter().map(move |end| {
        let field = from..*end as usize;
        from = field.end;
        field
    })
}

fn columns(header: &RowAt<'_>, text: &[u8], ends: &[u32]) -> Result<Vec<std::ops::Range<usize>>, BodyError> {
    if let Some(rejection) = &header.wrong {
        return Err(wrong(&format!("its header row {}", rejection.reason)));
    }
    let columns: Vec<_> = fields(header, ends).collect();
    let mut names = std::collections::HashSet::new();
    for name in &columns {
        let name = std::str::from_utf8(&text[name.clone()]).map_err(|_| wrong("its header row is not UTF-8"))?;
        if name.is_empty() {
            return Err(wrong("a column has no name in the header row"));
        }
        if !names.insert(name) {
            return Err(wrong(&format!("the column `{}` is given twice", name.escape_default())));
        }
    }
    Ok(columns)
}

/// A body being read, row by row.
struct Reading<'b> {
    reader: Reader,
    body: &'b [u8],
    at: usize,
    index: usize,
    text: Vec<u8>,
    used: usize,
    ends: Vec<u32>,
}

impl<'b> Reading<'b> {
    fn new(body: &'b [u8]) -> Self {
        // Unquoted, nothing gets longer.
        Self { reader: Reader::new(), body, at: 0, index: 0, text: vec![0; body.len() + 1], used: 0, ends: Vec::new() }
    }

    /// The next row that has anything in it.
    fn next(&mut self) -> Result<Option<RowAt<'b>>, BodyError> {
        let (start, from, first) = (self.at, self.used, self.ends.len());
        let mut ends = [0; COLUMNS_MAX];
        let (mut found, mut has_too_many) = (0, false);
        loop {
            let (result, read, written, fields) =
                self.reader.read_record(&self.body[self.at..], &mut self.text[self.used..], &mut ends[found..]);
            self.at += read;
            self.used += written;
            found += fields;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => return Err(wrong("it cannot be read")),
                ReadRecordResult::OutputEndsFull => (found, has_too_many) = (0, true),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
        }
        self.ends.extend(ends[..found].iter().map(|end| (from + end) as u32));
        let raw = without_line_ends(&self.body[start..self.at]);
        let mut wrong_quotes = quotes_of(raw);
        if has_too_many {
            wrong_quotes = wrong_quotes.or_else(|| Some(malformed(format!("has more than {COLUMNS_MAX} fields"))));
        }
        if quotes_of(raw).is_some() && memchr2(b'\n', b'\r', raw).is_some() {
            let place = if self.index == 0 { "the header row".to_owned() } else { format!("record [{}]", self.index - 1) };
            return Err(BodyError::Table(format!("the quotes of {place} do not match, so that nobody knows where it ends")));
        }
        self.index += 1;
        Ok(Some(RowAt { raw, from, fields: first..self.ends.len(), wrong: wrong_quotes }))
    }
}

/// The end of a line belongs to no row, and is read with the next one where it is `\r\n`.
fn without_line_ends(raw: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let from = raw.iter().take_while(|byte| is_end(byte)).count();
    let to = raw.len() - raw[from..].iter().rev().take_while(|byte| is_end(byte)).count();
    &raw[from..to]
}

/// What is wrong with the quotes of a row: a field that begins with one ends with one, and has none in it but in pairs. In a field that
/// does not begin with one they are text.
fn quotes_of(raw: &[u8]) -> Option<Rejection> {
    let mut rest = raw;
    while let Some(at) = memchr(b'"', rest) {
        if at > 0 && rest[at - 1] != b',' {
            // Text of a field without quotes, which goes on up to its comma.
            rest = &rest[at + 1..];
            rest = memchr(b',', rest).map_or(&[], |comma| &rest[comma..]);
            continue;
        }
        rest = match behind_field(&rest[at + 1..]) {
            None => return Some(malformed("has a quote that is not closed")),
            Some(behind) => behind,
        };
        if !matches!(rest.first(), None | Some(b',')) {
            return Some(malformed("has text behind a closing quote"));
        }
    }
    None
}

/// What stands behind a field, from behind its opening quote on.
fn behind_field(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = &rest[memchr(b'"', rest)? + 1..];
        match rest.strip_prefix(b"\"") {
            Some(behind_pair) => rest = behind_pair,
            None => return Some(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(body: &str) -> Vec<Result<Vec<String>, String>> {
        let table = Table::read(body.as_bytes(), 100).expect("a table");
        let owned = |fields: Vec<&str>| fields.into_iter().map(str::to_owned).collect();
        table.rows().map(|row| row.fields.map(owned).map_err(|rejection| rejection.reason)).collect()
    }

    fn refused(body: &[u8]) -> String {
        match Table::read(body, 100) {
            Ok(_) => panic!("it was taken: {}", body.escape_ascii()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn rows_are_what_rfc_4180_says() {
        let body = "\u{feff}a,b\r\n1,\"x,\"\"y\"\"\r\nz\"\r\n\n2,it's 5\" wide\n\"\",";
        assert_eq!(
            rows(body),
            [
                Ok(vec!["1".into(), "x,\"y\"\r\nz".into()]),
                Ok(vec!["2".into(), "it's 5\" wide".into()]),
                Ok(vec![String::new(), String::new()])
            ]
        );
        let table = Table::read(body.as_bytes(), 100).expect("a table");
        let raw: Vec<_> = table.rows().map(|row| String::from_utf8_lossy(row.raw).into_owned()).collect();
        assert_eq!(raw, ["1,\"x,\"\"y\"\"\r\nz\"", "2,it's 5\" wide", "\"\","]);
        assert_eq!((table.header(), table.columns()), ("a,b", vec!["a", "b"]));
    }

    #[test]
    fn a_row_that_is_wrong_costs_its_neighbours_nothing() {
        let body = b"a,b\n1,2\n3\n4,5,6\n\"7\"x,8\n\xff,9\n10,11\n12,\"";
        let table = Table::read(body, 100).expect("a table");
        let found: Vec<_> = table.rows().map(|row| row.fields.map(|fields| fields.len()).map_err(|rejection| rejection.reason)).collect();
        assert_eq!(
            found,
            [
                Ok(2),
                Err("has 1 fields, the header has 2".into()),
                Err("has 3 fields, the header has 2".into()),
                Err("has text behind a closing quote".into()),
                Err("is not UTF-8".into()),
                Ok(2),
                Err("has a quote that is not closed".into()),
            ]
        );
    }

    #[test]
    fn where_a_row_may_end_anywhere_nothing_is_taken() {
        for body in ["a,b\n1,\"2\n3,4\n", "a,b\n1,\"2\n3,4\"x\n5,6", "a,\"b\n1,2"] {
            assert!(refused(body.as_bytes()).contains("nobody knows where it ends"), "{body:?}");
        }
    }

    #[test]
    fn a_header_must_name_each_column_once() {
        for (body, words) in [
            (b"".as_slice(), "no header"),
            (b"\r\n\n", "no header"),
            (b"a,,b\n", "no name"),
            (b"a,b,a\n", "`a` is given twice"),
            (b"a,\xff\n", "not UTF-8"),
            (b"\"a\"b,c\n", "behind a closing quote"),
        ] {
            assert!(refused(body).contains(words), "{}: {}", body.escape_ascii(), refused(body));
        }
        let wide = (0..=COLUMNS_MAX).map(|at| format!("c{at}")).collect::<Vec<_>>().join(",");
        assert!(refused(wide.as_bytes()).contains("more than"));
    }

    #[test]
    fn too_many_rows_and_values_are_refused() {
        let rows = "a\n".repeat(8);
        assert_eq!(Table::read(rows.as_bytes(), 6).err(), Some(BodyError::TooMany { got: 7, limit: 6 }));
        let dense = format!("a,b\n{}", ",\n".repeat(200_000));
        assert!(matches!(Table::read(dense.as_bytes(), 6).err(), Some(BodyError::TooDense { .. })));
    }

    fn written(fields: &[String]) -> String {
        let quoted = fields.iter().map(|field| {
            let must = field.contains([',', '"', '\r', '\n']) || field.is_empty();
            if must { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.clone() }
        });
        quoted.collect::<Vec<_>>().join(",")
    }

    proptest! {
        #[test]
        fn what_is_written_by_the_rules_comes_back(
            all in proptest::collection::vec(proptest::collection::vec("[a\",\r\né ]{0,6}", 3), 0..6),
            end in prop_oneof![Just("\n"), Just("\r\n")],
        ) {
            let mut body = format!("x,y,z{end}");
            for fields in &all {
                body += &written(fields);
                body += end;
            }
            let expected: Vec<_> = all.iter().cloned().map(Ok).collect();
            prop_assert_eq!(rows(&body), expected);
            // And each by itself, as a letter brings it again.
            let table = Table::read(body.as_bytes(), 100).expect("a table");
            for (row, fields) in table.rows().zip(&all) {
                let alone = [table.header().as_bytes(), b"\n", row.raw].concat();
                prop_assert_eq!(rows(std::str::from_utf8(&alone).expect("text")), vec![Ok(fields.clone())]);
            }
        }

        #[test]
        fn any_bytes_are_a_table_or_refused(body in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..60)) {
            if let Ok(table) = Table::read(&body, 100) {
                let columns = table.columns().len();
                for row in table.rows() {
                    prop_assert!(memchr::memmem::find(&body, row.raw).is_some() && !row.raw.is_empty());
                    if let Ok(fields) = row.fields {
                        prop_assert_eq!(fields.len(), columns);
                    }
                }
            }
        }
    }
}
