//! What the nodes of a cluster have in common: topics of a real Kafka, a database of a real PostgreSQL.

use std::sync::Arc;

use super::kafka::{self, Broker, broker};
use super::postgres::Cluster;

/// Partitions of the topic of events: more than one node's, and few enough that a test starts fast.
pub(crate) const PARTITIONS: u32 = 4;

/// Topics and a database of a test's own.
#[derive(Debug)]
pub(crate) struct Shared {
    brokers: String,
    /// The topic of events.
    pub(crate) events: String,
    dead_letters: String,
    /// The URL of the database.
    pub(crate) database: String,
}

impl Shared {
    /// Of the servers that all tests share.
    pub(crate) fn new() -> Arc<Self> {
        Self::on(broker(), Cluster::shared())
    }

    /// Of these servers.
    pub(crate) fn on(broker: &Broker, cluster: &Cluster) -> Arc<Self> {
        let (events, dead_letters) = (kafka::topic("events"), kafka::topic("dead-letters"));
        Arc::new(Self { brokers: broker.address(), events, dead_letters, database: cluster.database() })
    }

    /// Behind what a test sets.
    pub(super) fn settings(&self) -> String {
        let Self { events, dead_letters, .. } = self;
        format!("\n[kafka]\nevents_topic = '{events}'\ndead_letters_topic = '{dead_letters}'\npartitions = {PARTITIONS}\n[cluster]\nsession_timeout = '6s'\n")
    }

    /// As an operator gives them.
    pub(super) fn environment(&self) -> [(&'static str, &str); 3] {
        [
            ("TOLLGATE_KAFKA_BROKERS", &self.brokers),
            ("TOLLGATE_KAFKA_REPLICATION", "1"),
            ("TOLLGATE_DATABASE_URL", &self.database),
        ]
    }
}
