//! Hears what other nodes tell, on one connection for everybody here, which is made again when it is lost.
//!
//! Who listens must not rely on it: what is told while there is no connection is lost. It is told of that ([`Heard::Missed`]), and looks now
//! and then by itself.
//!
//! | channel | payload |
//! |---|---|
//! | `tollgate_documents` | nothing |
//! | `tollgate_wishes`, `tollgate_progress` | `partition:position`, several divided by a space |

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Connection, Notification, Socket};

use super::connect::{Connector, Driver};
use super::pool::{Failure, Session, in_time};
use crate::log::Position;

/// Where changes of shared documents are told.
pub(super) const DOCUMENTS: &str = "tollgate_documents";
/// Where it is told what is to be committed soon.
pub(super) const WISHES: &str = "tollgate_wishes";
/// Where it is told what has been committed.
pub(super) const PROGRESS: &str = "tollgate_progress";
/// A payload must be shorter than 8,000 bytes.
const PAYLOAD_BYTES_MAX: usize = 7_900;
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked whether anybody is still interested.
const LOOK: Duration = Duration::from_secs(5);

/// What is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Shared documents have changed.
    Documents,
    /// Somebody waits until a partition's rows go up to a position.
    Wish(u32, Position),
    /// A partition's rows go up to a position now.
    Progress(u32, Position),
    /// Anything may have been told that was not heard: the connection is new, or was lost, or it is a while since this was said last.
    Missed,
}

/// Whoever has listened is not interested any more.
#[derive(Debug, Clone, Copy)]
pub struct Gone;

/// Is called with whatever is heard, on a thread that has other things to do: it must not wait for anything.
pub(super) type Ear = Box<dyn Fn(Heard) -> Result<(), Gone> + Send + Sync>;

/// Everybody here who listens.
pub(super) struct Listeners {
    connector: Connector,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ears: Vec<Ear>,
    is_listening: bool,
}

impl Listeners {
    pub(super) fn new(connector: Connector, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { connector, runtime, state: Mutex::default() })
    }

    /// One more.
    pub(super) fn add(self: &Arc<Self>, ear: Ear) {
        let mut state = self.lock();
        if !state.is_listening {
            state.is_listening = true;
            self.runtime.spawn(listen(self.clone()));
        } else if ear(Heard::Missed).is_err() {
            // What was told before this one came; a new connection says so by itself.
            return;
        }
        state.ears.push(ear);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, heard: Heard) {
        self.lock().ears.retain(|ear| ear(heard).is_ok());
    }

    fn take(&self, notification: &Notification) {
        match notification.channel() {
            DOCUMENTS => self.tell(Heard::Documents),
            WISHES => read(notification.payload(), |partition, position| self.tell(Heard::Wish(partition, position))),
            PROGRESS => read(notification.payload(), |partition, position| self.tell(Heard::Progress(partition, position))),
            _ => {}
        }
    }

    /// Tells that something may have been missed.
    fn look(&self) -> Result<(), Gone> {
        self.tell(Heard::Missed);
        let mut state = self.lock();
        state.is_listening = !state.ears.is_empty();
        if state.is_listening { Ok(()) } else { Err(Gone) }
    }
}

async fn listen(listeners: Arc<Listeners>) {
    let mut is_lost = false;
    loop {
        let (ended, ends) = oneshot::channel();
        let driver = Listening { listeners: listeners.clone(), ended };
        let listening = async {
            let client = listeners.connector.connect(driver).await?;
            client.batch_execute(&format!("LISTEN {DOCUMENTS}; LISTEN {WISHES}; LISTEN {PROGRESS}")).await?;
            Ok::<_, tokio_postgres::Error>(client)
        };
        match in_time(listeners.connector.timeouts.answer(), listening).await {
            Ok(client) => {
                is_lost = false;
                // Whatever was told before.
                if listeners.look().is_err() || wait_for_end(ends, &listeners).await.is_err() {
                    return;
                }
                drop(client);
            }
            Err(Failure { error, .. }) if !is_lost => {
                is_lost = true;
                tracing::warn!(%error, "what other nodes do is not heard of at once: no connection to the database");
            }
            Err(_) => {}
        }
        if listeners.look().is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until the connection ends, or nobody hears any more. A look tells too much rather than too little.
async fn wait_for_end(mut ends: oneshot::Receiver<()>, listeners: &Listeners) -> Result<(), Gone> {
    loop {
        match tokio::time::timeout(LOOK, &mut ends).await {
            Ok(_) => return Ok(()),
            Err(_) => listeners.look()?,
        }
    }
}

/// Moves the bytes of the connection and passes on what is heard.
struct Listening {
    listeners: Arc<Listeners>,
    /// Dropped when the connection has ended.
    ended: oneshot::Sender<()>,
}

impl Driver for Listening {
    fn drive<S>(self, mut connection: Connection<Socket, S>)
    where
        S: TlsStream + Unpin + Send + 'static,
    {
        let Self { listeners, ended } = self;
        listeners.runtime.clone().spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    listeners.take(&notification);
                }
            }
            // Named here, or it would be dropped as soon as this is spawned.
            drop(ended);
        });
    }
}

/// Tells everybody who listens.
pub(super) async fn tell(session: &mut Session, channel: &str, positions: &[(u32, Position)]) -> Result<(), Failure> {
    let notify = session.prepared("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload").await?;
    session.in_time(session.client.execute(&notify, &[&channel, &payloads(positions)])).await?;
    Ok(())
}

/// Payloads that say these, none of them too long.
pub(super) fn payloads(positions: &[(u32, Position)]) -> Vec<String> {
    let mut payloads: Vec<String> = Vec::new();
    for (partition, position) in positions {
        let one = format!("{partition}:{position}");
        match payloads.last_mut() {
            Some(last) if last.len() + 1 + one.len() <= PAYLOAD_BYTES_MAX => {
                last.push(' ');
                last.push_str(&one);
            }
            _ => payloads.push(one),
        }
    }
    payloads
}

/// Reads a payload. What makes no sense is passed over: anybody may tell anything.
fn read(payload: &str, mut each: impl FnMut(u32, Position)) {
    for one in payload.split(' ') {
        let pair = one.split_once(':').and_then(|(partition, position)| Some((partition.parse().ok()?, position.parse().ok()?)));
        if let Some((partition, position)) = pair {
            each(partition, Position(position));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(payloads: &[String]) -> Vec<(u32, Position)> {
        let mut all = Vec::new();
        payloads.iter().for_each(|payload| read(payload, |partition, position| all.push((partition, position))));
        all
    }

    #[test]
    fn positions_of_any_number_of_partitions_are_read_as_they_were_written_and_no_payload_is_too_long() {
        for count in [0, 1, 2, 1_000, 5_000] {
            let positions: Vec<_> = (0..count).map(|partition| (partition, Position(u64::MAX - u64::from(partition)))).collect();
            let payloads = payloads(&positions);
            assert!(payloads.iter().all(|payload| !payload.is_empty() && payload.len() < 8_000));
            assert_eq!(read_all(&payloads), positions);
        }
    }

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        let read = |payload: &str| read_all(&[payload.to_owned()]);
        for payload in ["", ":", "1", "1:", ":1", "-1:2", "4294967296:1", "1:18446744073709551616", "1:2:3", "a:b"] {
            assert_eq!(read(payload), [], "{payload}");
        }
        assert_eq!(read("x 1:2  y:3 4:5"), [(1, Position(2)), (4, Position(5))]);
    }
}
