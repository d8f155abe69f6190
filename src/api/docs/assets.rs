//! Parts of Swagger UI, out of the zip archive that its crate brings (Apache-2.0).
//!
//! What a zip archive has deflated is, between another head and another tail, what gzip would have made of it. So it goes out as it is, and only
//! a browser inflates it.

use bytes::Bytes;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;

/// With what the last part of an archive begins, which tells where its directory is. Only a comment stands behind it.
const END: &[u8] = b"PK\x05\x06";
const ENTRY_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;
const DEFLATED: u16 = 8;

/// A file of the archive's `dist` folder, in gzip.
pub(in crate::api) fn gzip(name: &str) -> Option<Bytes> {
    let archive = SWAGGER_UI_VENDORED;
    let end = archive.windows(END.len()).rposition(|window| window == END).and_then(|at| archive.get(at..))?;
    let mut at = u32_at(end, 16)? as usize;
    let wanted = format!("/dist/{name}");
    for _ in 0..u16_at(end, 10)? {
        let entry = archive.get(at..)?;
        let [name_bytes, extra_bytes, comment_bytes] = [28, 30, 32].map(|place| u16_at(entry, place).map(usize::from));
        let entry_name = entry.get(ENTRY_BYTES..ENTRY_BYTES + name_bytes?)?;
        // One folder stands around everything; others have a `dist`, too.
        let in_folder = entry_name.iter().position(|byte| *byte == b'/').and_then(|slash| entry_name.get(slash..))?;
        if in_folder == wanted.as_bytes() {
            return wrap(archive, entry);
        }
        at += ENTRY_BYTES + name_bytes? + extra_bytes? + comment_bytes?;
    }
    None
}

fn wrap(archive: &[u8], entry: &[u8]) -> Option<Bytes> {
    if u16_at(entry, 10)? != DEFLATED {
        return None;
    }
    let (checksum, packed, size, local) =
        (u32_at(entry, 16)?, u32_at(entry, 20)? as usize, u32_at(entry, 24)?, u32_at(entry, 42)? as usize);
    let head = archive.get(local..local + LOCAL_BYTES)?;
    let begin = local + LOCAL_BYTES + usize::from(u16_at(head, 26)?) + usize::from(u16_at(head, 28)?);
    let deflated = archive.get(begin..begin + packed)?;
    // RFC 1952: deflate, no flags, no time, any system.
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    gzip.extend_from_slice(deflated);
    gzip.extend_from_slice(&checksum.to_le_bytes());
    gzip.extend_from_slice(&size.to_le_bytes());
    Some(gzip.into())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_parts_of_the_page_are_in_the_binary_and_whole() {
        for (name, begin) in [("swagger-ui.css", ".swagger-ui"), ("swagger-ui-bundle.js", "/*! For license information")] {
            let gzip = gzip(name).expect("is there");
            let mut text = String::new();
            // The decoder compares checksum and size.
            flate2::read::GzDecoder::new(&gzip[..]).read_to_string(&mut text).expect("is whole");
            assert!(text.starts_with(begin), "{name} begins with {:?}", &text[..40]);
        }
        assert_eq!(gzip("../package.json"), None);
    }
}
