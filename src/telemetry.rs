//! Metrics and logs: the names, what they mean, and one function for each thing that is counted.
//!
//! `tollgate_<noun>_<unit>_total`; base units; labels are closed sets, never ids. Everything is recorded a batch at a
//! time. Both ledgers of `design.md` promise 8 are here: [`EVENTS_TOTAL`] at the door, [`VERDICTS_TOTAL`] in the log.

mod begin;
mod cluster;
pub mod handover;
pub mod stripe;

use std::sync::LazyLock;
use std::time::Duration;

use metrics::{Counter, Histogram, SharedString, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use begin::begin_partition;
pub use cluster::{
    Rebalanced, Said, begin_cluster, begin_owner, count_kafka_error, count_owner_restart, count_rebalance, observe_answer,
    observe_confirmed, observe_database_wait, observe_kafka, observe_question, set_owned_partitions,
};

/// Events by what became of them at the door. Labels: `outcome` = logged | known | rejected | shed | unknown.
pub const EVENTS_TOTAL: &str = "tollgate_events_total";
/// Rejected events by why. Labels: `reason`, see [`crate::event::Code`], and `strict` for good events refused with a bad neighbour.
pub const REJECTED_TOTAL: &str = "tollgate_events_rejected_total";
/// Records by what the fold made of them. Labels: `partition`, `verdict` = counted | duplicate | conflict | filtered | undecodable.
pub const VERDICTS_TOTAL: &str = "tollgate_verdicts_total";
/// Requests. Labels: `route` (a template), `status`.
pub const REQUESTS_TOTAL: &str = "tollgate_http_requests_total";
/// Seconds from the head of a request to its answer. Labels: `route`.
pub const REQUEST_SECONDS: &str = "tollgate_http_request_seconds";
/// Open connections.
pub const CONNECTIONS: &str = "tollgate_http_connections";
/// Bytes of requests that are being read, parsed or made durable. Labels: `room` = ingest | api, each with a limit of its own.
pub const IN_FLIGHT_BYTES: &str = "tollgate_in_flight_bytes";
/// The limit of the above. Labels: `room`.
pub const IN_FLIGHT_BYTES_MAX: &str = "tollgate_in_flight_bytes_max";
/// Requests that wait for room. Labels: `room`.
pub const ROOM_WAITING: &str = "tollgate_room_waiting_requests";
/// Seconds that requests waited for room, of those that had to. Labels: `room`.
pub const ROOM_WAIT_SECONDS: &str = "tollgate_room_wait_seconds";
/// Requests refused for want of room. Labels: `room`, `reason` = late | line_full | growing.
pub const ROOM_REFUSED_TOTAL: &str = "tollgate_room_refused_total";
/// Bytes of large answers that their clients have not taken yet; at 128 MiB, further ones are refused.
pub const ANSWER_BYTES: &str = "tollgate_answer_bytes";
/// Requests in a group that shares one sync. Labels: `log` = events | dead_letters.
pub const GROUP_APPENDS: &str = "tollgate_log_group_appends";
/// Records in a group. Labels: `log`.
pub const GROUP_RECORDS: &str = "tollgate_log_group_records";
/// Bytes appended. Labels: `log`.
pub const LOG_APPENDED_BYTES_TOTAL: &str = "tollgate_log_appended_bytes_total";
/// Seconds that a sync took. Labels: `log`.
pub const SYNC_SECONDS: &str = "tollgate_log_sync_seconds";
/// Size of the log. Labels: `log`.
pub const LOG_BYTES: &str = "tollgate_log_bytes";
/// 1 once the log takes no further append in this process. Labels: `log`.
pub const LOG_CLOSED: &str = "tollgate_log_closed";
/// Records that the log has and the rows do not. Labels: `partition`.
pub const LAG_RECORDS: &str = "tollgate_materializer_lag_records";
/// Seconds between the receipt of the record folded last and now; 0 when nothing waits. Labels: `partition`.
pub const LAG_SECONDS: &str = "tollgate_materializer_lag_seconds";
/// Records that are folded, and whose rows are not committed: what other nodes, and this one after a restart, do not see yet. Labels: `partition`.
pub const UNCOMMITTED_RECORDS: &str = "tollgate_store_uncommitted_records";
/// Seconds that a commit of rows took.
pub const COMMIT_SECONDS: &str = "tollgate_store_commit_seconds";
/// Rows written by commits.
pub const COMMIT_ROWS_TOTAL: &str = "tollgate_store_commit_rows_total";
/// 1 while rows or index wait for room on a full disk.
pub const WAITS_FOR_ROOM: &str = "tollgate_store_waits_for_room";
/// Rows in the store.
pub const STORE_ROWS: &str = "tollgate_store_rows";
/// Entries of the dedup index. Labels: `partition`.
pub const INDEX_ENTRIES: &str = "tollgate_index_entries";
/// Memory of the dedup index: tables, filters and fences. Labels: `partition`.
pub const INDEX_MEMORY_BYTES: &str = "tollgate_index_memory_bytes";
/// Day entries of the fold's working set. Labels: `partition`.
pub const WORKING_SET_ENTRIES: &str = "tollgate_materializer_entries";
/// Memory that recent ids take, in bytes.
pub const RECENT_IDS_BYTES: &str = "tollgate_recent_ids_bytes";
/// Recent ids that are remembered.
pub const RECENT_IDS_ENTRIES: &str = "tollgate_recent_ids_entries";
/// Generations of recent ids that were forgotten. Labels: `cause` = age | size.
pub const RECENT_IDS_EVICTED_TOTAL: &str = "tollgate_recent_ids_evictions_total";
/// 1 while the newest certificate or key cannot be used, and the last one still is.
pub const TLS_RELOAD_FAILED: &str = "tollgate_tls_reload_failed";
/// When the certificate in use (or one of its chain) ends, in seconds since 1970-01-01T00:00:00Z.
pub const TLS_NOT_AFTER_SECONDS: &str = "tollgate_tls_not_after_seconds";
/// What happened to dead letters. Labels: `change` = written | replayed | refused | deleted | expired, `reason`, see
/// [`crate::event::Code`]: that of the letter when it was written; `unread` where retention took it at once.
pub const LETTERS_TOTAL: &str = "tollgate_dead_letters_total";
/// Dead letters that are kept. Labels: `reason`.
pub const LETTERS: &str = "tollgate_dead_letters";
/// Their bytes in the log. Labels: `reason`.
pub const LETTERS_BYTES: &str = "tollgate_dead_letters_bytes";
/// Seconds that a usage query took. Labels: `form` = a | b | all.
pub const QUERY_SECONDS: &str = "tollgate_usage_query_seconds";
/// Rows that usage queries read: hours and days of a meter, a customer and a set of dimensions.
pub const QUERY_ROWS_TOTAL: &str = "tollgate_usage_rows_read_total";
/// Usage answers given although the rows had not caught up within the wait.
pub const INCOMPLETE_TOTAL: &str = "tollgate_usage_incomplete_total";

/// 1 while `/readyz` says yes.
pub const READY: &str = "tollgate_ready";
/// Bytes that the file system of the data directory has left.
pub const DISK_FREE_BYTES: &str = "tollgate_disk_free_bytes";
/// Bytes of it that events leave to the rows: with less, they are refused (`log.disk_reserve_bytes`).
pub const DISK_RESERVE_BYTES: &str = "tollgate_disk_reserve_bytes";
/// 1. Labels: `version`, the binary's.
pub const BUILD_INFO: &str = "tollgate_build_info";

const SECONDS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5];

/// What became of events at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Durable in the log.
    Logged,
    /// A copy of an event that is known to be durable; went no further.
    Known,
    /// Not an event that can be taken.
    Rejected,
    /// Refused for want of room or of allowance; nothing happened.
    Shed,
    /// The append did not complete: it may have happened.
    Unknown,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Logged, Self::Known, Self::Rejected, Self::Shed, Self::Unknown];

    /// As it stands in metrics and receipts.
    pub fn label(self) -> &'static str {
        match self {
            Self::Logged => "logged",
            Self::Known => "known",
            Self::Rejected => "rejected",
            Self::Shed => "shed",
            Self::Unknown => "unknown",
        }
    }
}

/// What requests take room for: each kind has its own, so that neither takes it from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoomKind {
    /// Events.
    Ingest,
    /// Everything else that needs a key.
    Api,
}

impl RoomKind {
    /// As it stands in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Api => "api",
        }
    }
}

/// What happens to a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LetterChange {
    /// It came.
    Written,
    /// Its event is durable in the log now.
    Replayed,
    /// It was replayed and refused again.
    Refused,
    /// Somebody wanted it gone.
    Deleted,
    /// Retention took it, by age or size.
    Expired,
}

impl LetterChange {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Written, Self::Replayed, Self::Refused, Self::Deleted, Self::Expired];

    /// As it stands in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Replayed => "replayed",
            Self::Refused => "refused",
            Self::Deleted => "deleted",
            Self::Expired => "expired",
        }
    }
}

/// Installs the recorder; the handle renders what `/metrics` answers.
///
/// # Errors
/// A recorder is installed already.
pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    let of_any_node = [REQUEST_SECONDS, ROOM_WAIT_SECONDS, SYNC_SECONDS, COMMIT_SECONDS, QUERY_SECONDS, stripe::CALL_SECONDS];
    for name in of_any_node.into_iter().chain(cluster::SECONDS) {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), SECONDS)?;
    }
    for name in [GROUP_APPENDS, GROUP_RECORDS] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), SIZES)?;
    }
    builder = builder.set_buckets_for_metric(Matcher::Full(handover::TAKEN_SECONDS.to_owned()), handover::SECONDS)?;
    let handle = builder.install_recorder()?;
    describe();
    cluster::describe();
    handover::describe();
    begin::begin();
    metrics_process::Collector::default().describe();
    Ok(handle)
}

fn describe() {
    describe_counter!(EVENTS_TOTAL, "Events by what became of them at the door.");
    describe_counter!(REJECTED_TOTAL, "Rejected events by reason.");
    describe_counter!(VERDICTS_TOTAL, "Records of the log by what the fold made of them.");
    describe_counter!(REQUESTS_TOTAL, "Requests by route and status.");
    describe_histogram!(REQUEST_SECONDS, "Seconds from the head of a request to its answer.");
    describe_gauge!(CONNECTIONS, "Open connections.");
    describe_gauge!(IN_FLIGHT_BYTES, "Bytes of requests that are read, parsed or made durable.");
    describe_gauge!(IN_FLIGHT_BYTES_MAX, "Limit of the bytes in flight.");
    describe_gauge!(ROOM_WAITING, "Requests that wait for room.");
    describe_histogram!(ROOM_WAIT_SECONDS, "Seconds that requests waited for room, of those that had to.");
    describe_counter!(ROOM_REFUSED_TOTAL, "Requests refused for want of room, by reason.");
    describe_gauge!(ANSWER_BYTES, "Bytes of large answers that their clients have not taken yet.");
    describe_histogram!(GROUP_APPENDS, "Requests that share one sync.");
    describe_histogram!(GROUP_RECORDS, "Records that share one sync.");
    describe_counter!(LOG_APPENDED_BYTES_TOTAL, "Bytes appended to the log.");
    describe_histogram!(SYNC_SECONDS, "Seconds that a sync took.");
    describe_gauge!(LOG_BYTES, "Size of the log in bytes.");
    describe_gauge!(LOG_CLOSED, "1 once the log takes no further append in this process.");
    describe_gauge!(LAG_RECORDS, "Records that the log has and the rows do not.");
    describe_gauge!(LAG_SECONDS, "Seconds since the receipt of the record folded last; 0 when nothing waits.");
    describe_gauge!(UNCOMMITTED_RECORDS, "Records that are folded, and whose rows are not committed.");
    describe_histogram!(COMMIT_SECONDS, "Seconds that a commit of rows took.");
    describe_counter!(COMMIT_ROWS_TOTAL, "Rows written by commits.");
    describe_gauge!(WAITS_FOR_ROOM, "1 while rows or index wait for room on a full disk.");
    describe_gauge!(STORE_ROWS, "Rows in the store.");
    describe_gauge!(INDEX_ENTRIES, "Entries of the dedup index.");
    describe_gauge!(INDEX_MEMORY_BYTES, "Memory of the dedup index in bytes: tables, filters and fences.");
    describe_gauge!(WORKING_SET_ENTRIES, "Day entries that the fold keeps in memory.");
    describe_gauge!(RECENT_IDS_BYTES, "Memory that recent ids take, in bytes.");
    describe_gauge!(RECENT_IDS_ENTRIES, "Recent ids that are remembered.");
    describe_counter!(RECENT_IDS_EVICTED_TOTAL, "Generations of recent ids that were forgotten, by cause.");
    describe_gauge!(TLS_RELOAD_FAILED, "1 while the newest certificate or key cannot be used and the last one still is.");
    describe_gauge!(TLS_NOT_AFTER_SECONDS, "When the certificate in use ends, in seconds since 1970-01-01T00:00:00Z.");
    describe_counter!(LETTERS_TOTAL, "What happened to dead letters, by reason of the letter.");
    describe_gauge!(LETTERS, "Dead letters that are kept, by reason.");
    describe_gauge!(LETTERS_BYTES, "Bytes of the dead letters that are kept, by reason.");
    describe_histogram!(QUERY_SECONDS, "Seconds that a usage query took.");
    describe_counter!(QUERY_ROWS_TOTAL, "Rows that usage queries read.");
    describe_counter!(INCOMPLETE_TOTAL, "Usage answers given before the rows had caught up.");
    describe_gauge!(READY, "1 while /readyz says yes.");
    describe_gauge!(DISK_FREE_BYTES, "Bytes that the file system of the data directory has left.");
    describe_gauge!(DISK_RESERVE_BYTES, "Bytes of it that events leave to the rows: with less, events are refused.");
    describe_gauge!(BUILD_INFO, "1; the version is in the label.");
}

/// Counts events at the door.
pub fn count_events(outcome: Outcome, events: u64) {
    // Nearly all events: the look-up of the counter by name and labels is done once.
    static LOGGED: LazyLock<Counter> = LazyLock::new(|| counter!(EVENTS_TOTAL, "outcome" => Outcome::Logged.label()));
    match outcome {
        _ if events == 0 => {}
        Outcome::Logged => LOGGED.increment(events),
        Outcome::Known | Outcome::Rejected | Outcome::Shed | Outcome::Unknown => {
            counter!(EVENTS_TOTAL, "outcome" => outcome.label()).increment(events);
        }
    }
}

/// Counts rejected events of one reason, beside [`count_events`].
pub fn count_rejected(reason: &'static str, events: u64) {
    counter!(REJECTED_TOTAL, "reason" => reason).increment(events);
}

/// Counts what the fold made of records.
pub fn count_verdicts(partition: u32, verdict: &'static str, records: u64) {
    if records > 0 {
        counter!(VERDICTS_TOTAL, "partition" => partition.to_string(), "verdict" => verdict).increment(records);
    }
}

/// Counts an answered request.
pub fn observe_request(route: impl Into<SharedString>, status: u16, took: Duration) {
    let route = route.into();
    counter!(REQUESTS_TOTAL, "route" => route.clone(), "status" => status_label(status)).increment(1);
    histogram!(REQUEST_SECONDS, "route" => route).record(took);
}

/// Counts an answered `POST /ingest`: as [`observe_request`], without the look-ups for a 200.
pub fn observe_ingest(status: u16, took: Duration) {
    const ROUTE: &str = "/ingest";
    static TAKEN: LazyLock<Counter> = LazyLock::new(|| counter!(REQUESTS_TOTAL, "route" => ROUTE, "status" => "200"));
    static SECONDS: LazyLock<Histogram> = LazyLock::new(|| histogram!(REQUEST_SECONDS, "route" => ROUTE));
    if status == 200 {
        TAKEN.increment(1);
        SECONDS.record(took);
    } else {
        observe_request(ROUTE, status, took);
    }
}

/// The statuses that are given out, without an allocation.
fn status_label(status: u16) -> &'static str {
    match status {
        200 => "200",
        201 => "201",
        204 => "204",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        413 => "413",
        415 => "415",
        429 => "429",
        500 => "500",
        503 => "503",
        _ => "other",
    }
}

/// Adds to (or takes from) the open connections.
pub fn add_connections(change: f64) {
    gauge!(CONNECTIONS).increment(change);
}

/// Sets the bytes in flight, their limit, and how many requests wait for some.
pub fn set_in_flight(room: RoomKind, bytes: usize, limit: usize, waiting: usize) {
    gauge!(IN_FLIGHT_BYTES, "room" => room.label()).set(bytes as f64);
    gauge!(IN_FLIGHT_BYTES_MAX, "room" => room.label()).set(limit as f64);
    gauge!(ROOM_WAITING, "room" => room.label()).set(waiting as f64);
}

/// Records how long a request waited for room, whether or not it got some.
pub fn observe_room_wait(room: RoomKind, waited: Duration) {
    histogram!(ROOM_WAIT_SECONDS, "room" => room.label()).record(waited);
}

/// Counts a request that was refused for want of room.
pub fn count_no_room(room: RoomKind, reason: &'static str) {
    counter!(ROOM_REFUSED_TOTAL, "room" => room.label(), "reason" => reason).increment(1);
}

/// More or less bytes of large answers wait for their clients.
pub fn add_answer_bytes(change: f64) {
    gauge!(ANSWER_BYTES).increment(change);
}

/// Records the size of a group.
pub fn observe_group(log: &'static str, appends: usize, records: u64, bytes: usize) {
    histogram!(GROUP_APPENDS, "log" => log).record(appends as f64);
    histogram!(GROUP_RECORDS, "log" => log).record(records as f64);
    counter!(LOG_APPENDED_BYTES_TOTAL, "log" => log).increment(bytes as u64);
}

/// Records how long a sync took.
pub fn observe_sync(log: &'static str, took: Duration) {
    histogram!(SYNC_SECONDS, "log" => log).record(took);
}

/// Sets the size of a log.
pub fn set_log_bytes(log: &'static str, bytes: u64) {
    gauge!(LOG_BYTES, "log" => log).set(bytes as f64);
}

/// Says that a log is closed until a restart.
pub fn set_log_closed(log: &'static str) {
    gauge!(LOG_CLOSED, "log" => log).set(1.0);
}

/// Sets how far the rows are behind the log.
pub fn set_lag(partition: u32, records: u64, seconds: f64) {
    gauge!(LAG_RECORDS, "partition" => partition.to_string()).set(records as f64);
    gauge!(LAG_SECONDS, "partition" => partition.to_string()).set(seconds);
}

/// Sets how many records are folded and not committed.
pub fn set_uncommitted(partition: u32, records: u64) {
    gauge!(UNCOMMITTED_RECORDS, "partition" => partition.to_string()).set(records as f64);
}

/// Records a commit of rows.
pub fn observe_commit(rows: u64, took: Duration) {
    counter!(COMMIT_ROWS_TOTAL).increment(rows);
    histogram!(COMMIT_SECONDS).record(took);
}

/// Says whether rows or index wait for room on a full disk.
pub fn set_waits_for_room(waits: bool) {
    gauge!(WAITS_FOR_ROOM).set(f64::from(u8::from(waits)));
}

/// Sets what the disk has left, as far as the file system tells, and what of it events leave to the rows.
pub fn set_disk(free_bytes: Option<u64>, reserve_bytes: u64) {
    gauge!(DISK_FREE_BYTES).set(free_bytes.map_or(f64::NAN, |bytes| bytes as f64));
    gauge!(DISK_RESERVE_BYTES).set(reserve_bytes as f64);
}

/// Says whether the node is ready.
pub fn set_ready(is_ready: bool) {
    gauge!(READY).set(f64::from(u8::from(is_ready)));
}

/// Sets the number of rows in the store.
pub fn set_store_rows(rows: u64) {
    gauge!(STORE_ROWS).set(rows as f64);
}

/// Sets the sizes of what is kept for the fold of a partition; nothing, where another node folds it.
pub fn set_fold_sizes(partition: u32, index_entries: u64, index_bytes: u64, working_set: usize) {
    gauge!(INDEX_ENTRIES, "partition" => partition.to_string()).set(index_entries as f64);
    gauge!(INDEX_MEMORY_BYTES, "partition" => partition.to_string()).set(index_bytes as f64);
    gauge!(WORKING_SET_ENTRIES, "partition" => partition.to_string()).set(working_set as f64);
}

/// Sets the sizes of what recent ids take.
pub fn set_recent_ids(bytes: usize, entries: usize) {
    gauge!(RECENT_IDS_BYTES).set(bytes as f64);
    gauge!(RECENT_IDS_ENTRIES).set(entries as f64);
}

/// Counts a generation of recent ids that was forgotten, for its `age` or for the `size` of all.
pub fn count_recent_ids_evicted(cause: &'static str) {
    counter!(RECENT_IDS_EVICTED_TOTAL, "cause" => cause).increment(1);
}

/// Says whether the newest certificate and key are in use.
pub fn set_tls_reload_failed(failed: bool) {
    gauge!(TLS_RELOAD_FAILED).set(f64::from(u8::from(failed)));
}

/// Sets the end of the certificate in use; unknown if there is none that can be read.
pub fn set_tls_not_after(seconds: Option<i64>) {
    gauge!(TLS_NOT_AFTER_SECONDS).set(seconds.map_or(f64::NAN, |seconds| seconds as f64));
}

/// Counts what happened to dead letters.
pub fn count_letters(change: LetterChange, reason: &'static str, letters: u64) {
    counter!(LETTERS_TOTAL, "change" => change.label(), "reason" => reason).increment(letters);
}

/// Sets how many dead letters of one reason are kept, and their bytes.
pub fn set_letters(reason: &'static str, letters: u64, bytes: u64) {
    gauge!(LETTERS, "reason" => reason).set(letters as f64);
    gauge!(LETTERS_BYTES, "reason" => reason).set(bytes as f64);
}

/// Records a usage query.
pub fn observe_query(form: &'static str, complete: bool, rows: u64, took: Duration) {
    histogram!(QUERY_SECONDS, "form" => form).record(took);
    counter!(QUERY_ROWS_TOTAL).increment(rows);
    if !complete {
        counter!(INCOMPLETE_TOTAL).increment(1);
    }
}

/// Where log lines go and how they look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. `filter` as in `tracing_subscriber::EnvFilter`, e.g. `info,tollgate=debug`.
///
/// # Errors
/// The filter cannot be read.
pub fn install_logs(filter: &str, format: LogFormat) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter: tracing_subscriber::EnvFilter = filter.parse()?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call (tests) keeps the first one's output.
    let _already = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    Ok(())
}
