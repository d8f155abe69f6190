//! Texts in answers as CSV (RFC 4180).

/// Appends a field. One that a reader could take for several, or for a quoted one, is quoted.
pub(in crate::dialect) fn write_text(text: &str, to: &mut Vec<u8>) {
    if text.contains([',', '"', '\r', '\n']) {
        to.push(b'"');
        to.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        to.push(b'"');
    } else {
        to.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::write_text;

    #[test]
    fn a_text_is_quoted_where_it_would_be_read_otherwise() {
        for (text, field) in
            [("", ""), ("a b;c'", "a b;c'"), ("a,b", "\"a,b\""), ("\"", "\"\"\"\""), ("a\rb", "\"a\rb\""), ("a\nb", "\"a\nb\"")]
        {
            let mut written = b"before,".to_vec();
            write_text(text, &mut written);
            assert_eq!(written, format!("before,{field}").into_bytes(), "{text:?}");
        }
    }
}
