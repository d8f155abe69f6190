//! How connections come to their end when the process is told to stop.
//!
//! A connection that the server closes while a request is on its way costs that request: clients do not send a POST again by
//! themselves. So no kept connection is closed out of the blue. The next answer of HTTP/1.1 says `Connection: close`, HTTP/2 says
//! GOAWAY (which tells which streams were taken), and only who says nothing for a while is hung up on.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::patience::Requests;

/// How often it is looked whether a request has come to its end.
const LOOK: Duration = Duration::from_millis(20);

/// Tells every connection that the end has begun.
pub(super) struct Drain {
    begun: watch::Sender<Option<Instant>>,
}

/// A connection's view of it.
#[derive(Clone)]
pub(super) struct Leave {
    begun: watch::Receiver<Option<Instant>>,
    idle: Duration,
    since: Instant,
}

impl Drain {
    /// `idle`: how long a connection may say nothing once the end has begun.
    pub(super) fn new(idle: Duration) -> (Self, Leave) {
        let (begun, seen) = watch::channel(None);
        (Self { begun }, Leave { begun: seen, idle, since: Instant::now() })
    }

    pub(super) fn begin(&self) {
        self.begun.send_replace(Some(Instant::now()));
    }
}

impl Leave {
    /// For a connection that was just accepted.
    pub(super) fn beginning_now(&self) -> Self {
        Self { since: Instant::now(), ..self.clone() }
    }

    /// Completes when the end has begun.
    pub(super) async fn begun(&mut self) -> Instant {
        let begun = self.begun.wait_for(Option::is_some).await.ok().and_then(|begun| *begun);
        match begun {
            Some(begun) => begun,
            // Nobody is left to begin it.
            None => std::future::pending().await,
        }
    }

    /// Completes when who says nothing has had its time: counted from the begin of the end, or of the connection.
    pub(super) async fn is_overdue(&mut self) {
        let from = self.begun().await.max(self.since);
        sleep_until(from + self.idle).await;
    }

    /// The same, and no request is under way.
    pub(super) async fn is_overdue_and_idle(&mut self, requests: &Requests) {
        self.is_overdue().await;
        while !requests.is_idle() {
            sleep(LOOK).await;
        }
    }
}
