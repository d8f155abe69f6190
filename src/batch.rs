//! Many requests, one appender a partition. Stage 3 of the way of an event.
//!
//! A request hands over one block and gets one answer. The appender's thread takes whatever has gathered while the last
//! group was synced, appends it as one group, and sleeps when nothing is there: group commit without a timer. Where the log answers
//! later, it looks for answers meanwhile.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::event::Fingerprint;
use crate::log::{Answer, Answers, Append, Appender, Block, Error, Held, Positions};
use crate::{fault, telemetry};

/// Most bytes that one group takes: bounds the time that the first of it waits for the last.
const GROUP_BYTES_MAX: usize = 16 << 20;
/// Most requests of a group.
const GROUP_APPENDS_MAX: usize = 4_096;
/// Requests that may wait for the appender beside those that hold room, which bounds their number and their bytes.
const INBOX_APPENDS_MIN: usize = 1_024;

/// A handle to the appender's thread. The thread ends when the last handle is gone and the queue is empty.
#[derive(Clone)]
pub struct Batcher {
    inbox: Sender<Append>,
    settle: Arc<dyn Settle>,
}

/// Takes note of what became of records, also of those whose sender is not there any more to be told.
pub trait Settle: Send + Sync {
    /// So many records are durable, or were refused, or nobody knows: told once, before anybody who waits for them hears of it.
    /// `noted` is what was noted of those that are durable ([`Block::note`]); of others it is empty.
    fn settle(&self, became: Result<(), &BatchError>, records: u64, noted: &[Fingerprint]);
}

/// Nobody takes note.
impl Settle for () {
    fn settle(&self, _: Result<(), &BatchError>, _: u64, _: &[Fingerprint]) {}
}

/// Why a block was not appended.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Too many requests wait; nothing happened.
    #[error("too many requests wait for the log")]
    Busy,
    /// The log said no, or does not know.
    #[error(transparent)]
    Log(#[from] Error),
}

impl BatchError {
    /// Whether nothing was written, for sure.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::Log(error) => error.is_refusal(),
        }
    }
}

impl Batcher {
    /// Starts the thread that owns `appender`. It gives the appender back when it ends. Answers are handed out on `runtime`, a
    /// group at a time: waking it once costs less than waking it for each request from outside.
    ///
    /// `holders_max` is how many appends that hold something there can be at a time: they always find a place.
    /// `settle` is told what became of each append, also when nobody waits for it any more, and of those that were refused.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start<A: Appender + 'static>(
        name: &'static str,
        appender: A,
        runtime: &Handle,
        holders_max: usize,
        settle: Arc<dyn Settle>,
    ) -> std::io::Result<(Self, JoinHandle<A>)> {
        let (inbox, waiting) = bounded(holders_max + INBOX_APPENDS_MIN);
        let (answers, given) = Answers::channel();
        runtime.spawn(hand_out(given, settle.clone()));
        let thread = std::thread::Builder::new().name(format!("append-{name}")).spawn(move || run(name, appender, &waiting, &answers))?;
        Ok((Self { inbox, settle }, thread))
    }

    /// Appends a sealed block; returns once it is durable, with the positions of its records.
    ///
    /// # Errors
    /// [`BatchError::is_refusal`] tells whether nothing was written; else nobody knows.
    ///
    /// Dropping the future does not take the append back. `held` is given back when the append has ended, not before.
    pub async fn append(&self, block: Block, held: Held) -> Result<Positions, BatchError> {
        let records = u64::from(block.count());
        let (append, answer) = Append::new(block, held);
        if let Err(refused) = self.inbox.try_send(append) {
            let error = match refused {
                TrySendError::Full(_) => BatchError::Busy,
                TrySendError::Disconnected(_) => BatchError::Log(Error::Stopping),
            };
            self.settle.settle(Err(&error), records, &[]);
            return Err(error);
        }
        match answer.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(BatchError::Log(Error::Closed("the appender ended with the append under way".into()))),
        }
    }
}

/// Owns the appender: takes what has queued up and appends it; who is to be answered hears of it from [`hand_out`]. Ends when
/// every sender is gone.
fn run<A: Appender>(name: &'static str, mut appender: A, inbox: &Receiver<Append>, answers: &Answers) -> A {
    let mut group = Vec::new();
    while let Some(first) = next(&mut appender, inbox) {
        let mut bytes = first.block.len();
        group.push(first);
        while bytes < GROUP_BYTES_MAX && group.len() < GROUP_APPENDS_MAX {
            let Ok(next) = inbox.try_recv() else { break };
            bytes += next.block.len();
            group.push(next);
        }
        telemetry::observe_group(name, group.len(), group.iter().map(|append| u64::from(append.block.count())).sum(), bytes);
        appender.append(&mut group, answers);
        fault::point("answered");
    }
    appender
}

/// Waits for an append, and sees to what is under way meanwhile. `None`: none will come.
fn next<A: Appender>(appender: &mut A, inbox: &Receiver<Append>) -> Option<Append> {
    loop {
        let Some(pause) = appender.tend() else { return inbox.recv().ok() };
        match inbox.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            next => return next.ok(),
        }
    }
}

/// Settles and answers what the appender hands in, until nobody can hand in anything any more.
async fn hand_out(mut given: mpsc::Receiver<Vec<Answer>>, settle: Arc<dyn Settle>) {
    let mut noted = Vec::new();
    while let Some(answers) = given.recv().await {
        noted.clear();
        let mut durable = 0;
        for Answer { records, fingerprints, result, .. } in &answers {
            match result {
                Ok(_) => {
                    durable += u64::from(*records);
                    noted.extend_from_slice(fingerprints);
                }
                Err(error) => settle.settle(Err(&BatchError::Log(error.clone())), u64::from(*records), &[]),
            }
        }
        if durable > 0 {
            settle.settle(Ok(()), durable, &noted);
        }
        for answer in answers {
            answer.to.tell(answer.result);
        }
    }
}

#[cfg(test)]
mod tests;
