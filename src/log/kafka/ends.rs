//! Where all partitions of a topic end now, in one question to each broker.
//!
//! The end is the high watermark: everything that was acked before the question stands before it. That is not always as far as a reader
//! gets, which stops before a transaction that is still open; whoever waits for a fold to pass an end goes by this one all the same, and finds
//! that the fold has not.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Settings;
use super::client::Listener;
use super::reader::consumer_config;
use crate::log::{Error, Position};

/// Between two attempts: a partition that has just moved to another broker is found again.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks where the partitions of a topic end; may be asked from several threads.
pub struct Ends {
    asking: BaseConsumer<Listener>,
    topic: String,
    partitions: u32,
    timeout: Duration,
}

impl Ends {
    /// Of the first `partitions` partitions of a topic. Kafka need not be there yet.
    ///
    /// # Errors
    /// Settings that librdkafka does not take.
    pub fn new(settings: &Settings, topic: &str, partitions: u32) -> Result<Self, Error> {
        let mut config = consumer_config(settings);
        // The high watermark, whatever transactions are open. And nobody would take its figures.
        config.set("isolation.level", "read_uncommitted").set("statistics.interval.ms", "0");
        let asking: Result<BaseConsumer<Listener>, _> = config.create_with_context(Listener::new("ends"));
        let asking = asking.map_err(|error| failed(topic, &error))?;
        Ok(Self { asking, topic: topic.to_owned(), partitions, timeout: settings.timeout })
    }

    /// Number of partitions that are asked for.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// One past the newest record of each partition, in their order, as of some moment during this call. Blocks; not longer than the
    /// settings allow.
    ///
    /// # Errors
    /// [`Error::Io`]: no answer in time.
    pub fn newest(&self) -> Result<Vec<Position>, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            // Takes the log lines that came meanwhile; nothing is assigned, so there are no messages.
            while self.asking.poll(Duration::ZERO).is_some() {}
            match self.ask(deadline.saturating_duration_since(Instant::now())) {
                Err(_) if Instant::now() + PAUSE < deadline => thread::sleep(PAUSE),
                answered => return answered.map_err(|error| failed(&self.topic, &error)),
            }
        }
    }

    fn ask(&self, timeout: Duration) -> Result<Vec<Position>, KafkaError> {
        let mut asked = TopicPartitionList::with_capacity(self.partitions as usize);
        for partition in 0..self.partitions {
            // In place of a time.
            asked.add_partition_offset(&self.topic, partition as i32, Offset::End)?;
        }
        let answered = self.asking.offsets_for_times(asked, timeout)?;
        // An end that was not told must not pass for one.
        let mut ends = vec![None; self.partitions as usize];
        for found in answered.elements() {
            found.error()?;
            let end = usize::try_from(found.partition()).ok().and_then(|partition| ends.get_mut(partition));
            if let (Some(end), Offset::Offset(offset)) = (end, found.offset()) {
                *end = u64::try_from(offset).ok().map(Position);
            }
        }
        let ends: Option<Vec<Position>> = ends.into_iter().collect();
        ends.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset))
    }
}

fn failed(topic: &str, error: &KafkaError) -> Error {
    Error::Io { file: format!("topic {topic}"), error: error.to_string() }
}
