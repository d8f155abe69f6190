//! What librdkafka says by itself: log lines, errors, statistics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;

use super::in_flight::InFlight;
use crate::telemetry;

/// Hears what a client of librdkafka has to say.
pub(crate) struct Listener {
    /// In metrics and log lines: what the client is for.
    client: &'static str,
    served: AtomicU64,
}

impl Listener {
    /// Of a client that is for this.
    pub(crate) fn new(client: &'static str) -> Self {
        Self { client, served: AtomicU64::new(0) }
    }

    /// How often it heard something. A poll that ends with nothing, while this changed, may have left something behind it.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn note(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.note();
        let client = self.client;
        match level {
            // It goes on by itself; what it cannot get over comes as an error of whoever asked.
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(client, facility, "kafka client: {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(client, facility, "kafka client: {message}"),
            RDKafkaLogLevel::Debug => tracing::debug!(client, facility, "kafka client: {message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.note();
        telemetry::observe_kafka(self.client, &statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note();
        // Whoever reads hears of it as well, and it is no error.
        if matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            return;
        }
        telemetry::count_kafka_error(self.client);
        tracing::warn!(client = self.client, %error, reason, "kafka client");
    }
}

impl ConsumerContext for Listener {}

/// Hears what a producer has to say, above all what became of records.
pub(super) struct ProducerListener {
    pub(super) listener: Listener,
    pub(super) in_flight: Arc<InFlight>,
}

impl ClientContext for ProducerListener {
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

impl ProducerContext for ProducerListener {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        self.listener.note();
        self.in_flight.delivered(result, ticket);
    }
}
