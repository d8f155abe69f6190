//! Small JSON files that say themselves whether they are what was written: `{"content": …, "crc32c": n}`, where n is the
//! CRC-32C of the text of the content.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    content: Box<RawValue>,
    crc32c: u32,
}

/// The bytes of a file.
///
/// # Errors
/// The content is nothing that JSON can say.
pub fn to_bytes<T: Serialize>(content: &T) -> Result<Vec<u8>, serde_json::Error> {
    let content = RawValue::from_string(serde_json::to_string_pretty(content)?)?;
    let crc32c = crc32c::crc32c(content.get().as_bytes());
    serde_json::to_vec_pretty(&File { content, crc32c })
}

/// What a file says.
///
/// # Errors
/// What is wrong with it.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if crc32c::crc32c(file.content.get().as_bytes()) != file.crc32c {
        return Err("its checksum does not fit".into());
    }
    serde_json::from_str(file.content.get()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_anything_else_is_refused() {
        let bytes = to_bytes(&vec![("a", 1), ("b", 2)]).expect("written");
        assert_eq!(read::<Vec<(String, i32)>>(&bytes), Ok(vec![("a".into(), 1), ("b".into(), 2)]));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x01;
            // White space and the names of keys are not under the checksum; they cannot change what is read.
            if let Ok(content) = read::<Vec<(String, i32)>>(&changed) {
                assert_eq!(content, [("a".into(), 1), ("b".into(), 2)], "byte {at}");
            }
        }
    }
}
