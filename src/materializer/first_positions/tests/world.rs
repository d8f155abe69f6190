//! The index against the rule, whatever happens to both.

use super::*;
use crate::log::disk::read_file;
use proptest::prelude::*;

/// What happens to an index, its log and the rows.
#[derive(Debug, Clone)]
enum Action {
    /// Records come, each with how much later it is received; they are looked up together.
    Records(Vec<(u64, i64)>),
    /// The rows are committed up to here.
    Commit,
    Freeze,
    /// Everything that is to be written and merged is.
    Settle,
    /// The process is killed, now or when its threads have come to an end, and leaves files behind.
    Crash {
        at_once: bool,
    },
    /// The rows are restored from a backup of so many parts in ten.
    SetBack(u64),
    /// Goes on with a copy.
    Link,
    /// Another node goes on, with what it gets of the index, in the place of what it had itself: this index as it was at its begin, or none.
    HandOver {
        has_some: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let record = (0_u64..12, prop_oneof![4 => Just(0_i64), 4 => 0_i64..6, 1 => 0_i64..60]);
    prop_oneof![
        12 => proptest::collection::vec(record, 1..24).prop_map(Action::Records),
        4 => Just(Action::Commit),
        2 => Just(Action::Freeze),
        2 => Just(Action::Settle),
        2 => any::<bool>().prop_map(|at_once| Action::Crash { at_once }),
        1 => (0_u64..10).prop_map(Action::SetBack),
        1 => Just(Action::Link),
        2 => any::<bool>().prop_map(|has_some| Action::HandOver { has_some }),
    ]
}

/// A log with the verdicts that the rule of promise 5 gives, obviously; rows, of which only the position matters; an index.
struct World {
    root: tempfile::TempDir,
    generation: u32,
    horizon: Option<i64>,
    /// (id, log time, first).
    log: Vec<(u64, i64, Option<u64>)>,
    committed: usize,
    index: Option<FirstPositions>,
}

impl World {
    fn new(horizon: Option<i64>) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let mut world = Self { root, generation: 0, horizon, log: Vec::new(), committed: 0, index: None };
        world.start();
        world
    }

    fn dir(&self) -> std::path::PathBuf {
        self.root.path().join(self.generation.to_string())
    }

    fn next_dir(&mut self) -> std::path::PathBuf {
        self.generation += 1;
        self.dir()
    }

    /// The log time before a position: 0 at the begin, as in an empty store.
    fn log_time(&self, next: usize) -> i64 {
        next.checked_sub(1).map_or(0, |last| self.log[last].1)
    }

    fn index(&mut self) -> &mut FirstPositions {
        self.index.as_mut().expect("is open")
    }

    fn maintain(&mut self, next: usize) {
        let (log_time, committed) = (self.log_time(next), self.log_time(self.committed));
        let maintained = self.index().maintain(Position(next as u64), UnixMillis(log_time), UnixMillis(committed));
        maintained.expect("maintains");
    }

    /// Looks records up as the materializer does, all of them together, and compares.
    fn look_up(&mut self, positions: std::ops::Range<usize>) {
        let records: Vec<_> = positions.clone().map(|at| (at, self.log[at])).collect();
        let mut standings = Vec::new();
        let batch: Vec<Asked> = records.iter().map(|(at, (id, log_time, _))| asked(*id, *at as u64, *log_time)).collect();
        self.index().stand_all(&batch, &mut standings).expect("answers");
        for ((at, (id, log_time, first)), standing) in records.iter().zip(standings) {
            let right = first.map_or(Standing::First, |first| Standing::Copy { of: Position(first), content: ContentHash(*id) });
            assert_eq!(standing, right, "position {at}");
            let found = self.index().first(identity(*id), Position(0)..Position(*at as u64), UnixMillis(*log_time)).expect("answers");
            assert_eq!(found.map(|found| found.position.0), *first, "position {at}");
        }
        self.maintain(positions.end);
    }

    /// From what is covered to what is committed, then what the rows lack.
    fn start(&mut self) {
        let committed = self.log_time(self.committed);
        let disk = Arc::new(PoorDisk::default());
        self.index = Some(FirstPositions::open(disk, &self.dir(), LOG, self.horizon, UnixMillis(committed)).expect("opens"));
        let covered = self.index().covered().0 as usize;
        assert!(covered <= self.log.len());
        if covered < self.committed {
            self.look_up(covered..self.committed);
        }
        for begin in (self.committed..self.log.len()).step_by(20) {
            self.look_up(begin..self.log.len().min(begin + 20));
        }
    }

    fn append(&mut self, records: Vec<(u64, i64)>) {
        let begin = self.log.len();
        for (id, later) in records {
            let log_time = self.log_time(self.log.len()).max(1_000) + later;
            let is_first = |(of, (first, time, copy)): &(u64, &(u64, i64, Option<u64>))| {
                let age = log_time - time;
                *first == id && copy.is_none() && self.horizon.is_none_or(|horizon| age < horizon) && *of < self.log.len() as u64
            };
            let first = (0..).zip(&self.log).find(is_first).map(|(of, _)| of);
            self.log.push((id, log_time, first));
        }
        self.look_up(begin..self.log.len());
    }

    fn act(&mut self, action: Action) {
        let next = self.log.len();
        let log_time = self.log_time(next);
        match action {
            Action::Records(records) => self.append(records),
            Action::Commit => self.committed = next,
            Action::Freeze => self.index().freeze_at(Position(next as u64), UnixMillis(log_time)).expect("freezes"),
            Action::Settle => {
                let committed = self.log_time(self.committed);
                settle(self.index(), next as u64, log_time, committed);
            }
            Action::Crash { at_once } => {
                if at_once {
                    let (from, to) = (self.dir(), self.next_dir());
                    copy_as_found(&from, &to);
                }
                self.index = None;
                std::fs::write(self.dir().join("999999999999.run"), b"?").expect("writes");
                std::fs::write(self.dir().join("manifest.json.tmp"), b"{").expect("writes");
                self.start();
            }
            Action::SetBack(tenths) => {
                self.index = None;
                self.committed = self.committed * tenths as usize / 10;
                self.start();
            }
            Action::Link => {
                let to = self.next_dir();
                self.index().link_into(&to).expect("links");
                self.index = None;
                self.start();
            }
            Action::HandOver { has_some } => {
                let (from, to) = (self.dir(), self.next_dir());
                if has_some {
                    copy_as_found(&from, &to);
                }
                // The other node folds on as a zombie does.
                super::copies::hand_over_if_any(&from, &to, self.horizon);
                self.index = None;
                self.start();
            }
        }
    }
}

/// What a process leaves that is killed while its threads write: some of the files may vanish meanwhile, and a manifest without its
/// runs is a damaged index.
fn copy_as_found(from: &Path, to: &Path) {
    RealDisk.create_dir(to).expect("makes");
    for name in RealDisk.list(from).expect("lists") {
        if let Some(bytes) = read_file(&RealDisk, &from.join(&name)).expect("reads") {
            std::fs::write(to.join(name), bytes).expect("writes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn verdicts_are_those_of_the_rule_whatever_was_flushed_or_reopened(
        actions in proptest::collection::vec(action(), 1..40),
        horizon in prop_oneof![1 => Just(None), 3 => (1_i64..120).prop_map(Some)],
    ) {
        let mut world = World::new(horizon);
        actions.into_iter().for_each(|action| world.act(action));
    }
}
