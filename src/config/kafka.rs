//! Settings of the log on Kafka: the section `[kafka]`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{Config, ConfigError, duration_required, millis};
use crate::log::kafka::topics::Wanted;
use crate::log::kafka::wire::Form;
use crate::log::kafka::{self, Properties, refused_property};

/// Partitions that a topic can have here: each is a thread and a dedup index of its owner.
const PARTITIONS_MAX: u32 = 1_024;

/// Where the log is, if it is not in the data directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas. Given, the log is there.
    pub brokers: Option<String>,
    /// The topic of events; made when it is missing.
    pub events_topic: String,
    /// The topic of dead letters; made when it is missing, with one partition.
    pub dead_letters_topic: String,
    /// Partitions of the topic of events. Fixed when it is made.
    pub partitions: u32,
    /// Brokers that hold each record. With 1, an ack is no better than one machine's page cache.
    pub replication: u32,
    /// How long events gather before they are sent.
    #[serde(deserialize_with = "duration_required")]
    pub linger: Duration,
    /// Bytes of a batch that is sent to a partition.
    pub batch_bytes: u32,
    /// How batches are compressed.
    pub compression: Compression,
    /// How long an append may take: then it is refused if Kafka was not given it, else its outcome is unknown.
    #[serde(deserialize_with = "duration_required")]
    pub append_wait: Duration,
    /// Bytes of events that may be on their way to Kafka.
    pub in_flight_bytes_max: usize,
    /// Further properties of librdkafka: TLS, SASL and the like. Those on which a promise rests are refused.
    #[serde(deserialize_with = "properties")]
    pub properties: Properties,
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard; only in a binary with the feature `kafka-tls`.
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        let kafka::Settings { linger_ms, batch_bytes, patience, in_flight_bytes_max, .. } = kafka::Settings::default();
        Self {
            brokers: None,
            events_topic: "tollgate.events".into(),
            dead_letters_topic: "tollgate.dead-letters".into(),
            partitions: 16,
            replication: 3,
            linger: Duration::from_millis(linger_ms.into()),
            batch_bytes,
            compression: Compression::Lz4,
            append_wait: patience,
            in_flight_bytes_max,
            properties: Properties::default(),
        }
    }
}

impl KafkaConfig {
    /// Checks what no single value shows.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what: String| Err(ConfigError::Check(what));
        if let Some(refusal) = self.properties.0.keys().find_map(|name| refused_property(name)) {
            return wrong(refusal);
        }
        if self.brokers.as_ref().is_some_and(|brokers| brokers.trim().is_empty()) {
            return wrong("kafka.brokers is empty: name one host:port or more, or leave it out".into());
        }
        if !(1..=PARTITIONS_MAX).contains(&self.partitions) {
            return wrong(format!("kafka.partitions must be 1 to {PARTITIONS_MAX}"));
        }
        if !(1..=i16::MAX as u32).contains(&self.replication) {
            return wrong("kafka.replication must be 1 or more".into());
        }
        if self.events_topic == self.dead_letters_topic {
            return wrong("kafka.events_topic and kafka.dead_letters_topic must not be the same".into());
        }
        if self.linger > Duration::from_secs(1) {
            return wrong("kafka.linger must not exceed 1s".into());
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(20)).contains(&self.append_wait) {
            return wrong("kafka.append_wait must be 100ms to 20s: clients do not wait longer".into());
        }
        if !(1 << 10..=1 << 20).contains(&self.batch_bytes) {
            return wrong("kafka.batch_bytes must be 1 KiB to 1 MiB".into());
        }
        if !(1 << 20..=1 << 29).contains(&self.in_flight_bytes_max) {
            return wrong("kafka.in_flight_bytes_max must be 1 MiB to 512 MiB".into());
        }
        Ok(())
    }
}

impl Config {
    /// How to reach Kafka; `None`: the log is in the data directory.
    pub fn kafka(&self) -> Option<kafka::Settings> {
        let kafka = &self.kafka;
        let brokers = kafka.brokers.clone()?;
        Some(kafka::Settings {
            brokers,
            linger_ms: millis(kafka.linger) as u32,
            batch_bytes: kafka.batch_bytes,
            compression: kafka.compression.name().into(),
            patience: kafka.append_wait,
            in_flight_bytes_max: kafka.in_flight_bytes_max,
            properties: kafka.properties.clone(),
            ..kafka::Settings::default()
        })
    }

    /// The topic of events as it is to be.
    pub fn events_topic(&self) -> Wanted {
        Wanted {
            name: self.kafka.events_topic.clone(),
            partitions: self.kafka.partitions,
            replication: self.kafka.replication,
            retention_ms: self.log.retention_age.map(millis),
            form: Form::Events,
        }
    }

    /// The topic of dead letters as it is to be.
    pub fn dead_letters_topic(&self) -> Wanted {
        Wanted {
            name: self.kafka.dead_letters_topic.clone(),
            partitions: 1,
            retention_ms: self.log.dead_letter_age.map(millis),
            form: Form::DeadLetters,
            ..self.events_topic()
        }
    }
}

/// Texts, numbers and truth values, as TOML has them.
fn properties<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Properties, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Text(String),
        Number(i64),
        Truth(bool),
    }
    let table = BTreeMap::<String, Value>::deserialize(deserializer)?;
    let text = |value| match value {
        Value::Text(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Truth(truth) => truth.to_string(),
    };
    Ok(Properties(table.into_iter().map(|(name, value)| (name, text(value))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.kafka.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn the_log_is_on_kafka_exactly_if_brokers_are_named() {
        assert!(parse("").expect("good").kafka().is_none());
        let config = parse("[kafka]\nbrokers = 'a:9092,b:9092'\nlinger = '7ms'\ncompression = 'none'").expect("good");
        let kafka = config.kafka().expect("named");
        assert_eq!((kafka.brokers.as_str(), kafka.linger_ms, kafka.compression.as_str()), ("a:9092,b:9092", 7, "none"));
        let topics = [config.events_topic(), config.dead_letters_topic()];
        assert_eq!(topics.map(|topic| (topic.partitions, topic.replication)), [(16, 3), (1, 3)]);
    }

    #[test]
    fn properties_pass_through_but_those_that_would_break_a_promise() {
        let config =
            parse("[kafka]\nbrokers = 'a'\n[kafka.properties]\n'security.protocol' = 'ssl'\n'socket.nagle.disable' = true").expect("good");
        let properties = config.kafka().expect("named").properties;
        assert_eq!(properties.0.get("socket.nagle.disable").map(String::as_str), Some("true"));
        let refusal = parse("[kafka.properties]\nacks = 1").expect_err("refused");
        assert!(refusal.contains("`acks` cannot be set"), "{refusal}");
        let refusal = parse("[kafka.properties]\n'linger.ms' = 1").expect_err("refused");
        assert!(refusal.contains("kafka.linger"), "{refusal}");
    }

    #[test]
    fn secrets_among_the_properties_are_not_printed() {
        let config = parse("[kafka.properties]\n'sasl.password' = 'hunter2'").expect("good");
        let printed = format!("{config:?}");
        assert!(printed.contains("sasl.password") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let wrong = [
            "partitions = 0",
            "replication = 0",
            "brokers = ' '",
            "linger = '2s'",
            "append_wait = '1m'",
            "batch_bytes = 1",
            "in_flight_bytes_max = 1",
        ];
        for setting in wrong {
            let name = setting.split(' ').next().expect("a name");
            let refusal = parse(&format!("[kafka]\n{setting}")).expect_err(setting);
            assert!(refusal.contains(&format!("kafka.{name}")), "{refusal}");
        }
        assert!(parse("[kafka]\nevents_topic = 'a'\ndead_letters_topic = 'a'").is_err());
    }
}
