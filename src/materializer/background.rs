//! A thread that works on jobs while its owner goes on, and ends with its owner.

use std::io;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

/// A handle. The thread ends when it is dropped, after the jobs at hand, and lets go of what it works with.
pub(super) struct Background<Job, Done> {
    jobs: Option<Sender<Job>>,
    results: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

/// The thread has panicked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone;

impl<Job: Send + 'static, Done: Send + 'static> Background<Job, Done> {
    /// Starts the thread. At most `jobs_max` jobs may be under way at a time: so neither side ever waits to hand over.
    pub(super) fn start(name: &str, jobs_max: usize, mut work: impl FnMut(Job) -> Done + Send + 'static) -> io::Result<Self> {
        let (jobs, waiting) = bounded(jobs_max);
        let (finished, results) = bounded(jobs_max);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in waiting {
                if finished.send(work(job)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), results, thread: Some(thread) })
    }

    pub(super) fn begin(&self, job: Job) -> Result<(), Gone> {
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(Gone)
    }

    /// The next result, if there is one.
    pub(super) fn finished(&self) -> Option<Result<Done, Gone>> {
        match self.results.try_recv() {
            Ok(done) => Some(Ok(done)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Gone)),
        }
    }

    /// Waits for the next result.
    pub(super) fn wait(&self) -> Result<Done, Gone> {
        self.results.recv().map_err(|_| Gone)
    }

    /// For waiting for a result and for something else at a time.
    pub(super) fn results(&self) -> Receiver<Done> {
        self.results.clone()
    }
}

impl<Job, Done> Drop for Background<Job, Done> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let Some(thread) = self.thread.take() else { return };
        let name = thread.thread().name().unwrap_or_default().to_owned();
        if thread.join().is_err() {
            tracing::error!(thread = name, "a thread of the materializer panicked");
        }
    }
}
