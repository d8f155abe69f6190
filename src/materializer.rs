//! From the log to the rows. Stage 5 of the way of an event.
//!
//! One thread owns a partition: it reads the log in order, asks the dedup index where each record stands, folds what counts
//! into its working set, and hands changed rows to a second thread that commits them together with the position reached. Folding goes
//! on while a commit is under way.
//!
//! Queries ask this thread for a view: the rows as they are stored, with what was folded since laid over them. A view that must
//! see everything acked so far waits until the fold has passed the log's end as it stood when the query came (`design.md`,
//! promise 9).

mod background;
mod commit;
mod due;
pub mod first_positions;
pub mod fold;
pub mod replay;
mod sealing;
mod shares;
mod taking;
mod undecodable;
mod view;
mod wishes;
pub mod working_set;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, after, bounded, never, select};
use tokio::sync::oneshot;

use crate::base;
use crate::clock::Clock;
use crate::log::meta::LogMeta;
use crate::log::{self, BlockView, LogReader, Partition, Position, disk::Disk, record};
use crate::store::{self, CONFLICTS_MAX, Commit, Conflict, EncodedRows, Progress, Snapshot, Store};
use crate::{fault, telemetry};
use commit::{COPIED_AT_ONCE, Committer, committer_gone};
use due::{Due, due_records};
use first_positions::{Asked, First, FirstPositions, IndexError, Standing};
use fold::{Verdict, verdict};
pub use sealing::BaseSettings;
use sealing::Sealing;
pub use shares::Shares;
use taking::Taken;
pub use taking::{CaughtUp, IndexPlace, IndexStanding, Taking};
use undecodable::Found;
pub use undecodable::{KeepUndecodable, UndecodableRecord};
pub use view::{Lookup, View, ViewError, Wanted};
use view::{Overlaid, Question, Reply, Request, stopping, view_failed};
use wishes::Wishes;
use working_set::{LOOK_AHEAD, WorkingSet};

/// Bytes of log read at once: large enough to amortise, small enough that a query waits for a few ms at most.
const READ_BYTES: usize = 256 << 10;
/// The same where each time costs questions of a store that is far away, or nobody asks anything yet.
const FAR_READ_BYTES: usize = 512 << 10;
/// Views that may wait to be answered.
const REQUESTS: usize = 1_024;
/// Shortest time from the begin of one commit to that of the next.
/// Rows that change all the time are written once for all of it; queries see them before.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(1_000);
/// With fewer records than this, a commit of a store that is in this process waits for more: rows that change all the time are written once for
/// more of them, and folding so many again after a crash takes less than a second.
const COMMIT_RECORDS: u64 = 250_000;
/// For up to so many times [`COMMIT_INTERVAL`], as long as records come.
const COMMIT_PATIENCE: u32 = 5;
/// Part of [`COMMIT_INTERVAL`] without a record after which nothing more is waited for.
const COMMIT_QUIET: u32 = 2;
/// Times its own duration that pass from the begin of a commit to that of the next: a commit of scattered rows rewrites most
/// leaves of the tree, whether it has many rows or few, so the more take part the better.
const COMMIT_PAUSE: u32 = 3;
/// How long records gather before they are folded when nobody waits for them: many small groups, one wake-up, and enough of them to look
/// ahead.
const GATHER: Duration = Duration::from_millis(25);
/// How often it is looked for records that somebody has heard of and that do not come: positions that are nobody's.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why the materializer ended, or could not begin. The process stops with it: half a gateway is worse than none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store says that it has folded records that the log does not have.
    #[error(
        "the rows stand at position {rows}, but the log ends at {log}: the log has lost what was folded; restore the data directory from a backup"
    )]
    RowsAheadOfLog {
        /// Next position of the rows.
        rows: Position,
        /// End of the log.
        log: Position,
    },
    /// The same, of the dedup index.
    #[error(
        "the dedup index covers the log up to {index}, but the log ends at {log}: the log has lost records; restore the data directory from a backup"
    )]
    IndexAheadOfLog {
        /// What the index covers.
        index: Position,
        /// End of the log.
        log: Position,
    },
    /// The log begins behind what the rows need next.
    #[error(
        "the log begins at {log}, but the rows need it from {rows} on: the records between are gone; `tollgate rebuild` makes the rows from the base and the log"
    )]
    LogTruncated {
        /// What is needed next.
        rows: Position,
        /// Start of the log.
        log: Position,
    },
    /// The log begins behind what the dedup index needs next, and there is no base or node to take it from.
    #[error(
        "the log begins at {log}, but the dedup index needs it from {index} on, and no base has one: restore the data directory from a backup, or \
         start a node that had the partition"
    )]
    NoIndex {
        /// What is needed next.
        index: Position,
        /// Start of the log.
        log: Position,
    },
    /// The log ends before the position that was to be reached.
    #[error("the log ends at {log}, but it was to be folded up to {wanted}")]
    LogTooShort {
        /// What was to be reached.
        wanted: Position,
        /// End of the log.
        log: Position,
    },
    /// A base cannot be used.
    #[error(transparent)]
    Base(#[from] base::Error),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The rows cannot be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The dedup index cannot be read or written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Records that cannot be decoded were not kept, so the rows did not pass them.
    #[error("records that cannot be decoded could not be put with the dead letters: {0}")]
    Undecodable(log::Error),
    /// Whoever wanted a replay does not any more.
    #[error("it was stopped before it was done")]
    Stopped,
    /// The operating system gives no thread.
    #[error("no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the materializer is built from.
pub struct Parts {
    /// Read from.
    pub log: Arc<dyn Partition>,
    /// What the fold needs besides the records.
    pub meta: LogMeta,
    /// Written to.
    pub store: Arc<dyn Store>,
    /// For the files of the dedup index.
    pub disk: Arc<dyn Disk>,
    /// Where the dedup index is.
    pub index_dir: PathBuf,
    /// For the lag that is reported; nothing that is folded depends on it.
    pub clock: Clock,
    /// Shortest time from the begin of one commit to that of the next, unless somebody wishes for one ([`Materializer::commit_from`]).
    pub commit_interval: Duration,
    /// Where bases are and when they are made; `None`: none are made or used.
    pub bases: Option<BaseSettings>,
    /// Where records go that cannot be decoded, before a commit passes them; `None`: nowhere, as they were kept when they were folded first.
    pub undecodable: Option<Arc<dyn KeepUndecodable>>,
}

/// A handle for everyone who asks the materializer something.
#[derive(Clone)]
pub struct Materializer {
    requests: Sender<Request>,
    log: Arc<dyn Partition>,
    ready: Arc<AtomicBool>,
    folded: Arc<AtomicU64>,
    wishes: Arc<Wishes>,
    has_ended: Arc<AtomicBool>,
}

/// The materializer's thread.
pub struct Running {
    thread: JoinHandle<Result<(), Error>>,
    stop: Sender<Stop>,
    ended: Receiver<()>,
}

/// How it is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// What is in the log is folded before.
    AtTheEnd,
    /// What has been folded is committed before, no more.
    Now,
}

impl Running {
    /// Whether the thread has ended, asked or unasked.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Disconnected when the thread is about to end, asked or unasked; nothing ever comes.
    pub fn ended(&self) -> Receiver<()> {
        self.ended.clone()
    }

    /// Folds what is in the log, commits it, ends.
    ///
    /// # Errors
    /// What ended it before; the next start goes on from the last commit.
    pub fn stop(self) -> Result<(), Error> {
        self.end(Stop::AtTheEnd)
    }

    /// Commits what has been folded, and ends: somebody else goes on.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub fn let_go(self) -> Result<(), Error> {
        self.end(Stop::Now)
    }

    fn end(self, how: Stop) -> Result<(), Error> {
        match self.stop.try_send(how) {
            // It may have ended before.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(Error::Index(IndexError::Io("the materializer panicked".into()))),
        }
    }
}

impl Materializer {
    /// Reads where rows and index stand and starts the thread.
    ///
    /// # Errors
    /// [`Error`]: rows or index do not fit the log. Nothing was changed.
    pub fn start(parts: Parts) -> Result<(Self, Running), Error> {
        Self::take(parts, ())
    }

    /// The same, of a partition that may have been another node's.
    ///
    /// # Errors
    /// As [`Materializer::start`], and [`Error::Stopped`] from [`Taking::find_index`].
    pub fn take(parts: Parts, mut taking: impl Taking) -> Result<(Self, Running), Error> {
        let ready = Arc::new(AtomicBool::new(false));
        let folded = Arc::new(AtomicU64::new(0));
        let (requests, waiting) = bounded(REQUESTS);
        let (stop, stopping) = bounded(1);
        let (ends_last, ended) = bounded(0);
        let log = parts.log.clone();
        let wishes = Arc::<Wishes>::default();
        let mut owner = Owner::open(parts, ready.clone(), folded.clone(), wishes.clone(), &mut taking)?;
        let has_ended = Arc::new(AtomicBool::new(false));
        let ends = has_ended.clone();
        let thread = std::thread::Builder::new().name("materializer".into()).spawn(move || {
            let result = owner.run(&waiting, &stopping, &mut taking);
            // A bounded channel keeps what is in it for as long as there is a sender: nobody would ever hear of these.
            ends.store(true, Ordering::SeqCst);
            waiting.try_iter().for_each(drop);
            // With its index, which the next one may open.
            drop(owner);
            drop::<Sender<()>>(ends_last);
            result
        })?;
        Ok((Self { requests, log, ready, folded, wishes, has_ended }, Running { thread, stop, ended }))
    }

    /// Whether everything that was in the log at the start has been folded.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The next position to be folded.
    pub fn folded(&self) -> Position {
        Position(self.folded.load(Ordering::Acquire))
    }

    /// As soon as everything before this position is folded, whatever is folded then is committed at once, rather than when the interval
    /// is over. Positions that this process has not heard of yet are fine. Returns at once; nobody hears when it is done, nor that there
    /// is nobody any more to do it.
    ///
    /// Of wishes that come while another one is waiting, the furthest is taken up when that one is met: who is far behind
    /// shall fold, not commit.
    pub fn commit_from(&self, at_least: Position) {
        self.wishes.add(at_least);
    }

    /// Rows that show everything durable at this moment, or what there is after `wait`.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn view(&self, wanted: Vec<Wanted>, wait: Duration) -> Result<View, ViewError> {
        self.ask(wait, |reply| Question::View(wanted, reply)).await
    }

    /// The first record of each identity, where one is known. Everything durable at this moment is folded before.
    ///
    /// # Errors
    /// [`ViewError`], among them [`ViewError::Behind`] when that takes longer than `wait`.
    pub async fn firsts(&self, lookups: Vec<Lookup>, wait: Duration) -> Result<Vec<Option<First>>, ViewError> {
        self.ask(wait, |reply| Question::Firsts(lookups, reply)).await
    }

    /// The latest conflicts of an account before a position, newest first; waits as [`Materializer::firsts`] does.
    ///
    /// # Errors
    /// As there.
    pub async fn conflicts(&self, account: u32, before: Position, limit: usize, wait: Duration) -> Result<Vec<Conflict>, ViewError> {
        self.ask(wait, |reply| Question::Conflicts(account, before, limit, reply)).await
    }

    async fn ask<T>(&self, wait: Duration, asked: impl FnOnce(Reply<T>) -> Question) -> Result<T, ViewError> {
        let (reply, replied) = oneshot::channel();
        let request = Request { at_least: self.log.end(), deadline: Instant::now() + wait, asked: asked(reply) };
        self.requests.try_send(request).map_err(|refused| match refused {
            TrySendError::Full(_) => ViewError::Busy,
            TrySendError::Disconnected(_) => stopping(),
        })?;
        if self.has_ended.load(Ordering::SeqCst) {
            return Err(stopping());
        }
        replied.await.unwrap_or_else(|_| Err(stopping()))
    }
}

/// [`COMMIT_INTERVAL`], or what a test of a debug build has instead.
pub fn commit_interval() -> Duration {
    Duration::from_millis(fault::limit("TOLLGATE_COMMIT_INTERVAL_MS", COMMIT_INTERVAL.as_millis() as usize) as u64)
}

/// The state of the thread that owns the partition.
struct Owner {
    log: Arc<dyn Partition>,
    /// Of this one.
    partition: u32,
    reader: Box<dyn LogReader>,
    index: FirstPositions,
    store: Arc<dyn Store>,
    snapshot: Box<dyn Snapshot>,
    working: WorkingSet,
    /// Found since the last commit was begun, by account.
    conflicts: BTreeMap<u32, VecDeque<Conflict>>,
    /// Those of the commit under way.
    conflicts_in_commit: Vec<Conflict>,
    /// Found since the last commit was begun.
    undecodable: Found,
    clock: Clock,
    /// Nothing from here on is folded.
    until: Position,
    stop: Option<Stop>,
    /// What the working set holds.
    folded: Progress,
    /// What the store holds.
    committed: Progress,
    /// What it holds once the commit under way is through.
    in_commit: Position,
    /// What is wished of this partition.
    wishes: Arc<Wishes>,
    /// The one that is to be met next; at or before `in_commit`: none.
    wished: Position,
    /// When it was taken up, or looked for last.
    looked: Instant,
    committer: Committer,
    sealing: Option<Sealing>,
    last_fold: Instant,
    last_commit: Instant,
    /// From the begin of the last commit to the begin of the next: at least, and now.
    commit_interval_min: Duration,
    commit_interval: Duration,
    pending: Vec<Request>,
    ready_at: Position,
    ready: Arc<AtomicBool>,
    folded_shared: Arc<AtomicU64>,
}

impl Owner {
    fn open(
        mut parts: Parts,
        ready: Arc<AtomicBool>,
        folded_shared: Arc<AtomicU64>,
        wishes: Arc<Wishes>,
        taking: &mut dyn Taking,
    ) -> Result<Self, Error> {
        let Taken { snapshot, committed, end, index, sealing } = Taken::open(&mut parts, taking)?;
        folded_shared.store(committed.next.0, Ordering::Release);
        Ok(Self {
            reader: parts.log.clone().reader(),
            partition: parts.log.number(),
            index,
            undecodable: Found::kept(parts.undecodable.is_some()),
            committer: Committer::start(parts.store.clone(), parts.undecodable)?,
            store: parts.store,
            snapshot,
            working: WorkingSet::new(parts.log.number(), parts.meta.fold.dimension_sets_max, taking.shares()),
            log: parts.log,
            conflicts: BTreeMap::new(),
            conflicts_in_commit: Vec::new(),
            clock: parts.clock,
            until: Position(u64::MAX),
            stop: None,
            folded: committed,
            committed,
            in_commit: committed.next,
            wishes,
            wished: Position(0),
            looked: Instant::now(),
            sealing,
            last_fold: Instant::now(),
            last_commit: Instant::now(),
            commit_interval_min: parts.commit_interval,
            commit_interval: parts.commit_interval,
            pending: Vec::new(),
            ready_at: end,
            ready,
            folded_shared,
        })
    }

    fn run(&mut self, requests: &Receiver<Request>, stops: &Receiver<Stop>, taking: &mut dyn Taking) -> Result<(), Error> {
        telemetry::begin_partition(self.partition);
        let (from, began) = (self.index.covered(), Instant::now());
        if !self.catch_up_index(stops)? {
            return Ok(());
        }
        taking.caught_up(CaughtUp { from, to: self.committed.next, took: began.elapsed() });
        self.report_sizes()?;
        let grown = self.reader.grown();
        let commits = self.committer.results();
        let wishes = self.wishes.clone();
        loop {
            self.pending.extend(requests.try_iter().take(REQUESTS));
            self.answer_requests();
            self.hear_stop(stops);
            let moved = self.stop != Some(Stop::Now) && !self.is_full() && self.fold_some()?;
            // A commit that has ended may have made room to go on folding.
            let ended = self.committer.finished();
            let goes_on = moved || ended.is_some();
            if let Some(done) = ended {
                self.end_commit(done?)?;
            }
            self.take_up_wish();
            self.begin_commit_if_due(self.stop.is_some());
            let copied = self.copy_some()?;
            if self.stop.is_none() {
                self.seal_base()?;
            }
            if goes_on || copied {
                continue;
            }
            let is_done = self.committed == self.folded;
            match self.stop {
                Some(Stop::Now) if is_done => {
                    self.leave_index();
                    return Ok(());
                }
                Some(Stop::AtTheEnd) if is_done && self.folded.next == self.log.end() => return Ok(()),
                _ => {}
            }
            self.look_for_wished();
            let timer = self.next_timer().map_or_else(never, after);
            let stopping = if self.stop.is_some() { &never() } else { stops };
            select! {
                recv(grown) -> _ => if !self.is_wished() { self.pending.extend(requests.recv_timeout(GATHER)) },
                recv(commits) -> done => self.end_commit(done.unwrap_or_else(|_| Err(committer_gone()))?)?,
                recv(requests) -> request => self.pending.extend(request),
                recv(wishes.woken()) -> _ => {}
                // A handle that was dropped says nothing else.
                recv(stopping) -> asked => self.stop = Some(asked.unwrap_or(Stop::AtTheEnd)),
                recv(timer) -> _ => {}
            }
        }
    }

    /// Whether it is to stop, without waiting; a handle that was dropped says so, too.
    fn hear_stop(&mut self, stops: &Receiver<Stop>) {
        match stops.try_recv() {
            Ok(how) => self.stop = Some(how),
            Err(TryRecvError::Disconnected) => self.stop = self.stop.or(Some(Stop::AtTheEnd)),
            Err(TryRecvError::Empty) => {}
        }
        if self.stop.is_some() {
            self.committer.hurry();
        }
    }

    /// Whether a commit has to come before anything further is folded.
    fn is_full(&self) -> bool {
        self.working.is_full() || self.undecodable.is_full()
    }

    /// Gives the index what it does not cover of the records that the rows have already; `false`: it was stopped before. Then nothing may be
    /// folded, and the index covers no more than it says.
    fn catch_up_index(&mut self, stops: &Receiver<Stop>) -> Result<bool, Error> {
        let mut next = self.index.covered();
        let mut log_time = self.index.covered_log_time();
        while next < self.committed.next {
            // Of weeks of log, maybe. Nothing has been folded yet.
            self.hear_stop(stops);
            if self.stop == Some(Stop::Now) {
                return Ok(false);
            }
            // What comes is no sign of the end: Kafka may have fetched nothing yet of what there is.
            let (chunk, end) = log::read_some(&mut *self.reader, next, FAR_READ_BYTES)?;
            let blocks = chunk.blocks().take_while(|block| block.first < self.committed.next);
            let due = due_records(blocks, next..self.committed.next, log_time).inspect(|due| log_time = due.log_time);
            let asked: Vec<Asked> = due.filter_map(|due| due.asked()).collect();
            self.index.stand_all(&asked, &mut Vec::with_capacity(asked.len()))?;
            // Not the chunk's end: what lies behind the rows was not looked up, and the index must not claim to cover it, or the
            // fold would not take note of its firsts and count their copies.
            next = end.min(self.committed.next);
            self.index.maintain(next, log_time, self.committed.log_time)?;
        }
        Ok(true)
    }

    /// Writes what the index has in memory, so that whoever goes on from its files finds everything in them. Without that, more of the log is
    /// read.
    fn leave_index(&mut self) {
        let left = self.index.freeze_at(self.folded.next, self.folded.log_time).and_then(|()| self.index.wait());
        if let Err(error) = left {
            tracing::warn!(partition = self.partition, %error, "the dedup index could not be written to its end; whoever goes on reads the rest");
        }
    }

    /// Reads and folds a chunk; `false` at the end of the log.
    fn fold_some(&mut self) -> Result<bool, Error> {
        let bytes_max = if self.snapshot.is_far() { FAR_READ_BYTES } else { READ_BYTES };
        let chunk = self.reader.read(self.folded.next, bytes_max)?;
        let Some(end) = chunk.end() else {
            self.set_ready();
            telemetry::set_lag(self.partition, 0, 0.0);
            return Ok(false);
        };
        let mut verdicts = [0_u64; Verdict::ALL.len()];
        let until = self.until;
        if self.snapshot.is_far() {
            self.fetch_ahead(chunk.blocks())?;
        }
        self.fold_blocks(chunk.blocks().take_while(|block| block.first < until), &mut verdicts)?;
        let end = end.min(until);
        self.folded.next = end;
        self.last_fold = Instant::now();
        self.folded_shared.store(end.0, Ordering::Release);
        fault::point("folded");
        for (verdict, records) in Verdict::ALL.into_iter().zip(verdicts) {
            telemetry::count_verdicts(self.partition, verdict.label(), records);
        }
        self.index.maintain(end, self.folded.log_time, self.committed.log_time)?;
        self.report_lag();
        self.set_ready();
        Ok(true)
    }

    /// Looks ahead over the bounds of blocks: one event a request is one a block.
    fn fold_blocks<'b>(
        &mut self,
        blocks: impl Iterator<Item = BlockView<'b>>,
        verdicts: &mut [u64; Verdict::ALL.len()],
    ) -> Result<(), Error> {
        let mut due = due_records(blocks, self.folded.next..self.until, self.folded.log_time);
        let mut ahead = Vec::with_capacity(LOOK_AHEAD);
        let (mut asked, mut standings) = (Vec::with_capacity(LOOK_AHEAD), Vec::with_capacity(LOOK_AHEAD));
        loop {
            ahead.clear();
            ahead.extend(due.by_ref().take(LOOK_AHEAD));
            let Some(last) = ahead.last() else { return Ok(()) };
            self.folded.log_time = last.log_time;
            self.working.look_ahead(ahead.iter().filter_map(|due| due.record.as_ref().ok()));
            asked.clear();
            asked.extend(ahead.iter().filter_map(Due::asked));
            standings.clear();
            self.index.stand_all(&asked, &mut standings)?;
            let mut standings = standings.iter();
            for Due { at, record, .. } in &ahead {
                if let Err(undecodable) = record {
                    self.undecodable.note(*at, *undecodable);
                }
                let stands = record.as_ref().ok().and_then(|record| Some((record, *standings.next()?)));
                verdicts[self.fold_record(*at, stands)? as usize] += 1;
            }
        }
    }

    /// Has the rows that these records may need brought here, in a few questions for all of them. What a copy needs is asked for, too: copies are
    /// few, and what they are copies of is not known yet.
    fn fetch_ahead<'b>(&mut self, blocks: impl Iterator<Item = BlockView<'b>>) -> Result<(), Error> {
        let due = due_records(blocks, self.folded.next..self.until, self.folded.log_time);
        let decoded = due.filter_map(|due| due.record.ok());
        let records: Vec<_> = decoded.filter(|record| verdict(Standing::First, record) == Verdict::Counted).collect();
        Ok(self.working.fetch_ahead(&*self.snapshot, &records)?)
    }

    /// `stands`: a record that can be decoded, and what the index says of it.
    fn fold_record(&mut self, at: Position, stands: Option<(&record::Record<'_>, Standing)>) -> Result<Verdict, Error> {
        let Some((record, standing)) = stands else { return Ok(Verdict::Undecodable) };
        let verdict = verdict(standing, record);
        match (verdict, standing) {
            (Verdict::Counted, _) => self.working.add(&*self.snapshot, record)?,
            (Verdict::Conflict, Standing::Copy { of, .. }) => self.note_conflict(record.account, at, of),
            _ => {}
        }
        Ok(verdict)
    }

    /// For the next commit. Of many at once those stay that the store is going to keep.
    fn note_conflict(&mut self, account: u32, position: Position, first: Position) {
        let conflicts = self.conflicts.entry(account).or_default();
        if conflicts.len() == CONFLICTS_MAX {
            conflicts.pop_front();
        }
        conflicts.push_back(Conflict { account, partition: self.partition, position, first });
    }

    fn set_ready(&self) {
        if self.folded.next >= self.ready_at {
            self.ready.store(true, Ordering::Release);
        }
    }

    fn report_lag(&self) {
        self.report_uncommitted();
        let records = self.log.end().0.saturating_sub(self.folded.next.0);
        // Nobody is asked for the time as long as nothing is behind.
        let behind_ms = || self.clock.now().0.saturating_sub(self.folded.log_time.0).max(0);
        telemetry::set_lag(self.partition, records, if records == 0 { 0.0 } else { behind_ms() as f64 / 1e3 });
    }

    fn report_uncommitted(&self) {
        telemetry::set_uncommitted(self.partition, self.folded.next.0.saturating_sub(self.committed.next.0));
    }

    /// Whether a wish is waiting for a commit to be begun.
    fn is_wished(&self) -> bool {
        self.in_commit < self.wished
    }

    /// The next wish is the furthest at the moment that the last one is met: no wish waits for those that come behind it for ever.
    fn take_up_wish(&mut self) {
        let furthest = self.wishes.furthest();
        if !self.is_wished() && self.wished < furthest {
            self.wished = furthest;
            self.looked = Instant::now();
        }
    }

    /// Somebody knows of records that do not come. Their positions may be nobody's, and only who knows the end passes them.
    fn look_for_wished(&mut self) {
        if self.folded.next < self.wished && self.looked.elapsed() >= LOOK_AGAIN {
            self.looked = Instant::now();
            if self.log.end() < self.wished
                && let Err(error) = self.log.newest_end()
            {
                tracing::debug!(partition = self.partition, %error, "where the log ends is not known now");
            }
        }
    }

    fn begin_commit_if_due(&mut self, is_stopping: bool) {
        let is_wished = self.is_wished() && self.wished <= self.folded.next;
        let is_due = is_stopping || is_wished || self.is_full() || self.commit_due() <= Instant::now();
        if self.committed == self.folded || !is_due || self.committer.is_busy() {
            return;
        }
        self.last_commit = Instant::now();
        self.in_commit = self.folded.next;
        let conflicts: Vec<_> = std::mem::take(&mut self.conflicts).into_values().flatten().collect();
        self.conflicts_in_commit.clone_from(&conflicts);
        let rows = EncodedRows::default();
        let commit = Commit { partition: self.partition, expected: self.committed, reached: self.folded, rows, conflicts };
        self.committer.begin(commit, self.undecodable.take(), &mut self.working);
    }

    /// Copies rows for the commit that was begun; whether there were any. Of a store that is far away, other nodes wait for the commit, and nobody
    /// asks this thread for rows.
    fn copy_some(&mut self) -> Result<bool, Error> {
        let entries_max = if self.snapshot.is_far() { usize::MAX } else { COPIED_AT_ONCE };
        self.committer.copy_some(&mut self.working, entries_max)
    }

    /// When what is folded by now is to be committed.
    fn commit_due(&self) -> Instant {
        let least = self.last_commit + self.commit_interval;
        let is_enough = self.snapshot.is_far() || self.folded.next.0 - self.committed.next.0 >= COMMIT_RECORDS;
        if is_enough {
            return least;
        }
        let quiet = self.last_fold + self.commit_interval_min / COMMIT_QUIET;
        least.max(quiet.min(self.last_commit + self.commit_interval_min * COMMIT_PATIENCE))
    }

    fn end_commit(&mut self, reached: Progress) -> Result<(), Error> {
        fault::point("committed");
        self.committer.busy = false;
        self.commit_interval = self.commit_interval_min.max(self.last_commit.elapsed() * COMMIT_PAUSE);
        self.committed = reached;
        self.report_uncommitted();
        self.snapshot = self.store.snapshot()?;
        self.working.end_commit();
        self.conflicts_in_commit.clear();
        self.report_sizes()
    }

    fn report_sizes(&self) -> Result<(), Error> {
        telemetry::set_store_rows(self.store.row_count()?);
        telemetry::set_fold_sizes(self.partition, self.index.entries(), self.index.memory_bytes(), self.working.len());
        Ok(())
    }

    fn seal_base(&mut self) -> Result<(), Error> {
        let Some(sealing) = &mut self.sealing else { return Ok(()) };
        sealing.step(&mut self.index, &*self.store, self.folded, self.committed)
    }

    fn answer_requests(&mut self) {
        let now = Instant::now();
        let folded = self.folded.next;
        let is_due = |request: &mut Request| request.at_least <= folded || request.deadline <= now;
        for request in self.pending.extract_if(.., is_due).collect::<Vec<_>>() {
            let complete = request.at_least <= folded;
            // Whoever asked may have hung up.
            match request.asked {
                Question::View(wanted, reply) => drop(reply.send(self.view(&wanted, complete))),
                Question::Firsts(_, reply) if !complete => drop(reply.send(Err(ViewError::Behind))),
                Question::Firsts(lookups, reply) => drop(reply.send(self.firsts(&lookups))),
                Question::Conflicts(_, _, _, reply) if !complete => drop(reply.send(Err(ViewError::Behind))),
                Question::Conflicts(account, before, limit, reply) => drop(reply.send(self.latest_conflicts(account, before, limit))),
            }
        }
    }

    fn view(&self, wanted: &[Wanted], complete: bool) -> Result<View, ViewError> {
        let snapshot = self.store.snapshot().map_err(view_failed)?;
        let mut uncommitted = BTreeMap::new();
        for one in wanted {
            let customers = one.customers.as_deref().map(|customers| (one.account, customers));
            self.working.uncommitted(customers, &mut |key| one.holds(key), &mut uncommitted);
        }
        Ok(View { rows: Box::new(Overlaid { snapshot, uncommitted }), next: self.folded.next, complete })
    }

    fn firsts(&self, lookups: &[Lookup]) -> Result<Vec<Option<First>>, ViewError> {
        let first = |lookup: &Lookup| self.index.first(lookup.identity, lookup.from..lookup.before, lookup.log_time).map_err(view_failed);
        lookups.iter().map(first).collect()
    }

    fn latest_conflicts(&self, account: u32, before: Position, limit: usize) -> Result<Vec<Conflict>, ViewError> {
        let uncommitted = self.conflicts_in_commit.iter().chain(self.conflicts.get(&account).into_iter().flatten());
        let newer = uncommitted.filter(|conflict| conflict.account == account && conflict.position < before);
        let snapshot = self.store.snapshot().map_err(view_failed)?;
        let stored = snapshot.conflicts(account, self.partition, before, limit).map_err(view_failed)?;
        // A commit that has just ended may have stored some of the newer ones.
        let all: BTreeMap<Position, Conflict> = stored.into_iter().chain(newer.copied()).map(|one| (one.position, one)).collect();
        Ok(all.into_values().rev().take(limit).collect())
    }

    /// When something is due though nobody calls.
    fn next_timer(&self) -> Option<Duration> {
        let commit = (self.committed != self.folded && !self.committer.is_busy()).then(|| self.commit_due());
        let view = self.pending.iter().map(|request| request.deadline).min();
        let base = self.sealing.as_ref().and_then(Sealing::look_again).map(|pause| Instant::now() + pause);
        let wished = (self.folded.next < self.wished).then(|| self.looked + LOOK_AGAIN);
        let next = commit.into_iter().chain(view).chain(base).chain(wished).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests;
