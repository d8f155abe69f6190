//! What the nodes of a cluster have in common: topics of a real Kafka, a database of a real PostgreSQL.

use std::sync::Arc;

use super::kafka::{self, Broker, broker};
use crate::postgres::Cluster;

/// Partitions of the topic of events where there are several nodes: more than one node's, and few enough that a test starts fast.
const PARTITIONS: u32 = 4;

/// Topics and a database of a test's own.
#[derive(Debug)]
pub(crate) struct Shared {
    brokers: String,
    /// The topic of events.
    pub(crate) events: String,
    /// That of dead letters.
    pub(crate) dead_letters: String,
    /// The URL of the database.
    pub(crate) database: String,
    partitions: u32,
}

impl Shared {
    /// Of the servers that all tests share.
    pub(crate) fn new() -> Arc<Self> {
        Self::on(broker(), Cluster::shared())
    }

    /// The same, with one partition: positions are then those of an embedded log.
    pub(crate) fn of_one_partition() -> Arc<Self> {
        Arc::new(Self::made(broker(), Cluster::shared(), 1))
    }

    /// Of these servers.
    pub(crate) fn on(broker: &Broker, cluster: &Cluster) -> Arc<Self> {
        Arc::new(Self::made(broker, cluster, PARTITIONS))
    }

    fn made(broker: &Broker, cluster: &Cluster, partitions: u32) -> Self {
        let (events, dead_letters) = (kafka::topic("events"), kafka::topic("dead-letters"));
        Self { brokers: broker.address(), events, dead_letters, database: cluster.database(), partitions }
    }

    /// Behind what a test sets.
    pub(super) fn settings(&self) -> String {
        let Self { events, dead_letters, partitions, .. } = self;
        format!(
            "\n[kafka]\nevents_topic = '{events}'\ndead_letters_topic = '{dead_letters}'\npartitions = {partitions}\n[cluster]\nsession_timeout = '6s'\n"
        )
    }

    /// As an operator gives them.
    pub(super) fn environment(&self) -> [(&'static str, &str); 3] {
        [("TOLLGATE_KAFKA_BROKERS", &self.brokers), ("TOLLGATE_KAFKA_REPLICATION", "1"), ("TOLLGATE_DATABASE_URL", &self.database)]
    }
}
