mod power_loss;

use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::segment::SEGMENT_HEADER_BYTES;
use super::*;
use crate::log::disk::RealDisk;
use crate::log::disk::simulated::{Fault, SimulatedDisk};
use crate::log::{Append, Appender, BLOCK_HEADER_BYTES, Block, Positions};
use proptest::prelude::*;

const IDENTITY: LogIdentity = LogIdentity { log_id: [3; 16], name: "events" };
const SMALL: Settings = Settings { segment_bytes: 300, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
const LARGE: Settings = Settings { segment_bytes: 1 << 30, ..SMALL };

fn open(dir: &Path, settings: Settings) -> Result<(Arc<EmbeddedLog>, EmbeddedAppender, Recovered), Error> {
    EmbeddedLog::open(Arc::new(RealDisk), dir, IDENTITY, settings)
}

/// A block of `count` records of 7 bytes that say which one they are.
fn block(first: u64, count: u32) -> Block {
    let mut block = Block::new(UnixMillis(1_000 + first as i64), 64);
    for at in 0..u64::from(count) {
        block.push(|to| to.extend_from_slice(format!("{:07}", first + at).as_bytes()));
    }
    block.seal()
}

fn append(appender: &mut EmbeddedAppender, blocks: &[u32]) -> Vec<Result<Range<Position>, Error>> {
    let mut first = appender.next().0;
    let mut group = Vec::new();
    for count in blocks {
        group.push(Append::unattended(block(first, *count)));
        first += u64::from(*count);
    }
    appender.append_and_wait(group).into_iter().map(|answer| answer.result.map(range)).collect()
}

fn range(positions: Positions) -> Range<Position> {
    match positions {
        Positions::Run { partition: 0, range } => range,
        other => panic!("a run in the only partition, not {other:?}"),
    }
}

fn append_durably(appender: &mut EmbeddedAppender, blocks: &[u32]) {
    for answer in append(appender, blocks) {
        answer.expect("is durable");
    }
}

/// Reads the records from `from` on, a little at a time, and checks that each says its own position.
fn read_all(log: &Arc<EmbeddedLog>, from: u64) -> Result<u64, Error> {
    let mut reader = log.reader();
    let mut next = from;
    while Position(next) < log.end() {
        let chunk = reader.read(Position(next), 100)?;
        for block in chunk.blocks() {
            for (at, record) in (block.first.0..).zip(block.payload.as_chunks::<7>().0) {
                if at >= next {
                    assert_eq!(record, format!("{at:07}").as_bytes());
                    next = at + 1;
                }
            }
        }
    }
    Ok(next)
}

fn last_segment(dir: &Path) -> PathBuf {
    let names = RealDisk.list(dir).expect("a list");
    dir.join(names.iter().rfind(|name| name.ends_with(".seg")).expect("a segment"))
}

#[test]
fn appends_get_consecutive_positions_over_segments_and_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut expected = 0;
    for restart in 0..4 {
        let (log, mut appender, recovered) = open(dir.path(), SMALL).expect("opens");
        assert_eq!(recovered, Recovered::default(), "the last process closed the log in good order");
        assert_eq!(log.end(), Position(expected));
        for group in [&[1, 2][..], &[3], &[1, 1, 40]] {
            for (answer, count) in append(&mut appender, group).into_iter().zip(group) {
                let end = expected + u64::from(*count);
                assert_eq!(answer.expect("is durable"), Position(expected)..Position(end));
                expected = end;
            }
        }
        for from in [0, 1, expected / 2, expected - 1] {
            assert_eq!(read_all(&log, from).expect("reads"), expected, "restart {restart}");
        }
        assert!(matches!(log.reader().read(Position(expected + 1), 1), Err(Error::OutOfRange { .. })));
        appender.close().expect("closes");
    }
}

#[test]
fn acked_is_durable_a_tail_torn_at_any_byte_reopens_as_a_prefix() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_log, mut appender, _) = open(dir.path(), LARGE).expect("opens");
    // What is synced, and then one group that a power cut tears.
    append_durably(&mut appender, &[2, 1]);
    let segment = last_segment(dir.path());
    let durable = std::fs::metadata(&segment).expect("is there").len();
    append_durably(&mut appender, &[1, 3]);
    let whole = std::fs::read(&segment).expect("reads");
    for cut in durable as usize..=whole.len() {
        for zeros in [false, true] {
            let copy = tempfile::tempdir().expect("a directory");
            let mut bytes = whole[..cut].to_vec();
            if zeros {
                // The length reached the disk, the data did not.
                bytes.resize(whole.len(), 0);
            }
            std::fs::write(copy.path().join(segment.file_name().expect("a name")), &bytes).expect("writes");
            let (log, mut appender, _) = open(copy.path(), LARGE).expect("recovers");
            let kept = log.end().0;
            assert!(kept >= 3, "cut at {cut}: what was synced is there");
            assert_eq!(read_all(&log, 0).expect("reads"), kept);
            assert_eq!(append(&mut appender, &[2]).remove(0).expect("goes on"), Position(kept)..Position(kept + 2));
            assert_eq!(read_all(&log, 0).expect("reads"), kept + 2);
        }
    }
}

#[test]
fn recovery_reads_its_own_work_without_recovering_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, mut appender, _) = open(dir.path(), LARGE).expect("opens");
    append_durably(&mut appender, &[2, 1]);
    drop(appender);
    let (_, _, recovered) = open(dir.path(), LARGE).expect("recovers");
    assert_eq!(recovered, Recovered { records: 3, torn_bytes: 0 });
    let (log, _, recovered) = open(dir.path(), LARGE).expect("opens");
    assert_eq!((recovered, log.end()), (Recovered::default(), Position(3)));
}

#[test]
fn a_flipped_bit_in_what_was_durable_is_an_error_with_file_and_offset() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, mut appender, _) = open(dir.path(), LARGE).expect("opens");
    for _ in 0..3 {
        append(&mut appender, &[2]).remove(0).expect("is durable");
    }
    let segment = last_segment(dir.path());
    let whole = std::fs::read(&segment).expect("reads");
    let file = std::fs::File::options().write(true).open(&segment).expect("opens");
    let block_bytes = BLOCK_HEADER_BYTES + 14;
    // Everything but the last block: behind a broken one stands a block that says the broken one was durable.
    for at in 0..whole.len() - block_bytes {
        if (40..SEGMENT_HEADER_BYTES).contains(&at) || (8..12).contains(&at) {
            continue; // padding
        }
        // In place: a file that is cut and written again is on its way to the disk when it is cut the next time, which waits for it.
        file.write_all_at(&[whole[at] ^ 1], at as u64).expect("writes");
        let opened = open(dir.path(), LARGE);
        file.write_all_at(&whole[at..=at], at as u64).expect("writes");
        match opened {
            Err(Error::Corrupt { file, .. }) => assert!(file.ends_with(".seg")),
            Ok((log, ..)) => panic!("byte {at}: opened with {} records", log.end()),
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_stops_the_reader_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, mut appender, _) = open(dir.path(), LARGE).expect("opens");
    append_durably(&mut appender, &[2, 2]);
    appender.close().expect("closes");
    let segment = last_segment(dir.path());
    let mut bytes = std::fs::read(&segment).expect("reads");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&segment, &bytes).expect("writes");
    let (log, _, _) = open(dir.path(), LARGE).expect("opens: the index says that it is whole");
    let error = read_all(&log, 0).expect_err("is damaged");
    assert!(matches!(&error, Error::Corrupt { file, offset: 126, .. } if file.ends_with(".seg")), "{error}");
}

#[test]
fn retention_takes_old_segments_but_none_that_the_reader_needs() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = Settings { retention_bytes: Some(700), ..SMALL };
    let (log, mut appender, _) = open(dir.path(), settings).expect("opens");
    for _ in 0..10 {
        append(&mut appender, &[30]).remove(0).expect("is durable");
    }
    assert_eq!(log.start(), Position(0), "nothing was read yet");
    log.keep_from(Position(100));
    append(&mut appender, &[30]).remove(0).expect("is durable");
    assert_eq!(log.start(), Position(90));
    assert_eq!(read_all(&log, 90).expect("reads"), 330);
    assert!(matches!(log.reader().read(Position(89), 1), Err(Error::OutOfRange { .. })));
    appender.close().expect("closes");
    let (log, ..) = open(dir.path(), settings).expect("opens");
    assert_eq!((log.start(), log.end()), (Position(90), Position(330)));
}

/// A log on a disk that can be made to fail.
fn simulated(settings: Settings) -> (SimulatedDisk, Arc<EmbeddedLog>, EmbeddedAppender) {
    let disk = SimulatedDisk::default();
    let (log, appender, _) = reopen(&disk, settings).expect("opens");
    (disk, log, appender)
}

fn reopen(disk: &SimulatedDisk, settings: Settings) -> Result<(Arc<EmbeddedLog>, EmbeddedAppender, Recovered), Error> {
    EmbeddedLog::open(Arc::new(disk.clone()), Path::new("log"), IDENTITY, settings)
}

/// Bytes of the newest segment.
fn last_length(disk: &SimulatedDisk) -> usize {
    let names = disk.list(Path::new("log")).expect("a list");
    let last = names.iter().rfind(|name| name.ends_with(".seg")).expect("a segment");
    disk.read(&Path::new("log").join(last)).expect("a file").len()
}

#[test]
fn a_failed_sync_acks_nobody_and_closes_the_log_for_good() {
    let (disk, log, mut appender) = simulated(LARGE);
    append_durably(&mut appender, &[2]);
    disk.fail(Fault::Sync, 0);
    for answer in append(&mut appender, &[1, 1]) {
        assert!(matches!(answer, Err(Error::Closed(_))));
    }
    assert_eq!(log.end(), Position(2), "readers see nothing of it");
    assert!(matches!(append(&mut appender, &[1]).remove(0), Err(Error::Closed(_))), "a sync that succeeds later proves nothing");
    assert!(appender.close().is_err());
    drop(appender);
    let (log, mut appender, _) = reopen(&disk, LARGE).expect("recovers");
    let kept = log.end().0;
    assert!((2..=4).contains(&kept), "what was acked is there; the rest may be");
    append_durably(&mut appender, &[1]);
    assert_eq!(read_all(&log, 0).expect("reads"), kept + 1);
}

#[test]
fn a_failed_or_short_write_acks_nobody_and_closes_the_log_for_good() {
    for fault in
        [Fault::Write(io::ErrorKind::Other), Fault::ShortWrite(io::ErrorKind::Other), Fault::ShortWrite(io::ErrorKind::FileTooLarge)]
    {
        let (disk, log, mut appender) = simulated(LARGE);
        append_durably(&mut appender, &[2]);
        disk.fail(fault, 0);
        assert!(matches!(append(&mut appender, &[3]).remove(0), Err(Error::Closed(_))), "{fault:?}");
        assert!(matches!(append(&mut appender, &[1]).remove(0), Err(Error::Closed(_))), "{fault:?}");
        assert_eq!(log.end(), Position(2));
        let (log, mut appender, _) = reopen(&disk, LARGE).expect("recovers");
        assert_eq!(log.end(), Position(2), "half of a block is none: {fault:?}");
        append_durably(&mut appender, &[1]);
        assert_eq!(read_all(&log, 0).expect("reads"), 3);
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let (disk, log, mut appender) = simulated(LARGE);
    append_durably(&mut appender, &[2]);
    let length = last_length(&disk);
    disk.fail_for_good(Fault::ShortWrite(io::ErrorKind::StorageFull), 0);
    for _ in 0..2 {
        // Half of the group is written, whole blocks of it.
        assert!(append(&mut appender, &[1, 1, 1, 1]).iter().all(|answer| matches!(answer, Err(Error::Full))));
        assert_eq!(last_length(&disk), length, "cut back to what is durable");
    }
    for seed in 0..100 {
        let (log, ..) = reopen(&disk.power_loss(seed), LARGE).expect("recovers");
        assert_eq!(log.end(), Position(2), "nothing was stored, whatever comes");
    }
    disk.mend();
    assert_eq!(append(&mut appender, &[3]).remove(0).expect("there is room"), Position(2)..Position(5));
    assert_eq!(read_all(&log, 0).expect("reads"), 5);
    drop(appender);
    let (log, ..) = reopen(&disk, LARGE).expect("recovers");
    assert_eq!(read_all(&log, 0).expect("reads"), 5);
}

#[test]
fn a_disk_that_is_full_when_a_segment_ends_or_begins_is_no_end_either() {
    // A segment ends and another begins with each group.
    let settings = Settings { segment_bytes: 100, ..SMALL };
    let (disk, log, mut appender) = simulated(settings);
    append_durably(&mut appender, &[5]);
    // The index of the old segment, the head of the new one, its first group.
    for (writes, end) in (0..3).zip(1..) {
        disk.fail_for_good(Fault::ShortWrite(io::ErrorKind::StorageFull), writes);
        for _ in 0..2 {
            assert!(matches!(append(&mut appender, &[1]).remove(0), Err(Error::Full)), "write {writes}");
        }
        disk.mend();
        append_durably(&mut appender, &[5]);
        assert_eq!(read_all(&log, 0).expect("reads"), 5 * (end + 1));
        let (log, ..) = reopen(&disk.process_end(), settings).expect("recovers");
        assert_eq!(read_all(&log, 0).expect("reads"), 5 * (end + 1));
    }
}

#[test]
fn appends_leave_the_reserve_and_go_on_when_there_is_room() {
    let settings = Settings { disk_reserve_bytes: 100_000, ..LARGE };
    let (disk, log, mut appender) = simulated(settings);
    disk.set_capacity(Some(200_000));
    let mut end = 0;
    while let Ok(positions) = append(&mut appender, &[100]).remove(0) {
        end = positions.end.0;
    }
    assert!(end > 1_000, "there was room for some");
    assert!(matches!(append(&mut appender, &[1]).remove(0), Err(Error::Full)));
    assert_eq!(log.end(), Position(end), "nothing was written");
    let used = disk.used_bytes();
    assert!((90_000..104_096).contains(&used), "{used} bytes are used: all but the reserve, and of it no more than one page");
    disk.set_capacity(Some(300_000));
    append_durably(&mut appender, &[100]);
    assert_eq!(read_all(&log, 0).expect("reads"), end + 100);
}

#[test]
fn a_tail_torn_at_any_byte_behind_a_segment_just_rolled_reopens_as_a_prefix() {
    let settings = Settings { segment_bytes: 100, ..SMALL };
    let (disk, _log, mut appender) = simulated(settings);
    append_durably(&mut appender, &[3]);
    append_durably(&mut appender, &[2]);
    let last = Path::new("log/00000000000000000003.seg");
    let whole = disk.read(last).expect("the second segment");
    for cut in 0..=whole.len() {
        for zeros in [false, true] {
            let disk = disk.process_end();
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(if zeros { whole.len() } else { cut }, 0);
            // A head that is not whole can only be one that was never synced: then nothing else is in the file.
            if cut < SEGMENT_HEADER_BYTES {
                bytes.truncate(SEGMENT_HEADER_BYTES);
            }
            disk.put(last, &bytes);
            let (log, mut appender, _) = reopen(&disk, settings).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            let kept = log.end().0;
            assert!([3, 5].contains(&kept), "cut at {cut}");
            assert_eq!(read_all(&log, 0).expect("reads"), kept);
            append_durably(&mut appender, &[2]);
            assert_eq!(read_all(&log, 0).expect("reads"), kept + 2);
        }
    }
}

#[test]
fn a_segment_of_another_log_is_not_taken_for_one_of_this() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, mut appender, _) = open(dir.path(), LARGE).expect("opens");
    append(&mut appender, &[1]).remove(0).expect("is durable");
    let other = LogIdentity { log_id: [4; 16], ..IDENTITY };
    assert!(matches!(EmbeddedLog::open(Arc::new(RealDisk), dir.path(), other, LARGE), Err(Error::Corrupt { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_groups_segments_and_restarts_read_back_in_order(
        actions in proptest::collection::vec((proptest::collection::vec(1_u32..9, 1..5), 0_u8..6), 1..20),
        segment_bytes in 100_u64..1_500,
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = Settings { segment_bytes, ..SMALL };
        let mut open_now = open(dir.path(), settings).expect("opens");
        let mut expected = 0;
        for (group, action) in actions {
            for answer in append(&mut open_now.1, &group) {
                expected = answer.expect("is durable").end.0;
            }
            match action {
                0 => {
                    open_now.1.close().expect("closes");
                    open_now = open(dir.path(), settings).expect("opens");
                }
                1 => open_now = open(dir.path(), settings).expect("recovers after a crash"),
                _ => {}
            }
            prop_assert_eq!(open_now.0.end(), Position(expected));
        }
        prop_assert_eq!(read_all(&open_now.0, 0).expect("reads"), expected);
        prop_assert_eq!(read_all(&open_now.0, expected / 3).expect("reads"), expected);
    }
}

#[test]
fn a_reader_knows_the_log_time_wherever_it_begins() {
    let dir = tempfile::tempdir().expect("a directory");
    let received = |position: u64| UnixMillis((position as i64 * 7_919) % 1_000);
    let append = |appender: &mut EmbeddedAppender, position: u64| {
        let mut block = Block::new(received(position), 64);
        // Large enough for a landmark in the index now and then.
        block.push(|to| to.extend_from_slice(&[0; 30_000]));
        let group = vec![Append::unattended(block.seal())];
        for answer in appender.append_and_wait(group) {
            answer.result.expect("is durable");
        }
    };
    let expected = |position: u64| (0..position).map(received).max().unwrap_or(UnixMillis(i64::MIN));
    let settings = Settings { segment_bytes: 400_000, ..SMALL };
    let (log, mut appender, _) = open(dir.path(), settings).expect("opens");
    (0..40).for_each(|position| append(&mut appender, position));
    let check = |log: &Arc<EmbeddedLog>, bytes_max: usize| {
        for from in 0..40 {
            let mut reader = log.reader();
            let mut next = Position(from);
            while next < log.end() {
                let chunk = reader.read(next, bytes_max).expect("reads");
                assert_eq!(chunk.log_time_before(), expected(next.0), "at {next}, from {from}");
                next = chunk.end().expect("something");
            }
        }
    };
    check(&log, 100);
    check(&log, 100_000);
    // A crash, whose recovery makes the index of the last segment again.
    drop(appender);
    let (log, ..) = open(dir.path(), settings).expect("recovers");
    check(&log, 100_000);
}
