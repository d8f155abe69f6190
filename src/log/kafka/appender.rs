//! Appends to a topic.
//!
//! One thread does all of it: it makes messages of records, hands them to librdkafka, takes delivery reports, answers, and watches over times. What
//! librdkafka allocates for a message it frees with its report, which costs least in the thread that it came from.
//!
//! An error that ends a producer (librdkafka calls it fatal: it and the broker disagree about what was written) ends no process: a new
//! producer takes its place. What was under way is unknown then, as after any failure; that the new one cannot tell what the old one wrote is
//! no matter, since the fold counts each event once.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};

use super::Settings;
use super::client::{Listener, ProducerListener};
use super::in_flight::{InFlight, RECORD_BYTES, Waiting};
use super::wire::{Form, Outgoing, encode};
use crate::log::{Answer, Answers, Append, Appender, Error, record};

/// How often reports are taken while records are under way: many of them at a time, but soon.
const REPORTS: Duration = Duration::from_millis(1);
/// How often is looked whether there is anything else.
const IDLE: Duration = Duration::from_millis(100);
/// How long to wait before another new producer is tried, and for the reports of one that is given up.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// librdkafka's own limit of messages: above what the limit in bytes lets through.
const QUEUED_MESSAGES_MAX: u32 = 10_000_000;

/// The one writer of this process to a topic.
pub struct KafkaAppender {
    topic: String,
    form: Form,
    partitions: u32,
    patience: Duration,
    maker: Maker,
    in_flight: Arc<InFlight>,
    producer: BaseProducer<ProducerListener>,
    message: Outgoing,
    /// When reports were taken last.
    reported: Instant,
    /// When it is next looked whether there is anything else.
    look_at: Instant,
}

impl KafkaAppender {
    /// Begins to write to a topic with so many partitions. Kafka need not be there yet.
    ///
    /// # Errors
    /// Settings that librdkafka does not take.
    pub fn start(settings: &Settings, topic: &str, form: Form, partitions: u32) -> Result<Self, Error> {
        let name = form.label();
        let in_flight = Arc::new(InFlight::new(name, settings.in_flight_bytes_max));
        let maker = Maker { config: producer_config(settings), name, in_flight: in_flight.clone() };
        let producer = maker.make().map_err(|error| Error::Io { file: format!("topic {topic}"), error: error.to_string() })?;
        let (topic, patience, now) = (topic.to_owned(), settings.patience, Instant::now());
        let message = Outgoing::default();
        Ok(Self { topic, form, partitions, patience, maker, in_flight, producer, message, reported: now, look_at: now })
    }

    fn hand_over(&mut self, append: Append, answers: &Answers) {
        let Append { block, done, since } = append;
        let (records, deadline) = (block.count(), since + self.patience);
        let bytes = block.len() + records as usize * RECORD_BYTES;
        if records == 0 || !self.admit(bytes, deadline) {
            let error = Error::Unavailable("Kafka does not take records now".into());
            answers.give(vec![Answer { to: done, records, fingerprints: Vec::new(), result: Err(error) }]);
            return;
        }
        let waiting = Waiting { done, fingerprints: block.fingerprints, answers: answers.clone() };
        let slot = self.in_flight.begin(records, bytes, since, deadline, waiting);
        let payload = &block.bytes[crate::log::BLOCK_HEADER_BYTES..];
        let mut sent = 0;
        let mut result = Ok(());
        // One that fails meanwhile refuses the rest.
        for part in record::parts(payload).take(records as usize) {
            result = encode(self.form, part, block.received, self.partitions, &mut self.message)
                .map_err(|error| error.to_string())
                .and_then(|()| self.send(slot.ticket(sent), block.received.0, deadline).map_err(|error| error.to_string()));
            if result.is_err() {
                break;
            }
            sent += 1;
        }
        if sent < records {
            let why = result.err().unwrap_or_else(|| "a block has fewer records than it says".into());
            let error = if sent == 0 { Error::Unavailable(why) } else { Error::Unconfirmed(why) };
            self.in_flight.give_up(slot, records - sent, error);
        }
    }

    /// Waits until a request of this size may be handed over; `false` if that was not so before its deadline.
    fn admit(&mut self, bytes: usize, deadline: Instant) -> bool {
        while !self.in_flight.admit(bytes) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            sleep(self.see_to_all().min(REPORTS).min(left));
        }
        true
    }

    fn send(&self, ticket: usize, time_ms: i64, deadline: Instant) -> Result<(), KafkaError> {
        let Outgoing { key, value, header, partition } = &self.message;
        let headers = OwnedHeaders::new_with_capacity(1);
        let mut message = BaseRecord {
            topic: &self.topic,
            partition: Some(*partition as i32),
            payload: Some(value.as_slice()),
            key: (!key.is_empty()).then_some(key.as_slice()),
            timestamp: Some(time_ms),
            headers: Some(headers.insert(Header { key: self.form.header(), value: Some(header.as_slice()) })),
            delivery_opaque: ticket,
        };
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < deadline => {
                    message = back;
                    sleep(REPORTS);
                    // Room comes with the reports of others.
                    self.take_reports();
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Takes the reports that are due, answers, and looks whether anything has ended; gives back when to do it again.
    fn see_to_all(&mut self) -> Duration {
        let now = Instant::now();
        let early = REPORTS.saturating_sub(now.saturating_duration_since(self.reported));
        if !early.is_zero() {
            return early;
        }
        self.take_reports();
        self.reported = now;
        if now >= self.look_at {
            self.look_at = now + IDLE;
            self.in_flight.expire(now);
            self.renew_if_fatal();
        }
        if self.in_flight.requests() == 0 { IDLE } else { REPORTS }
    }

    /// Takes what there is, an event of librdkafka at a time.
    fn take_reports(&self) {
        loop {
            let before = self.producer.context().listener.served();
            self.producer.poll(Duration::ZERO);
            if self.producer.context().listener.served() == before {
                break;
            }
        }
        self.in_flight.flush();
    }

    fn renew_if_fatal(&mut self) {
        let Some((code, reason)) = self.producer.client().fatal_error() else { return };
        let log = self.maker.name;
        tracing::error!(log, %code, reason, "the Kafka producer failed for good, another one takes its place");
        self.in_flight.set_shut(true);
        self.purge();
        match self.maker.make() {
            Ok(made) => {
                self.producer = made;
                self.in_flight.set_shut(false);
            }
            Err(error) => {
                tracing::error!(log, %error, "no new Kafka producer, trying again");
                self.look_at = Instant::now() + RENEWAL_PAUSE;
            }
        }
    }

    /// Gives up what is under way, so that everyone is answered.
    fn purge(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.take_reports_until(Instant::now() + RENEWAL_PAUSE);
    }

    /// Takes reports until nothing is under way, or until then.
    fn take_reports_until(&self, deadline: Instant) {
        self.take_reports();
        while self.in_flight.requests() > 0 && Instant::now() < deadline {
            sleep(REPORTS);
            self.take_reports();
        }
    }
}

impl Appender for KafkaAppender {
    fn append(&mut self, group: &mut Vec<Append>, answers: &Answers) {
        for append in group.drain(..) {
            self.hand_over(append, answers);
        }
    }

    fn tend(&mut self) -> Option<Duration> {
        Some(self.see_to_all())
    }

    fn close(&mut self) -> Result<(), Error> {
        self.take_reports_until(Instant::now() + self.patience);
        self.purge();
        Ok(())
    }
}

impl Drop for KafkaAppender {
    /// Whoever still waits is answered.
    fn drop(&mut self) {
        self.purge();
        self.in_flight.abandon();
    }
}

fn producer_config(settings: &Settings) -> ClientConfig {
    let mut config = settings.client();
    let millis = settings.patience.as_millis().max(1).to_string();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", settings.linger_ms.to_string())
        .set("batch.size", settings.batch_bytes.to_string())
        .set("compression.type", &settings.compression)
        .set("message.timeout.ms", &millis)
        .set("request.timeout.ms", &millis)
        // What may be under way is decided before a request is handed over, so that none is handed over in part.
        .set("queue.buffering.max.messages", QUEUED_MESSAGES_MAX.to_string())
        .set("queue.buffering.max.kbytes", (4 * settings.in_flight_bytes_max / 1_024).clamp(1 << 10, 1 << 21).to_string());
    config
}

/// Makes producers.
struct Maker {
    config: ClientConfig,
    name: &'static str,
    in_flight: Arc<InFlight>,
}

impl Maker {
    fn make(&self) -> Result<BaseProducer<ProducerListener>, KafkaError> {
        let listener = ProducerListener { listener: Listener::new(self.name), in_flight: self.in_flight.clone() };
        self.config.create_with_context(listener)
    }
}
