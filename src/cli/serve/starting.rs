//! The time before log and store are there. In a cluster they are other machines', which may be away: the node says so, and waits.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::oneshot;

use super::{Opened, Shell, Stop};
use crate::data_dir::DataDir;
use crate::log;
use crate::log::kafka::topics::TopicError;
use crate::server::Readiness;
use crate::store;
use crate::store::postgres::OpenError;

/// Between two attempts to reach what is away.
const PAUSE: Duration = Duration::from_secs(1);

/// Not ready until log and store are there; then as ready as they are.
#[derive(Default)]
pub(super) struct Starting {
    why: Mutex<String>,
    there: OnceLock<Arc<dyn Readiness>>,
}

impl Starting {
    /// From now on they say whether the node is ready.
    pub(super) fn is_over(&self, readiness: Arc<dyn Readiness>) {
        // Set once: nothing starts twice.
        let _first = self.there.set(readiness);
    }

    fn wait_for(&self, why: &str) {
        why.clone_into(&mut self.why.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Readiness for Starting {
    fn missing(&self) -> Vec<String> {
        match self.there.get() {
            Some(readiness) => readiness.missing(),
            None => match self.why.lock().unwrap_or_else(PoisonError::into_inner).as_str() {
                "" => vec!["starting".into()],
                why => vec![format!("starting: {why}")],
            },
        }
    }
}

/// Opens everything as soon as it is there; `None` if the process was told to stop before.
pub(super) async fn open(
    shell: &Arc<Shell>,
    data_dir: &Arc<DataDir>,
    starting: &Starting,
    told: &mut Stop,
) -> anyhow::Result<Option<Opened>> {
    loop {
        let mut opening = open_once(shell.clone(), data_dir.clone())?;
        let opened = tokio::select! {
            opened = &mut opening => opened.context("the start was interrupted")?,
            () = told.told() => {
                // The process does not end in the middle of it.
                drop(opening.await);
                return Ok(None);
            }
        };
        match opened {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) if is_away(&error) => {
                let why = format!("{error:#}");
                tracing::warn!(error = why, "the node cannot start yet, it tries again");
                starting.wait_for(&why);
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = told.told() => return Ok(None),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Opens it all in a thread of its own. The threads that it starts have their rank from it: not that of the runtime's, see [`super::standing_back`].
fn open_once(shell: Arc<Shell>, data_dir: Arc<DataDir>) -> anyhow::Result<oneshot::Receiver<anyhow::Result<Opened>>> {
    let (to, opened) = oneshot::channel();
    let open = move || {
        let _runtime = shell.runtime.enter();
        // Nobody waits any more once the process was told to stop.
        drop(to.send(shell.open(&data_dir)));
    };
    thread::Builder::new().name("opening".into()).spawn(open).context("no thread to start with")?;
    Ok(opened)
}

/// Whether what is missing is away, and may come back by itself: another machine does not answer.
fn is_away(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let store = cause.downcast_ref().is_some_and(|error| matches!(error, store::Error::Failed(_)));
        let database = cause.downcast_ref().is_some_and(|error| matches!(error, OpenError::Failed(_)));
        let topic = cause.downcast_ref().is_some_and(|error| matches!(error, TopicError::Kafka { .. }));
        store || database || topic || cause.downcast_ref().is_some_and(|error| matches!(error, log::Error::Io { .. }))
    })
}
