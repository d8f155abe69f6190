//! The log: what is in it happened. Stage 4 of the way of an event.
//!
//! A log keeps records at ascending positions of one or more partitions, durably, in the order of their appends. Two implementations:
//! [`embedded`], segment files in the data directory, with one partition and no gaps; [`kafka`], a topic of Apache Kafka.

pub mod disk;
pub mod embedded;
pub mod kafka;
#[cfg(test)]
pub(crate) mod memory;
pub mod meta;
pub mod record;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::{mpsc, oneshot};

use crate::clock::UnixMillis;
use crate::event::Fingerprint;

/// The place of a record in its partition: 0, 1, 2 … in the embedded log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a record in a log of several partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    /// Which partition.
    pub partition: u32,
    /// Where in it; `None`: the log holds the record and did not say where.
    pub position: Option<Position>,
}

/// Where the records of one append stand, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// One behind the other in one partition.
    Run {
        /// Which partition.
        partition: u32,
        /// From the first one to one past the last one.
        range: Range<Position>,
    },
    /// Each somewhere else.
    Each(Vec<Place>),
}

impl Positions {
    /// Of no records.
    pub const NONE: Self = Self::Each(Vec::new());

    /// The places, in the order of the records.
    pub fn iter(&self) -> impl Iterator<Item = Place> {
        let (run, each) = match self {
            Self::Run { partition, range } => (Some((*partition, range.clone())), [].as_slice()),
            Self::Each(places) => (None, places.as_slice()),
        };
        let run = run.into_iter().flat_map(|(partition, range)| {
            (range.start.0..range.end.0).map(move |position| Place { partition, position: Some(Position(position)) })
        });
        run.chain(each.iter().copied())
    }
}

/// Bytes in front of a block's records, kept free so that header and records go out in one write.
pub const BLOCK_HEADER_BYTES: usize = 48;
/// Largest block: well above what one request's limits can make.
pub const BLOCK_BYTES_MAX: usize = 128 << 20;

/// Records of one request on their way into the log. Positions come when they are appended.
#[derive(Debug, Clone)]
pub struct Block {
    bytes: Vec<u8>,
    count: u32,
    received: UnixMillis,
    payload_crc: u32,
    fingerprints: Vec<Fingerprint>,
}

impl Block {
    /// An empty block of what was received at `received`, with room for `bytes` of records.
    pub fn new(received: UnixMillis, bytes: usize) -> Self {
        let mut block =
            Self { bytes: Vec::with_capacity(BLOCK_HEADER_BYTES + bytes), count: 0, received, payload_crc: 0, fingerprints: Vec::new() };
        block.bytes.resize(BLOCK_HEADER_BYTES, 0);
        block
    }

    /// Lets `write` append one record.
    pub fn push<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.count += 1;
        write(&mut self.bytes)
    }

    /// Notes by what copies of the record pushed last can be recognised. The log hands it back with its answer, no more.
    pub fn note(&mut self, fingerprint: Fingerprint) {
        self.fingerprints.push(fingerprint);
    }

    /// What was noted, in the order of the records.
    pub fn fingerprints(&self) -> &[Fingerprint] {
        &self.fingerprints
    }

    /// Number of records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// When the gateway received what is in it.
    pub fn received(&self) -> UnixMillis {
        self.received
    }

    /// The records.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[BLOCK_HEADER_BYTES..]
    }

    /// Size with its header, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Computes the checksum, on the thread that filled the block rather than on the one that all appends share.
    pub fn seal(mut self) -> Self {
        assert!(self.bytes.len() <= BLOCK_BYTES_MAX, "a block is bounded by the limits of a request");
        self.payload_crc = crc32c::crc32c(&self.bytes[BLOCK_HEADER_BYTES..]);
        self
    }
}

/// A block and who waits for it.
pub struct Append {
    /// Sealed.
    pub block: Block,
    /// Told once, when the block is durable or is not going to be. A receiver that is gone changes nothing.
    pub done: Done,
    /// When it began to wait.
    pub since: Instant,
}

impl Append {
    /// A sealed block that begins to wait now, what is held for it, and what tells its outcome.
    pub fn new(block: Block, held: Held) -> (Self, oneshot::Receiver<Result<Positions, Error>>) {
        let (to, outcome) = oneshot::channel();
        (Self { block, done: Done::new(to, held), since: Instant::now() }, outcome)
    }

    /// A sealed block that nobody waits for.
    pub fn unattended(block: Block) -> Self {
        Self::new(block, None).0
    }
}

/// What is held until an append has ended, whoever waits for it still: room for its bytes. `None` for what is small and rare.
pub type Held = Option<Arc<dyn Send + Sync>>;

/// Tells whoever waits for an append what became of it, and gives back what is held for it: an appender keeps it for as long as
/// it has the records, and it goes on with the answer.
pub struct Done {
    to: oneshot::Sender<Result<Positions, Error>>,
    held: Held,
}

impl Done {
    /// Somebody who waits, and what is held meanwhile.
    pub fn new(to: oneshot::Sender<Result<Positions, Error>>, held: Held) -> Self {
        Self { to, held }
    }

    /// The append has ended.
    pub fn tell(self, result: Result<Positions, Error>) {
        // First: whoever asks again at once finds the room.
        drop(self.held);
        // A client that hung up changes nothing: its events are in the log or not, as for everyone else.
        drop(self.to.send(result));
    }
}

/// Nothing is held.
impl From<oneshot::Sender<Result<Positions, Error>>> for Done {
    fn from(to: oneshot::Sender<Result<Positions, Error>>) -> Self {
        Self::new(to, None)
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Done").field("to", &self.to).field("is_held", &self.held.is_some()).finish()
    }
}

/// What became of an append, and whom to tell.
#[derive(Debug)]
pub struct Answer {
    /// Where the append came from.
    pub to: Done,
    /// Number of its records.
    pub records: u32,
    /// What was noted of them, see [`Block::note`].
    pub fingerprints: Vec<Fingerprint>,
    /// Where they stand, once all of them are durable.
    pub result: Result<Positions, Error>,
}

/// Where an appender hands its answers in: at once or later. Some at a time, as each time wakes whoever hands them out.
#[derive(Debug, Clone)]
pub struct Answers(mpsc::Sender<Vec<Answer>>);

/// Times that answers may be handed in before somebody takes them.
const ANSWERED_TIMES_MAX: usize = 64;

impl Answers {
    /// A way for answers, and its other end.
    pub fn channel() -> (Self, mpsc::Receiver<Vec<Answer>>) {
        let (sender, receiver) = mpsc::channel(ANSWERED_TIMES_MAX);
        (Self(sender), receiver)
    }

    /// Whether both lead to the same other end.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }

    /// Hands answers in; waits while too many are there. Not from within a runtime.
    pub fn give(&self, answers: Vec<Answer>) {
        if !answers.is_empty() {
            // Without the other end nobody waits for an answer any more.
            drop(self.0.blocking_send(answers));
        }
    }
}

/// Why records were not appended. Cloned to everyone who waited on the same write.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No room on the disk. **Nothing was written**; the log goes on as soon as there is room.
    #[error("the disk is full")]
    Full,
    /// A write or a sync failed, now or earlier in this process. The outcome is **unknown**; no further append is
    /// taken until a restart has looked at what is really there.
    #[error("the log is closed after a failed write: {0}")]
    Closed(String),
    /// The log could not take it in time. **Nothing was written**; it goes on as soon as it can.
    #[error("{0}; nothing was written")]
    Unavailable(String),
    /// It was not confirmed in time, or in part. The outcome is **unknown**; the log goes on.
    #[error("the append was not confirmed: {0}")]
    Unconfirmed(String),
    /// The appender is gone: the process is stopping. **Nothing was written.**
    #[error("the log is shutting down")]
    Stopping,
    /// Bytes that were durable are not what was written.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Corrupt {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: String,
    },
    /// A record from a newer version of Tollgate.
    #[error("{file} has records of version {version} at {offset}; this binary knows up to {known}: run the newer one")]
    Newer {
        /// The file, or topic and partition.
        file: String,
        /// Where in it: a byte of the file, a position of the partition.
        offset: u64,
        /// The version found.
        version: u16,
        /// The newest one known.
        known: u16,
    },
    /// The position is not in the log any more, or not yet.
    #[error("position {wanted} is outside of the log, which has {start} to {end}")]
    OutOfRange {
        /// The position asked for.
        wanted: Position,
        /// The first one there is.
        start: Position,
        /// One past the last one.
        end: Position,
    },
    /// Reading failed.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// What the operating system said.
        error: String,
    },
}

impl Error {
    /// Whether nothing was written, for sure. Of any other error of an append the outcome is unknown.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Full | Self::Unavailable(_) | Self::Stopping => true,
            Self::Closed(_)
            | Self::Unconfirmed(_)
            | Self::Corrupt { .. }
            | Self::Newer { .. }
            | Self::OutOfRange { .. }
            | Self::Io { .. } => false,
        }
    }
}

/// How often somebody who waits for answers sees to them.
const WAIT_PAUSE: Duration = Duration::from_millis(1);

/// Takes groups of appends; owned by one thread (see [`crate::batch`]).
pub trait Appender: Send {
    /// Appends a group in order, and leaves `group` empty. Every member of it is answered exactly once, when it is durable or is not
    /// going to be: before this returns, or later as [`Appender::tend`] is called. Waits while the log takes nothing, but not for long.
    fn append(&mut self, group: &mut Vec<Append>, answers: &Answers);

    /// Sees to what is under way, and gives back when to call it again, if nothing is appended before. `None`: never, as nothing is ever
    /// under way once [`Appender::append`] has returned.
    fn tend(&mut self) -> Option<Duration> {
        None
    }

    /// Appends a group and waits for the answers, in the order in which they come. Not from within a runtime.
    fn append_and_wait(&mut self, mut group: Vec<Append>) -> Vec<Answer> {
        let (answers, mut given) = Answers::channel();
        std::thread::scope(|scope| {
            // In a thread of its own: only so many may be given before some are taken.
            let taken = scope.spawn(move || std::iter::from_fn(|| given.blocking_recv()).flatten().collect());
            self.append(&mut group, &answers);
            drop(answers);
            while let Some(pause) = self.tend().filter(|_| !taken.is_finished()) {
                std::thread::sleep(pause.min(WAIT_PAUSE));
            }
            taken.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Ends the log in good order, so that the next start need not recover anything: everybody who still waits is answered before.
    ///
    /// # Errors
    /// [`Error`]; the next start recovers then, nothing is lost.
    fn close(&mut self) -> Result<(), Error>;
}

/// Reads what is durable, and nothing else.
pub trait LogReader: Send {
    /// Blocks from the one that holds `from` on, of about `bytes_max` bytes but at least one. Empty at the end.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Corrupt`], [`Error::Newer`], [`Error::Io`].
    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Chunk, Error>;

    /// Gets a message when there may be more to read than the last read found; several may share one.
    fn grown(&self) -> Receiver<()>;
}

/// One partition of a log, as the stages behind it see it; may be asked from any thread.
pub trait Partition: Send + Sync + 'static {
    /// Which one.
    fn number(&self) -> u32;

    /// The oldest record there is.
    fn start(&self) -> Position;

    /// One past the last durable record, as far as is known here.
    fn end(&self) -> Position;

    /// The same as of now, whoever appended. Where another machine has to be asked, this blocks; [`Partition::end`] knows it then.
    ///
    /// # Errors
    /// [`Error::Io`]: no answer.
    fn newest_end(&self) -> Result<Position, Error>;

    /// The first position of those that retention takes together with this one, as far as that is known.
    fn part_of(&self, position: Position) -> Position;

    /// Makes a reader that follows the log.
    fn reader(self: Arc<Self>) -> Box<dyn LogReader>;

    /// A reader for a few reads here and there. Where a reader is expensive it is one that was used before, and is used again once
    /// this one is dropped; dropping it may block then.
    fn look_ups(self: Arc<Self>) -> Box<dyn LogReader> {
        self.reader()
    }
}

/// So long the log may take to give out what it has.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// So long nobody need call before it is looked again.
const READ_PAUSE: Duration = Duration::from_millis(50);

/// Reads what stands at a position before the end, or behind the gap that is there; gives back where to read on, too. Blocks until it comes:
/// Kafka may have fetched less than there is.
///
/// # Errors
/// As [`LogReader::read`]; [`Error::Io`] where nothing comes.
pub fn read_some(reader: &mut dyn LogReader, from: Position, bytes_max: usize) -> Result<(Chunk, Position), Error> {
    let deadline = Instant::now() + READ_PATIENCE;
    let grown = reader.grown();
    loop {
        let chunk = reader.read(from, bytes_max)?;
        if let Some(end) = chunk.end() {
            return Ok((chunk, end));
        }
        if Instant::now() >= deadline {
            let error = format!("nothing came from position {from} on within {READ_PATIENCE:?}");
            return Err(Error::Io { file: "the log".into(), error });
        }
        wait_for_more(&grown, READ_PAUSE);
    }
}

/// Waits until a reader's log has grown ([`LogReader::grown`]), but not longer than so: its call may have been for what was read already.
pub(crate) fn wait_for_more(grown: &Receiver<()>, longest: Duration) {
    // Without a sender nobody calls, and the error comes at once.
    if let Err(RecvTimeoutError::Disconnected) = grown.recv_timeout(longest) {
        std::thread::sleep(longest);
    }
}

/// Some blocks, as read.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    blocks: Vec<BlockAt>,
    log_time_before: UnixMillis,
    /// Where the log goes on, if there is a gap behind the last block.
    goes_on: Option<Position>,
}

#[derive(Debug, Clone)]
struct BlockAt {
    first: Position,
    count: u32,
    received: UnixMillis,
    payload: Range<usize>,
}

/// One block of a [`Chunk`].
#[derive(Debug, Clone, Copy)]
pub struct BlockView<'c> {
    /// Position of its first record.
    pub first: Position,
    /// How many records it has.
    pub count: u32,
    /// When the gateway received them.
    pub received: UnixMillis,
    /// The records, one after the other ([`record`]).
    pub payload: &'c [u8],
}

impl Chunk {
    /// The blocks in order.
    pub fn blocks(&self) -> impl Iterator<Item = BlockView<'_>> {
        self.blocks.iter().map(|at| BlockView {
            first: at.first,
            count: at.count,
            received: at.received,
            payload: &self.bytes[at.payload.clone()],
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The newest receive time of all blocks before these that the log still has; `i64::MIN` if it has none. Kafka cannot tell it:
    /// there it is that of what the reader has read or was told ([`kafka::KafkaReader::begin`]).
    pub fn log_time_before(&self) -> UnixMillis {
        self.log_time_before
    }

    /// Where to read on: one past the last position in it, or behind the gap that follows. `None`: nothing was read. There may be gaps
    /// before and between blocks as well: positions that are nobody's.
    pub fn end(&self) -> Option<Position> {
        self.goes_on.or_else(|| self.blocks.last().map(|at| Position(at.first.0 + u64::from(at.count))))
    }

    /// Appends the record at a position, behind all others.
    fn push(&mut self, position: Position, received: UnixMillis, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        match self.blocks.last_mut() {
            Some(last) if last.received == received && last.first.0 + u64::from(last.count) == position.0 => {
                last.count += 1;
                last.payload.end = end;
            }
            _ => self.blocks.push(BlockAt { first: position, count: 1, received, payload: start..end }),
        }
    }
}
