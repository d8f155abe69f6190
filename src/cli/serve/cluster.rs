//! Log on Kafka, rows in PostgreSQL, other nodes beside this one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use anyhow::{Context, bail};

use super::{Parts, Shell};
use crate::batch::Batcher;
use crate::cluster::group::{Member, Membership};
use crate::cluster::health::{Asking, Health, Ready};
use crate::cluster::marks::Marks;
use crate::cluster::owners::{self, Owned};
use crate::cluster::source::{self, ClusterSource, Wishes};
use crate::cluster::{self, NodeSecret, OwnedHere, OwnerAddress, Routed, internal};
use crate::config::{Config, Role};
use crate::data_dir::{self, DataDir};
use crate::gateway;
use crate::letters::UndecodableLetters;
use crate::log::disk::{Disk, RealDisk};
use crate::log::kafka::recorded::Recorded;
use crate::log::kafka::topics::{self, Found, Wanted};
use crate::log::kafka::wire::Form;
use crate::log::kafka::{self, Ends, KafkaAppender, KafkaPartition};
use crate::log::{Partition, Position, meta};
use crate::store::postgres::PostgresStore;
use crate::telemetry;

/// Queries that read rows at a time: half of the connections for reading, so that keys, customers and folds find one.
const QUERIES_PART: usize = 4;

/// What is stopped last.
pub(super) struct Back {
    events_thread: JoinHandle<KafkaAppender>,
    dead_letters_thread: JoinHandle<KafkaAppender>,
    member: Option<Member>,
    undecodable: Arc<UndecodableLetters>,
    asking: Asking,
    _wishes: Wishes,
}

/// Finds topics and database, joins the group, and starts the threads.
pub(super) fn open(shell: &Shell, data_dir: &DataDir) -> anyhow::Result<Parts> {
    let config = &shell.config;
    let (Some(kafka), Some(database)) = (config.kafka(), config.database()) else { bail!("a cluster needs both Kafka and PostgreSQL") };
    telemetry::begin_cluster();
    if data_dir.join(data_dir::LOG).exists() {
        bail!(
            "{} has a log of its own, which a cluster does not read: give this node another directory with --data-dir",
            data_dir.path().display()
        );
    }
    let store = Arc::new(PostgresStore::open(&database)?);
    let (recorded, found) = find_log(config, &kafka, &store)?;
    let meta = recorded.meta()?;
    let letters = find_letters(config, &kafka)?;
    let log = partitions(kafka::partitions(&kafka, &found, Form::Events)?);
    let Some(dead_letters_log) = partitions(kafka::partitions(&kafka, &letters, Form::DeadLetters)?).into_iter().next() else {
        bail!("topic {} has no partition", letters.name);
    };
    let (events, events_thread) = batcher(shell, &kafka, Form::Events, &found, Arc::new(gateway::Settled(shell.recent.clone())))?;
    let (dead_letters, dead_letters_thread) = batcher(shell, &kafka, Form::DeadLetters, &letters, Arc::new(()))?;
    let address = OwnerAddress { node: node(config), url: advertised(shell) };
    let undecodable = Arc::new(UndecodableLetters::new(dead_letters.clone(), shell.runtime.clone(), shell.clock.clone()));
    let owned = owned(shell, data_dir, &kafka, &found, meta, log.clone(), store.clone(), address, undecodable.clone())?;
    let wishes = {
        let owned = owned.clone();
        Wishes::hear(&store, move |partition, position| {
            if let Some(fold) = owned.get(partition) {
                fold.commit_from(position);
            }
        })
    };
    let ends = || Ends::new(&kafka, &found.name, recorded.partitions);
    let queries_max = (database.connections_max / QUERIES_PART).max(1);
    let source =
        ClusterSource::start(source::Parts { store: store.clone(), ends: ends()?, queries_max }).context("no thread for queries")?;
    let (health, ends, asked) = (Health::default(), ends()?, store.clone());
    let asking = health.ask(
        Box::new(move || ends.newest().map(drop).map_err(|error| error.to_string())),
        Box::new(move || asked.progress().map(drop).map_err(|error| error.to_string())),
    );
    let asking = asking.context("no thread for health")?;
    let membership = || Membership {
        kafka: kafka.clone(),
        topic: found.name.clone(),
        node: node(config),
        session_timeout: config.cluster.session_timeout,
    };
    let member = config.has_role(Role::Materializer).then(|| Member::join(membership(), owned.clone(), store.clone())).transpose()?;
    let has_joined = member.as_ref().map_or_else(|| Arc::new(AtomicBool::new(false)), Member::has_joined);
    let readiness = Ready { roles: config.cluster.roles.clone(), health, owned: owned.clone(), has_joined };
    let here: Arc<dyn OwnedHere> = Arc::new(owned.clone());
    let secret = NodeSecret::open(&*store)?;
    let owners = Routed::new(log.clone(), here.clone(), store.clone(), secret.clone());
    let internal = internal::router(log.clone(), here, secret);
    Ok(Parts {
        events,
        dead_letters,
        dead_letters_log,
        log,
        source: Arc::new(source),
        owners: Arc::new(owners),
        store,
        meta,
        copied: None,
        internal: Some(internal),
        readiness: Arc::new(readiness),
        back: super::Back::Cluster(Back { events_thread, dead_letters_thread, member, undecodable, asking, _wishes: wishes }),
    })
}

/// The topic of events, held against what the rows were made from.
fn find_log(config: &Config, kafka: &kafka::Settings, store: &PostgresStore) -> anyhow::Result<(Recorded, Found)> {
    // Before the topic is looked at: other nodes go on folding, and rows must not stand behind an end that was read before them.
    let stored = store.progress()?;
    let found = find(kafka, &config.events_topic())?;
    let recorded = match cluster::recorded(store)? {
        Some(recorded) => recorded,
        None => record(config, &found, store)?,
    };
    meta::compare(recorded.fold(), config.fold())?;
    let mut positions = vec![Position(0); recorded.partitions as usize];
    for (partition, progress) in stored {
        if let Some(position) = positions.get_mut(partition as usize) {
            *position = progress.next;
        }
    }
    topics::check(&recorded, &positions, &[], &found)?;
    Ok((recorded, found))
}

fn find_letters(config: &Config, kafka: &kafka::Settings) -> anyhow::Result<Found> {
    let found = find(kafka, &config.dead_letters_topic())?;
    topics::check_settings(&found)?;
    Ok(found)
}

fn find(kafka: &kafka::Settings, wanted: &Wanted) -> anyhow::Result<Found> {
    let found = topics::open(kafka, wanted)?;
    topics::check_replication(wanted.replication, &found)?;
    if found.replication == 1 {
        let topic = &found.name;
        tracing::warn!(topic, "each record is on one broker only: an ack is no better than that machine's page cache, and gone with it");
    }
    Ok(found)
}

/// Writes down what the log is made with, unless another node is faster.
fn record(config: &Config, found: &Found, store: &PostgresStore) -> anyhow::Result<Recorded> {
    if found.watermarks.iter().any(|watermarks| watermarks.end > Position(0)) {
        bail!(
            "topic {} has records, but the database knows nothing of them: point TOLLGATE_DATABASE_URL to the database that belongs to it, or set kafka.events_topic to a new topic",
            found.name
        );
    }
    let made = Recorded::new(&found.cluster, &found.name, config.fold())?;
    topics::check(&made, &vec![Position(0); made.partitions as usize], &[], found)?;
    Ok(cluster::record(store, made)?)
}

fn partitions(found: Vec<Arc<KafkaPartition>>) -> Vec<Arc<dyn Partition>> {
    found.into_iter().map(|partition| partition as Arc<dyn Partition>).collect()
}

fn batcher(
    shell: &Shell,
    kafka: &kafka::Settings,
    form: Form,
    found: &Found,
    settle: Arc<dyn crate::batch::Settle>,
) -> anyhow::Result<(Batcher, JoinHandle<KafkaAppender>)> {
    let appender = KafkaAppender::start(kafka, &found.name, form, found.watermarks.len() as u32)?;
    Batcher::start(form.label(), appender, &shell.runtime, shell.requests_max, settle)
        .with_context(|| format!("no thread for {}", found.name))
}

#[expect(clippy::too_many_arguments, reason = "what folds are started from, each from another place")]
fn owned(
    shell: &Shell,
    data_dir: &DataDir,
    kafka: &kafka::Settings,
    found: &Found,
    meta: meta::LogMeta,
    log: Vec<Arc<dyn Partition>>,
    store: Arc<PostgresStore>,
    address: OwnerAddress,
    undecodable: Arc<UndecodableLetters>,
) -> anyhow::Result<Owned> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let index_dir = data_dir.join(data_dir::INDEX);
    disk.create_dir(&index_dir).with_context(|| format!("{} cannot be made", index_dir.display()))?;
    let marks = Marks { kafka: kafka.clone(), topic: found.name.clone(), store: store.clone() };
    Ok(Owned::new(owners::Parts {
        log,
        meta,
        store,
        disk,
        index_dir,
        clock: shell.clock.clone(),
        address,
        undecodable,
        check: Box::new(move |partition| marks.check(partition)),
    }))
}

/// The node's name.
fn node(config: &Config) -> String {
    config.cluster.node.clone().unwrap_or_else(host)
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Where other nodes ask this one, unless it is said.
fn advertised(shell: &Shell) -> String {
    let address = shell.address;
    shell.config.cluster.advertise.clone().unwrap_or_else(|| match address.ip().is_unspecified() {
        true => format!("http://{}:{}", host(), address.port()),
        false => format!("http://{address}"),
    })
}

impl Back {
    pub(super) fn ended(&self) -> Option<&'static str> {
        if self.member.as_ref().is_some_and(Member::has_ended) {
            return Some("the group membership");
        }
        (self.events_thread.is_finished() || self.dead_letters_thread.is_finished()).then_some("an appender")
    }

    pub(super) fn drain(self) -> anyhow::Result<()> {
        let Self { events_thread, dead_letters_thread, member, undecodable, asking, .. } = self;
        let events = super::close("the log", events_thread);
        if let Some(member) = member {
            member.end();
        }
        // What the folds still found is with them.
        undecodable.close();
        let dead_letters = super::close("the dead letters", dead_letters_thread);
        asking.end();
        events.and(dead_letters)
    }
}
