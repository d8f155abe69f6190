//! `tollgate serve`: builds every part bottom-up, serves until told to stop, drains along the way of the events.

mod arrival;
mod cluster;
mod embedded;
mod starting;

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;

use super::announce::announce;
use crate::accounts::audit::Audit;
use crate::accounts::{Accounts, AdminKey, DefaultAccount};
use crate::api;
use crate::batch::Batcher;
use crate::clock::Clock;
use crate::config::{Config, Role};
use crate::customers::Customers;
use crate::data_dir::DataDir;
use crate::gateway::body::BodyLimits;
use crate::gateway::budget::Budget;
use crate::gateway::recent::RecentIds;
use crate::gateway::{self, Gateway};
use crate::letters::{self, Ledger, Letters};
use crate::log::disk::RealDisk;
use crate::log::disk::room::Room;
use crate::log::meta::LogMeta;
use crate::log::{Appender, Partition};
use crate::meters::Meters;
use crate::ops::backup;
use crate::ops::control::Control;
use crate::ops::handover::Handover;
use crate::rules::Rules;
use crate::server::sockets::Sockets;
use crate::server::tls::{Reloader, Tls};
use crate::server::{self, ConnectionLimits, Front, Ops, Readiness, Service, descriptors};
use crate::store::Store;
use crate::telemetry::{self, RoomKind};
use crate::usage::UsageSource;
use crate::verdicts::{self, Owners, Verdicts};
use arrival::Place;
use starting::Starting;

/// How often it is checked that every part is alive.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Serves until SIGTERM or SIGINT, or until another process has taken the place of this one.
pub(super) fn run(config: Config, admin_key: Option<String>) -> anyhow::Result<()> {
    let passed = Sockets::passed_by_systemd().context("the sockets that systemd passed cannot be used")?;
    telemetry::install_logs(&config.logging.filter, config.logging.format).context("logging.filter cannot be read")?;
    let held = OnceCell::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("http").build().context("no runtime")?;
    let ended = runtime.block_on(serve(config, admin_key, passed, &held));
    // With the last of its tasks goes the last handle to the rows. Only then the data directory is another process's to take.
    drop(runtime);
    drop(held);
    ended
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
    /// Requests that can have room at a time.
    requests_max: usize,
    runtime: Handle,
    /// Where this process is reached.
    address: SocketAddr,
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
}

impl Shell {
    /// Opens everything, with its threads.
    fn open(&self, data_dir: &DataDir) -> anyhow::Result<Opened> {
        let parts = if self.config.is_cluster() { cluster::open(self, data_dir)? } else { embedded::open(self, data_dir)? };
        let default_account = DefaultAccount { admin_key: self.admin_key.as_deref(), identity: self.config.default_account.identity };
        let opened = Accounts::open(parts.store.clone(), &default_account, self.clock.clone());
        let (accounts, admin_key) = opened.context("the accounts cannot be used")?;
        let rules = Rules::open(parts.store.clone()).context("the filtering rules cannot be used")?;
        Ok(Opened { parts, accounts: Arc::new(accounts), admin_key, rules: Arc::new(rules) })
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
    let budgets = Budgets::new(&config);
    let address = listeners.main.local_addr().context("the listening address is not known")?;
    let ops_address = listeners.ops.as_ref().map(|ops| ops.local_addr()).transpose().context("the listening address is not known")?;
    let room = Room::new(Arc::new(RealDisk), &config.data_dir, config.log.disk_reserve_bytes);
    let (draining, starting) = (Arc::new(AtomicBool::new(false)), Arc::new(Starting::default()));
    let ops = Ops {
        metrics,
        budgets: [budgets.ingest.clone(), budgets.api.clone()],
        recent: recent_ids(&config),
        disk: room.clone(),
        readiness: starting.clone(),
        draining: draining.clone(),
        internal: Arc::default(),
    };
    let handover = Arc::new(Handover::of(&listeners).context("the listening sockets cannot be copied")?);
    let shell = Shell {
        admin_key,
        clock: clock.clone(),
        recent: ops.recent.clone(),
        room,
        requests_max: budgets.ingest.requests_max(),
        runtime: Handle::current(),
        address: ops_address.unwrap_or(address),
        config,
    };
    let (limits, shell) = (limits(&shell.config), Arc::new(shell));
    let front = Arc::new(Front { ops: ops.clone(), serves_ops: listeners.ops.is_none(), service: OnceLock::new() });
    if let Some(listener) = listeners.ops {
        tracing::info!(address = %shell.address, "health and metrics are served on an address of their own");
        tokio::spawn(server::serve_ops(listener, ops.clone(), limits.clone()));
    }
    let has_tls = tls.is_some();
    let enter = |Opened { parts, accounts, admin_key, rules }: Opened| {
        starting.is_over(parts.readiness.clone());
        if let Some(router) = &parts.internal {
            // Set once: nothing starts twice.
            let _first = ops.internal.set(router.clone());
        }
        let control = control(&parts, data_dir, handover.clone(), &clock, draining.clone());
        // Set once: nothing starts twice.
        let _first = front.service.set(service(&shell, &parts, accounts, rules, budgets));
        announce(address, has_tls, &shell.config.data_dir, &admin_key, clock.now());
        (parts, control)
    };
    // The one node of a data directory lets nobody in before it can answer; one of many says that it cannot yet.
    let (entered, enter) = if shell.config.is_cluster() { (None, Some(enter)) } else { (Some(enter(shell.open(data_dir)?)), None) };
    let mut ended = Ok(None);
    let stop = async {
        let Signals { stop: mut told, hangup } = signals;
        tokio::spawn(reload(reloader, hangup));
        let entered = match (entered, enter) {
            (None, Some(enter)) => starting::open(&shell, data_dir, &starting, &mut told).await.map(|opened| opened.map(enter)),
            (entered, _) => Ok(entered),
        };
        ended = match entered {
            Ok(Some((parts, control))) => {
                let unasked = told_to_stop(&parts, &mut told, &handover, &shell.recent).await;
                Ok(Some(Ended { parts, control, unasked }))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        draining.store(true, Ordering::Release);
        handover.close();
        tracing::info!("stopping: requests under way are answered, connections get their last answer");
    };
    server::serve(listeners.main, tls, front.clone(), limits, stop).await;
    // With the service go its handles to the log.
    drop(front);
    let Some(Ended { parts, control, unasked }) = ended? else { return Ok(()) };
    stop_control(control).await;
    let drained = tokio::task::spawn_blocking(move || drain(parts)).await.context("draining was interrupted")?;
    match unasked {
        Some(part) => drained.and(Err(anyhow::anyhow!("it gave no reason"))).with_context(|| format!("{part} ended unasked")),
        None => drained,
    }
}

/// It was told to stop, or a part ended.
struct Ended {
    parts: Parts,
    control: Option<tokio::task::JoinHandle<()>>,
    /// The name of a part that ended unasked.
    unasked: Option<&'static str>,
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

/// Answers operators on this machine. Without the socket everything else goes on: a backup then needs the gateway stopped.
fn control(
    parts: &Parts,
    data_dir: &DataDir,
    handover: Arc<Handover>,
    clock: &Clock,
    stopping: Arc<AtomicBool>,
) -> Option<tokio::task::JoinHandle<()>> {
    let control = Control::bind(data_dir.path())
        .inspect_err(|error| tracing::warn!(%error, "no control socket; `tollgate backup` and `--take-over` need the gateway stopped"));
    Some(tokio::spawn(control.ok()?.serve(parts.copied.clone(), handover, clock.clone(), stopping)))
}

async fn stop_control(control: Option<tokio::task::JoinHandle<()>>) {
    if let Some(control) = control {
        control.abort();
        // Aborted, which is what was wanted; the socket is gone then.
        drop(control.await);
    }
}

fn service(shell: &Shell, parts: &Parts, accounts: Arc<Accounts>, rules: Arc<Rules>, budgets: Budgets) -> Service {
    let (config, clock) = (&shell.config, &shell.clock);
    let keys = accounts.ring();
    let ingest = &config.ingest;
    let settings = gateway::Settings {
        body: BodyLimits {
            wire_max: ingest.body_bytes_max,
            inflated_max: ingest.inflated_bytes_max,
            idle: config.http.body_idle_timeout,
            total: config.http.body_timeout,
        },
        events_max: ingest.events_max,
        event_bytes_max: ingest.event_bytes_max,
        window: config.time_window(),
    };
    let gateway = Arc::new(Gateway {
        settings,
        keys: keys.clone(),
        rules: rules.clone(),
        budget: budgets.ingest,
        recent: shell.recent.clone(),
        events: parts.events.clone(),
        dead_letters: parts.dead_letters.clone(),
        hash_key: parts.meta.hash_key,
        clock: clock.clone(),
        large_parses: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))),
    });
    let ledger = Arc::new(Ledger::new(parts.dead_letters_log.clone()));
    tokio::spawn(letters::follow(ledger.clone()));
    let letters = Arc::new(Letters::new(ledger, parts.dead_letters.clone(), clock.clone()));
    let verdicts = Verdicts::new(verdicts::Parts {
        log: parts.log.clone(),
        letters: letters.clone(),
        source: parts.source.clone(),
        owners: parts.owners.clone(),
        hash_key: parts.meta.hash_key,
        clock: clock.clone(),
    });
    let router = api::router(api::Parts {
        accounts,
        audit: Arc::new(Audit::new(parts.store.clone(), clock.clone())),
        verdicts: Arc::new(verdicts),
        customers: Arc::new(Customers::new(parts.store.clone(), clock.clone())),
        meters: Arc::new(Meters::new(parts.store.clone(), clock.clone())),
        rules,
        source: parts.source.clone(),
        letters,
        gateway: gateway.clone(),
        clock: clock.clone(),
    });
    Service {
        gateway: config.has_role(Role::Gateway).then_some(gateway),
        router: config.has_role(Role::Api).then_some(router),
        keys,
        budget: budgets.api,
        http: config.http.clone(),
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

fn close<A: Appender>(name: &str, thread: JoinHandle<A>) -> anyhow::Result<()> {
    let mut appender = thread.join().map_err(|_| anyhow::anyhow!("the thread of {name} panicked"))?;
    appender.close().with_context(|| format!("{name} could not be closed; the next start recovers it"))
}
