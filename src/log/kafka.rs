//! The log on Apache Kafka: a topic that any number of gateways append to, and that any number of readers read.
//!
//! [`KafkaAppender`] writes, a [`KafkaReader`] reads one partition, [`Ends`] tells where all of them end, [`KafkaPartition`] is that for the stages behind, [`topics`] makes topics and refuses those that cannot hold the
//! promises, [`wire`] is what a record looks like there. Everything goes through librdkafka; what it says and counts goes to
//! log lines and metrics.
//!
//! Deliberately not here: who owns a partition, and where a fold stands: positions are the store's.

mod appender;
mod client;
mod ends;
mod in_flight;
mod look_ups;
mod partition;
mod reader;
pub mod recorded;
pub mod topics;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

pub use appender::KafkaAppender;
pub(crate) use client::Listener;
pub use ends::Ends;
pub use partition::{KafkaPartition, partitions};
pub use reader::{KafkaReader, Watermarks};

/// What an operator may turn.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `host:port`, separated by commas: where to begin.
    pub brokers: String,
    /// How long records gather before they are sent, in ms.
    pub linger_ms: u32,
    /// Most bytes of a batch that is sent to a partition.
    pub batch_bytes: u32,
    /// `lz4`, `none`, `gzip`, `snappy`; `zstd` where it is built in.
    pub compression: String,
    /// How long an append may take: then it is refused if it was not handed to Kafka, else its outcome is unknown.
    pub patience: Duration,
    /// Bytes of records that may be on their way.
    pub in_flight_bytes_max: usize,
    /// How long to wait for an answer to anything but an append.
    pub timeout: Duration,
    /// Further properties of librdkafka, as they are: see [`refused_property`].
    pub properties: Properties,
}

/// Properties of librdkafka by name. Printed without their values, of which some are secret.
#[derive(Clone, Default)]
pub struct Properties(pub BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            linger_ms: 2,
            batch_bytes: 256 << 10,
            compression: "lz4".into(),
            patience: Duration::from_secs(10),
            in_flight_bytes_max: 64 << 20,
            timeout: Duration::from_secs(10),
            properties: Properties::default(),
        }
    }
}

/// Properties that have a setting of their own.
const OWN_SETTINGS: [(&str, &str); 6] = [
    ("bootstrap.servers", "kafka.brokers"),
    ("metadata.broker.list", "kafka.brokers"),
    ("linger.ms", "kafka.linger"),
    ("batch.size", "kafka.batch_bytes"),
    ("compression.type", "kafka.compression"),
    ("compression.codec", "kafka.compression"),
];
/// Properties on which a promise rests: what is acked is durable, in one place, and everything is bounded.
const PROMISED: [&str; 32] = [
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "transactional.id",
    "retries",
    "message.send.max.retries",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "request.timeout.ms",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.ms",
    "message.max.bytes",
    "batch.num.messages",
    "delivery.report.only.error",
    "partitioner",
    "isolation.level",
    "auto.offset.reset",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "check.crcs",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "allow.auto.create.topics",
    "statistics.interval.ms",
    "log.queue",
];

/// Why a property of librdkafka may not be set by hand; `None`: it may.
pub fn refused_property(name: &str) -> Option<String> {
    if let Some((_, setting)) = OWN_SETTINGS.iter().find(|(property, _)| *property == name) {
        return Some(format!("kafka.properties: `{name}` is set by {setting}"));
    }
    if PROMISED.contains(&name) || name.starts_with("test.") {
        return Some(format!("kafka.properties: `{name}` cannot be set: what Tollgate promises rests on it"));
    }
    None
}

impl Settings {
    /// What all clients have in common.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "tollgate")
            .set("socket.timeout.ms", self.timeout.as_millis().to_string())
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "100")
            // A broker that is back is found within a second.
            .set("reconnect.backoff.max.ms", "1000")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.properties.0 {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers).set("statistics.interval.ms", "5000");
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_on_which_a_promise_rests_are_refused_by_name() {
        for name in ["acks", "enable.idempotence", "test.mock.num.brokers"] {
            assert!(refused_property(name).expect("refused").contains(name));
        }
        assert!(refused_property("linger.ms").expect("refused").contains("kafka.linger"));
        for name in ["security.protocol", "sasl.password", "ssl.ca.location", "debug"] {
            assert_eq!(refused_property(name), None);
        }
    }

    /// The list is of names that there are: one that librdkafka does not know protects nothing.
    #[test]
    fn every_refused_property_is_one_of_librdkafkas() {
        for name in PROMISED.iter().chain(OWN_SETTINGS.iter().map(|(name, _)| name)) {
            let mut config = ClientConfig::new();
            config.set(*name, "-");
            let error = config.create_native_config().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!error.contains("No such configuration property"), "{name}: {error}");
        }
    }
}
