//! Hears of changes that other nodes make, on a connection of its own that is made again when it is lost.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Connection, Socket};

use super::connect::{Connector, Driver};
use super::pool::{Failure, in_time};

/// Where changes of shared documents are told.
pub(super) const CHANNEL: &str = "tollgate_documents";
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked whether anybody is still interested.
const LOOK: Duration = Duration::from_secs(5);

/// Something comes when there is something to hear, and each time that something may have been missed.
pub(super) fn start(connector: Connector, runtime: &Handle) -> Receiver<()> {
    // One is enough: who is told looks at everything that changed.
    let (heard, hears) = bounded(1);
    runtime.spawn(listen(connector, Arc::new(heard), runtime.clone()));
    hears
}

async fn listen(connector: Connector, heard: Arc<Sender<()>>, runtime: Handle) {
    let mut is_lost = false;
    loop {
        let (ended, ends) = oneshot::channel();
        let driver = Listening { heard: heard.clone(), _ended: ended, runtime: runtime.clone() };
        let listening = async {
            let client = connector.connect(driver).await?;
            client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
            Ok::<_, tokio_postgres::Error>(client)
        };
        match in_time(connector.timeouts.answer(), listening).await {
            Ok(client) => {
                is_lost = false;
                // Whatever was told before.
                if tell(&heard).is_err() || wait_for_end(ends, &heard).await.is_err() {
                    return;
                }
                drop(client);
            }
            Err(Failure { error, .. }) if !is_lost => {
                is_lost = true;
                tracing::warn!(%error, "changes of keys by other nodes are not heard of at once: no connection to the database");
            }
            Err(_) => {}
        }
        if tell(&heard).is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Nobody hears.
struct Gone;

fn tell(heard: &Sender<()>) -> Result<(), Gone> {
    match heard.try_send(()) {
        Ok(()) | Err(TrySendError::Full(())) => Ok(()),
        Err(TrySendError::Disconnected(())) => Err(Gone),
    }
}

/// Waits until the connection ends, or nobody hears any more. A look tells too much rather than too little.
async fn wait_for_end(mut ends: oneshot::Receiver<()>, heard: &Sender<()>) -> Result<(), Gone> {
    loop {
        match tokio::time::timeout(LOOK, &mut ends).await {
            Ok(_) => return Ok(()),
            Err(_) => tell(heard)?,
        }
    }
}

/// Moves the bytes of the connection and passes on what is heard.
struct Listening {
    heard: Arc<Sender<()>>,
    /// Dropped with the task.
    _ended: oneshot::Sender<()>,
    runtime: Handle,
}

impl Driver for Listening {
    fn drive<S>(self, mut connection: Connection<Socket, S>)
    where
        S: TlsStream + Unpin + Send + 'static,
    {
        self.runtime.spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if matches!(message, AsyncMessage::Notification(_)) && tell(&self.heard).is_err() {
                    return;
                }
            }
        });
    }
}
