//! Makes the topics that are missing, and refuses those that cannot hold the promises (`design.md`, promises 1, 2 and 5).
//!
//! [`open`] asks Kafka what is there; [`check`] judges, without asking anybody. librdkafka does not tell a topic's id through rdkafka
//! 0.39, so another topic under the same name is known by other signs: another cluster, other partitions, an end before a position that was
//! stored, or another record at the last one ([`Mark`]).

mod check;

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::Listener;
use super::reader::Watermarks;
use super::{Settings, wire};
use crate::log::{LogReader, Position, read_some};
use crate::park;

pub use check::{TopicError, check, check_replication, check_settings};

/// How far ahead of the broker's clock a receive time may be: a wrong clock must not expire everything.
pub const TIMESTAMP_AFTER_MS_MAX: i64 = 3_600_000;
/// Largest batch that a topic must take: librdkafka's own limit, with its frame.
pub const MESSAGE_BYTES_MAX: i64 = 1_048_588;

/// A topic as it is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: u32,
    /// Brokers that hold each record. 1: an ack is no better than one machine's page cache.
    pub replication: u32,
    /// How long records stay, in ms; `None`: for good.
    pub retention_ms: Option<i64>,
    /// What it holds.
    pub form: wire::Form,
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Id of the cluster.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Brokers that hold each record: of the partition that has fewest.
    pub replication: u32,
    /// Begin and end of each partition.
    pub watermarks: Vec<Watermarks>,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election: bool,
    /// `cleanup.policy`.
    pub cleanup_policy: String,
    /// `retention.ms`; `None`: for good.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; `None`: no limit.
    pub retention_bytes: Option<i64>,
    /// `message.timestamp.type`.
    pub timestamp_type: String,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_ms_max: i64,
    /// `max.message.bytes`.
    pub message_bytes_max: i64,
}

/// By what a record is known again: its receive time and a checksum of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Where it is.
    pub position: Position,
    /// CRC-32C of receive time and record.
    pub crc32c: u32,
}

/// Finds a topic, or makes it. Blocks; not longer than the settings allow for each question.
///
/// # Errors
/// [`TopicError::Kafka`]: no answer, or no leave to ask. Whether the topic can hold the promises is not looked at.
pub fn open(settings: &Settings, wanted: &Wanted) -> Result<Found, TopicError> {
    let kafka = |what: &str| {
        let (name, what) = (wanted.name.clone(), what.to_owned());
        move |error: KafkaError| TopicError::Kafka { topic: name.clone(), what: what.clone(), error: error.to_string() }
    };
    let config = settings.client();
    let admin: AdminClient<Listener> = config.create_with_context(Listener::new("admin")).map_err(kafka("the settings are not taken"))?;
    let options = AdminOptions::new().request_timeout(Some(settings.timeout)).operation_timeout(Some(settings.timeout));
    let everything =
        admin.inner().fetch_metadata(None, settings.timeout).map_err(kafka(&format!("no answer from {}", settings.brokers)))?;
    if !everything.topics().iter().any(|topic| topic.name() == wanted.name) {
        create(&admin, &options, wanted)?;
    }
    // A topic that was just made takes a moment to be known to every broker.
    let deadline = Instant::now() + settings.timeout;
    loop {
        match describe(&admin, &options, settings.timeout, wanted) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            described => return described,
        }
    }
}

fn describe(admin: &AdminClient<Listener>, options: &AdminOptions, timeout: Duration, wanted: &Wanted) -> Result<Found, TopicError> {
    let failed = |what: &str, error: String| Err(TopicError::Kafka { topic: wanted.name.clone(), what: what.to_owned(), error });
    let Some(cluster) = admin.inner().fetch_cluster_id(timeout) else {
        return failed("the id of its cluster cannot be read", "no answer".into());
    };
    let resource = park::until(admin.describe_configs([&ResourceSpecifier::Topic(&wanted.name)], options));
    let config = match resource.map(|mut resources| resources.pop()) {
        Ok(Some(Ok(config))) if !config.entries.is_empty() => config,
        Ok(Some(Err(code))) => return failed("its settings cannot be read", code.to_string()),
        Ok(_) => return failed("its settings cannot be read", "there are none".into()),
        Err(error) => return failed("its settings cannot be read", error.to_string()),
    };
    let metadata = match admin.inner().fetch_metadata(Some(&wanted.name), timeout) {
        Ok(metadata) => metadata,
        Err(error) => return failed("its partitions cannot be read", error.to_string()),
    };
    let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
    if partitions.is_empty() {
        return failed("its partitions cannot be read", "there are none".into());
    }
    let mut watermarks = Vec::new();
    for partition in 0..partitions.len() as i32 {
        match admin.inner().fetch_watermarks(&wanted.name, partition, timeout) {
            Ok((start, end)) => watermarks.push(Watermarks::of(start, end)),
            Err(error) => return failed(&format!("begin and end of partition {partition} cannot be read"), error.to_string()),
        }
    }
    let replication = partitions.iter().map(|partition| partition.replicas().len() as u32).min().unwrap_or_default();
    Ok(found(cluster, wanted, replication, watermarks, &config))
}

fn create(admin: &AdminClient<Listener>, options: &AdminOptions, wanted: &Wanted) -> Result<(), TopicError> {
    let retention = wanted.retention_ms.unwrap_or(-1).to_string();
    let after = TIMESTAMP_AFTER_MS_MAX.to_string();
    let bytes = MESSAGE_BYTES_MAX.to_string();
    let min_insync = wanted.replication.saturating_sub(1).clamp(1, 2).to_string();
    let new = NewTopic::new(&wanted.name, wanted.partitions as i32, TopicReplication::Fixed(wanted.replication as i32))
        .set("cleanup.policy", "delete")
        .set("min.insync.replicas", &min_insync)
        .set("unclean.leader.election.enable", "false")
        .set("retention.ms", &retention)
        .set("retention.bytes", "-1")
        .set("message.timestamp.type", "CreateTime")
        .set("message.timestamp.after.max.ms", &after)
        .set("max.message.bytes", &bytes);
    let failed = |error: String| {
        let what = format!("it cannot be made with {} partitions and replication {}", wanted.partitions, wanted.replication);
        TopicError::Kafka { topic: wanted.name.clone(), what, error }
    };
    let created = park::until(admin.create_topics([&new], options)).map_err(|error| failed(error.to_string()))?;
    match created.into_iter().next() {
        // Another node was faster.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(failed(code.to_string())),
        None => Err(failed("no answer".into())),
    }
}

fn found(cluster: String, wanted: &Wanted, replication: u32, watermarks: Vec<Watermarks>, described: &ConfigResource) -> Found {
    let text = |name: &str| described.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let number = |name: &str| text(name).parse::<i64>().ok();
    Found {
        cluster,
        name: wanted.name.clone(),
        replication,
        watermarks,
        min_insync_replicas: number("min.insync.replicas").and_then(|value| u32::try_from(value).ok()).unwrap_or(1),
        unclean_leader_election: text("unclean.leader.election.enable") == "true",
        cleanup_policy: text("cleanup.policy"),
        retention_ms: number("retention.ms").filter(|value| *value >= 0),
        retention_bytes: number("retention.bytes").filter(|value| *value >= 0),
        timestamp_type: text("message.timestamp.type"),
        // Brokers before 3.6 do not have it, and take any.
        timestamp_after_ms_max: number("message.timestamp.after.max.ms").unwrap_or(i64::MAX),
        message_bytes_max: number("max.message.bytes").unwrap_or(i64::MAX),
    }
}

/// The mark of the record at a position before the end; `None`: there is none there.
///
/// # Errors
/// [`crate::log::Error`].
pub fn mark(reader: &mut dyn LogReader, position: Position) -> Result<Option<Mark>, crate::log::Error> {
    let chunk = read_some(reader, position, 1)?;
    let Some(block) = chunk.blocks().next().filter(|block| block.first == position) else { return Ok(None) };
    let time = crc32c::crc32c(&block.received.0.to_le_bytes());
    let crc32c = crate::log::record::parts(block.payload).next().map_or(time, |record| crc32c::crc32c_append(time, record));
    Ok(Some(Mark { position, crc32c }))
}
