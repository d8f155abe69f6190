//! Records of the log, read at their positions.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::*;
use crate::log::{BlockView, read_some};

/// Read around one record: its block is read whole anyway.
const READ_BYTES: usize = 64 << 10;
/// Read from the log at once where all of it is looked at.
const STEP_BYTES: usize = 1 << 20;
/// Whoever reads the log at a time. A reader may hold some MiB.
const READERS_MAX: usize = 8;
/// How long somebody waits for a turn.
const TURN: Duration = Duration::from_secs(10);

/// The log, for a bounded number of readers at a time.
pub(super) struct Reading {
    partitions: Vec<Arc<dyn Partition>>,
    turns: Arc<Semaphore>,
}

/// Records of a part of a partition.
pub(super) struct Stretch {
    /// Newest first.
    pub(super) found: VecDeque<Logged>,
    /// Everything from here on was looked at.
    pub(super) from: Position,
    /// Whether some of it was received before what is wanted.
    pub(super) is_old: bool,
}

/// Which records of a stretch are kept.
pub(super) struct Keep {
    pub(super) account: u32,
    pub(super) filter: Filter,
    /// Not those that were received before.
    pub(super) since: UnixMillis,
    /// Only the newest so many bytes of them, about.
    pub(super) bytes_max: usize,
}

impl Reading {
    pub(super) fn new(partitions: Vec<Arc<dyn Partition>>) -> Self {
        Self { partitions, turns: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    pub(super) fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    fn partition(&self, number: u32) -> Result<Arc<dyn Partition>, Error> {
        self.partitions.get(number as usize).cloned().ok_or(Error::NoPartition(number))
    }

    /// Where a partition begins, and where it ends now.
    pub(super) async fn ends(&self, partition: u32) -> Result<(Position, Position), Error> {
        let log = self.partition(partition)?;
        self.blocking(move || {
            let end = log.newest_end()?;
            Ok((log.start(), end))
        })
        .await
    }

    /// The records of a partition at some positions, as far as the log still has them.
    pub(super) async fn at(&self, partition: u32, positions: Vec<Position>) -> Result<BTreeMap<Position, Logged>, Error> {
        if positions.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.with_reader(partition, move |log, reader| {
            let mut found = BTreeMap::new();
            each_at(log, reader, positions, usize::MAX, &mut |position, record, log_time| {
                found.insert(position, Logged::new(record, partition, position, log_time));
            })?;
            Ok(found)
        })
        .await
    }

    /// Which of the records at some positions are filtered, as far as so many reads go and the log has them.
    pub(super) async fn filtered(
        &self,
        partition: u32,
        positions: Vec<Position>,
        reads_max: usize,
    ) -> Result<BTreeMap<Position, bool>, Error> {
        self.with_reader(partition, move |log, reader| {
            let mut found = BTreeMap::new();
            each_at(log, reader, positions, reads_max, &mut |position, record, _| {
                found.insert(position, record.filtered);
            })?;
            Ok(found)
        })
        .await
    }

    /// The newest of the records between two positions that are wanted.
    pub(super) async fn stretch(&self, partition: u32, within: Range<Position>, keep: Keep) -> Result<Stretch, Error> {
        self.with_reader(partition, move |log, reader| stretch(log, reader, partition, within, &keep)).await
    }

    async fn with_reader<T: Send + 'static>(
        &self,
        partition: u32,
        work: impl FnOnce(&dyn Partition, &mut dyn LogReader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let log = self.partition(partition)?;
        self.blocking(move || work(&*log, &mut *log.clone().look_ups())).await
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
        let turn = tokio::time::timeout(TURN, self.turns.clone().acquire_owned()).await.map_err(|_| Error::Busy)?;
        let turn = turn.map_err(|_| Error::Interrupted)?;
        blocking(move || {
            // Given back when the reading ends, which it does not when nobody waits for it any more.
            let _turn = turn;
            work()
        })
        .await
    }
}

/// Hands over the records at some positions, as far as so many reads go; neighbours share one. With the log time there, as far as it is known.
fn each_at(
    log: &dyn Partition,
    reader: &mut dyn LogReader,
    positions: Vec<Position>,
    reads_max: usize,
    visit: &mut dyn FnMut(Position, &Record<'_>, UnixMillis),
) -> Result<(), Error> {
    let wanted: BTreeSet<Position> = positions.into_iter().collect();
    let (mut reads, mut behind) = (0, Position(0));
    for &position in &wanted {
        if position < behind {
            continue;
        }
        if reads == reads_max {
            break;
        }
        let (chunk, end) = match read_some(reader, position, READ_BYTES) {
            Ok(read) => read,
            // Retention has taken it.
            Err(log::Error::OutOfRange { .. }) => continue,
            Err(_) if position < log.start() => continue,
            Err(error) => return Err(error.into()),
        };
        reads += 1;
        // Nothing says that a chunk begins at the position that was asked for, or that every position is somebody's.
        let mut log_time = chunk.log_time_before();
        for block in chunk.blocks() {
            log_time = log_time.max(block.received);
            if wanted.range(block.first..end_of(&block)).next().is_none() {
                continue;
            }
            for (at, record) in (block.first.0..).map(Position).zip(records(block.payload, block.count, block.received)) {
                if let (true, Ok(record)) = (at >= behind && wanted.contains(&at), record) {
                    visit(at, &record, log_time);
                }
            }
        }
        behind = end;
    }
    Ok(())
}

fn end_of(block: &BlockView<'_>) -> Position {
    Position(block.first.0 + u64::from(block.count))
}

fn stretch(
    log: &dyn Partition,
    reader: &mut dyn LogReader,
    partition: u32,
    within: Range<Position>,
    keep: &Keep,
) -> Result<Stretch, Error> {
    let mut kept = Stretch { found: VecDeque::new(), from: within.start, is_old: false };
    let (mut next, mut bytes) = (within.start, 0);
    while next < within.end {
        let (chunk, end) = match read_some(reader, next, STEP_BYTES) {
            Ok(read) => read,
            // Retention came in between: nothing before its start is there any more.
            Err(_) if next < log.start() => {
                next = log.start();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut log_time = chunk.log_time_before();
        for block in chunk.blocks() {
            log_time = log_time.max(block.received);
            if block.received < keep.since {
                kept.is_old = true;
                continue;
            }
            for (at, record) in (block.first.0..).map(Position).zip(records(block.payload, block.count, block.received)) {
                if let (true, Ok(record)) = (within.contains(&at) && at >= next, record)
                    && record.account == keep.account
                    && keep.filter.holds(&record)
                {
                    let logged = Logged::new(&record, partition, at, log_time);
                    bytes += logged.event.get().len();
                    kept.found.push_front(logged);
                    bytes -= kept.forget_old(keep, bytes);
                }
            }
        }
        next = end;
    }
    Ok(kept)
}

impl Stretch {
    /// Only the newest ones are going to be given out; the others are read again for the next step. How many bytes they had.
    fn forget_old(&mut self, keep: &Keep, bytes: usize) -> usize {
        let mut forgotten = 0;
        while self.found.len() > keep.filter.limit.max(1) || (bytes - forgotten > keep.bytes_max && self.found.len() > 1) {
            let Some(oldest) = self.found.pop_back() else { break };
            forgotten += oldest.event.get().len();
            self.from = Position(oldest.position.0 + 1);
            self.is_old = false;
        }
        forgotten
    }
}
