//! The text of a Python dict of texts, `{'model': 'x'}`: so the Python client sends `filterGroupBy`. JSON objects of texts read the same.

use std::iter::Peekable;
use std::str::Chars;

/// Most entries: a filter has no more values.
const ENTRIES_MAX: usize = crate::usage::FILTER_VALUES_MAX;

/// Names and values in their order; [`None`]: it is no such text.
pub(super) fn dict(text: &str) -> Option<Vec<(String, String)>> {
    let mut chars = text.chars().peekable();
    let mut pairs = Vec::new();
    expect(&mut chars, '{')?;
    while peek(&mut chars)? != '}' {
        if !pairs.is_empty() {
            expect(&mut chars, ',')?;
        }
        if pairs.len() == ENTRIES_MAX {
            return None;
        }
        // A comma may stand behind the last entry.
        if !pairs.is_empty() && peek(&mut chars)? == '}' {
            break;
        }
        let name = string(&mut chars)?;
        expect(&mut chars, ':')?;
        pairs.push((name, string(&mut chars)?));
    }
    expect(&mut chars, '}')?;
    chars.all(char::is_whitespace).then_some(pairs)
}

/// What comes behind blanks.
fn peek(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    while chars.next_if(|c| c.is_whitespace()).is_some() {}
    chars.peek().copied()
}

fn expect(chars: &mut Peekable<Chars<'_>>, wanted: char) -> Option<()> {
    peek(chars)?;
    chars.next_if_eq(&wanted).map(drop)
}

fn string(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    peek(chars)?;
    let quote = chars.next_if(|c| matches!(c, '\'' | '"'))?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            end if end == quote => return Some(text),
            '\\' => text.push(escaped(chars)?),
            plain => text.push(plain),
        }
    }
}

/// What stands behind a backslash where `repr` writes one.
fn escaped(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    let hex = |digits: usize, chars: &mut Peekable<Chars<'_>>| {
        let code = (0..digits).try_fold(0, |code, _| Some(code * 16 + chars.next()?.to_digit(16)?));
        code.and_then(char::from_u32)
    };
    match chars.next()? {
        same @ ('\\' | '\'' | '"' | '/') => Some(same),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'x' => hex(2, chars),
        'u' => hex(4, chars),
        'U' => hex(8, chars),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::dict;

    #[test]
    fn what_python_writes_is_read() {
        let pairs =
            |text: &str| dict(text).map(|pairs| pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>());
        let read = |expected: &[&str]| Some(expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        for (text, expected) in [
            ("{}", read(&[])),
            ("{'model': 'x'}", read(&["model=x"])),
            (r#"{'a': "it's", 'b': 'say "no"', "c": 'it\'s "so"'}"#, read(&["a=it's", "b=say \"no\"", "c=it's \"so\""])),
            (r"{'\\': '\n\t\r\x00\xe9\u20ac\U0001f600'}", read(&["\\=\n\t\r\u{0}é€😀"])),
            ("{'€': '😀', }", read(&["€=😀"])),
            (r#"{"model":"x"}"#, read(&["model=x"])),
            ("", None),
            ("model=x", None),
            ("{'model'}", None),
            ("{'model': 7}", None),
            ("{'model': ['x']}", None),
            ("{'model': 'x'", None),
            ("{'model': 'x'} {}", None),
            ("{, }", None),
            (r"{'a': '\ud800'}", None),
            (r"{'a': '\", None),
        ] {
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text in "[{}'\":,\\\\a-fnrtuxU0-9 ]{0,40}") {
            dict(&text);
        }

        #[test]
        fn json_of_texts_reads_the_same(pairs in proptest::collection::btree_map("[a-z\"\\\\/é€]{0,4}", "[a-z'\"\\\\/é€]{0,6}", 0..4)) {
            let text = serde_json::to_string(&pairs).expect("JSON");
            prop_assert_eq!(dict(&text), Some(pairs.into_iter().collect()));
        }
    }
}
