//! Asks whoever owns a partition: this node, or over HTTP another one, whose address stands in the store.
//!
//! What is known of an owner from before is only a hint: a node that does not own a partition (any more) says so, and one that does not
//! answer may be gone; then the address is read again, until the time is up. So what is given back always comes from a node that
//! has folded everything that was durable when it was asked. Such an answer is right even if the partition has another
//! owner by then: it is a function of the log up to there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::internal::{PREFIX, Unavailable, UnavailableBody};
use super::local::{Local, OwnedHere};
use super::questions::{Answers, BODY_BYTES_MAX, Question};
use super::secret::NodeSecret;
use super::{NodeAddress, OwnerAddress};
use crate::log::{Partition, Position};
use crate::materializer::first_positions::First;
use crate::materializer::{Lookup, ViewError};
use crate::store::{Conflict, Store};
use crate::telemetry::{self, Said};
use crate::verdicts::{Answering, Owners};

/// Questions that wait for other nodes at a time.
const ASKED_MAX: usize = 64;
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// Connections to a node that nobody needs at the moment: how many, for how long.
const IDLE_CONNECTIONS_MAX: usize = 8;
const IDLE_MAX: Duration = Duration::from_secs(30);
/// From one try to the next.
const PAUSE: Duration = Duration::from_millis(50);
/// So much earlier than this node gives up another one is to say that it is behind.
const AHEAD: Duration = Duration::from_millis(50);
/// Of what another node says about itself, in characters.
const DETAIL_CHARS_MAX: usize = 200;

/// The owners of all partitions, wherever they are.
pub struct Routed {
    local: Local,
    store: Arc<dyn Store>,
    secret: NodeSecret,
    client: Client<HttpConnector, Full<Bytes>>,
    /// Where partitions were owned when it was last looked.
    known: Mutex<HashMap<u32, NodeAddress>>,
    turns: Semaphore,
}

/// Why a try brought no answer.
enum Failed {
    /// Somebody else may have one, or the same one later.
    Again(ViewError),
    /// Nobody is to be asked again for now.
    Finally(ViewError),
}

impl Routed {
    /// `log`: all partitions of the log, by their numbers. Within a runtime.
    pub fn new(log: Vec<Arc<dyn Partition>>, owned: Arc<dyn OwnedHere>, store: Arc<dyn Store>, secret: NodeSecret) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let local = Local { log: log.into(), owned };
        Self { local, store, secret, client, known: Mutex::default(), turns: Semaphore::new(ASKED_MAX) }
    }

    async fn ask(&self, partition: u32, question: &Question, wait: Duration) -> Result<Answers, ViewError> {
        let deadline = Instant::now() + wait;
        let mut body = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let tried = match self.local.answer(partition, question, left).await {
                Some(Ok(answers)) => Ok(answers),
                // It may have lost the partition meanwhile.
                Some(Err(error @ ViewError::Failed(_))) => Err(Failed::Again(error)),
                Some(Err(error @ (ViewError::Behind | ViewError::Busy))) => Err(Failed::Finally(error)),
                None => {
                    let body = body.get_or_insert_with(|| Bytes::from(question.to_json())).clone();
                    // A node that does not answer gets no more than its share of the time.
                    self.ask_owner(partition, question, body, deadline.min(Instant::now() + wait / 2)).await
                }
            };
            match tried {
                Ok(answers) => return Ok(answers),
                Err(Failed::Finally(error)) => return Err(error),
                Err(Failed::Again(error)) if Instant::now() + PAUSE >= deadline => return Err(error),
                Err(Failed::Again(_)) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// One try.
    async fn ask_owner(&self, partition: u32, question: &Question, body: Bytes, deadline: Instant) -> Result<Answers, Failed> {
        let out_of_time = || Failed::Again(ViewError::Failed(format!("the owner of partition {partition} does not answer")));
        let _turn = self.turns.try_acquire().map_err(|_| Failed::Finally(ViewError::Busy))?;
        let owner = timeout_at(deadline, self.owner(partition)).await.map_err(|_| out_of_time())??;
        let began = Instant::now();
        let asked = timeout_at(deadline, self.ask_at(&owner, partition, question, body, deadline)).await;
        let (said, answer) = asked.unwrap_or_else(|_| (Said::Unreachable, Err(out_of_time())));
        telemetry::observe_question(question.route().label(), said, began.elapsed());
        // Whoever says why it does not answer seems to be the owner still.
        if !matches!(said, Said::Answered | Said::Behind | Said::Busy | Said::Failed) {
            self.forget(partition, &owner);
        }
        answer
    }

    /// Asks a node: what it says, in a word and in full.
    async fn ask_at(
        &self,
        owner: &NodeAddress,
        partition: u32,
        question: &Question,
        body: Bytes,
        deadline: Instant,
    ) -> (Said, Result<Answers, Failed>) {
        let again = |what: String| Err(Failed::Again(ViewError::Failed(format!("node {} {what}", owner.node))));
        let wait = deadline.saturating_duration_since(Instant::now()).saturating_sub(AHEAD);
        let url = format!("{}{PREFIX}partitions/{partition}/{}?waitMs={}", owner.url, question.route().label(), wait.as_millis());
        let request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(AUTHORIZATION, self.secret.authorization())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return (Said::Unreachable, again(format!("has no address that can be asked: {error}"))),
        };
        // Redirects are not followed: they are answers like others that make no sense here.
        let (head, body) = match self.client.request(request).await {
            Ok(response) => response.into_parts(),
            Err(error) => return (Said::Unreachable, again(format!("cannot be reached: {error}"))),
        };
        let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return (Said::Nonsense, again(format!("answers what cannot be read: {error}"))),
        };
        match head.status {
            StatusCode::OK => match question.read_answer(partition, &body) {
                Ok(answers) => (Said::Answered, Ok(answers)),
                Err(nonsense) => (Said::Nonsense, again(format!("answers what makes no sense: {nonsense}"))),
            },
            StatusCode::MISDIRECTED_REQUEST => (Said::NotOwner, again(format!("does not own partition {partition}"))),
            StatusCode::SERVICE_UNAVAILABLE => {
                let (said, failed) = unavailable(owner, &body);
                (said, Err(failed))
            }
            status => (Said::Nonsense, again(format!("answers with {status}"))),
        }
    }

    /// Where the owner is, as far as is known.
    async fn owner(&self, partition: u32) -> Result<NodeAddress, Failed> {
        if let Some(known) = self.lock().get(&partition) {
            return Ok(known.clone());
        }
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || OwnerAddress::read(&*store, partition)).await;
        let again = |what: String| Failed::Again(ViewError::Failed(what));
        let found = match read {
            Ok(Ok(found)) => found.map(|found| found.owner).ok_or_else(|| again(format!("partition {partition} has no owner")))?,
            Ok(Err(error)) => return Err(again(error.to_string())),
            Err(_) => return Err(again("looking for the owner was interrupted".into())),
        };
        self.lock().insert(partition, found.clone());
        Ok(found)
    }

    fn forget(&self, partition: u32, owner: &NodeAddress) {
        let mut known = self.lock();
        if known.get(&partition) == Some(owner) {
            known.remove(&partition);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, NodeAddress>> {
        // Entries are put in and taken out whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(owner: &NodeAddress, body: &[u8]) -> (Said, Failed) {
    let failed = |what: &str| (Said::Failed, Failed::Again(ViewError::Failed(format!("node {}: {what}", owner.node))));
    match serde_json::from_slice::<UnavailableBody>(body) {
        Ok(UnavailableBody { error: Unavailable::Behind, .. }) => (Said::Behind, Failed::Again(ViewError::Behind)),
        Ok(UnavailableBody { error: Unavailable::Busy, .. }) => (Said::Busy, Failed::Finally(ViewError::Busy)),
        Ok(UnavailableBody { error: Unavailable::Failed, detail }) => failed(&detail.chars().take(DETAIL_CHARS_MAX).collect::<String>()),
        Err(_) => failed("it is not available"),
    }
}

impl Owners for Routed {
    fn firsts(&self, partition: u32, lookups: Vec<Lookup>, wait: Duration) -> Answering<'_, Vec<Option<First>>> {
        Box::pin(async move {
            match self.ask(partition, &Question::Firsts(lookups), wait).await? {
                Answers::Firsts(firsts) => Ok(firsts),
                Answers::Conflicts(_) => Err(other_question()),
            }
        })
    }

    fn conflicts(&self, partition: u32, account: u32, before: Position, limit: usize, wait: Duration) -> Answering<'_, Vec<Conflict>> {
        Box::pin(async move {
            match self.ask(partition, &Question::Conflicts { account, before, limit }, wait).await? {
                Answers::Conflicts(conflicts) => Ok(conflicts),
                Answers::Firsts(_) => Err(other_question()),
            }
        })
    }
}

/// Answers are checked against their questions when they are read.
fn other_question() -> ViewError {
    ViewError::Failed("the answer is that to another question".into())
}

#[cfg(test)]
pub(super) mod tests;
