//! Promise 1 on a disk that loses its power: whatever was acked is there, whatever was not is there whole or not at all, and
//! what a recovery gave out once survives the next loss.

use super::*;
use crate::log::disk::simulated::Random;

/// What is done to the log next.
#[derive(Debug, Clone)]
enum Action {
    /// A group of blocks, with so many records each.
    Append(Vec<u32>),
    /// The same, while this fails after so many operations of its kind.
    AppendFailing(Vec<u32>, Fault, u64),
    /// The process ends and starts again.
    Restart,
    /// The process closes the log and starts again.
    Close,
    /// The power goes; so it does in the middle of so many recoveries, each at this operation.
    PowerLoss { seed: u64, cuts: Vec<u64> },
    /// The reader has come this far, in per mille of what there is.
    Passed(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let group = || proptest::collection::vec(1_u32..40, 1..5);
    let fault = prop_oneof![
        2 => Just(Fault::Sync),
        1 => Just(Fault::SyncDir),
        1 => Just(Fault::Write(io::ErrorKind::Other)),
        1 => Just(Fault::ShortWrite(io::ErrorKind::Other)),
        2 => Just(Fault::ShortWrite(io::ErrorKind::StorageFull)),
        4 => Just(Fault::Everything),
    ];
    let action = prop_oneof![
        8 => group().prop_map(Action::Append),
        4 => (group(), fault, 0_u64..6).prop_map(|(group, fault, after)| Action::AppendFailing(group, fault, after)),
        1 => Just(Action::Restart),
        1 => Just(Action::Close),
        4 => (any::<u64>(), proptest::collection::vec(0_u64..14, 0..3)).prop_map(|(seed, cuts)| Action::PowerLoss { seed, cuts }),
        1 => (0_u64..1_000).prop_map(Action::Passed),
    ];
    proptest::collection::vec(action, 1..30)
}

/// What must be there: a list of records.
#[derive(Default)]
struct Model {
    /// Was acked, or given out by a recovery.
    durable: Vec<[u8; 7]>,
    /// Blocks of the group whose outcome is unknown, in order.
    unknown: Vec<Vec<[u8; 7]>>,
    /// Records made so far: no two are alike.
    made: u64,
}

impl Model {
    fn blocks(&mut self, counts: &[u32]) -> Vec<Vec<[u8; 7]>> {
        let mut record = || {
            self.made += 1;
            *format!("{:07}", self.made).as_bytes().first_chunk().expect("seven digits")
        };
        counts.iter().map(|count| (0..*count).map(|_| record()).collect()).collect()
    }

    /// Holds what is read against what must be there, and takes over what is there beside.
    fn check(&mut self, log: &Arc<EmbeddedLog>) {
        let start = log.start().0 as usize;
        let found = read_records(log);
        let known = &self.durable[start..];
        assert!(found.len() >= known.len(), "{} records are there, {} were acked", found.len(), known.len());
        let (old, new) = found.split_at(known.len());
        assert!(old == known, "what was acked is there, in order");
        let wholes = (0..=self.unknown.len()).map(|blocks| self.unknown[..blocks].concat());
        assert!(wholes.into_iter().any(|whole| whole == new), "whole blocks of what was not acked, or nothing: {new:?}");
        self.durable.extend_from_slice(new);
        self.unknown.clear();
        assert_eq!(log.end().0 as usize, self.durable.len());
    }
}

fn read_records(log: &Arc<EmbeddedLog>) -> Vec<[u8; 7]> {
    let (mut reader, mut next, mut found) = (log.reader(), log.start(), Vec::new());
    while next < log.end() {
        let chunk = reader.read(next, 200).expect("reads");
        chunk.blocks().for_each(|block| found.extend_from_slice(block.payload.as_chunks().0));
        next = chunk.end().expect("some");
    }
    found
}

struct Log {
    disk: SimulatedDisk,
    settings: Settings,
    shared: Arc<EmbeddedLog>,
    appender: EmbeddedAppender,
}

impl Log {
    fn open(disk: SimulatedDisk, settings: Settings, model: &mut Model) -> Self {
        let (shared, appender, _) = reopen(&disk, settings).unwrap_or_else(|error| panic!("does not open: {error}"));
        model.check(&shared);
        Self { disk, settings, shared, appender }
    }

    fn append(&mut self, model: &mut Model, counts: &[u32]) {
        let blocks = model.blocks(counts);
        let append = |records: &Vec<[u8; 7]>| {
            let mut block = Block::new(UnixMillis(1_000), 64);
            records.iter().for_each(|record| block.push(|to| to.extend_from_slice(record)));
            Append::unattended(block.seal())
        };
        let answers = self.appender.append_and_wait(blocks.iter().map(append).collect());
        match answers.first().map(|answer| answer.result.clone()) {
            Some(Ok(positions)) => {
                assert_eq!(range(positions).start.0 as usize, model.durable.len());
                model.durable.extend(blocks.concat());
            }
            Some(Err(Error::Full)) => {}
            // A log that was closed before does not even try.
            Some(Err(_)) if model.unknown.is_empty() => model.unknown = blocks,
            Some(Err(_)) | None => {}
        }
    }

    /// Loses power, and again in the middle of each recovery.
    fn lose_power(&mut self, model: &mut Model, mut seed: u64, cuts: &[u64]) {
        let mut disk = self.disk.power_loss(seed);
        for cut in cuts {
            seed = Random::new(seed).next();
            disk.fail(Fault::Everything, *cut);
            if let Ok((log, ..)) = reopen(&disk, self.settings) {
                // It came to its end before the cut, and gave out what it found.
                model.check(&log);
            }
            disk = disk.power_loss(seed);
        }
        *self = Self::open(disk, self.settings, model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn acked_is_durable_through_any_losses_of_power_also_in_a_recovery(
        actions in actions(),
        segment_bytes in 100_u64..3_000,
        retention_bytes in prop_oneof![2 => Just(None), 1 => (1_000_u64..9_000).prop_map(Some)],
    ) {
        let settings = Settings { segment_bytes, retention_bytes, ..SMALL };
        let mut model = Model::default();
        let mut log = Log::open(SimulatedDisk::default(), settings, &mut model);
        for action in actions {
            match action {
                Action::Append(counts) => log.append(&mut model, &counts),
                Action::AppendFailing(counts, fault, after) => {
                    log.disk.fail(fault, after);
                    log.append(&mut model, &counts);
                    if fault != Fault::Everything {
                        log.disk.mend();
                    }
                }
                Action::Restart => log = Log::open(log.disk.process_end(), settings, &mut model),
                Action::Close => {
                    // A log whose disk failed says so; the next start recovers.
                    drop(log.appender.close());
                    log = Log::open(log.disk.process_end(), settings, &mut model);
                }
                Action::PowerLoss { seed, cuts } => log.lose_power(&mut model, seed, &cuts),
                Action::Passed(per_mille) => log.shared.keep_from(Position(log.shared.end().0 * per_mille / 1_000)),
            }
            if model.unknown.is_empty() {
                model.check(&log.shared);
            }
        }
        log.lose_power(&mut model, 1, &[]);
    }
}
