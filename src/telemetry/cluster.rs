//! What is counted in a cluster alone: Kafka's clients, the database's connections, who owns which partition, and what nodes ask
//! each other.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use rdkafka::statistics::{Statistics, Window};

/// Seconds from the begin of an append to Kafka's confirmation of all its records, or its end without one. Labels: `log`.
const KAFKA_CONFIRMED_SECONDS: &str = "tollgate_kafka_confirmed_seconds";
/// Messages in the queues of librdkafka. Labels: `client` = events | dead_letters | reader | group | ends | admin.
const KAFKA_QUEUED_MESSAGES: &str = "tollgate_kafka_queued_messages";
/// Their bytes. Labels: `client`.
const KAFKA_QUEUED_BYTES: &str = "tollgate_kafka_queued_bytes";
/// Requests that wait for the answer of a broker. Labels: `client`.
const KAFKA_IN_FLIGHT_REQUESTS: &str = "tollgate_kafka_in_flight_requests";
/// Brokers that librdkafka is connected to. Labels: `client`.
const KAFKA_CONNECTED_BROKERS: &str = "tollgate_kafka_connected_brokers";
/// Seconds that brokers took to answer, of the slowest one. Labels: `client`, `percentile` = 50 | 99.
const KAFKA_ROUND_TRIP_SECONDS: &str = "tollgate_kafka_round_trip_seconds";
/// Mean bytes of a batch sent lately. Labels: `client`.
const KAFKA_BATCH_BYTES: &str = "tollgate_kafka_batch_bytes";
/// Mean messages of a batch sent lately. Labels: `client`.
const KAFKA_BATCH_MESSAGES: &str = "tollgate_kafka_batch_messages";
/// Requests to brokers that failed or took too long. Labels: `client`.
const KAFKA_REQUEST_ERRORS_TOTAL: &str = "tollgate_kafka_request_errors_total";
/// Errors that librdkafka reported for a client as a whole. Labels: `client`.
const KAFKA_ERRORS_TOTAL: &str = "tollgate_kafka_errors_total";
/// Partitions that this node owns.
const OWNED_PARTITIONS: &str = "tollgate_owned_partitions";
/// Partitions that came to this node or went to others. Labels: `change` = taken | let_go.
const PARTITIONS_MOVED_TOTAL: &str = "tollgate_partitions_moved_total";
/// Folds that ended with an error and were started again. Labels: `partition`.
const OWNER_RESTARTS_TOTAL: &str = "tollgate_owner_restarts_total";
/// Times that the consumer group changed what is this node's, or failed to say. Labels: `outcome` = assigned | revoked | failed.
const REBALANCES_TOTAL: &str = "tollgate_group_rebalances_total";
/// What other nodes were asked, by what came of each try. Labels: `question` = firsts | conflicts, `outcome` = answered | behind | busy |
/// failed (it cannot answer now) | not_owner | unreachable (no connection, no answer in time, no address) | nonsense.
const QUESTIONS_TOTAL: &str = "tollgate_node_questions_total";
/// Seconds of such a try. Labels: `question`.
const QUESTION_SECONDS: &str = "tollgate_node_question_seconds";
/// What other nodes asked this one, by how it was answered. Labels: `outcome` = answered | behind | busy | failed | not_owner (or no index of
/// it) | refused (no question, or not from a node).
const ANSWERS_TOTAL: &str = "tollgate_node_answers_total";
/// Seconds of such an answer.
const ANSWER_SECONDS: &str = "tollgate_node_answer_seconds";
/// Seconds that somebody waited for a connection to the database, with the making of new ones. Labels: `outcome` = had | failed.
const DATABASE_WAIT_SECONDS: &str = "tollgate_database_wait_seconds";

/// Histograms of seconds.
pub(super) const SECONDS: [&str; 4] = [KAFKA_CONFIRMED_SECONDS, QUESTION_SECONDS, ANSWER_SECONDS, DATABASE_WAIT_SECONDS];

/// Clients of librdkafka that a node has from its start on.
const CLIENTS: [&str; 4] = ["events", "dead_letters", "reader", "group"];
const QUESTIONS: [&str; 2] = ["firsts", "conflicts"];

/// How a node answered, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Said {
    /// What was asked.
    Answered,
    /// That it has not folded everything in time.
    Behind,
    /// That too many ask.
    Busy,
    /// That it cannot, now.
    Failed,
    /// That it does not own the partition.
    NotOwner,
    /// Nothing that came in time.
    Unreachable,
    /// Something that makes no sense.
    Nonsense,
    /// That it is no question, or who asks no node.
    Refused,
}

impl Said {
    /// What a node that asks may hear.
    const HEARD: [Self; 7] = [Self::Answered, Self::Behind, Self::Busy, Self::Failed, Self::NotOwner, Self::Unreachable, Self::Nonsense];
    /// What a node that is asked may say.
    const GIVEN: [Self; 6] = [Self::Answered, Self::Behind, Self::Busy, Self::Failed, Self::NotOwner, Self::Refused];

    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Behind => "behind",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::NotOwner => "not_owner",
            Self::Unreachable => "unreachable",
            Self::Nonsense => "nonsense",
            Self::Refused => "refused",
        }
    }
}

/// What the consumer group did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rebalanced {
    /// Partitions came.
    Assigned,
    /// Partitions went.
    Revoked,
    /// Nobody knows.
    Failed,
}

impl Rebalanced {
    const ALL: [Self; 3] = [Self::Assigned, Self::Revoked, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
        }
    }
}

pub(super) fn describe() {
    describe_histogram!(KAFKA_CONFIRMED_SECONDS, "Seconds until Kafka had confirmed an append, or gave none.");
    describe_gauge!(KAFKA_QUEUED_MESSAGES, "Messages in the queues of librdkafka.");
    describe_gauge!(KAFKA_QUEUED_BYTES, "Bytes in the queues of librdkafka.");
    describe_gauge!(KAFKA_IN_FLIGHT_REQUESTS, "Requests that wait for the answer of a broker.");
    describe_gauge!(KAFKA_CONNECTED_BROKERS, "Brokers that librdkafka is connected to.");
    describe_gauge!(KAFKA_ROUND_TRIP_SECONDS, "Seconds that the slowest broker took to answer.");
    describe_gauge!(KAFKA_BATCH_BYTES, "Mean bytes of a batch sent lately.");
    describe_gauge!(KAFKA_BATCH_MESSAGES, "Mean messages of a batch sent lately.");
    describe_counter!(KAFKA_REQUEST_ERRORS_TOTAL, "Requests to brokers that failed or took too long.");
    describe_counter!(KAFKA_ERRORS_TOTAL, "Errors that librdkafka reported for a client as a whole.");
    describe_gauge!(OWNED_PARTITIONS, "Partitions that this node owns.");
    describe_counter!(PARTITIONS_MOVED_TOTAL, "Partitions that came to this node or went to others.");
    describe_counter!(OWNER_RESTARTS_TOTAL, "Folds that ended with an error and were started again.");
    describe_counter!(REBALANCES_TOTAL, "Times that the consumer group changed what is this node's, or failed to say.");
    describe_counter!(QUESTIONS_TOTAL, "What other nodes were asked, by what came of each try.");
    describe_histogram!(QUESTION_SECONDS, "Seconds of a try to ask another node.");
    describe_counter!(ANSWERS_TOTAL, "What other nodes asked this one, by how it was answered.");
    describe_histogram!(ANSWER_SECONDS, "Seconds of an answer to another node.");
    describe_histogram!(DATABASE_WAIT_SECONDS, "Seconds of a wait for a connection to the database.");
}

/// Says that this is a node of a cluster: what only such a node counts begins.
pub fn begin_cluster() {
    for log in ["events", "dead_letters"] {
        drop(histogram!(KAFKA_CONFIRMED_SECONDS, "log" => log));
    }
    for client in CLIENTS {
        observe_kafka(client, &Statistics::default());
        counter!(KAFKA_ERRORS_TOTAL, "client" => client).increment(0);
    }
    set_owned_partitions(0);
    super::handover::begin();
    for change in ["taken", "let_go"] {
        counter!(PARTITIONS_MOVED_TOTAL, "change" => change).increment(0);
    }
    for outcome in Rebalanced::ALL {
        counter!(REBALANCES_TOTAL, "outcome" => outcome.label()).increment(0);
    }
    for question in QUESTIONS {
        drop(histogram!(QUESTION_SECONDS, "question" => question));
        for said in Said::HEARD {
            counter!(QUESTIONS_TOTAL, "question" => question, "outcome" => said.label()).increment(0);
        }
    }
    for said in Said::GIVEN {
        counter!(ANSWERS_TOTAL, "outcome" => said.label()).increment(0);
    }
    drop(histogram!(ANSWER_SECONDS));
    for outcome in ["had", "failed"] {
        drop(histogram!(DATABASE_WAIT_SECONDS, "outcome" => outcome));
    }
}

/// Records how long it took until Kafka had confirmed an append.
pub fn observe_confirmed(log: &'static str, took: Duration) {
    histogram!(KAFKA_CONFIRMED_SECONDS, "log" => log).record(took);
}

/// Counts an error of a Kafka client.
pub fn count_kafka_error(client: &'static str) {
    counter!(KAFKA_ERRORS_TOTAL, "client" => client).increment(1);
}

/// Takes over what librdkafka counts. All brokers and topics of a client together, so that there are as many series as clients.
pub fn observe_kafka(client: &'static str, statistics: &Statistics) {
    let brokers = || statistics.brokers.values();
    gauge!(KAFKA_QUEUED_MESSAGES, "client" => client).set(statistics.msg_cnt as f64);
    gauge!(KAFKA_QUEUED_BYTES, "client" => client).set(statistics.msg_size as f64);
    gauge!(KAFKA_IN_FLIGHT_REQUESTS, "client" => client).set(brokers().map(|broker| broker.waitresp_cnt).sum::<i64>() as f64);
    let connected = brokers().filter(|broker| broker.nodeid >= 0 && broker.state == "UP").count();
    gauge!(KAFKA_CONNECTED_BROKERS, "client" => client).set(connected as f64);
    let round_trips = || brokers().filter_map(|broker| broker.rtt.as_ref());
    let micros = |slowest: Option<i64>| slowest.unwrap_or_default() as f64 / 1e6;
    gauge!(KAFKA_ROUND_TRIP_SECONDS, "client" => client, "percentile" => "50").set(micros(round_trips().map(|rtt| rtt.p50).max()));
    gauge!(KAFKA_ROUND_TRIP_SECONDS, "client" => client, "percentile" => "99").set(micros(round_trips().map(|rtt| rtt.p99).max()));
    let mean = |windows: &mut dyn Iterator<Item = &Window>| windows.map(|window| window.avg).max().unwrap_or_default() as f64;
    gauge!(KAFKA_BATCH_BYTES, "client" => client).set(mean(&mut statistics.topics.values().map(|topic| &topic.batchsize)));
    gauge!(KAFKA_BATCH_MESSAGES, "client" => client).set(mean(&mut statistics.topics.values().map(|topic| &topic.batchcnt)));
    let errors = brokers().map(|broker| broker.txerrs + broker.rxerrs + broker.req_timeouts).sum();
    counter!(KAFKA_REQUEST_ERRORS_TOTAL, "client" => client).absolute(errors);
}

/// Says how many partitions this node owns.
pub fn set_owned_partitions(partitions: usize) {
    gauge!(OWNED_PARTITIONS).set(partitions as f64);
}

/// Says that a partition is this node's: what is counted of it begins.
pub fn begin_owner(partition: u32) {
    counter!(OWNER_RESTARTS_TOTAL, "partition" => partition.to_string()).increment(0);
}

/// Counts a fold that ended with an error.
pub fn count_owner_restart(partition: u32) {
    counter!(OWNER_RESTARTS_TOTAL, "partition" => partition.to_string()).increment(1);
}

/// Counts a change of what is this node's, and the partitions that it is about.
pub fn count_rebalance(what: Rebalanced, partitions: usize) {
    counter!(REBALANCES_TOTAL, "outcome" => what.label()).increment(1);
    let change = match what {
        Rebalanced::Assigned => "taken",
        Rebalanced::Revoked => "let_go",
        Rebalanced::Failed => return,
    };
    counter!(PARTITIONS_MOVED_TOTAL, "change" => change).increment(partitions as u64);
}

/// Records a try to ask another node.
pub fn observe_question(question: &'static str, said: Said, took: Duration) {
    counter!(QUESTIONS_TOTAL, "question" => question, "outcome" => said.label()).increment(1);
    histogram!(QUESTION_SECONDS, "question" => question).record(took);
}

/// Records an answer to another node.
pub fn observe_answer(said: Said, took: Duration) {
    counter!(ANSWERS_TOTAL, "outcome" => said.label()).increment(1);
    histogram!(ANSWER_SECONDS).record(took);
}

/// Records a wait for a connection to the database.
pub fn observe_database_wait(is_had: bool, took: Duration) {
    histogram!(DATABASE_WAIT_SECONDS, "outcome" => if is_had { "had" } else { "failed" }).record(took);
}
