//! Verdicts over several partitions, each with an owner of its own, against plain lists of what was sent.

use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::event::{Amount, Draft, Measurement, MeterEvent, TimeWindow};
use crate::letters::tests as letters_tests;
use crate::log::disk::RealDisk;
use crate::log::memory::{MemoryLog, MemoryPartition};
use crate::log::meta::{FoldSettings, LogMeta};
use crate::log::record::{self, Decisions};
use crate::materializer::first_positions::First;
use crate::materializer::{self, Materializer, Running};
use crate::store::embedded::EmbeddedStore;
use crate::store::{KeyRange, Rows, Store, Visit};
use crate::usage::{View, ViewFuture};

pub(crate) const KEY: HashKey = HashKey::from_bytes([9; 16]);
const ACCOUNT: Account = Account { number: 1, identity: IdentityMode::UniqueId };
const OTHER: Account = Account { number: 2, identity: IdentityMode::UniqueId };
const ALL: usize = 1_000;

fn meta(partitions: u32) -> LogMeta {
    LogMeta { log_id: [5; 16], hash_key: KEY, fold: FoldSettings { dedup_horizon_ms: None, dimension_sets_max: 2, partitions } }
}

/// What a producer sends.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) account: Account,
    pub(crate) id: String,
    pub(crate) value: i64,
    pub(crate) dimension: u8,
    pub(crate) is_filtered: bool,
}

impl Sent {
    pub(crate) fn partition(&self, partitions: u32) -> u32 {
        partition(self.account.number, "", &self.id, partitions)
    }

    pub(crate) fn identity(&self) -> IdentityHash {
        KEY.identity_of(self.account.number, "", &self.id).expect("a possible id")
    }

    pub(crate) fn record(&self, received: UnixMillis) -> Vec<u8> {
        let dimension = self.dimension.to_string();
        let draft = Draft {
            namespace: "",
            unique_id: &self.id,
            unique_id_generated: false,
            customer_id: "c",
            time: Some(crate::clock::UnixMicros::of_seconds(20_000 * DAY_S)),
            measurements: &mut [Measurement { meter: "m", value: Amount::from_int(self.value) }],
            dimensions: &mut [("d", &dimension)],
        };
        let event = MeterEvent::check(draft, received, TimeWindow::default()).expect("a good event");
        let mut bytes = Vec::new();
        record::write(&mut bytes, &KEY, self.account, &event, Decisions { filtered: if self.is_filtered { u64::MAX } else { 0 } });
        bytes
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let account = prop_oneof![4 => Just(ACCOUNT), 1 => Just(OTHER)];
    (account, 0_u8..12, 0_i64..3, 0_u8..5, prop::bool::weighted(0.1)).prop_map(|(account, id, value, dimension, is_filtered)| Sent {
        account,
        id: format!("u-{id}"),
        value,
        // What an event says besides its value follows from its id, or everything would be a conflict.
        dimension: (id + dimension / 4) % 4,
        is_filtered,
    })
}

/// The fold of one partition, in a directory and a store of its own.
pub(crate) fn materialize(log: Arc<dyn Partition>, dir: PathBuf, partitions: u32) -> (Materializer, Running) {
    std::fs::create_dir_all(&dir).expect("a directory");
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&dir.join("store.redb")).expect("opens"));
    let (disk, index_dir) = (Arc::new(RealDisk), dir.join("index"));
    let parts = materializer::Parts {
        log,
        meta: meta(partitions),
        store,
        disk,
        index_dir,
        clock: Clock::start(),
        commit_interval: materializer::COMMIT_INTERVAL,
        bases: None,
        undecodable: None,
    };
    Materializer::start(parts).expect("starts")
}

/// The owners, each with what it sees of its partition.
struct Several(Vec<(Arc<MemoryPartition>, Materializer)>);

impl Several {
    /// Once it knows how far its partition goes.
    fn of(&self, partition: u32) -> &Materializer {
        let (seen, materializer) = &self.0[partition as usize];
        seen.newest_end().expect("an end");
        materializer
    }
}

impl Owners for Several {
    fn firsts(&self, partition: u32, lookups: Vec<Lookup>, wait: Duration) -> Answering<'_, Vec<Option<First>>> {
        Box::pin(self.of(partition).firsts(lookups, wait))
    }

    fn conflicts(&self, partition: u32, account: u32, before: Position, limit: usize, wait: Duration) -> Answering<'_, Vec<Conflict>> {
        Box::pin(self.of(partition).conflicts(account, before, limit, wait))
    }
}

struct AllRows(Vec<Box<dyn Rows>>);

impl Rows for AllRows {
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), store::Error> {
        self.0.iter().try_for_each(|rows| rows.scan(selection, visit))
    }

    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, store::Error> {
        let firsts = self.0.iter().map(|rows| rows.first_key(ranges)).collect::<Result<Vec<_>, _>>()?;
        Ok(firsts.into_iter().flatten().min())
    }
}

impl UsageSource for Several {
    fn view(&self, wanted: Vec<ViewRequest>, wait: Duration) -> ViewFuture<'_> {
        Box::pin(async move {
            let mut all = View { rows: Box::new(AllRows(Vec::new())), complete: true, positions: Vec::new() };
            let mut rows = Vec::new();
            for number in 0..self.0.len() as u32 {
                let view = UsageSource::view(self.of(number), wanted.clone(), wait).await?;
                all.complete &= view.complete;
                all.positions.extend(view.positions.iter().map(|(_, next)| (number, *next)));
                rows.push(view.rows);
            }
            all.rows = Box::new(AllRows(rows));
            Ok(all)
        })
    }
}

/// One that stands where it stood.
struct Unmoved;

impl UsageSource for Unmoved {
    fn view(&self, _: Vec<ViewRequest>, _: Duration) -> ViewFuture<'_> {
        Box::pin(async { Ok(View { rows: Box::new(AllRows(Vec::new())), complete: false, positions: vec![(0, 0)] }) })
    }
}

/// A log of several partitions, whoever folds it, and a plain list of what is in it.
struct World {
    logs: Vec<Arc<MemoryLog>>,
    verdicts: Arc<Verdicts>,
    letters: letters_tests::World,
    running: Vec<Running>,
    sent: Vec<Placed>,
    now: UnixMillis,
    _dir: TempDir,
}

#[derive(Debug, Clone)]
struct Placed {
    sent: Sent,
    partition: u32,
    position: Position,
    received: UnixMillis,
}

impl World {
    fn start(partitions: u32) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let logs: Vec<_> = (0..partitions).map(MemoryLog::new).collect();
        let folded = |log: &Arc<MemoryLog>| {
            let seen = log.seen();
            let (materializer, running) = materialize(seen.clone(), dir.path().join(seen.number().to_string()), partitions);
            ((seen, materializer), running)
        };
        let (owners, running) = logs.iter().map(folded).unzip();
        let owners = Arc::new(Several(owners));
        let letters = letters_tests::World::new();
        let clock = Clock::start();
        let parts = Parts {
            log: logs.iter().map(|log| log.seen() as Arc<dyn Partition>).collect(),
            letters: letters.letters.clone(),
            source: owners.clone(),
            owners,
            hash_key: KEY,
            clock: clock.clone(),
        };
        let now = UnixMillis(clock.now().0 - 3_600_000);
        Self { logs, verdicts: Arc::new(Verdicts::new(parts)), letters, running, sent: Vec::new(), now, _dir: dir }
    }

    fn send(&mut self, sent: Sent, passed_ms: i64) {
        self.now = UnixMillis(self.now.0 + passed_ms);
        let partition = sent.partition(self.logs.len() as u32);
        let position = self.logs[partition as usize].append(self.now, sent.record(self.now));
        self.sent.push(Placed { sent, partition, position, received: self.now });
    }

    /// The first of an event, if it was sent.
    fn first(&self, account: Account, id: &str) -> Option<&Placed> {
        self.sent.iter().find(|placed| placed.sent.account == account && placed.sent.id == id)
    }

    fn verdict(&self, placed: &Placed) -> Verdict {
        let first = self.first(placed.sent.account, &placed.sent.id).expect("was sent");
        let same = (first.sent.value, first.sent.dimension) == (placed.sent.value, placed.sent.dimension);
        match first.position == placed.position {
            true if placed.sent.is_filtered => Verdict::Filtered,
            true => Verdict::Counted,
            false if same => Verdict::Duplicate,
            false => Verdict::Conflict,
        }
    }

    /// Conflicts of a partition, newest first.
    fn conflicts(&self, account: Account, partition: u32) -> Vec<&Placed> {
        let of =
            |placed: &&Placed| placed.sent.account == account && placed.partition == partition && self.verdict(placed) == Verdict::Conflict;
        self.sent.iter().filter(of).rev().collect()
    }

    /// An account's events that are wanted, as a list has them.
    fn list(&self, account: Account, wanted: impl Fn(&Placed) -> bool) -> Vec<&Placed> {
        let of = |partition: u32| {
            let of = |placed: &&Placed| placed.sent.account == account && placed.partition == partition && wanted(placed);
            self.sent.iter().filter(of).collect::<Vec<_>>()
        };
        let mut rest: Vec<Vec<&Placed>> = (0..self.logs.len() as u32).map(of).collect();
        let mut all = Vec::new();
        while let Some(newest) = rest.iter().filter_map(|rest| rest.last()).map(|placed| placed.received).max() {
            let next = rest.iter_mut().find(|rest| rest.last().is_some_and(|placed| placed.received == newest));
            all.extend(next.and_then(Vec::pop));
        }
        all
    }

    /// A whole list, page by page.
    async fn pages(&self, account: Account, filter: Filter) -> Vec<Listed> {
        let (mut all, mut next) = (Vec::new(), filter.before.clone());
        loop {
            let filter = Filter { before: next.take(), ..filter.clone() };
            let page = self.verdicts.list(account.number, filter).await.expect("a page");
            all.extend(page.events);
            // As a client has it.
            let Some(cursor) = page.next else { return all };
            let text = serde_json::to_value(cursor).expect("serializes");
            let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
            next = Some(Cursor::parse(&text, self.verdicts.partitions()).expect("ours"));
        }
    }

    async fn expect_fates(&self) {
        for account in [ACCOUNT, OTHER] {
            for id in 0..13 {
                let id = format!("u-{id}");
                let fate = self.verdicts.fate(account, "", &id).await.expect("a fate");
                let Some(first) = self.first(account, &id) else {
                    assert!(matches!(fate, Fate::Unknown), "{id}: {fate:?}");
                    continue;
                };
                let Fate::Logged { verdict, partition, position, record, rows, conflicts } = fate else { panic!("{id}: {fate:?}") };
                assert_eq!((partition, position), (first.partition, first.position), "{id}");
                assert_eq!(verdict, Some(self.verdict(first)), "{id}");
                let record = record.expect("is there");
                assert_eq!((record.partition, record.position, record.received), (partition, position, first.received));
                let said: serde_json::Value = serde_json::from_str(record.event.get()).expect("JSON");
                assert_eq!((&said["uniqueId"], &said["meterValue"]), (&id.into(), &first.sent.value.into()));
                assert_eq!(rows.len(), usize::from(!first.sent.is_filtered));
                let latest = self.conflicts(account, partition).into_iter().take(CONFLICTS_MAX);
                let expected: Vec<_> = latest.filter(|one| one.sent.id == first.sent.id).map(|one| one.position).collect();
                assert_eq!(conflicts.iter().map(|record| record.position).collect::<Vec<_>>(), expected, "{}", first.sent.id);
            }
        }
    }

    async fn expect_lists(&self, limit: usize) {
        for account in [ACCOUNT, OTHER] {
            let shown = |placed: &&Placed| (placed.partition, placed.position, self.verdict(placed));
            let found = |listed: &Listed| match listed {
                Listed::Logged(verdict, record, first) => {
                    let copy_of = self.first(account, &record.unique_id).expect("was sent").position;
                    let is_copy = matches!(verdict, Verdict::Duplicate | Verdict::Conflict);
                    assert_eq!(first.as_ref().map(|first| first.position), is_copy.then_some(copy_of));
                    let other = first.as_ref().and_then(|first| first.record.as_ref()).map(|record| record.position);
                    assert_eq!(other, (*verdict == Verdict::Conflict).then_some(copy_of));
                    (record.partition, record.position, *verdict)
                }
                Listed::Rejected(letter) => panic!("{letter:?}"),
            };
            let page = Filter { limit, ..Filter::default() };
            let listed: Vec<_> = self.pages(account, page.clone()).await.iter().map(found).collect();
            let expected = |wanted: &dyn Fn(&Placed) -> bool| self.list(account, wanted).iter().map(shown).collect::<Vec<_>>();
            assert_eq!(listed, expected(&|_| true));
            for wanted in [Verdict::Counted, Verdict::Duplicate, Verdict::Filtered] {
                let filter = Filter { verdict: Some(WantedVerdict::InLog(wanted)), ..page.clone() };
                let listed: Vec<_> = self.pages(account, filter).await.iter().map(found).collect();
                assert_eq!(listed, expected(&|placed| self.verdict(placed) == wanted));
            }
            let half_way = self.sent.get(self.sent.len() / 2).map_or(self.now, |placed| placed.received);
            let filter = Filter {
                unique_id_part: Some("-1".into()),
                customer_part: Some("c".into()),
                firsts_only: true,
                received_since: Some(UnixMillis(0)),
                received_until: Some(half_way),
                ..page.clone()
            };
            let listed: Vec<_> = self.pages(account, filter).await.iter().map(found).collect();
            let is_first = |placed: &Placed| matches!(self.verdict(placed), Verdict::Counted | Verdict::Filtered);
            let is_wanted = |placed: &Placed| is_first(placed) && placed.received <= half_way && placed.sent.id.contains("-1");
            assert_eq!(listed, expected(&is_wanted));
            let time = crate::clock::UnixMicros::of_seconds(20_000 * DAY_S);
            for (happened, is_there) in
                [(time..=time, true), (crate::clock::UnixMicros(time.0 + 1)..=crate::clock::UnixMicros(i64::MAX), false)]
            {
                let listed = self.pages(account, Filter { happened: Some(happened), ..page.clone() }).await;
                assert_eq!(listed.len(), if is_there { expected(&|_| true).len() } else { 0 });
            }
            let (unique_id, namespace) = (Some("u-3".to_owned()), Some(String::new()));
            let filter = Filter { unique_id, namespace, ..page.clone() };
            let listed: Vec<_> = self.pages(account, filter).await.iter().map(found).collect();
            assert_eq!(listed, expected(&|placed| placed.sent.id == "u-3"));
            let filter = Filter { verdict: Some(WantedVerdict::InLog(Verdict::Conflict)), ..page };
            let conflicts: Vec<_> = self.pages(account, filter).await.iter().map(found).collect();
            // The latest of each partition are kept for sure.
            let is_kept = |placed: &Placed| {
                self.conflicts(account, placed.partition).iter().take(CONFLICTS_MAX).any(|kept| kept.position == placed.position)
            };
            assert_eq!(conflicts, expected(&|placed| conflicts.contains(&shown(&placed))));
            for kept in expected(&is_kept) {
                assert!(conflicts.contains(&kept), "{kept:?}");
            }
        }
    }

    async fn expect_reconciled(&self) {
        let ids: Vec<String> = (0..13).chain(3..5).map(|id| format!("u-{id}")).collect();
        let found = self.verdicts.reconcile(ACCOUNT, "", &ids).await.expect("answers");
        assert_eq!(found.standings.len(), ids.len());
        for (id, standing) in ids.iter().zip(found.standings) {
            match (standing, self.first(ACCOUNT, id)) {
                (Standing::Missing, None) => {}
                (Standing::Logged { verdict, partition, position, conflicts }, Some(first)) => {
                    assert_eq!((partition, position), (first.partition, first.position), "{id}");
                    assert!(verdict.is_none_or(|verdict| verdict == self.verdict(first)), "{id}");
                    let latest = self.conflicts(ACCOUNT, partition).into_iter().take(CONFLICTS_MAX);
                    assert_eq!(conflicts, latest.filter(|one| one.sent.id == *id).map(|one| one.position).collect::<Vec<_>>());
                }
                (standing, first) => panic!("{id}: {standing:?}, {first:?}"),
            }
        }
    }

    fn stop(self) {
        let Self { verdicts, running, letters, .. } = self;
        drop((verdicts, letters));
        running.into_iter().for_each(|running| running.stop().expect("stops"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn every_event_has_its_verdict_whatever_its_partition(
        sent in proptest::collection::vec((sent(), -2_i64..4), 0..70), partitions in 1_u32..6, limit in 1_usize..12,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::start(partitions);
            let half = sent.len() / 2;
            for (at, (sent, passed)) in sent.into_iter().enumerate() {
                world.send(sent, passed);
                if at == half {
                    // Whoever asked before knows an older end.
                    asked(&world).await;
                }
            }
            world.expect_fates().await;
            world.expect_lists(limit).await;
            world.expect_reconciled().await;
            world.stop();
        });
    }
}

/// Nothing of this but that the ends are known.
async fn asked(world: &World) {
    world.verdicts.list(ACCOUNT.number, Filter { limit: 1, ..Filter::default() }).await.expect("a page");
}

fn event(id: &str) -> Sent {
    Sent { account: ACCOUNT, id: id.into(), value: 1, dimension: 1, is_filtered: false }
}

/// An id that is in this partition.
fn id_in(partition: u32, partitions: u32) -> String {
    (0..).map(|at| format!("x-{at}")).find(|id| event(id).partition(partitions) == partition).expect("there are many")
}

#[tokio::test]
async fn what_retention_takes_in_the_middle_is_gone_and_the_rest_is_listed() {
    let mut world = World::start(2);
    for at in 0..40 {
        world.send(event(&format!("u-{at}")), 1);
    }
    let first = Filter { limit: 5, ..Filter::default() };
    let page = world.verdicts.list(1, first.clone()).await.expect("a page");
    let (fate, taken) = ("u-0", world.first(ACCOUNT, "u-0").expect("was sent").clone());
    for log in &world.logs {
        log.drop_before(Position(12));
    }
    let left: Vec<_> = world.list(ACCOUNT, |placed| placed.position >= Position(12));
    let mut found: Vec<_> = page.events;
    found.extend(world.pages(ACCOUNT, Filter { before: page.next, ..first }).await);
    let place = |listed: &Listed| match listed {
        Listed::Logged(_, record, _) => (record.partition, record.position),
        Listed::Rejected(letter) => panic!("{letter:?}"),
    };
    assert_eq!(found.iter().map(place).collect::<Vec<_>>(), left.iter().map(|left| (left.partition, left.position)).collect::<Vec<_>>());
    let fate = world.verdicts.fate(ACCOUNT, "", fate).await.expect("a fate");
    assert!(
        matches!(&fate, Fate::Logged { verdict: None, record: None, partition, position, .. } if (*partition, *position) == (taken.partition, taken.position)),
        "{fate:?}"
    );
    world.stop();
}

#[tokio::test]
async fn a_dimension_set_past_the_limit_of_its_partition_is_not_found_in_another_one() {
    let mut world = World::start(2);
    let (here, there) = (id_in(0, 2), id_in(1, 2));
    // In partition 0 two sets are room for, in partition 1 the third of partition 0 is the first.
    world.send(Sent { dimension: 1, ..event(&here) }, 1);
    let more = (1..).map(|at| format!("y-{at}")).filter(|id| event(id).partition(2) == 0).take(2).collect::<Vec<_>>();
    world.send(Sent { dimension: 2, ..event(&more[0]) }, 1);
    world.send(Sent { dimension: 3, ..event(&more[1]) }, 1);
    world.send(Sent { dimension: 3, ..event(&there) }, 1);
    let dimensions = |fate: Fate| match fate {
        Fate::Logged { rows, .. } => rows.into_iter().map(|row| row.dimensions).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let set = |dimension: &str| vec![Some(vec![("d".to_owned(), dimension.to_owned())])];
    let fate = async |id: &str| dimensions(world.verdicts.fate(ACCOUNT, "", id).await.expect("a fate"));
    assert_eq!((fate(&here).await, fate(&there).await), (set("1"), set("3")));
    assert_eq!(fate(&more[1]).await, [None]);
    world.stop();
}

#[tokio::test]
async fn rows_that_are_behind_are_no_verdict() {
    let mut world = World::start(1);
    world.send(event("u-1"), 1);
    let log: Vec<Arc<dyn Partition>> = vec![world.logs[0].seen()];
    let Verdicts { letters, owners, clock, .. } = &*world.verdicts;
    let parts =
        Parts { log, letters: letters.clone(), source: Arc::new(Unmoved), owners: owners.clone(), hash_key: KEY, clock: clock.clone() };
    let fate = Arc::new(Verdicts::new(parts)).fate(ACCOUNT, "", "u-1").await;
    assert!(matches!(fate, Err(Error::View(ViewError::Behind))), "{fate:?}");
    world.stop();
}

#[tokio::test]
async fn an_id_alone_names_nothing_where_all_attributes_do() {
    let world = World::start(3);
    let account = Account { identity: IdentityMode::AllAttributes, ..ACCOUNT };
    assert!(matches!(world.verdicts.fate(account, "", "u").await, Err(Error::NotAnId)));
    assert!(matches!(world.verdicts.reconcile(account, "", &[]).await, Err(Error::NotAnId)));
    world.stop();
}

#[tokio::test]
async fn a_full_page_of_one_partition_is_no_more_than_it_may_have() {
    let mut world = World::start(3);
    for at in 0..9 {
        world.send(event(&format!("u-{at}")), 0);
    }
    let page = world.verdicts.list(1, Filter { limit: ALL, ..Filter::default() }).await.expect("a page");
    assert_eq!((page.events.len(), page.next), (9, None));
    world.stop();
}
