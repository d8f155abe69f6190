use super::*;
use crate::log::kafka::Watermarks;
use crate::log::meta::FoldSettings;

const HORIZON_MS: i64 = 37 * 86_400_000;

fn good() -> Found {
    Found {
        cluster: "cluster-1".into(),
        name: "tollgate.events".into(),
        replication: 3,
        watermarks: vec![Watermarks { start: Position(5), end: Position(10) }; 2],
        min_insync_replicas: 2,
        unclean_leader_election: false,
        cleanup_policy: "delete".into(),
        retention_ms: Some(44 * 86_400_000),
        retention_bytes: None,
        timestamp_type: "CreateTime".into(),
        timestamp_after_ms_max: TIMESTAMP_AFTER_MS_MAX,
        message_bytes_max: MESSAGE_BYTES_MAX,
    }
}

fn judged(found: &Found) -> Result<(), String> {
    judged_with(found, Some(HORIZON_MS), &[Position(5), Position(10)], &[])
}

fn judged_with(
    found: &Found,
    dedup_horizon_ms: Option<i64>,
    positions: &[Position],
    marks: &[(u32, Mark, Option<Mark>)],
) -> Result<(), String> {
    let fold = FoldSettings { dedup_horizon_ms, dimension_sets_max: 10, partitions: 2 };
    let recorded = Recorded::new("cluster-1", "tollgate.events", fold).expect("made");
    check(&recorded, positions, marks, found).map_err(|error| error.to_string())
}

#[test]
fn a_topic_that_can_hold_the_promises_is_taken() {
    assert_eq!(judged(&good()), Ok(()));
    assert_eq!(judged(&Found { retention_ms: None, ..good() }), Ok(()));
    assert_eq!(judged(&Found { replication: 1, min_insync_replicas: 1, ..good() }), Ok(()));
    assert_eq!(judged_with(&Found { retention_ms: None, ..good() }, None, &[Position(7), Position(7)], &[]), Ok(()));
}

#[test]
fn every_setting_that_breaks_a_promise_is_refused_with_what_to_change() {
    let broken = [
        (Found { min_insync_replicas: 1, ..good() }, "min.insync.replicas is 1", "set it to 2"),
        (Found { min_insync_replicas: 4, ..good() }, "min.insync.replicas is 4", "set it to 2"),
        (Found { unclean_leader_election: true, ..good() }, "unclean.leader.election.enable is true", "set it to false"),
        (Found { cleanup_policy: "compact,delete".into(), ..good() }, "cleanup.policy is compact,delete", "set it to delete"),
        (Found { retention_bytes: Some(1 << 30), ..good() }, "retention.bytes is 1073741824", "set it to -1"),
        (Found { retention_ms: Some(HORIZON_MS - 1), ..good() }, "retention.ms is 3196799999", "3196800000 ms"),
        (Found { timestamp_type: "LogAppendTime".into(), ..good() }, "message.timestamp.type is LogAppendTime", "set it to CreateTime"),
        (Found { timestamp_after_ms_max: i64::MAX, ..good() }, "message.timestamp.after.max.ms", "set it to 3600000"),
        (Found { message_bytes_max: 1_000, ..good() }, "max.message.bytes is 1000", "1048588 or more"),
        (Found { watermarks: good().watermarks[..1].to_vec(), ..good() }, "the number of partitions is 1", "made with 2"),
    ];
    for (found, what, remedy) in broken {
        let refusal = judged(&found).expect_err(what);
        assert!(refusal.starts_with("topic tollgate.events: ") && refusal.contains(what) && refusal.contains(remedy), "{refusal}");
    }
    let unlimited = judged_with(&good(), None, &[], &[]).expect_err("refused");
    assert!(unlimited.contains("retention.ms") && unlimited.contains("unlimited"), "{unlimited}");
}

#[test]
fn another_topic_under_the_same_name_is_refused() {
    let mark = |crc32c| Mark { position: Position(9), crc32c };
    let positions = [Position(10), Position(10)];
    let refusals = [
        judged(&Found { cluster: "cluster-2".into(), ..good() }),
        judged(&Found { name: "other".into(), ..good() }),
        judged_with(&good(), Some(HORIZON_MS), &[Position(11), Position(10)], &[]),
        judged_with(&good(), Some(HORIZON_MS), &positions, &[(1, mark(1), Some(mark(2)))]),
    ];
    for refusal in refusals {
        let refusal = refusal.expect_err("refused");
        assert!(refusal.contains("not the one that the rows were made from") && refusal.contains("kafka.brokers"), "{refusal}");
    }
    // A record that retention took proves nothing.
    assert_eq!(judged_with(&good(), Some(HORIZON_MS), &positions, &[(0, mark(1), Some(mark(1))), (1, mark(1), None)]), Ok(()));
}

#[test]
fn records_that_are_gone_before_they_were_folded_are_noticed() {
    let refusal = judged_with(&good(), Some(HORIZON_MS), &[Position(4), Position(10)], &[]).expect_err("refused");
    assert!(refusal.contains("partition 0 begins at 5") && refusal.contains("from 4 on"), "{refusal}");
}

#[test]
fn fewer_replicas_than_are_set_are_refused() {
    assert_eq!(check_replication(3, &good()), Ok(()));
    assert_eq!(check_replication(1, &good()), Ok(()));
    let refusal = check_replication(3, &Found { replication: 1, ..good() }).expect_err("refused").to_string();
    assert!(refusal.contains("TOLLGATE_KAFKA_REPLICATION=1"), "{refusal}");
}
