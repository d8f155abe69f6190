//! Readers for a look here and there, used again and again: a client of librdkafka has threads and connections of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never};

use super::reader::KafkaReader;
use crate::log::{Chunk, Error, LogReader, Position};

/// Readers of a topic that rest, at most: each has some threads and connections.
const RESTING_MAX: usize = 4;
/// One that was not used for so long is closed.
const RESTS_MAX: Duration = Duration::from_secs(120);

/// Readers of a topic that rest until they are used again. None of them fetches anything.
#[derive(Default)]
pub(super) struct LookUps(Mutex<Vec<Rested>>);

struct Rested {
    reader: KafkaReader,
    since: Instant,
}

impl LookUps {
    /// The one that was used last; `None`: there is none.
    pub(super) fn take(&self) -> Option<KafkaReader> {
        let (old, found) = {
            let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let old: Vec<_> = resting.extract_if(.., |one| one.since.elapsed() > RESTS_MAX).collect();
            (old, resting.pop())
        };
        // Closing takes its time: not under the lock.
        drop(old);
        found.map(|rested| rested.reader)
    }

    fn give_back(&self, mut reader: KafkaReader) {
        if let Err(error) = reader.rest() {
            tracing::debug!(%error, "a reader of Kafka is closed");
            return;
        }
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if resting.len() < RESTING_MAX {
            resting.push(Rested { reader, since: Instant::now() });
        } else {
            drop(resting);
            drop(reader);
        }
    }
}

/// A reader that goes back when it is dropped.
pub(super) struct LookUp {
    /// Always there until it is dropped.
    pub(super) reader: Option<KafkaReader>,
    /// Then it is not used again.
    pub(super) has_failed: bool,
    pub(super) home: Arc<LookUps>,
}

impl LogReader for LookUp {
    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Chunk, Error> {
        let Some(reader) = &mut self.reader else { return Ok(Chunk::default()) };
        let read = reader.read(from, bytes_max);
        self.has_failed |= matches!(read, Err(Error::Io { .. }));
        read
    }

    fn grown(&self) -> Receiver<()> {
        self.reader.as_ref().map_or_else(never, |reader| reader.grown())
    }
}

impl Drop for LookUp {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take().filter(|_| !self.has_failed) {
            self.home.give_back(reader);
        }
    }
}
