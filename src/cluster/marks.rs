//! By what a topic is known again: the record that was folded last when a partition was taken. A topic that was made anew under the same name
//! has another one there, and its records would count on top of those of the old one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::log::kafka::topics::{Mark, mark};
use crate::log::{self, Partition, Position};
use crate::materializer;
use crate::store::{Change, Kind, Store};

/// A [`Mark`], as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    position: u64,
    crc32c: u32,
}

/// Where marks are kept and compared.
pub struct Marks {
    /// All partitions of the topic of events, by their numbers.
    pub log: Vec<Arc<dyn Partition>>,
    /// Its name.
    pub topic: String,
    /// Documents of kind [`Kind::Meta`].
    pub store: Arc<dyn Store>,
}

impl Marks {
    /// Compares a partition with its mark, and puts a newer one in its place. Its end has just been asked for.
    ///
    /// # Errors
    /// It is another one; or log or store do not answer.
    pub fn check(&self, partition: u32) -> Result<(), materializer::Error> {
        let id = format!("mark/{partition}");
        let Some(log) = self.log.get(partition as usize) else { return Ok(()) };
        let kept = self.store.document(Kind::Meta, 0, &id)?.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        if let Some(kept) = kept
            && let Some(now) = read(log, Position(kept.position))?
            && now.crc32c != kept.crc32c
        {
            return Err(materializer::Error::Log(log::Error::Corrupt {
                file: format!("topic {}, partition {partition}", self.topic),
                offset: kept.position,
                what: "another record is there than the one that was folded: the topic was made anew under the same name; \
                       restore it, or start with a new topic and a new database"
                    .into(),
            }));
        }
        let next = self.store.snapshot()?.progress(partition)?.next;
        let Some(last) = next.0.checked_sub(1) else { return Ok(()) };
        if let Some(Mark { position, crc32c }) = read(log, Position(last))? {
            // Numbers always serialize.
            let body = serde_json::to_vec(&Kept { position: position.0, crc32c }).unwrap_or_default();
            self.store.change_document(Kind::Meta, 0, &id, &mut |_| Change::Put(body.clone()))?;
        }
        Ok(())
    }
}

/// The mark at a position; `None`: nothing is there, or not any more.
fn read(log: &Arc<dyn Partition>, position: Position) -> Result<Option<Mark>, log::Error> {
    if position >= log.end() {
        return Ok(None);
    }
    match mark(&mut *log.clone().look_ups(), position) {
        Err(log::Error::OutOfRange { .. }) => Ok(None),
        found => found,
    }
}
