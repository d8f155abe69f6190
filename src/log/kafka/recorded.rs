//! What is fixed when the log is made, and kept with the rows: a document of the store, as no topic can hold it.
//!
//! The first node makes it ([`Recorded::new`]) under the condition that there is none; every other takes what it finds.

use serde::{Deserialize, Serialize};

use super::wire;
use crate::event::HashKey;
use crate::log::meta::{FoldSettings, LogMeta};

/// Version of the document.
const FORMAT: u32 = 1;

/// What is known of the log besides its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    format: u32,
    /// The newest version of messages that was written.
    message_version: u16,
    /// Made with it, in hexadecimal digits.
    log_id: String,
    /// The secret of the hashes.
    hash_key: String,
    /// Of the Kafka cluster that holds the topic: [`super::topics::Found::cluster`].
    pub cluster: String,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: u32,
    /// See [`FoldSettings::dedup_horizon_ms`].
    pub dedup_horizon_ms: Option<i64>,
    /// See [`FoldSettings::dimension_sets_max`].
    pub dimension_sets_max: u32,
    crc32c: u32,
}

/// Why it cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordedError {
    /// It is not what was written.
    #[error(
        "what is recorded about the Kafka log is damaged ({0}); restore the database from a backup: without it, no event can be told from its copies"
    )]
    Damaged(String),
    /// A newer Tollgate made it.
    #[error("what is recorded about the Kafka log has format {found}, this binary knows up to {FORMAT}: run the newer one")]
    Newer {
        /// The format found.
        found: u32,
    },
    /// No random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
}

impl Recorded {
    /// Of a log that is made now.
    ///
    /// # Errors
    /// [`RecordedError::Random`].
    pub fn new(cluster: &str, topic: &str, fold: FoldSettings) -> Result<Self, RecordedError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| RecordedError::Random(error.to_string()))?;
        let (log_id, hash_key) = random.split_at(16);
        let mut made = Self {
            format: FORMAT,
            message_version: wire::VERSION,
            log_id: hex::encode(log_id),
            hash_key: hex::encode(hash_key),
            cluster: cluster.to_owned(),
            topic: topic.to_owned(),
            partitions: fold.partitions,
            dedup_horizon_ms: fold.dedup_horizon_ms,
            dimension_sets_max: fold.dimension_sets_max,
            crc32c: 0,
        };
        made.crc32c = made.checksum();
        Ok(made)
    }

    /// As it is kept.
    pub fn to_json(&self) -> Vec<u8> {
        // Texts and numbers always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Recorded::to_json`] wrote.
    ///
    /// # Errors
    /// [`RecordedError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordedError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
            message_version: u16,
        }
        let damaged = |error: serde_json::Error| RecordedError::Damaged(error.to_string());
        let Version { format, message_version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format > FORMAT || message_version > wire::VERSION {
            return Err(RecordedError::Newer { found: format.max(u32::from(message_version)) });
        }
        let found: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        if found.checksum() != found.crc32c {
            return Err(RecordedError::Damaged("its checksum does not fit".into()));
        }
        found.meta().map(|_| found)
    }

    /// As the fold and the gateway need it.
    ///
    /// # Errors
    /// [`RecordedError::Damaged`].
    pub fn meta(&self) -> Result<LogMeta, RecordedError> {
        Ok(LogMeta { log_id: read_id(&self.log_id)?, hash_key: HashKey::from_bytes(read_id(&self.hash_key)?), fold: self.fold() })
    }

    /// What the fold needs.
    pub fn fold(&self) -> FoldSettings {
        FoldSettings { dedup_horizon_ms: self.dedup_horizon_ms, dimension_sets_max: self.dimension_sets_max, partitions: self.partitions }
    }

    fn checksum(&self) -> u32 {
        let unchecked = Self { crc32c: 0, ..self.clone() };
        crc32c::crc32c(&unchecked.to_json())
    }
}

fn read_id(digits: &str) -> Result<[u8; 16], RecordedError> {
    let mut id = [0; 16];
    hex::decode_to_slice(digits, &mut id).map_err(|_| RecordedError::Damaged("an id is not 32 hex digits".into()))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLD: FoldSettings = FoldSettings { dedup_horizon_ms: Some(5), dimension_sets_max: 10_000, partitions: 16 };

    #[test]
    fn what_was_recorded_comes_back_or_is_refused() {
        let made = Recorded::new("cluster", "tollgate.events", FOLD).expect("made");
        let json = made.to_json();
        assert_eq!(Recorded::from_json(&json).expect("read"), made);
        assert_eq!(made.meta().expect("whole").fold, FOLD);
        for bit in 0..json.len() * 8 {
            let mut flipped = json.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = Recorded::from_json(&flipped) {
                assert_eq!(found, made, "bit {bit}");
            }
        }
    }

    #[test]
    fn what_a_newer_one_recorded_is_told_from_damage() {
        let text = String::from_utf8(Recorded::new("c", "t", FOLD).expect("made").to_json()).expect("text");
        let newer = text.replace("\"format\":1", "\"more\":0,\"format\":9");
        assert_eq!(Recorded::from_json(newer.as_bytes()), Err(RecordedError::Newer { found: 9 }));
    }
}
