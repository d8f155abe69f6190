//! `tollgate serve`: builds every part bottom-up, serves until told to stop, drains along the way of the events.

mod arrival;
mod cluster;
mod embedded;
mod entrance;
mod starting;

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::accounts::{Accounts, AdminKey, DefaultAccount};
use crate::batch::Batcher;
use crate::clock::Clock;
use crate::config::{Config, Role};
use crate::data_dir::DataDir;
use crate::definitions::Definitions;
use crate::gateway::budget::Budget;
use crate::gateway::recent::RecentIds;
use crate::log::disk::RealDisk;
use crate::log::disk::room::Room;
use crate::log::meta::LogMeta;
use crate::log::{Appender, Partition};
use crate::ops::backup;
use crate::ops::handover::Handover;
use crate::portal::SigningKey;
use crate::rules::Rules;
use crate::server::sockets::{Listeners, Sockets};
use crate::server::tls::{Reloader, Tls};
use crate::server::{self, ConnectionLimits, Readiness, descriptors};
use crate::store::Store;
use crate::stripe::Stripe;
use crate::telemetry::{self, RoomKind};
use crate::usage::UsageSource;
use crate::verdicts::Owners;
use arrival::Place;
use entrance::{Entered, Entrance};

/// How often it is checked that every part is alive.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Serves until SIGTERM or SIGINT, or until another process has taken the place of this one.
pub(super) fn run(config: Config, admin_key: Option<String>) -> anyhow::Result<()> {
    let passed = Sockets::passed_by_systemd().context("the sockets that systemd passed cannot be used")?;
    telemetry::install_logs(&config.logging.filter, config.logging.format).context("logging.filter cannot be read")?;
    let held = OnceCell::new();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_name("http");
    if config.has_role(Role::Materializer) {
        runtime.on_thread_start(standing_back());
    }
    let runtime = runtime.build().context("no runtime")?;
    let ended = runtime.block_on(serve(config, admin_key, passed, &held));
    // With the last of its tasks goes the last handle to the rows. Only then the data directory is another process's to take.
    drop(runtime);
    drop(held);
    ended
}

/// How much nicer the runtime's threads are than those of the stages behind them: a third of a processor that is wanted by all.
const YIELD: i32 = 5;

/// Has threads stand back from others that this one starts, where there is not enough processor for all: what is taken in faster than it can be folded only
/// makes rows lag behind what was acked, while a producer that waits sends less.
fn standing_back() -> impl Fn() + Send + Sync + 'static {
    let rank = rustix::process::getpriority_process(None).unwrap_or_default();
    move || {
        if let Err(error) = rustix::process::setpriority_process(None, rank + YIELD) {
            tracing::debug!(%error, "a thread does not stand back");
        }
    }
}

/// Room for requests that are neither events nor an operator's: queries, customers, keys. Their own, so that a flood of events does not
/// keep anybody from asking, nor the other way round. Twice the largest of them, inflated.
const API_ROOM_BYTES: usize = 32 << 20;

/// Room for requests.
struct Budgets {
    ingest: Budget,
    api: Budget,
}

impl Budgets {
    fn new(config: &Config) -> Self {
        let wait = config.ingest.room_wait;
        Self {
            ingest: Budget::new(RoomKind::Ingest, config.ingest.in_flight_bytes_max, wait),
            api: Budget::new(RoomKind::Api, API_ROOM_BYTES, wait),
        }
    }
}

/// What is there before log and store are.
struct Shell {
    config: Config,
    admin_key: Option<String>,
    clock: Clock,
    recent: RecentIds,
    /// What the disk of the data directory has left.
    room: Arc<Room>,
    budgets: Budgets,
    /// The payment provider, if one is configured.
    stripe: Option<Arc<Stripe>>,
    runtime: Handle,
    /// Where clients reach this process.
    address: SocketAddr,
    /// Where operators and other nodes do.
    ops_address: SocketAddr,
}

/// What is behind the door, whichever log and store it is.
struct Parts {
    events: Batcher,
    dead_letters: Batcher,
    dead_letters_log: Arc<dyn Partition>,
    /// All partitions of the log, by their numbers.
    log: Vec<Arc<dyn Partition>>,
    source: Arc<dyn UsageSource>,
    owners: Arc<dyn Owners>,
    store: Arc<dyn Store>,
    meta: LogMeta,
    /// What a backup of this node is made of.
    copied: Option<backup::Source>,
    /// What it answers other nodes.
    internal: Option<Router>,
    readiness: Arc<dyn Readiness>,
    back: Back,
}

/// The threads and files behind it, which are stopped last.
enum Back {
    Embedded(embedded::Back),
    Cluster(cluster::Back),
}

impl Back {
    /// The name of a part that has ended unasked.
    fn ended(&self) -> Option<&'static str> {
        match self {
            Self::Embedded(back) => back.ended(),
            Self::Cluster(back) => back.ended(),
        }
    }

    /// Stops everything along the way of the events. Blocks.
    fn drain(self) -> anyhow::Result<()> {
        match self {
            Self::Embedded(back) => back.drain(),
            Self::Cluster(back) => back.drain(),
        }
    }
}

/// The parts, and who may ask them.
struct Opened {
    parts: Parts,
    accounts: Arc<Accounts>,
    admin_key: AdminKey,
    rules: Arc<Rules>,
    definitions: Arc<Definitions>,
    /// Signs links to the customers' page.
    portal_key: SigningKey,
}

impl Shell {
    fn new(config: Config, admin_key: Option<String>, clock: Clock, listeners: &Listeners) -> anyhow::Result<Self> {
        let budgets = Budgets::new(&config);
        let stripe = config.stripe().as_ref().map(Stripe::new).transpose().context("Stripe's API cannot be called")?;
        let address = |listener: &TcpListener| listener.local_addr().context("the listening address is not known");
        Ok(Self {
            budgets,
            stripe: stripe.map(Arc::new),
            address: address(&listeners.main)?,
            ops_address: address(listeners.ops.as_ref().unwrap_or(&listeners.main))?,
            room: Room::new(Arc::new(RealDisk), &config.data_dir, config.log.disk_reserve_bytes),
            recent: recent_ids(&config),
            runtime: Handle::current(),
            config,
            admin_key,
            clock,
        })
    }

    /// Requests that can have room at a time.
    fn requests_max(&self) -> usize {
        self.budgets.ingest.requests_max()
    }

    /// Opens everything, with its threads.
    fn open(&self, data_dir: &DataDir) -> anyhow::Result<Opened> {
        let parts = if self.config.is_cluster() { cluster::open(self, data_dir)? } else { embedded::open(self, data_dir)? };
        let default_account = DefaultAccount { admin_key: self.admin_key.as_deref(), identity: self.config.default_account.identity };
        let opened = Accounts::open(parts.store.clone(), &default_account, self.clock.clone());
        let (accounts, admin_key) = opened.context("the accounts cannot be used")?;
        let rules = Rules::open(parts.store.clone()).context("the filtering rules cannot be used")?;
        let definitions = Definitions::open(parts.store.clone()).context("definitions of meters and mappings cannot be followed")?;
        let portal_key = SigningKey::open(&*parts.store).context("links to the portal cannot be signed")?;
        let (accounts, rules, definitions) = (Arc::new(accounts), Arc::new(rules), Arc::new(definitions));
        Ok(Opened { parts, accounts, admin_key, rules, definitions, portal_key })
    }
}

async fn serve(config: Config, admin_key: Option<String>, passed: Sockets, held: &OnceCell<Arc<DataDir>>) -> anyhow::Result<()> {
    tracing::info!(?config, "settings");
    let metrics = telemetry::install_metrics().context("the metrics cannot be set up")?;
    let clock = Clock::start();
    let mut signals = Signals::listen()?;
    // What can be wrong is looked at before another process is told to stop.
    let tls = config.tls.as_ref().map(|files| Tls::load(files, &clock)).transpose()?;
    let (tls, reloader) = tls.unzip();
    let Some(Place { listeners, data_dir }) = arrival::arrive(&config, passed, &mut signals).await? else { return Ok(()) };
    let data_dir = held.get_or_init(|| Arc::new(data_dir));
    let entrance = Entrance::new(Shell::new(config, admin_key, clock, &listeners)?, data_dir.clone(), metrics, &listeners)?;
    let limits = limits(&entrance.shell.config);
    if let Some(listener) = listeners.ops {
        tracing::info!(address = %entrance.shell.ops_address, "health and metrics are served on an address of their own");
        tokio::spawn(server::serve_ops(listener, entrance.front.ops.clone(), limits.clone()));
    }
    // The one node of a data directory lets nobody in before it can answer; one of many says that it cannot yet.
    let entered = if entrance.shell.config.is_cluster() { None } else { Some(entrance.enter(entrance.shell.open(data_dir)?)) };
    let mut ended = Ok(None);
    let stop = async {
        let Signals { stop: mut told, hangup } = signals;
        tokio::spawn(reload(reloader, hangup));
        ended = until_stopped(&entrance, entered, &mut told).await;
        entrance.close();
    };
    server::serve(listeners.main, tls, entrance.front.clone(), limits, stop).await;
    // With the service go its handles to the log.
    drop(entrance);
    match ended? {
        Some(ended) => ended.drain().await,
        None => Ok(()),
    }
}

/// Waits for the end of the process; `None`: it came before there was anything to be stopped.
async fn until_stopped(entrance: &Entrance, entered: Option<Entered>, told: &mut Stop) -> anyhow::Result<Option<Ended>> {
    let entered = match entered {
        Some(entered) => Some(entered),
        None => entrance.open(told).await?,
    };
    let Some(Entered { parts, control }) = entered else { return Ok(None) };
    let unasked = told_to_stop(&parts, told, &entrance.handover, &entrance.shell.recent).await;
    Ok(Some(Ended { parts, control, unasked }))
}

/// It was told to stop, or a part ended.
struct Ended {
    parts: Parts,
    control: Option<JoinHandle<()>>,
    /// The name of a part that ended unasked.
    unasked: Option<&'static str>,
}

impl Ended {
    async fn drain(self) -> anyhow::Result<()> {
        let Self { parts, control, unasked } = self;
        if let Some(control) = control {
            control.abort();
            // Aborted, which is what was wanted; the socket is gone then.
            drop(control.await);
        }
        let drained = tokio::task::spawn_blocking(move || drain(parts)).await.context("draining was interrupted")?;
        match unasked {
            Some(part) => drained.and(Err(anyhow::anyhow!("it gave no reason"))).with_context(|| format!("{part} ended unasked")),
            None => drained,
        }
    }
}

fn limits(config: &Config) -> ConnectionLimits {
    let http = &config.http;
    ConnectionLimits {
        connections_max: descriptors::make_room(http.connections_max),
        header_timeout: http.header_timeout,
        idle_timeout: http.idle_timeout,
        answer_idle_timeout: http.answer_idle_timeout,
        drain_idle: http.drain_idle,
        drain_timeout: http.drain_timeout,
    }
}

/// Reads certificates again when they change, or at SIGHUP.
async fn reload(reloader: Option<Reloader>, mut hangup: Signal) {
    match reloader {
        Some(reloader) => reloader.run(hangup).await,
        // Where there is nothing to read again, SIGHUP is still no reason to end.
        None => {
            while hangup.recv().await.is_some() {
                tracing::info!("nothing is read again at SIGHUP: there is no certificate");
            }
        }
    }
}

fn recent_ids(config: &Config) -> RecentIds {
    let settings = config.recent_ids();
    if settings.bytes_max == 0 && config.recent_ids.bytes_max > 0 {
        tracing::info!("recent ids are off: with log.dedup_horizon they need ingest.max_event_age and ingest.max_event_future");
    }
    RecentIds::new(settings)
}

/// What the process is told from outside. Heard from before anybody can know that it runs.
struct Signals {
    stop: Stop,
    hangup: Signal,
}

/// What tells the process to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be heard");
        let stop = Stop { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? };
        Ok(Self { stop, hangup: listen(SignalKind::hangup())? })
    }
}

impl Stop {
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for a signal, or for a process that takes the place of this one (`None`), or for a part that ends unasked (its name).
async fn told_to_stop(parts: &Parts, stop: &mut Stop, handover: &Handover, recent: &RecentIds) -> Option<&'static str> {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            () = stop.told() => return None,
            () = handover.taken() => {
                tracing::info!("another process has the listening sockets and waits for the data directory");
                return None;
            }
            _ = heartbeat.tick() => recent.expire(),
        }
        if let Some(part) = parts.back.ended() {
            return Some(part);
        }
    }
}

/// Stops what is behind the door, along the way of the events. The service, with its handles, is gone already.
fn drain(parts: Parts) -> anyhow::Result<()> {
    let Parts { events, dead_letters, source, owners, readiness, back, .. } = parts;
    drop((events, dead_letters, source, owners, readiness));
    back.drain()?;
    tracing::info!("stopped in good order");
    Ok(())
}

fn close<A: Appender>(name: &str, thread: thread::JoinHandle<A>) -> anyhow::Result<()> {
    let mut appender = thread.join().map_err(|_| anyhow::anyhow!("the thread of {name} panicked"))?;
    appender.close().with_context(|| format!("{name} could not be closed; the next start recovers it"))
}
