//! One question for all who wait. Who comes while a question is under way waits for the next one: the answer must be of a moment after it
//! came.

use std::future::Future;
use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use crate::log::Position;

/// Queries that may wait for an answer.
const WAITING_MAX: usize = 1_024;

type Answer = Result<Arc<[Position]>, String>;

/// A handle to the thread that asks; it ends with the handle, after the question under way.
pub(super) struct Asking {
    waiting: Sender<oneshot::Sender<Answer>>,
}

impl Asking {
    /// Starts the thread. `ask` blocks until it has an answer, or a message for whoever waits.
    pub(super) fn start(ask: impl FnMut() -> Result<Vec<Position>, String> + Send + 'static) -> io::Result<Self> {
        let (waiting, inbox) = bounded(WAITING_MAX);
        std::thread::Builder::new().name("ends".into()).spawn(move || run(&inbox, ask))?;
        Ok(Self { waiting })
    }

    /// An answer to a question that is begun after this call.
    pub(super) fn ask(&self) -> impl Future<Output = Answer> + use<> {
        let (to, answer) = oneshot::channel();
        let asked = self.waiting.try_send(to).map_err(|refused| match refused {
            TrySendError::Full(_) => "too many queries wait for the rows".to_owned(),
            TrySendError::Disconnected(_) => stopped(),
        });
        async move {
            asked?;
            answer.await.unwrap_or_else(|_| Err(stopped()))
        }
    }
}

fn stopped() -> String {
    "nobody asks where the log ends any more".into()
}

fn run(inbox: &Receiver<oneshot::Sender<Answer>>, mut ask: impl FnMut() -> Result<Vec<Position>, String>) {
    while let Ok(first) = inbox.recv() {
        let mut group = vec![first];
        group.extend(inbox.try_iter().take(WAITING_MAX));
        // Whoever has given up needs no answer.
        group.retain(|to| !to.is_closed());
        if group.is_empty() {
            continue;
        }
        let answer: Answer = ask().map(Into::into);
        for to in group {
            drop(to.send(answer.clone()));
        }
    }
}
