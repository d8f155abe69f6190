//! Whether a topic can hold the promises. A pure judgement, and what to change.

use super::super::recorded::Recorded;
use super::{Found, MESSAGE_BYTES_MAX, Mark, TIMESTAMP_AFTER_MS_MAX};
use crate::log::Position;

/// Why a topic is not used. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Kafka gave no answer, or no leave.
    #[error("topic {topic}: {what}: {error}")]
    Kafka {
        /// The topic.
        topic: String,
        /// What was wanted.
        what: String,
        /// What librdkafka or the broker said.
        error: String,
    },
    /// Its settings cannot hold what is promised.
    #[error("topic {topic}: {setting} is {found}: {why}; {remedy}")]
    Setting {
        /// The topic.
        topic: String,
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What would go wrong.
        why: &'static str,
        /// What to change.
        remedy: String,
    },
    /// It is not the log that the rows were made from.
    #[error("topic {topic} is not the one that the rows were made from: {what}; {remedy}")]
    Other {
        /// The topic.
        topic: String,
        /// By what it is known.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Records that the rows need are gone.
    #[error(
        "topic {topic}, partition {partition} begins at {start}, but the rows need it from {stored} on: retention removed what was not folded yet; restore the topic, or make the rows anew from a base"
    )]
    Truncated {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Its first position.
        start: Position,
        /// What is needed next.
        stored: Position,
    },
}

/// What to do about a topic that is another one.
const OTHER: &str = "point kafka.brokers and kafka.events_topic to the right one, or start with a new database";

/// Holds a topic of events against what is recorded about it, and against what the rows have seen: the next position of each
/// partition, in their order, and marks of records that were folded, as found in the topic now.
///
/// # Errors
/// [`TopicError`]; what to change is in its message.
pub fn check(recorded: &Recorded, positions: &[Position], marks: &[(u32, Mark, Option<Mark>)], found: &Found) -> Result<(), TopicError> {
    check_settings(found)?;
    check_retention(recorded.dedup_horizon_ms, found)?;
    let other = |what: String| Err(TopicError::Other { topic: found.name.clone(), what, remedy: OTHER });
    if recorded.topic != found.name {
        return other(format!("they were made from topic {}", recorded.topic));
    }
    if recorded.cluster != found.cluster {
        return other(format!("it is in cluster {}, they were made from cluster {}", found.cluster, recorded.cluster));
    }
    if recorded.partitions as usize != found.watermarks.len() {
        return Err(TopicError::Setting {
            topic: found.name.clone(),
            setting: "the number of partitions",
            found: found.watermarks.len().to_string(),
            why: "an event has to meet its copies, so it can never change",
            remedy: format!("it was made with {}: restore the topic, or start with a new topic and a new database", recorded.partitions),
        });
    }
    for (partition, (watermarks, stored)) in (0..).zip(found.watermarks.iter().zip(positions)) {
        if watermarks.end < *stored {
            return other(format!("partition {partition} ends at {}, the rows stand at {stored}", watermarks.end));
        }
        if *stored < watermarks.start {
            return Err(TopicError::Truncated { topic: found.name.clone(), partition, start: watermarks.start, stored: *stored });
        }
    }
    for (partition, folded, now) in marks {
        if now.is_some_and(|now| now != *folded) {
            return other(format!("partition {partition} has another record at {} than the one that was folded", folded.position));
        }
    }
    Ok(())
}

/// Holds a topic against the replication that is set: fewer replicas than that are refused.
///
/// # Errors
/// [`TopicError::Setting`].
pub fn check_replication(replication: u32, found: &Found) -> Result<(), TopicError> {
    if found.replication < replication {
        return Err(TopicError::Setting {
            topic: found.name.clone(),
            setting: "the replication factor",
            found: found.replication.to_string(),
            why: "a record has to outlive a broker",
            remedy: format!(
                "raise it to {replication} (kafka-reassign-partitions), or set TOLLGATE_KAFKA_REPLICATION={}",
                found.replication
            ),
        });
    }
    Ok(())
}

/// Looks at the settings alone: for a topic of which nothing is recorded, and for dead letters.
///
/// # Errors
/// [`TopicError::Setting`].
pub fn check_settings(found: &Found) -> Result<(), TopicError> {
    let refuse = |setting: &'static str, value: String, why: &'static str, remedy: String| {
        Err(TopicError::Setting { topic: found.name.clone(), setting, found: value, why, remedy })
    };
    let set = |value: &str| format!("set it to {value} (kafka-configs --alter)");
    if found.replication > 1 && found.min_insync_replicas < 2 {
        let value = found.min_insync_replicas.to_string();
        return refuse("min.insync.replicas", value, "an ack would be one broker's word, and lost with it", set("2"));
    }
    if found.min_insync_replicas > found.replication {
        let value = found.min_insync_replicas.to_string();
        let remedy = set(&found.replication.min(2).to_string());
        return refuse("min.insync.replicas", value, "there are not so many replicas, so nothing could ever be written", remedy);
    }
    if found.unclean_leader_election {
        let why = "a broker that fell behind could become the leader, and what was acknowledged would be gone";
        return refuse("unclean.leader.election.enable", "true".into(), why, set("false"));
    }
    if found.cleanup_policy != "delete" {
        let why = "compaction removes records that have the same key, and they are events";
        return refuse("cleanup.policy", found.cleanup_policy.clone(), why, set("delete"));
    }
    if let Some(bytes) = found.retention_bytes {
        let why = "a busy day would remove events that are not counted yet";
        return refuse("retention.bytes", bytes.to_string(), why, set("-1, and limit retention.ms"));
    }
    if found.timestamp_type != "CreateTime" {
        let why = "the time of receipt is part of the record";
        return refuse("message.timestamp.type", found.timestamp_type.clone(), why, set("CreateTime"));
    }
    if found.timestamp_after_ms_max > TIMESTAMP_AFTER_MS_MAX {
        let why = "a gateway whose clock is wrong could make everything expire";
        return refuse(
            "message.timestamp.after.max.ms",
            found.timestamp_after_ms_max.to_string(),
            why,
            set(&TIMESTAMP_AFTER_MS_MAX.to_string()),
        );
    }
    if found.message_bytes_max < MESSAGE_BYTES_MAX {
        let why = "batches of large events would be refused";
        return refuse("max.message.bytes", found.message_bytes_max.to_string(), why, set(&format!("{MESSAGE_BYTES_MAX} or more")));
    }
    Ok(())
}

fn check_retention(dedup_horizon_ms: Option<i64>, found: &Found) -> Result<(), TopicError> {
    let Some(retention) = found.retention_ms else { return Ok(()) };
    if dedup_horizon_ms.is_some_and(|horizon| horizon <= retention) {
        return Ok(());
    }
    let horizon = dedup_horizon_ms.map_or("unlimited".to_owned(), |horizon| format!("{horizon} ms"));
    Err(TopicError::Setting {
        topic: found.name.clone(),
        setting: "retention.ms",
        found: retention.to_string(),
        why: "it is shorter than log.dedup_horizon, so that the index could not be made again from the topic",
        remedy: format!("the horizon is {horizon}: set retention.ms to more, or to -1"),
    })
}

#[cfg(test)]
mod tests;
