//! Many requests, one appender a partition. Stage 3 of the way of an event.
//!
//! A request hands over one block and gets one answer. The appender's thread takes whatever has gathered while the last
//! group was synced, appends it as one group, and sleeps when nothing is there: group commit without a timer.

use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::event::Fingerprint;
use crate::log::{Answer, Append, Appender, Block, Error, Position};
use crate::{fault, telemetry};

/// Most bytes that one group takes: bounds the time that the first of it waits for the last.
const GROUP_BYTES_MAX: usize = 16 << 20;
/// Most requests of a group.
const GROUP_APPENDS_MAX: usize = 4_096;
/// Groups whose answers may wait for the runtime to hand them out.
const ANSWERED_GROUPS: usize = 64;
/// Requests that may wait for the appender. The budget of bytes in flight is meant to bind first.
const INBOX_APPENDS: usize = 16_384;

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

impl Batcher {
    /// Starts the thread that owns `appender`. It gives the appender back when it ends. Answers are handed out on `runtime`, a
    /// group at a time: waking it once costs less than waking it for each request from outside.
    ///
    /// # Errors
    /// The operating system gives no thread.
    ///
    /// `settle` is told what became of each append, also when nobody waits for it any more, and of those that were refused.
    pub fn start<A: Appender + 'static>(
        name: &'static str,
        appender: A,
        runtime: &Handle,
        settle: Arc<dyn Settle>,
    ) -> std::io::Result<(Self, JoinHandle<A>)> {
        let (inbox, waiting) = bounded(INBOX_APPENDS);
        let (answered, answers) = mpsc::channel(ANSWERED_GROUPS);
        runtime.spawn(hand_out(answers, settle.clone()));
        let thread = std::thread::Builder::new().name(format!("append-{name}")).spawn(move || run(name, appender, &waiting, &answered))?;
        Ok((Self { inbox, settle }, thread))
    }

    /// Appends a sealed block; returns once it is durable, with the positions of its records.
    ///
    /// # Errors
    /// [`BatchError::Busy`] and [`Error::Full`]: nothing was written. Any other: unknown.
    ///
    /// Dropping the future does not take the append back.
    pub async fn append(&self, block: Block) -> Result<Range<Position>, BatchError> {
        let (done, answer) = oneshot::channel();
        let records = u64::from(block.count());
        if let Err(refused) = self.inbox.try_send(Append { block, done }) {
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

/// Owns the appender: takes what has queued up, appends it, answers everyone. Ends when every sender is gone.
fn run<A: Appender>(name: &'static str, mut appender: A, inbox: &Receiver<Append>, answered: &mpsc::Sender<Vec<Answer>>) -> A {
    let mut group = Vec::new();
    while let Ok(first) = inbox.recv() {
        let mut bytes = first.block.len();
        group.push(first);
        while bytes < GROUP_BYTES_MAX && group.len() < GROUP_APPENDS_MAX {
            let Ok(next) = inbox.try_recv() else { break };
            bytes += next.block.len();
            group.push(next);
        }
        telemetry::observe_group(name, group.len(), group.iter().map(|append| u64::from(append.block.count())).sum(), bytes);
        let answers = appender.append(&mut group);
        // Without a runtime nobody waits for an answer any more.
        drop(answered.blocking_send(answers));
        fault::point("answered");
    }
    appender
}

async fn hand_out(mut answers: mpsc::Receiver<Vec<Answer>>, settle: Arc<dyn Settle>) {
    let mut noted = Vec::new();
    while let Some(group) = answers.recv().await {
        // The whole group shares one write, so it shares what became of it.
        let records = group.iter().map(|answer| u64::from(answer.records)).sum();
        match group.first().map(|answer| answer.result.clone().map_err(BatchError::Log)) {
            Some(Ok(_)) => {
                noted.clear();
                group.iter().for_each(|answer| noted.extend_from_slice(&answer.fingerprints));
                settle.settle(Ok(()), records, &noted);
            }
            Some(Err(error)) => settle.settle(Err(&error), records, &[]),
            None => {}
        }
        for answer in group {
            // A client that hung up changes nothing: its events are in the log or not, as for everyone else.
            drop(answer.to.send(answer.result));
        }
    }
}

#[cfg(test)]
mod tests;
