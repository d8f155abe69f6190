//! Appends to a topic.
//!
//! The appender's thread makes messages of records and hands them to librdkafka; a second thread takes delivery reports, answers,
//! and watches over times. An error that ends a producer (librdkafka calls it fatal: it and the broker disagree about what was
//! written) ends no process: a new producer takes its place. What was under way is unknown then, as after any failure; that the
//! new one cannot tell what the old one wrote is no matter, since the fold counts each event once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};

use super::Settings;
use super::client::{Listener, ProducerListener};
use super::in_flight::{InFlight, RECORD_BYTES, Request, Waiting};
use super::wire::{Form, Outgoing, encode};
use crate::log::{Answer, Answers, Append, Appender, Error, record};

/// How often reports are taken while records are under way: many of them at a time, but soon.
const REPORTS: Duration = Duration::from_millis(1);
/// How often is looked whether there is anything else.
const IDLE: Duration = Duration::from_millis(100);
/// How long to wait before another new producer is tried.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// librdkafka's own limit of messages: above what the limit in bytes lets through.
const QUEUED_MESSAGES_MAX: u32 = 10_000_000;

/// The one writer of this process to a topic.
pub struct KafkaAppender {
    topic: String,
    form: Form,
    partitions: u32,
    patience: Duration,
    in_flight: Arc<InFlight>,
    producer: Arc<ArcSwap<BaseProducer<ProducerListener>>>,
    message: Outgoing,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaAppender {
    /// Begins to write to a topic with so many partitions. Kafka need not be there yet.
    ///
    /// # Errors
    /// Settings that librdkafka does not take, or no thread.
    pub fn start(settings: &Settings, topic: &str, form: Form, partitions: u32) -> Result<Self, Error> {
        let name = form.label();
        let in_flight = Arc::new(InFlight::new(name, settings.in_flight_bytes_max));
        let maker = Maker { config: producer_config(settings), name, in_flight: in_flight.clone() };
        let made = maker.make().map_err(|error| failed(topic, &error))?;
        let producer = Arc::new(ArcSwap::from_pointee(made));
        let stopping = Arc::new(AtomicBool::new(false));
        let reports = Reports { maker, in_flight: in_flight.clone(), producer: producer.clone(), stopping: stopping.clone() };
        let thread = std::thread::Builder::new().name(format!("kafka-{name}")).spawn(move || reports.run());
        let thread = thread.map_err(|error| Error::Io { file: format!("topic {topic}"), error: error.to_string() })?;
        Ok(Self {
            topic: topic.to_owned(),
            form,
            partitions,
            patience: settings.patience,
            in_flight,
            producer,
            message: Outgoing::default(),
            stopping,
            thread: Some(thread),
        })
    }

    fn hand_over(&mut self, append: Append, answers: &Answers) {
        let Append { block, done, since } = append;
        let (records, deadline) = (block.count(), since + self.patience);
        let bytes = block.len() + records as usize * RECORD_BYTES;
        if records == 0 || !self.in_flight.admit(bytes, deadline) {
            let error = Error::Unavailable("Kafka does not take records now".into());
            answers.give(vec![Answer { to: done, records, fingerprints: Vec::new(), result: Err(error) }]);
            return;
        }
        let waiting = Waiting { done, fingerprints: block.fingerprints, answers: answers.clone() };
        let request = self.in_flight.begin(records, bytes, since, deadline, waiting);
        let payload = &block.bytes[crate::log::BLOCK_HEADER_BYTES..];
        let mut sent = 0;
        let mut result = Ok(());
        // One that fails meanwhile refuses the rest.
        let producer = self.producer.load();
        for part in record::parts(payload).take(records as usize) {
            result = encode(self.form, part, block.received, self.partitions, &mut self.message)
                .map_err(|error| error.to_string())
                .and_then(|()| self.send(&producer, &request, sent, block.received.0, deadline).map_err(|error| error.to_string()));
            if result.is_err() {
                break;
            }
            sent += 1;
        }
        if sent < records {
            let why = result.err().unwrap_or_else(|| "a block has fewer records than it says".into());
            let error = if sent == 0 { Error::Unavailable(why) } else { Error::Unconfirmed(why) };
            self.in_flight.give_up(&request, records - sent, error);
        }
    }

    fn send(
        &self,
        producer: &BaseProducer<ProducerListener>,
        request: &Request,
        record: u32,
        time_ms: i64,
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        let Outgoing { key, value, header, partition } = &self.message;
        let headers = OwnedHeaders::new_with_capacity(1);
        let mut message = BaseRecord {
            topic: &self.topic,
            partition: Some(*partition as i32),
            payload: Some(value.as_slice()),
            key: (!key.is_empty()).then_some(key.as_slice()),
            timestamp: Some(time_ms),
            headers: Some(headers.insert(Header { key: self.form.header(), value: Some(header.as_slice()) })),
            delivery_opaque: request.ticket(record),
        };
        loop {
            match producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < deadline => {
                    message = back;
                    std::thread::sleep(REPORTS);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Ends the second thread; whoever still waits is answered.
    fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported where it happened.
            drop(thread.join());
        }
        self.in_flight.abandon();
    }
}

impl Appender for KafkaAppender {
    fn append(&mut self, group: &mut Vec<Append>, answers: &Answers) {
        for append in group.drain(..) {
            self.hand_over(append, answers);
        }
    }

    fn close(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.patience;
        while self.in_flight.requests() > 0 && Instant::now() < deadline {
            std::thread::sleep(REPORTS);
        }
        self.stop();
        Ok(())
    }
}

impl Drop for KafkaAppender {
    fn drop(&mut self) {
        self.stop();
    }
}

fn failed(topic: &str, error: &KafkaError) -> Error {
    Error::Io { file: format!("topic {topic}"), error: error.to_string() }
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

/// The second thread.
struct Reports {
    maker: Maker,
    in_flight: Arc<InFlight>,
    producer: Arc<ArcSwap<BaseProducer<ProducerListener>>>,
    stopping: Arc<AtomicBool>,
}

impl Reports {
    fn run(&self) {
        let mut looked = Instant::now();
        while !self.stopping.load(Ordering::Acquire) {
            self.take();
            if looked.elapsed() >= IDLE {
                looked = Instant::now();
                self.in_flight.expire(looked);
                self.renew_if_fatal();
            }
            // `poll` with a time to wait turns without rest for the last millisecond of it, so the waiting is done here.
            if self.in_flight.requests() == 0 {
                self.in_flight.wait_for_work(IDLE);
            } else {
                std::thread::sleep(REPORTS);
            }
        }
        self.purge();
    }

    /// Takes what there is, an event of librdkafka at a time.
    fn take(&self) {
        let producer = self.producer.load();
        loop {
            let before = producer.context().listener.served();
            producer.poll(Duration::ZERO);
            if producer.context().listener.served() == before {
                break;
            }
        }
        self.in_flight.flush();
    }

    fn renew_if_fatal(&self) {
        let Some((code, reason)) = self.producer.load().client().fatal_error() else { return };
        tracing::error!(log = self.maker.name, %code, reason, "the Kafka producer failed for good, another one takes its place");
        self.in_flight.set_shut(true);
        self.purge();
        while !self.stopping.load(Ordering::Acquire) {
            match self.maker.make() {
                Ok(made) => {
                    self.producer.store(Arc::new(made));
                    break;
                }
                Err(error) => tracing::error!(log = self.maker.name, %error, "no new Kafka producer, trying again"),
            }
            std::thread::sleep(RENEWAL_PAUSE);
        }
        self.in_flight.set_shut(false);
    }

    /// Gives up what is under way, so that everyone is answered.
    fn purge(&self) {
        self.producer.load().purge(PurgeConfig::default().queue().inflight());
        let deadline = Instant::now() + RENEWAL_PAUSE;
        self.take();
        while self.in_flight.requests() > 0 && Instant::now() < deadline {
            std::thread::sleep(REPORTS);
            self.take();
        }
    }
}
