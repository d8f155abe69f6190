//! One partition of a topic, as the stages behind the log see it.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, never};
use rdkafka::consumer::BaseConsumer;

use super::Settings;
use super::client::Listener;
use super::look_ups::{LookUp, LookUps};
use super::reader::{KafkaReader, Known, consumer_config, watermarks};
use super::topics::Found;
use super::wire::Form;
use crate::log::{Chunk, Error, LogReader, Partition, Position};

/// One partition. What is known of its end is shared with its readers.
pub struct KafkaPartition {
    settings: Settings,
    topic: String,
    form: Form,
    number: u32,
    known: Arc<Known>,
    /// Asks for ends; one for all partitions of a topic.
    asking: Arc<BaseConsumer<Listener>>,
    /// For all partitions of a topic, too.
    look_ups: Arc<LookUps>,
}

/// The partitions of a topic that was found.
///
/// # Errors
/// Settings that librdkafka does not take.
pub fn partitions(settings: &Settings, found: &Found, form: Form) -> Result<Vec<Arc<KafkaPartition>>, Error> {
    let mut config = consumer_config(settings);
    // Nobody would take its figures.
    config.set("statistics.interval.ms", "0");
    let asking: Result<BaseConsumer<Listener>, _> = config.create_with_context(Listener::new("reader"));
    let asking = Arc::new(asking.map_err(|error| Error::Io { file: format!("topic {}", found.name), error: error.to_string() })?);
    let look_ups = Arc::<LookUps>::default();
    let partition = |(number, watermarks)| {
        let known = Arc::<Known>::default();
        known.note(watermarks);
        let (settings, topic, asking, look_ups) = (settings.clone(), found.name.clone(), asking.clone(), look_ups.clone());
        Arc::new(KafkaPartition { settings, topic, form, number, known, asking, look_ups })
    };
    Ok((0..).zip(found.watermarks.iter().copied()).map(partition).collect())
}

impl KafkaPartition {
    /// The oldest record that there is now. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`]: no answer.
    pub fn newest_start(&self) -> Result<Position, Error> {
        self.newest_end()?;
        Ok(self.start())
    }
}

impl Partition for KafkaPartition {
    fn number(&self) -> u32 {
        self.number
    }

    fn start(&self) -> Position {
        self.known.start()
    }

    fn end(&self) -> Position {
        self.known.end()
    }

    fn newest_end(&self) -> Result<Position, Error> {
        // Takes the log lines that came meanwhile; nothing is assigned, so there are no messages.
        while self.asking.poll(Duration::ZERO).is_some() {}
        let found = watermarks(&self.asking, &self.topic, self.number, self.settings.timeout)?;
        self.known.note(found);
        Ok(found.end)
    }

    /// Where segments of a topic begin is the brokers' to know.
    fn part_of(&self, position: Position) -> Position {
        position
    }

    fn reader(self: Arc<Self>) -> Box<dyn LogReader> {
        match KafkaReader::knowing(&self.settings, &self.topic, self.form, self.number, self.known.clone()) {
            Ok(reader) => Box::new(reader),
            Err(error) => Box::new(NoReader(error)),
        }
    }

    fn look_ups(self: Arc<Self>) -> Box<dyn LogReader> {
        let make = || KafkaReader::for_look_ups(&self.settings, &self.topic, self.form, self.number, self.known.clone());
        let found = self.look_ups.take().map_or_else(make, |mut rested| {
            rested.turn_to(self.number, self.known.clone());
            Ok(rested)
        });
        match found {
            Ok(reader) => Box::new(LookUp { reader: Some(reader), has_failed: false, home: self.look_ups.clone() }),
            Err(error) => Box::new(NoReader(error)),
        }
    }
}

/// Says why there is no reader: the settings were taken before, so it is for want of threads or memory.
struct NoReader(Error);

impl LogReader for NoReader {
    fn read(&mut self, _: Position, _: usize) -> Result<Chunk, Error> {
        Err(self.0.clone())
    }

    fn grown(&self) -> Receiver<()> {
        never()
    }
}
