//! The same for a cluster: a topic of Kafka against the rows in PostgreSQL, while the cluster runs.
//!
//! Rows and positions are copied first, as of one moment; the topic is folded up to these positions. What the nodes fold meanwhile changes
//! nothing of what is compared. The copy and the fold take room in the scratch directory: about twice that of the rows, and the
//! dedup index of one partition at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::files::Unfinished;
use super::super::{Error, Standing, Step, Watch};
use super::{Difference, Found, compare};
use crate::clock::Clock;
use crate::cluster;
use crate::log::disk::RealDisk;
use crate::log::kafka::topics::{self, Wanted};
use crate::log::kafka::wire::Form;
use crate::log::kafka::{self, KafkaPartition};
use crate::log::meta::LogMeta;
use crate::log::{Partition, Position};
use crate::materializer::{self, replay};
use crate::store::digest::RowsDigest;
use crate::store::embedded::EmbeddedStore;
use crate::store::postgres::PostgresStore;
use crate::store::{self, Item, Progress, RowKey, Snapshot, Store};

/// What is to be verified.
#[derive(Clone)]
pub struct VerifyCluster {
    /// How to reach Kafka.
    pub kafka: kafka::Settings,
    /// The topic of events.
    pub topic: Wanted,
    /// How to reach the database.
    pub database: store::postgres::Settings,
    /// Where copy and fold are made.
    pub scratch: PathBuf,
}

/// What came of it.
#[derive(Debug)]
pub struct ClusterVerified {
    /// Each partition as it is stored and as the topic has it; `stored` is `None` if the rows cannot be read.
    pub partitions: Vec<(Option<Standing>, Standing)>,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// How many there are.
    pub different: u64,
    /// Overflow rows that were begun by a version that kept no sketches, and are equal but for these.
    pub without_sketches: u64,
}

impl VerifyCluster {
    /// Does it.
    ///
    /// # Errors
    /// [`Error`]: nothing is known of the rows then.
    pub fn run(&self, watch: &mut Watch<'_>) -> Result<ClusterVerified, Error> {
        let database = PostgresStore::open(&self.database).map_err(|error| Error::Refused(error.to_string()))?;
        let refused = |error: &dyn std::fmt::Display| Error::Refused(error.to_string());
        let recorded = cluster::recorded(&database).map_err(|error| refused(&error))?;
        let recorded = recorded.ok_or_else(|| Error::Refused("the database knows of no log: no node has been started with it".into()))?;
        let meta = recorded.meta().map_err(|error| refused(&error))?;
        let scratch = Unfinished::begin(self.scratch.join("tollgate-verify.tmp"))?;
        let stored = EmbeddedStore::open(&scratch.path().join("stored.redb"))?;
        let progress = copy(&database, recorded.partitions, &stored)?;
        let found = topics::open(&self.kafka, &self.topic).map_err(|error| refused(&error))?;
        let positions: Vec<Position> = progress.iter().map(|progress| progress.next).collect();
        topics::check(&recorded, &positions, &[], &found).map_err(|error| refused(&error))?;
        let replayed = Arc::new(EmbeddedStore::open(&scratch.path().join("replayed.redb"))?);
        let total = positions.iter().map(|position| position.0).sum();
        let mut done = 0;
        for (partition, until) in kafka::partitions(&self.kafka, &found, Form::Events)?.into_iter().zip(&positions) {
            let mut step = |at: u64| watch(Step { what: "events", done: done + at, of: total });
            fold(&scratch, meta, &replayed, partition, *until, &mut step)?;
            done += until.0;
        }
        let (stored, replayed) = (stored.snapshot()?, replayed.snapshot()?);
        let mut differences = Found::default();
        compare(&*stored, &*replayed, &mut differences)?;
        let stored = match standings(&*stored, &progress) {
            Ok(standings) => standings.into_iter().map(Some).collect(),
            Err(store::Error::Damaged(_)) => vec![None; progress.len()],
            Err(error) => return Err(error.into()),
        };
        let partitions = stored.into_iter().zip(standings(&*replayed, &progress)?).collect();
        let Found { described, count, without_sketches } = differences;
        Ok(ClusterVerified { partitions, differences: described, different: count, without_sketches })
    }
}

/// Copies rows and conflicts as of one moment; returns how far they go.
fn copy(database: &PostgresStore, partitions: u32, to: &EmbeddedStore) -> Result<Vec<Progress>, Error> {
    let snapshot = database.snapshot()?;
    let partitions: Vec<u32> = (0..partitions).collect();
    // The first look: what is visited behind it is of the same moment, or fails.
    let progress = snapshot.progresses(&partitions)?;
    let each: Vec<(u32, Progress)> = partitions.into_iter().zip(progress.iter().copied()).collect();
    to.fill(&each, &mut |visit| {
        snapshot.visit(&mut |item| match item {
            Item::Document(..) => Ok(()),
            item => visit(item),
        })
    })?;
    Ok(progress)
}

fn fold(
    scratch: &Unfinished,
    meta: LogMeta,
    store: &Arc<EmbeddedStore>,
    partition: Arc<KafkaPartition>,
    until: Position,
    step: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let start = partition.newest_start()?;
    if until == Position(0) {
        return Ok(());
    }
    if start > Position(0) {
        return Err(Error::Refused(format!(
            "partition {} of the topic begins at position {start}: the records before are gone, so that its rows cannot be made from it",
            partition.number()
        )));
    }
    let index_dir = scratch.path().join("index");
    super::super::files::remove_if_there(&index_dir)?;
    let parts = materializer::Parts {
        log: partition,
        meta,
        store: store.clone(),
        disk: Arc::new(RealDisk),
        index_dir,
        clock: Clock::start(),
        commit_interval: materializer::commit_interval(),
        bases: None,
        undecodable: None,
    };
    replay::replay(parts, until, &mut |at| step(at.0).map_err(|_| materializer::Error::Stopped))?;
    Ok(())
}

/// Reads all rows, and tells them apart by partition.
fn standings(snapshot: &dyn Snapshot, progress: &[Progress]) -> Result<Vec<Standing>, store::Error> {
    let mut found: BTreeMap<u32, (RowsDigest, u64)> = BTreeMap::new();
    snapshot.visit(&mut |item| {
        match item {
            Item::Row(key, row) => {
                let partition = RowKey::read(key).ok_or_else(|| store::Error::Damaged("a row's key".into()))?.partition;
                found.entry(partition).or_default().0.add(key, row);
            }
            Item::Conflict(conflict) => found.entry(conflict.partition).or_default().1 += 1,
            Item::Document(..) => {}
        }
        Ok(())
    })?;
    let standing = |(partition, progress): (u32, &Progress)| {
        let (digest, conflicts) = found.remove(&partition).unwrap_or_default();
        Standing { partition, progress: *progress, rows: digest.rows(), conflicts, digest: digest.finish() }
    };
    Ok((0..).zip(progress).map(standing).collect())
}
