//! Series that are there before anything happened.
//!
//! An alert on an increase needs two samples of a series: one that appears with its first increment hides just that one. Labels are closed
//! sets, so what is counted by them begins at zero here. Not here: routes other than ingest, of which there are many; what is known per
//! partition ([`begin_partition`]); what only a node of a cluster has ([`super::begin_cluster`]); sizes, which are never zero by assumption.

use metrics::{counter, gauge, histogram};

use super::{
    ANSWER_BYTES, BUILD_INFO, COMMIT_ROWS_TOTAL, COMMIT_SECONDS, CONNECTIONS, EVENTS_TOTAL, GROUP_APPENDS, GROUP_RECORDS, INCOMPLETE_TOTAL,
    LAG_RECORDS, LAG_SECONDS, LETTERS_TOTAL, LOG_APPENDED_BYTES_TOTAL, LOG_CLOSED, LetterChange, Outcome, QUERY_ROWS_TOTAL, QUERY_SECONDS,
    RECENT_IDS_EVICTED_TOTAL, REJECTED_TOTAL, REQUEST_SECONDS, REQUESTS_TOTAL, ROOM_REFUSED_TOTAL, ROOM_WAIT_SECONDS, RoomKind,
    SYNC_SECONDS, TLS_NOT_AFTER_SECONDS, TLS_RELOAD_FAILED, UNCOMMITTED_RECORDS, VERDICTS_TOTAL,
};
use crate::event::Code;

const LOGS: [&str; 2] = ["events", "dead_letters"];
const INGEST_STATUSES: [&str; 7] = ["200", "400", "401", "413", "429", "500", "503"];

pub(super) fn begin() {
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    begin_door();
    begin_logs();
    counter!(COMMIT_ROWS_TOTAL).increment(0);
    drop(histogram!(COMMIT_SECONDS));
    for form in ["a", "b", "all"] {
        drop(histogram!(QUERY_SECONDS, "form" => form));
    }
    counter!(INCOMPLETE_TOTAL).increment(0);
    counter!(QUERY_ROWS_TOTAL).increment(0);
    gauge!(TLS_RELOAD_FAILED).set(0.0);
    gauge!(TLS_NOT_AFTER_SECONDS).set(f64::NAN);
}

fn begin_door() {
    for outcome in Outcome::ALL {
        counter!(EVENTS_TOTAL, "outcome" => outcome.label()).increment(0);
    }
    for reason in Code::ALL.map(Code::label).into_iter().chain(["strict"]) {
        counter!(REJECTED_TOTAL, "reason" => reason).increment(0);
    }
    for status in INGEST_STATUSES {
        counter!(REQUESTS_TOTAL, "route" => "/ingest", "status" => status).increment(0);
    }
    drop(histogram!(REQUEST_SECONDS, "route" => "/ingest"));
    gauge!(CONNECTIONS).set(0.0);
    gauge!(ANSWER_BYTES).set(0.0);
    for room in [RoomKind::Ingest, RoomKind::Api].map(RoomKind::label) {
        drop(histogram!(ROOM_WAIT_SECONDS, "room" => room));
        for reason in ["late", "line_full", "growing"] {
            counter!(ROOM_REFUSED_TOTAL, "room" => room, "reason" => reason).increment(0);
        }
    }
    for cause in ["age", "size"] {
        counter!(RECENT_IDS_EVICTED_TOTAL, "cause" => cause).increment(0);
    }
}

fn begin_logs() {
    for log in LOGS {
        drop((histogram!(GROUP_APPENDS, "log" => log), histogram!(GROUP_RECORDS, "log" => log), histogram!(SYNC_SECONDS, "log" => log)));
        counter!(LOG_APPENDED_BYTES_TOTAL, "log" => log).increment(0);
        gauge!(LOG_CLOSED, "log" => log).set(0.0);
    }
    for change in LetterChange::ALL.map(LetterChange::label) {
        for reason in Code::ALL.map(Code::label).into_iter().chain(["undecodable", "other", "unread"]) {
            counter!(LETTERS_TOTAL, "change" => change, "reason" => reason).increment(0);
        }
    }
}

/// Says that a partition is folded here: its series begin.
pub fn begin_partition(partition: u32) {
    for verdict in ["counted", "duplicate", "conflict", "filtered", "undecodable"] {
        counter!(VERDICTS_TOTAL, "partition" => partition.to_string(), "verdict" => verdict).increment(0);
    }
    gauge!(LAG_RECORDS, "partition" => partition.to_string()).set(0.0);
    gauge!(LAG_SECONDS, "partition" => partition.to_string()).set(0.0);
    gauge!(UNCOMMITTED_RECORDS, "partition" => partition.to_string()).set(0.0);
}
