//! Reads one partition of a topic, by position.
//!
//! A reader follows: as long as each read begins where the last one ended, it takes what librdkafka has fetched meanwhile and never
//! waits. Begun anywhere else it waits until Kafka has given the first message, or said that there is none.
//!
//! Nothing here belongs to a consumer group: which partitions are read, and from where, is the caller's to say.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TrySendError, bounded};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Settings;
use super::client::Listener;
use super::wire::{self, Form, HEADERS_MAX, Incoming, decode};
use crate::clock::UnixMillis;
use crate::log::{Chunk, Error, LogReader, Position};

/// What librdkafka fetches ahead, in kB and in messages.
const FETCHED_KBYTES_MAX: u32 = 8 << 10;
const FETCHED_MESSAGES: u32 = 100_000;
/// How long it rests when it has that much. With librdkafka's second, one answer of 10,000 messages a second is all that is read.
const FETCH_REST_MS: u32 = 5;
/// The same of a look-up, and what one answer of a broker has of a partition, in bytes.
const LOOKED_UP_KBYTES_MAX: u32 = 1 << 10;
const LOOKED_UP_BYTES: u32 = 256 << 10;
/// How long a look-up may hold up the next one by its reader. With librdkafka's 500 ms each takes half a second.
const LOOKED_UP_WAIT_MS: u32 = 5;

/// So long the end of a partition may be known before the records up to it come, and it is no gap.
const GAP_PATIENCE: Duration = Duration::from_millis(250);
/// How often the end, and records up to it, are asked for before a gap is taken for one.
const GAP_LOOKS: u32 = 2;

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The oldest position that there may be.
    pub start: Position,
    /// One past the newest.
    pub end: Position,
}

impl Watermarks {
    pub(super) fn of(start: i64, end: i64) -> Self {
        let position = |offset: i64| Position(u64::try_from(offset).unwrap_or_default());
        Self { start: position(start), end: position(end) }
    }
}

/// Reads one partition.
pub struct KafkaReader {
    consumer: BaseConsumer<Listener>,
    topic: String,
    form: Form,
    partition: u32,
    timeout: Duration,
    /// Where the consumer stands; `None`: nowhere.
    at: Option<At>,
    known: Arc<Known>,
    /// Since when nothing comes from here, although the partition ends further on.
    stuck: Option<(Position, Instant)>,
    grown: Receiver<()>,
}

/// What is known of a partition here, by whoever asked or read last.
#[derive(Debug, Default)]
pub(super) struct Known {
    start: AtomicU64,
    end: AtomicU64,
}

impl Known {
    pub(super) fn start(&self) -> Position {
        Position(self.start.load(Ordering::Acquire))
    }

    pub(super) fn end(&self) -> Position {
        Position(self.end.load(Ordering::Acquire))
    }

    pub(super) fn note(&self, found: Watermarks) {
        self.start.fetch_max(found.start.0, Ordering::AcqRel);
        self.note_end(found.end);
    }

    fn note_end(&self, end: Position) {
        self.end.fetch_max(end.0, Ordering::AcqRel);
    }
}

/// Where a consumer stands.
#[derive(Debug, Clone, Copy)]
struct At {
    next: Position,
    /// Newest receive time before it, as far as it is known.
    log_time: UnixMillis,
    /// Kafka said that there is nothing more, since the last message.
    is_end: bool,
}

/// What came of a look for a message.
enum Looked<'r> {
    Message(BorrowedMessage<'r>),
    /// Kafka says that there are no more.
    End,
    /// There is none yet.
    Nothing,
}

impl KafkaReader {
    /// Makes a reader. Kafka need not be there yet.
    ///
    /// # Errors
    /// Settings that librdkafka does not take.
    pub fn open(settings: &Settings, topic: &str, form: Form, partition: u32) -> Result<Self, Error> {
        Self::knowing(settings, topic, form, partition, Arc::default())
    }

    pub(super) fn knowing(settings: &Settings, topic: &str, form: Form, partition: u32, known: Arc<Known>) -> Result<Self, Error> {
        Self::configured(&consumer_config(settings), settings.timeout, topic, form, partition, known)
    }

    /// For a few reads here and there.
    pub(super) fn for_look_ups(settings: &Settings, topic: &str, form: Form, partition: u32, known: Arc<Known>) -> Result<Self, Error> {
        let mut config = consumer_config(settings);
        config
            // Most of what is fetched ahead is for nothing.
            .set("queued.min.messages", "1")
            .set("queued.max.messages.kbytes", LOOKED_UP_KBYTES_MAX.to_string())
            .set("fetch.message.max.bytes", LOOKED_UP_BYTES.to_string())
            // What is asked for next waits until the broker has answered what was asked for before, be it that there is nothing.
            .set("fetch.wait.max.ms", LOOKED_UP_WAIT_MS.to_string())
            // Nobody takes its figures while it rests.
            .set("statistics.interval.ms", "0");
        Self::configured(&config, settings.timeout, topic, form, partition, known)
    }

    fn configured(
        config: &ClientConfig,
        timeout: Duration,
        topic: &str,
        form: Form,
        partition: u32,
        known: Arc<Known>,
    ) -> Result<Self, Error> {
        let consumer: Result<BaseConsumer<Listener>, _> = config.create_with_context(Listener::new("reader"));
        let mut consumer = consumer.map_err(|error| failed(topic, partition, &error))?;
        let (sender, grown) = bounded(1);
        // Something may be there already: librdkafka tells when there was nothing before.
        let first = sender.try_send(());
        debug_assert!(first.is_ok(), "there is room for one");
        consumer.set_nonempty_callback(move || {
            match sender.try_send(()) {
                // A message is waiting already, it will do for this too.
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        });
        Ok(Self { consumer, topic: topic.to_owned(), form, partition, timeout, at: None, known, stuck: None, grown })
    }

    /// Reads another partition of its topic from now on.
    pub(super) fn turn_to(&mut self, partition: u32, known: Arc<Known>) {
        (self.partition, self.known, self.at, self.stuck) = (partition, known, None, None);
    }

    /// Fetches nothing any more, until it is read from.
    ///
    /// # Errors
    /// [`Error::Io`]: it is of no use any more.
    pub(super) fn rest(&mut self) -> Result<(), Error> {
        self.at = None;
        self.consumer.unassign().map_err(|error| failed(&self.topic, self.partition, &error))?;
        // The log lines that came meanwhile.
        while self.consumer.poll(Duration::ZERO).is_some() {}
        Ok(())
    }

    /// Asks Kafka where the partition begins and ends now.
    ///
    /// # Errors
    /// [`Error::Io`]: no answer in time.
    pub fn watermarks(&mut self) -> Result<Watermarks, Error> {
        let found = watermarks(&self.consumer, &self.topic, self.partition, self.timeout)?;
        self.known.note(found);
        Ok(found)
    }

    /// Says what the newest receive time before a position is: Kafka cannot tell. Before it was said, the log time of what is read from
    /// there on begins with what is read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin(&mut self, next: Position, log_time: UnixMillis) -> Result<(), Error> {
        self.assign(At { next, log_time, is_end: false })
    }

    fn assign(&mut self, at: At) -> Result<(), Error> {
        self.at = None;
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = i64::try_from(at.next.0).unwrap_or(i64::MAX);
        list.add_partition_offset(&self.topic, self.partition as i32, Offset::Offset(offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| failed(&self.topic, self.partition, &error))?;
        self.at = Some(at);
        Ok(())
    }

    fn look(&self, patience: Duration) -> Result<Looked<'_>, KafkaError> {
        let deadline = Instant::now() + patience;
        loop {
            let heard = self.consumer.context().served();
            match self.consumer.poll(deadline.saturating_duration_since(Instant::now())) {
                Some(Ok(message)) => return Ok(Looked::Message(message)),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Looked::End),
                Some(Err(error)) if is_final(&error) => return Err(error),
                // It goes on by itself.
                Some(Err(error)) => tracing::debug!(topic = self.topic, partition = self.partition, %error, "reading is interrupted"),
                // It ends with what is no message, too.
                None if self.consumer.context().served() != heard || Instant::now() < deadline => {}
                None => return Ok(Looked::Nothing),
            }
        }
    }

    /// Reads from where the consumer stands; waits so long for the first message.
    fn take(&mut self, mut at: At, bytes_max: usize, patience: Duration) -> Result<Chunk, Error> {
        let mut chunk = Chunk { log_time_before: at.log_time, ..Chunk::default() };
        let mut patience = patience;
        while chunk.bytes.len() < bytes_max {
            let message = match self.look(patience) {
                Ok(Looked::Message(message)) => message,
                Ok(Looked::End) => {
                    at.is_end = true;
                    patience = Duration::ZERO;
                    continue;
                }
                Ok(Looked::Nothing) if patience.is_zero() => break,
                Ok(Looked::Nothing) => {
                    self.at = None;
                    return Err(self.failed(&format!("no answer within {patience:?}")));
                }
                Err(error) => {
                    self.at = None;
                    return Err(self.out_of_range(at.next).unwrap_or_else(|| failed(&self.topic, self.partition, &error)));
                }
            };
            patience = Duration::ZERO;
            let position = Position(u64::try_from(message.offset()).unwrap_or_default());
            // Fetched for a place where the consumer stood before.
            if position < at.next || message.partition() != self.partition as i32 {
                continue;
            }
            let received = UnixMillis(message.timestamp().to_millis().unwrap_or_default());
            let mut decoded = Ok(());
            let header = header(&message, self.form.header());
            let incoming = Incoming { key: message.key(), value: message.payload(), header: header.as_deref(), received };
            let bytes = chunk.bytes.len();
            chunk.push(position, received, |to| decoded = decode(self.form, &incoming, to));
            if let Err(wire::Newer { version }) = decoded {
                debug_assert_eq!(chunk.bytes.len(), bytes, "nothing was written");
                chunk.pop();
                drop(message);
                return self.stopped_by_newer(chunk, position, version);
            }
            at = At { next: Position(position.0 + 1), log_time: at.log_time.max(received), is_end: false };
        }
        self.known.note_end(at.next);
        self.at = Some(at);
        Ok(chunk)
    }

    /// What stands before a record of a newer version is given out; the record itself is found again by the next read.
    fn stopped_by_newer(&mut self, chunk: Chunk, position: Position, version: u16) -> Result<Chunk, Error> {
        self.at = None;
        if chunk.is_empty() {
            return Err(Error::Newer { file: self.name(), offset: position.0, version, known: wire::VERSION });
        }
        Ok(chunk)
    }

    /// The error of a position that the partition does not have; `None`: it has it, or nobody can say.
    fn out_of_range(&mut self, wanted: Position) -> Option<Error> {
        let Watermarks { start, end } = self.watermarks().ok()?;
        (wanted < start || wanted > end).then_some(Error::OutOfRange { wanted, start, end })
    }

    fn name(&self) -> String {
        format!("topic {}, partition {}", self.topic, self.partition)
    }

    fn failed(&self, error: &str) -> Error {
        Error::Io { file: self.name(), error: error.to_owned() }
    }
}

impl LogReader for KafkaReader {
    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Chunk, Error> {
        let (at, patience) = match self.at {
            Some(at) if at.next == from => (at, Duration::ZERO),
            _ => {
                self.begin(from, UnixMillis(i64::MIN))?;
                (At { next: from, log_time: UnixMillis(i64::MIN), is_end: false }, self.timeout)
            }
        };
        let chunk = self.take(at, bytes_max, patience)?;
        let at = self.at;
        match at {
            Some(at) if chunk.is_empty() && at.is_end && self.is_stuck(at.next) => self.pass_gap(at, bytes_max),
            _ => Ok(chunk),
        }
    }

    fn grown(&self) -> Receiver<()> {
        self.grown.clone()
    }
}

impl KafkaReader {
    /// Whether Kafka has said for a while that there is nothing more, while the partition ends further on.
    fn is_stuck(&mut self, next: Position) -> bool {
        if next >= self.known.end() {
            self.stuck = None;
            return false;
        }
        match self.stuck {
            Some((at, since)) if at == next => since.elapsed() >= GAP_PATIENCE,
            _ => {
                self.stuck = Some((next, Instant::now()));
                false
            }
        }
    }

    /// What lies between here and the end is nobody's: marks of transactions, or what was aborted with them.
    ///
    /// That is not to be said lightly: what is passed counts nowhere. A broker that has just begun to lead a partition may give out
    /// less than is durable for a moment, as if there were no more. But it says where the partition ends only when it knows (KIP-207): so it
    /// is asked for the end first, and then for records from here, and all of that once more, as it may have begun to lead in between.
    /// A transaction that is open is not passed: what comes behind its first record is not below the end that readers of what is
    /// committed are told.
    fn pass_gap(&mut self, at: At, bytes_max: usize) -> Result<Chunk, Error> {
        let mut end = at.next;
        for _ in 0..GAP_LOOKS {
            end = self.watermarks()?.end;
            self.assign(At { is_end: false, ..at })?;
            let chunk = self.take(At { is_end: false, ..at }, bytes_max, self.timeout)?;
            if !chunk.is_empty() || end <= at.next {
                return Ok(chunk);
            }
        }
        self.at = Some(At { next: end, is_end: false, ..at });
        Ok(Chunk { log_time_before: at.log_time, goes_on: Some(end), ..Chunk::default() })
    }
}

impl Chunk {
    /// Takes the last record back, of which nothing was written.
    fn pop(&mut self) {
        if let Some(last) = self.blocks.last_mut() {
            last.count -= 1;
            if last.count == 0 {
                self.blocks.pop();
            }
        }
    }
}

/// The value of a header. rdkafka 0.39 panics where a name is not UTF-8, and anybody may write to a topic.
fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<Vec<u8>> {
    let found = catch_unwind(AssertUnwindSafe(|| {
        let headers = message.headers()?;
        let mut all = (0..headers.count().min(HEADERS_MAX)).filter_map(|at| headers.try_get(at));
        all.find(|header| header.key == name)?.value.map(<[u8]>::to_vec)
    }));
    found.unwrap_or_default()
}

/// Whether it does not go on by itself.
fn is_final(error: &KafkaError) -> bool {
    match error {
        KafkaError::MessageConsumptionFatal(_) => true,
        KafkaError::MessageConsumption(code) => matches!(
            code,
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::MessageSizeTooLarge
        ),
        _ => false,
    }
}

/// Asks where a partition begins and ends.
pub(super) fn watermarks(consumer: &BaseConsumer<Listener>, topic: &str, partition: u32, timeout: Duration) -> Result<Watermarks, Error> {
    let found = consumer.fetch_watermarks(topic, partition as i32, timeout);
    let (start, end) = found.map_err(|error| failed(topic, partition, &error))?;
    Ok(Watermarks::of(start, end))
}

fn failed(topic: &str, partition: u32, error: &KafkaError) -> Error {
    Error::Io { file: format!("topic {topic}, partition {partition}"), error: error.to_string() }
}

pub(super) fn consumer_config(settings: &Settings) -> ClientConfig {
    let mut config = settings.client();
    config
        // librdkafka assigns nothing without a group; nobody joins it, and no position is kept there.
        .set("group.id", "tollgate-readers")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .set("queued.min.messages", FETCHED_MESSAGES.to_string())
        .set("queued.max.messages.kbytes", FETCHED_KBYTES_MAX.to_string())
        .set("fetch.queue.backoff.ms", FETCH_REST_MS.to_string())
        .set("fetch.error.backoff.ms", "100");
    config
}
