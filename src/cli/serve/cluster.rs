//! Log on Kafka, rows in PostgreSQL, other nodes beside this one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use anyhow::{Context, bail};

use super::{Parts, Shell};
use crate::batch::{Batcher, Settle};
use crate::cluster::group::{Member, Membership};
use crate::cluster::handover::{self, Handover, Lending};
use crate::cluster::health::{Asking, Health, Ready};
use crate::cluster::marks::Marks;
use crate::cluster::owners::{self, Owned};
use crate::cluster::source::{self, ClusterSource, Wishes};
use crate::cluster::{self, NodeAddress, NodeSecret, OwnedHere, Routed, internal};
use crate::config::{Config, Role};
use crate::data_dir::{self, DataDir};
use crate::gateway;
use crate::letters::UndecodableLetters;
use crate::log::disk::{Disk, RealDisk};
use crate::log::kafka::recorded::Recorded;
use crate::log::kafka::topics::{self, Found, Wanted};
use crate::log::kafka::wire::Form;
use crate::log::kafka::{self, Ends, KafkaAppender, KafkaPartition};
use crate::log::meta::{self, LogMeta};
use crate::log::{Partition, Position};
use crate::materializer::Shares;
use crate::server::Readiness;
use crate::store::postgres::{self, PostgresStore};
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
    let shared = Shared::find(config, kafka, &database)?;
    let dead_letters_log = shared.dead_letters_log()?;
    let (events, events_thread) = shared.batcher(shell, Form::Events, Arc::new(gateway::Settled(shell.recent.clone())))?;
    let (dead_letters, dead_letters_thread) = shared.batcher(shell, Form::DeadLetters, Arc::new(()))?;
    let undecodable = Arc::new(UndecodableLetters::new(dead_letters.clone(), shell.runtime.clone(), shell.clock.clone()));
    let (owned, lending) = shared.owned(shell, data_dir, undecodable.clone())?;
    let wishes = hear_wishes(&shared.store, owned.clone());
    let ends = Arc::new(Ends::new(&shared.kafka, &shared.events.name, shared.meta.fold.partitions)?);
    let source = shared.source(ends.clone(), database.connections_max)?;
    let (health, asking) = shared.ask(ends)?;
    let member = config.has_role(Role::Materializer).then(|| shared.join(config, owned.clone())).transpose()?;
    let has_joined = member.as_ref().map_or_else(|| Arc::new(AtomicBool::new(false)), Member::has_joined);
    let readiness = Ready { roles: config.cluster.roles.clone(), health, owned: owned.clone(), has_joined };
    let here: Arc<dyn OwnedHere> = Arc::new(owned);
    let owners = Routed::new(shared.log.clone(), here.clone(), shared.store.clone(), shared.secret.clone());
    let internal = internal::router(shared.log.clone(), here, shared.secret, lending);
    let Shared { store, meta, log, .. } = shared;
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

/// What all nodes have in common, as this one found it.
struct Shared {
    kafka: kafka::Settings,
    store: Arc<PostgresStore>,
    /// The topic of events.
    events: Found,
    dead_letters: Found,
    meta: LogMeta,
    /// All partitions of events, by their numbers.
    log: Vec<Arc<dyn Partition>>,
    secret: NodeSecret,
}

impl Shared {
    fn find(config: &Config, kafka: kafka::Settings, database: &postgres::Settings) -> anyhow::Result<Self> {
        let store = Arc::new(PostgresStore::open(database)?);
        let (recorded, events) = find_log(config, &kafka, &store)?;
        let meta = recorded.meta()?;
        let dead_letters = find_letters(config, &kafka)?;
        let log = partitions(kafka::partitions(&kafka, &events, Form::Events)?);
        let secret = NodeSecret::open(&*store)?;
        Ok(Self { kafka, store, events, dead_letters, meta, log, secret })
    }

    fn dead_letters_log(&self) -> anyhow::Result<Arc<dyn Partition>> {
        let partitions = partitions(kafka::partitions(&self.kafka, &self.dead_letters, Form::DeadLetters)?);
        partitions.into_iter().next().with_context(|| format!("topic {} has no partition", self.dead_letters.name))
    }

    fn batcher(&self, shell: &Shell, form: Form, settle: Arc<dyn Settle>) -> anyhow::Result<(Batcher, JoinHandle<KafkaAppender>)> {
        let topic = match form {
            Form::Events => &self.events,
            Form::DeadLetters => &self.dead_letters,
        };
        let appender = KafkaAppender::start(&self.kafka, &topic.name, form, topic.watermarks.len() as u32)?;
        Batcher::start(form.label(), appender, &shell.runtime, shell.requests_max(), settle)
            .with_context(|| format!("no thread for {}", topic.name))
    }

    /// Owns nothing yet; beside it, what other nodes are given of its dedup indexes.
    fn owned(&self, shell: &Shell, data_dir: &DataDir, undecodable: Arc<UndecodableLetters>) -> anyhow::Result<(Owned, Lending)> {
        let (disk, index_dir): (Arc<dyn Disk>, _) = (Arc::new(RealDisk), data_dir.join(data_dir::INDEX));
        disk.create_dir(&index_dir).with_context(|| format!("{} cannot be made", index_dir.display()))?;
        let lending = Lending::new(disk.clone(), index_dir.clone(), self.meta.fold.partitions);
        let shares = if shell.config.has_role(Role::Gateway) { Shares::default() } else { Shares::alone() };
        let marks = Marks { log: self.log.clone(), topic: self.events.name.clone(), store: self.store.clone() };
        let owned = Owned::new(owners::Parts {
            log: self.log.clone(),
            meta: self.meta,
            store: self.store.clone(),
            disk,
            index_dir,
            clock: shell.clock.clone(),
            address: NodeAddress { node: node(&shell.config), url: advertised(shell) },
            undecodable,
            handover: Handover::new(self.secret.clone(), shell.runtime.clone(), shares, handover::Costs::default()),
            kept: owners::KEPT,
            check: Box::new(move |partition| marks.check(partition)),
        });
        Ok((owned, lending))
    }

    fn source(&self, ends: Arc<Ends>, connections_max: usize) -> anyhow::Result<ClusterSource> {
        let queries_max = (connections_max / QUERIES_PART).max(1);
        let parts = source::Parts { store: self.store.clone(), ends, queries_max };
        ClusterSource::start(parts).context("no thread for queries")
    }

    /// Asks Kafka and PostgreSQL again and again whether they are there.
    fn ask(&self, ends: Arc<Ends>) -> anyhow::Result<(Health, Asking)> {
        let (health, store) = (Health::default(), self.store.clone());
        let asking = health.ask(
            Box::new(move || ends.newest().map(drop).map_err(|error| error.to_string())),
            Box::new(move || store.progress().map(drop).map_err(|error| error.to_string())),
        );
        Ok((health, asking.context("no thread for health")?))
    }

    /// Joins the group that says what this node owns.
    fn join(&self, config: &Config, owned: Owned) -> anyhow::Result<Member> {
        let membership = Membership {
            kafka: self.kafka.clone(),
            topic: self.events.name.clone(),
            node: node(config),
            session_timeout: config.cluster.session_timeout,
        };
        Ok(Member::join(membership, owned, self.store.clone())?)
    }
}

/// Has folds commit what another node waits for.
fn hear_wishes(store: &PostgresStore, owned: Owned) -> Wishes {
    Wishes::hear(store, move |partition, position| {
        if let Some(fold) = owned.get(partition) {
            fold.commit_from(position);
        }
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

/// The node's name.
fn node(config: &Config) -> String {
    config.cluster.node.clone().unwrap_or_else(host)
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Where other nodes ask this one, unless it is said.
fn advertised(shell: &Shell) -> String {
    let address = shell.ops_address;
    shell.config.cluster.advertise.clone().unwrap_or_else(|| match address.ip().is_unspecified() {
        true => format!("http://{}:{}", host(), address.port()),
        false => format!("http://{address}"),
    })
}

impl Readiness for Ready {
    fn missing(&self) -> Vec<String> {
        Ready::missing(self)
    }
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
