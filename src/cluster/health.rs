//! Whether what a node needs is there: asked of Kafka and PostgreSQL again and again, told by role.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::owners::Owned;
use crate::config::Role;

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// What is asked; the error says what is wrong.
pub type Probe = Box<dyn FnMut() -> Result<(), String> + Send>;

/// What was found last. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health {
    found: Arc<Found>,
}

#[derive(Default)]
struct Found {
    kafka: Mutex<Option<String>>,
    database: Mutex<Option<String>>,
}

/// The thread that asks.
pub struct Asking {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Health {
    /// Asks from now on. Nothing is wrong until somebody says so.
    ///
    /// # Errors
    /// No thread.
    pub fn ask(&self, mut kafka: Probe, mut database: Probe) -> std::io::Result<Asking> {
        let (stop, stopping) = bounded::<()>(0);
        let found = self.found.clone();
        let thread = std::thread::Builder::new().name("health".into()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopping.recv_timeout(PAUSE) {
                note("Kafka", &found.kafka, kafka());
                note("PostgreSQL", &found.database, database());
            }
        })?;
        Ok(Asking { stop, thread })
    }

    fn kafka(&self) -> Option<String> {
        self.found.kafka.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn database(&self) -> Option<String> {
        self.found.database.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn note(what: &str, place: &Mutex<Option<String>>, found: Result<(), String>) {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    match (&*place, found) {
        (None, Ok(())) => {}
        (Some(_), Ok(())) => {
            tracing::info!("{what} is back");
            *place = None;
        }
        (None, Err(error)) => {
            tracing::warn!(error, "{what} does not answer");
            *place = Some(error);
        }
        (Some(_), Err(error)) => *place = Some(error),
    }
}

impl Asking {
    /// Ends when the question under way is answered.
    pub fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that asks for Kafka and PostgreSQL panicked");
        }
    }
}

/// Whether a node can do what its roles say.
pub struct Ready {
    /// What it does.
    pub roles: Vec<Role>,
    /// What it needs.
    pub health: Health,
    /// What it folds.
    pub owned: Owned,
    /// Whether the group has told it what that is.
    pub has_joined: Arc<AtomicBool>,
}

impl Ready {
    /// What is missing, a line for each thing, for an operator; empty: nothing.
    pub fn missing(&self) -> Vec<String> {
        let (kafka, database) = (self.health.kafka(), self.health.database());
        let mut missing = Vec::new();
        let mut needs = |role: &str, what: &str, error: &Option<String>| {
            if let Some(error) = error {
                missing.push(format!("{role}: {what} does not answer: {error}"));
            }
        };
        for role in &self.roles {
            match role {
                // It goes on without the database with the keys that it knows.
                Role::Gateway => needs("gateway", "Kafka", &kafka),
                Role::Materializer => {
                    needs("materializer", "Kafka", &kafka);
                    needs("materializer", "PostgreSQL", &database);
                }
                Role::Api => {
                    needs("api", "Kafka", &kafka);
                    needs("api", "PostgreSQL", &database);
                }
            }
        }
        if self.roles.contains(&Role::Materializer) {
            if !self.has_joined.load(Ordering::Acquire) {
                missing.push("materializer: the consumer group has not said yet which partitions are this node's".into());
            }
            missing.extend(self.owned.behind().into_iter().map(|partition| match self.owned.get(partition) {
                Some(fold) => format!("materializer: recovering: folding partition {partition} from position {}", fold.folded()),
                None if self.owned.is_taking(partition) => format!("materializer: recovering: partition {partition} is being taken over"),
                None => format!("materializer: the fold of partition {partition} does not run"),
            }));
        }
        missing
    }
}
