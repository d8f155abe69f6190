//! Which partitions are this node's: membership in a consumer group of Kafka.
//!
//! Only the group's assignments are used: nothing is read through it (what it assigns is paused), and where a fold goes on is the store's
//! to say. Positions are committed to the group all the same, so that tools which look at a group's lag see it. Partitions move
//! one by one (`cooperative-sticky`), and a node that comes back under its name within the session time-out gets its own back (static
//! membership): a restart moves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::owners::Owned;
use crate::log::kafka::{Listener, Settings};
use crate::store::Store;
use crate::telemetry::{self, Rebalanced};

/// The group's name; a topic has one such group.
const GROUP: &str = "tollgate";
/// How often the client is looked after, and how long its end takes at most.
const LOOK: Duration = Duration::from_millis(100);
/// How often positions are committed to the group.
const POSITIONS_INTERVAL: Duration = Duration::from_secs(5);
/// How long folds may take to commit when their partitions go: others wait for it.
const LET_GO: Duration = Duration::from_secs(5);
/// How long a node may be silent before its partitions are given to others.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How this node takes part.
#[derive(Debug, Clone)]
pub struct Membership {
    /// How to reach Kafka.
    pub kafka: Settings,
    /// The topic of events.
    pub topic: String,
    /// The node's name: nobody else's in the group.
    pub node: String,
    /// How long a node may be silent before its partitions are given to others.
    pub session_timeout: Duration,
}

/// The thread that keeps the membership.
pub struct Member {
    thread: JoinHandle<()>,
    stop: Sender<()>,
    has_joined: Arc<AtomicBool>,
}

impl Member {
    /// Joins; `owned` is told what is this node's from then on.
    ///
    /// # Errors
    /// Settings that librdkafka does not take, or no thread.
    pub fn join(membership: Membership, owned: Owned, store: Arc<dyn Store>) -> Result<Self, JoinError> {
        let has_joined = Arc::new(AtomicBool::new(false));
        let context = Context { listener: Listener::new("group"), owned: owned.clone(), has_joined: has_joined.clone() };
        let consumer: BaseConsumer<Context> = membership.config().create_with_context(context)?;
        consumer.subscribe(&[&membership.topic])?;
        let (stop, stopping) = bounded(0);
        let thread = std::thread::Builder::new()
            .name("group".into())
            .spawn(move || keep(&consumer, &membership, &owned, &*store, &stopping))
            .map_err(JoinError::Thread)?;
        Ok(Self { thread, stop, has_joined })
    }

    /// Whether the group has told this node what is its.
    pub fn has_joined(&self) -> Arc<AtomicBool> {
        self.has_joined.clone()
    }

    /// Whether the thread has ended unasked.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Lets go of every partition and ends. The membership itself lasts until the session time-out, so that a node which
    /// comes back before gets its partitions back.
    pub fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the group membership panicked");
        }
    }
}

/// Why there is no membership.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// librdkafka does not take the settings.
    #[error("the consumer group cannot be joined: {0}")]
    Kafka(#[from] KafkaError),
    /// The operating system gives no thread.
    #[error("no thread: {0}")]
    Thread(std::io::Error),
}

impl Membership {
    fn config(&self) -> rdkafka::ClientConfig {
        let mut config = self.kafka.client();
        let session_ms = self.session_timeout.as_millis();
        config
            .set("group.id", format!("{GROUP}.{}", self.topic))
            .set("group.instance.id", &self.node)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session_ms.to_string())
            .set("heartbeat.interval.ms", (session_ms / 5).max(1).to_string())
            // The thread that looks after the client may wait for folds to commit.
            .set("max.poll.interval.ms", (session_ms.max(LET_GO.as_millis()) + 20_000).to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "latest")
            .set("queued.min.messages", "1")
            .set("queued.max.messages.kbytes", "1")
            .set("allow.auto.create.topics", "false");
        config
    }
}

/// Until it is told to stop.
fn keep(consumer: &BaseConsumer<Context>, membership: &Membership, owned: &Owned, store: &dyn Store, stopping: &Receiver<()>) {
    let mut told = Instant::now();
    while !matches!(stopping.try_recv(), Err(TryRecvError::Disconnected)) {
        match consumer.poll(LOOK) {
            // What was fetched before it was paused.
            Some(Ok(_)) | None => {}
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                tracing::error!(%code, node = membership.node, "this node is out of the group for good: does another one have its name (cluster.node)?");
                break;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "the group membership is disturbed");
                std::thread::sleep(LOOK);
            }
        }
        if told.elapsed() >= POSITIONS_INTERVAL {
            told = Instant::now();
            if let Err(error) = tell_positions(consumer, membership, owned, store) {
                tracing::debug!(error, "the group was not told the positions: tools that look at its lag see old ones");
            }
        }
    }
    owned.end(LET_GO);
}

/// For tools that look at a group's lag.
fn tell_positions(consumer: &BaseConsumer<Context>, membership: &Membership, owned: &Owned, store: &dyn Store) -> Result<(), String> {
    let partitions = owned.partitions();
    if partitions.is_empty() {
        return Ok(());
    }
    let snapshot = store.snapshot().map_err(|error| error.to_string())?;
    let progresses = snapshot.progresses(&partitions).map_err(|error| error.to_string())?;
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (partition, progress) in partitions.into_iter().zip(progresses) {
        let offset = Offset::Offset(i64::try_from(progress.next.0).unwrap_or(i64::MAX));
        list.add_partition_offset(&membership.topic, partition as i32, offset).map_err(|error| error.to_string())?;
    }
    consumer.commit(&list, CommitMode::Async).map_err(|error| error.to_string())
}

/// Hears what the group says.
struct Context {
    listener: Listener,
    owned: Owned,
    has_joined: Arc<AtomicBool>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.listener.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.listener.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.error(error, reason);
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) => {
                let partitions = numbers(list);
                tracing::info!(?partitions, "partitions go to other nodes");
                telemetry::count_rebalance(Rebalanced::Revoked, partitions.len());
                self.owned.let_go(&partitions, LET_GO);
            }
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => {
                telemetry::count_rebalance(Rebalanced::Failed, 0);
                tracing::warn!(%error, "the group could not be balanced");
            }
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        if let Err(error) = consumer.pause(list) {
            tracing::warn!(%error, "a partition is read for nothing: it could not be paused");
        }
        let partitions = numbers(list);
        tracing::info!(?partitions, "partitions come to this node");
        telemetry::count_rebalance(Rebalanced::Assigned, partitions.len());
        self.owned.take(&partitions);
        self.has_joined.store(true, Ordering::Release);
    }
}

fn numbers(list: &TopicPartitionList) -> Vec<u32> {
    list.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect()
}
