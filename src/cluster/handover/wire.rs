//! What stands before the runs of an index, on its way between nodes.

use serde::{Deserialize, Serialize};

use crate::materializer::first_positions::copy::{MANIFEST_BYTES_MAX, RUNS_MAX};

const MAGIC: &[u8; 8] = b"TGIDX001";
/// In front of the head: [`MAGIC`] and its length.
const BEGIN_BYTES: usize = MAGIC.len() + 4;
const CRC_BYTES: usize = 4;
/// A manifest as a JSON text, in which quotation marks take two bytes, and sizes of at most 20 digits.
pub(super) const HEAD_BYTES_MAX: usize = 2 * MANIFEST_BYTES_MAX + RUNS_MAX * 21 + 1_000;

/// What another node says of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) partition: u32,
    /// As it stands on its disk.
    pub(super) manifest: String,
    /// Bytes of the runs, in the manifest's order.
    pub(super) sizes: Vec<u64>,
}

/// It is no head; says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Nonsense(String);

impl Head {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers always serialize.
        let json = serde_json::to_vec(self).unwrap_or_default();
        let crc = crc32c::crc32c(&json).to_le_bytes();
        [MAGIC, &(json.len() as u32).to_le_bytes()[..], &json, &crc].concat()
    }

    /// Reads a head from the begin of an answer: it and the bytes that it takes. `None`: there have to be more.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Nonsense> {
        let nonsense = |what: String| Err(Nonsense(what));
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return nonsense("it does not begin as an index does".into());
        }
        let Some(begin) = bytes.first_chunk::<BEGIN_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes([begin[8], begin[9], begin[10], begin[11]]) as usize;
        if length > HEAD_BYTES_MAX {
            return nonsense(format!("its head has {length} bytes, the limit is {HEAD_BYTES_MAX}"));
        }
        let end = BEGIN_BYTES + length + CRC_BYTES;
        let Some(all) = bytes.get(BEGIN_BYTES..end) else { return Ok(None) };
        let (json, crc) = all.split_at(length);
        if crc32c::crc32c(json).to_le_bytes() != crc {
            return nonsense("its head is not what was sent".into());
        }
        match serde_json::from_slice(json) {
            Ok(head) => Ok(Some((head, end))),
            Err(error) => nonsense(error.to_string()),
        }
    }
}
